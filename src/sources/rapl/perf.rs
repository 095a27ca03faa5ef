//! RAPL counters as performance events of the kernel (perf_event_open(2); arch/x86/events/rapl.c of Linux).
//!
//! The PMU `power` has an event for each domain of a package or die, `power_core` (AMD, since Linux 6.14) one for each core.
//! The file `cpumask` lists one processor for each of these; reading an event of that processor reads the register. The
//! kernel adds the counters up into 64 bits, all in the unit of the event's file `.scale`. A count begins at 0 when the event
//! is opened. When the processor goes offline, the kernel moves the event to another one of the same package; when that was
//! the last, the event stands still, and so does the time during which it counted.
//!
//! The kernel wants CAP_PERFMON (before Linux 5.8 CAP_SYS_ADMIN) from whoever counts what a processor does for everybody,
//! unless `kernel.perf_event_paranoid` is 0 or less (`perf_allow_cpu`). File permissions do not matter.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counter::{Counter, ReadState, Sum};
use super::domain::{rail_in, DomainKind, FoundDomain};
use super::event_source::{parse_cpu_list, parse_event, parse_scale, parse_type};
use super::processor::{Processor, Vendor};
use super::topology::{self, Package};
use crate::sources::io_log::{files, Failure};
use crate::sources::{read_text, Board, Error, Health};
use crate::sys::perf::PerfEvent;

/// The PMUs, and whether each counts by core.
const PMUS: [(&str, bool); 2] = [("power", false), ("power_core", true)];

const EVENTS: [(&str, DomainKind); 6] = [
    ("energy-pkg", DomainKind::Package),
    ("energy-cores", DomainKind::Core),
    ("energy-core", DomainKind::Core),
    ("energy-gpu", DomainKind::Uncore),
    ("energy-ram", DomainKind::Dram),
    ("energy-psys", DomainKind::Psys),
];

/// The pause before an event that ended is opened again.
const REOPEN_DELAY: Duration = Duration::from_secs(5);

/// A PMU with events that count energy.
struct Pmu {
    kind: u32,
    by_core: bool,
    events: Vec<Event>,
    /// The packages that it counts, with the processors of its `cpumask` in each.
    packages: Vec<Package>,
}

/// An event of a PMU.
struct Event {
    domain: DomainKind,
    path: PathBuf,
    config: u64,
    /// The joules that one count is.
    joules: f64,
}

/// Describes the events that there are, without opening one.
pub(super) fn probe(board: &Board, health: &Arc<Health>) -> Result<String, Error> {
    let (pmus, errors) = pmus(board, health)?;
    let rails = pmus.iter().flat_map(Pmu::domains);
    let rails: Vec<String> = rails.map(|(_, _, rail)| rail).collect();
    let mut description = format!("{} by perf events", rails.join(", "));
    for error in errors {
        description += &format!("; left out: {error}");
    }
    Ok(description)
}

/// Opens the events of all domains. An error if none can be opened.
pub(super) fn find(board: &Board, health: &Arc<Health>) -> Result<Vec<FoundDomain>, Error> {
    let mut found: Vec<FoundDomain> = Vec::new();
    let (pmus, mut errors) = pmus(board, health)?;
    for pmu in pmus {
        for (event, package, rail) in pmu.domains() {
            match open(&pmu, event, package, health) {
                Ok(counter) => found.push(FoundDomain {
                    kind: event.domain,
                    rail,
                    place: format!("{} {:?}", event.path.display(), package.cores),
                    range: 0,
                    joules: event.joules,
                    counter,
                }),
                Err(error) => errors.push(explain(error, board, health)),
            }
        }
    }
    if found.is_empty() {
        let none = || Error::new("no event counts energy");
        return Err(errors.into_iter().next().unwrap_or_else(none));
    }
    for error in errors {
        health.count_error();
        log::warn!("{error}");
    }
    Ok(found)
}

/// The PMUs that can be counted by, and why others cannot. An error if there is none.
fn pmus(board: &Board, health: &Arc<Health>) -> Result<(Vec<Pmu>, Vec<Error>), Error> {
    let devices = board.roots.sysfs.join("bus/event_source/devices");
    // AMD's registers are those of a package, Intel's those of a die (from Linux 6.9 to 6.11 `cpumask` has a processor of
    // each of AMD's dies, which would count the package several times).
    let cpuinfo = read_text(health, &board.roots.procfs.join("cpuinfo"));
    let processor = cpuinfo.ok().and_then(|text| Processor::parse(&text));
    let by_die = processor.is_some_and(|processor| processor.vendor == Vendor::Intel);
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for (name, by_core) in PMUS {
        let dir = devices.join(name);
        if !files::exists(health.io_log(), &dir) {
            continue;
        }
        match describe(&dir, by_core, by_die, board, health) {
            Ok(pmu) => found.push(pmu),
            Err(error) => errors.push(error),
        }
    }
    if found.is_empty() {
        let none = || Error::new(format!("{} has no power", devices.display()));
        return Err(errors.into_iter().next().unwrap_or_else(none));
    }
    Ok((found, errors))
}

