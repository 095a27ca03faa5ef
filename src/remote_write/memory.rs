//! The feed out of memory: what the histories of the sources hold, and where a series ends the mark that it has.

use std::collections::HashMap;
use std::sync::Arc;

use super::feed::{Batch, Feed, Identity, Losses, Most, Pending};
use super::labels::Labels;
use crate::metrics::{
    is_absent, DeliveryLimit, Group, GroupRows, Offset, Progress, Registry, Series, ABSENT,
};
use crate::sys::clock::BootTime;

/// So many groups that are no more are kept for what they hold. Reload after reload, while the receiver is away, takes no
/// more memory than that.
const MOST_RETIRED: usize = 4;
const MILLISECOND: i64 = 1_000_000;

/// Gives every sample of every source once.
pub struct MemoryFeed {
    registry: Arc<Registry>,
    labels: Labels,
    progress: Progress,
    /// The groups there were. One that is no more is kept until what it holds has been given.
    groups: Vec<Arc<Group>>,
    /// What was given of each series, by its name and labels.
    series: HashMap<Box<str>, Given>,
    given: Option<Arc<Batch>>,
    /// How far the clock of the last batch's stamps was ahead of boot time, in milliseconds.
    ahead: Option<i64>,
    finishing: bool,
    /// Samples of groups that could not be kept any longer; those that were not later than what another source had given
    /// of the same series; and those whose labels no receiver may be sent.
    let_go: u64,
    not_later: u64,
    unnamed: u64,
}

/// What was given of a series.
struct Given {
    /// `None`: it has labels that no receiver may be sent.
    identity: Option<Arc<Identity>>,
    last: i64,
    /// The last sample was a value, and no mark that the series has ended.
    lives: bool,
    /// It was among the series of this round.
    seen: bool,
    /// It may have more to come: its source was read not long ago, or has readings that were not given yet.
    goes_on: bool,
}

impl MemoryFeed {
    /// Gives what was read since then, with these labels besides.
    pub fn new(registry: Arc<Registry>, labels: Labels, since: BootTime) -> MemoryFeed {
        MemoryFeed {
            registry,
            labels,
            progress: Progress::new(since),
            groups: Vec::new(),
            series: HashMap::new(),
            given: None,
            ahead: None,
            finishing: false,
            let_go: 0,
            not_later: 0,
            unnamed: 0,
        }
    }

