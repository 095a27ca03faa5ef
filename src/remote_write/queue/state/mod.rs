//! The queue's state: what comes out of memory, what goes to disk, and what is given to the sender.
//!
//! Samples stay in memory as long as they are young. What the receiver has not taken before it is nearly
//! `sync_interval` old is written, together with everything after it. So a receiver that is up costs no write at all,
//! one that is down costs one write and one sync in that time, and no more than that is lost when the process is
//! killed.

mod flush;
mod give;

use std::sync::Arc;
use std::time::Duration;

use super::block::{Block, ClockOffset};
use super::cut::cut;
use super::disk::{Disk, Taken};
use super::restore::Restore;
use super::segment::BootId;
use super::sent::Position;
use crate::config::DiskQueue;
use crate::metrics::Offset;
use crate::remote_write::{Batch, BatchLimit, Feed, Losses, MemoryFeed, Pending};
use crate::sys::boot_id::boot_id;
use crate::sys::clock::BootTime;

/// The size of batches that are cut before the sender has asked for any.
const DEFAULT_LIMIT: BatchLimit = BatchLimit {
    samples: 2000,
    readings: usize::MAX,
};
/// Two readings of one clock differ by less than this, in nanoseconds: the stamps stay the same.
const MAX_CLOCK_JITTER: u64 = 1_000_000;
/// How long the queue waits for a clock that is behind that of an earlier boot: it may not have been set yet.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(600);
/// The shortest time after which a disk that could not be written is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// How many of the samples that were on disk at the start are given block by block, and sent in small requests. A
/// request that was under way when the process was killed may have been stored: if the receiver refuses its samples,
/// few others are refused with them.
const MAX_UNCERTAIN_SAMPLES: u64 = 16 * 1024;

/// The state of a queue on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Bytes written to disk since the start.
    pub written_bytes: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Whether the disk takes what is written.
    pub ok: bool,
    /// Records that could not be read.
    pub damaged_records: u64,
}

pub(super) struct State {
    memory: MemoryFeed,
    settings: DiskQueue,
    boot: BootId,
    disk: Option<Disk>,
    /// When the disk is tried again after an error, and the error.
    retry_at: BootTime,
    error: Option<String>,
    /// Blocks from memory that are not on disk. They are newer than what is on disk.
    cut: Vec<Block>,
    given: Option<GivenBatch>,
    restore: Restore,
    limit: BatchLimit,
    opened_at: BootTime,
    uncertain: u64,
    never_stamped: u64,
    synced_at: BootTime,
}

/// A batch that is being sent.
struct GivenBatch {
    batch: Arc<Batch>,
    /// The end of the part that is on disk, and its number of samples.
    disk: Option<(Position, u64)>,
    /// How many of the blocks in `cut` are in the batch.
    cut: usize,
}

impl State {
    pub(super) fn new(memory: MemoryFeed, settings: DiskQueue, now: BootTime) -> State {
        let mut state = State {
            memory,
            settings,
            // Without a boot ID every run of the process counts as a boot of its own.
            boot: boot_id().unwrap_or_else(|| {
                let own = (u128::from(now.0) << 32 | u128::from(std::process::id())) ^ (1 << 127);
                own.to_be_bytes()
            }),
            disk: None,
            retry_at: now,
            error: None,
            cut: Vec::new(),
            given: None,
            restore: Restore::default(),
            limit: DEFAULT_LIMIT,
            opened_at: now,
            uncertain: 0,
            never_stamped: 0,
            synced_at: now,
        };
        state.open(now);
        state
    }

    /// Opens the directory if it is not open. `false`: that is not possible now.
    fn open(&mut self, now: BootTime) -> bool {
        if self.disk.is_some() {
            return true;
        }
        match Disk::open(&self.settings.directory, self.settings.bytes, self.boot) {
            Ok(disk) => {
                let samples = disk.samples();
                self.uncertain = samples.min(MAX_UNCERTAIN_SAMPLES);
                if samples > 0 {
                    log::info!(
                        "remote write: {samples} earlier samples are on disk and are sent first"
                    );
                }
                self.disk = Some(disk);
                true
            }
            Err(error) => {
                self.fail(error, now);
                false
            }
        }
    }

