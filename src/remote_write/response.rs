//! Decides what a receiver's response means. Pure: status and headers in, a verdict out. The body is for people alone.

use std::time::Duration;

use crate::config::Protocol;
use crate::http::parse_date;

/// The longest delay that a receiver can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// How many characters of a response's body are logged.
const MAX_ERROR_CHARS: usize = 2000;
/// The headers in which a 2.0 receiver counts what it has written, by kind of data.
const WRITTEN: [&str; 3] = [
    "X-Prometheus-Remote-Write-Samples-Written",
    "X-Prometheus-Remote-Write-Histograms-Written",
    "X-Prometheus-Remote-Write-Exemplars-Written",
];

/// A request, as far as the verdict depends on it.
#[derive(Debug, Clone, Copy)]
pub struct SentRequest {
    /// The message.
    pub protocol: Protocol,
    /// The receiver is known to understand this message.
    pub is_understood: bool,
    /// The same samples may be sent in the other message, if the receiver does not understand this one.
    pub alternative: bool,
    /// Samples in the request.
    pub samples: u64,
    /// Whether the request is sent again after status 429, too many requests.
    pub retry_on_429: bool,
}

/// What becomes of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver accepted the request.
    Stored {
        /// The samples that the receiver accepted, and reports as not written.
        unwritten: u64,
    },
    /// The receiver does not understand the message: the samples may be sent in another (2.0, "Unsupported Request
    /// Content").
    NotUnderstood,
    /// The receiver will never take the samples. They are not sent again.
    Refused {
        /// The samples that the receiver reports as written nevertheless.
        written: u64,
        /// The receiver may be one of 1.x, which responds to a 2.0 message like this: 1.0 is sent from now on.
        may_be_v1: bool,
    },
    /// The samples are to be sent again, after this delay if the receiver asks for one.
    Retry(Option<Duration>),
}

/// Decides what a receiver's response means, by the specifications' sections on responses, retries and negotiation.
///
/// `now` is the wall clock in seconds since 1970, for a receiver that sends no date of its own.
pub fn judge<'h>(
    status: u16,
    header: impl Fn(&str) -> Option<&'h str>,
    sent: SentRequest,
    now: i64,
) -> Verdict {
    let says_written = WRITTEN.iter().any(|name| header(name).is_some());
    let written = written(header(WRITTEN[0])).min(sent.samples);
    let is_second = sent.protocol == Protocol::V2;
    match status {
        // A 1.x receiver reads a 2.0 message as an empty one, and stores nothing.
        200..=299 if is_second && !says_written && sent.alternative => Verdict::NotUnderstood,
        200..=299 if is_second => Verdict::Stored {
            unwritten: sent.samples - written,
        },
        // In 1.0 the headers mean nothing: Prometheus itself has sent them with 0 (client_golang#1927).
        200..=299 => Verdict::Stored { unwritten: 0 },
        415 if sent.alternative => Verdict::NotUnderstood,
        429 if sent.retry_on_429 => Verdict::Retry(wait(&header, now)),
        400..=499 => Verdict::Refused {
            written,
            // Or the receiver does not read a 2.0 message at all.
            may_be_v1: status == 400 && is_second && !sent.is_understood && !says_written,
        },
        500..=599 => Verdict::Retry(wait(&header, now)),
        // A redirect, or an invalid status: a person has to fix something, and may.
        _ => Verdict::Retry(None),
    }
}

/// The body of an error, unchanged but for control characters, which could fake other log lines.
pub fn error_text(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let chars = body.trim().chars().take(MAX_ERROR_CHARS);
    chars
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The value of a header that counts what was written.
fn written(value: Option<&str>) -> u64 {
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The delay of `Retry-After`: seconds, or a date by the receiver's clock, as is its `Date` (RFC 9110, 10.2.3).
fn wait<'h>(header: &impl Fn(&str) -> Option<&'h str>, now: i64) -> Option<Duration> {
    let value = header("Retry-After")?.trim();
    let seconds = if value.bytes().all(|b| b.is_ascii_digit()) {
        // A number too large to parse is a long delay.
        value.parse().unwrap_or(u64::MAX)
    } else {
        let until = parse_date(value)?;
        let now = header("Date").and_then(parse_date).unwrap_or(now);
        u64::try_from(until.saturating_sub(now)).unwrap_or(0)
    };
    (!value.is_empty()).then(|| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