    fn make(&mut self, offset: &Offset, now: BootTime, most: Most) -> Batch {
        let current = self.registry.groups();
        let is_current = |group: &Arc<Group>| current.iter().any(|g| Arc::ptr_eq(g, group));
        let mut retired = self.retired(&current);
        for group in retired.drain(..retired.len().saturating_sub(MOST_RETIRED)) {
            self.let_go += self.progress.rows_left(&group) * shown(&group);
        }
        // What a source held that is no more is older than what one in its place has.
        let groups: Vec<_> = retired.iter().chain(&current).cloned().collect();
        let limit = DeliveryLimit::Samples {
            samples: most.samples,
            rows: most.readings,
        };
        let taken = self.progress.take_from(&groups, offset, now, limit);

        self.series.values_mut().for_each(|given| {
            (given.seen, given.goes_on) = (false, false);
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

    /// When the oldest reading was read that has not been given.
    pub fn oldest(&self) -> Option<BootTime> {
        let current = self.registry.groups();
        let retired = self.retired(&current);
        let groups = retired.iter().chain(&current);
        let next = groups.filter_map(|group| self.progress.next_at(group));
        next.chain(self.given_at()).min()
    }

    /// The same of the batch that was given last.
    fn given_at(&self) -> Option<BootTime> {
        let runs = self.given.iter().flat_map(|batch| &batch.runs);
        let first = runs.filter_map(|run| run.samples.first()).min()?.0;
        let since_boot = first.saturating_sub(self.ahead?).max(0) as u64;
        Some(BootTime(since_boot.saturating_mul(MILLISECOND as u64)))
    }

    /// What it holds. Nothing is left here, and nothing will come. Of what is given, the batch, whose stamps are since boot,
    /// comes first.
    pub(super) fn leave(&mut self, first: Batch) -> MemoryFeed {
        let empty = MemoryFeed::new(Arc::default(), self.labels.clone(), BootTime(0));
        let mut all = std::mem::replace(self, empty);
        if !first.is_empty() {
            (all.given, all.ahead) = (Some(Arc::new(first)), Some(0));
        }
        all
    }

    /// Stamps are since boot for a queue on disk, and since 1970 for a sender. What was given so far goes over from the one to
    /// the other, if need be.
    fn go_over(&mut self, ahead: i64) {
        let Some(before) = self.ahead.filter(|before| (*before == 0) != (ahead == 0)) else {
            return;
        };
        let by = ahead.saturating_sub(before);
        self.progress.shift(by);
        for given in self.series.values_mut() {
            given.last = given.last.saturating_add(by);
        }
        if let Some(batch) = &mut self.given {
            Arc::make_mut(batch).shift(by);
        }
        self.ahead = Some(ahead);
    }

    /// Whether some readings give way before long that have not been given.
    pub fn is_late(&self) -> bool {
        let groups = self.registry.groups();
        groups
            .iter()
            .any(|group| self.progress.is_falling_behind(group))
    }

    /// The groups that are no more, but may hold something.
    fn retired(&self, current: &[Arc<Group>]) -> Vec<Arc<Group>> {
        let gone = |group: &&Arc<Group>| !current.iter().any(|g| Arc::ptr_eq(g, group));
        self.groups.iter().filter(gone).cloned().collect()
    }

    /// Adds the samples of one series.
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
            // One that never had a value is none to the receiver.
            None if rows.is_none_or(|rows| rows.series(place).next().is_none()) => return,
            None => {
                let identity = identity(&self.labels, series);
                if identity.is_none() {
                    log::error!("remote write cannot send {}: illegal labels", series.prefix);
                }
                let given = Given {
                    identity,
                    last: i64::MIN,
                    lives: false,
                    seen: false,
                    goes_on: false,
                };
                self.series.entry(series.prefix.clone()).or_insert(given)
            }
        };
        given.seen = true;
        // A reading without any value is not kept: that the last one had none shows in the group alone.
        given.goes_on |= rows.is_some()
            || group.is_fresh(now) && group.has_value(place)
            || self.progress.rows_left(group) > 0;
        let Some(rows) = rows else {
            return;
        };
        let Some(identity) = &given.identity else {
            self.unnamed += rows.series(place).count() as u64;
            return;
        };
        let mut samples = Vec::new();
        for (stamp, value) in rows.all_values(place) {
            let there = !is_absent(value);
            if !there && !given.lives {
                continue;
            }
            if stamp <= given.last {
                self.not_later += u64::from(there);
                continue;
            }
            samples.push((stamp, value.to_bits()));
            (given.last, given.lives) = (stamp, there);
        }
        let Some((first, _)) = samples.first() else {
            return;
        };
        let start = group
            .counter_start(place)
            .map(|at| offset.stamp_ms(at).min(*first));
        // The board's total may come from one source in one round, and from another in the next.
        batch.add(identity, start, samples);
    }

    /// Marks the series that have ended: their source is silent or gone, they are not exported any more, or all ends.
    /// The mark comes a millisecond after the last sample, so that a source that was only late has its next one behind it.
    fn end_series(&mut self, offset: &Offset, more: bool, batch: &mut Batch) {
        let all_ends = self.finishing && !more;
        for given in self.series.values_mut() {
            let ends = given.lives && (!given.seen || !given.goes_on || all_ends);
            let stamp = given.last.saturating_add(1);
            let Some(identity) = given.identity.as_ref().filter(|_| ends) else {
                continue;
            };
            if stamp > offset.now_ms() {
                continue;
            }
            (given.last, given.lives) = (stamp, false);
            batch.add(identity, None, vec![(stamp, ABSENT.to_bits())]);
        }
        self.series.retain(|_, given| given.seen || given.lives);
    }
}

impl Feed for MemoryFeed {
    fn next(&mut self, offset: &Offset, now: BootTime, most: Most) -> Option<Arc<Batch>> {
        let ahead = offset.nanos().div_euclid(MILLISECOND);
        self.go_over(ahead);
        if self.given.is_none() {
            self.ahead = Some(ahead);
            let batch = self.make(offset, now, most);
            self.given = (!batch.is_empty()).then(|| Arc::new(batch));
        }
        self.given.clone()
    }

    fn done(&mut self) {
        self.given = None;
    }

    fn pending(&self) -> Pending {
        let current = self.registry.groups();
        let retired = self.retired(&current);
        let mut pending = Pending::default();
        for group in retired.iter().chain(&current) {
            let readings = self.progress.rows_left(group);
            if readings > 0 {
                pending.samples += readings * shown(group);
                pending.readings = pending.readings.max(readings);
            }
        }
        pending
    }

    fn losses(&self) -> Losses {
        vec![
            ("history_overrun", self.progress.dropped + self.let_go),
            ("clock_set_back", self.progress.set_back + self.not_later),
            ("illegal_labels", self.unnamed),
        ]
    }

    fn into_memory(self: Box<Self>) -> MemoryFeed {
        *self
    }

    fn finish(&mut self) {
        self.finishing = true;
    }
}

/// How many of a group's series are exported.
fn shown(group: &Group) -> u64 {
    let all = group.all_series();
    all.iter()
        .filter(|series| series.family.is_enabled())
        .count() as u64
}

fn identity(labels: &Labels, series: &Series) -> Option<Arc<Identity>> {
    let family = &series.family;
    Some(Arc::new(Identity {
        labels: labels.of(&family.name, &series.labels)?,
        kind: family.kind,
        help: family.help.clone(),
        unit: family.unit().unwrap_or_default().to_string(),
    }))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
