//! CPU time by process, from `/proc/PID/stat`: those of one name together. A process that began and ended between two polls is
//! `system`'s, as the kernel's threads are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cgroups::NAME_POLLS;
use super::counter::{is_gone, read_long, Counter, STAT};
use super::ledger::{OTHER, SYSTEM};
use super::name::{classify, Kind, Name, Origin, Program, Scope, Workload};
use super::names::Names;
use super::scheme::Value;
use super::slots::Slots;
use super::usage::{parse_busy, parse_cgroup, parse_process};
use crate::sources::io_log::files;
use crate::sources::{Error, Health};
use crate::sys::program::page_size;

/// At most this many processes are read, those of the lowest numbers. CPU time of the others is `system`'s.
const MAX_PROCESSES: usize = 8192;

/// The longest command line, in bytes. The rest is cut off.
const MAX_COMMAND_LINE: u64 = 1024;
/// The longest `/proc/PID/cgroup`, in bytes: a dozen hierarchies of version 1.
pub(super) const MAX_CGROUPS: u64 = 16 * 1024;
/// The longest path of a program, in bytes.
const MAX_PATH: usize = 256;

/// What is read of a process besides its name and its CPU time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Details {
    /// Its program, and the cgroup that it runs in. Without, all processes of one name are one workload; with it, those of one name,
    /// program and cgroup.
    pub is_wanted: bool,
    /// Its command line.
    pub cmdline: bool,
    /// Its memory.
    pub memory: bool,
}

/// The processes.
#[derive(Debug)]
pub(super) struct Processes {
    details: Details,
    names: Option<Names>,
    /// Whether a process whose container is unknown was found at this poll.
    finds_unknown: bool,
    /// Virtual and resident memory by place, in bytes.
    memory: Vec<[f64; 2]>,
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
    comm: String,
    workload: Workload,
    place: usize,
    started: u64,
    nanos: u64,
    /// When it was last seen.
    round: u64,
    /// The polls for which it has waited for the name of its container.
    waited: u8,
}

