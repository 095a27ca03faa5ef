//! Energy: integrates power over time, unwraps hardware counters, and holds the two families every power meter has.

use super::family::Desc;
use super::group::Group;
use super::plausible::Range;
use super::readings::{Readings, RejectReason};
use super::series::SeriesId;
use crate::sys::clock::BootTime;

/// Integrates watts to joules by the trapezoidal rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct Integrator {
    last: Option<(BootTime, f64)>,
}

impl Integrator {
    /// Joules since the last reading. A silence longer than `max_gap` seconds is not integrated. Negative power (a rail that
    /// feeds back, or a sensor's offset) counts as zero, so that the total never decreases.
    #[inline]
    pub fn advance(&mut self, at: BootTime, watts: f64, max_gap: f64) -> f64 {
        let watts = if watts > 0.0 { watts } else { 0.0 };
        let Some((then, before)) = self.last.replace((at, watts)) else {
            return 0.0;
        };
        let seconds = at.seconds_since(then);
        if seconds <= max_gap {
            (watts + before) / 2.0 * seconds
        } else {
            0.0
        }
    }
}

/// Unwraps a hardware counter of limited range.
#[derive(Debug, Clone, Copy)]
pub struct CounterUnwrap {
    range: u64,
    last: Option<u64>,
    /// Its value before it last fell, until it reaches that value again.
    fell_from: Option<u64>,
}

/// What happened between two readings of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It counted this many units.
    Counted(u64),
    /// This is the first reading, or the counter was reset.
    Reset,
    /// It moved by more units than are possible: it was set, or one of the readings was wrong.
    Jumped(u64),
}

impl Step {
    fn counted(self) -> Option<u64> {
        match self {
            Step::Counted(n) => Some(n),
            Step::Reset | Step::Jumped(_) => None,
        }
    }
}

impl CounterUnwrap {
    /// A counter that wraps to 0 instead of reaching `range`, such as 2^32 for a register of 32 bits.
    /// The kernel's powercap ABI has the counter's highest value (`max_energy_range_uj`), which is one unit less:
    /// with that, one unit is lost at every wrap, some 2 parts in 10^10. 0 means that the counter does not wrap: if it
    /// falls, it was reset.
    pub fn new(range: u64) -> CounterUnwrap {
        CounterUnwrap {
            range,
            last: None,
            fell_from: None,
        }
    }

    /// Whether this is a raw register of 32 bits or more, of which every value is a valid count.
    fn is_register(&self) -> bool {
        self.range.is_power_of_two()
    }

    /// The units counted since the last reading; `None` for the first reading and after a reset.
    pub fn advance(&mut self, raw: u64) -> Option<u64> {
        self.step(raw, f64::INFINITY, f64::INFINITY).counted()
    }

    /// Like [`advance`](Self::advance), after a silence in which the counter may have been reset, for example by a suspend:
    /// a fall is not taken for a wrap.
    pub fn advance_after_silence(&mut self, raw: u64) -> Option<u64> {
        self.step(raw, f64::INFINITY, 0.0).counted()
    }

    /// The units counted since the last reading, if they are at most `max` and there was no fall in doubt. Then, and only
    /// then, does this take the reading.
    #[inline]
    fn small_step(&mut self, raw: u64, max: f64) -> Option<u64> {
        let step = raw.checked_sub(self.last?)?;
        if self.fell_from.is_some() || step as f64 > max {
            return None;
        }
        self.last = Some(raw);
        Some(step)
    }

    /// The step of a counter that can have counted at most `max` units since it last moved, and `max_wrap` since it was last
    /// read. `max_wrap` is 0 after a silence in which the counter may have been reset, for example by a suspend.
    ///
    /// A step of more than `max` is a [`Step::Jumped`]. A counter that fell and returns above its former value in one step
    /// was not reset: the lower reading was wrong, or another device's, and only the units above the former value count.
    /// (After a silence the counter may have been reset, and all units that are possible since then count.)
    pub fn step(&mut self, raw: u64, max: f64, max_wrap: f64) -> Step {
        let Some(last) = self.last.replace(raw) else {
            return Step::Reset;
        };
        let Some(step) = raw.checked_sub(last) else {
            let in_range = self.range > 0 && last <= self.range && raw <= self.range;
            let wrapped = in_range.then(|| self.range - last + raw);
            if let Some(step) = wrapped.filter(|n| *n as f64 <= max_wrap) {
                return Step::Counted(step);
            }
            self.fell_from = Some(last);
            return Step::Reset;
        };
        let back = self.fell_from.and_then(|before| raw.checked_sub(before));
        if back.is_some() {
            self.fell_from = None;
        }
        let is_possible = |n: &u64| *n as f64 <= max;
        let counted = match back {
            // Without a limit, the step is believed.
            Some(above) if max_wrap > 0.0 && max.is_finite() || !is_possible(&step) => above,
            _ => step,
        };
        match is_possible(&counted) {
            true => Step::Counted(counted),
            false => Step::Jumped(step),
        }
    }
}

