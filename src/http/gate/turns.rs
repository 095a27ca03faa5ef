//! One at a time, and everybody's turn comes: for work that takes a processor for a while.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::Fingerprint;
use crate::sys::lock::lock;

/// So many wait at once, in all and of one peer: each of them is a connection, of which there are a few dozen.
const WAITING: usize = 8;
const WAITING_PER_PEER: usize = 2;
/// So many more wait for what another's turn shows: a browser opens six connections at once with one password.
const WAITING_FOR_OTHERS: usize = 16;

/// Where they wait.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whose turn it is, and for what.
    busy: Option<(u64, Fingerprint)>,
    /// Whose it was last.
    last: Option<IpAddr>,
    waiting: VecDeque<(u64, IpAddr, Fingerprint)>,
    waiting_for_others: usize,
    /// The next one's number.
    next: u64,
}

/// It is your turn, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for one's turn. `None`: too many wait already, or it has not come by `deadline`.
    pub(super) fn wait(
        &self,
        peer: IpAddr,
        what: Fingerprint,
        deadline: Instant,
    ) -> Option<Turn<'_>> {
        let mut state = lock(&self.state);
        let same = state.waiting.iter().filter(|(_, p, _)| *p == peer).count();
        if state.waiting.len() >= WAITING || same >= WAITING_PER_PEER {
            return None;
        }
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back((ticket, peer, what));
        if state.busy.is_none() {
            state.call_next();
        }
        while state.busy.is_none_or(|(called, _)| called != ticket) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                state.waiting.retain(|(other, ..)| *other != ticket);
                self.changed.notify_all();
                return None;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(Turn(self))
    }

    /// How many wait, for a turn or for another's.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = lock(&self.state);
        state.waiting.len() + state.waiting_for_others
    }

    /// Waits until nobody has a turn for this, or waits for one: what is to be known of it is known then. At once if too many
    /// wait so.
    pub(super) fn wait_for_others(&self, what: Fingerprint, deadline: Instant) {
        let mut state = lock(&self.state);
        if state.waiting_for_others >= WAITING_FOR_OTHERS {
            return;
        }
        state.waiting_for_others += 1;
        while state.is_under_way(&what) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting_for_others -= 1;
    }
}

impl State {
    fn is_under_way(&self, what: &Fingerprint) -> bool {
        self.busy.is_some_and(|(_, busy)| busy == *what)
            || self.waiting.iter().any(|(.., waiting)| waiting == what)
    }

    /// The one who has waited longest, of another peer than the last if there is one.
    fn call_next(&mut self) {
        let other = self
            .waiting
            .iter()
            .position(|(_, peer, _)| Some(*peer) != self.last);
        let called = self.waiting.remove(other.unwrap_or_default());
        self.busy = called.map(|(ticket, _, what)| (ticket, what));
        self.last = called.map(|(_, peer, _)| peer);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).call_next();
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::sync::Arc;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn peer(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    fn waiting(turns: &Turns) -> usize {
        lock(&turns.state).waiting.len()
    }

    #[test]
    fn one_at_a_time_and_peers_by_turns() {
        let turns = Arc::new(Turns::default());
        let (told, heard) = mpsc::channel();
        let mine = turns.wait(peer(1), [0; 32], Instant::now()).unwrap();
        let mut threads = Vec::new();
        for (place, who) in [1, 1, 2, 2, 3].into_iter().enumerate() {
            let (others, told) = (Arc::clone(&turns), told.clone());
            threads.push(std::thread::spawn(move || {
                let turn = others
                    .wait(peer(who), [0; 32], Instant::now() + PATIENCE)
                    .unwrap();
                told.send(who).unwrap();
                drop(turn);
            }));
            while waiting(&turns) <= place {
                std::thread::yield_now();
            }
        }
        assert!(heard.try_recv().is_err());
        drop(mine);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [2, 1, 2, 1, 3]);
        assert!(turns.wait(peer(1), [0; 32], Instant::now()).is_some());
    }

    #[test]
    fn who_is_one_too_many_or_too_late_goes_away() {
        let turns = Arc::new(Turns::default());
        let mine = turns.wait(peer(1), [0; 32], Instant::now()).unwrap();
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(turns.wait(peer(1), [0; 32], soon).is_none());
        assert_eq!(waiting(&turns), 0);
        let wait = |who| {
            let others = Arc::clone(&turns);
            let later = Instant::now() + PATIENCE;
            std::thread::spawn(move || drop(others.wait(peer(who), [0; 32], later)))
        };
        let mut threads = Vec::new();
        for n in 0..WAITING {
            threads.push(wait(n as u8 / 2));
            while waiting(&turns) <= n {
                std::thread::yield_now();
            }
            if n == 1 {
                let later = Instant::now() + PATIENCE;
                assert!(
                    turns.wait(peer(0), [0; 32], later).is_none(),
                    "a third of one peer"
                );
            }
        }
        let later = Instant::now() + PATIENCE;
        assert!(
            turns.wait(peer(99), [0; 32], later).is_none(),
            "one too many"
        );
        drop(mine);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
