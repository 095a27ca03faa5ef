//! The kernel's powercap zones (Documentation/power/powercap/powercap.rst, ABI/testing/sysfs-class-powercap).
//!
//! A zone is a directory `intel-rapl:0` with `name`, `energy_uj` and `max_energy_range_uj`; a zone inside it is
//! `intel-rapl:0:1`. The numbers are hexadecimal (`dev_set_name(…, "%s:%x", …)`, drivers/powercap/powercap_sys.c): the
//! eleventh package is `intel-rapl:a`. The class directory lists all of them side by side, and each is also inside its parent: a zone
//! is read once, where it is found first. AMD's processors have the same zones under the same name since Linux 5.8; there the
//! zone `core` counts one core, the one the kernel happens to read (`MSR_AMD_CORE_ENERGY_STATUS` of its lead CPU).

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::counter::Counter;
use super::domain::{identify, DomainKind, FoundDomain};
use crate::sources::io_log::files;
use crate::sources::{parse_number, read_text, Attribute, Board, Error, Health};
use crate::sys::sort::sort;

/// The kernel nests two levels deep, below the directory of the control type.
const MAX_DEPTH: usize = 4;
/// More than any board has: 64 packages of several dies with four zones each.
const MAX_ZONES: usize = 1024;

const DENIED_HINT: &str =
    "readable by root only since CVE-2020-8694: run as root, or install the udev rule from systemd/";

/// A zone's place in the order of zones: those of the MSRs first, then those that show the same counters through
/// memory-mapped registers (`intel-rapl-mmio`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ZoneId {
    mmio: bool,
    indices: Vec<u32>,
}

impl ZoneId {
    /// From a directory's name: `intel-rapl:0:1`, `intel-rapl-mmio:0`.
    fn parse(name: &str) -> Option<ZoneId> {
        let (control_type, indices) = name.split_once(':')?;
        let mmio = match control_type {
            "intel-rapl" => false,
            "intel-rapl-mmio" => true,
            _ => return None,
        };
        let indices = indices
            .splitn(MAX_DEPTH + 1, ':')
            .map(hexadecimal)
            .collect::<Option<Vec<_>>>()?;
        (indices.len() <= MAX_DEPTH).then_some(ZoneId { mmio, indices })
    }

    fn parent(&self) -> Option<ZoneId> {
        let (_, indices) = self.indices.split_last()?;
        (!indices.is_empty()).then(|| ZoneId {
            mmio: self.mmio,
            indices: indices.to_vec(),
        })
    }
}

/// Parses a number as the kernel's `%x` prints it.
fn hexadecimal(text: &str) -> Option<u32> {
    let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    let is_number = text.bytes().all(is_digit) && (text == "0" || !text.starts_with('0'));
    u32::from_str_radix(text, 16).ok().filter(|_| is_number)
}

/// A zone that counts energy.
#[derive(Debug)]
struct Zone {
    path: PathBuf,
    kind: DomainKind,
    /// Its rail.
    rail: String,
}

impl Zone {
    /// Opens the zone's counter.
    fn find(self, health: &Arc<Health>) -> FoundDomain {
        let range = read_text(health, &self.path.join("max_energy_range_uj"));
        let range = range.ok().and_then(|text| parse_number(text.as_bytes()));
        let energy = self.path.join("energy_uj");
        FoundDomain {
            kind: self.kind,
            rail: self.rail,
            place: energy.display().to_string(),
            range: range.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            joules: 1e-6,
            counter: Counter::Zone(Attribute::new(health, energy).with_hint(DENIED_HINT)),
        }
    }
}

/// All zones that count energy, each once, packages before their parts.
fn zones(health: &Arc<Health>, sysfs: &Path) -> Vec<Zone> {
    let paths = walk(health, &sysfs.join("class/powercap"));
    let names: BTreeMap<&ZoneId, String> = paths
        .iter()
        .filter_map(|(id, path)| Some((id, read_text(health, &path.join("name")).ok()?)))
        .filter(|(_, name)| !name.is_empty())
        .collect();
    let mut rails = BTreeSet::new();
    let mut zones = Vec::new();
    for (id, path) in &paths {
        let Some(name) = names.get(id) else { continue };
        // A zone may only limit power, or only group others.
        if !files::exists(health.io_log(), &path.join("energy_uj")) {
            continue;
        }
        let parent = id.parent().and_then(|id| names.get(&id));
        let (kind, mut rail) = identify(name, parent.map(String::as_str));
        if rails.contains(&rail) {
            if id.mmio {
                continue;
            }
            let directory = path.file_name().unwrap_or_default();
            rail = format!("{rail}/{}", directory.to_string_lossy());
        }
        rails.insert(rail.clone());
        zones.push(Zone {
            path: path.clone(),
            kind,
            rail,
        });
    }
    zones
}

