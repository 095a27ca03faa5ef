//! Ticks at equal distances from a start: a late poll does not delay the next one.

use std::time::{Duration, Instant};

/// The ticks at which a source is polled.
#[derive(Debug, Clone, Copy)]
pub struct Ticker {
    start: Instant,
    interval: Duration,
    ticks: u64,
}

impl Ticker {
    /// A ticker that ticks every `interval` after `start`.
    pub fn new(start: Instant, interval: Duration) -> Ticker {
        Ticker {
            start,
            interval: interval.max(Duration::from_nanos(1)),
            ticks: 0,
        }
    }

    /// The next tick, and how many were missed. A tick is missed once a whole interval has passed since it. The returned
    /// time is at least a sixteenth of the interval after `now`, so that a source that is always late leaves the processor
    /// idle for some time.
    pub fn next(&mut self, now: Instant) -> (Instant, u64) {
        let interval = self.interval.as_nanos() as u64;
        let elapsed = now.saturating_duration_since(self.start).as_nanos() as u64;
        let due = elapsed / interval;
        let missed = due.saturating_sub(self.ticks + 1);
        self.ticks += 1 + missed;
        let offset = Duration::from_nanos(interval.saturating_mul(self.ticks));
        let next = self.start + offset;
        (next.max(now + self.interval / 16), missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn lateness_does_not_add_up() {
        let start = Instant::now();
        let mut ticker = Ticker::new(start, SECOND);
        for n in 1..1000 {
            let late = start + SECOND * (n - 1) + Duration::from_millis(300);
            assert_eq!(ticker.next(late), (start + SECOND * n, 0));
        }
    }

    #[test]
    fn missed_ticks_are_counted_and_not_made_up_for() {
        let start = Instant::now();
        let mut ticker = Ticker::new(start, SECOND);
        let late = start + Duration::from_millis(4500);
        // The tick of second 4 is half a second late. It is still taken, after a rest.
        assert_eq!(ticker.next(late), (late + SECOND / 16, 3));
        assert_eq!(ticker.next(late), (start + SECOND * 5, 0));
    }

    #[test]
    fn source_that_is_always_late_rests_after_every_poll() {
        let start = Instant::now();
        let mut ticker = Ticker::new(start, SECOND);
        let mut now = start;
        let (mut rested, mut missed) = (Duration::ZERO, 0);
        for _ in 0..100 {
            now += SECOND * 5 / 4;
            let (next, newly_missed) = ticker.next(now);
            assert!(
                next >= now + SECOND / 16,
                "the processor rests after every poll"
            );
            rested += next - now;
            missed += newly_missed;
            now = next;
        }
        assert!(rested >= SECOND * 100 / 16);
        assert!(missed > 0, "ticks that did not fit are counted");
    }

    #[test]
    fn poll_of_fifteen_sixteenths_of_the_interval_misses_no_tick() {
        let start = Instant::now();
        let mut ticker = Ticker::new(start, SECOND);
        for n in 0..100 {
            let end = start + SECOND * n + SECOND * 15 / 16;
            assert_eq!(ticker.next(end), (start + SECOND * (n + 1), 0));
        }
    }
}
