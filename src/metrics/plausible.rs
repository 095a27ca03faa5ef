//! Plausible ranges of values, by quantity and source. Pure.
//!
//! A driver, a firmware or a device without a reading often reports a number all the same: all bits set, the least or
//! greatest integer, absolute zero. A [`Range`] contains every value that a working meter of its kind reports, with margin; a
//! value outside of it is no measurement. The range belongs to the series, and [`Readings`](super::Readings) checks every
//! value that is set, so that no meter can omit the check.

use super::family::Kind;

/// The values that a working meter reports, both ends included.
#[derive(Debug, PartialEq)]
pub struct Range {
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The unit's symbol, for messages.
    pub unit: &'static str,
}

const fn within(min: f64, max: f64, unit: &'static str) -> Range {
    Range { min, max, unit }
}

const fn up_to(max: f64, unit: &'static str) -> Range {
    within(-max, max, unit)
}

/// What Tegra's BPMP reports for a sensor in a part that is powered off, in degrees Celsius. Not an error.
pub const OFF_CELSIUS: f64 = -256.0;

/// Any finite number.
pub static FINITE: Range = within(f64::MIN, f64::MAX, "");
/// Any value: for the exporter's own state.
pub static ANY: Range = within(f64::NEG_INFINITY, f64::INFINITY, "");

/// Semiconductors. Drivers report "off" as -127, -128 (nct6775, applesmc), -256 (Tegra's BPMP), -273.1 (smart batteries: 0 in
/// units of 0.1 K) or -274 (`THERMAL_TEMP_INVALID`), and 255, 511 or more with all bits set. Silicon works from -65 to 150 °C
/// at most (JEDEC's storage and junction limits), silicon carbide to 200 °C.
static CELSIUS: Range = within(-100.0, 200.0, "°C");
static FAHRENHEIT: Range = within(-148.0, 392.0, "°F");
/// Thermocouples, which an ADC of the IIO subsystem (`iio_hwmon`) may have as its sensor: type K to 1,372 °C and type B to 1,820 °C
/// (IEC 60584-1).
pub static THERMOCOUPLE: Range = within(-270.0, 1820.0, "°C");
/// IEC 60364 and 61140: low voltage ends at 1,000 V AC and 1,500 V DC. Rails below zero (-12 V) exist.
static VOLTS: Range = up_to(1500.0, "V");
/// An INA238 measures up to 85 V (data sheet SBOSA20), an INA3221 up to 26 V (SBOS576).
static VOLTS_OF_JETSON: Range = within(-1.0, 85.0, "V");
/// The register's full scale; the chip's inputs bear 40 V (SBOS656C, 6.1 and 8.6).
static VOLTS_OF_INA260: Range = within(-0.3, 41.0, "V");
/// An INA228's register ends at 102.4 V (SBOSA20, 7.6); no chip's input bears less than -0.3 V.
static VOLTS_OF_INA2XX: Range = within(-0.3, 103.0, "V");
/// A Raspberry Pi 5's PMIC is fed by 5 V, and measures nothing above.
static VOLTS_OF_RPI: Range = within(-1.0, 30.0, "V");
/// Batteries and USB: 60 V DC is the limit of what may be touched (ES1, IEC 62368-1); USB PD ends at 48 V. 65,535 mV is a
/// smart battery's "unknown".
pub static VOLTS_OF_BATTERY: Range = up_to(60.0, "V");
/// Processors' regulators give over 1,000 A, shelves of power supplies some 3,000 A at 12 V.
pub static AMPERES: Range = up_to(5000.0, "A");
static AMPERES_OF_JETSON: Range = up_to(100.0, "A");
/// A 16-bit register of 1.25 mA (SBOS656C, 8.6).
static AMPERES_OF_INA260: Range = up_to(41.0, "A");
static AMPERES_OF_RPI: Range = up_to(50.0, "A");
/// 65,535 mA is a smart battery's "unknown".
pub static AMPERES_OF_BATTERY: Range = up_to(65.0, "A");
/// A Shelly Pro 3EM-400 measures 400 A.
static AMPERES_OF_SHELLY: Range = up_to(1000.0, "A");
/// Power supplies of 5 kW and more, meters of racks (600 kW is the most that is announced).
static WATTS: Range = up_to(1e6, "W");
/// The largest module, Jetson Thor, is fed by 130 W; carriers have room for more.
static WATTS_OF_JETSON: Range = up_to(1000.0, "W");
/// The product of both.
static WATTS_OF_INA260: Range = up_to(1681.0, "W");
/// A Raspberry Pi 5 is fed by 27 W.
static WATTS_OF_RPI: Range = up_to(200.0, "W");
/// A graphics board draws 1.4 kW, the largest that is announced 3.6 kW.
static WATTS_OF_GPU: Range = within(0.0, 10e3, "W");
/// One domain of RAPL: a package draws some 500 W, with peaks of twice that; `psys` is a machine's.
static WATTS_OF_DOMAIN: Range = within(0.0, 5e3, "W");
/// The sum over all packages of a machine.
static WATTS_OF_PACKAGES: Range = within(0.0, 100e3, "W");
/// 60 V and 65 A.
pub static WATTS_OF_BATTERY: Range = up_to(4e3, "W");
/// A charger, a mains supply or a UPS.
pub static WATTS_OF_SUPPLY: Range = up_to(100e3, "W");
/// A Shelly Pro 3EM-400: 400 A in three phases of 277 V are 332 kW.
static WATTS_OF_SHELLY: Range = up_to(500e3, "W");
/// One conductor of a Shelly meter with clamps: at most 400 A at 277 V.
pub static WATTS_OF_PHASE: Range = up_to(150e3, "W");
/// A plug, or a Shelly's switched or wired channel: 16 A, 25 A in a contactor's place, at 277 V at most.
pub static WATTS_OF_PLUG: Range = up_to(10e3, "W");
static PERCENT: Range = within(0.0, 100.0, "%");
static RATIO: Range = within(0.0, 1.0, "");
/// At most 1 by definition; devices round voltage, current and power separately.
static POWER_FACTOR: Range = up_to(1.1, "");
/// Up to 400 Hz aboard aircraft.
static HERTZ: Range = within(0.0, 1000.0, "Hz");

