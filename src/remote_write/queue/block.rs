//! What the queue takes, keeps and gives at a time: some series, and their samples column by column.
//!
//! Stamps are those of the clock as it was known when the block was made, whatever that was: [`ClockOffset`] says what has
//! to be added when something better is known.

use std::sync::Arc;

use super::bytes::{put_number, put_signed, Reader};
use super::series::{Series, MOST_SERIES};
use super::{column, ints};
use crate::sys::clock::BootTime;

/// The most samples of a block, be they there or not: what is read is bounded.
pub const MOST_SAMPLES: usize = 16 * 1024;

const MILLISECOND: i64 = 1_000_000;

/// How far the wall clock was ahead of boot time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// Nanoseconds.
    pub nanos: i64,
    /// False while the clock was plainly wrong.
    pub right: bool,
}

impl ClockOffset {
    /// Its whole milliseconds.
    pub(super) fn ms(&self) -> i64 {
        self.nanos.div_euclid(MILLISECOND)
    }
}

/// Samples of some series.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// How far the clock was ahead of boot time in its stamps.
    pub clock: ClockOffset,
    /// What its columns are: 1 to [`MOST_SERIES`].
    pub series: Vec<Arc<Series>>,
    /// Milliseconds, ascending.
    pub stamps: Vec<i64>,
    /// A value for each stamp, or none, of each series.
    pub columns: Vec<Vec<Option<f64>>>,
}

impl Block {
    /// Values that are there.
    pub fn samples(&self) -> usize {
        self.columns.iter().flatten().flatten().count()
    }

    /// The moment of its first sample.
    pub fn oldest(&self) -> Option<BootTime> {
        let boot_ms = self.stamps.first()?.saturating_sub(self.clock.ms());
        Some(BootTime(boot_ms.max(0) as u64 * MILLISECOND as u64))
    }

    /// Appends the block, with the numbers of its series. `base` is what it is written beside: the nearer, the shorter.
    pub(super) fn put(&self, out: &mut Vec<u8>, numbers: &[u32], base: &Base) {
        put_number(
            out,
            (self.series.len() as u64) << 1 | u64::from(self.clock.right),
        );
        ints::put(
            out,
            &numbers.iter().map(|n| i64::from(*n)).collect::<Vec<_>>(),
        );
        put_signed(out, self.clock.nanos.wrapping_sub(base.offset));
        put_number(out, self.stamps.len() as u64);
        let stamps = self
            .stamps
            .iter()
            .map(|stamp| stamp.wrapping_sub(base.stamp_ms));
        ints::put(out, &stamps.collect::<Vec<_>>());
        for (place, column) in self.columns.iter().enumerate() {
            let before = self.columns.get(..place).unwrap_or_default();
            column::put(out, column, before);
        }
    }

    /// Takes a block, whose series are found by their numbers.
    pub(super) fn take(
        bytes: &[u8],
        base: &Base,
        series: impl Fn(u32) -> Option<Arc<Series>>,
    ) -> Option<Block> {
        let mut reader = Reader::new(bytes);
        let (numbers, clock) = Block::take_head(&mut reader, base)?;
        let numbers = numbers
            .into_iter()
            .map(|number| series(u32::try_from(number).ok()?));
        let series = numbers.collect::<Option<Vec<_>>>()?;
        let rows = reader.count(MOST_SAMPLES / series.len().max(1))?;
        let stamps = ints::take(&mut reader, rows)?;
        let stamps = stamps
            .into_iter()
            .map(|stamp| stamp.wrapping_add(base.stamp_ms));
        let stamps = stamps.collect();
        let mut columns = Vec::with_capacity(series.len());
        for _ in 0..series.len() {
            columns.push(column::take(&mut reader, rows, &columns)?);
        }
        let block = Block {
            clock,
            series,
            stamps,
            columns,
        };
        (reader.rest.is_empty() && block.ascends()).then_some(block)
    }

    fn ascends(&self) -> bool {
        self.stamps
            .windows(2)
            .all(|two| matches!(two, [a, b] if a < b))
    }

    /// What a block says of the wall clock, without reading the rest of it.
    pub(super) fn clock_of(bytes: &[u8], base: &Base) -> Option<ClockOffset> {
        let (_, clock) = Block::take_head(&mut Reader::new(bytes), base)?;
        Some(clock)
    }

    fn take_head(reader: &mut Reader<'_>, base: &Base) -> Option<(Vec<i64>, ClockOffset)> {
        let head = reader.count(2 * MOST_SERIES + 1)?;
        let numbers = ints::take(reader, head >> 1).filter(|numbers| !numbers.is_empty())?;
        let nanos = reader.signed()?.wrapping_add(base.offset);
        let right = head & 1 == 1;
        Some((numbers, ClockOffset { nanos, right }))
    }
}

/// What the blocks of a segment are written beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Base {
    /// Wall clock less boot time, in nanoseconds.
    pub offset: i64,
    /// A stamp.
    pub stamp_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same, block, series, Random};
    use super::*;

    #[test]
    fn any_block_comes_back() {
        let mut random = Random::new(3);
        for round in 0..60u64 {
            let series = series("rapl", 1 + random.below(12) as usize);
            let rows = 1 + random.below(60) as usize;
            let step = [1, 1000, 40_000_000][round as usize % 3];
            let block = block(&mut random, &series, rows, step);
            let base = Base {
                offset: block.clock.nanos - random.below(1000) as i64,
                stamp_ms: block.stamps[0],
            };
            let numbers: Vec<_> = (0..series.len() as u32).map(|i| i * i).collect();
            let of = |n: u32| {
                let place = numbers.iter().position(|number| *number == n)?;
                Some(Arc::clone(&series[place]))
            };
            let mut out = Vec::new();
            block.put(&mut out, &numbers, &base);
            assert_same(&Block::take(&out, &base, of).unwrap(), &block);
            assert_eq!(Block::clock_of(&out, &base), Some(block.clock));
            assert!(Block::take(&out, &base, |n| of(n).filter(|_| n > 0)).is_none());
            for length in 0..out.len() {
                assert!(Block::take(&out[..length], &base, of).is_none());
            }
        }
    }

    #[test]
    fn what_is_read_is_bounded() {
        let series = series("rapl", 2);
        let constant = |rows: usize| {
            // Two series, 0 and 1, and a clock as the base's.
            let mut out = vec![4, 0, 0, 2, 0];
            put_number(&mut out, rows as u64);
            // Stamps: the first, a slope of one, and a run of no difference. Then two columns of the same value.
            out.extend([1, 0, 2, 0]);
            put_number(&mut out, rows as u64 - 2);
            out.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            Block::take(&out, &Base::default(), |n| series.get(n as usize).cloned())
        };
        assert_eq!(constant(MOST_SAMPLES / 2).unwrap().samples(), MOST_SAMPLES);
        assert!(constant(MOST_SAMPLES / 2 + 1).is_none());
    }

    #[test]
    fn stamps_that_do_not_ascend_are_no_block() {
        let series = series("rapl", 1);
        let mut random = Random::new(4);
        for (stamps, good) in [
            (vec![1, 2, 3], true),
            (vec![1, 1, 3], false),
            (vec![1, 2, 0], false),
        ] {
            let mut block = block(&mut random, &series, 3, 1);
            block.stamps = stamps;
            let mut out = Vec::new();
            block.put(&mut out, &[0], &Base::default());
            let back = Block::take(&out, &Base::default(), |_| Some(Arc::clone(&series[0])));
            assert_eq!(back.is_some(), good);
        }
    }
}
