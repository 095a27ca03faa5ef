//! The series of the blocks in a segment.

use std::sync::Arc;

use super::bytes::{put_number, put_signed, put_text, Reader};
use crate::metrics::Kind;
use crate::remote_write::SeriesIdentity;

/// The limit of series in one record.
pub const MAX_SERIES: usize = 256;
/// More labels than any series has.
const MAX_LABELS: usize = 128;

/// The limit of the text of all series of a segment, in bytes. Where many series share a long text, this is much more
/// than the bytes on disk.
pub const MAX_TEXT: usize = 8 << 20;

/// A series as a segment has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Series {
    /// The series as a receiver knows it.
    pub identity: Arc<SeriesIdentity>,
    /// When it began to count, in milliseconds of boot time, if that is known.
    pub start: Option<i64>,
}

impl Series {
    /// Bytes of all its text.
    pub(super) fn text(&self) -> usize {
        let SeriesIdentity {
            labels, help, unit, ..
        } = &*self.identity;
        let labels: usize = labels
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        labels + help.len() + unit.len()
    }
}

/// Appends series whose numbers begin with `first`. The record compresses what they have in common.
pub(super) fn put(out: &mut Vec<u8>, first: u32, all: &[Arc<Series>]) {
    put_number(out, u64::from(first));
    put_number(out, all.len() as u64);
    for series in all {
        let SeriesIdentity {
            labels,
            kind,
            help,
            unit,
        } = &*series.identity;
        let counts = u8::from(*kind == Kind::Counter);
        out.push(counts | u8::from(series.start.is_some()) << 1);
        if let Some(start) = series.start {
            put_signed(out, start);
        }
        put_text(out, help);
        put_text(out, unit);
        put_number(out, labels.len() as u64);
        for (name, value) in labels {
            put_text(out, name);
            put_text(out, value);
        }
    }
}

/// Reads series and the number of the first.
pub(super) fn take(bytes: &[u8]) -> Option<(u32, Vec<Series>)> {
    let mut reader = Reader::new(bytes);
    let first = u32::try_from(reader.number()?).ok()?;
    let count = reader.count(MAX_SERIES)?;
    first.checked_add(count as u32)?;
    let all = (0..count)
        .map(|_| one(&mut reader))
        .collect::<Option<_>>()?;
    reader.rest.is_empty().then_some((first, all))
}

fn one(reader: &mut Reader<'_>) -> Option<Series> {
    let flags = reader.byte().filter(|flags| *flags < 4)?;
    let start = match flags & 2 {
        0 => None,
        _ => Some(reader.signed()?),
    };
    let kind = match flags & 1 {
        0 => Kind::Gauge,
        _ => Kind::Counter,
    };
    let mut text = || reader.text().map(str::to_string);
    let (help, unit) = (text()?, text()?);
    let count = reader.count(MAX_LABELS)?;
    let mut text = || reader.text().map(str::to_string);
    let labels = (0..count).map(|_| Some((text()?, text()?)));
    let labels = labels.collect::<Option<_>>()?;
    let identity = Arc::new(SeriesIdentity {
        labels,
        kind,
        help,
        unit,
    });
    Some(Series { identity, start })
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::super::testing::series;
    use super::*;

    #[test]
    fn series_come_back_whole_or_not_at_all() {
        let all = series("hwmon", 20);
        let mut out = Vec::new();
        put(&mut out, 7, &all);
        let (first, back) = take(&out).unwrap();
        assert_eq!(first, 7);
        assert!(back.iter().eq(all.iter().map(|series| &**series)));
        for length in 0..out.len() {
            assert_eq!(take(&out[..length]), None);
        }
        // Twenty series of nine texts each, of which but two are new in each.
        let mut packed = Vec::new();
        record::put(&mut packed, record::Kind::Series, 0, |out| {
            put(out, 7, &all)
        });
        assert!(packed.len() < 20 * 50, "{}", packed.len());
        out.push(0);
        assert_eq!(take(&out), None);
    }
}
