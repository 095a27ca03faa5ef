//! Energy: power integrated over real time, hardware counters unwrapped, and the pair of families every meter has.

use super::family::Desc;
use super::group::Group;
use super::plausible::Range;
use super::readings::{Readings, Why};
use super::series::SeriesId;
use crate::sys::clock::BootTime;

/// Watts into joules, by the trapezoidal rule over the time that really passed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Integrator {
    last: Option<(BootTime, f64)>,
}

impl Integrator {
    /// Joules since the last reading. Over a silence longer than `longest_gap` seconds nothing is known, and nothing
    /// is integrated. Power below zero (a rail that feeds back, or a sensor's offset) counts as zero: the total only
    /// grows.
    #[inline]
    pub fn advance(&mut self, at: BootTime, watts: f64, longest_gap: f64) -> f64 {
        let watts = if watts > 0.0 { watts } else { 0.0 };
        let Some((then, before)) = self.last.replace((at, watts)) else {
            return 0.0;
        };
        let seconds = at.seconds_since(then);
        if seconds <= longest_gap {
            (watts + before) / 2.0 * seconds
        } else {
            0.0
        }
    }
}

/// A hardware counter of limited range, made one that does not wrap.
#[derive(Debug, Clone, Copy)]
pub struct CounterUnwrap {
    range: u64,
    last: Option<u64>,
    /// What it stood at when it fell last, until it is there again.
    fell_from: Option<u64>,
}

/// What a reading of a counter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So much was counted since the last reading.
    Counted(u64),
    /// It is the first reading, or the counter has begun anew.
    Began,
    /// It moved by so much, which nothing explains: it was set anew, or one of the readings was wrong.
    Jumped(u64),
}

impl Step {
    fn counted(self) -> Option<u64> {
        match self {
            Step::Counted(n) => Some(n),
            Step::Began | Step::Jumped(_) => None,
        }
    }
}

impl CounterUnwrap {
    /// A counter that starts again at 0 instead of reaching `range`: 2^32 for a register of 32 bits, which then is exact.
    /// The kernel's powercap ABI tells the highest value its counter shows (`max_energy_range_uj`), one step less:
    /// with that, a step is lost at every wrap, some 2 parts in 10^10. 0 for a counter that does not wrap: when that
    /// falls, it was reset.
    pub fn new(range: u64) -> CounterUnwrap {
        CounterUnwrap {
            range,
            last: None,
            fell_from: None,
        }
    }

    /// What it counted since the last reading; `None` for the first one, and after a reset.
    pub fn advance(&mut self, raw: u64) -> Option<u64> {
        self.step(raw, f64::INFINITY, f64::INFINITY).counted()
    }

    /// The same after a silence in which it may have been reset, as a board's counters are by a suspend: what has
    /// fallen then is no wrap.
    pub fn advance_after_silence(&mut self, raw: u64) -> Option<u64> {
        self.step(raw, f64::INFINITY, 0.0).counted()
    }

    /// The same of a counter that can have counted `most` since it last moved, and `wrap` since it was last read: 0 after a
    /// silence in which it may have been reset, as a board's counters are by a suspend.
    ///
    /// What is more than `most` was not counted. A counter that fell and goes back above what it stood at, in one step, had
    /// not begun anew: that reading was wrong, or another device's, and only what is above counts. (After a silence it may have
    /// begun anew, and all counts that it can have counted since.)
    pub fn step(&mut self, raw: u64, most: f64, wrap: f64) -> Step {
        let Some(last) = self.last.replace(raw) else {
            return Step::Began;
        };
        let Some(step) = raw.checked_sub(last) else {
            let in_range = self.range > 0 && last <= self.range && raw <= self.range;
            let wrapped = in_range.then(|| self.range - last + raw);
            if let Some(step) = wrapped.filter(|n| *n as f64 <= wrap) {
                return Step::Counted(step);
            }
            self.fell_from = Some(last);
            return Step::Began;
        };
        let back = self.fell_from.and_then(|before| raw.checked_sub(before));
        if back.is_some() {
            self.fell_from = None;
        }
        let is_possible = |n: &u64| *n as f64 <= most;
        let counted = match back {
            // Without a limit to go by, it is believed.
            Some(above) if wrap > 0.0 && most.is_finite() || !is_possible(&step) => above,
            _ => step,
        };
        match is_possible(&counted) {
            true => Step::Counted(counted),
            false => Step::Jumped(step),
        }
    }
}

