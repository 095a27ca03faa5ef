//! One line of a source's log: its format, written and parsed.
//!
//! ```text
//! 1.000000000 poll                                        a step of the source: open, poll, rescan; or discard, end
//! 1.000052183 sys/class/hwmon/hwmon0/in1_input = 5012\n   a request and its response
//! 1.000061442 dev/cpu/0/msr 0x639 ! 5 i/O error           a failed request: error number or -, and message
//! 1.250000000 udp > DATA_REQUEST                          something sent
//! 1.250481216 udp < 192.168.1.7:5000 \x08\x01             something received without a request
//! 2.000000000 tegrastats <! - ended with exit status 1    a failure to receive (or, with >!, to send)
//! ```
//!
//! A line begins with the time since the recording began, in seconds. Bytes that are not printable ASCII are written as
//! `\n`, `\r`, `\t`, `\\` or `\xHH`. In the words of a request, so is a space.

use std::fmt::Write;
use std::io;

use crate::sources::Error;
use crate::sys::reason;

/// The longest line: the longest response has 64 KiB, and each of its bytes takes up to four.
pub(super) const MAX_LINE_BYTES: usize = 320 * 1024;
/// The longest time since the recording began: a year, in nanoseconds.
const MAX_TIME: u64 = 366 * 86_400 * 1_000_000_000;

/// The content that was read or received, or the failure.
pub type Response = Result<Vec<u8>, Failure>;

/// Why a request failed, in a form that can be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The operating system's error number, if there was one.
    pub errno: Option<i32>,
    /// The error's message.
    pub message: String,
}

impl Failure {
    /// A failure without an error number.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            errno: None,
            message: message.into(),
        }
    }

    /// Converts the failure to an I/O error.
    pub fn to_io_error(&self) -> io::Error {
        match self.errno {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(self.message.clone()),
        }
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Failure {
        Failure {
            errno: error.raw_os_error(),
            message: reason(error),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        Failure {
            errno: error.errno(),
            message: match error.errno() {
                Some(number) => reason(&io::Error::from_raw_os_error(number)),
                None => error.to_string(),
            },
        }
    }
}

/// A step of a source. All requests up to the next step belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The source is opened. If it is open, it is dropped first.
    Open,
    /// The source is polled.
    Poll,
    /// The source looks for devices that were added or removed.
    Rescan,
}

/// The kind of an exchange with a device or the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// The response to a request, which blocked until the response was there.
    Response,
    /// Something was sent. What is recorded is the result of sending.
    Sent,
    /// Something was received that was not requested, or arrived some time after the request.
    Received,
}

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A step begins.
    Step(Step),
    /// The readings of the poll that began at this time were not used.
    Discard(u64),
    /// The recording ended.
    End,
    /// An exchange with a device or the system.
    Entry {
        /// The request, or the name of a channel: words with single spaces between them.
        key: String,
        /// The kind of the exchange.
        kind: EntryKind,
        /// The content or the failure.
        response: Response,
    },
}

/// Appends the line for this time (in nanoseconds since the recording began), with its line feed.
pub(super) fn write(out: &mut String, at: u64, line: &Line) {
    write_time(out, at);
    out.push(' ');
    match line {
        Line::Step(Step::Open) => out.push_str("open"),
        Line::Step(Step::Poll) => out.push_str("poll"),
        Line::Step(Step::Rescan) => out.push_str("rescan"),
        Line::End => out.push_str("end"),
        Line::Discard(then) => {
            out.push_str("discard ");
            write_time(out, *then);
        }
        Line::Entry {
            key,
            kind,
            response,
        } => {
            out.push_str(key);
            let sign = match kind {
                EntryKind::Response => "=",
                EntryKind::Sent => ">",
                EntryKind::Received => "<",
            };
            match (response, kind) {
                (Ok(content), _) => {
                    let _ = write!(out, " {sign} ");
                    escape(out, content);
                }
                (Err(failure), kind) => {
                    let sign = if *kind == EntryKind::Response {
                        ""
                    } else {
                        sign
                    };
                    let _ = write!(out, " {sign}! ");
                    match failure.errno {
                        Some(number) => {
                            let _ = write!(out, "{number} ");
                        }
                        None => out.push_str("- "),
                    }
                    escape(out, failure.message.as_bytes());
                }
            }
        }
    }
    out.push('\n');
}

/// A whole line, with its line feed.
pub fn render(at: u64, line: &Line) -> String {
    let mut out = String::new();
    write(&mut out, at, line);
    out
}

