//! The series that the naming schemes have for workloads, domains and the board, and how values come into them.
//!
//! A [`Binding`] is a series and the quantity that goes into it. Workloads with the same labels have one series, which is their
//! sum: a pod's is that of its containers.

use std::sync::Arc;

use super::host::{Disk, Processor};
use super::ledger::FIRST;
use super::name::Kind;
use super::scheme::{FamilyGroup, FamilyScheme, Scheme, Subject, Value};
use crate::metrics::{Group, Kind as FamilyKind, Readings, SeriesId};

/// A series and the quantity that it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    series: SeriesId,
    pub value: Value,
    /// The index of the domain, if the quantity is a domain's.
    pub domain: usize,
    factor: f64,
    is_counter: bool,
    /// Whether the scheme has energy of ended workloads in a family of its own.
    has_ended: bool,
}

/// Something other than a workload that has series. It is known by what it is called, because indexes change where things come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Thing {
    /// The domain of the binding.
    Domain,
    /// The rail of this name of the domain.
    Rail(Arc<str>),
    Node,
    Processor(Arc<Processor>),
    Disk(Arc<Disk>),
}

impl Thing {
    fn subject(&self) -> Subject {
        match self {
            Thing::Domain => Subject::Domain,
            Thing::Rail(_) => Subject::Rail,
            Thing::Node => Subject::Node,
            Thing::Processor(_) => Subject::Processor,
            Thing::Disk(_) => Subject::Disk,
        }
    }
}

/// A series and what goes into it. That of several bindings is summed up; that of one is set at once.
#[derive(Debug)]
struct Output {
    series: SeriesId,
    /// How many bindings it has.
    references: u32,
    /// What ended workloads had: it stays, so that a counter that others have, too, does not fall.
    ended: f64,
    sum: f64,
    is_set: bool,
}

/// A naming scheme that is used, and which domains its zones are.
#[derive(Debug)]
struct SchemeInUse {
    scheme: Scheme,
    /// A zone that was once found keeps its domain, so that its counters do not fall.
    zones: Vec<(String, Option<usize>)>,
    /// Whether the series of domains, the board and its processors are in this group.
    shows_board: bool,
}

/// All series.
pub(super) struct Outputs {
    group: Arc<Group>,
    /// What energy is attributed to here.
    kinds: Vec<Kind>,
    schemes: Vec<SchemeInUse>,
    /// Domains that few workloads use: these alone have series there.
    sparse: Vec<usize>,
    /// By the series' places in the group.
    outputs: Vec<Option<Output>>,
    /// Whether one of them has had several bindings.
    has_shared: bool,
    /// By the workloads' places.
    workloads: Vec<Vec<Binding>>,
    /// Energy of ended workloads by domain, in joules, that shared series of living ones still have. It is not in the family of ended
    /// workloads, where that is another one.
    ended_in_shared_series: Vec<f64>,
    things: Vec<(Thing, Binding)>,
}

impl Outputs {
    /// The series of these schemes for workloads of these kinds; those about the board only where that is said.
    pub(super) fn new(group: &Arc<Group>, kinds: &[Kind], schemes: Vec<(Scheme, bool)>) -> Outputs {
        let schemes = schemes
            .into_iter()
            .map(|(scheme, shows_board)| SchemeInUse {
                zones: match &scheme.zones {
                    Some(zones) => zones.iter().map(|(zone, _)| (zone.clone(), None)).collect(),
                    None => Vec::new(),
                },
                scheme,
                shows_board,
            });
        Outputs {
            group: Arc::clone(group),
            kinds: kinds.to_vec(),
            schemes: schemes.collect(),
            sparse: Vec::new(),
            outputs: Vec::new(),
            has_shared: false,
            workloads: Vec::new(),
            ended_in_shared_series: Vec::new(),
            things: Vec::new(),
        }
    }

    /// Whether there are series about this.
    pub(super) fn are_of(&self, subject: Subject) -> bool {
        let mut schemes = self.schemes.iter();
        schemes.any(|used| used.shows_board && used.scheme.is_of(subject))
    }

    /// Gives the zones their domains, of these names.
    pub(super) fn set_domains(&mut self, domains: &[&str]) {
        for SchemeInUse { scheme, zones, .. } in &mut self.schemes {
            match &scheme.zones {
                None => {
                    for (index, domain) in domains.iter().enumerate().skip(zones.len()) {
                        zones.push((domain.to_string(), Some(index)));
                    }
                }
                Some(known) => {
                    for ((_, domain), (_, candidates)) in zones.iter_mut().zip(known) {
                        let mut found = candidates
                            .iter()
                            .filter_map(|name| domains.iter().position(|domain| domain == name));
                        *domain = domain.or_else(|| found.next());
                    }
                }
            }
        }
    }

