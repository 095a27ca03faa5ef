//! Messages of multicast DNS: questions that are written, answers that are read. Pure. (RFC 1035, section 4; RFC 6762.)

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Bytes of the largest message (RFC 6762, section 17).
pub const MAX_MESSAGE: usize = 9000;
/// Records of a message beyond these are left out.
pub const MAX_RECORDS: usize = 256;
/// Bytes of a label and of a name (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;
/// Pairs of one text record beyond these are left out.
const MAX_PAIRS: usize = 32;

/// Flags of a header: this is a response; the kind of query; the result.
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const RESULT: u16 = 0x000F;
/// The class of the internet. Its highest bit is the wish for a unicast response in a question, and the order to flush caches in
/// a record.
const INTERNET: u16 = 1;
const UNICAST_RESPONSE: u16 = 0x8000;

/// A name: at most 255 bytes in labels of 1 to 63. Names are equal whatever the case of ASCII letters.
#[derive(Debug, Clone)]
pub struct Name(Vec<String>);

impl Name {
    /// The name with these labels; `None` if there is no such name.
    pub fn new(labels: &[&str]) -> Option<Name> {
        let is_label = |label: &&str| (1..=MAX_LABEL).contains(&label.len());
        let length: usize = labels.iter().map(|label| label.len() + 1).sum();
        let is_name = !labels.is_empty() && labels.iter().all(is_label) && length < MAX_NAME;
        is_name.then(|| Name(labels.iter().map(|label| (*label).to_string()).collect()))
    }

    /// The name whose labels are separated by points: `_http._tcp.local`.
    pub fn parse(text: &str) -> Option<Name> {
        let labels: Vec<_> = text.split('.').collect();
        Name::new(&labels)
    }

    /// The labels, from the most specific to `local`.
    pub fn labels(&self) -> &[String] {
        &self.0
    }

    /// What is before `end`, where the name ends with that and has more: `plug` of `plug._http._tcp.local`.
    pub fn before(&self, end: &Name) -> Option<String> {
        let length = self.0.len().checked_sub(end.0.len())?;
        let (start, rest) = self.0.split_at_checked(length)?;
        let is_end = Name(rest.to_vec()) == *end && !start.is_empty();
        // Points in an instance's name are part of its one label, but some responders have made several of it.
        is_end.then(|| start.join("."))
    }

