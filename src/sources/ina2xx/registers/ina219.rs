//! INA219 and INA220 (Texas Instruments, data sheets SBOS448G and SBOS459F, section 8.6): 12 bits, 26 V.

use std::time::Duration;

use super::{array, signed16, word, Conversion, Measured, Register, RegisterMap, Setting, Shunt};

/// Numbers of averaged conversions.
pub const AVERAGINGS: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// Conversion times in microseconds, of 9, 10, 11 and 12 bits. Only the last one can be averaged.
pub const MICROSECONDS: [u16; 4] = [84, 148, 276, 532];
/// The ranges of the shunt's voltage in millivolts, by the code in bits 12 and 11.
pub const MILLIVOLTS: [f64; 4] = [40.0, 80.0, 160.0, 320.0];

const CONFIGURATION: u8 = 0x00;
const SHUNT_VOLTAGE: u8 = 0x01;
const BUS_VOLTAGE: u8 = 0x02;
/// Reading it clears the conversion-ready flag.
const POWER: u8 = 0x03;
const CALIBRATION: u8 = 0x05;

/// Bus voltage: a conversion has ended since the power was last read or the mode was written.
const CONVERSION_READY: u16 = 1 << 1;
/// Bits that are always 0: reset and bit 14 of the configuration, bit 2 of the bus voltage, bit 0 of the calibration.
const ZEROS: [u64; 3] = [0xC000, 1 << 2, 1];
/// Configuration: a bus of up to 32 V.
const RANGE_32_V: u16 = 1 << 13;
/// Configuration: both voltages, continuously.
const CONTINUOUS: u16 = 0b111;
/// 4 mV in bits 15 to 3.
const BUS_NANOVOLTS: f64 = 4e6;
/// 10 µV, whatever the range.
const SHUNT_NANOVOLTS: f64 = 1e4;

/// Whether registers 0 to 5 can be those of an INA219: the bits that are always 0, and a current that is the shunt's voltage times
/// the calibration (equation 4), as far as two conversions agree. Without a calibration current and power are 0. Registers that are
/// all the same are those of a chip that does not look at the pointer.
pub fn is_possible(words: [u64; 6]) -> bool {
    let [configuration, shunt, bus, power, current, calibration] = words;
    let product = signed16(shunt) * calibration as i64 / 4096;
    let current = signed16(current);
    let tolerance = current.abs().max(product.abs()) / 2 + 16;
    let agrees = match calibration {
        0 => (power, current) == (0, 0),
        _ => (current - product).abs() <= tolerance,
    };
    fixed_bits([configuration, bus, calibration])
        && agrees
        && words.iter().any(|word| *word != configuration)
}

/// A configuration of 0 is that of an INA228 after its reset, and of no INA219 that anybody uses.
fn fixed_bits(words: [u64; 3]) -> bool {
    let mut bits = words.iter().zip(ZEROS);
    bits.all(|(word, zeros)| word & zeros == 0) && words[0] != 0
}

/// An INA219 or INA220.
#[derive(Debug, Clone)]
pub struct Ina219 {
    shunt: Shunt,
    /// The code of the range in [`MILLIVOLTS`].
    range: u16,
    conversion: Conversion,
}

impl Ina219 {
    /// A chip with this shunt, and the range with this place in [`MILLIVOLTS`].
    pub fn new(shunt: Shunt, range: usize, conversion: Conversion) -> Ina219 {
        Ina219 {
            shunt,
            range: u16::try_from(range).unwrap_or(3).min(3),
            conversion,
        }
    }

    /// The code of resolution and averaging, in bits 10 to 7 for the bus and 6 to 3 for the shunt.
    fn converter(&self) -> u16 {
        match self.conversion.averaging {
            0 | 1 => super::code(&MICROSECONDS, self.conversion.microseconds),
            several => 8 + super::code(&AVERAGINGS, several),
        }
    }
}

impl RegisterMap for Ina219 {
    /// It has no identity register. The bits that are always 0 must do.
    fn identity(&self) -> &'static [Register] {
        const { &[word(CONFIGURATION), word(BUS_VOLTAGE), word(CALIBRATION)] }
    }

    fn identify(&self, words: &[u64]) -> Result<(), String> {
        if array(words).is_some_and(fixed_bits) {
            return Ok(());
        }
        let words: Vec<_> = words.iter().map(|word| format!("{word:#06x}")).collect();
        Err(format!(
            "configuration, bus voltage and calibration {}",
            words.join(", ")
        ))
    }

    fn wanted(&self) -> &'static str {
        "it has no identity register, but bits that are 0: 0xc000, 0x0004 and 0x0001 of these three"
    }

    fn settings(&self) -> Vec<Setting> {
        let converter = self.converter();
        vec![Setting {
            pointer: CONFIGURATION,
            word: RANGE_32_V | self.range << 11 | converter << 7 | converter << 3 | CONTINUOUS,
            kept: 0x3FFF,
        }]
    }

    fn ready(&self) -> (u8, u16) {
        (BUS_VOLTAGE, CONVERSION_READY)
    }

    fn values(&self) -> &[Register] {
        const { &[word(SHUNT_VOLTAGE), word(BUS_VOLTAGE), word(POWER)] }
    }

    /// The power register is read to clear the flag. It and its overflow flag depend on the calibration, and are not used.
    fn measure(&self, words: &[u64], into: &mut Vec<Measured>) -> bool {
        let Some([shunt, bus, _]) = array(words) else {
            return false;
        };
        if bus & ZEROS[1] != 0 {
            return false;
        }
        let shunt = signed16(shunt);
        let full = MILLIVOLTS[usize::from(self.range)] * 1e6 / SHUNT_NANOVOLTS;
        into.push(Measured {
            reading: self.shunt.reading(
                (bus >> 3) as f64 * BUS_NANOVOLTS,
                shunt as f64 * SHUNT_NANOVOLTS,
            ),
            is_clipped: shunt.unsigned_abs() as f64 >= full,
            counted: None,
        });
        true
    }

    fn time(&self) -> Duration {
        self.conversion.time(1)
    }
}
