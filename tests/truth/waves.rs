//! Power as a function of time, with its exact integral.

use std::f64::consts::TAU;

/// A waveform. Times are in seconds.
#[derive(Clone, Copy)]
pub struct Wave {
    /// The power at a time, in watts.
    pub watts: fn(f64) -> f64,
    /// The energy from 0 to a time, in joules.
    pub joules: fn(f64) -> f64,
    /// The largest error of a meter that sees one moment of each period only, as a share of the energy.
    pub unseen: f64,
    /// The length of its shortest part, in seconds: half of a period, or the burst.
    pub shortest: f64,
    /// Readings that are closer together than this, in seconds, determine it by the sampling theorem. 0: none do, as it has
    /// edges.
    pub determined_by: f64,
}

/// The frequency of the sine and of the square, in hertz.
const FREQUENCY: f64 = 10.0;
/// The burst: begin and end within each second.
const BURST: [f64; 2] = [0.49, 0.51];

/// 5 W.
pub const CONSTANT: Wave = Wave {
    watts: |_| 5.0,
    joules: |at| 5.0 * at,
    unseen: 0.0,
    shortest: f64::INFINITY,
    determined_by: f64::INFINITY,
};

/// From 2 to 8 W, with its maximum at every whole second: whoever looks once a second sees only that.
pub const SINE: Wave = Wave {
    watts: |at| 5.0 + 3.0 * (TAU * FREQUENCY * at).cos(),
    joules: |at| 5.0 * at + 3.0 * (TAU * FREQUENCY * at).sin() / (TAU * FREQUENCY),
    unseen: 0.6,
    shortest: 0.5 / FREQUENCY,
    determined_by: 0.5 / FREQUENCY,
};

/// 8 W in the first half of each period, and 2 W in the second.
pub const SQUARE: Wave = Wave {
    watts: |at| match (at * FREQUENCY).fract() < 0.5 {
        true => 8.0,
        false => 2.0,
    },
    joules: |at| {
        let (periods, part) = ((at * FREQUENCY).floor(), (at * FREQUENCY).fract());
        (5.0 * periods + 8.0 * part.min(0.5) + 2.0 * (part - 0.5).max(0.0)) / FREQUENCY
    },
    unseen: 0.6,
    shortest: 0.5 / FREQUENCY,
    determined_by: 0.0,
};

/// 20 W for 20 ms of each second, and 2 W else.
pub const BURST_OF_20_MS: Wave = Wave {
    watts: |at| match (BURST[0]..BURST[1]).contains(&at.fract()) {
        true => 20.0,
        false => 2.0,
    },
    joules: |at| {
        let (bursts, part) = (at.floor(), at.fract());
        let in_this_second = (part - BURST[0]).clamp(0.0, BURST[1] - BURST[0]);
        2.0 * at + 18.0 * (bursts * (BURST[1] - BURST[0]) + in_this_second)
    },
    unseen: 0.36 / 2.36,
    shortest: 0.02,
    determined_by: 0.0,
};
