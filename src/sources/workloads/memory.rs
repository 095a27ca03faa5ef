//! Memory by cgroup and of the board. It is read less often than CPU time, and takes no part in the attribution.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cgroups::Cgroups;
use super::counter::{Counter, LINE, STAT};
use super::ledger::OTHER;
use super::usage::{parse_meminfo, parse_memory_bytes};
use crate::metrics::{Desc, Group, Readings, SeriesId};
use crate::sources::io_log::files;
use crate::sources::{Board, Health};
use crate::sys::clock::BootTime;

/// How often memory is read, in seconds: each cgroup costs the opening of a file.
const INTERVAL: f64 = 15.0;
/// How often it is read where workloads begin.
const INTERVAL_OF_NEW: f64 = 5.0;

/// The last readings.
pub(super) struct Memory {
    health: Arc<Health>,
    /// Of the hierarchy with the controller `memory`.
    root: PathBuf,
    /// The name of the file in a cgroup's folder.
    file: &'static str,
    meminfo: PathBuf,
    read_at: Option<BootTime>,
    has_new: bool,
    /// By place, in bytes.
    by_place: Vec<Option<u64>>,
    /// Size and what is available, in bytes.
    board: Option<(u64, u64)>,
    series: Option<[SeriesId; 2]>,
}

impl Memory {
    /// The board's own memory is read if there is a group for it.
    pub(super) fn new(health: &Arc<Health>, board: &Board, group: Option<&Arc<Group>>) -> Memory {
        let top = board.roots.sysfs.join("fs/cgroup");
        let is_v2 = files::exists(&board.io_log, &top.join("cgroup.controllers"));
        let (root, file) = match is_v2 {
            true => (top, "memory.current"),
            false => (top.join("memory"), "memory.usage_in_bytes"),
        };
        Memory {
            health: Arc::clone(health),
            root,
            file,
            meminfo: board.roots.procfs.join("meminfo"),
            read_at: None,
            has_new: false,
            by_place: Vec::new(),
            board: None,
            series: group.map(|group| {
                let size = "Main memory of the board, in bytes.";
                let available =
                    "Main memory that new programs could have, as the kernel estimates it, in bytes.";
                [
                    group.series(&Desc::gauge("board_memory_size_bytes", size), &[]),
                    group.series(&Desc::gauge("board_memory_available_bytes", available), &[]),
                ]
            }),
        }
    }

    /// A workload has begun.
    pub(super) fn start(&mut self) {
        self.has_new = true;
    }

    /// Reads everything, if that is due.
    pub(super) fn poll(&mut self, at: BootTime, cgroups: Option<&Cgroups>) {
        let interval = match self.has_new {
            true => INTERVAL_OF_NEW,
            false => INTERVAL,
        };
        let last = self.read_at;
        if last.is_some_and(|last| at.seconds_since(last) < interval) {
            return;
        }
        self.read_at = Some(at);
        self.has_new = false;
        let meminfo = || self.meminfo.clone();
        if self.series.is_some() {
            let read = Counter::default().read::<STAT, _>(&self.health, meminfo, parse_meminfo);
            self.board = read.ok();
        }
        if let Some(cgroups) = cgroups {
            self.read_cgroups(cgroups);
        }
    }

    fn read_cgroups(&mut self, cgroups: &Cgroups) {
        let item = self.health.path_id(&self.root);
        if self.health.is_excluded(&self.root) {
            return;
        }
        self.health.begin_read(item);
        let whole: Vec<Option<u64>> = cgroups
            .places()
            .map(|(place, _, path)| place.and_then(|_| self.read(path)))
            .collect();
        self.health.end_read();
        self.by_place.clear();
        let parents: Vec<_> = cgroups.places().map(|(_, parent, _)| parent).collect();
        let mut own = whole.clone();
        for (i, bytes) in whole.iter().enumerate() {
            let Some(bytes) = bytes else {
                continue;
            };
            // What lies in a workload is not that one's.
            let mut above = i;
            while above > 0 {
                above = parents[above];
                if let Some(has) = &mut own[above] {
                    *has = has.saturating_sub(*bytes);
                    break;
                }
            }
        }
        for ((place, ..), bytes) in cgroups.places().zip(own) {
            // Those without a place have no series.
            let (Some(place), Some(bytes)) = (place.filter(|place| *place != OTHER), bytes) else {
                continue;
            };
            if self.by_place.len() <= place {
                self.by_place.resize(place + 1, None);
            }
            let sum = self.by_place[place].unwrap_or(0);
            self.by_place[place] = Some(sum.saturating_add(bytes));
        }
    }

    fn read(&self, cgroup: &Path) -> Option<u64> {
        let path = || self.root.join(cgroup).join(self.file);
        let read = Counter::default().read::<LINE, _>(&self.health, path, parse_memory_bytes);
        read.ok()
    }

    /// The workload at this place has ended.
    pub(super) fn end(&mut self, place: usize) {
        if let Some(bytes) = self.by_place.get_mut(place) {
            *bytes = None;
        }
    }

    /// What the workload at this place has, in bytes.
    pub(super) fn of(&self, place: usize) -> Option<u64> {
        self.by_place.get(place).copied().flatten()
    }

    /// Publishes the board's.
    pub(super) fn publish(&self, out: &mut Readings) {
        if let (Some([size, available]), Some(board)) = (self.series, self.board) {
            out.set(size, board.0 as f64);
            out.set(available, board.1 as f64);
        }
    }
}
