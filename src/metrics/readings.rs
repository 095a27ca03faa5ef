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
    }

    /// Sets a gauge, or a counter whose running total the source itself keeps. A NaN sets nothing; setting twice in one
    /// poll keeps the last.
    #[inline]
    pub fn set(&mut self, id: SeriesId, value: f64) {
        if value.is_nan() {
            return;
        }
        match self.row.get_mut(id.0 as usize) {
            Some(place) => *place = value,
            None if id == SeriesId::NONE => {}
            None => self.make_room(id, value),
        }
    }

    #[cold]
    fn make_room(&mut self, SeriesId(id): SeriesId, value: f64) {
        self.row.resize(id as usize, ABSENT);
        self.row.push(value);
    }

    /// Adds to a counter, and says by adding 0 that it is there. An increase below 0 counts as 0.
    #[inline]
    pub fn add(&mut self, id: SeriesId, increase: f64) {
        if id != SeriesId::NONE {
            self.increases.push((id, increase));
        }
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.increases.is_empty() && self.row.iter().all(|value| is_absent(*value))
    }
}
