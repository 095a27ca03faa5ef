//! Which consumers are remembered, and which is forgotten when too many come.
//!
//! A client can make up names, and may have a whole network of addresses. It cannot make up time. So a consumer that
//! returns again and again keeps its slot against later ones, for as long as it is usually away. The first few
//! newcomers keep theirs too, as they may turn out to return. Both kinds are limited per network and in all, so that
//! there are always slots for others. Of the consumers that came once, the first to be forgotten is one of the network
//! with most slots, and within that of the address with most made-up names. An address without a name counts as one
//! consumer, and so does an address with a listed name.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::http::peer_network;
use crate::sys::clock::BootTime;

/// The number of slots, and the bytes that all of them may take.
pub(super) const MAX_SLOTS: usize = 512;
const MAX_BYTES: usize = 1 << 20;
/// How many returning consumers keep their slots, per network and in all.
const MAX_REGULARS_PER_NETWORK: usize = 64;
const MAX_REGULARS: usize = 256;
/// How many newcomers keep their slots during their probation, per network and in all.
const MAX_NEWCOMERS_PER_NETWORK: usize = 8;
const MAX_NEWCOMERS: usize = 64;
/// Twice a long scrape interval: a newcomer that has not returned by then will not.
const PROBATION: Duration = Duration::from_secs(660);
/// Visits closer together than this may have one cause, and do not make a returning consumer.
const MIN_RETURN_TIME: Duration = Duration::from_secs(1);
/// A returning consumer may be away for this many of its periods, or for as long as it has been returning (at most
/// `MAX_EARNED_ABSENCE`), within these bounds.
const ABSENCE_PERIODS: u32 = 4;
const MIN_ABSENCE: Duration = Duration::from_secs(60);
const MAX_ABSENCE: Duration = Duration::from_secs(86_400);
const MAX_EARNED_ABSENCE: Duration = Duration::from_secs(3600);

/// The visits of one consumer, which decide whether it is forgotten.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    created: BootTime,
    /// When its last request came.
    pub(super) last_request: BootTime,
    /// When its last request came that was answered.
    answered: Option<BootTime>,
    /// How many requests were answered.
    pub(super) visits: u32,
    /// The usual time between visits.
    period: Duration,
    /// Its name is not listed in the configuration: a client can make up any number of such names.
    has_made_up_name: bool,
    is_newcomer: bool,
    is_regular: bool,
    /// A response to it is under way. Another response now would hold the same samples.
    pub(super) busy: bool,
}

impl Slot {
    /// The slot of a newcomer, beside the others.
    pub(super) fn new<'p>(
        address: IpAddr,
        has_made_up_name: bool,
        others: impl Iterator<Item = (IpAddr, &'p Slot)>,
        now: BootTime,
    ) -> Slot {
        let others = others.filter(|(_, slot)| slot.keeps_as_newcomer(now));
        let is_newcomer = is_below(MAX_NEWCOMERS_PER_NETWORK, MAX_NEWCOMERS, address, others);
        Slot {
            created: now,
            last_request: now,
            answered: None,
            visits: 0,
            period: Duration::ZERO,
            has_made_up_name,
            is_newcomer,
            is_regular: false,
            busy: false,
        }
    }

    /// Its request at `now` was answered.
    pub(super) fn answered(&mut self, now: BootTime) {
        if let Some(before) = self.answered.replace(now) {
            let gap = Duration::from_nanos(now.0.saturating_sub(before.0));
            // The period grows at once and shrinks slowly.
            self.period = gap.max(self.period / 8 * 7 + gap / 8);
        }
        self.visits = self.visits.saturating_add(1);
    }

    fn known_for(&self) -> Duration {
        let last = self.answered.unwrap_or(self.created);
        Duration::from_nanos(last.0.saturating_sub(self.created.0))
    }

    /// Whether the consumer returns again and again.
    pub(super) fn returns(&self) -> bool {
        self.visits >= 2 && self.known_for() >= MIN_RETURN_TIME
    }

    /// Whether it could become regular, and is not yet.
    pub(super) fn qualifies_as_regular(&self) -> bool {
        !self.is_regular && self.returns()
    }

