//! Child processes that can be ended with their own children, and that do not outlive this process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};

/// Prepares a command so that its process
///
/// * has a process group of its own, so that it can be ended with its own children;
/// * has no blocked signals, since it would inherit the signal mask of this process;
/// * is ended by the kernel when the thread that starts it ends, for whatever reason (prctl(2), `PR_SET_PDEATHSIG`; without
///   effect for set-user-ID programs such as sudo).
pub fn isolate(command: &mut Command) {
    let parent = nix::unistd::getpid();
    command.process_group(0);
    let in_the_child = move || {
        SigSet::empty().thread_set_mask()?;
        set_pdeathsig(Signal::SIGTERM)?;
        if nix::unistd::getppid() != parent {
            // The parent has ended before `set_pdeathsig`, so no signal would come.
            return Err(io::Error::from(nix::errno::Errno::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only what is async-signal-safe may be called. These are three system calls
    // (rt_sigprocmask, prctl, getppid) on values of their own; none allocates or takes a lock.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(in_the_child);
    }
}
