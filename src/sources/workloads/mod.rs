//! Energy by workload: what every power domain that has a meter has drawn, by service, container and pod, or by process.
//!
//! Unlike other sources this one reads what they have measured, out of the registry, and CPU time from the kernel. The model
//! is in [`ledger`], what the numbers mean in docs/workloads.md.

mod cgroups;
mod counter;
mod domain;
mod idle;
mod ledger;
pub mod name;
mod processes;
mod settings;
mod slots;
#[cfg(test)]
mod testing;
pub mod usage;

use std::path::Path;
use std::sync::Arc;

use super::{read_text, Board, Context, Error, Health, Meter, Pace, Source, METERS};
use crate::config::{Config, SectionSpec, Switch};
use crate::metrics::{Desc, Group, Readings, SeriesId, MAX_SERIES_PER_GROUP};
use crate::sys::clock::BootTime;
use cgroups::{Cgroups, Hierarchy};
use domain::Domain;
use ledger::{Ledger, OTHER, SYSTEM};
use name::{Kind, Name, Workload};
use processes::Processes;
use settings::Settings;
use slots::Slots;

/// The meter.
pub(super) const METER: Meter = Meter {
    name: "workloads",
    summary: "energy by service, container, pod or process, of what the other sources measure",
    device_types: &[],
    pace: Pace::Interval,
    switch: |config| match config.meter::<Settings>().enabled {
        true => Switch::On,
        false => Switch::Off,
    },
    section: SectionSpec::of::<Settings>(),
    devices: None,
    probe,
    claims: None,
    open,
};

/// How long attribution waits for the first readings of other sources, in seconds.
const METERS_TIMEOUT: f64 = 10.0;
/// The number of series for workloads that exist. The rest of the group's series are for workloads that have ended: their places
/// are taken as long as the history has values of them.
const LIVE_SERIES: usize = MAX_SERIES_PER_GROUP / 4 * 3;
/// The number of series that are kept free for domains that are found later. Each domain has ten series besides those of its
/// workloads.
const DOMAIN_SERIES: usize = 100;

fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    let settings: Settings = config.meter();
    if !settings.enabled {
        return Err(Error::new("it is off (workloads: {enabled: true})"));
    }
    if settings.kinds == [Kind::Process] {
        return Ok("processes by name".to_string());
    }
    let kinds: Vec<_> = settings.kinds.iter().map(|kind| kind.as_str()).collect();
    let hierarchy = Hierarchy::find(board)?;
    Ok(format!(
        "{} by {} at {}",
        kinds.join(", "),
        hierarchy.version(),
        hierarchy.root.display()
    ))
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let settings: Settings = context.config.meter();
    let Context { board, health, .. } = context;
    let reader = match settings.kinds.as_slice() {
        [Kind::Process] => Reader::Processes(Processes::new(health, &board.roots.procfs)),
        kinds => Reader::Cgroups(Cgroups::new(
            health,
            Hierarchy::find(board)?,
            &board.roots.procfs,
            kinds.to_vec(),
        )),
    };
    // What the source had named with other settings.
    context.group.retire_all();
    let mut workloads = Workloads {
        context: context.clone(),
        reader,
        slots: Slots::new(settings.max_workloads),
        settings,
        processors: 1.0,
        version: None,
        domains: Vec::new(),
        cpu: Vec::new(),
        used: Vec::new(),
        last_at: None,
        has_begun: false,
        waits_since: None,
        domains_are_known: false,
    };
    workloads.count_processors();
    workloads.register(SYSTEM);
    workloads.register(OTHER);
    Ok(Box::new(workloads))
}

/// Counts workloads without a place, and says once that there are any.
fn leave_out_workloads(health: &Health, count: u64) {
    health.left_out("workloads", count, || {
        format!(
            "there are more workloads than workloads.max_workloads and {MAX_SERIES_PER_GROUP} series have room for: they are \
             counted as other"
        )
    });
}