/// Parses a line without its line feed. The error says what is wrong with the line.
pub fn parse(line: &[u8]) -> Result<(u64, Line), String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("the line is longer than {MAX_LINE_BYTES} bytes"));
    }
    let text = std::str::from_utf8(line)
        .ok()
        .filter(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)))
        .ok_or("the line has bytes that are not printable ASCII")?;
    let (at, rest) = text.split_once(' ').unwrap_or((text, ""));
    let at = parse_time(at)?;
    let line = match rest {
        "open" => Line::Step(Step::Open),
        "poll" => Line::Step(Step::Poll),
        "rescan" => Line::Step(Step::Rescan),
        "end" => Line::End,
        _ => match rest.strip_prefix("discard ") {
            Some(then) => Line::Discard(parse_time(then)?),
            None => parse_entry(rest)?,
        },
    };
    Ok((at, line))
}

fn parse_entry(text: &str) -> Result<Line, String> {
    let mut from = 0;
    for word in text.split(' ') {
        let (kind, is_ok) = match word {
            "=" => (EntryKind::Response, true),
            ">" => (EntryKind::Sent, true),
            "<" => (EntryKind::Received, true),
            "!" => (EntryKind::Response, false),
            ">!" => (EntryKind::Sent, false),
            "<!" => (EntryKind::Received, false),
            _ => {
                from += word.len() + 1;
                continue;
            }
        };
        // The text is ASCII, so these are character boundaries.
        let key = text.get(..from.saturating_sub(1)).unwrap_or_default();
        let content = text.get(from + word.len() + 1..).unwrap_or_default();
        if key.is_empty() || key.split(' ').any(str::is_empty) {
            return Err("it does not say what it is about".to_string());
        }
        let response = if is_ok {
            Ok(unescape(content)?)
        } else {
            Err(parse_failure(content)?)
        };
        return Ok(Line::Entry {
            key: key.to_string(),
            kind,
            response,
        });
    }
    let begin: String = text.chars().take(60).collect();
    Err(format!(
        "{begin:?} is none of open, poll, rescan, discard, end, and has no =, !, < or >"
    ))
}

fn parse_failure(text: &str) -> Result<Failure, String> {
    let (number, message) = text.split_once(' ').unwrap_or((text, ""));
    let errno = match number {
        "-" => None,
        // The kernel's error numbers are below 4096.
        number => Some(
            number
                .parse()
                .ok()
                .filter(|n| (1..4096).contains(n))
                .ok_or("a failure has no error number, and no - in its place")?,
        ),
    };
    let message = String::from_utf8_lossy(&unescape(message)?).into_owned();
    Ok(Failure { errno, message })
}

/// Escapes text for use as one word of a request.
pub(super) fn escape_word(text: impl AsRef<[u8]>) -> String {
    let mut word = String::new();
    for byte in text.as_ref() {
        match byte {
            b' ' => escape_hexadecimal(&mut word, b' '),
            byte => escape_byte(&mut word, *byte),
        }
    }
    match word.as_str() {
        "" => "''".to_string(),
        "=" | "!" | "<" | ">" | "<!" | ">!" => format!("'{word}'"),
        _ => word,
    }
}

fn escape_hexadecimal(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

fn escape(out: &mut String, bytes: &[u8]) {
    match bytes {
        // Editors that strip trailing white space would remove a space at the end.
        [bytes @ .., b' '] => {
            bytes.iter().for_each(|byte| escape_byte(out, *byte));
            escape_hexadecimal(out, b' ');
        }
        bytes => bytes.iter().for_each(|byte| escape_byte(out, *byte)),
    }
}

fn escape_byte(out: &mut String, byte: u8) {
    match byte {
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        b'\\' => out.push_str("\\\\"),
        b' '..=b'~' => out.push(char::from(byte)),
        byte => escape_hexadecimal(out, byte),
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit(), digit());
                let byte = high.zip(low).map(|(high, low)| high * 16 + low);
                byte.and_then(|byte| u8::try_from(byte).ok())
                    .ok_or("a \\x has not two hexadecimal digits after it")?
            }
            _ => return Err("a \\ has none of n, r, t, x and \\ after it".to_string()),
        });
    }
    Ok(bytes)
}

fn write_time(out: &mut String, at: u64) {
    let _ = write!(out, "{}.{:09}", at / 1_000_000_000, at % 1_000_000_000);
}

/// Parses seconds with nine decimals. Returns nanoseconds.
pub(super) fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || "it does not begin with a time, as in 12.000000000".to_string();
    let (seconds, nanos) = text.split_once('.').ok_or_else(wrong)?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if nanos.len() != 9 || seconds.is_empty() || seconds.len() > 10 {
        return Err(wrong());
    }
    if !digits(seconds) || !digits(nanos) {
        return Err(wrong());
    }
    let (seconds, nanos): (u64, u64) = (
        seconds.parse().map_err(|_| wrong())?,
        nanos.parse().map_err(|_| wrong())?,
    );
    Some(seconds * 1_000_000_000 + nanos)
        .filter(|at| *at <= MAX_TIME)
        .ok_or_else(|| "the time is more than a year after the beginning".to_string())
}

/// A time in seconds with nine decimals.
pub(super) fn format_time(at: u64) -> String {
    let mut out = String::new();
    write_time(&mut out, at);
    out
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
