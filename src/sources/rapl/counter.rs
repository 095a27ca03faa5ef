//! The counters of domains: how each is read, and what is said while it cannot be.

use std::path::PathBuf;
use std::sync::Arc;

use super::perf::EventCounter;
use super::registers::Register;
use crate::metrics::{CounterUnwrap, Readings};
use crate::sources::{Attribute, Error, Health};
use crate::sys::clock::BootTime;

/// How a domain's counter is read.
#[derive(Debug)]
pub(super) enum Counter {
    /// A powercap zone's `energy_uj`.
    Zone(Attribute),
    /// An event of the kernel's.
    Event(EventCounter),
    /// A model-specific register.
    Register(Register),
    /// The sum of the counters of all cores.
    Sum(Sum),
}

impl Counter {
    /// The counter's value, in its unit; `None` if it cannot be read.
    #[inline]
    pub(super) fn read(&mut self, out: &Readings) -> Option<u64> {
        match self {
            Counter::Sum(sum) => sum.read(out.at, out.max_gap),
            other => other.read_one(),
        }
    }

    #[inline]
    fn read_one(&mut self) -> Option<u64> {
        match self {
            Counter::Zone(energy) => energy.read().and_then(|value| u64::try_from(value).ok()),
            Counter::Event(event) => event.read(),
            Counter::Register(register) => register.read(),
            Counter::Sum(_) => None,
        }
    }
}

/// The sum of several counters, which does not wrap.
#[derive(Debug)]
pub(super) struct Sum {
    parts: Vec<(Counter, CounterUnwrap)>,
    total: u64,
    read_at: Option<BootTime>,
}

impl Sum {
    /// The sum of counters that wrap at `range` (0: never).
    pub(super) fn new(parts: Vec<Counter>, range: u64) -> Sum {
        let unwrapped = |part| (part, CounterUnwrap::new(range));
        Sum {
            parts: parts.into_iter().map(unwrapped).collect(),
            total: 0,
            read_at: None,
        }
    }

    /// The sum; `None` if a part cannot be read. What that part counts meanwhile is added when it can be read again.
    fn read(&mut self, at: BootTime, max_gap: f64) -> Option<u64> {
        let then = self.read_at.replace(at);
        let silent = then.is_some_and(|then| at.seconds_since(then) > max_gap);
        let (mut complete, mut reset) = (true, false);
        for (part, counter) in &mut self.parts {
            let Some(raw) = part.read_one() else {
                complete = false;
                continue;
            };
            let counted = match silent {
                true => counter.advance_after_silence(raw),
                false => counter.advance(raw),
            };
            self.total = self.total.saturating_add(counted.unwrap_or(0));
            reset |= silent && counted.is_none();
        }
        if reset {
            // A sum that falls makes the caller treat it as reset, since a part of it is unknown.
            self.total = 0;
        }
        complete.then_some(self.total)
    }
}

/// Whether reading a counter fails: changes are logged and shown, failures counted.
#[derive(Debug)]
pub(super) struct ReadState {
    health: Arc<Health>,
    /// The counter's name for people, a path and what is read there.
    name: PathBuf,
    failing: bool,
}

impl ReadState {
    pub(super) fn new(health: &Arc<Health>, name: impl Into<PathBuf>) -> ReadState {
        ReadState {
            health: Arc::clone(health),
            name: name.into(),
            failing: false,
        }
    }

    #[inline]
    pub(super) fn value(&mut self, read: Result<u64, Error>) -> Option<u64> {
        match read {
            Ok(value) => {
                if self.failing {
                    self.recovered();
                }
                Some(value)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    #[cold]
    fn failed(&mut self, error: &Error) {
        self.health.count_error();
        if !self.failing {
            self.failing = true;
            let why = Some(error.to_string());
            self.health.set_value_error(&self.name, why);
            log::warn!("{error}");
        }
    }

    #[cold]
    fn recovered(&mut self) {
        self.failing = false;
        self.health.set_value_error(&self.name, None);
        log::info!("{} can be read again", self.name.display());
    }
}

impl Drop for ReadState {
    fn drop(&mut self) {
        if self.failing {
            self.health.set_value_error(&self.name, None);
        }
    }
}
