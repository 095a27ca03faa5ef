//! What the queue does, without the thread that does it: what comes out of memory, what goes to disk, and what is given.
//!
//! Samples stay in memory as long as they are young. What the receiver has not taken before it is nearly `sync_interval` old
//! is written, together with everything that came after it: so a receiver that is well costs no write at all, one that
//! is away costs one write and one sync in that time, and no more than that is lost when the process is killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::block::{Block, ClockOffset};
use super::cut::cut;
use super::disk::{Disk, Taken};
use super::restore::Restore;
use super::segment::BootId;
use super::sent::Position;
use crate::metrics::Offset;
use crate::remote_write::{Batch, Feed, Losses, MemoryFeed, Most, Pending};
use crate::sys::boot_id::boot_id;
use crate::sys::clock::BootTime;

/// Where the queue is, and how much it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The directory, which is the queue's alone.
    pub directory: PathBuf,
    /// The most bytes in it.
    pub bytes: u64,
    /// No sample that has not been sent is older than this and not on disk.
    pub sync_interval: Duration,
}

/// What has not been asked for yet is cut into parts like this.
const USUAL: Most = Most {
    samples: 2000,
    readings: usize::MAX,
};
/// Clocks that are read twice differ by less than this, in nanoseconds: the stamps stay what they were.
const SAME_CLOCK: u64 = 1_000_000;
/// So long is waited for a clock that is behind what an earlier boot's was: it may not have been set yet.
const PATIENCE: Duration = Duration::from_secs(600);
/// A disk that could not be written is tried again after so long at least.
const RETRY: Duration = Duration::from_secs(30);
/// Of what was on disk at the start so many samples are given block by block. What was on its way when the process was
/// killed may have been stored: a receiver that refuses it then refuses nothing else with it.
const CAREFUL: u64 = 16 * 1024;

/// How the queue stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes written to disk since the start.
    pub written_bytes: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Whether it is written: 0 while the disk does not take it.
    pub ok: bool,
    /// Records that could not be read.
    pub damaged_records: u64,
}

pub(super) struct State {
    memory: MemoryFeed,
    settings: Settings,
    boot: BootId,
    disk: Option<Disk>,
    /// When the disk is tried again that could not be written, and what was wrong with it.
    retry: BootTime,
    trouble: Option<String>,
    /// Blocks out of memory that are not on disk. They are newer than what is.
    cut: Vec<Block>,
    given: Option<Given>,
    restore: Restore,
    most: Most,
    opened: BootTime,
    careful: u64,
    never_stamped: u64,
    synced: BootTime,
}

/// A batch that is being sent.
struct Given {
    batch: Arc<Batch>,
    /// How far it comes from disk, and how many samples that is.
    disk: Option<(Position, u64)>,
    /// How many of the blocks that are not on disk are in it.
    cut: usize,
}

/// What is to be added to stamps, in milliseconds.
enum Shift {
    By(i64),
    /// That will be known later.
    NotYet,
    /// That will never be known.
    Never,
}

impl State {
    pub(super) fn new(memory: MemoryFeed, settings: Settings, now: BootTime) -> State {
        let mut state = State {
            memory,
            settings,
            // Without a name of its own every life of the process is one of the board.
            boot: boot_id().unwrap_or_else(|| {
                let own = (u128::from(now.0) << 32 | u128::from(std::process::id())) ^ (1 << 127);
                own.to_be_bytes()
            }),
            disk: None,
            retry: now,
            trouble: None,
            cut: Vec::new(),
            given: None,
            restore: Restore::default(),
            most: USUAL,
            opened: now,
            careful: CAREFUL,
            never_stamped: 0,
            synced: now,
        };
        state.open(now);
        state
    }

