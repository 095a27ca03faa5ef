//! What the queue's tests share.

use std::sync::Arc;

use super::block::{Block, ClockOffset};
use super::series::Series;
use crate::metrics::{Kind, ABSENT};
use crate::remote_write::{Run, SeriesIdentity};

/// Numbers that look random and are always the same (Marsaglia's xorshift64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    /// From 0 to 1.
    pub(super) fn fraction(&mut self) -> f64 {
        self.below(1 << 53) as f64 / (1u64 << 53) as f64
    }

    /// A value of some kind that meters have, or of none.
    pub(super) fn value(&mut self, kind: u64, before: f64) -> f64 {
        match kind {
            0 => 41_500.0 / 1000.0,
            1 => (before * 1e3 + self.below(21) as f64 - 10.0).round() / 1e3,
            2 => before + (15_000 + self.below(300)) as f64 * 1e-6,
            3 => before + self.below(1000) as f64 / 16_384.0,
            4 => 15.0 * (0.5 + self.fraction()),
            5 => f64::from_bits(self.next()),
            6 => [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324][self.below(5) as usize],
            7 => [f64::NAN, -f64::NAN, ABSENT, f64::MAX, 1e300][self.below(5) as usize],
            8 => self.next() as f64,
            _ => before,
        }
    }
}

pub(super) fn series(source: &str, count: usize) -> Vec<Arc<Series>> {
    let one = |i| {
        let identity = SeriesIdentity {
            kind: [Kind::Gauge, Kind::Counter][i % 2],
            help: "Electric power, in watts.".into(),
            unit: "watts".into(),
            labels: vec![
                ("__name__".into(), format!("series_{i}_watts")),
                ("hostname".into(), "edge-01".into()),
                ("rail".into(), format!("rail \"{i}\" µ")),
                ("source".into(), source.into()),
            ],
        };
        Arc::new(Series {
            identity: Arc::new(identity),
            start: (i % 2 == 1).then_some(12_345),
        })
    };
    (0..count).map(one).collect()
}

/// Samples of all kinds of values, some of them not there, every `step` milliseconds or so.
pub(super) fn block(random: &mut Random, series: &[Arc<Series>], rows: usize, step: u64) -> Block {
    let right = random.below(3) > 0;
    let nanos = if right {
        1_795_219_200_000_000_000 - random.below(1 << 50) as i64
    } else {
        0
    };
    let mut stamp = random.below(1 << 40) as i64;
    let mut stamps = Vec::new();
    for _ in 0..rows {
        stamp += 1 + random.below(step) as i64;
        stamps.push(stamp);
    }
    let run = |series: &Arc<Series>| {
        let (kind, sometimes, mut value) = (random.below(10), random.below(4) == 0, 41.5);
        let mut samples = Vec::new();
        for stamp in &stamps {
            value = random.value(kind, value);
            // The first is there: none is empty.
            if samples.is_empty() || !sometimes || random.below(3) > 0 {
                samples.push((*stamp, value.to_bits()));
            }
        }
        Run {
            series: Arc::clone(&series.identity),
            start: series.start,
            samples,
        }
    };
    Block {
        clock: ClockOffset { nanos, right },
        runs: series.iter().map(run).collect(),
    }
}
