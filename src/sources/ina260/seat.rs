//! One configured chip, whether it answers or not.

use std::time::{Duration, Instant};

use super::bridge::Buses;
use super::chip::Chip;
use super::fault::{Fault, Place};
use super::logged;
use super::registers::{Conversion, Flags, Reading};
use super::settings::Ina260Chip;
use crate::metrics::{common, Rail, Readings, SeriesId};
use crate::sources::{Context, Error, Health};
use crate::sys::clock::BootTime;

/// How long a chip that failed is left alone: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// The longest that one poll waits for chips to convert. The watchdog takes 200 ms for a hang.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// An item of `Health` that is none: waiting is no reading.
const NOTHING: u32 = u32::MAX;

/// A chip's place, its series, and the chip itself while it answers.
pub(super) struct Seat<B: Buses> {
    place: Place,
    /// The bus, in the health's list of what is being read.
    item: u32,
    conversion: Conversion,
    rail: Rail,
    volts: SeriesId,
    amperes: SeriesId,
    /// Whether it is a summand of the board's total.
    pub(super) is_of_total: bool,
    state: State<B::Bus>,
    pause: Duration,
    trouble: Option<String>,
    /// The trouble is new, and has not been told yet.
    unsaid: bool,
    complained: bool,
}

enum State<B> {
    /// Not to be tried before this moment.
    Away(BootTime),
    Here(Box<Here<B>>),
}

struct Here<B> {
    chip: Chip<B>,
    /// A conversion was asked for, and has not ended (of one that converts only when told).
    converting: bool,
    /// Since when a reading has been waited for.
    waiting: Option<BootTime>,
    last: Option<Reading>,
}

impl<B: Buses> Seat<B> {
    /// A seat with nobody in it yet.
    pub(super) fn new(settings: &Ina260Chip, context: &Context, is_of_total: bool) -> Seat<B> {
        let device = context
            .board
            .roots
            .dev
            .join(format!("i2c-{}", settings.bus));
        let rail = settings.rail();
        let group = &context.group;
        Seat {
            item: context.health.path_id(&device),
            place: Place {
                device,
                bus: settings.bus,
                address: settings.address,
            },
            conversion: Conversion::of(settings, context.interval),
            rail: Rail::new(group, &rail),
            volts: common::of_rail(group, &common::voltage_volts(), &rail),
            amperes: common::of_rail(group, &common::current_amperes(), &rail),
            is_of_total,
            state: State::Away(BootTime::default()),
            pause: PAUSE_FIRST,
            trouble: None,
            unsaid: false,
            complained: false,
        }
    }

    /// Until when a poll that begins now waits for this chip's reading. One that takes long is not waited for: its
    /// last one stands until the next.
    pub(super) fn patience(&self) -> Duration {
        let time = self.conversion.time();
        let margin = time / 4 + Duration::from_millis(1);
        Some(time + margin)
            .filter(|patience| *patience <= LONGEST_WAIT)
            .unwrap_or_default()
    }

    /// Reads the chip, or tries to have it. Publishes what was read, and returns its watts; `Ok(None)` if it has not
    /// converted yet.
    pub(super) fn poll(
        &mut self,
        out: &mut Readings,
        work: &Work<'_, B>,
    ) -> Result<Option<f64>, Error> {
        if let State::Away(until) = self.state {
            if out.at < until {
                let trouble = self.trouble.clone().unwrap_or_default();
                return Err(Error::new(trouble));
            }
        }
        match self.read(out.at, work) {
            Ok(reading) => {
                if self.trouble.take().is_some() {
                    log::info!("ina260: {} can be read again", self.named());
                }
                let Some(reading) = reading else {
                    self.rail.awaited(out);
                    return Ok(None);
                };
                self.pause = PAUSE_FIRST;
                let volts = out.take(self.volts, reading.volts);
                let amperes = out.take(self.amperes, reading.amperes);
                // Of a chip that says what it cannot measure, the power is not its power either.
                let watts = volts.and(amperes).map(|_| reading.watts);
                Ok(watts.and_then(|watts| self.rail.watts(out, watts)))
            }
            Err(fault) => Err(self.failed(&fault, out.at, work)),
        }
    }

