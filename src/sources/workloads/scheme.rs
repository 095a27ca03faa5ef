//! Naming schemes: which families there are, what they are called, and where their labels come from. Pure.
//!
//! A scheme is a file that is compiled in (`schemes/`): the exporter's own names, and those of the programs that it replaces. A
//! scheme has groups of families that have the same labels. `of` says what a series of the group is about, `value` which quantity
//! a family has (in watts, joules, seconds, bytes; times `unit`), and `labels` from which field each label is taken. A label
//! that has no value is left away. Several workloads with the same labels are one series, which is their sum.

use super::name::Kind;
use crate::config::tree::{self, Node};
use crate::metrics::Desc;

/// All schemes: the value of `workloads.metric_names`, and the file.
const SCHEMES: &[(&str, &str)] = &[
    ("native", include_str!("schemes/native.yaml")),
    ("kepler", include_str!("schemes/kepler.yaml")),
    ("scaphandre", include_str!("schemes/scaphandre.yaml")),
];

/// The exporter's own names.
pub(super) const NATIVE: &str = "native";

/// The names of all schemes.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().map(|(name, _)| *name)
}

/// What the series of a group of families are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Workload(Kind),
    /// A domain.
    Domain,
    /// One counter of a domain, such as that of one of two packages.
    Rail,
    /// The board.
    Node,
    /// A processor.
    Processor,
    /// A file system on a disk.
    Disk,
}

impl Subject {
    const ALL: [(&str, Subject); 11] = [
        ("service", Subject::Workload(Kind::Service)),
        ("container", Subject::Workload(Kind::Container)),
        ("pod", Subject::Workload(Kind::Pod)),
        ("process", Subject::Workload(Kind::Process)),
        ("system", Subject::Workload(Kind::System)),
        ("other", Subject::Workload(Kind::Other)),
        ("domain", Subject::Domain),
        ("rail", Subject::Rail),
        ("node", Subject::Node),
        ("processor", Subject::Processor),
        ("disk", Subject::Disk),
    ];

    /// Whether there are series of this for each zone.
    fn has_zones(self) -> bool {
        matches!(self, Subject::Workload(_) | Subject::Domain)
    }
}

/// A quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Energy,
    Power,
    ActiveEnergy,
    ActivePower,
    IdleEnergy,
    IdlePower,
    EndedEnergy,
    UnattributedEnergy,
    UnattributedPower,
    IdleWatts,
    IdleFit,
    IdleError,
    CpuSeconds,
    CpuRatio,
    Memory,
    VirtualMemory,
    One,
    Load1,
    Load5,
    Load15,
    MemoryTotal,
    MemoryFree,
    MemoryAvailable,
    SwapTotal,
    SwapFree,
    ClockHertz,
    ExporterCpuRatio,
    ExporterMemory,
    ExporterVirtualMemory,
    Size,
    Available,
}

impl Value {
    const ALL: [(&str, Value); 31] = [
        ("energy", Value::Energy),
        ("power", Value::Power),
        ("active_energy", Value::ActiveEnergy),
        ("active_power", Value::ActivePower),
        ("idle_energy", Value::IdleEnergy),
        ("idle_power", Value::IdlePower),
        ("ended_energy", Value::EndedEnergy),
        ("unattributed_energy", Value::UnattributedEnergy),
        ("unattributed_power", Value::UnattributedPower),
        ("idle_watts", Value::IdleWatts),
        ("idle_fit", Value::IdleFit),
        ("idle_error", Value::IdleError),
        ("cpu_seconds", Value::CpuSeconds),
        ("cpu_ratio", Value::CpuRatio),
        ("memory", Value::Memory),
        ("virtual_memory", Value::VirtualMemory),
        ("one", Value::One),
        ("load_1", Value::Load1),
        ("load_5", Value::Load5),
        ("load_15", Value::Load15),
        ("memory_total", Value::MemoryTotal),
        ("memory_free", Value::MemoryFree),
        ("memory_available", Value::MemoryAvailable),
        ("swap_total", Value::SwapTotal),
        ("swap_free", Value::SwapFree),
        ("clock", Value::ClockHertz),
        ("exporter_cpu_ratio", Value::ExporterCpuRatio),
        ("exporter_memory", Value::ExporterMemory),
        ("exporter_virtual_memory", Value::ExporterVirtualMemory),
        ("size", Value::Size),
        ("available", Value::Available),
    ];

