//! The queue on disk: what the receiver has not taken outlasts the process, and outages longer than memory.
//!
//! [`QueueFeed`] stands between the feed out of memory and the sender. What is to be written comes out of memory as batches
//! do, with stamps that are milliseconds since boot; a batch is cut into blocks of its runs ([`block`]), a block is written
//! run by run into a record of a segment ([`segment`]), and segments are kept in a directory ([`disk`]). Wall-clock stamps
//! are made when a block leaves, from the clock as it is known then: so what was read before the clock was set comes out
//! right, even after a restart.

mod bits;
pub mod block;
pub(super) mod bytes;
mod column;
mod cut;
mod directory;
mod disk;
mod ints;
pub mod record;
mod restore;
pub mod segment;
mod sent;
pub mod series;
mod state;
#[cfg(test)]
mod testing;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Batch, BatchLimit, Feed, Losses, MemoryFeed, Pending};
use crate::config::DiskQueue;
use crate::metrics::{Offset, WallClock};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::stop::{Stop, Woken};
pub use state::Figures;
use state::State;

/// Gives every sample once, out of memory or from disk.
pub struct QueueFeed {
    state: Arc<Mutex<State>>,
    clock: Arc<WallClock>,
    stop: Arc<Stop>,
    keeper: Option<JoinHandle<()>>,
}

impl QueueFeed {
    /// What is in the directory comes first, then what memory gives. A directory that cannot be used is said once, and
    /// tried again.
    pub fn new(memory: MemoryFeed, settings: DiskQueue, clock: Arc<WallClock>) -> QueueFeed {
        let look = (settings.sync_interval / 8).max(Duration::from_millis(10));
        let state = State::new(memory, settings, BootTime::now());
        let state = Arc::new(Mutex::new(state));
        let stop = Arc::new(Stop::default());
        let (of_keeper, of_clock, until) =
            (Arc::clone(&state), Arc::clone(&clock), Arc::clone(&stop));
        // A thread of its own: the sender may be waiting for its receiver when there is something to be written.
        let keeper = std::thread::Builder::new()
            .name("remote-write-queue".to_string())
            .stack_size(256 * 1024)
            .spawn(move || {
                while until.wait_until(Instant::now() + look) != Woken::Stop {
                    let offset = of_clock.offset();
                    lock::lock(&of_keeper).flush(offset.as_ref(), BootTime::now(), false);
                }
            });
        if let Err(error) = &keeper {
            log::error!("remote write: nothing is written to the queue's disk: cannot start a thread: {error}");
        }
        QueueFeed {
            state,
            clock,
            stop,
            keeper: keeper.ok(),
        }
    }

    fn end_keeper(&mut self) {
        self.stop.set();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Feed for QueueFeed {
    fn next(&mut self, offset: &Offset, now: BootTime, most: BatchLimit) -> Option<Arc<Batch>> {
        lock::lock(&self.state).next(offset, now, most)
    }

    fn done(&mut self) {
        lock::lock(&self.state).done();
    }

    fn pending(&self) -> Pending {
        lock::lock(&self.state).pending()
    }

    fn losses(&self) -> Losses {
        lock::lock(&self.state).losses()
    }

    fn on_disk(&self) -> Option<Figures> {
        Some(lock::lock(&self.state).figures())
    }

    fn into_memory(mut self: Box<Self>) -> MemoryFeed {
        self.end_keeper();
        lock::lock(&self.state).leave_memory()
    }

    fn finish(&mut self) {
        lock::lock(&self.state).finish();
    }
}

impl Drop for QueueFeed {
    /// What has not been sent is written.
    fn drop(&mut self) {
        self.end_keeper();
        let offset = self.clock.offset();
        lock::lock(&self.state).flush(offset.as_ref(), BootTime::now(), true);
    }
}
