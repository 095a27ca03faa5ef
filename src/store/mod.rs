//! The configuration in force: what it is, where it came from, what was refused, what is not saved.
//!
//! Every change goes through here, one at a time: a metric switched on or off, metrics that were found, the file loaded
//! again. Whoever asks for one gets its outcome when it holds. The store decides what the configuration is to be and keeps
//! the file; what follows from it is the supervisor's part, which is proposed each new configuration and takes it whole or
//! refuses it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use crate::config::diagnose::Origin;
use crate::config::document::Document;
use crate::config::load::{self, Loaded};
use crate::config::model::Config;
use crate::sys::clock::wall_seconds;
use crate::sys::lock;

mod central;
mod configuration;
mod file;
mod proposal;
mod remote;
mod selection;
mod watch;

pub use configuration::Configuration;
pub use file::{selects_metrics, set_metrics, update, Unsaved, Update};
pub use proposal::{Change, Proposal};
pub use remote::{jittered, Remote, Standing};
pub use selection::NotSet;
pub use watch::Watch;

/// How the supervisor hears of proposals.
type Propose = Box<dyn Fn(Proposal) + Send + Sync>;

/// The configuration in force, and the way to another.
pub struct Store {
    configuration: Configuration,
    /// The central server, which goes before.
    remote: Option<Remote>,
    propose: Propose,
    /// Held by whoever is making a change.
    turn: Mutex<()>,
    state: RwLock<State>,
}

struct State {
    config: Arc<Config>,
    origin: Origin,
    /// What the file held when it was last loaded, or saved on top of that.
    text: Vec<u8>,
    loaded_at: i64,
    refusal: Option<Refused>,
    unsaved: Option<UnsavedMetrics>,
    /// The central server's configuration that was last taken over, or refused.
    followed: Option<Document>,
}

impl State {
    /// Takes note of what is in force from now on.
    fn hold(&mut self, config: Arc<Config>, origin: Origin, text: Vec<u8>) {
        self.config = config;
        self.origin = origin;
        self.text = text;
        self.loaded_at = wall_seconds();
        self.refusal = None;
    }

    /// Takes note of why another is not.
    fn refuse(&mut self, message: String) {
        self.refusal = Some(Refused {
            message,
            at: wall_seconds(),
        });
    }
}

/// A configuration that was not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, and where.
    pub message: String,
    /// When, in seconds since 1970.
    pub at: i64,
}

/// Settings that hold in memory, but not in the file.
#[derive(Debug, Clone)]
struct UnsavedMetrics {
    why: String,
    metrics: BTreeMap<String, bool>,
}

/// What there is to say of the configuration in force.
#[derive(Debug, Clone)]
pub struct Status {
    /// Where it came from.
    pub origin: Origin,
    /// When it was loaded, in seconds since 1970.
    pub loaded_at: i64,
    /// The last attempt to load another, if that failed.
    pub refusal: Option<Refused>,
    /// Why settings that hold are not in the file.
    pub unsaved: Option<String>,
}

impl Store {
    /// Loads the configuration. Later ones are given to `propose`.
    pub fn open(
        configuration: Configuration,
        propose: impl Fn(Proposal) + Send + Sync + 'static,
    ) -> Result<Store, String> {
        Store::open_with(configuration, None, propose)
    }

    /// Loads the configuration: from the central server if there is one, which is waited for no longer than its settings
    /// say, else the local one. Later ones are given to `propose`.
    pub fn open_with(
        configuration: Configuration,
        remote: Option<Remote>,
        propose: impl Fn(Proposal) + Send + Sync + 'static,
    ) -> Result<Store, String> {
        let loaded = match &remote {
            Some(remote) => central::first(remote, &configuration)?,
            None => configuration.load()?,
        };
        let followed = match loaded.origin {
            Origin::Server(_) => remote.as_ref().and_then(|remote| remote.last(None)),
            _ => None,
        };
        Ok(Store {
            configuration,
            remote,
            propose: Box::new(propose),
            turn: Mutex::default(),
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

    /// The file that it is kept in.
    pub fn file(&self) -> Option<&Path> {
        self.configuration.file()
    }

    /// What there is to say of it.
    pub fn status(&self) -> Status {
        let state = lock::read(&self.state);
        Status {
            origin: state.origin.clone(),
            loaded_at: state.loaded_at,
            refusal: state.refusal.clone(),
            unsaved: state.unsaved.as_ref().map(|unsaved| unsaved.why.clone()),
        }
    }

    /// Loads the configuration again. A bad one changes nothing: the error says what is wrong with it. Settings that
    /// could not be saved end with it.
    pub fn reload(&self) -> Result<(), String> {
        if let Some(remote) = &self.remote {
            return self.reload_from(remote);
        }
        let _turn = lock::lock(&self.turn);
        self.take_over(self.configuration.load())
    }

    /// Takes over what was loaded, or takes note of why it could not be.
    fn take_over(&self, loaded: Result<Loaded, String>) -> Result<(), String> {
        let outcome = loaded.and_then(|loaded| {
            let config = Arc::new(loaded.config);
            self.adopt(&config, Change::Anything)?;
            let mut state = lock::write(&self.state);
            state.hold(config, loaded.origin, loaded.text);
            Ok(state.unsaved.take())
        });
        match outcome {
            Ok(lost) => {
                if let Some(lost) = lost {
                    let names: Vec<_> = lost.metrics.keys().map(String::as_str).collect();
                    log::warn!(
                        "not saved, and as the file says again: {}",
                        names.join(", ")
                    );
                }
                log::info!("configuration reloaded");
                Ok(())
            }
            Err(error) => {
                log::error!("the configuration stays as it was: {error}");
                lock::write(&self.state).refuse(error.clone());
                Err(error)
            }
        }
    }

    /// Loads the file again if it holds something else than what is in force, or if what it held before was refused.
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
            // Whoever wants to know of a failure finds it in the log, in /health and in a metric.
            let _ = self.reload();
        }
    }

    /// Has the supervisor take a configuration over.
    fn adopt(&self, config: &Arc<Config>, change: Change) -> Result<(), String> {
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
