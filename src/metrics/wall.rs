//! Wall-clock timestamps, computed late: from the boot time of a reading and the offset between the clocks that is known
//! when the reading is delivered. Readings from before NTP set the clock get correct timestamps that way.
//!
//! The kernel slews both clocks alike: the offset between them changes only when the clock is set. Guarantees:
//!
//! * While the clock is plainly wrong there is no [`Offset`], and without an offset no timestamp.
//! * The timestamps that one consumer gets of one group always increase ([`Stamps`]). After the clock was set back, readings
//!   with earlier timestamps are not delivered to that consumer, until the clock reaches its former value.
//! * Of a group that is read more often than timestamps can tell apart, the last reading of each timestamp is delivered.
//! * No timestamp is in the future.

use std::sync::Mutex;

use crate::sys::clock::{both, is_synchronised, BootTime};
use crate::sys::lock;

/// A clock before this version was written is wrong: 2026-01-01T00:00:00Z, in nanoseconds. To be advanced with releases.
const MIN_WALL_TIME: i64 = 1_767_225_600 * SECOND;
/// A clock fifty years later is wrong, too.
const MAX_WALL_TIME: i64 = MIN_WALL_TIME + 50 * 366 * 86_400 * SECOND;
const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;
const MICROSECOND: i64 = 1_000;
/// Changes of the offset below this are ignored: reading two clocks takes varying time. A reading has the same timestamp
/// for every consumer that way.
const JITTER: i64 = MILLISECOND / 2;
/// A change of the offset of this much between two checks (four a second) is a step, not a slew.
const STEP: i64 = 50 * MILLISECOND;
/// Readings within one millisecond, or after the clock was set back a little, get timestamps one millisecond apart, as long
/// as that shifts no timestamp by more than this.
const MAX_SHIFT: i64 = 10 * MILLISECOND;

/// Reads both clocks at one moment: boot time, and nanoseconds since 1970.
type Clocks = Box<dyn Fn() -> (BootTime, i64) + Send + Sync>;
/// Whether the kernel considers the wall clock synchronised; `None` if unknown.
type Synchronised = Box<dyn Fn() -> Option<bool> + Send + Sync>;

/// The wall clock, checked for steps.
pub struct WallClock {
    clocks: Clocks,
    synchronised: Synchronised,
    state: Mutex<ClockState>,
}

#[derive(Debug, Default)]
struct ClockState {
    /// Wall clock minus boot time at the last check, be the clock right or wrong.
    offset: Option<i64>,
    steps: u64,
    was_wrong: bool,
}

/// The wall clock's offset at one moment, and the unit of timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Wall clock minus boot time, in nanoseconds.
    nanos: i64,
    /// The time of the check, in nanoseconds since 1970.
    now: i64,
    /// The unit of timestamps, in nanoseconds: a millisecond, unless another one was chosen.
    unit: i64,
}

impl Default for WallClock {
    /// The board's own clocks.
    fn default() -> Self {
        WallClock::new(both).with_synchronised(is_synchronised)
    }
}

impl WallClock {
    /// A wall clock that is read by `clocks`: boot time and, at the same moment, nanoseconds since 1970. Whether it is
    /// synchronised is unknown.
    pub fn new(clocks: impl Fn() -> (BootTime, i64) + Send + Sync + 'static) -> WallClock {
        WallClock {
            clocks: Box::new(clocks),
            synchronised: Box::new(|| None),
            state: Mutex::default(),
        }
    }

    /// The same clock, with `synchronised` to tell whether it is synchronised.
    pub fn with_synchronised(
        self,
        synchronised: impl Fn() -> Option<bool> + Send + Sync + 'static,
    ) -> WallClock {
        WallClock {
            synchronised: Box::new(synchronised),
            ..self
        }
    }

    /// Whether the kernel considers the clock unsynchronised.
    pub fn is_unsynchronised(&self) -> bool {
        (self.synchronised)() == Some(false)
    }

    /// Checks the clock. `None` while it is plainly wrong: nothing with a wall-clock timestamp may be delivered then.
    ///
    /// To be called several times a second; otherwise a slewed clock is mistaken for one that was set.
    pub fn offset(&self) -> Option<Offset> {
        // Under the lock, so that checks are processed in order.
        let mut state = lock::lock(&self.state);
        let (boot, wall) = (self.clocks)();
        let boot = i64::try_from(boot.0).unwrap_or(i64::MAX);
        let seen = wall.saturating_sub(boot);
        let moved = state.offset.map_or(0, |kept| seen.saturating_sub(kept));
        if moved.saturating_abs() >= STEP {
            state.steps += 1;
            log::warn!("the clock was set: {:+.3} s", moved as f64 / SECOND as f64);
        }
        let nanos = match state.offset {
            Some(kept) if moved.saturating_abs() < JITTER => kept,
            _ => seen,
        };
        state.offset = Some(nanos);
        let wrong = !(MIN_WALL_TIME..MAX_WALL_TIME).contains(&wall);
        if wrong != state.was_wrong {
            state.was_wrong = wrong;
            match wrong {
                true => log::warn!(
                    "the clock is wrong: samples with time stamps are held until it is set"
                ),
                false => log::info!("the clock is set: samples with time stamps are delivered"),
            }
        }
        (!wrong).then_some(Offset {
            nanos,
            now: wall,
            unit: MILLISECOND,
        })
    }

