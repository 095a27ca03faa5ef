//! The configuration's types, defaults, parsing and validation.
//!
//! A configuration file is processed in three steps. `tree` parses the YAML text into a tree of limited size (it and [`lines`]
//! are the only users of serde_yaml). `read` moves every known key from the tree into a [`Config`], one `section` at a time;
//! `values` parses and validates single values. `check` validates what depends on several keys. Each step reports a
//! [`Diagnostic`] with line and column: an error ends the processing, a warning does not.
//!
//! [`Schema::parse`] is pure and accepts any text. [`Schema::load`] and [`find`] are the thin layer that reads files. The
//! meters declare their own sections (`schema`). [`crate::store`] holds the configuration in force and writes files.

mod bcrypt;
pub(crate) mod central;
pub(crate) mod check;
mod client;
mod collector;
pub(crate) mod diagnose;
pub(crate) mod document;
mod duration;
mod group;
mod http_client;
mod keys;
mod labels;
pub(crate) mod load;
pub(crate) mod model;
mod overrides;
pub(crate) mod preset;
pub mod queries;
pub(crate) mod read;
mod remote_write;
pub(crate) mod schema;
mod secret;
pub(crate) mod section;
mod share;
pub(crate) mod show;
pub(crate) mod tree;
mod url;
pub(crate) mod values;
mod web;
mod web_tls;

pub mod lines;

pub use bcrypt::Hash as BcryptHash;
pub use central::ConfigServer;
pub use client::{Authorization, BasicAuth, ClientSettings, ClientTls, SecretSource};
pub use collector::{is_namespace, Collector, Kubernetes, Queries, Streams};
pub use diagnose::{Diagnostic, Origin};
pub use document::{Document, Rejection, Says};
pub use duration::parse_duration;
pub use group::{target_labels, Group, Members, Membership, Pattern, TargetLabels};
pub use http_client::load_settings;
pub(crate) use http_client::{read as read_client, url as client_url};
pub use labels::{is_taken_label, with_constant_labels, MAX_LABELS};
pub(crate) use load::read as read_file;
pub use load::{find, Error, Loaded, SYSTEM_FILE};
pub use model::{Config, History, Management, Multirate, Switch, UdpAgent, DEVICE_TYPES};
pub use overrides::KeyOverride;
pub use preset::{CliOverrides, Preset, PRESETS};
pub use remote_write::{valid_label_name, DiskQueue, Protocol, Queue, RemoteWrite};
pub use schema::{AnySettings, MeterSettings, Meters, Schema, SectionSpec};
pub use secret::Secret;
pub use url::{check_proxy, check_url, url_without_secrets};
pub use values::{valid_metric_name, MAX_METRICS, MAX_NAME_LENGTH};
pub use web::Web;
pub use web_tls::{ClientAuth, Pem, ServerTls, Versions};
#[cfg(all(test, feature = "tls"))]
pub(crate) use web_tls::{CIPHER_SUITES, CURVES};

/// The largest configuration that is accepted, in bytes. The cost of parsing YAML grows faster than its size.
pub const MAX_SIZE: usize = 64 * 1024;

impl Schema {
    /// Parses YAML text and returns the configuration with its warnings, ordered by line, or the first error. Pure and
    /// total: time and memory are bounded for any text.
    pub fn parse(&self, text: &str) -> Result<(Config, Vec<Diagnostic>), Diagnostic> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = tree::build(text)?;
        let unchecked = read::read(self, &root).map_err(|problem| problem.locate(text))?;
        check::check(text, unchecked)
    }

    /// Like [`Schema::parse`], for bytes that may not be UTF-8.
    pub fn parse_bytes(&self, bytes: &[u8]) -> Result<(Config, Vec<Diagnostic>), Diagnostic> {
        self.parse(text_of(bytes)?)
    }
}

/// Reads a YAML text other than a configuration, in which every key is known to `schema`.
pub(crate) fn read_text(
    text: &str,
    schema: impl FnOnce(&mut section::Section<'_, '_>) -> Result<(), section::Problem>,
) -> Result<(), Diagnostic> {
    let root = tree::build(text)?;
    section::read_document(&root, &mut keys::KeyUsage::default(), |top| {
        schema(top)?;
        top.refuse_others()
    })
    .map_err(|problem| problem.locate(text))
}

/// Decodes UTF-8 and removes a byte order mark.
fn text_of(bytes: &[u8]) -> Result<&str, Diagnostic> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => Err(diagnose::not_utf8(bytes, error.valid_up_to())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_utf8_is_reported_with_its_position() {
        let error = Schema::default()
            .parse_bytes(b"interval: 1\nhostname: caf\xe9\n")
            .unwrap_err();
        assert_eq!((error.line, error.column), (Some(2), Some(14)));
        assert!(error.message.contains("0xe9"), "{}", error.message);
        let utf16 = Schema::default()
            .parse_bytes(b"\xff\xfei\0n\0")
            .unwrap_err();
        assert!(utf16.message.contains("UTF-16"), "{}", utf16.message);
    }

    #[test]
    fn byte_order_mark_is_ignored() {
        let (config, warnings) = Schema::default().parse("\u{feff}port: 9200\n").unwrap();
        assert_eq!(config.port, Some(9200));
        assert!(warnings.is_empty());
    }

    /// Texts that took serde_yaml seconds, or might. No time is measured: a text that is not rejected early makes this test
    /// visibly hang.
    #[test]
    fn hostile_text_is_rejected() {
        let bombs = [
            "[".repeat(MAX_SIZE),
            "{".repeat(MAX_SIZE),
            "a: [".repeat(MAX_SIZE / 4),
            "- ".repeat(MAX_SIZE / 2),
            "? ".repeat(MAX_SIZE / 2),
            "&a ".repeat(MAX_SIZE / 3),
            "!a ".repeat(MAX_SIZE / 3),
            "a: ".repeat(MAX_SIZE / 3),
            "---\n".repeat(MAX_SIZE / 4),
            "\t".repeat(MAX_SIZE),
            "\0".repeat(MAX_SIZE),
            format!("a: \"{}", "\\x41".repeat(MAX_SIZE / 4 - 2)),
            "a: &a [*a]".into(),
            "a: &a {b: *a}".into(),
            "*a".into(),
            "<<: {a: 1}".into(),
            "!!binary x".into(),
            "!".into(),
            "%TAG ! x\n---\n!y z".into(),
            "? [a]\n: b".into(),
            "x".repeat(MAX_SIZE + 1),
        ];
        for bomb in bombs {
            let shown: String = bomb.chars().take(30).collect();
            assert!(
                Schema::default().parse(&bomb).is_err(),
                "accepted {shown:?}"
            );
        }
    }

    #[test]
    fn alias_bombs_are_rejected() {
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(",");
            laughs.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        let error = Schema::default().parse(&laughs).unwrap_err();
        assert!(error.message.contains("aliases"), "{}", error.message);

        let long = format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(30_000),
            "*a, ".repeat(8_000)
        );
        let error = Schema::default().parse(&long).unwrap_err();
        assert!(error.message.contains("aliases"), "{}", error.message);
    }
}
