//! The web configuration: TLS, users and headers. The format is that of Prometheus's exporter-toolkit
//! (github.com/prometheus/exporter-toolkit, docs/web-configuration.md), so that one file serves all exporters of a board.
//!
//! Unlike in the configuration, an unknown key is an error: the user may have meant it to restrict access.

use std::collections::BTreeMap;
use std::path::Path;

use super::diagnose::{quoted, Diagnostic, Origin};
use super::keys::KeyUsage;
use super::section::{read_document, Problem, Section};
use super::tree::{self, Node};
use super::values::{self, refuse, Outcome, Refusal};
use super::web_tls::{self, Pem, ServerTls};
use super::BcryptHash;
use super::{load, text_of};
use crate::sys::reason;

/// The maximum number of users.
const MAX_USERS: usize = 256;
/// From this bcrypt cost on, checking a password takes a small board seconds.
const SLOW_COST: u32 = 14;
/// The headers that exporter-toolkit allows, with their allowed values; an empty list allows any value.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// A web configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Web {
    /// `tls_server_config:`; `None` is plain HTTP.
    pub tls: Option<ServerTls>,
    /// Headers added to every response.
    pub headers: Vec<(&'static str, String)>,
    /// `basic_auth_users:`; empty if no login is required.
    pub users: BTreeMap<String, BcryptHash>,
}

impl Web {
    /// Reads a file and returns it with warnings. Paths in the file are relative to its directory. The error is a message for
    /// the user.
    pub fn load(path: &Path) -> Result<(Web, Vec<String>), String> {
        let origin = Origin::File(path.to_owned());
        let bytes = load::read(path).map_err(|error| match error {
            load::Error::Read { source, .. } => format!(
                "cannot read the web configuration {}: {}",
                path.display(),
                reason(&source)
            ),
            other => other.to_string(),
        })?;
        let (web, warnings) =
            Web::parse_bytes(&bytes).map_err(|error| error.with(&origin).to_string())?;
        let warnings = warnings.iter().map(|w| w.with(&origin).to_string());
        let directory = path.parent().unwrap_or(Path::new(""));
        Ok((web.in_directory(directory), warnings.collect()))
    }

    fn parse_bytes(bytes: &[u8]) -> Result<(Web, Vec<Diagnostic>), Diagnostic> {
        Web::parse(text_of(bytes)?)
    }

    /// Parses YAML text and returns the configuration with warnings, or the first error. Paths are returned as written. Pure and
    /// total.
    pub fn parse(text: &str) -> Result<(Web, Vec<Diagnostic>), Diagnostic> {
        let root = tree::build(text)?;
        let mut keys = KeyUsage::default();
        let mut web = Web::default();
        read_document(&root, &mut keys, |top| read(top, &mut web))
            .map_err(|problem| problem.locate(text))?;
        let slow = web.users.iter().filter(|(_, h)| h.cost() >= SLOW_COST);
        let warnings = slow.map(|(name, hash)| {
            let cost = hash.cost();
            let message = format!(
                "a bcrypt cost of {cost} takes a small board seconds or minutes: 10 is usual"
            );
            Diagnostic::at_value(text, &["basic_auth_users", name], message)
        });
        let warnings = warnings.collect();
        Ok((web, warnings))
    }

    /// All files that the configuration refers to.
    pub fn files(&self) -> Vec<&Path> {
        let Some(tls) = &self.tls else {
            return Vec::new();
        };
        let named = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()];
        let files = named.into_iter().flatten().filter_map(|pem| match pem {
            Pem::File(path) => Some(path.as_path()),
            Pem::Inline(_) => None,
        });
        files.collect()
    }

    fn in_directory(mut self, directory: &Path) -> Web {
        if let Some(tls) = &mut self.tls {
            let named = [
                Some(&mut tls.cert),
                Some(&mut tls.key),
                tls.client_ca.as_mut(),
            ];
            for pem in named.into_iter().flatten() {
                if let Pem::File(path) = pem {
                    *path = directory.join(&path);
                }
            }
        }
        self
    }
}

fn read(top: &mut Section<'_, '_>, web: &mut Web) -> Result<(), Problem> {
    top.section("tls_server_config", |tls| {
        web.tls = web_tls::read(tls)?;
        Ok(())
    })?;
    top.section("http_server_config", |http| {
        // Accepted without effect: by ALPN, clients learn that only HTTP/1.1 is served.
        http.set("http2", values::flag, &mut false)?;
        http.set("headers", headers, &mut web.headers)?;
        http.refuse_others()
    })?;
    top.set("basic_auth_users", users, &mut web.users)?;
    top.unsupported(
        "rate_limit",
        "wrong passwords are limited anyway, and so are connections; leave it out",
    )?;
    top.refuse_others()
}

fn headers(node: &Node) -> Outcome<Vec<(&'static str, String)>> {
    let Node::Map(entries) = node else {
        return refuse(
            node,
            "headers below it, indented, `Name: value`, one a line",
        );
    };
    let known = |name: &str| HEADERS.iter().find(|(header, _)| *header == name);
    let mut headers = Vec::new();
    for (name, value) in entries {
        let Some((header, allowed)) = known(name) else {
            let names = HEADERS.map(|(name, _)| name).join(", ");
            return Err(Refusal {
                key: true,
                ..Refusal::new(format!(
                    "names {}, which cannot be set: only {names} can",
                    quoted(name)
                ))
            }
            .at(name));
        };
        let text = match value {
            Node::Null => continue,
            Node::Int(number) => number.to_string(),
            Node::Text(text) if text.is_empty() => continue,
            Node::Text(text) if text.bytes().all(|b| (b' '..=b'~').contains(&b)) => text.clone(),
            other => {
                return refuse(other, "a header's value, in one line of ASCII")
                    .map_err(|r| r.at(name))
            }
        };
        if !allowed.is_empty() && !allowed.contains(&text.as_str()) {
            let wanted = allowed.join(" or ");
            return refuse(value, &wanted).map_err(|refusal| refusal.at(name));
        }
        headers.push((*header, text));
    }
    Ok(headers)
}

/// Users with password hashes. An invalid hash is not shown in the message, because it may be the password.
fn users(node: &Node) -> Outcome<BTreeMap<String, BcryptHash>> {
    let Node::Map(entries) = node else {
        return Err(Refusal::new(
            "is no mapping: write users below it, indented, `name: hash`, one a line".into(),
        ));
    };
    if entries.len() > MAX_USERS {
        let found = entries.len();
        let message = format!("has {found} users: at most {MAX_USERS} are allowed");
        return Err(Refusal::new(message));
    }
    let mut users = BTreeMap::new();
    for (name, value) in entries {
        if name.contains(':') || name.chars().any(char::is_control) {
            let message = format!(
                "names {}, with which nobody can log in: no colon, please",
                quoted(name)
            );
            return Err(Refusal {
                key: true,
                ..Refusal::new(message).at(name)
            });
        }
        let hash = match value {
            Node::Text(text) => BcryptHash::parse(text),
            _ => None,
        };
        let hash = hash.ok_or_else(|| {
            let message = "is no bcrypt hash: `htpasswd -nBC 10 \"\" | tr -d ':\\n'` asks for a password and makes one";
            Refusal::new(message.into()).at(name)
        })?;
        users.insert(name.clone(), hash);
    }
    Ok(users)
}

#[cfg(test)]
#[path = "web_tests.rs"]
mod tests;