/// A counter that is read this often or less lags behind by as much: the reading is stamped when the poll begins.
const READING_LAG: f64 = 1.0;
/// The same of a device on a network, whose answer takes its time.
const ANSWER_LAG: f64 = 5.0;
/// Devices that count in large steps move their counter once a minute (Shelly's `em1data`). The first step may be a whole
/// one, whenever the counter was first read.
const FIRST_STEP: f64 = 60.0;

/// A counter of energy, and the series that goes on from 0 by what it counts.
#[derive(Debug, Clone)]
pub struct EnergyCounter {
    energy: SeriesId,
    /// What it can count at most, in watts.
    most: f64,
    counter: CounterUnwrap,
    counted_at: Option<BootTime>,
    /// When it was last seen to move, or begin; `None` for one that has not moved yet.
    moved_at: Option<BootTime>,
    began_at: Option<BootTime>,
}

impl EnergyCounter {
    /// A counter that wraps after `range` (in its own unit; 0: never), of what has at most `most` watts.
    pub fn new(energy: SeriesId, range: u64, most: f64) -> EnergyCounter {
        EnergyCounter {
            energy,
            most,
            counter: CounterUnwrap::new(range),
            counted_at: None,
            moved_at: None,
            began_at: None,
        }
    }

    /// It was read, at `joules_per_unit`: adds what it counted to the series. The joules, and the seconds in which they were
    /// counted; `None` for the first reading, after a reset, and after a jump, which is noted as refused.
    fn count(
        &mut self,
        out: &mut Readings,
        raw: u64,
        joules_per_unit: f64,
        lag: f64,
    ) -> Option<(f64, f64)> {
        let then = self.counted_at.replace(out.at);
        let seconds = then.map_or(0.0, |then| out.at.seconds_since(then));
        let still = match (self.moved_at, self.began_at) {
            (Some(moved), _) => out.at.seconds_since(moved) + lag,
            (None, Some(began)) => out.at.seconds_since(began) + lag.max(self.first_step(lag)),
            (None, None) => lag,
        };
        let units = |seconds: f64| self.most * seconds / joules_per_unit;
        // Over a silence it may have been reset: what has fallen then is no wrap.
        let wrap = match seconds > out.longest_gap {
            true => 0.0,
            false => units(seconds + lag),
        };
        let step = self.counter.step(raw, units(still), wrap);
        if step != Step::Counted(0) {
            self.moved_at = then.map(|_| out.at);
        }
        self.began_at.get_or_insert(out.at);
        let counted = match step {
            Step::Counted(n) => Some(n as f64 * joules_per_unit),
            Step::Began => None,
            Step::Jumped(n) => {
                let joules = n as f64 * joules_per_unit;
                out.refuse(self.energy, joules, Why::Jump(still));
                None
            }
        };
        out.add(self.energy, counted.unwrap_or(0.0));
        counted.map(|joules| (joules, seconds))
    }

    fn first_step(&self, lag: f64) -> f64 {
        if lag > READING_LAG {
            FIRST_STEP
        } else {
            lag
        }
    }

    /// A counter of a device on a network was read, which may move in large steps: they tell energy, and no power.
    pub fn counted(&mut self, out: &mut Readings, raw: u64, joules_per_unit: f64) {
        self.count(out, raw, joules_per_unit, ANSWER_LAG);
    }
}

/// One thing that draws power: its `power_watts` and `energy_joules_total`.
#[derive(Debug, Clone)]
pub struct Rail {
    power: SeriesId,
    integrator: Integrator,
    counter: EnergyCounter,
    /// What was counted between the last two readings, in joules.
    last_counted: Option<f64>,
}

impl Rail {
    /// Registers `power_watts{source,rail}` and `energy_joules_total{source,rail}`.
    pub fn new(group: &Group, rail: &str) -> Rail {
        Rail::with(group, rail, 0, None)
    }

    /// The same for a hardware counter that wraps after `range` (in its own unit).
    pub fn with_range(group: &Group, rail: &str, range: u64) -> Rail {
        Rail::with(group, rail, range, None)
    }

    /// The same for a rail whose power is within `watts`, which its source does not tell.
    pub fn within(group: &Group, rail: &str, watts: &'static Range) -> Rail {
        Rail::with(group, rail, 0, Some(watts))
    }

