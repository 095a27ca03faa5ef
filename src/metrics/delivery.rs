//! What a consumer of every sample has had, and what it is given next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::group::Group;
use super::history::{Cursor, Rows};
use super::registry::Registry;
use super::wall::{Offset, Stamp, Stamps};
use super::{is_absent, ABSENT};
use crate::sys::clock::BootTime;

/// What a value and a stamp take as text, about, besides the series' name and labels.
const VALUE_AND_STAMP: usize = 34;

/// How much a delivery may hold, about. Of each group it has one row at least, or there would be no progress.
#[derive(Debug, Clone, Copy)]
pub enum Room {
    /// Bytes of text.
    Text(usize),
    /// Samples in all, and rows of any one group.
    Samples {
        /// In all groups together.
        in_all: usize,
        /// Of each group.
        rows: usize,
    },
}

/// How far one consumer has come, in all groups. A copy of it goes with a delivery, and takes its place when that has
/// succeeded: so what was not delivered is delivered the next time.
#[derive(Debug, Clone)]
pub struct Progress {
    groups: Vec<Reached>,
    /// Of a group that it has not seen it gets what was read since.
    since: BootTime,
    /// Samples that were pushed out of the history before they were delivered.
    pub dropped: u64,
    /// Samples left out because the clock was set back: their stamps would not be later than those of what was delivered.
    pub set_back: u64,
}

#[derive(Debug, Clone)]
struct Reached {
    group: Weak<Group>,
    /// How many samples the group had, ever.
    added: Arc<AtomicU64>,
    source: String,
    cursor: Cursor,
    stamps: Stamps,
    /// The values of the last row that it has had.
    last_row: Vec<f64>,
}

/// The rows for one delivery.
#[derive(Default)]
pub struct Batch {
    groups: Vec<(Arc<Group>, GroupRows)>,
}

/// Stamped rows of one group, oldest first.
#[derive(Debug, Default)]
pub struct GroupRows {
    /// Stamp of each row, and where it begins in `values`.
    rows: Vec<(i64, usize)>,
    values: Vec<f64>,
    /// The values of the row before these.
    before: Vec<f64>,
}

impl Progress {
    /// That of a consumer that has had nothing, and wants what was read since then.
    pub fn new(since: BootTime) -> Progress {
        Progress {
            groups: Vec::new(),
            since,
            dropped: 0,
            set_back: 0,
        }
    }

    /// The next rows, which are about as many as fit into `bytes` of text, and moves on behind them. What does not fit
    /// comes the next time.
    pub fn take(
        &mut self,
        registry: &Registry,
        offset: &Offset,
        now: BootTime,
        bytes: usize,
    ) -> Batch {
        let groups = registry.measured();
        // What it had not had of a source that was ended is lost to it.
        let ended = self.groups.iter();
        let ended = ended.filter(|reached| !groups.iter().any(|group| reached.is(group)));
        self.dropped += ended.map(Reached::left).sum::<u64>();
        self.take_of(&groups, offset, now, Room::Text(bytes))
    }

    /// How many of the samples of all sources it has had or lost.
    pub fn samples(&self, registry: &Registry) -> u64 {
        let reached = self.groups.iter().map(|reached| reached.cursor.samples());
        registry.ended() + reached.sum::<u64>()
    }

    /// The memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let groups = self.groups.iter();
        let bytes = groups.map(|reached| {
            size_of::<Reached>() + reached.source.len() + size_of_val(reached.last_row.as_slice())
        });
        bytes.sum()
    }

    /// The same of these groups.
    pub fn take_of(
        &mut self,
        groups: &[Arc<Group>],
        offset: &Offset,
        now: BootTime,
        room: Room,
    ) -> Batch {
        let mut batch = Batch::default();
        let (mut left, most_rows) = match room {
            Room::Text(bytes) => (bytes, usize::MAX),
            Room::Samples { in_all, rows } => (in_all, rows),
        };
        let wants = groups.iter().map(|group| {
            let at = self.reached(group, groups);
            let shown = group.all_series();
            let shown = shown.iter().filter(|series| series.family.is_enabled());
            let row: usize = match room {
                Room::Text(_) => shown.map(|s| s.prefix.len() + VALUE_AND_STAMP).sum(),
                Room::Samples { .. } => shown.count(),
            };
            let rows = group.history().rows_after(&at.cursor);
            (rows.saturating_mul(row as u64), row, group, at)
        });
        let mut wants: Vec<_> = wants.collect();
        // Each gets an equal share, and those that want more, too, what the others leave of theirs.
        wants.sort_by_key(|(want, ..)| *want);
        for (i, (_, row, group, at)) in wants.iter_mut().enumerate() {
            let share = left / (groups.len() - i);
            let rows = (share / (*row).max(1)).clamp(1, most_rows);
            let taken = at.take(group, offset, rows, self, &mut batch);
            left = left.saturating_sub(taken * *row);
        }
        self.groups = wants.into_iter().map(|(.., at)| at).collect();
        self.since = now;
        batch
    }

    /// How many rows of a group it has not had.
    pub fn rows_left(&self, group: &Group) -> u64 {
        group.history().rows_after(&self.cursor(group))
    }

    /// When the first of them was read.
    pub fn next_at(&self, group: &Group) -> Option<BootTime> {
        group.history().next_at(&self.cursor(group))
    }

    /// Whether some of them give way before long.
    pub fn is_late(&self, group: &Group) -> bool {
        group.history().is_half_full_after(&self.cursor(group))
    }

    /// Stamps go on on a clock that is so many milliseconds ahead of theirs.
    pub fn shift(&mut self, by: i64) {
        for reached in &mut self.groups {
            reached.stamps.shift(by);
        }
    }

    fn cursor(&self, group: &Group) -> Cursor {
        let known = self.groups.iter().find(|reached| reached.is(group));
        match known {
            Some(known) => known.cursor,
            None => group.history().cursor_since(self.since),
        }
    }

    /// Where it is in one of the groups that there are.
    fn reached(&self, group: &Arc<Group>, groups: &[Arc<Group>]) -> Reached {
        if let Some(known) = self.groups.iter().find(|reached| reached.is(group)) {
            return known.clone();
        }
        // A source that was ended and began anew has the series that it had, and their stamps go on.
        let mut gone = self.groups.iter().filter(|reached| {
            reached.source == group.source && !groups.iter().any(|group| reached.is(group))
        });
        Reached {
            group: Arc::downgrade(group),
            added: Arc::clone(group.history().added()),
            source: group.source.clone(),
            cursor: group.history().cursor_since(self.since),
            stamps: gone.next().map(|r| r.stamps).unwrap_or_default(),
            last_row: Vec::new(),
        }
    }
}