/// Clocks of processors and memory; 65,535 and more mean "unknown".
static MEGAHERTZ: Range = within(0.0, 20e3, "MHz");
/// Memory and swap space: less than a petabyte.
static MEGABYTES: Range = within(0.0, 1e9, "MB");

/// The default range of the family of this name from this source.
pub fn range(source: &str, name: &str, kind: Kind) -> &'static Range {
    if kind == Kind::Counter {
        return &FINITE;
    }
    match name.rsplit('_').next().unwrap_or(name) {
        "celsius" => &CELSIUS,
        "fahrenheit" => &FAHRENHEIT,
        "volts" => match source {
            "ina3221" => &VOLTS_OF_JETSON,
            "ina260" => &VOLTS_OF_INA260,
            "ina2xx" => &VOLTS_OF_INA2XX,
            "rpi" => &VOLTS_OF_RPI,
            _ => &VOLTS,
        },
        "amperes" | "ampere" | "amps" => match source {
            "ina3221" => &AMPERES_OF_JETSON,
            "ina260" => &AMPERES_OF_INA260,
            "rpi" => &AMPERES_OF_RPI,
            "shelly" => &AMPERES_OF_SHELLY,
            _ => &AMPERES,
        },
        "watts" => match source {
            "ina3221" | "tegrastats" => &WATTS_OF_JETSON,
            "ina260" => &WATTS_OF_INA260,
            "rpi" => &WATTS_OF_RPI,
            "nvidia" => &WATTS_OF_GPU,
            "rapl" if name == "power_watts" => &WATTS_OF_DOMAIN,
            "rapl" => &WATTS_OF_PACKAGES,
            "power_supply" => &WATTS_OF_SUPPLY,
            "shelly" => &WATTS_OF_SHELLY,
            "kasa" | "tapo" => &WATTS_OF_PLUG,
            _ => &WATTS,
        },
        "percent" => &PERCENT,
        "ratio" => &RATIO,
        "factor" => &POWER_FACTOR,
        "hz" => &HERTZ,
        "mhz" => &MEGAHERTZ,
        "mb" => &MEGABYTES,
        _ => &FINITE,
    }
}

/// "Unknown" in microwatts or microamperes: 32 bits or -1, where that is within a server's range.
const UNKNOWN: [f64; 5] = [
    4_294.967_295,
    2_147.483_647,
    -2_147.483_647,
    -2_147.483_648,
    -0.000_001,
];
/// The least positive value in [`UNKNOWN`], rounded down.
const MIN_UNKNOWN: f64 = 2147.0;

impl Range {
    /// Whether the value is a plausible measurement. NaN is not.
    #[inline]
    pub fn contains(&self, value: f64) -> bool {
        let is_usual = (0.0..MIN_UNKNOWN).contains(&value);
        value >= self.min && value <= self.max && (is_usual || self.is_known(value))
    }

