//! The log lines of a sender: once when something changes, not at every request.

use std::time::{Duration, Instant};

use crate::config::Protocol;
use crate::http::RateLimiter;

/// A lasting refusal is logged again after this time.
const REPEAT_INTERVAL: Duration = Duration::from_secs(3600);
/// A receiver that sends another error each time gets this many lines at once, and one more in each period.
const LOG_BURST: u32 = 8;
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// What was logged last.
pub(super) struct DeliveryLog {
    name: String,
    lines: RateLimiter,
    /// The errors since the last delivery.
    errors: Vec<String>,
    no_time: bool,
    refused: Option<(Option<u16>, Instant)>,
    writes_fewer: bool,
    clocks_differ: bool,
}

impl DeliveryLog {
    pub(super) fn new(name: &str) -> DeliveryLog {
        DeliveryLog {
            name: name.to_string(),
            lines: RateLimiter::new(LOG_BURST, LOG_PERIOD),
            errors: Vec::new(),
            no_time: false,
            refused: None,
            writes_fewer: false,
            clocks_differ: false,
        }
    }

    /// Whether the log has room for one more line. What happened is counted in any case.
    fn may_log(&self) -> bool {
        self.lines.take(Instant::now()).is_ok()
    }

    /// Logs that samples were delivered, after errors.
    pub(super) fn delivered(&mut self) {
        if !std::mem::take(&mut self.errors).is_empty() {
            log::info!("remote write {}: samples are delivered again", self.name);
        }
    }

    /// Logs that there was no response, or one that means to retry.
    pub(super) fn failed(&mut self, why: &str) {
        if !self.errors.iter().any(|known| known == why) && self.may_log() {
            log::warn!("remote write {}: {why}; trying again", self.name);
            // Samples and requests for the time may fail in turn, each in its own way.
            self.errors.truncate(1);
            self.errors.insert(0, why.to_string());
        }
    }

    /// Logs that the receiver refuses samples. Between refusals it may take others: that is no change.
    pub(super) fn refused(&mut self, status: Option<u16>, why: &str) {
        let known = self
            .refused
            .filter(|(last, at)| *last == status && at.elapsed() < REPEAT_INTERVAL);
        if known.is_none() && self.may_log() {
            log::error!(
                "remote write {}: the receiver refuses samples, which are dropped: {why}",
                self.name
            );
            self.refused = Some((status, Instant::now()));
        }
    }

    /// Logs that what is left at the end is not sent.
    pub(super) fn gave_up(&self) {
        log::warn!(
            "remote write {}: remaining samples are not sent: the receiver has refused everything so far",
            self.name
        );
    }

    /// Logs when the receiver begins or ends to write fewer samples of an accepted request than were sent.
    pub(super) fn written(&mut self, written: u64, samples: u64) {
        let fewer = written < samples;
        if std::mem::replace(&mut self.writes_fewer, fewer) == fewer {
            return;
        }
        match fewer {
            true => log::error!(
                "remote write {}: the receiver accepts requests but reports fewer samples as written ({written} of {samples}): \
                 the others are dropped, and counted as not_written (see the receiver's log)",
                self.name
            ),
            false => log::info!("remote write {}: the receiver writes all samples again", self.name),
        }
    }

    /// Logs that the receiver did not understand the last message, and that it gets `to` from now on.
    pub(super) fn switched(&self, to: Protocol, why: &str) {
        match to {
            _ if !self.may_log() => {}
            Protocol::V1 => log::warn!(
                "remote write {}: the receiver does not understand remote write 2.0 ({why}); it gets 1.0 \
                 (set `protobuf_message: prometheus.WriteRequest` to avoid the attempt)",
                self.name
            ),
            Protocol::V2 => log::warn!(
                "remote write {}: the receiver does not understand remote write 1.0 ({why}); it gets 2.0 again",
                self.name
            ),
        }
    }

    /// Logs that the receiver does not tell the time.
    pub(super) fn no_time(&mut self, why: &str) {
        if !std::mem::replace(&mut self.no_time, true) {
            log::warn!(
            "remote write {}: the receiver does not report its time ({why}): samples are sent without comparing clocks",
            self.name
        );
        }
    }

    pub(super) fn clocks_differ(&mut self, ahead_ms: i64) {
        if !std::mem::replace(&mut self.clocks_differ, true) {
            log::error!(
                "remote write {}: this board's clock differs from the receiver's by {:+.0} s: samples are held until the clocks agree \
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
