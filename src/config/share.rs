//! The settings of the sources, as they are stored with a recording. Passwords are left out, because recordings are
//! passed on. Settings that listen, send or start something are left out, because a recording is untrusted input.

use serde_json::Value;

use super::document::Document;
use super::model::Config;
use super::schema::Schema;
use super::show::HIDDEN;

/// The shared top-level keys, besides the sections of the meters.
const SHARED_KEYS: &[&str] = &[
    "device_type",
    "hostname",
    "interval",
    "labels",
    "constant_labels",
    "sources",
    "metrics",
];

/// Keys that contain one of these words, at any depth, are left out.
const SECRET_WORDS: &[&str] = &["password", "username", "token", "secret"];

impl Schema {
    fn is_shared(&self, key: &str) -> bool {
        SHARED_KEYS.contains(&key) || self.sections().iter().any(|spec| spec.name == key)
    }

    /// The settings of the sources as YAML text.
    pub fn shared(&self, config: &Config) -> String {
        let mut all = self.to_json(config);
        if let Value::Object(entries) = &mut all {
            entries.retain(|key, _| self.is_shared(key));
        }
        remove_secrets(&mut all);
        format!("# The settings of the sources, without passwords.\n{all:#}\n")
    }

    /// The sources' settings that differ from the defaults, as lines of a configuration file to start from, without
    /// `device_type`, `interval` and `metrics`. Passwords are left out, because the file may be readable by others; a comment
    /// says so. An error if the settings are too large for a configuration.
    pub fn non_default_settings(&self, config: &Config) -> Result<String, String> {
        let (mut all, defaults) = (self.to_json(config), self.to_json(&Config::default()));
        if let Value::Object(entries) = &mut all {
            let written_elsewhere = ["device_type", "interval", "metrics"];
            entries.retain(|key, _| self.is_shared(key) && !written_elsewhere.contains(&&**key));
        }
        remove_defaults(&mut all, &defaults);
        let hidden = remove_hidden(&mut all);
        if all.as_object().is_none_or(|entries| entries.is_empty()) {
            return Ok(String::new());
        }
        let document = Document::from_json(all.to_string().as_bytes());
        let mut text = document
            .and_then(|document| document.to_yaml())
            .map_err(|e| e.message)?;
        if hidden {
            text.push_str(
                "# A password is not copied: add `password`, or better `password_file`.\n",
            );
        }
        Ok(text)
    }
}

/// Removes default values, and sections with nothing but default values.
fn remove_defaults(value: &mut Value, defaults: &Value) {
    if let Value::Object(entries) = value {
        entries.retain(|key, value| {
            let defaults = &defaults[key.as_str()];
            let differs = value != defaults;
            remove_defaults(value, defaults);
            differs
        });
    }
}

/// Removes hidden values. Returns whether there were any.
fn remove_hidden(value: &mut Value) -> bool {
    match value {
        Value::Object(entries) => {
            let all = entries.len();
            entries.retain(|_, value| value != HIDDEN);
            let gone = entries.len() < all;
            entries
                .values_mut()
                .fold(gone, |gone, value| remove_hidden(value) | gone)
        }
        Value::Array(items) => items
            .iter_mut()
            .fold(false, |gone, item| remove_hidden(item) | gone),
        _ => false,
    }
}

fn remove_secrets(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|key, _| !SECRET_WORDS.iter().any(|part| key.contains(part)));
            entries.values_mut().for_each(remove_secrets);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_secrets),
        _ => {}
    }
}

impl Config {
    /// Returns the configuration with only its settings of sources. All other settings get their defaults.
    pub fn only_source_settings(self) -> Config {
        Config {
            device_type: self.device_type,
            hostname: self.hostname,
            interval: self.interval,
            labels: self.labels,
            constant_labels: self.constant_labels,
            sources: self.sources,
            metrics: self.metrics,
            meters: self.meters,
            ..Config::default()
        }
    }
}
