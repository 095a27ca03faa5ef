//! A total that only grows, from the total of a device that restarts at zero.

use std::time::Duration;

use super::message::PowerMeasurement;
use crate::metrics::plausible::AMPERES;
use crate::sys::clock::BootTime;

/// The longest time that a datagram may be delayed on the network.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Why a message is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// The same message was used before.
    Duplicated,
    /// A later message was used before.
    Reordered,
}

/// The total over all restarts of a device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Total {
    /// Milliampere-seconds counted before the last restart.
    before: f64,
    /// The value that was exported before this source was opened, in milliampere-seconds. Used until the first message.
    resumed: Option<f64>,
    last: Option<PowerMeasurement>,
    /// When `last` was received.
    last_at: BootTime,
    /// The device's total before the total last fell, until the total is back at this value.
    fell_from: Option<f64>,
}

/// A change of the device's total that is not counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jump {
    /// The change of the total, in milliampere-seconds.
    pub milliampere_seconds: f64,
    /// The time since the last message, in seconds.
    pub seconds: f64,
}

impl Total {
    /// A total that continues from `exported` milliampere-seconds, if anything was exported.
    pub fn resume(exported: Option<f64>) -> Total {
        Total {
            resumed: exported,
            ..Total::default()
        }
    }

    /// The total in milliampere-seconds. It is the device's own total until the device restarts.
    pub fn milliampere_seconds(&self) -> f64 {
        let current = self.last.map(|m| m.energy_consumption);
        self.before + current.or(self.resumed).unwrap_or(0.0)
    }

    /// Checks that a message is newer than the last one, which was received `since_last` ago. A repeated message is used
    /// all the same if it is the reply to a request.
    ///
    /// If the message's timestamp is before the last message's, either the device has restarted or the message was
    /// delayed. In both cases the total may fall. A delayed message is recognised by its timestamp: the device had been
    /// running since before the last message was received, and the message is not much older than that message.
    pub fn judge(&self, message: &PowerMeasurement, since_last: Duration) -> Result<(), Stale> {
        let Some(last) = self.last.as_ref().filter(|_| since_last <= MAX_DELAY) else {
            return Ok(());
        };
        if message.timestamp == last.timestamp && message.timestamp != 0 && message == last {
            return Err(Stale::Duplicated);
        }
        let fell = message.energy_consumption < last.energy_consumption;
        let ran_before = Duration::from_micros(message.timestamp) > since_last;
        let behind = last.timestamp.saturating_sub(message.timestamp);
        let is_recent = Duration::from_micros(behind) <= MAX_DELAY && behind <= last.timestamp / 2;
        let is_old = !fell || ran_before && is_recent;
        if behind > 0 && is_old && !message.is_zero() {
            return Err(Stale::Reordered);
        }
        Ok(())
    }