    /// Few workloads use this domain.
    pub(super) fn set_sparse(&mut self, domain: usize) {
        if !self.sparse.contains(&domain) {
            self.sparse.push(domain);
        }
    }

    /// Whether a workload has series in a domain.
    pub(super) fn is_in(&self, place: usize, domain: usize) -> bool {
        let mut bindings = self.workloads.get(place).into_iter().flatten();
        bindings.any(|binding| binding.value == Value::Energy && binding.domain == domain)
    }

    /// How many workloads have series in domains that few use, each domain by itself.
    pub(super) fn sparse_users(&self) -> usize {
        // The kernel and the rest are in all of them.
        let bindings = self.workloads.iter().skip(FIRST).flatten();
        let is_use = |binding: &&Binding| {
            binding.value == Value::Energy && self.sparse.contains(&binding.domain)
        };
        bindings.filter(is_use).count()
    }

    /// How many series a workload has at most, but for domains that few use.
    pub(super) fn per_workload(&self) -> usize {
        let of_kind = |kind: Kind| {
            let mut count = 0;
            for SchemeInUse { scheme, zones, .. } in &self.schemes {
                let is_everyones = |domain: &usize| !self.sparse.contains(domain);
                let zones = zones.iter().filter_map(|(_, domain)| domain.as_ref());
                let zones = zones.filter(|domain| is_everyones(domain)).count();
                let groups = scheme.groups.iter();
                let families = groups
                    .filter(|group| group.is_of(Subject::Workload(kind)))
                    .flat_map(|group| &group.families);
                count += families
                    .map(|family| if family.by_domain { zones } else { 1 })
                    .sum::<usize>();
            }
            count
        };
        let most = self.kinds.iter().map(|kind| of_kind(*kind)).max();
        most.unwrap_or(0).max(1)
    }

    /// Gives a workload the series that it does not have yet, with those of this domain, or without the domains that few use. `field`
    /// has the values of its labels.
    pub(super) fn add_workload(
        &mut self,
        place: usize,
        kind: Kind,
        domain: Option<usize>,
        field: &dyn Fn(&str) -> Option<String>,
    ) {
        if self.workloads.len() <= place {
            self.workloads.resize_with(place + 1, Vec::new);
        }
        let known = std::mem::take(&mut self.workloads[place]);
        let subject = Subject::Workload(kind);
        let new = self.bind(subject, domain, field, |binding| {
            known.iter().any(|one| one.series == binding.series)
        });
        self.workloads[place] = known;
        self.workloads[place].extend(new);
    }

    /// Gives something else the series that it does not have yet; a domain or a counter of one is that of this index.
    pub(super) fn add_thing(
        &mut self,
        thing: Thing,
        domain: Option<usize>,
        field: &dyn Fn(&str) -> Option<String>,
    ) {
        let known = std::mem::take(&mut self.things);
        // Two dies of a socket are one series, which is their sum; a series belongs to one domain.
        let new = self.bind(thing.subject(), domain, field, |binding| {
            let mut known = known.iter().filter(|(_, one)| one.series == binding.series);
            known.any(|(other, one)| *other == thing || one.domain != binding.domain)
        });
        self.things = known;
        self.things
            .extend(new.into_iter().map(|binding| (thing.clone(), binding)));
    }

    /// Ends the series of things that are not there any more. `value` has what they had.
    pub(super) fn retain_things(
        &mut self,
        is_there: impl Fn(&Thing, &Binding) -> bool,
        value: impl Fn(&Thing, &Binding) -> Option<f64>,
    ) {
        let things = std::mem::take(&mut self.things);
        let (there, gone): (Vec<_>, Vec<_>) = things
            .into_iter()
            .partition(|(thing, binding)| is_there(thing, binding));
        self.things = there;
        for (thing, binding) in gone {
            self.release(&binding, || value(&thing, &binding));
        }
    }

