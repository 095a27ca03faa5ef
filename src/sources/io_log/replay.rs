//! Replaying one source's log: the recorded responses when the source requests them, and the recorded steps and events at
//! the recorded pace.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::line::{Response, Step};
use super::source_log::{EventKind, SourceLog};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::stop::{Stop, Woken};

/// When a recording is replayed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// The time that stands for the recording's beginning.
    pub(super) began: BootTime,
    /// Whether to replay without waiting: all of the recording is in the past.
    pub(super) at_once: bool,
}

impl Schedule {
    /// Replays from now at the recorded pace, or at once, with the recording's end now.
    pub(super) fn new(at_once: bool, length: u64) -> Schedule {
        let now = BootTime::now();
        let back = if at_once { length } else { 0 };
        Schedule {
            // Time 0 is reserved for "no time".
            began: BootTime(now.0.saturating_sub(back).max(1)),
            at_once,
        }
    }

    /// The time at which this moment of the recording is replayed.
    fn time_of(self, at: u64) -> BootTime {
        BootTime(self.began.0.saturating_add(at))
    }

    /// Waits until this moment of the recording is replayed.
    fn wait(self, at: u64, stop: &Stop) -> Woken {
        let left = self.time_of(at).0.saturating_sub(BootTime::now().0);
        if stop.is_set() {
            return Woken::Stop;
        }
        if self.at_once || left == 0 {
            return Woken::Time;
        }
        stop.wait_until(Instant::now() + Duration::from_nanos(left))
    }
}

/// The next step of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// The source runs this step, at this time.
    Run(Step, BootTime),
    /// There is no further step: the recording ended at this time.
    End(BootTime),
    /// The source must stop.
    Stop,
}

/// The replay of one source's log.
#[derive(Debug)]
pub struct Replay {
    schedule: Schedule,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Arc<SourceLog>,
    /// The current step.
    step: usize,
    /// The next event.
    event: usize,
    /// The current step's responses that were not requested yet, in order, by key.
    pending: HashMap<u32, VecDeque<usize>>,
    /// The latest response to each key.
    latest: HashMap<u32, usize>,
    /// The current time of the replay, in nanoseconds since the recording began.
    now: u64,
}

impl State {
    fn enter_step(&mut self, step: usize) {
        for (key, mut responses) in std::mem::take(&mut self.pending) {
            if let Some(last) = responses.pop_back() {
                self.latest.insert(key, last);
            }
        }
        self.step = step;
        for place in self.log.responses_of(step) {
            if let Some(found) = self.log.responses.get(place) {
                self.pending.entry(found.key).or_default().push_back(place);
            }
        }
        if let Some(step) = self.log.steps.get(step) {
            self.now = step.at;
        }
    }

    fn next_event(&self) -> Option<(u64, &EventKind)> {
        let event = self.log.events.get(self.event)?;
        Some((event.at, &event.kind))
    }
}

impl Replay {
    pub(super) fn new(log: Arc<SourceLog>, schedule: Schedule) -> Replay {
        let mut state = State {
            log,
            step: 0,
            event: 0,
            pending: HashMap::new(),
            latest: HashMap::new(),
            now: 0,
        };
        state.enter_step(0);
        Replay {
            schedule,
            state: Mutex::new(state),
        }
    }

    /// The replay of a log by itself, at once.
    pub fn at_once(log: SourceLog) -> Replay {
        let schedule = Schedule::new(true, log.end);
        Replay::new(Arc::new(log), schedule)
    }

    /// The current time of the replay.
    pub(super) fn now(&self) -> BootTime {
        self.schedule.time_of(lock::lock(&self.state).now)
    }

    /// The response to a request: the current step's next one, or else the latest one. `None`: the recording has none.
    pub fn response(&self, key: &str) -> Option<Response> {
        let mut state = lock::lock(&self.state);
        let key = *state.log.keys.get(key)?;
        if let Some(place) = state.pending.get_mut(&key).and_then(VecDeque::pop_front) {
            state.latest.insert(key, place);
        }
        let place = *state.latest.get(&key)?;
        Some(state.log.responses.get(place)?.response.clone())
    }

    /// Whether the current step has responses that were not requested yet, to requests whose first words are these.
    pub fn has_pending(&self, first_words: &str) -> bool {
        let state = lock::lock(&self.state);
        let matches = |key: &str| {
            let rest = key.strip_prefix(first_words);
            rest.is_some_and(|rest| rest.starts_with(' '))
        };
        let is_pending = |key: &u32| state.pending.get(key).is_some_and(|r| !r.is_empty());
        let mut keys = state.log.keys.iter();
        keys.any(|(name, key)| matches(name) && is_pending(key))
    }

