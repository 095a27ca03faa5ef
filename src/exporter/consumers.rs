//! The consumers that scrape every sample, and how far each has read.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::slots::{choose_evicted, Slot};
use crate::http::{RateLimiter, Request};
use crate::metrics::{Progress, Registry};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// The value of the label `consumer` for all consumers whose names the configuration does not list.
pub(super) const OTHERS: &str = "other";
/// How many forgotten positions are remembered well enough to count what was lost.
const MAX_FORGOTTEN: usize = 1024;
/// The log gets this many lines about losses at once, and one more in each period.
const LOG_BURST: u32 = 4;
const LOG_PERIOD: Duration = Duration::from_secs(60);
/// The log shows this many characters of a name.
const MAX_LOGGED_CHARS: usize = 64;

/// Who a request says it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    address: IpAddr,
    /// The name in the request, if there is one: any bytes, as many as fit into a request.
    name: Option<Vec<u8>>,
}

impl Client {
    /// The client of a request, with the name of `?consumer=NAME`.
    pub(super) fn of(request: &Request) -> Client {
        let name = request.query_bytes("consumer").next();
        Client {
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
        let start: String = text.chars().take(MAX_LOGGED_CHARS).collect();
        format!("{start:?} at {}", self.address)
    }
}

/// What a consumer is recognised by, in few bytes however long its name is. Of names there are hashes that no client
/// can predict. A name at another address is another consumer: no client can take samples away from a consumer by
/// giving its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ConsumerKey {
    address: IpAddr,
    name: Option<u64>,
}

/// All consumers of one kind: of every sample, or of windows.
#[derive(Default)]
pub(super) struct Consumers {
    hashes: RandomState,
    state: Mutex<State>,
}

struct State {
    known: HashMap<ConsumerKey, Consumer>,
    /// By the hash of a forgotten key: how many of all samples that consumer had received or lost.
    forgotten: HashMap<u64, u64>,
    /// How many scrapes found no free slot, and cost a consumer its slot or got none.
    evictions: u64,
    lines: RateLimiter,
    /// The losses of consumers whose names are listed.
    listed: BTreeMap<String, Losses>,
    others: Losses,
}

impl Default for State {
    fn default() -> Self {
        State {
            known: HashMap::new(),
            forgotten: HashMap::new(),
            evictions: 0,
            lines: RateLimiter::new(LOG_BURST, LOG_PERIOD),
            listed: BTreeMap::new(),
            others: Losses::default(),
        }
    }
}

struct Consumer {
    progress: Progress,
    slot: Slot,
    /// How many of all samples it had received or lost at its last response.
    samples_passed: u64,
    /// The part of its losses that has been counted.
    counted: Losses,
    /// Its losses were logged.
    is_logged: bool,
}

/// Samples that were lost on the way to consumers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Samples that the history overwrote before the consumer came for them, or that fell to a forgotten position.
    pub(super) dropped: u64,
    /// Samples left out because the clock was set back.
    pub(super) set_back: u64,
    /// Samples left out because a later one has the same time stamp.
    pub(super) merged: u64,
}

impl Losses {
    fn of(progress: &Progress) -> Losses {
        Losses {
            dropped: progress.dropped,
            set_back: progress.set_back,
            merged: progress.merged,
        }
    }

    fn since(self, before: Losses) -> Losses {
        Losses {
            dropped: self.dropped.saturating_sub(before.dropped),
            set_back: self.set_back.saturating_sub(before.set_back),
            merged: self.merged.saturating_sub(before.merged),
        }
    }

    pub(super) fn add(&mut self, more: Losses) {
        self.dropped += more.dropped;
        self.set_back += more.set_back;
        self.merged += more.merged;
    }
}

/// A scrape of a consumer. The consumer gets no other until this one ends.
pub(super) struct Scrape {
    consumers: Arc<Consumers>,
    client: Client,
    /// `None`: no slot was free, and so nothing is remembered of this consumer.
    key: Option<ConsumerKey>,
    now: BootTime,
    /// The consumer's progress if the response is delivered.
    pub(super) progress: Progress,
    /// How many of all samples it will then have received or lost.
    pub(super) samples_passed: u64,
    delivered: bool,
}

