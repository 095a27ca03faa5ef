//! Delays before a request is sent again: ever longer, and with jitter, so that boards do not return at one moment.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// The delays between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Backoff {
        Backoff {
            min,
            next: min,
            max,
        }
    }

    /// An attempt succeeded: the next delay is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next delay: twice the one before, less up to an eighth, so that no delay is much shorter than the one
    /// before. It is at least what the receiver asks for.
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let full = self.next.min(self.max);
        self.next = full.saturating_mul(2).min(self.max);
        let part = random() % 1024;
        let jittered = full - full / 8192 * part as u32;
        jittered.max(asked.unwrap_or_default())
    }
}

/// The standard library's hash keys are the system's random numbers.
fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_with_jitter() {
        let second = Duration::from_secs(1);
        let mut all = Vec::new();
        for _ in 0..50 {
            let mut backoff = Backoff::new(second, second * 10);
            for full in [1, 2, 4, 8, 10, 10] {
                let wait = backoff.wait(None);
                assert!(
                    wait <= second * full && wait >= second * full * 7 / 8,
                    "{wait:?}"
                );
                all.push(wait);
            }
        }
        all.sort();
        all.dedup();
        assert!(all.len() > 100, "no two boards come back at one moment");
    }

    #[test]
    fn delay_is_at_least_what_the_receiver_asks_for() {
        let mut backoff = Backoff::new(Duration::from_millis(30), Duration::from_secs(5));
        let asked = Duration::from_secs(60);
        assert_eq!(backoff.wait(Some(asked)), asked);
        assert!(backoff.wait(Some(Duration::ZERO)) > Duration::from_millis(40));
        backoff.reset();
        assert!(backoff.wait(None) <= Duration::from_millis(30));
    }
}