    /// Takes hold of the chip if it is not held yet.
    pub(super) fn open(&mut self, now: BootTime, work: &Work<'_, B>) -> Result<(), Error> {
        match self.have(work) {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.failed(&fault, now, work)),
        }
    }

    /// Looks whether the chip lost its supply for a moment, and with it its configuration.
    pub(super) fn check(&mut self, now: BootTime, work: &Work<'_, B>) {
        let State::Here(here) = &mut self.state else {
            return;
        };
        work.context.health.begin_read(self.item);
        let fault = match here.chip.is_configured() {
            Ok(true) => return,
            Ok(false) => Fault::Reset,
            Err(fault) => fault,
        };
        self.failed(&fault, now, work);
        // It answers: there is nothing to wait for.
        if let Fault::Reset = fault {
            self.state = State::Away(BootTime::default());
        }
    }

    fn named(&self) -> String {
        let Place {
            device, address, ..
        } = &self.place;
        format!("the chip at {address:#04x} on {}", device.display())
    }

    #[cold]
    fn failed(&mut self, fault: &Fault, now: BootTime, work: &Work<'_, B>) -> Error {
        if !fault.spares_the_chip() {
            let pause = u64::try_from(self.pause.as_nanos()).unwrap_or(u64::MAX);
            self.state = State::Away(BootTime(now.0.saturating_add(pause)));
            self.pause = (self.pause * 2).min(PAUSE_LONGEST);
        }
        work.context.health.count_error();
        let error = fault.explain(&self.place);
        let text = error.to_string();
        self.unsaid |= self.trouble.as_ref() != Some(&text);
        self.trouble = Some(text);
        error
    }

    /// Tells what is wrong, once; unless it is `said` anyway.
    pub(super) fn report(&mut self, health: &Health, said: Option<&Error>) {
        let said = said.map(Error::to_string);
        let news = std::mem::take(&mut self.unsaid);
        let complaint = self.trouble.as_ref().filter(|t| said.as_ref() != Some(t));
        if !news && complaint.is_some() == self.complained {
            return;
        }
        self.complained = complaint.is_some();
        if let Some(trouble) = complaint.filter(|_| news) {
            log::warn!("ina260: {trouble}");
        }
        health.set_value_error(&self.place.key(), complaint.cloned());
    }

    /// The chip; identified and configured first, if it is not held yet.
    fn have(&mut self, work: &Work<'_, B>) -> Result<&mut Here<B::Bus>, Fault> {
        if let State::Away(_) = self.state {
            let chip = self.start(work)?;
            self.state = State::Here(Box::new(Here {
                chip,
                // Configuring it began one.
                converting: true,
                waiting: None,
                last: None,
            }));
        }
        match &mut self.state {
            State::Here(here) => Ok(here),
            State::Away(_) => Err(Fault::Idle),
        }
    }

    fn start(&self, work: &Work<'_, B>) -> Result<Chip<B::Bus>, Fault> {
        let Place {
            device,
            bus,
            address,
        } = &self.place;
        let health = &work.context.health;
        if health.is_excluded(device) {
            return Err(Fault::LeftAlone);
        }
        health.begin_read(self.item);
        let mut opened = work.buses.open(device).map_err(Fault::NotOpen)?;
        if let Err(error) = work.buses.claim(&mut opened, *address) {
            return Err(match error.raw_os_error() {
                Some(nix::libc::EBUSY) => Fault::Held(driver(work.context, *bus, *address)),
                number => Fault::Transfer(number),
            });
        }
        let time = self.conversion.time();
        if time > work.context.interval {
            let milliseconds = time.as_secs_f64() * 1e3;
            log::info!(
                "ina260: {} takes {milliseconds} ms for a reading, longer than the interval",
                self.named()
            );
        }
        Chip::start(opened, *address, self.conversion)
    }

    fn read(&mut self, now: BootTime, work: &Work<'_, B>) -> Result<Option<Reading>, Fault> {
        let (item, time) = (self.item, self.conversion.time());
        let io_log = work.context.health.io_log().clone();
        let Place {
            device, address, ..
        } = &self.place;
        let chip =
            (!io_log.is_off()).then(|| format!("{} {address:#04x}", logged::key(&io_log, device)));
        let said = || chip.as_ref().is_some_and(|chip| io_log.has_pending(chip));
        let here = self.have(work)?;
        work.context.health.begin_read(item);
        if !here.converting {
            here.chip.trigger()?;
            here.converting = true;
        }
        let Some(flags) = here.converted(item, time, work, said)? else {
            let since = *here.waiting.get_or_insert(now);
            let longest = time.as_secs_f64() * 3.0 + 1.0;
            return if now.seconds_since(since) > longest {
                Err(Fault::Idle)
            } else {
                Ok(here.last)
            };
        };
        let raw = here.chip.read(flags.overflow)?;
        here.waiting = None;
        here.converting = false;
        let reading = raw.reading().ok_or(Fault::Nonsense)?;
        here.last = Some(reading);
        Ok(Some(reading))
    }
}

impl<B: embedded_hal::i2c::I2c<Error: super::bridge::Errno>> Here<B> {
    /// Waits for a conversion to end, as long as this poll may. `None` if it did not.
    fn converted<S: Buses>(
        &mut self,
        item: u32,
        time: Duration,
        work: &Work<'_, S>,
        said: impl Fn() -> bool,
    ) -> Result<Option<Flags>, Fault> {
        let Context { health, stop, .. } = work.context;
        // Often enough to lose little, rarely enough to leave the bus free.
        let step = (time / 8).max(Duration::from_micros(100));
        loop {
            health.begin_read(item);
            let flags = self.chip.flags()?;
            if flags.ready {
                return Ok(Some(flags));
            }
            let next = Instant::now() + step;
            if next > work.deadline || stop.is_set() {
                return Ok(None);
            }
            health.begin_read(NOTHING);
            // What it is known to have said, since that is being played, is not waited for.
            if !said() {
                stop.wait_until(next);
            }
        }
    }
}

/// What a poll works with.
pub(super) struct Work<'a, B> {
    pub(super) buses: &'a B,
    pub(super) context: &'a Context,
    /// Until when it may wait for conversions.
    pub(super) deadline: Instant,
}

/// Which driver of the kernel sits on this address.
fn driver(context: &Context, bus: u32, address: u8) -> Option<String> {
    let device = format!("bus/i2c/devices/{bus}-{address:04x}/driver");
    let link = std::fs::read_link(context.board.roots.sysfs.join(device)).ok()?;
    Some(link.file_name()?.to_str()?.to_string())
}
