//! Energy: power integrated over real time, hardware counters unwrapped, and the pair of families every meter has.

use super::family::Desc;
use super::group::Group;
use super::readings::Readings;
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
}

impl CounterUnwrap {
    /// A counter that starts again at 0 instead of reaching `range`: 2^32 for a register of 32 bits, which then is exact.
    /// The kernel's powercap ABI tells the highest value its counter shows (`max_energy_range_uj`), one step less:
    /// with that, a step is lost at every wrap, some 2 parts in 10^10. 0 for a counter that does not wrap: when that
    /// falls, it was reset.
    pub fn new(range: u64) -> CounterUnwrap {
        CounterUnwrap { range, last: None }
    }

    /// What it counted since the last reading; `None` for the first one, and after a reset.
    pub fn advance(&mut self, raw: u64) -> Option<u64> {
        let last = self.last.replace(raw)?;
        if raw >= last {
            Some(raw - last)
        } else if self.range > 0 && last <= self.range && raw <= self.range {
            Some(self.range - last + raw)
        } else {
            None
        }
    }

    /// The same after a silence in which it may have been reset, as a board's counters are by a suspend: what has
    /// fallen then is no wrap.
    pub fn advance_after_silence(&mut self, raw: u64) -> Option<u64> {
        let last = self.last.replace(raw)?;
        raw.checked_sub(last)
    }
}

/// One thing that draws power: its `power_watts` and `energy_joules_total`.
#[derive(Debug, Clone)]
pub struct Rail {
    power: SeriesId,
    energy: SeriesId,
    integrator: Integrator,
    counter: CounterUnwrap,
    counted_at: Option<BootTime>,
    /// What was counted between the last two readings, in joules.
    last_counted: Option<f64>,
}

impl Rail {
    /// Registers `power_watts{source,rail}` and `energy_joules_total{source,rail}`.
    pub fn new(group: &Group, rail: &str) -> Rail {
        Rail::with_range(group, rail, 0)
    }

    /// The same for a hardware counter that wraps after `range` (in its own unit).
    pub fn with_range(group: &Group, rail: &str, range: u64) -> Rail {
        let labels = [("source", group.source.as_str()), ("rail", rail)];
        Rail {
            power: group.series(
                &Desc::gauge(
                    "power_watts",
                    "Electric power, by source and rail, in watts.",
                ),
                &labels,
            ),
            energy: group.series(
                &Desc::counter(
                    "energy_joules_total",
                    "Electric energy since the exporter started, by source and rail, in joules.",
                ),
                &labels,
            ),
            integrator: Integrator::default(),
            counter: CounterUnwrap::new(range),
            counted_at: None,
            last_counted: None,
        }
    }

    /// Power was read: publishes it, and integrates it into the energy.
    #[inline]
    pub fn watts(&mut self, out: &mut Readings, watts: f64) {
        out.set(self.power, watts);
        let joules = self.integrator.advance(out.at, watts, out.longest_gap);
        out.add(self.energy, joules);
    }

    /// It has no reading yet: its energy stands.
    pub fn awaited(&self, out: &mut Readings) {
        out.add(self.energy, 0.0);
    }

    /// Power was read of a rail whose energy is [`counted`](Rail::counted): publishes it in the place of the mean.
    pub fn counted_at_watts(&self, out: &mut Readings, watts: f64) {
        out.set(self.power, watts);
    }

    /// An energy counter was read, at `joules_per_unit`: publishes the energy, and the mean power since the last
    /// reading, which is returned; `None` for the first reading and after a reset. A counter that has fallen over a
    /// silence longer than `out.longest_gap` was reset.
    pub fn counted(&mut self, out: &mut Readings, raw: u64, joules_per_unit: f64) -> Option<f64> {
        let then = self.counted_at.replace(out.at);
        let seconds = then.map_or(0.0, |then| out.at.seconds_since(then));
        let counted = if seconds > out.longest_gap {
            self.counter.advance_after_silence(raw)
        } else {
            self.counter.advance(raw)
        };
        let joules = counted.map(|n| n as f64 * joules_per_unit);
        self.last_counted = joules;
        out.add(self.energy, joules.unwrap_or(0.0));
        let watts = joules.filter(|_| seconds > 0.0)? / seconds;
        out.set(self.power, watts);
        Some(watts)
    }

    /// What the counter counted between its last two readings, in joules; `None` after the first, and after a reset.
    pub fn last_counted(&self) -> Option<f64> {
        self.last_counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Policy, Registry};
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
        assert_eq!(group.value(rail.energy), Some(3.0 + 2.0 + 60.0));
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
        assert_eq!(group.value(rail.energy), Some(0.0));

        out.begin(BootTime(SECOND + SECOND / 2));
        assert_eq!(rail.counted(&mut out, 400_000, 1e-6), Some(1.0));
        group.publish(generation, &out);
        assert_eq!(group.value(rail.power), Some(1.0));
        assert_eq!(group.value(rail.energy), Some(0.5));
    }
}