    /// The next step of a source that is polled at an interval. Waits for the step's time.
    pub fn next_step(&self, stop: &Stop) -> NextStep {
        let (next, at) = {
            let state = lock::lock(&self.state);
            let records = state.log.steps.iter().enumerate().skip(state.step + 1);
            let mut steps = records.filter_map(|(place, r)| Some((place, r.step?, r.at)));
            match steps.next() {
                Some((place, step, at)) => (Some((place, step)), at),
                None => (None, state.log.end),
            }
        };
        if self.schedule.wait(at, stop) == Woken::Stop {
            return NextStep::Stop;
        }
        let mut state = lock::lock(&self.state);
        match next {
            Some((place, step)) => {
                // The responses of discarded polls are needed, too: equal ones are not recorded again.
                for skipped in state.step + 1..=place {
                    state.enter_step(skipped);
                }
                NextStep::Run(step, self.schedule.time_of(at))
            }
            None => NextStep::End(self.schedule.time_of(at)),
        }
    }

    /// The next step of a source that waits for its device: opening it, or a poll for the next event. For a poll it does
    /// not wait, since the source waits in [`Replay::wait`]. `seen` is the event of the last poll. If the source did not
    /// take that event, it is skipped.
    pub fn next_event_step(
        &self,
        is_open: bool,
        seen: &mut Option<usize>,
        stop: &Stop,
    ) -> NextStep {
        loop {
            let mut state = lock::lock(&self.state);
            let place = state.event;
            let (at, opened) = match state.next_event() {
                Some((at, EventKind::Opened(step))) => (at, Some(*step)),
                Some((at, _)) if is_open && *seen != Some(place) => {
                    *seen = Some(place);
                    return NextStep::Run(Step::Poll, self.schedule.time_of(at));
                }
                Some(_) => {
                    state.event += 1;
                    continue;
                }
                None => (state.log.end, None),
            };
            drop(state);
            if self.schedule.wait(at, stop) == Woken::Stop {
                return NextStep::Stop;
            }
            let Some(step) = opened else {
                return NextStep::End(self.schedule.time_of(at));
            };
            let mut state = lock::lock(&self.state);
            state.event = place + 1;
            state.enter_step(step);
            return NextStep::Run(Step::Open, self.schedule.time_of(at));
        }
    }

    /// Waits for the next event. `Ready`: something was received. `Time`: the source sent something next, so it had stopped
    /// waiting. `Stop`: the source must stop, or the recording has no more events before it is opened again.
    pub fn wait(&self, stop: &Stop) -> Woken {
        let (is_received, at) = {
            let state = lock::lock(&self.state);
            match state.next_event() {
                Some((at, EventKind::Received(..))) => (true, at),
                Some((at, EventKind::Sent(..))) => (false, at),
                Some((_, EventKind::Opened(_))) | None => return Woken::Stop,
            }
        };
        match (self.schedule.wait(at, stop), is_received) {
            (Woken::Stop, _) => Woken::Stop,
            (_, true) => Woken::Ready,
            (_, false) => Woken::Time,
        }
    }

    /// Whether something is received before the source sends anything.
    pub fn receives_next(&self) -> bool {
        let state = lock::lock(&self.state);
        matches!(state.next_event(), Some((_, EventKind::Received(..))))
    }

    /// The next received data and its time, if it was received on this channel.
    pub fn take_received(&self, key: &str) -> Option<(BootTime, Response)> {
        let mut state = lock::lock(&self.state);
        let key = *state.log.keys.get(key)?;
        let (at, response) = match state.next_event()? {
            (at, EventKind::Received(of, response)) if *of == key => (at, response.clone()),
            _ => return None,
        };
        state.event += 1;
        state.now = at;
        Some((self.schedule.time_of(at), response))
    }

    /// The result of the next sending. Data that was received before it and not taken is skipped.
    pub fn take_sent(&self) -> Response {
        let mut state = lock::lock(&self.state);
        loop {
            let result = match state.next_event() {
                Some((_, EventKind::Sent(result))) => result.clone(),
                Some((_, EventKind::Received(..))) => {
                    state.event += 1;
                    continue;
                }
                Some((_, EventKind::Opened(_))) | None => return Ok(Vec::new()),
            };
            state.event += 1;
            return result;
        }
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
