//! Waiting until stamps may leave the board: our clock is not plainly wrong, and the receiver's agrees with it.

use std::time::Duration;

use super::super::agreement::Clocks;
use super::{Backoff, Delivery, Ending};
use crate::metrics::Offset;

/// How often is looked whether a doubtful clock was set.
const HOLD: Duration = Duration::from_secs(1);
/// How often a receiver whose clock differs is asked for it again.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// A receiver that so many times in a row let itself be connected to, and then did not answer, will not do so.
const MOST_ASKED: u32 = 3;

impl Delivery {
    /// Waits until stamps may leave the board.
    pub(super) fn trusted(&mut self) -> Result<Offset, Ending> {
        let queue = &self.entry.queue;
        let mut backoff = Backoff::new(queue.min_backoff, queue.max_backoff);
        let mut unanswered = 0;
        loop {
            let Some(offset) = self.clock.offset() else {
                self.hold(true);
                self.pause(HOLD)?;
                continue;
            };
            let ahead = self.agreement.ahead_ms(&offset);
            self.stats.change(|numbers| numbers.skew_ms = ahead);
            match self.agreement.clocks(&offset) {
                Clocks::Agree => {
                    self.hold(false);
                    self.report.clocks_agree();
                    return Ok(offset);
                }
                Clocks::Unknown => {}
                Clocks::Differ(ahead) => {
                    self.hold(true);
                    self.report.clocks_differ(ahead);
                    self.pause(ASK_AGAIN)?;
                }
            }
            let why = match self.receiver.ask_date() {
                Ok(date) => {
                    self.learn(Some(&date));
                    continue;
                }
                Err(why) => why,
            };
            // Of one that cannot be reached nothing is known: it may have a clock when it is back.
            unanswered = if why.was_connected() {
                unanswered + 1
            } else {
                0
            };
            if unanswered >= MOST_ASKED {
                self.report.has_no_clock(&why.to_string());
                self.agreement.assume(&offset);
                continue;
            }
            self.report.fails(&why.to_string());
            self.pause(backoff.wait(None))?;
        }
    }

    /// Learns from an answer's `Date`; the outer `None`: there was no answer.
    pub(super) fn learn(&mut self, date: Option<&Option<String>>) {
        match (date, self.clock.offset()) {
            (None, _) => self.agreement.unanswered(),
            (Some(date), Some(offset)) => self.agreement.learn(&offset, date.as_deref()),
            (Some(_), None) => {}
        }
    }

    fn hold(&self, held: bool) {
        self.stats.change(|numbers| numbers.held = held);
    }
}
