//! What the meters tell a slot about their chips: the configured chip, the open one, and what it measured.

use std::time::Duration;

use super::bus::Bus;
use super::fault::Fault;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Volts on the bus.
    pub volts: f64,
    /// Amperes through the shunt; below 0 from IN− to IN+.
    pub amperes: f64,
    /// Watts, with the sign of the current.
    pub watts: f64,
}

/// What a chip measured on one of its rails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The reading.
    pub reading: Reading,
    /// The current is at an end of the chip's range: it may be any current beyond.
    pub is_clipped: bool,
    /// The chip's energy counter, and its unit in joules.
    pub counted: Option<(u64, f64)>,
}

impl From<Reading> for Measured {
    fn from(reading: Reading) -> Measured {
        Measured {
            reading,
            is_clipped: false,
            counted: None,
        }
    }
}

/// A configured chip.
pub(in crate::sources) trait Model: Send + 'static {
    /// The name of its kind: `INA260`.
    fn kind(&self) -> &'static str;

    /// N of `/dev/i2c-N`.
    fn bus(&self) -> u32;

    /// Its 7-bit address.
    fn address(&self) -> u8;

    /// The names of its rails, in the order of what it measures: at least one.
    fn rails(&self) -> Vec<String>;

    /// Where its energy counter wraps; `None`: it has none.
    fn energy_range(&self) -> Option<u64> {
        None
    }

    /// The time of one reading.
    fn time(&self) -> Duration;

    /// Identifies the chip before anything is written to it, then configures it.
    fn start<B: Bus>(&self, bus: B) -> Result<Box<dyn Chip>, Fault>;
}

/// An identified and configured chip. Dropping it leaves the chip converting.
pub(in crate::sources) trait Chip: Send {
    /// Starts a conversion, if the chip makes only those that are triggered.
    fn trigger(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether a conversion has ended that was not read yet.
    fn is_ready(&mut self) -> Result<bool, Fault>;

    /// Reads that conversion, and replaces `into` by what each rail measured. A failure leaves `into` as it is.
    fn read(&mut self, into: &mut Vec<Measured>) -> Result<(), Fault>;

    /// Whether it still has its configuration, which it loses with its supply.
    fn is_configured(&mut self) -> Result<bool, Fault>;
}
