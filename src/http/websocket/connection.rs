//! One open WebSocket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::frame::{close_payload, write_frame, Decoder, Event, Kind};
use crate::http::gate::Admission;
use crate::http::{Duplex, Upgraded};

/// What one reading takes in, so that who sends without end does not keep us from the others.
const CHUNK: usize = 4096;
/// With so many bytes unsent, pings are not answered: who does not read does not see the answer either.
const BACKLOG: usize = 64 * 1024;
/// Memory that an idle connection keeps for its next message.
const KEPT: usize = 1024;

/// A WebSocket that never blocks. What is said is kept until [`WebSocket::flush`] gets it out; how much to say before
/// that is the caller's affair.
pub struct WebSocket {
    stream: Box<dyn Duplex>,
    received: Vec<u8>,
    decoder: Decoder,
    unsent: Vec<u8>,
    /// How much of `unsent` the kernel has.
    sent: usize,
    state: State,
    admission: Admission,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// We said that we close, and wait for the same.
    Closing,
    /// The other side broke the rules: what it says is no longer listened to.
    Deaf,
    /// Both have said it.
    Closed,
}

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// The other side is alive.
    Life,
    /// The other side closes: it is told the same, and nothing more is said.
    Left,
    /// The other side broke the rules: it is told so, and nothing more is said or listened to.
    Nonsense,
}

impl WebSocket {
    /// The connection of a request that was accepted.
    pub fn new(upgraded: Upgraded) -> WebSocket {
        WebSocket {
            stream: upgraded.stream,
            received: upgraded.received,
            decoder: Decoder::default(),
            unsent: Vec::new(),
            sent: 0,
            state: State::Open,
            admission: upgraded.admission,
        }
    }

    /// Whether the other side would still be let in.
    pub fn is_admitted(&mut self) -> bool {
        self.admission.holds()
    }

    /// Whether anything can still be said.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether both sides have closed and all is out: it is to be dropped.
    pub fn is_over(&self) -> bool {
        self.state == State::Closed && self.unsent() == 0
    }

    /// Bytes that the kernel has not taken yet.
    pub fn unsent(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// Says one text message.
    pub fn say(&mut self, text: &str) {
        self.frame(Kind::Text, text.as_bytes());
    }

    /// Asks whether the other side is alive.
    pub fn ping(&mut self) {
        self.frame(Kind::Ping, b"");
    }

    /// Says that this is the end, and why.
    pub fn close(&mut self, code: u16, reason: &str) {
        if self.is_open() {
            self.frame(Kind::Close, &close_payload(code, reason));
            self.state = State::Closing;
        }
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) {
        if self.is_open() {
            write_frame(kind, payload, &mut self.unsent);
        }
    }

    /// Sends what it can. `true`: all is out. Fails when the other side is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.unsent.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.unsent.clear();
        self.unsent.shrink_to(KEPT);
        self.sent = 0;
        Ok(true)
    }

    /// Takes in some of what is there. Fails when the other side is gone.
    pub fn hear(&mut self) -> io::Result<Heard> {
        let mut chunk = [0; CHUNK];
        let early = std::mem::take(&mut self.received);
        let mut bytes = early.as_slice();
        if bytes.is_empty() {
            let n = match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    return Ok(Heard::Nothing)
                }
                Err(e) => return Err(e),
            };
            bytes = chunk.get(..n).unwrap_or_default();
        }
        let mut heard = self.understand(bytes);
        // Of what the stream has taken in already nobody would tell us again.
        while heard == Heard::Life && self.stream.holds_back() {
            let n = self.stream.read(&mut chunk)?;
            heard = self.understand(chunk.get(..n).unwrap_or_default());
        }
        Ok(heard)
    }

    fn understand(&mut self, mut bytes: &[u8]) -> Heard {
        while !matches!(self.state, State::Deaf | State::Closed) {
            match self.decoder.next(&mut bytes) {
                Ok(None) => return Heard::Life,
                Ok(Some(Event::Data | Event::Pong)) => {}
                Ok(Some(Event::Ping(payload))) => {
                    if self.unsent() < BACKLOG {
                        self.frame(Kind::Pong, &payload);
                    }
                }
                Ok(Some(Event::Close(code))) => {
                    // The same code goes back (RFC 6455, 5.5.1).
                    let payload = code.map_or_else(Vec::new, |code| close_payload(code, ""));
                    self.frame(Kind::Close, &payload);
                    self.state = State::Closed;
                    return Heard::Left;
                }
                Err(violation) => {
                    self.close(violation.code, violation.reason);
                    self.state = State::Deaf;
                    return Heard::Nonsense;
                }
            }
        }
        Heard::Life
    }
}

