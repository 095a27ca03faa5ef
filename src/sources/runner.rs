//! A thread per source: opens it, polls it at its pace, publishes, and begins again where it fails.

mod replay;

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
use crate::sys::stop::Woken;

/// How long to wait before opening a source again: at first, and at most.
const REOPEN_FIRST: Duration = Duration::from_secs(1);
const REOPEN_LONGEST: Duration = Duration::from_secs(60);
/// So many polls may fail in a row before the source is opened anew.
const FAILURES_BEFORE_REOPEN: u32 = 3;
/// How often to look for devices that came or went.
const RESCAN: Duration = Duration::from_secs(30);
/// A poll may take its interval, but never less than this: a busy board is not a stuck meter.
const LEAST_STUCK: Duration = Duration::from_millis(200);
/// Sources need little stack: no recursion, and no buffer larger than a few pages.
const STACK: usize = 256 * 1024;

/// What the threads of one source share.
struct Shared {
    meter: &'static Meter,
    /// What the log calls it: the meter, and which of its devices.
    name: String,
    context: Context,
    /// The run that may go on; an earlier one, stuck in a read and come back, ends.
    generation: AtomicU64,
}

impl Shared {
    fn is_current(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) == generation && !self.context.stop.is_set()
    }
}

/// A source that runs.
pub struct Running {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    /// Starts the source's thread. It never fails: a thread that cannot be had is tried again by the watchdog.
    pub fn start(meter: &'static Meter, context: Context) -> Running {
        context.group.set_interval(context.interval);
        // With other settings it may know another total, or none.
        context.group.claim_total(None);
        let name = source_name(meter, &context.device);
        let shared = Arc::new(Shared {
            meter,
            name,
            context,
            generation: AtomicU64::new(0),
        });
        let running = Running {
            shared,
            thread: Mutex::new(None),
        };
        running.spawn();
        running
    }

    /// The meter.
    pub fn meter(&self) -> &'static Meter {
        self.shared.meter
    }

    /// Whether it reads this device of this meter, with these settings.
    pub fn matches(&self, meter: &Meter, device: &Device) -> bool {
        self.shared.meter.name == meter.name && self.shared.context.device == *device
    }

    /// What the log calls it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it works with: its group, health and settings.
    pub fn context(&self) -> &Context {
        &self.shared.context
    }

    /// Asks it to stop, without waiting.
    pub fn stop(&self) {
        self.shared.context.stop.set();
    }

    /// Waits for its thread to end, until `deadline`; one that hangs in a read is left behind.
    pub fn join(&self, deadline: Instant) {
        let Some(thread) = lock::lock(&self.thread).take() else {
            return;
        };
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                log::warn!("{} does not end: it hangs in a read", self.name());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = thread.join();
    }

    /// If the source hangs in one value, leaves that value alone and goes on with the others in a new thread. Called
    /// every so often by the watchdog.
    pub fn watch(&self, now: BootTime) {
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
        let longest_poll = LEAST_STUCK.max(*interval);
        let Some(path) = health.stuck_in(now, longest_poll, LEAST_STUCK) else {
            return;
        };
        // Until the new thread has begun, there is no poll to be stuck in.
        health.idle();
        health.count_error();
        health.exclude(&path, self.shared.generation.load(Ordering::Relaxed));
        log::warn!(
            "{}: reading {} takes longer than the interval ({} s): this value is left out for now",
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
            .stack_size(STACK)
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

fn run(shared: &Shared, generation: u64) {
    let Context { health, stop, .. } = &shared.context;
    if let Some(playing) = health.io_log().playing() {
        return replay::run(shared, generation, playing);
    }
    let name = &shared.name;
    let mut backoff = REOPEN_FIRST;
    let mut kept = None;
    while shared.is_current(generation) {
        health.poll_begins(BootTime::now());
        let opened = match kept.take() {
            Some(source) => Ok(source),
            None => {
                health.io_log().begins(Step::Open);
                (shared.meter.open)(&shared.context)
            }
        };
        if !shared.is_current(generation) {
            break;
        }
        health.idle();
        let read_before = shared.context.group.read_at();
        let failed = opened.and_then(|mut source| {
            let outcome = poll_until_it_fails(shared, generation, &mut *source);
            kept = Some(source).filter(|source| source.lasts());
            outcome
        });
        let Err(error) = failed else {
            break;
        };
        health.count_error();
        shared.context.group.settle();
        if health.set_error(Some(error.to_string())) {
            log::warn!("{name}: {error}");
        }
        if shared.context.group.read_at() != read_before {
            backoff = REOPEN_FIRST;
        }
        let pause = error.resting().map_or(backoff, |rest| rest.max(backoff));
        if stop.wait_until(Instant::now() + pause) == Woken::Stop {
            break;
        }
        backoff = (backoff * 2).min(REOPEN_LONGEST);
    }
    health.released(generation);
}

/// One poll, as if at `began`, whose readings are published; false if there are none. `None`: this run is to end, and what
/// it read is not published.
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
    // A source that waits for its device says when it came to an end of waiting.
    health.poll_ended(readings.at, BootTime::now());
    health.refused(&shared.name, group, readings);
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

/// Has the source look for devices that came or went.
pub(super) fn rescan(source: &mut dyn Source, health: &Health) {
    source.rescan();
    health.forget_gone();
}

/// Polls an open source until it is to be opened anew (why, is the error), or until this run is to end.
fn poll_until_it_fails(
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
    let mut rescan_at = Instant::now() + RESCAN;
    let mut failures = 0;
    loop {
        let began = match shared.meter.pace {
            // It is the device's events that count, and they have a time of their own.
            Pace::Device => BootTime::now(),
            Pace::Interval | Pace::AtLeast(_) => health.io_log().begins(Step::Poll),
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
                    || error.resting().is_some() =>
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
            rescan_at = now + RESCAN;
            health.poll_begins(health.io_log().begins(Step::Rescan));
            rescan(source, health);
            if !shared.is_current(generation) {
                return Ok(());
            }
            health.idle();
        }
        if shared.meter.pace != Pace::Device {
            let (next, missed) = ticker.next(Instant::now());
            if missed > 0 {
                health.count_missed(missed);
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
