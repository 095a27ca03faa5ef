//! The energy of a rail between two moments, from readings at other moments. Pure.
//!
//! Readings come in the order of their times, in seconds on the meter's clock. Between two readings of an energy counter the
//! power is taken to be constant, between two of the power to change steadily; so what falls between two readings of which only
//! one is in the window is shared by time. [`Measured`] says how much that is: `at_least` counts none of it, `at_most` all.
//!
//! Readings that the window has passed are added up and dropped: however long the window is, memory is that of a few readings.

use std::collections::VecDeque;

use super::rail::Quantity;

/// A rail keeps no more readings that are not added up yet. A meter that is read every millisecond has as many in a minute and
/// a half; the readings of a hostile exporter's rail end here.
const MAX_PENDING: usize = 100_000;

/// A value beyond that is no watts and no joules of a board.
const MAX_VALUE: f64 = 1e15;

/// One series of readings.
#[derive(Debug, Clone, Default)]
struct Track {
    /// Times and values. The first is the last one that was added up.
    pending: VecDeque<(f64, f64)>,
    sum: Sum,
}

/// What was added up.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    joules: f64,
    at_least: f64,
    at_most: f64,
    /// Seconds of the window that readings on both sides cover.
    seconds: f64,
    /// Pairs of readings of which some was in the window, and those between which the value changed.
    pairs: u64,
    moves: u64,
    /// Readings in the window, and the highest of them.
    readings: u64,
    peak: Option<f64>,
    /// Whether the counter fell: it began anew.
    fell: bool,
}

/// The window of one rail.
#[derive(Debug, Clone)]
pub struct Window {
    start: f64,
    power: Track,
    energy: Track,
    /// A silence that is longer, in seconds, is not counted.
    max_gap: f64,
    spacing: Option<f64>,
    /// Readings beyond what is kept were dropped.
    overflowed: bool,
}

/// How joules were determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// From the readings of an energy counter.
    Counter,
    /// From the readings of the power.
    Power,
}

impl Method {
    /// For JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Counter => "counter",
            Method::Power => "power",
        }
    }
}

/// What a rail used in a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Joules in the window, as far as it was measured.
    pub joules: f64,
    /// Joules between readings that are both in the window.
    pub at_least: f64,
    /// Joules between readings around the window.
    pub at_most: f64,
    /// The seconds of the window that were measured: all, unless the meter could not be read for a while.
    pub seconds: f64,
    /// The highest power that was read in the window, in watts; `None` where none was read.
    pub peak_watts: Option<f64>,
    /// How often the meter was read in the window.
    pub readings: u64,
    /// How the joules were determined.
    pub method: Method,
    /// Whether the energy counter began anew in the window. What it counted in between is unknown.
    pub began_anew: bool,
}

impl Measured {
    /// Mean power of the time that was measured, in watts.
    pub fn mean_watts(&self) -> f64 {
        self.joules / self.seconds
    }
}

impl Window {
    /// A window without a start, so that nothing is added up.
    pub fn new(max_gap: f64) -> Window {
        Window {
            start: f64::INFINITY,
            power: Track::default(),
            energy: Track::default(),
            max_gap,
            spacing: None,
            overflowed: false,
        }
    }

    /// Begins anew at this moment. The readings that are kept stay: those before `start` are what the first ones after it are
    /// compared with.
    pub fn restart(&mut self, start: f64) {
        self.start = start;
        for track in [&mut self.power, &mut self.energy] {
            track.sum = Sum::default();
        }
    }

    /// Sets [`Window::max_gap`].
    pub fn set_max_gap(&mut self, seconds: f64) {
        self.max_gap = seconds;
    }

    /// Adds a reading. It is ignored if its value is impossible, or if it is not later than the last one.
    pub fn push(&mut self, quantity: Quantity, at: f64, value: f64) {
        let track = self.track(quantity);
        let last = track.pending.back().map(|(last, _)| *last);
        // A value that is no number is not in the range either.
        let is_possible = at.is_finite() && (-MAX_VALUE..=MAX_VALUE).contains(&value);
        if last.is_some_and(|last| at <= last) || !is_possible {
            return;
        }
        let is_full = track.pending.len() >= MAX_PENDING;
        if is_full {
            track.pending.pop_front();
        }
        track.pending.push_back((at, value));
        self.overflowed |= is_full;
        self.spacing = last.map(|last| at - last).or(self.spacing);
    }

    fn track(&mut self, quantity: Quantity) -> &mut Track {
        match quantity {
            Quantity::Power => &mut self.power,
            Quantity::Energy => &mut self.energy,
        }
    }