fn describe(
    dir: &Path,
    by_core: bool,
    by_die: bool,
    board: &Board,
    health: &Arc<Health>,
) -> Result<Pmu, Error> {
    let kind = parsed(health, &dir.join("type"), "the number of a PMU", parse_type)?;
    let what = "a list of processors";
    let cpus = parsed(health, &dir.join("cpumask"), what, parse_cpu_list)?;
    let mut packages = topology::packages_of(health, &board.roots.sysfs, &cpus, by_die)?;
    if !by_core {
        packages.iter_mut().for_each(|one| one.cores.truncate(1));
    }
    let mut events = Vec::new();
    for (name, domain) in EVENTS {
        let path = dir.join("events").join(name);
        if !files::exists(health.io_log(), &path) {
            continue;
        }
        let beside = |suffix| dir.join("events").join(format!("{name}{suffix}"));
        let unit = |text: &str| (text.trim() == "Joules").then_some(());
        parsed(health, &beside(".unit"), "Joules", unit)?;
        let joules = parsed(health, &beside(".scale"), "a scale", parse_scale)?;
        let config = parsed(health, &path, "an event", parse_event)?;
        events.push(Event {
            domain,
            path,
            config,
            joules,
        });
    }
    if events.is_empty() {
        let dir = dir.display();
        return Err(Error::new(format!("{dir} has no event that counts energy")));
    }
    Ok(Pmu {
        kind,
        by_core,
        events,
        packages,
    })
}

