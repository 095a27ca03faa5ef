//! Gives batches to the sender: first what is on disk, then what is in memory, each with the stamps that are right now.

use std::sync::Arc;
use std::time::Duration;

use super::{
    to_wall, BatchLimit, Block, BootTime, GivenBatch, Offset, Position, State, Taken, CLOCK_TIMEOUT,
};
use crate::remote_write::Batch;

/// The milliseconds to add to stamps since boot.
enum Shift {
    By(i64),
    /// Not known yet.
    NotYet,
    /// Never to be known.
    Never,
}

impl State {
    pub(in super::super) fn next(
        &mut self,
        offset: &Offset,
        now: BootTime,
        limit: BatchLimit,
    ) -> Option<Arc<Batch>> {
        self.limit = limit;
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

    /// Gives the next samples on disk, or drops what can never be given. `false`: nothing can be given now.
    fn give_from_disk(&mut self, offset: &Offset, now: BootTime) -> bool {
        let max_samples = if self.uncertain > 0 {
            1
        } else {
            self.limit.samples
        };
        let Some(disk) = &mut self.disk else {
            return false;
        };
        let taken = disk.take(max_samples);
        let Some(first) = taken.first() else {
            return true;
        };
        let first_samples = first.block.samples() as u64;
        match self.shift(first, offset, now) {
            Shift::By(_) => {}
            Shift::NotYet => return false,
            Shift::Never => {
                if self.never_stamped == 0 {
                    log::warn!("remote write: samples of an earlier boot are dropped, because its clock was never set");
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

    /// Gives the next samples in memory. `false`: there are none.
    fn give_from_memory(&mut self, offset: &Offset, now: BootTime) -> bool {
        self.uncertain = 0;
        if self.cut.is_empty() && !self.cut_more(Some(offset), now) {
            return false;
        }
        let mut samples = 0;
        let fits = |block: &&Block| {
            samples += block.samples();
            samples <= self.limit.samples
        };
        let count = self.cut.iter().take_while(fits).count().max(1);
        let blocks = std::mem::take(&mut self.cut);
        let shifted = blocks
            .iter()
            .take(count)
            .map(|block| (block, to_wall(block, offset.nanos())));
        let shifted: Vec<_> = shifted.collect();
        let newest = shifted
            .iter()
            .filter_map(|(block, shift)| Some(block.newest()?.saturating_add(*shift)));
        // A staleness marker is a millisecond later than the sample before it: that may be in the future.
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
        let mut batch = self.restore.batch(blocks);
        batch.may_be_repeated = disk.is_some() && self.uncertain > 0;
        let given = GivenBatch {
            batch: Arc::new(batch),
            disk,
            cut,
        };
        if given.batch.is_empty() {
            // All samples would have gone back in time. The caller removes the blocks in `cut`.
            if let (Some(disk), Some((end, samples))) = (&mut self.disk, given.disk) {
                disk.sent(end, samples);
            }
            return;
        }
        self.given = Some(given);
    }

    fn shift(&self, taken: &Taken, offset: &Offset, now: BootTime) -> Shift {
        if taken.boot == self.boot {
            return Shift::By(to_wall(&taken.block, offset.nanos()));
        }
        let known = self.disk.as_ref().and_then(|disk| disk.clock(&taken.boot));
        let Some(known) = known else {
            return Shift::Never;
        };
        let shift = to_wall(&taken.block, known);
        // The block was written before this boot began. If its stamps say otherwise, one of the clocks is wrong, and
        // may still be set.
        let began = offset.nanos().div_euclid(1_000_000);
        let newest = taken
            .block
            .newest()
            .map_or(i64::MIN, |stamp| stamp.saturating_add(shift));
        let waited = Duration::from_nanos(now.0.saturating_sub(self.opened_at.0));
        match newest <= began {
            true => Shift::By(shift),
            false if waited < CLOCK_TIMEOUT => Shift::NotYet,
            false => Shift::Never,
        }
    }
}
