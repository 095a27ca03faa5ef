//! Waiting for a condition, however busy the machine is.

use std::time::{Duration, Instant};

/// Long enough for a busy machine, short enough to fail while somebody watches.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Repeats `attempt` until it returns something.
pub fn wait_until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