    /// Notes an error of the disk, and logs once that the queue goes on in memory.
    fn fail(&mut self, error: String, now: BootTime) {
        let wait = RETRY_DELAY.max(self.settings.sync_interval);
        self.retry_at = BootTime(now.0.saturating_add(wait.as_nanos() as u64));
        if self.error.is_none() {
            log::error!(
                "remote write: the queue is kept in memory, and the disk is tried again later: {error}"
            );
        }
        self.error = Some(error);
    }

    /// Cuts more blocks from what memory holds. `false`: memory is empty.
    fn cut_more(&mut self, offset: Option<&Offset>, now: BootTime) -> bool {
        let clock = match offset {
            Some(offset) => ClockOffset {
                nanos: offset.nanos(),
                right: true,
            },
            None => ClockOffset {
                nanos: 0,
                right: false,
            },
        };
        let on_boot_time = offset.map_or_else(Offset::of_boot_time, Offset::below_a_millisecond);
        let Some(batch) = self.memory.next(&on_boot_time, now, self.limit) else {
            return false;
        };
        self.memory.done();
        self.cut.extend(cut(Arc::unwrap_or_clone(batch), clock));
        true
    }

    pub(super) fn done(&mut self) {
        let Some(given) = self.given.take() else {
            return;
        };
        if let (Some(disk), Some((end, samples))) = (&mut self.disk, given.disk) {
            disk.sent(end, samples);
            self.uncertain = self.uncertain.saturating_sub(samples);
        }
        self.cut.drain(..given.cut.min(self.cut.len()));
    }

    pub(super) fn finish(&mut self) {
        self.memory.finish();
    }

    /// Takes what is not on disk out of the queue. What is on disk stays there.
    pub(super) fn take_memory(&mut self) -> MemoryFeed {
        let on_disk = self.disk.as_ref().map_or(0, Disk::samples);
        if on_disk > 0 {
            let path = self.settings.directory.display();
            log::warn!(
                "remote write: {on_disk} samples remain on disk, in {path}: they are sent when it is a \
                 `queue_directory` again"
            );
        }
        self.given = None;
        let cut = std::mem::take(&mut self.cut);
        let since_boot = cut.iter().map(|block| (block, 0));
        let first = Restore::default().batch(&since_boot.collect::<Vec<_>>());
        self.memory.take_all(first)
    }

    pub(super) fn pending(&self) -> Pending {
        let mut pending = self.memory.pending();
        let given = self.given.as_ref();
        let on_disk = self.disk.as_ref().map_or(0, Disk::samples);
        let on_disk =
            on_disk.saturating_sub(given.and_then(|given| given.disk).map_or(0, |(_, n)| n));
        let cut = self.cut.iter().skip(given.map_or(0, |given| given.cut));
        let waits = on_disk + cut.map(|block| block.samples() as u64).sum::<u64>();
        pending.samples += waits;
        pending.readings += waits;
        // Samples are written when they have waited for nearly `sync_interval`.
        pending.overdue = on_disk > 0;
        pending
    }

    pub(super) fn losses(&self) -> Losses {
        let mut losses = self.memory.losses();
        for (reason, samples) in &mut losses {
            if *reason == "clock_set_back" {
                *samples += self.restore.set_back;
            }
        }
        let lost = self.disk.as_ref().map(Disk::lost).unwrap_or_default();
        losses.push(("queue_full", lost.full));
        losses.push(("queue_damaged", lost.damaged));
        losses.push(("clock_never_set", self.never_stamped));
        losses
    }

    pub(super) fn stats(&self) -> QueueStats {
        let disk = self.disk.as_ref();
        QueueStats {
            written_bytes: disk.map_or(0, Disk::written),
            bytes: disk.map_or(0, Disk::bytes),
            ok: self.error.is_none(),
            damaged_records: disk.map_or(0, |disk| disk.lost().damaged_records),
        }
    }
}

/// The milliseconds to add to a block's stamps, when the clock is `nanos` nanoseconds ahead of boot time.
fn to_wall(block: &Block, nanos: i64) -> i64 {
    let same = block.clock.right && block.clock.nanos.abs_diff(nanos) < MAX_CLOCK_JITTER;
    match same {
        true => block.clock.ms(),
        false => nanos.div_euclid(1_000_000),
    }
}

#[cfg(test)]
mod tests;
