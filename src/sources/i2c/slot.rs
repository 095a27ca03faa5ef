//! The slot of one configured chip, whether the chip answers or not.

use std::time::{Duration, Instant};

use super::bus::Buses;
use super::chip::{Chip, Measured, Model};
use super::fault::{ChipAddress, Fault};
use super::logged;
use crate::metrics::{common, PowerSum, Rail, Readings, SeriesId};
use crate::sources::{Context, Error, Health, Roots};
use crate::sys::clock::BootTime;

/// Delay before a failed chip is tried again: at first, and at most.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(500);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);
/// Maximum time that one poll waits for conversions. The watchdog considers 200 ms a hang.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// No item of `Health`: while waiting, nothing is being read.
const NO_ITEM: u32 = u32::MAX;

/// A configured chip and its series, and the open chip while it answers.
pub(super) struct ChipSlot<M> {
    model: M,
    address: ChipAddress,
    /// The bus, in the health's list of what is being read.
    item: u32,
    time: Duration,
    rails: Vec<RailSeries>,
    state: SlotState,
    retry_delay: Duration,
    last_error: Option<String>,
    /// The last error has not been reported yet.
    unreported: bool,
    has_complaint: bool,
}

/// The series of one of the chip's rails.
struct RailSeries {
    name: String,
    rail: Rail,
    volts: SeriesId,
    amperes: SeriesId,
    /// Whether it is part of the board's total.
    in_total: bool,
    /// Whether the chip counts its energy.
    has_counter: bool,
    /// What the last poll read: watts, and the joules that the chip counted.
    watts: Option<f64>,
    joules: f64,
}

impl RailSeries {
    /// Publishes what was measured.
    fn set(&mut self, out: &mut Readings, measured: &Measured) {
        let reading = &measured.reading;
        let volts = out.try_set(self.volts, reading.volts);
        if measured.is_clipped {
            self.rail.hold_energy(out);
            return;
        }
        let amperes = out.try_set(self.amperes, reading.amperes);
        // If voltage or current is implausible, so is the power.
        let Some(watts) = volts.and(amperes).map(|_| reading.watts) else {
            return;
        };
        self.watts = match measured.counted {
            Some((raw, joules_per_unit)) => {
                let watts = self
                    .rail
                    .set_power_and_counter(out, watts, raw, joules_per_unit);
                self.joules = self.rail.last_counted().unwrap_or(0.0);
                watts
            }
            None => self.rail.set_watts(out, watts),
        };
    }
}

enum SlotState {
    /// Not to be opened before this time.
    Closed(BootTime),
    Open(Box<OpenChip>),
}

struct OpenChip {
    chip: Box<dyn Chip>,
    /// A conversion was triggered and has not ended.
    converting: bool,
    /// Since when polls have been waiting for a reading.
    waiting: Option<BootTime>,
    /// What the rails measured last; empty before the first reading.
    last: Vec<Measured>,
}

impl<M: Model> ChipSlot<M> {
    /// A slot whose chip is not open yet. `in_total` says which rails are part of the board's total.
    pub(super) fn new(model: M, context: &Context, in_total: impl Fn(&str) -> bool) -> ChipSlot<M> {
        let (bus, address) = (model.bus(), model.address());
        let device = context.board.roots.dev.join(format!("i2c-{bus}"));
        let group = &context.group;
        let energy_range = model.energy_range();
        let rail = |name: String| RailSeries {
            rail: Rail::with_range(group, &name, energy_range.unwrap_or(0)),
            volts: common::rail_series(group, &common::voltage_volts(), &name),
            amperes: common::rail_series(group, &common::current_amperes(), &name),
            in_total: in_total(&name),
            has_counter: energy_range.is_some(),
            watts: None,
            joules: 0.0,
            name,
        };
        ChipSlot {
            item: context.health.path_id(&device),
            address: ChipAddress {
                section: context.group.source.clone(),
                kind: model.kind(),
                device,
                bus,
                address,
            },
            time: model.time(),
            rails: model.rails().into_iter().map(rail).collect(),
            state: SlotState::Closed(BootTime::default()),
            retry_delay: MIN_RETRY_DELAY,
            last_error: None,
            unreported: false,
            has_complaint: false,
            model,
        }
    }

    /// How long a poll waits for this chip's reading. Zero for slow conversions: their last reading is kept until the next.
    pub(super) fn wait_time(&self) -> Duration {
        let time = self.time;
        let margin = time / 4 + Duration::from_millis(1);
        Some(time + margin)
            .filter(|wait_time| *wait_time <= MAX_WAIT)
            .unwrap_or_default()
    }

