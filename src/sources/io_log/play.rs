//! Playing one source's log: what was answered, as the source asks for it again, at the recorded pace.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::line::{Answer, Step};
use super::log::{Log, What};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::stop::{Stop, Woken};

/// When a recording is played.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// What its beginning is taken for.
    pub(super) began: BootTime,
    /// Nothing is waited for: all of it is in the past.
    pub(super) at_once: bool,
}

impl Schedule {
    /// From now on at the recorded pace; or all of it at once, so that its end is now.
    pub(super) fn new(at_once: bool, length: u64) -> Schedule {
        let now = BootTime::now();
        let back = if at_once { length } else { 0 };
        Schedule {
            // 0 is no time.
            began: BootTime(now.0.saturating_sub(back).max(1)),
            at_once,
        }
    }

    fn moment(self, at: u64) -> BootTime {
        BootTime(self.began.0.saturating_add(at))
    }

    /// Waits until this moment of the recording.
    fn wait(self, at: u64, stop: &Stop) -> Woken {
        let left = self.moment(at).0.saturating_sub(BootTime::now().0);
        if stop.is_set() {
            return Woken::Stop;
        }
        if self.at_once || left == 0 {
            return Woken::Time;
        }
        stop.wait_until(Instant::now() + Duration::from_nanos(left))
    }
}

/// What the source is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This, as if it were this time.
    Do(Step, BootTime),
    /// Nothing more: the recording is over, at this time.
    Over(BootTime),
    /// To end.
    Stop,
}

/// A log that is being played.
#[derive(Debug)]
pub struct Playing {
    schedule: Schedule,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Arc<Log>,
    /// The step under way.
    step: usize,
    /// The item that comes next.
    item: usize,
    /// Facts of the step under way, in their order, by question.
    coming: HashMap<u32, VecDeque<usize>>,
    /// The last fact of each question.
    known: HashMap<u32, usize>,
    /// What the source takes for now.
    now: u64,
}

impl State {
    fn enter(&mut self, step: usize) {
        for (key, mut facts) in std::mem::take(&mut self.coming) {
            if let Some(last) = facts.pop_back() {
                self.known.insert(key, last);
            }
        }
        self.step = step;
        for fact in self.log.facts_of(step) {
            if let Some(found) = self.log.facts.get(fact) {
                self.coming.entry(found.key).or_default().push_back(fact);
            }
        }
        if let Some(step) = self.log.steps.get(step) {
            self.now = step.at;
        }
    }

    fn front(&self) -> Option<(u64, &What)> {
        let item = self.log.items.get(self.item)?;
        Some((item.at, &item.what))
    }
}

impl Playing {
    pub(super) fn new(log: Arc<Log>, schedule: Schedule) -> Playing {
        let mut state = State {
            log,
            step: 0,
            item: 0,
            coming: HashMap::new(),
            known: HashMap::new(),
            now: 0,
        };
        state.enter(0);
        Playing {
            schedule,
            state: Mutex::new(state),
        }
    }

    /// A log by itself, all of it in the past.
    pub fn at_once(log: Log) -> Playing {
        let schedule = Schedule::new(true, log.end);
        Playing::new(Arc::new(log), schedule)
    }

    /// What the source takes for now.
    pub(super) fn now(&self) -> BootTime {
        self.schedule.moment(lock::lock(&self.state).now)
    }

    /// The answer to a question: the next one of this step, else the last one that there was. `None`: it was not asked.
    pub fn answer(&self, key: &str) -> Option<Answer> {
        let mut state = lock::lock(&self.state);
        let key = *state.log.keys.get(key)?;
        if let Some(fact) = state.coming.get_mut(&key).and_then(VecDeque::pop_front) {
            state.known.insert(key, fact);
        }
        let fact = *state.known.get(&key)?;
        Some(state.log.facts.get(fact)?.answer.clone())
    }

    /// Whether the step under way has an answer to a question that begins so and was not asked yet.
    pub fn has_more(&self, begin: &str) -> bool {
        let state = lock::lock(&self.state);
        let is_of = |key: &str| key.strip_prefix(begin).is_some_and(|r| r.starts_with(' '));
        let is_coming = |key: &u32| state.coming.get(key).is_some_and(|f| !f.is_empty());
        let mut keys = state.log.keys.iter();
        keys.any(|(name, key)| is_of(name) && is_coming(key))
    }

