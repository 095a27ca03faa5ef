//! Which series a block's columns are. Each segment says so of the series that its blocks have.

use std::sync::Arc;

use super::bytes::{put_number, put_signed, put_text, Reader};
use crate::metrics::Kind;
use crate::remote_write::Identity;

/// The most that one record says it of.
pub const MOST_SERIES: usize = 256;
/// More labels than any series has.
const MOST_LABELS: usize = 128;

/// The text of all series of a segment, in bytes. Where many share a long text, it is much more than the bytes on disk.
pub const MOST_TEXT: usize = 8 << 20;

/// A series as a segment has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Series {
    /// What it is to a receiver.
    pub identity: Arc<Identity>,
    /// Since when it counts, in milliseconds of boot time, if that is known.
    pub start: Option<i64>,
}

impl Series {
    /// Bytes of all its text.
    pub(super) fn text(&self) -> usize {
        let Identity {
            labels, help, unit, ..
        } = &*self.identity;
        let labels: usize = labels
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        labels + help.len() + unit.len()
    }
}

/// Appends series whose numbers begin with `first`. Texts that several have are written once.
pub(super) fn put(out: &mut Vec<u8>, first: u32, all: &[Arc<Series>]) {
    put_number(out, u64::from(first));
    put_number(out, all.len() as u64);
    let mut texts = Texts {
        out,
        known: Vec::new(),
    };
    for series in all {
        let Identity {
            labels,
            kind,
            help,
            unit,
        } = &*series.identity;
        let counts = u8::from(*kind == Kind::Counter);
        texts
            .out
            .push(counts | u8::from(series.start.is_some()) << 1);
        if let Some(start) = series.start {
            put_signed(texts.out, start);
        }
        texts.put(help);
        texts.put(unit);
        put_number(texts.out, labels.len() as u64);
        for (name, value) in labels {
            texts.put(name);
            texts.put(value);
        }
    }
}

/// Takes series and the number of the first. They have no more than `most_text` bytes of text.
pub(super) fn take(bytes: &[u8], most_text: usize) -> Option<(u32, Vec<Series>)> {
    let mut texts = TextReader {
        reader: Reader::new(bytes),
        known: Vec::new(),
        left: most_text,
    };
    let first = u32::try_from(texts.reader.number()?).ok()?;
    let count = texts.reader.count(MOST_SERIES)?;
    first.checked_add(count as u32)?;
    let all = (0..count).map(|_| one(&mut texts)).collect::<Option<_>>()?;
    texts.reader.rest.is_empty().then_some((first, all))
}

fn one(texts: &mut TextReader<'_>) -> Option<Series> {
    let flags = texts.reader.byte().filter(|flags| *flags < 4)?;
    let start = match flags & 2 {
        0 => None,
        _ => Some(texts.reader.signed()?),
    };
    let kind = match flags & 1 {
        0 => Kind::Gauge,
        _ => Kind::Counter,
    };
    let (help, unit) = (texts.take()?, texts.take()?);
    let count = texts.reader.count(MOST_LABELS)?;
    let labels = (0..count).map(|_| Some((texts.take()?, texts.take()?)));
    let labels = labels.collect::<Option<_>>()?;
    let identity = Arc::new(Identity {
        labels,
        kind,
        help,
        unit,
    });
    Some(Series { identity, start })
}

struct Texts<'a> {
    out: &'a mut Vec<u8>,
    known: Vec<&'a str>,
}

impl<'a> Texts<'a> {
    /// 0 and the text, or which of those before it is, from 1.
    fn put(&mut self, text: &'a str) {
        match self.known.iter().position(|known| *known == text) {
            Some(place) => put_number(self.out, place as u64 + 1),
            None => {
                self.out.push(0);
                put_text(self.out, text);
                self.known.push(text);
            }
        }
    }
}

struct TextReader<'a> {
    reader: Reader<'a>,
    known: Vec<&'a str>,
    /// Bytes of text that may still be taken.
    left: usize,
}

impl TextReader<'_> {
    fn take(&mut self) -> Option<String> {
        let place = self.reader.count(self.known.len())?;
        let text = match place.checked_sub(1) {
            Some(before) => *self.known.get(before)?,
            None => {
                let text = self.reader.text()?;
                self.known.push(text);
                text
            }
        };
        self.left = self.left.checked_sub(text.len())?;
        Some(text.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::series;
    use super::*;

    #[test]
    fn series_come_back_whole_or_not_at_all() {
        let all = series("hwmon", 20);
        let mut out = Vec::new();
        put(&mut out, 7, &all);
        let (first, back) = take(&out, MOST_TEXT).unwrap();
        assert_eq!(first, 7);
        assert!(back.iter().eq(all.iter().map(|series| &**series)));
        for length in 0..out.len() {
            assert_eq!(take(&out[..length], MOST_TEXT), None);
        }
        // Twenty series of nine texts each, of which but two are new in each.
        assert!(out.len() < 20 * 50, "{}", out.len());
        out.push(0);
        assert_eq!(take(&out, MOST_TEXT), None);
    }

    #[test]
    fn text_that_is_said_again_and_again_is_bounded() {
        let mut identity = (*series("hwmon", 1)[0].identity).clone();
        identity.labels = vec![("x".repeat(1000), "x".repeat(1000)); 100];
        let series = Series {
            identity: Arc::new(identity),
            start: None,
        };
        let text = series.text();
        let mut out = Vec::new();
        put(&mut out, 0, &[Arc::new(series)]);
        assert!(out.len() < 2000 && text > 200_000);
        assert!(take(&out, text).is_some());
        assert!(take(&out, text - 1).is_none());
    }
}
