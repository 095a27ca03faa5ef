//! Segments in a directory, appended to at one end and taken from at the other.
//!
//! What is written is read only when there are samples to send that are no longer in memory. A segment of which all has
//! been sent is removed, the one being written too: an empty queue has no segment. Nothing here knows why a block was
//! written.

mod append;
mod take;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;

use super::block::Block;
use super::directory::{Directory, MAX_BYTES};
use super::record::Records;
use super::segment::{BootId, Found, Replay, Writer, VERSION};
use super::sent::{Position, Sent};

/// How many segments a full queue has: at the limit the oldest of them is dropped.
const SEGMENTS: u64 = 16;
const MAX_SEGMENT_BYTES: u64 = 1 << 20;
/// The limit of the number of files, however small they are.
const MAX_SEGMENTS: usize = 512;

/// Samples (and records) that were on disk and are lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Samples that were dropped for newer ones at the queue's limit.
    pub(super) full: u64,
    /// Samples that could not be read, as far as their number is known.
    pub(super) damaged: u64,
    /// Records, or files, that could not be read.
    pub(super) damaged_records: u64,
}

/// The segments, and the position up to which they have been sent.
#[derive(Debug)]
pub(super) struct Disk {
    directory: Directory,
    boot: BootId,
    max_bytes: u64,
    segments: VecDeque<Segment>,
    active: Option<Active>,
    sent: Position,
    sent_file: Sent,
    sent_dirty: bool,
    loaded: Option<Loaded>,
    clocks: HashMap<BootId, i64>,
    written: u64,
    lost: Lost,
}

#[derive(Debug)]
struct Segment {
    number: u32,
    bytes: u64,
    /// Samples that have not been sent.
    samples: u64,
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    file: File,
    writer: Writer,
    dirty: bool,
}

/// The segment being read.
#[derive(Debug)]
struct Loaded {
    number: u32,
    bytes: Vec<u8>,
    replay: Replay,
}

/// A block that was on disk.
#[derive(Debug)]
pub(super) struct Taken {
    /// The block.
    pub(super) block: Block,
    /// The boot in which its samples were read.
    pub(super) boot: BootId,
    /// Where the next block begins: the position when this block has been sent.
    pub(super) end: Position,
}

impl Disk {
    /// Opens the queue in a directory, with a limit of bytes. All segments are scanned once.
    pub(super) fn open(path: &Path, max_bytes: u64, boot: BootId) -> Result<Disk, String> {
        let directory = Directory::take(path)?;
        let cannot = |what: &str, e| format!("cannot {what} in {}: {e}", path.display());
        let found = directory
            .segments()
            .map_err(|e| cannot("list the segments", e))?;
        let file = directory.sent().map_err(|e| cannot("open `sent`", e))?;
        let (sent_file, sent) = Sent::new(file).map_err(|e| cannot("read `sent`", e))?;
        let mut disk = Disk {
            directory,
            boot,
            max_bytes,
            segments: VecDeque::new(),
            active: None,
            sent: sent.unwrap_or_default(),
            sent_file,
            sent_dirty: false,
            loaded: None,
            clocks: HashMap::new(),
            written: 0,
            lost: Lost::default(),
        };
        for (number, bytes) in found {
            if number < disk.sent.segment {
                disk.remove(number);
            } else {
                disk.scan(number, bytes);
            }
        }
        disk.remove_sent();
        disk.make_room(0);
        Ok(disk)
    }

