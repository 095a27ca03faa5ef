//! The thread of a source: opens the source, polls it at its pace, publishes the values, and opens it again after failures.

mod replay;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::io_log::Step;
use super::ticker::Ticker;
use super::{source_name, Context, Device, Error, Health, Meter, Pace, Source};
use crate::metrics::{staleness_limit, Readings};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::realtime;
use crate::sys::reason;
use crate::sys::stop::Woken;

/// The delay before a failed source is opened again: at first, and at most.
const MIN_REOPEN_DELAY: Duration = Duration::from_secs(1);
const MAX_REOPEN_DELAY: Duration = Duration::from_secs(60);
/// The number of failed polls in a row after which the source is opened again.
const FAILURES_BEFORE_REOPEN: u32 = 3;
/// The time between two scans for devices that were added or removed.
const RESCAN_INTERVAL: Duration = Duration::from_secs(30);
/// A poll or a read counts as stuck only after this long, however short the interval: on a busy board, a poll may take
/// longer than the interval without being stuck.
const MIN_STUCK_TIME: Duration = Duration::from_millis(200);
/// Intervals up to this are short beside the kernel's timer slack of 50 µs.
const SHORT_INTERVAL: Duration = Duration::from_millis(10);
/// The stack of a source's thread. Sources do not recurse, and have no buffer larger than a few pages.
const STACK_BYTES: usize = 256 * 1024;

/// The state that the threads of one source share. There are several threads only while earlier ones hang in a read.
struct Shared {
    meter: &'static Meter,
    /// The source's name in the log.
    name: String,
    context: Context,
    /// The generation of the current thread. A thread of an earlier generation ends as soon as its read returns.
    generation: AtomicU64,
}

impl Shared {
    fn is_current(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) == generation && !self.context.stop.is_set()
    }
}

/// A source with its thread.
pub struct RunningSource {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RunningSource {
    /// Starts the source's thread. If no thread can be created, [`RunningSource::restart_if_stuck`] tries again.
    pub fn start(meter: &'static Meter, context: Context) -> RunningSource {
        context.group.set_interval(context.interval);
        // With its new settings the source may have another total of the board's power, or none.
        context.group.claim_total(None);
        let name = source_name(meter, &context.device);
        let shared = Arc::new(Shared {
            meter,
            name,
            context,
            generation: AtomicU64::new(0),
        });
        let running = RunningSource {
            shared,
            thread: Mutex::new(None),
        };
        running.spawn();
        running
    }

    /// The source's meter.
    pub fn meter(&self) -> &'static Meter {
        self.shared.meter
    }

    /// Whether this source reads this device of this meter, with these settings.
    pub fn matches(&self, meter: &Meter, device: &Device) -> bool {
        self.shared.meter.name == meter.name && self.shared.context.device == *device
    }

    /// The source's name in the log.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The source's group, health and settings.
    pub fn context(&self) -> &Context {
        &self.shared.context
    }

    /// Asks the thread to end, without waiting for it.
    pub fn stop(&self) {
        self.shared.context.stop.set();
    }

    /// Waits for the thread to end. A thread that hangs in a read is left behind at `deadline`.
    pub fn join(&self, deadline: Instant) {
        let Some(thread) = lock::lock(&self.thread).take() else {
            return;
        };
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                log::warn!("{} does not stop: a read hangs", self.name());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = thread.join();
    }

    /// Starts a new thread if reading one value is stuck. The value is excluded, and the new thread reads the others.
    /// Called regularly by the watchdog. Sources that wait for their device time out by themselves.
    pub fn restart_if_stuck(&self, now: BootTime) {
        let Context {
            health, interval, ..
        } = &self.shared.context;
        if self.shared.context.stop.is_set() {
            return;
        }
        if lock::lock(&self.thread).is_none() {
            self.spawn();
            return;
        }
        if self.shared.meter.pace == Pace::Device {
            return;
        }
        let max_poll = MIN_STUCK_TIME.max(*interval);
        let Some(path) = health.stuck_in(now, max_poll, MIN_STUCK_TIME) else {
            return;
        };
        // Keeps the watchdog from seeing the old poll as stuck again before the new thread's first poll.
        health.idle();
        health.count_error();
        health.exclude(&path, self.shared.generation.load(Ordering::Relaxed));
        log::warn!(
            "{}: reading {} takes longer than the interval ({} s): the value is skipped for now",
            self.name(),
            path.display(),
            interval.as_secs_f64()
        );
        self.spawn();
    }

    fn spawn(&self) {
        let generation = self.shared.context.group.new_generation();
        self.shared.generation.store(generation, Ordering::Release);
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new()
            .name(self.name().to_string())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&shared, generation));
        let mut thread = lock::lock(&self.thread);
        match spawned {
            Ok(handle) => *thread = Some(handle),
            Err(error) => {
                *thread = None;
                log::error!("cannot start a thread for {}: {error}", self.name());
            }
        }
    }
}

