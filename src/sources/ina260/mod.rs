//! INA260 chips on I2C, without a kernel driver (Texas Instruments, data sheet SBOS656C), by `/dev/i2c-N`. A rail is
//! a chip: `ina260-<bus>-<address>` (`ina260-1-0040`), or the name it is given.
//!
//! * **Only where it is told to.** An address is never tried unasked: behind it may be another chip, which a read can
//!   disturb. At an address that is configured, the identity registers are read first, and nothing is written to a
//!   chip that is no INA260.
//! * **A reading** is what the chip converted since the one before. The conversion-ready flag tells: a poll waits for
//!   it as long as a short conversion takes, so that no reading is taken twice and the pace becomes the chip's; what
//!   takes longer (a large averaging) stands until the next.
//! * **Current** is below 0 from IN− to IN+, and power with it. Energy only grows: power below 0 adds nothing.
//! * **A chip that fails** is left alone for a while, then identified, reset and configured anew; the others go on.
//!   One that was reset by losing its supply is found out every half minute.
//! * **The board's total** is the sum of the rails that `ina260.power_total` lists: absent while one of them is. If it
//!   lists none, the only chip's power; with several it is not known which of them feed each other.

mod bridge;
mod chip;
mod fault;
mod logged;
pub mod registers;
mod seat;
pub mod settings;
#[cfg(test)]
mod simulated;

use std::time::{Duration, Instant};

use bridge::{Buses, Linux};
use logged::Logged;
use seat::{Seat, Work};
use settings::Settings;

use super::io_log::files;
use super::{Board, Context, Error, Meter, Pace, Source};
use crate::config::{Config, SectionSpec, Switch};
use crate::metrics::{Grade, Readings, Total};
use crate::sys::clock::BootTime;

/// The meter.
pub(super) const METER: Meter = Meter {
    name: "ina260",
    summary: "INA260 chips on I2C, without a kernel driver",
    device_types: &[],
    pace: Pace::Interval,
    switch,
    section: SectionSpec::of::<Settings>(),
    devices: None,
    probe,
    claims: None,
    open: |context| match context.health.io_log() {
        io_log if io_log.is_off() => open(context, Linux),
        io_log => open(
            context,
            Logged {
                buses: Linux,
                io_log: io_log.clone(),
            },
        ),
    },
};

/// Whoever gives an address wants it read, found or not.
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

/// Looks whether the buses are there. The chips are not asked.
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
    let asked_for = &settings.power_total;
    let is_of_total = |rail: String| {
        if asked_for.is_empty() {
            settings.chips.len() == 1
        } else {
            asked_for.contains(&rail)
        }
    };
    let mut source = Ina260 {
        buses,
        context: context.clone(),
        seats: settings
            .chips
            .iter()
            .map(|chip| Seat::new(chip, context, is_of_total(chip.rail())))
            .collect(),
        total: None,
    };
    if source.seats.iter().any(|seat| seat.is_of_total) {
        let grade = match asked_for.is_empty() {
            false => Grade::Asked,
            true => Grade::Input,
        };
        source.total = Some(Total::new(&context.group, grade));
    }
    source.take_hold()?;
    Ok(Box::new(source))
}

struct Ina260<B: Buses> {
    buses: B,
    context: Context,
    seats: Vec<Seat<B>>,
    /// There if it is known which chips make the total.
    total: Option<Total>,
}

impl<B: Buses> Ina260<B> {
    /// The seats, and what they work with until the deadline.
    fn at_work(&mut self, deadline: Instant) -> (&mut [Seat<B>], Work<'_, B>) {
        let work = Work {
            buses: &self.buses,
            context: &self.context,
            deadline,
        };
        (&mut self.seats, work)
    }

    /// Fails only if no chip can be had.
    fn take_hold(&mut self) -> Result<(), Error> {
        let (seats, work) = self.at_work(Instant::now());
        let mut failed = None;
        for seat in seats.iter_mut() {
            match seat.open(BootTime::default(), &work) {
                // The others are tried when they are polled.
                Ok(()) => return Ok(()),
                Err(error) => failed.get_or_insert(error),
            };
        }
        for seat in seats.iter_mut() {
            seat.report(&work.context.health, failed.as_ref());
        }
        failed.map_or(Ok(()), Err)
    }
}

impl<B: Buses> Source for Ina260<B> {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let patience = self.seats.iter().map(Seat::patience).max();
        let deadline = Instant::now() + patience.unwrap_or(Duration::ZERO);
        let (seats, work) = self.at_work(deadline);
        let mut sum = Some(0.0);
        let mut answered = false;
        let mut failed = None;
        for seat in seats.iter_mut() {
            let watts = match seat.poll(out, &work) {
                Ok(watts) => {
                    answered = true;
                    watts
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            };
            if seat.is_of_total {
                sum = sum.zip(watts).map(|(sum, watts)| sum + watts);
            }
        }
        // With nothing read at all, the first error is the source's.
        let failed = failed.filter(|_| !answered);
        for seat in seats.iter_mut() {
            seat.report(&work.context.health, failed.as_ref());
        }
        if let (Some(total), Some(sum)) = (&mut self.total, sum) {
            total.watts(out, sum);
        }
        failed.map_or(Ok(()), Err)
    }

    fn rescan(&mut self) {
        let (seats, work) = self.at_work(Instant::now());
        for seat in seats {
            seat.check(work.context.health.io_log().now(), &work);
            seat.report(&work.context.health, None);
        }
    }
}

#[cfg(test)]
mod tests;
