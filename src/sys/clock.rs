//! The clocks, read with 64-bit seconds on every target.

use std::time::Duration;

use nix::time::{clock_gettime, ClockId};

/// A moment on the boot-time clock: nanoseconds since the board started, suspend included. It never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Now.
    pub fn now() -> BootTime {
        // CLOCK_BOOTTIME has been there since Linux 2.6.39; an older kernel gets the epoch, and with it no rates.
        clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map(|t| BootTime(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64))
            .unwrap_or_default()
    }

    /// Seconds from `earlier` to `self`; 0 when `earlier` is later.
    #[inline]
    pub fn seconds_since(self, earlier: BootTime) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }

    /// How long it is since `earlier`: for ever, if that never was.
    pub fn since(self, earlier: Option<BootTime>) -> Duration {
        earlier.map_or(Duration::MAX, |earlier| {
            Duration::from_nanos(self.0.saturating_sub(earlier.0))
        })
    }
}

/// The wall clock, in seconds since 1970; negative before. It is whatever the board believes, which may be very wrong.
///
/// A 32-bit musl has a `clock_gettime` for old programs, whose seconds end in January 2038, and the standard library's
/// `SystemTime::now()` panics there: its 64-bit one is called by name.
pub fn wall_seconds() -> i64 {
    wall_clock().unwrap_or_default().0
}

/// The wall clock in nanoseconds since 1970, as [`wall_seconds`]; at the end of its range (the years 1677 and 2262) where
/// the board believes in something beyond.
pub fn wall_nanos() -> i64 {
    let (seconds, nanos) = wall_clock().unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Both clocks at one moment: the wall clock is read between two looks at the other, and of a few attempts the quickest
/// counts, so that a thread that has to wait in between does not shift one against the other.
pub fn both() -> (BootTime, i64) {
    let mut best = (u64::MAX, BootTime::default(), 0);
    for _ in 0..4 {
        let before = BootTime::now();
        let wall = wall_nanos();
        let took = BootTime::now().0.saturating_sub(before.0);
        if took < best.0 {
            best = (took, BootTime(before.0 + took / 2), wall);
        }
        if took < 2_000 {
            break;
        }
    }
    (best.1, best.2)
}

#[cfg(not(all(target_env = "musl", target_pointer_width = "32")))]
fn wall_clock() -> Option<(i64, i64)> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).ok()?;
    Some((now.tv_sec(), now.tv_nsec()))
}

#[cfg(all(target_env = "musl", target_pointer_width = "32"))]
#[allow(unsafe_code)]
fn wall_clock() -> Option<(i64, i64)> {
    /// musl's `struct timespec` since 1.2: 64-bit seconds, nanoseconds in a word, padded to 16 bytes (before the word
    /// where the most significant byte comes first).
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Timespec {
        seconds: i64,
        nanoseconds: [u32; 2],
    }
    extern "C" {
        fn __clock_gettime64(clock: i32, time: *mut Timespec) -> i32;
    }
    let mut now = Timespec::default();
    // SAFETY: the one pointer is to a live value of the size and alignment that this symbol writes (musl, time64).
    let failed = unsafe { __clock_gettime64(nix::libc::CLOCK_REALTIME, &mut now) };
    let word = usize::from(cfg!(target_endian = "big"));
    (failed == 0).then_some((now.seconds, i64::from(now.nanoseconds[word])))
}

/// Microseconds of CLOCK_MONOTONIC, in which service managers reckon; like the boot-time clock, but it stands still while the
/// board sleeps.
pub fn monotonic_micros() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1_000
    })
}

/// Whether the kernel says that the wall clock is synchronised (adjtimex(2): no `TIME_ERROR`, no `STA_UNSYNC`). `None`: it
/// does not say, as in a sandbox that forbids the question.
#[allow(unsafe_code)]
pub fn is_synchronised() -> Option<bool> {
    use nix::libc;
    // SAFETY: `timex` is a plain struct of integers, of which all bits zero are a value; `modes` 0 only reads.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the one pointer is to a live value of the type that the C library's function of this name writes.
    let answer = unsafe { libc::adjtimex(&mut state) };
    (answer >= 0).then_some(answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

/// Processor time that this process has used, in seconds; NaN where the kernel does not say.
pub fn process_cpu_seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map_or(f64::NAN, |t| t.tv_sec() as f64 + t.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_agrees_with_the_standard_library() {
        let before = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let ours = wall_seconds();
        let after = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        assert!((before..=after).contains(&ours));
    }

    #[test]
    fn both_clocks_are_read_at_one_moment() {
        let (boot, wall) = both();
        let (later, wall_later) = both();
        assert!(boot.0 > 0 && later >= boot && wall_later >= wall);
        assert!((wall / 1_000_000_000 - wall_seconds()).abs() <= 60);
    }
}
