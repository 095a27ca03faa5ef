//! The readings of one poll, on their way to the group.

use super::board::BoardReading;
use super::series::SeriesId;
use super::{is_absent, ABSENT};
use crate::sys::clock::BootTime;

/// The readings of one poll of a source. A series that is not set is absent.
#[derive(Debug, Default)]
pub struct Readings {
    /// When the poll began.
    pub at: BootTime,
    /// A silence longer than this many seconds is not integrated.
    pub max_gap: f64,
    /// The device is suspended and must not be read: an empty poll is no failure.
    pub suspended: bool,
    pub(super) row: Vec<f64>,
    pub(super) increases: Vec<(SeriesId, f64)>,
    pub(super) board: BoardReading,
    rejected: Vec<Rejected>,
}

/// A value that was read but is no measurement. Its series is absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rejected {
    /// The series that is not set.
    pub id: SeriesId,
    /// The value read, in the series' unit.
    pub value: f64,
    /// Why it is rejected.
    pub reason: RejectReason,
}

/// Why a value is no measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RejectReason {
    /// It is outside of the series' range, or a placeholder for "unknown".
    Implausible,
    /// An energy counter, in joules, with all bits set: its driver does not know it.
    Unknown,
    /// A counter's step, in joules, that is more than the maximum power explains in this many seconds.
    Jump(f64),
}

impl Readings {
    /// Empty readings of a source whose silences of more than `max_gap` seconds are not integrated.
    pub fn new(max_gap: f64) -> Readings {
        Readings {
            max_gap,
            ..Readings::default()
        }
    }

    /// Clears the readings for the poll that begins at `at`.
    pub fn begin(&mut self, at: BootTime) {
        self.at = at;
        self.suspended = false;
        self.row.fill(ABSENT);
        self.increases.clear();
        self.board = BoardReading::default();
        self.rejected.clear();
    }

    /// Sets a gauge, or a counter whose running total the source itself keeps. An implausible value or NaN is rejected. If a
    /// series is set twice in one poll, the last value counts.
    #[inline]
    pub fn set(&mut self, id: SeriesId, value: f64) {
        self.try_set(id, value);
    }

    /// Like [`set`](Self::set); returns the value if it was set. Sums have to be formed of these.
    #[inline]
    pub fn try_set(&mut self, id: SeriesId, value: f64) -> Option<f64> {
        if !id.range.contains(value) {
            self.reject(id, value, RejectReason::Implausible);
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

    /// Notes a value that is no measurement.
    #[cold]
    pub fn reject(&mut self, id: SeriesId, value: f64, reason: RejectReason) {
        // The marker of absence was not read from a device.
        if !is_absent(value) && !id.range.is_off(value) {
            self.rejected.push(Rejected { id, value, reason });
        }
    }

    /// The rejected values.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// Adds to a counter; adding 0 makes it present. A negative increase counts as 0.
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
