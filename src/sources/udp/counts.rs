//! Counts of datagrams by what became of them.

use std::sync::Arc;

use crate::sources::{Health, SourceCounter};

const KINDS: [&str; 10] = [
    "accepted",
    "lost",
    "late",
    "duplicated",
    "reordered",
    "truncated",
    "oversized",
    "malformed",
    "implausible",
    "foreign",
];

/// Counts datagrams by kind.
pub(super) struct DatagramCounts {
    health: Arc<Health>,
}

impl DatagramCounts {
    /// Creates the counters of all kinds. A counter that first appears with its first increase hides that increase from
    /// `rate`.
    pub(super) fn new(health: &Arc<Health>) -> DatagramCounts {
        let counts = DatagramCounts {
            health: Arc::clone(health),
        };
        for kind in KINDS {
            counts.counter(kind);
        }
        counts
    }

    /// Counts a datagram of this kind.
    pub(super) fn add(&self, kind: &'static str) {
        self.counter(kind).add();
    }

    fn counter(&self, kind: &'static str) -> Arc<SourceCounter> {
        self.health.counter(
            "exporter_udp_datagrams_total",
            "Datagrams by outcome: accepted, lost (no answer in time), or rejected.",
            kind,
        )
    }
}