    /// How often the clock was seen to be set.
    pub fn steps(&self) -> u64 {
        lock::lock(&self.state).steps
    }
}

impl Offset {
    /// No offset: timestamps are milliseconds since the board started, for use on the board only.
    pub fn of_boot_time() -> Offset {
        Offset {
            nanos: 0,
            now: i64::MAX,
            unit: MILLISECOND,
        }
    }

    /// No offset, and timestamps that tell all readings apart: nanoseconds since the board started.
    pub fn exact() -> Offset {
        Offset {
            unit: 1,
            ..Offset::of_boot_time()
        }
    }

    /// The same offset with timestamps in microseconds.
    pub fn in_microseconds(self) -> Offset {
        Offset {
            unit: MICROSECOND,
            ..self
        }
    }

    /// The fraction of a millisecond: timestamps with it are milliseconds since the board started, on the same grid as
    /// timestamps with the whole offset.
    pub fn below_a_millisecond(&self) -> Offset {
        Offset {
            nanos: self.nanos.rem_euclid(MILLISECOND),
            ..Offset::of_boot_time()
        }
    }

    /// Wall clock minus boot time, in nanoseconds.
    pub fn nanos(&self) -> i64 {
        self.nanos
    }

    /// The unit of timestamps, in nanoseconds.
    pub fn unit(&self) -> i64 {
        self.unit
    }

    /// A moment of boot time as milliseconds since 1970.
    pub fn stamp_ms(&self, at: BootTime) -> i64 {
        self.wall(at).div_euclid(MILLISECOND)
    }

    /// The time of the check, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now.div_euclid(MILLISECOND)
    }

    fn wall(&self, at: BootTime) -> i64 {
        let at = i64::try_from(at.0).unwrap_or(i64::MAX);
        at.saturating_add(self.nanos)
    }
}

/// The timestamps that one consumer got for the rows of one group. A delivery works on a copy, which replaces the original
/// when the delivery has succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The last timestamp, in nanoseconds.
    last: Option<i64>,
}

/// The timestamp of a row, if it can have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// The time since 1970, in the offset's unit: later than the timestamp before, and not in the future.
    At(i64),
    /// The timestamp is that of the row before, of which this row takes the place.
    Same,
    /// The timestamp would be in the future: this row and those after it have to wait some milliseconds.
    NotYet,
    /// The timestamp would not be later than the last delivered one, since the clock was set back. The row is to be skipped
    /// and counted.
    Never,
}

impl Stamps {
    /// The timestamp of the next row, which was read at `at`.
    pub fn next(&mut self, offset: &Offset, at: BootTime) -> Stamp {
        let own = offset.wall(at).div_euclid(offset.unit);
        let stamp = match self.last(offset) {
            Some(last) if is_set_back(own, last, offset) => return Stamp::Never,
            Some(last) => own.max(last + 1),
            None => own,
        };
        if stamp > offset.now.div_euclid(offset.unit) {
            return Stamp::NotYet;
        }
        self.last = Some(stamp.saturating_mul(offset.unit));
        Stamp::At(stamp)
    }

    /// As [`Stamps::next`], of a group that has several rows in each unit of time: these share a timestamp, which is given out once
    /// the unit is over.
    pub fn next_of_many(&mut self, offset: &Offset, at: BootTime) -> Stamp {
        let own = offset.wall(at).div_euclid(offset.unit);
        if own >= offset.now.div_euclid(offset.unit) {
            return Stamp::NotYet;
        }
        match self.last(offset) {
            Some(last) if is_set_back(own, last, offset) => Stamp::Never,
            Some(last) if own <= last => Stamp::Same,
            _ => {
                self.last = Some(own.saturating_mul(offset.unit));
                Stamp::At(own)
            }
        }
    }

    fn last(&self, offset: &Offset) -> Option<i64> {
        self.last.map(|last| last.div_euclid(offset.unit))
    }

    /// Continues on a clock that is `by` milliseconds ahead of the former.
    pub fn shift(&mut self, by: i64) {
        let by = by.saturating_mul(MILLISECOND);
        self.last = self.last.map(|last| last.saturating_add(by));
    }
}

/// Whether a row's own timestamp is so far before the last one that the clock was set back.
fn is_set_back(own: i64, last: i64, offset: &Offset) -> bool {
    own <= last && last.saturating_sub(own) >= MAX_SHIFT / offset.unit
}

#[cfg(test)]
#[path = "wall_tests.rs"]
mod tests;
