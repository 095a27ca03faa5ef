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
}

impl Pipe {
    /// Reads all that the program has written. Returns false once the pipe is closed.
    fn drain(&mut self) -> bool {
        match self.stderr.read_to_end(&mut self.bytes) {
            Ok(_) => false,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
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
        }));
        let shared = Arc::clone(&log);
        std::thread::spawn(move || loop {
            let mut fds = [PollFd::new(readable.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            if !shared.lock().unwrap().drain() {
                break;
            }
        });
        Log(log)
    }

    /// All that the program has written by now. What it logged before an answer that the test has seen is in it.
    pub fn text(&self) -> String {
        let mut pipe = self.0.lock().unwrap();
        pipe.drain();
        String::from_utf8_lossy(&pipe.bytes).into_owned()
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
