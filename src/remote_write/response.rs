//! What a receiver's answer means. Pure: status and headers in, a verdict out. The body is for people alone.

use std::time::Duration;

use crate::config::Protocol;
use crate::http::parse_date;

/// No receiver makes us wait any longer.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// So much of what a receiver says is kept for the log.
const MOST_SAID: usize = 2000;
/// What a 2.0 receiver says of each kind of data: how much of it was written.
const WRITTEN: [&str; 3] = [
    "X-Prometheus-Remote-Write-Samples-Written",
    "X-Prometheus-Remote-Write-Histograms-Written",
    "X-Prometheus-Remote-Write-Exemplars-Written",
];

/// What was sent, and how it is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// The message.
    pub protocol: Protocol,
    /// The receiver has shown that it understands this message.
    pub understood: bool,
    /// The same samples may go out in another message, if it does not.
    pub alternative: bool,
    /// Samples in it.
    pub samples: u64,
    /// Whether it is sent again where there were too many (429).
    pub retry_on_429: bool,
}

/// What becomes of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has them, but for so many.
    Stored {
        /// Those that it says it has not written, though it accepts the request.
        unwritten: u64,
    },
    /// It does not understand the message: the samples may be sent in another (2.0, "Unsupported Request Content").
    NotUnderstood,
    /// It will never take the samples, which are never sent again; so many of them it has nevertheless.
    Refused {
        /// Those that it says it has written.
        written: u64,
        /// That may be because it is of 1.x, which answers a 2.0 message so: what follows is to be 1.0.
        older: bool,
    },
    /// They are to be sent again, after so long if it says so.
    Later(Option<Duration>),
}

/// What a receiver's answer means, by the specifications' sections on responses, retries and negotiation.
///
/// `now` is the wall clock in seconds since 1970, for a receiver that sends no date of its own.
pub fn judge<'h>(
    status: u16,
    header: impl Fn(&str) -> Option<&'h str>,
    sent: Sent,
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
        429 if sent.retry_on_429 => Verdict::Later(wait(&header, now)),
        400..=499 => Verdict::Refused {
            written,
            // Or it does not read it at all.
            older: status == 400 && is_second && !sent.understood && !says_written,
        },
        500..=599 => Verdict::Later(wait(&header, now)),
        // A redirect, or what is no answer at all: somebody has to mend something, and may.
        _ => Verdict::Later(None),
    }
}

/// What a receiver says of an error, as it is but for what would pass for other lines of our log.
pub fn words(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let chars = body.trim().chars().take(MOST_SAID);
    chars
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// One of the headers that count what was written.
fn written(value: Option<&str>) -> u64 {
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The wait of `Retry-After`: seconds, or a date, which is the receiver's, as is its `Date` (RFC 9110, 10.2.3).
fn wait<'h>(header: &impl Fn(&str) -> Option<&'h str>, now: i64) -> Option<Duration> {
    let value = header("Retry-After")?.trim();
    let seconds = if value.bytes().all(|b| b.is_ascii_digit()) {
        // What is too long for a number is long.
        value.parse().unwrap_or(u64::MAX)
    } else {
        let until = parse_date(value)?;
        let now = header("Date").and_then(parse_date).unwrap_or(now);
        u64::try_from(until.saturating_sub(now)).unwrap_or(0)
    };
    (!value.is_empty()).then(|| Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