    /// Opens the directory if it is not open. False: that cannot be done now.
    fn open(&mut self, now: BootTime) -> bool {
        if self.disk.is_some() {
            return true;
        }
        match Disk::open(&self.settings.directory, self.settings.bytes, self.boot) {
            Ok(disk) => {
                let samples = disk.samples();
                if samples > 0 {
                    log::info!(
                        "remote write: {samples} samples of before are on disk, and are sent first"
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

    /// Says once that the queue goes on in memory.
    fn fail(&mut self, error: String, now: BootTime) {
        let wait = RETRY.max(self.settings.sync_interval);
        self.retry = BootTime(now.0.saturating_add(wait.as_nanos() as u64));
        if self.trouble.is_none() {
            log::error!(
                "remote write: the queue goes on in memory, and tries again later: {error}"
            );
        }
        self.trouble = Some(error);
    }

    pub(super) fn next(
        &mut self,
        offset: &Offset,
        now: BootTime,
        most: Most,
    ) -> Option<Arc<Batch>> {
        self.most = most;
        loop {
            if let Some(given) = &self.given {
                return Some(Arc::clone(&given.batch));
            }
            let on_disk = self.disk.as_ref().is_some_and(|disk| !disk.is_empty());
            let more = if on_disk {
                self.give_from_disk(offset, now)
            } else {
                self.give_from_memory(offset, now)
            };
            if !more {
                return None;
            }
        }
    }

    /// Gives what is next on disk, or leaves out what never can be given. False: there is nothing to give now.
    fn give_from_disk(&mut self, offset: &Offset, now: BootTime) -> bool {
        let most_samples = if self.careful > 0 {
            1
        } else {
            self.most.samples
        };
        let Some(disk) = &mut self.disk else {
            return false;
        };
        let taken = disk.take(most_samples);
        let Some(first) = taken.first() else {
            return true;
        };
        let first_samples = first.block.samples() as u64;
        match self.shift(first, offset, now) {
            Shift::By(_) => {}
            Shift::NotYet => return false,
            Shift::Never => {
                if self.never_stamped == 0 {
                    log::warn!("remote write: samples of an earlier boot, whose clock was never right, are left out");
                }
                self.never_stamped += first_samples;
                let end = first.end;
                if let Some(disk) = &mut self.disk {
                    disk.sent(end, first_samples);
                }
                return true;
            }
        }
        let shifted = taken
            .iter()
            .map_while(|taken| match self.shift(taken, offset, now) {
                Shift::By(shift) => Some((taken, shift)),
                _ => None,
            });
        let shifted: Vec<_> = shifted.collect();
        let Some((last, _)) = shifted.last() else {
            return true;
        };
        let (end, blocks) = (
            last.end,
            shifted.iter().map(|(taken, shift)| (&taken.block, *shift)),
        );
        let samples = shifted
            .iter()
            .map(|(taken, _)| taken.block.samples() as u64)
            .sum();
        let blocks: Vec<_> = blocks.collect();
        self.give(&blocks, Some((end, samples)), 0);
        true
    }

    /// Gives what is next in memory. False: there is nothing.
    fn give_from_memory(&mut self, offset: &Offset, now: BootTime) -> bool {
        self.careful = 0;
        if self.cut.is_empty() && !self.cut_more(Some(offset), now) {
            return false;
        }
        let mut samples = 0;
        let fits = |block: &&Block| {
            samples += block.samples();
            samples <= self.most.samples
        };
        let count = self.cut.iter().take_while(fits).count().max(1);
        let blocks = std::mem::take(&mut self.cut);
        let shifted = blocks
            .iter()
            .take(count)
            .map(|block| (block, own_shift(block, offset.nanos())));
        let shifted: Vec<_> = shifted.collect();
        let newest = shifted
            .iter()
            .filter_map(|(block, shift)| Some(block.stamps.last()? + shift));
        // A mark stands a millisecond behind what it marks, which may be now.
        let too_early = newest.max().is_some_and(|newest| newest > offset.now_ms());
        if !too_early {
            self.give(&shifted, None, count);
        }
        self.cut = blocks;
        if !too_early && self.given.is_none() {
            self.cut.drain(..count);
        }
        !too_early
    }

    fn give(&mut self, blocks: &[(&Block, i64)], disk: Option<(Position, u64)>, cut: usize) {
        let batch = self.restore.batch(blocks);
        let given = Given {
            batch: Arc::new(batch),
            disk,
            cut,
        };
        if given.batch.is_empty() {
            // All of it would have gone back. What is cut, the caller takes away.
            if let (Some(disk), Some((end, samples))) = (&mut self.disk, given.disk) {
                disk.sent(end, samples);
            }
            return;
        }
        self.given = Some(given);
    }

    fn shift(&self, taken: &Taken, offset: &Offset, now: BootTime) -> Shift {
        if taken.boot == self.boot {
            return Shift::By(own_shift(&taken.block, offset.nanos()));
        }
        let known = self.disk.as_ref().and_then(|disk| disk.clock(&taken.boot));
        let Some(known) = known else {
            return Shift::Never;
        };
        let shift = own_shift(&taken.block, known);
        // It was before this boot began. If it does not seem so, one of the clocks is wrong, and perhaps still to be set.
        let began = offset.nanos().div_euclid(1_000_000);
        let newest = taken
            .block
            .stamps
            .last()
            .map_or(i64::MIN, |stamp| stamp.saturating_add(shift));
        let waited = Duration::from_nanos(now.0.saturating_sub(self.opened.0));
        match newest <= began {
            true => Shift::By(shift),
            false if waited < PATIENCE => Shift::NotYet,
            false => Shift::Never,
        }
    }

    /// Cuts more blocks from what memory holds. False: it holds nothing.
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
        let Some(batch) = self.memory.next(&on_boot_time, now, self.most) else {
            return false;
        };
        self.cut.extend(cut(&batch, clock));
        self.memory.done();
        true
    }

    pub(super) fn done(&mut self) {
        let Some(given) = self.given.take() else {
            return;
        };
        if let (Some(disk), Some((end, samples))) = (&mut self.disk, given.disk) {
            disk.sent(end, samples);
            self.careful = self.careful.saturating_sub(samples);
        }
        self.cut.drain(..given.cut.min(self.cut.len()));
    }

    /// Writes what has not been sent, if it is nearly as old as it may be; or in any case.
    pub(super) fn flush(&mut self, offset: Option<&Offset>, now: BootTime, in_any_case: bool) {
        if in_any_case {
            if self.cut.is_empty() && !self.cut_more(offset, now) {
                return self.sync(now);
            }
        } else if now < self.retry || !self.open(now) {
            return;
        } else if !self.is_due(now) {
            // How far was sent has to reach the disk, too, in its time.
            let since = Duration::from_nanos(now.0.saturating_sub(self.synced.0));
            if since >= self.settings.sync_interval {
                self.sync(now);
            }
            return;
        }
        if !self.open(now) {
            return;
        }
        loop {
            if let Err(error) = self.write() {
                let path = self.settings.directory.display();
                return self.fail(format!("cannot write to {path}: {error}"), now);
            }
            if !self.cut_more(offset, now) {
                break;
            }
        }
        self.sync(now);
    }

    /// Whether the oldest of what is neither sent nor on disk is nearly as old as it may be.
    fn is_due(&self, now: BootTime) -> bool {
        let in_memory = self
            .cut
            .iter()
            .filter_map(Block::oldest)
            .chain(self.memory.oldest());
        // What is left of the time is for being late, and for the disk.
        let most = self.settings.sync_interval / 4 * 3;
        in_memory
            .min()
            .is_some_and(|oldest| Duration::from_nanos(now.0.saturating_sub(oldest.0)) >= most)
    }

    /// Writes the blocks that are not on disk.
    fn write(&mut self) -> std::io::Result<()> {
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        while let Some(block) = self.cut.first() {
            let samples = block.samples() as u64;
            disk.append(std::slice::from_ref(block))?;
            self.cut.remove(0);
            // What is being sent is on disk from now on.
            if let Some(given) = self.given.as_mut().filter(|given| given.cut > 0) {
                let before = given.disk.map_or(0, |(_, samples)| samples);
                given.disk = Some((disk.end(), before + samples));
                given.cut -= 1;
            }
        }
        Ok(())
    }

    fn sync(&mut self, now: BootTime) {
        self.synced = now;
        let path = self.settings.directory.display();
        match self.disk.as_mut().map(Disk::sync) {
            Some(Err(error)) => self.fail(format!("cannot sync {path}: {error}"), now),
            Some(Ok(())) if self.trouble.take().is_some() => {
                log::info!("remote write: the queue is on disk again, in {path}");
            }
            _ => {}
        }
    }

    pub(super) fn finish(&mut self) {
        self.memory.finish();
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

    pub(super) fn figures(&self) -> Figures {
        let disk = self.disk.as_ref();
        Figures {
            written_bytes: disk.map_or(0, Disk::written),
            bytes: disk.map_or(0, Disk::bytes),
            ok: self.trouble.is_none(),
            damaged_records: disk.map_or(0, |disk| disk.lost().damaged_records),
        }
    }
}

/// What is to be added to a block's stamps when the clock is so many nanoseconds ahead of boot time.
fn own_shift(block: &Block, nanos: i64) -> i64 {
    let same = block.clock.right && block.clock.nanos.abs_diff(nanos) < SAME_CLOCK;
    if same {
        return 0;
    }
    nanos.div_euclid(1_000_000).saturating_sub(block.clock.ms())
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
