//! CPU time by cgroup: the tree of those that are workloads and of the slices above them, each with its counter open.
//!
//! A cgroup's counter includes those below it, also those that are gone. So what a cgroup used itself is what it counted less what
//! those below it counted: what began and ended between two polls is still in the counter of the slice that it lay in.
//!
//! **New cgroups** are found by the number of links of each slice's folder, which is that of its subfolders and two: a slice is listed
//! anew when that changes, or when one of its cgroups is gone. (The kernel does not keep the time of a change for every folder of
//! cgroups.) Below workloads (a container that a service runs) new ones are looked for at a rescan only; until then they are part of
//! the service. A folder of a cgroup has some forty files: one without subfolders, as most services have it, is not listed at all.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::counter::{is_gone, Counter, LINE, STAT};
use super::ledger::{OTHER, SYSTEM};
use super::name::{classify, Kind, Scope, Workload};
use super::names::Names;
use super::slots::Slots;
use super::usage::{parse_busy, parse_cpu_stat, parse_cpuacct_usage};
use crate::sources::io_log::files;
use crate::sources::{Board, Error, Health};
use crate::sys::sort::sort;

/// At most this many cgroups are read. CPU time of the others is that of the cgroup that they lie in.
const MAX_CGROUPS: usize = 4096;
/// At most this many lie in workloads: whoever runs a service or is logged in can make any number there, as a user of systemd can in
/// `user@1000.service`. The rest is for what the system itself runs.
const MAX_NESTED: usize = MAX_CGROUPS / 2;
/// Containers are looked for in this many levels of folders below a workload.
const MAX_DEPTH: usize = 8;
/// At most this many folders below workloads are listed at one poll. A user may make any number of them.
const MAX_FOLDERS: usize = 4096;
/// Cgroups that are nested deeper are not read. The source's thread has a small stack, and a user may nest any number.
const MAX_NESTING: usize = 16;
/// So many polls a container or pod waits for its name, where somebody is being asked for it. Until then it has no series.
pub(super) const NAME_POLLS: u8 = 2;
/// The [`Node::unknown_polls`] of a cgroup that could not be read.
const UNREAD_POLLS: u8 = 2;
/// The greatest debt of a cgroup: 10 s of one processor. Counters are read one after the other, and count by different clocks.
pub(super) const MAX_DEBT: u64 = 10_000_000_000;
/// What a new cgroup may have used between the reading of what it lies in and its own, at each poll. More than that was used before
/// the last poll.
const MAX_UNCOUNTED: u64 = 100_000_000;
/// Prefixes of the files in a cgroup's folder.
const FILES: [&str; 13] = [
    "cgroup.", "cpu.", "cpuacct.", "cpuset.", "memory.", "io.", "pids.", "hugetlb.", "rdma.",
    "misc.", "irq.", "dmem.", "debug.",
];
/// Files of a cgroup's folder, v1.
const FILES_OF_V1: [&str; 3] = ["tasks", "notify_on_release", "release_agent"];
/// The links of a folder without subfolders: its own, and that of the folder that it lies in.
const LEAF_LINKS: u64 = 2;
/// Suffixes of systemd's units. None of these files has one.
const UNITS: [&str; 3] = [".service", ".scope", ".slice"];

/// Where the counters are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub root: PathBuf,
    is_v2: bool,
}

impl Hierarchy {
    /// Version 2, or the `cpuacct` controller of version 1. In a hybrid, version 2 has no controllers.
    pub(super) fn find(board: &Board) -> Result<Hierarchy, Error> {
        let top = board.roots.sysfs.join("fs/cgroup");
        let exists = |path: &Path| files::exists(&board.io_log, path);
        if exists(&top.join("cgroup.controllers")) {
            let root = top;
            return Ok(Hierarchy { root, is_v2: true });
        }
        let cpuacct = ["cpuacct", "cpu,cpuacct"].map(|name| top.join(name));
        let is_there = |root: &PathBuf| exists(&root.join("cpuacct.usage"));
        match cpuacct.into_iter().find(is_there) {
            Some(root) => Ok(Hierarchy { root, is_v2: false }),
            None => Err(Error::new(format!(
                "{} has neither cgroup.controllers (cgroup v2) nor cpuacct/cpuacct.usage (v1)",
                top.display()
            ))
            .hint("mount a cgroup hierarchy there")),
        }
    }