    /// Whether it contains all finite numbers.
    pub fn is_unbounded(&self) -> bool {
        self.min <= f64::MIN && self.max >= f64::MAX
    }

    /// Whether the value reports a sensor that is off, which is no error.
    pub fn is_off(&self, value: f64) -> bool {
        value == OFF_CELSIUS && *self == CELSIUS
    }

    #[cold]
    fn is_known(&self, value: f64) -> bool {
        self.unit.is_empty() || !UNKNOWN.contains(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_plausible(source: &str, name: &str, value: f64) -> bool {
        range(source, name, Kind::Gauge).contains(value)
    }

    #[test]
    fn real_measurements_are_plausible() {
        for (source, name, value) in [
            ("hwmon", "power_watts", 5_500.0),
            ("hwmon", "power_watts", 130e3),
            ("hwmon", "power_watts", -3.5),
            ("hwmon", "power_total_watts", 2_147.0),
            ("hwmon", "voltage_volts", -12.1),
            ("hwmon", "voltage_volts", 400.0),
            ("hwmon", "current_amperes", 1_200.0),
            ("hwmon", "temperature_celsius", 125.0),
            ("hwmon", "temperature_celsius", -40.0),
            ("thermal", "temperature_celsius", 150.0),
            ("nvidia", "power_watts", 1_500.0),
            ("nvidia", "nvidia_gpu_utilization_ratio", 1.0),
            ("rapl", "power_watts", 1_000.0),
            ("rapl", "power_total_watts", 16_000.0),
            ("tegrastats", "jetson_power_vdd_gpu_watts", -0.392),
            ("tegrastats", "jetson_cpu_core0_usage_percent", 100.0),
            ("tegrastats", "jetson_emc_freq_mhz", 4_266.0),
            ("tegrastats", "jetson_ram_total_mb", 125_771.0),
            ("ina3221", "voltage_volts", 19.8),
            ("ina260", "current_amperes", -40.96),
            ("ina260", "power_watts", 419.43),
            ("power_supply", "voltage_volts", 230.0),
            ("shelly", "shelly_power_total_watts", 3.0 * 120.0 * 240.0),
            ("shelly", "shelly_power_total_watts", -86_400.0),
            ("shelly", "shelly_temperature_fahrenheit", -40.0),
            ("shelly", "shelly_energy_total_wh", 4_294_967_295.0),
            ("udp", "powerexporter_current_ampere", 1.6),
        ] {
            assert!(is_plausible(source, name, value), "{source} {name} {value}");
        }
    }

    #[test]
    fn placeholders_for_no_measurement_are_implausible() {
        for (source, name, values) in [
            (
                "hwmon",
                "power_watts",
                &[
                    -1e-6,
                    4_294_967.295,
                    4_294.967_295,
                    2_147.483_647,
                    4_294_967_295.0,
                    9.3e12,
                    f64::NAN,
                ][..],
            ),
            (
                "hwmon",
                "current_amperes",
                &[4_294_967.295, -2_147.483_648, 2_147.483_647],
            ),
            (
                "hwmon",
                "temperature_celsius",
                &[3_892_313.987, 255.0, -127.5, -273.1],
            ),
            (
                "thermal",
                "temperature_celsius",
                &[2_147_483.647, -274.0, f64::INFINITY],
            ),
            (
                "power_supply",
                "temperature_celsius",
                &[6_553.5, -273.1, 3_276.7],
            ),
            ("tegrastats", "jetson_temp_gpu_celsius", &[65_535.0, -256.0]),
            ("tegrastats", "power_watts", &[4_294_967.295]),
            (
                "tegrastats",
                "jetson_cpu_core0_usage_percent",
                &[255.0, -1.0],
            ),
            ("tegrastats", "jetson_emc_freq_mhz", &[65_535.0]),
            ("tegrastats", "jetson_ram_used_mb", &[4_294_967_295.0, -1.0]),
            ("nvidia", "power_watts", &[4_294_967.29, -1.0]),
            ("nvidia", "temperature_celsius", &[511.0]),
            ("shelly", "shelly_temperature_celsius", &[999.0]),
            ("shelly", "shelly_power_total_watts", &[1e30]),
            (
                "udp",
                "powerexporter_current_ampere",
                &[1e30, f64::NEG_INFINITY],
            ),
        ] {
            for value in values {
                assert!(
                    !is_plausible(source, name, *value),
                    "{source} {name} {value}"
                );
            }
        }
    }

    #[test]
    fn exporters_own_state_has_no_range() {
        assert!(ANY.contains(f64::INFINITY));
        assert!(range("x", "y_total", Kind::Counter).contains(4_294.967_295));
    }
}
