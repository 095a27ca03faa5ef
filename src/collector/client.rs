//! One client of a stream: the header, then each new row, as one text message.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::form::{self, Form};
use super::permits::Permit;
use super::rows::{Feed, Lost, Place};
use crate::http::websocket::frame::close;
use crate::http::websocket::{Received, WebSocket};

/// So many bytes of rows are put into frames at a time.
const ENOUGH: usize = 16 * 1024;
/// How long a client may take to say goodbye that has said, or done, what ends its stream.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client left, or vanished.
    Left,
    /// It did not read: rows that it had not got were there no longer.
    Slow,
    /// It gave no sign of life.
    Silent,
    /// It broke the rules of WebSockets.
    Rules,
    /// It is not let in any more.
    Forbidden,
    /// We stop.
    Stopped,
}

impl End {
    /// All there are.
    pub const ALL: [End; 6] = [
        End::Left,
        End::Slow,
        End::Silent,
        End::Rules,
        End::Forbidden,
        End::Stopped,
    ];

    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Left => "left",
            End::Slow => "slow",
            End::Silent => "silent",
            End::Rules => "rules",
            End::Forbidden => "forbidden",
            End::Stopped => "stopped",
        }
    }
}

/// How often clients are asked whether they are alive, and how long they may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Silence after which they are asked.
    pub ping: Duration,
    /// Silence after which they are cut off.
    pub patience: Duration,
}

/// What can be done with a client now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ready {
    /// It has said something, or is gone.
    pub read: bool,
    /// It takes more.
    pub write: bool,
}

/// A client.
pub struct Client {
    socket: WebSocket,
    feed: Arc<Feed>,
    form: Form,
    place: Place,
    /// When it last gave a sign of life.
    heard: Instant,
    /// Whether it has been asked for one since.
    asked: bool,
    /// Whether it took nothing more the last time.
    blocked: bool,
    /// How its stream ended, and until when it may take to leave.
    ending: Option<(End, Instant)>,
    _permit: Permit,
}

impl Client {
    /// A new one. It gets the rows that come from now on.
    pub fn new(mut socket: WebSocket, feed: Arc<Feed>, form: Form, permit: Permit) -> Client {
        socket.send_text(&form::header(feed.kind(), form));
        Client {
            place: feed.end(),
            socket,
            feed,
            form,
            heard: Instant::now(),
            asked: false,
            blocked: false,
            ending: None,
            _permit: permit,
        }
    }

    /// Whether it keeps us waiting.
    pub fn is_behind(&self) -> bool {
        self.socket.unsent() > 0
    }

    /// How its stream ended, if it did.
    pub fn ending(&self) -> Option<End> {
        self.ending.map(|(end, _)| end)
    }

    /// Hears and says what there is. `Err`: it is to be dropped, for this reason.
    pub fn attend(&mut self, ready: Ready, manners: Manners, now: Instant) -> Result<(), End> {
        if ready.read {
            self.hear(now)?;
        }
        if self.ending.is_none() && !self.socket.is_admitted() {
            self.end(
                End::Forbidden,
                close::POLICY,
                "not let in any more",
                now + FAREWELL,
            )?;
        }
        if ready.write || !self.is_behind() {
            self.say(manners, now)?;
        } else if let (true, Err(lost)) = (self.socket.is_open(), self.feed.check(self.place)) {
            self.lose(lost, manners, now)?;
        }
        if self.socket.is_finished() {
            return Err(self.ending.map_or(End::Left, |(end, _)| end));
        }
        match self.ending {
            Some((end, until)) if now >= until => return Err(end),
            Some(_) => {}
            None if now >= self.heard + manners.patience => {
                let seconds = manners.patience.as_secs();
                let why = format!("no sign of life for {seconds} s");
                self.end(End::Silent, close::POLICY, &why, now + FAREWELL)?;
            }
            None if !self.asked && now >= self.heard + manners.ping => {
                self.asked = true;
                self.socket.ping();
                self.flush(now)?;
            }
            None => {}
        }
        Ok(())
    }

    /// When it is to be attended to even if nothing happens.
    pub fn due(&self, manners: Manners) -> Instant {
        match (self.ending, self.asked) {
            (Some((_, until)), _) => until,
            (None, true) => self.heard + manners.patience,
            (None, false) => self.heard + manners.ping.min(manners.patience),
        }
    }

    /// Says that this is the end.
    pub fn end(&mut self, end: End, code: u16, why: &str, until: Instant) -> Result<(), End> {
        self.socket.close(code, why);
        self.ending.get_or_insert((end, until));
        self.flush(Instant::now()).map(|_| ())
    }

    fn hear(&mut self, now: Instant) -> Result<(), End> {
        let was_open = self.socket.is_open();
        match self.socket.receive() {
            Ok(Received::Nothing) => return Ok(()),
            Ok(Received::Frames) => {}
            Ok(Received::Close) => {
                self.ending.get_or_insert((End::Left, now + FAREWELL));
            }
            Ok(Received::Violation) => {
                self.ending.get_or_insert((End::Rules, now + FAREWELL));
            }
            Err(_) => return Err(self.ending.map_or(End::Left, |(end, _)| end)),
        }
        if was_open {
            self.heard = now;
            self.asked = false;
        }
        Ok(())
    }

    /// Says what it has not got yet, as far as it takes it.
    fn say(&mut self, manners: Manners, now: Instant) -> Result<(), End> {
        while self.flush(now)? && self.socket.is_open() {
            let socket = &mut self.socket;
            let said = self.feed.follow(
                &mut self.place,
                self.form,
                |row| socket.send_text(row),
                ENOUGH,
            );
            match said {
                Ok(true) => {}
                Ok(false) => break,
                Err(lost) => self.lose(lost, manners, now)?,
            }
        }
        Ok(())
    }

    /// Ends the stream of a client that was too slow. It may take its time to read so.
    fn lose(&mut self, Lost(rows): Lost, manners: Manners, now: Instant) -> Result<(), End> {
        let why = format!("too slow: {rows} rows are lost");
        let until = now + manners.patience;
        self.end(End::Slow, close::TRY_AGAIN_LATER, &why, until)
    }

    /// Sends what it can; whether that is all. A client that takes something again is alive, even if it says nothing.
    fn flush(&mut self, now: Instant) -> Result<bool, End> {
        let before = self.socket.unsent();
        let done = self.socket.flush();
        if self.blocked && self.socket.unsent() < before {
            self.heard = now;
            self.asked = false;
        }
        self.blocked = matches!(done, Ok(false));
        done.map_err(|_| self.ending.map_or(End::Left, |(end, _)| end))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
