//! Requesting each message, as the replaced exporter does.
//!
//! Each request has one reply. After a timeout the next request is sent from a new socket, so that a late reply to the
//! earlier request is recognised. While replies are in time, the socket stays the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{Channel, Datagram};
use super::counts::DatagramCounts;
use super::device::{is_from, Device};
use super::message::PowerMeasurement;
use super::settings::Settings;
use super::total::{Stale, Total};
use crate::metrics::Group;
use crate::sources::{Context, Error, Health};
use crate::sys::clock::BootTime;
use crate::sys::reason;
use crate::sys::stop::{Stop, Woken};

/// The request, as the replaced exporter sends it: these twelve bytes, without a NUL.
pub const REQUEST: &[u8] = b"DATA_REQUEST";

pub(super) struct Request {
    device: Device,
    channel: Channel,
    /// The channel and the address of the previous request, if it timed out.
    timed_out: Option<(Channel, SocketAddr)>,
    pause: Duration,
    timeout: Duration,
    send_at: Instant,
    last_received: Option<BootTime>,
    counts: DatagramCounts,
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
            channel: device.channel()?,
            device,
            timed_out: None,
            pause,
            timeout: context.config.meter::<Settings>().timeout,
            send_at: Instant::now(),
            last_received: None,
            counts: DatagramCounts::new(&context.health),
            stop: Arc::clone(&context.stop),
            health: Arc::clone(&context.health),
            group: Arc::clone(&context.group),
        })
    }

    /// The next reply. `None` when the source must stop. Waits without limit: each timeout is counted, and the request is
    /// sent again at once.
    pub(super) fn next(
        &mut self,
        total: &Total,
    ) -> Result<Option<(BootTime, PowerMeasurement)>, Error> {
        loop {
            if self.wait_before_sending() == Woken::Stop {
                return Ok(None);
            }
            let address = self.device.address();
            if let Err(error) = self.channel.send_to(REQUEST, address) {
                self.set_error(format!("cannot send to {address}: {}", reason(&error)));
                self.send_at = Instant::now() + self.timeout;
                self.device.next();
                self.channel = self.device.channel()?;
                continue;
            }
            let deadline = Instant::now() + self.timeout;
            loop {
                match self.channel.wait(&self.stop, deadline) {
                    Woken::Stop => return Ok(None),
                    Woken::Ready => {
                        let datagram = self.channel.receive();
                        let reply = datagram.and_then(|datagram| self.reply(datagram, total));
                        if let Some((at, message)) = reply {
                            self.counts.add("accepted");
                            self.last_received = Some(at);
                            self.send_at = Instant::now() + self.pause;
                            self.count_late();
                            return Ok(Some((at, message)));
                        }
                    }
                    Woken::Time => {}
                }
                // Checked after each datagram, too, so that other datagrams do not prolong the wait.
                if self.channel.is_past(deadline) {
                    break;
                }
            }
            self.handle_timeout()?;
        }
    }

    /// Returns the message if the datagram is the reply. Counts any other datagram.
    fn reply(&self, datagram: Datagram, total: &Total) -> Option<(BootTime, PowerMeasurement)> {
        if !is_from(datagram.peer, self.device.address()) {
            self.counts.add("foreign");
            return None;
        }
        let message = match datagram.message {
            Ok(message) => message,
            Err(error) => {
                self.counts.add(error.kind());
                return None;
            }
        };
        let since_last = datagram.at.since(self.last_received);
        match total.judge(&message, since_last) {
            Err(Stale::Reordered) => {
                self.counts.add("reordered");
                None
            }
            // A device without a newer measurement repeats the last one.
            Ok(()) | Err(Stale::Duplicated) => Some((datagram.at, message)),
        }
    }

    /// Waits until the next request is due. Counts datagrams that arrive meanwhile, which no request is waiting for.
    fn wait_before_sending(&self) -> Woken {
        loop {
            match self.channel.wait(&self.stop, self.send_at) {
                Woken::Stop => return Woken::Stop,
                Woken::Ready => {
                    if let Some(datagram) = self.channel.receive() {
                        self.count(datagram, self.device.address(), "duplicated");
                    }
                }
                Woken::Time => {}
            }
            if self.channel.is_past(self.send_at) {
                return Woken::Time;
            }
        }
    }

    /// Counts a request as lost. The next request has a socket of its own, and goes to the next address if there are
    /// several.
    fn handle_timeout(&mut self) -> Result<(), Error> {
        self.counts.add("lost");
        let address = self.device.address();
        self.set_error(format!(
            "{address} does not answer within {} s (does the agent run there, and does a firewall let UDP through?)",
            self.timeout.as_secs_f64()
        ));
        self.count_late();
        self.device.next();
        let new = self.device.channel()?;
        let old = std::mem::replace(&mut self.channel, new);
        self.timed_out = Some((old.replaced(), address));
        Ok(())
    }

    /// Counts what has arrived for the request that timed out.
    fn count_late(&self) {
        /// Far more than the replies to one request. The limit keeps a flood from delaying the next request.
        const MAX_DATAGRAMS: usize = 1000;
        if let Some((channel, address)) = &self.timed_out {
            for datagram in std::iter::from_fn(|| channel.receive()).take(MAX_DATAGRAMS) {
                self.count(datagram, *address, "late");
            }
        }
    }

    /// Counts a datagram that is not used: as `kind` if it is a message from `address`.
    fn count(&self, datagram: Datagram, address: SocketAddr, kind: &'static str) {
        self.counts.add(match datagram.message {
            _ if !is_from(datagram.peer, address) => "foreign",
            Err(error) => error.kind(),
            Ok(_) => kind,
        });
    }

    fn set_error(&self, error: String) {
        self.health.count_error();
        self.group.settle();
        if self.health.set_error(Some(error.clone())) {
            log::warn!("udp: {error}");
        }
    }
}
