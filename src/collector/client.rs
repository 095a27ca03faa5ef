//! One client of a stream. The client receives the header, then each new row, as one text message each.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::feed::{Cursor, Feed, Lost};
use super::layout::Layout;
use super::permits::Permit;
use crate::http::websocket::frame::close;
use crate::http::websocket::{Received, WebSocket};

/// How many bytes of rows are put into frames before the socket is flushed.
const BATCH_BYTES: usize = 16 * 1024;
/// How long a client has to complete the closing handshake once its stream has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The client left, or its connection broke.
    Left,
    /// The client did not read: rows that it had not received were no longer kept.
    Slow,
    /// The client gave no sign of life.
    Silent,
    /// The client violated the WebSocket protocol.
    Rules,
    /// The client is no longer admitted.
    Forbidden,
    /// The collector stopped.
    Stopped,
}

impl StreamEnd {
    /// Every reason.
    pub const ALL: [StreamEnd; 6] = [
        StreamEnd::Left,
        StreamEnd::Slow,
        StreamEnd::Silent,
        StreamEnd::Rules,
        StreamEnd::Forbidden,
        StreamEnd::Stopped,
    ];

    /// The value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamEnd::Left => "left",
            StreamEnd::Slow => "slow",
            StreamEnd::Silent => "silent",
            StreamEnd::Rules => "rules",
            StreamEnd::Forbidden => "forbidden",
            StreamEnd::Stopped => "stopped",
        }
    }
}

/// When silent clients are pinged, and when they are disconnected.
#[derive(Debug, Clone, Copy)]
pub struct KeepAlive {
    /// Silence after which a client is pinged.
    pub ping_after: Duration,
    /// Silence after which a client is disconnected.
    pub timeout: Duration,
}

/// What poll reported for a client's socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Readiness {
    /// There is something to read, or the connection is gone.
    pub readable: bool,
    /// The socket takes more.
    pub writable: bool,
}

/// A client of a stream.
pub struct Client {
    socket: WebSocket,
    feed: Arc<Feed>,
    layout: Layout,
    cursor: Cursor,
    /// The time of the last sign of life.
    last_activity: Instant,
    /// A ping was sent since the last sign of life.
    is_pinged: bool,
    /// The last flush could not send everything.
    is_blocked: bool,
    /// Why the stream ended, and when the client is disconnected even if it has not closed.
    ending: Option<(StreamEnd, Instant)>,
    _permit: Permit,
}

impl Client {
    /// A new client, which receives the rows published from now on.
    pub fn new(mut socket: WebSocket, feed: Arc<Feed>, layout: Layout, permit: Permit) -> Client {
        socket.send_text(&layout.header());
        Client {
            cursor: feed.end(),
            socket,
            feed,
            layout,
            last_activity: Instant::now(),
            is_pinged: false,
            is_blocked: false,
            ending: None,
            _permit: permit,
        }
    }

    /// Whether there are bytes that the socket has not taken yet.
    pub fn has_unsent(&self) -> bool {
        self.socket.unsent() > 0
    }

    /// Why the stream ended, if it did.
    pub fn ending(&self) -> Option<StreamEnd> {
        self.ending.map(|(end, _)| end)
    }

    /// Receives and sends what can be received and sent now. `Err`: the connection is over, for this reason.
    pub fn serve(
        &mut self,
        ready: Readiness,
        keep_alive: KeepAlive,
        now: Instant,
    ) -> Result<(), StreamEnd> {
        if ready.readable {
            self.receive(now)?;
        }
        if self.ending.is_none() && !self.socket.is_admitted() {
            self.end(
                StreamEnd::Forbidden,
                close::POLICY,
                "not let in any more",
                now + CLOSE_TIMEOUT,
            )?;
        }
        if ready.writable || !self.has_unsent() {
            self.send_rows(keep_alive, now)?;
        } else if let (true, Err(lost)) = (self.socket.is_open(), self.feed.check(self.cursor)) {
            self.end_slow(lost, keep_alive, now)?;
        }
        if self.socket.is_finished() {
            return Err(self.end_or_left());
        }
        match self.ending {
            Some((end, deadline)) if now >= deadline => return Err(end),
            Some(_) => {}
            None if now >= self.last_activity + keep_alive.timeout => {
                let seconds = keep_alive.timeout.as_secs();
                let why = format!("no sign of life for {seconds} s");
                self.end(StreamEnd::Silent, close::POLICY, &why, now + CLOSE_TIMEOUT)?;
            }
            None if !self.is_pinged && now >= self.last_activity + keep_alive.ping_after => {
                self.is_pinged = true;
                self.socket.ping();
                self.flush(now)?;
            }
            None => {}
        }
        Ok(())
    }

