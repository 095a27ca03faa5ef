//! What was changed on the board and the central server does not know yet.
//!
//! It is a state, not a history: each metric as it was switched last. Kept in a file beside the configuration while the
//! server cannot be told, so that it outlasts a restart.

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

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pending {
    /// Metrics that somebody switched: they count, whatever the server says of them.
    pub(super) switched: Switches,
    /// Metrics that were found: noted as false, unless the server says something of them.
    pub(super) found: Switches,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.switched.is_empty() && self.found.is_empty()
    }

    /// Takes note of changes.
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

    /// These have been told. What was switched again meanwhile has not.
    pub(super) fn told(&mut self, told: &Pending) {
        self.switched
            .retain(|name, on| told.switched.get(name) != Some(on));
        self.found
            .retain(|name, on| told.found.get(name) != Some(on));
    }

    /// Puts them into a configuration of the server's. `selection` is what the board exports: a configuration that selects
    /// nothing gets all of it, as a file does.
    pub(super) fn merge_into(&self, document: &mut Document, selection: Option<&Switches>) {
        if self.is_empty() {
            return;
        }
        // What is no configuration is left as it is.
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

    /// Where it is kept, beside this configuration file: `.config.yaml.unsent`.
    pub(super) fn file_beside(config: &Path) -> Option<PathBuf> {
        let name = config.file_name()?.to_string_lossy().into_owned();
        Some(config.with_file_name(format!(".{name}.unsent")))
    }

    /// What is kept there; nothing, where there is no such file or it makes no sense.
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

    /// Keeps it there, or takes the file away when there is nothing to keep.
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
    fn toggles_merge_by_name() {
        let mut pending = Pending::default();
        let server = r#"{"port":1,"metrics":{"a":true,"b":true},"interval":2}"#;
        assert_eq!(merged(server, &pending, None), server);
        pending.add(&switches(&[("b", false), ("d", true)]), false);
        pending.add(&switches(&[("a", false), ("c", false)]), true);
        assert_eq!(
            merged(server, &pending, None),
            r#"{"port":1,"metrics":{"a":true,"b":false,"c":false,"d":true},"interval":2}"#
        );
        // A server that selects nothing gets what the board exports.
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
    fn the_newest_state_alone_is_to_be_told() {
        let mut pending = Pending::default();
        pending.add(&switches(&[("a", true)]), false);
        let sent = pending.clone();
        pending.add(&switches(&[("a", false), ("b", true)]), false);
        pending.told(&sent);
        assert_eq!(pending.switched, switches(&[("a", false), ("b", true)]));
        pending.told(&pending.clone());
        assert!(pending.is_empty());
        pending.add(&switches(&[("a", false)]), true);
        pending.add(&switches(&[("a", true)]), false);
        assert_eq!((pending.found.len(), pending.switched.len()), (0, 1));
    }

    #[test]
    fn it_is_kept_beside_the_configuration() {
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