    /// Registers the series of a subject that are not known yet; only those of one domain, if it is given.
    fn bind(
        &mut self,
        subject: Subject,
        only: Option<usize>,
        field: &dyn Fn(&str) -> Option<String>,
        is_known: impl Fn(&Binding) -> bool,
    ) -> Vec<Binding> {
        let mut new = Vec::new();
        let Outputs {
            group,
            kinds,
            schemes,
            sparse,
            outputs,
            has_shared,
            ..
        } = self;
        let is_rest = matches!(
            subject,
            Subject::Workload(Kind::System | Kind::Other) | Subject::Domain
        );
        let is_wanted = |domain: usize| match only {
            Some(only) => only == domain,
            None => is_rest || !sparse.contains(&domain),
        };
        // The kernel and `other` have the families of what they are the rest of.
        let is_shown_for_rest = |families: &FamilyGroup| match subject {
            Subject::Workload(Kind::System | Kind::Other) => {
                let mut kinds = kinds.iter().map(|kind| Subject::Workload(*kind));
                kinds.any(|kind| families.is_of(kind))
            }
            _ => true,
        };
        for SchemeInUse {
            scheme,
            zones,
            shows_board,
        } in schemes
        {
            let is_shown = *shows_board || matches!(subject, Subject::Workload(_));
            let has_ended = scheme.has_ended_energy();
            for families in scheme.groups.iter().filter(|group| group.is_of(subject)) {
                let lacks = |name: &String| field(name).is_none_or(|value| value.is_empty());
                if !is_shown
                    || !is_shown_for_rest(families)
                    || families.with.as_ref().is_some_and(lacks)
                {
                    continue;
                }
                for family in &families.families {
                    let mut add = |domain: usize, zone: Option<&str>| {
                        let binding = Binding {
                            series: register(group, families, family, zone, field),
                            value: family.value,
                            domain,
                            factor: family.factor,
                            is_counter: family.desc.kind == FamilyKind::Counter,
                            has_ended: has_ended && family.value == Value::Energy,
                        };
                        if is_known(&binding) {
                            return;
                        }
                        if let Some(references) = add_reference(outputs, binding.series) {
                            *has_shared |= references > 1;
                            new.push(binding);
                        }
                    };
                    if !family.by_domain {
                        add(only.unwrap_or_default(), None);
                        continue;
                    }
                    for (zone, domain) in zones.iter() {
                        match domain {
                            Some(domain) if is_wanted(*domain) => add(*domain, Some(zone)),
                            _ => {}
                        }
                    }
                }
            }
        }
        new
    }

    /// The workload at this place has ended. `value` has what it had.
    pub(super) fn end_workload(&mut self, place: usize, value: impl Fn(&Binding) -> Option<f64>) {
        let Some(bindings) = self.workloads.get_mut(place).map(std::mem::take) else {
            return;
        };
        for binding in bindings {
            let change = self.release(&binding, || value(&binding));
            if binding.has_ended {
                if self.ended_in_shared_series.len() <= binding.domain {
                    self.ended_in_shared_series.resize(binding.domain + 1, 0.0);
                }
                self.ended_in_shared_series[binding.domain] += change;
            }
        }
    }

    /// Removes a reference to a series' output; the series ends with the last one. A counter that others have, too, keeps what this one
    /// had. Returns by how much the energy that the output keeps of ended ones changes.
    fn release(&mut self, binding: &Binding, value: impl FnOnce() -> Option<f64>) -> f64 {
        let Some(slot) = self.outputs.get_mut(binding.series.place() as usize) else {
            return 0.0;
        };
        let Some(output) = slot else {
            return 0.0;
        };
        output.references -= 1;
        if output.references == 0 {
            let ended = output.ended;
            *slot = None;
            self.group.retire(binding.series);
            return -ended;
        }
        let change = match binding.is_counter {
            true => value().unwrap_or_default() * binding.factor,
            false => 0.0,
        };
        output.ended += change;
        change
    }

