//! The slot of one configured chip, whether the chip answers or not.

use std::time::{Duration, Instant};

use super::bridge::Buses;
use super::chip::Chip;
use super::fault::{ChipAddress, Fault};
use super::logged;
use super::registers::{Conversion, Flags, Reading};
use super::settings::Ina260Chip;
use crate::metrics::{common, Rail, Readings, SeriesId};
use crate::sources::{Context, Error, Health};
use crate::sys::clock::BootTime;

/// Delay before a failed chip is tried again: at first, and at most.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(500);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);
/// Maximum time that one poll waits for conversions. The watchdog considers 200 ms a hang.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// No item of `Health`: while waiting, nothing is being read.
const NO_ITEM: u32 = u32::MAX;

/// A chip's address and series, and the open chip while it answers.
pub(super) struct ChipSlot<B: Buses> {
    address: ChipAddress,
    /// The bus, in the health's list of what is being read.
    item: u32,
    conversion: Conversion,
    rail: Rail,
    volts: SeriesId,
    amperes: SeriesId,
    /// Whether it is part of the board's total.
    pub(super) in_total: bool,
    state: SlotState<B::Bus>,
    retry_delay: Duration,
    last_error: Option<String>,
    /// The last error has not been reported yet.
    unreported: bool,
    has_complaint: bool,
}

enum SlotState<B> {
    /// Not to be opened before this time.
    Closed(BootTime),
    Open(Box<OpenChip<B>>),
}

struct OpenChip<B> {
    chip: Chip<B>,
    /// A conversion was triggered and has not ended.
    converting: bool,
    /// Since when polls have been waiting for a reading.
    waiting: Option<BootTime>,
    last: Option<Reading>,
}

impl<B: Buses> ChipSlot<B> {
    /// A slot whose chip is not open yet.
    pub(super) fn new(settings: &Ina260Chip, context: &Context, in_total: bool) -> ChipSlot<B> {
        let device = context
            .board
            .roots
            .dev
            .join(format!("i2c-{}", settings.bus));
        let rail = settings.rail();
        let group = &context.group;
        ChipSlot {
            item: context.health.path_id(&device),
            address: ChipAddress {
                device,
                bus: settings.bus,
                address: settings.address,
            },
            conversion: Conversion::of(settings, context.interval),
            rail: Rail::new(group, &rail),
            volts: common::rail_series(group, &common::voltage_volts(), &rail),
            amperes: common::rail_series(group, &common::current_amperes(), &rail),
            in_total,
            state: SlotState::Closed(BootTime::default()),
            retry_delay: MIN_RETRY_DELAY,
            last_error: None,
            unreported: false,
            has_complaint: false,
        }
    }

    /// How long a poll waits for this chip's reading. Zero for slow conversions: their last reading is kept until the next.
    pub(super) fn wait_time(&self) -> Duration {
        let time = self.conversion.time();
        let margin = time / 4 + Duration::from_millis(1);
        Some(time + margin)
            .filter(|wait_time| *wait_time <= MAX_WAIT)
            .unwrap_or_default()
    }

    /// Reads the chip, opening it if necessary. Publishes the reading and returns its watts; `Ok(None)` if there is no
    /// reading yet.
    pub(super) fn poll(
        &mut self,
        out: &mut Readings,
        poll: &PollContext<'_, B>,
    ) -> Result<Option<f64>, Error> {
        if let SlotState::Closed(until) = self.state {
            if out.at < until {
                let last_error = self.last_error.clone().unwrap_or_default();
                return Err(Error::new(last_error));
            }
        }
        match self.read(out.at, poll) {
            Ok(reading) => {
                if self.last_error.take().is_some() {
                    log::info!("ina260: {} can be read again", self.description());
                }
                let Some(reading) = reading else {
                    self.rail.hold_energy(out);
                    return Ok(None);
                };
                self.retry_delay = MIN_RETRY_DELAY;
                let volts = out.try_set(self.volts, reading.volts);
                let amperes = out.try_set(self.amperes, reading.amperes);
                // If voltage or current is implausible, so is the power.
                let watts = volts.and(amperes).map(|_| reading.watts);
                Ok(watts.and_then(|watts| self.rail.set_watts(out, watts)))
            }
            Err(fault) => Err(self.failed(&fault, out.at, poll)),
        }
    }