impl Processes {
    pub(super) fn new(health: &Arc<Health>, procfs: &Path, details: Details) -> Processes {
        Processes {
            details,
            names: None,
            finds_unknown: false,
            memory: Vec::new(),
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

    /// Learns names of containers and pods.
    pub(super) fn with_names(self, names: Option<Names>) -> Processes {
        Processes { names, ..self }
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
        let busy = self
            .stat
            .read::<STAT, _>(&self.health, || stat.clone(), parse_busy);
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
        self.memory.clear();
        self.learn_names(slots);
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
        if std::mem::take(&mut self.finds_unknown) {
            if let Some(names) = &mut self.names {
                names.ask();
            }
        }
        let round = self.round;
        self.known.retain(|_, process| {
            let is_there = process.round == round;
            if !is_there {
                slots.release(process.place);
            }
            is_there
        });
        super::leave_out_workloads(&self.health, slots, unnamed);
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
        let read = Counter::default().read::<STAT, _>(&self.health, path, |text| {
            let process = parse_process(text)?;
            let comm = String::from_utf8_lossy(process.comm).into_owned();
            let memory = [process.virtual_bytes, process.resident_pages];
            let is_kernel = process.is_kernel;
            Some((comm, is_kernel, process.nanos, process.started, memory))
        });
        let (comm, nanos, started, memory) = match read {
            Ok((comm, false, nanos, started, memory)) => (comm, nanos, started, memory),
            Err(error) if !is_gone(&error) => {
                // What it uses until it can be read again is counted then.
                if let Some(process) = self.known.get_mut(&number) {
                    process.round = self.round;
                }
                return 0;
            }
            _ => return 0,
        };
        let before = match self.known.remove(&number) {
            Some(before) if before.started == started && before.comm == comm => Some(before),
            Some(other) => {
                slots.release(other.place);
                // It has another name now, or it is another process.
                (other.started == started).then(|| Process {
                    place: OTHER,
                    workload: self.describe(number, pid, &comm),
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
        let (before, workload, mut waited) = match before {
            Some(before) => (before.place, before.workload, before.waited),
            None => (OTHER, self.describe(number, pid, &comm), 0),
        };
        let place = match before {
            OTHER if waited < NAME_POLLS && self.is_waited_for(&workload, is_new) => {
                waited += 1;
                OTHER
            }
            OTHER => slots.take(&workload, false).unwrap_or_else(|| {
                *unnamed += u64::from(is_new);
                OTHER
            }),
            place => place,
        };
        if used.len() <= place {
            used.resize(place + 1, 0);
        }
        used[place] = used[place].saturating_add(delta);
        if self.details.memory {
            self.add_memory(place, memory);
        }
        let process = Process {
            comm,
            workload,
            place,
            started,
            nanos,
            round: self.round,
            waited,
        };
        self.known.insert(number, process);
        delta
    }

    fn add_memory(&mut self, place: usize, [bytes, pages]: [Option<u64>; 2]) {
        if self.memory.len() <= place {
            self.memory.resize(place + 1, [f64::NAN; 2]);
        }
        let page = page_size().unwrap_or_default() as f64;
        let of_process = [
            bytes.map(|bytes| bytes as f64),
            pages.map(|pages| pages as f64 * page),
        ];
        for (sum, bytes) in self.memory[place].iter_mut().zip(of_process) {
            if let Some(bytes) = bytes {
                *sum = if sum.is_nan() { bytes } else { *sum + bytes };
            }
        }
    }

    /// Memory of all processes of a workload, in bytes.
    pub(super) fn memory(&self, place: usize, value: Value) -> Option<f64> {
        let [virtual_bytes, resident] = *self.memory.get(place)?;
        let bytes = match value {
            Value::VirtualMemory => virtual_bytes,
            _ => resident,
        };
        (!bytes.is_nan()).then_some(bytes)
    }

    /// The place of a process.
    pub(super) fn place_of(&self, pid: u32) -> usize {
        self.known.get(&pid).map_or(OTHER, |process| process.place)
    }

    /// The workload that a process is part of.
    fn describe(&self, number: u32, pid: &str, comm: &str) -> Workload {
        let mut workload = Workload::from(Name::new(Kind::Process, comm));
        if !self.details.is_wanted {
            return workload;
        }
        let folder = self.procfs.join(pid);
        let cgroup = read_long(&self.health, &folder.join("cgroup"), MAX_CGROUPS);
        let cgroup = cgroup
            .and_then(|text| parse_cgroup(&text))
            .unwrap_or_default();
        let container = container_of(&cgroup);
        let mut program = Program {
            pid: number,
            // A pod's container is known by its name alone.
            container: container
                .as_ref()
                .filter(|one| one.name.kind == Kind::Container)
                .map(|one| one.name.name.clone()),
            cgroup,
            ..Program::default()
        };
        // A recording has neither: what a link says is no file's content, and a command line may have passwords in it.
        if self.health.io_log().is_off() {
            let exe = std::fs::read_link(folder.join("exe")).ok();
            program.exe = exe.map(|path| path.to_string_lossy().chars().take(MAX_PATH).collect());
            if self.details.cmdline {
                program.cmdline = read_command_line(&folder.join("cmdline"));
            }
        }
        workload.origin = Origin {
            program: Some(Box::new(program)),
            ..container.map(|one| one.origin).unwrap_or_default()
        };
        self.add_names(&mut workload);
        workload
    }

    /// Takes over the names that are known of a process' container. Returns whether nothing more is to be learned.
    fn add_names(&self, workload: &mut Workload) -> bool {
        let Some(names) = self.names.as_ref().filter(|_| workload.has_id()) else {
            return true;
        };
        let kind = match workload.origin.pod_uid {
            Some(_) => Kind::Pod,
            None => Kind::Container,
        };
        let container = Workload {
            name: Name::new(kind, ""),
            origin: Origin {
                program: None,
                ..workload.origin.clone()
            },
        };
        let Some(found) = names.find(&container) else {
            return false;
        };
        let Workload { name, origin } = found.workload;
        if kind == Kind::Container {
            if let Some(program) = &mut workload.origin.program {
                program.container = Some(name.name.clone());
            }
        }
        workload.name = Name {
            kind: workload.name.kind,
            name: std::mem::take(&mut workload.name.name),
            ..name
        };
        workload.origin.runtime = origin.runtime.or(workload.origin.runtime);
        workload.origin.labels = origin.labels;
        found.is_whole
    }

    /// Whether the name of a process' container is due. One that is found now has it asked for.
    fn is_waited_for(&mut self, workload: &Workload, is_new: bool) -> bool {
        let is_known = self.add_names(&mut workload.clone());
        if is_known {
            return false;
        }
        self.finds_unknown |= is_new;
        is_new || self.names.as_ref().is_some_and(Names::is_due)
    }

    /// Takes over names that were learned since the last poll.
    fn learn_names(&mut self, slots: &mut Slots) {
        let Some(names) = &mut self.names else {
            return;
        };
        if !names.update() {
            return;
        }
        let mut known = std::mem::take(&mut self.known);
        let mut are_all_known = true;
        for process in known.values_mut() {
            let mut workload = process.workload.clone();
            are_all_known &= self.add_names(&mut workload);
            if workload != process.workload {
                let place = slots.rename(process.place, &workload, false);
                process.place = place.unwrap_or(OTHER);
                process.workload = workload;
            }
        }
        self.known = known;
        if let Some(names) = self.names.as_ref().filter(|_| are_all_known) {
            names.settle();
        }
    }

    /// Has all of them named anew, since there are more names than there is room for.
    pub(super) fn unname(&mut self, slots: &mut Slots) {
        for process in self.known.values_mut() {
            slots.release(process.place);
            process.place = OTHER;
        }
    }
}

/// The container or the pod that this cgroup is, or lies in.
fn container_of(cgroup: &str) -> Option<Workload> {
    let kinds = [Kind::Service, Kind::Container, Kind::Pod];
    let (mut scope, mut pod, mut found) = (Scope::ROOT, None, None);
    for part in cgroup.split('/').filter(|part| !part.is_empty()) {
        let (workload, inner) = classify(scope, pod.as_deref(), part, &kinds);
        scope = inner;
        if let Some(workload) = workload {
            pod = workload.origin.pod_uid.clone();
            if workload.name.kind != Kind::Service {
                found = Some(workload);
            }
        }
    }
    found
}

/// The words of a command line, separated by spaces.
fn read_command_line(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_COMMAND_LINE).read_to_end(&mut text).ok()?;
    let words = text
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    let line: String = words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    (!line.is_empty()).then_some(line)
}
