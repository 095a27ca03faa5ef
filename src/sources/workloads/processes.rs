//! CPU time by process, from `/proc/PID/stat`: those of one name together. A process that began and ended between two polls is
//! `system`'s, as the kernel's threads are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::counter::Counter;
use super::ledger::{OTHER, SYSTEM};
use super::name::{Kind, Name, Workload};
use super::slots::Slots;
use super::usage::{parse_busy, parse_process};
use crate::sources::io_log::files;
use crate::sources::{Error, Health};

/// At most this many processes are read, those of the lowest numbers. CPU time of the others is `system`'s.
const MAX_PROCESSES: usize = 8192;

/// The processes.
#[derive(Debug)]
pub(super) struct Processes {
    health: Arc<Health>,
    item: u32,
    procfs: PathBuf,
    stat: Counter,
    busy: Option<u64>,
    debt: u64,
    known: HashMap<u32, Process>,
    round: u64,
}

#[derive(Debug)]
struct Process {
    name: Workload,
    place: usize,
    started: u64,
    nanos: u64,
    /// When it was last seen.
    round: u64,
}

impl Processes {
    pub(super) fn new(health: &Arc<Health>, procfs: &Path) -> Processes {
        Processes {
            health: Arc::clone(health),
            item: health.path_id(procfs),
            procfs: procfs.to_path_buf(),
            stat: Counter::default(),
            busy: None,
            debt: 0,
            known: HashMap::new(),
            round: 0,
        }
    }

    /// What each place has used since the last poll, in nanoseconds; nothing at the first.
    pub(super) fn poll(&mut self, slots: &mut Slots, used: &mut Vec<u64>) -> Result<(), Error> {
        if self.health.is_excluded(&self.procfs) {
            return Err(Error::new(format!(
                "{} hangs and is left alone",
                self.procfs.display()
            )));
        }
        self.health.begin_read(self.item);
        let stat = self.procfs.join("stat");
        let busy = self.stat.read(&self.health, || stat.clone(), parse_busy);
        let busy = busy.map_err(|error| Error::cannot("read", &stat, &error))?;
        let is_number = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
        let listed = files::list(
            self.health.io_log(),
            &self.procfs,
            MAX_PROCESSES,
            &is_number,
        );
        let (names, beyond) =
            listed.map_err(|error| Error::cannot("list", &self.procfs, &error))?;
        self.health.left_out("processes", beyond, || {
            format!("there are more than {MAX_PROCESSES} processes: the CPU time of the rest is counted as system's")
        });
        used.clear();
        self.round += 1;
        let mut unnamed = 0;
        let mut sum = 0u64;
        let delta = self.busy.map_or(0, |before| busy.saturating_sub(before));
        self.busy = Some(busy);
        for pid in names {
            let Ok(number) = pid.parse() else {
                continue;
            };
            let used_here = self.process(number, &pid, delta, slots, used, &mut unnamed);
            sum = sum.saturating_add(used_here);
        }
        self.health.end_read();
        let round = self.round;
        self.known.retain(|_, process| {
            let is_there = process.round == round;
            if !is_there {
                slots.release(process.place);
            }
            is_there
        });
        super::leave_out_workloads(&self.health, unnamed);
        used.resize(slots.places(), 0);
        let owed = sum.saturating_add(self.debt);
        used[SYSTEM] = delta.saturating_sub(owed);
        self.debt = owed.saturating_sub(delta).min(super::cgroups::MAX_DEBT);
        Ok(())
    }

    /// Reads one process, and adds what it has used, which is returned. A new one has used `max` nanoseconds at most.
    fn process(
        &mut self,
        number: u32,
        pid: &str,
        max: u64,
        slots: &mut Slots,
        used: &mut Vec<u64>,
        unnamed: &mut u64,
    ) -> u64 {
        let path = || self.procfs.join(pid).join("stat");
        let read = Counter::default().read(&self.health, path, |text| {
            let process = parse_process(text)?;
            let comm = String::from_utf8_lossy(process.comm).into_owned();
            Some((comm, process.is_kernel, process.nanos, process.started))
        });
        let Ok((comm, false, nanos, started)) = read else {
            return 0;
        };
        let name = Workload::from(Name::new(Kind::Process, &comm));
        let before = self.known.remove(&number);
        let before = match before {
            Some(before) if before.started == started && before.name == name => Some(before),
            Some(other) => {
                slots.release(other.place);
                // It has another name now, or it is another process.
                (other.started == started).then(|| Process {
                    place: OTHER,
                    name: name.clone(),
                    ..other
                })
            }
            None => None,
        };
        let delta = match &before {
            Some(before) => nanos.saturating_sub(before.nanos),
            // A process that could not be read before may have used its time long ago.
            None => nanos.min(max),
        };
        let is_new = before.is_none();
        let place = match before.map_or(OTHER, |before| before.place) {
            OTHER => slots.take(&name).unwrap_or_else(|| {
                *unnamed += u64::from(is_new);
                OTHER
            }),
            place => place,
        };
        if used.len() <= place {
            used.resize(place + 1, 0);
        }
        used[place] = used[place].saturating_add(delta);
        let process = Process {
            name,
            place,
            started,
            nanos,
            round: self.round,
        };
        self.known.insert(number, process);
        delta
    }

    /// Has all of them named anew, since there are more names than there is room for.
    pub(super) fn unname(&mut self, slots: &mut Slots) {
        for process in self.known.values_mut() {
            slots.release(process.place);
            process.place = OTHER;
        }
    }
}