    /// Adds what the last poll read of the rails in the board's total.
    pub(super) fn add_to(&self, sum: &mut PowerSum) {
        for rail in self.rails.iter().filter(|rail| rail.in_total) {
            sum.add(rail.watts, rail.has_counter.then_some(rail.joules));
        }
    }

    /// Reads the chip, opening it if necessary, and publishes the reading, if there is one yet.
    pub(super) fn poll<B: Buses>(
        &mut self,
        out: &mut Readings,
        poll: &PollContext<'_, B>,
    ) -> Result<(), Error> {
        for rail in &mut self.rails {
            (rail.watts, rail.joules) = (None, 0.0);
        }
        if let SlotState::Closed(until) = self.state {
            if out.at < until {
                let last_error = self.last_error.clone().unwrap_or_default();
                return Err(Error::new(last_error));
            }
        }
        if let Err(fault) = self.read(out.at, poll) {
            return Err(self.failed(&fault, out.at, poll));
        }
        let SlotState::Open(open) = &self.state else {
            return Ok(());
        };
        if open.last.is_empty() {
            for rail in &self.rails {
                rail.rail.hold_energy(out);
            }
        } else {
            self.retry_delay = MIN_RETRY_DELAY;
        }
        for (rail, measured) in self.rails.iter_mut().zip(&open.last) {
            rail.set(out, measured);
        }
        if open.last.iter().any(|measured| measured.is_clipped) {
            self.clipped(poll);
        } else if self.last_error.take().is_some() {
            log::info!(
                "{}: {} can be read again",
                self.address.section,
                self.address.description()
            );
        }
        Ok(())
    }

    /// Remembers the rails whose current is out of range.
    #[cold]
    fn clipped<B: Buses>(&mut self, poll: &PollContext<'_, B>) {
        let SlotState::Open(open) = &self.state else {
            return;
        };
        let rails = self.rails.iter().zip(&open.last);
        let clipped = rails.filter(|(_, measured)| measured.is_clipped);
        let names: Vec<_> = clipped.map(|(rail, _)| rail.name.as_str()).collect();
        let fault = Fault::Clipped(names.join(", "));
        poll.context.health.count_error();
        self.remember(fault.explain(&self.address).to_string());
    }

