//! Telling boards to load their configuration again: `POST /reload` on their management port.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::device::Device;
use super::Central;
use crate::config::load_settings;
use crate::config::ClientSettings as Settings;
use crate::http::client::{Answer, Client, Limits};
use crate::sys::lock;
use crate::wire::DeviceId;

/// For one board to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// For all of them: whoever asked waits as long.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(30);
/// So many boards are called at a time.
const AT_ONCE: usize = 32;
/// An answer is a line.
const LIMITS: Limits = Limits {
    timeout: PATIENCE,
    body: 64 * 1024,
};
/// A call needs little more than what ureq puts on the stack.
const STACK: usize = if cfg!(debug_assertions) {
    2 << 20
} else {
    512 << 10
};
/// Reloads by those who may not change anything: so many at once, and one a second in the long run.
pub(super) const PACE: (u32, Duration) = (20, Duration::from_secs(1));

/// How often a board is told anew that takes no more reloads at the moment, and how long that is waited for.
const TRIES: usize = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a board did not load its configuration again. `Display` is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    why: String,
    /// Whether it gave no answer that an exporter gives: then nobody knows how it is.
    pub(super) silent: bool,
    /// It asks to be told again after so long.
    again: Option<Duration>,
}

impl Failed {
    fn silent(why: impl fmt::Display) -> Failed {
        Failed {
            why: why.to_string(),
            silent: true,
            again: None,
        }
    }

    /// It was not even called.
    fn untried(why: impl fmt::Display) -> Failed {
        Failed {
            silent: false,
            ..Failed::silent(why)
        }
    }

    /// It answered, but not that it does so. It may want a login, be given something that it refuses, or have done so just now.
    fn refused(url: &str, answer: &Answer) -> Failed {
        let seconds = answer.header("Retry-After").and_then(|s| s.parse().ok());
        let pause = seconds.map_or(Duration::from_secs(1), Duration::from_secs);
        Failed {
            why: format!("{url}: status {}{}", answer.status, said(&answer.body)),
            silent: !matches!(answer.status, 401 | 403 | 422 | 429),
            again: (answer.status == 429).then(|| pause.min(LONGEST_PAUSE)),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// How boards are called, as this file says. The error is for people.
pub(super) fn settings(file: Option<&Path>, allow_remote: bool) -> Result<Settings, String> {
    let Some(file) = file else {
        return Ok(Settings::default());
    };
    let wrong = |why: &dyn fmt::Display| format!("--boards.http.config.file: {why}");
    let settings = load_settings(file).map_err(|why| wrong(&why))?;
    let shows = settings.basic_auth.is_some()
        || settings.authorization.is_some()
        || !settings.headers.is_empty();
    if allow_remote && shows {
        let why = "with --management.allow-remote anybody can register a board, and be shown the login that is in it";
        return Err(wrong(&why));
    }
    let client = Client::new(settings.clone(), LIMITS).map_err(|e| wrong(&e))?;
    let scheme = if cfg!(feature = "tls") {
        "https"
    } else {
        "http"
    };
    client
        .check(&format!("{scheme}://localhost/"))
        .map_err(|e| wrong(&e))?;
    Ok(settings)
}

/// What became of a call.
pub(super) type Outcome = Result<(), Failed>;

/// Calls one board.
pub(super) fn call(settings: &Settings, device: &Device) -> Outcome {
    let port = device
        .reload_port()
        .ok_or_else(|| Failed::untried("its management API is off, or its port is not known"))?;
    let client = Client::new(settings.clone(), LIMITS).map_err(Failed::untried)?;
    let url = format!("{}://{}/reload", device.scheme(), device.authority(port));
    let answer = client.post(&url, &[], b"").map_err(Failed::silent)?;
    match answer.status {
        200..=299 => Ok(()),
        _ => Err(Failed::refused(&url, &answer)),
    }
}

/// Calls one board, and once more where it is told too often at the moment: what was changed last is to arrive.
pub(super) fn call_until_heard(settings: &Settings, device: &Device) -> Outcome {
    let mut outcome = call(settings, device);
    for _ in 1..TRIES {
        match &outcome {
            Err(Failed {
                again: Some(pause), ..
            }) => std::thread::sleep(*pause),
            _ => break,
        }
        outcome = call(settings, device);
    }
    outcome
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
pub(super) fn call_all(settings: &Settings, devices: &[Device]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let deadline = Instant::now() + PATIENCE_FOR_ALL;
    let (tell, told) = mpsc::channel();
    let work = |tell: mpsc::Sender<_>| loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        let Some(device) = devices.get(place) else {
            return;
        };
        let outcome = match Instant::now() < deadline {
            true => call(settings, device),
            false => Err(Failed::untried(format!(
                "not tried: the others took longer than {PATIENCE_FOR_ALL:?}"
            ))),
        };
        let _ = tell.send((place, outcome));
    };
    let untried = Failed::untried("not tried: no thread was to be had");
    let mut outcomes = vec![Err(untried); devices.len()];
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

/// The calls under way that nobody waits for: of which devices, and whether these are to be called once more.
#[derive(Debug, Default)]
pub(super) struct Background(Mutex<HashMap<DeviceId, bool>>);

impl Background {
    /// Does this for the device in a thread of its own, and once more if it is asked for meanwhile; false if there are too
    /// many already.
    pub(super) fn start(
        central: &Arc<Central>,
        id: &DeviceId,
        work: impl Fn(&Central, &DeviceId) + Send + 'static,
    ) -> bool {
        let mut all = lock::lock(&central.background.0);
        if let Some(again) = all.get_mut(id) {
            *again = true;
            return true;
        }
        if all.len() >= AT_ONCE {
            return false;
        }
        all.insert(id.clone(), false);
        drop(all);
        let theirs = (Arc::clone(central), id.clone());
        let thread = std::thread::Builder::new()
            .name("reload".into())
            .stack_size(STACK);
        let started = thread.spawn(move || {
            let (central, id) = theirs;
            loop {
                work(&central, &id);
                if central.background.is_done(&id) {
                    return;
                }
            }
        });
        if started.is_err() {
            lock::lock(&central.background.0).remove(id);
        }
        started.is_ok()
    }

    /// Whether nobody has asked for the device again.
    fn is_done(&self, id: &DeviceId) -> bool {
        let mut all = lock::lock(&self.0);
        let again = all.get_mut(id).is_some_and(std::mem::take);
        if !again {
            all.remove(id);
        }
        !again
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
