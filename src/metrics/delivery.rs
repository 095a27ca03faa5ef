//! Delivers every sample to a consumer once: how far each consumer has read, and its next rows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::group::Group;
use super::history::{Cursor, Rows};
use super::registry::Registry;
use super::wall::{Offset, Stamp, Stamps};
use super::{is_absent, ABSENT};
use crate::sys::clock::BootTime;
use crate::sys::sort::sort_by;

/// Approximate length of a value and a timestamp as text, in bytes.
const VALUE_AND_STAMP_BYTES: usize = 34;

/// Approximate maximum size of a batch. A batch has at least one row of each group that has new rows, so that every group
/// makes progress.
#[derive(Debug, Clone, Copy)]
pub enum DeliveryLimit {
    /// Bytes of text.
    Text(usize),
    /// Samples of the whole batch, and rows of any one group.
    Samples {
        /// Samples of all groups together.
        samples: usize,
        /// Rows of each group.
        rows: usize,
    },
}

/// How far one consumer has read, in all groups. A delivery works on a copy, which replaces the original when the delivery
/// has succeeded: rows of a failed delivery are delivered the next time.
#[derive(Debug, Clone)]
pub struct Progress {
    groups: Vec<GroupProgress>,
    /// Of a group that is new to the consumer it gets the rows read since this time.
    since: BootTime,
    /// Samples that the history dropped before they were delivered.
    pub dropped: u64,
    /// Samples that are not delivered because the clock was set back: their timestamps would not be later than those already
    /// delivered.
    pub set_back: u64,
    /// Samples that are not delivered because a later one has the same timestamp.
    pub merged: u64,
}

#[derive(Debug, Clone)]
struct GroupProgress {
    group: Weak<Group>,
    /// How many samples were ever added to the group's history.
    added: Arc<AtomicU64>,
    source: String,
    cursor: Cursor,
    stamps: Stamps,
    /// The values of the last delivered row.
    last_row: Vec<f64>,
}

/// The rows of one delivery.
#[derive(Default)]
pub struct Batch {
    /// The unit of the timestamps, in nanoseconds.
    pub unit: i64,
    groups: Vec<(Arc<Group>, GroupRows)>,
}

/// Timestamped rows of one group, oldest first.
#[derive(Debug, Default)]
pub struct GroupRows {
    /// Timestamp of each row, and where the row begins in `values`.
    rows: Vec<(i64, usize)>,
    values: Vec<f64>,
    /// The values of the row before the first.
    before: Vec<f64>,
}

impl Progress {
    /// The progress of a new consumer, which is given the rows read since `since`.
    pub fn new(since: BootTime) -> Progress {
        Progress {
            groups: Vec::new(),
            since,
            dropped: 0,
            set_back: 0,
            merged: 0,
        }
    }

    /// Takes the next rows, about as many as fit into `bytes` of text. The others follow with the next call.
    pub fn take(
        &mut self,
        registry: &Registry,
        offset: &Offset,
        now: BootTime,
        bytes: usize,
    ) -> Batch {
        let groups = registry.source_groups();
        // Undelivered samples of a source that was removed are lost.
        let ended = self.groups.iter();
        let ended = ended.filter(|reached| !groups.iter().any(|group| reached.is(group)));
        self.dropped += ended.map(GroupProgress::undelivered).sum::<u64>();
        self.take_from(&groups, offset, now, DeliveryLimit::Text(bytes))
    }

    /// How many samples of all sources were delivered or lost.
    pub fn samples(&self, registry: &Registry) -> u64 {
        let reached = self.groups.iter().map(|reached| reached.cursor.samples());
        registry.removed_samples() + reached.sum::<u64>()
    }

    /// Approximate memory use.
    pub fn bytes(&self) -> usize {
        let groups = self.groups.iter();
        let bytes = groups.map(|reached| {
            size_of::<GroupProgress>()
                + reached.source.len()
                + size_of_val(reached.last_row.as_slice())
        });
        bytes.sum()
    }

    /// Takes the next rows of these groups.
    pub fn take_from(
        &mut self,
        groups: &[Arc<Group>],
        offset: &Offset,
        now: BootTime,
        limit: DeliveryLimit,
    ) -> Batch {
        let mut batch = Batch {
            unit: offset.unit(),
            ..Batch::default()
        };
        let (mut left, max_rows) = match limit {
            DeliveryLimit::Text(bytes) => (bytes, usize::MAX),
            DeliveryLimit::Samples { samples, rows } => (samples, rows),
        };
        let requests = groups.iter().map(|group| {
            let at = self.group_progress(group, groups);
            let shown = group.all_series();
            let shown = shown.iter().filter(|series| series.family.is_enabled());
            let row: usize = match limit {
                DeliveryLimit::Text(_) => {
                    shown.map(|s| s.prefix.len() + VALUE_AND_STAMP_BYTES).sum()
                }
                DeliveryLimit::Samples { .. } => shown.count(),
            };
            let rows = group.history().rows_after(&at.cursor);
            (rows.saturating_mul(row as u64), row, group, at)
        });
        let mut requests: Vec<_> = requests.collect();
        // Each group gets an equal share; what small groups leave of theirs goes to the larger ones.
        sort_by(&mut requests, |(a, ..), (b, ..)| a.cmp(b));
        for (i, (_, row, group, at)) in requests.iter_mut().enumerate() {
            let share = left / (groups.len() - i);
            let rows = (share / (*row).max(1)).clamp(1, max_rows);
            let taken = at.take(group, offset, rows, self, &mut batch);
            left = left.saturating_sub(taken * *row);
        }
        self.groups = requests.into_iter().map(|(.., at)| at).collect();
        self.since = now;
        batch
    }

