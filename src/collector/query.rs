//! The client of Prometheus's query API.

use std::fmt::Write as _;
use std::time::Duration;

use super::prometheus::{self, error_message, excerpt, Error, Series, MAX_SERIES};
use crate::config::queries::LABELS;
use crate::config::ClientSettings as Settings;
use crate::http::client::{Client, Error as ClientError, Limits};

/// The longest answer: [`MAX_SERIES`] series take some 6 MB.
const MAX_BODY: u64 = 16 * 1024 * 1024;

/// A Prometheus, or a server with the same API.
pub struct Prometheus {
    client: Client,
    /// `…/api/v1/query`.
    url: String,
    timeout: Duration,
}

impl Prometheus {
    /// The server at this URL, which may have a path. Sends no request yet.
    pub fn new(
        base: &str,
        settings: Settings,
        timeout: Duration,
    ) -> Result<Prometheus, ClientError> {
        let limits = Limits {
            timeout,
            body: MAX_BODY,
        };
        Ok(Prometheus {
            client: Client::new(settings, limits)?,
            url: format!("{base}/api/v1/query"),
            timeout,
        })
    }

    /// Sends an instant query for the moment `at`, in seconds since 1970; `None`: for Prometheus's current time. The error is
    /// a message that names the URL.
    pub fn query(&self, query: &str, at: Option<f64>) -> Result<Vec<Series>, String> {
        // Newer versions stop at the limit; older ones ignore it.
        let limit = MAX_SERIES + 1;
        let timeout = self.timeout.as_secs_f64();
        let query = percent_encoded(query);
        let mut url = format!(
            "{}?query={query}&timeout={timeout}s&limit={limit}",
            self.url
        );
        if let Some(at) = at {
            let _ = write!(url, "&time={at:.3}");
        }
        let accept = [("Accept", "application/json")];
        let answer = self.client.get(&url, &accept).map_err(|e| e.to_string())?;
        let with_url = |what: String| format!("{}: {what}", self.url);
        let kind = answer.header("Content-Type").unwrap_or("of no kind");
        match (answer.status, error_message(&answer.body)) {
            (200, _) => {}
            (status, Some(why)) => {
                return Err(with_url(format!("status {status}: Prometheus says {why}")))
            }
            (status @ 300..=399, _) => {
                let to = excerpt(answer.header("Location").unwrap_or_default());
                return Err(with_url(format!("status {status}: it is elsewhere: {to}")));
            }
            (status, None) => return Err(with_url(format!("status {status} ({})", excerpt(kind)))),
        }
        if !answer.whole {
            let most = MAX_BODY / 1024 / 1024;
            let what =
                format!("the answer is longer than {most} MiB: sum by node or pod in the query");
            return Err(with_url(what));
        }
        prometheus::parse(answer.body.as_slice(), LABELS).map_err(|error| {
            let is_html = matches!(error, Error::Json(_)) && !kind.contains("json");
            with_url(match is_html {
                true => format!(
                    "{error} but {} (is this a Prometheus, and none behind a login page?)",
                    excerpt(kind)
                ),
                false => error.to_string(),
            })
        })
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_percent_encoded() {
        assert_eq!(
            percent_encoded("sum by (a) (b{c!=\"\u{fc}\"}) + 1"),
            "sum%20by%20%28a%29%20%28b%7Bc%21%3D%22%C3%BC%22%7D%29%20%2B%201"
        );
    }
}
