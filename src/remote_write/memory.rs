//! The memory feed gives what the histories of the sources hold, and a staleness marker where a series ends.

use std::collections::HashMap;
use std::sync::Arc;

use super::feed::{Batch, BatchLimit, Feed, Losses, Pending, SeriesIdentity};
use super::labels::Labels;
use crate::metrics::{
    is_absent, DeliveryLimit, Group, GroupRows, Offset, Progress, Registry, Series, ABSENT,
};
use crate::sys::clock::BootTime;

/// How many removed groups are kept for the samples that they hold. Repeated reloads while the receiver is away take no
/// more memory than that.
const MAX_RETIRED_GROUPS: usize = 4;
const MILLISECOND: i64 = 1_000_000;

/// Gives every sample of every source once.
pub struct MemoryFeed {
    registry: Arc<Registry>,
    labels: Labels,
    progress: Progress,
    /// The groups of the last batch. A removed group is kept until its samples have been given.
    groups: Vec<Arc<Group>>,
    /// What was given of each series, by name and labels.
    series: HashMap<Box<str>, GivenSeries>,
    /// The batch that was given last, until it is done.
    current: Option<Arc<Batch>>,
    /// How far the clock of the current batch's stamps is ahead of boot time, in milliseconds.
    ahead_ms: Option<i64>,
    is_finishing: bool,
    /// Samples of removed groups beyond `MAX_RETIRED_GROUPS`; samples that were not later than what another source had
    /// given of the same series; and samples whose labels are illegal.
    dropped: u64,
    out_of_order: u64,
    illegal_labels: u64,
}

/// What was given of a series.
struct GivenSeries {
    /// `None`: its labels are illegal.
    identity: Option<Arc<SeriesIdentity>>,
    last: i64,
    /// The last sample was a value, not a staleness marker.
    is_live: bool,
    /// It is among the series of this batch.
    is_listed: bool,
    /// It may have more samples: its source was read not long ago, or has readings that were not given yet.
    may_continue: bool,
}

impl MemoryFeed {
    /// A feed of what was read since `since`, with these labels besides.
    pub fn new(registry: Arc<Registry>, labels: Labels, since: BootTime) -> MemoryFeed {
        MemoryFeed {
            registry,
            labels,
            progress: Progress::new(since),
            groups: Vec::new(),
            series: HashMap::new(),
            current: None,
            ahead_ms: None,
            is_finishing: false,
            dropped: 0,
            out_of_order: 0,
            illegal_labels: 0,
        }
    }

    fn make_batch(&mut self, offset: &Offset, now: BootTime, limit: BatchLimit) -> Batch {
        let current = self.registry.groups();
        let is_current = |group: &Arc<Group>| current.iter().any(|g| Arc::ptr_eq(g, group));
        let mut retired = self.retired(&current);
        for group in retired.drain(..retired.len().saturating_sub(MAX_RETIRED_GROUPS)) {
            self.dropped += self.progress.rows_left(&group) * count_exported(&group);
        }
        // The samples of a removed source are older than those of a source in its place.
        let groups: Vec<_> = retired.iter().chain(&current).cloned().collect();
        let room = DeliveryLimit::Samples {
            samples: limit.samples,
            rows: limit.readings,
        };
        let taken = self.progress.take_from(&groups, offset, now, room);

        self.series.values_mut().for_each(|given| {
            (given.is_listed, given.may_continue) = (false, false);
        });
        let mut batch = Batch::default();
        let layout = self.registry.layout();
        let mut add = |group: &Group, place: usize, series: &Series| {
            let rows = taken.of(group);
            self.add(group, place, series, rows, (offset, now), &mut batch);
        };
        for group in &retired {
            for (place, series) in group.all_series().iter().enumerate() {
                if series.family.is_enabled() {
                    add(group, place, series);
                }
            }
        }
        for (_, all) in layout.families() {
            for (group, place, series) in all {
                add(group, place, series);
            }
        }
        let has_more = |group: &Arc<Group>| self.progress.rows_left(group) > 0;
        let keep = |group: &Arc<Group>| is_current(group) || has_more(group);
        let groups: Vec<_> = groups.iter().filter(|group| keep(group)).cloned().collect();
        let more = groups.iter().any(has_more);
        self.groups = groups;
        self.end_series(offset, more, &mut batch);
        batch
    }

