//! Synchronises the store with the central server: which configuration takes precedence, and changes in both directions.

use std::sync::Arc;

use super::Store;
use crate::config::diagnose::Origin;
use crate::config::document::Document;
use crate::config::load::{self, Loaded};
use crate::config::model::Config;
use crate::sources::SCHEMA;
use crate::store::central_server::{CentralServer, Fetched};
use crate::store::config_source::ConfigSource;
use crate::store::proposal::Change;
use crate::sys::lock;

/// Loads the configuration at startup: the server's, else the local one. Fails only if both fail.
pub(super) fn load_initial(
    remote: &CentralServer,
    configuration: &ConfigSource,
) -> Result<Loaded, String> {
    let _exchange = remote.lock_exchange();
    let why = match remote.fetch() {
        Ok(Fetched::Config(_)) => match load_from_server(remote, configuration, &Config::default())
        {
            Ok(loaded) => {
                log::info!("configuration: {} (config server)", loaded.origin);
                return Ok(loaded);
            }
            Err(why) => {
                remote.set_refusal(Some(why.clone()));
                format!("the config server's configuration is refused: {why}")
            }
        },
        Ok(Fetched::Unknown) => format!(
            "{}: the config server has no configuration for this board yet",
            remote.url()
        ),
        Ok(Fetched::Invalid(why)) => {
            let why = invalid_message(&why);
            remote.set_refusal(Some(why.clone()));
            why
        }
        Err(why) => format!("cannot fetch the configuration from the config server: {why}"),
    };
    log::warn!("{why}");
    match configuration.load() {
        Ok(loaded) => {
            log::info!(
                "fallback: using the local configuration ({})",
                loaded.origin
            );
            Ok(loaded)
        }
        Err(error) => Err(format!("no configuration: {why}; and {error}")),
    }
}

/// The server's latest configuration, with the changes made on this board.
fn load_from_server(
    remote: &CentralServer,
    configuration: &ConfigSource,
    current: &Config,
) -> Result<Loaded, String> {
    let document = remote.latest(current.metrics.as_ref()).unwrap_or_default();
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
        // The text is kept so that a later change of the file is detected.
        text: configuration
            .file()
            .and_then(|path| load::read(path).ok())
            .unwrap_or_default(),
    })
}

fn invalid_message(why: &str) -> String {
    format!("the config server has an invalid configuration for this board: {why}")
}

impl Store {
    /// The central server, if there is one.
    pub fn remote(&self) -> Option<&CentralServer> {
        self.remote.as_ref()
    }

    /// Reloads the configuration on request.
    pub(super) fn reload_from(&self, remote: &CentralServer) -> Result<(), String> {
        let _exchange = remote.lock_exchange();
        let fetched = remote.fetch();
        let is_invalid = matches!(fetched, Ok(Fetched::Invalid(_)));
        let _change = lock::lock(&self.change_lock);
        let loaded = match fetched {
            Ok(Fetched::Config(_)) => {
                load_from_server(remote, &self.configuration, &self.current())
            }
            Ok(Fetched::Unknown) => self.fallback(
                remote,
                "the config server has no configuration for this board",
            ),
            Ok(Fetched::Invalid(why)) => Err(invalid_message(&why)),
            Err(why) => {
                log::warn!("cannot fetch the configuration from the config server: {why}");
                self.fallback(remote, "the config server does not answer")
            }
        };
        let outcome = self.apply(loaded);
        // After an invalid configuration, any other one is new, even the one in force.
        let followed = match is_invalid {
            true => None,
            false => remote.latest(self.current().metrics.as_ref()),
        };
        lock::write(&self.state).followed = followed;
        self.report(remote);
        outcome
    }

    /// The configuration to use without an answer from the server: the server's last one, else the local one.
    fn fallback(&self, remote: &CentralServer, why: &str) -> Result<Loaded, String> {
        if remote.latest(None).is_some() {
            log::info!("fallback: the configuration in force is kept: {why}");
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
            "fallback: using the local configuration ({}): {why}",
            loaded.origin
        );
        Ok(loaded)
    }