/// Reads CPU time by workload.
enum Reader {
    Cgroups(Cgroups),
    Processes(Processes),
}

struct Workloads {
    context: Context,
    settings: Settings,
    reader: Reader,
    slots: Slots,
    /// Processors that are on.
    processors: f64,
    /// The registry's version when the domains were last looked for.
    version: Option<u64>,
    domains: Vec<Attributed>,
    /// By place.
    cpu: Vec<CpuTime>,
    /// CPU time since the last poll by place, in nanoseconds.
    used: Vec<u64>,
    last_at: Option<BootTime>,
    has_begun: bool,
    waits_since: Option<BootTime>,
    /// There was time for every source to register what it has.
    domains_are_known: bool,
}

/// A workload's CPU time.
#[derive(Clone, Copy, Default)]
struct CpuTime {
    nanos: u64,
    series: Option<SeriesId>,
}

/// A domain, its energy by workload, and where that is shown.
struct Attributed {
    domain: Domain,
    ledger: Ledger,
    /// Energy and power, by place.
    series: Vec<Option<[SeriesId; 2]>>,
    total: SeriesId,
    ended: SeriesId,
    idle: SeriesId,
    idle_watts: SeriesId,
    fit: SeriesId,
    error: SeriesId,
}

impl Source for Workloads {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        if self.waits_for_meters(out.at) {
            out.suspended = true;
            return Ok(());
        }
        self.find_domains();
        let Workloads {
            reader,
            slots,
            used,
            ..
        } = self;
        match reader {
            Reader::Cgroups(cgroups) => cgroups.poll(slots, used)?,
            Reader::Processes(processes) => processes.poll(slots, used)?,
        }
        for place in self.slots.take_ended() {
            self.end(place);
        }
        for place in self.slots.take_started() {
            self.register(place);
        }
        self.attribute(out.at);
        self.publish(out);
        Ok(())
    }

    /// What was attributed is kept while the kernel cannot be asked.
    fn reconnects(&self) -> bool {
        true
    }

    fn rescan(&mut self) {
        if let Reader::Cgroups(cgroups) = &mut self.reader {
            cgroups.rescan();
        }
        self.count_processors();
        if !std::mem::replace(&mut self.domains_are_known, true) {
            self.check_idle_watts();
        }
    }
}

impl Workloads {
    /// Whether some meter has yet to say what it has: attribution begins for all domains at the same moment.
    fn waits_for_meters(&mut self, at: BootTime) -> bool {
        if self.has_begun {
            return false;
        }
        let waits_since = *self.waits_since.get_or_insert(at);
        let is_awaited = |group: &Arc<Group>| {
            let is_meter = METERS.iter().any(|meter| meter.name == group.source);
            is_meter && !Arc::ptr_eq(group, &self.context.group) && !group.is_settled()
        };
        let groups = self.context.registry.groups();
        let is_late = at.seconds_since(waits_since) >= METERS_TIMEOUT;
        self.has_begun = is_late || !groups.iter().any(is_awaited);
        !self.has_begun
    }

    /// Looks for domains, if any series has come or gone.
    fn find_domains(&mut self) {
        let Context {
            registry, group, ..
        } = &self.context;
        let version = registry.version();
        if self.version != Some(version) {
            self.version = Some(version);
            let known = self.domains.len();
            for domain in domain::find(registry, group) {
                match self
                    .domains
                    .iter_mut()
                    .find(|one| one.domain.name == domain.name)
                {
                    Some(known) => known.domain.replace_with(domain),
                    None => {
                        let given = self.settings.idle_watts.get(&domain.name);
                        self.domains
                            .push(Attributed::new(group, domain, given.copied()));
                    }
                }
            }
            if self.domains.len() > known {
                self.show_new_domains(known);
            }
        }
        let per_workload = 1 + 2 * self.domains.len();
        let room = self.context.group.room().saturating_sub(DOMAIN_SERIES);
        self.slots.set_room(room / per_workload);
    }

