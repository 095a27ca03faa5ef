//! The work of a sender's thread: when to take a batch, how to split it into requests, how often to send a request, and
//! when to give up.

mod clocks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::delivery_log::DeliveryLog;
use super::feed::{BatchLimit, Feed, Pending, Run};
use super::receiver::{Receiver, Reply};
use super::receiver_clock::ReceiverClock;
use super::response::Verdict;
use super::sender::{Control, EndMode};
use super::split::{split_by_size, split_by_time, split_in_half};
use super::stats::Stats;
use crate::config::RemoteWrite;
use crate::metrics::{Offset, WallClock};
use crate::sys::clock::BootTime;

/// How often the feed is checked for samples to send.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The maximum number of samples in a request that the receiver may refuse as a whole, because some of them were sent
/// before, or because it does not understand the message. One refusal drops no more samples than that.
const MAX_SUSPECT_SAMPLES: usize = 200;

/// The state of a sender's thread.
pub(super) struct Delivery {
    entry: RemoteWrite,
    receiver: Receiver,
    feed: Box<dyn Feed>,
    clock: Arc<WallClock>,
    stats: Arc<Stats>,
    control: Arc<Control>,
    receiver_clock: ReceiverClock,
    log: DeliveryLog,
    /// The requests that are left of the current batch. The first one is the one that is being sent.
    requests: VecDeque<Vec<Run>>,
    /// Bisecting the last refused request found samples that were accepted: it is worth the requests next time, too.
    bisecting_pays: bool,
    /// The delays after failed requests.
    backoff: Backoff,
    /// When the next request may be sent: after a failed one, not at once. That holds for the requests of a flush, too.
    not_before: Option<Instant>,
    /// The last request was refused.
    was_refused: bool,
    /// When the receiver last responded.
    responded_at: Option<Instant>,
    /// Set when the sender is to finish: a wait that would go beyond this deadline ends the flush.
    flush_until: Option<Instant>,
}

/// The final outcome of a request.
enum Outcome {
    /// Also if the receiver reports that it stored only some of the samples. The others are counted as lost already.
    Stored,
    /// The samples are not sent again in one request. `divisible`: parts of them may be sent.
    Refused { divisible: bool, reason: String },
}

impl Delivery {
    pub(super) fn new(
        entry: RemoteWrite,
        receiver: Receiver,
        feed: Box<dyn Feed>,
        clock: Arc<WallClock>,
        stats: Arc<Stats>,
        control: Arc<Control>,
    ) -> Delivery {
        Delivery {
            log: DeliveryLog::new(&entry.name),
            backoff: Backoff::new(entry.queue.min_backoff, entry.queue.max_backoff),
            not_before: None,
            was_refused: false,
            responded_at: None,
            entry,
            receiver,
            feed,
            clock,
            stats,
            control,
            receiver_clock: ReceiverClock::default(),
            requests: VecDeque::new(),
            bisecting_pays: true,
            flush_until: None,
        }
    }

    /// Works until the sender is ended. Returns the feed.
    pub(super) fn run(mut self) -> Box<dyn Feed> {
        let Err(end_mode) = self.send_batches();
        if let EndMode::Finish(deadline) = end_mode {
            self.flush_until = Some(deadline);
            self.feed.finish();
            // After an error the rest is not sent: a wait would have gone beyond the deadline.
            let _ = self.flush();
            self.update_stats();
        }
        self.feed
    }

    /// Takes and delivers batches until the thread is to end.
    fn send_batches(&mut self) -> Result<std::convert::Infallible, EndMode> {
        let mut last_batch = Instant::now();
        loop {
            if let Some(end_mode) = self.control.end_mode() {
                return Err(end_mode);
            }
            let pending = self.update_stats();
            if self.is_due(pending, last_batch.elapsed()) {
                last_batch = Instant::now();
                if self.deliver_next()? {
                    continue;
                }
            }
            let left = self
                .entry
                .max_batch_wait()
                .saturating_sub(last_batch.elapsed());
            self.control.wait(CHECK_INTERVAL.min(left))?;
        }
    }

    /// Whether a batch is to be taken: it would be full, or the feed has samples that are overdue, or the last batch was
    /// taken so long ago.
    fn is_due(&self, pending: Pending, since_last_batch: Duration) -> bool {
        let queue = &self.entry.queue;
        let is_full = match queue.readings_per_send {
            Some(readings) => pending.readings >= readings as u64,
            None => pending.samples >= queue.max_samples_per_send as u64,
        };
        is_full || pending.overdue || since_last_batch >= self.entry.max_batch_wait()
    }

