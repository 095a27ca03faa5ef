//! A RAPL domain: its kind, its name, and its counter.
//!
//! The rail's name is the domain's with the number of its package: `package-0`, `core-0`, `uncore-0`, `dram-0`; `psys` is the
//! platform's. The number is that of the physical package, which is the same after a reboot, not the order in which the
//! kernel found it. On processors of several dies the kernel counts by die, and so do the names: `package-0-die-1`,
//! `dram-0-die-1`.

use super::alias::Alias;
use super::counter::Counter;
use super::settings::Settings;
use crate::metrics::{shorten, Group, Rail, Readings};

/// Longer than any name the kernel gives a domain.
const MAX_NAME_CHARS: usize = 64;

/// The part of the board that a domain covers (Intel SDM vol. 3, "RAPL Domains and Platform Specificity").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DomainKind {
    /// A processor package, with all that is in it.
    Package,
    /// The cores of a package: power plane 0.
    Core,
    /// Another plane of a package, on client processors the graphics: power plane 1.
    Uncore,
    /// The memory at a package, which the package's own counter does not include.
    Dram,
    /// The whole platform, as far as the board's maker wired it.
    Psys,
    /// A domain of a later kernel.
    Other,
}

impl DomainKind {
    /// The kernel's name for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            DomainKind::Package => "package",
            DomainKind::Core => "core",
            DomainKind::Uncore => "uncore",
            DomainKind::Dram => "dram",
            DomainKind::Psys => "psys",
            DomainKind::Other => "other",
        }
    }
}

/// The kind and the rail of the domain that the kernel calls `name`, in the domain `parent` if it is nested.
pub(super) fn identify(name: &str, parent: Option<&str>) -> (DomainKind, String) {
    let name = shorten(name, MAX_NAME_CHARS).into_owned();
    let kind = match name.split('-').next() {
        Some("package") => DomainKind::Package,
        Some("core") => DomainKind::Core,
        Some("uncore") => DomainKind::Uncore,
        Some("dram") => DomainKind::Dram,
        Some("psys") => DomainKind::Psys,
        _ => DomainKind::Other,
    };
    let rail = match parent {
        Some(parent) => {
            let parent = shorten(parent, MAX_NAME_CHARS);
            match parent.strip_prefix("package-") {
                Some(number) => format!("{name}-{number}"),
                None => format!("{parent}/{name}"),
            }
        }
        None => name,
    };
    (kind, rail)
}

/// The rail's name, as the kernel's zone would have it. On a board with several packages only one of them has the platform's
/// counter.
pub(super) fn rail_in(kind: DomainKind, package: &str) -> String {
    match (kind, package) {
        (DomainKind::Package, package) => package.to_string(),
        (DomainKind::Psys, "package-0" | "package-0-die-0") => "psys".to_string(),
        (kind, package) => identify(kind.word(), Some(package)).1,
    }
}

/// A domain and its counter, before its series are registered.
#[derive(Debug)]
pub(super) struct FoundDomain {
    pub(super) kind: DomainKind,
    pub(super) rail: String,
    /// Where it is read. Rail and place identify the domain.
    pub(super) place: String,
    /// The value at which its counter wraps, in its own unit; 0: never.
    pub(super) range: u64,
    /// The counter's unit, in joules.
    pub(super) joules: f64,
    pub(super) counter: Counter,
}

/// An open domain.
#[derive(Debug)]
pub(super) struct Domain {
    found: FoundDomain,
    rail: Rail,
    alias: Option<Alias>,
}

impl Domain {
    /// Registers the domain's power and energy.
    pub(super) fn new(group: &Group, config: &Settings, found: FoundDomain) -> Domain {
        Domain {
            alias: Alias::new(group, config, found.kind, &found.rail),
            rail: Rail::with_range(group, &found.rail, found.range),
            found,
        }
    }

    pub(super) fn kind(&self) -> DomainKind {
        self.found.kind
    }

    /// Whether `other` is the same domain.
    pub(super) fn is(&self, other: &FoundDomain) -> bool {
        self.found.rail == other.rail && self.found.place == other.place
    }

    /// Reads and publishes the counter. Returns the mean power since the last reading in watts, if known, and the joules
    /// counted since then.
    pub(super) fn poll(&mut self, out: &mut Readings) -> (Option<f64>, f64) {
        let Some(raw) = self.found.counter.read(out) else {
            return (None, 0.0);
        };
        let watts = self.rail.set_counter(out, raw, self.found.joules);
        if let Some(alias) = &self.alias {
            alias.set(out, watts, self.rail.last_counted());
        }
        (watts, self.rail.last_counted().unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rail_is_named_by_domain_and_package() {
        for (name, parent, kind, rail) in [
            ("package-0", None, DomainKind::Package, "package-0"),
            (
                "package-1-die-1",
                None,
                DomainKind::Package,
                "package-1-die-1",
            ),
            ("core", Some("package-0"), DomainKind::Core, "core-0"),
            ("uncore", Some("package-1"), DomainKind::Uncore, "uncore-1"),
            (
                "dram",
                Some("package-0-die-1"),
                DomainKind::Dram,
                "dram-0-die-1",
            ),
            ("psys", None, DomainKind::Psys, "psys"),
            ("psys-1", None, DomainKind::Psys, "psys-1"),
            ("npu", Some("package-0"), DomainKind::Other, "npu-0"),
            ("x", Some("psys"), DomainKind::Other, "psys/x"),
            ("dram", None, DomainKind::Dram, "dram"),
        ] {
            assert_eq!(identify(name, parent), (kind, rail.to_string()), "{name}");
        }
        let (_, rail) = identify(&"é".repeat(5000), Some(&"x".repeat(5000)));
        assert_eq!(rail.chars().count(), 2 * MAX_NAME_CHARS + 1);
    }
}
