//! Child processes: those that can be ended with their own children, and that do not outlive this process; and those whose
//! descendants are adopted when their parents end.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{signal, SigHandler, SigSet, Signal};

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

/// Makes this process the parent of its descendants whose own parents have ended (prctl(2), `PR_SET_CHILD_SUBREAPER`). They are
/// children of the first thread then, and [`reap`] has them.
pub fn adopt_orphans() -> nix::Result<()> {
    // If this process was started to ignore SIGCHLD, the kernel would forget its children as they end.
    // SAFETY: the default action runs no code of this process.
    #[allow(unsafe_code)]
    unsafe {
        signal(Signal::SIGCHLD, SigHandler::SigDfl)?;
    }
    set_child_subreaper(true)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// Its number.
    pub pid: i32,
    /// How it ended.
    pub status: Status,
    /// CPU time of the process, and of those of its descendants that were waited for, in seconds.
    pub cpu_seconds: f64,
}

/// The next child of this thread that has ended, if one has. Children of other threads are theirs to wait for.
pub fn reap() -> Option<Ended> {
    let mut status = 0;
    // SAFETY: `rusage` is a plain struct of integers, of which all bits zero are a value.
    #[allow(unsafe_code)]
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let options = libc::WNOHANG | libc::__WNOTHREAD;
    // SAFETY: both pointers are to live values of the types that the C library's function of this name writes.
    #[allow(unsafe_code)]
    let pid = unsafe { libc::wait4(-1, &mut status, options, &mut usage) };
    if pid <= 0 {
        return None;
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some(Ended {
        pid,
        status: match libc::WIFSIGNALED(status) {
            true => Status::Killed(libc::WTERMSIG(status) as u8),
            false => Status::Exited(libc::WEXITSTATUS(status) as u8),
        },
        cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
    })
}