impl Consumers {
    /// Lists names, whose losses are shown by name.
    pub(super) fn list(&self, names: &[String]) {
        let mut state = lock::lock(&self.state);
        let mut before = std::mem::take(&mut state.listed);
        let listed = names.iter().map(|name| {
            let losses = before.remove(name).unwrap_or_default();
            (name.clone(), losses)
        });
        state.listed = listed.collect();
    }

    /// Begins a scrape. A consumer that is not known gets what was read since `since`. `None`: another scrape of it is
    /// under way.
    pub(super) fn begin(
        self: &Arc<Self>,
        client: Client,
        registry: &Registry,
        since: BootTime,
        now: BootTime,
    ) -> Option<Scrape> {
        let name = client.name.as_ref().map(|name| self.hashes.hash_one(name));
        let key = ConsumerKey {
            address: client.address,
            name,
        };
        let mut state = lock::lock(&self.state);
        if !state.known.contains_key(&key) && !self.free_slot(&mut state, now) {
            return Some(Scrape {
                consumers: Arc::clone(self),
                client,
                key: None,
                now,
                progress: Progress::new(since),
                samples_passed: 0,
                delivered: false,
            });
        }
        let is_listed = |name| state.listed.contains_key(name);
        let has_made_up_name = match client.name.as_deref().map(std::str::from_utf8) {
            None => false,
            Some(Ok(name)) => !is_listed(name),
            Some(Err(_)) => true,
        };
        let State {
            known, forgotten, ..
        } = &mut *state;
        if !known.contains_key(&key) {
            let progress = Progress::new(since);
            let mut new = Consumer::new(progress, key, has_made_up_name, known, now);
            new.continue_from_other_address(known, key, now);
            if let Some(samples_passed) = forgotten.remove(&self.hashes.hash_one(key)) {
                // What was read since `since` is not lost: this scrape gets it.
                let before = registry.samples_before(since);
                new.progress.dropped += before.saturating_sub(samples_passed);
            }
            known.insert(key, new);
        }
        let consumer = known.get_mut(&key)?;
        if std::mem::replace(&mut consumer.slot.busy, true) {
            return None;
        }
        consumer.slot.last_request = now;
        Some(Scrape {
            consumers: Arc::clone(self),
            client,
            key: Some(key),
            now,
            progress: consumer.progress.clone(),
            samples_passed: 0,
            delivered: false,
        })
    }

    /// Frees a slot for a newcomer, if need be by forgetting another consumer. `false`: no slot can be freed.
    fn free_slot(&self, state: &mut State, now: BootTime) -> bool {
        loop {
            let slots = state
                .known
                .iter()
                .map(|(key, consumer)| (*key, key.address, &consumer.slot));
            let bytes = |key: &ConsumerKey| state.known.get(key).map_or(0, Consumer::bytes);
            let evicted = match choose_evicted(slots, bytes, now) {
                Ok(None) => return true,
                Ok(Some(key)) => key,
                Err(()) => {
                    state.count_eviction();
                    return false;
                }
            };
            if let Some(consumer) = state.known.remove(&evicted) {
                state.count_eviction();
                if consumer.slot.visits > 0 {
                    if state.forgotten.len() >= MAX_FORGOTTEN {
                        let any = state.forgotten.keys().next().copied();
                        any.and_then(|any| state.forgotten.remove(&any));
                    }
                    state
                        .forgotten
                        .insert(self.hashes.hash_one(evicted), consumer.samples_passed);
                }
            }
        }
    }

    /// The losses: by name as far as names are listed, and of all others.
    pub(super) fn losses(&self) -> Vec<(String, Losses)> {
        let state = lock::lock(&self.state);
        let listed = state.listed.iter();
        let listed = listed.map(|(name, losses)| (name.clone(), *losses));
        listed.chain([(OTHERS.to_string(), state.others)]).collect()
    }

