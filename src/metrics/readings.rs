//! What one poll of a source read, on its way to the group.

use super::board::OfBoard;
use super::series::SeriesId;
use super::{is_absent, ABSENT};
use crate::sys::clock::BootTime;

/// What one poll of a source read. Everything not set is absent.
#[derive(Debug, Default)]
pub struct Readings {
    /// When it was read.
    pub at: BootTime,
    /// So many seconds between two readings, and what was in between is not known.
    pub longest_gap: f64,
    /// Nothing may be read now, since the device is suspended: to have read nothing is no failure.
    pub suspended: bool,
    pub(super) row: Vec<f64>,
    pub(super) increases: Vec<(SeriesId, f64)>,
    pub(super) board: OfBoard,
    refused: Vec<Refused>,
}

/// A value that was read, and is none: it is absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refused {
    /// The series that it is not set for.
    pub id: SeriesId,
    /// What was read, in the series' unit.
    pub value: f64,
    /// What is wrong with it.
    pub why: Why,
}

/// Why a value is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// No meter of this kind gives it: it is outside of the series' range, or means "not known".
    Implausible,
    /// A counter's step, in joules, that no power in the range explains in so many seconds.
    Jump(f64),
}

impl Readings {
    /// No readings, from a source that is silent when it says nothing for `longest_gap` seconds.
    pub fn new(longest_gap: f64) -> Readings {
        Readings {
            longest_gap,
            ..Readings::default()
        }
    }

    /// Empties it for the poll that begins at `at`.
    pub fn begin(&mut self, at: BootTime) {
        self.at = at;
        self.suspended = false;
        self.row.fill(ABSENT);
        self.increases.clear();
        self.board = OfBoard::default();
        self.refused.clear();
    }

    /// Sets a gauge, or a counter whose running total the source itself keeps. What is not plausible of this series, as a
    /// NaN is not, sets nothing; setting twice in one poll keeps the last.
    #[inline]
    pub fn set(&mut self, id: SeriesId, value: f64) {
        self.take(id, value);
    }

    /// The same; the value, if it was set. A sum has to be made of these.
    #[inline]
    pub fn take(&mut self, id: SeriesId, value: f64) -> Option<f64> {
        if !id.range.holds(value) {
            self.refuse(id, value, Why::Implausible);
            return None;
        }
        match self.row.get_mut(id.place as usize) {
            Some(place) => *place = value,
            None if id.is_none() => {}
            None => self.make_room(id, value),
        }
        Some(value)
    }

    #[cold]
    fn make_room(&mut self, id: SeriesId, value: f64) {
        self.row.resize(id.place as usize, ABSENT);
        self.row.push(value);
    }

    /// Notes a value that is not set, because it is none.
    #[cold]
    pub fn refuse(&mut self, id: SeriesId, value: f64, why: Why) {
        // Our own mark for what is not there was not read anywhere.
        if !is_absent(value) && !id.range.is_off(value) {
            self.refused.push(Refused { id, value, why });
        }
    }

    /// What was read and is none.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Adds to a counter, and says by adding 0 that it is there. An increase below 0 counts as 0.
    #[inline]
    pub fn add(&mut self, id: SeriesId, increase: f64) {
        if !id.is_none() {
            self.increases.push((id, increase));
        }
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.increases.is_empty() && self.row.iter().all(|value| is_absent(*value))
    }
}
