//! Who scrapes every sample, and how far each has come.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::places::{room_for, Place};
use crate::http::{RateLimiter, Request};
use crate::metrics::{Progress, Registry};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// The value of the label `consumer` for all whose names the configuration does not list.
pub(super) const OTHERS: &str = "other";
/// So many positions that were forgotten are remembered well enough to count what was lost.
const FORGOTTEN: usize = 1024;
/// The log has so many lines about losses at once, and one more in each period.
const LINES: u32 = 4;
const LINE_PERIOD: Duration = Duration::from_secs(60);
/// A line of the log has no more characters of a name.
const SHOWN: usize = 64;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visitor {
    address: IpAddr,
    /// The name that it gives itself, if it does: any bytes, as many as fit into a request.
    name: Option<Vec<u8>>,
}

impl Visitor {
    /// Of a request, by `?consumer=NAME`.
    pub(super) fn of(request: &Request) -> Visitor {
        let name = request.query_bytes("consumer").next();
        Visitor {
            address: request.peer.ip().to_canonical(),
            name: name.filter(|name| !name.is_empty()),
        }
    }

    /// For the log.
    fn shown(&self) -> String {
        let Some(name) = &self.name else {
            return self.address.to_string();
        };
        let text = String::from_utf8_lossy(name);
        let start: String = text.chars().take(SHOWN).collect();
        format!("{start:?} at {}", self.address)
    }
}

/// A visitor, in few bytes however long its name is. Of names there are hashes that nobody outside can foresee. A name
/// at another address is another consumer: nobody can take samples away from one by giving its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    address: IpAddr,
    name: Option<u64>,
}

/// All consumers of one kind: those of every sample, or those of windows.
#[derive(Default)]
pub(super) struct Consumers {
    hashes: RandomState,
    state: Mutex<State>,
}

struct State {
    known: HashMap<Identity, Consumer>,
    /// By the hash of a forgotten identity: how many of all samples it had had or lost.
    forgotten: HashMap<u64, u64>,
    /// How many turns there were in which a place was forgotten, or there was none to be had.
    forgotten_ever: u64,
    lines: RateLimiter,
    /// What those lost whose names are listed.
    listed: BTreeMap<String, Losses>,
    others: Losses,
}

impl Default for State {
    fn default() -> Self {
        State {
            known: HashMap::new(),
            forgotten: HashMap::new(),
            forgotten_ever: 0,
            lines: RateLimiter::new(LINES, LINE_PERIOD),
            listed: BTreeMap::new(),
            others: Losses::default(),
        }
    }
}

struct Consumer {
    progress: Progress,
    place: Place,
    /// How many of all samples it had had or lost when it was last answered.
    had: u64,
    /// What of its losses has been counted.
    counted: Losses,
    /// The log has a line of its losses.
    said: bool,
}

/// What was lost on the way to consumers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Samples that were pushed out of the history before a consumer came for them, or whose place was forgotten.
    pub(super) dropped: u64,
    /// Samples left out because the clock was set back.
    pub(super) set_back: u64,
}

impl Losses {
    fn of(progress: &Progress) -> Losses {
        Losses {
            dropped: progress.dropped,
            set_back: progress.set_back,
        }
    }

    fn since(self, before: Losses) -> Losses {
        Losses {
            dropped: self.dropped.saturating_sub(before.dropped),
            set_back: self.set_back.saturating_sub(before.set_back),
        }
    }

    pub(super) fn add(&mut self, more: Losses) {
        self.dropped += more.dropped;
        self.set_back += more.set_back;
    }
}

/// A consumer's turn. Until it ends, the consumer has no other.
pub(super) struct Turn {
    consumers: Arc<Consumers>,
    visitor: Visitor,
    /// `None`: there was no place for it, and so nothing is remembered of it.
    identity: Option<Identity>,
    now: BootTime,
    /// What it will have had, if this is delivered.
    pub(super) progress: Progress,
    /// How many of all samples that will have been.
    pub(super) had: u64,
    delivered: bool,
}

impl Consumers {
    /// Has the losses of those with these names shown by name.
    pub(super) fn list(&self, names: &[String]) {
        let mut state = lock::lock(&self.state);
        let mut before = std::mem::take(&mut state.listed);
        let listed = names.iter().map(|name| {
            let losses = before.remove(name).unwrap_or_default();
            (name.clone(), losses)
        });
        state.listed = listed.collect();
    }

    /// Begins a consumer's turn. One that is not known gets what was read since `since`. `None`: it has a turn already.
    pub(super) fn begin(
        self: &Arc<Self>,
        visitor: Visitor,
        registry: &Registry,
        since: BootTime,
        now: BootTime,
    ) -> Option<Turn> {
        let name = visitor.name.as_ref().map(|name| self.hashes.hash_one(name));
        let identity = Identity {
            address: visitor.address,
            name,
        };
        let mut state = lock::lock(&self.state);
        if !state.known.contains_key(&identity) && !self.admit(&mut state, now) {
            return Some(Turn {
                consumers: Arc::clone(self),
                visitor,
                identity: None,
                now,
                progress: Progress::new(since),
                had: 0,
                delivered: false,
            });
        }
        let is_listed = |name| state.listed.contains_key(name);
        let made_up = match visitor.name.as_deref().map(std::str::from_utf8) {
            None => false,
            Some(Ok(name)) => !is_listed(name),
            Some(Err(_)) => true,
        };
        let State {
            known, forgotten, ..
        } = &mut *state;
        if !known.contains_key(&identity) {
            let progress = Progress::new(since);
            let mut new = Consumer::new(progress, identity, made_up, known, now);
            new.go_on(known, identity, now);
            if let Some(had) = forgotten.remove(&self.hashes.hash_one(identity)) {
                // What it is given now it has not lost.
                let before = registry.samples_before(since);
                new.progress.dropped += before.saturating_sub(had);
            }
            known.insert(identity, new);
        }
        let consumer = known.get_mut(&identity)?;
        if std::mem::replace(&mut consumer.place.busy, true) {
            return None;
        }
        consumer.place.seen = now;
        Some(Turn {
            consumers: Arc::clone(self),
            visitor,
            identity: Some(identity),
            now,
            progress: consumer.progress.clone(),
            had: 0,
            delivered: false,
        })
    }

