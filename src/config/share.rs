//! The part of a configuration that says what is read and how: to be handed on with a recording, so without passwords,
//! and to be taken from a stranger, so without anything that opens, sends or starts something.

use serde_json::Value;

use super::document::Document;
use super::model::Config;
use super::schema::Schema;
use super::show::HIDDEN;

/// Those of its keys that are no meter's section.
const KEYS: &[&str] = &[
    "device_type",
    "hostname",
    "interval",
    "labels",
    "sources",
    "metrics",
];

/// Parts of keys, at any depth, whose values are nobody else's business.
const SECRET: &[&str] = &["password", "username", "token", "secret"];

impl Schema {
    fn is_shared(&self, key: &str) -> bool {
        KEYS.contains(&key) || self.sections().iter().any(|spec| spec.name == key)
    }

    /// The sources' part of a configuration, as text that reads as it.
    pub fn shared(&self, config: &Config) -> String {
        let mut all = self.to_json(config);
        if let Value::Object(entries) = &mut all {
            entries.retain(|key, _| self.is_shared(key));
        }
        leave_out_secrets(&mut all);
        format!("# The settings of the sources, without passwords.\n{all:#}\n")
    }

    /// The sources' settings that are not what they are by default, as the lines of a configuration, for whoever goes on
    /// from it. A password is left out, as it would lie open where nobody put it; a comment says so. Not among them are
    /// `device_type`, `interval` and `metrics`. An error: they take more room than a configuration has.
    pub fn departures(&self, config: &Config) -> Result<String, String> {
        let (mut all, usual) = (self.to_json(config), self.to_json(&Config::default()));
        if let Value::Object(entries) = &mut all {
            let said = ["device_type", "interval", "metrics"];
            entries.retain(|key, _| self.is_shared(key) && !said.contains(&&**key));
        }
        leave_out_usual(&mut all, &usual);
        let hidden = leave_out_hidden(&mut all);
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

/// Leaves out what is as usual, and sections that have nothing else.
fn leave_out_usual(value: &mut Value, usual: &Value) {
    if let Value::Object(entries) = value {
        entries.retain(|key, value| {
            let usual = &usual[key.as_str()];
            let departs = value != usual;
            leave_out_usual(value, usual);
            departs
        });
    }
}

/// Leaves out what is not shown. Says whether there was any.
fn leave_out_hidden(value: &mut Value) -> bool {
    match value {
        Value::Object(entries) => {
            let all = entries.len();
            entries.retain(|_, value| value != HIDDEN);
            let gone = entries.len() < all;
            entries
                .values_mut()
                .fold(gone, |gone, value| leave_out_hidden(value) | gone)
        }
        Value::Array(items) => items
            .iter_mut()
            .fold(false, |gone, item| leave_out_hidden(item) | gone),
        _ => false,
    }
}

fn leave_out_secrets(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|key, _| !SECRET.iter().any(|part| key.contains(part)));
            entries.values_mut().for_each(leave_out_secrets);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_secrets),
        _ => {}
    }
}

impl Config {
    /// These settings of the sources; all others as the defaults say.
    pub fn of_sources(self) -> Config {
        Config {
            device_type: self.device_type,
            hostname: self.hostname,
            interval: self.interval,
            labels: self.labels,
            sources: self.sources,
            metrics: self.metrics,
            meters: self.meters,
            ..Config::default()
        }
    }
}
