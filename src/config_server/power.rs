//! What each board draws, of the readings that it tells: its power now, its energy of the last day, and the curve of both.
//!
//! A board's energy is kept as the joules of 48 intervals. They are short at first, and are joined in pairs, as the time that is
//! known becomes longer than they reach, until 45 of them are a day. All of it is in memory, some 270 bytes of each board.

use std::time::Duration;

use crate::sys::clock::BootTime;
use crate::wire::{EnergyReading, PowerReading};

/// The intervals of a board's curve.
const POINTS: usize = 48;
/// The length of the shortest intervals, and how often it is doubled, in seconds: 45 of the longest ones are a day.
const MIN_LENGTH: f64 = 15.0;
const MAX_DOUBLINGS: u8 = 7;
const DAY: f64 = 86_400.0;
/// The shortest time between two readings of a counter whose difference is a mean power. A meter counts in steps, so that the
/// power of a shorter time is that of a step.
const MIN_MEAN_SECONDS: f64 = 10.0;
/// Power beyond this is that of no board.
const MAX_WATTS: f64 = 1e9;
/// The time before the start of this machine that a reading may tell of, in seconds.
const BEFORE_BOOT: f64 = 2.0 * DAY;

/// A moment, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Moment(f64);

impl Moment {
    /// The current time.
    pub(super) fn now() -> Moment {
        Moment(BEFORE_BOOT + BootTime::now().seconds_since(BootTime::default()))
    }

    /// The moment so many seconds ago.
    pub(super) fn ago(seconds: f64) -> Moment {
        Moment((Moment::now().0 - seconds.max(0.0)).max(0.0))
    }
}

/// The power of one board.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PowerHistory {
    /// The power at the last reading: the mean since the one before it where the counter tells that, else what the board read.
    watts: Option<f32>,
    /// When the power was told last.
    at: Moment,
    /// The counter at its last reading, and when that was.
    counter: Option<(EnergyReading, Moment)>,
    /// Since when energy is known.
    begin: Option<Moment>,
    doublings: u8,
    /// The number of the newest interval, counted from the origin of [`Moment`].
    newest: u64,
    /// The joules of each interval, at its number modulo their count; NaN: nothing is known.
    joules: [f32; POINTS],
}

/// The mean power of each interval.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// The length of an interval, in seconds.
    pub(super) seconds: f64,
    /// In watts, from the oldest interval to the one that is not over; `None`: nothing is known.
    pub(super) watts: Vec<Option<f64>>,
}

impl Default for PowerHistory {
    fn default() -> PowerHistory {
        PowerHistory {
            watts: None,
            at: Moment(0.0),
            counter: None,
            begin: None,
            doublings: 0,
            newest: 0,
            joules: [f32::NAN; POINTS],
        }
    }
}

impl PowerHistory {
    /// Adds what the board told at this moment; `None`: its power is not known any more.
    pub(super) fn record(&mut self, reading: Option<PowerReading>, at: Moment) {
        let Some(PowerReading { watts, energy }) = reading else {
            self.watts = None;
            return;
        };
        self.at = at;
        let used = energy.and_then(|energy| self.used(energy, at));
        if let Some((joules, seconds)) = used {
            self.add(at.0 - seconds, at.0, joules);
        }
        let mean = used.filter(|(_, seconds)| *seconds >= MIN_MEAN_SECONDS);
        let mean = mean.filter(|_| self.counter.is_some());
        let mean = mean.map(|(joules, seconds)| joules / seconds);
        self.watts = mean.or(watts).map(|watts| watts as f32);
        self.counter = energy.map(|energy| (energy, at)).or(self.counter);
    }

    /// The joules that a reading of the counter adds, and in how many seconds until now they were used.
    fn used(&self, now: EnergyReading, at: Moment) -> Option<(f64, f64)> {
        let (joules, seconds) = match self.counter {
            // What a counter says that is older than a day is not of the last day alone.
            None => (now.joules, Some(now.seconds).filter(|age| *age <= DAY)?),
            Some((before, then)) => match at.0 - then.0 {
                elapsed if elapsed <= 0.0 => return None,
                // It has begun anew since then: all that it has counted is new.
                elapsed if now.seconds < elapsed.max(before.seconds) => (now.joules, now.seconds),
                // By the board's clock: that of a server may have been wrong when it took the note down.
                _ => (now.joules - before.joules, now.seconds - before.seconds),
            },
        };
        let is_credible = seconds > 0.0 && (0.0..=MAX_WATTS * seconds).contains(&joules);
        is_credible.then_some((joules, seconds))
    }

