//! Getting a device's answers, recorded or replayed. Logging in is not recorded: no password, no token, and no query.

use super::settings::Device;
use crate::config::url_without_secrets;
use crate::http::client::{Client, Limits};
use crate::sources::io_log::{escape_word, Failure, IoLog, Response};
use crate::sources::Error;

/// The largest answer. Redfish's `Power` of a server with many sensors takes some 60 KB.
const MAX_BODY: u64 = 256 * 1024;
const JSON: &[(&str, &str)] = &[("Accept", "application/json")];

/// Gets the answers of one device.
pub(super) struct Getter {
    io_log: IoLog,
    /// `None` when replaying.
    client: Option<Client>,
}

/// An answer that is there.
pub(super) enum Answer {
    /// The body of an answer with the status 200.
    Body(Vec<u8>),
    /// Another status; and where a redirect leads to, or which login is asked for.
    Status(u16, String),
}

impl Getter {
    pub(super) fn new(device: &Device, io_log: &IoLog) -> Result<Getter, Error> {
        let limits = Limits {
            timeout: device.timeout,
            body: MAX_BODY,
        };
        let client = match io_log.replay() {
            Some(_) => None,
            None => Some(
                Client::new(device.client.clone(), limits)
                    .map_err(|error| Error::new(error.to_string()))?,
            ),
        };
        Ok(Getter {
            io_log: io_log.clone(),
            client,
        })
    }

    /// Gets a URL. The error: there was no whole answer.
    pub(super) fn get(&self, url: &str, number: usize) -> Result<Answer, Error> {
        let key = key(url, number);
        let response: Response = self.io_log.record_or_replay(&key, || {
            let client = self
                .client
                .as_ref()
                .ok_or_else(|| Failure::new("a replay sends no requests"))?;
            let answer = client
                .get(url, JSON)
                .map_err(|error| Failure::new(error.to_string()))?;
            if !answer.whole {
                let url = url_without_secrets(url);
                let most = MAX_BODY / 1024;
                return Err(Failure::new(format!(
                    "{url}: the answer is longer than {most} KiB"
                )));
            }
            // As it is recorded: the status with its note, and what was answered with 200.
            let challenge = answer.header("WWW-Authenticate").unwrap_or_default();
            let note = match answer.status {
                401 => challenge.split_whitespace().next().unwrap_or_default(),
                _ => answer
                    .header("Location")
                    .map(url_without_secrets)
                    .unwrap_or_default(),
            };
            let mut recorded = format!("{} {note}\n", answer.status).into_bytes();
            if answer.status == 200 {
                recorded.extend_from_slice(&answer.body);
            }
            Ok(recorded)
        });
        let recorded = response.map_err(|failure| Error::new(failure.message))?;
        let end = recorded
            .iter()
            .position(|b| *b == b'\n')
            .unwrap_or(recorded.len());
        let (head, body) = recorded.split_at_checked(end).unwrap_or_default();
        let head = String::from_utf8_lossy(head);
        let (status, note) = head.split_once(' ').unwrap_or((&head, ""));
        match status.parse() {
            Ok(200) => Ok(Answer::Body(body.get(1..).unwrap_or_default().to_vec())),
            Ok(status) => Ok(Answer::Status(status, note.to_string())),
            Err(_) => Err(Error::new(format!(
                "{}: the recording has no status",
                url_without_secrets(url)
            ))),
        }
    }
}

/// The name of a request in a recording: the path without its query, and a number that tells paths apart.
fn key(url: &str, number: usize) -> String {
    let bare = url_without_secrets(url);
    let (_, rest) = bare.split_once("://").unwrap_or(("", bare));
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    format!("GET {} {number}", escape_word(path))
}
