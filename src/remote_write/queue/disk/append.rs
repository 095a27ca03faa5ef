//! What is written: blocks behind what there is, in segments that are not too large.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{Active, Block, Disk, Segment, Writer, LARGEST_SEGMENT, SEGMENTS};

impl Disk {
    /// Appends blocks: the kernel has them then, not yet the disk. What had been there before stays in any case.
    pub(in super::super) fn append(&mut self, blocks: &[Block]) -> io::Result<()> {
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
    pub(in super::super) fn sync(&mut self) -> io::Result<()> {
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
}