    /// Publishes all values.
    pub(super) fn publish(
        &mut self,
        out: &mut Readings,
        of_workload: impl Fn(usize, &Binding) -> Option<f64>,
        of_thing: impl Fn(&Thing, &Binding) -> Option<f64>,
    ) {
        let Outputs {
            outputs,
            has_shared,
            workloads,
            ended_in_shared_series,
            things,
            ..
        } = self;
        if *has_shared {
            for output in outputs.iter_mut().flatten() {
                output.sum = output.ended;
                output.is_set = false;
            }
        }
        let mut add = |binding: &Binding, value: Option<f64>| {
            let output = outputs.get_mut(binding.series.place() as usize);
            let (Some(Some(output)), Some(value)) = (output, value) else {
                return;
            };
            let value = value * binding.factor;
            if output.references == 1 {
                out.set(binding.series, output.ended + value);
                return;
            }
            output.sum += value;
            output.is_set = true;
        };
        for (place, bindings) in workloads.iter().enumerate() {
            for binding in bindings {
                add(binding, of_workload(place, binding));
            }
        }
        for (thing, binding) in things {
            let mut value = of_thing(thing, binding);
            if let (Some(value), Value::EndedEnergy) = (&mut value, binding.value) {
                *value -= ended_in_shared_series
                    .get(binding.domain)
                    .copied()
                    .unwrap_or_default();
            }
            add(binding, value);
        }
        if *has_shared {
            for output in outputs.iter().flatten().filter(|output| output.is_set) {
                out.set(output.series, output.sum);
            }
        }
    }
}

/// Registers a series.
fn register(
    group: &Group,
    families: &FamilyGroup,
    family: &FamilyScheme,
    zone: Option<&str>,
    field: &dyn Fn(&str) -> Option<String>,
) -> SeriesId {
    let labels = families.labels(family, |name| match (name, zone) {
        ("zone" | "domain", Some(zone)) => Some(zone.to_string()),
        (name, _) => field(name),
    });
    let labels: Vec<_> = labels
        .iter()
        .map(|(label, value)| (*label, value.as_str()))
        .collect();
    group.series(&family.desc, &labels)
}