    /// Records for the next report to the server whether its configuration was applied.
    fn report(&self, remote: &CentralServer) {
        let state = lock::read(&self.state);
        let refusal = state
            .refusal
            .as_ref()
            .map(|refusal| refusal.message.clone());
        drop(state);
        remote.set_refusal(refusal);
    }

    /// Sends pending changes to the central server, fetches its configuration, and applies that if it is new. The error is a
    /// message for the user.
    pub fn poll_server(&self) -> Result<(), String> {
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        let _exchange = remote.lock_exchange();
        let current = self.current();
        let outcome = match remote.status().unsent {
            0 => match remote.fetch() {
                Ok(Fetched::Config(document)) => Ok(document),
                Ok(Fetched::Unknown) => {
                    remote.send_changes(|| self.registration(), current.metrics.as_ref())
                }
                Ok(Fetched::Invalid(why)) => {
                    self.reject_invalid(remote, invalid_message(&why));
                    Err(format!(
                        "it has a wrong configuration for this board: {why}"
                    ))
                }
                Err(why) => Err(why),
            },
            _ => remote.send_changes(|| self.registration(), current.metrics.as_ref()),
        };
        match outcome {
            Ok(_) => {
                self.follow(remote);
                Ok(())
            }
            Err(why) => {
                remote.save_pending();
                Err(why)
            }
        }
    }

    /// Records that the server's configuration is invalid. The configuration in force stays, and the next one counts as new.
    fn reject_invalid(&self, remote: &CentralServer, why: String) {
        let mut state = lock::write(&self.state);
        state.followed = None;
        if state
            .refusal
            .as_ref()
            .is_none_or(|refusal| refusal.message != why)
        {
            state.set_rejected(why);
        }
        drop(state);
        self.report(remote);
    }

    /// Applies the server's configuration if it is new.
    fn follow(&self, remote: &CentralServer) {
        let _change = lock::lock(&self.change_lock);
        let current = self.current();
        let Some(document) = remote.latest(current.metrics.as_ref()) else {
            return;
        };
        if lock::read(&self.state).followed.as_ref() == Some(&document) {
            return;
        }
        let is_first = lock::write(&self.state)
            .followed
            .replace(document)
            .is_none();
        let outcome = load_from_server(remote, &self.configuration, &current).and_then(|loaded| {
            let config = Arc::new(loaded.config);
            let without_metrics = Config {
                metrics: current.metrics.clone(),
                ..(*config).clone()
            };
            let change = match (
                without_metrics == *current,
                config.metrics == current.metrics,
            ) {
                (true, true) => None,
                (true, false) => Some(Change::Selection),
                (false, _) => Some(Change::Anything),
            };
            if let Some(change) = change {
                self.propose(&config, change)?;
            }
            let mut state = lock::write(&self.state);
            state.set_current(config, loaded.origin, loaded.text);
            drop(state);
            if change.is_some() || is_first {
                log::info!("configuration: {} (config server)", remote.url());
            }
            Ok(())
        });
        if let Err(why) = outcome {
            log::error!(
                "the configuration remains unchanged: {}: {why}",
                remote.url()
            );
            lock::write(&self.state).set_rejected(why);
        }
        self.report(remote);
    }

    /// The configuration with which the board registers at a server that does not know it: what the local one has beside the
    /// defaults, which packages write into their files, and groups are to set.
    fn registration(&self) -> Result<Document, String> {
        let current = self.current();
        let text = match self.configuration.file() {
            Some(path) => load::read(path).map_err(|e| e.to_string())?,
            None => Vec::new(),
        };
        let mut document = Document::from_yaml(&text).map_err(|e| e.to_string())?;
        // The access to the server is local to the board.
        document.remove("config_server");
        if document.has_secret() {
            return Err(
                "this board does not register itself, because its configuration holds a password, which everybody \
                 who reads the server would see: write it to a file (`password_file`), or PUT the configuration"
                    .to_string(),
            );
        }
        document.remove_defaults(&SCHEMA, &["device_type", "metrics"]);
        if !document.has("device_type") {
            document.set_text("device_type", &current.device_type);
        }
        Ok(document)
    }
}
