//! One total out of what a device says of its own, which begins anew whenever the device does. Pure.

use std::time::Duration;

use super::message::PowerMeasurement;
use crate::metrics::plausible::AMPERES;
use crate::sys::clock::BootTime;

/// Longer than a datagram is under way: what comes after it is not late, it is so.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// A message that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// It came before.
    Duplicated,
    /// A later one came before it.
    Reordered,
}

/// The total of a device that may restart: what it says itself, and what it said before its restarts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Total {
    /// Milliampere-seconds counted before the last restart.
    before: f64,
    /// What was exported when this was made and nothing had been heard, in milliampere-seconds.
    resumed: Option<f64>,
    last: Option<PowerMeasurement>,
    /// When that was taken.
    taken_at: BootTime,
    /// What the device said when its total fell last, until it is there again.
    fell_from: Option<f64>,
}

/// A step of the device's total that is not counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jump {
    /// By how much it moved, in milliampere-seconds.
    pub milliampere_seconds: f64,
    /// In so many seconds.
    pub seconds: f64,
}

impl Total {
    /// A total that goes on from `exported` milliampere-seconds, if anything was exported.
    pub fn resume(exported: Option<f64>) -> Total {
        Total {
            resumed: exported,
            ..Total::default()
        }
    }

    /// The total, in milliampere-seconds: the device's own value as long as it has not restarted.
    pub fn milliampere_seconds(&self) -> f64 {
        let current = self.last.map(|m| m.energy_consumption);
        self.before + current.or(self.resumed).unwrap_or(0.0)
    }

    /// Whether the message is news, after the last one that was taken and so long ago. For devices that send without
    /// being asked; to an answer it is enough that it is the first one.
    ///
    /// When the clock is behind the last message's, the device has restarted, or the message is an old one. A restart
    /// makes the total fall. So does an old message; but that says of the device that it was running before the last
    /// message was heard, and it is not much older than that one.
    pub fn judge(&self, message: &PowerMeasurement, since_last: Duration) -> Result<(), Stale> {
        let Some(last) = self.last.as_ref().filter(|_| since_last <= LONGEST_DELAY) else {
            return Ok(());
        };
        if message.timestamp == last.timestamp && message.timestamp != 0 && message == last {
            return Err(Stale::Duplicated);
        }
        let fell = message.energy_consumption < last.energy_consumption;
        let ran_before = Duration::from_micros(message.timestamp) > since_last;
        let older = last.timestamp.saturating_sub(message.timestamp);
        let not_much = Duration::from_micros(older) <= LONGEST_DELAY && older <= last.timestamp / 2;
        let old = !fell || ran_before && not_much;
        if older > 0 && old && !message.is_nothing() {
            return Err(Stale::Reordered);
        }
        Ok(())
    }

