//! A segment has a header, blocks, and before the blocks their series. Each segment is read without the others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::block::{Block, ClockOffset};
use super::bytes::Reader;
use super::record::{self, Item, Kind, Records};
use super::series::{self, Series, MAX_SERIES, MAX_TEXT};

/// The version of the format. Other versions are not read.
pub(super) const VERSION: u8 = 2;

/// Identifies a boot of the machine: the kernel's `boot_id`.
pub type BootId = [u8; 16];

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The boot in which the segment was written. Its stamps are of that boot.
    pub boot: BootId,
    /// How far the wall clock was ahead of boot time then, in nanoseconds. The clocks of the blocks are written
    /// relative to this.
    pub offset: i64,
}

impl Header {
    fn take(bytes: &[u8]) -> Option<Header> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        let header = Header {
            boot: reader.array()?,
            offset: i64::from_le_bytes(reader.array()?),
        };
        (version == VERSION && reader.rest.is_empty()).then_some(header)
    }

    fn put(&self, out: &mut Vec<u8>) {
        record::put(out, Kind::Header, 0, |out| {
            out.push(VERSION);
            out.extend(self.boot);
            out.extend(self.offset.to_le_bytes());
        });
    }
}

/// Encodes a segment.
#[derive(Debug)]
pub struct Writer {
    header: Header,
    numbers: HashMap<Arc<Series>, u32>,
    /// How many numbers have been assigned to series.
    assigned: u32,
    /// Bytes of the text of all series.
    text: usize,
}

impl Writer {
    /// Begins a segment, whose first block is `first`.
    pub fn begin(boot: BootId, first: &Block, out: &mut Vec<u8>) -> Writer {
        let header = Header {
            boot,
            offset: first.clock.nanos,
        };
        // The header is written twice: without it nothing of the segment can be read.
        header.put(out);
        header.put(out);
        Writer {
            header,
            numbers: HashMap::new(),
            assigned: 0,
            text: 0,
        }
    }

    /// Appends a block, and before it the series that no earlier block had. `false`: the block is too large for this
    /// segment, which is to be ended, and perhaps for any.
    pub fn put(&mut self, block: &Block, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let all = block.runs.iter().map(|run| {
            Arc::new(Series {
                identity: Arc::clone(&run.series),
                start: run.start,
            })
        });
        let all: Vec<_> = all.collect();
        let done = self.put_series(&all, out) && self.put_block(block, &all, out);
        if !done {
            out.truncate(begin);
        }
        done
    }

    fn put_series(&mut self, all: &[Arc<Series>], out: &mut Vec<u8>) -> bool {
        let known = |series: &&Arc<Series>| self.numbers.contains_key(*series);
        let new: Vec<_> = all.iter().filter(|s| !known(s)).cloned().collect();
        self.text += new.iter().map(|series| series.text()).sum::<usize>();
        if self.text > MAX_TEXT || all.len() > MAX_SERIES {
            return false;
        }
        let first = self.assigned;
        self.assigned += new.len() as u32;
        for (number, series) in (first..).zip(&new) {
            self.numbers.insert(Arc::clone(series), number);
        }
        new.is_empty() || record::put(out, Kind::Series, 0, |out| series::put(out, first, &new))
    }

    fn put_block(&self, block: &Block, all: &[Arc<Series>], out: &mut Vec<u8>) -> bool {
        let numbers = all.iter().map(|series| self.numbers.get(series).copied());
        let Some(numbers) = numbers.collect::<Option<Vec<_>>>() else {
            return false;
        };
        record::put(out, Kind::Block, block.samples(), |out| {
            block.put(out, &numbers, self.header.offset);
        })
    }
}

/// The state of reading a segment.
#[derive(Debug, Default)]
pub struct Replay {
    header: Option<Header>,
    series: HashMap<u32, Arc<Series>>,
    text: usize,
    other_version: Option<u8>,
}

/// A block that has not been decoded.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    bytes: Cow<'a, [u8]>,
    /// Samples in it.
    pub samples: usize,
}

/// What [`Replay::next`] finds.
#[derive(Debug, Clone)]
pub enum Found<'a> {
    /// A block.
    Block(Stored<'a>),
    /// A damaged part, with its number of samples as far as is known.
    Damaged(usize),
}

impl Replay {
    /// The segment's header, as soon as it has been read.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The version of the header, if that is not [`VERSION`].
    pub(super) fn other_version(&self) -> Option<u8> {
        self.other_version.filter(|_| self.header.is_none())
    }

    /// The next block among records.
    pub fn next<'a>(&mut self, records: &mut Records<'a>) -> Option<Found<'a>> {
        for item in records {
            let (kind, samples, bytes) = match item {
                Item::Record {
                    kind,
                    samples,
                    content,
                } => (kind, samples, content),
                Item::Damaged { samples } => return Some(Found::Damaged(samples)),
            };
            let good = match kind {
                Kind::Block => return Some(Found::Block(Stored { bytes, samples })),
                // The first header counts: the blocks after it were written relative to it.
                Kind::Header if self.header.is_some() => true,
                Kind::Header => {
                    self.header = Header::take(&bytes);
                    let version = bytes.first().copied();
                    self.other_version = version.filter(|version| *version != VERSION);
                    self.header.is_some()
                }
                Kind::Series => self.add_series(&bytes),
            };
            if !good {
                return Some(Found::Damaged(0));
            }
        }
        None
    }

    fn add_series(&mut self, bytes: &[u8]) -> bool {
        let Some((first, all)) = series::take(bytes) else {
            return false;
        };
        let text: usize = all.iter().map(Series::text).sum();
        if self.text + text > MAX_TEXT {
            return false;
        }
        for (number, series) in (first..).zip(all) {
            // A number is used once: a repeated one belongs to series that were read before.
            self.series.entry(number).or_insert_with(|| {
                self.text += series.text();
                Arc::new(series)
            });
        }
        true
    }

    /// Decodes a block. `None`: it is invalid, or one of its series is lost.
    pub fn block(&self, stored: &Stored<'_>) -> Option<Block> {
        let block = Block::take(&stored.bytes, self.header?.offset, |number| {
            self.series.get(&number).cloned()
        })?;
        (block.samples() == stored.samples).then_some(block)
    }

    /// The clock of a block.
    pub fn clock(&self, stored: &Stored<'_>) -> Option<ClockOffset> {
        Block::clock_of(&stored.bytes, self.header?.offset)
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
#[cfg(test)]
pub(super) use tests::in_another_boot;
