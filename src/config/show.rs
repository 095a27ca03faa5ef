//! The configuration as JSON, with the keys of the file. The result is a valid configuration file, except that secrets are
//! hidden: a [`Secret`] always serializes as [`HIDDEN`].

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::model::Config;
use super::schema::Schema;
use super::secret::Secret;
use crate::sys::sort::sort_by;

/// Shown instead of a secret.
pub(crate) const HIDDEN: &str = "<secret>";
/// Shown instead of a URL that may contain a password.
const HIDDEN_URL: &str = "http://secret.invalid";

impl Schema {
    /// All settings, including defaults. Settings without a value are left out.
    pub fn to_json(&self, config: &Config) -> Value {
        let value = serde_json::to_value(self.complete(config));
        without_nulls(value.unwrap_or_default())
    }
}

/// Seconds, as an integer if possible.
pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration.subsec_nanos() {
        0 => serializer.serialize_u64(duration.as_secs()),
        _ => serializer.serialize_f64(duration.as_secs_f64()),
    }
}

/// Optional seconds.
pub(crate) fn optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// A port, or `off`.
pub(super) fn port_or_off<S: Serializer>(
    port: &Option<u16>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match port {
        Some(port) => serializer.serialize_u16(*port),
        None => serializer.serialize_str("off"),
    }
}

/// Pairs as a mapping, sorted by name.
pub(super) fn mapping<S: Serializer, V: Serialize>(
    pairs: &[(String, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sort_by(&mut sorted, |a, b| a.0.cmp(&b.0));
    let mut map = serializer.serialize_map(Some(sorted.len()))?;
    for (name, value) in sorted {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// A URL that is hidden as a whole.
pub(super) fn hidden_url<S: Serializer>(
    url: &Option<Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    url.as_ref().map(|_| HIDDEN_URL).serialize(serializer)
}

/// A URL without its query, which may contain a token.
pub(crate) fn url_without_query<S: Serializer>(
    url: &str,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let bare = super::url_without_secrets(url);
    match bare.len() < url.len() {
        true => serializer.serialize_str(&format!("{bare}?secret")),
        false => serializer.serialize_str(url),
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
            let entries = entries.map(|(key, value)| (key, without_nulls(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
