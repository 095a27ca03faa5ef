//! Any words in an INA260's registers, and any settings: readings within the chip's reach, with the sign of the current.
#![no_main]

use std::time::Duration;

use edge_metrics_exporter::sources::ina260::registers::{
    flags, is_ina260, other_chip, Conversion, RawReading, AVERAGINGS, CONVERSION_MICROSECONDS,
};
use edge_metrics_exporter::sources::ina260::settings::Ina260Chip;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|words: [u16; 12]| {
    let [current, voltage, power, mask_enable, configuration, manufacturer, die, ..] = words;
    reads(current as i16, voltage, power, mask_enable);
    assert_eq!(
        is_ina260(manufacturer, die),
        manufacturer == 0x5449 && (0x2270..=0x227F).contains(&die)
    );
    if other_chip(manufacturer, die).is_some() {
        assert!(!is_ina260(manufacturer, die));
    }
    let [.., averaging, voltage_us, current_us, interval, mode] = words;
    let chip = Ina260Chip {
        averaging: (mode & 2 == 0).then_some(averaging),
        voltage_conversion_us: voltage_us,
        current_conversion_us: current_us,
        triggered: mode & 1 == 1,
        ..Ina260Chip::default()
    };
    converts(
        &chip,
        Duration::from_micros(u64::from(interval) * 100),
        configuration,
    );
});

/// The reading, against the data sheet's factors.
fn reads(current: i16, voltage: u16, power: u16, mask_enable: u16) {
    let flags = flags(mask_enable);
    assert_eq!(flags.ready, mask_enable >> 3 & 1 == 1);
    assert_eq!(flags.overflow, mask_enable >> 2 & 1 == 1);
    let raw = RawReading {
        current,
        voltage,
        power,
        overflow: flags.overflow,
    };
    let Some(reading) = raw.reading() else {
        assert!(voltage >> 15 == 1);
        return;
    };
    let near = |a: f64, b: f64| (a - b).abs() < 2e-6;
    assert!(near(reading.volts, f64::from(voltage) * 1.25e-3));
    assert!(near(reading.amperes, f64::from(current) * 1.25e-3));
    let product = reading.volts * reading.amperes;
    let told = f64::from(power) * 0.01;
    if flags.overflow || told >= 419.43 || product.abs() > 419.43 + 1e-5 {
        assert!(near(reading.watts, product));
    } else if product.abs() < 419.43 - 1e-5 {
        assert!(near(reading.watts.abs(), told));
    }
    assert!(reading.watts.abs() <= 40.96 * 40.96);
    // The power has the current's sign, and a zero has none.
    assert!(reading.watts == 0.0 || (reading.watts < 0.0) == (current < 0));
    assert!(reading.watts != 0.0 || reading.watts.is_sign_positive());
}

/// The settings, against the register they make.
fn converts(chip: &Ina260Chip, interval: Duration, configuration: u16) {
    let conversion = Conversion::of(chip, interval);
    let one =
        CONVERSION_MICROSECONDS[conversion.voltage] + CONVERSION_MICROSECONDS[conversion.current];
    let times = AVERAGINGS[conversion.averaging];
    let time = Duration::from_micros(u64::from(one) * u64::from(times));
    assert_eq!(conversion.time(), time);
    if chip.averaging.is_none() {
        assert!(times == 1 || time <= interval);
        let next = AVERAGINGS.get(conversion.averaging + 1);
        assert!(next.is_none_or(
            |next| Duration::from_micros(u64::from(one) * u64::from(*next)) > interval
        ));
    }
    let fields = (
        configuration >> 9 & 7,
        configuration >> 6 & 7,
        configuration >> 3 & 7,
    );
    let same = fields
        == (
            conversion.averaging as u16,
            conversion.voltage as u16,
            conversion.current as u16,
        )
        && configuration & 7 == if chip.triggered { 3 } else { 7 };
    assert_eq!(conversion.is_in(configuration), same);
}