/// Adds a reference to a series' output, and returns how many it has. `None`: there was no room for the series.
fn add_reference(outputs: &mut Vec<Option<Output>>, series: SeriesId) -> Option<u32> {
    let place = series.place() as usize;
    if place >= crate::metrics::MAX_SERIES_PER_GROUP {
        return None;
    }
    if outputs.len() <= place {
        outputs.resize_with(place + 1, || None);
    }
    let output = outputs[place].get_or_insert(Output {
        series,
        references: 0,
        ended: 0.0,
        sum: 0.0,
        is_set: false,
    });
    output.references += 1;
    Some(output.references)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Policy, Registry};
    use crate::sys::clock::BootTime;

    struct Bench {
        registry: Registry,
        group: Arc<Group>,
        outputs: Outputs,
        /// What the ledger says of ended workloads, in joules.
        ended: f64,
    }

    impl Bench {
        fn new(scheme: &str, kinds: &[Kind]) -> Bench {
            let registry = Registry::new(Policy::All);
            let group = registry.add_group(0, "workloads", vec![]);
            let scheme = Scheme::named(scheme).unwrap();
            Bench {
                outputs: Outputs::new(&group, kinds, vec![(scheme, true)]),
                registry,
                group,
                ended: 0.0,
            }
        }

        /// A container of the pod `p`, which has so many joules.
        fn add(&mut self, place: usize, id: &str) {
            let id = id.to_string();
            self.outputs
                .add_workload(place, Kind::Pod, None, &|field| match field {
                    "container_id" | "container_name" => Some(id.clone()),
                    "pod" | "pod_uid" => Some("p".to_string()),
                    _ => None,
                });
        }

        /// The lines of a family, after each workload had so many joules.
        fn lines(&mut self, second: u64, joules: &[f64], family: &str) -> Vec<String> {
            let mut out = Readings::new(5.0);
            out.begin(BootTime(second * 1_000_000_000));
            let of_workload = |place: usize, _: &Binding| joules.get(place).copied();
            let ended = self.ended;
            let of_thing = |_: &Thing, binding: &Binding| {
                let is_ended = binding.value == Value::EndedEnergy;
                is_ended.then_some(ended)
            };
            self.outputs.publish(&mut out, of_workload, of_thing);
            self.group.publish(self.group.new_generation(), &out);
            let snapshot = self.registry.snapshot(BootTime(second * 1_000_000_000));
            let mut lines = Vec::new();
            for found in snapshot
                .families()
                .filter(|found| found.family.name == family)
            {
                lines.extend(
                    found
                        .lines()
                        .map(|(prefix, value)| format!("{prefix}{value}")),
                );
            }
            lines
        }
    }

    const POD: &str = "kepler_pod_cpu_joules_total";

    #[test]
    fn pods_series_is_the_sum_of_its_containers_and_keeps_that_of_an_ended_one() {
        let mut bench = Bench::new("kepler", &[Kind::Pod]);
        bench.outputs.set_domains(&["package"]);
        bench.add(0, "a");
        bench.add(1, "b");
        // What is there already is not added again.
        bench.add(1, "b");
        let pod = |joules: f64| {
            [format!(
                "{POD}{{pod_id=\"p\",pod_name=\"p\",state=\"running\",zone=\"package\"}} {joules}"
            )]
        };
        assert_eq!(bench.lines(1, &[2.0, 3.0], POD), pod(5.0));
        let containers = bench.lines(2, &[2.0, 3.0], "kepler_container_cpu_joules_total");
        assert_eq!(containers.len(), 2, "{containers:?}");
        bench.outputs.end_workload(0, |_| Some(2.0));
        assert_eq!(bench.lines(3, &[0.0, 4.0], POD), pod(6.0));
        bench.outputs.end_workload(1, |_| Some(4.0));
        assert_eq!(bench.lines(4, &[0.0, 0.0], POD), [""; 0]);
        // Another pod of the same labels begins anew.
        bench.add(0, "c");
        assert_eq!(bench.lines(5, &[1.0], POD), pod(1.0));
    }

    #[test]
    fn energy_of_an_ended_workload_is_in_its_series_or_among_the_ended() {
        let mut bench = Bench::new("native", &[Kind::Pod]);
        bench.outputs.set_domains(&["board"]);
        bench.outputs.add_thing(Thing::Domain, Some(0), &|_| None);
        bench.add(0, "a");
        bench.add(1, "b");
        let energy = "workload_energy_joules_total";
        let ended = "workload_ended_energy_joules_total";
        let series = |joules: f64| [format!("{energy}{{domain=\"board\",pod=\"p\"}} {joules}")];
        let among_ended = |joules: f64| [format!("{ended}{{domain=\"board\"}} {joules}")];
        assert_eq!(bench.lines(1, &[2.0, 3.0], energy), series(5.0));
        bench.outputs.end_workload(0, |_| Some(2.0));
        bench.ended = 2.0;
        assert_eq!(bench.lines(2, &[0.0, 3.0], energy), series(5.0));
        assert_eq!(bench.lines(2, &[0.0, 3.0], ended), among_ended(0.0));
        bench.outputs.end_workload(1, |_| Some(3.0));
        bench.ended = 5.0;
        assert_eq!(bench.lines(3, &[0.0, 0.0], energy), [""; 0]);
        assert_eq!(bench.lines(3, &[0.0, 0.0], ended), among_ended(5.0));
    }

    #[test]
    fn the_kernel_is_shown_beside_processes_only() {
        let energy = "kepler_process_cpu_joules_total";
        for (kinds, count) in [([Kind::Pod], 0), ([Kind::Process], 1)] {
            let mut bench = Bench::new("kepler", &kinds);
            bench.outputs.set_domains(&["board"]);
            bench.outputs.add_workload(0, Kind::System, None, &|_| None);
            // The zones package and psys are both the board.
            assert_eq!(bench.lines(1, &[1.0], energy).len(), 2 * count);
        }
    }

    #[test]
    fn zone_is_the_best_domain_there_is_and_keeps_it() {
        let mut bench = Bench::new("kepler", &[Kind::Process]);
        assert_eq!(bench.outputs.per_workload(), 1);
        bench.outputs.set_domains(&["board", "cpu_gpu_cv"]);
        let zones = |bench: &Bench| bench.outputs.schemes[0].zones.clone();
        let of = |zone: &str, domain| (zone.to_string(), domain);
        let expected = [
            of("package", Some(1)),
            of("core", None),
            of("dram", None),
            of("psys", Some(0)),
        ];
        assert_eq!(zones(&bench), expected);
        bench
            .outputs
            .set_domains(&["board", "cpu_gpu_cv", "package", "core"]);
        assert_eq!(zones(&bench)[0], of("package", Some(1)));
        assert_eq!(zones(&bench)[1], of("core", Some(3)));
        // Two in each of three zones, and one of its own.
        assert_eq!(bench.outputs.per_workload(), 7);
        let mut pods = Bench::new("kepler", &[Kind::Service, Kind::Pod]);
        pods.outputs.set_domains(&["board", "cpu_gpu_cv", "core"]);
        assert_eq!(pods.outputs.per_workload(), 13);
        let mut native = Bench::new("native", &[Kind::Service]);
        native.outputs.set_domains(&["board", "core"]);
        // Two in each of two domains, CPU time and memory.
        assert_eq!(native.outputs.per_workload(), 6);
    }
}
