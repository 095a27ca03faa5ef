//! INA260 chips on I2C, without a kernel driver (Texas Instruments, data sheet SBOS656C), by `/dev/i2c-N`. Each chip is a
//! rail: `ina260-<bus>-<address>` (`ina260-1-0040`), or its configured name.
//!
//! * **Only configured addresses** are accessed: another chip may be at any other, which a read can disturb. At a configured
//!   address the identity registers are read first, and nothing is written to a chip that is no INA260.
//! * **A reading** is the chip's conversion since the reading before. A poll waits for the conversion-ready flag as long as a
//!   short conversion takes, so that no conversion is read twice and the chip sets the pace. During a longer conversion (a
//!   large averaging) the last reading is kept.
//! * **Current** is negative from IN− to IN+, and power with it. Negative power adds no energy.
//! * **A chip that fails** is tried again after a delay, and then identified, reset and configured again; the other chips are
//!   read meanwhile. A chip that lost its configuration with its supply is detected every half minute.
//! * **The board's total** is the sum of the rails that `ina260.power_total` lists, and absent while one of them is. If it
//!   lists none, it is the only chip's power; of several chips it is unknown which feed each other.

mod bridge;
mod chip;
pub mod registers;
pub mod settings;
#[cfg(test)]
mod simulated;

use std::time::Duration;

use chip::Ina260;
use registers::Conversion;
use settings::{Ina260Chip, Settings};

use super::i2c::{self, Bus, Chip, Chips, Fault, Model};
use super::{Board, Context, Error, Meter};
use crate::config::{Config, Switch};

/// The meter.
pub(super) const METER: Meter = Meter::of::<Settings>(
    "ina260",
    "INA260 chips on I2C, without a kernel driver",
    switch,
    probe,
    |context| chips(context)?.open_live(context),
);

/// A configured address switches the source on, whether the chip is found or not.
fn switch(config: &Config) -> Switch {
    let settings: Settings = config.meter();
    i2c::switch(settings.enabled, !settings.chips.is_empty())
}

fn none_configured() -> Error {
    Error::new("no address is configured")
        .hint("ina260.i2c_address; `i2cdetect -y 1` shows who answers")
}

/// Checks that the buses exist, without accessing the chips.
fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    let chips = config.meter::<Settings>().chips;
    if chips.is_empty() {
        return Err(none_configured());
    }
    i2c::find_buses(board, chips.iter().map(|chip| chip.bus))?;
    let rails: Vec<_> = chips.iter().map(|chip| chip.rail()).collect();
    Ok(format!("configured: {}", rails.join(", ")))
}

/// The configured chips.
fn chips(context: &Context) -> Result<Chips<Configured>, Error> {
    let Settings {
        chips, power_total, ..
    } = context.config.meter();
    if chips.is_empty() {
        return Err(none_configured());
    }
    let configured = |settings: Ina260Chip| Configured {
        conversion: Conversion::of(&settings, context.interval),
        settings,
    };
    Ok(Chips {
        models: chips.into_iter().map(configured).collect(),
        power_total,
        only_is_input: true,
    })
}

/// A configured INA260.
struct Configured {
    settings: Ina260Chip,
    conversion: Conversion,
}

impl Model for Configured {
    fn kind(&self) -> &'static str {
        "INA260"
    }

    fn bus(&self) -> u32 {
        self.settings.bus
    }

    fn address(&self) -> u8 {
        self.settings.address
    }

    fn rails(&self) -> Vec<String> {
        vec![self.settings.rail()]
    }

    fn time(&self) -> Duration {
        self.conversion.time()
    }

    fn start<B: Bus>(&self, bus: B) -> Result<Box<dyn Chip>, Fault> {
        let chip = Ina260::start(bus, self.settings.address, self.conversion)?;
        Ok(Box::new(chip))
    }
}

#[cfg(test)]
fn open<B: i2c::Buses>(context: &Context, buses: B) -> Result<Box<dyn super::Source>, Error> {
    chips(context)?.open(context, buses)
}

#[cfg(test)]
mod tests;
