//! A queue for work that keeps a processor busy for a while: one job runs at a time, and peers take turns, so that a peer
//! with many requests does not delay the others.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::Fingerprint;
use crate::sys::lock::lock;

/// Waiting jobs, in all and of one peer. Each of them holds a connection, of which there are a few dozen.
const MAX_WAITING: usize = 8;
const MAX_WAITING_PER_PEER: usize = 2;
/// Requests that wait for another request's job: a browser opens six connections at once with one password.
const MAX_WAITING_FOR_RESULT: usize = 16;

/// The queue. A job is known by its [`Fingerprint`]: two jobs with the same one have the same result.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    running: Option<(JobId, Fingerprint)>,
    /// The peer whose job was started last.
    last_peer: Option<IpAddr>,
    waiting: VecDeque<(JobId, IpAddr, Fingerprint)>,
    waiting_for_result: usize,
    next_id: JobId,
}

type JobId = u64;

/// Allows its holder to run its job. Dropping it starts the next job.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a FairQueue);

impl FairQueue {
    /// Waits until the job may run. `None`: too many jobs are waiting, or `deadline` has passed.
    pub(super) fn acquire(
        &self,
        peer: IpAddr,
        job: Fingerprint,
        deadline: Instant,
    ) -> Option<Permit<'_>> {
        let mut state = lock(&self.state);
        let of_peer = state.waiting.iter().filter(|(_, p, _)| *p == peer).count();
        if state.waiting.len() >= MAX_WAITING || of_peer >= MAX_WAITING_PER_PEER {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.push_back((id, peer, job));
        if state.running.is_none() {
            state.start_next();
        }
        while state.running.is_none_or(|(running, _)| running != id) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                state.waiting.retain(|(other, ..)| *other != id);
                self.changed.notify_all();
                return None;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(Permit(self))
    }

    /// How many requests wait, for a permit or for another request's job.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = lock(&self.state);
        state.waiting.len() + state.waiting_for_result
    }

    /// Waits while the same job is running or waiting for another request. Returns at once if too many requests wait here.
    pub(super) fn wait_for_same(&self, job: Fingerprint, deadline: Instant) {
        let mut state = lock(&self.state);
        if state.waiting_for_result >= MAX_WAITING_FOR_RESULT {
            return;
        }
        state.waiting_for_result += 1;
        while state.contains(&job) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting_for_result -= 1;
    }
}

impl QueueState {
    fn contains(&self, job: &Fingerprint) -> bool {
        self.running.is_some_and(|(_, running)| running == *job)
            || self.waiting.iter().any(|(.., waiting)| waiting == job)
    }

    /// Starts the job that has waited longest, of another peer than the last one if there is one.
    fn start_next(&mut self) {
        let of_another_peer = self
            .waiting
            .iter()
            .position(|(_, peer, _)| Some(*peer) != self.last_peer);
        let next = self.waiting.remove(of_another_peer.unwrap_or_default());
        self.running = next.map(|(id, _, job)| (id, job));
        self.last_peer = next.map(|(_, peer, _)| peer);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).start_next();
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::sync::Arc;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn peer(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    fn waiting(queue: &FairQueue) -> usize {
        lock(&queue.state).waiting.len()
    }

    #[test]
    fn jobs_run_one_at_a_time_and_peers_take_turns() {
        let queue = Arc::new(FairQueue::default());
        let (sender, started) = mpsc::channel();
        let held = queue.acquire(peer(1), [0; 32], Instant::now()).unwrap();
        let mut threads = Vec::new();
        for (index, peer_number) in [1, 1, 2, 2, 3].into_iter().enumerate() {
            let (others, sender) = (Arc::clone(&queue), sender.clone());
            threads.push(std::thread::spawn(move || {
                let permit = others
                    .acquire(peer(peer_number), [0; 32], Instant::now() + TIMEOUT)
                    .unwrap();
                sender.send(peer_number).unwrap();
                drop(permit);
            }));
            while waiting(&queue) <= index {
                std::thread::yield_now();
            }
        }
        assert!(started.try_recv().is_err());
        drop(held);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(started.try_iter().collect::<Vec<_>>(), [2, 1, 2, 1, 3]);
        assert!(queue.acquire(peer(1), [0; 32], Instant::now()).is_some());
    }

    #[test]
    fn jobs_beyond_the_limit_or_the_deadline_are_refused() {
        let queue = Arc::new(FairQueue::default());
        let held = queue.acquire(peer(1), [0; 32], Instant::now()).unwrap();
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(queue.acquire(peer(1), [0; 32], soon).is_none());
        assert_eq!(waiting(&queue), 0);
        let wait = |peer_number| {
            let others = Arc::clone(&queue);
            let later = Instant::now() + TIMEOUT;
            std::thread::spawn(move || drop(others.acquire(peer(peer_number), [0; 32], later)))
        };
        let mut threads = Vec::new();
        for n in 0..MAX_WAITING {
            threads.push(wait(n as u8 / 2));
            while waiting(&queue) <= n {
                std::thread::yield_now();
            }
            if n == 1 {
                let later = Instant::now() + TIMEOUT;
                assert!(
                    queue.acquire(peer(0), [0; 32], later).is_none(),
                    "a third job of one peer"
                );
            }
        }
        let later = Instant::now() + TIMEOUT;
        assert!(
            queue.acquire(peer(99), [0; 32], later).is_none(),
            "one job too many"
        );
        drop(held);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