    fn with(group: &Group, rail: &str, range: u64, watts: Option<&'static Range>) -> Rail {
        let labels = [("source", group.source.as_str()), ("rail", rail)];
        let power = Desc {
            range: watts,
            ..Desc::gauge(
                "power_watts",
                "Electric power, by source and rail, in watts.",
            )
        };
        let power = group.series(&power, &labels);
        let energy = Desc::counter(
            "energy_joules_total",
            "Electric energy since the exporter started, by source and rail, in joules.",
        );
        Rail {
            power,
            integrator: Integrator::default(),
            counter: EnergyCounter::new(group.series(&energy, &labels), range, power.range().most),
            last_counted: None,
        }
    }

    /// Power was read: publishes it, and integrates it into the energy. What is returned is the power, if it is plausible;
    /// else nothing was read.
    #[inline]
    pub fn watts(&mut self, out: &mut Readings, watts: f64) -> Option<f64> {
        let watts = out.take(self.power, watts)?;
        let joules = self.integrator.advance(out.at, watts, out.longest_gap);
        out.add(self.counter.energy, joules);
        Some(watts)
    }

    /// It has no reading yet: its energy stands.
    pub fn awaited(&self, out: &mut Readings) {
        out.add(self.counter.energy, 0.0);
    }

    /// Power was read of a rail whose energy is [`counted`](Rail::counted): publishes it in the place of the mean, and returns
    /// it, if it is plausible.
    pub fn counted_at_watts(&self, out: &mut Readings, watts: f64) -> Option<f64> {
        out.take(self.power, watts)
    }

    /// An energy counter was read, at `joules_per_unit`: publishes the energy, and the mean power since the last
    /// reading, which is returned; `None` for the first reading, and after a reset or a jump. A counter that has fallen
    /// over a silence longer than `out.longest_gap` was reset.
    pub fn counted(&mut self, out: &mut Readings, raw: u64, joules_per_unit: f64) -> Option<f64> {
        let counted = self.counter.count(out, raw, joules_per_unit, READING_LAG);
        self.last_counted = counted.map(|(joules, _)| joules);
        let (joules, seconds) = counted.filter(|(_, seconds)| *seconds > 0.0)?;
        out.take(self.power, joules / seconds)
    }

    /// The same for a device's counter that moves in large steps: publishes the energy and no power, since the mean over one
    /// poll is none.
    pub fn counted_in_steps(&mut self, out: &mut Readings, raw: u64, joules_per_unit: f64) {
        self.counter.counted(out, raw, joules_per_unit);
    }

    /// What the counter counted between its last two readings, in joules; `None` after the first, and after a reset.
    pub fn last_counted(&self) -> Option<f64> {
        self.last_counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{plausible, Policy, Registry};
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn integrates_by_trapezoids_over_real_time() {
        let mut integrator = Integrator::default();
        assert_eq!(integrator.advance(BootTime(SECOND), 10.0, 5.0), 0.0);
        assert_eq!(integrator.advance(BootTime(3 * SECOND), 20.0, 5.0), 30.0);
        assert_eq!(integrator.advance(BootTime(3 * SECOND), 20.0, 5.0), 0.0);
    }

    #[test]
    fn a_silence_is_not_integrated() {
        let mut integrator = Integrator::default();
        integrator.advance(BootTime(SECOND), 10.0, 5.0);
        assert_eq!(integrator.advance(BootTime(7 * SECOND), 10.0, 5.0), 0.0);
        assert_eq!(integrator.advance(BootTime(8 * SECOND), 10.0, 5.0), 10.0);
    }

    #[test]
    fn negative_power_does_not_shrink_the_total() {
        let mut integrator = Integrator::default();
        integrator.advance(BootTime(SECOND), -4.0, 5.0);
        assert_eq!(integrator.advance(BootTime(2 * SECOND), -4.0, 5.0), 0.0);
        assert_eq!(integrator.advance(BootTime(3 * SECOND), 8.0, 5.0), 4.0);
    }

    #[test]
    fn counters_unwrap_by_their_own_range() {
        let mut counter = CounterUnwrap::new(262_143_328_850);
        assert_eq!(counter.advance(262_143_000_000), None);
        assert_eq!(counter.advance(262_143_328_850), Some(328_850));
        assert_eq!(counter.advance(1_000), Some(1_000));
        assert_eq!(counter.advance(1_000), Some(0));
    }

    #[test]
    fn a_register_unwraps_exactly() {
        let mut counter = CounterUnwrap::new(1 << 32);
        counter.advance(0xffff_ffff);
        assert_eq!(counter.advance(0), Some(1));
        assert_eq!(counter.advance(0xffff_ffff), Some(0xffff_ffff));
        assert_eq!(counter.advance(0xffff_fffe), Some(0xffff_ffff));
    }

    #[test]
    fn a_fall_that_is_no_wrap_is_a_reset() {
        let mut counter = CounterUnwrap::new(0);
        counter.advance(500);
        assert_eq!(counter.advance(20), None);
        assert_eq!(counter.advance(25), Some(5));
        let mut counter = CounterUnwrap::new(100);
        counter.advance(500);
        assert_eq!(counter.advance(20), None, "500 was never in its range");
    }

    /// What a counter of watt-hours in thousandths adds, in watt-hours, of readings by (second, reading).
    fn counted(readings: &[(u64, f64)]) -> (f64, usize) {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "shelly", vec![]);
        let generation = group.new_generation();
        let mut rail = Rail::within(&group, "switch:0", &plausible::WATTS_OF_PLUG);
        let mut out = Readings::new(5.0);
        let mut jumps = 0;
        for (second, watt_hours) in readings {
            out.begin(BootTime(second * SECOND));
            rail.counted_in_steps(&mut out, (watt_hours * 1e3).round() as u64, 3.6);
            jumps += out.refused().len();
            group.publish(generation, &out);
            assert_eq!(
                group.value(rail.power),
                None,
                "such a counter tells no power"
            );
        }
        let joules = group.value(rail.counter.energy).unwrap();
        ((joules / 3.6).round() / 1e3, jumps)
    }