/// The body of a source's thread: opens and polls the source until it is stopped or a new thread takes over.
fn run(shared: &Shared, generation: u64) {
    let Context { health, stop, .. } = &shared.context;
    if let Some(replay) = health.io_log().replay() {
        return replay::run(shared, generation, replay);
    }
    let name = &shared.name;
    pace_thread(shared);
    let mut delay = MIN_REOPEN_DELAY;
    // A source that reconnects by itself stays open.
    let mut still_open = None;
    while shared.is_current(generation) {
        health.poll_begins(BootTime::now());
        let opened = match still_open.take() {
            Some(source) => Ok(source),
            None => {
                health.io_log().begin_step(Step::Open);
                (shared.meter.open)(&shared.context)
            }
        };
        if !shared.is_current(generation) {
            break;
        }
        health.idle();
        let read_before = shared.context.group.read_at();
        let result = opened.and_then(|mut source| {
            let result = poll_until_failure(shared, generation, &mut *source);
            still_open = Some(source).filter(|source| source.reconnects());
            result
        });
        let Err(error) = result else {
            break;
        };
        health.count_error();
        shared.context.group.settle();
        if health.set_error(Some(error.to_string())) {
            log::warn!("{name}: {error}");
        }
        if shared.context.group.read_at() != read_before {
            delay = MIN_REOPEN_DELAY;
        }
        let pause = error.min_retry_delay().map_or(delay, |min| min.max(delay));
        if stop.wait_until(Instant::now() + pause) == Woken::Stop {
            break;
        }
        delay = (delay * 2).min(MAX_REOPEN_DELAY);
    }
    health.release_excluded(generation);
}

/// Sets how exactly this thread is woken: with real-time priority, if that is configured, and without the kernel's usual timer slack
/// of 50 µs where that is much of the interval.
fn pace_thread(shared: &Shared) {
    let Context {
        health,
        config,
        interval,
        ..
    } = &shared.context;
    if shared.meter.pace == Pace::Device {
        return;
    }
    if *interval <= SHORT_INTERVAL {
        realtime::limit_timer_slack(interval.as_nanos() as u64 / 100);
    }
    // Devices on a network are waited for: a priority would not make them faster, and would go to reading their answers.
    let result = match config.realtime && shared.meter.devices.is_none() {
        true => realtime::prioritize(),
        false => Ok(()),
    };
    let why = result.err().map(|errno| {
        format!(
            "cannot set real-time priority: {} (`realtime: true` needs CAP_SYS_NICE: use the drop-in realtime.conf)",
            reason(&errno.into())
        )
    });
    if let Some(why) = &why {
        log::warn!("{}: {why}", shared.name);
    }
    health.set_value_error(Path::new("real-time priority"), why);
}

/// Polls the source once, at the time `began`, and publishes its readings. Returns whether there were any. `None`: this
/// thread must end, and the readings are not published.
fn poll(
    shared: &Shared,
    generation: u64,
    source: &mut dyn Source,
    readings: &mut Readings,
    began: BootTime,
) -> Option<Result<bool, Error>> {
    let Context { group, health, .. } = &shared.context;
    readings.begin(began);
    let polled = source.poll(readings);
    if !shared.is_current(generation) {
        return None;
    }
    // The duration of a poll that waits for its device counts from when the device sent something: `readings.at`.
    health.poll_ended(readings.at, BootTime::now());
    health.record_refused(&shared.name, group, readings);
    Some(polled.map(|()| {
        if readings.is_empty() && !readings.suspended {
            return false;
        }
        group.publish(generation, readings);
        if health.set_error(None) {
            log::info!("{}: reading", shared.name);
        }
        true
    }))
}

/// Lets the source look for devices that were added or removed.
pub(super) fn rescan(source: &mut dyn Source, health: &Health) {
    source.rescan();
    health.forget_removed();
}

/// Polls an open source until it must be opened again, which the error explains, or until this thread must end.
fn poll_until_failure(
    shared: &Shared,
    generation: u64,
    source: &mut dyn Source,
) -> Result<(), Error> {
    let Context {
        health,
        stop,
        interval,
        ..
    } = &shared.context;
    let mut readings = Readings::new(staleness_limit(*interval).as_secs_f64());
    let mut ticker = Ticker::new(Instant::now(), *interval);
    let mut rescan_at = Instant::now() + RESCAN_INTERVAL;
    let mut failures = 0;
    loop {
        let began = match shared.meter.pace {
            // No step is recorded: the device's events are, with their own times.
            Pace::Device => BootTime::now(),
            Pace::Interval | Pace::AtLeast(_) => health.io_log().begin_step(Step::Poll),
        };
        health.poll_begins(began);
        let Some(polled) = poll(shared, generation, source, &mut readings, began) else {
            health.io_log().discard(began);
            return Ok(());
        };
        match polled {
            Ok(false) => failures += 1,
            Ok(true) => failures = 0,
            Err(error)
                if failures + 1 >= FAILURES_BEFORE_REOPEN
                    || shared.meter.pace == Pace::Device
                    || error.min_retry_delay().is_some() =>
            {
                return Err(error);
            }
            Err(error) => {
                failures += 1;
                health.count_error();
                if health.set_error(Some(error.to_string())) {
                    log::warn!("{}: {error}", shared.name);
                }
            }
        }
        if failures >= FAILURES_BEFORE_REOPEN {
            return Err(Error::new(match readings.rejected() {
                [] => "none of its values can be read",
                _ => "none of its values is plausible",
            }));
        }
        let now = Instant::now();
        if now >= rescan_at {
            rescan_at = now + RESCAN_INTERVAL;
            health.poll_begins(health.io_log().begin_step(Step::Rescan));
            rescan(source, health);
            if !shared.is_current(generation) {
                return Ok(());
            }
            health.idle();
        }
        if shared.meter.pace != Pace::Device {
            let (next, missed) = ticker.next(Instant::now());
            if missed > 0 {
                health.count_missed_ticks(missed);
            }
            if stop.wait_until(next) == Woken::Stop {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[path = "runner/tests.rs"]
mod tests;
