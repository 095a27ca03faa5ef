//! A child process in a process group of its own. The whole group is ended at once, and the child is reaped.

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

/// The time between SIGTERM and SIGKILL.
const TERM_TIMEOUT: Duration = Duration::from_millis(300);
/// The time to wait for SIGKILL to take effect. A process inside a driver may take longer.
const KILL_TIMEOUT: Duration = Duration::from_millis(200);
/// The time between two checks whether the child has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// With this many children that did not end, no more are started.
const MAX_UNKILLED: usize = 4;

/// Children that could not be killed. Those started by sudo belong to root, and end when they print their next line, since
/// the pipe is closed.
static UNKILLED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Reaps unkilled children that have ended in the meantime.
pub(super) fn reap_unkilled() {
    lock::lock(&UNKILLED).retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// A child that leads its own process group. The group is ended on drop.
pub(super) struct ProcessGroup {
    /// Always present before drop.
    leader: Option<Child>,
    id: Pid,
}

impl ProcessGroup {
    /// Starts `command` with its output in pipes.
    pub(super) fn start(
        mut command: Command,
        name: &str,
    ) -> Result<(ProcessGroup, ChildStdout, ChildStderr), Error> {
        reap_unkilled();
        let left = lock::lock(&UNKILLED).len();
        if left >= MAX_UNKILLED {
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

    /// How the leader ended, if it ends within `timeout`. The leader is not reaped here: until it is, no other process can get
    /// its process id, which is also the group's.
    pub(super) fn ended_within(&self, timeout: Duration) -> Option<String> {
        let deadline = Instant::now() + timeout;
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
            std::thread::sleep(CHECK_INTERVAL);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // Fails only if the group has ended or belongs to root.
        let _ = killpg(self.id, Signal::SIGTERM);
        self.ended_within(TERM_TIMEOUT);
        // Children of the leader may have outlived it.
        let _ = killpg(self.id, Signal::SIGKILL);
        self.ended_within(KILL_TIMEOUT);
        if let Some(mut leader) = self.leader.take() {
            if let Ok(None) = leader.try_wait() {
                lock::lock(&UNKILLED).push(leader);
            }
        }
    }
}
