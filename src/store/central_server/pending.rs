//! Changes made on the board that the central server does not know yet.
//!
//! Only the latest state of each metric is recorded. While the server cannot be reached, the changes are saved in a file
//! beside the configuration, so that they survive a restart.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use crate::config::{valid_metric_name, Document};
use crate::sources::SCHEMA;
use crate::sys::file;

/// The largest file of this kind: a thousand names.
const MAX_FILE: u64 = 512 * 1024;

/// Switches by name.
pub(super) type Switches = BTreeMap<String, bool>;

/// Changes to send to the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pending {
    /// Metrics that were switched. They take precedence over the server.
    pub(super) switched: Switches,
    /// Metrics that were found. They are added as false unless the server has them already.
    pub(super) found: Switches,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.switched.is_empty() && self.found.is_empty()
    }

    /// Adds changes.
    pub(super) fn add(&mut self, changes: &Switches, found: bool) {
        for (name, on) in changes {
            match found {
                true => {
                    self.found.entry(name.clone()).or_insert(*on);
                }
                false => {
                    self.found.remove(name);
                    self.switched.insert(name.clone(), *on);
                }
            }
        }
    }

    /// Removes changes that were sent, except for metrics that were switched again meanwhile.
    pub(super) fn remove_sent(&mut self, sent: &Pending) {
        self.switched
            .retain(|name, on| sent.switched.get(name) != Some(on));
        self.found
            .retain(|name, on| sent.found.get(name) != Some(on));
    }

    /// Merges the changes into a configuration of the server. `selection` is what the board exports: it is written in full if
    /// the configuration has no selection, as with a file.
    pub(super) fn merge_into(&self, document: &mut Document, selection: Option<&Switches>) {
        if self.is_empty() {
            return;
        }
        // An invalid configuration is not changed.
        let Ok((config, _)) = document.read(&SCHEMA) else {
            return;
        };
        let mut metrics = match config.metrics {
            Some(metrics) => metrics,
            None if self.switched.is_empty() => return,
            None => selection.cloned().unwrap_or_default(),
        };
        for (name, on) in &self.found {
            metrics.entry(name.clone()).or_insert(*on);
        }
        metrics.extend(self.switched.iter().map(|(name, on)| (name.clone(), *on)));
        document.set_metrics(&metrics);
    }

    /// The path of the saved changes beside this configuration file: `.config.yaml.unsent`.
    pub(super) fn file_beside(config: &Path) -> Option<PathBuf> {
        let name = config.file_name()?.to_string_lossy().into_owned();
        Some(config.with_file_name(format!(".{name}.unsent")))
    }

    /// Loads saved changes; none if the file is missing or invalid.
    pub(super) fn load(path: &Path) -> Pending {
        let read = || {
            let bytes = file::read(path, MAX_FILE).ok()?;
            let all: Value = serde_json::from_slice(&bytes).ok()?;
            let switches = |key: &str| {
                let entries = all.get(key)?.as_object()?.iter();
                let valid = entries.filter(|(name, _)| valid_metric_name(name));
                Some(
                    valid
                        .filter_map(|(name, on)| Some((name.clone(), on.as_bool()?)))
                        .collect(),
                )
            };
            Some(Pending {
                switched: switches("switched")?,
                found: switches("found")?,
            })
        };
        read().unwrap_or_default()
    }

    /// Saves the changes, or removes the file if there are none.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        if self.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let text = json!({"switched": self.switched, "found": self.found}).to_string();
        let temporary = path.with_extension("unsent.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(of: &[(&str, bool)]) -> Switches {
        of.iter()
            .map(|(name, on)| (name.to_string(), *on))
            .collect()
    }

    fn merged(document: &str, pending: &Pending, selection: Option<&Switches>) -> String {
        let mut document = Document::from_json(document.as_bytes()).unwrap();
        pending.merge_into(&mut document, selection);
        serde_json::to_string(&document).unwrap()
    }

    #[test]
    fn changes_are_merged_by_name() {
        let mut pending = Pending::default();
        let server = r#"{"port":1,"metrics":{"a":true,"b":true},"interval":2}"#;
        assert_eq!(merged(server, &pending, None), server);
        pending.add(&switches(&[("b", false), ("d", true)]), false);
        pending.add(&switches(&[("a", false), ("c", false)]), true);
        assert_eq!(
            merged(server, &pending, None),
            r#"{"port":1,"metrics":{"a":true,"b":false,"c":false,"d":true},"interval":2}"#
        );
        // A configuration without a selection gets what the board exports.
        let all = switches(&[("a", true), ("b", true), ("d", false)]);
        assert_eq!(
            merged(r#"{"port":1}"#, &pending, Some(&all)),
            r#"{"port":1,"metrics":{"a":true,"b":false,"c":false,"d":true}}"#
        );
        let found = Pending {
            switched: Switches::new(),
            ..pending.clone()
        };
        assert_eq!(merged(r#"{"port":1}"#, &found, Some(&all)), r#"{"port":1}"#);
        // The old form of the selection becomes the new one.
        assert_eq!(
            merged(r#"{"enabled_metrics":["x","b"],"port":1}"#, &pending, None),
            r#"{"port":1,"metrics":{"a":false,"b":false,"c":false,"d":true,"x":true}}"#
        );
        assert_eq!(
            merged(r#"{"metrics":null}"#, &found, None),
            r#"{"metrics":{"a":false,"c":false}}"#
        );
        let broken = r#"{"interval":"fast"}"#;
        assert_eq!(merged(broken, &pending, Some(&all)), broken);
    }

    #[test]
    fn only_the_latest_state_is_pending() {
        let mut pending = Pending::default();
        pending.add(&switches(&[("a", true)]), false);
        let sent = pending.clone();
        pending.add(&switches(&[("a", false), ("b", true)]), false);
        pending.remove_sent(&sent);
        assert_eq!(pending.switched, switches(&[("a", false), ("b", true)]));
        pending.remove_sent(&pending.clone());
        assert!(pending.is_empty());
        pending.add(&switches(&[("a", false)]), true);
        pending.add(&switches(&[("a", true)]), false);
        assert_eq!((pending.found.len(), pending.switched.len()), (0, 1));
    }

    #[test]
    fn changes_are_saved_beside_the_configuration() {
        let config = std::env::temp_dir().join(format!("eme-unsent-{}.yaml", std::process::id()));
        let path = Pending::file_beside(&config).unwrap();
        assert_eq!(Pending::load(&path), Pending::default());
        Pending::default().save(&path).unwrap();
        let mut pending = Pending::default();
        pending.add(&switches(&[("a", true)]), false);
        pending.add(&switches(&[("b", false)]), true);
        pending.save(&path).unwrap();
        assert_eq!(Pending::load(&path), pending);
        for broken in [
            "",
            "{",
            "[]",
            r#"{"switched":{}}"#,
            r#"{"switched":[],"found":{}}"#,
        ] {
            fs::write(&path, broken).unwrap();
            assert_eq!(Pending::load(&path), Pending::default(), "{broken}");
        }
        fs::write(
            &path,
            r#"{"switched":{"a b":true,"c":1,"d":true},"found":{}}"#,
        )
        .unwrap();
        assert_eq!(Pending::load(&path).switched, switches(&[("d", true)]));
        Pending::default().save(&path).unwrap();
        assert!(!path.exists());
    }
}
