//! Posts samples to a receiver in the message that it understands.

use std::sync::Arc;

use super::feed::Run;
use super::response::{error_text, judge, SentRequest, Verdict};
use crate::config::url_without_secrets;
use crate::config::Protocol;
use crate::config::RemoteWrite;
use crate::http::client::{Answer, Client, Error, Limits};
use crate::sys::clock::wall_seconds;

/// One receiver, and what is known of it.
pub(super) struct Receiver {
    client: Arc<Client>,
    url: String,
    /// The message of the configuration, and the one that is sent now.
    configured: Protocol,
    protocol: Protocol,
    /// The receiver is known to understand this message.
    is_understood: bool,
    /// The receiver has understood neither message: each is tried in turn, with samples of its own.
    understands_neither: bool,
    retry_on_429: bool,
}

/// The outcome of a request.
pub(super) struct Reply {
    pub(super) verdict: Verdict,
    /// `None`: there was no response.
    pub(super) status: Option<u16>,
    /// The error, for people: the receiver's text as it is.
    pub(super) error: String,
    /// The `Date` of the response; the outer `None`: there was no response.
    pub(super) date: Option<Option<String>>,
    /// Bytes of the request's body.
    pub(super) bytes: u64,
}

impl Receiver {
    /// The receiver of an entry. The error is about the proxy.
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
            is_understood: false,
            understands_neither: false,
            retry_on_429: entry.queue.retry_on_http_429,
        })
    }

    /// The client, with which a request can be aborted.
    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// Whether the receiver is sent 2.0 without being known to understand it.
    pub(super) fn may_not_understand(&self) -> bool {
        self.protocol == Protocol::V2 && !self.is_understood
    }

    /// Sends samples. `switched`: the other message was tried for them already.
    pub(super) fn post(&mut self, runs: &[Run], switched: bool) -> Reply {
        let Some(body) = self.protocol.encode(runs) else {
            return Reply {
                verdict: Verdict::Refused {
                    written: 0,
                    may_be_v1: false,
                },
                status: None,
                error: "the samples are too many for one request".into(),
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
                    verdict: Verdict::Retry(None),
                    status: None,
                    error: error.to_string(),
                    date: None,
                    bytes,
                }
            }
        };
        let sent = SentRequest {
            protocol: self.protocol,
            is_understood: self.is_understood,
            alternative: !switched && !self.understands_neither && self.configured == Protocol::V2,
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
            Verdict::Stored { .. } => {
                (self.is_understood, self.understands_neither) = (true, false)
            }
            Verdict::NotUnderstood => self.switch(),
            Verdict::Refused {
                may_be_v1: true, ..
            } => self.protocol = Protocol::V1,
            Verdict::Refused { .. } if answer.status == 415 && self.configured == Protocol::V2 => {
                self.understands_neither = true;
                self.switch();
            }
            Verdict::Refused { .. } | Verdict::Retry(_) => {}
        }
        Reply {
            verdict,
            status: Some(answer.status),
            error: self.error_message(&answer),
            date: Some(date_of(&answer)),
            bytes,
        }
    }

    fn switch(&mut self) {
        self.protocol = match self.protocol {
            Protocol::V1 => Protocol::V2,
            Protocol::V2 => Protocol::V1,
        };
        self.is_understood = false;
    }

    /// The message that is sent next.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Requests the receiver's time, without sending samples.
    pub(super) fn request_date(&self) -> Result<Option<String>, Error> {
        // A test suite of receivers counts the requests without these headers, and is to find none.
        let answer = self.client.head(&root(&self.url), &self.headers());
        answer.map(|answer| date_of(&answer))
    }

    fn headers(&self) -> [(&'static str, &'static str); 3] {
        [
            ("Content-Encoding", "snappy"),
            ("Content-Type", self.protocol.content_type()),
            ("X-Prometheus-Remote-Write-Version", self.protocol.version()),
        ]
    }

    fn error_message(&self, answer: &Answer) -> String {
        let text = error_text(&answer.body);
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

fn date_of(answer: &Answer) -> Option<String> {
    answer.header("Date").map(str::to_string)
}

/// The root of the same server.
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
    fn root_of_a_url() {
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
