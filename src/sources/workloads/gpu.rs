//! Who uses the GPUs: the processes that nvidia-smi tells of, by the workloads that they are part of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cgroups::Cgroups;
use super::counter::read_long;
use super::domain::Domain;
use super::host::LeftOut;
use super::ledger::OTHER;
use super::processes::MAX_CGROUPS;
use super::usage::parse_cgroup;
use super::Reader as Workloads;
use crate::sources::nvidia::processes::{GpuProcesses, Reader};
use crate::sources::Health;
use crate::sys::clock::BootTime;

/// At most so many GPUs are domains.
const MAX_GPUS: usize = 16;
/// At most so many workloads have series in the domains of GPUs, those of each GPU counted by themselves.
pub(super) const MAX_USERS: usize = 256;

/// What is known of the GPUs' use.
#[derive(Debug)]
pub(super) struct Gpus {
    health: Arc<Health>,
    procfs: PathBuf,
    item: u32,
    reader: Option<Reader>,
    /// The cgroups of the processes that were seen at the last poll: what a process used last is known after its end.
    known: HashMap<u32, String>,
    seen: HashMap<u32, String>,
    /// The places of cgroups at this poll.
    places: HashMap<String, usize>,
    /// What each place has used of one GPU, in nanoseconds.
    used: Vec<u64>,
    gpus_left_out: LeftOut,
    users_left_out: LeftOut,
}

impl Gpus {
    pub(super) fn new(health: &Arc<Health>, procfs: &Path) -> Gpus {
        Gpus {
            health: Arc::clone(health),
            procfs: procfs.to_path_buf(),
            item: health.path_id(procfs),
            reader: None,
            known: HashMap::new(),
            seen: HashMap::new(),
            places: HashMap::new(),
            used: Vec::new(),
            gpus_left_out: LeftOut::default(),
            users_left_out: LeftOut::default(),
        }
    }

    /// Takes out GPUs beyond the limit.
    pub(super) fn limit(&mut self, domains: &mut Vec<Domain>) {
        let mut count = 0;
        domains.retain(|domain| {
            count += usize::from(domain.gpu.is_some());
            domain.gpu.is_none() || count <= MAX_GPUS
        });
        let beyond = count.saturating_sub(MAX_GPUS) as u64;
        self.gpus_left_out.raise(&self.health, "gpus", beyond, || {
            format!("there are more than {MAX_GPUS} GPUs: energy of the rest is not attributed")
        });
    }

    /// So many workloads have no series of a GPU that they use.
    pub(super) fn refuse_users(&mut self, count: u64) {
        self.users_left_out.raise(&self.health, "gpu_users", count, || {
            format!(
                "more than {MAX_USERS} workloads use GPUs, or there is no room for their series: energy of the rest is \
                 counted as other's"
            )
        });
    }

    /// A poll begins.
    pub(super) fn begin(&mut self) {
        self.known = std::mem::take(&mut self.seen);
        self.places.clear();
    }

    /// What each place has used of the GPU that this domain is, since it was last asked so many seconds ago, and whether there are
    /// processes of which that is not available. Nothing: it is not known whose it was.
    pub(super) fn used(
        &mut self,
        domain: &Domain,
        workloads: &Workloads,
        now: BootTime,
        seconds: f64,
    ) -> (&mut Vec<u64>, bool) {
        self.used.clear();
        let Some((gpu, processes)) = domain.gpu.zip(domain.provided::<GpuProcesses>()) else {
            return (&mut self.used, false);
        };
        // The meter may have been started anew.
        if !self
            .reader
            .as_ref()
            .is_some_and(|reader| reader.is_of(&processes))
        {
            self.reader = Some(processes.reader());
        }
        let Some(mut reader) = self.reader.take() else {
            return (&mut self.used, false);
        };
        let told = reader.take(gpu, now);
        let is_partial = told.is_partial;
        // What is told covers seconds of its own: between two polls it may be told twice, or not at all.
        let scale = match told.seconds > 0.0 {
            true => seconds / told.seconds,
            false => 0.0,
        };
        self.health.begin_read(self.item);
        for (pid, nanos) in &told.uses {
            let (pid, nanos) = (*pid, (*nanos as f64 * scale) as u64);
            let place = match (pid, workloads) {
                (None, _) => OTHER,
                (Some(pid), Workloads::Processes(processes)) => processes.place_of(pid),
                (Some(pid), Workloads::Cgroups(cgroups)) => self.place_of(pid, cgroups),
            };
            if self.used.len() <= place {
                self.used.resize(place + 1, 0);
            }
            self.used[place] = self.used[place].saturating_add(nanos);
        }
        self.health.end_read();
        self.reader = Some(reader);
        (&mut self.used, is_partial)
    }

    /// The place of a process by the cgroup that it runs in. One that is gone has that in which it was last seen.
    fn place_of(&mut self, pid: u32, cgroups: &Cgroups) -> usize {
        self.health.continue_read();
        let path = self.procfs.join(pid.to_string()).join("cgroup");
        let text = read_long(&self.health, &path, MAX_CGROUPS);
        let cgroup = text.and_then(|text| parse_cgroup(&text));
        let Some(cgroup) = cgroup.or_else(|| self.known.get(&pid).cloned()) else {
            return OTHER;
        };
        let place = match self.places.get(&cgroup) {
            Some(place) => *place,
            None => {
                let place = cgroups.place_of(&cgroup);
                self.places.insert(cgroup.clone(), place);
                place
            }
        };
        self.seen.insert(pid, cgroup);
        place
    }
}

#[cfg(test)]
#[path = "gpu_tests.rs"]
mod tests;
