//! All groups and families, and the view of them that is rendered.

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

/// How often a snapshot is taken anew because series came or went meanwhile.
const MAX_SNAPSHOT_ATTEMPTS: u32 = 8;

/// Everything that can be exported.
#[derive(Default)]
pub struct Registry {
    families: Arc<Families>,
    groups: RwLock<Vec<(u32, Arc<Group>)>>,
    plan: Mutex<Arc<Plan>>,
    /// Samples of groups that were taken away.
    ended: AtomicU64,
}

/// Which series to render in which order. Made anew when a series or a group comes or goes.
#[derive(Default)]
struct Plan {
    version: u64,
    groups: Vec<(Arc<Group>, usize)>,
    families: Vec<PlannedFamily>,
}

struct PlannedFamily {
    family: Arc<Family>,
    slots: Vec<Slot>,
    /// The prefixes of its series, one behind the other: read in order, they cost no waiting for memory, however many
    /// there are.
    prefixes: String,
}

struct Slot {
    series: Arc<Series>,
    /// The place of its value in a snapshot.
    value: usize,
    /// Where its prefix ends, and the next one begins.
    end: usize,
}

impl Registry {
    /// An empty registry that shows what `policy` says.
    pub fn new(policy: Policy) -> Registry {
        let registry = Registry::default();
        registry.set_policy(policy);
        registry
    }

    /// Adds a group. Groups are rendered in the order of `rank`, and a family stands where its first series does.
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
        groups.sort_by_key(|(rank, _)| *rank);
        self.families.changed();
        group
    }

    /// Takes a group and its series away.
    pub fn remove_group(&self, group: &Arc<Group>) {
        lock::write(&self.groups).retain(|(_, g)| !Arc::ptr_eq(g, group));
        if !group.is_own() {
            let samples = group.history().added().load(Ordering::Relaxed);
            self.ended.fetch_add(samples, Ordering::Relaxed);
        }
        group.leave();
        self.families.changed();
    }

    /// Changes which families are exported; the next snapshot sees it.
    pub fn set_policy(&self, policy: Policy) {
        self.families.set_policy(policy);
    }

    /// Another number whenever series or groups have come or gone.
    pub fn version(&self) -> u64 {
        self.families.version()
    }

    /// The families that `metrics:` can switch, with whether they are exported, by name.
    pub fn switchable(&self) -> Vec<(String, bool)> {
        self.families.switchable()
    }

    /// The registry as it stands: each group as one poll left it, stale ones absent.
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

    /// The groups of sources, in order.
    pub(super) fn measured(&self) -> Vec<Arc<Group>> {
        let groups = self.groups().into_iter();
        groups.filter(|group| !group.is_own()).collect()
    }

    /// How many samples the sources that have ended had in all.
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many samples of sources there were in all that were read before `since`, or are not there any more.
    pub fn samples_before(&self, since: BootTime) -> u64 {
        let groups = self.measured().into_iter();
        let before = groups.map(|group| group.history().cursor_since(since).samples());
        self.ended() + before.sum::<u64>()
    }

    /// Which family, of which series, comes after which. It has all series of all rows that were read before.
    pub fn layout(&self) -> Layout {
        Layout { plan: self.plan() }
    }

    fn plan(&self) -> Arc<Plan> {
        let version = self.version();
        let mut plan = lock::lock(&self.plan);
        if plan.version != version {
            let owner = self.families.board.owner();
            *plan = Arc::new(Plan::new(version, &lock::read(&self.groups), owner));
        }
        Arc::clone(&plan)
    }
}

impl Plan {
    fn new(version: u64, ranked: &[(u32, Arc<Group>)], owner: u64) -> Plan {
        let mut plan = Plan {
            version,
            ..Plan::default()
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
                    family if family.of_board => group.number() == owner,
                    family => !family.single || planned.slots.is_empty() && settled,
                };
                if is_shown {
                    planned.prefixes.push_str(&series.prefix);
                    planned.slots.push(Slot {
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

/// The order in which series are exported.
pub struct Layout {
    plan: Arc<Plan>,
}

impl Layout {
    /// The enabled families with their series: each series' group, and its place in the rows of that.
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
    plan: Arc<Plan>,
    values: Vec<f64>,
}

/// One family in a snapshot.
pub struct SnapshotFamily<'a> {
    /// The family.
    pub family: &'a Family,
    slots: &'a [Slot],
    prefixes: &'a str,
    values: &'a [f64],
}

impl Snapshot {
    /// The enabled families that have at least one value, in order.
    pub fn families(&self) -> impl Iterator<Item = SnapshotFamily<'_>> {
        self.all().filter(|view| view.family.is_enabled())
    }

    /// The same with those that are not enabled: what is not exported can be used all the same.
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
    /// The series that are there, with their values.
    pub fn samples(&self) -> impl Iterator<Item = (&'a Series, f64)> + 'a {
        let values = self.values;
        self.slots.iter().filter_map(move |slot| {
            let value = *values.get(slot.value)?;
            (!is_absent(value)).then_some((&*slot.series, value))
        })
    }

    /// The same for whoever writes lines: [`Series::prefix`] and value.
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
