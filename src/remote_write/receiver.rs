//! A receiver: asked in the message that it understands, and what it said.

use std::sync::Arc;

use super::feed::Run;
use super::response::{judge, words, Sent, Verdict};
use crate::config::url_without_secrets;
use crate::config::Protocol;
use crate::config::RemoteWrite;
use crate::http::client::{Answer, Client, Error, Limits};
use crate::sys::clock::wall_seconds;

/// One receiver.
pub(super) struct Receiver {
    client: Arc<Client>,
    url: String,
    /// The message that it is to be sent, and the one that it is sent.
    configured: Protocol,
    protocol: Protocol,
    /// It has shown that it understands this message.
    understood: bool,
    /// It has understood neither message: each is tried in turn, with samples of its own.
    neither: bool,
    retry_on_429: bool,
}

/// What it answered.
pub(super) struct Reply {
    pub(super) verdict: Verdict,
    /// `None`: there was no answer.
    pub(super) status: Option<u16>,
    /// What went wrong, for people: the receiver's words as they are.
    pub(super) said: String,
    /// Its `Date`; the outer `None`: there was no answer.
    pub(super) date: Option<Option<String>>,
    /// Bytes of the request's body.
    pub(super) bytes: u64,
}

impl Receiver {
    /// The receiver of an entry, which was not asked yet. The error is about the proxy.
    pub(super) fn new(entry: &RemoteWrite) -> Result<Receiver, String> {
        let limits = Limits {
            timeout: entry.timeout,
            body: 64 * 1024,
        };
        let client = Client::new(entry.client.clone(), limits).map_err(|e| e.to_string())?;
        Ok(Receiver {
            client: Arc::new(client),
            url: entry.url.clone(),
            configured: entry.protocol,
            protocol: entry.protocol,
            understood: false,
            neither: false,
            retry_on_429: entry.queue.retry_on_http_429,
        })
    }

    /// For whoever has to break a request off.
    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// Whether it is not known yet that it understands 2.0, which it is to be sent.
    pub(super) fn may_be_older(&self) -> bool {
        self.protocol == Protocol::V2 && !self.understood
    }

    /// Sends the samples. `switched`: another message was tried for them already.
    pub(super) fn post(&mut self, runs: &[Run], switched: bool) -> Reply {
        let Some(body) = self.protocol.encode(runs) else {
            return Reply {
                verdict: Verdict::Refused {
                    written: 0,
                    older: false,
                },
                status: None,
                said: "the samples are too many for one request".into(),
                date: None,
                bytes: 0,
            };
        };
        let headers = self.headers();
        let bytes = body.len() as u64;
        let answer = match self.client.post_for_status(&self.url, &headers, &body) {
            Ok(answer) => answer,
            Err(error) => {
                return Reply {
                    verdict: Verdict::Later(None),
                    status: None,
                    said: error.to_string(),
                    date: None,
                    bytes,
                }
            }
        };
        let sent = Sent {
            protocol: self.protocol,
            understood: self.understood,
            alternative: !switched && !self.neither && self.configured == Protocol::V2,
            samples: runs.iter().map(|run| run.samples.len() as u64).sum(),
            retry_on_429: self.retry_on_429,
        };
        let verdict = judge(
            answer.status,
            |name| answer.header(name),
            sent,
            wall_seconds(),
        );
        match verdict {
            Verdict::Stored { .. } => (self.understood, self.neither) = (true, false),
            Verdict::NotUnderstood => self.switch(),
            Verdict::Refused { older: true, .. } => self.protocol = Protocol::V1,
            Verdict::Refused { .. } if answer.status == 415 && self.configured == Protocol::V2 => {
                self.neither = true;
                self.switch();
            }
            Verdict::Refused { .. } | Verdict::Later(_) => {}
        }
        Reply {
            verdict,
            status: Some(answer.status),
            said: self.said(&answer),
            date: Some(date(&answer)),
            bytes,
        }
    }

    fn switch(&mut self) {
        self.protocol = match self.protocol {
            Protocol::V1 => Protocol::V2,
            Protocol::V2 => Protocol::V1,
        };
        self.understood = false;
    }

    /// The message that it is sent next.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Asks what time it is there, by a request that stores nothing.
    pub(super) fn ask_date(&self) -> Result<Option<String>, Error> {
        // Whoever counts requests of a sender is to find none without its headers.
        let answer = self.client.head(&root(&self.url), &self.headers());
        answer.map(|answer| date(&answer))
    }

    fn headers(&self) -> [(&'static str, &'static str); 3] {
        [
            ("Content-Encoding", "snappy"),
            ("Content-Type", self.protocol.content_type()),
            ("X-Prometheus-Remote-Write-Version", self.protocol.version()),
        ]
    }

    fn said(&self, answer: &Answer) -> String {
        let text = words(&answer.body);
        let status = answer.status;
        let moved = answer
            .header("Location")
            .filter(|_| (300..400).contains(&status));
        match (moved, text.as_str()) {
            (Some(to), _) => format!(
                "{}: status {status}: it is at {}",
                url_without_secrets(&self.url),
                url_without_secrets(to)
            ),
            (None, "") => format!("{}: status {status}", url_without_secrets(&self.url)),
            (None, text) => format!(
                "{}: status {status}: {text}",
                url_without_secrets(&self.url)
            ),
        }
    }
}

fn date(answer: &Answer) -> Option<String> {
    answer.header("Date").map(str::to_string)
}

/// The same server's first page.
fn root(url: &str) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let authority = url.get(begin..).unwrap_or_default();
    let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    format!("{}/", url.get(..begin + end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_url() {
        for (url, expected) in [
            ("http://h:9090/api/v1/write?x=/y", "http://h:9090/"),
            ("https://[::1]/", "https://[::1]/"),
            ("http://h", "http://h/"),
            ("http://h?x", "http://h/"),
        ] {
            assert_eq!(root(url), expected);
        }
    }
}