    /// Makes it regular, so that it keeps its slot, unless there are too many such among the others.
    pub(super) fn make_regular<'p>(
        &mut self,
        address: IpAddr,
        others: impl Iterator<Item = (IpAddr, &'p Slot)>,
        now: BootTime,
    ) {
        let others = others.filter(|(_, slot)| slot.is_regular && !slot.is_expired(now));
        self.is_regular = is_below(MAX_REGULARS_PER_NETWORK, MAX_REGULARS, address, others);
    }

    fn keeps_as_newcomer(&self, now: BootTime) -> bool {
        self.is_newcomer && !self.is_regular && !self.is_expired(now)
    }

    /// Whether it has been away for longer than its slot is kept.
    pub(super) fn is_expired(&self, now: BootTime) -> bool {
        let absence = match self.returns() {
            true => self
                .period
                .saturating_mul(ABSENCE_PERIODS)
                .max(self.known_for().min(MAX_EARNED_ABSENCE))
                .clamp(MIN_ABSENCE, MAX_ABSENCE),
            false => PROBATION,
        };
        Duration::from_nanos(now.0.saturating_sub(self.last_request.0)) > absence
    }

    /// The order of eviction. `None`: it keeps its slot.
    fn eviction_rank(&self, now: BootTime) -> Option<EvictionRank> {
        match self {
            slot if slot.is_expired(now) => Some(EvictionRank::Expired),
            slot if slot.is_regular || slot.is_newcomer => None,
            slot if slot.returns() => Some(EvictionRank::Returning),
            _ => Some(EvictionRank::CameOnce),
        }
    }
}

/// The least is evicted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionRank {
    Expired,
    CameOnce,
    /// It returns again and again, but so do too many others.
    Returning,
}

/// Whether there are fewer than `max` in all and fewer than `max_per_network` in this address's network.
fn is_below<'p>(
    max_per_network: usize,
    max: usize,
    address: IpAddr,
    all: impl Iterator<Item = (IpAddr, &'p Slot)>,
) -> bool {
    let own = peer_network(address);
    let (mut in_all, mut of_network) = (0, 0);
    for (address, _) in all {
        in_all += 1;
        of_network += usize::from(peer_network(address) == own);
    }
    in_all < max && of_network < max_per_network
}

/// Chooses the consumer to forget so that there is a slot for a newcomer. `Ok(None)`: a slot is free. `Err`: no slot
/// can be freed.
pub(super) fn choose_evicted<'p, Key: Copy>(
    slots: impl ExactSizeIterator<Item = (Key, IpAddr, &'p Slot)>,
    bytes: impl Fn(&Key) -> usize,
    now: BootTime,
) -> Result<Option<Key>, ()> {
    let all: Vec<_> = slots.collect();
    let in_bytes: usize = match all.len() > MAX_NEWCOMERS {
        true => all.iter().map(|(key, ..)| bytes(key)).sum(),
        false => 0,
    };
    if all.len() < MAX_SLOTS && in_bytes < MAX_BYTES {
        return Ok(None);
    }
    let mut slots_by_network: HashMap<IpAddr, usize> = HashMap::new();
    for (_, address, _) in &all {
        *slots_by_network.entry(peer_network(*address)).or_default() += 1;
    }
    let mut names: HashMap<IpAddr, usize> = HashMap::new();
    for (_, address, _) in all.iter().filter(|(.., slot)| slot.has_made_up_name) {
        *names.entry(*address).or_default() += 1;
    }
    let idle = all.iter().filter(|(.., slot)| !slot.busy);
    let candidates = idle.filter_map(|(key, address, slot)| {
        let in_network = slots_by_network
            .get(&peer_network(*address))
            .copied()
            .unwrap_or(0);
        let names = names.get(address).filter(|_| slot.has_made_up_name);
        let names = names.copied().unwrap_or(0);
        let order = (
            slot.eviction_rank(now)?,
            Reverse(in_network),
            Reverse(names),
            slot.last_request,
        );
        Some((*key, order))
    });
    let first = candidates.min_by_key(|(_, order)| *order);
    match first {
        Some((key, ..)) => Ok(Some(key)),
        None => Err(()),
    }
}
