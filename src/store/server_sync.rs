//! The store's part with the central server: whose configuration counts when, and how a change goes either way.

use std::sync::Arc;

use super::Store;
use crate::config::diagnose::Origin;
use crate::config::document::Document;
use crate::config::load::{self, Loaded};
use crate::config::model::Config;
use crate::sources::SCHEMA;
use crate::store::configuration::Configuration;
use crate::store::proposal::Change;
use crate::store::remote::{Fetched, Remote};
use crate::sys::lock;

/// The first configuration: the server's, else the local one. An error only if there is none at all.
pub(super) fn first(remote: &Remote, configuration: &Configuration) -> Result<Loaded, String> {
    let _turn = remote.turn();
    let why = match remote.fetch() {
        Ok(Fetched::Config(_)) => match of_server(remote, configuration, &Config::default()) {
            Ok(loaded) => {
                log::info!("configuration: {} (the central server's)", loaded.origin);
                return Ok(loaded);
            }
            Err(why) => {
                remote.refused(Some(why.clone()));
                format!("the central server's configuration is refused: {why}")
            }
        },
        Ok(Fetched::Unknown) => format!(
            "{}: the central server has none of this board yet",
            remote.url()
        ),
        Ok(Fetched::Wrong(why)) => {
            let why = wrong(&why);
            remote.refused(Some(why.clone()));
            why
        }
        Err(why) => format!("cannot fetch the configuration from the central server: {why}"),
    };
    log::warn!("{why}");
    match configuration.load() {
        Ok(loaded) => {
            log::info!(
                "fallback: the local configuration is in force ({})",
                loaded.origin
            );
            Ok(loaded)
        }
        Err(error) => Err(format!("no configuration: {why}; and {error}")),
    }
}

/// What the server gave last, with what was switched here.
fn of_server(
    remote: &Remote,
    configuration: &Configuration,
    current: &Config,
) -> Result<Loaded, String> {
    let document = remote.last(current.metrics.as_ref()).unwrap_or_default();
    let (config, warnings) = document
        .read(&SCHEMA)
        .map_err(|rejection| rejection.message)?;
    let origin = Origin::Server(remote.url().to_owned());
    for warning in &warnings {
        log::warn!("{}", warning.with(&origin));
    }
    Ok(Loaded {
        config,
        warnings,
        origin,
        // So that a change of the file is seen as one.
        text: configuration
            .file()
            .and_then(|path| load::read(path).ok())
            .unwrap_or_default(),
    })
}

fn wrong(why: &str) -> String {
    format!("the central server has a wrong configuration for this board: {why}")
}

impl Store {
    /// The central server, if there is one.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Loads the configuration again, because somebody wants it.
    pub(super) fn reload_from(&self, remote: &Remote) -> Result<(), String> {
        let _asking = remote.turn();
        let fetched = remote.fetch();
        let is_wrong = matches!(fetched, Ok(Fetched::Wrong(_)));
        let _turn = lock::lock(&self.turn);
        let loaded = match fetched {
            Ok(Fetched::Config(_)) => of_server(remote, &self.configuration, &self.current()),
            Ok(Fetched::Unknown) => {
                self.without(remote, "the central server has none of this board")
            }
            Ok(Fetched::Wrong(why)) => Err(wrong(&why)),
            Err(why) => {
                log::warn!("cannot fetch the configuration from the central server: {why}");
                self.without(remote, "the central server does not answer")
            }
        };
        let outcome = self.take_over(loaded);
        // After a wrong one, whatever comes is new, if only that it is right.
        let followed = match is_wrong {
            true => None,
            false => remote.last(self.current().metrics.as_ref()),
        };
        lock::write(&self.state).followed = followed;
        self.report(remote);
        outcome
    }

    /// What counts when the server has nothing to say: what it said last, and before that the local configuration.
    fn without(&self, remote: &Remote, why: &str) -> Result<Loaded, String> {
        if remote.last(None).is_some() {
            log::info!("fallback: what is in force stays so: {why}");
            let state = lock::read(&self.state);
            return Ok(Loaded {
                config: (*state.config).clone(),
                warnings: Vec::new(),
                origin: state.origin.clone(),
                text: state.text.clone(),
            });
        }
        let loaded = self.configuration.load()?;
        log::info!(
            "fallback: the local configuration is in force ({}): {why}",
            loaded.origin
        );
        Ok(loaded)
    }

