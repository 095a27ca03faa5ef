//! The statistics of a sender.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::feed::Losses;
use super::queue::QueueStats;
use crate::sys::lock;

/// The statistics of one sender, shared with the exporter's own metrics.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Numbers>);

/// What a sender has done so far, and its state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    /// Samples accepted by the receiver.
    pub sent: u64,
    /// Samples that wait to be sent, about.
    pub pending: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Bytes of all requests' bodies.
    pub bytes: u64,
    /// The newest stamp that was sent, in milliseconds since 1970.
    pub highest_ms: Option<i64>,
    /// How far this board's clock is ahead of the receiver's, in milliseconds.
    pub skew_ms: Option<i64>,
    /// Nothing is sent because the clock is not to be trusted.
    pub held: bool,
    /// Requests by outcome.
    pub requests: BTreeMap<&'static str, u64>,
    /// The state of the queue on disk, if there is one.
    pub on_disk: Option<QueueStats>,
    /// Samples that were not sent, or not taken, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl Stats {
    /// The current values.
    pub fn numbers(&self) -> Numbers {
        lock::lock(&self.0).clone()
    }

    /// Changes the values.
    pub(super) fn change(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut lock::lock(&self.0));
    }

    /// Counts a request.
    pub(super) fn request(&self, outcome: &'static str, bytes: u64) {
        self.change(|numbers| {
            *numbers.requests.entry(outcome).or_default() += 1;
            numbers.bytes += bytes;
        });
    }

    /// Counts samples that the sender lost.
    pub(super) fn lose(&self, reason: &str, samples: u64) {
        self.change(|numbers| match numbers.dropped.get_mut(reason) {
            Some(count) => *count += samples,
            None => {
                numbers.dropped.insert(reason.to_string(), samples);
            }
        });
    }

    /// Takes over the losses of the feed.
    pub(super) fn set_losses(&self, losses: Losses) {
        self.change(|numbers| {
            for (reason, samples) in losses {
                numbers.dropped.insert(reason.to_string(), samples);
            }
        });
    }
}
