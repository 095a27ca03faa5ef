//! The central server, as a board sees it: asks for the board's configuration, and tells it what was changed here.
//!
//! Who wins when both changed something: the server's configuration counts whole, but what was switched here and is not told
//! yet goes before it, metric by metric. Telling is GET, merge, PUT with `If-Match`, again if somebody was quicker.

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
use crate::config::shown;
use crate::config::MAX_SIZE;
use crate::http::client::{Client, Limits};
use crate::sys::lock;
use crate::wire::{DeviceId, Ports, Report};

/// An answer is a configuration as JSON, with its spaces.
const MAX_ANSWER: u64 = 4 * MAX_SIZE as u64;

/// The central server.
pub struct Remote {
    client: Client,
    /// The board's configuration, on each of the servers.
    urls: Vec<String>,
    /// The server that answered last.
    current: AtomicUsize,
    /// Held while the server is asked and what it says is taken over, so that no older answer comes after a newer one.
    turn: Mutex<()>,
    state: Mutex<State>,
    bell: OnceLock<Bell>,
    unsent: Option<std::path::PathBuf>,
}

type Bell = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    report: Report,
    /// What there is to report that the server has not been told.
    unreported: bool,
    known: Option<Known>,
    /// The server has no configuration of this board.
    unregistered: bool,
    pending: Pending,
    /// What of it is in the file.
    kept: Pending,
    /// Whether the last question was answered.
    answered: bool,
    /// Whether that was by a configuration that is none.
    wrong: bool,
}

/// A configuration that the server gave us.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    tag: Option<String>,
    document: Document,
}

/// How it stands with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether its last answer was one.
    pub answered: bool,
    /// Metrics whose state it has not been told.
    pub unsent: usize,
    /// Whether it is to be asked or told something as soon as it can be.
    pub work: bool,
}

impl Remote {
    /// The server of these settings, for the board of this name; `None`, if they name none. What could not be told before
    /// a restart is found beside `file`. The error is for people.
    pub fn new(
        settings: &ConfigServer,
        device: &str,
        file: Option<&Path>,
    ) -> Result<Option<Remote>, String> {
        if settings.urls.is_empty() {
            return Ok(None);
        }
        let id = DeviceId::parse(device).map_err(|why| {
            format!("the board's name {device:?} is none that the central server can know: {why} (set `hostname`)")
        })?;
        let limits = Limits {
            // All of them together within the time.
            timeout: settings.timeout / u32::try_from(settings.urls.len()).unwrap_or(u32::MAX),
            body: MAX_ANSWER,
        };
        let client = Client::new(settings.client.clone(), limits).map_err(|e| e.to_string())?;
        let unsent = file.and_then(Pending::file_beside);
        let pending = unsent.as_deref().map(Pending::load).unwrap_or_default();
        if !pending.is_empty() {
            log::info!("changes of before the restart are still to be told to the central server");
        }
        let state = State {
            report: Report {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Report::default()
            },
            kept: pending.clone(),
            pending,
            ..State::default()
        };
        Ok(Some(Remote {
            client,
            urls: settings
                .urls
                .iter()
                .map(|url| format!("{}/config/{id}", url.trim_end_matches('/')))
                .collect(),
            current: AtomicUsize::new(0),
            turn: Mutex::default(),
            state: Mutex::new(state),
            bell: OnceLock::new(),
            unsent,
        }))
    }

    /// Where the board's configuration is.
    pub fn url(&self) -> &str {
        shown(self.whole_url())
    }

    /// With whatever the user wrote into it.
    fn whole_url(&self) -> &str {
        let current = self.current.load(Ordering::Relaxed) % self.urls.len().max(1);
        self.urls.get(current).map_or("", String::as_str)
    }

    /// Has this called whenever there is something to do.
    pub fn on_work(&self, bell: impl Fn() + Send + Sync + 'static) {
        let _ = self.bell.set(Box::new(bell));
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let state = lock::lock(&self.state);
        let unsent = state.pending.switched.len() + state.pending.found.len();
        Standing {
            answered: state.answered,
            unsent,
            work: unsent > 0
                || state.unregistered
                || state.unreported
                || !state.answered
                || state.wrong,
        }
    }

    /// For whoever asks and then takes over what was said.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        lock::lock(&self.turn)
    }

    /// The board listens there now, by TLS or not, and is of this kind.
    pub fn listens_at(&self, ports: Ports, tls: bool, device_type: &str) {
        self.report(|report| {
            report.ports = Some(ports);
            report.tls = tls;
            report.device_type = Some(device_type.to_owned());
        });
    }

    /// The server's configuration was refused, or taken.
    pub(super) fn refused(&self, why: Option<String>) {
        self.report(|report| report.refused = why);
    }

    /// The board is degraded for this reason, or is not. Another reason alone can wait for the next question.
    pub fn degraded(&self, why: Option<String>) {
        let mut state = lock::lock(&self.state);
        let is_new = state.report.degraded.is_some() != why.is_some();
        state.report.degraded = why;
        state.unreported |= is_new;
        drop(state);
        if is_new {
            self.ring();
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
            self.ring();
        }
    }

    /// Metrics were switched, or found.
    pub(super) fn changed(&self, changes: &Switches, found: bool) {
        lock::lock(&self.state).pending.add(changes, found);
        self.ring();
    }

    /// What the server gave last, with what it has not been told.
    pub(super) fn last(&self, selection: Option<&Switches>) -> Option<Document> {
        let state = lock::lock(&self.state);
        let mut document = state.known.as_ref()?.document.clone();
        state.pending.merge_into(&mut document, selection);
        Some(document)
    }

    fn was_told(&self, told: &Pending) {
        let count = told.switched.len();
        if count > 0 {
            log::info!("{count} switched metrics told to the central server");
        }
        lock::lock(&self.state).pending.told(told);
        self.keep();
    }

    /// Keeps what could not be told in a file, so that it outlasts a restart.
    pub(super) fn keep(&self) {
        let Some(path) = &self.unsent else {
            return;
        };
        let mut state = lock::lock(&self.state);
        if state.pending == state.kept {
            return;
        }
        let now = state.pending.clone();
        match now.save(path) {
            Ok(()) => state.kept = now,
            Err(error) => log::debug!("cannot keep {}: {error}", path.display()),
        }
    }
}

/// How long to wait for the next question, if there is one each `every`: not all boards at once.
pub fn jittered(every: Duration) -> Duration {
    use std::hash::BuildHasher;
    // The standard library's hash keys are the system's random numbers.
    let random = std::collections::hash_map::RandomState::new().hash_one(0u8) % 1024;
    every - every / 10 + every / 5120 * random as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_all_boards_ask_at_one_moment() {
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
    fn a_board_needs_a_name_that_the_server_can_know() {
        let settings = ConfigServer {
            urls: vec!["http://127.0.0.1:1/".into()],
            ..ConfigServer::default()
        };
        let remote = Remote::new(&settings, "edge-01", None).unwrap().unwrap();
        assert_eq!(remote.url(), "http://127.0.0.1:1/config/edge-01");
        let standing = remote.standing();
        assert_eq!(
            (standing.answered, standing.unsent, standing.work),
            (false, 0, true)
        );
        let error = Remote::new(&settings, "../x", None).err().unwrap();
        assert!(error.contains("set `hostname`"), "{error}");
        let none = Remote::new(&ConfigServer::default(), "../x", None);
        assert!(none.unwrap().is_none());
    }
}