    /// The length of an interval, in seconds.
    fn length(&self) -> f64 {
        MIN_LENGTH * f64::from(1u32 << self.doublings.min(MAX_DOUBLINGS))
    }

    fn number(&self, moment: f64) -> u64 {
        (moment.max(0.0) / self.length()) as u64
    }

    /// The slot of an interval.
    fn slot(&mut self, number: u64) -> Option<&mut f32> {
        self.joules.get_mut((number % POINTS as u64) as usize)
    }

    /// Adds joules that were used evenly between two moments.
    fn add(&mut self, from: f64, to: f64, joules: f64) {
        let since = from.max(to - BEFORE_BOOT).max(0.0);
        // What was used before that is left out.
        let joules = joules * (to - since) / (to - from);
        let from = since;
        let begin = self.begin.map_or(from, |begin| begin.0.min(from));
        while self.doublings < MAX_DOUBLINGS
            && self.number(to) - self.number(begin) >= POINTS as u64
        {
            self.join_pairs();
        }
        self.advance(to);
        self.begin = Some(Moment(begin));
        let length = self.length();
        let oldest = (self.newest + 1).saturating_sub(POINTS as u64);
        for number in self.number(from).max(oldest)..=self.number(to) {
            let start = number as f64 * length;
            let share = (to.min(start + length) - from.max(start)) / (to - from);
            if let Some(slot) = self.slot(number).filter(|_| share > 0.0) {
                let before = if slot.is_nan() { 0.0 } else { *slot };
                *slot = before + (joules * share) as f32;
            }
        }
    }

    /// Clears the intervals that begin until this moment.
    fn advance(&mut self, to: f64) {
        let number = self.number(to);
        if number > self.newest {
            let first = (self.newest + 1).max((number + 1).saturating_sub(POINTS as u64));
            for number in first..=number {
                self.slot(number)
                    .into_iter()
                    .for_each(|slot| *slot = f32::NAN);
            }
            self.newest = number;
        }
    }

    /// Doubles the length of the intervals.
    fn join_pairs(&mut self) {
        let before = std::mem::replace(&mut self.joules, [f32::NAN; POINTS]);
        let oldest = (self.newest + 1).saturating_sub(POINTS as u64);
        for number in oldest..=self.newest {
            let joules = before.get((number % POINTS as u64) as usize);
            let joules = joules.filter(|joules| !joules.is_nan());
            if let (Some(joules), Some(slot)) = (joules, self.slot(number / 2)) {
                *slot = if slot.is_nan() { 0.0 } else { *slot } + joules;
            }
        }
        self.newest /= 2;
        self.doublings += 1;
    }

    /// The power at the last reading, in watts; `None`: not known, or the reading is older than this.
    pub(super) fn watts(&self, now: Moment, max_age: Duration) -> Option<f64> {
        let is_recent = now.0 - self.at.0 <= max_age.as_secs_f64();
        self.watts.filter(|_| is_recent).map(f64::from)
    }

