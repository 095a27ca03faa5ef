//! Records: what a segment is a row of, each with its length and its checksums, so that a damaged one is known and skipped.
//!
//! ```text
//! 0  1  mark: e9
//! 1  1  kind in the lowest two bits; above them the highest five bits of the length of what it holds; in the highest
//!       bit whether that is packed by snappy's block format
//! 2  2  the other bits of the length, little-endian as all of this
//! 4  2  samples in it
//! 6  2  check of bytes 0 to 5: the lower half of their CRC-32
//! 8  4  CRC-32 of bytes 0 to 5 and of what it holds
//! 12    what it holds
//! ```
//!
//! With a check of its own for the head, a record with a flipped bit still says where the next one begins, and how many
//! samples are lost. Where the head is damaged, the next record is looked for.

use std::borrow::Cow;

use crc32fast::Hasher;
use snap::raw::{Decoder, Encoder};

use super::series::MAX_TEXT;

const MAGIC: u8 = 0xe9;
/// Bytes of a record's head.
pub const HEAD: usize = 12;
/// The limit of a record's bytes: twice what the largest block can take.
pub const MAX_BYTES: usize = 1 << 20;
/// The limit of a record's content, unpacked: a little more than the text of all series of a segment.
const MAX_UNPACKED: usize = MAX_TEXT + MAX_BYTES;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The header of the segment.
    Header,
    /// Series of the blocks that follow.
    Series,
    /// A [`super::Block`].
    Block,
}

impl Kind {
    fn of(bits: u8) -> Option<Kind> {
        Some(match bits {
            0 => Kind::Header,
            1 => Kind::Series,
            2 => Kind::Block,
            _ => return None,
        })
    }
}

/// Appends a record with the content that `fill` appends. `false`: the content is too large, and nothing was appended.
pub fn put(out: &mut Vec<u8>, kind: Kind, samples: usize, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
    let mut content = Vec::new();
    fill(&mut content);
    if content.len() > MAX_UNPACKED {
        return false;
    }
    let (Ok(samples), Ok(packed)) = (
        u16::try_from(samples),
        Encoder::new().compress_vec(&content),
    ) else {
        return false;
    };
    // A header is not packed, so that every version can read which version wrote it.
    let is_packed = packed.len() < content.len() && kind != Kind::Header;
    if is_packed {
        content = packed;
    }
    if content.len() > MAX_BYTES {
        return false;
    }
    let [low, middle, high, _] = (content.len() as u32).to_le_bytes();
    let [s0, s1] = samples.to_le_bytes();
    let bits = u8::from(is_packed) << 7 | high << 2 | kind as u8;
    let fields = [MAGIC, bits, low, middle, s0, s1];
    out.extend(fields);
    out.extend(check(&fields));
    out.extend(checksum(&fields, &content).to_le_bytes());
    out.extend(content);
    true
}

fn unpack(content: &[u8]) -> Option<Vec<u8>> {
    let length = snap::raw::decompress_len(content).ok()?;
    (length <= MAX_UNPACKED)
        .then(|| Decoder::new().decompress_vec(content).ok())
        .flatten()
}

fn check(fields: &[u8]) -> [u8; 2] {
    let [low, high, ..] = crc32fast::hash(fields).to_le_bytes();
    [low, high]
}

fn checksum(fields: &[u8], content: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(fields);
    hasher.update(content);
    hasher.finalize()
}

/// An item of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record.
    Record {
        /// What it holds.
        kind: Kind,
        /// How many samples are in it.
        samples: usize,
        /// The content, unpacked.
        content: Cow<'a, [u8]>,
    },
    /// Bytes that are not a whole record, up to the next one.
    Damaged {
        /// Samples that were in it, as far as its head can still be read.
        samples: usize,
    },
}

/// The records of a segment.
#[derive(Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many bytes may still be searched for records after damaged ones: bounds the work on a file made to have many
    /// of them.
    search_budget: usize,
}

impl<'a> Records<'a> {
    /// The records from an offset on.
    pub fn from(bytes: &'a [u8], at: usize) -> Records<'a> {
        Records {
            bytes,
            at: at.min(bytes.len()),
            search_budget: bytes.len().saturating_mul(8),
        }
    }

    /// Where the next record begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The record at an offset, if it is whole: its head, its content, and where it ends.
    fn whole(&mut self, at: usize) -> Option<(Head<'a>, &'a [u8], usize)> {
        let head = Head::at(self.bytes, at)?;
        let begin = at + HEAD;
        let content = self.bytes.get(begin..begin.checked_add(head.length)?)?;
        self.search_budget = self.search_budget.saturating_sub(content.len());
        if checksum(head.fields, content) != head.checksum {
            return None;
        }
        head.kind?;
        let end = begin + head.length;
        Some((head, content, end))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let at = self.at;
        if at >= self.bytes.len() {
            return None;
        }
        if let Some((head, content, end)) = self.whole(at) {
            self.at = end;
            let samples = head.samples;
            let content = match head.is_packed {
                true => unpack(content).map(Cow::Owned),
                false => Some(Cow::Borrowed(content)),
            };
            return Some(match (head.kind, content) {
                (Some(kind), Some(content)) => Item::Record {
                    kind,
                    samples,
                    content,
                },
                _ => Item::Damaged { samples },
            });
        }
        let head = Head::at(self.bytes, at);
        let samples = head.as_ref().map_or(0, |head| head.samples);
        self.at = self.bytes.len();
        let behind = head.map(|head| at + HEAD + head.length);
        // The search begins after this record, if its head says where that is, and goes on with every offset.
        for next in behind.into_iter().chain(at + 1..self.bytes.len()) {
            if self.search_budget == 0 {
                break;
            }
            self.search_budget -= 1;
            if self.whole(next).is_some() {
                self.at = next;
                break;
            }
        }
        Some(Item::Damaged { samples })
    }
}

struct Head<'a> {
    fields: &'a [u8],
    /// `None`: a kind that this version does not know.
    kind: Option<Kind>,
    is_packed: bool,
    samples: usize,
    length: usize,
    checksum: u32,
}

