//! Reads the blocks that are to be sent next, and skips what is damaged.

use std::io;

use super::{Disk, Found, Loaded, Position, Records, Replay, Taken, MAX_BYTES};

impl Disk {
    /// The blocks to send next: at least one if there is any, and otherwise no more than `max_samples`. The same blocks
    /// are taken again until [`Disk::sent`] is called.
    pub(in super::super) fn take(&mut self, max_samples: usize) -> Vec<Taken> {
        loop {
            self.remove_sent();
            let Some(front) = self.segments.front() else {
                return Vec::new();
            };
            let (number, bytes) = (front.number, front.bytes);
            if let Err(error) = self.load(number) {
                self.log_damaged(number, &error.to_string());
                let samples = self.segments.front().map_or(0, |front| front.samples);
                self.lost.damaged += samples;
                self.remove_front();
                continue;
            }
            let taken = self.take_from_loaded(max_samples);
            if !taken.is_empty() {
                return taken;
            }
            // Nothing in the segment could be read, up to its end.
            if u64::from(self.sent.offset) < bytes {
                self.remove_front();
            }
        }
    }

    fn take_from_loaded(&mut self, max_samples: usize) -> Vec<Taken> {
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
                    if !taken.is_empty() && samples + stored.samples > max_samples {
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
            // A damaged record is skipped and counted once, when it is the next to be sent.
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
                "remote write: a damaged record in segment {} of {} is skipped",
                loaded.number,
                self.directory.path().display()
            );
        }
        taken
    }

    /// Reads a segment, or what has been added to it since the last time.
    pub(super) fn load(&mut self, number: u32) -> io::Result<()> {
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
        // Before the scan the size of the segment is not known.
        let size = segment.map_or(MAX_BYTES, |segment| segment.bytes.min(MAX_BYTES));
        if has < size {
            self.directory.read(number, has, &mut loaded.bytes)?;
            loaded.bytes.truncate(size as usize);
        }
        if has == 0 && self.sent.segment == number {
            // The header and the series are before what is to be sent.
            let sent = loaded.bytes.get(..self.sent.offset as usize);
            let mut before = Records::from(sent.unwrap_or_default(), 0);
            while loaded.replay.next(&mut before).is_some() {}
        }
        self.loaded = Some(loaded);
        Ok(())
    }
}
