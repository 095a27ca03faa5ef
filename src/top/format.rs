//! Numbers for people.

/// A number with its unit, in steps of a thousand: three digits or more.
pub(super) fn quantity(value: f64, unit: &str) -> String {
    let size = value.abs();
    let (factor, prefix) = match size {
        _ if size >= 1e9 => (1e9, "G"),
        _ if size >= 1e6 => (1e6, "M"),
        _ if size >= 1e3 => (1e3, "k"),
        // Nothing is finer than a tenth of a milliwatt.
        _ if size >= 0.9995 || size < 5e-5 => (1.0, ""),
        _ => (1e-3, "m"),
    };
    format!("{} {prefix}{unit}", digits(value / factor))
}

fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{value:.1e}"),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size < 5e-5 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

/// A part of 1, as percentage.
pub(super) fn share(part: f64) -> String {
    format!("{:.1} %", (part * 100.0).clamp(0.0, 999.9))
}

/// CPU time: seconds, then hours, minutes and seconds.
pub(super) fn cpu_time(seconds: f64) -> String {
    match seconds {
        _ if seconds < 100.0 => format!("{seconds:.2} s"),
        _ => {
            let whole = seconds.min(1e12) as u64;
            format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
        }
    }
}

/// Seconds as people say them.
pub(super) fn lasting(seconds: f64) -> String {
    for (unit, length) in [("d", 86_400.0), ("h", 3600.0), ("min", 60.0)] {
        if seconds >= 2.0 * length {
            return format!("{:.0} {unit}", (seconds / length).floor());
        }
    }
    format!("{:.0} s", seconds.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits() {
        for (value, expected) in [
            (0.0, "0 W"),
            (0.000_01, "0 W"),
            (0.01234, "12.3 mW"),
            (0.9994, "999 mW"),
            (0.9996, "1.00 W"),
            (8.542, "8.54 W"),
            (9.999, "10.0 W"),
            (99.96, "100 W"),
            (-12.34, "-12.3 W"),
            (1234.0, "1.23 kW"),
            (2.5e6, "2.50 MW"),
            (3e11, "300 GW"),
            (1e300, "1.0e291 GW"),
        ] {
            assert_eq!(quantity(value, "W"), expected, "{value}");
        }
    }

    #[test]
    fn times_and_shares_are_short() {
        assert_eq!(cpu_time(0.5), "0.50 s");
        assert_eq!(cpu_time(99.0), "99.00 s");
        assert_eq!(cpu_time(3723.9), "1:02:03");
        assert_eq!(lasting(59.0), "59 s");
        assert_eq!(lasting(150.0), "2 min");
        assert_eq!(lasting(1e6), "11 d");
        assert_eq!(share(0.1234), "12.3 %");
        assert_eq!(share(1e9), "999.9 %");
    }
}
