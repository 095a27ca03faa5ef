//! Work that concurrent requests share: one does it, and the others take the result.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::store::StoreError;
use crate::sys::lock;

/// A state that is brought up to date by one request at a time.
#[derive(Default)]
pub(super) struct Rounds<T> {
    /// The number of rounds started.
    started: AtomicU64,
    has_succeeded: AtomicBool,
    round: Mutex<Round<T>>,
}

#[derive(Default)]
pub(super) struct Round<T> {
    /// The number of the last finished round.
    last_finished: u64,
    /// Its outcome.
    outcome: Option<Result<(), StoreError>>,
    pub(super) state: T,
}

impl<T> Rounds<T> {
    /// Does `work`, or takes the outcome of work that began after this call.
    pub(super) fn run(
        &self,
        work: impl FnOnce(&mut T) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let started_before = self.started.load(Ordering::SeqCst);
        let mut round = lock::lock(&self.round);
        match &round.outcome {
            // This round started after this call, so it has seen every earlier change.
            Some(outcome) if round.last_finished > started_before => return outcome.clone(),
            _ => {}
        }
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = work(&mut round.state);
        self.has_succeeded
            .fetch_or(outcome.is_ok(), Ordering::Relaxed);
        (round.last_finished, round.outcome) = (number, Some(outcome.clone()));
        outcome
    }

    /// Whether a round has succeeded: before that the state is not known.
    pub(super) fn has_succeeded(&self) -> bool {
        self.has_succeeded.load(Ordering::Relaxed)
    }

    /// The state, unless a round is under way.
    pub(super) fn idle(&self) -> Option<MutexGuard<'_, Round<T>>> {
        self.round.try_lock().ok()
    }
}
