//! What a running program says.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Child;
use std::sync::{Arc, Mutex};

use super::wait_until;

/// The lines of its standard error so far, read by a thread.
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

    /// The last line that holds `text`, waited for.
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

    /// The address that the port of this name was last said to listen on.
    pub fn address(&self, child: &mut Child, name: &str) -> SocketAddr {
        let line = self.wait_for(child, &format!("{name}: listening on http"));
        let (_, address) = line.rsplit_once("://").unwrap();
        address.trim_end_matches('/').parse().unwrap()
    }
}
