//! How often something may be asked for.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sys::lock::lock;

/// A number of requests that may come at once, and one more with every period that passes.
#[derive(Debug)]
pub struct Rate {
    burst: u32,
    period: Duration,
    /// When it is as if nobody had ever asked.
    rested_at: Mutex<Option<Instant>>,
}

impl Rate {
    /// So many at once, and in the long run one every `period`.
    pub fn new(burst: u32, period: Duration) -> Rate {
        Rate {
            burst,
            period,
            rested_at: Mutex::new(None),
        }
    }

    /// Takes one. `Err` is how long to wait for the next.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut rested_at = lock(&self.rested_at);
        let since = rested_at.filter(|at| *at > now).unwrap_or(now);
        let next = since + self.period;
        let ahead = next.saturating_duration_since(now);
        let most = self.period * self.burst;
        if ahead > most {
            return Err(ahead - most);
        }
        *rested_at = Some(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_a_period() {
        let rate = Rate::new(3, Duration::from_secs(10));
        let begun = Instant::now();
        let at = |seconds| rate.take(begun + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(4), Err(Duration::from_secs(6)));
        assert_eq!(at(10), Ok(()));
        assert!(at(19).is_err() && at(20).is_ok());
        assert_eq!([at(100), at(100), at(100)], [Ok(()); 3]);
        assert!(at(100).is_err());
    }
}