    /// Whether the quantity is memory of workloads or of the board.
    fn is_memory(self) -> bool {
        matches!(
            self,
            Value::Memory
                | Value::VirtualMemory
                | Value::MemoryTotal
                | Value::MemoryFree
                | Value::MemoryAvailable
                | Value::SwapTotal
                | Value::SwapFree
        )
    }

    /// Whether the quantity is measured by domain.
    fn is_by_domain(self) -> bool {
        matches!(
            self,
            Value::Energy
                | Value::Power
                | Value::ActiveEnergy
                | Value::ActivePower
                | Value::IdleEnergy
                | Value::IdlePower
                | Value::EndedEnergy
                | Value::UnattributedEnergy
                | Value::UnattributedPower
                | Value::IdleWatts
                | Value::IdleFit
                | Value::IdleError
        )
    }
}

/// Where a label's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label {
    Constant(String),
    Field(String),
}

/// The fields that depend on the domain.
const DOMAIN_FIELDS: [&str; 3] = ["zone", "domain", "meter"];

/// A family.
#[derive(Debug, Clone)]
pub(super) struct FamilyScheme {
    pub desc: Desc,
    pub value: Value,
    /// How many of the family's units the quantity's own unit has.
    pub factor: f64,
    /// Whether it has series for each zone.
    pub by_domain: bool,
}

/// Families with the same labels.
#[derive(Debug, Clone)]
pub(super) struct FamilyGroup {
    of: Vec<Subject>,
    /// Only those that have this field.
    pub with: Option<String>,
    labels: Vec<(String, Label)>,
    pub families: Vec<FamilyScheme>,
}

impl FamilyGroup {
    /// Whether there are series about this.
    pub(super) fn is_of(&self, subject: Subject) -> bool {
        self.of.contains(&subject)
    }

    /// The labels of a family; `field` has the values. Labels that depend on the domain are left out where the family does not.
    pub(super) fn labels<'a>(
        &'a self,
        family: &FamilyScheme,
        field: impl Fn(&str) -> Option<String> + 'a,
    ) -> Vec<(&'a str, String)> {
        let by_domain = family.by_domain || self.of.contains(&Subject::Rail);
        let labels = self.labels.iter().filter_map(|(label, from)| {
            let value = match from {
                Label::Constant(text) => text.clone(),
                Label::Field(name) if DOMAIN_FIELDS.contains(&name.as_str()) && !by_domain => {
                    return None
                }
                Label::Field(name) => field(name)?,
            };
            (!value.is_empty()).then_some((label.as_str(), value))
        });
        labels.collect()
    }

    fn has_field(&self, field: &str) -> bool {
        let is_it = |label: &Label| matches!(label, Label::Field(name) if name == field);
        self.with.as_deref() == Some(field) || self.labels.iter().any(|(_, label)| is_it(label))
    }
}

/// A scheme.
#[derive(Debug, Clone, Default)]
pub(super) struct Scheme {
    /// The zones, and the domains that each may be, the best first. `None`: each domain is a zone of its name.
    pub zones: Option<Vec<(String, Vec<String>)>>,
    pub groups: Vec<FamilyGroup>,
}

