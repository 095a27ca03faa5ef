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

    /// As [`Signals::block`], of these signals; but those that this process was started to ignore, as `nohup` does, stay
    /// ignored.
    pub fn block_these(signals: &[Signal]) -> nix::Result<Signals> {
        let signals = signals.iter().copied();
        let set: SigSet = signals.filter(|signal| !is_ignored(*signal)).collect();
        set.thread_block()?;
        Ok(Signals(set))
    }

    /// Gives the signals their actions back, in this thread.
    pub fn unblock(&self) {
        // The call fails only for an unknown way of changing the mask.
        let _ = self.0.thread_unblock();
    }

    /// The next signal; `None` if none arrives within this time.
    pub fn next(&self, time: Duration) -> Option<Signal> {
        self.next_within(time).ok()
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

/// Whether this process ignores a signal.
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: `sigaction` is a plain struct of integers and an optional function pointer, of which all bits zero are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null pointer for the new action changes nothing, and the other one is to a live value.
    let failed = unsafe { libc::sigaction(signal as i32, std::ptr::null(), &mut action) };
    failed == 0 && action.sa_sigaction == libc::SIG_IGN
}
