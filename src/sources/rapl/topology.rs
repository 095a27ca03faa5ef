//! The processors that share RAPL registers (Documentation/ABI/stable/sysfs-devices-system-cpu).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::event_source::MAX_CPUS;
use crate::sources::io_log::files;
use crate::sources::{read_text, Error, Health};
use crate::sys::sort::sort;

/// A processor that is online.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cpu {
    number: u32,
    package: u32,
    die: u32,
    /// Identifies the core: equal for all its threads.
    core: String,
}

/// Processors with one set of package registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// The name in the kernel's powercap: `package-0`, or `package-0-die-1`.
    pub(super) name: String,
    /// One thread of each of its cores; at least one.
    pub(super) cores: Vec<u32>,
}

/// The list of online processors, as the kernel prints it.
pub(super) fn online(health: &Arc<Health>, sysfs: &Path) -> Option<String> {
    read_text(health, &cpus(sysfs).join("online")).ok()
}

/// The packages that have a processor online. With `by_die`, each die counts as a package, as for Intel's registers.
pub(super) fn packages(
    health: &Arc<Health>,
    sysfs: &Path,
    by_die: bool,
) -> Result<Vec<Package>, Error> {
    let directory = cpus(sysfs);
    let number = |name: &str| -> Option<u32> { name.strip_prefix("cpu")?.parse().ok() };
    let is_cpu = |name: &str| number(name).is_some();
    let (names, beyond) = files::list(health.io_log(), &directory, MAX_CPUS, &is_cpu)
        .map_err(|e| Error::cannot("list", &directory, &e))?;
    health.left_out("processors", beyond, || {
        format!(
            "{} has more than {MAX_CPUS} processors",
            directory.display()
        )
    });
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
    sort(&mut numbers);
    packages_of(health, sysfs, &numbers, by_die)
}

/// As [`packages`], of these processors alone.
pub(super) fn packages_of(
    health: &Arc<Health>,
    sysfs: &Path,
    numbers: &[u32],
    by_die: bool,
) -> Result<Vec<Package>, Error> {
    let directory = cpus(sysfs);
    let online: Vec<Cpu> = numbers
        .iter()
        .filter_map(|number| cpu(health, &directory, *number))
        .collect();
    if online.is_empty() {
        return Err(Error::new(format!(
            "no processor in {} says which package it is in",
            directory.display()
        )));
    }
    Ok(group(&online, by_die))
}

fn cpus(sysfs: &Path) -> PathBuf {
    sysfs.join("devices/system/cpu")
}

fn cpu(health: &Arc<Health>, directory: &Path, number: u32) -> Option<Cpu> {
    let directory = directory.join(format!("cpu{number}"));
    let text = |name: &str| read_text(health, &directory.join(name)).ok();
    // Processors that cannot be taken offline have no such file.
    if text("online").is_some_and(|online| online == "0") {
        return None;
    }
    let package = text("topology/physical_package_id")?;
    let die = text("topology/die_id").and_then(|die| die.parse().ok());
    // core_id is not unique in a package on all kernels.
    let core = text("topology/thread_siblings_list").or_else(|| {
        let core = text("topology/core_id")?;
        Some(format!("{}/{core}", die.unwrap_or(0)))
    });
    Some(Cpu {
        number,
        // -1: unknown; such machines have one package.
        package: package.parse().unwrap_or(0),
        die: die.unwrap_or(0),
        core: core.unwrap_or_else(|| number.to_string()),
    })
}

fn group(cpus: &[Cpu], by_die: bool) -> Vec<Package> {
    let mut packages: BTreeMap<u32, BTreeMap<u32, Vec<&Cpu>>> = BTreeMap::new();
    for cpu in cpus {
        let dies = packages.entry(cpu.package).or_default();
        let die = if by_die { cpu.die } else { 0 };
        dies.entry(die).or_default().push(cpu);
    }
    let dies_are_named = packages.values().any(|dies| dies.len() > 1);
    let mut groups = Vec::new();
    for (package, dies) in packages {
        for (die, cpus) in dies {
            let mut threads: BTreeMap<&str, u32> = BTreeMap::new();
            for cpu in cpus {
                threads.entry(&cpu.core).or_insert(cpu.number);
            }
            let mut cores: Vec<u32> = threads.into_values().collect();
            sort(&mut cores);
            groups.push(Package {
                name: if dies_are_named {
                    format!("package-{package}-die-{die}")
                } else {
                    format!("package-{package}")
                },
                cores,
            });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &[(u32, u32, u32, &str)]) -> Vec<Cpu> {
        list.iter()
            .map(|(number, package, die, core)| Cpu {
                number: *number,
                package: *package,
                die: *die,
                core: core.to_string(),
            })
            .collect()
    }

    fn named(groups: &[Package]) -> Vec<(&str, &[u32])> {
        groups.iter().map(|g| (&*g.name, &*g.cores)).collect()
    }

    #[test]
    fn one_thread_of_each_core_is_read() {
        let cpus = cpus(&[
            (0, 0, 0, "0,4"),
            (1, 0, 0, "1,5"),
            (2, 1, 0, "2,6"),
            (3, 1, 0, "3"),
            (4, 0, 0, "0,4"),
            (5, 0, 0, "1,5"),
            (6, 1, 0, "2,6"),
        ]);
        assert_eq!(
            named(&group(&cpus, true)),
            [("package-0", &[0, 1][..]), ("package-1", &[2, 3][..])]
        );
    }

    #[test]
    fn dies_are_separate_only_with_by_die() {
        let cpus = cpus(&[(0, 0, 0, "0"), (1, 0, 1, "1"), (2, 1, 0, "2")]);
        assert_eq!(
            named(&group(&cpus, true)),
            [
                ("package-0-die-0", &[0][..]),
                ("package-0-die-1", &[1][..]),
                ("package-1-die-0", &[2][..])
            ]
        );
        assert_eq!(
            named(&group(&cpus, false)),
            [("package-0", &[0, 1][..]), ("package-1", &[2][..])]
        );
    }
}
