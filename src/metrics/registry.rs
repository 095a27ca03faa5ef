//! The registry of all groups and families, and its snapshots for rendering.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::families::Families;
use super::family::{Family, Policy};
use super::group::Group;
use super::is_absent;
use super::series::Series;
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::sort::sort_by;

/// How often a snapshot is taken anew because series came or went meanwhile.
const MAX_SNAPSHOT_ATTEMPTS: u32 = 8;

/// Everything that can be exported.
#[derive(Default)]
pub struct Registry {
    families: Arc<Families>,
    groups: RwLock<Vec<(u32, Arc<Group>)>>,
    /// How often a group was added or removed.
    moves: AtomicU64,
    plan: Mutex<Arc<RenderPlan>>,
    /// Samples of removed groups.
    removed_samples: AtomicU64,
}

/// The series to render, in order. Rebuilt when a series or a group is added or removed.
#[derive(Default)]
struct RenderPlan {
    version: u64,
    groups: Vec<(Arc<Group>, usize)>,
    families: Vec<PlannedFamily>,
}

struct PlannedFamily {
    family: Arc<Family>,
    slots: Vec<PlannedSeries>,
    /// The prefixes of its series, concatenated: reading them in order avoids cache misses, however many there are.
    prefixes: String,
}

struct PlannedSeries {
    series: Arc<Series>,
    /// The index of its value in a snapshot.
    value: usize,
    /// Where its prefix ends, and the next one begins.
    end: usize,
}

impl Registry {
    /// An empty registry with this policy.
    pub fn new(policy: Policy) -> Registry {
        let registry = Registry::default();
        registry.set_policy(policy);
        registry
    }

    /// Adds a group. Groups are rendered in the order of `rank`, and a family at its first series.
    pub fn add_group(
        &self,
        rank: u32,
        source: &str,
        const_labels: Vec<(String, String)>,
    ) -> Arc<Group> {
        let group = Arc::new(Group::new(
            rank,
            source,
            const_labels,
            Arc::clone(&self.families),
        ));
        let mut groups = lock::write(&self.groups);
        groups.push((rank, Arc::clone(&group)));
        self.moves.fetch_add(1, Ordering::Release);
        sort_by(&mut groups, |(a, _), (b, _)| a.cmp(b));
        self.families.changed();
        group
    }

    /// Removes a group and its series.
    pub fn remove_group(&self, group: &Arc<Group>) {
        let mut groups = lock::write(&self.groups);
        groups.retain(|(_, g)| !Arc::ptr_eq(g, group));
        self.moves.fetch_add(1, Ordering::Release);
        drop(groups);
        if !group.is_own() {
            let samples = group.history().added().load(Ordering::Relaxed);
            self.removed_samples.fetch_add(samples, Ordering::Relaxed);
        }
        group.leave();
        self.families.changed();
    }

    /// Changes which families are exported; the next snapshot sees it.
    pub fn set_policy(&self, policy: Policy) {
        self.families.set_policy(policy);
    }

    /// Changes whenever series or groups are added or removed.
    pub fn version(&self) -> u64 {
        self.families.version()
    }

    /// Changes whenever a series is registered in one of these groups, one of them is settled, or any group is added or removed.
    pub fn version_of(&self, is_read: impl Fn(&Arc<Group>) -> bool) -> (u64, u64) {
        let groups = lock::read(&self.groups);
        let read = groups.iter().filter(|(_, group)| is_read(group));
        let versions = read.map(|(_, group)| group.version()).sum();
        (self.moves.load(Ordering::Acquire), versions)
    }

    /// The families that `metrics:` can switch, sorted by name, and whether each is exported.
    pub fn switchable(&self) -> Vec<(String, bool)> {
        self.families.switchable()
    }

    /// The current values: each group as one poll left it, stale groups absent.
    pub fn snapshot(&self, now: BootTime) -> Snapshot {
        let mut attempts = 0;
        loop {
            let plan = self.plan();
            let mut values = Vec::with_capacity(plan.groups.iter().map(|(_, n)| n).sum());
            for (group, expected) in &plan.groups {
                group.snapshot(now, *expected, &mut values);
            }
            // A place that was given to another series meanwhile would have its value under the old name.
            attempts += 1;
            if plan.version == self.version() || attempts == MAX_SNAPSHOT_ATTEMPTS {
                return Snapshot { plan, values };
            }
        }
    }

