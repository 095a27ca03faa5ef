//! WebSocket frames (RFC 6455, 5): ours written, a client's read. Pure.
//!
//! The reader is strict, and bounded: it holds one control frame at most. What a client says in data frames is passed
//! over as it comes, so that its length costs nothing.

/// The longest payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;
/// The longest frame of data that is passed over. Nobody has anything to say to us that needs so much.
const MAX_DATA: u64 = 64 * 1024;

/// Close codes (RFC 6455, 7.4.1, and IANA's registry).
pub mod close {
    /// The server stops.
    pub const GOING_AWAY: u16 = 1001;
    /// The other side does not keep to RFC 6455.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Text that is not UTF-8.
    pub const INVALID_TEXT: u16 = 1007;
    /// The other side does what is not allowed here.
    pub const POLICY: u16 = 1008;
    /// A message is too long.
    pub const TOO_BIG: u16 = 1009;
    /// It may go better later.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// Kinds of frame that a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole text message.
    Text,
    /// The last frame.
    Close,
    /// To be answered.
    Ping,
    /// The answer.
    Pong,
}

impl Kind {
    fn opcode(self) -> u8 {
        match self {
            Kind::Text => 0x1,
            Kind::Close => 0x8,
            Kind::Ping => 0x9,
            Kind::Pong => 0xa,
        }
    }
}

/// Appends a whole, unmasked frame.
pub fn write_frame(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
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

/// What a client's frame was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A frame of data, passed over.
    Data,
    /// A ping with this payload, to be sent back.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client closes, with this code if it gave one.
    Close(Option<u16>),
}

/// What a client did that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The close code to send.
    pub code: u16,
    /// The reason to send.
    pub reason: &'static str,
}

const fn wrong(reason: &'static str) -> Violation {
    Violation {
        code: close::PROTOCOL_ERROR,
        reason,
    }
}

/// Reads a client's frames, whatever pieces they come in.
#[derive(Debug, Default)]
pub struct Decoder {
    header: Vec<u8>,
    frame: Option<Frame>,
    /// Whether a message has begun that is not ended.
    in_message: bool,
}

/// A frame whose header is there.
#[derive(Debug)]
struct Frame {
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of payload still to come.
    left: u64,
    /// A control frame's payload so far.
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
                    // What can be refused is, before the rest of it comes.
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

    /// The first two bytes, if they are there.
    fn check_start(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.header.as_slice() else {
            return Ok(());
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(wrong("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(wrong("a client's frame is not masked"));
        }
        match opcode {
            0x0 if !self.in_message => Err(wrong("a continuation of nothing")),
            0x1 | 0x2 if self.in_message => Err(wrong("a message within a message")),
            0x0..=0x2 => Ok(()),
            0x8..=0xa if !fin => Err(wrong("a control frame in pieces")),
            0x8..=0xa if usize::from(second & 0x7f) > MAX_CONTROL => {
                Err(wrong("a control frame is too long"))
            }
            0x8..=0xa => Ok(()),
            _ => Err(wrong("an unknown kind of frame")),
        }
    }

    fn parse_header(&mut self) -> Result<Frame, Violation> {
        const LENGTH: Violation = wrong("a length in more bytes than it needs");
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
            _ => return Err(wrong("a header that is none")),
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
        [_] => return Err(wrong("half a close code")),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(wrong("a close code that may not be sent"));
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
