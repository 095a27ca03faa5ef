//! One line of a recording's log, written and read. Pure.
//!
//! ```text
//! 1.000000000 poll                                        what the source does: open, poll, rescan, discard, end
//! 1.000052183 sys/class/hwmon/hwmon0/in1_input = 5012\n   a question and its answer
//! 1.000061442 dev/cpu/0/msr 0x639 ! 5 i/O error           a question that failed: error number or -, and words
//! 1.250000000 udp > DATA_REQUEST                          something that was sent,
//! 1.250481216 udp < 192.168.1.7:5000 \x08\x01             something that came by itself;
//! 2.000000000 tegrastats <! - ended with exit status 1    >! and <! are their failures
//! ```
//!
//! The first word is the time since the recording began, in seconds. Bytes that are not printable ASCII are written as
//! `\n`, `\r`, `\t`, `\\` or `\xHH`, in the words of a question the space as well.

use std::fmt::Write;
use std::io;

use crate::sources::Error;
use crate::sys::reason;

/// A longer line is none of ours: the longest answer of all has 64 KiB, of which each byte takes up to four.
pub(super) const MOST_LINE: usize = 320 * 1024;
/// No recording is longer, in nanoseconds: a year.
const LONGEST: u64 = 366 * 86_400 * 1_000_000_000;

/// What was answered, or why there was no answer.
pub type Answer = Result<Vec<u8>, Failure>;

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The operating system's error number, where it was one.
    pub errno: Option<i32>,
    /// In words.
    pub words: String,
}

impl Failure {
    /// A failure in its own words.
    pub fn new(words: impl Into<String>) -> Failure {
        Failure {
            errno: None,
            words: words.into(),
        }
    }

    /// As an error of input and output.
    pub fn io(&self) -> io::Error {
        match self.errno {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(self.words.clone()),
        }
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Failure {
        Failure {
            errno: error.raw_os_error(),
            words: reason(error),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        Failure {
            errno: error.errno(),
            words: match error.errno() {
                Some(number) => reason(&io::Error::from_raw_os_error(number)),
                None => error.to_string(),
            },
        }
    }
}

/// What a source does: all that it asks until the next of them is a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is opened, anew if it is open.
    Open,
    /// It is polled.
    Poll,
    /// It looks for devices that came or went.
    Rescan,
}

/// How a question's outcome came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was asked for, and answered at once.
    Asked,
    /// It was sent.
    Sent,
    /// It came by itself.
    Came,
}

/// A line's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// From here on the source does this.
    Step(Step),
    /// What was read in the act that began at this time was not used.
    Discard(u64),
    /// All has been said.
    End,
    /// Something of the world outside.
    Fact {
        /// What it is about: words, one space between two.
        key: String,
        /// How it came.
        kind: Kind,
        /// What it says.
        answer: Answer,
    },
}

/// Appends the line for this time (in nanoseconds), with its end.
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
        Line::Fact { key, kind, answer } => {
            out.push_str(key);
            let sign = match kind {
                Kind::Asked => "=",
                Kind::Sent => ">",
                Kind::Came => "<",
            };
            match (answer, kind) {
                (Ok(content), _) => {
                    let _ = write!(out, " {sign} ");
                    escape(out, content);
                }
                (Err(failure), kind) => {
                    let sign = if *kind == Kind::Asked { "" } else { sign };
                    let _ = write!(out, " {sign}! ");
                    match failure.errno {
                        Some(number) => {
                            let _ = write!(out, "{number} ");
                        }
                        None => out.push_str("- "),
                    }
                    escape(out, failure.words.as_bytes());
                }
            }
        }
    }
    out.push('\n');
}

/// A line, with its end.
pub fn render(at: u64, line: &Line) -> String {
    let mut out = String::new();
    write(&mut out, at, line);
    out
}

/// Reads a line without its end; an error says what is wrong with it.
pub fn parse(line: &[u8]) -> Result<(u64, Line), String> {
    if line.len() > MOST_LINE {
        return Err(format!("the line is longer than {MOST_LINE} bytes"));
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
            None => parse_fact(rest)?,
        },
    };
    Ok((at, line))
}

fn parse_fact(text: &str) -> Result<Line, String> {
    let mut from = 0;
    for word in text.split(' ') {
        let (kind, good) = match word {
            "=" => (Kind::Asked, true),
            ">" => (Kind::Sent, true),
            "<" => (Kind::Came, true),
            "!" => (Kind::Asked, false),
            ">!" => (Kind::Sent, false),
            "<!" => (Kind::Came, false),
            _ => {
                from += word.len() + 1;
                continue;
            }
        };
        // Words and signs are ASCII: these are boundaries.
        let key = text.get(..from.saturating_sub(1)).unwrap_or_default();
        let said = text.get(from + word.len() + 1..).unwrap_or_default();
        if key.is_empty() || key.split(' ').any(str::is_empty) {
            return Err("it does not say what it is about".to_string());
        }
        let answer = if good {
            Ok(unescape(said)?)
        } else {
            Err(parse_failure(said)?)
        };
        return Ok(Line::Fact {
            key: key.to_string(),
            kind,
            answer,
        });
    }
    let begin: String = text.chars().take(60).collect();
    Err(format!(
        "{begin:?} is none of open, poll, rescan, discard, end, and has no =, !, < or >"
    ))
}

fn parse_failure(text: &str) -> Result<Failure, String> {
    let (number, words) = text.split_once(' ').unwrap_or((text, ""));
    let errno = match number {
        "-" => None,
        // The kernel's numbers are below 4096.
        number => Some(
            number
                .parse()
                .ok()
                .filter(|n| (1..4096).contains(n))
                .ok_or("a failure has no error number, and no - in its place")?,
        ),
    };
    let words = String::from_utf8_lossy(&unescape(words)?).into_owned();
    Ok(Failure { errno, words })
}

/// A word of a question: any text, without anything that means something in a line.
pub(super) fn word(text: impl AsRef<[u8]>) -> String {
    let mut word = String::new();
    for byte in text.as_ref() {
        match byte {
            b' ' => hexadecimal(&mut word, b' '),
            byte => escape_byte(&mut word, *byte),
        }
    }
    match word.as_str() {
        "" => "''".to_string(),
        "=" | "!" | "<" | ">" | "<!" | ">!" => format!("'{word}'"),
        _ => word,
    }
}

fn hexadecimal(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

fn escape(out: &mut String, bytes: &[u8]) {
    match bytes {
        // A space at the end would be lost on whoever edits the file.
        [bytes @ .., b' '] => {
            bytes.iter().for_each(|byte| escape_byte(out, *byte));
            hexadecimal(out, b' ');
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
        byte => hexadecimal(out, byte),
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

/// Seconds with nine decimals, in nanoseconds.
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
        .filter(|at| *at <= LONGEST)
        .ok_or_else(|| "the time is more than a year after the beginning".to_string())
}

/// As [`write`], for other files.
pub(super) fn time(at: u64) -> String {
    let mut out = String::new();
    write_time(&mut out, at);
    out
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