    /// Says to the server whether its configuration was taken.
    fn report(&self, remote: &Remote) {
        let state = lock::read(&self.state);
        let refusal = state
            .refusal
            .as_ref()
            .map(|refusal| refusal.message.clone());
        drop(state);
        remote.refused(refusal);
    }

    /// Asks the central server whether there is something new, tells it what was changed here, and takes over what it has
    /// then. The error is for people: why it could not be asked or told.
    pub fn meet_server(&self) -> Result<(), String> {
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        let _asking = remote.turn();
        let current = self.current();
        let outcome = match remote.standing().unsent {
            0 => match remote.fetch() {
                Ok(Fetched::Config(document)) => Ok(document),
                Ok(Fetched::Unknown) => {
                    remote.tell(|| self.registration(), current.metrics.as_ref())
                }
                Ok(Fetched::Wrong(why)) => {
                    self.is_wrong(remote, wrong(&why));
                    Err(format!(
                        "it has a wrong configuration for this board: {why}"
                    ))
                }
                Err(why) => Err(why),
            },
            _ => remote.tell(|| self.registration(), current.metrics.as_ref()),
        };
        match outcome {
            Ok(_) => {
                self.follow(remote);
                Ok(())
            }
            Err(why) => {
                remote.keep();
                Err(why)
            }
        }
    }

    /// What the server has for the board is no configuration: what is in force stays, and whatever comes next is new.
    fn is_wrong(&self, remote: &Remote, why: String) {
        let mut state = lock::write(&self.state);
        state.followed = None;
        if state
            .refusal
            .as_ref()
            .is_none_or(|refusal| refusal.message != why)
        {
            state.refuse(why);
        }
        drop(state);
        self.report(remote);
    }

    /// Takes over what the server has, if that is something new.
    fn follow(&self, remote: &Remote) {
        let _turn = lock::lock(&self.turn);
        let current = self.current();
        let Some(document) = remote.last(current.metrics.as_ref()) else {
            return;
        };
        if lock::read(&self.state).followed.as_ref() == Some(&document) {
            return;
        }
        let is_first = lock::write(&self.state)
            .followed
            .replace(document)
            .is_none();
        let outcome = of_server(remote, &self.configuration, &current).and_then(|loaded| {
            let config = Arc::new(loaded.config);
            let but_metrics = Config {
                metrics: current.metrics.clone(),
                ..(*config).clone()
            };
            let change = match (but_metrics == *current, config.metrics == current.metrics) {
                (true, true) => None,
                (true, false) => Some(Change::Selection),
                (false, _) => Some(Change::Anything),
            };
            if let Some(change) = change {
                self.adopt(&config, change)?;
            }
            let mut state = lock::write(&self.state);
            state.hold(config, loaded.origin, loaded.text);
            drop(state);
            if change.is_some() || is_first {
                log::info!("configuration: {} (the central server's)", remote.url());
            }
            Ok(())
        });
        if let Err(why) = outcome {
            log::error!("the configuration stays as it was: {}: {why}", remote.url());
            lock::write(&self.state).refuse(why);
        }
        self.report(remote);
    }

    /// What the board is registered with, where the server does not know it: its local configuration.
    fn registration(&self) -> Result<Document, String> {
        let current = self.current();
        let text = match self.configuration.file() {
            Some(path) => load::read(path).map_err(|e| e.to_string())?,
            None => Vec::new(),
        };
        let mut document = Document::from_yaml(&text).map_err(|e| e.to_string())?;
        // How the server is asked is the board's own affair.
        document.remove("config_server");
        if document.has_secret() {
            return Err(
                "this board does not register itself, because its configuration holds a password, which everybody \
                 who reads the server would see: write it to a file (`password_file`), or PUT the configuration"
                    .to_string(),
            );
        }
        if !document.has("device_type") {
            document.set_text("device_type", &current.device_type);
        }
        Ok(document)
    }
}
