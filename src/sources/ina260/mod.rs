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
mod fault;
mod logged;
pub mod registers;
pub mod settings;
#[cfg(test)]
mod simulated;
mod slot;

use std::time::{Duration, Instant};

use bridge::{Buses, Linux};
use logged::Logged;
use settings::Settings;
use slot::{ChipSlot, PollContext};

use super::io_log::files;
use super::{Board, Context, Error, Meter, Source};
use crate::config::{Config, Switch};
use crate::metrics::{Grade, PowerSum, RailTotal, Readings};
use crate::sys::clock::BootTime;

/// The meter.
pub(super) const METER: Meter = Meter::of::<Settings>(
    "ina260",
    "INA260 chips on I2C, without a kernel driver",
    switch,
    probe,
    |context| match context.health.io_log() {
        io_log if io_log.is_off() => open(context, Linux),
        io_log => open(
            context,
            Logged {
                buses: Linux,
                io_log: io_log.clone(),
            },
        ),
    },
);

/// A configured address switches the source on, whether the chip is found or not.
fn switch(config: &Config) -> Switch {
    let settings: Settings = config.meter();
    match settings.enabled {
        Switch::Auto if !settings.chips.is_empty() => Switch::On,
        switch => switch,
    }
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
    for chip in &chips {
        let device = board.roots.dev.join(format!("i2c-{}", chip.bus));
        if let Err(error) = files::stat(&board.io_log, &device) {
            return Err(Error::cannot("find", &device, &error)
                .hint("`modprobe i2c-dev`; on a Raspberry Pi `dtparam=i2c_arm=on` in config.txt"));
        }
    }
    let rails: Vec<_> = chips.iter().map(|chip| chip.rail()).collect();
    Ok(format!("configured: {}", rails.join(", ")))
}

fn open<B: Buses + 'static>(context: &Context, buses: B) -> Result<Box<dyn Source>, Error> {
    let settings: Settings = context.config.meter();
    if settings.chips.is_empty() {
        return Err(none_configured());
    }
    let mut total = RailTotal::new(settings.power_total);
    let is_only = settings.chips.len() == 1;
    let slots = settings.chips.iter().map(|chip| {
        let in_total = total.includes(&chip.rail(), is_only);
        ChipSlot::new(chip, context, in_total)
    });
    let slots = slots.collect();
    total.claim(&context.group, is_only.then_some(Grade::Input));
    let mut source = Ina260 {
        buses,
        context: context.clone(),
        slots,
        total,
    };
    source.open_chips()?;
    Ok(Box::new(source))
}

struct Ina260<B: Buses> {
    buses: B,
    context: Context,
    slots: Vec<ChipSlot<B>>,
    total: RailTotal,
}

impl<B: Buses> Ina260<B> {
    /// The slots, and the context for work on them until the deadline.
    fn poll_context(&mut self, deadline: Instant) -> (&mut [ChipSlot<B>], PollContext<'_, B>) {
        let poll = PollContext {
            buses: &self.buses,
            context: &self.context,
            deadline,
        };
        (&mut self.slots, poll)
    }

    /// Opens the first chip that answers; an error if none does.
    fn open_chips(&mut self) -> Result<(), Error> {
        let (slots, poll) = self.poll_context(Instant::now());
        let mut failed = None;
        for slot in slots.iter_mut() {
            match slot.open(BootTime::default(), &poll) {
                // The other chips are opened when they are polled.
                Ok(()) => return Ok(()),
                Err(error) => failed.get_or_insert(error),
            };
        }
        for slot in slots.iter_mut() {
            slot.report(&poll.context.health, failed.as_ref());
        }
        failed.map_or(Ok(()), Err)
    }
}

impl<B: Buses> Source for Ina260<B> {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let wait_time = self.slots.iter().map(ChipSlot::wait_time).max();
        let deadline = Instant::now() + wait_time.unwrap_or(Duration::ZERO);
        let (slots, poll) = self.poll_context(deadline);
        let mut sum = PowerSum::default();
        let mut answered = false;
        let mut failed = None;
        for slot in slots.iter_mut() {
            let watts = match slot.poll(out, &poll) {
                Ok(watts) => {
                    answered = true;
                    watts
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            };
            if slot.in_total {
                sum.add(watts, None);
            }
        }
        // If no chip was read, the first error is the source's.
        let failed = failed.filter(|_| !answered);
        for slot in slots.iter_mut() {
            slot.report(&poll.context.health, failed.as_ref());
        }
        self.total.publish(out, &sum);
        failed.map_or(Ok(()), Err)
    }

    fn rescan(&mut self) {
        let (slots, poll) = self.poll_context(Instant::now());
        for slot in slots {
            slot.check(poll.context.health.io_log().now(), &poll);
            slot.report(&poll.context.health, None);
        }
    }
}

#[cfg(test)]
mod tests;
