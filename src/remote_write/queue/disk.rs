//! The queue on disk: segments in a directory, appended to at one end and taken from at the other.
//!
//! What is written is for the time after: it is read only when there is something to be sent that is no longer in memory.
//! A segment of which all has been sent is removed, the one being written as well: a queue that has nothing to keep has no
//! segment. Nothing here knows why a block is there.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::block::Block;
use super::directory::{Directory, MOST_BYTES};
use super::record::Records;
use super::segment::{BootId, Found, Replay, Writer};
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
        }
        self.segments.push_back(Segment {
            number,
            bytes,
            samples,
        });
    }

    /// Appends blocks: the kernel has them then, not yet the disk. What had been there before stays in any case.
    pub(super) fn append(&mut self, blocks: &[Block]) -> io::Result<()> {
        let segment_bytes = (self.most_bytes / SEGMENTS).min(LARGEST_SEGMENT);
        let mut bytes = Vec::new();
        for block in blocks {
            let full = |segment: &Segment| segment.bytes >= segment_bytes;
            if self.active.is_some() && self.segments.back().is_some_and(full) {
                self.sync()?;
                self.active = None;
            }
            bytes.clear();
            let mut begun = None;
            let writer = match &mut self.active {
                Some(active) => &mut active.writer,
                None => begun.insert(Writer::begin(self.boot, block, &mut bytes)),
            };
            if !writer.put(block, &mut bytes) {
                // The text of its series does not fit into this one any more.
                self.sync()?;
                self.active = None;
                bytes.clear();
                let writer = begun.insert(Writer::begin(self.boot, block, &mut bytes));
                if !writer.put(block, &mut bytes) {
                    log::error!("remote write: a block too large for the queue is left out");
                    self.lost.full += block.samples() as u64;
                    continue;
                }
            }
            self.make_room(bytes.len() as u64);
            // Making room may have taken the segment being written.
            if begun.is_none() && self.active.is_none() {
                bytes.clear();
                let mut writer = Writer::begin(self.boot, block, &mut bytes);
                writer.put(block, &mut bytes);
                begun = Some(writer);
            }
            self.write(begun, &bytes, block.samples() as u64)?;
            if block.clock.right {
                self.clocks.insert(self.boot, block.clock.nanos);
            }
        }
        Ok(())
    }

    /// Writes behind what there is; in a segment of its own, if one has been begun.
    fn write(&mut self, begun: Option<Writer>, bytes: &[u8], samples: u64) -> io::Result<()> {
        if let Some(writer) = begun {
            let last = self.segments.back().map_or(0, |segment| segment.number);
            let (number, file) = self.create_after(last.max(self.sent.segment))?;
            self.directory.sync()?;
            self.active = Some(Active {
                file,
                writer,
                dirty: false,
            });
            self.segments.push_back(Segment {
                number,
                bytes: 0,
                samples: 0,
            });
        }
        let (Some(active), Some(segment)) = (&mut self.active, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment is open"));
        };
        if let Err(error) = active.file.write_all_at(bytes, segment.bytes) {
            // What was written of it is taken back; where that fails too, it is a torn end, and is read as that. In any
            // case this segment has had its last: what its writer believes to be in it may not be.
            let _ = active.file.set_len(segment.bytes);
            self.active = None;
            if segment.bytes == 0 {
                let number = segment.number;
                self.segments.pop_back();
                self.remove(number);
            }
            return Err(error);
        }
        active.dirty = true;
        segment.bytes += bytes.len() as u64;
        segment.samples += samples;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file of a segment that comes after this one.
    fn create_after(&self, number: u32) -> io::Result<(u32, File)> {
        // Where something is in the way that is no segment, the next number does as well.
        let mut tried = Err(io::ErrorKind::AlreadyExists.into());
        for number in (number..).skip(1).take(100) {
            tried = self.directory.create(number).map(|file| (number, file));
            match &tried {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                _ => break,
            }
        }
        tried
    }

    /// Has the disk have everything.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(active) = self.active.as_mut().filter(|active| active.dirty) {
            active.file.sync_data()?;
            active.dirty = false;
        }
        if self.sent_dirty {
            self.sent_file.sync()?;
            self.sent_dirty = false;
        }
        Ok(())
    }

    /// The blocks that are to be sent next: one at least if there is any, and no more samples than `most_samples` if
    /// there are more. The same again until [`Disk::sent`] says that they have been sent.
    pub(super) fn take(&mut self, most_samples: usize) -> Vec<Taken> {
        loop {
            self.pass_over_sent();
            let Some(front) = self.segments.front() else {
                return Vec::new();
            };
            let (number, bytes) = (front.number, front.bytes);
            if let Err(error) = self.load(number) {
                self.say_damaged(number, &error.to_string());
                let samples = self.segments.front().map_or(0, |front| front.samples);
                self.lost.damaged += samples;
                self.give_up_front();
                continue;
            }
            let taken = self.take_from_loaded(most_samples);
            if !taken.is_empty() {
                return taken;
            }
            // Nothing in it that could be read, up to its end.
            if u64::from(self.sent.offset) < bytes {
                self.give_up_front();
            }
        }
    }

    fn take_from_loaded(&mut self, most_samples: usize) -> Vec<Taken> {
        let (mut taken, mut samples) = (Vec::new(), 0);
        let Some(loaded) = &mut self.loaded else {
            return taken;
        };
        let mut records = Records::from(&loaded.bytes, self.sent.offset as usize);
        while let Some(found) = loaded.replay.next(&mut records) {
            let end = Position {
                segment: loaded.number,
                offset: records.at() as u32,
            };
            let lost = match found {
                Found::Damaged(lost) => lost,
                Found::Block(stored) => {
                    if !taken.is_empty() && samples + stored.samples > most_samples {
                        break;
                    }
                    let header = loaded.replay.header();
                    match (loaded.replay.block(&stored), header) {
                        (Some(block), Some(header)) => {
                            samples += stored.samples;
                            let boot = header.boot;
                            taken.push(Taken { block, boot, end });
                            continue;
                        }
                        _ => stored.samples,
                    }
                }
            };
            // What is damaged is passed over, and counted, when it is the next: once.
            if !taken.is_empty() {
                break;
            }
            self.lost.damaged += lost as u64;
            self.lost.damaged_records += 1;
            self.sent = end;
            if let Some(front) = self.segments.front_mut() {
                front.samples = front.samples.saturating_sub(lost as u64);
            }
            log::warn!(
                "remote write: a damaged record in segment {} of {} is left out",
                loaded.number,
                self.directory.path().display()
            );
        }
        taken
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

    /// Reads a segment, or what has been added to it since.
    fn load(&mut self, number: u32) -> io::Result<()> {
        let known = self.loaded.take_if(|loaded| loaded.number == number);
        let mut loaded = known.unwrap_or_else(|| Loaded {
            number,
            bytes: Vec::new(),
            replay: Replay::default(),
        });
        let has = loaded.bytes.len() as u64;
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.number == number);
        // Before it has been looked through, it is as large as it is.
        let size = segment.map_or(MOST_BYTES, |segment| segment.bytes.min(MOST_BYTES));
        if has < size {
            self.directory.read(number, has, &mut loaded.bytes)?;
            loaded.bytes.truncate(size as usize);
        }
        if has == 0 && self.sent.segment == number {
            // The header and the tables are before what is to be sent.
            let sent = loaded.bytes.get(..self.sent.offset as usize);
            let mut before = Records::from(sent.unwrap_or_default(), 0);
            while loaded.replay.next(&mut before).is_some() {}
        }
        self.loaded = Some(loaded);
        Ok(())
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
#[path = "disk_tests.rs"]
mod tests;
