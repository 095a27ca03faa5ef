//! RAPL counters from model-specific registers, through `/dev/cpu/N/msr` (msr(4)): eight bytes at the register's number.
//!
//! Needs the kernel module `msr`, and root or CAP_SYS_RAWIO. On AMD's processors every poll wakes every core, since
//! each counts for itself.

use std::path::Path;
use std::sync::Arc;

use super::counter::{Counter, Sum};
use super::domain::{rail_in, DomainKind, FoundDomain};
use super::processor::{Processor, Vendor};
use super::registers::{msr_path, MsrDevice, Register, COUNTER_MASK, MISSING_HINT};
use super::topology::{self, Package};
use crate::sources::io_log::files;
use crate::sources::{read_text, Board, Error, Health};

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
            rail: rail_in(kind, &package.name),
            place,
            range: if matches!(counter, Counter::Sum(_)) {
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
    let register = |number| Counter::Register(Register::new(Arc::clone(&lead), number));
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
                let core = |cpu: &u32| {
                    let device = Arc::new(MsrDevice::open(health, dev, *cpu)?);
                    Ok(Counter::Register(Register::new(device, AMD_CORE)))
                };
                let cores = package.cores.iter().map(core);
                let cores = Sum::new(cores.collect::<Result<_, Error>>()?, RANGE);
                let place = format!("{:?}", package.cores);
                add(DomainKind::Core, place, Counter::Sum(cores))?;
            }
        }
    }
    Ok(())
}
