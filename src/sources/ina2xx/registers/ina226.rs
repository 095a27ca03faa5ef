//! INA226 (Texas Instruments, data sheet SBOS547A, section 7.6): 16 bits, 36 V.

use std::time::Duration;

use super::Shunt;
use super::{array, code, signed16, word, Conversion, Measured, Register, RegisterMap, Setting};
use crate::sources::i2c::conversion::{AVERAGINGS, CONVERSION_MICROSECONDS};

/// The range of the shunt's voltage in millivolts.
pub const MILLIVOLTS: [f64; 1] = [81.92];

const CONFIGURATION: u8 = 0x00;
const SHUNT_VOLTAGE: u8 = 0x01;
const BUS_VOLTAGE: u8 = 0x02;
/// Mask/enable. Reading it clears the conversion-ready flag.
const MASK_ENABLE: u8 = 0x06;
const MANUFACTURER: u8 = 0xFE;
const DIE: u8 = 0xFF;

const CONVERSION_READY: u16 = 1 << 3;
/// Configuration: bits 14 to 12, which are fixed.
const FIXED: u16 = 0b100 << 12;
/// Configuration: both voltages, continuously.
const CONTINUOUS: u16 = 0b111;
const BUS_NANOVOLTS: f64 = 1.25e6;
const SHUNT_NANOVOLTS: f64 = 2500.0;

/// An INA226.
#[derive(Debug, Clone)]
pub struct Ina226 {
    shunt: Shunt,
    conversion: Conversion,
}

impl Ina226 {
    /// A chip with this shunt.
    pub fn new(shunt: Shunt, conversion: Conversion) -> Ina226 {
        Ina226 { shunt, conversion }
    }
}

impl RegisterMap for Ina226 {
    fn identity(&self) -> &'static [Register] {
        const { &[word(MANUFACTURER), word(DIE)] }
    }

    fn identify(&self, words: &[u64]) -> Result<(), String> {
        super::identify(words, "INA226")
    }

    fn wanted(&self) -> &'static str {
        "an INA226 says 0x5449, 0x226x"
    }

    fn settings(&self) -> Vec<Setting> {
        let Conversion {
            averaging,
            microseconds,
        } = self.conversion;
        let time = code(&CONVERSION_MICROSECONDS, microseconds);
        let averaging = code(&AVERAGINGS, averaging);
        vec![Setting {
            pointer: CONFIGURATION,
            word: FIXED | averaging << 9 | time << 6 | time << 3 | CONTINUOUS,
            kept: 0x0FFF,
        }]
    }

    fn ready(&self) -> (u8, u16) {
        (MASK_ENABLE, CONVERSION_READY)
    }

    fn values(&self) -> &[Register] {
        const { &[word(SHUNT_VOLTAGE), word(BUS_VOLTAGE)] }
    }

    fn measure(&self, words: &[u64], into: &mut Vec<Measured>) -> bool {
        let Some([shunt, bus]) = array(words) else {
            return false;
        };
        // The highest bit is always 0.
        if bus > 0x7FFF {
            return false;
        }
        let shunt = signed16(shunt);
        let reading = self
            .shunt
            .reading(bus as f64 * BUS_NANOVOLTS, shunt as f64 * SHUNT_NANOVOLTS);
        into.push(Measured {
            reading,
            is_clipped: super::is_end(shunt, 16),
            counted: None,
        });
        true
    }

    fn time(&self) -> Duration {
        self.conversion.time(1)
    }
}
