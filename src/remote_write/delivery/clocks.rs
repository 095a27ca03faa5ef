//! Waiting until stamps may leave the board: our clock is not plainly wrong, and the receiver's agrees with it.

use std::time::{Duration, Instant};

use super::super::agreement::Clocks;
use super::{Delivery, Ending};
use crate::metrics::Offset;

/// How often is looked whether a doubtful clock was set.
const HOLD: Duration = Duration::from_secs(1);
/// How often a receiver whose clock differs is asked for it again: after so many times the longest wait of a request, and
/// no later than this.
const ASK_AGAIN: (u32, Duration) = (3, Duration::from_secs(15));
/// A receiver that so many times in a row let itself be connected to, and then did not answer, will not do so.
const MOST_ASKED: u32 = 3;

impl Delivery {
    /// Waits until stamps may leave the board.
    ///
    /// The receiver is asked for its time only while the kernel says that our clock is not synchronised. Else the answers to
    /// samples tell; when they have told that the clocks differ, samples go out rarely, to be told again.
    pub(super) fn trusted(&mut self) -> Result<Offset, Ending> {
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
                Clocks::Unknown if !self.may_ask() => {
                    self.hold(false);
                    return Ok(offset);
                }
                Clocks::Unknown => {}
                Clocks::Differ(ahead) => {
                    self.hold(true);
                    self.report.clocks_differ(ahead);
                    let (times, most) = ASK_AGAIN;
                    let span = most.min(self.entry.queue.max_backoff.saturating_mul(times));
                    let since = self.answered.map_or(span, |at| at.elapsed());
                    if since < span {
                        // It may be set meanwhile.
                        self.pause((span - since).min(HOLD))?;
                        continue;
                    }
                    if !self.may_ask() {
                        return Ok(offset);
                    }
                }
            }
            self.take_turn()?;
            let why = match self.receiver.ask_date() {
                Ok(date) => {
                    self.backoff.reset();
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
            self.not_before = Some(Instant::now() + self.backoff.wait(None));
            self.take_turn()?;
        }
    }

    fn may_ask(&self) -> bool {
        self.entry.ask_time && self.clock.is_unsynchronised()
    }

    /// Learns from an answer's `Date`; the outer `None`: there was no answer.
    pub(super) fn learn(&mut self, date: Option<&Option<String>>) {
        if date.is_some() {
            self.answered = Some(Instant::now());
        }
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
