//! Waits until time stamps may leave the board: this board's clock is not plainly wrong, and the receiver's agrees with
//! it.

use std::time::{Duration, Instant};

use super::super::receiver_clock::Clocks;
use super::{Delivery, EndMode};
use crate::metrics::Offset;

/// How often a doubtful clock is checked.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A receiver whose clock differs is asked again after `ASK_AGAIN_BACKOFFS` times the longest delay between requests,
/// and no later than `MAX_ASK_AGAIN`.
const ASK_AGAIN_BACKOFFS: u32 = 3;
const MAX_ASK_AGAIN: Duration = Duration::from_secs(15);
/// A receiver that accepted this many connections in a row without responding will not tell the time.
const MAX_UNANSWERED: u32 = 3;

impl Delivery {
    /// Waits until time stamps may leave the board.
    ///
    /// The receiver is asked for its time only while the kernel reports this board's clock as not synchronised.
    /// Otherwise the responses to samples tell the time. When they have told that the clocks differ, samples are sent
    /// rarely, to be told again.
    pub(super) fn wait_for_clock(&mut self) -> Result<Offset, EndMode> {
        let mut unanswered = 0;
        loop {
            let Some(offset) = self.clock.offset() else {
                self.set_held(true);
                self.pause(CLOCK_CHECK_INTERVAL)?;
                continue;
            };
            let ahead = self.receiver_clock.ahead_ms(&offset);
            self.stats.change(|numbers| numbers.skew_ms = ahead);
            match self.receiver_clock.compare(&offset) {
                Clocks::Agree => {
                    self.set_held(false);
                    self.log.clocks_agree();
                    return Ok(offset);
                }
                Clocks::Unknown if !self.may_request_time() => {
                    self.set_held(false);
                    return Ok(offset);
                }
                Clocks::Unknown => {}
                Clocks::Differ(ahead) => {
                    self.set_held(true);
                    self.log.clocks_differ(ahead);
                    let longest = self.entry.queue.max_backoff;
                    let span = MAX_ASK_AGAIN.min(longest.saturating_mul(ASK_AGAIN_BACKOFFS));
                    let since = self.responded_at.map_or(span, |at| at.elapsed());
                    if since < span {
                        // The clock may be set meanwhile.
                        self.pause((span - since).min(CLOCK_CHECK_INTERVAL))?;
                        continue;
                    }
                    if !self.may_request_time() {
                        return Ok(offset);
                    }
                }
            }
            self.wait_for_backoff()?;
            let why = match self.receiver.request_date() {
                Ok(date) => {
                    self.backoff.reset();
                    self.learn_clock(Some(&date));
                    continue;
                }
                Err(why) => why,
            };
            // Nothing is known of a receiver that cannot be reached: it may have a clock when it is back.
            unanswered = if why.was_connected() {
                unanswered + 1
            } else {
                0
            };
            if unanswered >= MAX_UNANSWERED {
                self.log.no_time(&why.to_string());
                self.receiver_clock.assume(&offset);
                continue;
            }
            self.log.failed(&why.to_string());
            self.not_before = Some(Instant::now() + self.backoff.wait(None));
            self.wait_for_backoff()?;
        }
    }

    fn may_request_time(&self) -> bool {
        self.entry.ask_time && self.clock.is_unsynchronised()
    }

    /// Learns from a response's `Date`; the outer `None`: there was no response.
    pub(super) fn learn_clock(&mut self, date: Option<&Option<String>>) {
        if date.is_some() {
            self.responded_at = Some(Instant::now());
        }
        match (date, self.clock.offset()) {
            (None, _) => self.receiver_clock.unanswered(),
            (Some(date), Some(offset)) => self.receiver_clock.learn(&offset, date.as_deref()),
            (Some(_), None) => {}
        }
    }

    fn set_held(&self, held: bool) {
        self.stats.change(|numbers| numbers.held = held);
    }
}
