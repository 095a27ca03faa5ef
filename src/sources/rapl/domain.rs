//! A RAPL domain: what it is, what it is called, and how its counter is read.
//!
//! The rail's name is the domain's, with the number of its package, so that a board with one package reads simply and
//! two packages stay apart: `package-0`, `core-0`, `uncore-0`, `dram-0`; `psys` is the platform's. The number is the
//! physical package's, which a reboot does not change, not the order in which the kernel found it. On processors of
//! several dies the kernel counts by die, and the names say so: `package-0-die-1`, `dram-0-die-1`.

use super::alias::Alias;
use super::msr::{Cores, Register};
use super::settings::Settings;
use crate::metrics::{shorten, Group, Rail, Readings};
use crate::sources::Attribute;

/// Longer than any name the kernel gives a domain.
const MAX_NAME_CHARS: usize = 64;

/// The part of the board that a domain is about (Intel SDM vol. 3, "RAPL Domains and Platform Specificity").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A processor package, with all that is in it.
    Package,
    /// The cores of a package: power plane 0.
    Core,
    /// Another plane of a package, on client processors the graphics: power plane 1.
    Uncore,
    /// The memory at a package; it is not part of the package's own counter.
    Dram,
    /// The whole platform, as far as its maker wired it.
    Psys,
    /// What a later kernel may bring.
    Other,
}

impl Kind {
    /// The kernel's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Package => "package",
            Kind::Core => "core",
            Kind::Uncore => "uncore",
            Kind::Dram => "dram",
            Kind::Psys => "psys",
            Kind::Other => "other",
        }
    }
}

/// The kind and the rail of a domain that the kernel calls `name`, inside a domain called `parent` if it is inside one.
pub(super) fn identify(name: &str, parent: Option<&str>) -> (Kind, String) {
    let name = shorten(name, MAX_NAME_CHARS).into_owned();
    let kind = match name.split('-').next() {
        Some("package") => Kind::Package,
        Some("core") => Kind::Core,
        Some("uncore") => Kind::Uncore,
        Some("dram") => Kind::Dram,
        Some("psys") => Kind::Psys,
        _ => Kind::Other,
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

/// The way to a domain's counter.
#[derive(Debug)]
pub(super) enum Counter {
    /// A powercap zone's `energy_uj`.
    Zone(Attribute),
    /// A model-specific register.
    Register(Register),
    /// A register of each core, added up.
    Cores(Cores),
}

impl Counter {
    /// What the counter shows, in its unit; `None` where it cannot be read just now.
    #[inline]
    fn read(&mut self, out: &Readings) -> Option<u64> {
        match self {
            Counter::Zone(energy) => energy.read().and_then(|value| u64::try_from(value).ok()),
            Counter::Register(register) => register.read(),
            Counter::Cores(cores) => cores.read(out.at, out.max_gap),
        }
    }
}

/// A domain that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) rail: String,
    /// Where it is read: with the rail, what makes it the same domain when it is found again.
    pub(super) place: String,
    /// Where its counter begins again at 0, in its own unit; 0: never.
    pub(super) range: u64,
    /// The counter's unit, in joules.
    pub(super) joules: f64,
    pub(super) counter: Counter,
}

/// A domain that is read.
#[derive(Debug)]
pub(super) struct Domain {
    found: Found,
    rail: Rail,
    alias: Option<Alias>,
}

impl Domain {
    /// Registers the domain's power and energy.
    pub(super) fn new(group: &Group, config: &Settings, found: Found) -> Domain {
        Domain {
            alias: Alias::new(group, config, found.kind, &found.rail),
            rail: Rail::with_range(group, &found.rail, found.range),
            found,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.found.kind
    }

    /// Whether that is this domain, found again.
    pub(super) fn is(&self, other: &Found) -> bool {
        self.found.rail == other.rail && self.found.place == other.place
    }

    /// Reads and publishes it; its mean power since the last reading, in watts, if that is known, and the joules counted
    /// since then.
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
    fn a_rail_is_named_for_its_domain_and_package() {
        for (name, parent, kind, rail) in [
            ("package-0", None, Kind::Package, "package-0"),
            ("package-1-die-1", None, Kind::Package, "package-1-die-1"),
            ("core", Some("package-0"), Kind::Core, "core-0"),
            ("uncore", Some("package-1"), Kind::Uncore, "uncore-1"),
            ("dram", Some("package-0-die-1"), Kind::Dram, "dram-0-die-1"),
            ("psys", None, Kind::Psys, "psys"),
            ("psys-1", None, Kind::Psys, "psys-1"),
            ("npu", Some("package-0"), Kind::Other, "npu-0"),
            ("x", Some("psys"), Kind::Other, "psys/x"),
            ("dram", None, Kind::Dram, "dram"),
        ] {
            assert_eq!(identify(name, parent), (kind, rail.to_string()), "{name}");
        }
        let (_, rail) = identify(&"é".repeat(5000), Some(&"x".repeat(5000)));
        assert_eq!(rail.chars().count(), 2 * MAX_NAME_CHARS + 1);
    }
}
