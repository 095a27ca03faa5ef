//! Values with their units, for people.

/// The units by the ending of a metric's name; the first that matches counts.
const UNITS: &[(&str, &str)] = &[
    ("_microwatts", "µW"),
    ("_watts", "W"),
    ("_microjoules", "µJ"),
    ("_joules", "J"),
    ("_uj", "µJ"),
    ("_mwh", "mWh"),
    ("_wh", "Wh"),
    ("_volts", "V"),
    ("_ampere_seconds", "As"),
    ("_amperes", "A"),
    ("_ampere", "A"),
    ("_amps", "A"),
    ("_coulombs", "C"),
    ("_celsius", "°C"),
    ("_fahrenheit", "°F"),
    ("_percent", "%"),
    ("_mhz", "MHz"),
    ("_hz", "Hz"),
    ("_seconds", "s"),
    ("_bytes", "B"),
    ("_mb", "MB"),
    ("_kb", "kB"),
];

/// The unit of a metric; empty if it has none.
pub(super) fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let of = |name: &str| UNITS.iter().find(|(ending, _)| name.ends_with(ending));
    // Window statistics, and totals by kind such as `power_total_watts_avg`.
    let stem = name.rsplit_once('_').map_or(name, |(stem, _)| stem);
    of(name).or_else(|| of(stem)).map_or("", |(_, unit)| unit)
}

/// Whether a metric is electric power, current, or energy that was used. What a battery holds is not.
pub(super) fn is_electric(name: &str) -> bool {
    let of = |name: &str| {
        matches!(
            unit(name),
            "W" | "µW" | "J" | "µJ" | "Wh" | "mWh" | "A" | "As"
        )
    };
    of(name) && !name.starts_with("power_supply_")
}

/// A number with four significant digits, and all digits before the point.
pub(super) fn number(value: f64) -> String {
    const DIGITS: i32 = 4;
    const MAX_DECIMALS: i32 = 9;
    if value == 0.0 || !value.is_finite() || value.fract() == 0.0 {
        return format!("{value}");
    }
    // The magnitude of a finite number is between -324 and 308.
    #[allow(clippy::cast_possible_truncation)]
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (DIGITS - 1 - magnitude).clamp(0, MAX_DECIMALS);
    let text = format!("{value:.*}", usize::try_from(decimals).unwrap_or_default());
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_names() {
        for (name, expected) in [
            ("power_total_watts", "W"),
            ("energy_joules_total", "J"),
            ("shelly_energy_total_wh", "Wh"),
            ("power_total_watts_avg", "W"),
            ("jetson_cpu_core0_freq_mhz", "MHz"),
            ("temperature_celsius", "°C"),
            ("powerexporter_power_consumption_ampere_seconds_total", "As"),
            ("rpi_throttled", ""),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }

    #[test]
    fn power_current_and_energy_are_electric() {
        for name in [
            "power_watts",
            "current_amperes",
            "energy_joules_total",
            "shelly_energy_total_wh",
        ] {
            assert!(is_electric(name), "{name}");
        }
        for name in [
            "temperature_celsius",
            "voltage_volts",
            "power_supply_energy_joules",
            "rpi_throttled",
        ] {
            assert!(!is_electric(name), "{name}");
        }
    }

    #[test]
    fn numbers_have_sensible_digits() {
        for (value, expected) in [
            (7.675, "7.675"),
            (7.674_999_999_9, "7.675"),
            (12.0, "12"),
            (123_456.789, "123457"),
            (0.000_123_456, "0.0001235"),
            (41.25, "41.25"),
            (-3.5, "-3.5"),
            (0.0, "0"),
            (1e-12, "0"),
        ] {
            assert_eq!(number(value), expected, "{value}");
        }
    }
}