/// The content of a file that the kernel describes a PMU by.
fn parsed<T>(
    health: &Arc<Health>,
    path: &Path,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Error> {
    let text = read_text(health, path)?;
    parse(&text).ok_or_else(|| {
        let text: String = text.chars().take(64).collect();
        Error::new(format!("{} is not {what} but {text:?}", path.display()))
    })
}

impl Pmu {
    /// The events of all packages, with their rails. The kernel offers the platform's counter where the first package has
    /// one; those of the others read 0.
    fn domains(&self) -> impl Iterator<Item = (&Event, &Package, String)> {
        let numbered = self.packages.iter().enumerate();
        numbered.flat_map(move |(number, package)| {
            let events = self.events.iter();
            let counts = move |event: &&Event| number == 0 || event.domain != DomainKind::Psys;
            events
                .filter(counts)
                .map(move |event| (event, package, rail_in(event.domain, &package.name)))
        })
    }
}

fn open(
    pmu: &Pmu,
    event: &Event,
    package: &Package,
    health: &Arc<Health>,
) -> Result<Counter, Error> {
    let open = |cpu: &u32| {
        let mut counter = EventCounter::new(health, &event.path, pmu.kind, event.config, *cpu);
        counter.open().map(|()| Counter::Event(counter))
    };
    let counters = package.cores.iter().map(open);
    let mut counters = counters.collect::<Result<Vec<_>, Error>>()?;
    match counters.pop() {
        Some(only) if !pmu.by_core => Ok(only),
        last => {
            counters.extend(last);
            Ok(Counter::Sum(Sum::new(counters, 0)))
        }
    }
}

/// Adds what would help.
fn explain(error: Error, board: &Board, health: &Arc<Health>) -> Error {
    match error.errno() {
        Some(nix::libc::EACCES) => {
            let path = board.roots.procfs.join("sys/kernel/perf_event_paranoid");
            let level = read_text(health, &path).unwrap_or_default();
            match level.parse::<i32>() {
                Ok(..=0) => error.hint("a security module, such as SELinux, forbids it"),
                _ => error.hint(format!(
                    "needs CAP_PERFMON while kernel.perf_event_paranoid is above 0 (it is {}): `setcap cap_perfmon+ep` on the \
                     program, or the service's drop-in perf.conf",
                    if level.is_empty() { "unknown" } else { &level }
                )),
            }
        }
        Some(nix::libc::EPERM) => error.hint(
            "needs CAP_PERFMON, and a filter of system calls that lets perf_event_open through: the service's drop-in \
             perf.conf, or `--cap-add PERFMON` for a container",
        ),
        Some(nix::libc::ENOSYS) => error.hint("this kernel has no performance events"),
        Some(nix::libc::ENODEV) => error.hint("the processor is offline"),
        Some(nix::libc::ENOENT) => error.hint("the kernel does not know the PMU or the event"),
        _ => error,
    }
}

/// An event on one processor.
#[derive(Debug)]
pub(super) struct EventCounter {
    /// The event's file, and the processor: the name in messages.
    name: PathBuf,
    path: PathBuf,
    kind: u32,
    config: u64,
    cpu: u32,
    /// `None` when replaying, or after it ended.
    event: Option<PerfEvent>,
    reopen_at: Option<Instant>,
    /// The time during which it had counted at the last reading, in nanoseconds.
    running: u64,
    /// The key in the I/O log, if there is one.
    key: Option<String>,
    health: Arc<Health>,
    /// Its index in the health's list of items.
    item: u32,
    state: ReadState,
}

impl EventCounter {
    fn new(health: &Arc<Health>, path: &Path, kind: u32, config: u64, cpu: u32) -> EventCounter {
        let name = PathBuf::from(format!("{} on CPU {cpu}", path.display()));
        let key = files::key(health.io_log(), path);
        EventCounter {
            state: ReadState::new(health, &name),
            item: health.path_id(&name),
            name,
            path: path.to_path_buf(),
            kind,
            config,
            cpu,
            event: None,
            reopen_at: None,
            running: 0,
            key: key.map(|key| format!("{key} cpu{cpu}")),
            health: Arc::clone(health),
        }
    }

    fn open(&mut self) -> Result<(), Error> {
        if self.health.is_excluded(&self.name) {
            let name = self.name.display();
            return Err(Error::new(format!("{name} hangs and is left alone")));
        }
        self.health.begin_read(self.item);
        let (kind, config, cpu) = (self.kind, self.config, self.cpu);
        let mut opened = None;
        let result = files::open(self.health.io_log(), &self.path, || {
            opened = Some(PerfEvent::open(kind, config, cpu)?);
            Ok(())
        });
        (self.event, self.running) = (opened, 0);
        result.map_err(|error| Error::cannot("count", &self.name, &error))
    }

    #[inline]
    pub(super) fn read(&mut self) -> Option<u64> {
        self.health.begin_read(self.item);
        let read = match self.key {
            None => self.count(),
            Some(_) => self.count_by_io_log(),
        };
        let read = read.map_err(|error| self.lost(&error));
        self.state.value(read)
    }

    /// The event's count. `ENODATA`: it does not count, since its processor is offline.
    #[inline]
    fn count(&mut self) -> io::Result<u64> {
        let Some(event) = &self.event else {
            return self.count_again();
        };
        let count = event.read()?;
        if count.running == self.running {
            return Err(io::Error::from_raw_os_error(nix::libc::ENODATA));
        }
        self.running = count.running;
        Ok(count.value)
    }

    /// Opens the event that ended again. What it counted meanwhile is not known.
    #[cold]
    fn count_again(&mut self) -> io::Result<u64> {
        let ended = io::Error::from_raw_os_error(nix::libc::ENODEV);
        if self.reopen_at.is_some_and(|at| Instant::now() < at) {
            return Err(ended);
        }
        self.reopen_at = Some(Instant::now() + REOPEN_DELAY);
        self.event = Some(PerfEvent::open(self.kind, self.config, self.cpu)?);
        self.running = 0;
        self.count()
    }

    #[cold]
    fn lost(&mut self, error: &io::Error) -> Error {
        let error = Error::cannot("count", &self.name, error);
        // An event that stands still counts on when its processor is back.
        if error.errno() == Some(nix::libc::ENODATA) {
            return error.hint("it does not count while its processors are offline");
        }
        // Not at each poll until then: the delay would never end.
        if self.event.take().is_some() {
            self.reopen_at = Some(Instant::now() + REOPEN_DELAY);
        }
        error
    }

    #[cold]
    fn count_by_io_log(&mut self) -> io::Result<u64> {
        let key = self.key.clone().unwrap_or_default();
        let health = Arc::clone(&self.health);
        let answer = health.io_log().record_or_replay(&key, || {
            let count = self.count().map_err(|error| Failure::from(&error))?;
            Ok(count.to_string().into_bytes())
        });
        let text = answer.map_err(|failure| failure.to_io_error())?;
        let text = std::str::from_utf8(&text).ok();
        text.and_then(|digits| digits.parse().ok())
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_that_ended_is_opened_again_after_the_delay_however_often_it_is_polled() {
        let health = Arc::new(Health::default());
        // No PMU has this number.
        let mut counter = EventCounter::new(&health, Path::new("/events/energy"), u32::MAX, 0, 0);
        assert_eq!(counter.read(), None);
        let at = counter.reopen_at.unwrap();
        for _ in 0..3 {
            assert_eq!(counter.read(), None);
            assert_eq!(counter.reopen_at, Some(at), "a poll does not put it off");
        }
        counter.reopen_at = Some(Instant::now());
        assert_eq!(counter.read(), None);
        assert!(counter.reopen_at > Some(at), "it was tried again");
    }
}
