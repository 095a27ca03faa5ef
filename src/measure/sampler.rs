//! Collects the readings of a meter in a thread of its own, so that the end of the command is noticed while a board answers
//! slowly.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::rail::{Quantity, Rail};
use super::window::{Measured, Window};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::stop::{Stop, Woken};

/// More rails are left out: no board has as many, but a hostile exporter may.
pub(super) const MAX_RAILS: usize = 1024;
/// How long the end of the thread is waited for.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Readings of one series, in the order of their times.
#[derive(Debug)]
pub struct Readings {
    /// What was read.
    pub rail: Rail,
    /// Whether it is power or energy.
    pub quantity: Quantity,
    /// A longer silence between two readings is not counted, in seconds.
    pub max_gap: f64,
    /// Seconds on the meter's clock, and values.
    pub values: Vec<(f64, f64)>,
}

/// A meter's clock: what it shows at a moment of this machine's boot time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Clock {
    /// The meter's clock minus boot time, in seconds.
    pub offset: f64,
    /// How wrong that may be, in seconds.
    pub uncertainty: f64,
}

impl Clock {
    /// The meter's time at this moment, in seconds.
    pub fn at(&self, moment: BootTime) -> f64 {
        moment.0 as f64 / 1e9 + self.offset
    }
}

impl Clock {
    /// Whether both may be right.
    fn agrees(&self, other: &Clock) -> bool {
        (self.offset - other.offset).abs() <= self.uncertainty + other.uncertainty
    }
}

/// A board whose readings are collected.
pub trait Meter: Send {
    /// The readings since the last call. An error is for people.
    fn collect(&mut self) -> Result<Vec<Readings>, String>;

    /// The clock of the readings, as known now.
    fn clock(&self) -> Clock;

    /// What has neither been read nor failed until now, by names for people.
    fn unsettled(&self) -> Vec<String>;

    /// Whether there may be rails later, though there are none now and everything is known.
    fn may_come(&self) -> bool;

    /// What people should know: sources that cannot be read, and the like.
    fn problems(&self) -> Vec<String>;

    /// How often the readings are to be collected.
    fn pause(&self) -> Duration;
}

/// What has been collected.
#[derive(Default)]
pub struct State {
    windows: BTreeMap<Rail, Window>,
    /// When the current window began, on the meter's clock, and what was known of that clock then.
    start: Option<(f64, Clock)>,
    /// The clock of the readings.
    pub clock: Clock,
    /// Why nothing could be collected last.
    pub error: Option<String>,
    /// See [`Meter::unsettled`]; `None` before the first round.
    pub unsettled: Option<Vec<String>>,
    /// See [`Meter::may_come`].
    pub may_come: bool,
    /// See [`Meter::problems`].
    pub problems: Vec<String>,
    /// The longest time from the begin of a round to the begin of the next one. A board that answers slowly takes long.
    longest_round: Duration,
    /// Rails beyond the limit.
    left_out: BTreeSet<Rail>,
}

impl State {
    /// Whether there is anything that measures.
    pub fn has_rails(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Whether everything that the board has is known.
    pub fn is_settled(&self) -> bool {
        self.unsettled.as_ref().is_some_and(Vec::is_empty)
    }

    /// Begins a window at this moment.
    pub fn begin(&mut self, moment: BootTime) {
        let start = self.clock.at(moment);
        self.start = Some((start, self.clock));
        self.windows.values_mut().for_each(|w| w.restart(start));
    }

    /// The clock of the current window: that of its begin, so that it is as long as it is on this machine; unless the clock is
    /// another one by now.
    fn window_clock(&self) -> Clock {
        match self.start {
            Some((_, clock)) if clock.agrees(&self.clock) => clock,
            _ => self.clock,
        }
    }

    /// Adds up the readings before this moment, which the window contains.
    pub fn add_up(&mut self, moment: BootTime) {
        let until = self.window_clock().at(moment);
        self.windows.values_mut().for_each(|w| w.add_up(until));
    }

    /// Whether all rails that are being read were read at or after this moment.
    pub fn is_read_at(&self, moment: BootTime) -> bool {
        let moment = self.window_clock().at(moment);
        // A rail that was last read before the window began is not being read.
        let start = self.start.map_or(f64::NEG_INFINITY, |(start, _)| start);
        let mut windows = self.windows.values().filter(|window| {
            let gap = window.max_gap();
            window.last_read_at().is_some_and(|at| at + gap >= start)
        });
        windows.all(|window| window.is_read_at(moment))
    }

    /// How long after a moment its readings can be expected, in seconds: two of the longest times between two readings of a
    /// rail, and two rounds, of which the first may have begun before.
    pub fn delay(&self) -> f64 {
        let spacings = self.windows.values().filter_map(Window::spacing);
        2.0 * (spacings.fold(0.0, f64::max) + self.longest_round.as_secs_f64())
    }

    /// What was measured up to this moment.
    pub fn finish(&mut self, moment: BootTime) -> BTreeMap<Rail, Measured> {
        let end = self.window_clock().at(moment);
        let windows = self.windows.iter_mut();
        windows
            .filter_map(|(rail, window)| Some((rail.clone(), window.finish(end)?)))
            .collect()
    }

    /// What people should know of limits.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if let Some(first) = self.left_out.first() {
            limits.push(format!(
                "there are more than {MAX_RAILS} rails: {first} and others are left out"
            ));
        }
        let overflowed = self.windows.iter().find(|(_, w)| w.overflowed());
        if let Some((rail, _)) = overflowed {
            limits.push(format!(
                "readings of {rail} came faster than they could be kept: some are lost"
            ));
        }
        limits
    }

    /// Takes what a round of the thread collected.
    pub(super) fn take(&mut self, collected: Result<Vec<Readings>, String>) {
        let series = match collected {
            Ok(series) => series,
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        self.error = None;
        for readings in series {
            let is_full = self.windows.len() >= MAX_RAILS;
            let window = match self.windows.entry(readings.rail) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) if is_full => {
                    if self.left_out.is_empty() {
                        self.left_out.insert(new.into_key());
                    }
                    continue;
                }
                Entry::Vacant(new) => {
                    let mut window = Window::new(readings.max_gap);
                    if let Some((start, _)) = self.start {
                        window.restart(start);
                    }
                    new.insert(window)
                }
            };
            window.set_max_gap(readings.max_gap);
            for (at, value) in readings.values {
                window.push(readings.quantity, at, value);
            }
        }
    }
}

