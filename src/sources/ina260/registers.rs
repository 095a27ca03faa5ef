//! The chip's registers and their meaning. Pure. (Texas Instruments, INA260 data sheet SBOS656C, section 8.6.)

use std::time::Duration;

use super::settings::Ina260Chip;
use crate::sources::i2c::conversion::longest;
pub use crate::sources::i2c::conversion::{AVERAGINGS, CONVERSION_MICROSECONDS};
use crate::sources::i2c::identity;
pub use crate::sources::i2c::identity::TEXAS_INSTRUMENTS;
pub use crate::sources::i2c::Reading;

/// Mask/enable: the enabled alerts, and the flags below. Reading it clears the conversion-ready flag.
pub const MASK_ENABLE: u8 = 0x06;
/// Configuration.
pub const CONFIGURATION: u8 = 0x00;
/// Manufacturer: [`TEXAS_INSTRUMENTS`].
pub const MANUFACTURER: u8 = 0xFE;
/// Die: the device in the upper twelve bits, its revision in the lower four.
pub const DIE: u8 = 0xFF;

/// The upper twelve bits of an INA260's die register.
const DEVICE: u16 = 0x227;
/// Mask/enable: a conversion has ended since this register was last read or the chip was configured.
const CONVERSION_READY: u16 = 1 << 3;
/// Mask/enable: the power did not fit its register.
const MATH_OVERFLOW: u16 = 1 << 2;
/// The writable bits of the configuration, without the reset.
const SETTINGS: u16 = 0x0FFF;

// Integers in millionths, divided last, so that exact decimals do not become 5.1000000000000005.
const MICROVOLTS_PER_BIT: i64 = 1250;
const MICROAMPERES_PER_BIT: i64 = 1250;
const MICROWATTS_PER_BIT: i64 = 10_000;
const MILLION: f64 = 1e6;
/// The full scale of the power register, 419.43 W. The product of the other two reaches further (36 V, 15 A).
const MAX_POWER: u16 = 41_943;

/// Whether these are the two identity registers of an INA260, of whatever revision.
pub fn is_ina260(manufacturer: u16, die: u16) -> bool {
    manufacturer == TEXAS_INSTRUMENTS && die >> 4 == DEVICE
}

/// The other chip that has these two identity registers, if known.
pub fn other_chip(manufacturer: u16, die: u16) -> Option<&'static str> {
    identity::chip(manufacturer, die).filter(|_| !is_ina260(manufacturer, die))
}

/// The flags of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// There is a new reading.
    pub ready: bool,
    /// The power did not fit its register.
    pub overflow: bool,
}

/// The flags in the mask/enable register.
pub fn flags(mask_enable: u16) -> Flags {
    Flags {
        ready: mask_enable & CONVERSION_READY != 0,
        overflow: mask_enable & MATH_OVERFLOW != 0,
    }
}

/// The measuring registers, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawReading {
    /// 0x01, two's complement.
    pub current: i16,
    /// 0x02, whose highest bit is always 0.
    pub voltage: u16,
    /// 0x03, the magnitude.
    pub power: u16,
    /// Whether mask/enable reported an overflow with it.
    pub overflow: bool,
}

impl RawReading {
    /// Converts to volts, amperes and watts. `None` for a voltage with its highest bit set, which results from a chip that
    /// loses its supply during a transfer.
    ///
    /// The power is the chip's own magnitude with the sign of the current. Where that register is saturated, it is volts
    /// times amperes.
    pub fn reading(self) -> Option<Reading> {
        if self.voltage > 0x7FFF {
            return None;
        }
        let microvolts = i64::from(self.voltage) * MICROVOLTS_PER_BIT;
        let microamperes = i64::from(self.current) * MICROAMPERES_PER_BIT;
        let product = microvolts * microamperes / 1_000_000;
        let most = i64::from(MAX_POWER) * MICROWATTS_PER_BIT;
        let saturated = self.overflow || self.power >= MAX_POWER || product.abs() > most;
        let magnitude = i64::from(self.power) * MICROWATTS_PER_BIT;
        let microwatts = match self.current {
            _ if saturated => product,
            ..0 => -magnitude,
            _ => magnitude,
        };
        let volts = microvolts as f64 / MILLION;
        let amperes = microamperes as f64 / MILLION;
        let watts = microwatts as f64 / MILLION;
        Some(Reading {
            volts,
            amperes,
            watts,
        })
    }
}

/// The conversion settings: indices into [`AVERAGINGS`] and [`CONVERSION_MICROSECONDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// Bits 11 to 9.
    pub averaging: usize,
    /// Bits 8 to 6.
    pub voltage: usize,
    /// Bits 5 to 3.
    pub current: usize,
    /// Single conversions, each triggered by a write.
    pub triggered: bool,
}

impl Conversion {
    /// The configured conversion. Without an averaging in the configuration, the largest that fits into the interval, so that
    /// a reading covers as much of it as possible.
    pub fn of(chip: &Ina260Chip, interval: Duration) -> Conversion {
        let place = |all: &[u16; 8], value| all.iter().position(|v| *v == value).unwrap_or(0);
        let single = Conversion {
            averaging: place(&AVERAGINGS, chip.averaging.unwrap_or(1)),
            voltage: place(&CONVERSION_MICROSECONDS, chip.voltage_conversion_us),
            current: place(&CONVERSION_MICROSECONDS, chip.current_conversion_us),
            triggered: chip.triggered,
        };
        if chip.averaging.is_some() {
            return single;
        }
        let averaged = |averaging| Conversion {
            averaging: place(&AVERAGINGS, averaging),
            ..single
        };
        averaged(longest(&AVERAGINGS, interval, |averaging| {
            averaged(averaging).time()
        }))
    }

