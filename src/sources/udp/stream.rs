//! A device that sends by itself: at once, or from when it has been told the channel.

use std::net::{IpAddr, SocketAddr};
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
use crate::sys::datagram;
use crate::sys::reason;
use crate::sys::stop::{Stop, Woken};

pub(super) struct Stream {
    line: Line,
    /// The only host that counts, if one was named.
    device: Option<Device>,
    /// What to send to the device to be sent to.
    subscription: Option<Vec<u8>>,
    /// Who the device is, once it has been heard.
    speaker: Option<SocketAddr>,
    /// When it last sent something that counts, or was last given up.
    silent_since: Instant,
    heard_at: Option<BootTime>,
    timeout: Duration,
    counts: Counts,
    stop: Arc<Stop>,
    health: Arc<Health>,
    group: Arc<Group>,
}

impl Stream {
    /// Waits on the port for what is sent there.
    pub(super) fn listen(context: &Context) -> Result<Stream, Error> {
        let config = &context.config;
        let udp: Settings = config.meter();
        let io_log = context.health.io_log();
        let device = udp.host.as_deref().map(|host| Device::new(io_log, host, 0));
        let device = device.transpose()?;
        if io_log.replay().is_some() {
            return Stream::new(context, Line::new(io_log, None), device, None);
        }
        // `listen_address` holds an address: that was checked.
        let host = config.listen_address.as_ref().and_then(|a| a.parse().ok());
        let socket = datagram::bind(host, udp.port).map_err(|e| {
            Error::new(format!(
                "cannot listen on UDP port {}: {}",
                udp.port,
                reason(&e)
            ))
            .hint("`ss -lunp` names who has it; udp.port chooses another")
        })?;
        if let Ok(address) = socket.local_addr() {
            log::info!("udp: listening on {address}");
        }
        Stream::new(context, Line::new(io_log, Some(socket)), device, None)
    }

    /// Subscribes to a channel of the device.
    pub(super) fn subscribe(context: &Context, device: Device) -> Result<Stream, Error> {
        let subscription = subscription(context.config.meter::<Settings>().channel);
        let line = device.line()?;
        let stream = Stream::new(context, line, Some(device), Some(subscription))?;
        stream.ask();
        Ok(stream)
    }

    fn new(
        context: &Context,
        line: Line,
        device: Option<Device>,
        subscription: Option<Vec<u8>>,
    ) -> Result<Stream, Error> {
        Ok(Stream {
            line,
            device,
            subscription,
            speaker: None,
            silent_since: Instant::now(),
            heard_at: None,
            timeout: context.config.meter::<Settings>().timeout,
            counts: Counts::new(&context.health),
            stop: Arc::clone(&context.stop),
            health: Arc::clone(&context.health),
            group: Arc::clone(&context.group),
        })
    }

    /// The next message; `None` when it is time to stop.
    pub(super) fn next(
        &mut self,
        total: &Total,
    ) -> Result<Option<(BootTime, PowerMeasurement)>, Error> {
        loop {
            let deadline = self.silent_since + self.timeout;
            match self.line.wait(&self.stop, deadline) {
                Woken::Stop => return Ok(None),
                Woken::Ready => {
                    let heard = self.line.hear();
                    if let Some(message) = heard.and_then(|h| self.judge(h, total)) {
                        return Ok(Some(message));
                    }
                }
                Woken::Time => {}
            }
            if self.line.is_over(deadline) {
                self.silent()?;
            }
        }
    }

    /// The message, if it counts; else it is counted for what it is.
    fn judge(&mut self, heard: Heard, total: &Total) -> Option<(BootTime, PowerMeasurement)> {
        if !self.is_known(heard.peer) {
            self.counts.add("foreign");
            return None;
        }
        let since_last = heard.at.since(self.heard_at);
        let outcome = match &heard.message {
            Err(refused) => Err(refused.kind()),
            Ok(message) => match total.judge(message, since_last) {
                Err(Stale::Duplicated) => Err("duplicated"),
                Err(Stale::Reordered) => Err("reordered"),
                Ok(()) => Ok(*message),
            },
        };
        self.counts.add(outcome.err().unwrap_or("accepted"));
        let message = outcome.ok()?;
        self.speaker = Some(heard.peer);
        self.silent_since = Instant::now();
        self.heard_at = Some(heard.at);
        Some((heard.at, message))
    }

    /// Whether this is the device: the one that was asked, or the one that was heard, or one that may be it.
    fn is_known(&self, peer: SocketAddr) -> bool {
        match (self.speaker, &self.device) {
            (_, Some(device)) if self.subscription.is_some() => is_from(peer, device.address()),
            (Some(speaker), _) => is_from(peer, speaker),
            (None, Some(device)) => device.is_host(peer.ip()),
            (None, None) => true,
        }
    }

    /// Nothing was heard for too long: subscribes again, or lets another be the device.
    fn silent(&mut self) -> Result<(), Error> {
        self.silent_since = Instant::now();
        self.health.count_error();
        self.group.settle();
        let from = match (self.speaker.take(), &self.device) {
            (Some(speaker), _) => speaker.to_string(),
            (None, Some(device)) if device.address().port() != 0 => device.address().to_string(),
            (None, Some(device)) => device.address().ip().to_string(),
            (None, None) => "anybody".to_string(),
        };
        let error = format!("nothing from {from} for {} s", self.timeout.as_secs_f64());
        if self.health.set_error(Some(error.clone())) {
            log::warn!("udp: {error}");
        }
        if let Some(device) = &mut self.device {
            let family = |ip: IpAddr| ip.is_ipv4();
            let before = family(device.address().ip());
            device.next();
            if self.subscription.is_some() {
                self.counts.add("lost");
                if family(device.address().ip()) != before {
                    self.line = device.line()?;
                }
                self.ask();
            }
        }
        Ok(())
    }

    fn ask(&self) {
        if let (Some(subscription), Some(device)) = (&self.subscription, &self.device) {
            let address = device.address();
            if let Err(error) = self.line.send_to(subscription, address) {
                log::debug!("udp: cannot send to {address}: {}", reason(&error));
            }
        }
    }
}

/// What the ESP32's server takes: the channel as decimal digits, with the NUL after them.
fn subscription(channel: u32) -> Vec<u8> {
    format!("{channel}\0").into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_subscription_is_digits_and_a_nul() {
        assert_eq!(super::subscription(6), b"6\0");
    }
}
