//! Calls boards to make them reload their configuration: `POST /reload` on the management port.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::device::Device;
use super::ConfigServer;
use crate::config::load_settings;
use crate::config::ClientSettings as Settings;
use crate::http::client::{Answer, Client, Limits};
use crate::sys::{lock, printable};
use crate::wire::DeviceId;

/// The timeout of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for calls to all boards. The client of `/devices/reload` waits as long.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// The most concurrent calls.
const MAX_CONCURRENT_CALLS: usize = 32;
/// The limits of a call. A response is one line.
const LIMITS: Limits = Limits {
    timeout: CALL_TIMEOUT,
    body: 64 * 1024,
};
/// The stack of a calling thread. A call needs little more than ureq puts on the stack.
const STACK: usize = if cfg!(debug_assertions) {
    2 << 20
} else {
    512 << 10
};
/// The limit of reloads by clients that may not change anything: a burst, and the interval for one more.
pub(super) const RELOAD_RATE: (u32, Duration) = (20, Duration::from_secs(1));

/// How often a board is called that answers 429.
const MAX_ATTEMPTS: usize = 10;
/// The longest wait before another call.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Why a board did not reload its configuration. `Display` is the whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallError {
    why: String,
    /// The board did not answer as an exporter does, so its status is unknown.
    pub(super) is_unreachable: bool,
    /// The board asks for another call after this time.
    retry_after: Option<Duration>,
}

impl CallError {
    fn unreachable(why: impl fmt::Display) -> CallError {
        CallError {
            why: why.to_string(),
            is_unreachable: true,
            retry_after: None,
        }
    }

    /// The board was not called.
    fn not_tried(why: impl fmt::Display) -> CallError {
        CallError {
            is_unreachable: false,
            ..CallError::unreachable(why)
        }
    }

    /// The board did not answer with success. It may require a login, refuse its configuration, or have reloaded just now.
    fn refused(url: &str, answer: &Answer) -> CallError {
        let seconds = answer.header("Retry-After").and_then(|s| s.parse().ok());
        let pause = seconds.map_or(Duration::from_secs(1), Duration::from_secs);
        CallError {
            why: format!(
                "{url}: status {}{}",
                answer.status,
                message_of(&answer.body)
            ),
            is_unreachable: !matches!(answer.status, 401 | 403 | 422 | 429),
            retry_after: (answer.status == 429).then(|| pause.min(MAX_RETRY_DELAY)),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Reads the HTTP client settings for boards. The error is a message for the user.
pub(super) fn settings(file: Option<&Path>, allow_remote: bool) -> Result<Settings, String> {
    let Some(file) = file else {
        return Ok(Settings::default());
    };
    let invalid = |why: &dyn fmt::Display| format!("--boards.http.config.file: {why}");
    let settings = load_settings(file).map_err(|why| invalid(&why))?;
    let has_credentials = settings.basic_auth.is_some()
        || settings.authorization.is_some()
        || !settings.headers.is_empty();
    if allow_remote && has_credentials {
        let why = "with --management.allow-remote anybody can register a board, and be shown the login that is in it";
        return Err(invalid(&why));
    }
    let client = Client::new(settings.clone(), LIMITS).map_err(|e| invalid(&e))?;
    let scheme = if cfg!(feature = "tls") {
        "https"
    } else {
        "http"
    };
    client
        .check(&format!("{scheme}://localhost/"))
        .map_err(|e| invalid(&e))?;
    Ok(settings)
}

/// The outcome of a call.
pub(super) type Outcome = Result<(), CallError>;

/// Calls one board.
pub(super) fn call(settings: &Settings, device: &Device) -> Outcome {
    let port = device.reload_port().ok_or_else(|| {
        CallError::not_tried("its management API is off, or its port is not known")
    })?;
    let client = Client::new(settings.clone(), LIMITS).map_err(CallError::not_tried)?;
    let url = format!("{}://{}/reload", device.scheme(), device.authority(port));
    let answer = client
        .post(&url, &[], b"")
        .map_err(CallError::unreachable)?;
    match answer.status {
        200..=299 => Ok(()),
        _ => Err(CallError::refused(&url, &answer)),
    }
}

/// Calls one board, again if it answers 429: the last change must reach the board.
pub(super) fn call_with_retries(settings: &Settings, device: &Device) -> Outcome {
    let mut outcome = call(settings, device);
    for _ in 1..MAX_ATTEMPTS {
        match &outcome {
            Err(CallError {
                retry_after: Some(pause),
                ..
            }) => std::thread::sleep(*pause),
            _ => break,
        }
        outcome = call(settings, device);
    }
    outcome
}

/// The message in a JSON response, after a colon.
fn message_of(answer: &[u8]) -> String {
    const MAX_CHARS: usize = 300;
    let answer: Option<Value> = serde_json::from_slice(answer).ok();
    let message = answer
        .as_ref()
        .and_then(|answer| answer.get("message")?.as_str());
    match message {
        Some(message) => format!(": {}", printable(message, MAX_CHARS)),
        None => String::new(),
    }
}

/// Calls all devices, some at a time. The outcomes are in the order of the devices.
pub(super) fn call_all(settings: &Settings, devices: &[Device]) -> Vec<Outcome> {
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    call_each(devices, &|device| match Instant::now() < deadline {
        true => call(settings, device),
        false => Err(CallError::not_tried(format!(
            "not tried: the others took longer than {TOTAL_TIMEOUT:?}"
        ))),
    })
}

/// The same, however long it takes: the last change must reach the boards.
pub(super) fn call_members(settings: &Settings, devices: &[Device]) -> Vec<Outcome> {
    call_each(devices, &|device| call_with_retries(settings, device))
}

fn call_each(devices: &[Device], call: &(dyn Fn(&Device) -> Outcome + Sync)) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let work = |sender: mpsc::Sender<_>| loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(device) = devices.get(index) else {
            return;
        };
        let _ = sender.send((index, call(device)));
    };
    let not_tried = CallError::not_tried("not tried: no thread was to be had");
    let mut outcomes = vec![Err(not_tried); devices.len()];
    std::thread::scope(|scope| {
        for _ in 0..MAX_CONCURRENT_CALLS.min(devices.len()) {
            let sender = sender.clone();
            let thread = std::thread::Builder::new()
                .name("reload".into())
                .stack_size(STACK);
            if let Err(error) = thread.spawn_scoped(scope, || work(sender)) {
                log::warn!("cannot start a thread: {error}");
                break;
            }
        }
        drop(sender);
        for (index, outcome) in receiver {
            if let Some(slot) = outcomes.get_mut(index) {
                *slot = outcome;
            }
        }
    });
    outcomes
}

/// The background calls under way: their devices, and whether another call was requested meanwhile.
#[derive(Debug, Default)]
pub(super) struct BackgroundCalls(Mutex<HashMap<DeviceId, bool>>);

impl BackgroundCalls {
    /// Does `work` for the device in a thread of its own, and once more if `start` is called for the device meanwhile. False:
    /// there are too many calls already.
    pub(super) fn start(
        server: &Arc<ConfigServer>,
        id: &DeviceId,
        work: impl Fn(&ConfigServer, &DeviceId) + Send + 'static,
    ) -> bool {
        let mut all = lock::lock(&server.background_calls.0);
        if let Some(again) = all.get_mut(id) {
            *again = true;
            return true;
        }
        if all.len() >= MAX_CONCURRENT_CALLS {
            return false;
        }
        all.insert(id.clone(), false);
        drop(all);
        let owned = (Arc::clone(server), id.clone());
        let thread = std::thread::Builder::new()
            .name("reload".into())
            .stack_size(STACK);
        let started = thread.spawn(move || {
            let (server, id) = owned;
            loop {
                work(&server, &id);
                if server.background_calls.finish(&id) {
                    return;
                }
            }
        });
        if started.is_err() {
            lock::lock(&server.background_calls.0).remove(id);
        }
        started.is_ok()
    }

