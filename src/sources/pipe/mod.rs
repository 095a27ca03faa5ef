//! A program that runs permanently and prints lines. A program that is silent, has exited or floods us with lines is ended
//! with its whole process group, and an error is returned; the source is then opened again.

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

/// The size of the read buffer.
const CHUNK_BYTES: usize = 4096;
/// The most bytes read before the lines are checked: the capacity of a pipe.
const MAX_READ_BYTES: usize = 64 * 1024;
/// A line that grows beyond this is an error.
const MAX_UNFINISHED_BYTES: usize = 256 * 1024;
/// How much of the end of the program's stderr is kept.
const MAX_STDERR_BYTES: usize = 1024;
/// How long to wait for the exit status of a program that has closed its output.
const EXIT_TIMEOUT: Duration = Duration::from_millis(200);
/// The delay after a read that completed no line, so that a program that writes byte by byte does not cause a wake-up for
/// each byte.
const PARTIAL_LINE_DELAY: Duration = Duration::from_millis(1);

/// A running program. Its process group is ended on drop.
struct Pipe {
    name: String,
    stdout: ChildStdout,
    stderr: ChildStderr,
    /// The longest time between two lines.
    max_silence: Duration,
    /// The additional time that the first line may take.
    startup_time: Duration,
    /// The shortest time between two reads. Lines that are printed faster wait in the pipe.
    min_read_interval: Duration,
    interval: Duration,
    lines: Lines,
    flow: Flow,
    /// When the last line was read.
    last: Instant,
    at: BootTime,
    /// The end of the program's stderr.
    stderr_tail: Vec<u8>,
    // This is the last field, so that our ends of the pipes are closed first: a program that may not be killed then ends by SIGPIPE.
    group: ProcessGroup,
}

/// A printed line.
pub(crate) struct PrintedLine<'a> {
    /// When the line was read.
    pub(crate) at: BootTime,
    /// The line without its line feed. Not necessarily UTF-8.
    pub(crate) text: &'a [u8],
    /// The number of lines before this one that were dropped because they were too long.
    pub(crate) overlong: u64,
}

impl Pipe {
    /// Starts `command`, which prints a line every `interval`.
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
            max_silence: staleness_limit(interval),
            startup_time: Duration::ZERO,
            min_read_interval: (interval / 10).min(Duration::from_millis(100)),
            interval,
            lines: Lines::new(1),
            flow: Flow::new(now, interval),
            last: now,
            at: BootTime::now(),
            stderr_tail: Vec::new(),
            group,
        })
    }

    /// Sets up the pipe for a program that prints up to `max_lines` lines every interval: this many lines are kept until they
    /// are taken. The first line may take `startup_time` longer than the others.
    fn of_several_lines(self, max_lines: u32, startup_time: Duration) -> Pipe {
        Pipe {
            lines: Lines::new(max_lines as usize),
            flow: Flow::new(self.last, self.interval / max_lines.max(1)),
            startup_time,
            ..self
        }
    }

    /// Waits for the next complete line. If several are waiting, only the newest are kept. `None` when the source must stop.
    fn next_line(&mut self, stop: &Stop) -> Result<Option<PrintedLine<'_>>, Error> {
        if self.lines.has_next() {
            return Ok(Some(self.take()));
        }
        if stop.wait_until(self.last + self.min_read_interval) == Woken::Stop {
            return Ok(None);
        }
        loop {
            let deadline = self.last + self.max_silence + self.startup_time;
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
            if self.lines.unfinished() > MAX_UNFINISHED_BYTES {
                return Err(self.failure("prints a line without an end"));
            }
            if self.lines.has_next() {
                group::reap_unkilled();
                self.last = now;
                self.at = BootTime::now();
                self.startup_time = Duration::ZERO;
                return Ok(Some(self.take()));
            }
            if !open {
                return Err(self.ended());
            }
            if stop.wait_until(now + PARTIAL_LINE_DELAY) == Woken::Stop {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> PrintedLine<'_> {
        PrintedLine {
            at: self.at,
            overlong: self.lines.take_overlong(),
            text: self.lines.take_next(),
        }
    }

    /// Reads what is in the pipe. Returns false at the end of the output.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..MAX_READ_BYTES / CHUNK_BYTES {
            match self.stdout.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(n) => self.lines.push(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.read_stderr();
        Ok(true)
    }

    fn read_stderr(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..MAX_READ_BYTES / CHUNK_BYTES {
            match self.stderr.read(&mut chunk) {
                Ok(n) if n > 0 => {
                    self.stderr_tail.extend_from_slice(&chunk[..n]);
                    let surplus = self.stderr_tail.len().saturating_sub(MAX_STDERR_BYTES);
                    self.stderr_tail.drain(..surplus);
                }
                _ => break,
            }
        }
    }

    /// The error of a program whose output has ended.
    fn ended(&mut self) -> Error {
        match self.group.ended_within(EXIT_TIMEOUT) {
            Some(how) => self.failure(&how),
            None => self.failure("has closed its output"),
        }
    }

    fn failure(&mut self, what: &str) -> Error {
        self.read_stderr();
        let what = format!("{} {what}", self.name);
        match last_line(&self.stderr_tail) {
            Some(message) => Error::new(format!("{what}; it says: {message}")),
            None => Error::new(what),
        }
    }
}

/// The program and its arguments, for error messages.
fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The last line that is not blank, cut and printable.
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
    fn last_line_of_stderr_is_cut_and_printable() {
        assert_eq!(last_line(b""), None);
        assert_eq!(last_line(b"\n \n"), None);
        assert_eq!(
            last_line(b"warning\nlibnv.so: \x1b[31mmissing\xff\n\n").as_deref(),
            Some("libnv.so:  [31mmissing\u{fffd}")
        );
        assert_eq!(last_line(&[b'x'; 5000]).map(|l| l.len()), Some(200));
    }

    #[test]
    fn error_names_the_program_that_cannot_be_started() {
        let error = Pipe::start(Command::new("/nowhere/tegrastats"), Duration::from_secs(1)).err();
        assert_eq!(
            error.map(|e| e.to_string()).as_deref(),
            Some("cannot start /nowhere/tegrastats: no such file or directory")
        );
    }
}