    /// Opens the chip if it is not open yet.
    pub(super) fn open(&mut self, now: BootTime, poll: &PollContext<'_, B>) -> Result<(), Error> {
        match self.opened(poll) {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.failed(&fault, now, poll)),
        }
    }

    /// Checks whether the chip lost its configuration, as by an interrupted supply.
    pub(super) fn check(&mut self, now: BootTime, poll: &PollContext<'_, B>) {
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

    fn description(&self) -> String {
        let ChipAddress {
            device, address, ..
        } = &self.address;
        format!("the chip at {address:#04x} on {}", device.display())
    }

    #[cold]
    fn failed(&mut self, fault: &Fault, now: BootTime, poll: &PollContext<'_, B>) -> Error {
        if !fault.leaves_the_chip_configured() {
            let retry_delay = u64::try_from(self.retry_delay.as_nanos()).unwrap_or(u64::MAX);
            self.state = SlotState::Closed(BootTime(now.0.saturating_add(retry_delay)));
            self.retry_delay = (self.retry_delay * 2).min(MAX_RETRY_DELAY);
        }
        poll.context.health.count_error();
        let error = fault.explain(&self.address);
        let text = error.to_string();
        self.unreported |= self.last_error.as_ref() != Some(&text);
        self.last_error = Some(text);
        error
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
            log::warn!("ina260: {last_error}");
        }
        health.set_value_error(&self.address.key(), complaint.cloned());
    }

    /// The open chip, which is identified and configured first if necessary.
    fn opened(&mut self, poll: &PollContext<'_, B>) -> Result<&mut OpenChip<B::Bus>, Fault> {
        if let SlotState::Closed(_) = self.state {
            let chip = self.start(poll)?;
            self.state = SlotState::Open(Box::new(OpenChip {
                chip,
                // Configuring the chip starts a conversion.
                converting: true,
                waiting: None,
                last: None,
            }));
        }
        match &mut self.state {
            SlotState::Open(open) => Ok(open),
            SlotState::Closed(_) => Err(Fault::NotConverting),
        }
    }

    fn start(&self, poll: &PollContext<'_, B>) -> Result<Chip<B::Bus>, Fault> {
        let ChipAddress {
            device,
            bus,
            address,
        } = &self.address;
        let health = &poll.context.health;
        if health.is_excluded(device) {
            return Err(Fault::Excluded);
        }
        health.begin_read(self.item);
        let mut opened = poll.buses.open(device).map_err(Fault::NotOpen)?;
        if let Err(error) = poll.buses.claim(&mut opened, *address) {
            return Err(match error.raw_os_error() {
                Some(nix::libc::EBUSY) => Fault::InUse(driver(poll.context, *bus, *address)),
                number => Fault::Transfer(number),
            });
        }
        let time = self.conversion.time();
        if time > poll.context.interval {
            let milliseconds = time.as_secs_f64() * 1e3;
            log::info!(
                "ina260: {} takes {milliseconds} ms for a reading, longer than the interval",
                self.description()
            );
        }
        Chip::start(opened, *address, self.conversion)
    }

    fn read(&mut self, now: BootTime, poll: &PollContext<'_, B>) -> Result<Option<Reading>, Fault> {
        let (item, time) = (self.item, self.conversion.time());
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
        let Some(flags) = open.converted(item, time, poll, is_recorded)? else {
            let since = *open.waiting.get_or_insert(now);
            let max_wait = time.as_secs_f64() * 3.0 + 1.0;
            return if now.seconds_since(since) > max_wait {
                Err(Fault::NotConverting)
            } else {
                Ok(open.last)
            };
        };
        let raw = open.chip.read(flags.overflow)?;
        open.waiting = None;
        open.converting = false;
        let reading = raw.reading().ok_or(Fault::ImplausibleVoltage)?;
        open.last = Some(reading);
        Ok(Some(reading))
    }
}

impl<B: embedded_hal::i2c::I2c<Error: super::bridge::Errno>> OpenChip<B> {
    /// Waits for a conversion to end, until the poll's deadline. `None` if it has not ended.
    fn converted<S: Buses>(
        &mut self,
        item: u32,
        time: Duration,
        poll: &PollContext<'_, S>,
        is_recorded: impl Fn() -> bool,
    ) -> Result<Option<Flags>, Fault> {
        let Context { health, stop, .. } = poll.context;
        // Often enough to lose little time, rarely enough to keep the bus free.
        let step = (time / 8).max(Duration::from_micros(100));
        loop {
            health.begin_read(item);
            let flags = self.chip.flags()?;
            if flags.ready {
                return Ok(Some(flags));
            }
            let next = Instant::now() + step;
            if next > poll.deadline || stop.is_set() {
                return Ok(None);
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
fn driver(context: &Context, bus: u32, address: u8) -> Option<String> {
    let device = format!("bus/i2c/devices/{bus}-{address:04x}/driver");
    let link = std::fs::read_link(context.board.roots.sysfs.join(device)).ok()?;
    Some(link.file_name()?.to_str()?.to_string())
}
