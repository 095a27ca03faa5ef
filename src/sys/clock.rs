//! The clocks, read with 64-bit seconds on every target.

use std::time::Duration;

use nix::time::{clock_gettime, ClockId};

/// A moment on the boot-time clock: nanoseconds since the board started, suspend included. It never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BootTime(pub u64);

impl BootTime {
    /// The current time.
    pub fn now() -> BootTime {
        // CLOCK_BOOTTIME exists since Linux 2.6.39. On an older kernel the time is always 0, and there are no rates.
        clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map(|t| BootTime(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64))
            .unwrap_or_default()
    }

    /// Seconds from `earlier` to `self`; 0 when `earlier` is later.
    #[inline]
    pub fn seconds_since(self, earlier: BootTime) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }

    /// The time since `earlier`; `Duration::MAX` for `None`.
    pub fn since(self, earlier: Option<BootTime>) -> Duration {
        earlier.map_or(Duration::MAX, |earlier| {
            Duration::from_nanos(self.0.saturating_sub(earlier.0))
        })
    }
}

/// The wall clock in seconds since 1970; negative before. A board's clock may be very wrong.
///
/// On 32-bit musl `clock_gettime` is the version for old programs, whose seconds end in January 2038, where the standard
/// library's `SystemTime::now()` panics. The 64-bit version is called by its name here.
pub fn wall_seconds() -> i64 {
    wall_clock().unwrap_or_default().0
}

/// The wall clock in nanoseconds since 1970, like [`wall_seconds`]. Times outside the range of the type (the years 1677 to
/// 2262) become its nearest end.
pub fn wall_nanos() -> i64 {
    let (seconds, nanos) = wall_clock().unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Both clocks at the same moment. The wall clock is read between two readings of the boot-time clock, and the quickest of a
/// few attempts counts, so that a thread that is interrupted in between does not shift the clocks against each other.
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

/// CLOCK_MONOTONIC in microseconds, as the service manager expects it. It is the boot-time clock without suspend.
pub fn monotonic_micros() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1_000
    })
}

/// Whether the wall clock is synchronised, according to the kernel (adjtimex(2): no `TIME_ERROR`, no `STA_UNSYNC`). `None`:
/// the call fails, as in a sandbox that forbids it.
#[allow(unsafe_code)]
pub fn is_synchronised() -> Option<bool> {
    use nix::libc;
    // SAFETY: `timex` is a plain struct of integers, of which all bits zero are a value; `modes` 0 only reads.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the one pointer is to a live value of the type that the C library's function of this name writes.
    let answer = unsafe { libc::adjtimex(&mut state) };
    (answer >= 0).then_some(answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

/// The processor time of this process in seconds; NaN if it cannot be read.
pub fn process_cpu_seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map_or(f64::NAN, |t| t.tv_sec() as f64 + t.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_agrees_with_the_standard_library() {
        let before = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let ours = wall_seconds();
        let after = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        assert!((before..=after).contains(&ours));
    }

    #[test]
    fn both_clocks_are_read_at_the_same_moment() {
        let (boot, wall) = both();
        let (later, wall_later) = both();
        assert!(boot.0 > 0 && later >= boot && wall_later >= wall);
        assert!((wall / 1_000_000_000 - wall_seconds()).abs() <= 60);
    }
}