    /// Adds a message. If the device's total fell, the device has restarted and the earlier total is kept. If the timestamp
    /// did not fall with the total and the total is back at its earlier value later, the device had not restarted, and only
    /// the increase above that value counts. A change that no current explains in the time is not counted.
    pub fn add(&mut self, message: &PowerMeasurement, at: BootTime) -> Option<Jump> {
        // A message of zeros does not give the total: a relay also sends one after a restart of the relay, when its device
        // has not restarted.
        if message.is_zero() {
            return None;
        }
        let now = message.energy_consumption;
        let seconds = at.seconds_since(self.last_at) + MAX_DELAY.as_secs_f64();
        let max = AMPERES.max * 1000.0 * seconds;
        let mut jump = None;
        match (self.last, self.resumed) {
            (Some(before), _) => {
                let last = before.energy_consumption;
                // A smaller timestamp shows a restart. Otherwise later messages show whether the device has restarted.
                let restarted = message.timestamp < before.timestamp;
                // After a restart, all that the device has counted is new.
                let mut counted = if now < last { now } else { now - last };
                let step = counted;
                if now < last {
                    self.fell_from = (!restarted).then_some(last);
                } else if let Some(from) = self.fell_from.filter(|from| now >= *from) {
                    self.fell_from = None;
                    counted = now - from;
                }
                if counted > max {
                    jump = Some(Jump {
                        milliampere_seconds: step,
                        seconds,
                    });
                    counted = 0.0;
                }
                // In the normal case `before` does not change, so that the total is the device's own, bit by bit.
                if now < last || counted != step {
                    self.before += last + counted - now;
                }
            }
            // The last message before the source was opened is not known. The total stays where it was and grows from here.
            (None, Some(exported)) if now < exported => self.before = exported - now,
            _ => {}
        }
        self.last = Some(*message);
        self.last_at = at;
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
            assert_eq!(total.add(m, at(second)), None);
        }
        total
    }

    #[test]
    fn total_is_the_devices_total_until_a_restart() {
        assert_eq!(total(&[]).milliampere_seconds(), 0.0);
        let total = total(&[message(1.0, 304_000.1), message(2.0, 304_100.3)]);
        assert_eq!(total.milliampere_seconds(), 304_100.3);
    }

    #[test]
    fn total_grows_over_restarts_of_the_device() {
        let restarts = [
            message(100.0, 500.0),
            message(1.0, 20.0),
            message(2.0, 30.0),
            message(1.0, 5.0),
        ];
        assert_eq!(total(&restarts).milliampere_seconds(), 535.0);
    }

    #[test]
    fn message_of_zeros_is_no_restart() {
        let nothing = PowerMeasurement::default();
        let mut relay = total(&[nothing, message(100.0, 500.0), nothing]);
        assert_eq!(relay.milliampere_seconds(), 500.0);
        relay.add(&message(103.0, 520.0), at(9));
        assert_eq!(relay.milliampere_seconds(), 520.0);
        relay.add(&nothing, at(9));
        relay.add(&message(1.0, 7.0), at(9));
        assert_eq!(relay.milliampere_seconds(), 527.0);
    }

    #[test]
    fn total_continues_from_what_was_exported() {
        let mut same = Total::resume(Some(500.0));
        assert_eq!(same.milliampere_seconds(), 500.0);
        same.add(&message(1.0, 600.0), at(9));
        assert_eq!(same.milliampere_seconds(), 600.0);
        let mut restarted = Total::resume(Some(500.0));
        restarted.add(&message(1.0, 20.0), at(9));
        assert_eq!(restarted.milliampere_seconds(), 500.0);
        restarted.add(&message(2.0, 30.0), at(9));
        assert_eq!(restarted.milliampere_seconds(), 510.0);
    }

    #[test]
    fn delayed_message_is_refused_and_a_restart_accepted() {
        let total = total(&[message(100.0, 500.0)]);
        let judge = |m: PowerMeasurement| total.judge(&m, NOW);
        assert_eq!(judge(message(101.0, 510.0)), Ok(()));
        assert_eq!(judge(message(100.0, 500.0)), Err(Stale::Duplicated));
        assert_eq!(judge(message(99.0, 490.0)), Err(Stale::Reordered));
        assert_eq!(judge(message(99.0, 500.0)), Err(Stale::Reordered));
        assert_eq!(judge(message(0.05, 500.0)), Err(Stale::Reordered));
        assert_eq!(judge(message(0.05, 2.0)), Ok(()), "restarted");
        assert_eq!(judge(message(89.0, 400.0)), Ok(()), "no delay is so long");
        assert_eq!(
            judge(message(1.0, 2.0)),
            Ok(()),
            "restarted, by its timestamp"
        );
        assert_eq!(judge(PowerMeasurement::default()), Ok(()));
        let old = message(99.0, 490.0);
        assert_eq!(total.judge(&old, Duration::from_secs(11)), Ok(()));
    }

    #[test]
    fn every_message_of_a_device_without_a_clock_is_new() {
        let total = total(&[message(0.0, 500.0)]);
        assert_eq!(total.judge(&message(0.0, 500.0), NOW), Ok(()));
        assert_eq!(total.judge(&message(0.0, 2.0), NOW), Ok(()));
    }

    #[test]
    fn total_that_falls_and_is_back_at_once_is_no_restart() {
        let mut total = total(&[message(100.0, 31_250e6)]);
        assert_eq!(total.add(&message(101.0, 0.0), at(2)), None);
        assert_eq!(total.milliampere_seconds(), 31_250e6);
        assert_eq!(total.add(&message(102.0, 31_250e6 + 100.0), at(3)), None);
        assert_eq!(total.milliampere_seconds(), 31_250e6 + 100.0);
        assert_eq!(total.add(&message(103.0, 31_250e6 + 200.0), at(4)), None);
        assert_eq!(total.milliampere_seconds(), 31_250e6 + 200.0);
    }

    #[test]
    fn whole_total_counts_after_a_restart_that_the_timestamp_shows() {
        let mut total = total(&[message(100.0, 4_000.0)]);
        assert_eq!(total.add(&message(0.001, 200.0), at(2)), None);
        assert_eq!(total.milliampere_seconds(), 4_200.0);
        assert_eq!(total.add(&message(2.0, 5_200.0), at(3)), None);
        assert_eq!(total.milliampere_seconds(), 9_200.0);
    }

    #[test]
    fn change_that_no_current_explains_is_not_counted() {
        let mut total = total(&[message(100.0, 500.0)]);
        let jump = total.add(&message(101.0, 1e12), at(2)).unwrap();
        assert_eq!(jump.milliampere_seconds, 1e12 - 500.0);
        assert_eq!(total.milliampere_seconds(), 500.0);
        assert_eq!(total.add(&message(102.0, 1e12 + 100.0), at(3)), None);
        assert_eq!(total.milliampere_seconds(), 600.0);
        // An hour without a message: 0.5 A.
        total.add(&message(3702.0, 1e12 + 100.0 + 1.8e6), at(3603));
        assert_eq!(total.milliampere_seconds(), 1_800_600.0);
        // The total falls to what the device cannot have counted since.
        assert!(total.add(&message(3703.0, 5e11), at(3604)).is_some());
        assert_eq!(total.milliampere_seconds(), 1_800_600.0);
    }
}
