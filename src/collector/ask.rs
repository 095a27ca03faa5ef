//! Asks Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

use super::prometheus::{self, refusal, shown, Error, Series, MAX_SERIES};
use crate::config::queries::LABELS;
use crate::config::ClientSettings as Settings;
use crate::http::client::{Client, Error as ClientError, Limits};

/// The longest answer that is read: [`MAX_SERIES`] series have some 6 MB.
const MAX_BODY: u64 = 16 * 1024 * 1024;

/// A Prometheus, or what answers as one does.
pub struct Prometheus {
    client: Client,
    /// `…/api/v1/query`.
    url: String,
    timeout: Duration,
}

impl Prometheus {
    /// The one at this URL, which may have a path. Nothing is asked yet.
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

    /// The answer to an instant query, at this moment in seconds since 1970, else at Prometheus's own now. The error is
    /// for people, and names the URL.
    pub fn ask(&self, query: &str, at: Option<f64>) -> Result<Vec<Series>, String> {
        // Newer ones stop there; the others ignore it.
        let limit = MAX_SERIES + 1;
        let timeout = self.timeout.as_secs_f64();
        let query = escaped(query);
        let mut url = format!(
            "{}?query={query}&timeout={timeout}s&limit={limit}",
            self.url
        );
        if let Some(at) = at {
            let _ = write!(url, "&time={at:.3}");
        }
        let accept = [("Accept", "application/json")];
        let answer = self.client.get(&url, &accept).map_err(|e| e.to_string())?;
        let about = |what: String| format!("{}: {what}", self.url);
        let kind = answer.header("Content-Type").unwrap_or("of no kind");
        match (answer.status, refusal(&answer.body)) {
            (200, _) => {}
            (status, Some(why)) => {
                return Err(about(format!("status {status}: Prometheus says {why}")))
            }
            (status @ 300..=399, _) => {
                let to = shown(answer.header("Location").unwrap_or_default());
                return Err(about(format!("status {status}: it is elsewhere: {to}")));
            }
            (status, None) => return Err(about(format!("status {status} ({})", shown(kind)))),
        }
        if !answer.whole {
            let most = MAX_BODY / 1024 / 1024;
            let what =
                format!("the answer is longer than {most} MiB: sum by node or pod in the query");
            return Err(about(what));
        }
        prometheus::parse(answer.body.as_slice(), LABELS).map_err(|error| {
            let is_html = matches!(error, Error::Json(_)) && !kind.contains("json");
            about(match is_html {
                true => format!(
                    "{error} but {} (is this a Prometheus, and none behind a login page?)",
                    shown(kind)
                ),
                false => error.to_string(),
            })
        })
    }
}

/// For a query of a URL: all but the unreserved characters of RFC 3986 as `%XX`.
pub(super) fn escaped(text: &str) -> String {
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
    fn queries_are_escaped() {
        assert_eq!(
            escaped("sum by (a) (b{c!=\"\u{fc}\"}) + 1"),
            "sum%20by%20%28a%29%20%28b%7Bc%21%3D%22%C3%BC%22%7D%29%20%2B%201"
        );
    }
}
