//! Texas Instruments' power monitors with an external shunt on I2C, without a kernel driver, by `/dev/i2c-N`: INA219 and INA220,
//! INA226, INA228, INA237 and INA238, INA3221. Each chip, or channel of an INA3221, is a rail: `<model>-<bus>-<address>`
//! (`ina219-1-0040`, `ina3221-1-0040:1`), or its configured name.
//!
//! What these chips have in common with others on I2C is in [`i2c`](super::i2c), what distinguishes the families in [`registers`].
//!
//! * **Current** is the shunt's voltage divided by the configured shunt. A current at the end of the chip's range is absent, and
//!   power with it, since it may be any current beyond.
//! * **Energy** is what an INA228 counts, which misses nothing between polls; of the others it is integrated.
//! * **An INA219 has no identity register.** The model comes from the configuration, and bits that are always 0 are checked.

mod chip;
pub mod models;
pub mod registers;
pub mod settings;
#[cfg(test)]
mod simulated;

use std::time::Duration;

use chip::MappedChip;
use models::Family;
use registers::{ina228, Conversion, Ina219, Ina226, Ina228, Ina3221, RegisterMap, Shunt};
use settings::{ChipSettings, Settings};

use super::i2c::conversion::longest;
use super::i2c::{self, Bus, Chip, Chips, Fault, Model};
use super::{Board, Context, Error, Meter};
use crate::config::{Config, Switch};

/// The meter.
pub(super) const METER: Meter = Meter::of::<Settings>(
    "ina2xx",
    "INA219, INA226, INA228, INA238 and INA3221 chips on I2C, without a kernel driver",
    switch,
    probe,
    |context| chips(context)?.open_live(context),
);

/// A configured chip switches the source on, whether it is found or not.
fn switch(config: &Config) -> Switch {
    let settings: Settings = config.meter();
    i2c::switch(settings.enabled, !settings.chips.is_empty())
}

fn none_configured() -> Error {
    Error::new("no chip is configured").hint("ina2xx.chips; `i2cdetect -y 1` shows who answers")
}

/// Checks that the buses exist, without accessing the chips.
fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    let chips = config.meter::<Settings>().chips;
    if chips.is_empty() {
        return Err(none_configured());
    }
    i2c::find_buses(board, chips.iter().map(|chip| chip.bus))?;
    let rails: Vec<_> = chips.iter().flat_map(ChipSettings::rails).collect();
    let drivers: Vec<_> = chips
        .iter()
        .map(|chip| kernel_driver(chip.model.name, chip.bus, chip.address))
        .collect();
    Ok(format!(
        "configured: {}; the kernel's own driver, which is better, is bound by {}",
        rails.join(", "),
        drivers.join(", ")
    ))
}

/// How the kernel's own driver is given this chip (Linux, Documentation/i2c/instantiating-devices.rst).
pub(super) fn kernel_driver(name: &str, bus: u32, address: u8) -> String {
    format!("`echo {name} {address:#04x} > /sys/bus/i2c/devices/i2c-{bus}/new_device`")
}

/// The configured chips.
fn chips(context: &Context) -> Result<Chips<Configured>, Error> {
    let Settings {
        chips, power_total, ..
    } = context.config.meter();
    if chips.is_empty() {
        return Err(none_configured());
    }
    let is_at_battery = |chip: &ChipSettings| chip.board.is_some_and(|board| board.at_battery);
    let only_is_input = !chips.iter().any(is_at_battery);
    let configured = |settings: ChipSettings| Configured {
        conversion: conversion(&settings, context.interval),
        settings,
    };
    Ok(Chips {
        models: chips.into_iter().map(configured).collect(),
        power_total,
        only_is_input,
    })
}

/// The configured conversion. Without an averaging in the configuration, the largest that fits into the interval.
fn conversion(chip: &ChipSettings, interval: Duration) -> Conversion {
    let conversion = |averaging| Conversion {
        averaging,
        microseconds: chip.conversion_us,
    };
    let channels = chip.rails().len();
    let averagings = match chip.averages() {
        true => chip.model.averagings,
        false => &[1],
    };
    let fitting = || {
        longest(averagings, interval, |averaging| {
            conversion(averaging).time(channels)
        })
    };
    conversion(chip.averaging.unwrap_or_else(fitting))
}

/// A configured chip.
struct Configured {
    settings: ChipSettings,
    conversion: Conversion,
}

impl Configured {
    fn map(&self) -> Box<dyn RegisterMap> {
        let ChipSettings {
            model,
            shunt_ohms,
            channels,
            ..
        } = &self.settings;
        // A chip without channels has a shunt (`settings`).
        let shunt = Shunt::new(shunt_ohms.unwrap_or(1.0));
        let (range, conversion) = (self.settings.range(), self.conversion);
        match model.family {
            Family::Ina219 => Box::new(Ina219::new(shunt, range, conversion)),
            Family::Ina226 => Box::new(Ina226::new(shunt, conversion)),
            Family::Ina228(kind) => Box::new(Ina228::new(kind, shunt, range, conversion)),
            Family::Ina3221 => {
                let shunt = |n: u8| {
                    let channel = channels.iter().find(|channel| channel.channel == n);
                    channel.map(|channel| Shunt::new(channel.shunt_ohms))
                };
                Box::new(Ina3221::new([1, 2, 3].map(shunt), conversion))
            }
        }
    }
}

impl Model for Configured {
    fn kind(&self) -> &'static str {
        self.settings.model.kind
    }

    fn bus(&self) -> u32 {
        self.settings.bus
    }

    fn address(&self) -> u8 {
        self.settings.address
    }

    fn rails(&self) -> Vec<String> {
        self.settings.rails()
    }

    fn energy_range(&self) -> Option<u64> {
        (self.settings.model.family == Family::Ina228(ina228::Kind::Ina228))
            .then_some(ina228::ENERGY_RANGE)
    }

    fn time(&self) -> Duration {
        self.map().time()
    }

    fn start<B: Bus>(&self, bus: B) -> Result<Box<dyn Chip>, Fault> {
        let ChipSettings { address, .. } = self.settings;
        let chip = MappedChip::start(bus, address, self.map(), self.settings.reversed())?;
        Ok(Box::new(chip))
    }
}

#[cfg(test)]
fn open<B: i2c::Buses>(context: &Context, buses: B) -> Result<Box<dyn super::Source>, Error> {
    chips(context)?.open(context, buses)
}

#[cfg(test)]
mod tests;
