//! Signals as events: blocked in every thread, waited for in one.

#![allow(unsafe_code)]

use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};

use super::heap;

/// How often the heap gives back what it does not need: every role has a thread that waits here.
const GIVE_BACK: Duration = Duration::from_secs(10);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: load the configuration again.
    Reload,
}

/// The signals that are waited for, blocked.
#[derive(Debug)]
pub struct Signals(SigSet);

impl Signals {
    /// Blocks them in this thread and in those it starts from now on: call it before any other thread is there.
    /// A process started from one of them inherits this: [`super::child::isolate`] lifts it.
    pub fn block() -> nix::Result<Signals> {
        let set = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        set.thread_block()?;
        Ok(Signals(set))
    }

    /// Waits for the next. Meanwhile memory that is not needed any more is given back.
    pub fn wait(&self) -> nix::Result<Request> {
        loop {
            match self.next_within(GIVE_BACK) {
                Ok(Signal::SIGHUP) => return Ok(Request::Reload),
                Ok(_) => return Ok(Request::Stop),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => heap::give_back(),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next; EAGAIN if none comes in this time (sigtimedwait(2)).
    fn next_within(&self, time: Duration) -> nix::Result<Signal> {
        let time = *nix::sys::time::TimeSpec::from(time).as_ref();
        // SAFETY: a set and a time that are there, and nobody asks for more about the signal.
        let signal = unsafe { libc::sigtimedwait(self.0.as_ref(), std::ptr::null_mut(), &time) };
        Signal::try_from(Errno::result(signal)?)
    }
}
