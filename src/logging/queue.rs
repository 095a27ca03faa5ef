//! A queue of lines for standard error. Adding a line never blocks: one thread writes the lines, and lines that do not fit
//! into the queue are dropped and counted.
//!
//! Standard error is not made non-blocking for this, because that would affect all processes that share the terminal or
//! pipe.

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

/// Bytes that the queue holds.
const CAPACITY: usize = 64 << 10;
/// Bytes of buffer that an empty queue keeps.
const IDLE_CAPACITY: usize = 4 << 10;
/// Bytes that a pipe which poll(2) reports as writable takes without blocking, and without mixing them with the bytes of
/// other writers (`PIPE_BUF`, pipe(7)).
const CHUNK: usize = 4096;
/// How long [`Queue::flush`] waits while nothing can be written.
const STUCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long [`Queue::flush`] waits in all.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often [`Queue::flush`] checks whether standard error can be written to.
const FLUSH_CHECK_INTERVAL: Duration = Duration::from_millis(10);
const STACK_SIZE: usize = if cfg!(debug_assertions) { 64 } else { 16 } * 1024;

/// The queue.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Notifies the writer: there is something to write.
    filled: Condvar,
    /// Notifies [`Queue::flush`]: everything is written.
    emptied: Condvar,
    dropped: AtomicU64,
}

struct QueueState {
    waiting: VecDeque<u8>,
    /// A line did not fit. Until the queue is empty every line is dropped, so that one note in their place says so.
    full: bool,
    /// Lines that were dropped since the last note.
    unreported: u64,
    /// The last write failed, and so would a note.
    failed: bool,
    has_writer: bool,
    /// The writer is writing a line or a note.
    writing: bool,
}

/// What to write next.
enum Next {
    Line(Vec<u8>),
    /// The note that so many lines were dropped.
    Note(u64),
}

impl Queue {
    pub(super) const fn new() -> Queue {
        Queue {
            state: Mutex::new(QueueState {
                waiting: VecDeque::new(),
                full: false,
                unreported: 0,
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

    /// Adds a line, which ends with a line feed, or drops it. The first call starts the thread that writes to standard
    /// error.
    pub(super) fn push(&'static self, line: &[u8]) {
        let mut state = lock(&self.state);
        if !state.has_writer {
            state.has_writer = self.start_writer().is_ok();
        }
        self.add(&mut state, line);
    }

    fn add(&self, state: &mut QueueState, line: &[u8]) {
        let fits = state.waiting.is_empty() || state.waiting.len() + line.len() <= CAPACITY;
        if state.full || !fits {
            state.full = true;
            self.drop_one(state);
            return;
        }
        state.waiting.extend(line);
        self.filled.notify_one();
    }

    fn drop_one(&self, state: &mut QueueState) {
        state.unreported += 1;
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts the writer with all signals blocked: those that another thread waits for, and SIGTTOU and SIGXFSZ, which would
    /// stop or end the process for writing a line of its log.
    fn start_writer(&'static self) -> io::Result<()> {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let started = std::thread::Builder::new()
            .name("log".to_string())
            .stack_size(STACK_SIZE)
            .spawn(|| self.write_out(io::stderr().as_fd()));
        before.thread_set_mask()?;
        started.map(|_| ())
    }

    /// Writes lines for ever.
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
                    state.unreported -= lines;
                }
            }
        }
    }

    /// Waits until everything is written, for [`FLUSH_TIMEOUT`] or until `to` has accepted nothing for [`STUCK_TIMEOUT`].
    pub(super) fn flush(&self, to: BorrowedFd<'_>) {
        let began = Instant::now();
        let mut stuck = Duration::ZERO;
        let mut state = lock(&self.state);
        while !state.is_done() {
            if !state.has_writer {
                // The writer could not be started, so this thread writes.
                let Some(next) = state.next().filter(|_| is_writable(to)) else {
                    return;
                };
                drop(state);
                self.write_next(to, next);
                state = lock(&self.state);
                continue;
            }
            let waited = self.emptied.wait_timeout(state, FLUSH_CHECK_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            match is_writable(to) {
                true => stuck = Duration::ZERO,
                false => stuck += FLUSH_CHECK_INTERVAL,
            }
            if stuck >= STUCK_TIMEOUT || began.elapsed() >= FLUSH_TIMEOUT {
                return;
            }
        }
    }
}

impl QueueState {
    fn next(&mut self) -> Option<Next> {
        if self.waiting.is_empty() {
            if self.waiting.capacity() > IDLE_CAPACITY {
                self.waiting = VecDeque::new();
            }
            self.full = false;
            let unreported = self.unreported > 0 && !self.failed;
            return unreported.then_some(Next::Note(self.unreported));
        }
        let end = self.waiting.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(self.waiting.len(), |end| end + 1);
        Some(Next::Line(self.waiting.drain(..length).collect()))
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && !self.writing && (self.unreported == 0 || self.failed)
    }
}

fn note(lines: u64) -> String {
    let lines = match lines {
        1 => "1 line of the log was".to_string(),
        lines => format!("{lines} lines of the log were"),
    };
    format!("warn: {lines} dropped: standard error took no more\n")
}

/// Bytes that cannot be written are lost: the reader has closed the pipe, or the disk is full.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        match nix::unistd::write(to, chunk) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Another process has made standard error non-blocking.
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

/// Whether a write would return at once, possibly with an error.
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

    /// Writes all waiting lines, as the writer does.
    fn drain(queue: &Queue, to: BorrowedFd<'_>) {
        loop {
            let Some(next) = lock(&queue.state).next() else {
                return;
            };
            queue.write_next(to, next);
        }
    }

    #[test]
    fn lines_keep_their_order_and_a_note_replaces_dropped_ones() {
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
        assert!(lock(&queue.state).waiting.capacity() <= IDLE_CAPACITY);
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
    fn unwritable_lines_are_counted_and_do_not_spin() {
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
    fn flush_waits_only_while_lines_can_be_written() {
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
        // As if a writer was blocked by the full pipe.
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
    fn note_has_singular_and_plural() {
        assert!(note(1).contains("1 line of the log was dropped"));
        assert!(note(2).contains("2 lines of the log were dropped"));
    }
}