    /// When the client must be served even if its socket is not ready.
    pub fn deadline(&self, keep_alive: KeepAlive) -> Instant {
        match (self.ending, self.is_pinged) {
            (Some((_, deadline)), _) => deadline,
            (None, true) => self.last_activity + keep_alive.timeout,
            (None, false) => self.last_activity + keep_alive.ping_after.min(keep_alive.timeout),
        }
    }

    /// Begins the closing handshake, which the client has until `deadline` to complete.
    pub fn end(
        &mut self,
        end: StreamEnd,
        code: u16,
        why: &str,
        deadline: Instant,
    ) -> Result<(), StreamEnd> {
        self.socket.close(code, why);
        self.ending.get_or_insert((end, deadline));
        self.flush(Instant::now()).map(|_| ())
    }

    fn receive(&mut self, now: Instant) -> Result<(), StreamEnd> {
        let was_open = self.socket.is_open();
        match self.socket.receive() {
            Ok(Received::Nothing) => return Ok(()),
            Ok(Received::Frames) => {}
            Ok(Received::Close) => {
                self.ending
                    .get_or_insert((StreamEnd::Left, now + CLOSE_TIMEOUT));
            }
            Ok(Received::Violation) => {
                self.ending
                    .get_or_insert((StreamEnd::Rules, now + CLOSE_TIMEOUT));
            }
            Err(_) => return Err(self.end_or_left()),
        }
        if was_open {
            self.note_activity(now);
        }
        Ok(())
    }

    /// Sends the rows after the cursor, until there are no more or the socket takes no more.
    fn send_rows(&mut self, keep_alive: KeepAlive, now: Instant) -> Result<(), StreamEnd> {
        while self.flush(now)? && self.socket.is_open() {
            let socket = &mut self.socket;
            let sent = self.feed.read(
                &mut self.cursor,
                &self.layout,
                |row| socket.send_text(row),
                BATCH_BYTES,
            );
            match sent {
                Ok(true) => {}
                Ok(false) => break,
                Err(lost) => self.end_slow(lost, keep_alive, now)?,
            }
        }
        Ok(())
    }

    /// Ends the stream of a client that was too slow. Such a client gets the longer timeout for the closing handshake.
    fn end_slow(
        &mut self,
        Lost(rows): Lost,
        keep_alive: KeepAlive,
        now: Instant,
    ) -> Result<(), StreamEnd> {
        let why = format!("too slow: {rows} rows are lost");
        let deadline = now + keep_alive.timeout;
        self.end(StreamEnd::Slow, close::TRY_AGAIN_LATER, &why, deadline)
    }

    /// Sends what the socket takes, and returns whether that is everything. A blocked client that takes bytes again is alive,
    /// even if it sends nothing.
    fn flush(&mut self, now: Instant) -> Result<bool, StreamEnd> {
        let before = self.socket.unsent();
        let flushed = self.socket.flush();
        if self.is_blocked && self.socket.unsent() < before {
            self.note_activity(now);
        }
        self.is_blocked = matches!(flushed, Ok(false));
        flushed.map_err(|_| self.end_or_left())
    }

    fn note_activity(&mut self, now: Instant) {
        self.last_activity = now;
        self.is_pinged = false;
    }

    /// Why the stream ended: if nothing else ended it, the client left.
    fn end_or_left(&self) -> StreamEnd {
        self.ending().unwrap_or(StreamEnd::Left)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