    /// Which version, for people.
    pub(super) fn version(&self) -> &'static str {
        match self.is_v2 {
            true => "cgroup v2",
            false => "cgroup v1 (cpuacct)",
        }
    }

    fn read(&self, health: &Health, folder: &Path, counter: &mut Counter) -> io::Result<u64> {
        match self.is_v2 {
            true => counter.read::<LINE, _>(health, || folder.join("cpu.stat"), parse_cpu_stat),
            false => counter.read::<LINE, _>(
                health,
                || folder.join("cpuacct.usage"),
                parse_cpuacct_usage,
            ),
        }
    }
}

/// One cgroup.
#[derive(Debug)]
struct Node {
    path: PathBuf,
    /// The index of the cgroup that it lies in, which comes before it. The root's is its own.
    parent: usize,
    scope: Scope,
    /// What it is by its path, if it is a workload.
    workload: Option<Workload>,
    /// The same with its name, once that is known.
    named: Option<Box<Workload>>,
    /// The polls for which it has waited for its name; `u8::MAX` once it has waited.
    waited: u8,
    /// The place in the ledgers that its CPU time is added to.
    place: usize,
    counter: Counter,
    /// What it had counted when it was last read, in nanoseconds.
    usage: u64,
    /// What it has counted since.
    delta: u64,
    /// For how many polls, this one included, it is unknown what it has counted: until there are two readings again.
    unknown_polls: u8,
    /// What those below it counted more than it did.
    debt: u64,
    /// What it had used when it was found, and is still to be counted: what it lies in is read before it, and had not used so much.
    uncounted: u64,
    /// Links of its folder when it was last listed; 0: it has to be listed again.
    links: u64,
    /// How many cgroups it lies in.
    depth: usize,
    /// Whether new workloads in it are looked for at each poll.
    is_watched: bool,
    /// Whether it lies in a workload.
    is_nested: bool,
    /// How many in its folder were left out when it was last listed.
    left_out: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Known,
    /// Found at this poll: what it has counted, it has since the last one.
    New,
    /// Found below a workload: it may have been there for long.
    NewBelow,
    Gone,
}

/// What is known to lie in the folders that are listed, by path, with its node's index.
type Known = RefCell<HashMap<PathBuf, usize>>;

/// The tree. The first node is the root, whose counter is `/proc/stat`.
#[derive(Debug)]
pub(super) struct Cgroups {
    health: Arc<Health>,
    item: u32,
    hierarchy: Hierarchy,
    kinds: Vec<Kind>,
    names: Option<Names>,
    stat: PathBuf,
    nodes: Vec<Node>,
    /// Indexes of the nodes whose folders are to be listed.
    stale: Vec<usize>,
    was_read: bool,
    rescans: bool,
    /// Folders below workloads that were listed at this poll.
    folders: usize,
    /// The number of nodes that lie in workloads.
    nested: usize,
    /// What was left out of the folder that is being listed.
    left_out: u64,
    /// Sums of what lies below each node.
    below: Vec<u64>,
}

impl Cgroups {
    pub(super) fn new(
        health: &Arc<Health>,
        hierarchy: Hierarchy,
        procfs: &Path,
        kinds: Vec<Kind>,
    ) -> Cgroups {
        let root = Node {
            path: hierarchy.root.clone(),
            parent: 0,
            scope: Scope::ROOT,
            workload: None,
            named: None,
            waited: 0,
            place: SYSTEM,
            counter: Counter::default(),
            usage: 0,
            delta: 0,
            unknown_polls: 0,
            debt: 0,
            uncounted: 0,
            links: 0,
            depth: 0,
            is_watched: true,
            is_nested: false,
            left_out: 0,
            state: State::Known,
        };
        Cgroups {
            health: Arc::clone(health),
            item: health.path_id(&hierarchy.root),
            hierarchy,
            kinds,
            names: None,
            stat: procfs.join("stat"),
            nodes: vec![root],
            stale: Vec::new(),
            was_read: false,
            rescans: false,
            folders: 0,
            nested: 0,
            left_out: 0,
            below: Vec::new(),
        }
    }

