//! Lines on their way to standard error. Whoever has a line never waits: one thread writes them, and what comes while too
//! many wait is dropped and counted.
//!
//! Standard error is not made non-blocking for this: that would hold for everybody who shares the terminal or the pipe.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::sys::lock::lock;

/// So many bytes may wait.
const CAPACITY: usize = 64 << 10;
/// The memory of a queue that was longer than this is given back once it is empty.
const KEEP: usize = 4 << 10;
/// A pipe that poll(2) calls writable takes so many bytes without blocking, and does not mix them with others'
/// (`PIPE_BUF`, pipe(7)).
const CHUNK: usize = 4096;
/// How long the end of the process may wait while nothing can be written, and at most.
const STUCK_TIMEOUT: Duration = Duration::from_millis(500);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it looks.
const STEP: Duration = Duration::from_millis(10);
const STACK: usize = if cfg!(debug_assertions) { 64 } else { 16 } * 1024;

/// The lines that wait.
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the writer: there is something to write.
    filled: Condvar,
    /// For those who wait for the end: all is written.
    emptied: Condvar,
    dropped: AtomicU64,
}

struct State {
    waiting: VecDeque<u8>,
    /// There was no room: until all that waits is written, every line is dropped, so that one note says it, in its place.
    full: bool,
    /// Lines dropped since the last note of it.
    unsaid: u64,
    /// The last write failed: a note would too.
    failed: bool,
    has_writer: bool,
    /// The writer has something in hand.
    writing: bool,
}

/// What is written next.
enum Next {
    Line(Vec<u8>),
    /// That so many were dropped.
    Note(u64),
}

