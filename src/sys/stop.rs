//! A stop flag that wakes waiting threads, and waits until absolute times, which do not drift.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{ppoll, PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

/// The flag. Once set, it stays set, and every wait ends at once.
#[derive(Debug)]
pub struct Stop {
    set: AtomicBool,
    /// Readable once the flag is set. `None` if there was no descriptor left: then waits poll the flag.
    event: Option<EventFd>,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The deadline has passed.
    Time,
    /// The descriptor has something to read, or has reached its end.
    Ready,
    /// The flag is set.
    Stop,
}

impl Default for Stop {
    fn default() -> Self {
        Stop {
            set: AtomicBool::new(false),
            event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok(),
        }
    }
}

impl Stop {
    /// How often the flag is polled without an event.
    const POLL_INTERVAL: Duration = Duration::from_millis(200);
    /// A wait for the time alone that is not longer is a plain sleep, which costs less. The flag is looked at afterwards.
    const PLAIN_SLEEP: Duration = Duration::from_millis(10);

    /// Sets the flag.
    pub fn set(&self) {
        self.set.store(true, Ordering::Release);
        if let Some(event) = &self.event {
            let _ = event.write(1);
        }
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Waits until `deadline` or until the flag is set.
    pub fn wait_until(&self, deadline: Instant) -> Woken {
        self.wait(None, deadline)
    }

    /// Waits until `fd` can be read, until `deadline`, or until the flag is set.
    pub fn wait_readable(&self, fd: BorrowedFd<'_>, deadline: Instant) -> Woken {
        self.wait(Some(fd), deadline)
    }

    fn wait(&self, fd: Option<BorrowedFd<'_>>, deadline: Instant) -> Woken {
        loop {
            if self.is_set() {
                return Woken::Stop;
            }
            let now = Instant::now();
            let mut left = deadline.saturating_duration_since(now);
            if fd.is_none() && left <= Self::PLAIN_SLEEP {
                std::thread::sleep(left);
                return match self.is_set() {
                    true => Woken::Stop,
                    false => Woken::Time,
                };
            }
            if self.event.is_none() {
                left = left.min(Self::POLL_INTERVAL);
            }
            let watched = self.event.as_ref().map(AsFd::as_fd).into_iter().chain(fd);
            let mut fds: Vec<_> = watched
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            let ready = ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None);
            if self.is_set() {
                return Woken::Stop;
            }
            match ready {
                Ok(n) if n > 0 && fd.is_some() => return Woken::Ready,
                Ok(_) | Err(Errno::EINTR) => {}
                // ppoll is not expected to fail; the delay keeps this loop from spinning.
                Err(_) => std::thread::sleep(left.min(Self::POLL_INTERVAL)),
            }
            if Instant::now() >= deadline {
                return Woken::Time;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    #[test]
    fn wait_ends_at_its_deadline_or_when_stopped() {
        let stop = Arc::new(Stop::default());
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(stop.wait_until(soon), Woken::Time);
        assert!(Instant::now() >= soon);
        let other = Arc::clone(&stop);
        let waiting = std::thread::spawn(move || {
            other.wait_until(Instant::now() + Duration::from_secs(3600))
        });
        stop.set();
        assert_eq!(waiting.join().unwrap(), Woken::Stop);
        assert_eq!(stop.wait_until(Instant::now()), Woken::Stop);
    }

    #[test]
    fn wait_ends_when_the_descriptor_is_readable() {
        let stop = Stop::default();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(stop.wait_readable(reader.as_fd(), soon), Woken::Time);
        writer.write_all(b"x").unwrap();
        let late = Instant::now() + Duration::from_secs(3600);
        assert_eq!(stop.wait_readable(reader.as_fd(), late), Woken::Ready);
    }
}
