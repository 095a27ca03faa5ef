//! A socket that exchanges datagrams with a device, or the replay of one.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Instant;

use super::message::{MessageError, PowerMeasurement, MAX_DATAGRAM};
use crate::sources::io_log::{Failure, IoLog};
use crate::sys::clock::BootTime;
use crate::sys::reason;
use crate::sys::stop::{Stop, Woken};

/// The I/O log's keys of the channel in use, and of the one before it.
const KEY: &str = "udp";
const LATE_KEY: &str = "udp-late";

/// A received datagram.
pub(super) struct Datagram {
    /// When the datagram was read.
    pub(super) at: BootTime,
    /// The sender.
    pub(super) peer: SocketAddr,
    /// The message in the datagram.
    pub(super) message: Result<PowerMeasurement, MessageError>,
}

/// A UDP socket whose datagrams are recorded, or the replay of one.
pub(super) struct Channel {
    /// `None` when replaying.
    socket: Option<UdpSocket>,
    io_log: IoLog,
    key: &'static str,
}

impl Channel {
    /// A channel with this non-blocking socket, or the replay of one.
    pub(super) fn new(io_log: &IoLog, socket: Option<UdpSocket>) -> Channel {
        Channel {
            socket,
            io_log: io_log.clone(),
            key: KEY,
        }
    }

    /// Marks the channel as replaced by another one: the datagrams that this channel receives from now on are late.
    pub(super) fn replaced(self) -> Channel {
        Channel {
            key: LATE_KEY,
            ..self
        }
    }

    pub(super) fn send_to(&self, bytes: &[u8], address: SocketAddr) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            let sent = self.io_log.send(self.key, || Ok(Vec::new()));
            return sent.map(|_| ()).map_err(|failure| failure.to_io_error());
        };
        let mut result = Ok(());
        let _ = self.io_log.send(self.key, || {
            result = socket.send_to(bytes, address).map(|_| ());
            match &result {
                Ok(()) => Ok(bytes.to_vec()),
                Err(error) => Err(Failure::from(error)),
            }
        });
        result
    }

    /// Waits for a datagram, until `deadline`.
    pub(super) fn wait(&self, stop: &Stop, deadline: Instant) -> Woken {
        match &self.socket {
            Some(socket) => stop.wait_readable(socket.as_fd(), deadline),
            None => self.io_log.wait(stop).unwrap_or(Woken::Stop),
        }
    }

    /// Whether `deadline` has passed. When replaying, whether it had passed at this point of the recording.
    pub(super) fn is_past(&self, deadline: Instant) -> bool {
        match self.io_log.replay() {
            Some(replay) => !replay.receives_next(),
            None => Instant::now() >= deadline,
        }
    }

    /// Receives the next datagram, if there is one.
    pub(super) fn receive(&self) -> Option<Datagram> {
        let Some(socket) = &self.socket else {
            return self.replay();
        };
        // The last byte is filled only if the datagram is too long.
        let mut buffer = [0; MAX_DATAGRAM + 1];
        match socket.recv_from(&mut buffer) {
            Ok((length, peer)) => {
                let at = BootTime::now();
                let datagram = buffer.get(..length).unwrap_or(&buffer);
                if !self.io_log.is_off() {
                    let content = [peer.to_string().as_bytes(), b" ", datagram].concat();
                    self.io_log.record_received(self.key, at, &Ok(content));
                }
                Some(Datagram::new(at, peer, datagram))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                // The error belongs to an earlier datagram (an ICMP reply to it). The next read is not affected.
                log::debug!("udp: {}", reason(&error));
                None
            }
        }
    }

    fn replay(&self) -> Option<Datagram> {
        let (at, content) = self.io_log.take_received(self.key)?;
        let content = content.ok()?;
        let end = content.iter().position(|byte| *byte == b' ')?;
        let peer = std::str::from_utf8(content.get(..end)?)
            .ok()?
            .parse()
            .ok()?;
        let datagram = content.get(end + 1..)?;
        Some(Datagram::new(at, peer, datagram))
    }
}

impl Datagram {
    fn new(at: BootTime, peer: SocketAddr, bytes: &[u8]) -> Datagram {
        Datagram {
            at,
            peer,
            message: PowerMeasurement::from_datagram(bytes),
        }
    }
}
