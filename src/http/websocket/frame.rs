//! WebSocket frames (RFC 6455, 5): the server's are written, a client's are decoded. Pure.
//!
//! The decoder is strict and bounded: it holds one control frame at most. Data frames of a client are skipped as they
//! arrive, so that they take no memory.

/// Bytes of a control frame's payload (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;
/// Bytes of a data frame that is skipped. A longer one ends the connection: clients have no reason to send data.
const MAX_DATA: u64 = 64 * 1024;

/// Close codes (RFC 6455, 7.4.1, and IANA's registry).
pub mod close {
    /// The server stops.
    pub const GOING_AWAY: u16 = 1001;
    /// The client violates RFC 6455.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Text that is not UTF-8.
    pub const INVALID_TEXT: u16 = 1007;
    /// The client does what is not allowed here.
    pub const POLICY: u16 = 1008;
    /// A message is too long.
    pub const TOO_BIG: u16 = 1009;
    /// The server is overloaded.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// Kinds of frame that a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A whole text message.
    Text,
    /// The last frame.
    Close,
    /// Has to be answered with a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl FrameKind {
    fn opcode(self) -> u8 {
        match self {
            FrameKind::Text => 0x1,
            FrameKind::Close => 0x8,
            FrameKind::Ping => 0x9,
            FrameKind::Pong => 0xa,
        }
    }
}

/// Appends a whole, unmasked frame.
pub fn write_frame(kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
    const FIN: u8 = 0x80;
    out.push(FIN | kind.opcode());
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short <= 125 => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The payload of a close frame: code and reason, the reason cut to what fits.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    let room = MAX_CONTROL - payload.len();
    let cut = (0..=room.min(reason.len()))
        .rev()
        .find(|&at| reason.is_char_boundary(at));
    let reason = reason.get(..cut.unwrap_or_default()).unwrap_or_default();
    payload.extend_from_slice(reason.as_bytes());
    payload
}

/// A client's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A data frame, skipped.
    Data,
    /// A ping with this payload, to be sent back.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client closes, with this code if it gave one.
    Close(Option<u16>),
}

/// A violation of the protocol, which ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The close code to send.
    pub code: u16,
    /// The reason to send.
    pub reason: &'static str,
}

const fn protocol_error(reason: &'static str) -> Violation {
    Violation {
        code: close::PROTOCOL_ERROR,
        reason,
    }
}

/// Decodes a client's frames, which may arrive in any pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    header: Vec<u8>,
    frame: Option<Frame>,
    /// Whether a message is incomplete.
    in_message: bool,
}

/// A frame whose header has arrived.
#[derive(Debug)]
struct Frame {
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of payload still to come.
    left: u64,
    /// The payload of a control frame so far.
    control: Vec<u8>,
}

impl Decoder {
    /// The next event in `bytes`, which is advanced past what was read. `None`: all of it was read, and no frame ended.
    /// After a violation nothing more can be read.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Violation> {
        if self.frame.is_none() && !self.read_header(bytes)? {
            return Ok(None);
        }
        let Some(frame) = &mut self.frame else {
            return Ok(None);
        };
        let there = usize::try_from(frame.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (payload, rest) = bytes.split_at(there);
        *bytes = rest;
        frame.left -= there as u64;
        if frame.opcode & 0x8 != 0 {
            for byte in payload {
                let key = frame.mask.get(frame.control.len() % 4);
                frame.control.push(byte ^ key.copied().unwrap_or_default());
            }
        }
        if frame.left > 0 {
            return Ok(None);
        }
        match self.frame.take() {
            Some(frame) => event(frame).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the header is whole.
    fn read_header(&mut self, bytes: &mut &[u8]) -> Result<bool, Violation> {
        loop {
            let wanted: usize = match self.header.get(1).map(|second| second & 0x7f) {
                None => 2,
                Some(126) => 2 + 2 + 4,
                Some(127) => 2 + 8 + 4,
                Some(_) => 2 + 4,
            };
            if let Some(missing) = wanted.checked_sub(self.header.len()).filter(|&n| n > 0) {
                let there = missing.min(bytes.len());
                let (piece, rest) = bytes.split_at(there);
                *bytes = rest;
                self.header.extend_from_slice(piece);
                if there < missing {
                    // A violation is reported before the rest of the header arrives.
                    self.check_start()?;
                    return Ok(false);
                }
            } else {
                break;
            }
        }
        self.check_start()?;
        let frame = self.parse_header()?;
        self.header.clear();
        self.frame = Some(frame);
        Ok(true)
    }

    /// Checks the first two bytes, if they have arrived.
    fn check_start(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.header.as_slice() else {
            return Ok(());
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(protocol_error("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(protocol_error("a client's frame is not masked"));
        }
        match opcode {
            0x0 if !self.in_message => Err(protocol_error("a continuation of nothing")),
            0x1 | 0x2 if self.in_message => Err(protocol_error("a message within a message")),
            0x0..=0x2 => Ok(()),
            0x8..=0xa if !fin => Err(protocol_error("a control frame in pieces")),
            0x8..=0xa if usize::from(second & 0x7f) > MAX_CONTROL => {
                Err(protocol_error("a control frame is too long"))
            }
            0x8..=0xa => Ok(()),
            _ => Err(protocol_error("an unknown kind of frame")),
        }
    }

    fn parse_header(&mut self) -> Result<Frame, Violation> {
        const LENGTH: Violation = protocol_error("a length in more bytes than it needs");
        let (first, left, mask) = match *self.header.as_slice() {
            [first, _, a, b, m0, m1, m2, m3] => {
                let length = u64::from(u16::from_be_bytes([a, b]));
                if length <= 125 {
                    return Err(LENGTH);
                }
                (first, length, [m0, m1, m2, m3])
            }
            [first, _, a, b, c, d, e, f, g, h, m0, m1, m2, m3] => {
                let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                if length <= u64::from(u16::MAX) {
                    return Err(LENGTH);
                }
                (first, length, [m0, m1, m2, m3])
            }
            [first, second, m0, m1, m2, m3] => (first, u64::from(second & 0x7f), [m0, m1, m2, m3]),
            _ => return Err(protocol_error("a header that is none")),
        };
        if left > MAX_DATA {
            return Err(Violation {
                code: close::TOO_BIG,
                reason: "nothing so long is wanted here",
            });
        }
        let opcode = first & 0x0f;
        if opcode & 0x8 == 0 {
            self.in_message = first & 0x80 == 0;
        }
        Ok(Frame {
            opcode,
            mask,
            left,
            control: Vec::new(),
        })
    }
}

fn event(frame: Frame) -> Result<Event, Violation> {
    Ok(match frame.opcode {
        0x8 => Event::Close(close_code(&frame.control)?),
        0x9 => Event::Ping(frame.control),
        0xa => Event::Pong,
        _ => Event::Data,
    })
}

/// RFC 6455, 5.5.1 and 7.4: a code that may be sent, and a reason in UTF-8.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(protocol_error("half a close code")),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(protocol_error("a close code that may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation {
            code: close::INVALID_TEXT,
            reason: "the reason is not UTF-8",
        });
    }
    Ok(Some(code))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
