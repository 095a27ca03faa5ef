//! The position up to which the queue has been sent: a small file of two slots, written in turn, so that one of them is
//! always whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::bytes::Reader;

const MAGIC: [u8; 4] = *b"sent";
/// Bytes of a slot.
const SLOT_BYTES: usize = 32;

/// A position in the queue: everything before it has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    /// Number of the segment.
    pub(super) segment: u32,
    /// Bytes from its beginning.
    pub(super) offset: u32,
}

/// The file.
#[derive(Debug)]
pub(super) struct Sent {
    file: File,
    /// How often it was written: the slot with the higher count is the newer.
    count: u64,
}

impl Sent {
    /// Opens the file. Returns the position in it, if it has one.
    pub(super) fn new(file: File) -> io::Result<(Sent, Option<Position>)> {
        let mut slots = Vec::new();
        for slot in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            let mut read = 0;
            while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
                match file.read_at(rest, (slot * SLOT_BYTES + read) as u64)? {
                    0 => break,
                    more => read += more,
                }
            }
            slots.extend(take(&bytes));
        }
        let newest = slots.into_iter().max();
        let count = newest.map_or(0, |(count, _)| count);
        let position = newest.map(|(_, position)| position);
        Ok((Sent { file, count }, position))
    }

    /// Writes the position, without syncing it. Returns the bytes that were written.
    pub(super) fn write(&mut self, position: Position) -> io::Result<usize> {
        let count = self.count.wrapping_add(1);
        let bytes = put(count, position);
        let slot = (count % 2) as usize * SLOT_BYTES;
        self.file.write_all_at(&bytes, slot as u64)?;
        self.count = count;
        Ok(bytes.len())
    }

    /// Syncs what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn put(count: u64, position: Position) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..12].copy_from_slice(&count.to_le_bytes());
    bytes[12..16].copy_from_slice(&position.segment.to_le_bytes());
    bytes[16..20].copy_from_slice(&position.offset.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn take(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Position)> {
    let mut reader = Reader::new(bytes);
    let covered = bytes.get(..20)?;
    let magic = reader.array()?;
    let count = u64::from_le_bytes(reader.array()?);
    let segment = u32::from_le_bytes(reader.array()?);
    let offset = u32::from_le_bytes(reader.array()?);
    let sum = u32::from_le_bytes(reader.array()?);
    let good = magic == MAGIC && sum == crc32fast::hash(covered);
    good.then_some((count, Position { segment, offset }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    fn position(offset: u32) -> Position {
        Position { segment: 3, offset }
    }

    #[test]
    fn newest_whole_slot_counts() {
        let path = std::env::temp_dir().join(format!("queue-sent-{}", std::process::id()));
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).unwrap()
        };
        let _ = std::fs::remove_file(&path);
        let (mut sent, before) = Sent::new(open()).unwrap();
        assert_eq!(before, None);
        for offset in 1..6 {
            assert_eq!(sent.write(position(offset)).unwrap(), SLOT_BYTES);
            assert_eq!(Sent::new(open()).unwrap().1, Some(position(offset)));
        }
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            let read = Sent::new(open()).unwrap().1;
            let unused = bit / 8 % SLOT_BYTES >= 24;
            let newest = bit / 8 / SLOT_BYTES == 1;
            let expected = if newest && !unused { 4 } else { 5 };
            assert_eq!(read, Some(position(expected)), "bit {bit}");
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            let read = Sent::new(open()).unwrap().1;
            assert!(read.is_none_or(|read| read == position(4) || read == position(5)));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