    /// When the oldest reading was made that was not given yet.
    pub fn oldest(&self) -> Option<BootTime> {
        let current = self.registry.groups();
        let retired = self.retired(&current);
        let groups = retired.iter().chain(&current);
        let next = groups.filter_map(|group| self.progress.next_at(group));
        next.chain(self.oldest_given()).min()
    }

    /// The same of the current batch.
    fn oldest_given(&self) -> Option<BootTime> {
        let runs = self.current.iter().flat_map(|batch| &batch.runs);
        let first = runs.filter_map(|run| run.samples.first()).min()?.0;
        let since_boot = first.saturating_sub(self.ahead_ms?).max(0) as u64;
        Some(BootTime(since_boot.saturating_mul(MILLISECOND as u64)))
    }

    /// Takes all that the feed holds, and leaves it empty for good. If `first` is not empty, it becomes the current
    /// batch; its stamps are since boot.
    pub(super) fn take_all(&mut self, first: Batch) -> MemoryFeed {
        let empty = MemoryFeed::new(Arc::default(), self.labels.clone(), BootTime(0));
        let mut all = std::mem::replace(self, empty);
        if !first.is_empty() {
            (all.current, all.ahead_ms) = (Some(Arc::new(first)), Some(0));
        }
        all
    }

    /// Stamps are since boot for a queue on disk, and since 1970 for a sender. Converts what was given so far from one
    /// to the other, if need be.
    fn convert_stamps(&mut self, ahead_ms: i64) {
        let Some(before) = self
            .ahead_ms
            .filter(|before| (*before == 0) != (ahead_ms == 0))
        else {
            return;
        };
        let by = ahead_ms.saturating_sub(before);
        self.progress.shift(by);
        for given in self.series.values_mut() {
            given.last = given.last.saturating_add(by);
        }
        if let Some(batch) = &mut self.current {
            Arc::make_mut(batch).shift(by);
        }
        self.ahead_ms = Some(ahead_ms);
    }

    /// Whether some readings that were not given will be overwritten before long.
    pub fn is_late(&self) -> bool {
        let groups = self.registry.groups();
        groups
            .iter()
            .any(|group| self.progress.is_falling_behind(group))
    }

    /// The removed groups that may hold samples.
    fn retired(&self, current: &[Arc<Group>]) -> Vec<Arc<Group>> {
        let gone = |group: &&Arc<Group>| !current.iter().any(|g| Arc::ptr_eq(g, group));
        self.groups.iter().filter(gone).cloned().collect()
    }

    /// Adds the samples of one series to a batch.
    fn add(
        &mut self,
        group: &Group,
        place: usize,
        series: &Series,
        rows: Option<&GroupRows>,
        (offset, now): (&Offset, BootTime),
        batch: &mut Batch,
    ) {
        let given = match self.series.get_mut(&series.prefix) {
            Some(given) => given,
            // A series that never had a value does not exist for the receiver.
            None if rows.is_none_or(|rows| rows.series(place).next().is_none()) => return,
            None => {
                let identity = identity(&self.labels, series);
                if identity.is_none() {
                    log::error!("remote write cannot send {}: illegal labels", series.prefix);
                }
                let given = GivenSeries {
                    identity,
                    last: i64::MIN,
                    is_live: false,
                    is_listed: false,
                    may_continue: false,
                };
                self.series.entry(series.prefix.clone()).or_insert(given)
            }
        };
        given.is_listed = true;
        // A reading without any value is not in the history: only the group shows that the last one had none.
        given.may_continue |= rows.is_some()
            || group.is_fresh(now) && group.has_value(place)
            || self.progress.rows_left(group) > 0;
        let Some(rows) = rows else {
            return;
        };
        let Some(identity) = &given.identity else {
            self.illegal_labels += rows.series(place).count() as u64;
            return;
        };
        let mut samples = Vec::new();
        for (stamp, value) in rows.all_values(place) {
            let there = !is_absent(value);
            if !there && !given.is_live {
                continue;
            }
            if stamp <= given.last {
                self.out_of_order += u64::from(there);
                continue;
            }
            samples.push((stamp, value.to_bits()));
            (given.last, given.is_live) = (stamp, there);
        }
        let Some((first, _)) = samples.first() else {
            return;
        };
        let start = group
            .counter_start(place)
            .map(|at| offset.stamp_ms(at).min(*first));
        // The board's total may come from one source in one batch, and from another in the next.
        batch.add(identity, start, samples);
    }