impl AsFd for WebSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    impl Duplex for UnixStream {}

    fn pair() -> (WebSocket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let upgraded = Upgraded {
            stream: Box::new(ours),
            received: Vec::new(),
            admission: Admission::open(),
        };
        (WebSocket::new(upgraded), theirs)
    }

    fn said(theirs: &mut UnixStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        theirs.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn pings_are_answered_and_a_close_is_returned() {
        let (mut ours, mut theirs) = pair();
        assert_eq!(ours.hear().unwrap(), Heard::Nothing);
        theirs.write_all(b"\x89\x81\0\0\0\0x").unwrap();
        assert_eq!(ours.hear().unwrap(), Heard::Life);
        ours.say("row");
        theirs.write_all(b"\x88\x82\0\0\0\0\x03\xe8").unwrap();
        assert_eq!(ours.hear().unwrap(), Heard::Left);
        ours.say("too late");
        assert!(!ours.is_open() && !ours.is_over());
        assert!(ours.flush().unwrap() && ours.is_over());
        let all = b"\x8a\x01x\x81\x03row\x88\x02\x03\xe8";
        assert_eq!(said(&mut theirs, all.len()), all);
        drop(theirs);
        assert!(ours.hear().is_err());
    }

    #[test]
    fn what_came_behind_the_request_counts() {
        let (ours, theirs) = pair();
        let mut ours = WebSocket {
            received: b"\x88\x80\0\0\0\0".to_vec(),
            ..ours
        };
        assert_eq!(ours.hear().unwrap(), Heard::Left);
        drop(theirs);
    }

    #[test]
    fn who_breaks_the_rules_is_told_and_not_listened_to() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"\x81\x01x").unwrap();
        assert_eq!(ours.hear().unwrap(), Heard::Nonsense);
        theirs.write_all(b"\x81\x01x").unwrap();
        assert_eq!(ours.hear().unwrap(), Heard::Life);
        assert!(ours.flush().unwrap() && !ours.is_over());
        assert_eq!(said(&mut theirs, 4)[2..], [0x03, 0xea]);
    }

    #[test]
    fn who_does_not_read_blocks_nobody() {
        let (mut ours, mut theirs) = pair();
        let row = "x".repeat(10_000);
        let mut rows = 0;
        while ours.flush().unwrap() {
            ours.say(&row);
            rows += 1;
        }
        assert!(ours.unsent() > 0);
        // What it sends is heard all the same, but not answered.
        ours.unsent.resize(ours.unsent.len() + BACKLOG, 0);
        let unsent = ours.unsent();
        theirs.write_all(b"\x89\x80\0\0\0\0").unwrap();
        assert_eq!(ours.hear().unwrap(), Heard::Life);
        assert_eq!(ours.unsent(), unsent);
        ours.unsent.truncate(ours.unsent.len() - BACKLOG);
        // Once it reads, all is there.
        let reading = std::thread::spawn(move || said(&mut theirs, rows * 10_004));
        while !ours.flush().unwrap() {
            std::thread::yield_now();
        }
        assert_eq!(reading.join().unwrap().len(), rows * 10_004);
    }
}
