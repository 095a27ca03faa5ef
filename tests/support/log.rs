//! The log of a running program.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Child;
use std::sync::{Arc, Mutex};

use super::wait_until;

/// Standard error so far, read by a thread.
pub struct Log(Arc<Mutex<String>>);

impl Log {
    pub fn of(child: &mut Child) -> Log {
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *shared.lock().unwrap() += &(line + "\n");
            }
        });
        Log(log)
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// Waits for a line that contains `text`; returns the last one.
    pub fn wait_for(&self, child: &mut Child, text: &str) -> String {
        wait_until(&format!("a line with {text:?} in the log"), || {
            let log = self.text();
            let line = log.lines().rev().find(|line| line.contains(text));
            if let (None, Some(status)) = (line, child.try_wait().unwrap()) {
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
