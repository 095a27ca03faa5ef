//! INA3221 (Texas Instruments, data sheet SBOS576B, section 8.6): three channels of 13 bits, 26 V.

use std::time::Duration;

use super::{code, signed16, word, Conversion, Measured, Register, RegisterMap, Setting, Shunt};
use crate::sources::i2c::conversion::{AVERAGINGS, CONVERSION_MICROSECONDS};

/// The range of the shunts' voltages in millivolts.
pub const MILLIVOLTS: [f64; 1] = [163.8];
/// Number of channels.
pub const CHANNELS: usize = 3;

const CONFIGURATION: u8 = 0x00;
/// The registers of the channels: shunt and bus voltage of the first, and so on.
const VOLTAGES: [Register; 6] = [word(1), word(2), word(3), word(4), word(5), word(6)];
/// Mask/enable. Reading it clears the conversion-ready flag.
const MASK_ENABLE: u8 = 0x0F;
const MANUFACTURER: u8 = 0xFE;
const DIE: u8 = 0xFF;

const CONVERSION_READY: u16 = 1;
/// Configuration: the first channel is converted. The others follow to the right.
const FIRST_CHANNEL: u16 = 1 << 14;
/// Configuration: both voltages, continuously.
const CONTINUOUS: u16 = 0b111;
/// In bits 15 to 3.
const BUS_NANOVOLTS: f64 = 8e6;
/// In bits 15 to 3.
const SHUNT_NANOVOLTS: f64 = 4e4;

/// An INA3221.
#[derive(Debug, Clone)]
pub struct Ina3221 {
    /// `None`: the channel is switched off.
    shunts: [Option<Shunt>; CHANNELS],
    values: Vec<Register>,
    conversion: Conversion,
}

impl Ina3221 {
    /// A chip with these shunts in its channels; channels without one are switched off.
    pub fn new(shunts: [Option<Shunt>; CHANNELS], conversion: Conversion) -> Ina3221 {
        let channels = shunts.iter().zip(VOLTAGES.chunks(2));
        let values = channels.filter(|(shunt, _)| shunt.is_some());
        Ina3221 {
            values: values
                .flat_map(|(_, registers)| registers)
                .copied()
                .collect(),
            shunts,
            conversion,
        }
    }
}

impl RegisterMap for Ina3221 {
    fn identity(&self) -> &'static [Register] {
        const { &[word(MANUFACTURER), word(DIE)] }
    }

    fn identify(&self, words: &[u64]) -> Result<(), String> {
        super::identify(words, "INA3221")
    }

    fn wanted(&self) -> &'static str {
        "an INA3221 says 0x5449, 0x322x"
    }

    fn settings(&self) -> Vec<Setting> {
        let Conversion {
            averaging,
            microseconds,
        } = self.conversion;
        let time = code(&CONVERSION_MICROSECONDS, microseconds);
        let averaging = code(&AVERAGINGS, averaging);
        let channels = self.shunts.iter().enumerate();
        let channels = channels.filter(|(_, shunt)| shunt.is_some());
        let channels = channels.fold(0, |bits, (channel, _)| bits | FIRST_CHANNEL >> channel);
        vec![Setting {
            pointer: CONFIGURATION,
            word: channels | averaging << 9 | time << 6 | time << 3 | CONTINUOUS,
            kept: 0x7FFF,
        }]
    }

    fn ready(&self) -> (u8, u16) {
        (MASK_ENABLE, CONVERSION_READY)
    }

    fn values(&self) -> &[Register] {
        &self.values
    }

    fn measure(&self, words: &[u64], into: &mut Vec<Measured>) -> bool {
        // The lowest three bits are always 0.
        if words.len() != self.values.len() || words.iter().any(|word| word & 0b111 != 0) {
            return false;
        }
        for (shunt, words) in self.shunts.iter().flatten().zip(words.chunks(2)) {
            let [voltage, bus] =
                [0, 1].map(|n| words.get(n).map_or(0, |word| signed16(*word) >> 3));
            into.push(Measured {
                reading: shunt
                    .reading(bus as f64 * BUS_NANOVOLTS, voltage as f64 * SHUNT_NANOVOLTS),
                is_clipped: super::is_end(voltage, 13),
                counted: None,
            });
        }
        true
    }

    fn time(&self) -> Duration {
        self.conversion.time(self.shunts.iter().flatten().count())
    }
}
