//! A program that prints a line per reading for as long as it runs, and the watch kept on it: one that is silent, dead
//! or floods us is ended with all of its process group, and whoever reads it starts it anew.

mod group;
mod lines;
mod printer;

pub(crate) use printer::Printer;

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{fcntl, FcntlArg, OFlag};

use self::group::ProcessGroup;
use self::lines::{Flow, Lines};
use super::error::Error;
use crate::metrics::staleness_limit;
use crate::sys::clock::BootTime;
use crate::sys::reason;
use crate::sys::stop::{Stop, Woken};

/// So much is read at once.
const CHUNK: usize = 4096;
/// So much at most before looking at what it was: what a pipe holds.
const MOST_AT_ONCE: usize = 64 * 1024;
/// A line that grows beyond this has no end.
const ENDLESS: usize = 256 * 1024;
/// Of what the program complains about, the end is kept.
const STDERR_KEPT: usize = 1024;
/// How long a program whose output ended may take to end itself, and so to tell its exit status.
const FAREWELL: Duration = Duration::from_millis(200);
/// After a read that ended no line, wait so long: a program that writes byte by byte does not cost a wake-up each.
const BREATH: Duration = Duration::from_millis(1);

/// A running program. It ends, with its process group, when this is dropped.
struct Pipe {
    name: String,
    stdout: ChildStdout,
    stderr: ChildStderr,
    silence: Duration,
    /// How much longer the first line may take.
    patience: Duration,
    /// Least time from one look into the pipe to the next: what comes faster waits there.
    pace: Duration,
    interval: Duration,
    lines: Lines,
    flow: Flow,
    /// When the last line came.
    last: Instant,
    at: BootTime,
    complaint: Vec<u8>,
    // The last field: our ends of its pipes are closed first, so that it ends even where it may not be killed.
    group: ProcessGroup,
}

/// A line, and when it came.
pub(crate) struct Printed<'a> {
    pub(crate) at: BootTime,
    /// Without its end. Not necessarily UTF-8.
    pub(crate) text: &'a [u8],
    /// Lines before it that were too long to be taken.
    pub(crate) overlong: u64,
}

impl Pipe {
    /// Starts `command`, which is to print a line every `interval`.
    fn start(mut command: Command, interval: Duration) -> Result<Pipe, Error> {
        let name = command_line(&command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let cannot = |e: &io::Error| Error::new(format!("cannot start {name}: {}", reason(e)));
        let (group, stdout, stderr) = ProcessGroup::start(command, &name)?;
        for fd in [stdout.as_fd(), stderr.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| cannot(&e.into()))?;
        }
        let now = Instant::now();
        Ok(Pipe {
            name,
            stdout,
            stderr,
            silence: staleness_limit(interval),
            patience: Duration::ZERO,
            pace: (interval / 10).min(Duration::from_millis(100)),
            interval,
            lines: Lines::new(1),
            flow: Flow::new(now, interval),
            last: now,
            at: BootTime::now(),
            complaint: Vec::new(),
            group,
        })
    }

    /// The same of a program that prints up to `most` lines every interval: so many are kept until they are asked for. The
    /// first may take `patience` longer than the others.
    fn of_several_lines(self, most: u32, patience: Duration) -> Pipe {
        Pipe {
            lines: Lines::new(most as usize),
            flow: Flow::new(self.last, self.interval / most.max(1)),
            patience,
            ..self
        }
    }

    /// Waits for the next whole line; of those that are waiting, only the newest are kept. `None`: it is time to stop.
    fn next_line(&mut self, stop: &Stop) -> Result<Option<Printed<'_>>, Error> {
        if self.lines.has_next() {
            return Ok(Some(self.take()));
        }
        if stop.wait_until(self.last + self.pace) == Woken::Stop {
            return Ok(None);
        }
        loop {
            let deadline = self.last + self.silence + self.patience;
            match stop.wait_readable(self.stdout.as_fd(), deadline) {
                Woken::Stop => return Ok(None),
                Woken::Time => {
                    let silence = self.last.elapsed().as_secs_f64();
                    return Err(self.failure(&format!("has printed nothing for {silence:.1} s")));
                }
                Woken::Ready => {}
            }
            let open = self.read().map_err(|error| {
                Error::new(format!(
                    "cannot read what {} prints: {}",
                    self.name,
                    reason(&error)
                ))
            })?;
            let now = Instant::now();
            if let Some(rate) = self.flow.too_fast(now, self.lines.take_count()) {
                return Err(self.failure(&format!("prints {rate:.0} lines a second")));
            }
            if self.lines.unfinished() > ENDLESS {
                return Err(self.failure("prints a line without an end"));
            }
            if self.lines.has_next() {
                group::reap_left();
                self.last = now;
                self.at = BootTime::now();
                self.patience = Duration::ZERO;
                return Ok(Some(self.take()));
            }
            if !open {
                return Err(self.ended());
            }
            if stop.wait_until(now + BREATH) == Woken::Stop {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Printed<'_> {
        Printed {
            at: self.at,
            overlong: self.lines.take_overlong(),
            text: self.lines.take_next(),
        }
    }

    /// Reads what is there; false when there will never be more.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        for _ in 0..MOST_AT_ONCE / CHUNK {
            match self.stdout.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(n) => self.lines.push(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.listen_to_complaints();
        Ok(true)
    }

    fn listen_to_complaints(&mut self) {
        let mut chunk = [0; CHUNK];
        for _ in 0..MOST_AT_ONCE / CHUNK {
            match self.stderr.read(&mut chunk) {
                Ok(n) if n > 0 => {
                    self.complaint.extend_from_slice(&chunk[..n]);
                    let surplus = self.complaint.len().saturating_sub(STDERR_KEPT);
                    self.complaint.drain(..surplus);
                }
                _ => break,
            }
        }
    }

    /// Its output ended.
    fn ended(&mut self) -> Error {
        match self.group.ended_within(FAREWELL) {
            Some(how) => self.failure(&how),
            None => self.failure("has closed its output"),
        }
    }

    fn failure(&mut self, what: &str) -> Error {
        self.listen_to_complaints();
        let what = format!("{} {what}", self.name);
        match last_line(&self.complaint) {
            Some(complaint) => Error::new(format!("{what}; it says: {complaint}")),
            None => Error::new(what),
        }
    }
}

/// The program and its arguments, for messages.
fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The last line that is not blank, fit for a log.
fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().rev().map(str::trim).find(|l| !l.is_empty())?;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    Some(line.chars().take(200).map(plain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complaint_is_fit_for_a_log() {
        assert_eq!(last_line(b""), None);
        assert_eq!(last_line(b"\n \n"), None);
        assert_eq!(
            last_line(b"warning\nlibnv.so: \x1b[31mmissing\xff\n\n").as_deref(),
            Some("libnv.so:  [31mmissing\u{fffd}")
        );
        assert_eq!(last_line(&[b'x'; 5000]).map(|l| l.len()), Some(200));
    }

    #[test]
    fn a_program_that_cannot_be_started_is_named() {
        let error = Pipe::start(Command::new("/nowhere/tegrastats"), Duration::from_secs(1)).err();
        assert_eq!(
            error.map(|e| e.to_string()).as_deref(),
            Some("cannot start /nowhere/tegrastats: no such file or directory")
        );
    }
}
