//! Wall-clock stamps, made late: from the boot-time stamp of a reading and the offset between the clocks that is known
//! when it leaves the board. What was read before NTP set the clock so comes out right.
//!
//! The kernel slews both clocks alike: the offset between them changes only when somebody sets the clock. What then holds:
//!
//! * While the clock is plainly wrong there is no [`Offset`], and without it no stamp.
//! * The stamps of what one consumer gets of one group always grow ([`Stamps`]). After a step back, readings whose stamps
//!   would not are not delivered to it, until the clock has come to where it was before.
//! * No stamp is later than now.

use std::sync::Mutex;

use crate::sys::clock::{both, is_synchronised, BootTime};
use crate::sys::lock;

/// Before this version was written it cannot be running: 2026-01-01T00:00:00Z, in nanoseconds. Moved on with releases.
const EARLIEST: i64 = 1_767_225_600 * SECOND;
/// Nor will it run for so long: fifty years later.
const LATEST: i64 = EARLIEST + 50 * 366 * 86_400 * SECOND;
const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;
/// Reading two clocks takes time, and not always the same. So much is no change of the clock, so that a reading has one
/// stamp, whoever asks for it when.
const JITTER: i64 = MILLISECOND / 2;
/// A clock that moved so far between two looks (four a second) was not slewed but set.
const STEP: i64 = 50 * MILLISECOND;
/// Two readings in one millisecond, or after a clock that was set back a little, get stamps one millisecond apart, as
/// long as that shifts none by more than this.
const MOST_SHIFT_MS: i64 = 10;

/// Reads both clocks at one moment: boot time, and nanoseconds since 1970.
type Clocks = Box<dyn Fn() -> (BootTime, i64) + Send + Sync>;
/// Whether the kernel says that the wall clock is synchronised; `None`: it does not say.
type Synchronised = Box<dyn Fn() -> Option<bool> + Send + Sync>;

/// The wall clock, watched.
pub struct WallClock {
    clocks: Clocks,
    synchronised: Synchronised,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Wall clock less boot time when last looked at, be it right or wrong.
    offset: Option<i64>,
    steps: u64,
    was_wrong: bool,
}

/// What was known of the wall clock at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Wall clock less boot time, in nanoseconds.
    nanos: i64,
    /// When that was, in milliseconds since 1970.
    now_ms: i64,
}

impl Default for WallClock {
    /// The board's own.
    fn default() -> Self {
        WallClock::new(both).with_synchronised(is_synchronised)
    }
}

impl WallClock {
    /// A wall clock that is read by `clocks`: boot time and, at the same moment, nanoseconds since 1970. Nothing says
    /// whether it is synchronised.
    pub fn new(clocks: impl Fn() -> (BootTime, i64) + Send + Sync + 'static) -> WallClock {
        WallClock {
            clocks: Box::new(clocks),
            synchronised: Box::new(|| None),
            state: Mutex::default(),
        }
    }

    /// The same, and `says` says whether it is synchronised.
    pub fn with_synchronised(
        self,
        says: impl Fn() -> Option<bool> + Send + Sync + 'static,
    ) -> WallClock {
        WallClock {
            synchronised: Box::new(says),
            ..self
        }
    }

    /// Whether the clock is known not to be synchronised: the kernel says so.
    pub fn is_unsynchronised(&self) -> bool {
        (self.synchronised)() == Some(false)
    }

    /// Looks at the clock. `None` while it is plainly wrong: nothing with a wall-clock stamp may leave the board then.
    ///
    /// To be called several times a second, or a clock that was slewed counts as one that was set.
    pub fn offset(&self) -> Option<Offset> {
        // Under the lock, or an older look may come after a newer one.
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
        let wrong = !(EARLIEST..LATEST).contains(&wall);
        if wrong != state.was_wrong {
            state.was_wrong = wrong;
            match wrong {
                true => log::warn!("the clock is plainly wrong: nothing is delivered with time stamps until it is set"),
                false => log::info!("the clock is right"),
            }
        }
        let now_ms = wall.div_euclid(MILLISECOND);
        (!wrong).then_some(Offset { nanos, now_ms })
    }

    /// How often the clock was set, as far as was seen.
    pub fn steps(&self) -> u64 {
        lock::lock(&self.state).steps
    }
}

impl Offset {
    /// None at all: stamps are milliseconds since the board started, for those that never leave it.
    pub fn of_boot_time() -> Offset {
        Offset {
            nanos: 0,
            now_ms: i64::MAX,
        }
    }

    /// The part of it that is less than a millisecond: with it stamps are milliseconds since the board started, on the
    /// same grid as those with all of it.
    pub fn below_a_millisecond(&self) -> Offset {
        Offset {
            nanos: self.nanos.rem_euclid(MILLISECOND),
            now_ms: i64::MAX,
        }
    }

    /// Wall clock less boot time, in nanoseconds.
    pub fn nanos(&self) -> i64 {
        self.nanos
    }

    /// A moment of boot time as milliseconds since 1970.
    pub fn stamp_ms(&self, at: BootTime) -> i64 {
        let at = i64::try_from(at.0).unwrap_or(i64::MAX);
        at.saturating_add(self.nanos).div_euclid(MILLISECOND)
    }

    /// The moment of the look, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

/// The stamps that one consumer got for the rows of one group. A copy of it goes with a delivery, and takes its place when
/// that has succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamps {
    last: Option<i64>,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// It is delivered with this stamp, in milliseconds since 1970: later than the one before, and not in the future.
    At(i64),
    /// Its stamp would be in the future: this row and those behind it have to wait, for some milliseconds.
    NotYet,
    /// Its stamp would not be later than what was delivered: the clock was set back. The row is to be left out and counted.
    Never,
}

impl Stamps {
    /// The stamp of the next row, which was read at `at`.
    pub fn next(&mut self, offset: &Offset, at: BootTime) -> Stamp {
        let own = offset.stamp_ms(at);
        let stamp = match self.last {
            Some(last) if own <= last && last - own >= MOST_SHIFT_MS => return Stamp::Never,
            Some(last) => own.max(last + 1),
            None => own,
        };
        if stamp > offset.now_ms {
            return Stamp::NotYet;
        }
        self.last = Some(stamp);
        Stamp::At(stamp)
    }

    /// They go on on a clock that is so many milliseconds ahead of theirs.
    pub fn shift(&mut self, by: i64) {
        self.last = self.last.map(|last| last.saturating_add(by));
    }
}

#[cfg(test)]
#[path = "wall_tests.rs"]
mod tests;