    /// Learns names of containers and pods.
    pub(super) fn with_names(self, names: Option<Names>) -> Cgroups {
        Cgroups { names, ..self }
    }

    /// Has new cgroups looked for below workloads, too, and in slices whose number of subfolders is the same as before.
    pub(super) fn rescan(&mut self) {
        self.rescans = true;
    }

    /// What each place has used since the last poll, in nanoseconds; nothing at the first.
    pub(super) fn poll(&mut self, slots: &mut Slots, used: &mut Vec<u64>) -> Result<(), Error> {
        if self.health.is_excluded(&self.hierarchy.root) {
            return Err(Error::new(format!(
                "{} hangs and is left alone",
                self.hierarchy.root.display()
            )));
        }
        self.health.begin_read(self.item);
        self.read_root()?;
        self.read_all();
        // A folder of 20,000 takes its time on a busy board, and a listing does not hang as a file may.
        self.health.end_read();
        self.find_new();
        self.drop_gone(slots);
        self.learn_names(slots);
        self.name_all(slots);
        used.clear();
        used.resize(slots.places(), 0);
        self.count(used);
        self.was_read = true;
        Ok(())
    }

    /// Has all workloads named anew, since there are more than there is room for.
    pub(super) fn unname(&mut self, slots: &mut Slots) {
        for node in self.nodes.iter_mut().filter(|node| node.workload.is_some()) {
            slots.release(node.place);
            node.place = OTHER;
        }
    }

    /// Of each cgroup: the place, if it is a workload; the index of the one that it lies in; its path below the root.
    pub(super) fn places(&self) -> impl Iterator<Item = (Option<usize>, usize, &Path)> {
        self.nodes.iter().map(|node| {
            let path = node.path.strip_prefix(&self.hierarchy.root);
            let place = node.workload.is_some().then_some(node.place);
            (place, node.parent, path.unwrap_or(&node.path))
        })
    }

    /// The place of a process that runs in this cgroup, a path below the hierarchy's root: that of the innermost known one.
    pub(super) fn place_of(&self, cgroup: &str) -> usize {
        let path = Path::new(cgroup.trim_start_matches('/'));
        // Relative to the root of another namespace.
        if path.components().any(|part| part == Component::ParentDir) {
            return OTHER;
        }
        let path = self.hierarchy.root.join(path);
        let around = self
            .nodes
            .iter()
            .filter(|node| path.starts_with(&node.path));
        let innermost = around.max_by_key(|node| node.depth);
        innermost.map_or(OTHER, |node| node.place)
    }

    fn read_root(&mut self) -> Result<(), Error> {
        let Cgroups {
            health,
            stat,
            nodes,
            was_read,
            ..
        } = self;
        let root = &mut nodes[0];
        let busy = root
            .counter
            .read::<STAT, _>(health, || stat.clone(), parse_busy);
        let busy = busy.map_err(|error| Error::cannot("read", stat, &error))?;
        root.delta = if *was_read {
            busy.saturating_sub(root.usage)
        } else {
            0
        };
        root.usage = busy;
        Ok(())
    }

    fn read_all(&mut self) {
        let rescans = std::mem::take(&mut self.rescans);
        let Cgroups {
            health,
            hierarchy,
            nodes,
            stale,
            ..
        } = self;
        for node in nodes.iter_mut().skip(1) {
            match hierarchy.read(health, &node.path, &mut node.counter) {
                Ok(usage) => {
                    // One that fell is another cgroup of the same name.
                    node.delta = usage.checked_sub(node.usage).unwrap_or(usage);
                    node.usage = usage;
                    node.unknown_polls = node.unknown_polls.saturating_sub(1);
                }
                Err(error) if is_gone(&error) => {
                    node.state = State::Gone;
                    stale.push(node.parent);
                }
                Err(_) => node.unknown_polls = UNREAD_POLLS,
            }
        }
        let is_live = health.io_log().is_off();
        for (i, node) in nodes.iter_mut().enumerate() {
            if !node.is_watched && (!rescans || node.scope == Scope::Closed) {
                continue;
            }
            let links = if is_live { links_of(&node.path) } else { 0 };
            let is_leaf = links == LEAF_LINKS;
            // Some file systems do not count. The number is the same where one that is no node has gone and one has come.
            if links < LEAF_LINKS || links != node.links || rescans && !is_leaf {
                node.links = links;
                stale.push(i);
            }
        }
    }

