//! INA228 (20 bits, with an energy counter), INA237 and INA238 (16 bits): 85 V (Texas Instruments, data sheets SBOSA20, SBOSA21
//! and SBOSA22, section 7.6).

use std::time::Duration;

use super::{
    array, code, signed, word, Conversion, Measured, Register, RegisterMap, Setting, Shunt,
};
use crate::sources::i2c::conversion::AVERAGINGS;

/// Conversion times in microseconds, by their code.
pub const MICROSECONDS: [u16; 8] = [50, 84, 150, 280, 540, 1052, 2074, 4120];
/// The ranges of the shunt's voltage in millivolts.
pub const MILLIVOLTS: [f64; 2] = [40.96, 163.84];
/// Where the energy counter of an INA228 wraps.
pub const ENERGY_RANGE: u64 = 1 << 40;

const CONFIGURATION: u8 = 0x00;
const ADC_CONFIGURATION: u8 = 0x01;
const SHUNT_CALIBRATION: u8 = 0x02;
const SHUNT_VOLTAGE: u8 = 0x04;
const BUS_VOLTAGE: u8 = 0x05;
const ENERGY: u8 = 0x09;
/// Diagnostic flags and alert.
const DIAGNOSTIC: u8 = 0x0B;
const MANUFACTURER: u8 = 0x3E;
const DIE: u8 = 0x3F;

/// Configuration: the smaller range of the shunt's voltage.
const SMALL_RANGE: u16 = 1 << 4;
/// ADC configuration: both voltages, continuously, without the temperature.
const CONTINUOUS: u16 = 0xB << 12;
/// Diagnostic: the flags stay until the register is read. Without this the conversion-ready flag would not be cleared by that.
const LATCH: u16 = 1 << 15;
/// Diagnostic: a conversion has ended.
const CONVERSION_READY: u16 = 1 << 1;
/// With this calibration, in either range, one unit of the current is one unit of the shunt's voltage divided by the shunt: the
/// data sheet's SHUNT_CAL = 13107.2e6 × CURRENT_LSB × R, times 4 in the smaller range. It is the value after a reset.
const UNITY: u16 = 0x1000;
/// The energy counter's unit in joules, per ampere of the current's: 16 × 3.2 × CURRENT_LSB (data sheet, section 8.1.2).
const ENERGY_VOLTS: f64 = 16.0 * 3.2;

/// An INA228, INA237 or INA238.
#[derive(Debug, Clone)]
pub struct Ina228 {
    kind: Kind,
    shunt: Shunt,
    has_small_range: bool,
    conversion: Conversion,
}

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With 20 bits and an energy counter.
    Ina228,
    /// With 16 bits, less accurate.
    Ina237,
    /// With 16 bits.
    Ina238,
}

impl Ina228 {
    /// A chip with this shunt, and the range with this place in [`MILLIVOLTS`].
    pub fn new(kind: Kind, shunt: Shunt, range: usize, conversion: Conversion) -> Ina228 {
        Ina228 {
            kind,
            shunt,
            has_small_range: range == 0,
            conversion,
        }
    }

    /// The unit of the shunt's voltage in nanovolts.
    fn shunt_nanovolts(&self) -> f64 {
        let large = match self.kind {
            Kind::Ina228 => 312.5,
            Kind::Ina237 | Kind::Ina238 => 5000.0,
        };
        match self.has_small_range {
            true => large / 4.0,
            false => large,
        }
    }
}

impl RegisterMap for Ina228 {
    fn identity(&self) -> &'static [Register] {
        const { &[word(MANUFACTURER), word(DIE)] }
    }

    /// An INA237 has no documented die register: it must say the manufacturer, and not be one of the others.
    fn identify(&self, words: &[u64]) -> Result<(), String> {
        match self.kind {
            Kind::Ina228 => super::identify(words, "INA228"),
            Kind::Ina238 => super::identify(words, "INA238"),
            Kind::Ina237 => super::identify_manufacturer(words),
        }
    }

    fn wanted(&self) -> &'static str {
        match self.kind {
            Kind::Ina228 => "an INA228 says 0x5449, 0x228x",
            Kind::Ina237 => "an INA237 says 0x5449, and no other chip's die",
            Kind::Ina238 => "an INA238 says 0x5449, 0x238x",
        }
    }

    fn settings(&self) -> Vec<Setting> {
        let Conversion {
            averaging,
            microseconds,
        } = self.conversion;
        let time = code(&MICROSECONDS, microseconds);
        let averaging = code(&AVERAGINGS, averaging);
        let range = if self.has_small_range { SMALL_RANGE } else { 0 };
        let all = |pointer, word| Setting {
            pointer,
            word,
            kept: u16::MAX,
        };
        vec![
            all(CONFIGURATION, range),
            all(SHUNT_CALIBRATION, UNITY),
            Setting {
                pointer: DIAGNOSTIC,
                word: LATCH,
                // Reading it would clear the flag.
                kept: 0,
            },
            all(
                ADC_CONFIGURATION,
                CONTINUOUS | time << 9 | time << 6 | time << 3 | averaging,
            ),
        ]
    }

    fn ready(&self) -> (u8, u16) {
        (DIAGNOSTIC, CONVERSION_READY)
    }

    fn values(&self) -> &[Register] {
        const WIDE: [Register; 3] = [
            Register {
                pointer: SHUNT_VOLTAGE,
                bytes: 3,
            },
            Register {
                pointer: BUS_VOLTAGE,
                bytes: 3,
            },
            Register {
                pointer: ENERGY,
                bytes: 5,
            },
        ];
        match self.kind {
            Kind::Ina228 => const { &WIDE },
            Kind::Ina237 | Kind::Ina238 => const { &[word(SHUNT_VOLTAGE), word(BUS_VOLTAGE)] },
        }
    }

    fn measure(&self, words: &[u64], into: &mut Vec<Measured>) -> bool {
        // An INA228 has 20 bits above four that are 0.
        let (shunt, bus, bits, bus_nanovolts) = match (self.kind, words) {
            (Kind::Ina228, [shunt, bus, _]) if (shunt | bus) & 0xF == 0 => {
                (shunt >> 4, bus >> 4, 20, 195_312.5)
            }
            (Kind::Ina237 | Kind::Ina238, [shunt, bus]) => (*shunt, *bus, 16, 3_125_000.0),
            _ => return false,
        };
        let (shunt, bus) = (signed(shunt, bits), signed(bus, bits));
        if (shunt, bus) == (-1, -1) {
            return false;
        }
        let unit = self.shunt_nanovolts();
        let joules_per_unit = ENERGY_VOLTS * unit / self.shunt.nanoohms;
        into.push(Measured {
            reading: self
                .shunt
                .reading(bus as f64 * bus_nanovolts, shunt as f64 * unit),
            is_clipped: super::is_end(shunt, bits),
            counted: array(words).map(|[_, _, energy]: [u64; 3]| (energy, joules_per_unit)),
        });
        true
    }

    fn time(&self) -> Duration {
        self.conversion.time(1)
    }
}