    /// Whether there is a place for a newcomer, for which others may have to be forgotten.
    fn admit(&self, state: &mut State, now: BootTime) -> bool {
        loop {
            let places = state
                .known
                .iter()
                .map(|(identity, consumer)| (*identity, identity.address, &consumer.place));
            let bytes = |identity: &Identity| state.known.get(identity).map_or(0, Consumer::bytes);
            let go = match room_for(places, bytes, now) {
                Ok(None) => return true,
                Ok(Some(identity)) => identity,
                Err(()) => {
                    state.left_out();
                    return false;
                }
            };
            if let Some(gone) = state.known.remove(&go) {
                state.left_out();
                if gone.place.visits > 0 {
                    if state.forgotten.len() >= FORGOTTEN {
                        let any = state.forgotten.keys().next().copied();
                        any.and_then(|any| state.forgotten.remove(&any));
                    }
                    state.forgotten.insert(self.hashes.hash_one(go), gone.had);
                }
            }
        }
    }

    /// What was lost: by name as far as names are listed, and by all others.
    pub(super) fn losses(&self) -> Vec<(String, Losses)> {
        let state = lock::lock(&self.state);
        let listed = state.listed.iter();
        let listed = listed.map(|(name, losses)| (name.clone(), *losses));
        listed.chain([(OTHERS.to_string(), state.others)]).collect()
    }

    /// How often a place was forgotten, or there was none to be had.
    pub(super) fn forgotten(&self) -> u64 {
        lock::lock(&self.state).forgotten_ever
    }
}

impl Consumer {
    fn new(
        progress: Progress,
        identity: Identity,
        made_up: bool,
        known: &HashMap<Identity, Consumer>,
        now: BootTime,
    ) -> Consumer {
        let others = known.iter();
        let others = others.map(|(other, consumer)| (other.address, &consumer.place));
        Consumer {
            progress,
            place: Place::new(identity.address, made_up, others, now),
            had: 0,
            counted: Losses::default(),
            said: false,
        }
    }

    /// A consumer that comes from another address than before goes on where it was. Where it was known it stays known: who
    /// gives another's name takes nothing away from it.
    fn go_on(&mut self, known: &HashMap<Identity, Consumer>, identity: Identity, now: BootTime) {
        let same = known.iter().filter(|(other, consumer)| {
            identity.name.is_some()
                && other.name == identity.name
                && consumer.place.visits > 0
                && !consumer.place.is_stale(now)
        });
        if let Some((_, from)) = same.max_by_key(|(_, consumer)| consumer.place.seen) {
            self.progress = from.progress.clone();
            self.had = from.had;
            self.counted = Losses::of(&self.progress);
        }
    }

    fn bytes(&self) -> usize {
        size_of::<(Identity, Consumer)>() + self.progress.bytes()
    }
}

impl State {
    fn left_out(&mut self) {
        self.forgotten_ever += 1;
        if self.forgotten_ever == 1 {
            log::warn!(
                "so many consumers ask for every sample that some are forgotten: who came once is, who comes \
                 regularly is not (exporter_consumers_forgotten_total counts them; this is said once)"
            );
        }
    }

    fn make_regular(&mut self, identity: Option<Identity>, now: BootTime) {
        let Some((identity, mut consumer)) = identity.and_then(|id| self.known.remove_entry(&id))
        else {
            return;
        };
        let others = self.known.iter();
        let others = others.map(|(other, consumer)| (other.address, &consumer.place));
        consumer.place.make_regular(identity.address, others, now);
        self.known.insert(identity, consumer);
    }

    fn count(&mut self, visitor: &Visitor, losses: Losses) {
        let name = visitor
            .name
            .as_deref()
            .and_then(|name| std::str::from_utf8(name).ok());
        match name.and_then(|name| self.listed.get_mut(name)) {
            Some(of_name) => of_name.add(losses),
            None => self.others.add(losses),
        }
    }
}

impl Turn {
    /// Ends the turn. What was not delivered is delivered in the next.
    pub(super) fn end(mut self, delivered: bool) {
        self.delivered = delivered;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = lock::lock(&self.consumers.state);
        let Some(consumer) = self.identity.and_then(|id| state.known.get_mut(&id)) else {
            return;
        };
        consumer.place.busy = false;
        if !self.delivered {
            return;
        }
        consumer.place.answered(self.now);
        let applies = consumer.place.applies();
        consumer.progress = self.progress.clone();
        consumer.had = self.had;
        let all = Losses::of(&consumer.progress);
        let new = all.since(consumer.counted);
        consumer.counted = all;
        let first = new.dropped > 0 && !std::mem::replace(&mut consumer.said, true);
        if applies {
            state.make_regular(self.identity, self.now);
        }
        state.count(&self.visitor, new);
        if first && state.lines.take(Instant::now()).is_ok() {
            log::warn!(
                "{} lost {} samples: they gave way to newer ones before it came (a larger `history`, or more frequent \
                 scrapes, would help; exporter_history_dropped_samples_total counts on)",
                self.visitor.shown(),
                new.dropped
            );
        }
    }
}

#[cfg(test)]
#[path = "consumers_tests.rs"]
mod tests;
