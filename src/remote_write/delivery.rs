//! The work of a sender's thread: when to take a batch, how often to send it, when to give up, when to hold everything.

mod clocks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::agreement::Agreement;
use super::backoff::Backoff;
use super::feed::{Feed, Most, Pending, Run};
use super::receiver::{Receiver, Reply};
use super::report::Report;
use super::response::Verdict;
use super::sender::{Control, Ending};
use super::split::{halves, pieces, slices};
use super::stats::Stats;
use crate::config::RemoteWrite;
use crate::metrics::{Offset, WallClock};
use crate::sys::clock::BootTime;

/// How often is looked what there is to send.
const TICK: Duration = Duration::from_millis(250);
/// Samples in a request that may be refused for some of them, because they were sent before or the receiver may not
/// understand it: no more than these are dropped with them.
const FEW: usize = 200;

/// What a thread works with.
pub(super) struct Delivery {
    entry: RemoteWrite,
    receiver: Receiver,
    feed: Box<dyn Feed>,
    clock: Arc<WallClock>,
    stats: Arc<Stats>,
    control: Arc<Control>,
    agreement: Agreement,
    report: Report,
    /// What is left of the batch that was taken.
    in_hand: VecDeque<Vec<Run>>,
    /// The last batch of which some was refused was not refused altogether: it is worth searching.
    search_pays: bool,
    /// How long the next request waits that follows one that has failed, and until when: the end of the sender changes
    /// nothing in that.
    backoff: Backoff,
    not_before: Option<Instant>,
    /// The last request was refused.
    refused: bool,
    /// When it has last answered.
    answered: Option<Instant>,
    /// Until then all is sent that is left.
    farewell: Option<Instant>,
}