impl Scheme {
    /// The scheme of this name.
    pub(super) fn named(name: &str) -> Result<Scheme, String> {
        match SCHEMES.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Scheme::parse(text).map_err(|error| format!("{name}: {error}")),
            None => Err(format!(
                "unknown naming scheme {name}: there are {}",
                names().collect::<Vec<_>>().join(", ")
            )),
        }
    }

    /// Whether energy of ended workloads is a family of its own.
    pub(super) fn has_ended_energy(&self) -> bool {
        let mut families = self.groups.iter().flat_map(|group| &group.families);
        families.any(|family| family.value == Value::EndedEnergy)
    }

    /// Whether a label of a process is this field.
    pub(super) fn has_process_field(&self, field: &str) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.is_of(Subject::Workload(Kind::Process)) && group.has_field(field))
    }

    /// Whether workloads of these kinds have labels by which containers of one name differ.
    pub(super) fn tells_containers_apart(&self, kinds: &[Kind]) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| {
            let mut subjects = kinds.iter().map(|kind| Subject::Workload(*kind));
            subjects.any(|kind| group.is_of(kind)) && group.has_field("container_id")
        })
    }

    /// Whether there are series about this.
    pub(super) fn is_of(&self, subject: Subject) -> bool {
        self.groups.iter().any(|group| group.is_of(subject))
    }

    /// Removes the families of memory, that of the exporter itself excepted.
    pub(super) fn remove_memory(&mut self) {
        for group in &mut self.groups {
            group.families.retain(|family| !family.value.is_memory());
        }
    }

    fn parse(text: &str) -> Result<Scheme, String> {
        let mut scheme = Scheme::default();
        for (key, node) in map(&tree::build(text).map_err(|e| e.to_string())?)? {
            match key.as_str() {
                "zones" => {
                    let zones = map(node)?.iter().map(|(zone, domains)| {
                        let domains = list(domains)?.iter().map(text_of);
                        Ok((zone.clone(), domains.collect::<Result<_, String>>()?))
                    });
                    scheme.zones = Some(zones.collect::<Result<_, String>>()?);
                }
                "groups" => {
                    let groups = list(node)?.iter().map(FamilyGroup::parse);
                    scheme.groups = groups.collect::<Result<_, String>>()?;
                }
                key => return Err(format!("unknown key {key}")),
            }
        }
        Ok(scheme)
    }
}

impl FamilyGroup {
    fn parse(node: &Node) -> Result<FamilyGroup, String> {
        let mut group = FamilyGroup {
            of: Vec::new(),
            with: None,
            labels: Vec::new(),
            families: Vec::new(),
        };
        for (key, node) in map(node)? {
            match key.as_str() {
                "of" => {
                    let subjects = list(node)?
                        .iter()
                        .map(|item| choice(&text_of(item)?, &Subject::ALL));
                    group.of = subjects.collect::<Result<_, String>>()?;
                }
                "with" => group.with = Some(text_of(node)?),
                "labels" => {
                    let labels = map(node)?.iter().map(|(label, from)| {
                        let from = text_of(from)?;
                        let from = match from.strip_prefix('=') {
                            Some(constant) => Label::Constant(constant.to_string()),
                            None => Label::Field(from),
                        };
                        Ok((label.clone(), from))
                    });
                    group.labels = labels.collect::<Result<_, String>>()?;
                }
                "families" => {
                    let families = list(node)?.iter().map(FamilyScheme::parse);
                    group.families = families.collect::<Result<_, String>>()?;
                }
                key => return Err(format!("unknown key {key}")),
            }
        }
        let has_zones = group.of.iter().any(|subject| subject.has_zones());
        for family in &mut group.families {
            family.by_domain &= has_zones;
        }
        Ok(group)
    }
}

impl FamilyScheme {
    fn parse(node: &Node) -> Result<FamilyScheme, String> {
        let (mut name, mut help, mut value) = (String::new(), String::new(), None);
        let (mut is_counter, mut factor) = (false, 1.0);
        for (key, node) in map(node)? {
            let text = text_of(node)?;
            match key.as_str() {
                "name" => {
                    is_counter |= text.ends_with("_total");
                    name = text;
                }
                "help" => help = text,
                "type" if text == "counter" => is_counter = true,
                "value" => value = Some(choice(&text, &Value::ALL)?),
                "unit" => {
                    factor = choice(&text, &[("micro", 1e6), ("mega", 1e-6), ("percent", 100.0)])?
                }
                key => return Err(format!("unknown key {key}")),
            }
        }
        let value = value.ok_or_else(|| format!("{name} has no value"))?;
        Ok(FamilyScheme {
            desc: match is_counter {
                true => Desc::counter(name, help),
                false => Desc::gauge(name, help),
            },
            value,
            factor,
            by_domain: value.is_by_domain(),
        })
    }
}

fn choice<T: Copy>(text: &str, of: &[(&str, T)]) -> Result<T, String> {
    let found = of.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("unknown word {text}"))
}

fn map(node: &Node) -> Result<&[(String, Node)], String> {
    match node {
        Node::Map(entries) => Ok(entries),
        node => Err(format!("{} instead of a mapping", node.found())),
    }
}

