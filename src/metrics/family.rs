//! A metric family: name, kind, help, and whether it is exported.

use super::plausible::{self, Range};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a family's values mean to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A total that only grows while the process lives.
    Counter,
}

impl Kind {
    /// The word after `# TYPE name `.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        }
    }
}

/// The base units that metric names end in.
const BASE_UNITS: &[&str] = &[
    "watts", "joules", "volts", "amperes", "celsius", "seconds", "bytes",
];

/// Describes a family for registration.
#[derive(Debug, Clone)]
pub struct Desc {
    /// The metric's name; a counter's ends in `_total`.
    pub name: Cow<'static, str>,
    /// One sentence for `# HELP`.
    pub help: Cow<'static, str>,
    /// Gauge or counter.
    pub kind: Kind,
    /// Only the first group, in the order of the sources, that has a series of this family exports it.
    pub single: bool,
    /// Only the group that owns the board's total exports it; see [`Total`](super::Total).
    pub of_board: bool,
    /// A family about the exporter itself, which `metrics:` does not switch.
    pub own: bool,
    /// The plausible values, if they do not follow from source and unit.
    pub range: Option<&'static Range>,
}

impl Desc {
    /// A gauge that `metrics:` can switch.
    pub fn gauge(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) -> Desc {
        Desc {
            name: name.into(),
            help: help.into(),
            kind: Kind::Gauge,
            single: false,
            of_board: false,
            own: false,
            range: None,
        }
    }

    /// A counter that `metrics:` can switch.
    pub fn counter(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) -> Desc {
        Desc {
            kind: Kind::Counter,
            ..Desc::gauge(name, help)
        }
    }

    /// Exports the family from one group only.
    pub fn single(self) -> Desc {
        Desc {
            single: true,
            ..self
        }
    }

    /// Exports the family from the group that owns the board's total.
    pub(super) fn of_board(self) -> Desc {
        Desc {
            of_board: true,
            ..self
        }
    }

    /// Marks the family as the exporter's own, which is always exported.
    pub fn own(self) -> Desc {
        Desc { own: true, ..self }
    }

    /// Sets the plausible values.
    pub fn within(self, range: &'static Range) -> Desc {
        Desc {
            range: Some(range),
            ..self
        }
    }

    /// The plausible values of a series of this source.
    pub(super) fn range_of(&self, source: &str) -> &'static Range {
        match self.range {
            Some(range) => range,
            None if self.own => &plausible::ANY,
            None => plausible::range(source, &self.name, self.kind),
        }
    }
}

/// A registered family.
#[derive(Debug)]
pub struct Family {
    /// The metric's name, as in its samples.
    pub name: String,
    /// The text of `# HELP`, unescaped.
    pub help: String,
    /// Gauge or counter.
    pub kind: Kind,
    /// See [`Desc::single`].
    pub single: bool,
    /// See [`Desc::of_board`].
    pub of_board: bool,
    /// See [`Desc::own`].
    pub own: bool,
    enabled: AtomicBool,
}

impl Family {
    pub(super) fn new(desc: &Desc, policy: &Policy) -> Family {
        Family {
            name: desc.name.to_string(),
            help: desc.help.to_string(),
            kind: desc.kind,
            single: desc.single,
            of_board: desc.of_board,
            own: desc.own,
            enabled: AtomicBool::new(desc.own || policy.shows(&desc.name)),
        }
    }

    /// The family's name in OpenMetrics: without the `_total` of a counter's samples.
    pub fn base_name(&self) -> &str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            Kind::Gauge => &self.name,
        }
    }

    /// The base unit that its name ends in, if any (OpenMetrics).
    pub fn unit(&self) -> Option<&'static str> {
        let (_, last) = self.base_name().rsplit_once('_')?;
        BASE_UNITS.iter().copied().find(|unit| *unit == last)
    }

    /// Whether the family is exported.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    pub(super) fn apply(&self, policy: &Policy) {
        self.enabled
            .store(self.own || policy.shows(&self.name), Ordering::Relaxed);
    }
}

/// Which families are exported: the `metrics:` key of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Policy {
    /// No `metrics:` key: all families.
    #[default]
    All,
    /// The families listed as true. A family that is not listed is not exported.
    Listed(BTreeMap<String, bool>),
}

impl Policy {
    /// Whether a family of this name is exported.
    pub fn shows(&self, name: &str) -> bool {
        match self {
            Policy::All => true,
            Policy::Listed(names) => names.get(name).copied().unwrap_or(false),
        }
    }
}

/// Shortens a name to `max_chars` characters. A shortened name ends in eight hexadecimal digits, a hash of the whole name,
/// which distinguish it from others with the same beginning.
pub fn shorten(name: &str, max_chars: usize) -> Cow<'_, str> {
    const DIGITS: usize = 8;
    if name.chars().nth(max_chars).is_none() {
        return Cow::Borrowed(name);
    }
    // FNV-1a, 32 bits.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let begin: String = name
        .chars()
        .take(max_chars.saturating_sub(DIGITS + 1))
        .collect();
    Cow::Owned(format!("{begin}~{hash:08x}"))
}

/// Converts a device's name to a legal part of a metric name: lower case, other characters replaced by underscores, at most
/// 64 characters (see [`shorten`]). (Prometheus data model: `[a-zA-Z_:][a-zA-Z0-9_:]*`.) The caller adds a prefix that begins
/// with a letter.
pub fn metric_name(raw: &str) -> String {
    shorten(raw, 64)
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => c,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_are_legal() {
        assert_eq!(metric_name("VDD_GPU_SOC"), "vdd_gpu_soc");
        assert_eq!(metric_name("5V in (é)\n"), "5v_in_____");
        assert_eq!(metric_name(&"x".repeat(100)).len(), 64);
        let long = "x".repeat(64);
        assert_eq!(metric_name(&long), long);
        assert_ne!(
            metric_name(&format!("{long}_A")),
            metric_name(&format!("{long}_B"))
        );
    }

    #[test]
    fn unlisted_family_is_off_if_there_is_a_list() {
        let policy = Policy::Listed([("a".to_string(), true), ("b".to_string(), false)].into());
        assert!(policy.shows("a"));
        assert!(!policy.shows("b"));
        assert!(!policy.shows("c"));
        assert!(Policy::All.shows("c"));
    }

    #[test]
    fn own_families_cannot_be_switched_off() {
        let policy = Policy::Listed(BTreeMap::new());
        let family = Family::new(&Desc::gauge("exporter_x", "x").own(), &policy);
        assert!(family.is_enabled());
        let family = Family::new(&Desc::gauge("x", "x"), &policy);
        assert!(!family.is_enabled());
        family.apply(&Policy::All);
        assert!(family.is_enabled());
    }
}