    fn write(&self, out: &mut Vec<u8>) {
        for label in &self.0 {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        let mut both = self.0.iter().zip(&other.0);
        self.0.len() == other.0.len() && both.all(|(one, other)| one.eq_ignore_ascii_case(other))
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// What is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its address of IPv4.
    A,
    /// Its instances, where it is a service.
    Pointer,
    /// What else is said about an instance.
    Text,
    /// Its address of IPv6.
    Aaaa,
    /// Host and port of an instance.
    Service,
}

impl Kind {
    fn code(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Pointer => 12,
            Kind::Text => 16,
            Kind::Aaaa => 28,
            Kind::Service => 33,
        }
    }
}

/// A query with these questions, which asks for unicast responses.
pub fn query(id: u16, questions: &[(&Name, Kind)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let count = u16::try_from(questions.len()).unwrap_or(u16::MAX);
    for word in [id, 0, count, 0, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for (name, kind) in questions.iter().take(usize::from(count)) {
        name.write(&mut out);
        out.extend_from_slice(&kind.code().to_be_bytes());
        out.extend_from_slice(&(INTERNET | UNICAST_RESPONSE).to_be_bytes());
    }
    out
}

/// A response.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// That of the query, or 0.
    pub id: u16,
    /// The records that can be read, whatever section they are in.
    pub records: Vec<Record>,
}

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Whose record it is.
    pub name: Name,
    /// How long it may be believed. Zero: no longer.
    pub ttl: Duration,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// The host's address.
    Address(IpAddr),
    /// An instance of the service.
    Pointer(Name),
    /// Where the instance is.
    Service {
        /// Its port.
        port: u16,
        /// Its host.
        host: Name,
    },
    /// What else is said about the instance: keys and values.
    Text(Vec<(String, String)>),
}

impl Response {
    /// Reads a response. `None` for anything else, and for a failure. What follows a malformed record is not read.
    pub fn parse(message: &[u8]) -> Option<Response> {
        let mut reader = Reader { message, at: 0 };
        let id = reader.word()?;
        let flags = reader.word()?;
        if message.len() > MAX_MESSAGE || flags & RESPONSE == 0 || flags & (OPCODE | RESULT) != 0 {
            return None;
        }
        let questions = reader.word()?;
        let mut count = 0;
        for _ in 0..3 {
            count += usize::from(reader.word()?);
        }
        for _ in 0..questions {
            reader.name()?;
            reader.take(4)?;
        }
        let mut records = Vec::new();
        for _ in 0..count.min(MAX_RECORDS) {
            match reader.record() {
                Some(record) => records.extend(record),
                None => break,
            }
        }
        Some(Response { id, records })
    }
}

/// Reads a message from its beginning to its end.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(bytes)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A name, whose end may be elsewhere before (RFC 1035, section 4.1.4).
    fn name(&mut self) -> Option<Name> {
        let mut labels = Vec::new();
        let mut length = 0;
        // Where to go on after the first pointer.
        let mut end = None;
        // A pointer leads to before what was read since the one before, so that there are no circles.
        let mut start = self.at;
        loop {
            let first = *self.take(1)?.first()?;
            match first {
                0 => break,
                1..=63 => {
                    length += usize::from(first) + 1;
                    if length >= MAX_NAME {
                        return None;
                    }
                    let label = self.take(usize::from(first))?;
                    // RFC 6762, section 16: names are UTF-8.
                    labels.push(std::str::from_utf8(label).ok()?.to_string());
                }
                0xC0.. => {
                    let second = *self.take(1)?.first()?;
                    let to = usize::from(first & 0x3F) << 8 | usize::from(second);
                    if to >= start {
                        return None;
                    }
                    end.get_or_insert(self.at);
                    (self.at, start) = (to, to);
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(self.at);
        Some(Name(labels))
    }

    /// The next record; `Some(None)` for one of another kind or class. `None`: it is malformed.
    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.name()?;
        let kind = self.word()?;
        let class = self.word()?;
        let ttl = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        let length = usize::from(self.word()?);
        let start = self.at;
        let bytes = self.take(length)?;
        let end = self.at;
        if class & !UNICAST_RESPONSE != INTERNET {
            return Some(None);
        }
        // Names point into the whole message.
        self.at = start;
        let data = match kind {
            1 => Data::Address(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            28 => Data::Address(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
            12 => Data::Pointer(self.name()?),
            33 => {
                // Priority and weight.
                self.take(4)?;
                let port = self.word()?;
                let host = self.name()?;
                Data::Service { port, host }
            }
            16 => Data::Text(pairs(bytes)),
            _ => {
                self.at = end;
                return Some(None);
            }
        };
        let is_text = kind == 16 || kind == 1 || kind == 28;
        if !is_text && self.at != end {
            return None;
        }
        self.at = end;
        let ttl = Duration::from_secs(u64::from(ttl));
        Some(Some(Record { name, ttl, data }))
    }
}

/// The keys and values of a text record (RFC 6763, section 6). Of a key that is there twice, the first counts.
fn pairs(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let Some((text, rest)) = rest.split_at_checked(usize::from(*length)) else {
            break;
        };
        bytes = rest;
        let text = String::from_utf8_lossy(text);
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        let is_known = |(known, _): &(String, String)| known.eq_ignore_ascii_case(key);
        if !key.is_empty() && !pairs.iter().any(is_known) {
            pairs.push((key.to_string(), value.to_string()));
        }
        if pairs.len() == MAX_PAIRS {
            break;
        }
    }
    pairs
}