    /// Lists the folders that may have changed: adds what has come, and marks what has gone.
    fn find_new(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let mut stale = std::mem::take(&mut self.stale);
        sort(&mut stale);
        stale.dedup();
        self.folders = 0;
        // What lies in these folders as far as is known.
        let mut known = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate().skip(1) {
            if node.state != State::Gone && stale.binary_search(&node.parent).is_ok() {
                known.insert(node.path.clone(), i);
            }
        }
        let known = RefCell::new(known);
        stale.retain(|i| {
            let (path, scope) = (self.nodes[*i].path.clone(), self.nodes[*i].scope);
            let is_whole = self.list(*i, &path, scope, &known);
            // What was not found may be there. At the limit of folders, the next rescan lists them again.
            if !is_whole && self.folders < MAX_FOLDERS {
                self.nodes[*i].links = 0;
            }
            is_whole
        });
        // What is left was not found.
        for i in known.into_inner().into_values() {
            if stale.binary_search(&self.nodes[i].parent).is_ok() {
                self.nodes[i].state = State::Gone;
            }
        }
        stale.clear();
        self.stale = stale;
    }

    /// Lists a node's folder. False if it could not be listed now.
    fn list(&mut self, at: usize, path: &Path, scope: Scope, known: &Known) -> bool {
        let outer = std::mem::take(&mut self.left_out);
        let is_whole = self.list_folder(at, path, scope, 0, known);
        let count = std::mem::replace(&mut self.left_out, outer);
        // Each is counted once, not at each listing.
        let before = std::mem::replace(&mut self.nodes[at].left_out, count);
        self.health.left_out("cgroups", count.saturating_sub(before), || {
            format!(
                "there are more than {MAX_CGROUPS} cgroups, or more than {MAX_NESTED} in workloads, or some lie too deep (in {MAX_NESTING} \
                 others, or {MAX_DEPTH} folders below a workload), or workloads have more than {MAX_FOLDERS} folders: the CPU time of the \
                 rest is counted with what they lie in"
            )
        });
        is_whole
    }

