//! The log of a running program.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr};
use std::sync::{Arc, Mutex};

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::wait_until;

/// Standard error so far. A thread empties the pipe, so that the program never waits for its log to be read.
pub struct Log(Arc<Mutex<Pipe>>);

struct Pipe {
    stderr: ChildStderr,
    bytes: Vec<u8>,
    is_closed: bool,
}

impl Pipe {
    /// Reads all that the program has written.
    fn drain(&mut self) {
        let result = self.stderr.read_to_end(&mut self.bytes);
        self.is_closed = !matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock);
    }
}

impl Log {
    pub fn of(child: &mut Child) -> Log {
        let stderr = child.stderr.take().unwrap();
        fcntl(&stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let readable = stderr.as_fd().try_clone_to_owned().unwrap();
        let log = Arc::new(Mutex::new(Pipe {
            stderr,
            bytes: Vec::new(),
            is_closed: false,
        }));
        let shared = Arc::clone(&log);
        std::thread::spawn(move || loop {
            let mut fds = [PollFd::new(readable.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            let mut pipe = shared.lock().unwrap();
            pipe.drain();
            if pipe.is_closed {
                break;
            }
        });
        Log(log)
    }

    /// The lines that the program has written by now, among them those from before an answer that the test has seen. A
    /// line that is still being written is left out.
    pub fn text(&self) -> String {
        let mut pipe = self.0.lock().unwrap();
        pipe.drain();
        let end = match pipe.is_closed {
            true => pipe.bytes.len(),
            false => pipe
                .bytes
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |at| at + 1),
        };
        String::from_utf8_lossy(&pipe.bytes[..end]).into_owned()
    }

    /// Waits for a line that contains `text`; returns the last one.
    pub fn wait_for(&self, child: &mut Child, text: &str) -> String {
        wait_until(&format!("a line with {text:?} in the log"), || {
            let ended = child.try_wait().unwrap();
            let log = self.text();
            let line = log.lines().rev().find(|line| line.contains(text));
            if let (None, Some(status)) = (line, ended) {
                panic!("it ended with {status} before it said {text:?}:\n{log}");
            }
            line.map(str::to_string)
        })
    }

    /// The latest address in the log on which the port of this name listens.
    pub fn address(&self, child: &mut Child, name: &str) -> SocketAddr {
        let line = self.wait_for(child, &format!("{name}: listening on http"));
        let (_, address) = line.rsplit_once("://").unwrap();
        address.trim_end_matches('/').parse().unwrap()
    }
}