/// The thread.
pub struct Sampler {
    state: Arc<Mutex<State>>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts collecting from the meter that `open` makes.
    pub fn start<M: Meter + 'static>(mut meter: M) -> Result<Sampler, String> {
        let state = Arc::<Mutex<State>>::default();
        let stop = Arc::<Stop>::default();
        let (shared, stopping) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("sampler".to_string())
            .spawn(move || loop {
                let began = Instant::now();
                let collected = meter.collect();
                let mut state = lock::lock(&shared);
                state.take(collected);
                state.longest_round = state.longest_round.max(began.elapsed() + meter.pause());
                state.clock = meter.clock();
                state.unsettled = Some(meter.unsettled());
                state.may_come = meter.may_come();
                state.problems = meter.problems();
                drop(state);
                if stopping.wait_until(Instant::now() + meter.pause()) == Woken::Stop {
                    return;
                }
            })
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Sampler {
            state,
            stop,
            thread: Some(thread),
        })
    }

    /// What has been collected.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock::lock(&self.state)
    }
}

impl Drop for Sampler {
    /// Ends the thread, and with it the meter. A request that is under way is not waited for.
    fn drop(&mut self) {
        self.stop.set();
        let deadline = Instant::now() + STOP_TIMEOUT;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(rail: &str, values: &[(f64, f64)]) -> Readings {
        Readings {
            rail: Rail::of("x", rail),
            quantity: Quantity::Power,
            max_gap: 5.0,
            values: values.to_vec(),
        }
    }

    #[test]
    fn windows_are_on_the_meters_clock() {
        let mut state = State {
            clock: Clock {
                offset: 1000.0,
                uncertainty: 0.0,
            },
            ..State::default()
        };
        let second = |n: u64| BootTime(n * 1_000_000_000);
        state.take(Ok(vec![readings("a", &[(1000.0, 2.0), (1001.0, 2.0)])]));
        state.begin(second(1));
        state.take(Ok(vec![
            readings("a", &[(1002.0, 2.0), (1004.0, 2.0)]),
            readings("late", &[(1003.0, 1.0), (1004.0, 1.0)]),
        ]));
        assert!(state.is_read_at(second(3)) && !state.is_read_at(second(5)));
        state.longest_round = Duration::from_millis(1500);
        assert_eq!(state.delay(), 2.0 * (2.0 + 1.5));
        state.add_up(second(2));
        let measured = state.finish(second(3));
        let a = measured.get(&Rail::of("x", "a")).unwrap();
        assert_eq!((a.joules, a.seconds), (4.0, 2.0));
        assert_eq!(measured.get(&Rail::of("x", "late")), None);
    }

    #[test]
    fn clock_that_is_known_better_changes_no_window_and_one_that_was_set_does() {
        let clock = |offset, uncertainty| Clock {
            offset,
            uncertainty,
        };
        let second = |n: u64| BootTime(n * 1_000_000_000);
        let mut state = State {
            clock: clock(1000.0, 0.01),
            ..State::default()
        };
        state.begin(second(1));
        let values = [(1000.0, 1.0), (1003.0, 1.0), (1014.0, 1.0)];
        let mut all = readings("a", &values);
        all.max_gap = 100.0;
        state.take(Ok(vec![all]));
        state.clock = clock(1000.005, 0.001);
        let a = Rail::of("x", "a");
        assert_eq!(state.finish(second(2))[&a].seconds, 1.0);
        state.clock = clock(1010.0, 0.001);
        assert_eq!(state.finish(second(2))[&a].seconds, 11.0);
    }

    #[test]
    fn rails_are_bounded_and_an_error_is_forgotten_when_it_is_over() {
        let mut state = State::default();
        state.take(Err("away".into()));
        assert_eq!(state.error.as_deref(), Some("away"));
        let many = (0..MAX_RAILS + 5).map(|n| readings(&n.to_string(), &[(1.0, 1.0)]));
        state.take(Ok(many.collect()));
        assert_eq!(state.error, None);
        assert_eq!(state.windows.len(), MAX_RAILS);
        assert_eq!(state.left_out.len(), 1);
        let limits = state.limits();
        assert!(limits[0].contains("more than 1024 rails"), "{limits:?}");
    }
}
