//! Dates in UTC from seconds since 1970. Pure.

/// The last second of the year 9999, the last year with four digits.
const MAX_SECONDS: i64 = 253_402_300_799;

/// A date and time in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// From 1970 to 9999.
    pub year: u64,
    /// From 1.
    pub month: u64,
    /// Of the month, from 1.
    pub day: u64,
    /// From 0 to 23.
    pub hour: u64,
    /// From 0 to 59.
    pub minute: u64,
    /// From 0 to 59.
    pub second: u64,
}

/// The date and time of a number of seconds since 1970. Times outside 1970 to 9999 become the nearest one inside.
pub fn civil(seconds: i64) -> Civil {
    let seconds = seconds.clamp(0, MAX_SECONDS) as u64;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of the year 0, so that the leap day is the last of its year, in eras of 400 years, which
    // are all of one length.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, the lengths of the months repeat every five months, which have 153 days.
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    Civil {
        year: era * 400 + year_of_era + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * from_march + 2) / 5 + 1,
        hour: second / 3600,
        minute: second / 60 % 60,
        second: second % 60,
    }
}

/// `1994-11-06T08:49:37Z` (RFC 3339), from seconds since 1970, clamped like [`civil`].
pub fn rfc3339(seconds: i64) -> String {
    format!("{}Z", without_zone(seconds))
}

/// `2025-06-10T12:34:56.789Z` (RFC 3339), from milliseconds since 1970, clamped like [`civil`].
pub fn rfc3339_millis(millis: i64) -> String {
    let (seconds, rest) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    format!("{}.{rest:03}Z", without_zone(seconds))
}

fn without_zone(seconds: i64) -> String {
    let at = civil(seconds);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        at.year, at.month, at.day, at.hour, at.minute, at.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_follows_the_one_before() {
        let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut expected = (1970, 1, 1);
        for day in 0..=MAX_SECONDS / 86_400 {
            let at = civil(day * 86_400 + 86_399);
            assert_eq!((at.year, at.month, at.day), expected);
            assert_eq!((at.hour, at.minute, at.second), (23, 59, 59));
            let length = match expected.1 {
                4 | 6 | 9 | 11 => 30,
                2 => 28 + u64::from(leap(expected.0)),
                _ => 31,
            };
            expected.2 += 1;
            if expected.2 > length {
                expected = (expected.0, expected.1 + 1, 1);
            }
            if expected.1 > 12 {
                expected = (expected.0 + 1, 1, 1);
            }
        }
    }

    #[test]
    fn rfc3339_with_milliseconds() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_749_558_896_789, "2025-06-10T12:34:56.789Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (i64::MAX, "9999-12-31T23:59:59.807Z"),
        ] {
            assert_eq!(rfc3339_millis(millis), text);
        }
    }

    #[test]
    fn rfc3339_with_seconds() {
        assert_eq!(rfc3339(784_111_777), "1994-11-06T08:49:37Z");
        assert_eq!(rfc3339(-1), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