    /// Sends everything that is left.
    fn flush(&mut self) -> Result<(), EndMode> {
        // A receiver that has taken nothing so far has no series that could end, and will hardly take the first samples
        // now.
        if self.was_refused && self.stats.numbers().sent == 0 {
            self.log.gave_up();
            return Ok(());
        }
        // The staleness markers are a millisecond later than the last samples, and may not be sent before that moment:
        // after a short wait they go with the rest. What was read during the first round goes with the second.
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(3));
            while self.deliver_next()? {
                // The sources of a sender that the configuration no longer has go on, and may never leave nothing to send.
                self.pause(Duration::ZERO)?;
            }
        }
        Ok(())
    }

    /// Delivers the rest of an interrupted batch, or else takes a batch and delivers it. Refused samples are dropped.
    /// `false`: there was nothing to send.
    fn deliver_next(&mut self) -> Result<bool, EndMode> {
        let offset = self.wait_for_clock()?;
        if self.requests.is_empty() {
            let queue = &self.entry.queue;
            let limit = BatchLimit {
                samples: queue.max_samples_per_send,
                readings: queue.readings_per_send.unwrap_or(usize::MAX),
            };
            let Some(batch) = self.feed.next(&offset, BootTime::now(), limit) else {
                return Ok(false);
            };
            let max = queue.max_samples_per_send;
            // With `readings_per_send`, a request has exactly that many readings. It is not made smaller merely because the
            // receiver may not understand the message.
            let may_not_understand =
                self.receiver.may_not_understand() && queue.readings_per_send.is_none();
            self.requests = match batch.may_be_repeated || may_not_understand {
                true => split_by_time(&batch.runs, max.min(MAX_SUSPECT_SAMPLES)),
                false => split_by_size(&batch.runs, max),
            }
            .into();
        }
        while let Some(request) = self.requests.front() {
            let request = self.without_too_old(request, &offset);
            self.send(&request)?;
            self.requests.pop_front();
        }
        self.feed.done();
        self.update_stats();
        Ok(true)
    }

    /// The samples that are not beyond the age limit. The others are counted as lost.
    fn without_too_old(&self, runs: &[Run], offset: &Offset) -> Vec<Run> {
        let limit = self.entry.queue.sample_age_limit;
        let oldest = match limit.is_zero() {
            true => i64::MIN,
            false => offset.now_ms() - limit.as_millis() as i64,
        };
        let mut too_old = 0;
        let mut runs = runs.to_vec();
        runs.retain_mut(|run| {
            let begin = run.samples.partition_point(|(stamp, _)| *stamp < oldest);
            too_old += run.samples.drain(..begin).count() as u64;
            !run.samples.is_empty()
        });
        if too_old > 0 {
            self.stats.lose("too_old", too_old);
        }
        runs
    }

    /// Sends samples until the receiver has stored them, or has refused them for good. Bisects a refused request, if that
    /// may help, and counts what is lost.
    fn send(&mut self, runs: &[Run]) -> Result<(), EndMode> {
        if runs.is_empty() {
            return Ok(());
        }
        let outcome = self.request(runs)?;
        self.backoff.reset();
        let Outcome::Refused { divisible, reason } = outcome else {
            return Ok(());
        };
        if !divisible || sample_count(runs) == 1 {
            self.stats.lose(&reason, sample_count(runs));
            return Ok(());
        }
        let sent_before = self.stats.numbers().sent;
        let max = self.entry.queue.split_requests;
        // Two requests are enough to find out whether bisecting helps again.
        let budget = if self.bisecting_pays { max } else { max.min(2) };
        self.bisect(runs, budget, &reason)?;
        self.bisecting_pays = self.stats.numbers().sent > sent_before;
        Ok(())
    }

    /// Sends the halves of refused samples, and the halves of these, so that a bad sample does not cost the good ones
    /// beside it; ever more slowly while requests are refused. Spends at most `budget` requests, and returns what is
    /// left of the budget.
    fn bisect(&mut self, runs: &[Run], budget: u32, reason: &str) -> Result<u32, EndMode> {
        let Some((first, second)) = split_in_half(runs).filter(|_| budget >= 2) else {
            self.stats.lose(reason, sample_count(runs));
            return Ok(budget);
        };
        // Two requests are for the halves themselves. The first half may use three quarters of the rest, and the second
        // gets what is left: so a single bad sample is found in either half.
        let share = (budget - 2) - (budget - 2) / 4;
        let left = self.bisect_half(&first, share)?;
        self.bisect_half(&second, budget - 2 - share + left)
    }

    /// Sends a half, and bisects it if it is refused. Returns what is left of `budget`, which does not pay for the half
    /// itself.
    fn bisect_half(&mut self, half: &[Run], budget: u32) -> Result<u32, EndMode> {
        match self.request(half)? {
            Outcome::Stored => Ok(budget),
            Outcome::Refused { divisible, reason } => {
                let budget = if divisible { budget } else { 0 };
                self.bisect(half, budget, &reason)
            }
        }
    }

    /// Sends samples in one request, again and again until the receiver has stored or refused them.
    fn request(&mut self, runs: &[Run]) -> Result<Outcome, EndMode> {
        let samples = sample_count(runs);
        let mut switched = false;
        loop {
            self.wait_for_backoff()?;
            self.wait_for_clock()?;
            let reply = self.receiver.post(runs, switched);
            self.learn_clock(reply.date.as_ref());
            self.count_request(&reply);
            self.was_refused = matches!(reply.verdict, Verdict::Refused { .. });
            match reply.verdict {
                Verdict::Stored { unwritten } => {
                    self.backoff.reset();
                    self.log.delivered();
                    self.log.written(samples - unwritten, samples);
                    self.stats.change(|numbers| {
                        numbers.sent += samples - unwritten;
                        if unwritten == samples {
                            return;
                        }
                        let newest = runs.iter().filter_map(|r| Some(r.samples.last()?.0)).max();
                        numbers.highest_ms = numbers.highest_ms.max(newest);
                    });
                    if unwritten > 0 {
                        self.stats.lose("not_written", unwritten);
                    }
                    return Ok(Outcome::Stored);
                }
                Verdict::NotUnderstood => {
                    switched = true;
                    self.log.switched(self.receiver.protocol(), &reply.error);
                }
                Verdict::Refused { written, may_be_v1 } => {
                    self.log.refused(reply.status, &reply.error);
                    if may_be_v1 {
                        self.log.switched(self.receiver.protocol(), &reply.error);
                    }
                    // Bisecting follows with many requests, and is not to flood the receiver with them.
                    if self.entry.queue.split_requests > 0 {
                        self.not_before = Some(Instant::now() + self.backoff.wait(None));
                    }
                    // Without a status, the samples are too many for a request, and none was sent.
                    let reason = reply
                        .status
                        .map_or("too_large".into(), |s| format!("http_{s}"));
                    if written > 0 {
                        // The receiver stored what it could: sending parts again would only repeat samples.
                        self.stats.change(|numbers| numbers.sent += written);
                        self.stats.lose(&reason, samples - written);
                        return Ok(Outcome::Stored);
                    }
                    let divisible = matches!(reply.status, None | Some(400 | 413 | 422));
                    return Ok(Outcome::Refused { divisible, reason });
                }
                Verdict::Retry(asked) => {
                    self.log.failed(&reply.error);
                    self.not_before = Some(Instant::now() + self.backoff.wait(asked));
                    self.wait_for_backoff()?;
                    self.stats.change(|numbers| numbers.retries += 1);
                }
            }
        }
    }

    fn count_request(&self, reply: &Reply) {
        let outcome = match (reply.verdict, reply.status) {
            (Verdict::Stored { .. }, _) => "stored",
            (Verdict::NotUnderstood, _) => "not_understood",
            (Verdict::Refused { .. }, _) => "refused",
            (Verdict::Retry(_), Some(_)) => "retried",
            (Verdict::Retry(_), None) => "failed",
        };
        self.stats.request(outcome, reply.bytes);
    }

    /// Waits until the next request may be sent.
    fn wait_for_backoff(&mut self) -> Result<(), EndMode> {
        if let Some(at) = self.not_before {
            self.pause(at.saturating_duration_since(Instant::now()))?;
            self.not_before = None;
        }
        Ok(())
    }

    /// Waits for a time. `Err`: the thread is to end; or it flushes, and the deadline comes first.
    fn pause(&self, span: Duration) -> Result<(), EndMode> {
        // What is pending grows while nothing can be sent, and is to be seen in the statistics.
        self.update_stats();
        let Some(deadline) = self.flush_until else {
            return self.control.wait(span);
        };
        if deadline.saturating_duration_since(Instant::now()) <= span {
            return Err(EndMode::Finish(deadline));
        }
        std::thread::sleep(span);
        Ok(())
    }

    /// Updates the statistics of what is pending and lost. Returns what the feed has pending.
    fn update_stats(&self) -> Pending {
        let pending = self.feed.pending();
        let requests = self.requests.iter();
        let unsent: u64 = requests.map(|request| sample_count(request)).sum();
        self.stats.set_losses(self.feed.losses());
        let on_disk = self.feed.on_disk();
        self.stats.change(|numbers| {
            numbers.pending = pending.samples + unsent;
            numbers.on_disk = on_disk;
        });
        pending
    }
}

/// The number of samples.
fn sample_count(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.samples.len() as u64).sum()
}
