//! The simulated load. All meters of a board follow these functions of time (in seconds), also when they run in different
//! processes.

use std::f64::consts::TAU;

use crate::sys::clock::BootTime;

/// The file with the board's host name.
pub(super) const HOSTNAME: &str = "proc/sys/kernel/hostname";
/// How far the load of a board is ahead of that of the board with the number before, in seconds.
const PHASE: f64 = 11.3;

/// How far the load of the board with this name is ahead, by the number at its end: boards of a fleet are not all busy at once.
pub(super) fn phase(name: &str) -> f64 {
    let name = name.trim_end();
    let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let number = name.get(digits..).and_then(|digits| digits.parse().ok());
    PHASE * f64::from(number.unwrap_or(0u16))
}

/// The time of the load's functions.
pub(super) fn time(now: BootTime, phase: f64) -> f64 {
    now.0 as f64 / 1e9 + phase
}

/// The utilisation, from 0 to 1: a slow wave with a faster ripple.
pub(super) fn busy(t: f64) -> f64 {
    0.5 + 0.35 * (t * TAU / 40.0).sin() + 0.15 * (t * TAU / 7.0).sin()
}

/// Power of the processor package.
pub(super) fn package_watts(t: f64) -> f64 {
    2.0 + 5.0 * busy(t)
}

/// Power of the memory.
pub(super) fn memory_watts(t: f64) -> f64 {
    0.8 + 0.7 * busy(t)
}

/// Power of the graphics processor, shifted in time against that of the processor.
pub(super) fn gpu_watts(t: f64) -> f64 {
    1.0 + 3.0 * busy(t + 13.0)
}

/// Power at the board's input.
pub(super) fn input_watts(t: f64) -> f64 {
    1.5 + package_watts(t) + memory_watts(t) + gpu_watts(t)
}

/// Voltage at the board's input, which drops slightly under load.
pub(super) fn input_volts(t: f64) -> f64 {
    5.1 - 0.1 * busy(t)
}

/// Temperature of the processor.
pub(super) fn celsius(t: f64) -> f64 {
    42.0 + 12.0 * busy(t - 5.0)
}