    /// Adds what is new in a folder, and takes what is found out of `known`. False if the folder could not be listed now.
    fn list_folder(
        &mut self,
        at: usize,
        folder: &Path,
        scope: Scope,
        depth: usize,
        known: &Known,
    ) -> bool {
        // There are units such as `io.podman.service`.
        let is_unit = |name: &str| UNITS.iter().any(|end| name.ends_with(end));
        let is_file = |name: &str| {
            FILES.iter().any(|begin| name.starts_with(begin)) || FILES_OF_V1.contains(&name)
        };
        // Those that are left out are not sorted: there may be very many.
        let room = Cell::new(MAX_CGROUPS - self.nodes.len());
        let refused = Cell::new(0);
        let is_new = |name: &str| {
            let is_folder = is_unit(name) || !is_file(name);
            if !is_folder || known.borrow_mut().remove(&folder.join(name)).is_some() {
                return false;
            }
            match room.get().checked_sub(1) {
                Some(rest) => room.set(rest),
                None => refused.set(refused.get() + 1),
            }
            refused.get() == 0
        };
        let listed = files::list(self.health.io_log(), folder, usize::MAX, &is_new);
        let (names, beyond) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                log::debug!("{}", Error::cannot("list", folder, &error));
                return is_gone(&error);
            }
        };
        self.left_out += beyond + refused.get();
        let within = self.nodes[at].workload.as_ref();
        let pod = within.and_then(|pod| pod.origin.pod_uid.clone());
        let mut is_whole = true;
        for raw in names {
            let path = folder.join(&raw);
            match classify(scope, pod.as_deref(), &raw, &self.kinds) {
                (None, Scope::Closed) => {}
                (None, Scope::Part | Scope::Workload) if depth < MAX_DEPTH => {
                    if self.folders >= MAX_FOLDERS {
                        self.left_out += 1;
                        is_whole = false;
                        continue;
                    }
                    self.folders += 1;
                    is_whole &= self.list_folder(at, &path, Scope::Part, depth + 1, known);
                }
                (None, Scope::Part | Scope::Workload) => self.left_out += 1,
                (workload, inner) => self.add(at, path, workload, inner),
            }
        }
        is_whole
    }

    fn add(&mut self, parent: usize, path: PathBuf, workload: Option<Workload>, scope: Scope) {
        let above = &self.nodes[parent];
        let depth = above.depth + 1;
        let is_below = !above.is_watched;
        let is_watched = scope.is_watched();
        let is_nested = is_below || above.is_nested;
        let is_full = self.nodes.len() >= MAX_CGROUPS || is_nested && self.nested >= MAX_NESTED;
        if is_full || depth > MAX_NESTING {
            self.left_out += 1;
            return;
        }
        let mut counter = Counter::default();
        // A file of the folder is no cgroup; one that is gone already is in the counter of what it lay in.
        let Ok(usage) = self.hierarchy.read(&self.health, &path, &mut counter) else {
            return;
        };
        let at = self.nodes.len();
        let folder = (scope != Scope::Closed).then(|| path.clone());
        let is_live = self.health.io_log().is_off();
        let links = match folder.as_ref().filter(|_| is_live) {
            Some(folder) => links_of(folder),
            None => 0,
        };
        self.nested += usize::from(is_nested);
        self.nodes.push(Node {
            links,
            path,
            parent,
            scope,
            workload,
            named: None,
            waited: 0,
            place: OTHER,
            counter,
            usage,
            delta: 0,
            unknown_polls: 0,
            debt: 0,
            uncounted: 0,
            depth,
            is_watched,
            is_nested,
            left_out: 0,
            state: if is_below {
                State::NewBelow
            } else {
                State::New
            },
        });
        if let Some(folder) = folder.filter(|_| links != LEAF_LINKS) {
            if !self.list(at, &folder, scope, &Known::default()) {
                self.nodes[at].links = 0;
            }
        }
    }

    /// Takes out what is gone, with what lay in it.
    fn drop_gone(&mut self, slots: &mut Slots) {
        if self.nodes.iter().all(|node| node.state != State::Gone) {
            return;
        }
        let mut places = Vec::with_capacity(self.nodes.len());
        let mut kept = 0;
        for i in 0..self.nodes.len() {
            if self.nodes[self.nodes[i].parent].state == State::Gone {
                self.nodes[i].state = State::Gone;
            }
            places.push(kept);
            let node = &mut self.nodes[i];
            match node.state {
                State::Gone => {
                    if node.workload.is_some() {
                        slots.release(node.place);
                    }
                }
                _ => kept += 1,
            }
        }
        self.nodes.retain(|node| node.state != State::Gone);
        self.nested = self.nodes.iter().filter(|node| node.is_nested).count();
        for node in &mut self.nodes {
            node.parent = places[node.parent];
        }
    }

    /// Takes over the names that are known by now, and has those of new containers and pods asked for.
    fn learn_names(&mut self, slots: &mut Slots) {
        let Some(names) = &mut self.names else {
            return;
        };
        let has_news = names.update();
        let (mut is_unknown, mut is_new) = (false, false);
        for node in &mut self.nodes {
            let workload = node.workload.as_ref().filter(|one| one.has_id());
            let Some(workload) = workload.filter(|_| has_news || node.state != State::Known) else {
                continue;
            };
            let found = names.find(workload);
            let is_whole = found.as_ref().is_some_and(|found| found.is_whole);
            if !is_whole && node.named.is_none() {
                is_unknown = true;
                is_new |= node.state != State::Known;
            }
            // A name that was known stays, though its source may have forgotten it.
            let Some(found) = found.filter(|_| is_whole || node.named.is_none()) else {
                continue;
            };
            if node.named.as_deref() != Some(&found.workload) {
                let place = slots.rename(node.place, &found.workload, node.is_nested);
                node.place = place.unwrap_or(OTHER);
                node.named = Some(Box::new(found.workload));
            }
        }
        if is_new {
            names.ask();
        } else if has_news && !is_unknown {
            names.settle();
        }
    }

    /// Gives places to those workloads that have none, as far as there are.
    fn name_all(&mut self, slots: &mut Slots) {
        let is_due = self.names.as_ref().is_some_and(Names::is_due);
        let mut unnamed = 0;
        for node in &mut self.nodes {
            let is_hidden = slots.is_hidden(node.place);
            // One that found no room is not asked about again while there is none.
            let is_refused = node.waited == u8::MAX && node.named.is_none();
            if node.place != OTHER && !is_hidden || is_refused && !slots.have_room() {
                continue;
            }
            let Some(workload) = node.named.as_deref().or(node.workload.as_ref()) else {
                continue;
            };
            let is_nameless = node.named.is_none() && workload.has_id();
            let waits = is_due && node.waited < NAME_POLLS && is_nameless;
            let place = match (waits, is_hidden) {
                (true, true) => Some(node.place),
                (true, false) => slots.hide(node.is_nested),
                (false, true) => Some(slots.reveal(node.place, workload, node.is_nested)),
                (false, false) => slots.take(workload, node.is_nested),
            };
            match place {
                Some(place) => node.place = place,
                // Each is counted once.
                None => unnamed += u64::from(node.waited < u8::MAX),
            }
            node.waited = match place {
                Some(_) if waits => node.waited + 1,
                _ => u8::MAX,
            };
        }
        super::leave_out_workloads(&self.health, slots, unnamed);
    }

    /// What each place has used itself.
    fn count(&mut self, used: &mut [u64]) {
        let below = &mut self.below;
        below.clear();
        below.resize(self.nodes.len(), 0);
        // Those below a cgroup come after it.
        for (i, node) in self.nodes.iter_mut().enumerate().skip(1).rev() {
            if node.unknown_polls > 0 {
                // What it used itself is in the counter of what it lies in, and stays there.
                node.delta = below[i];
            }
            if node.state == State::Known {
                below[node.parent] = below[node.parent].saturating_add(node.delta);
            }
        }
        for i in 1..self.nodes.len() {
            let parent = self.nodes[i].parent;
            let parents = self.nodes[parent].delta;
            let node = &mut self.nodes[i];
            if node.state == State::Known && node.uncounted == 0 {
                continue;
            }
            // What is new has used no more than what it lies in has room for. As long as it runs, what it lies in is behind.
            let room = parents.saturating_sub(below[parent]);
            let counted = match node.state {
                State::Known => {
                    let counted = node.uncounted.min(room);
                    let rest = node.uncounted - counted;
                    node.uncounted = if rest > MAX_UNCOUNTED { 0 } else { rest };
                    counted
                }
                State::New if self.was_read => {
                    let counted = node.usage.min(room);
                    node.uncounted = node.usage - counted;
                    counted
                }
                _ => 0,
            };
            node.delta = match node.state {
                State::Known => node.delta.saturating_add(counted),
                _ => counted,
            };
            node.state = State::Known;
            below[parent] = below[parent].saturating_add(counted);
        }
        for (node, below) in self.nodes.iter_mut().zip(below) {
            let owed = below.saturating_add(node.debt);
            let own = node.delta.saturating_sub(owed);
            node.debt = owed.saturating_sub(node.delta).min(MAX_DEBT);
            if let Some(place) = used.get_mut(node.place) {
                *place = place.saturating_add(own);
            }
        }
    }
}

/// The links of a folder; 0 if they are not known.
fn links_of(folder: &Path) -> u64 {
    std::fs::metadata(folder).map_or(0, |metadata| metadata.nlink())
}

#[cfg(test)]
#[path = "cgroups_tests.rs"]
mod tests;