    /// Counts a message. A total that fell began anew, and what it was before is kept. One that goes back above that in one step
    /// had not begun anew, unless the device's clock had: only what is above counts. A step that no current explains in the time counts for nothing.
    pub fn take(&mut self, message: &PowerMeasurement, at: BootTime) -> Option<Jump> {
        // "Nothing measured yet" says nothing of the total: it comes from a relay that has started, too, whose device
        // has not.
        if message.is_nothing() {
            return None;
        }
        let now = message.energy_consumption;
        let seconds = at.seconds_since(self.taken_at) + LONGEST_DELAY.as_secs_f64();
        let most = AMPERES.max * 1000.0 * seconds;
        let mut jump = None;
        match (self.last, self.resumed) {
            (Some(before), _) => {
                let last = before.energy_consumption;
                // By its clock it began anew; without one, what comes next tells.
                let restarted = message.timestamp < before.timestamp;
                // All that a device counted that has begun anew, it counted since.
                let mut counted = if now < last { now } else { now - last };
                let step = counted;
                if now < last {
                    self.fell_from = (!restarted).then_some(last);
                } else if let Some(from) = self.fell_from.filter(|from| now >= *from) {
                    self.fell_from = None;
                    counted = now - from;
                }
                if counted > most {
                    jump = Some(Jump {
                        milliampere_seconds: step,
                        seconds,
                    });
                    counted = 0.0;
                }
                // Where nothing is odd, the total stays the device's own to the last bit.
                if now < last || counted != step {
                    self.before += last + counted - now;
                }
            }
            // The last message before is not known any more: the total stays where it was, and grows from here.
            (None, Some(exported)) if now < exported => self.before = exported - now,
            _ => {}
        }
        self.last = Some(*message);
        self.taken_at = at;
        jump
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(100);

    fn message(seconds: f64, milliampere_seconds: f64) -> PowerMeasurement {
        PowerMeasurement {
            timestamp: (seconds * 1e6) as u64,
            energy_consumption: milliampere_seconds,
            current: 100.0,
        }
    }

    fn at(second: u64) -> BootTime {
        BootTime(second * 1_000_000_000)
    }

    fn total(messages: &[PowerMeasurement]) -> Total {
        let mut total = Total::default();
        for (m, second) in messages.iter().zip(1..) {
            assert_eq!(total.take(m, at(second)), None);
        }
        total
    }

    #[test]
    fn it_is_the_devices_own_value() {
        assert_eq!(total(&[]).milliampere_seconds(), 0.0);
        let total = total(&[message(1.0, 304_000.1), message(2.0, 304_100.3)]);
        assert_eq!(total.milliampere_seconds(), 304_100.3);
    }

    #[test]
    fn it_survives_a_restart_of_the_device() {
        let restarts = [
            message(100.0, 500.0),
            message(1.0, 20.0),
            message(2.0, 30.0),
            message(1.0, 5.0),
        ];
        assert_eq!(total(&restarts).milliampere_seconds(), 535.0);
    }

    #[test]
    fn nothing_measured_yet_is_no_restart() {
        let nothing = PowerMeasurement::default();
        let mut relay = total(&[nothing, message(100.0, 500.0), nothing]);
        assert_eq!(relay.milliampere_seconds(), 500.0);
        relay.take(&message(103.0, 520.0), at(9));
        assert_eq!(relay.milliampere_seconds(), 520.0);
        relay.take(&nothing, at(9));
        relay.take(&message(1.0, 7.0), at(9));
        assert_eq!(relay.milliampere_seconds(), 527.0);
    }

    #[test]
    fn it_goes_on_from_what_was_exported() {
        let mut same = Total::resume(Some(500.0));
        assert_eq!(same.milliampere_seconds(), 500.0);
        same.take(&message(1.0, 600.0), at(9));
        assert_eq!(same.milliampere_seconds(), 600.0);
        let mut restarted = Total::resume(Some(500.0));
        restarted.take(&message(1.0, 20.0), at(9));
        assert_eq!(restarted.milliampere_seconds(), 500.0);
        restarted.take(&message(2.0, 30.0), at(9));
        assert_eq!(restarted.milliampere_seconds(), 510.0);
    }

    #[test]
    fn what_came_before_is_told_from_a_restart() {
        let total = total(&[message(100.0, 500.0)]);
        let judge = |m: PowerMeasurement| total.judge(&m, NOW);
        assert_eq!(judge(message(101.0, 510.0)), Ok(()));
        assert_eq!(judge(message(100.0, 500.0)), Err(Stale::Duplicated));
        assert_eq!(judge(message(99.0, 490.0)), Err(Stale::Reordered));
        assert_eq!(judge(message(99.0, 500.0)), Err(Stale::Reordered));
        assert_eq!(judge(message(0.05, 500.0)), Err(Stale::Reordered));
        assert_eq!(judge(message(0.05, 2.0)), Ok(()), "restarted");
        assert_eq!(judge(message(89.0, 400.0)), Ok(()), "nothing is so late");
        assert_eq!(judge(message(1.0, 2.0)), Ok(()), "restarted, by its clock");
        assert_eq!(judge(PowerMeasurement::default()), Ok(()));
        let old = message(99.0, 490.0);
        assert_eq!(total.judge(&old, Duration::from_secs(11)), Ok(()));
    }

    #[test]
    fn a_device_without_a_clock_is_believed() {
        let total = total(&[message(0.0, 500.0)]);
        assert_eq!(total.judge(&message(0.0, 500.0), NOW), Ok(()));
        assert_eq!(total.judge(&message(0.0, 2.0), NOW), Ok(()));
    }

    #[test]
    fn a_total_that_falls_and_is_back_at_once_had_not_begun_anew() {
        let mut total = total(&[message(100.0, 31_250e6)]);
        assert_eq!(total.take(&message(101.0, 0.0), at(2)), None);
        assert_eq!(total.milliampere_seconds(), 31_250e6);
        assert_eq!(total.take(&message(102.0, 31_250e6 + 100.0), at(3)), None);
        assert_eq!(total.milliampere_seconds(), 31_250e6 + 100.0);
        assert_eq!(total.take(&message(103.0, 31_250e6 + 200.0), at(4)), None);
        assert_eq!(total.milliampere_seconds(), 31_250e6 + 200.0);
    }

    #[test]
    fn what_is_counted_after_a_restart_counts_however_soon_it_passes_the_old_total() {
        let mut total = total(&[message(100.0, 4_000.0)]);
        assert_eq!(total.take(&message(0.001, 200.0), at(2)), None);
        assert_eq!(total.milliampere_seconds(), 4_200.0);
        assert_eq!(total.take(&message(2.0, 5_200.0), at(3)), None);
        assert_eq!(total.milliampere_seconds(), 9_200.0);
    }

    #[test]
    fn a_step_that_no_current_explains_is_not_counted() {
        let mut total = total(&[message(100.0, 500.0)]);
        let jump = total.take(&message(101.0, 1e12), at(2)).unwrap();
        assert_eq!(jump.milliampere_seconds, 1e12 - 500.0);
        assert_eq!(total.milliampere_seconds(), 500.0);
        assert_eq!(total.take(&message(102.0, 1e12 + 100.0), at(3)), None);
        assert_eq!(total.milliampere_seconds(), 600.0);
        // An hour without a message: 0.5 A.
        total.take(&message(3702.0, 1e12 + 100.0 + 1.8e6), at(3603));
        assert_eq!(total.milliampere_seconds(), 1_800_600.0);
        // It falls to what it cannot have counted since.
        assert!(total.take(&message(3703.0, 5e11), at(3604)).is_some());
        assert_eq!(total.milliampere_seconds(), 1_800_600.0);
    }
}
