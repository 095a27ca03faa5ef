//! Whether this board's clock and the receiver's agree. A single sample from the future makes a Prometheus refuse
//! everybody's until that moment has come, so that nothing is sent on a mere guess.

use crate::http::parse_date;
use crate::metrics::Offset;
use crate::sys::clock::BootTime;

/// No further may the clocks be apart, in milliseconds. Prometheus takes it ill from an hour on.
const MOST_MS: i64 = 300_000;

/// What is known of the receiver's clock.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// How far we were ahead of it, and the moment of boot by our clock then: both in milliseconds.
    seen: Option<(i64, i64)>,
    /// That is taken for granted of a receiver that does not say.
    assumed: bool,
}

/// Whether the two agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clocks {
    /// It is not known yet.
    Unknown,
    /// They do.
    Agree,
    /// They do not: we are so many milliseconds ahead.
    Differ(i64),
}

impl Agreement {
    /// Learns from the `Date` of an answer that came just now. A receiver without one has no say.
    pub(super) fn learn(&mut self, offset: &Offset, date: Option<&str>) {
        let date = date.and_then(parse_date);
        // A date is of whole seconds.
        let ahead = date.map_or(0, |date| {
            offset
                .now_ms()
                .saturating_sub(date.saturating_mul(1000).saturating_add(500))
        });
        self.seen = Some((ahead, boot(offset)));
        self.assumed = false;
    }

    /// Takes it that they agree, because the receiver does not answer that question.
    pub(super) fn assume(&mut self, offset: &Offset) {
        self.seen = Some((0, boot(offset)));
        self.assumed = true;
    }

    /// It answered no other question either: it is away, and may say when it is back.
    pub(super) fn unanswered(&mut self) {
        if std::mem::take(&mut self.assumed) {
            self.seen = None;
        }
    }

    /// How far we are ahead, in milliseconds, as far as is known: a clock that was set since then is so much further.
    pub(super) fn ahead_ms(&self, offset: &Offset) -> Option<i64> {
        let (ahead, at) = self.seen?;
        Some(ahead.saturating_add(boot(offset).saturating_sub(at)))
    }

    pub(super) fn clocks(&self, offset: &Offset) -> Clocks {
        match self.ahead_ms(offset) {
            None => Clocks::Unknown,
            Some(ahead) if ahead.saturating_abs() <= MOST_MS => Clocks::Agree,
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
    fn clocks_that_are_minutes_apart_do_not_agree() {
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
        let mut agreement = Agreement::default();
        assert_eq!(agreement.clocks(&offset(0)), Clocks::Unknown);
        agreement.learn(&offset(0), Some("Sat, 21 Nov 2026 00:00:00 GMT"));
        assert_eq!(agreement.clocks(&offset(0)), Clocks::Agree);
        agreement.learn(&offset(0), Some("Fri, 20 Nov 2026 22:00:00 GMT"));
        assert_eq!(agreement.clocks(&offset(0)), Clocks::Differ(7_199_500));
        // Then somebody sets our clock right, or wrong again, and nothing need be asked for that.
        assert_eq!(agreement.clocks(&offset(-7_200_000)), Clocks::Agree);
        assert_eq!(
            agreement.clocks(&offset(400_000)),
            Clocks::Differ(7_599_500)
        );
        agreement.learn(&offset(0), Some("Sat, 21 Nov 2026 01:00:00 GMT"));
        assert_eq!(agreement.clocks(&offset(0)), Clocks::Differ(-3_600_500));
        for none in [None, Some(""), Some("yesterday")] {
            agreement.learn(&offset(0), none);
            assert_eq!(agreement.clocks(&offset(0)), Clocks::Agree, "{none:?}");
        }
        agreement.unanswered();
        assert_eq!(agreement.clocks(&offset(0)), Clocks::Agree);
        agreement.assume(&offset(0));
        assert_eq!(agreement.clocks(&offset(0)), Clocks::Agree);
        assert_eq!(agreement.clocks(&offset(400_000)), Clocks::Differ(400_000));
        agreement.unanswered();
        assert_eq!(agreement.clocks(&offset(0)), Clocks::Unknown);
    }
}