    /// Adds staleness markers to series that have ended: their source is silent or gone, they are not exported any
    /// more, or the feed ends. A marker comes a millisecond after the last sample, so that the next sample of a source
    /// that was only late is later.
    fn end_series(&mut self, offset: &Offset, more: bool, batch: &mut Batch) {
        let all_ends = self.is_finishing && !more;
        for given in self.series.values_mut() {
            let ends = given.is_live && (!given.is_listed || !given.may_continue || all_ends);
            let stamp = given.last.saturating_add(1);
            let Some(identity) = given.identity.as_ref().filter(|_| ends) else {
                continue;
            };
            if stamp > offset.now_ms() {
                continue;
            }
            (given.last, given.is_live) = (stamp, false);
            batch.add(identity, None, vec![(stamp, ABSENT.to_bits())]);
        }
        self.series
            .retain(|_, given| given.is_listed || given.is_live);
    }
}

impl Feed for MemoryFeed {
    fn next(&mut self, offset: &Offset, now: BootTime, limit: BatchLimit) -> Option<Arc<Batch>> {
        let ahead_ms = offset.nanos().div_euclid(MILLISECOND);
        self.convert_stamps(ahead_ms);
        if self.current.is_none() {
            self.ahead_ms = Some(ahead_ms);
            let batch = self.make_batch(offset, now, limit);
            self.current = (!batch.is_empty()).then(|| Arc::new(batch));
        }
        self.current.clone()
    }

    fn done(&mut self) {
        self.current = None;
    }

    fn pending(&self) -> Pending {
        let current = self.registry.groups();
        let retired = self.retired(&current);
        let mut pending = Pending::default();
        for group in retired.iter().chain(&current) {
            let readings = self.progress.rows_left(group);
            if readings > 0 {
                pending.samples += readings * count_exported(group);
                pending.readings = pending.readings.max(readings);
            }
        }
        pending
    }

    fn losses(&self) -> Losses {
        vec![
            ("history_overrun", self.progress.dropped + self.dropped),
            ("clock_set_back", self.progress.set_back + self.out_of_order),
            ("illegal_labels", self.illegal_labels),
            ("merged", self.progress.merged),
        ]
    }

    fn into_memory(self: Box<Self>) -> MemoryFeed {
        *self
    }

    fn finish(&mut self) {
        self.is_finishing = true;
    }
}

/// The number of a group's series that are exported.
fn count_exported(group: &Group) -> u64 {
    let all = group.all_series();
    all.iter()
        .filter(|series| series.family.is_enabled())
        .count() as u64
}

fn identity(labels: &Labels, series: &Series) -> Option<Arc<SeriesIdentity>> {
    let family = &series.family;
    let own = series
        .labels()
        .map(|(name, value)| (name.to_string(), value.into_owned()));
    Some(Arc::new(SeriesIdentity {
        labels: labels.of(&family.name, &own.collect::<Vec<_>>())?,
        kind: family.kind,
        help: family.help.clone(),
        unit: family.unit().unwrap_or_default().to_string(),
    }))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
