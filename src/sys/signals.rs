//! Signals as events: they are blocked in every thread, and one thread waits for them.

#![allow(unsafe_code)]

use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};

use super::heap;

/// How often unused memory is given back to the kernel. Every role has one thread that waits for signals and does so.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(10);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: load the configuration again.
    Reload,
}

/// The blocked signals.
#[derive(Debug)]
pub struct Signals(SigSet);

impl Signals {
    /// Blocks the signals in this thread and in all threads that it starts afterwards, so call this before any other thread
    /// is started. Child processes inherit the block: [`super::child::isolate`] lifts it.
    pub fn block() -> nix::Result<Signals> {
        let set = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        set.thread_block()?;
        Ok(Signals(set))
    }

    /// Waits for the next signal. Meanwhile unused memory is given back to the kernel.
    pub fn wait(&self) -> nix::Result<Request> {
        loop {
            match self.next_within(GIVE_BACK_INTERVAL) {
                Ok(Signal::SIGHUP) => return Ok(Request::Reload),
                Ok(_) => return Ok(Request::Stop),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => heap::give_back(),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next signal; EAGAIN if none arrives in this time (sigtimedwait(2)).
    fn next_within(&self, time: Duration) -> nix::Result<Signal> {
        let time = *nix::sys::time::TimeSpec::from(time).as_ref();
        // SAFETY: the pointers to the set and the time are valid, and a null pointer for the signal's information is allowed.
        let signal = unsafe { libc::sigtimedwait(self.0.as_ref(), std::ptr::null_mut(), &time) };
        Signal::try_from(Errno::result(signal)?)
    }
}
