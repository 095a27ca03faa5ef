//! A limit on how often something may be done.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sys::lock::lock;

/// Allows a burst at once, and in the long run one every period (the generic cell rate algorithm).
#[derive(Debug)]
pub struct RateLimiter {
    burst: u32,
    period: Duration,
    /// When the whole burst is available again.
    full_at: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// `burst` at once, and in the long run one every `period`.
    pub fn new(burst: u32, period: Duration) -> RateLimiter {
        RateLimiter {
            burst,
            period,
            full_at: Mutex::new(None),
        }
    }

    /// Takes one. `Err`: how long to wait for the next.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut full_at = lock(&self.full_at);
        let next = take_one(full_at.unwrap_or(now), now, self.burst, self.period)?;
        *full_at = Some(next);
        Ok(())
    }
}

/// Takes one from a limit whose whole burst is available again at `full_at`, and gives the new such moment. `Err`: how long
/// to wait.
pub(super) fn take_one(
    full_at: Instant,
    now: Instant,
    burst: u32,
    period: Duration,
) -> Result<Instant, Duration> {
    let next = full_at.max(now) + period;
    let ahead = next.saturating_duration_since(now);
    match ahead.checked_sub(period * burst) {
        Some(wait) if !wait.is_zero() => Err(wait),
        _ => Ok(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_allowed_and_then_one_per_period() {
        let rate = RateLimiter::new(3, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| rate.take(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(4), Err(Duration::from_secs(6)));
        assert_eq!(at(10), Ok(()));
        assert!(at(19).is_err() && at(20).is_ok());
        assert_eq!([at(100), at(100), at(100)], [Ok(()); 3]);
        assert!(at(100).is_err());
    }
}