    /// Adds up the readings until this moment, which the window is known to contain or precede.
    pub fn add_up(&mut self, until: f64) {
        self.add_up_in(until, f64::INFINITY);
    }

    fn add_up_in(&mut self, until: f64, end: f64) {
        let (start, max_gap) = (self.start, self.max_gap);
        for (track, quantity) in [
            (&mut self.power, Quantity::Power),
            (&mut self.energy, Quantity::Energy),
        ] {
            while let (Some(a), Some(b)) = (track.pending.front(), track.pending.get(1)) {
                if b.0 > until {
                    break;
                }
                track.sum.add(*a, *b, start, end, quantity, max_gap);
                track.pending.pop_front();
            }
        }
    }

    /// Whether a reading at or after this moment is there, of each quantity that is read at all.
    pub fn is_read_at(&self, moment: f64) -> bool {
        let tracks = [&self.power, &self.energy].into_iter();
        let mut known = tracks.filter_map(|track| track.pending.back()).peekable();
        known.peek().is_some() && known.all(|(at, _)| *at >= moment)
    }

    /// When it was read last.
    pub fn last_read_at(&self) -> Option<f64> {
        let tracks = [&self.power, &self.energy].into_iter();
        let times = tracks.filter_map(|track| Some(track.pending.back()?.0));
        times.max_by(f64::total_cmp)
    }

    /// The time between the last two readings of a series, in seconds.
    pub fn spacing(&self) -> Option<f64> {
        self.spacing
    }

    /// A silence that is longer is not counted, in seconds.
    pub fn max_gap(&self) -> f64 {
        self.max_gap
    }

    /// What was measured up to `end`; `None`: nothing. The window can be begun anew afterwards.
    pub fn finish(&mut self, end: f64) -> Option<Measured> {
        let mut ending = self.clone();
        ending.add_up_in(f64::INFINITY, end);
        // The readings after the end stay: the next window may need them. Those before its last pair do not.
        let from = end.min(self.last_read_at().unwrap_or(end));
        for track in [&mut self.power, &mut self.energy] {
            while track.pending.get(1).is_some_and(|(at, _)| *at <= from) {
                track.pending.pop_front();
            }
        }
        let (power, energy) = (ending.power.sum, ending.energy.sum);
        // A counter that moves in larger steps than the power is read says less about when it was.
        let is_coarse = 2 * energy.moves < energy.pairs && power.pairs > 0;
        let stands_still = energy.moves == 0 && energy.pairs > 0 && power.pairs == 0;
        let (sum, method) = match energy.seconds > 0.0 && !is_coarse {
            true if stands_still => return None,
            true => (energy, Method::Counter),
            false => (power, Method::Power),
        };
        (sum.seconds > 0.0).then_some(Measured {
            joules: sum.joules,
            at_least: sum.at_least,
            at_most: sum.at_most,
            seconds: sum.seconds,
            peak_watts: power.peak,
            readings: power.readings.max(energy.readings),
            method,
            began_anew: energy.fell,
        })
    }

    /// Whether readings were dropped since there were too many.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}

impl Sum {
    /// Adds what lies between two readings and in the window.
    fn add(
        &mut self,
        a: (f64, f64),
        b: (f64, f64),
        start: f64,
        end: f64,
        quantity: Quantity,
        max_gap: f64,
    ) {
        if b.0 >= start && b.0 <= end {
            self.readings += 1;
            self.peak = Some(self.peak.map_or(b.1, |peak| peak.max(b.1)));
        }
        let (from, to) = (a.0.max(start), b.0.min(end));
        if from >= to {
            return;
        }
        let length = b.0 - a.0;
        let (joules, whole) = match quantity {
            Quantity::Energy => {
                let whole = b.1 - a.1;
                if whole < 0.0 {
                    self.fell = true;
                    return;
                }
                // After a silence a counter of the hardware has counted; one that adds up the power has not.
                if length > max_gap && whole == 0.0 {
                    return;
                }
                (whole * ((to - from) / length), whole)
            }
            Quantity::Power => {
                if length > max_gap {
                    return;
                }
                let at = |moment: f64| a.1 + (b.1 - a.1) * ((moment - a.0) / length);
                let joules = (at(from) + at(to)) / 2.0 * (to - from);
                (joules, (a.1 + b.1) / 2.0 * length)
            }
        };
        self.joules += joules;
        self.at_most += whole;
        if a.0 >= start && b.0 <= end {
            self.at_least += whole;
        }
        self.seconds += to - from;
        self.pairs += 1;
        self.moves += u64::from(b.1 != a.1);
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
