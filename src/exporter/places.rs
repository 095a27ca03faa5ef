//! Who is remembered, and who is forgotten when too many come.
//!
//! Anybody can make up names, and has a network of addresses. What nobody can make up is time: who has come again and
//! again keeps its place against whoever comes later, for as long as it is usually away. So do the first few
//! newcomers, who may turn out to be such a one. Both are so few of a network, and in all, that there is always room for
//! others. Of those who came once goes first one of the network that has most, there of the address under which most
//! names came; an address without a name, and one with a name that is listed, is one consumer and not many.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::http::peer_network;
use crate::sys::clock::BootTime;

/// So many places there are, as long as they take no more than so many bytes.
pub(super) const PLACES: usize = 512;
const BYTES: usize = 1 << 20;
/// So many who come again and again keep their places, of a network and in all.
const REGULAR_OF_NETWORK: usize = 64;
const REGULAR: usize = 256;
/// So many newcomers keep theirs until it is plain that they do not come again.
const EARLY_OF_NETWORK: usize = 8;
const EARLY: usize = 64;
/// That is plain after twice a long scrape interval.
const PROBATION: Duration = Duration::from_secs(660);
/// Who came again within less than this may have come twice for one reason.
const APART: Duration = Duration::from_secs(1);
/// One that has come regularly may be away for so many of its periods, or for as long as it has been coming, within these
/// bounds.
const PERIODS: u32 = 4;
const SHORTEST_ABSENCE: Duration = Duration::from_secs(60);
const LONGEST_ABSENCE: Duration = Duration::from_secs(86_400);
const LONGEST_EARNED: Duration = Duration::from_secs(3600);

/// One consumer's place.
#[derive(Debug, Clone)]
pub(super) struct Place {
    created: BootTime,
    /// When it last asked.
    pub(super) seen: BootTime,
    /// When it was last answered.
    answered: Option<BootTime>,
    /// How often it was answered.
    pub(super) visits: u32,
    /// How long it is usually away.
    period: Duration,
    /// Anybody can have any number of such: it goes by a name that nobody has listed.
    made_up: bool,
    early: bool,
    regular: bool,
    /// It is being answered: another answer now would hold the same samples.
    pub(super) busy: bool,
}

impl Place {
    /// That of a newcomer, beside those that there are.
    pub(super) fn new<'p>(
        address: IpAddr,
        made_up: bool,
        others: impl Iterator<Item = (IpAddr, &'p Place)>,
        now: BootTime,
    ) -> Place {
        let others = others.filter(|(_, place)| place.is_early(now));
        let early = is_below(EARLY_OF_NETWORK, EARLY, address, others);
        Place {
            created: now,
            seen: now,
            answered: None,
            visits: 0,
            period: Duration::ZERO,
            made_up,
            early,
            regular: false,
            busy: false,
        }
    }

    /// It got its answer to what it asked for at `now`.
    pub(super) fn answered(&mut self, now: BootTime) {
        if let Some(before) = self.answered.replace(now) {
            let gap = Duration::from_nanos(now.0.saturating_sub(before.0));
            // At once longer, and slowly shorter.
            self.period = gap.max(self.period / 8 * 7 + gap / 8);
        }
        self.visits = self.visits.saturating_add(1);
    }

    fn came_for(&self) -> Duration {
        let last = self.answered.unwrap_or(self.created);
        Duration::from_nanos(last.0.saturating_sub(self.created.0))
    }

    /// Whether it comes again and again.
    pub(super) fn comes_again(&self) -> bool {
        self.visits >= 2 && self.came_for() >= APART
    }

    /// Whether it wants to be one of those who keep their places for that.
    pub(super) fn applies(&self) -> bool {
        !self.regular && self.comes_again()
    }

    /// Makes it one of them if there are not too many, beside those that there are.
    pub(super) fn make_regular<'p>(
        &mut self,
        address: IpAddr,
        others: impl Iterator<Item = (IpAddr, &'p Place)>,
        now: BootTime,
    ) {
        let others = others.filter(|(_, place)| place.regular && !place.is_stale(now));
        self.regular = is_below(REGULAR_OF_NETWORK, REGULAR, address, others);
    }

    fn is_early(&self, now: BootTime) -> bool {
        self.early && !self.regular && !self.is_stale(now)
    }

    /// Whether it has been away for longer than it is waited for.
    pub(super) fn is_stale(&self, now: BootTime) -> bool {
        let absence = match self.comes_again() {
            true => self
                .period
                .saturating_mul(PERIODS)
                .max(self.came_for().min(LONGEST_EARNED))
                .clamp(SHORTEST_ABSENCE, LONGEST_ABSENCE),
            false => PROBATION,
        };
        Duration::from_nanos(now.0.saturating_sub(self.seen.0)) > absence
    }

    /// `None`: it keeps its place.
    fn rank(&self, now: BootTime) -> Option<Rank> {
        match self {
            place if place.is_stale(now) => Some(Rank::Stale),
            place if place.regular || place.early => None,
            place if place.comes_again() => Some(Rank::Returning),
            _ => Some(Rank::Passing),
        }
    }
}

/// Who goes first has the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Stale,
    Passing,
    /// It comes again and again, but so do too many others.
    Returning,
}

/// Whether there are fewer than so many, of this address's network and in all.
fn is_below<'p>(
    most_of_network: usize,
    most: usize,
    address: IpAddr,
    all: impl Iterator<Item = (IpAddr, &'p Place)>,
) -> bool {
    let own = peer_network(address);
    let (mut in_all, mut of_network) = (0, 0);
    for (address, _) in all {
        in_all += 1;
        of_network += usize::from(peer_network(address) == own);
    }
    in_all < most && of_network < most_of_network
}

/// Which has to be forgotten to make room for a newcomer: `Ok(None)`: there is room. `Err`: none can be.
pub(super) fn room_for<'p, Key: Copy>(
    places: impl ExactSizeIterator<Item = (Key, IpAddr, &'p Place)>,
    bytes: impl Fn(&Key) -> usize,
    now: BootTime,
) -> Result<Option<Key>, ()> {
    let all: Vec<_> = places.collect();
    let in_bytes: usize = match all.len() > EARLY {
        true => all.iter().map(|(key, ..)| bytes(key)).sum(),
        false => 0,
    };
    if all.len() < PLACES && in_bytes < BYTES {
        return Ok(None);
    }
    let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
    for (_, address, _) in &all {
        *crowds.entry(peer_network(*address)).or_default() += 1;
    }
    let mut names: HashMap<IpAddr, usize> = HashMap::new();
    for (_, address, _) in all.iter().filter(|(.., place)| place.made_up) {
        *names.entry(*address).or_default() += 1;
    }
    let idle = all.iter().filter(|(.., place)| !place.busy);
    let may_go = idle.filter_map(|(key, address, place)| {
        let crowd = crowds.get(&peer_network(*address)).copied().unwrap_or(0);
        let names = names.get(address).filter(|_| place.made_up);
        let names = names.copied().unwrap_or(0);
        let order = (place.rank(now)?, Reverse(crowd), Reverse(names), place.seen);
        Some((*key, order))
    });
    let first = may_go.min_by_key(|(_, order)| *order);
    match first {
        Some((key, ..)) => Ok(Some(key)),
        None => Err(()),
    }
}
