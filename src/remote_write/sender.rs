//! A sender delivers the batches of a feed to one receiver, in a thread of its own: one request at a time, so that
//! samples stay in order.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::delivery::Delivery;
use super::feed::Feed;
use super::receiver::Receiver;
use super::stats::Stats;
use crate::config::RemoteWrite;
use crate::http::client::Client;
use crate::metrics::WallClock;
use crate::sys::lock;
use crate::sys::stop::{Stop, Woken};

/// The thread's stack. TLS and glibc's name resolution need more than other threads do.
const STACK: usize = 512 * 1024;

/// How long the thread may take to end: by itself, before its request is aborted; and after that.
const ABORT_DELAY: Duration = Duration::from_millis(200);

/// A running sender. Dropping it does not end the thread: [`Sender::hand_over`] and [`Sender::finish`] do.
pub struct Sender {
    entry: RemoteWrite,
    stats: Arc<Stats>,
    control: Arc<Control>,
    client: Arc<Client>,
    thread: JoinHandle<Box<dyn Feed>>,
}

/// Shared by the sender and its thread: whether and how the thread is to end.
#[derive(Default)]
pub(super) struct Control {
    stop: Stop,
    end_mode: Mutex<Option<EndMode>>,
}

/// How the thread is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndMode {
    /// At once: another sender takes over the feed.
    HandOver,
    /// After sending all that is left, and the staleness markers of all series, without a wait that goes beyond this deadline.
    Finish(Instant),
}

impl Control {
    /// How the thread is to end, if it is.
    pub(super) fn end_mode(&self) -> Option<EndMode> {
        *lock::lock(&self.end_mode)
    }

    /// Waits for a time. `Err`: the thread is to end.
    pub(super) fn wait(&self, span: Duration) -> Result<(), EndMode> {
        match self.stop.wait_until(Instant::now() + span) {
            Woken::Stop => Err(self.end_mode().unwrap_or(EndMode::HandOver)),
            Woken::Time | Woken::Ready => Ok(()),
        }
    }

    fn end(&self, how: EndMode) {
        *lock::lock(&self.end_mode) = Some(how);
        self.stop.set();
    }
}

impl Sender {
    /// Starts the thread. The error, for people, is about the proxy of the entry, or says that no thread can be started.
    pub fn start(
        entry: RemoteWrite,
        feed: Box<dyn Feed>,
        clock: Arc<WallClock>,
    ) -> Result<Sender, String> {
        let receiver = Receiver::new(&entry)?;
        let client = receiver.client();
        let (stats, control) = (Arc::<Stats>::default(), Arc::<Control>::default());
        let delivery = Delivery::new(
            entry.clone(),
            receiver,
            feed,
            clock,
            Arc::clone(&stats),
            Arc::clone(&control),
        );
        let thread = std::thread::Builder::new()
            .name("remote-write".to_string())
            .stack_size(STACK)
            .spawn(move || delivery.run())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Sender {
            entry,
            stats,
            control,
            client,
            thread,
        })
    }

    /// The entry of the configuration that the sender was started with.
    pub fn entry(&self) -> &RemoteWrite {
        &self.entry
    }

    /// The statistics of the sender.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Ends the thread and returns its feed, for another sender: the feed gives again what was not delivered. `None`:
    /// the thread panicked, and the feed is lost.
    pub fn hand_over(self) -> Option<Box<dyn Feed>> {
        self.control.end(EndMode::HandOver);
        if !self.wait_until_ended(Instant::now() + ABORT_DELAY) {
            self.client.shut_down();
        }
        self.thread.join().ok()
    }

    /// Whether the thread has ended after [`Sender::finish`].
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Tells the thread to send what is left, and then to end. Returns at once. The thread gives up when it would have to wait
    /// beyond `deadline`, for a retry or for the clock. A request under way may last longer: [`Sender::join`] aborts it.
    pub fn finish(&self, deadline: Instant) {
        self.control.end(EndMode::Finish(deadline));
    }

    /// Waits until the thread has ended. At `deadline` its request is aborted, and a thread that does not end even then is
    /// left behind.
    pub fn join(self, deadline: Instant) {
        if !self.wait_until_ended(deadline) {
            let name = &self.entry.name;
            log::warn!("remote write {name}: no time is left to send the remaining samples");
            self.client.shut_down();
            self.wait_until_ended(Instant::now() + ABORT_DELAY);
        }
    }

    /// Returns whether the thread ended in time.
    fn wait_until_ended(&self, deadline: Instant) -> bool {
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.thread.is_finished()
    }
}
