//! Dates in HTTP headers (RFC 9110, 5.6.7), as seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::{fmt_http_date, parse_http_date};

/// The last second of the year 9999. `httpdate` panics on later dates and on dates before 1970.
const MAX_SECONDS: u64 = 253_402_300_799;

/// `Sun, 06 Nov 1994 08:49:37 GMT`. A time outside 1970 to 9999 becomes the nearest one inside.
pub(super) fn format_date(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0).min(MAX_SECONDS);
    fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Reads any of the three formats: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` and
/// `Sun Nov  6 08:49:37 1994`. `None`: the text is no date, its day of the week is wrong, it is a leap second, or it is
/// outside 1970 to 9999.
pub fn parse_date(text: &str) -> Option<i64> {
    let time: SystemTime = parse_http_date(text).ok()?;
    let since_1970 = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since_1970.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_outside_1970_to_9999_are_clamped() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-1, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (i64::MIN, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (2_147_483_648, "Tue, 19 Jan 2038 03:14:08 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (253_402_300_800, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (seconds, text) in cases {
            assert_eq!(format_date(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn formatted_dates_are_parsed_back() {
        for seconds in [
            0,
            784_111_777,
            951_782_400,
            2_147_483_648,
            4_107_542_400,
            253_402_300_799,
        ] {
            assert_eq!(parse_date(&format_date(seconds)), Some(seconds));
        }
    }

    #[test]
    fn only_dates_in_the_three_formats_are_parsed() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_date(date), Some(784_111_777), "{date}");
        }
        for date in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Thu, 31 Nov 1994 08:49:37 GMT",
            "Wed, 29 Feb 2023 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:01 GMT",
            "Thu, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 19940 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sat, 31 Dec 2016 23:59:60 GMT",
            "Sün, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_date(date), None, "{date}");
        }
    }
}
