//! What a sender says in the log: once when something changes, not at every request.

use std::time::{Duration, Instant};

/// What stays as it is is said again after so long.
const AGAIN: Duration = Duration::from_secs(3600);

/// What was said last.
pub(super) struct Report {
    name: String,
    failing: Option<String>,
    refused: Option<(Option<u16>, Instant)>,
    clocks_differ: bool,
}

impl Report {
    pub(super) fn new(name: &str) -> Report {
        Report {
            name: name.to_string(),
            failing: None,
            refused: None,
            clocks_differ: false,
        }
    }

    /// Samples were delivered.
    pub(super) fn fine(&mut self) {
        if self.failing.take().is_some() {
            log::info!("remote write {}: delivers again", self.name);
        }
    }

    /// There was no answer, or one that means: later.
    pub(super) fn fails(&mut self, why: &str) {
        if self.failing.as_deref() != Some(why) {
            log::warn!("remote write {}: {why}; trying again", self.name);
            self.failing = Some(why.to_string());
        }
    }

    /// The receiver does not want some samples. Between them it may take others, so that its taking some is no change.
    pub(super) fn refused(&mut self, status: Option<u16>, why: &str) {
        let known = self
            .refused
            .filter(|(last, at)| *last == status && at.elapsed() < AGAIN);
        if known.is_none() {
            log::error!(
                "remote write {}: samples are refused, and dropped: {why}",
                self.name
            );
            self.refused = Some((status, Instant::now()));
        }
    }

    /// The receiver does not understand 2.0.
    pub(super) fn falls_back(&self, why: &str) {
        log::warn!(
            "remote write {}: the receiver does not understand remote write 2.0 ({why}); it gets 1.0 \
             (`protobuf_message: prometheus.WriteRequest` spares it the question)",
            self.name
        );
    }

    pub(super) fn clocks_differ(&mut self, ahead_ms: i64) {
        if !std::mem::replace(&mut self.clocks_differ, true) {
            log::error!(
                "remote write {}: this board's clock is {:+.0} s from the receiver's: nothing is sent until they agree \
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