impl Queue {
    pub(super) const fn new() -> Queue {
        Queue {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                full: false,
                unsaid: 0,
                failed: false,
                has_writer: false,
                writing: false,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// How many lines were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Adds a line, which ends with a line feed, or drops it. The first starts the thread that writes them to standard
    /// error.
    pub(super) fn push(&'static self, line: &[u8]) {
        let mut state = lock(&self.state);
        if !state.has_writer {
            state.has_writer = self.start_writer().is_ok();
        }
        self.add(&mut state, line);
    }

    fn add(&self, state: &mut State, line: &[u8]) {
        let fits = state.waiting.is_empty() || state.waiting.len() + line.len() <= CAPACITY;
        if state.full || !fits {
            state.full = true;
            self.drop_one(state);
            return;
        }
        state.waiting.extend(line);
        self.filled.notify_one();
    }

    fn drop_one(&self, state: &mut State) {
        state.unsaid += 1;
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// No signal is for this thread: not those that another one waits for, and not SIGTTOU or SIGXFSZ, which would stop or
    /// end the process for a line of its log.
    fn start_writer(&'static self) -> io::Result<()> {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let started = std::thread::Builder::new()
            .name("log".to_string())
            .stack_size(STACK)
            .spawn(|| self.write_out(io::stderr().as_fd()));
        before.thread_set_mask()?;
        started.map(|_| ())
    }

    /// Writes all there ever is, and never returns.
    fn write_out(&self, to: BorrowedFd<'_>) {
        loop {
            let next = self.wait_next();
            self.write_next(to, next);
        }
    }

    fn wait_next(&self) -> Next {
        let mut state = lock(&self.state);
        loop {
            if let Some(next) = state.next() {
                state.writing = true;
                return next;
            }
            state.writing = false;
            self.emptied.notify_all();
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_next(&self, to: BorrowedFd<'_>, next: Next) {
        match next {
            Next::Line(line) => {
                let written = write_all(to, &line);
                let mut state = lock(&self.state);
                state.failed = written.is_err();
                if state.failed {
                    self.drop_one(&mut state);
                }
            }
            Next::Note(lines) => {
                let note = note(lines);
                let written = write_all(to, note.as_bytes());
                let mut state = lock(&self.state);
                state.failed = written.is_err();
                if !state.failed {
                    state.unsaid -= lines;
                }
            }
        }
    }

    /// Waits until all is written, or until it takes too long: [`STUCK_TIMEOUT`] in which `to` takes nothing.
    pub(super) fn flush(&self, to: BorrowedFd<'_>) {
        let began = Instant::now();
        let mut stuck = Duration::ZERO;
        let mut state = lock(&self.state);
        while !state.is_done() {
            if !state.has_writer {
                // There was no thread to be had: there is nobody else now.
                let Some(next) = state.next().filter(|_| is_writable(to)) else {
                    return;
                };
                drop(state);
                self.write_next(to, next);
                state = lock(&self.state);
                continue;
            }
            let waited = self.emptied.wait_timeout(state, STEP);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            match is_writable(to) {
                true => stuck = Duration::ZERO,
                false => stuck += STEP,
            }
            if stuck >= STUCK_TIMEOUT || began.elapsed() >= FLUSH_TIMEOUT {
                return;
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<Next> {
        if self.waiting.is_empty() {
            if self.waiting.capacity() > KEEP {
                self.waiting = VecDeque::new();
            }
            self.full = false;
            let unsaid = self.unsaid > 0 && !self.failed;
            return unsaid.then_some(Next::Note(self.unsaid));
        }
        let end = self.waiting.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(self.waiting.len(), |end| end + 1);
        Some(Next::Line(self.waiting.drain(..length).collect()))
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && !self.writing && (self.unsaid == 0 || self.failed)
    }
}

fn note(lines: u64) -> String {
    let lines = match lines {
        1 => "1 line of the log was".to_string(),
        lines => format!("{lines} lines of the log were"),
    };
    format!("warn: {lines} dropped: standard error took no more\n")
}

/// What is not written by this is lost: a reader that is gone, a full disk.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        match nix::unistd::write(to, chunk) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Somebody else has made it non-blocking.
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a write would return at once, be it with an error.
fn is_writable(to: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
    !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{pipe, Read};

    /// Adds lines without starting a writer.
    fn add(queue: &Queue, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            queue.add(&mut lock(&queue.state), line.as_bytes());
        }
    }

    fn numbered(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|n| format!("line {n} {}\n", "x".repeat(90)))
    }

    /// Takes what there is to write, as the writer does.
    fn drain(queue: &Queue, to: BorrowedFd<'_>) {
        loop {
            let Some(next) = lock(&queue.state).next() else {
                return;
            };
            queue.write_next(to, next);
        }
    }

    #[test]
    fn lines_come_out_in_order_and_what_was_dropped_is_said_in_its_place() {
        let queue = Queue::new();
        add(&queue, numbered(10_000));
        let kept = lock(&queue.state)
            .waiting
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        assert!(lock(&queue.state).waiting.len() <= CAPACITY);
        assert!((500..1000).contains(&kept), "{kept}");
        assert_eq!(queue.dropped(), 10_000 - kept as u64);
        let (mut reader, writer) = pipe().unwrap();
        let text = std::thread::scope(|scope| {
            let read = scope.spawn(move || {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                text
            });
            drain(&queue, writer.as_fd());
            add(&queue, ["after\n".to_string()]);
            drain(&queue, writer.as_fd());
            drop(writer);
            read.join().unwrap()
        });
        let lines: Vec<_> = text.lines().collect();
        let expected: Vec<_> = numbered(kept).collect();
        assert_eq!(lines.len(), kept + 2);
        assert!(lines.iter().zip(&expected).all(|(l, e)| *l == e.trim_end()));
        assert_eq!(format!("{}\n", lines[kept]), note(10_000 - kept as u64));
        assert_eq!(lines[kept + 1], "after");
        assert!(lock(&queue.state).is_done());
        assert!(lock(&queue.state).waiting.capacity() <= KEEP);
    }

    #[test]
    fn one_line_may_be_longer_than_the_queue() {
        let queue = Queue::new();
        let long = format!("{}\n", "x".repeat(3 * CAPACITY));
        add(&queue, [long.clone(), "dropped\n".to_string()]);
        assert_eq!(queue.dropped(), 1);
        let Some(Next::Line(line)) = lock(&queue.state).next() else {
            panic!("no line");
        };
        assert!(line == long.as_bytes());
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_does_not_spin() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (reader, broken) = pipe().unwrap();
        drop(reader);
        for to in [full.as_fd(), broken.as_fd()] {
            let queue = Queue::new();
            add(&queue, numbered(3));
            drain(&queue, to);
            assert_eq!(queue.dropped(), 3);
            assert!(lock(&queue.state).is_done(), "a note would fail too");
            let (mut reader, writer) = pipe().unwrap();
            add(&queue, ["better\n".to_string()]);
            drain(&queue, writer.as_fd());
            drop(writer);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("better\n{}", note(3)));
        }
    }

    #[test]
    fn the_end_waits_for_what_can_be_written_and_not_for_what_cannot() {
        let queue = Queue::new();
        let (mut reader, writer) = pipe().unwrap();
        add(&queue, numbered(3));
        queue.flush(writer.as_fd());
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, numbered(3).collect::<String>());

        let (_unread, writer) = pipe().unwrap();
        add(&queue, numbered(700));
        // The same as a writer that is stuck in the pipe.
        lock(&queue.state).has_writer = true;
        nix::fcntl::fcntl(
            &writer,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .unwrap();
        while nix::unistd::write(&writer, &[b'x'; CHUNK]).is_ok() {}
        assert!(!is_writable(writer.as_fd()));
        queue.flush(writer.as_fd());
        assert!(!lock(&queue.state).is_done(), "it gave up");
    }

    #[test]
    fn one_line_and_many_are_said_so() {
        assert!(note(1).contains("1 line of the log was dropped"));
        assert!(note(2).contains("2 lines of the log were dropped"));
    }
}
