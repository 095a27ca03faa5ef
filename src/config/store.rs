//! The configuration in force: what it is, where it came from, what was refused, what is not saved.
//!
//! Every change goes through here, one at a time: a metric switched on or off, metrics that were found, the file loaded
//! again. Whoever asks for one gets its outcome when it holds. The store decides what the configuration is to be and keeps
//! the file; what follows from it is the supervisor's part, which is proposed each new configuration and takes it whole or
//! refuses it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use super::configuration::Configuration;
use super::diagnose::Origin;
use super::document::Document;
use super::file::{selects_metrics, set_metrics, update};
use super::load::{self, Loaded};
use super::model::Config;
use super::proposal::{Change, Proposal};
use super::remote::Remote;
use super::values::MAX_METRICS;
use crate::sys::clock::wall_seconds;
use crate::sys::lock;

mod central;

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
    unsaved: Option<Unsaved>,
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
struct Unsaved {
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

/// Why metrics were not switched: none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSet {
    /// These are no metrics of this board.
    Unknown(Vec<String>),
    /// The configuration would name so many.
    TooMany(usize),
    /// It could not be taken over.
    Failed(String),
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

    /// Switches metrics: all of them, or none. `known` is what the board has, as it stands. Where nothing was selected
    /// before, all that is known is written down with it.
    ///
    /// `Ok` is `None`, or why it holds in memory alone.
    pub fn switch(
        &self,
        changes: &BTreeMap<String, bool>,
        known: &[(String, bool)],
    ) -> Result<Option<String>, NotSet> {
        let _turn = lock::lock(&self.turn);
        let current = self.current();
        let is_known = |name: &String| {
            let listed = current
                .metrics
                .as_ref()
                .is_some_and(|m| m.contains_key(name));
            listed || known.iter().any(|(known, _)| known == name)
        };
        let unknown: Vec<_> = changes.keys().filter(|n| !is_known(n)).cloned().collect();
        if !unknown.is_empty() {
            return Err(NotSet::Unknown(unknown));
        }
        self.select(&current, known, changes, false)
    }

    /// Takes note of metrics that were found, as false, where the configuration selects.
    pub fn note_found(&self, known: &[(String, bool)]) {
        let _turn = lock::lock(&self.turn);
        let current = self.current();
        let Some(metrics) = &current.metrics else {
            return;
        };
        if self.file().is_none() && self.remote.is_none() {
            return;
        }
        let room = MAX_METRICS.saturating_sub(metrics.len());
        let new: Vec<_> = known
            .iter()
            .filter(|(name, _)| !metrics.contains_key(name))
            .collect();
        if new.len() > room {
            log::warn!(
                "{} metrics were found that `metrics` does not name: it has room for {room}",
                new.len()
            );
        }
        let new: BTreeMap<_, _> = new
            .into_iter()
            .take(room)
            .map(|(name, _)| (name.clone(), false))
            .collect();
        if new.is_empty() {
            return;
        }
        let names: Vec<_> = new.keys().map(String::as_str).collect();
        log::info!(
            "found, and added to `metrics` as false: {}",
            names.join(", ")
        );
        if let Err(error) = self.select(&current, known, &new, true) {
            log::warn!("they could not be added: {error:?}");
        }
    }

    /// Tries again to save what could not be saved.
    pub fn retry_saving(&self) {
        let _turn = lock::lock(&self.turn);
        if lock::read(&self.state).unsaved.is_some() {
            let current = self.current();
            self.save(current.metrics.as_ref(), BTreeMap::new());
        }
    }

    fn select(
        &self,
        current: &Config,
        known: &[(String, bool)],
        changes: &BTreeMap<String, bool>,
        found: bool,
    ) -> Result<Option<String>, NotSet> {
        let selected = current.metrics.clone();
        let mut metrics = selected.unwrap_or_else(|| known.iter().cloned().collect());
        metrics.extend(changes.iter().map(|(name, on)| (name.clone(), *on)));
        if metrics.len() > MAX_METRICS {
            return Err(NotSet::TooMany(metrics.len()));
        }
        if changes.is_empty() {
            return Ok(lock::read(&self.state)
                .unsaved
                .as_ref()
                .map(|u| u.why.clone()));
        }
        let unsaved = self.save(Some(&metrics), changes.clone());
        let config = Arc::new(Config {
            metrics: Some(metrics),
            ..current.clone()
        });
        if config.metrics != current.metrics {
            self.adopt(&config, Change::Selection)
                .map_err(NotSet::Failed)?;
            lock::write(&self.state).config = config;
        }
        if let Some(remote) = &self.remote {
            remote.changed(changes, found);
        }
        Ok(unsaved)
    }

    /// Writes settings to the file, with those that could not be written before: `all`, if it has selected none so far.
    /// `Some` is why they are not in the file.
    fn save(
        &self,
        all: Option<&BTreeMap<String, bool>>,
        changes: BTreeMap<String, bool>,
    ) -> Option<String> {
        let before = lock::read(&self.state).unsaved.clone();
        let mut metrics = before
            .as_ref()
            .map_or_else(BTreeMap::new, |u| u.metrics.clone());
        metrics.extend(changes);
        // A file over a preset adds to what that selects.
        let is_whole = matches!(self.configuration, Configuration::File(_));
        let saved = match self.file() {
            // The server has it in a moment.
            None if self.remote.is_some() => return None,
            None => Err("there is no configuration file: start with --config FILE".to_string()),
            Some(path) => update(path, |text| match all {
                Some(all) if is_whole && !selects_metrics(text) => set_metrics(text, all),
                _ => set_metrics(text, &metrics),
            })
            .map_err(|e| e.to_string()),
        };
        let mut state = lock::write(&self.state);
        match saved {
            Ok(update) => {
                if state.text == update.before {
                    state.text = update.after;
                }
                state.unsaved = None;
                drop(state);
                if before.is_some() {
                    log::info!("the configuration is saved again");
                }
                None
            }
            Err(why) => {
                let news = before.is_none_or(|before| before.why != why);
                state.unsaved = Some(Unsaved {
                    why: why.clone(),
                    metrics,
                });
                drop(state);
                if news {
                    log::warn!("not saved, and gone at the next reload or restart: {why}");
                }
                Some(why)
            }
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
