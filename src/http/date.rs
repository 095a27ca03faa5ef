//! Moments as text: the `Date` header's format (RFC 9110, 5.6.7) and RFC 3339's, for any number of seconds.

/// The last second of the year 9999, the last that the format can say.
const LAST: i64 = 253_402_300_799;

/// `Sun, 06 Nov 1994 08:49:37 GMT`, from seconds since 1970; moments outside 1970 to 9999 become the nearest inside.
pub(super) fn imf_fixdate(seconds: i64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let Moment {
        days,
        year,
        month,
        day,
        second,
    } = Moment::new(seconds);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        WEEKDAYS[(days % 7) as usize],
        MONTHS[month],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// `1994-11-06T08:49:37Z` (RFC 3339), of the same moments.
pub fn rfc3339(seconds: i64) -> String {
    let Moment {
        year,
        month,
        day,
        second,
        ..
    } = Moment::new(seconds);
    format!(
        "{year}-{:02}-{day:02}T{:02}:{:02}:{:02}Z",
        month + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A second in the calendar, UTC.
struct Moment {
    /// Since 1970.
    days: u64,
    year: u64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    /// Of the day.
    second: u64,
}

impl Moment {
    fn new(seconds: i64) -> Moment {
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
        Moment {
            days,
            year,
            month,
            day: day + 1,
            second,
        }
    }
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
    use super::{imf_fixdate, rfc3339};

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
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(784_111_777), "1994-11-06T08:49:37Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