fn list(node: &Node) -> Result<&[Node], String> {
    match node {
        Node::List(items) => Ok(items),
        node => Err(format!("{} instead of a list", node.found())),
    }
}

fn text_of(node: &Node) -> Result<String, String> {
    match node {
        Node::Text(text) => Ok(text.clone()),
        node => Err(format!("{} instead of text", node.found())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Kind as FamilyKind;

    /// The fields that there are, of all subjects.
    const FIELDS: [&str; 35] = [
        "kind",
        "name",
        "namespace",
        "pod",
        "pod_container",
        "container_id",
        "container_name",
        "runtime",
        "pod_uid",
        "pod_node",
        "scheduler",
        "is_containerd",
        "machine",
        "hypervisor",
        "pid",
        "exe_path",
        "exe",
        "cmdline",
        "process_type",
        "zone",
        "domain",
        "meter",
        "gpu",
        "rail",
        "socket",
        "part_of_socket",
        "node",
        "version",
        "arch",
        "processor",
        "vendor_id",
        "model_name",
        "physical_id",
        "core_id",
        "device",
    ];
    const OF_DISKS: [&str; 2] = ["mount_point", "file_system"];

    #[test]
    fn every_scheme_is_read_and_names_what_there_is() {
        let mut seen = Vec::new();
        for name in names() {
            let scheme = Scheme::named(name).unwrap();
            for group in &scheme.groups {
                assert!(!group.of.is_empty() && !group.families.is_empty(), "{name}");
                for (label, _) in &group.labels {
                    assert!(crate::config::is_taken_label(label), "{name}: {label}");
                }
                let fields = group.labels.iter().filter_map(|(_, label)| match label {
                    Label::Field(field) => Some(field),
                    Label::Constant(_) => None,
                });
                for field in fields.chain(&group.with) {
                    let is_known = FIELDS.contains(&field.as_str())
                        || OF_DISKS.contains(&field.as_str())
                        || field.starts_with("label.");
                    assert!(is_known, "{name}: {field}");
                }
                for FamilyScheme { desc, .. } in &group.families {
                    let (family, help) = (desc.name.to_string(), &desc.help);
                    assert!(help.ends_with('.') && help.len() > 10, "{family}: {help}");
                    let is_total = family.ends_with("_total") || family.ends_with("microjoules");
                    assert_eq!(desc.kind == FamilyKind::Counter, is_total, "{family}");
                    assert!(!seen.contains(&family), "{family}");
                    seen.push(family);
                }
            }
        }
        assert_eq!(
            Scheme::named("nobody").unwrap_err(),
            "unknown naming scheme nobody: there are native, kepler, scaphandre"
        );
        assert!(Scheme::named(NATIVE).unwrap().has_ended_energy());
        assert!(!Scheme::named("kepler").unwrap().has_ended_energy());
        for (name, kind, expected) in [
            (NATIVE, Kind::Container, false),
            ("kepler", Kind::Container, true),
            ("kepler", Kind::Service, false),
            ("kepler", Kind::Process, true),
            ("scaphandre", Kind::Container, false),
            ("scaphandre", Kind::Process, true),
        ] {
            let scheme = Scheme::named(name).unwrap();
            assert_eq!(scheme.tells_containers_apart(&[kind]), expected, "{name}");
        }
        assert!(Scheme::named("scaphandre")
            .unwrap()
            .has_process_field("cmdline"));
    }

    #[test]
    fn wrong_schemes_are_refused_by_word() {
        for (text, expected) in [
            ("zone: 1\n", "unknown key zone"),
            ("groups: 1\n", "1 instead of a list"),
            ("groups: [{of: [nobody]}]\n", "unknown word nobody"),
            (
                "groups: [{of: [node], families: [{name: a}]}]\n",
                "a has no value",
            ),
            (
                "groups: [{of: [node], families: [{name: a, value: b}]}]\n",
                "unknown word b",
            ),
            (
                "groups: [{of: [node], families: [{name: a, value: one, unit: mile}]}]\n",
                "unknown word mile",
            ),
            ("groups: [{labels: {a: []}}]\n", "a list instead of text"),
        ] {
            let error = Scheme::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
