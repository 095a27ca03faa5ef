//! A child process with its own children, ended as one, and reaped.

use std::process::{Child, ChildStderr, ChildStdout, Command};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{killpg, Signal};
use nix::sys::wait::{waitid, Id, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;

use crate::sources::error::Error;
use crate::sys::reason;
use crate::sys::{child, lock};

/// How long the group has between being asked to end and being killed.
const GRACE: Duration = Duration::from_millis(300);
/// How long the kernel may take to kill: longer for a process inside a driver.
const KILLED: Duration = Duration::from_millis(200);
/// How often to look whether it has ended.
const STEP: Duration = Duration::from_millis(5);
/// So many that would not end, and no more are started.
const MOST_LEFT: usize = 4;

/// Children that could not be killed: those of sudo are root's, and end at their next line since nobody reads it.
static LEFT: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Reaps those that have ended meanwhile.
pub(super) fn reap_left() {
    lock::lock(&LEFT).retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// A child that leads a process group of its own. It is ended when this is dropped.
pub(super) struct ProcessGroup {
    /// There until it is dropped.
    leader: Option<Child>,
    id: Pid,
}

impl ProcessGroup {
    /// Starts `command`, whose output goes into pipes.
    pub(super) fn start(
        mut command: Command,
        name: &str,
    ) -> Result<(ProcessGroup, ChildStdout, ChildStderr), Error> {
        reap_left();
        let left = lock::lock(&LEFT).len();
        if left >= MOST_LEFT {
            return Err(Error::new(format!(
                "cannot start {name}: {left} of its predecessors will not end"
            ))
            .hint("end them by hand"));
        }
        child::isolate(&mut command);
        let mut leader = command
            .spawn()
            .map_err(|e| Error::new(format!("cannot start {name}: {}", reason(&e))))?;
        let (stdout, stderr) = (leader.stdout.take(), leader.stderr.take());
        let group = ProcessGroup {
            id: Pid::from_raw(leader.id() as i32),
            leader: Some(leader),
        };
        match (stdout, stderr) {
            (Some(stdout), Some(stderr)) => Ok((group, stdout, stderr)),
            _ => Err(Error::new(format!("cannot start {name}: no pipe to it"))),
        }
    }

    /// How the leader ended, if it does so within `patience`. It is not reaped: until that is done its number, which is
    /// also the group's, is nobody else's.
    pub(super) fn ended_within(&self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            match waitid(Id::Pid(self.id), flags) {
                Ok(WaitStatus::Exited(_, status)) => {
                    return Some(format!("ended with exit status {status}"));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    return Some(format!("was ended by {signal}"));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Some("ended".to_string()),
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(STEP);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // Failures are those of a group that has ended, or that is root's.
        let _ = killpg(self.id, Signal::SIGTERM);
        self.ended_within(GRACE);
        // The leader's own children may have outlived it.
        let _ = killpg(self.id, Signal::SIGKILL);
        self.ended_within(KILLED);
        if let Some(mut leader) = self.leader.take() {
            if let Ok(None) = leader.try_wait() {
                lock::lock(&LEFT).push(leader);
            }
        }
    }
}