    /// The time of one reading: both conversions, times the averaging.
    pub fn time(&self) -> Duration {
        let of = |all: &[u16; 8], place: usize| u64::from(all[place % 8]);
        let one =
            of(&CONVERSION_MICROSECONDS, self.voltage) + of(&CONVERSION_MICROSECONDS, self.current);
        Duration::from_micros(one * of(&AVERAGINGS, self.averaging))
    }

    /// Whether the configuration register has these settings, which a reset clears. (Bits 14 to 12 are fixed.)
    pub fn is_in(&self, configuration: u16) -> bool {
        let mode = if self.triggered { 0b011 } else { 0b111 };
        let fields = self.averaging << 9 | self.voltage << 6 | self.current << 3 | mode;
        usize::from(configuration & SETTINGS) == fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(current: i16, voltage: u16, power: u16) -> RawReading {
        RawReading {
            current,
            voltage,
            power,
            overflow: false,
        }
    }

    #[test]
    fn registers_are_volts_amperes_and_watts() {
        // 12 V and 1 A.
        let reading = raw(800, 9600, 1200).reading().unwrap();
        assert_eq!(reading.volts, 12.0);
        assert_eq!(reading.amperes, 1.0);
        assert_eq!(reading.watts, 12.0);
    }

    #[test]
    fn power_has_the_sign_of_the_current() {
        // Under one ampere too, where the crate's split loses the sign.
        let reading = raw(-400, 9600, 600).reading().unwrap();
        assert_eq!((reading.amperes, reading.watts), (-0.5, -6.0));
        let reading = raw(0, 9600, 0).reading().unwrap();
        assert_eq!(reading.watts.to_bits(), 0.0_f64.to_bits(), "no minus zero");
    }

    #[test]
    fn extreme_values() {
        let reading = raw(i16::MIN, 0x7FFF, 0).reading().unwrap();
        assert_eq!(reading.amperes, -40.96);
        assert_eq!(reading.volts, 40.958_75);
        assert_eq!(reading.watts, -1677.6704, "the register wrapped");
        let reading = raw(i16::MAX, 0, 0).reading().unwrap();
        assert_eq!((reading.amperes, reading.watts), (40.958_75, 0.0));
        assert_eq!(raw(0, 0x8000, 0).reading(), None);
        assert_eq!(raw(-1, 0xFFFF, 0xFFFF).reading(), None);
    }

    #[test]
    fn saturated_power_is_volts_times_amperes() {
        // 36 V and 15 A: 540 W, where the register ends at 419.43.
        let full = raw(12_000, 28_800, MAX_POWER);
        assert_eq!(full.reading().unwrap().watts, 540.0);
        assert_eq!(raw(-12_000, 28_800, 7).reading().unwrap().watts, -540.0);
        // Over 256 W, where the crate's split wraps.
        assert_eq!(raw(8_000, 24_000, 30_000).reading().unwrap().watts, 300.0);
        let flagged = RawReading {
            overflow: true,
            ..raw(800, 9600, 3)
        };
        assert_eq!(flagged.reading().unwrap().watts, 12.0);
    }

    #[test]
    fn only_an_ina260_is_identified_as_one() {
        assert!(is_ina260(0x5449, 0x2270));
        assert!(is_ina260(0x5449, 0x227F), "another revision");
        for (manufacturer, die) in [(0x5449, 0x2260), (0x4954, 0x2270), (0xFFFF, 0xFFFF), (0, 0)] {
            assert!(!is_ina260(manufacturer, die));
        }
        assert_eq!(other_chip(0x5449, 0x2260), Some("INA226"));
        assert_eq!(other_chip(0x5449, 0x3220), Some("INA3221"));
        assert_eq!(other_chip(0xFFFF, 0xFFFF), None);
    }

    #[test]
    fn mask_enable_has_flags() {
        assert!(!flags(0).ready && !flags(0).overflow);
        assert!(flags(0x0008).ready && !flags(0x0008).overflow);
        assert!(flags(0xFC04).overflow && !flags(0xFC04).ready);
    }

    #[test]
    fn averaging_fills_the_interval() {
        let chip = Ina260Chip::default();
        let of = |milliseconds| Conversion::of(&chip, Duration::from_millis(milliseconds));
        let averaged = |milliseconds| AVERAGINGS[of(milliseconds).averaging];
        assert_eq!(averaged(1), 1, "less than one conversion");
        assert_eq!(averaged(10), 4);
        assert_eq!(averaged(1000), 256);
        assert_eq!(averaged(60_000), 1024);
        assert_eq!(of(1000).time(), Duration::from_micros(2200 * 256));
        let asked = Ina260Chip {
            averaging: Some(1024),
            ..chip
        };
        let slow = Conversion::of(&asked, Duration::from_millis(1));
        assert_eq!(slow.time(), Duration::from_micros(2_252_800));
    }

    #[test]
    fn reset_shows_in_the_configuration() {
        let chip = Ina260Chip {
            averaging: Some(16),
            ..Ina260Chip::default()
        };
        let conversion = Conversion::of(&chip, Duration::from_secs(1));
        assert!(conversion.is_in(0x6527), "as Linux's driver writes it");
        assert!(conversion.is_in(0x0527));
        assert!(!conversion.is_in(0x6127), "as after power-on");
        assert!(!conversion.is_in(0x6523), "triggered");
    }
}