/// The directories of all zones in and under this one, breadth-first, so that the shortest path to each is used.
fn walk(health: &Arc<Health>, class: &Path) -> BTreeMap<ZoneId, PathBuf> {
    let mut found = BTreeMap::new();
    let mut left_out = 0;
    let mut level = vec![class.to_path_buf()];
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for directory in &level {
            let is_wanted = |name: &str| name.starts_with("intel-rapl");
            let listed = files::list(health.io_log(), directory, usize::MAX, &is_wanted);
            let Ok((names, _)) = listed else { continue };
            // In the order of their numbers, which are hexadecimal.
            let mut named: Vec<_> = names
                .iter()
                .map(|name| (ZoneId::parse(name), name))
                .collect();
            sort(&mut named);
            for (id, name) in named {
                let path = directory.join(name);
                let Some(id) = id else {
                    next.push(path);
                    continue;
                };
                let is_full = found.len() >= MAX_ZONES;
                match found.entry(id) {
                    Entry::Occupied(_) => {}
                    Entry::Vacant(_) if is_full => left_out += 1,
                    Entry::Vacant(place) => {
                        place.insert(path.clone());
                        next.push(path);
                    }
                }
            }
            next.truncate(MAX_ZONES);
        }
        level = next;
    }
    health.left_out("zones", left_out, || {
        format!("{} has more than {MAX_ZONES} zones", class.display())
    });
    found
}

/// Describes the zones that there are, without reading them.
pub(super) fn probe(board: &Board, health: &Arc<Health>) -> Result<String, Error> {
    let zones = zones(health, &board.roots.sysfs);
    let rails: Vec<&str> = zones.iter().map(|zone| zone.rail.as_str()).collect();
    match rails.is_empty() {
        false => Ok(format!("{} by powercap", rails.join(", "))),
        true => Err(no_zones_error(board)),
    }
}

/// Whether any zone's counter may be read.
pub(super) fn may_be_read(board: &Board, health: &Arc<Health>) -> bool {
    let zones = zones(health, &board.roots.sysfs);
    let may =
        |zone: &Zone| files::may_be_read(health.io_log(), &zone.path.join("energy_uj")).is_ok();
    zones.iter().any(may)
}

/// Opens the counters of all zones. An error if none can be read. If one can, the others fail one by one.
pub(super) fn find(board: &Board, health: &Arc<Health>) -> Result<Vec<FoundDomain>, Error> {
    let zones = zones(health, &board.roots.sysfs).into_iter();
    let mut found: Vec<_> = zones.map(|zone| zone.find(health)).collect();
    if found.is_empty() {
        return Err(no_zones_error(board));
    }
    check_readable(&mut found)?;
    Ok(found)
}

/// An error if no zone can be read.
fn check_readable(found: &mut [FoundDomain]) -> Result<(), Error> {
    let mut first = None;
    for found in found {
        let Counter::Zone(energy) = &mut found.counter else {
            continue;
        };
        match energy.try_read() {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| Error::new("reading the powercap zones hangs")))
}

fn no_zones_error(board: &Board) -> Error {
    let class = board.roots.sysfs.join("class/powercap");
    let error = Error::new(format!("{} has no intel-rapl zones", class.display()));
    // The class directory still links to what is covered up (moby's advisory GHSA-jq35-85cj-fj4p).
    let control_type = class.join("intel-rapl");
    match control_type.is_symlink() && !files::exists(&board.io_log, &control_type) {
        true => error.hint(
            "hidden, as container runtimes do: mount the host's /sys and set --path.sysfs to it",
        ),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_recognised_by_directory_name() {
        let id = |mmio, indices: &[u32]| {
            Some(ZoneId {
                mmio,
                indices: indices.to_vec(),
            })
        };
        for (name, expected) in [
            ("intel-rapl:0", id(false, &[0])),
            ("intel-rapl:10:2", id(false, &[16, 2])),
            ("intel-rapl:a", id(false, &[10])),
            ("intel-rapl:f:a", id(false, &[15, 10])),
            ("intel-rapl:11:1b", id(false, &[17, 27])),
            ("intel-rapl-mmio:b", id(true, &[11])),
            ("intel-rapl:ffffffff", id(false, &[u32::MAX])),
            ("intel-rapl:A", None),
            ("intel-rapl:0a", None),
            ("intel-rapl:+a", None),
            ("intel-rapl:0x1", None),
            ("intel-rapl:a:", None),
            ("intel-rapl:100000000", None),
            ("intel-rapl-mmio:0", id(true, &[0])),
            ("intel-rapl", None),
            ("intel-rapl:", None),
            ("intel-rapl:0:", None),
            ("intel-rapl:x", None),
            ("intel-rapl:99999999999", None),
            ("intel-rapl:0:0:0:0:0:0", None),
            ("dtpm:0", None),
        ] {
            assert_eq!(ZoneId::parse(name), expected, "{name}");
        }
        assert_eq!(ZoneId::parse("intel-rapl:0").and_then(|z| z.parent()), None);
        assert_eq!(
            ZoneId::parse("intel-rapl:3:1").and_then(|z| z.parent()),
            id(false, &[3])
        );
    }
}
