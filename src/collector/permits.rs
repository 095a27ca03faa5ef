//! The limit on the number of streams.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

use super::join::RowKind;

/// Counts the open streams, and limits their number.
#[derive(Debug)]
pub struct Permits {
    limit: usize,
    /// Permits given out, by [`RowKind::ALL`].
    open: [AtomicUsize; RowKind::ALL.len()],
    refused: AtomicU64,
}

/// The permission for one stream, returned when it is dropped.
#[derive(Debug)]
pub struct Permit {
    kind: RowKind,
    permits: Arc<Permits>,
}

impl Permits {
    /// At most `limit` streams at once.
    pub fn new(limit: usize) -> Permits {
        Permits {
            limit,
            open: Default::default(),
            refused: AtomicU64::new(0),
        }
    }

    /// The permission for one more stream; `None` when the limit is reached.
    pub fn acquire(self: &Arc<Self>, kind: RowKind) -> Option<Permit> {
        self.open[kind as usize].fetch_add(1, Ordering::SeqCst);
        // Counted first, so that several requests at once cannot exceed the limit.
        let permit = Permit {
            kind,
            permits: Arc::clone(self),
        };
        if self.open().iter().sum::<usize>() > self.limit {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(permit)
    }

    /// The most streams at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Open streams, by [`RowKind::ALL`].
    pub fn open(&self) -> [usize; RowKind::ALL.len()] {
        RowKind::ALL.map(|kind| self.open[kind as usize].load(Ordering::SeqCst))
    }

    /// Streams that were refused because the limit was reached.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.open[self.kind as usize].fetch_sub(1, Ordering::SeqCst);
    }
}
