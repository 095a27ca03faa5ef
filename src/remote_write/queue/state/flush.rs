//! Writes samples to disk when they are due.

use std::time::Duration;

use super::{Block, BootTime, Disk, Offset, State};

impl State {
    /// Writes what has not been sent, if that is nearly `sync_interval` old, or if `force` is set.
    pub(in super::super) fn flush(&mut self, offset: Option<&Offset>, now: BootTime, force: bool) {
        if force {
            if self.cut.is_empty() && !self.cut_more(offset, now) {
                return self.sync(now);
            }
        } else if now < self.retry_at || !self.open(now) {
            return;
        } else if !self.is_due(now) {
            // The position of what was sent has to be synced regularly too.
            let since = Duration::from_nanos(now.0.saturating_sub(self.synced_at.0));
            if since >= self.settings.sync_interval {
                self.sync(now);
            }
            return;
        }
        if !self.open(now) {
            return;
        }
        loop {
            if let Err(error) = self.write() {
                let path = self.settings.directory.display();
                return self.fail(format!("cannot write to {path}: {error}"), now);
            }
            if !self.cut_more(offset, now) {
                break;
            }
        }
        self.sync(now);
    }

    /// Whether the oldest sample that is neither sent nor on disk is nearly `sync_interval` old, or memory is nearly
    /// full.
    fn is_due(&self, now: BootTime) -> bool {
        let in_memory = self
            .cut
            .iter()
            .filter_map(Block::oldest)
            .chain(self.memory.oldest());
        // The rest of the time is a margin for delays and for the disk.
        let max_age = self.settings.sync_interval / 4 * 3;
        let age = |oldest: BootTime| Duration::from_nanos(now.0.saturating_sub(oldest.0));
        in_memory.min().is_some_and(|oldest| age(oldest) >= max_age) || self.memory.is_late()
    }

    /// Writes the blocks that are not on disk.
    fn write(&mut self) -> std::io::Result<()> {
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        while let Some(block) = self.cut.first() {
            let samples = block.samples() as u64;
            disk.append(std::slice::from_ref(block))?;
            self.cut.remove(0);
            // The samples that are being sent are on disk from now on.
            if let Some(given) = self.given.as_mut().filter(|given| given.cut > 0) {
                let before = given.disk.map_or(0, |(_, samples)| samples);
                given.disk = Some((disk.end(), before + samples));
                given.cut -= 1;
            }
        }
        Ok(())
    }

    fn sync(&mut self, now: BootTime) {
        self.synced_at = now;
        let path = self.settings.directory.display();
        match self.disk.as_mut().map(Disk::sync) {
            Some(Err(error)) => self.fail(format!("cannot sync {path}: {error}"), now),
            Some(Ok(())) if self.error.take().is_some() => {
                log::info!("remote write: the queue is kept on disk again, in {path}");
            }
            _ => {}
        }
    }
}