/// What became of a request in the end.
enum Fate {
    Stored,
    /// Never to be sent again as it is; whether its parts may be.
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
            report: Report::new(&entry.name),
            backoff: Backoff::new(entry.queue.min_backoff, entry.queue.max_backoff),
            not_before: None,
            refused: false,
            answered: None,
            entry,
            receiver,
            feed,
            clock,
            stats,
            control,
            agreement: Agreement::default(),
            in_hand: VecDeque::new(),
            search_pays: true,
            farewell: None,
        }
    }

    /// Works until it is told to end. Gives the feed back.
    pub(super) fn run(mut self) -> Box<dyn Feed> {
        let Err(ending) = self.work();
        if let Ending::Finish(deadline) = ending {
            self.farewell = Some(deadline);
            self.feed.finish();
            // Whatever comes in between is the end of it.
            let _ = self.finish();
            self.note();
        }
        self.feed
    }

    fn work(&mut self) -> Result<std::convert::Infallible, Ending> {
        let mut last = Instant::now();
        loop {
            if let Some(ending) = self.control.ending() {
                return Err(ending);
            }
            let pending = self.note();
            let since = last.elapsed();
            if self.is_due(pending, since) {
                last = Instant::now();
                if self.deliver_next()? {
                    continue;
                }
            }
            let left = self.entry.max_batch_wait().saturating_sub(last.elapsed());
            self.control.wait(TICK.min(left))?;
        }
    }

    /// Whether there is enough to send, or what has waited for long, or was nothing sent for long enough.
    fn is_due(&self, pending: Pending, since: Duration) -> bool {
        let queue = &self.entry.queue;
        let enough = match queue.readings_per_send {
            Some(readings) => pending.readings >= readings as u64,
            None => pending.samples >= queue.max_samples_per_send as u64,
        };
        enough || pending.overdue || since >= self.entry.max_batch_wait()
    }

    /// Everything that is left.
    fn finish(&mut self) -> Result<(), Ending> {
        // One that has taken nothing so far has no series that could end, and will not begin with it now.
        if self.refused && self.stats.numbers().sent == 0 {
            self.report.gives_up();
            return Ok(());
        }
        // The last marks may not be sent before their time, which is a millisecond away: then they go with the rest.
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(3));
            while self.deliver_next()? {}
        }
        Ok(())
    }

    /// Takes a batch and delivers it, or gives it up. `false`: there was none.
    fn deliver_next(&mut self) -> Result<bool, Ending> {
        let offset = self.trusted()?;
        if self.in_hand.is_empty() {
            let queue = &self.entry.queue;
            let most = Most {
                samples: queue.max_samples_per_send,
                readings: queue.readings_per_send.unwrap_or(usize::MAX),
            };
            let Some(batch) = self.feed.next(&offset, BootTime::now(), most) else {
                return Ok(false);
            };
            let most = queue.max_samples_per_send;
            // Whoever names a number of readings for a request gets no other.
            let may_be_older = self.receiver.may_be_older() && queue.readings_per_send.is_none();
            self.in_hand = match batch.doubtful || may_be_older {
                true => slices(&batch.runs, most.min(FEW)),
                false => pieces(&batch.runs, most),
            }
            .into();
        }
        while let Some(piece) = self.in_hand.front() {
            let piece = self.of_age(piece, &offset);
            self.send(&piece)?;
            self.in_hand.pop_front();
        }
        self.feed.done();
        self.note();
        Ok(true)
    }

    /// The samples that are not too old to be sent.
    fn of_age(&self, runs: &[Run], offset: &Offset) -> Vec<Run> {
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

    /// Sends some samples until the receiver has them, or has refused them for good.
    fn send(&mut self, runs: &[Run]) -> Result<(), Ending> {
        if runs.is_empty() {
            return Ok(());
        }
        let fate = self.request(runs)?;
        self.backoff.reset();
        let Fate::Refused { divisible, reason } = fate else {
            return Ok(());
        };
        if !divisible || count(runs) == 1 {
            self.stats.lose(&reason, count(runs));
            return Ok(());
        }
        let sent = self.stats.numbers().sent;
        let most = self.entry.queue.split_requests;
        let budget = if self.search_pays { most } else { most.min(2) };
        self.search(runs, budget, &reason)?;
        self.search_pays = self.stats.numbers().sent > sent;
        Ok(())
    }

    /// Sends the halves of what was refused, and theirs, so that a bad sample does not cost the good ones beside it; ever
    /// more slowly while they are refused. Takes a number of requests that it may cost, and returns what is left of it.
    fn search(&mut self, runs: &[Run], budget: u32, reason: &str) -> Result<u32, Ending> {
        let Some((first, second)) = halves(runs).filter(|_| budget >= 2) else {
            self.stats.lose(reason, count(runs));
            return Ok(budget);
        };
        // The first half may use up most of it: so a single bad sample is found wherever it is.
        let share = (budget - 2) - (budget - 2) / 4;
        let left = self.search_in(&first, share)?;
        self.search_in(&second, budget - 2 - share + left)
    }

    fn search_in(&mut self, half: &[Run], budget: u32) -> Result<u32, Ending> {
        match self.request(half)? {
            Fate::Stored => Ok(budget),
            Fate::Refused { divisible, reason } => {
                let budget = if divisible { budget } else { 0 };
                self.search(half, budget, &reason)
            }
        }
    }

    /// Sends these samples in one request, and again, until the receiver has said yes or no.
    fn request(&mut self, runs: &[Run]) -> Result<Fate, Ending> {
        let samples = count(runs);
        let mut switched = false;
        loop {
            self.take_turn()?;
            self.trusted()?;
            let reply = self.receiver.post(runs, switched);
            self.learn(reply.date.as_ref());
            self.count(&reply);
            self.refused = matches!(reply.verdict, Verdict::Refused { .. });
            match reply.verdict {
                Verdict::Stored { unwritten } => {
                    self.backoff.reset();
                    self.report.fine();
                    self.report.written(samples - unwritten, samples);
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
                    return Ok(Fate::Stored);
                }
                Verdict::NotUnderstood => {
                    switched = true;
                    self.report.switches(self.receiver.protocol(), &reply.said);
                }
                Verdict::Refused { written, older } => {
                    self.report.refused(reply.status, &reply.said);
                    if older {
                        self.report.switches(self.receiver.protocol(), &reply.said);
                    }
                    if self.entry.queue.split_requests > 0 {
                        self.not_before = Some(Instant::now() + self.backoff.wait(None));
                    }
                    let reason = reply
                        .status
                        .map_or("too_large".into(), |s| format!("http_{s}"));
                    if written > 0 {
                        // It took what it could, and knows what it could not.
                        self.stats.change(|numbers| numbers.sent += written);
                        self.stats.lose(&reason, samples - written);
                        return Ok(Fate::Stored);
                    }
                    let divisible = matches!(reply.status, None | Some(400 | 413 | 422));
                    return Ok(Fate::Refused { divisible, reason });
                }
                Verdict::Later(asked) => {
                    self.report.fails(&reply.said);
                    self.not_before = Some(Instant::now() + self.backoff.wait(asked));
                    self.take_turn()?;
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
            (Verdict::Later(_), Some(_)) => "retried",
            (Verdict::Later(_), None) => "failed",
        };
        self.stats.request(outcome, reply.bytes);
    }

    /// Waits until the next request may be sent.
    fn take_turn(&mut self) -> Result<(), Ending> {
        if let Some(at) = self.not_before {
            self.pause(at.saturating_duration_since(Instant::now()))?;
            self.not_before = None;
        }
        Ok(())
    }

    /// Waits, if there is still time to wait.
    fn pause(&self, span: Duration) -> Result<(), Ending> {
        // While nothing can be sent, what waits grows.
        self.note();
        let Some(deadline) = self.farewell else {
            return self.control.wait(span);
        };
        if deadline.saturating_duration_since(Instant::now()) <= span {
            return Err(Ending::Finish(deadline));
        }
        std::thread::sleep(span);
        Ok(())
    }

    /// Says what waits, and what was lost.
    fn note(&self) -> Pending {
        let pending = self.feed.pending();
        let in_hand: u64 = self.in_hand.iter().map(|piece| count(piece)).sum();
        self.stats.set_losses(self.feed.losses());
        let on_disk = self.feed.on_disk();
        self.stats.change(|numbers| {
            numbers.pending = pending.samples + in_hand;
            numbers.on_disk = on_disk;
        });
        pending
    }
}

fn count(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.samples.len() as u64).sum()
}