    /// Opens the chip if it is not open yet.
    pub(super) fn open<B: Buses>(
        &mut self,
        now: BootTime,
        poll: &PollContext<'_, B>,
    ) -> Result<(), Error> {
        match self.opened(poll) {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.failed(&fault, now, poll)),
        }
    }

    /// Checks whether the chip lost its configuration, as by an interrupted supply.
    pub(super) fn check<B: Buses>(&mut self, now: BootTime, poll: &PollContext<'_, B>) {
        let SlotState::Open(open) = &mut self.state else {
            return;
        };
        poll.context.health.begin_read(self.item);
        let fault = match open.chip.is_configured() {
            Ok(true) => return,
            Ok(false) => Fault::Reset,
            Err(fault) => fault,
        };
        self.failed(&fault, now, poll);
        // The chip answers: it can be opened at once.
        if let Fault::Reset = fault {
            self.state = SlotState::Closed(BootTime::default());
        }
    }

    #[cold]
    fn failed<B: Buses>(
        &mut self,
        fault: &Fault,
        now: BootTime,
        poll: &PollContext<'_, B>,
    ) -> Error {
        if !fault.leaves_the_chip_configured() {
            let retry_delay = u64::try_from(self.retry_delay.as_nanos()).unwrap_or(u64::MAX);
            self.state = SlotState::Closed(BootTime(now.0.saturating_add(retry_delay)));
            self.retry_delay = (self.retry_delay * 2).min(MAX_RETRY_DELAY);
        }
        poll.context.health.count_error();
        let error = fault.explain(&self.address);
        self.remember(error.to_string());
        error
    }

    fn remember(&mut self, error: String) {
        self.unreported |= self.last_error.as_ref() != Some(&error);
        self.last_error = Some(error);
    }

    /// Reports the last error once, unless the source reports the same error.
    pub(super) fn report(&mut self, health: &Health, source_error: Option<&Error>) {
        let source_error = source_error.map(Error::to_string);
        let is_new = std::mem::take(&mut self.unreported);
        let complaint = self
            .last_error
            .as_ref()
            .filter(|t| source_error.as_ref() != Some(t));
        if !is_new && complaint.is_some() == self.has_complaint {
            return;
        }
        self.has_complaint = complaint.is_some();
        if let Some(last_error) = complaint.filter(|_| is_new) {
            log::warn!("{}: {last_error}", self.address.section);
        }
        health.set_value_error(&self.address.key(), complaint.cloned());
    }

    /// The open chip, which is identified and configured first if necessary.
    fn opened<B: Buses>(&mut self, poll: &PollContext<'_, B>) -> Result<&mut OpenChip, Fault> {
        if let SlotState::Closed(_) = self.state {
            let chip = self.start(poll)?;
            self.state = SlotState::Open(Box::new(OpenChip {
                chip,
                // Configuring the chip starts a conversion.
                converting: true,
                waiting: None,
                last: Vec::with_capacity(self.rails.len()),
            }));
        }
        match &mut self.state {
            SlotState::Open(open) => Ok(open),
            SlotState::Closed(_) => Err(Fault::NotConverting),
        }
    }

    fn start<B: Buses>(&self, poll: &PollContext<'_, B>) -> Result<Box<dyn Chip>, Fault> {
        let ChipAddress {
            section,
            device,
            bus,
            address,
            ..
        } = &self.address;
        let health = &poll.context.health;
        if health.is_excluded(device) {
            return Err(Fault::Excluded);
        }
        health.begin_read(self.item);
        let mut opened = poll.buses.open(device).map_err(Fault::NotOpen)?;
        if let Err(error) = poll.buses.claim(&mut opened, *address) {
            return Err(match error.raw_os_error() {
                Some(nix::libc::EBUSY) => {
                    Fault::InUse(driver(&poll.context.board.roots, *bus, *address))
                }
                number => Fault::Transfer(number),
            });
        }
        let time = self.time;
        if time > poll.context.interval {
            let milliseconds = time.as_secs_f64() * 1e3;
            log::info!(
                "{section}: {}: a reading takes {milliseconds} ms, which is longer than the interval",
                self.address.description()
            );
        }
        self.model.start(opened)
    }

    /// Reads the chip's conversion since the last reading, if it has ended.
    fn read<B: Buses>(&mut self, now: BootTime, poll: &PollContext<'_, B>) -> Result<(), Fault> {
        let (item, time) = (self.item, self.time);
        let io_log = poll.context.health.io_log().clone();
        let ChipAddress {
            device, address, ..
        } = &self.address;
        let chip =
            (!io_log.is_off()).then(|| format!("{} {address:#04x}", logged::key(&io_log, device)));
        let is_recorded = || chip.as_ref().is_some_and(|chip| io_log.has_pending(chip));
        let open = self.opened(poll)?;
        poll.context.health.begin_read(item);
        if !open.converting {
            open.chip.trigger()?;
            open.converting = true;
        }
        if !open.converted(item, time, poll, is_recorded)? {
            let since = *open.waiting.get_or_insert(now);
            let max_wait = time.as_secs_f64() * 3.0 + 1.0;
            return if now.seconds_since(since) > max_wait {
                Err(Fault::NotConverting)
            } else {
                Ok(())
            };
        }
        open.chip.read(&mut open.last)?;
        open.waiting = None;
        open.converting = false;
        Ok(())
    }
}

impl OpenChip {
    /// Waits for a conversion to end, until the poll's deadline. Returns whether it has ended.
    fn converted<B: Buses>(
        &mut self,
        item: u32,
        time: Duration,
        poll: &PollContext<'_, B>,
        is_recorded: impl Fn() -> bool,
    ) -> Result<bool, Fault> {
        let Context { health, stop, .. } = poll.context;
        // Often enough to lose little time, rarely enough to keep the bus free.
        let step = (time / 8).max(Duration::from_micros(100));
        loop {
            health.begin_read(item);
            if self.chip.is_ready()? {
                return Ok(true);
            }
            let next = Instant::now() + step;
            if next > poll.deadline || stop.is_set() {
                return Ok(false);
            }
            health.begin_read(NO_ITEM);
            // During replay, flags that are recorded are not waited for.
            if !is_recorded() {
                stop.wait_until(next);
            }
        }
    }
}

/// The context of one poll.
pub(super) struct PollContext<'a, B> {
    pub(super) buses: &'a B,
    pub(super) context: &'a Context,
    /// Until when the poll may wait for conversions.
    pub(super) deadline: Instant,
}

/// The kernel driver bound to this address.
pub(in crate::sources) fn driver(roots: &Roots, bus: u32, address: u8) -> Option<String> {
    let device = format!("bus/i2c/devices/{bus}-{address:04x}/driver");
    let link = std::fs::read_link(roots.sysfs.join(device)).ok()?;
    Some(link.file_name()?.to_str()?.to_string())
}
