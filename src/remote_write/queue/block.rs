//! A block is the unit that the queue writes and reads: runs of samples, as they come out of memory.
//!
//! The stamps are milliseconds since boot: the offset to the wall clock is known better when a block leaves the queue
//! than when it was made.

use std::sync::Arc;

use super::bytes::{put_number, put_signed, Reader};
use super::series::{Series, MAX_SERIES};
use super::{column, ints};
use crate::remote_write::Run;
use crate::sys::clock::BootTime;

/// The limit of samples in a block.
pub const MAX_SAMPLES: usize = 16 * 1024;

const MILLISECOND: i64 = 1_000_000;

/// How far the wall clock was ahead of boot time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// Nanoseconds.
    pub nanos: i64,
    /// `false` while the clock was plainly wrong.
    pub right: bool,
}

impl ClockOffset {
    /// The whole milliseconds.
    pub(super) fn ms(&self) -> i64 {
        self.nanos.div_euclid(MILLISECOND)
    }
}

/// Samples of some series.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// How far the clock was ahead of boot time when the block was made.
    pub clock: ClockOffset,
    /// 1 to [`MAX_SERIES`]; none is empty. Stamps and starts are milliseconds since boot.
    pub runs: Vec<Run>,
}

impl Block {
    /// The number of samples.
    pub fn samples(&self) -> usize {
        self.runs.iter().map(|run| run.samples.len()).sum()
    }

    /// The moment of its first sample.
    pub fn oldest(&self) -> Option<BootTime> {
        let first = self.runs.iter().filter_map(|run| run.samples.first());
        let boot_ms = first.map(|(stamp, _)| *stamp).min()?.max(0) as u64;
        Some(BootTime(boot_ms.saturating_mul(MILLISECOND as u64)))
    }

    /// The stamp of its last sample.
    pub(super) fn newest(&self) -> Option<i64> {
        let last = self.runs.iter().filter_map(|run| run.samples.last());
        last.map(|(stamp, _)| *stamp).max()
    }

    /// Appends the block, with the numbers of its series. The clock is written relative to `offset`: the nearer, the
    /// shorter.
    pub(super) fn put(&self, out: &mut Vec<u8>, numbers: &[u32], offset: i64) {
        let head = (self.runs.len() as u64) << 1 | u64::from(self.clock.right);
        put_number(out, head);
        put_signed(out, self.clock.nanos.wrapping_sub(offset));
        let (mut last, mut before) = (0, Vec::new());
        for (run, number) in self.runs.iter().zip(numbers) {
            put_signed(out, i64::from(*number) - last);
            last = i64::from(*number);
            let (stamps, values): (Vec<i64>, Vec<f64>) = run
                .samples
                .iter()
                .map(|(stamp, bits)| (*stamp, f64::from_bits(*bits)))
                .unzip();
            // 0: the stamps are those of the run before.
            if stamps == before {
                out.push(0);
            } else {
                put_number(out, stamps.len() as u64);
                ints::put(out, &stamps);
                before = stamps;
            }
            column::put(out, &values);
        }
    }

