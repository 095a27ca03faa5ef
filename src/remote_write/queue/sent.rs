//! How far the queue has been sent: a small file of two places, written in turn, so that one of them is always whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::bytes::Reader;

const MARK: [u8; 4] = *b"sent";
/// Bytes of one of the places.
const PLACE: usize = 32;

/// A place in the queue: of everything before it nothing is kept.
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
    /// How often it was written: the higher of the two is the newer.
    count: u64,
}

impl Sent {
    /// What a file says, and the file for what it is to say.
    pub(super) fn new(file: File) -> io::Result<(Sent, Option<Position>)> {
        let mut places = Vec::new();
        for place in 0..2 {
            let mut bytes = [0; PLACE];
            let mut read = 0;
            while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
                match file.read_at(rest, (place * PLACE + read) as u64)? {
                    0 => break,
                    more => read += more,
                }
            }
            places.extend(take(&bytes));
        }
        let newest = places.into_iter().max();
        let count = newest.map_or(0, |(count, _)| count);
        let position = newest.map(|(_, position)| position);
        Ok((Sent { file, count }, position))
    }

    /// Writes where it has come to, and returns how many bytes that took. The kernel has it then, not yet the disk.
    pub(super) fn write(&mut self, position: Position) -> io::Result<usize> {
        let count = self.count.wrapping_add(1);
        let bytes = put(count, position);
        let place = (count % 2) as usize * PLACE;
        self.file.write_all_at(&bytes, place as u64)?;
        self.count = count;
        Ok(bytes.len())
    }

    /// Has the disk have what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn put(count: u64, position: Position) -> [u8; PLACE] {
    let mut bytes = [0; PLACE];
    bytes[..4].copy_from_slice(&MARK);
    bytes[4..12].copy_from_slice(&count.to_le_bytes());
    bytes[12..16].copy_from_slice(&position.segment.to_le_bytes());
    bytes[16..20].copy_from_slice(&position.offset.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn take(bytes: &[u8; PLACE]) -> Option<(u64, Position)> {
    let mut reader = Reader::new(bytes);
    let covered = bytes.get(..20)?;
    let mark = reader.array()?;
    let count = u64::from_le_bytes(reader.array()?);
    let segment = u32::from_le_bytes(reader.array()?);
    let offset = u32::from_le_bytes(reader.array()?);
    let sum = u32::from_le_bytes(reader.array()?);
    let good = mark == MARK && sum == crc32fast::hash(covered);
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
    fn the_newest_whole_place_counts() {
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
            assert_eq!(sent.write(position(offset)).unwrap(), PLACE);
            assert_eq!(Sent::new(open()).unwrap().1, Some(position(offset)));
        }
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            let read = Sent::new(open()).unwrap().1;
            let unused = bit / 8 % PLACE >= 24;
            let newest = bit / 8 / PLACE == 1;
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
