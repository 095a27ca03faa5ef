//! Sends what a feed gives to one receiver, in a thread of its own: one request at a time, so that samples stay in their
//! order.

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

/// TLS and glibc's look-ups need more than our other threads do.
const STACK: usize = 512 * 1024;

/// How long a request has to end by itself before it is broken off.
const GRACE: Duration = Duration::from_millis(200);

/// A running sender. Dropping it leaves it running: end it by [`Sender::hand_over`], or [`Sender::finish`] and
/// [`Sender::join`].
pub struct Sender {
    entry: RemoteWrite,
    stats: Arc<Stats>,
    control: Arc<Control>,
    client: Arc<Client>,
    thread: JoinHandle<Box<dyn Feed>>,
}

/// What a sender is told from outside.
#[derive(Default)]
pub(super) struct Control {
    stop: Stop,
    ending: Mutex<Option<Ending>>,
}

/// How a sender is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// At once: another goes on with the feed.
    HandOver,
    /// With all that is left, and the marks that the series have ended, as far as there is time.
    Finish(Instant),
}

impl Control {
    /// Whether it is time to end, and how.
    pub(super) fn ending(&self) -> Option<Ending> {
        *lock::lock(&self.ending)
    }

    /// Waits so long. `Err`: it is time to end.
    pub(super) fn wait(&self, span: Duration) -> Result<(), Ending> {
        match self.stop.wait_until(Instant::now() + span) {
            Woken::Stop => Err(self.ending().unwrap_or(Ending::HandOver)),
            Woken::Time | Woken::Ready => Ok(()),
        }
    }

    fn end(&self, how: Ending) {
        *lock::lock(&self.ending) = Some(how);
        self.stop.set();
    }
}

impl Sender {
    /// Starts sending. The error is for people.
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

    /// What it was started with.
    pub fn entry(&self) -> &RemoteWrite {
        &self.entry
    }

    /// What it says of itself.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Ends it. Another may go on with the feed: what was not delivered is given again. `None`: the thread is gone, and
    /// the feed with it.
    pub fn hand_over(self) -> Option<Box<dyn Feed>> {
        self.control.end(Ending::HandOver);
        if !self.ends_by(Instant::now() + GRACE) {
            self.client.shut_down();
        }
        self.thread.join().ok()
    }

    /// Whether it has ended by itself, as it was told to.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Has it send what is left until then, and end.
    pub fn finish(&self, deadline: Instant) {
        self.control.end(Ending::Finish(deadline));
    }

    /// Waits until it has ended, and until `deadline`, when it is broken off.
    pub fn join(self, deadline: Instant) {
        if !self.ends_by(deadline) {
            let name = &self.entry.name;
            log::warn!("remote write {name}: there is no time to send what is left");
            self.client.shut_down();
            self.ends_by(Instant::now() + GRACE);
        }
    }

    fn ends_by(&self, deadline: Instant) -> bool {
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.thread.is_finished()
    }
}