    /// Gives every workload its series in the domains from this one on.
    fn show_new_domains(&mut self, first: usize) {
        let per_workload = 1 + 2 * self.domains.len();
        let max = self.settings.max_workloads;
        self.slots.set_max(max.min(LIVE_SERIES / per_workload));
        // The rest of the group may be taken by workloads that have ended.
        let needed = 2 * (self.domains.len() - first) * self.slots.all().count();
        let is_full = needed + DOMAIN_SERIES > self.context.group.room();
        if self.slots.are_too_many() || is_full {
            match &mut self.reader {
                Reader::Cgroups(cgroups) => cgroups.unname(&mut self.slots),
                Reader::Processes(processes) => processes.unname(&mut self.slots),
            }
            for place in self.slots.take_ended() {
                self.end(place);
            }
        }
        let group = &self.context.group;
        for attributed in self.domains.iter_mut().skip(first) {
            for (place, workload) in [(SYSTEM, &system()), (OTHER, &other())] {
                attributed.register(group, place, workload);
            }
            for (place, workload) in self.slots.all() {
                attributed.register(group, place, workload);
            }
        }
    }

    /// Gives a workload its series.
    fn register(&mut self, place: usize) {
        let (system, other) = (system(), other());
        let workload = match place {
            SYSTEM => &system,
            OTHER => &other,
            place => match self.slots.workload(place) {
                Some(workload) => workload,
                None => return,
            },
        };
        let group = &self.context.group;
        let desc = Desc::counter(
            "workload_cpu_seconds_total",
            "CPU time of the workload since attribution began, in seconds.",
        );
        let labels: Vec<_> = workload.name.labels().collect();
        if self.cpu.len() <= place {
            self.cpu.resize(place + 1, CpuTime::default());
        }
        self.cpu[place] = CpuTime {
            nanos: 0,
            series: Some(group.series(&desc, &labels)),
        };
        for attributed in &mut self.domains {
            attributed.register(group, place, workload);
        }
    }

    /// The workload at this place has ended.
    fn end(&mut self, place: usize) {
        let group = &self.context.group;
        if let Some(cpu) = self.cpu.get_mut(place) {
            if let Some(series) = std::mem::take(cpu).series {
                group.retire(series);
            }
        }
        for attributed in &mut self.domains {
            attributed.ledger.end(place);
            let series = attributed.series.get_mut(place).and_then(Option::take);
            for series in series.into_iter().flatten() {
                group.retire(series);
            }
        }
    }

    /// Shares what the domains have drawn by the CPU time that was used.
    fn attribute(&mut self, at: BootTime) {
        let seconds = self.last_at.map_or(0.0, |last| at.seconds_since(last));
        self.last_at = Some(at);
        for (cpu, used) in self.cpu.iter_mut().zip(&self.used) {
            cpu.nanos = cpu.nanos.saturating_add(*used);
        }
        for attributed in &mut self.domains {
            let Attributed { domain, ledger, .. } = attributed;
            ledger.make_room(self.slots.places());
            ledger.add_cpu(&self.used, seconds);
            let was_read = domain.was_read();
            match domain.read(at) {
                Some(reading) => ledger.share(reading, self.processors),
                // What is used before the domain's first reading has no part in its energy.
                None if !was_read => ledger.discard_cpu(),
                None => {}
            }
        }
    }

    fn publish(&self, out: &mut Readings) {
        for cpu in &self.cpu {
            if let Some(series) = cpu.series {
                out.set(series, cpu.nanos as f64 / 1e9);
            }
        }
        for attributed in &self.domains {
            attributed.publish(out);
        }
    }

    fn count_processors(&mut self) {
        let Context { board, health, .. } = &self.context;
        let path = board.roots.sysfs.join("devices/system/cpu/online");
        let online = read_text(health, &path).ok();
        let count = online.and_then(|text| usage::parse_cpu_list(&text));
        if let Some(count) = count.filter(|count| *count > 0) {
            self.processors = count as f64;
        }
    }

