//! Client of the central server: fetches the board's configuration and sends changes made on the board.
//!
//! If both sides have changed: the server's configuration applies as a whole, except for metrics that were switched on the
//! board and not sent yet, which take precedence one by one. Changes are sent by GET, merge, PUT with `If-Match`, and a retry
//! if another client has changed the configuration meanwhile.

mod exchange;
mod pending;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

pub(in crate::store) use exchange::Fetched;
use pending::{Pending, Switches};

use crate::config::central::ConfigServer;
use crate::config::document::Document;
use crate::config::url_without_secrets;
use crate::config::MAX_SIZE;
use crate::http::client::{Client, Limits};
use crate::sys::lock;
use crate::wire::{DeviceId, Ports, PowerReading, Report};

/// The largest response: a configuration as indented JSON.
const MAX_RESPONSE: u64 = 4 * MAX_SIZE as u64;

/// The central server.
pub struct CentralServer {
    client: Client,
    /// The URL of the board's configuration on each server.
    urls: Vec<String>,
    /// The index of the server that answered last.
    current: AtomicUsize,
    /// Held from a request until its result is applied, so that an older answer is not applied after a newer one.
    exchange_lock: Mutex<()>,
    state: Mutex<State>,
    on_work: OnceLock<Callback>,
    /// Reads what the board draws, for the next request.
    power: OnceLock<ReadPower>,
    /// The file for changes that could not be sent yet.
    unsent: Option<std::path::PathBuf>,
}

type Callback = Box<dyn Fn() + Send + Sync>;
type ReadPower = Box<dyn Fn() -> Option<PowerReading> + Send + Sync>;

#[derive(Default)]
struct State {
    report: Report,
    /// Whether the report has changed since the last request.
    unreported: bool,
    cached: Option<CachedConfig>,
    /// Whether the server has no configuration of this board.
    unregistered: bool,
    pending: Pending,
    /// The pending changes as last saved to the file.
    saved: Pending,
    /// Whether the last request was answered.
    answered: bool,
    /// Whether the answer was an invalid configuration.
    invalid: bool,
}

/// The last configuration from the server, with its `ETag`.
#[derive(Debug, Clone, PartialEq)]
struct CachedConfig {
    tag: Option<String>,
    document: Document,
}

/// The status of the exchange with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerStatus {
    /// Whether the last request was answered.
    pub answered: bool,
    /// The number of changed metrics that were not sent yet.
    pub unsent: usize,
    /// Whether the server should be contacted as soon as possible.
    pub has_work: bool,
}

impl CentralServer {
    /// Creates the client for the board of this name; `None` if the settings have no URL. Changes that could not be sent
    /// before a restart are loaded from beside `file`. The error is a message for the user.
    pub fn new(
        settings: &ConfigServer,
        device: &str,
        file: Option<&Path>,
    ) -> Result<Option<CentralServer>, String> {
        if settings.urls.is_empty() {
            return Ok(None);
        }
        let id = DeviceId::parse(device).map_err(|why| {
            format!(
                "the config server cannot use the board's name {device:?}: {why} (set `hostname`)"
            )
        })?;
        let limits = Limits {
            // All servers together are tried within the timeout.
            timeout: settings.timeout / u32::try_from(settings.urls.len()).unwrap_or(u32::MAX),
            body: MAX_RESPONSE,
        };
        let client = Client::new(settings.client.clone(), limits).map_err(|e| e.to_string())?;
        let unsent = file.and_then(Pending::file_beside);
        let pending = unsent.as_deref().map(Pending::load).unwrap_or_default();
        if !pending.is_empty() {
            log::info!(
                "changes from before the restart have not been sent to the config server yet"
            );
        }
        let state = State {
            report: Report {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Report::default()
            },
            saved: pending.clone(),
            pending,
            ..State::default()
        };
        Ok(Some(CentralServer {
            client,
            urls: settings
                .urls
                .iter()
                .map(|url| format!("{}/config/{id}", url.trim_end_matches('/')))
                .collect(),
            current: AtomicUsize::new(0),
            exchange_lock: Mutex::default(),
            state: Mutex::new(state),
            on_work: OnceLock::new(),
            power: OnceLock::new(),
            unsent,
        }))
    }

    /// The URL of the board's configuration, without secrets.
    pub fn url(&self) -> &str {
        url_without_secrets(self.url_with_secrets())
    }

    /// The URL as configured.
    fn url_with_secrets(&self) -> &str {
        let current = self.current.load(Ordering::Relaxed) % self.urls.len().max(1);
        self.urls.get(current).map_or("", String::as_str)
    }

    /// Sets the callback for when the server should be contacted.
    pub fn on_work(&self, on_work: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_work.set(Box::new(on_work));
    }