    #[test]
    fn a_counter_that_falls_and_comes_back_had_not_begun_anew() {
        for (readings, wanted, jumps) in [
            // 0 between two right readings: at once, after a few polls, after a silence.
            (&[(1, 31_250.0), (2, 0.0), (3, 31_250.1)][..], 0.1, 0),
            (&[(1, 31_250.0), (2, 0.0), (3, 0.0), (4, 31_250.1)], 0.1, 0),
            (&[(1, 31_250.0), (2, 0.0), (602, 31_252.0)], 2.0, 0),
            (&[(1, 100.0), (2, 0.0), (3, 100.0), (4, 100.01)], 0.01, 0),
            // A little lower for once.
            (&[(1, 500.0), (2, 499.9), (3, 500.0), (4, 500.1)], 0.1, 0),
            // Two devices behind one address: of the steps between them, none counts.
            (
                &[
                    (1, 1000.0),
                    (2, 50.0),
                    (3, 1000.0),
                    (4, 50.0),
                    (5, 1000.2),
                    (6, 50.0),
                ],
                0.2,
                0,
            ),
            (
                &[
                    (1, 50.0),
                    (2, 1000.0),
                    (3, 50.0),
                    (4, 1000.0),
                    (5, 50.1),
                    (6, 1000.1),
                ],
                0.1,
                1,
            ),
            // It began anew, and counts on past where it was.
            (
                &[(1, 1.0), (2, 0.0), (3, 0.4), (4, 0.8), (5, 1.2), (6, 1.6)],
                1.4,
                0,
            ),
            // It began anew, and an hour without the network.
            (&[(1, 100.0), (2, 0.0), (3602, 150.0)], 150.0, 0),
        ] {
            assert_eq!(counted(readings), (wanted, jumps), "{readings:?}");
        }
    }

    #[test]
    fn a_step_counts_only_if_time_and_rating_explain_it() {
        for (readings, wanted, jumps) in [
            // A counter that moves once a minute: 3.5 kW, the first minute begun before.
            (
                &[(1, 7.0), (2, 7.0), (3, 65.3), (62, 65.3), (63, 123.6)][..],
                116.6,
                0,
            ),
            // A megawatt-hour in a second, and in an hour.
            (&[(1, 7.0), (2, 1_000_007.0), (3, 1_000_007.5)], 0.5, 1),
            (
                &[(1, 7.0), (3601, 1_000_007.0), (3602, 1_000_007.5)],
                0.5,
                1,
            ),
            // 150 Wh in a second, when it was seen to move the second before.
            (&[(1, 7.0), (2, 7.1), (3, 157.1), (4, 157.2)], 0.2, 1),
            // What it counted while the network was away.
            (&[(1, 7.0), (2, 7.1), (3602, 3_507.1)], 3_500.1, 0),
            // A spike.
            (&[(1, 7.0), (2, 7.1), (3, 9e8), (4, 7.2), (5, 7.3)], 0.2, 1),
        ] {
            assert_eq!(counted(readings), (wanted, jumps), "{readings:?}");
        }
    }