    /// The intervals that are known: number and joules.
    fn intervals(&self) -> impl Iterator<Item = (u64, Option<f64>)> + '_ {
        let begin = self.begin.map(|begin| self.number(begin.0));
        let oldest = (self.newest + 1).saturating_sub(POINTS as u64);
        begin.into_iter().flat_map(move |begin| {
            (begin.max(oldest)..=self.newest).map(|number| {
                let joules = self.joules.get((number % POINTS as u64) as usize);
                let joules = joules.filter(|joules| !joules.is_nan());
                (number, joules.map(|joules| f64::from(*joules)))
            })
        })
    }

    /// The energy of the day before this moment, as far as it is known, in joules; `None`: nothing of it is known.
    pub(super) fn day_joules(&self, now: Moment) -> Option<f64> {
        let (since, length) = (now.0 - DAY, self.length());
        let of_day = self.intervals().filter_map(|(number, joules)| {
            let part = ((number + 1) as f64 * length - since) / length;
            (part > 0.0).then_some(joules? * part.min(1.0))
        });
        of_day.fold(None, |sum, joules| Some(sum.unwrap_or(0.0) + joules))
    }

    /// The curve of the day before this moment; `None`: nothing of it is known.
    pub(super) fn curve(&self, now: Moment) -> Option<Curve> {
        let (begin, (_, end)) = (self.begin?, self.counter?);
        let length = self.length();
        let number_now = self.number(now.0).max(self.newest);
        let oldest = (number_now + 1).saturating_sub(POINTS as u64);
        let mut watts: Vec<_> = self
            .intervals()
            .filter(|(number, _)| *number >= oldest)
            .filter_map(|(number, joules)| {
                let start = number as f64 * length;
                let seconds = end.0.min(start + length) - begin.0.max(start);
                // The interval may have begun just now.
                (seconds > 0.0).then(|| Some(joules? / seconds))
            })
            .collect();
        if watts.iter().all(Option::is_none) {
            return None;
        }
        let silent = usize::try_from(number_now - self.newest).unwrap_or(POINTS);
        // The interval that is under way has no reading yet.
        watts.extend(std::iter::repeat_n(
            None,
            silent.saturating_sub(1).min(POINTS),
        ));
        let too_many = watts.len().saturating_sub(POINTS);
        watts.drain(..too_many);
        Some(Curve {
            seconds: length,
            watts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board that draws `watts`, whose counter began at `began`, at a moment.
    fn reading(watts: f64, began: f64, at: f64) -> Option<PowerReading> {
        let energy = EnergyReading::new(watts * (at - began), at - began);
        PowerReading::new(Some(watts + 1.0), energy)
    }

    fn latest(history: &PowerHistory) -> Option<f64> {
        history.watts(history.at, Duration::ZERO)
    }

    /// The history of readings every `every` seconds from `from` to `to`.
    fn record(history: &mut PowerHistory, watts: f64, began: f64, times: (f64, f64), every: f64) {
        let (mut at, to) = times;
        while at <= to {
            history.record(reading(watts, began, at), Moment(at));
            at += every;
        }
    }

    #[track_caller]
    fn assert_near(value: Option<f64>, wanted: f64) {
        let value = value.unwrap();
        assert!(
            (value - wanted).abs() <= wanted.abs() * 1e-3,
            "{value} is not {wanted}"
        );
    }

    #[test]
    fn a_board_takes_some_270_bytes() {
        assert!(std::mem::size_of::<PowerHistory>() <= 272);
    }

    #[test]
    fn energy_of_the_day_is_that_of_the_last_24_hours() {
        let mut history = PowerHistory::default();
        assert_eq!(history.day_joules(Moment(0.0)), None);
        record(&mut history, 10.0, 1000.0, (1000.0, 1060.0), 60.0);
        assert_near(history.day_joules(Moment(1060.0)), 600.0);
        record(&mut history, 10.0, 1000.0, (1120.0, 3.0 * DAY), 60.0);
        assert_near(history.day_joules(Moment(3.0 * DAY)), 10.0 * DAY);
        // It was not heard of for six hours.
        assert_near(history.day_joules(Moment(3.25 * DAY)), 7.5 * DAY);
        assert_eq!(history.day_joules(Moment(5.5 * DAY)), None);
    }

    #[test]
    fn counter_that_begins_anew_counts_from_zero() {
        let mut history = PowerHistory::default();
        record(&mut history, 10.0, 0.0, (0.0, 3600.0), 60.0);
        // Before the next report it has counted more than before its restart.
        record(&mut history, 100.0, 3700.0, (7200.0, 7200.0), 60.0);
        assert_near(history.day_joules(Moment(7200.0)), 36_000.0 + 350_000.0);
        assert_near(latest(&history), 100.0);
    }

    #[test]
    fn board_that_was_off_half_the_day_has_the_energy_of_the_other_half() {
        let mut history = PowerHistory::default();
        record(&mut history, 10.0, 0.0, (0.0, 0.25 * DAY), 60.0);
        record(&mut history, 10.0, 0.75 * DAY, (0.75 * DAY, DAY), 60.0);
        assert_near(history.day_joules(Moment(DAY)), 5.0 * DAY);
        let curve = history.curve(Moment(DAY)).unwrap();
        let unknown = curve.watts.iter().filter(|watts| watts.is_none()).count();
        assert!((20..=24).contains(&unknown), "{:?}", curve.watts);
    }

    #[test]
    fn network_that_was_away_for_days_leaves_the_power_of_the_last_day() {
        let mut history = PowerHistory::default();
        record(&mut history, 10.0, 0.0, (0.0, 600.0), 60.0);
        let days = 6.0 * DAY;
        record(&mut history, 10.0, 0.0, (days, days), 60.0);
        assert_near(history.day_joules(Moment(days)), 10.0 * DAY);
        assert_near(latest(&history), 10.0);
    }

    #[test]
    fn clock_of_the_server_that_was_wrong_does_not_change_the_power() {
        let mut history = PowerHistory::default();
        let (noted, now) = (reading(10.0, 0.0, 36_000.0), reading(10.0, 0.0, 72_000.0));
        // The note seemed to be of 30 s ago.
        history.record(noted, Moment(100_000.0));
        history.record(now, Moment(100_030.0));
        assert_near(latest(&history), 10.0);
    }

    #[test]
    fn server_that_was_away_has_the_energy_of_that_time() {
        let mut history = PowerHistory::default();
        record(&mut history, 10.0, 0.0, (0.0, 600.0), 60.0);
        record(&mut history, 10.0, 0.0, (7200.0, 7200.0), 60.0);
        assert_near(history.day_joules(Moment(7200.0)), 72_000.0);
        let curve = history.curve(Moment(7200.0)).unwrap();
        for watts in curve.watts {
            assert_near(watts, 10.0);
        }
    }

    #[test]
    fn first_reading_tells_of_the_day_unless_the_counter_is_older() {
        let mut young = PowerHistory::default();
        young.record(reading(10.0, DAY, 1.5 * DAY), Moment(1.5 * DAY));
        assert_near(young.day_joules(Moment(1.5 * DAY)), 5.0 * DAY);
        // Nothing says that this was its mean power just now.
        assert_near(latest(&young), 11.0);
        let mut old = PowerHistory::default();
        old.record(reading(10.0, 0.0, 3.0 * DAY), Moment(3.0 * DAY));
        assert_eq!(old.day_joules(Moment(3.0 * DAY)), None);
        assert_near(latest(&old), 11.0);
    }

    #[test]
    fn power_is_the_mean_since_the_last_reading_unless_that_was_just_now() {
        let mut history = PowerHistory::default();
        record(&mut history, 10.0, 0.0, (100.0, 160.0), 60.0);
        assert_near(latest(&history), 10.0);
        let after = |seconds| history.watts(Moment(160.0 + seconds), Duration::from_secs(300));
        assert_eq!((after(300.0).is_some(), after(301.0)), (true, None));
        history.record(reading(10.0, 0.0, 161.0), Moment(161.0));
        assert_near(latest(&history), 11.0);
        history.record(PowerReading::new(Some(3.0), None), Moment(200.0));
        assert_near(latest(&history), 3.0);
        history.record(None, Moment(260.0));
        assert_eq!(latest(&history), None);
        // The counter went on meanwhile.
        history.record(reading(10.0, 0.0, 320.0), Moment(320.0));
        assert_near(history.day_joules(Moment(320.0)), 3200.0);
    }

    #[test]
    fn curve_has_48_points_at_most_however_long_it_is() {
        let mut history = PowerHistory::default();
        let mut at = 0.0;
        while at < 4.0 * DAY {
            history.record(reading(10.0, 0.0, at), Moment(at));
            if let Some(curve) = history.curve(Moment(at)) {
                assert!(curve.watts.len() <= POINTS);
                assert!(
                    curve.seconds * POINTS as f64 >= (at - 100.0).min(DAY),
                    "{at}"
                );
                for watts in curve.watts {
                    assert_near(watts, 10.0);
                }
            }
            at += 97.0;
        }
    }

    #[test]
    fn readings_that_contradict_each_other_are_left_out() {
        let mut history = PowerHistory::default();
        let energy = |joules, seconds| PowerReading::new(None, EnergyReading::new(joules, seconds));
        history.record(energy(1e6, 1000.0), Moment(1000.0));
        let before = history.day_joules(Moment(1000.0));
        // Less than before, though it has not begun anew; more than any board draws; not later.
        history.record(energy(5.0, 1060.0), Moment(1060.0));
        history.record(energy(1e17, 1120.0), Moment(1120.0));
        history.record(energy(1e17, 1120.0), Moment(1120.0));
        history.record(energy(1e17, 1.0), Moment(900.0));
        assert_eq!(history.day_joules(Moment(1120.0)), before);
        for at in [0.0, 1e18] {
            history.record(energy(1.0, 1.0), Moment(at));
            history.curve(Moment(at));
        }
    }
}