    /// Counts the samples of a segment, and notes the clock of its boot.
    fn scan(&mut self, number: u32, bytes: u64) {
        let mut samples = 0;
        if let Err(error) = self.load(number) {
            self.log_damaged(number, &error.to_string());
            return;
        }
        if let Some(loaded) = &self.loaded {
            let mut replay = Replay::default();
            let mut records = Records::from(&loaded.bytes, 0);
            let sent = (self.sent.segment == number).then_some(self.sent.offset as usize);
            loop {
                let begin = records.at();
                let Some(found) = replay.next(&mut records) else {
                    break;
                };
                let Found::Block(stored) = found else {
                    continue;
                };
                if sent.is_none_or(|sent| begin >= sent) {
                    samples += stored.samples as u64;
                }
                let clock = replay.clock(&stored).filter(|clock| clock.right);
                if let (Some(clock), Some(header)) = (clock, replay.header()) {
                    self.clocks.insert(header.boot, clock.nanos);
                }
            }
            if let Some(version) = replay.other_version() {
                log::warn!(
                    "remote write: segment {number} in {} is of format {version}, and only format {VERSION} can be \
                     read: its {samples} samples are dropped",
                    self.directory.path().display()
                );
                self.lost.damaged += samples;
                self.lost.damaged_records += 1;
                self.loaded = None;
                self.remove(number);
                return;
            }
        }
        self.segments.push_back(Segment {
            number,
            bytes,
            samples,
        });
    }

    /// Notes that all before `to` has been sent, with the number of samples in that part.
    pub(super) fn sent(&mut self, to: Position, samples: u64) {
        if to <= self.sent {
            return;
        }
        self.sent = to;
        if let Some(front) = self.segments.front_mut() {
            if front.number == to.segment {
                front.samples = front.samples.saturating_sub(samples);
            }
        }
        self.remove_sent();
        if self.segments.is_empty() {
            return;
        }
        // If this fails, samples may be sent twice after a restart, at worst.
        match self.sent_file.write(self.sent) {
            Ok(bytes) => {
                self.written += bytes as u64;
                self.sent_dirty = true;
            }
            Err(error) => log::debug!("remote write: cannot write how far was sent: {error}"),
        }
    }

    /// Removes the segments of which everything has been sent.
    fn remove_sent(&mut self) {
        while let Some(front) = self.segments.front() {
            let whole =
                self.sent.segment == front.number && u64::from(self.sent.offset) >= front.bytes;
            if front.number < self.sent.segment || whole {
                self.remove_front();
            } else {
                if front.number > self.sent.segment {
                    self.sent = Position {
                        segment: front.number,
                        offset: 0,
                    };
                }
                return;
            }
        }
    }

    /// Removes the oldest segment, even if it is being written.
    fn remove_front(&mut self) {
        let Some(front) = self.segments.pop_front() else {
            return;
        };
        if self.segments.is_empty() {
            self.active = None;
        }
        self.loaded.take_if(|loaded| loaded.number == front.number);
        self.sent = self.sent.max(Position {
            segment: front.number + 1,
            offset: 0,
        });
        self.remove(front.number);
    }

    /// Drops the oldest segments until there is room for `bytes` more.
    fn make_room(&mut self, bytes: u64) {
        while let Some(front) = self.segments.front() {
            let fits = self.bytes() + bytes <= self.max_bytes;
            if fits && self.segments.len() < MAX_SEGMENTS {
                return;
            }
            self.lost.full += front.samples;
            self.remove_front();
        }
    }

    fn remove(&self, number: u32) {
        if let Err(error) = self.directory.remove(number) {
            if error.kind() != io::ErrorKind::NotFound {
                log::debug!("remote write: cannot remove segment {number}: {error}");
            }
        }
    }

    fn log_damaged(&mut self, number: u32, error: &str) {
        self.lost.damaged_records += 1;
        log::warn!(
            "remote write: cannot read segment {number} in {}: {error}: its samples are dropped",
            self.directory.path().display()
        );
    }

    /// How far the wall clock was ahead of boot time in a boot, as last known, in nanoseconds.
    pub(super) fn clock(&self, boot: &BootId) -> Option<i64> {
        self.clocks.get(boot).copied()
    }

    /// Where the next block will be written: all before this is on disk.
    pub(super) fn end(&self) -> Position {
        let last = self.segments.back();
        last.map_or(self.sent, |last| Position {
            segment: last.number,
            offset: last.bytes as u32,
        })
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes of the segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Samples that have not been sent.
    pub(super) fn samples(&self) -> u64 {
        self.segments.iter().map(|segment| segment.samples).sum()
    }

    /// Bytes written since it was opened.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// What was lost since it was opened.
    pub(super) fn lost(&self) -> Lost {
        self.lost
    }
}

#[cfg(test)]
mod tests;