    #[test]
    fn a_counter_of_32_bits_that_is_reset_has_not_wrapped() {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "rapl", vec![]);
        let generation = group.new_generation();
        let range = 262_143_328_850;
        let mut rail = Rail::with_range(&group, "package-0", range);
        let mut out = Readings::new(5.0);
        let mut energy = 0.0;
        for (second, raw, joules) in [
            (1, 100_000_000_000, 0.0),
            (2, 100_050_000_000, 50.0),
            // Reset, as by a short suspend: 162 kJ in a second are none.
            (3, 1_000_000, 0.0),
            (4, 51_000_000, 50.0),
            // And a real wrap.
            (5, 51_000_000, 0.0),
            (6, 262_143_000_000, 0.0),
            (7, 49_671_150, 50.0),
        ] {
            out.begin(BootTime(second * SECOND));
            let watts = rail.counted(&mut out, raw, 1e-6);
            group.publish(generation, &out);
            energy += joules;
            let value = group.value(rail.counter.energy).unwrap();
            assert!(
                (value - energy).abs() < 1e-6,
                "{second}: {value}, not {energy}"
            );
            assert!(
                watts.is_none_or(|watts| watts < 51.0),
                "{second}: {watts:?}"
            );
        }
    }

    #[test]
    fn what_is_not_plausible_is_neither_shown_nor_integrated() {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "hwmon", vec![]);
        let generation = group.new_generation();
        let mut rail = Rail::new(&group, "power1");
        let mut out = Readings::new(5.0);
        for (second, watts, taken) in [
            (1, 100.0, Some(100.0)),
            (2, 4_294_967.295, None),
            (3, f64::NAN, None),
            (4, 100.0, Some(100.0)),
        ] {
            out.begin(BootTime(second * SECOND));
            assert_eq!(rail.watts(&mut out, watts), taken, "{second}");
            assert_eq!(out.refused().len(), usize::from(taken.is_none()));
            group.publish(generation, &out);
            assert_eq!(group.value(rail.power), taken);
        }
        assert_eq!(group.value(rail.counter.energy), Some(300.0));
    }

    #[test]
    fn a_counter_that_begins_again_while_the_board_sleeps_has_not_wrapped() {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "rapl", vec![]);
        let generation = group.new_generation();
        let mut rail = Rail::with_range(&group, "package-0", 1_000_000_000);
        let mut out = Readings::new(5.0);
        for (second, raw, watts) in [
            (10, 600_000_000, None),
            (11, 603_000_000, Some(3.0)),
            // Asleep for a minute, and on from 0.
            (71, 1_000_000, None),
            (72, 3_000_000, Some(2.0)),
            // A minute in which it went on counting.
            (132, 63_000_000, Some(1.0)),
        ] {
            out.begin(BootTime(second * SECOND));
            assert_eq!(rail.counted(&mut out, raw, 1e-6), watts, "{second}");
            group.publish(generation, &out);
        }
        assert_eq!(group.value(rail.counter.energy), Some(3.0 + 2.0 + 60.0));
    }

    #[test]
    fn a_rail_counts_joules_and_gives_the_mean_power() {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "rapl", vec![]);
        group.set_interval(Duration::from_secs(1));
        let generation = group.new_generation();
        let mut rail = Rail::with_range(&group, "package-0", 1_000_000);
        let mut out = Readings::new(5.0);

        out.begin(BootTime(SECOND));
        assert_eq!(rail.counted(&mut out, 900_000, 1e-6), None);
        group.publish(generation, &out);
        assert_eq!(group.value(rail.power), None);
        assert_eq!(group.value(rail.counter.energy), Some(0.0));

        out.begin(BootTime(SECOND + SECOND / 2));
        assert_eq!(rail.counted(&mut out, 400_000, 1e-6), Some(1.0));
        group.publish(generation, &out);
        assert_eq!(group.value(rail.power), Some(1.0));
        assert_eq!(group.value(rail.counter.energy), Some(0.5));
    }
}