    /// How many scrapes found no free slot.
    pub(super) fn forgotten(&self) -> u64 {
        lock::lock(&self.state).evictions
    }
}

impl Consumer {
    fn new(
        progress: Progress,
        key: ConsumerKey,
        has_made_up_name: bool,
        known: &HashMap<ConsumerKey, Consumer>,
        now: BootTime,
    ) -> Consumer {
        let others = known.iter();
        let others = others.map(|(other, consumer)| (other.address, &consumer.slot));
        Consumer {
            progress,
            slot: Slot::new(key.address, has_made_up_name, others, now),
            samples_passed: 0,
            counted: Losses::default(),
            is_logged: false,
        }
    }

    /// A consumer that comes from another address than before continues where it was. Its position at the old address
    /// stays: giving another consumer's name takes nothing away from that consumer.
    fn continue_from_other_address(
        &mut self,
        known: &HashMap<ConsumerKey, Consumer>,
        key: ConsumerKey,
        now: BootTime,
    ) {
        let same = known.iter().filter(|(other, consumer)| {
            key.name.is_some()
                && other.name == key.name
                && consumer.slot.visits > 0
                && !consumer.slot.is_expired(now)
        });
        if let Some((_, from)) = same.max_by_key(|(_, consumer)| consumer.slot.last_request) {
            self.progress = from.progress.clone();
            self.samples_passed = from.samples_passed;
            self.counted = Losses::of(&self.progress);
        }
    }

    fn bytes(&self) -> usize {
        size_of::<(ConsumerKey, Consumer)>() + self.progress.bytes()
    }
}

impl State {
    fn count_eviction(&mut self) {
        self.evictions += 1;
        if self.evictions == 1 {
            log::warn!(
                "too many consumers request every sample: positions of consumers that came once are dropped, positions of \
                 regular ones are kept (exporter_consumers_forgotten_total counts them; this is logged once)"
            );
        }
    }

    fn make_regular(&mut self, key: Option<ConsumerKey>, now: BootTime) {
        let Some((key, mut consumer)) = key.and_then(|id| self.known.remove_entry(&id)) else {
            return;
        };
        let others = self.known.iter();
        let others = others.map(|(other, consumer)| (other.address, &consumer.slot));
        consumer.slot.make_regular(key.address, others, now);
        self.known.insert(key, consumer);
    }

    fn count(&mut self, client: &Client, losses: Losses) {
        let name = client
            .name
            .as_deref()
            .and_then(|name| std::str::from_utf8(name).ok());
        match name.and_then(|name| self.listed.get_mut(name)) {
            Some(losses_of_name) => losses_of_name.add(losses),
            None => self.others.add(losses),
        }
    }
}

impl Scrape {
    /// Ends the scrape. What was not delivered is delivered by the next scrape.
    pub(super) fn end(mut self, delivered: bool) {
        self.delivered = delivered;
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        let mut state = lock::lock(&self.consumers.state);
        let Some(consumer) = self.key.and_then(|id| state.known.get_mut(&id)) else {
            return;
        };
        consumer.slot.busy = false;
        if !self.delivered {
            return;
        }
        consumer.slot.answered(self.now);
        let qualifies_as_regular = consumer.slot.qualifies_as_regular();
        consumer.progress = self.progress.clone();
        consumer.samples_passed = self.samples_passed;
        let all = Losses::of(&consumer.progress);
        let new = all.since(consumer.counted);
        consumer.counted = all;
        let is_first_loss = new.dropped > 0 && !std::mem::replace(&mut consumer.is_logged, true);
        if qualifies_as_regular {
            state.make_regular(self.key, self.now);
        }
        state.count(&self.client, new);
        if is_first_loss && state.lines.take(Instant::now()).is_ok() {
            log::warn!(
                "{} lost {} samples: newer ones replaced them before its scrape (set a larger `history`, or scrape more often; \
                 exporter_history_dropped_samples_total counts all of them)",
                self.client.shown(),
                new.dropped
            );
        }
    }
}

#[cfg(test)]
#[path = "consumers_tests.rs"]
mod tests;