    /// Sets what reads the power that each request tells the server.
    pub fn report_power(&self, read: impl Fn() -> Option<PowerReading> + Send + Sync + 'static) {
        let _ = self.power.set(Box::new(read));
    }

    fn notify(&self) {
        if let Some(on_work) = self.on_work.get() {
            on_work();
        }
    }

    /// The current status.
    pub fn status(&self) -> ServerStatus {
        let state = lock::lock(&self.state);
        let unsent = state.pending.switched.len() + state.pending.found.len();
        ServerStatus {
            answered: state.answered,
            unsent,
            has_work: unsent > 0
                || state.unregistered
                || state.unreported
                || !state.answered
                || state.invalid,
        }
    }

    /// The lock that is held from a request until its result is applied.
    pub(super) fn lock_exchange(&self) -> MutexGuard<'_, ()> {
        lock::lock(&self.exchange_lock)
    }

    /// Reports the board's ports, whether they use TLS, and its device type.
    pub fn set_ports(&self, ports: Ports, tls: bool, device_type: &str) {
        self.report(|report| {
            report.ports = Some(ports);
            report.tls = tls;
            report.device_type = Some(device_type.to_owned());
        });
    }

    /// Reports why the server's configuration was rejected, or that it was applied.
    pub(super) fn set_refusal(&self, why: Option<String>) {
        self.report(|report| report.refused = why);
    }

    /// Reports why the board is degraded, if so. A mere change of the reason waits for the next request.
    pub fn set_degraded(&self, why: Option<String>) {
        let mut state = lock::lock(&self.state);
        let is_new = state.report.degraded.is_some() != why.is_some();
        state.report.degraded = why;
        state.unreported |= is_new;
        drop(state);
        if is_new {
            self.notify();
        }
    }

    fn report(&self, change: impl FnOnce(&mut Report)) {
        let mut state = lock::lock(&self.state);
        let before = state.report.clone();
        change(&mut state.report);
        let is_new = state.report != before;
        state.unreported |= is_new;
        drop(state);
        if is_new {
            self.notify();
        }
    }

    /// Adds switched or found metrics to the pending changes.
    pub(super) fn add_changes(&self, changes: &Switches, found: bool) {
        lock::lock(&self.state).pending.add(changes, found);
        self.notify();
    }

    /// The server's latest configuration, with the pending changes.
    pub(super) fn latest(&self, selection: Option<&Switches>) -> Option<Document> {
        let state = lock::lock(&self.state);
        let mut document = state.cached.as_ref()?.document.clone();
        state.pending.merge_into(&mut document, selection);
        Some(document)
    }

    fn mark_sent(&self, sent: &Pending) {
        let count = sent.switched.len();
        if count > 0 {
            log::info!("{count} switched metrics sent to the config server");
        }
        lock::lock(&self.state).pending.remove_sent(sent);
        self.save_pending();
    }

    /// Saves the pending changes to a file, so that they survive a restart.
    pub(super) fn save_pending(&self) {
        let Some(path) = &self.unsent else {
            return;
        };
        let mut state = lock::lock(&self.state);
        if state.pending == state.saved {
            return;
        }
        let now = state.pending.clone();
        match now.save(path) {
            Ok(()) => state.saved = now,
            Err(error) => log::debug!("cannot keep {}: {error}", path.display()),
        }
    }
}

/// Adds a jitter of 10 % to an interval, so that not all boards send requests at the same time.
pub fn jittered(every: Duration) -> Duration {
    use std::hash::BuildHasher;
    // The keys of the standard library's hasher are random numbers from the system.
    let random = std::collections::hash_map::RandomState::new().hash_one(0u8) % 1024;
    every - every / 10 + every / 5120 * random as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_spread_by_ten_percent() {
        let minute = Duration::from_secs(60);
        let mut all: Vec<_> = (0..100).map(|_| jittered(minute)).collect();
        assert!(all
            .iter()
            .all(|wait| *wait >= minute * 9 / 10 && *wait <= minute * 11 / 10));
        all.sort();
        all.dedup();
        assert!(all.len() > 50);
    }

    #[test]
    fn invalid_device_names_are_rejected() {
        let settings = ConfigServer {
            urls: vec!["http://127.0.0.1:1/".into()],
            ..ConfigServer::default()
        };
        let remote = CentralServer::new(&settings, "edge-01", None)
            .unwrap()
            .unwrap();
        assert_eq!(remote.url(), "http://127.0.0.1:1/config/edge-01");
        let status = remote.status();
        assert_eq!(
            (status.answered, status.unsent, status.has_work),
            (false, 0, true)
        );
        let error = CentralServer::new(&settings, "../x", None).err().unwrap();
        assert!(error.contains("set `hostname`"), "{error}");
        let none = CentralServer::new(&ConfigServer::default(), "../x", None);
        assert!(none.unwrap().is_none());
    }
}
