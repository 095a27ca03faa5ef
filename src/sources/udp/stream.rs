//! A device that sends messages without a request for each: to our port, or after a subscription to a channel.

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
use crate::sys::datagram;
use crate::sys::reason;
use crate::sys::stop::{Stop, Woken};

pub(super) struct Stream {
    channel: Channel,
    /// The only device whose messages are accepted, if the configuration names one.
    device: Option<Device>,
    /// The datagram that subscribes to the device's messages.
    subscription: Option<Vec<u8>>,
    /// The sender of the accepted messages, once there is one.
    sender: Option<SocketAddr>,
    /// When the last message was accepted, or when the last timeout was reported.
    silent_since: Instant,
    last_received: Option<BootTime>,
    timeout: Duration,
    counts: DatagramCounts,
    stop: Arc<Stop>,
    health: Arc<Health>,
    group: Arc<Group>,
}

impl Stream {
    /// Listens on the configured port.
    pub(super) fn listen(context: &Context) -> Result<Stream, Error> {
        let config = &context.config;
        let udp: Settings = config.meter();
        let io_log = context.health.io_log();
        let device = udp.host.as_deref().map(|host| Device::new(io_log, host, 0));
        let device = device.transpose()?;
        if io_log.replay().is_some() {
            return Stream::new(context, Channel::new(io_log, None), device, None);
        }
        // The reader of the configuration has checked that `listen_address` is an address.
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
        Stream::new(context, Channel::new(io_log, Some(socket)), device, None)
    }

    /// Subscribes to a channel of the device.
    pub(super) fn subscribe(context: &Context, device: Device) -> Result<Stream, Error> {
        let subscription = subscription(context.config.meter::<Settings>().channel);
        let channel = device.channel()?;
        let stream = Stream::new(context, channel, Some(device), Some(subscription))?;
        stream.send_subscription();
        Ok(stream)
    }

    fn new(
        context: &Context,
        channel: Channel,
        device: Option<Device>,
        subscription: Option<Vec<u8>>,
    ) -> Result<Stream, Error> {
        Ok(Stream {
            channel,
            device,
            subscription,
            sender: None,
            silent_since: Instant::now(),
            last_received: None,
            timeout: context.config.meter::<Settings>().timeout,
            counts: DatagramCounts::new(&context.health),
            stop: Arc::clone(&context.stop),
            health: Arc::clone(&context.health),
            group: Arc::clone(&context.group),
        })
    }

    /// The next message. `None` when the source must stop.
    pub(super) fn next(
        &mut self,
        total: &Total,
    ) -> Result<Option<(BootTime, PowerMeasurement)>, Error> {
        loop {
            let deadline = self.silent_since + self.timeout;
            match self.channel.wait(&self.stop, deadline) {
                Woken::Stop => return Ok(None),
                Woken::Ready => {
                    let datagram = self.channel.receive();
                    if let Some(message) = datagram.and_then(|d| self.accept(d, total)) {
                        return Ok(Some(message));
                    }
                }
                Woken::Time => {}
            }
            if self.channel.is_past(deadline) {
                self.handle_timeout()?;
            }
        }
    }

    /// The message, if it is accepted. Counts every datagram.
    fn accept(
        &mut self,
        datagram: Datagram,
        total: &Total,
    ) -> Option<(BootTime, PowerMeasurement)> {
        if !self.is_accepted(datagram.peer) {
            self.counts.add("foreign");
            return None;
        }
        let since_last = datagram.at.since(self.last_received);
        let result = match &datagram.message {
            Err(error) => Err(error.kind()),
            Ok(message) => match total.judge(message, since_last) {
                Err(Stale::Duplicated) => Err("duplicated"),
                Err(Stale::Reordered) => Err("reordered"),
                Ok(()) => Ok(*message),
            },
        };
        self.counts.add(result.err().unwrap_or("accepted"));
        let message = result.ok()?;
        self.sender = Some(datagram.peer);
        self.silent_since = Instant::now();
        self.last_received = Some(datagram.at);
        Some((datagram.at, message))
    }

    /// Whether messages from this peer are accepted: from the subscribed device, or from the current sender; without a
    /// sender, from the configured host, or from any peer.
    fn is_accepted(&self, peer: SocketAddr) -> bool {
        match (self.sender, &self.device) {
            (_, Some(device)) if self.subscription.is_some() => is_from(peer, device.address()),
            (Some(sender), _) => is_from(peer, sender),
            (None, Some(device)) => device.is_host(peer.ip()),
            (None, None) => true,
        }
    }

    /// Reports that nothing was received in time. Subscribes again, or lets another peer become the sender.
    fn handle_timeout(&mut self) -> Result<(), Error> {
        self.silent_since = Instant::now();
        self.health.count_error();
        self.group.settle();
        let from = match (self.sender.take(), &self.device) {
            (Some(sender), _) => sender.to_string(),
            (None, Some(device)) if device.address().port() != 0 => device.address().to_string(),
            (None, Some(device)) => device.address().ip().to_string(),
            (None, None) => "anybody".to_string(),
        };
        let error = format!("nothing from {from} for {} s", self.timeout.as_secs_f64());
        if self.health.set_error(Some(error.clone())) {
            log::warn!("udp: {error}");
        }
        if let Some(device) = &mut self.device {
            let is_ipv4 = |device: &Device| device.address().is_ipv4();
            let before = is_ipv4(device);
            device.next();
            if self.subscription.is_some() {
                self.counts.add("lost");
                if is_ipv4(device) != before {
                    self.channel = device.channel()?;
                }
                self.send_subscription();
            }
        }
        Ok(())
    }

    fn send_subscription(&self) {
        if let (Some(subscription), Some(device)) = (&self.subscription, &self.device) {
            let address = device.address();
            if let Err(error) = self.channel.send_to(subscription, address) {
                log::debug!("udp: cannot send to {address}: {}", reason(&error));
            }
        }
    }
}

/// The subscription that the ESP32's server expects: the channel in decimal digits, followed by a NUL.
fn subscription(channel: u32) -> Vec<u8> {
    format!("{channel}\0").into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn subscription_is_digits_and_a_nul() {
        assert_eq!(super::subscription(6), b"6\0");
    }
}