    /// All groups, in order.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let groups = lock::read(&self.groups);
        groups.iter().map(|(_, group)| Arc::clone(group)).collect()
    }

    /// The groups of sources, without those about the exporter itself, in order.
    pub(super) fn source_groups(&self) -> Vec<Arc<Group>> {
        let groups = self.groups().into_iter();
        groups.filter(|group| !group.is_own()).collect()
    }

    /// The number of samples of removed sources.
    pub(super) fn removed_samples(&self) -> u64 {
        self.removed_samples.load(Ordering::Relaxed)
    }

    /// The number of samples of sources that were read before `since`, or that are no longer kept.
    pub fn samples_before(&self, since: BootTime) -> u64 {
        let groups = self.source_groups().into_iter();
        let before = groups.map(|group| group.history().cursor_since(since).samples());
        self.removed_samples() + before.sum::<u64>()
    }

    /// The order of families and series. It has all series of all rows published before this call.
    pub fn layout(&self) -> Layout {
        Layout { plan: self.plan() }
    }

    fn plan(&self) -> Arc<RenderPlan> {
        let version = self.version();
        let mut plan = lock::lock(&self.plan);
        if plan.version != version {
            let owner = self.families.board.owner();
            *plan = Arc::new(RenderPlan::new(version, &lock::read(&self.groups), owner));
        }
        Arc::clone(&plan)
    }
}

impl RenderPlan {
    fn new(version: u64, ranked: &[(u32, Arc<Group>)], owner: u64) -> RenderPlan {
        let mut plan = RenderPlan {
            version,
            ..RenderPlan::default()
        };
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut value = 0;
        let mut settled = true;
        for (_, group) in ranked {
            let all = group.all_series();
            plan.groups.push((Arc::clone(group), all.len()));
            for series in all {
                let place = match places.get(&series.family.name) {
                    Some(place) => *place,
                    None => {
                        places.insert(series.family.name.clone(), plan.families.len());
                        plan.families.push(PlannedFamily {
                            family: Arc::clone(&series.family),
                            slots: Vec::new(),
                            prefixes: String::new(),
                        });
                        plan.families.len() - 1
                    }
                };
                let planned = &mut plan.families[place];
                let is_shown = match &planned.family {
                    family if family.of_board => group.board_id() == owner,
                    family => !family.single || planned.slots.is_empty() && settled,
                };
                if is_shown {
                    planned.prefixes.push_str(&series.prefix);
                    planned.slots.push(PlannedSeries {
                        series,
                        value,
                        end: planned.prefixes.len(),
                    });
                }
                value += 1;
            }
            settled &= group.is_settled();
        }
        plan
    }
}

/// The order of exported families and series.
pub struct Layout {
    plan: Arc<RenderPlan>,
}

impl Layout {
    /// The enabled families with their series: each series' group, and its place in that group's rows.
    pub fn families(
        &self,
    ) -> impl Iterator<Item = (&Family, impl Iterator<Item = (&Group, usize, &Series)>)> {
        let families = self.plan.families.iter();
        let enabled = families.filter(|planned| planned.family.is_enabled());
        enabled.map(|planned| {
            let series = planned.slots.iter().filter_map(|slot| {
                let (group, place) = self.group_of(slot.value)?;
                Some((group, place, &*slot.series))
            });
            (&*planned.family, series)
        })
    }

    fn group_of(&self, slot: usize) -> Option<(&Group, usize)> {
        let mut place = slot;
        for (group, series) in &self.plan.groups {
            match place.checked_sub(*series) {
                None => return Some((group, place)),
                Some(rest) => place = rest,
            }
        }
        None
    }
}

/// A consistent view of the registry.
pub struct Snapshot {
    plan: Arc<RenderPlan>,
    values: Vec<f64>,
}

/// One family in a snapshot.
pub struct SnapshotFamily<'a> {
    /// The family.
    pub family: &'a Family,
    slots: &'a [PlannedSeries],
    prefixes: &'a str,
    values: &'a [f64],
}

impl Snapshot {
    /// The enabled families that have at least one value, in order.
    pub fn families(&self) -> impl Iterator<Item = SnapshotFamily<'_>> {
        self.all().filter(|view| view.family.is_enabled())
    }

    /// All families that have at least one value, including those that are not exported.
    pub fn all(&self) -> impl Iterator<Item = SnapshotFamily<'_>> {
        self.plan.families.iter().filter_map(|planned| {
            let view = SnapshotFamily {
                family: &planned.family,
                slots: &planned.slots,
                prefixes: &planned.prefixes,
                values: &self.values,
            };
            view.samples().next().is_some().then_some(view)
        })
    }
}

impl<'a> SnapshotFamily<'a> {
    /// The present series and their values.
    pub fn samples(&self) -> impl Iterator<Item = (&'a Series, f64)> + 'a {
        let values = self.values;
        self.slots.iter().filter_map(move |slot| {
            let value = *values.get(slot.value)?;
            (!is_absent(value)).then_some((&*slot.series, value))
        })
    }

    /// [`Series::prefix`] and value of the present series, for the text format.
    pub fn lines(&self) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        let SnapshotFamily {
            prefixes, values, ..
        } = *self;
        let mut start = 0;
        self.slots.iter().filter_map(move |slot| {
            let prefix = prefixes.get(start..slot.end);
            start = slot.end;
            let value = *values.get(slot.value)?;
            (!is_absent(value)).then_some((prefix?, value))
        })
    }
}
