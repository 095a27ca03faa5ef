//! The queue on disk: segments in a directory, appended to at one end and taken from at the other.
//!
//! What is written is for the time after: it is read only when there is something to be sent that is no longer in memory.
//! A segment of which all has been sent is removed, the one being written as well: a queue that has nothing to keep has no
//! segment. Nothing here knows why a block is there.

mod append;
mod take;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;

use super::block::Block;
use super::directory::{Directory, MOST_BYTES};
use super::record::Records;
use super::segment::{BootId, Found, Replay, Writer, VERSION};
use super::sent::{Position, Sent};

/// The parts that the queue is cut into: what gives way at its limit is one of them.
const SEGMENTS: u64 = 16;
const LARGEST_SEGMENT: u64 = 1 << 20;
/// No more files than this, however little is in them.
const MOST_SEGMENTS: usize = 512;

/// What was lost of what was on disk, in samples (and records).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Gave way to newer ones: the queue had its limit.
    pub(super) full: u64,
    /// Could not be read; as far as is known how many they were.
    pub(super) damaged: u64,
    /// Records, or files, that could not be read.
    pub(super) damaged_records: u64,
}

/// The segments, and how far they have been sent.
#[derive(Debug)]
pub(super) struct Disk {
    directory: Directory,
    boot: BootId,
    most_bytes: u64,
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
    /// In which boot its rows were read.
    pub(super) boot: BootId,
    /// Where the next one begins: having sent this one, the queue has been sent as far as there.
    pub(super) end: Position,
}

impl Disk {
    /// Opens the queue in a directory, of which no more than so many bytes are to be used. All that is in it is looked
    /// through once.
    pub(super) fn open(path: &Path, most_bytes: u64, boot: BootId) -> Result<Disk, String> {
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
            most_bytes,
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
                disk.look_through(number, bytes);
            }
        }
        disk.pass_over_sent();
        disk.make_room(0);
        Ok(disk)
    }

    /// Counts the samples of a segment, and sees what it says of the clock.
    fn look_through(&mut self, number: u32, bytes: u64) {
        let mut samples = 0;
        if let Err(error) = self.load(number) {
            self.say_damaged(number, &error.to_string());
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

    /// All before `to` is no longer wanted, in which there were so many samples.
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
        self.pass_over_sent();
        if self.segments.is_empty() {
            return;
        }
        // Lost at worst are the repeats that this avoids.
        match self.sent_file.write(self.sent) {
            Ok(bytes) => {
                self.written += bytes as u64;
                self.sent_dirty = true;
            }
            Err(error) => log::debug!("remote write: cannot write how far was sent: {error}"),
        }
    }

    /// Removes the segments of which everything has been sent.
    fn pass_over_sent(&mut self) {
        while let Some(front) = self.segments.front() {
            let whole =
                self.sent.segment == front.number && u64::from(self.sent.offset) >= front.bytes;
            if front.number < self.sent.segment || whole {
                self.give_up_front();
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

    /// Takes the oldest segment away, be it the one that is being written.
    fn give_up_front(&mut self) {
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

    /// Lets the oldest segments go until there is room for so many bytes more.
    fn make_room(&mut self, bytes: u64) {
        while let Some(front) = self.segments.front() {
            let fits = self.bytes() + bytes <= self.most_bytes;
            if fits && self.segments.len() < MOST_SEGMENTS {
                return;
            }
            self.lost.full += front.samples;
            self.give_up_front();
        }
    }

    fn remove(&self, number: u32) {
        if let Err(error) = self.directory.remove(number) {
            if error.kind() != io::ErrorKind::NotFound {
                log::debug!("remote write: cannot remove segment {number}: {error}");
            }
        }
    }

    fn say_damaged(&mut self, number: u32, error: &str) {
        self.lost.damaged_records += 1;
        log::warn!(
            "remote write: cannot read segment {number} in {}: {error}: it is left out",
            self.directory.path().display()
        );
    }

    /// What was last known of the wall clock in a boot: how far it was ahead of boot time, in nanoseconds.
    pub(super) fn clock(&self, boot: &BootId) -> Option<i64> {
        self.clocks.get(boot).copied()
    }

    /// Where the next block will be written: what is before it is on disk.
    pub(super) fn end(&self) -> Position {
        let last = self.segments.back();
        last.map_or(self.sent, |last| Position {
            segment: last.number,
            offset: last.bytes as u32,
        })
    }

    /// Whether there is nothing to be sent.
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
