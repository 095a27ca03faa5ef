//! The requests to the central server: GET, merge, PUT.

use std::sync::atomic::Ordering;

use super::pending::Switches;
use super::{CachedConfig, CentralServer};
use crate::config::document::Document;
use crate::http::client::Answer;
use crate::sources::SCHEMA;
use crate::sys::{lock, printable};
use crate::wire::{PowerReading, INVALID_CONFIGURATION};

/// How often to retry sending changes when others change the configuration at the same time.
const MAX_ATTEMPTS: usize = 8;
/// Requests are too rare to keep a connection open on the server.
const CLOSE: (&str, &str) = ("Connection", "close");

/// The result of fetching the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) enum Fetched {
    /// The board's configuration.
    Config(Document),
    /// The server has no configuration of this board.
    Unknown,
    /// The server's configuration is invalid; a message for the user.
    Invalid(String),
}

impl CentralServer {
    /// Fetches the board's configuration. The error is a message for the user.
    pub(in crate::store) fn fetch(&self) -> Result<Fetched, String> {
        let outcome = self.request_config();
        let mut state = lock::lock(&self.state);
        state.answered = outcome.is_ok();
        state.invalid = matches!(outcome, Ok(Fetched::Invalid(_)));
        drop(state);
        outcome
    }

    fn request_config(&self) -> Result<Fetched, String> {
        let power = self.power.get().and_then(|read| read());
        let (mut report, cached) = {
            let mut state = lock::lock(&self.state);
            state.unreported = false;
            (state.report.headers(), state.cached.clone())
        };
        report.extend(power.iter().flat_map(PowerReading::headers));
        let mut headers: Vec<(&str, &str)> = vec![("Accept", "application/json"), CLOSE];
        headers.extend(report.iter().map(|(name, value)| (*name, value.as_str())));
        let tag = cached.as_ref().and_then(|cached| cached.tag.as_deref());
        headers.extend(tag.map(|tag| ("If-None-Match", tag)));
        let answer = self.get(&headers);
        let answer = answer.inspect_err(|_| lock::lock(&self.state).unreported = true)?;
        let document = match (answer.status, cached) {
            (200, _) if answer.whole => Document::from_json(&answer.body)
                .map_err(|e| format!("{}: not a configuration: {e}", self.url()))?,
            (304, Some(cached)) => cached.document,
            (404, _) => Document::default(),
            (500, _) if error_code(&answer).as_deref() == Some(INVALID_CONFIGURATION) => {
                return Ok(Fetched::Invalid(self.describe(&answer)));
            }
            _ => return Err(self.describe(&answer)),
        };
        let mut state = lock::lock(&self.state);
        // An empty configuration counts as none, as with edge-metrics-exporter (Python).
        let unregistered = document == Document::default();
        let was = std::mem::replace(&mut state.unregistered, unregistered);
        if unregistered {
            drop(state);
            if !was {
                self.notify();
            }
            return Ok(Fetched::Unknown);
        }
        if answer.status == 200 {
            state.cached = Some(CachedConfig {
                tag: answer.header("ETag").map(str::to_owned),
                document: document.clone(),
            });
        }
        Ok(Fetched::Config(document))
    }

    /// Sends a GET request to the server that answered last, else to the others in turn.
    fn get(&self, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let mut outcome = Err(String::new());
        for _ in &self.urls {
            outcome = match self.client.get(self.url_with_secrets(), headers) {
                Ok(answer) if !matches!(answer.status, 502..=504) => return Ok(answer),
                Ok(answer) => Err(self.describe(&answer)),
                Err(error) => Err(error.to_string()),
            };
            self.current.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    fn describe(&self, answer: &Answer) -> String {
        let message: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        let message = message.as_ref().and_then(|message| {
            ["message", "error"]
                .iter()
                .find_map(|key| message.get(*key)?.as_str())
        });
        let message = printable(message.unwrap_or_default(), 300);
        let colon = if message.is_empty() { "" } else { ": " };
        format!("{}: status {}{colon}{message}", self.url(), answer.status)
    }

    /// Sends pending changes to the server. If the server does not know the board, it gets its last known configuration, else
    /// `local`. `selection` is what the board exports. Returns the configuration that the server has then.
    pub(in crate::store) fn send_changes(
        &self,
        local: impl Fn() -> Result<Document, String>,
        selection: Option<&Switches>,
    ) -> Result<Document, String> {
        for _ in 0..MAX_ATTEMPTS {
            let fetched = self.fetch()?;
            let (sent, cached) = {
                let state = lock::lock(&self.state);
                (state.pending.clone(), state.cached.clone())
            };
            let tag = cached.as_ref().and_then(|cached| cached.tag.clone());
            let (mut document, condition) = match (&fetched, cached) {
                (Fetched::Invalid(why), _) => {
                    return Err(format!(
                        "no changes are sent while the server's configuration is invalid: {why}"
                    ))
                }
                (Fetched::Config(document), _) => {
                    (document.clone(), tag.map(|tag| ("If-Match", tag)))
                }
                (Fetched::Unknown, cached) => {
                    let cached = cached.filter(|cached| cached.document.read(&SCHEMA).is_ok());
                    let document = cached.map_or_else(&local, |cached| Ok(cached.document))?;
                    (document, Some(("If-None-Match", "*".to_string())))
                }
            };
            document.read(&SCHEMA).map_err(|why| {
                format!(
                    "{}: no changes are sent while the configuration is invalid: {}",
                    self.url(),
                    why.message
                )
            })?;
            sent.merge_into(&mut document, selection);
            if fetched == Fetched::Config(document.clone()) {
                self.mark_sent(&sent);
                return Ok(document);
            }
            match self.put(&document, condition) {
                Ok(Some(())) => {
                    self.mark_sent(&sent);
                    // The server adds what its groups have, and the tag of its answer includes that.
                    return Ok(match self.fetch() {
                        Ok(Fetched::Config(whole)) => whole,
                        _ => document,
                    });
                }
                // Another client has changed the configuration meanwhile.
                Ok(None) => {}
                Err(why) => return Err(why),
            }
        }
        Err(format!("{}: others change it all the time", self.url()))
    }

    /// `None` if the condition (`If-Match`, `If-None-Match`) failed.
    fn put(
        &self,
        document: &Document,
        condition: Option<(&str, String)>,
    ) -> Result<Option<()>, String> {
        let body = serde_json::to_vec(document).map_err(|e| e.to_string())?;
        let report = lock::lock(&self.state).report.headers();
        let mut headers: Vec<(&str, &str)> = vec![("Content-Type", "application/json"), CLOSE];
        headers.extend(report.iter().map(|(name, value)| (*name, value.as_str())));
        headers.extend(
            condition
                .as_ref()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let answer = self
            .client
            .put(self.url_with_secrets(), &headers, &body)
            .map_err(|e| e.to_string())?;
        match answer.status {
            200..=299 => {
                let mut state = lock::lock(&self.state);
                state.unregistered = false;
                state.cached = Some(CachedConfig {
                    tag: None,
                    document: document.clone(),
                });
                Ok(Some(()))
            }
            412 => Ok(None),
            _ => Err(self.describe(&answer)),
        }
    }
}

/// The `error` field of an error response.
fn error_code(answer: &Answer) -> Option<String> {
    let message: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    message.get("error")?.as_str().map(str::to_owned)
}
