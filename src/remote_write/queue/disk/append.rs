//! Appends blocks, in segments of limited size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{Active, Block, Disk, Segment, Writer, MAX_SEGMENT_BYTES, SEGMENTS};

impl Disk {
    /// Appends blocks, without syncing them. After an error, what had been there before is still there.
    pub(in super::super) fn append(&mut self, blocks: &[Block]) -> io::Result<()> {
        let segment_bytes = (self.max_bytes / SEGMENTS).min(MAX_SEGMENT_BYTES);
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
                // The text of the block's series does not fit into this segment any more.
                self.sync()?;
                self.active = None;
                bytes.clear();
                let writer = begun.insert(Writer::begin(self.boot, block, &mut bytes));
                if !writer.put(block, &mut bytes) {
                    log::error!("remote write: a block too large for the queue is dropped");
                    self.lost.full += block.samples() as u64;
                    continue;
                }
            }
            self.make_room(bytes.len() as u64);
            // Making room may have removed the segment being written.
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

    /// Writes at the end of the last segment, or of a new one if `begun` is set.
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
            // The partial write is undone. If that fails too, the segment has a torn end, which is read as damaged. In
            // any case nothing more is written to this segment: its writer may believe that series are in it that are
            // not.
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

    /// Creates the file of a segment with a number after this one.
    fn create_after(&self, number: u32) -> io::Result<(u32, File)> {
        // If something else has the name, the next number does as well.
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

    /// Syncs all that was written.
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
