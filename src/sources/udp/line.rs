//! The line to a device: a socket, what is sent and what comes in there; or what was recorded of one.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Instant;

use super::link::Heard;
use super::message::{PowerMeasurement, MAX_DATAGRAM};
use crate::sources::io_log::{Failure, IoLog};
use crate::sys::clock::BootTime;
use crate::sys::reason;
use crate::sys::stop::{Stop, Woken};

/// What is recorded of the line in use, and of the one before.
const KEY: &str = "udp";
const LATE: &str = "udp-late";

pub(super) struct Line {
    /// `None`: it is played.
    socket: Option<UdpSocket>,
    io_log: IoLog,
    key: &'static str,
}

impl Line {
    /// A line by this socket, which does not block; `None`: of a recording.
    pub(super) fn new(io_log: &IoLog, socket: Option<UdpSocket>) -> Line {
        Line {
            socket,
            io_log: io_log.clone(),
            key: KEY,
        }
    }

    /// The same, no longer in use: what comes now comes too late.
    pub(super) fn retired(self) -> Line {
        Line { key: LATE, ..self }
    }

    pub(super) fn send_to(&self, bytes: &[u8], address: SocketAddr) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            let sent = self.io_log.send(self.key, || Ok(Vec::new()));
            return sent.map(|_| ()).map_err(|failure| failure.to_io_error());
        };
        let mut outcome = Ok(());
        let _ = self.io_log.send(self.key, || {
            outcome = socket.send_to(bytes, address).map(|_| ());
            match &outcome {
                Ok(()) => Ok(bytes.to_vec()),
                Err(error) => Err(Failure::from(error)),
            }
        });
        outcome
    }

    /// Waits until there is something, or until `deadline`.
    pub(super) fn wait(&self, stop: &Stop, deadline: Instant) -> Woken {
        match &self.socket {
            Some(socket) => stop.wait_readable(socket.as_fd(), deadline),
            None => self.io_log.wait(stop).unwrap_or(Woken::Stop),
        }
    }

    /// Whether `deadline` is over; in a recording, whether it was.
    pub(super) fn is_over(&self, deadline: Instant) -> bool {
        match self.io_log.replay() {
            Some(playing) => !playing.receives_next(),
            None => Instant::now() >= deadline,
        }
    }

    /// Takes the next datagram, if one is there.
    pub(super) fn hear(&self) -> Option<Heard> {
        let Some(socket) = &self.socket else {
            return self.play();
        };
        // One byte more than is allowed: it is only there when there is too much.
        let mut buffer = [0; MAX_DATAGRAM + 1];
        match socket.recv_from(&mut buffer) {
            Ok((length, peer)) => {
                let at = BootTime::now();
                let datagram = buffer.get(..length).unwrap_or(&buffer);
                if !self.io_log.is_off() {
                    let said = [peer.to_string().as_bytes(), b" ", datagram].concat();
                    self.io_log.record_received(self.key, at, &Ok(said));
                }
                Some(heard(at, peer, datagram))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                // What the network says of an earlier datagram; the next read is about the next one.
                log::debug!("udp: {}", reason(&error));
                None
            }
        }
    }

    fn play(&self) -> Option<Heard> {
        let (at, said) = self.io_log.take_received(self.key)?;
        let said = said.ok()?;
        let end = said.iter().position(|byte| *byte == b' ')?;
        let peer = std::str::from_utf8(said.get(..end)?).ok()?.parse().ok()?;
        let datagram = said.get(end + 1..)?;
        Some(heard(at, peer, datagram))
    }
}

fn heard(at: BootTime, peer: SocketAddr, datagram: &[u8]) -> Heard {
    Heard {
        at,
        peer,
        message: PowerMeasurement::from_datagram(datagram),
    }
}
