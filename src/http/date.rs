//! Dates for headers (RFC 9110, 5.6.7), read in all three formats, and for programs (RFC 3339), for any number of seconds.

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The last second of the year 9999, the last that the format can say.
const LAST: i64 = 253_402_300_799;

/// `1994-11-06T08:49:37Z` (RFC 3339), from seconds since 1970, of the same range.
pub fn rfc3339(seconds: i64) -> String {
    let Civil {
        year,
        month,
        day,
        second,
        ..
    } = Civil::new(seconds);
    format!(
        "{year:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        month + 1,
        day + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, from seconds since 1970; moments outside 1970 to 9999 become the nearest inside.
pub(super) fn imf_fixdate(seconds: i64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let Civil {
        year,
        month,
        day,
        days,
        second,
    } = Civil::new(seconds);
    format!(
        "{}, {:02} {} {year} {:02}:{:02}:{:02} GMT",
        WEEKDAYS[(days % 7) as usize],
        day + 1,
        MONTHS[month],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A moment by the calendar; month and day from 0.
struct Civil {
    year: u64,
    month: usize,
    day: u64,
    /// Days since 1970.
    days: u64,
    /// Seconds since midnight.
    second: u64,
}

impl Civil {
    fn new(seconds: i64) -> Civil {
        let seconds = seconds.clamp(0, LAST) as u64;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let mut year = 1970;
        let mut day = days;
        // At most 8029 rounds, and once a second: plainer than the closed form.
        while day >= year_days(year) {
            day -= year_days(year);
            year += 1;
        }
        let mut month = 0;
        while day >= month_days(year, month) {
            day -= month_days(year, month);
            month += 1;
        }
        Civil {
            year,
            month,
            day,
            days,
            second,
        }
    }
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
    let month = MONTHS.iter().position(|name| name == month)? as u64;
    let mut year = number(year)?;
    if year < 100 {
        year += if year < 70 { 2000 } else { 1900 };
    }
    let day = number(day)?;
    if !(1970..=9999).contains(&year) || day == 0 || day > month_days(year, month as usize) {
        return None;
    }
    let clock: Vec<u64> = time.split(':').map_while(number).take(4).collect();
    let [hour @ 0..=23, minute @ 0..=59, second @ 0..=60] = clock[..] else {
        return None;
    };
    let days: u64 = (1970..year).map(year_days).sum::<u64>()
        + (0..month)
            .map(|m| month_days(year, m as usize))
            .sum::<u64>()
        + day
        - 1;
    i64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()
}

/// Digits, and few of them.
fn number(text: &str) -> Option<u64> {
    let digits = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn leap(year: u64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn year_days(year: u64) -> u64 {
    365 + u64::from(leap(year))
}

fn month_days(year: u64, month: usize) -> u64 {
    const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    DAYS[month] + u64::from(month == 1 && leap(year))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_for_programs() {
        assert_eq!(rfc3339(784_111_777), "1994-11-06T08:49:37Z");
        assert_eq!(rfc3339(-1), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59Z");
    }

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
            LAST,
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
