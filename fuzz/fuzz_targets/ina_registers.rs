//! Any words in an INA260's registers, or those of the chips with a shunt beside them, and any settings: readings within the
//! chip's reach, with the sign of the current.
#![no_main]

use std::time::Duration;

use edge_metrics_exporter::sources::ina260::registers::{
    flags, is_ina260, other_chip, Conversion, RawReading, AVERAGINGS, CONVERSION_MICROSECONDS,
};
use edge_metrics_exporter::sources::ina260::settings::Ina260Chip;
use edge_metrics_exporter::sources::ina2xx::registers::{
    self, ina228, Ina219, Ina226, Ina228, Ina3221, RegisterMap, Shunt,
};
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
    measures(words);
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

/// The register maps of the chips with a shunt of 0.1 ohms beside them: at most 0.32 V across it, and 102.4 V on the bus.
fn measures(words: [u16; 12]) {
    let shunt = Shunt::new(0.1);
    let conversion = registers::Conversion {
        averaging: words[7],
        microseconds: words[8],
    };
    let range = usize::from(words[9] % 4);
    let ina228 = |kind| Box::new(Ina228::new(kind, shunt, range, conversion));
    let maps: [Box<dyn RegisterMap>; 6] = [
        Box::new(Ina219::new(shunt, range, conversion)),
        Box::new(Ina226::new(shunt, conversion)),
        ina228(ina228::Kind::Ina228),
        ina228(ina228::Kind::Ina237),
        ina228(ina228::Kind::Ina238),
        Box::new(Ina3221::new([Some(shunt), None, Some(shunt)], conversion)),
    ];
    for map in &maps {
        let mut measured = Vec::new();
        let values: Vec<u64> = map
            .values()
            .iter()
            .zip(words.chunks(2))
            .map(|(register, pair)| {
                let word = u64::from(pair[0]) << 16 | u64::from(pair[1]);
                word & ((1 << (8 * register.bytes.min(4))) - 1)
            })
            .collect();
        let is_good = map.measure(&values, &mut measured);
        assert!(is_good || measured.is_empty());
        assert!(!map.settings().is_empty() && !map.values().is_empty());
        for rail in measured {
            let reading = rail.reading;
            assert!((-102.5..=102.5).contains(&reading.volts));
            assert!(reading.amperes.abs() <= 3.277);
            assert!((reading.watts - reading.volts * reading.amperes).abs() < 1e-9);
        }
        let identity: Vec<u64> = words
            .iter()
            .take(map.identity().len())
            .map(|w| u64::from(*w))
            .collect();
        if map.identify(&identity).is_ok() && identity.len() == 2 {
            assert_eq!(identity[0], 0x5449);
        }
    }
}
