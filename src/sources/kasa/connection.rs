//! The connection to a device: one request at a time, bounded in bytes and time; recorded or replayed.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::frame::{self, HEAD};
use crate::sources::host::Host;
use crate::sources::io_log::{escape_word, Failure, IoLog, Response};
use crate::sources::{json_answer, Error};
use crate::sys::reason;

/// The port of the protocol.
pub(super) const PORT: u16 = 9999;
/// The time limit for all that one poll asks for, including the look-up and the connection.
pub(super) const POLL_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a device, opened when it is needed.
pub(super) struct Connection {
    host: Host,
    stream: Option<TcpStream>,
    io_log: IoLog,
}

impl Connection {
    pub(super) fn new(host: &str, io_log: &IoLog) -> Connection {
        Connection {
            host: Host::new(host, PORT),
            stream: None,
            io_log: io_log.clone(),
        }
    }

    /// The device's answer to a request. A device may close the connection between two requests.
    pub(super) fn ask(&mut self, request: &str, deadline: Instant) -> Result<Vec<u8>, Error> {
        let io_log = self.io_log.clone();
        let key = format!("ask {}", escape_word(request));
        let mut original = None;
        let response: Response = io_log.record_or_replay(&key, || {
            let answer = self.ask_live(request, deadline);
            answer.map(json_answer::without_personal).map_err(|error| {
                let failure = Failure::new(error.to_string());
                original = Some(error);
                failure
            })
        });
        response.map_err(|failure| original.unwrap_or_else(|| Error::new(failure.message)))
    }

    fn ask_live(&mut self, request: &str, deadline: Instant) -> Result<Vec<u8>, Error> {
        if let Some(mut stream) = self.stream.take() {
            if let Ok(answer) = exchange(&mut stream, request, deadline) {
                self.stream = Some(stream);
                return Ok(answer);
            }
        }
        let mut stream = self.connect(deadline)?;
        let answer = exchange(&mut stream, request, deadline).map_err(|why| self.error(&why))?;
        self.stream = Some(stream);
        Ok(answer)
    }

    fn connect(&mut self, deadline: Instant) -> Result<TcpStream, Error> {
        let addresses = self.host.resolve(deadline).map_err(Error::new)?;
        let mut failed = None;
        for address in addresses {
            let left = left(deadline).map_err(|error| self.error(&describe(&error)))?;
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = Some(error),
            }
        }
        let failed = failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        let error = self.error(&describe(&failed));
        Err(match failed.kind() {
            io::ErrorKind::ConnectionRefused => error.hint(
                "devices whose firmware has the newer protocol (KLAP), as Tapo's, are read with `tapo`",
            ),
            _ => error,
        })
    }

    /// An error about the device: `192.168.1.40: …`.
    pub(super) fn error(&self, what: &str) -> Error {
        Error::new(format!("{}: {what}", self.host.authority()))
    }
}

/// Sends a request and reads the whole answer. The error is for people.
fn exchange(stream: &mut TcpStream, request: &str, deadline: Instant) -> Result<Vec<u8>, String> {
    let mut transfer = || -> io::Result<Result<Vec<u8>, String>> {
        stream.set_write_timeout(Some(left(deadline)?))?;
        stream.write_all(&frame::encode(request))?;
        let mut head = [0; HEAD];
        read_exactly(stream, &mut head, deadline)?;
        let length = match frame::length(head) {
            Ok(length) => length,
            Err(why) => return Ok(Err(why)),
        };
        let mut bytes = vec![0; length];
        read_exactly(stream, &mut bytes, deadline)?;
        frame::decode(&mut bytes);
        Ok(Ok(bytes))
    };
    transfer().unwrap_or_else(|error| Err(describe(&error)))
}

/// Fills the buffer. A timeout of the socket is for each byte that comes, so that it is set again before each.
fn read_exactly(stream: &mut TcpStream, buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => rest = rest.get_mut(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The time until the deadline, if there is any.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("no whole answer within {} s", POLL_TIMEOUT.as_secs())
        }
        io::ErrorKind::UnexpectedEof => "the answer breaks off".to_string(),
        _ => reason(error),
    }
}
