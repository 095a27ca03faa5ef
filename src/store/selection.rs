//! Switching metrics on and off, and saving the selection to the file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Store, UnsavedMetrics};
use crate::config::model::Config;
use crate::config::values::MAX_METRICS;
use crate::store::config_source::ConfigSource;
use crate::store::file::{selects_metrics, set_metrics, update};
use crate::store::proposal::Change;
use crate::sys::lock;

/// Why no metric was switched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectError {
    /// The board has no metrics of these names.
    Unknown(Vec<String>),
    /// The configuration would have this many names.
    TooMany(usize),
    /// The supervisor rejected the configuration.
    Failed(String),
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelectError::Unknown(names) => {
                write!(f, "the board has no metrics named {}", names.join(", "))
            }
            SelectError::TooMany(count) => write!(
                f,
                "it would have {count} names (at most {MAX_METRICS} are allowed)"
            ),
            SelectError::Failed(why) => f.write_str(why),
        }
    }
}

impl Store {
    /// Switches all of these metrics, or none. `known` are the board's metrics and whether each is exported. If the
    /// configuration had no selection before, all known metrics are written to it.
    ///
    /// `Ok(Some(_))` is the reason why the change is in force but not in the file.
    pub fn switch(
        &self,
        changes: &BTreeMap<String, bool>,
        known: &[(String, bool)],
    ) -> Result<Option<String>, SelectError> {
        let _change = lock::lock(&self.change_lock);
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
            return Err(SelectError::Unknown(unknown));
        }
        self.select(&current, known, changes, false)
    }

    /// Adds newly found metrics to the selection as false, if the configuration has a selection.
    pub fn add_found_metrics(&self, known: &[(String, bool)]) {
        let _change = lock::lock(&self.change_lock);
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
                "{} metrics were found that are not under `metrics`, which has room for {room}",
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
            "new metrics were added to `metrics` as false: {}",
            names.join(", ")
        );
        if let Err(error) = self.select(&current, known, &new, true) {
            log::warn!("cannot add the metrics to the configuration: {error}");
        }
    }

    /// Tries again to save settings that could not be saved.
    pub fn retry_saving(&self) {
        let _change = lock::lock(&self.change_lock);
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
    ) -> Result<Option<String>, SelectError> {
        let selected = current.metrics.clone();
        let mut metrics = selected.unwrap_or_else(|| known.iter().cloned().collect());
        metrics.extend(changes.iter().map(|(name, on)| (name.clone(), *on)));
        if metrics.len() > MAX_METRICS {
            return Err(SelectError::TooMany(metrics.len()));
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
            self.propose(&config, Change::Selection)
                .map_err(SelectError::Failed)?;
            lock::write(&self.state).config = config;
        }
        if let Some(remote) = &self.remote {
            remote.add_changes(changes, found);
        }
        Ok(unsaved)
    }

    /// Writes changes to the file, together with those that could not be written before. If the file has no selection yet,
    /// `all` is written. Returns why the file was not written, if so.
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
        // With a preset, the file adds to the selection of the preset.
        let is_whole = matches!(self.configuration, ConfigSource::File(_));
        let saved = match self.file() {
            // The change is sent to the central server.
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
                    log::info!("all changes are saved again");
                }
                None
            }
            Err(why) => {
                let is_new = before.is_none_or(|before| before.why != why);
                state.unsaved = Some(UnsavedMetrics {
                    why: why.clone(),
                    metrics,
                });
                drop(state);
                if is_new {
                    log::warn!("changes are not saved and will be lost at the next reload or restart: {why}");
                }
                Some(why)
            }
        }
    }
}
