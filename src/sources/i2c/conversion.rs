//! The conversion settings that the chips have in common. Pure.

use std::time::Duration;

/// Number of averaged conversions of an INA226, INA228, INA260 and INA3221, by their code.
pub const AVERAGINGS: [u16; 8] = [1, 4, 16, 64, 128, 256, 512, 1024];
/// Conversion times of an INA226, INA260 and INA3221 in microseconds, by their code.
pub const CONVERSION_MICROSECONDS: [u16; 8] = [140, 204, 332, 588, 1100, 2116, 4156, 8244];

/// The largest of these averagings whose reading fits into the interval, so that a reading covers as much of it as possible;
/// the first one if none fits.
pub(in crate::sources) fn longest(
    averagings: &[u16],
    interval: Duration,
    time: impl Fn(u16) -> Duration,
) -> u16 {
    let fitting = averagings.iter().take_while(|n| time(**n) <= interval);
    fitting.last().or(averagings.first()).copied().unwrap_or(1)
}