impl<'a> Head<'a> {
    fn at(bytes: &'a [u8], at: usize) -> Option<Head<'a>> {
        let head: &[u8; HEAD] = bytes.get(at..)?.first_chunk()?;
        let fields = bytes.get(at..at + 6)?;
        let [magic, kind, low, middle, s0, s1, c0, c1, sum @ ..] = *head;
        let length = u32::from_le_bytes([low, middle, kind >> 2 & 0x1f, 0]) as usize;
        let good = magic == MAGIC && [c0, c1] == check(fields) && length <= MAX_BYTES;
        good.then_some(Head {
            fields,
            kind: Kind::of(kind & 3),
            is_packed: kind >> 7 == 1,
            samples: usize::from(u16::from_le_bytes([s0, s1])),
            length,
            checksum: u32::from_le_bytes(sum),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;

    fn three() -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut begins) = (Vec::new(), Vec::new());
        for text in ["one", "two, which is longer", "three"] {
            begins.push(out.len());
            assert!(put(&mut out, Kind::Block, text.len(), |out| out
                .extend(text.as_bytes())));
        }
        (out, begins)
    }

    /// What whole records hold, and the samples of each damaged one.
    fn read(bytes: &[u8]) -> (Vec<String>, Vec<usize>) {
        let (mut content, mut damaged) = (Vec::new(), Vec::new());
        for item in Records::from(bytes, 0) {
            match item {
                Item::Record { content: h, .. } => {
                    content.push(String::from_utf8(h.to_vec()).unwrap())
                }
                Item::Damaged { samples } => damaged.push(samples),
            }
        }
        (content, damaged)
    }

    #[test]
    fn damaged_record_is_skipped_and_the_others_are_read() {
        let (good, begins) = three();
        let all = read(&good).0;
        assert_eq!(all.len(), 3);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let damaged = begins.iter().rposition(|b| *b <= bit / 8).unwrap();
            let mut expected = all.clone();
            let lost = expected.remove(damaged).len();
            let in_head = bit / 8 - begins[damaged] < 8;
            let lost = if in_head { 0 } else { lost };
            assert_eq!(read(&bad), (expected, vec![lost]), "bit {bit}");
        }
    }

    #[test]
    fn torn_end_costs_only_what_was_torn() {
        let (good, begins) = three();
        for length in 0..good.len() {
            let whole = begins
                .iter()
                .filter(|b| **b <= length)
                .count()
                .saturating_sub(1);
            let (content, damaged) = read(&good[..length]);
            assert_eq!(content.len(), whole);
            assert_eq!(damaged.len(), usize::from(!begins.contains(&length)));
        }
    }

    #[test]
    fn garbage_between_two_records_costs_neither() {
        let (good, begins) = three();
        for rubbish in [&b"x"[..], &[MAGIC; 3], &[0; 1000], &good[..14]] {
            let (front, back) = good.split_at(begins[1]);
            let read = read(&[front, rubbish, back].concat());
            assert_eq!((read.0.len(), read.1.len()), (3, 1), "{rubbish:?}");
        }
    }

    #[test]
    fn search_for_records_is_bounded() {
        // Heads that are right, each of which says that it holds all that follows, which then has another checksum.
        let mut one = Vec::new();
        assert!(put(&mut one, Kind::Block, 1, |out| out
            .resize(HEAD + 200_000, 0)));
        let mut bytes = one[..HEAD].repeat(200_000 / HEAD);
        bytes.resize(bytes.len() + 200_000, 0);
        let mut records = Records::from(&bytes, 0);
        assert!(records
            .by_ref()
            .all(|item| matches!(item, Item::Damaged { .. })));
        assert_eq!(records.search_budget, 0);
    }

    #[test]
    fn oversized_records_are_not_written() {
        let mut out = vec![1];
        assert!(!put(&mut out, Kind::Series, 0, |out| out
            .resize(MAX_UNPACKED + 1, 0)));
        let mut random = Random::new(1);
        assert!(!put(&mut out, Kind::Series, 0, |out| {
            out.resize_with(MAX_BYTES + 100, || random.next() as u8)
        }));
        assert!(!put(&mut out, Kind::Block, 1 << 16, |_| ()));
        assert_eq!(out, [1]);
    }
}