    /// Reads a block, whose series are found by their numbers.
    pub(super) fn take(
        bytes: &[u8],
        offset: i64,
        series: impl Fn(u32) -> Option<Arc<Series>>,
    ) -> Option<Block> {
        let mut reader = Reader::new(bytes);
        let (count, clock) = Block::take_head(&mut reader, offset)?;
        let (mut number, mut stamps, mut left) = (0i64, Vec::new(), MAX_SAMPLES);
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            number = number.wrapping_add(reader.signed()?);
            let series = series(u32::try_from(number).ok()?)?;
            let samples = reader.count(left)?;
            if samples > 0 {
                stamps = ints::take(&mut reader, samples)?;
            }
            left = left.checked_sub(stamps.len())?;
            let ascend = stamps.iter().zip(stamps.iter().skip(1)).all(|(a, b)| a < b);
            if stamps.is_empty() || !ascend {
                return None;
            }
            let values = column::take(&mut reader, stamps.len())?;
            let bits = values.iter().map(|value| value.to_bits());
            runs.push(Run {
                series: Arc::clone(&series.identity),
                start: series.start,
                samples: stamps.iter().copied().zip(bits).collect(),
            });
        }
        reader.rest.is_empty().then_some(Block { clock, runs })
    }

    /// The clock of a block, without reading the rest of it.
    pub(super) fn clock_of(bytes: &[u8], offset: i64) -> Option<ClockOffset> {
        let (_, clock) = Block::take_head(&mut Reader::new(bytes), offset)?;
        Some(clock)
    }

    /// How many runs there are, and the clock.
    fn take_head(reader: &mut Reader<'_>, offset: i64) -> Option<(usize, ClockOffset)> {
        let head = reader.count(2 * MAX_SERIES + 1).filter(|head| *head > 1)?;
        let nanos = reader.signed()?.wrapping_add(offset);
        let right = head & 1 == 1;
        Some((head >> 1, ClockOffset { nanos, right }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{block, series, Random};
    use super::*;

    #[test]
    fn any_block_comes_back() {
        let mut random = Random::new(3);
        for round in 0..60u64 {
            let series = series("rapl", 1 + random.below(12) as usize);
            let rows = 1 + random.below(60) as usize;
            let step = [1, 1000, 40_000_000][round as usize % 3];
            let block = block(&mut random, &series, rows, step);
            let offset = block.clock.nanos - random.below(1000) as i64;
            let numbers: Vec<_> = (0..series.len() as u32).map(|i| i * i).collect();
            let of = |n: u32| {
                let place = numbers.iter().position(|number| *number == n)?;
                Some(Arc::clone(&series[place]))
            };
            let mut out = Vec::new();
            block.put(&mut out, &numbers, offset);
            assert_eq!(Block::take(&out, offset, of).unwrap(), block);
            assert_eq!(Block::clock_of(&out, offset), Some(block.clock));
            assert!(Block::take(&out, offset, |n| of(n).filter(|_| n > 0)).is_none());
            for length in 0..out.len() {
                assert!(Block::take(&out[..length], offset, of).is_none());
            }
        }
    }

    #[test]
    fn blocks_are_limited_in_samples() {
        let series = series("rapl", 2);
        let block = |rows: usize| {
            let run = |series: &Arc<Series>| Run {
                series: Arc::clone(&series.identity),
                start: series.start,
                samples: (0..rows as i64).map(|stamp| (stamp, 0)).collect(),
            };
            let block = Block {
                clock: ClockOffset {
                    nanos: 0,
                    right: true,
                },
                runs: series.iter().map(run).collect(),
            };
            let mut out = Vec::new();
            block.put(&mut out, &[0, 1], 0);
            Block::take(&out, 0, |n| series.get(n as usize).cloned())
        };
        assert_eq!(block(MAX_SAMPLES / 2).unwrap().samples(), MAX_SAMPLES);
        assert!(block(MAX_SAMPLES / 2 + 1).is_none());
        assert!(block(MAX_SAMPLES + 1).is_none());
        assert!(block(0).is_none());
    }

    #[test]
    fn stamps_that_do_not_ascend_are_rejected() {
        let series = series("rapl", 1);
        let mut random = Random::new(4);
        for (stamps, good) in [([1, 2, 3], true), ([1, 1, 3], false), ([1, 2, 0], false)] {
            let mut block = block(&mut random, &series, 1, 1);
            block.runs[0].samples = stamps.iter().map(|stamp| (*stamp, 0)).collect();
            let mut out = Vec::new();
            block.put(&mut out, &[0], 0);
            let back = Block::take(&out, 0, |_| Some(Arc::clone(&series[0])));
            assert_eq!(back.is_some(), good);
        }
    }
}
