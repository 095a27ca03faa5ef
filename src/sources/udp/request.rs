//! Asking for each message: the loop of the original exporter.
//!
//! One request, one answer. A request whose time is over gets a socket that the next one does not share, so that an
//! answer that comes too late is known for what it is. While answers come in time, the socket stays the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::Line;
use super::link::{is_from, Counts, Device, Heard};
use super::message::PowerMeasurement;
use super::settings::Settings;
use super::total::{Stale, Total};
use crate::metrics::Group;
use crate::sources::{Context, Error, Health};
use crate::sys::clock::BootTime;
use crate::sys::reason;
use crate::sys::stop::{Stop, Woken};

/// What the original exporter sends: these twelve bytes, without a NUL.
pub const REQUEST: &[u8] = b"DATA_REQUEST";

pub(super) struct Request {
    device: Device,
    line: Line,
    /// The line of the request before, if that was not answered in time, and whom it was sent to.
    unanswered: Option<(Line, SocketAddr)>,
    pause: Duration,
    timeout: Duration,
    ask_at: Instant,
    heard_at: Option<BootTime>,
    counts: Counts,
    stop: Arc<Stop>,
    health: Arc<Health>,
    group: Arc<Group>,
}

impl Request {
    pub(super) fn open(
        context: &Context,
        device: Device,
        pause: Duration,
    ) -> Result<Request, Error> {
        Ok(Request {
            line: device.line()?,
            device,
            unanswered: None,
            pause,
            timeout: context.config.meter::<Settings>().timeout,
            ask_at: Instant::now(),
            heard_at: None,
            counts: Counts::new(&context.health),
            stop: Arc::clone(&context.stop),
            health: Arc::clone(&context.health),
            group: Arc::clone(&context.group),
        })
    }

    /// The next answer; `None` when it is time to stop. Waits for it as long as it takes: each time-out is counted, and
    /// the device asked again at once.
    pub(super) fn next(
        &mut self,
        total: &Total,
    ) -> Result<Option<(BootTime, PowerMeasurement)>, Error> {
        loop {
            if self.wait_before_asking() == Woken::Stop {
                return Ok(None);
            }
            let address = self.device.address();
            if let Err(error) = self.line.send_to(REQUEST, address) {
                self.failed(format!("cannot send to {address}: {}", reason(&error)));
                self.ask_at = Instant::now() + self.timeout;
                self.device.next();
                self.line = self.device.line()?;
                continue;
            }
            let deadline = Instant::now() + self.timeout;
            loop {
                match self.line.wait(&self.stop, deadline) {
                    Woken::Stop => return Ok(None),
                    Woken::Ready => {
                        let heard = self.line.hear();
                        if let Some((at, answer)) = heard.and_then(|h| self.answer(h, total)) {
                            self.counts.add("accepted");
                            self.heard_at = Some(at);
                            self.ask_at = Instant::now() + self.pause;
                            self.count_late();
                            return Ok(Some((at, answer)));
                        }
                    }
                    Woken::Time => {}
                }
                // Not only when nothing comes: what comes may be anything.
                if self.line.is_over(deadline) {
                    break;
                }
            }
            self.lost()?;
        }
    }

    /// The message, if this is the answer; else it is counted for what it is.
    fn answer(&self, heard: Heard, total: &Total) -> Option<(BootTime, PowerMeasurement)> {
        if !is_from(heard.peer, self.device.address()) {
            self.counts.add("foreign");
            return None;
        }
        let message = match heard.message {
            Ok(message) => message,
            Err(refused) => {
                self.counts.add(refused.kind());
                return None;
            }
        };
        let since_last = heard.at.since(self.heard_at);
        match total.judge(&message, since_last) {
            Err(Stale::Reordered) => {
                self.counts.add("reordered");
                None
            }
            // A device that has nothing newer says the same again.
            Ok(()) | Err(Stale::Duplicated) => Some((heard.at, message)),
        }
    }

    /// Whatever comes now was not asked for.
    fn wait_before_asking(&self) -> Woken {
        loop {
            match self.line.wait(&self.stop, self.ask_at) {
                Woken::Stop => return Woken::Stop,
                Woken::Ready => {
                    if let Some(heard) = self.line.hear() {
                        self.count(heard, self.device.address(), "duplicated");
                    }
                }
                Woken::Time => {}
            }
            if self.line.is_over(self.ask_at) {
                return Woken::Time;
            }
        }
    }

    /// The answer did not come: the next request has a socket of its own, and the next address if there are several.
    fn lost(&mut self) -> Result<(), Error> {
        self.counts.add("lost");
        let address = self.device.address();
        self.failed(format!(
            "{address} does not answer within {} s (does the agent run there, and does a firewall let UDP through?)",
            self.timeout.as_secs_f64()
        ));
        self.count_late();
        self.device.next();
        let fresh = self.device.line()?;
        let old = std::mem::replace(&mut self.line, fresh);
        self.unanswered = Some((old.retired(), address));
        Ok(())
    }

    /// Counts what came for the request before.
    fn count_late(&self) {
        /// Nobody sends more for one request; and a flood ends somewhere.
        const MOST: usize = 1000;
        if let Some((line, address)) = &self.unanswered {
            for heard in std::iter::from_fn(|| line.hear()).take(MOST) {
                self.count(heard, *address, "late");
            }
        }
    }

    /// Counts a datagram that is no answer, as `kind` if it could be one.
    fn count(&self, heard: Heard, asked: SocketAddr, kind: &'static str) {
        self.counts.add(match heard.message {
            _ if !is_from(heard.peer, asked) => "foreign",
            Err(refused) => refused.kind(),
            Ok(_) => kind,
        });
    }

    fn failed(&self, error: String) {
        self.health.count_error();
        self.group.settle();
        if self.health.set_error(Some(error.clone())) {
            log::warn!("udp: {error}");
        }
    }
}
