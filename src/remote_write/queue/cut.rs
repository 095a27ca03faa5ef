//! Batches to blocks: series that have their samples at the same moments stand in one.

use std::sync::Arc;

use super::block::{Block, ClockOffset, MOST_SAMPLES};
use super::series::{Series, MOST_SERIES};
use crate::remote_write::{Batch, Run};

/// Blocks that hold the batch's samples, those of each series in order. The batch's stamps are milliseconds since boot; the
/// blocks' are on the clock.
pub(super) fn cut(batch: &Batch, clock: ClockOffset) -> Vec<Block> {
    let mut clusters: Vec<Cluster<'_>> = Vec::new();
    for run in &batch.runs {
        match clusters.iter_mut().find(|cluster| cluster.suits(run)) {
            Some(cluster) => cluster.add(run),
            None => clusters.push(Cluster {
                stamps: run.samples.iter().map(|(stamp, _)| *stamp).collect(),
                runs: vec![run],
            }),
        }
    }
    let blocks = clusters.iter().flat_map(|cluster| cluster.blocks(clock));
    blocks.collect()
}

struct Cluster<'a> {
    /// All that any of the runs has, in order.
    stamps: Vec<i64>,
    runs: Vec<&'a Run>,
}

impl<'a> Cluster<'a> {
    /// Whether a run has most of its samples when the others have theirs.
    fn suits(&self, run: &Run) -> bool {
        let shared = run
            .samples
            .iter()
            .filter(|(stamp, _)| self.stamps.binary_search(stamp).is_ok());
        self.runs.len() < MOST_SERIES && shared.count() * 2 > run.samples.len()
    }

    fn add(&mut self, run: &'a Run) {
        self.stamps
            .extend(run.samples.iter().map(|(stamp, _)| *stamp));
        self.stamps.sort_unstable();
        self.stamps.dedup();
        self.runs.push(run);
    }

    fn blocks(&self, clock: ClockOffset) -> Vec<Block> {
        let series = self.runs.iter().map(|run| {
            Arc::new(Series {
                identity: Arc::clone(&run.series),
                start: run.start,
            })
        });
        let series: Vec<_> = series.collect();
        let mut rest: Vec<_> = self
            .runs
            .iter()
            .map(|run| run.samples.iter().peekable())
            .collect();
        let rows = (MOST_SAMPLES / series.len().max(1)).max(1);
        let blocks = self.stamps.chunks(rows).map(|stamps| {
            let columns = rest.iter_mut().map(|samples| {
                let cell = |stamp: &i64| samples.next_if(|(at, _)| at == stamp);
                let cells = stamps.iter().map(cell);
                cells
                    .map(|cell| cell.map(|(_, bits)| f64::from_bits(*bits)))
                    .collect()
            });
            Block {
                clock,
                series: series.clone(),
                columns: columns.collect(),
                stamps: stamps
                    .iter()
                    .map(|stamp| stamp.saturating_add(clock.ms()))
                    .collect(),
            }
        });
        blocks.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::restore::Restore;
    use super::super::testing::{series, Random};
    use super::*;
    use crate::metrics::ABSENT;

    /// Sources of a few series each, with some samples missing, and marks at the end of some.
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
    fn every_sample_of_a_batch_is_in_a_block_and_comes_back() {
        let mut random = Random::new(12);
        let clock = ClockOffset {
            nanos: 1_000_000_500_000,
            right: true,
        };
        for _ in 0..100 {
            let mut batch = batch(&mut random);
            let blocks = cut(&batch, clock);
            assert_eq!(
                blocks.iter().map(Block::samples).sum::<usize>(),
                batch.len()
            );
            let shifted: Vec<_> = blocks.iter().map(|block| (block, -clock.ms())).collect();
            let mut back = Restore::default().batch(&shifted);
            let key = |run: &Run| run.series.labels.clone();
            back.runs.sort_by_key(key);
            batch.runs.sort_by_key(key);
            assert!(back == batch);
        }
    }

    #[test]
    fn the_series_of_a_source_stand_together() {
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
        // One that ended has a mark besides.
        batch.runs[2].samples.push((991, ABSENT.to_bits()));
        let clock = ClockOffset {
            nanos: 0,
            right: false,
        };
        let blocks = cut(&batch, clock);
        let shape: Vec<_> = blocks
            .iter()
            .map(|b| (b.series.len(), b.stamps.len()))
            .collect();
        assert_eq!(shape, [(5, 101), (5, 100)]);
    }

    #[test]
    fn no_block_is_too_large() {
        let runs = series("a", MOST_SERIES + 1).into_iter().map(|series| Run {
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
        let blocks = cut(&batch, clock);
        assert!(blocks
            .iter()
            .all(|b| b.series.len() <= MOST_SERIES && b.samples() <= MOST_SAMPLES));
        assert_eq!(
            blocks.iter().map(Block::samples).sum::<usize>(),
            batch.len()
        );
    }
}
