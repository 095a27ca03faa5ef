//! RAPL counters from model-specific registers, through `/dev/cpu/N/msr` (msr(4)): eight bytes at the register's number.
//!
//! Needs the kernel module `msr`, and root or CAP_SYS_RAWIO. On AMD's processors every poll wakes every core, since
//! each counts for itself.

use std::path::Path;
use std::sync::Arc;

use super::domain::{identify, Counter, DomainKind, FoundDomain};
use super::processor::{Processor, Vendor};
use super::registers::{msr_path, MsrDevice, COUNTER_MASK, MISSING_HINT};
use super::topology::{self, Package};
use crate::metrics::CounterUnwrap;
use crate::sources::io_log::files;
use crate::sources::{read_text, Board, Error, Health};
use crate::sys::clock::BootTime;

// Intel SDM vol. 4.
const INTEL_UNIT: u32 = 0x606;
const INTEL_DOMAINS: [(DomainKind, u32); 5] = [
    (DomainKind::Package, 0x611),
    (DomainKind::Core, 0x639),
    (DomainKind::Uncore, 0x641),
    (DomainKind::Dram, 0x619),
    (DomainKind::Psys, 0x64d),
];
// AMD PPR for family 17h.
const AMD_UNIT: u32 = 0xc001_0299;
const AMD_CORE: u32 = 0xc001_029a;
const AMD_PACKAGE: u32 = 0xc001_029b;

const RANGE: u64 = COUNTER_MASK + 1;

/// Whether reading a counter fails: changes are logged, failures counted.
#[derive(Debug, Default)]
struct ReadState {
    failing: bool,
}

impl ReadState {
    #[inline]
    fn value(&mut self, device: &MsrDevice, read: Result<u64, Error>) -> Option<u64> {
        match read {
            Ok(value) => {
                if self.failing {
                    self.failing = false;
                    log::info!("{} can be read again", device.path.display());
                }
                Some(value & COUNTER_MASK)
            }
            Err(error) => {
                device.health.count_error();
                if !self.failing {
                    self.failing = true;
                    log::warn!("{error}");
                }
                None
            }
        }
    }
}

/// A counter of one package.
#[derive(Debug)]
pub(super) struct Register {
    device: Arc<MsrDevice>,
    number: u32,
    state: ReadState,
}

impl Register {
    #[inline]
    pub(super) fn read(&mut self) -> Option<u64> {
        let read = self.device.read(self.number);
        self.state.value(&self.device, read)
    }
}

/// The sum of the counters of all cores, which does not wrap.
#[derive(Debug)]
pub(super) struct Cores {
    number: u32,
    cores: Vec<(Arc<MsrDevice>, ReadState, CounterUnwrap)>,
    total: u64,
    read_at: Option<BootTime>,
}

impl Cores {
    /// The sum; `None` if a core cannot be read. What that core counts meanwhile is added when it can be read again.
    pub(super) fn read(&mut self, at: BootTime, max_gap: f64) -> Option<u64> {
        let then = self.read_at.replace(at);
        let silent = then.is_some_and(|then| at.seconds_since(then) > max_gap);
        let (mut complete, mut reset) = (true, false);
        for (device, state, counter) in &mut self.cores {
            let Some(raw) = state.value(device, device.read(self.number)) else {
                complete = false;
                continue;
            };
            let counted = match silent {
                true => counter.advance_after_silence(raw),
                false => counter.advance(raw),
            };
            self.total += counted.unwrap_or(0);
            reset |= silent && counted.is_none();
        }
        if reset {
            // A sum that falls makes the caller treat it as reset, since a part of it is unknown.
            self.total = 0;
        }
        complete.then_some(self.total)
    }
}

/// Describes the registers that there are, without reading them.
pub(super) fn probe(
    board: &Board,
    health: &Arc<Health>,
    is_configured: bool,
) -> Result<String, Error> {
    let (processor, packages) = detect(board, health)?;
    // In virtual machines with access to the registers, they read 0.
    if processor.is_virtual && !is_configured {
        return Err(Error::new("a virtual machine has no RAPL registers"));
    }
    for lead in packages.iter().filter_map(|package| package.cores.first()) {
        let path = msr_path(&board.roots.dev, *lead);
        if !files::exists(&board.io_log, &path) {
            let path = path.display();
            return Err(Error::new(format!("{path} is not there")).hint(MISSING_HINT));
        }
    }
    let names: Vec<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    Ok(format!("{} by MSR", names.join(", ")))
}