/// Delay between a poll's timestamp (its begin) and the reading of a local counter, in seconds at most.
const READING_LAG: f64 = 1.0;
/// The same for a device on a network.
const RESPONSE_LAG: f64 = 5.0;
/// Longest time that one step of a counter covers, in seconds: some devices move theirs once a minute (Shelly's `em1data`).
/// The first step after the first reading may cover all of it. A counter that stood still for longer makes no larger step.
const MAX_STEP_SECONDS: f64 = 60.0;

/// Values that mean "unknown": registers of 32 and 64 bits with all bits set.
const UNKNOWN: [u64; 3] = [u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// A hardware energy counter, and the series that starts at 0 and grows by what it counts.
#[derive(Debug, Clone)]
pub struct EnergyCounter {
    energy: SeriesId,
    /// The maximum power that it can count, in watts.
    max_watts: f64,
    counter: CounterUnwrap,
    counted_at: Option<BootTime>,
    /// When it last moved or was reset; `None` if it has not moved yet.
    moved_at: Option<BootTime>,
    first_read_at: Option<BootTime>,
}

impl EnergyCounter {
    /// A counter that wraps at `range` (in its own unit; 0: never) and counts at most `max_watts`.
    pub fn new(energy: SeriesId, range: u64, max_watts: f64) -> EnergyCounter {
        EnergyCounter {
            energy,
            max_watts,
            counter: CounterUnwrap::new(range),
            counted_at: None,
            moved_at: None,
            first_read_at: None,
        }
    }

    /// Adds what the counter counted to the series. Returns the joules and the seconds in which they were counted; `None` for
    /// the first reading and after a reset. Jumps and unknown values are `None` too, and noted as rejected.
    fn count(
        &mut self,
        out: &mut Readings,
        raw: u64,
        joules_per_unit: f64,
        lag: f64,
    ) -> Option<(f64, f64)> {
        if UNKNOWN.contains(&raw) && !self.counter.is_register() {
            out.reject(
                self.energy,
                raw as f64 * joules_per_unit,
                RejectReason::Unknown,
            );
            return None;
        }
        let then = self.counted_at.replace(out.at);
        let seconds = then.map_or(0.0, |then| out.at.seconds_since(then));
        // Nearly every step is smaller than the smallest limit, which is that of `lag`.
        if let Some(step) = self
            .counter
            .small_step(raw, self.max_watts * lag / joules_per_unit)
        {
            if step > 0 {
                self.moved_at = Some(out.at);
            }
            let joules = step as f64 * joules_per_unit;
            out.add(self.energy, joules);
            return Some((joules, seconds));
        }
        let still = match (self.moved_at, self.first_read_at) {
            (Some(moved), _) => out.at.seconds_since(moved) + lag,
            (None, Some(began)) => out.at.seconds_since(began) + lag.max(self.first_step(lag)),
            (None, None) => lag,
        };
        let still = still.min(seconds + MAX_STEP_SECONDS);
        let units = |seconds: f64| self.max_watts * seconds / joules_per_unit;
        // During a silence the counter may have been reset: a fall is not taken for a wrap.
        let max_wrap = match seconds > out.max_gap {
            true => 0.0,
            false => units(seconds + lag),
        };
        let step = self.counter.step(raw, units(still), max_wrap);
        if step != Step::Counted(0) {
            self.moved_at = then.map(|_| out.at);
        }
        self.first_read_at.get_or_insert(out.at);
        let counted = match step {
            Step::Counted(n) => Some(n as f64 * joules_per_unit),
            Step::Reset => None,
            Step::Jumped(n) => {
                let joules = n as f64 * joules_per_unit;
                out.reject(self.energy, joules, RejectReason::Jump(still));
                None
            }
        };
        out.add(self.energy, counted.unwrap_or(0.0));
        counted.map(|joules| (joules, seconds))
    }

    /// Takes a reading whose step does not count.
    fn skip_to(&mut self, raw: u64, at: BootTime) {
        self.counter.step(raw, f64::INFINITY, f64::INFINITY);
        self.counter.fell_from = None;
        (self.counted_at, self.moved_at) = (Some(at), Some(at));
        self.first_read_at.get_or_insert(at);
    }

    fn first_step(&self, lag: f64) -> f64 {
        if lag > READING_LAG {
            MAX_STEP_SECONDS
        } else {
            lag
        }
    }

    /// Reads the counter of a device on a network, which may move in large steps that have no mean power.
    /// Returns the joules counted; `None` for the first reading, after a reset and after a jump.
    pub fn update(&mut self, out: &mut Readings, raw: u64, joules_per_unit: f64) -> Option<f64> {
        let counted = self.count(out, raw, joules_per_unit, RESPONSE_LAG);
        counted.map(|(joules, _)| joules)
    }
}

/// The `power_watts` and `energy_joules_total` of one rail.
#[derive(Debug, Clone)]
pub struct Rail {
    power: SeriesId,
    integrator: Integrator,
    counter: EnergyCounter,
    /// Joules counted between the last two readings.
    last_counted: Option<f64>,
    /// Whether the last power beside a counter was below zero.
    was_negative: bool,
}

impl Rail {
    /// Registers `power_watts{source,rail}` and `energy_joules_total{source,rail}`.
    pub fn new(group: &Group, rail: &str) -> Rail {
        Rail::with(group, rail, 0, None)
    }

    /// Registers a rail whose hardware counter wraps at `range` (in its own unit).
    pub fn with_range(group: &Group, rail: &str, range: u64) -> Rail {
        Rail::with(group, rail, range, None)
    }

    /// Registers a rail whose power range is not the default of its source.
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
            counter: EnergyCounter::new(group.series(&energy, &labels), range, power.range().max),
            last_counted: None,
            was_negative: false,
        }
    }

    /// Publishes a power reading and integrates it into the energy. Returns the power if it is plausible; otherwise the
    /// reading is ignored.
    #[inline]
    pub fn set_watts(&mut self, out: &mut Readings, watts: f64) -> Option<f64> {
        let watts = out.try_set(self.power, watts)?;
        let joules = self.integrator.advance(out.at, watts, out.max_gap);
        out.add(self.counter.energy, joules);
        Some(watts)
    }

    /// Publishes the energy unchanged, without a reading.
    pub fn hold_energy(&self, out: &mut Readings) {
        out.add(self.counter.energy, 0.0);
    }

    /// Publishes the measured power of a rail with an energy counter in place of the mean power. Returns the power if it is
    /// plausible.
    pub fn set_power(&self, out: &mut Readings, watts: f64) -> Option<f64> {
        out.try_set(self.power, watts)
    }

    /// Publishes the measured power of a chip whose energy counter counts without regard to the direction, and the energy: what
    /// was counted, or, while the power is below zero, what it integrates to. Returns the power if it is plausible.
    pub fn set_power_and_counter(
        &mut self,
        out: &mut Readings,
        watts: f64,
        raw: u64,
        joules_per_unit: f64,
    ) -> Option<f64> {
        let watts = out.try_set(self.power, watts)?;
        let integrated = self.integrator.advance(out.at, watts, out.max_gap);
        let is_negative = watts < 0.0;
        self.last_counted = if std::mem::replace(&mut self.was_negative, is_negative) || is_negative
        {
            self.counter.skip_to(raw, out.at);
            out.add(self.counter.energy, integrated);
            Some(integrated)
        } else {
            let counted = self.counter.count(out, raw, joules_per_unit, READING_LAG);
            counted.map(|(joules, _)| joules)
        };
        Some(watts)
    }

    /// Publishes a reading of the energy counter: the energy, and the mean power since the last reading. Returns the mean
    /// power; `None` for the first reading and after a reset or a jump. A counter that fell during a silence longer than
    /// `out.max_gap` was reset.
    pub fn set_counter(
        &mut self,
        out: &mut Readings,
        raw: u64,
        joules_per_unit: f64,
    ) -> Option<f64> {
        let counted = self.counter.count(out, raw, joules_per_unit, READING_LAG);
        self.last_counted = counted.map(|(joules, _)| joules);
        let (joules, seconds) = counted.filter(|(_, seconds)| *seconds > 0.0)?;
        out.try_set(self.power, joules / seconds)
    }

    /// Publishes a reading of an energy counter that moves in large steps: only the energy, since the steps have no mean
    /// power.
    pub fn set_coarse_counter(&mut self, out: &mut Readings, raw: u64, joules_per_unit: f64) {
        self.last_counted = self.counter.update(out, raw, joules_per_unit);
    }

    /// Joules counted between the last two readings; `None` after the first reading and after a reset.
    pub fn last_counted(&self) -> Option<f64> {
        self.last_counted
    }
}

#[cfg(test)]
#[path = "energy_tests.rs"]
mod tests;