    /// Says which names of `idle_watts` nothing here is called by.
    fn check_idle_watts(&self) {
        let known: Vec<_> = self
            .domains
            .iter()
            .map(|one| one.domain.name.as_str())
            .collect();
        for name in self.settings.idle_watts.keys() {
            if !known.contains(&name.as_str()) {
                let what = format!(
                    "workloads.idle_watts names {name}, which nothing here measures (measured: {})",
                    known.join(", ")
                );
                log::warn!("{what}");
                self.context
                    .health
                    .set_value_error(Path::new("/"), Some(what));
            }
        }
    }
}

impl Attributed {
    fn new(group: &Group, domain: Domain, given_idle: Option<f64>) -> Attributed {
        let series = |desc: Desc| group.series(&desc, &[("domain", domain.name.as_str())]);
        Attributed {
            total: series(Desc::counter(
                "workload_domain_energy_joules_total",
                "Energy of the domain since attribution began, in joules: the sum of what workloads, ended ones and idle power have.",
            )),
            ended: series(Desc::counter(
                "workload_ended_energy_joules_total",
                "Energy that workloads had used when they ended, in joules.",
            )),
            idle: series(Desc::counter(
                "workload_idle_energy_joules_total",
                "Energy that the domain would have used idle, in joules.",
            )),
            idle_watts: series(Desc::gauge(
                "workload_idle_watts",
                "Idle power of the domain, as configured or learned, in watts; absent while it is unknown.",
            )),
            fit: series(Desc::gauge(
                "workload_idle_fit_ratio",
                "How much of the variance of the domain's power CPU use explains, from 0 to 1.",
            )),
            error: series(Desc::gauge(
                "workload_idle_error_watts",
                "Standard error of the learned idle power, in watts.",
            )),
            ledger: Ledger::new(given_idle),
            series: Vec::new(),
            domain,
        }
    }

    /// Gives a workload its series in this domain.
    fn register(&mut self, group: &Group, place: usize, workload: &Workload) {
        let mut labels: Vec<_> = workload.name.labels().collect();
        labels.push(("domain", &self.domain.name));
        let energy = Desc::counter(
            "workload_energy_joules_total",
            "Energy attributed to the workload since attribution began, by power domain, in joules.",
        );
        let power = Desc::gauge(
            "workload_power_watts",
            "Power attributed to the workload, by power domain, in watts.",
        );
        if self.series.len() <= place {
            self.series.resize(place + 1, None);
        }
        self.series[place] = Some([
            group.series(&energy, &labels),
            group.series(&power, &labels),
        ]);
        self.ledger.make_room(place + 1);
    }

    fn publish(&self, out: &mut Readings) {
        let ledger = &self.ledger;
        for (place, series) in self.series.iter().enumerate() {
            let (Some([energy, power]), Some((joules, watts))) = (series, ledger.of(place)) else {
                continue;
            };
            out.set(*energy, joules);
            if self.domain.is_fresh {
                out.set(*power, watts);
            }
        }
        out.set(self.total, ledger.total_joules);
        out.set(self.ended, ledger.ended_joules);
        out.set(self.idle, ledger.idle_joules);
        if let Some(watts) = ledger.idle_watts() {
            out.set(self.idle_watts, watts);
        }
        if let Some(fit) = ledger.fit() {
            for (series, value) in [(self.fit, fit.quality()), (self.error, fit.error())] {
                if let Some(value) = value {
                    out.set(series, value);
                }
            }
        }
    }
}

fn system() -> Workload {
    Name::new(Kind::System, Kind::System.as_str()).into()
}

fn other() -> Workload {
    Name::new(Kind::Other, Kind::Other.as_str()).into()
}

#[cfg(test)]
mod tests;
