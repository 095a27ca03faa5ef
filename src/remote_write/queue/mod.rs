//! The queue on disk: samples that the receiver has not taken outlast the process, and outages longer than memory does.
//!
//! [`QueueFeed`] stands between the memory feed and the sender. Samples come out of memory as batches whose stamps are
//! milliseconds since boot. A batch is cut into blocks of runs ([`block`]), a block is written run by run into a record
//! of a segment ([`segment`]), and segments are kept in a directory ([`disk`]). Wall-clock stamps are made when a block
//! leaves the queue, from the clock as it is known then: so what was read before the clock was set comes out right,
//! even after a restart.

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
pub use state::QueueStats;
use state::State;

/// A feed that gives every sample once, from memory or from disk.
pub struct QueueFeed {
    state: Arc<Mutex<State>>,
    clock: Arc<WallClock>,
    stop: Arc<Stop>,
    flusher: Option<JoinHandle<()>>,
}

impl QueueFeed {
    /// Gives what is in the directory first, then what memory gives. A directory that cannot be used is logged once,
    /// and tried again.
    pub fn new(memory: MemoryFeed, settings: DiskQueue, clock: Arc<WallClock>) -> QueueFeed {
        let interval = (settings.sync_interval / 8).max(Duration::from_millis(10));
        let state = State::new(memory, settings, BootTime::now());
        let state = Arc::new(Mutex::new(state));
        let stop = Arc::new(Stop::default());
        let (thread_state, thread_clock, thread_stop) =
            (Arc::clone(&state), Arc::clone(&clock), Arc::clone(&stop));
        // The disk has a thread of its own: the sender may be waiting for its receiver when samples are due to be
        // written.
        let flusher = std::thread::Builder::new()
            .name("remote-write-queue".to_string())
            .stack_size(256 * 1024)
            .spawn(move || {
                while thread_stop.wait_until(Instant::now() + interval) != Woken::Stop {
                    let offset = thread_clock.offset();
                    lock::lock(&thread_state).flush(offset.as_ref(), BootTime::now(), false);
                }
            });
        if let Err(error) = &flusher {
            log::error!("remote write: cannot start the thread that writes the queue: {error}: samples are kept in memory only");
        }
        QueueFeed {
            state,
            clock,
            stop,
            flusher: flusher.ok(),
        }
    }

    fn stop_flusher(&mut self) {
        self.stop.set();
        if let Some(flusher) = self.flusher.take() {
            let _ = flusher.join();
        }
    }
}

impl Feed for QueueFeed {
    fn next(&mut self, offset: &Offset, now: BootTime, limit: BatchLimit) -> Option<Arc<Batch>> {
        lock::lock(&self.state).next(offset, now, limit)
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

    fn on_disk(&self) -> Option<QueueStats> {
        Some(lock::lock(&self.state).stats())
    }

    fn into_memory(mut self: Box<Self>) -> MemoryFeed {
        self.stop_flusher();
        lock::lock(&self.state).take_memory()
    }

    fn finish(&mut self) {
        lock::lock(&self.state).finish();
    }
}

impl Drop for QueueFeed {
    /// Writes what has not been sent.
    fn drop(&mut self) {
        self.stop_flusher();
        let offset = self.clock.offset();
        lock::lock(&self.state).flush(offset.as_ref(), BootTime::now(), true);
    }
}