    /// The next step of a source that is polled; waits for its time.
    pub fn next_step(&self, stop: &Stop) -> Next {
        let (next, at) = {
            let state = lock::lock(&self.state);
            let steps = state.log.steps.iter().enumerate().skip(state.step + 1);
            let mut acts = steps.filter_map(|(place, step)| Some((place, step.act?, step.at)));
            match acts.next() {
                Some((place, act, at)) => (Some((place, act)), at),
                None => (None, state.log.end),
            }
        };
        if self.schedule.wait(at, stop) == Woken::Stop {
            return Next::Stop;
        }
        let mut state = lock::lock(&self.state);
        match next {
            Some((place, act)) => {
                // What was discarded on the way is known nevertheless.
                for step in state.step + 1..=place {
                    state.enter(step);
                }
                Next::Do(act, self.schedule.moment(at))
            }
            None => Next::Over(self.schedule.moment(at)),
        }
    }

    /// The same of a source that waits for its device: the next time that it was opened, or what came or was sent next.
    /// For those it does not wait: the source does. `seen` is which of them it was told of last; if it did not take that
    /// it is passed over.
    pub fn next_item(&self, is_open: bool, seen: &mut Option<usize>, stop: &Stop) -> Next {
        loop {
            let mut state = lock::lock(&self.state);
            let place = state.item;
            let (at, opened) = match state.front() {
                Some((at, What::Opened(step))) => (at, Some(*step)),
                Some((at, _)) if is_open && *seen != Some(place) => {
                    *seen = Some(place);
                    return Next::Do(Step::Poll, self.schedule.moment(at));
                }
                Some(_) => {
                    state.item += 1;
                    continue;
                }
                None => (state.log.end, None),
            };
            drop(state);
            if self.schedule.wait(at, stop) == Woken::Stop {
                return Next::Stop;
            }
            let Some(step) = opened else {
                return Next::Over(self.schedule.moment(at));
            };
            let mut state = lock::lock(&self.state);
            state.item = place + 1;
            state.enter(step);
            return Next::Do(Step::Open, self.schedule.moment(at));
        }
    }

    /// Waits for what comes next: `Ready` when it is there, `Time` when it was not waited for any longer, `Stop` when it
    /// is time to stop, or nothing more will come.
    pub fn wait(&self, stop: &Stop) -> Woken {
        let (came, at) = {
            let state = lock::lock(&self.state);
            match state.front() {
                Some((at, What::Came(..))) => (true, at),
                Some((at, What::Sent(..))) => (false, at),
                Some((_, What::Opened(_))) | None => return Woken::Stop,
            }
        };
        match (self.schedule.wait(at, stop), came) {
            (Woken::Stop, _) => Woken::Stop,
            (_, true) => Woken::Ready,
            (_, false) => Woken::Time,
        }
    }

    /// Whether something comes before anything is sent again.
    pub fn is_coming(&self) -> bool {
        matches!(lock::lock(&self.state).front(), Some((_, What::Came(..))))
    }

    /// What came, if that is next and of this kind; and when.
    pub fn take(&self, key: &str) -> Option<(BootTime, Answer)> {
        let mut state = lock::lock(&self.state);
        let key = *state.log.keys.get(key)?;
        let (at, answer) = match state.front()? {
            (at, What::Came(of, answer)) if *of == key => (at, answer.clone()),
            _ => return None,
        };
        state.item += 1;
        state.now = at;
        Some((self.schedule.moment(at), answer))
    }

    /// How sending ended, which is next; what came before it and was not taken is passed over.
    pub fn sent(&self) -> Answer {
        let mut state = lock::lock(&self.state);
        loop {
            let outcome = match state.front() {
                Some((_, What::Sent(answer))) => answer.clone(),
                Some((_, What::Came(..))) => {
                    state.item += 1;
                    continue;
                }
                Some((_, What::Opened(_))) | None => return Ok(Vec::new()),
            };
            state.item += 1;
            return outcome;
        }
    }
}

#[cfg(test)]
#[path = "play_tests.rs"]
mod tests;