impl Reached {
    fn is(&self, group: &Group) -> bool {
        std::ptr::eq(self.group.as_ptr(), group)
    }

    /// How many samples it has not had.
    fn left(&self) -> u64 {
        let added = self.added.load(Ordering::Relaxed);
        added.saturating_sub(self.cursor.samples())
    }

    /// Adds the group's next rows to the batch, that many at most. Returns how many.
    fn take(
        &mut self,
        group: &Arc<Group>,
        offset: &Offset,
        most_rows: usize,
        total: &mut Progress,
        batch: &mut Batch,
    ) -> usize {
        let mut of_group = GroupRows::default();
        let (mut rows, mut stamps) = (Rows::default(), Vec::new());
        loop {
            stamps.clear();
            let room = most_rows.saturating_sub(of_group.rows.len());
            let Reached {
                cursor,
                stamps: last,
                ..
            } = self;
            let any = group.history().read_while(cursor, &mut rows, |at| {
                if stamps.len() >= room {
                    return false;
                }
                let stamp = last.next(offset, at);
                if stamp == Stamp::NotYet {
                    return false;
                }
                stamps.push(stamp);
                true
            });
            if !any {
                break;
            }
            for ((_, values), stamp) in rows.iter().zip(&stamps) {
                match stamp {
                    Stamp::At(stamp) => {
                        of_group.rows.push((*stamp, of_group.values.len()));
                        of_group.values.extend(values);
                    }
                    _ => total.set_back += values.filter(|v| !is_absent(*v)).count() as u64,
                }
            }
        }
        total.dropped += rows.dropped;
        if let Some((_, begin)) = of_group.rows.last() {
            let last = of_group.values.get(*begin..).unwrap_or_default().to_vec();
            of_group.before = std::mem::replace(&mut self.last_row, last);
        }
        let taken = of_group.rows.len();
        if taken > 0 {
            batch.groups.push((Arc::clone(group), of_group));
        }
        taken
    }
}

impl Batch {
    /// The rows of a group, if it has any in this batch.
    pub fn of(&self, group: &Group) -> Option<&GroupRows> {
        let found = self.groups.iter().find(|(g, _)| std::ptr::eq(&**g, group));
        found.map(|(_, rows)| rows)
    }
}

impl GroupRows {
    /// By how much the series at this place has grown since the row before these; where it was not there then, since the
    /// first row in which it is.
    pub fn increase(&self, place: usize) -> Option<f64> {
        let mut values = self.series(place).map(|(_, value)| value);
        let first = values.next()?;
        let last = values.last().unwrap_or(first);
        let before = self.before.get(place).filter(|value| !is_absent(**value));
        Some(last - before.unwrap_or(&first))
    }

    /// The values of the series at this place in the group: stamp in milliseconds since 1970, and value. What is absent
    /// is not among them.
    pub fn series(&self, place: usize) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.all_of(place).filter(|(_, value)| !is_absent(*value))
    }

    /// The same with what is absent among them.
    pub fn all_of(&self, place: usize) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.rows
            .iter()
            .enumerate()
            .map(move |(i, (stamp, begin))| {
                let end = self
                    .rows
                    .get(i + 1)
                    .map_or(self.values.len(), |(_, next)| *next);
                let row = self.values.get(*begin..end).unwrap_or_default();
                (*stamp, row.get(place).copied().unwrap_or(ABSENT))
            })
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
