//! Cuts batches into blocks: the series of one source are in one block.

use super::block::{Block, ClockOffset, MAX_SAMPLES};
use super::series::MAX_SERIES;
use crate::remote_write::split::split_by_size;
use crate::remote_write::{Batch, Run};

/// Blocks that hold the batch's samples, those of each series in order. Stamps are milliseconds since boot.
pub(super) fn cut(batch: Batch, clock: ClockOffset) -> Vec<Block> {
    let first = |run: &Run| run.samples.first().map(|(stamp, _)| *stamp);
    // Series that are read together begin together.
    let mut sources: Vec<Vec<Run>> = Vec::new();
    for run in batch.runs {
        let mut known = sources.iter_mut();
        match known.find(|source| source.first().and_then(first) == first(&run)) {
            Some(source) => source.push(run),
            None => sources.push(vec![run]),
        }
    }
    let runs = sources.iter().flat_map(|source| source.chunks(MAX_SERIES));
    let parts = runs.flat_map(|runs| split_by_size(runs, MAX_SAMPLES));
    parts.map(|runs| Block { clock, runs }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::restore::Restore;
    use super::super::testing::{series, Random};
    use super::*;
    use crate::metrics::ABSENT;

    /// Sources of a few series each, with some samples missing, and staleness markers at the end of some.
    fn batch(random: &mut Random) -> Batch {
        let mut runs = Vec::new();
        for source in 0..1 + random.below(4) {
            let mut stamp = random.below(1000) as i64;
            let rows = random.below(50);
            let mut stamps = Vec::new();
            for _ in 0..rows {
                stamp += 1 + random.below(30) as i64;
                stamps.push(stamp);
            }
            for series in series(&source.to_string(), 1 + random.below(6) as usize) {
                let gaps = random.below(3) * 3;
                let mut samples = Vec::new();
                for stamp in &stamps {
                    if gaps == 0 || random.below(gaps) > 0 {
                        samples.push((*stamp, random.next()));
                    }
                }
                if random.below(3) == 0 {
                    samples.push((stamp + 1, ABSENT.to_bits()));
                }
                if !samples.is_empty() {
                    runs.push(Run {
                        series: Arc::clone(&series.identity),
                        start: series.start.map(|_| -7),
                        samples,
                    });
                }
            }
        }
        Batch {
            runs,
            ..Batch::default()
        }
    }

    #[test]
    fn samples_of_a_batch_come_back_from_its_blocks() {
        let mut random = Random::new(12);
        let clock = ClockOffset {
            nanos: 1_000_000_500_000,
            right: true,
        };
        for _ in 0..100 {
            let mut batch = batch(&mut random);
            let blocks = cut(batch.clone(), clock);
            assert_eq!(
                blocks.iter().map(Block::samples).sum::<usize>(),
                batch.len()
            );
            let shifted: Vec<_> = blocks.iter().map(|block| (block, 0)).collect();
            let mut back = Restore::default().batch(&shifted);
            let key = |run: &Run| run.series.labels.clone();
            back.runs.sort_by_key(key);
            batch.runs.sort_by_key(key);
            assert!(back == batch);
        }
    }

    #[test]
    fn series_of_a_source_are_in_one_block() {
        let mut batch = Batch::default();
        for (source, offset) in [("a", 0), ("b", 3)] {
            for series in series(source, 5) {
                batch.runs.push(Run {
                    series: Arc::clone(&series.identity),
                    start: None,
                    samples: (0..100).map(|i| (i * 10 + offset, 0)).collect(),
                });
            }
        }
        // A series that ended has a staleness marker besides.
        batch.runs[2].samples.push((991, ABSENT.to_bits()));
        let clock = ClockOffset {
            nanos: 0,
            right: false,
        };
        let blocks = cut(batch.clone(), clock);
        let shape: Vec<_> = blocks.iter().map(|b| (b.runs.len(), b.samples())).collect();
        assert_eq!(shape, [(5, 501), (5, 500)]);
    }

    #[test]
    fn no_block_is_too_large() {
        let runs = series("a", MAX_SERIES + 1).into_iter().map(|series| Run {
            series: Arc::clone(&series.identity),
            start: None,
            samples: (0..100).map(|i| (i, 0)).collect(),
        });
        let batch = Batch {
            runs: runs.collect(),
            ..Batch::default()
        };
        let clock = ClockOffset {
            nanos: 0,
            right: false,
        };
        let blocks = cut(batch.clone(), clock);
        assert!(blocks
            .iter()
            .all(|b| b.runs.len() <= MAX_SERIES && b.samples() <= MAX_SAMPLES));
        assert_eq!(
            blocks.iter().map(Block::samples).sum::<usize>(),
            batch.len()
        );
    }
}
