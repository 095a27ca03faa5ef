//! Telling boards to load their configuration again: `POST /reload` on their management port.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::device::Device;
use super::Central;
use crate::http::client::{Client, Limits, Settings};

/// For one board to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// For all of them: whoever asked waits as long.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(30);
/// So many boards are called at a time.
const AT_ONCE: usize = 32;
/// An answer is a line.
const MAX_ANSWER: u64 = 64 * 1024;
/// A call needs little more than what ureq puts on the stack.
const STACK: usize = if cfg!(debug_assertions) {
    2 << 20
} else {
    512 << 10
};
/// Reloads by those who may not change anything: so many at once, and one a second in the long run.
pub(super) const PACE: (u32, Duration) = (20, Duration::from_secs(1));

/// Calls one board.
pub(super) fn call(device: &Device) -> Result<(), String> {
    let port = device
        .reload_port()
        .ok_or("its management API is off, or its port is not known")?;
    let limits = Limits {
        timeout: PATIENCE,
        body: MAX_ANSWER,
    };
    let client = Client::new(Settings::default(), limits).map_err(|e| e.to_string())?;
    let url = format!("http://{}/reload", device.authority(port));
    let answer = client.post(&url, &[], b"").map_err(|e| e.to_string())?;
    match answer.status {
        200..=299 => Ok(()),
        status => Err(format!("{url}: status {status}{}", said(&answer.body))),
    }
}

/// What an answer in JSON says, after a colon.
fn said(answer: &[u8]) -> String {
    const SHOWN: usize = 300;
    let answer: Option<Value> = serde_json::from_slice(answer).ok();
    let message = answer
        .as_ref()
        .and_then(|answer| answer.get("message")?.as_str());
    match message {
        Some(message) => {
            let words: String = message
                .chars()
                .filter(|c| !c.is_control())
                .take(SHOWN)
                .collect();
            format!(": {words}")
        }
        None => String::new(),
    }
}

/// Calls all of them, some at a time. The outcomes are in the same order.
pub(super) fn call_all(devices: &[Device]) -> Vec<Result<(), String>> {
    let next = AtomicUsize::new(0);
    let deadline = Instant::now() + PATIENCE_FOR_ALL;
    let (tell, told) = mpsc::channel();
    let work = |tell: mpsc::Sender<_>| loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        let Some(device) = devices.get(place) else {
            return;
        };
        let outcome = match Instant::now() < deadline {
            true => call(device),
            false => Err(format!(
                "not tried: the others took longer than {PATIENCE_FOR_ALL:?}"
            )),
        };
        let _ = tell.send((place, outcome));
    };
    let mut outcomes = vec![Err("not tried: no thread was to be had".to_string()); devices.len()];
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(devices.len()) {
            let tell = tell.clone();
            let thread = std::thread::Builder::new()
                .name("reload".into())
                .stack_size(STACK);
            if let Err(error) = thread.spawn_scoped(scope, || work(tell)) {
                log::warn!("cannot start a thread: {error}");
                break;
            }
        }
        drop(tell);
        for (place, outcome) in told {
            if let Some(there) = outcomes.get_mut(place) {
                *there = outcome;
            }
        }
    });
    outcomes
}

/// How many calls are under way that nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Background(AtomicUsize);

impl Background {
    /// Does this in a thread of its own; false if there are too many already.
    pub(super) fn start(
        central: Arc<Central>,
        work: impl FnOnce(&Central) + Send + 'static,
    ) -> bool {
        let done = |central: &Central| central.background.0.fetch_sub(1, Ordering::Relaxed);
        if central.background.0.fetch_add(1, Ordering::Relaxed) >= AT_ONCE {
            done(&central);
            return false;
        }
        let theirs = Arc::clone(&central);
        let thread = std::thread::Builder::new()
            .name("reload".into())
            .stack_size(STACK);
        let started = thread.spawn(move || {
            work(&theirs);
            done(&theirs);
        });
        if started.is_err() {
            done(&central);
        }
        started.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_board_says_is_told() {
        assert_eq!(
            said(br#"{"error":"x","message":"line 1:\n no"}"#),
            ": line 1: no"
        );
        assert_eq!(said(b"no"), "");
    }
}
