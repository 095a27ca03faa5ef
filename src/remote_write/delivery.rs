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
/// The samples in a request that may be refused because of some of them, which were sent before or which the receiver
/// may not understand: no more samples than these are dropped together.
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
    /// The requests that are left of the current batch.
    requests: VecDeque<Vec<Run>>,
    /// Bisecting the last refused batch found samples that were accepted: it is worth trying again.
    bisecting_pays: bool,
    /// The delays after failed requests, and when the next request may be sent. Ending the sender does not shorten
    /// them.
    backoff: Backoff,
    not_before: Option<Instant>,
    /// The last request was refused.
    was_refused: bool,
    /// When the receiver last responded.
    responded_at: Option<Instant>,
    /// The sender is ending: what is left is sent until then.
    flush_until: Option<Instant>,
}

/// The final outcome of a request.
enum Outcome {
    Stored,
    /// The samples are not sent again in one request. `divisible`: parts of them may be.
    Refused {
        divisible: bool,
        reason: String,
    },
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
            // An interruption ends the flush: nothing is left to do about it.
            let _ = self.flush();
            self.update_stats();
        }
        self.feed
    }

    fn send_batches(&mut self) -> Result<std::convert::Infallible, EndMode> {
        let mut last_batch = Instant::now();
        loop {
            if let Some(end_mode) = self.control.end_mode() {
                return Err(end_mode);
            }
            let pending = self.update_stats();
            let since = last_batch.elapsed();
            if self.is_due(pending, since) {
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

    /// Whether a batch is to be taken: it would be full, or samples have waited too long, or nothing was sent for long
    /// enough.
    fn is_due(&self, pending: Pending, since: Duration) -> bool {
        let queue = &self.entry.queue;
        let is_full = match queue.readings_per_send {
            Some(readings) => pending.readings >= readings as u64,
            None => pending.samples >= queue.max_samples_per_send as u64,
        };
        is_full || pending.overdue || since >= self.entry.max_batch_wait()
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
        // after a short wait they go with the rest.
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(3));
            while self.deliver_next()? {}
        }
        Ok(())
    }

    /// Takes a batch and delivers it, or drops it. `false`: there was none.
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
            // An entry with a fixed number of readings per request gets no other requests.
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

    /// The samples without those beyond the age limit, which are counted as lost.
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

    /// Sends samples until the receiver has stored them, or has refused them for good.
    fn send(&mut self, runs: &[Run]) -> Result<(), EndMode> {
        if runs.is_empty() {
            return Ok(());
        }
        let outcome = self.request(runs)?;
        self.backoff.reset();
        let Outcome::Refused { divisible, reason } = outcome else {
            return Ok(());
        };
        if !divisible || count(runs) == 1 {
            self.stats.lose(&reason, count(runs));
            return Ok(());
        }
        let sent = self.stats.numbers().sent;
        let max = self.entry.queue.split_requests;
        let budget = if self.bisecting_pays { max } else { max.min(2) };
        self.bisect(runs, budget, &reason)?;
        self.bisecting_pays = self.stats.numbers().sent > sent;
        Ok(())
    }

    /// Sends the halves of refused samples, and the halves of these, so that a bad sample does not cost the good ones
    /// beside it; ever more slowly while requests are refused. Spends at most `budget` requests, and returns what is
    /// left of the budget.
    fn bisect(&mut self, runs: &[Run], budget: u32, reason: &str) -> Result<u32, EndMode> {
        let Some((first, second)) = split_in_half(runs).filter(|_| budget >= 2) else {
            self.stats.lose(reason, count(runs));
            return Ok(budget);
        };
        // The first half may use up most of the budget: so a single bad sample is found wherever it is.
        let share = (budget - 2) - (budget - 2) / 4;
        let left = self.bisect_half(&first, share)?;
        self.bisect_half(&second, budget - 2 - share + left)
    }

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
        let samples = count(runs);
        let mut switched = false;
        loop {
            self.wait_for_backoff()?;
            self.wait_for_clock()?;
            let reply = self.receiver.post(runs, switched);
            self.learn_clock(reply.date.as_ref());
            self.count(&reply);
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
                    if self.entry.queue.split_requests > 0 {
                        self.not_before = Some(Instant::now() + self.backoff.wait(None));
                    }
                    let reason = reply
                        .status
                        .map_or("too_large".into(), |s| format!("http_{s}"));
                    if written > 0 {
                        // The receiver stored what it could, and knows what it could not.
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

    fn count(&self, reply: &Reply) {
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

    /// Waits for a time. `Err`: the sender is to end, or its deadline would come first.
    fn pause(&self, span: Duration) -> Result<(), EndMode> {
        // The queue grows while nothing can be sent.
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

    /// Updates the statistics of what is pending and lost.
    fn update_stats(&self) -> Pending {
        let pending = self.feed.pending();
        let unsent: u64 = self.requests.iter().map(|request| count(request)).sum();
        self.stats.set_losses(self.feed.losses());
        let on_disk = self.feed.on_disk();
        self.stats.change(|numbers| {
            numbers.pending = pending.samples + unsent;
            numbers.on_disk = on_disk;
        });
        pending
    }
}

fn count(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.samples.len() as u64).sum()
}
