//! The date of a header (RFC 9110, 5.6.7), for any number of seconds, and read in all three formats.

use crate::sys::calendar::{civil, seconds_of, Civil};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// `Sun, 06 Nov 1994 08:49:37 GMT`, from seconds since 1970; moments outside 1970 to 9999 become the nearest inside.
pub(super) fn imf_fixdate(seconds: i64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let at = civil(seconds);
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        WEEKDAYS[at.weekday as usize],
        at.day,
        MONTHS[at.month as usize - 1],
        at.year,
        at.hour,
        at.minute,
        at.second
    )
}

/// Seconds since 1970 of a date in one of the three formats: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94
/// 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`. The day of the week is not looked at. `None`: it is none, or before 1970.
pub fn parse_date(text: &str) -> Option<i64> {
    let words: Vec<&str> = text
        .split([' ', ',', '-'])
        .filter(|word| !word.is_empty())
        .take(7)
        .collect();
    let (day, month, year, time) = match words.as_slice() {
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let mut year = number(year)?;
    if year < 100 {
        year += if year < 70 { 2000 } else { 1900 };
    }
    let clock: Vec<u64> = time.split(':').map_while(number).take(4).collect();
    let [hour, minute, second] = clock[..] else {
        return None;
    };
    seconds_of(&Civil {
        year,
        month: MONTHS.iter().position(|name| name == month)? as u64 + 1,
        day: number(day)?,
        weekday: 0,
        hour,
        minute,
        second,
    })
}

/// Digits, and few of them.
fn number(text: &str) -> Option<u64> {
    let digits = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_every_kind() {
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
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (seconds, text) in cases {
            assert_eq!(imf_fixdate(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for seconds in [
            0,
            784_111_777,
            951_782_400,
            2_147_483_648,
            4_107_542_400,
            253_402_300_799,
        ] {
            assert_eq!(parse_date(&imf_fixdate(seconds)), Some(seconds));
        }
    }

    #[test]
    fn all_three_formats_are_read_and_nothing_else() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_date(date), Some(784_111_777), "{date}");
        }
        let leap_second = parse_date("Sat, 31 Dec 2016 23:59:60 GMT");
        assert_eq!(leap_second, Some(1_483_228_800));
        for date in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 2023 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:01 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 19940 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_date(date), None, "{date}");
        }
    }
}
