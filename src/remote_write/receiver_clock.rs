//! Compares this board's clock with the receiver's. A single sample from the future makes a Prometheus refuse
//! everybody's until that moment has come, so nothing is sent on a mere guess.

use crate::http::parse_date;
use crate::metrics::Offset;
use crate::sys::clock::BootTime;

/// The largest difference between the clocks, in milliseconds. Prometheus refuses samples from an hour on.
const MAX_DIFFERENCE_MS: i64 = 300_000;

/// What is known of the receiver's clock.
#[derive(Debug, Default)]
pub(super) struct ReceiverClock {
    /// How far this board was ahead, and the moment of boot by its clock then: both in milliseconds.
    seen: Option<(i64, i64)>,
    /// The difference is assumed, as the receiver sends no time.
    assumed: bool,
}

/// How the clocks compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clocks {
    /// The receiver's clock is not known yet.
    Unknown,
    /// The clocks agree.
    Agree,
    /// The clocks differ: this board is ahead by so many milliseconds.
    Differ(i64),
}

impl ReceiverClock {
    /// Learns from the `Date` of a response that came just now. A receiver without a date is taken to agree.
    pub(super) fn learn(&mut self, offset: &Offset, date: Option<&str>) {
        let date = date.and_then(parse_date);
        // A date has whole seconds: its middle is the best guess.
        let ahead = date.map_or(0, |date| {
            offset
                .now_ms()
                .saturating_sub(date.saturating_mul(1000).saturating_add(500))
        });
        self.seen = Some((ahead, boot(offset)));
        self.assumed = false;
    }

    /// Assumes that the clocks agree, because the receiver does not tell the time.
    pub(super) fn assume(&mut self, offset: &Offset) {
        self.seen = Some((0, boot(offset)));
        self.assumed = true;
    }

    /// The receiver did not respond to samples either. It is away, and may tell the time when it is back.
    pub(super) fn unanswered(&mut self) {
        if std::mem::take(&mut self.assumed) {
            self.seen = None;
        }
    }

    /// How far this board is ahead, in milliseconds, as far as is known. A clock that was set since then is ahead by
    /// that much more.
    pub(super) fn ahead_ms(&self, offset: &Offset) -> Option<i64> {
        let (ahead, at) = self.seen?;
        Some(ahead.saturating_add(boot(offset).saturating_sub(at)))
    }

    pub(super) fn compare(&self, offset: &Offset) -> Clocks {
        match self.ahead_ms(offset) {
            None => Clocks::Unknown,
            Some(ahead) if ahead.saturating_abs() <= MAX_DIFFERENCE_MS => Clocks::Agree,
            Some(ahead) => Clocks::Differ(ahead),
        }
    }
}

fn boot(offset: &Offset) -> i64 {
    offset.stamp_ms(BootTime(0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::Arc;

    use super::*;
    use crate::metrics::WallClock;

    /// Sat, 21 Nov 2026 00:00:00 GMT.
    const TODAY: i64 = 1_795_219_200_000;

    #[test]
    fn clocks_minutes_apart_differ() {
        let ahead = Arc::new(AtomicI64::new(0));
        let of_clock = Arc::clone(&ahead);
        let clock = WallClock::new(move || {
            let wall = TODAY + of_clock.load(Ordering::Relaxed);
            (BootTime(0), wall * 1_000_000)
        });
        let offset = |milliseconds| {
            ahead.store(milliseconds, Ordering::Relaxed);
            clock.offset().unwrap()
        };
        let mut receiver_clock = ReceiverClock::default();
        assert_eq!(receiver_clock.compare(&offset(0)), Clocks::Unknown);
        receiver_clock.learn(&offset(0), Some("Sat, 21 Nov 2026 00:00:00 GMT"));
        assert_eq!(receiver_clock.compare(&offset(0)), Clocks::Agree);
        receiver_clock.learn(&offset(0), Some("Fri, 20 Nov 2026 22:00:00 GMT"));
        assert_eq!(
            receiver_clock.compare(&offset(0)),
            Clocks::Differ(7_199_500)
        );
        // This board's clock is set right, or wrong again: no new response is needed to notice.
        assert_eq!(receiver_clock.compare(&offset(-7_200_000)), Clocks::Agree);
        assert_eq!(
            receiver_clock.compare(&offset(400_000)),
            Clocks::Differ(7_599_500)
        );
        receiver_clock.learn(&offset(0), Some("Sat, 21 Nov 2026 01:00:00 GMT"));
        assert_eq!(
            receiver_clock.compare(&offset(0)),
            Clocks::Differ(-3_600_500)
        );
        for none in [None, Some(""), Some("yesterday")] {
            receiver_clock.learn(&offset(0), none);
            assert_eq!(
                receiver_clock.compare(&offset(0)),
                Clocks::Agree,
                "{none:?}"
            );
        }
        receiver_clock.unanswered();
        assert_eq!(receiver_clock.compare(&offset(0)), Clocks::Agree);
        receiver_clock.assume(&offset(0));
        assert_eq!(receiver_clock.compare(&offset(0)), Clocks::Agree);
        assert_eq!(
            receiver_clock.compare(&offset(400_000)),
            Clocks::Differ(400_000)
        );
        receiver_clock.unanswered();
        assert_eq!(receiver_clock.compare(&offset(0)), Clocks::Unknown);
    }
}
