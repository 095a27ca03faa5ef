//! The configuration in force, its source, the last rejected configuration, and what could not be saved.
//!
//! All changes go through the store, one at a time: a metric is switched, new metrics are found, the file is reloaded. The
//! caller gets the outcome once the change is in force. The store decides on the configuration and writes the file. Each new
//! configuration is proposed to the supervisor, which applies it as a whole or rejects it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use crate::config::diagnose::Origin;
use crate::config::document::Document;
use crate::config::load::{self, Loaded};
use crate::config::model::Config;
use crate::sys::clock::wall_seconds;
use crate::sys::lock;

mod central_server;
mod config_source;
mod file;
mod proposal;
mod selection;
mod server_sync;
mod watch;

pub use central_server::{jittered, CentralServer, ServerStatus};
pub use config_source::ConfigSource;
pub use file::{selects_metrics, set_metrics, update, SaveError, Update};
pub use proposal::{Change, Proposal};
pub use selection::SelectError;
pub use watch::FileWatch;

/// Hands a proposal to the supervisor.
type Propose = Box<dyn Fn(Proposal) + Send + Sync>;

/// Holds the configuration in force and makes all changes to it.
pub struct Store {
    configuration: ConfigSource,
    /// The central server, whose configuration takes precedence.
    remote: Option<CentralServer>,
    propose: Propose,
    /// Held while a change is being made.
    change_lock: Mutex<()>,
    state: RwLock<State>,
}

struct State {
    config: Arc<Config>,
    origin: Origin,
    /// The content of the file when it was last loaded or saved.
    text: Vec<u8>,
    loaded_at: i64,
    refusal: Option<RejectedConfig>,
    unsaved: Option<UnsavedMetrics>,
    /// The central server's configuration that was last applied or rejected.
    followed: Option<Document>,
}

impl State {
    /// Records the configuration that is in force now.
    fn set_current(&mut self, config: Arc<Config>, origin: Origin, text: Vec<u8>) {
        self.config = config;
        self.origin = origin;
        self.text = text;
        self.loaded_at = wall_seconds();
        self.refusal = None;
    }

    /// Records why a configuration was rejected.
    fn set_rejected(&mut self, message: String) {
        self.refusal = Some(RejectedConfig {
            message,
            at: wall_seconds(),
        });
    }
}

/// A configuration that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedConfig {
    /// The reason, with its position.
    pub message: String,
    /// The time of the rejection, in seconds since 1970.
    pub at: i64,
}

/// Settings that are in force, but could not be written to the file.
#[derive(Debug, Clone)]
struct UnsavedMetrics {
    why: String,
    metrics: BTreeMap<String, bool>,
}

/// The status of the configuration in force, as shown to users.
#[derive(Debug, Clone)]
pub struct Status {
    /// The source of the configuration.
    pub origin: Origin,
    /// The time at which the configuration was loaded, in seconds since 1970.
    pub loaded_at: i64,
    /// The last rejected configuration, unless a later one was applied.
    pub refusal: Option<RejectedConfig>,
    /// Why settings that are in force are not in the file.
    pub unsaved: Option<String>,
}

impl Store {
    /// Loads the configuration. Later configurations are passed to `propose`.
    pub fn open(
        configuration: ConfigSource,
        propose: impl Fn(Proposal) + Send + Sync + 'static,
    ) -> Result<Store, String> {
        Store::open_with(configuration, None, propose)
    }

    /// Loads the configuration from the central server, if there is one and it answers within its timeout, else the local
    /// configuration. Later configurations are passed to `propose`.
    pub fn open_with(
        configuration: ConfigSource,
        remote: Option<CentralServer>,
        propose: impl Fn(Proposal) + Send + Sync + 'static,
    ) -> Result<Store, String> {
        let loaded = match &remote {
            Some(remote) => server_sync::load_initial(remote, &configuration)?,
            None => configuration.load()?,
        };
        let followed = match loaded.origin {
            Origin::Server(_) => remote.as_ref().and_then(|remote| remote.latest(None)),
            _ => None,
        };
        Ok(Store {
            configuration,
            remote,
            propose: Box::new(propose),
            change_lock: Mutex::default(),
            state: RwLock::new(State {
                config: Arc::new(loaded.config),
                origin: loaded.origin,
                text: loaded.text,
                loaded_at: wall_seconds(),
                refusal: None,
                unsaved: None,
                followed,
            }),
        })
    }

    /// The configuration in force.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&lock::read(&self.state).config)
    }

    /// The file that the configuration is saved to.
    pub fn file(&self) -> Option<&Path> {
        self.configuration.file()
    }

    /// The status of the configuration in force.
    pub fn status(&self) -> Status {
        let state = lock::read(&self.state);
        Status {
            origin: state.origin.clone(),
            loaded_at: state.loaded_at,
            refusal: state.refusal.clone(),
            unsaved: state.unsaved.as_ref().map(|unsaved| unsaved.why.clone()),
        }
    }

    /// Reloads the configuration. An invalid configuration changes nothing, and the error says what is wrong with it.
    /// Settings that could not be saved are lost.
    pub fn reload(&self) -> Result<(), String> {
        if let Some(remote) = &self.remote {
            return self.reload_from(remote);
        }
        let _change = lock::lock(&self.change_lock);
        self.apply(self.configuration.load())
    }

    /// Applies a loaded configuration, or records why it could not be applied.
    fn apply(&self, loaded: Result<Loaded, String>) -> Result<(), String> {
        let outcome = loaded.and_then(|loaded| {
            let config = Arc::new(loaded.config);
            self.propose(&config, Change::Anything)?;
            let mut state = lock::write(&self.state);
            state.set_current(config, loaded.origin, loaded.text);
            Ok(state.unsaved.take())
        });
        match outcome {
            Ok(lost) => {
                if let Some(lost) = lost {
                    let names: Vec<_> = lost.metrics.keys().map(String::as_str).collect();
                    log::warn!(
                        "changes were not saved and are replaced by the file's settings: {}",
                        names.join(", ")
                    );
                }
                log::info!("configuration reloaded");
                Ok(())
            }
            Err(error) => {
                log::error!("the configuration remains unchanged: {error}");
                lock::write(&self.state).set_rejected(error.clone());
                Err(error)
            }
        }
    }

    /// Reloads the file if its content has changed, or if the last reload was rejected.
    pub fn reload_if_changed(&self) {
        let Some(path) = self.file() else {
            return;
        };
        let content = load::read(path).ok();
        let state = lock::read(&self.state);
        let is_same = state.refusal.is_none() && content.as_ref() == Some(&state.text);
        drop(state);
        if !is_same {
            log::info!("{} has changed", path.display());
            // A failure is shown in the log, in /health and by a metric.
            let _ = self.reload();
        }
    }

    /// Proposes a configuration to the supervisor and waits for the outcome.
    fn propose(&self, config: &Arc<Config>, change: Change) -> Result<(), String> {
        let (proposal, outcome) = Proposal::new(Arc::clone(config), change);
        (self.propose)(proposal);
        outcome
            .recv()
            .unwrap_or_else(|_| Err("the exporter is about to stop".into()))
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
