//! What the user wrote: the configuration's model, its defaults, its reading and its checking.
//!
//! A file goes through four steps, each in its own file: `tree` makes a bounded tree of the YAML text (the only user
//! of serde_yaml, with [`lines`]), `read` takes every known key out of the tree into a [`Config`], `section` by section,
//! with the kinds of value of `values`, and `check` looks at what one key alone does not show. What a step finds is a
//! [`Diagnostic`] with the line and column it is about: an error ends the reading, a warning does not.
//!
//! [`Schema::parse`] is pure, and takes any text whatever; [`Schema::load`] and [`find`] are the thin layer of files around
//! it. The sections of the meters are declared by the meters (`schema`). The configuration in force, and the writing of files,
//! are in [`crate::store`].

mod bcrypt;
pub(crate) mod central;
pub(crate) mod check;
mod client;
mod collector;
pub(crate) mod diagnose;
pub(crate) mod document;
mod duration;
mod http_client;
mod keys;
pub(crate) mod load;
pub(crate) mod model;
pub(crate) mod preset;
pub mod queries;
pub(crate) mod read;
mod remote_write;
pub(crate) mod schema;
mod secret;
pub(crate) mod section;
mod settings;
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
pub use document::{Document, Rejection};
pub use http_client::load_settings;
pub(crate) use load::read as read_file;
pub use load::{find, Error, Loaded, SYSTEM_FILE};
pub use model::{Config, History, Management, Multirate, Switch, UdpAgent, DEVICE_TYPES};
pub use preset::{Given, Preset, PRESETS};
pub use remote_write::{valid_label_name, DiskQueue, Protocol, Queue, RemoteWrite};
pub use schema::{AnySettings, MeterSettings, Meters, Schema, SectionSpec};
pub use secret::Secret;
pub use settings::Setting;
pub use url::{check_proxy, check_url, shown};
pub use values::{valid_metric_name, MAX_METRICS, MAX_NAME_LENGTH};
pub use web::Web;
pub use web_tls::{ClientAuth, Pem, ServerTls, Versions};
#[cfg(all(test, feature = "tls"))]
pub(crate) use web_tls::{CIPHER_SUITES, CURVES};

/// The largest configuration that is read, in bytes. Ten times what a board with a thousand metrics needs is still
/// less; YAML's cost grows faster than its size.
pub const MAX_SIZE: usize = 64 * 1024;

impl Schema {
    /// Reads a configuration from YAML text: the configuration and its warnings in the order of their lines, or the
    /// first error. Pure and total: any text is answered, in bounded time and memory.
    pub fn parse(&self, text: &str) -> Result<(Config, Vec<Diagnostic>), Diagnostic> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = tree::build(text)?;
        let reading = read::read(self, &root).map_err(|problem| problem.locate(text))?;
        check::check(text, reading)
    }

    /// As [`Schema::parse`], from bytes that may not be text at all.
    pub fn parse_bytes(&self, bytes: &[u8]) -> Result<(Config, Vec<Diagnostic>), Diagnostic> {
        self.parse(text_of(bytes)?)
    }
}

/// The text that these bytes are, without a byte order mark.
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
    fn says_where_bytes_are_not_utf8() {
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
    fn a_byte_order_mark_is_no_part_of_the_first_key() {
        let (config, warnings) = Schema::default().parse("\u{feff}port: 9200\n").unwrap();
        assert_eq!(config.port, Some(9200));
        assert!(warnings.is_empty());
    }

    /// What took serde_yaml seconds, or looks as if it might. No time is measured: a step that is not refused early
    /// makes this test visibly hang.
    #[test]
    fn hostile_text_is_answered() {
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
    fn alias_bombs_are_refused() {
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