    /// How many rows of a group are not delivered yet.
    pub fn rows_left(&self, group: &Group) -> u64 {
        group.history().rows_after(&self.cursor(group))
    }

    /// When the first undelivered row of a group was read.
    pub fn next_at(&self, group: &Group) -> Option<BootTime> {
        group.history().next_at(&self.cursor(group))
    }

    /// Whether undelivered rows of a group will soon be dropped.
    pub fn is_falling_behind(&self, group: &Group) -> bool {
        group.history().is_half_full_after(&self.cursor(group))
    }

    /// Continues the timestamps on a clock that is `by` milliseconds ahead of theirs.
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

    /// The progress in one of the existing groups.
    fn group_progress(&self, group: &Arc<Group>, groups: &[Arc<Group>]) -> GroupProgress {
        if let Some(known) = self.groups.iter().find(|reached| reached.is(group)) {
            return known.clone();
        }
        // A source that was restarted has the same series as before: their timestamps continue.
        let mut gone = self.groups.iter().filter(|reached| {
            reached.source == group.source && !groups.iter().any(|group| reached.is(group))
        });
        GroupProgress {
            group: Arc::downgrade(group),
            added: Arc::clone(group.history().added()),
            source: group.source.clone(),
            cursor: group.history().cursor_since(self.since),
            stamps: gone.next().map(|r| r.stamps).unwrap_or_default(),
            last_row: Vec::new(),
        }
    }
}

impl GroupProgress {
    fn is(&self, group: &Group) -> bool {
        std::ptr::eq(self.group.as_ptr(), group)
    }

    /// How many samples of the group are not delivered.
    fn undelivered(&self) -> u64 {
        let added = self.added.load(Ordering::Relaxed);
        added.saturating_sub(self.cursor.samples())
    }

    /// Adds at most `max_rows` of the group's next rows to the batch. Returns how many were added.
    fn take(
        &mut self,
        group: &Arc<Group>,
        offset: &Offset,
        max_rows: usize,
        total: &mut Progress,
        batch: &mut Batch,
    ) -> usize {
        let mut of_group = GroupRows::default();
        let (mut rows, mut stamps) = (Rows::default(), Vec::new());
        let has_many = group.is_read_within(offset.unit());
        loop {
            stamps.clear();
            let mut room = max_rows.saturating_sub(of_group.rows.len());
            let GroupProgress {
                cursor,
                stamps: last,
                ..
            } = self;
            let any = group.history().read_while(cursor, &mut rows, |at| {
                let mut after = *last;
                let stamp = match has_many {
                    true => after.next_of_many(offset, at),
                    false => after.next(offset, at),
                };
                match stamp {
                    Stamp::NotYet => return false,
                    // The last of them comes in the batch of the first.
                    Stamp::Same => {}
                    Stamp::At(_) | Stamp::Never if room == 0 => return false,
                    Stamp::At(_) | Stamp::Never => room -= 1,
                }
                *last = after;
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
                    Stamp::Same => total.merged += of_group.replace_last(values),
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
    /// The rows of a group, if the batch has any.
    pub fn of(&self, group: &Group) -> Option<&GroupRows> {
        let found = self.groups.iter().find(|(g, _)| std::ptr::eq(&**g, group));
        found.map(|(_, rows)| rows)
    }
}

impl GroupRows {
    /// Puts these values into the last row, where they are present. Returns how many samples have no place any more: those that
    /// the row had, or these themselves if there is no row.
    fn replace_last(&mut self, values: impl Iterator<Item = f64>) -> u64 {
        let mut present = 0;
        let Some((_, begin)) = self.rows.last() else {
            return values.filter(|value| !is_absent(*value)).count() as u64;
        };
        for (place, value) in (*begin..).zip(values) {
            match self.values.get_mut(place) {
                Some(before) if !is_absent(value) => {
                    present += u64::from(!is_absent(*before));
                    *before = value;
                }
                Some(_) => {}
                None => self.values.push(value),
            }
        }
        present
    }

    /// The increase of the series at this place since the row before these rows, or since the first row that has a value if
    /// the row before has none.
    pub fn increase(&self, place: usize) -> Option<f64> {
        let mut values = self.series(place).map(|(_, value)| value);
        let first = values.next()?;
        let last = values.last().unwrap_or(first);
        let before = self.before.get(place).filter(|value| !is_absent(**value));
        Some(last - before.unwrap_or(&first))
    }

    /// Timestamps (in the offset's unit since 1970) and present values of the series at this place in the group.
    pub fn series(&self, place: usize) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.all_values(place)
            .filter(|(_, value)| !is_absent(*value))
    }

    /// Timestamps and values of the series at this place, including absent values.
    pub fn all_values(&self, place: usize) -> impl Iterator<Item = (i64, f64)> + '_ {
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