    /// Ends the device's call, unless another one was requested. Returns whether it ended.
    fn finish(&self, id: &DeviceId) -> bool {
        let mut all = lock::lock(&self.0);
        let again = all.get_mut(id).is_some_and(std::mem::take);
        if !again {
            all.remove(id);
        }
        !again
    }
}

/// The boards that are to be called because a group has changed. One thread at a time calls them.
#[derive(Debug, Default)]
pub(super) struct MemberCalls(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    ids: HashSet<DeviceId>,
    is_running: bool,
}

impl MemberCalls {
    /// Does `work` for the boards in a thread of its own, and once more for those that come meanwhile.
    pub(super) fn start(
        server: &Arc<ConfigServer>,
        ids: Vec<DeviceId>,
        work: impl Fn(&ConfigServer, &HashSet<DeviceId>) + Send + 'static,
    ) {
        let mut waiting = lock::lock(&server.member_calls.0);
        waiting.ids.extend(ids);
        if waiting.ids.is_empty() || std::mem::replace(&mut waiting.is_running, true) {
            return;
        }
        drop(waiting);
        let owned = Arc::clone(server);
        let thread = std::thread::Builder::new()
            .name("reload".into())
            .stack_size(STACK);
        let started = thread.spawn(move || {
            while let Some(ids) = owned.member_calls.take() {
                work(&owned, &ids);
            }
        });
        if let Err(error) = started {
            log::warn!("cannot start a thread: {error}: boards are not told to reload their configurations");
            *lock::lock(&server.member_calls.0) = Waiting::default();
        }
    }

    /// The boards that wait; `None`: there are none, and the thread ends.
    fn take(&self) -> Option<HashSet<DeviceId>> {
        let mut waiting = lock::lock(&self.0);
        let ids = std::mem::take(&mut waiting.ids);
        waiting.is_running = !ids.is_empty();
        waiting.is_running.then_some(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_a_board_is_shown() {
        assert_eq!(
            message_of(br#"{"error":"x","message":"line 1:\n no"}"#),
            ": line 1: no"
        );
        assert_eq!(message_of(b"no"), "");
    }
}
