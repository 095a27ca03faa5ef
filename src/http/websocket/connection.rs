//! One open WebSocket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::frame::{close_payload, write_frame, Decoder, Event, FrameKind};
use crate::http::access::Admission;
use crate::http::{Duplex, Upgraded};

/// Bytes of one read, so that a client that sends without end does not delay the others.
const CHUNK: usize = 4096;
/// Above this many unsent bytes pings are not answered: the client is not reading.
const MAX_UNSENT_FOR_PONG: usize = 64 * 1024;
/// Bytes of buffer that an idle connection keeps.
const IDLE_BUFFER: usize = 1024;

/// A WebSocket that never blocks. Messages are buffered until [`WebSocket::flush`] sends them; the caller limits how much it
/// buffers.
pub struct WebSocket {
    stream: Box<dyn Duplex>,
    received: Vec<u8>,
    decoder: Decoder,
    unsent: Vec<u8>,
    /// Bytes of `unsent` that the kernel has taken.
    sent: usize,
    state: CloseState,
    admission: Admission,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseState {
    Open,
    /// A close frame was sent; the client's is awaited.
    Closing,
    /// The client broke the protocol: what it sends is ignored.
    Failed,
    /// Both sides have sent a close frame.
    Closed,
}

/// What was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Nothing.
    Nothing,
    /// Some frames or parts of them: the client is alive.
    Frames,
    /// A close frame, which is answered. Nothing more can be sent.
    Close,
    /// A violation of the protocol, which is answered with a close frame. Nothing more can be sent, and what the client
    /// sends is ignored.
    Violation,
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
            state: CloseState::Open,
            admission: upgraded.admission,
        }
    }

    /// Whether the client would still be let in.
    pub fn is_admitted(&mut self) -> bool {
        self.admission.is_valid()
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.state == CloseState::Open
    }

    /// Whether both sides have closed and everything is sent: the connection can be dropped.
    pub fn is_finished(&self) -> bool {
        self.state == CloseState::Closed && self.unsent() == 0
    }

    /// Bytes that the kernel has not taken yet.
    pub fn unsent(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// Sends one text message.
    pub fn send_text(&mut self, text: &str) {
        self.frame(FrameKind::Text, text.as_bytes());
    }

    /// Sends a ping.
    pub fn ping(&mut self) {
        self.frame(FrameKind::Ping, b"");
    }

    /// Sends a close frame. Nothing more can be sent.
    pub fn close(&mut self, code: u16, reason: &str) {
        if self.is_open() {
            self.frame(FrameKind::Close, &close_payload(code, reason));
            self.state = CloseState::Closing;
        }
    }

    fn frame(&mut self, kind: FrameKind, payload: &[u8]) {
        if self.is_open() {
            write_frame(kind, payload, &mut self.unsent);
        }
    }

    /// Sends what the kernel takes. `true`: everything is sent. Fails when the client has disconnected.
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
        self.unsent.shrink_to(IDLE_BUFFER);
        self.sent = 0;
        Ok(true)
    }

    /// Reads some of what has arrived. Fails when the client has disconnected.
    pub fn receive(&mut self) -> io::Result<Received> {
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
                    return Ok(Received::Nothing)
                }
                Err(e) => return Err(e),
            };
            bytes = chunk.get(..n).unwrap_or_default();
        }
        let mut result = self.decode(bytes);
        // Polling the descriptor does not report bytes that the stream has buffered.
        while result == Received::Frames && self.stream.has_buffered_input() {
            let n = self.stream.read(&mut chunk)?;
            result = self.decode(chunk.get(..n).unwrap_or_default());
        }
        Ok(result)
    }

    fn decode(&mut self, mut bytes: &[u8]) -> Received {
        while !matches!(self.state, CloseState::Failed | CloseState::Closed) {
            match self.decoder.next(&mut bytes) {
                Ok(None) => return Received::Frames,
                Ok(Some(Event::Data | Event::Pong)) => {}
                Ok(Some(Event::Ping(payload))) => {
                    if self.unsent() < MAX_UNSENT_FOR_PONG {
                        self.frame(FrameKind::Pong, &payload);
                    }
                }
                Ok(Some(Event::Close(code))) => {
                    // The same code goes back (RFC 6455, 5.5.1).
                    let payload = code.map_or_else(Vec::new, |code| close_payload(code, ""));
                    self.frame(FrameKind::Close, &payload);
                    self.state = CloseState::Closed;
                    return Received::Close;
                }
                Err(violation) => {
                    self.close(violation.code, violation.reason);
                    self.state = CloseState::Failed;
                    return Received::Violation;
                }
            }
        }
        Received::Frames
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

    fn read_exactly(theirs: &mut UnixStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        theirs.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn pings_and_close_frames_are_answered() {
        let (mut ours, mut theirs) = pair();
        assert_eq!(ours.receive().unwrap(), Received::Nothing);
        theirs.write_all(b"\x89\x81\0\0\0\0x").unwrap();
        assert_eq!(ours.receive().unwrap(), Received::Frames);
        ours.send_text("row");
        theirs.write_all(b"\x88\x82\0\0\0\0\x03\xe8").unwrap();
        assert_eq!(ours.receive().unwrap(), Received::Close);
        ours.send_text("too late");
        assert!(!ours.is_open() && !ours.is_finished());
        assert!(ours.flush().unwrap() && ours.is_finished());
        let all = b"\x8a\x01x\x81\x03row\x88\x02\x03\xe8";
        assert_eq!(read_exactly(&mut theirs, all.len()), all);
        drop(theirs);
        assert!(ours.receive().is_err());
    }

    #[test]
    fn bytes_received_after_the_request_are_decoded() {
        let (ours, theirs) = pair();
        let mut ours = WebSocket {
            received: b"\x88\x80\0\0\0\0".to_vec(),
            ..ours
        };
        assert_eq!(ours.receive().unwrap(), Received::Close);
        drop(theirs);
    }

    #[test]
    fn violation_is_answered_and_later_frames_are_ignored() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"\x81\x01x").unwrap();
        assert_eq!(ours.receive().unwrap(), Received::Violation);
        theirs.write_all(b"\x81\x01x").unwrap();
        assert_eq!(ours.receive().unwrap(), Received::Frames);
        assert!(ours.flush().unwrap() && !ours.is_finished());
        assert_eq!(read_exactly(&mut theirs, 4)[2..], [0x03, 0xea]);
    }

    #[test]
    fn client_that_does_not_read_does_not_block() {
        let (mut ours, mut theirs) = pair();
        let row = "x".repeat(10_000);
        let mut rows = 0;
        while ours.flush().unwrap() {
            ours.send_text(&row);
            rows += 1;
        }
        assert!(ours.unsent() > 0);
        // Its ping is received, but not answered.
        ours.unsent
            .resize(ours.unsent.len() + MAX_UNSENT_FOR_PONG, 0);
        let unsent = ours.unsent();
        theirs.write_all(b"\x89\x80\0\0\0\0").unwrap();
        assert_eq!(ours.receive().unwrap(), Received::Frames);
        assert_eq!(ours.unsent(), unsent);
        ours.unsent
            .truncate(ours.unsent.len() - MAX_UNSENT_FOR_PONG);
        // Once it reads, everything arrives.
        let reading = std::thread::spawn(move || read_exactly(&mut theirs, rows * 10_004));
        while !ours.flush().unwrap() {
            std::thread::yield_now();
        }
        assert_eq!(reading.join().unwrap().len(), rows * 10_004);
    }
}
