//! The register maps of the families, and what their words mean. Pure.
//!
//! Current is the shunt's voltage divided by the configured shunt, and power is that times the bus's voltage, so that nothing
//! depends on a calibration register that another program may have set.

pub mod ina219;
pub mod ina226;
pub mod ina228;
pub mod ina3221;

use std::time::Duration;

pub use ina219::Ina219;
pub use ina226::Ina226;
pub use ina228::Ina228;
pub use ina3221::Ina3221;

use crate::sources::i2c::{identity, Measured, Reading};

/// A register to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// Its pointer.
    pub pointer: u8,
    /// Its size in bytes, the highest first: 2, 3 or 5.
    pub bytes: u8,
}

/// A register of 16 bits.
const fn word(pointer: u8) -> Register {
    Register { pointer, bytes: 2 }
}

/// A register to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its pointer.
    pub pointer: u8,
    /// What is written.
    pub word: u16,
    /// The bits that the chip keeps until its supply fails: they are read again to see whether it did. 0: it is not read.
    pub kept: u16,
}

/// The registers of one configured chip.
pub trait RegisterMap: Send {
    /// What is read first. Nothing is written unless [`identify`](Self::identify) accepts it.
    fn identity(&self) -> &'static [Register];

    /// Whether these are the words of the configured chip. The error is what they say.
    fn identify(&self, words: &[u64]) -> Result<(), String>;

    /// What the chip would say instead, for people.
    fn wanted(&self) -> &'static str;

    /// What is written, in this order.
    fn settings(&self) -> Vec<Setting>;

    /// The register with the conversion-ready flag, and the flag. Reading the register, or the last of
    /// [`values`](Self::values), clears it.
    fn ready(&self) -> (u8, u16);

    /// What is read of a conversion.
    fn values(&self) -> &[Register];

    /// What each rail measured, by these words of [`values`](Self::values). `false` for words that no chip gives, which result
    /// from a chip that loses its supply during a transfer.
    fn measure(&self, words: &[u64], into: &mut Vec<Measured>) -> bool;

    /// The time of one reading.
    fn time(&self) -> Duration;
}

/// A shunt. Its resistance is a whole number of nanoohms, so that exact decimals stay exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shunt {
    nanoohms: f64,
}

impl Shunt {
    /// A shunt of this resistance: 1 nΩ and more.
    pub fn new(ohms: f64) -> Shunt {
        Shunt {
            nanoohms: (ohms * 1e9).round().max(1.0),
        }
    }

    /// The reading of these voltages in nanovolts, on the bus and across the shunt.
    fn reading(&self, bus: f64, shunt: f64) -> Reading {
        Reading {
            volts: bus / 1e9,
            amperes: shunt / self.nanoohms,
            watts: bus * shunt / (self.nanoohms * 1e9),
        }
    }
}

/// The value of the lowest `bits` bits in two's complement.
fn signed(word: u64, bits: u32) -> i64 {
    let unused = 64 - bits;
    ((word << unused) as i64) >> unused
}

/// The value of a register's 16 bits in two's complement.
fn signed16(word: u64) -> i64 {
    signed(word, 16)
}

/// Whether this is the least or the greatest value of so many bits: the input may be any voltage beyond.
fn is_end(value: i64, bits: u32) -> bool {
    let end = 1 << (bits - 1);
    value == end - 1 || value == -end
}

/// The two identity registers, if they are those.
fn identity_words(words: &[u64]) -> Result<(u16, u16), String> {
    let words: Option<[u64; 2]> = array(words);
    let [manufacturer, die] = words.ok_or_else(|| "nothing".to_string())?;
    Ok((manufacturer as u16, die as u16))
}

/// Whether manufacturer and die are those of this chip.
fn identify(words: &[u64], wanted: &str) -> Result<(), String> {
    let (manufacturer, die) = identity_words(words)?;
    match identity::chip(manufacturer, die) {
        Some(kind) if kind == wanted => Ok(()),
        _ => Err(identity::describe(manufacturer, die)),
    }
}

/// Whether the manufacturer is Texas Instruments, and the die that of no other chip.
fn identify_manufacturer(words: &[u64]) -> Result<(), String> {
    let (manufacturer, die) = identity_words(words)?;
    let is_other = identity::chip(manufacturer, die).is_some();
    match manufacturer == identity::TEXAS_INSTRUMENTS && !is_other {
        true => Ok(()),
        false => Err(identity::describe(manufacturer, die)),
    }
}

/// The words, as many as were asked for.
fn array<const N: usize>(words: &[u64]) -> Option<[u64; N]> {
    words.try_into().ok()
}

/// The code of a value in its table.
fn code(table: &[u16], value: u16) -> u16 {
    let found = table.iter().position(|v| *v == value);
    found.and_then(|code| u16::try_from(code).ok()).unwrap_or(0)
}

/// How the chips convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// Number of averaged conversions.
    pub averaging: u16,
    /// Microseconds of one conversion, of the bus's voltage and of the shunt's alike.
    pub microseconds: u16,
}

impl Conversion {
    /// The time of a reading of this many channels: each converts both voltages, one after the other.
    pub fn time(&self, channels: usize) -> Duration {
        let conversions = u64::from(self.averaging) * 2 * channels as u64;
        Duration::from_micros(u64::from(self.microseconds) * conversions)
    }
}

#[cfg(test)]
mod tests;
