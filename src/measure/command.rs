//! The command that is measured: whether it can be run, its start, and the CPU time of it and all its descendants.
//!
//! This process adopts what the command leaves behind ([`child::adopt_orphans`]), so that every descendant is below it: those
//! that have ended are reaped with their CPU time, and that of the others is read from `/proc` when the command ends.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{kill, Signal};
use nix::unistd::{access, AccessFlags, Pid};

use crate::sources::workloads::usage::stat_fields;
use crate::sys::child::{self, Status};
use crate::sys::reason;

/// The exit statuses of a command that cannot be run, as shells and `env` have them.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// `/proc` counts in these (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
/// A chain of parents is not followed any further.
const MAX_GENERATIONS: usize = 4096;

/// Why a command cannot be run, and with which status this program ends then.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 126 or 127.
    pub status: u8,
    /// For people.
    pub message: String,
}

/// Looks for the program where the start will look for it, so that nothing is measured for a command that cannot be run.
pub fn check(program: &OsStr) -> Result<(), Refusal> {
    let refusal = |status, why: String| Refusal {
        status,
        message: format!("cannot run {}: {why}", Path::new(program).display()),
    };
    let is_path = program.as_encoded_bytes().contains(&b'/');
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates: Vec<PathBuf> = match is_path {
        true => vec![PathBuf::from(program)],
        false => std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .collect(),
    };
    let existing = candidates.iter().filter(|path| path.is_file());
    let mut existing = existing.peekable();
    let Some(first) = existing.peek().copied() else {
        let why = match (is_path, Path::new(program).is_dir()) {
            (true, true) => return Err(refusal(CANNOT_RUN, "it is a folder".into())),
            (true, false) => "there is no such file".to_string(),
            (false, _) => format!(
                "it is in no folder of PATH ({})",
                Path::new(&path).display()
            ),
        };
        return Err(refusal(NOT_FOUND, why));
    };
    match existing.any(|path| access(path, AccessFlags::X_OK).is_ok()) {
        true => Ok(()),
        false => {
            let why = format!("{} is no program that you may run", first.display());
            Err(refusal(CANNOT_RUN, why))
        }
    }
}

/// The running command.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    /// Processes below this one that are not the command's: those of meters, and what earlier commands left behind.
    others: BTreeSet<i32>,
    /// CPU time of the processes that have ended.
    ended_seconds: f64,
    status: Option<Status>,
}

impl Running {
    /// Starts the command with this process's own input, outputs and process group, and without blocked signals. The `others`
    /// are [`processes_below`] from just before.
    pub fn start(command: &[OsString], others: BTreeSet<i32>) -> Result<Running, Refusal> {
        let (program, arguments) = command.split_first().ok_or(Refusal {
            status: NOT_FOUND,
            message: "there is no command to run".into(),
        })?;
        let started = Command::new(program).args(arguments).spawn();
        let started = started.map_err(|error| Refusal {
            status: CANNOT_RUN,
            message: format!(
                "cannot run {}: {}{}",
                Path::new(program).display(),
                reason(&error),
                match error.kind() {
                    // The program itself was found before.
                    io::ErrorKind::NotFound =>
                        " (its interpreter: what its first line names, or the dynamic linker that it was built for)",
                    _ => "",
                }
            ),
        })?;
        Ok(Running {
            pid: started.id() as i32,
            others,
            ended_seconds: 0.0,
            status: None,
        })
    }

    /// Sends the command a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Takes note of the processes that have ended. Returns how the command ended, if it has.
    pub fn reap(&mut self) -> Option<Status> {
        while let Some(ended) = child::reap() {
            if !self.others.contains(&ended.pid) {
                self.ended_seconds += ended.cpu_seconds;
            }
            if ended.pid == self.pid {
                self.status = Some(ended.status);
            }
        }
        self.status
    }

    /// The CPU time of the command and all its descendants until now, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let living = descendants(&self.others);
        let ticks: u64 = living.values().sum();
        self.ended_seconds + ticks as f64 / TICKS_PER_SECOND
    }

    /// How many processes of the command are running.
    pub fn processes(&self) -> usize {
        descendants(&self.others).len()
    }
}

/// The processes below this one.
pub fn processes_below() -> BTreeSet<i32> {
    descendants(&BTreeSet::new()).into_keys().collect()
}

/// The processes below this one, without `others` and those below them: the CPU time of each and of its descendants that it
/// has waited for, in ticks.
fn descendants(others: &BTreeSet<i32>) -> BTreeMap<i32, u64> {
    let own = std::process::id() as i32;
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let all: BTreeMap<i32, Stat> = numbers
        .filter_map(|pid| {
            let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_stat(&text)?))
        })
        .collect();
    let is_below = |pid: i32| {
        let mut at = pid;
        for _ in 0..MAX_GENERATIONS {
            if others.contains(&at) {
                return false;
            }
            match all.get(&at) {
                Some(stat) if stat.parent == own => return true,
                Some(stat) => at = stat.parent,
                None => return false,
            }
        }
        false
    };
    all.iter()
        .filter(|(pid, _)| is_below(**pid))
        .map(|(pid, stat)| (*pid, stat.ticks))
        .collect()
}

/// Of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    /// Of the process and of its descendants that it has waited for.
    ticks: u64,
}

/// Parses `/proc/PID/stat` (proc(5)).
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let (_, fields) = stat_fields(text)?;
    let mut fields = fields.map(|field| std::str::from_utf8(field).ok());
    let parent = fields.nth(1)??.parse().ok()?;
    // User and system time, of its own and of its children: fields 14 to 17.
    let mut times = fields.skip(14 - 5);
    let mut ticks: u64 = 0;
    for _ in 0..4 {
        let time: i64 = times.next()??.parse().ok()?;
        ticks = ticks.saturating_add(time.max(0) as u64);
    }
    Some(Stat { parent, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::temp_dir::TempDir;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn stat_has_the_parent_and_four_times() {
        let text = b"12 (a) (b c) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3000 400 20 0 1 0 555\n";
        let expected = Stat {
            parent: 7,
            ticks: 3520,
        };
        assert_eq!(parse_stat(text), Some(expected));
        for text in [
            &b""[..],
            b"12 (a",
            b"12 (a) S",
            b"12 (a) S x 1",
            b"12 (a) S 7 \xff",
        ] {
            assert_eq!(parse_stat(text), None);
        }
    }

    #[test]
    fn commands_that_cannot_be_run_have_the_status_of_the_shell() {
        let temp = TempDir::new();
        let file = temp.path().join("data");
        std::fs::write(&file, "x").unwrap();
        let status = |program: &Path| check(program.as_os_str()).err().map(|r| r.status);
        assert_eq!(status(Path::new("no-such-program-anywhere")), Some(127));
        assert_eq!(status(&temp.path().join("none")), Some(127));
        assert_eq!(status(temp.path()), Some(126));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(status(&file), Some(126));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(status(&file), None);
        assert_eq!(status(Path::new("sh")), None);
        let refusal = check(OsStr::new("no-such-program-anywhere")).unwrap_err();
        assert!(refusal.message.contains("PATH"), "{}", refusal.message);
    }
}
