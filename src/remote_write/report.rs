//! What a sender says in the log: once when something changes, not at every request.

use std::time::{Duration, Instant};

use crate::config::Protocol;
use crate::http::RateLimiter;

/// What stays as it is is said again after so long.
const AGAIN: Duration = Duration::from_secs(3600);
/// A receiver that says something else each time gets so many lines at once, and one more in each period.
const LINES: (u32, Duration) = (8, Duration::from_secs(60));

/// What was said last.
pub(super) struct Report {
    name: String,
    lines: RateLimiter,
    /// What has gone wrong since something was delivered.
    failing: Vec<String>,
    has_no_clock: bool,
    refused: Option<(Option<u16>, Instant)>,
    writes_less: bool,
    clocks_differ: bool,
}

impl Report {
    pub(super) fn new(name: &str) -> Report {
        Report {
            name: name.to_string(),
            lines: RateLimiter::new(LINES.0, LINES.1),
            failing: Vec::new(),
            has_no_clock: false,
            refused: None,
            writes_less: false,
            clocks_differ: false,
        }
    }

    /// Whether there is room in the log for a line more. What happened is counted in any case.
    fn may_say(&self) -> bool {
        self.lines.take(Instant::now()).is_ok()
    }

    /// Samples were delivered.
    pub(super) fn fine(&mut self) {
        if !std::mem::take(&mut self.failing).is_empty() {
            log::info!("remote write {}: delivers again", self.name);
        }
    }

    /// There was no answer, or one that means: later.
    pub(super) fn fails(&mut self, why: &str) {
        if !self.failing.iter().any(|said| said == why) && self.may_say() {
            log::warn!("remote write {}: {why}; trying again", self.name);
            // Samples and the question for the clock may fail in turn, and each in its own way.
            self.failing.truncate(1);
            self.failing.insert(0, why.to_string());
        }
    }

    /// The receiver does not want some samples. Between them it may take others, so that its taking some is no change.
    pub(super) fn refused(&mut self, status: Option<u16>, why: &str) {
        let known = self
            .refused
            .filter(|(last, at)| *last == status && at.elapsed() < AGAIN);
        if known.is_none() && self.may_say() {
            log::error!(
                "remote write {}: samples are refused, and dropped: {why}",
                self.name
            );
            self.refused = Some((status, Instant::now()));
        }
    }

    /// What is left at the end is not sent.
    pub(super) fn gives_up(&self) {
        log::warn!(
            "remote write {}: what is left is not sent: the receiver has refused everything so far",
            self.name
        );
    }

    /// The receiver accepts a request, and says how many of its samples it has written.
    pub(super) fn written(&mut self, written: u64, samples: u64) {
        let less = written < samples;
        if std::mem::replace(&mut self.writes_less, less) == less {
            return;
        }
        match less {
            true => log::error!(
                "remote write {}: the receiver accepts requests and says that it writes less ({written} of {samples} \
                 samples of this one): the others are dropped, and counted as not_written (its own log may say why)",
                self.name
            ),
            false => log::info!("remote write {}: the receiver writes all again", self.name),
        }
    }

    /// The receiver does not understand the message that it got: it gets this one.
    pub(super) fn switches(&self, to: Protocol, why: &str) {
        match to {
            _ if !self.may_say() => {}
            Protocol::V1 => log::warn!(
                "remote write {}: the receiver does not understand remote write 2.0 ({why}); it gets 1.0 \
                 (`protobuf_message: prometheus.WriteRequest` spares it the question)",
                self.name
            ),
            Protocol::V2 => log::warn!(
                "remote write {}: the receiver does not understand remote write 1.0 ({why}); it gets 2.0 again",
                self.name
            ),
        }
    }

    /// The receiver does not answer what is asked for its clock.
    pub(super) fn has_no_clock(&mut self, why: &str) {
        if !std::mem::replace(&mut self.has_no_clock, true) {
            log::warn!(
            "remote write {}: the receiver does not say what time it is ({why}): samples are sent without knowing",
            self.name
        );
        }
    }

    pub(super) fn clocks_differ(&mut self, ahead_ms: i64) {
        if !std::mem::replace(&mut self.clocks_differ, true) {
            log::error!(
                "remote write {}: this board's clock is {:+.0} s from the receiver's: samples are held until they agree \
                 (is NTP running on both?)",
                self.name,
                ahead_ms as f64 / 1000.0
            );
        }
    }

    pub(super) fn clocks_agree(&mut self) {
        if std::mem::replace(&mut self.clocks_differ, false) {
            log::info!("remote write {}: the clocks agree", self.name);
        }
    }
}