/// Finds the counters of all packages.
pub(super) fn find(board: &Board, health: &Arc<Health>) -> Result<Vec<FoundDomain>, Error> {
    let (processor, packages) = detect(board, health)?;
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for package in &packages {
        let dev = &board.roots.dev;
        errors.extend(find_in(&processor, package, dev, health, &mut found).err());
    }
    if found.is_empty() {
        let none = || Error::new("none of the RAPL registers counts");
        return Err(errors.into_iter().next().unwrap_or_else(none));
    }
    for error in errors {
        health.count_error();
        log::warn!("{error}");
    }
    Ok(found)
}

fn detect(board: &Board, health: &Arc<Health>) -> Result<(Processor, Vec<Package>), Error> {
    let cpuinfo = read_text(health, &board.roots.procfs.join("cpuinfo"))?;
    let processor = Processor::parse(&cpuinfo)
        .ok_or_else(|| Error::new("this processor has no RAPL registers that are known"))?;
    let by_die = processor.vendor == Vendor::Intel;
    let packages = topology::packages(health, &board.roots.sysfs, by_die)?;
    Ok((processor, packages))
}

fn find_in(
    processor: &Processor,
    package: &Package,
    dev: &Path,
    health: &Arc<Health>,
    found: &mut Vec<FoundDomain>,
) -> Result<(), Error> {
    let Some(lead) = package.cores.first() else {
        return Ok(());
    };
    let lead = Arc::new(MsrDevice::open(health, dev, *lead)?);
    let unit_register = match processor.vendor {
        Vendor::Intel => INTEL_UNIT,
        Vendor::Amd => AMD_UNIT,
    };
    let units = lead.read(unit_register)?;
    let mut add = |kind, place, counter| {
        let joules = processor.energy_unit(kind, units);
        found.push(FoundDomain {
            kind,
            rail: rail(kind, &package.name),
            place,
            range: if matches!(counter, Counter::Cores(_)) {
                0
            } else {
                RANGE
            },
            joules: joules.ok_or_else(|| {
                let path = lead.path.display();
                Error::new(format!("register {unit_register:#x} of {path} is empty"))
            })?,
            counter,
        });
        Ok(())
    };
    let register = |number| {
        Counter::Register(Register {
            device: Arc::clone(&lead),
            number,
            state: ReadState::default(),
        })
    };
    match processor.vendor {
        Vendor::Intel => {
            for (kind, number) in INTEL_DOMAINS {
                if lead.has_counter(number) {
                    add(kind, lead.path.display().to_string(), register(number))?;
                }
            }
        }
        Vendor::Amd => {
            if lead.has_counter(AMD_PACKAGE) {
                let place = lead.path.display().to_string();
                add(DomainKind::Package, place, register(AMD_PACKAGE))?;
            }
            if lead.has_counter(AMD_CORE) {
                let cores = Cores {
                    number: AMD_CORE,
                    cores: package
                        .cores
                        .iter()
                        .map(|cpu| {
                            let device = Arc::new(MsrDevice::open(health, dev, *cpu)?);
                            Ok((device, ReadState::default(), CounterUnwrap::new(RANGE)))
                        })
                        .collect::<Result<_, Error>>()?,
                    total: 0,
                    read_at: None,
                };
                let place = format!("{:?}", package.cores);
                add(DomainKind::Core, place, Counter::Cores(cores))?;
            }
        }
    }
    Ok(())
}

/// The rail's name, as the kernel's zone would have it. On a board with several packages only one of them has the platform's
/// counter; the registers of the others read 0.
fn rail(kind: DomainKind, package: &str) -> String {
    match (kind, package) {
        (DomainKind::Package, package) => package.to_string(),
        (DomainKind::Psys, "package-0" | "package-0-die-0") => "psys".to_string(),
        (kind, package) => identify(kind.word(), Some(package)).1,
    }
}
