//! Chips on I2C that a meter reads by `/dev/i2c-N`, without a kernel driver. A meter describes its chips ([`Model`], [`Chip`]);
//! the buses, the polls, the faults and the board's total are the same for all.
//!
//! * **Only configured addresses** are accessed: another chip may be at any other, which a read can disturb. At a configured
//!   address the chip is identified first, and nothing is written to a chip of another kind.
//! * **A reading** is the chip's conversion since the reading before. A poll waits for the conversion-ready flag as long as a
//!   short conversion takes, so that no conversion is read twice and the chip sets the pace. During a longer conversion (a
//!   large averaging) the last reading is kept.
//! * **Current** is negative from IN− to IN+, and power with it. Negative power adds no energy.
//! * **A chip that fails** is tried again after a delay, and then identified and configured again; the other chips are
//!   read meanwhile. A chip that lost its configuration with its supply is detected every half minute.
//! * **The board's total** is the sum of the rails that the section's `power_total` lists, and absent while one of them is. If it
//!   lists none, it is the only rail's power, unless that is a battery's; of several it is unknown which feed each other.

mod bus;
mod chip;
pub mod conversion;
mod fault;
pub mod identity;
pub(super) mod logged;
pub(super) mod settings;
#[cfg(test)]
pub(super) mod simulated;
mod slot;

use std::time::{Duration, Instant};

pub(super) use bus::{Bus, Buses, Errno, Linux};
pub(super) use chip::{Chip, Model};
pub use chip::{Measured, Reading};
pub(super) use fault::{not_open, transfer, Fault};

use logged::Logged;
pub(super) use slot::driver;
use slot::{ChipSlot, PollContext};

use super::io_log::files;
use super::{Board, Context, Error, Source};
use crate::config::Switch;
use crate::metrics::{Grade, PowerSum, RailTotal, Readings};
use crate::sys::clock::BootTime;

/// Whether the source is read: configured chips switch it on, whether they are found or not.
pub(super) fn switch(enabled: Switch, has_chips: bool) -> Switch {
    match enabled {
        Switch::Auto if has_chips => Switch::On,
        switch => switch,
    }
}

/// Checks that these buses exist, without accessing a chip.
pub(super) fn find_buses(board: &Board, buses: impl Iterator<Item = u32>) -> Result<(), Error> {
    for bus in buses {
        let device = board.roots.dev.join(format!("i2c-{bus}"));
        if let Err(error) = files::stat(&board.io_log, &device) {
            return Err(Error::cannot("find", &device, &error)
                .hint("`modprobe i2c-dev`; on a Raspberry Pi `dtparam=i2c_arm=on` in config.txt"));
        }
    }
    Ok(())
}

/// A meter's configured chips: at least one.
pub(super) struct Chips<M> {
    pub(super) models: Vec<M>,
    /// The rails whose sum is the board's total.
    pub(super) power_total: Vec<String>,
    /// Whether the only rail is the board's input, if no rails are named.
    pub(super) only_is_input: bool,
}

impl<M: Model> Chips<M> {
    /// Opens them on the kernel's buses, by way of the I/O log if there is one.
    pub(super) fn open_live(self, context: &Context) -> Result<Box<dyn Source>, Error> {
        match context.health.io_log() {
            io_log if io_log.is_off() => self.open(context, Linux),
            io_log => {
                let buses = Logged {
                    buses: Linux,
                    io_log: io_log.clone(),
                };
                self.open(context, buses)
            }
        }
    }

    /// Opens them on these buses.
    pub(super) fn open<B: Buses>(
        self,
        context: &Context,
        buses: B,
    ) -> Result<Box<dyn Source>, Error> {
        let mut total = RailTotal::new(self.power_total);
        let rails: Vec<_> = self.models.iter().flat_map(Model::rails).collect();
        let is_only = rails.len() == 1 && self.only_is_input;
        let models = self.models.into_iter();
        let slots = models
            .map(|model| ChipSlot::new(model, context, |rail| total.includes(rail, is_only)))
            .collect();
        total.claim(&context.group, is_only.then_some(Grade::Input));
        let mut source = I2cSource {
            buses,
            context: context.clone(),
            slots,
            total,
        };
        source.open_chips()?;
        Ok(Box::new(source))
    }
}

struct I2cSource<B, M> {
    buses: B,
    context: Context,
    slots: Vec<ChipSlot<M>>,
    total: RailTotal,
}

impl<B: Buses, M: Model> I2cSource<B, M> {
    /// The slots, and the context for work on them until the deadline.
    fn poll_context(&mut self, deadline: Instant) -> (&mut [ChipSlot<M>], PollContext<'_, B>) {
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

impl<B: Buses, M: Model> Source for I2cSource<B, M> {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let wait_time = self.slots.iter().map(ChipSlot::wait_time).max();
        let deadline = Instant::now() + wait_time.unwrap_or(Duration::ZERO);
        let (slots, poll) = self.poll_context(deadline);
        let mut sum = PowerSum::default();
        let mut answered = false;
        let mut failed = None;
        for slot in slots.iter_mut() {
            match slot.poll(out, &poll) {
                Ok(()) => answered = true,
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
            slot.add_to(&mut sum);
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
