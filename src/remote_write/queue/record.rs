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

use super::series::MOST_TEXT;

const MARK: u8 = 0xe9;
/// Bytes before what a record holds.
pub const HEAD: usize = 12;
/// The most bytes of a record: twice what the largest block can take.
pub const MOST_BYTES: usize = 1 << 20;
/// The most bytes that it holds, unpacked: a little more than the text of all series of a segment.
const MOST_UNPACKED: usize = MOST_TEXT + MOST_BYTES;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What is true of the whole segment.
    Header,
    /// Which series blocks have.
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

/// Appends a record that holds what `fill` appends. False: that was too much, and nothing was appended.
pub fn put(out: &mut Vec<u8>, kind: Kind, samples: usize, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
    let mut held = Vec::new();
    fill(&mut held);
    if held.len() > MOST_UNPACKED {
        return false;
    }
    let (Ok(samples), Ok(packed)) = (u16::try_from(samples), Encoder::new().compress_vec(&held))
    else {
        return false;
    };
    // A header can be read by every version, be it to say which one has written it.
    let is_packed = packed.len() < held.len() && kind != Kind::Header;
    if is_packed {
        held = packed;
    }
    if held.len() > MOST_BYTES {
        return false;
    }
    let [low, middle, high, _] = (held.len() as u32).to_le_bytes();
    let [s0, s1] = samples.to_le_bytes();
    let bits = u8::from(is_packed) << 7 | high << 2 | kind as u8;
    let fields = [MARK, bits, low, middle, s0, s1];
    out.extend(fields);
    out.extend(check(&fields));
    out.extend(checksum(&fields, &held).to_le_bytes());
    out.extend(held);
    true
}

fn unpack(held: &[u8]) -> Option<Vec<u8>> {
    let length = snap::raw::decompress_len(held).ok()?;
    (length <= MOST_UNPACKED)
        .then(|| Decoder::new().decompress_vec(held).ok())
        .flatten()
}

fn check(fields: &[u8]) -> [u8; 2] {
    let [low, high, ..] = crc32fast::hash(fields).to_le_bytes();
    [low, high]
}

fn checksum(fields: &[u8], held: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(fields);
    hasher.update(held);
    hasher.finalize()
}

/// What stands next in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record.
    Record {
        /// What it holds.
        kind: Kind,
        /// How many samples are in it.
        samples: usize,
        /// The bytes of that, unpacked.
        held: Cow<'a, [u8]>,
    },
    /// Bytes that are no whole record, up to the next one.
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
    /// So many bytes may still be looked through for records behind damaged ones: a file made to have no end of them has one.
    patience: usize,
}

impl<'a> Records<'a> {
    /// Those from a place on.
    pub fn from(bytes: &'a [u8], at: usize) -> Records<'a> {
        Records {
            bytes,
            at: at.min(bytes.len()),
            patience: bytes.len().saturating_mul(8),
        }
    }

    /// Where the next one begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The record at a place, if it is whole, what it holds as it is there, and where it ends.
    fn whole(&mut self, at: usize) -> Option<(Head<'a>, &'a [u8], usize)> {
        let head = Head::at(self.bytes, at)?;
        let begin = at + HEAD;
        let held = self.bytes.get(begin..begin.checked_add(head.length)?)?;
        self.patience = self.patience.saturating_sub(held.len());
        if checksum(head.fields, held) != head.checksum {
            return None;
        }
        head.kind?;
        let end = begin + head.length;
        Some((head, held, end))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let at = self.at;
        if at >= self.bytes.len() {
            return None;
        }
        if let Some((head, held, end)) = self.whole(at) {
            self.at = end;
            let samples = head.samples;
            let held = match head.is_packed {
                true => unpack(held).map(Cow::Owned),
                false => Some(Cow::Borrowed(held)),
            };
            return Some(match (head.kind, held) {
                (Some(kind), Some(held)) => Item::Record {
                    kind,
                    samples,
                    held,
                },
                _ => Item::Damaged { samples },
            });
        }
        let head = Head::at(self.bytes, at);
        let samples = head.as_ref().map_or(0, |head| head.samples);
        self.at = self.bytes.len();
        let behind = head.map(|head| at + HEAD + head.length);
        // Behind this one, if its head says where that is; else the next that is whole.
        for next in behind.into_iter().chain(at + 1..self.bytes.len()) {
            if self.patience == 0 {
                break;
            }
            self.patience -= 1;
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
    /// `None`: one that this version does not know.
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
        let [mark, kind, low, middle, s0, s1, c0, c1, sum @ ..] = *head;
        let length = u32::from_le_bytes([low, middle, kind >> 2 & 0x1f, 0]) as usize;
        let good = mark == MARK && [c0, c1] == check(fields) && length <= MOST_BYTES;
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
        let (mut held, mut damaged) = (Vec::new(), Vec::new());
        for item in Records::from(bytes, 0) {
            match item {
                Item::Record { held: h, .. } => held.push(String::from_utf8(h.to_vec()).unwrap()),
                Item::Damaged { samples } => damaged.push(samples),
            }
        }
        (held, damaged)
    }

    #[test]
    fn a_damaged_record_is_left_out_and_the_others_are_read() {
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
    fn a_torn_end_costs_what_was_torn() {
        let (good, begins) = three();
        for length in 0..good.len() {
            let whole = begins
                .iter()
                .filter(|b| **b <= length)
                .count()
                .saturating_sub(1);
            let (held, damaged) = read(&good[..length]);
            assert_eq!(held.len(), whole);
            assert_eq!(damaged.len(), usize::from(!begins.contains(&length)));
        }
    }

    #[test]
    fn rubbish_between_two_records_costs_neither() {
        let (good, begins) = three();
        for rubbish in [&b"x"[..], &[MARK; 3], &[0; 1000], &good[..14]] {
            let (front, back) = good.split_at(begins[1]);
            let read = read(&[front, rubbish, back].concat());
            assert_eq!((read.0.len(), read.1.len()), (3, 1), "{rubbish:?}");
        }
    }

    #[test]
    fn a_file_made_to_be_searched_for_ever_is_given_up() {
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
        assert_eq!(records.patience, 0);
    }

    #[test]
    fn what_is_too_large_is_not_written() {
        let mut out = vec![1];
        assert!(!put(&mut out, Kind::Series, 0, |out| out
            .resize(MOST_UNPACKED + 1, 0)));
        let mut random = Random::new(1);
        assert!(!put(&mut out, Kind::Series, 0, |out| {
            out.resize_with(MOST_BYTES + 100, || random.next() as u8)
        }));
        assert!(!put(&mut out, Kind::Block, 1 << 16, |_| ()));
        assert_eq!(out, [1]);
    }
}
