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
    /// The joules that it counted; `None` as for any counter's first reading, restart and jump.
    pub fn counted(&mut self, out: &mut Readings, raw: u64, joules_per_unit: f64) -> Option<f64> {
        let counted = self.count(out, raw, joules_per_unit, ANSWER_LAG);
        counted.map(|(joules, _)| joules)
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
        self.last_counted = self.counter.counted(out, raw, joules_per_unit);
    }

    /// What the counter counted between its last two readings, in joules; `None` after the first, and after a reset.
    pub fn last_counted(&self) -> Option<f64> {
        self.last_counted
    }
}

#[cfg(test)]
#[path = "energy_tests.rs"]
mod tests;
