//! Restores batches from blocks, with the stamps that are right as far as is known now.

use std::collections::hash_map::DefaultHasher;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::block::Block;
use crate::metrics::ABSENT;
use crate::remote_write::{Batch, Run, SeriesIdentity};

/// If the clock was set back a little, stamps are shifted by no more than this, to keep them ascending.
const MAX_SHIFT_MS: i64 = 10;
/// More series than any board has. Beyond this, the last stamps are forgotten.
const MAX_SERIES: usize = 100_000;

/// The last stamps that have left, which the next batches must not go back behind.
#[derive(Debug, Default)]
pub(super) struct Restore {
    /// The last stamp of each series, by the hash of its labels.
    last: HashMap<u64, i64>,
    /// Samples that were left out because they would not have been later than the last stamp.
    pub(super) set_back: u64,
}

impl Restore {
    /// The batch of some blocks, each with the milliseconds to add to its stamps.
    pub(super) fn batch(&mut self, blocks: &[(&Block, i64)]) -> Batch {
        if self.last.len() > MAX_SERIES {
            self.last.clear();
        }
        let mut batch = Batch::default();
        let mut places: HashMap<Arc<SeriesIdentity>, usize> = HashMap::new();
        let runs = blocks
            .iter()
            .flat_map(|(block, shift)| block.runs.iter().map(|run| (run, *shift)));
        for (run, shift) in runs {
            let samples = self.samples(run, shift);
            let Some((first, _)) = samples.first() else {
                continue;
            };
            if let Some(place) = places.get(&run.series) {
                if let Some(run) = batch.runs.get_mut(*place) {
                    run.samples.extend(samples);
                }
                continue;
            }
            places.insert(Arc::clone(&run.series), batch.runs.len());
            let start = run.start.map(|start| start.saturating_add(shift));
            batch.runs.push(Run {
                series: Arc::clone(&run.series),
                start: start.map(|start| start.min(*first)),
                samples,
            });
        }
        batch
    }

    fn samples(&mut self, run: &Run, shift: i64) -> Vec<(i64, u64)> {
        let mut hasher = DefaultHasher::new();
        run.series.labels.hash(&mut hasher);
        let last = self.last.entry(hasher.finish()).or_insert(i64::MIN);
        let mut samples = Vec::with_capacity(run.samples.len());
        for (stamp, bits) in &run.samples {
            let shifted = stamp.saturating_add(shift);
            if shifted <= *last && last.saturating_sub(shifted) >= MAX_SHIFT_MS {
                // A staleness marker that comes too late has no meaning any more.
                self.set_back += u64::from(*bits != ABSENT.to_bits());
                continue;
            }
            *last = shifted.max(last.saturating_add(1));
            samples.push((*last, *bits));
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::ClockOffset;
    use super::super::series::Series;
    use super::super::testing::series;
    use super::*;

    fn block(stamps: &[i64]) -> Block {
        let run = |series: Arc<Series>| Run {
            series: Arc::clone(&series.identity),
            start: series.start,
            samples: stamps.iter().map(|stamp| (*stamp, 0)).collect(),
        };
        Block {
            clock: ClockOffset {
                nanos: 5_000_000,
                right: true,
            },
            runs: series("rapl", 2).into_iter().map(run).collect(),
        }
    }

    fn stamps(batch: &Batch) -> Vec<i64> {
        batch.runs.first().map_or(vec![], |run| {
            run.samples.iter().map(|(stamp, _)| *stamp).collect()
        })
    }

    #[test]
    fn blocks_of_one_series_make_one_run() {
        let (one, two) = (block(&[20_000, 20_001]), block(&[20_100]));
        let batch = Restore::default().batch(&[(&one, 7), (&two, 7)]);
        assert_eq!(batch.runs.len(), 2);
        assert_eq!(stamps(&batch), [20_007, 20_008, 20_107]);
        // Since 12.345 s after boot, which was at 7 ms.
        assert_eq!(batch.runs[1].start, Some(12_345 + 7));
    }

    #[test]
    fn stamps_of_a_series_never_go_back() {
        let mut restore = Restore::default();
        restore.batch(&[(&block(&[1000, 2000]), 0)]);
        let batch = restore.batch(&[(&block(&[1500, 1992, 3000]), 0)]);
        // Eight milliseconds are shifted, half a second is not.
        assert_eq!(stamps(&batch), [2001, 3000]);
        assert_eq!(restore.set_back, 2);
        let mut mark = block(&[1500]);
        for run in &mut mark.runs {
            run.samples[0].1 = ABSENT.to_bits();
        }
        assert!(restore.batch(&[(&mark, 0)]).is_empty());
        assert_eq!(restore.set_back, 2);
    }
}
