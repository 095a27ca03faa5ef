//! Energy by workload: what every power domain that has a meter has drawn, by service, container and pod, or by process.
//!
//! Unlike other sources this one reads what they have measured, out of the registry, and CPU time from the kernel. The model
//! is in [`ledger`], what the numbers mean in docs/workloads.md.

mod cgroups;
mod coarse;
mod counter;
mod domain;
mod fields;
mod gpu;
mod host;
mod idle;
mod ledger;
mod memory;
pub mod name;
pub mod names;
mod outputs;
mod processes;
mod scheme;
mod settings;
mod slots;
#[cfg(test)]
mod testing;
pub mod usage;

pub use domain::domain_of_rail;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{
    read_text, Board, Context, Device, Error, Health, Meter, Pace, Source, METERS, READ_TIMEOUT,
};
use crate::config::{Config, SectionSpec, Switch};
use crate::metrics::{Desc, Group, Readings, SeriesId, MAX_SERIES_PER_GROUP};
use crate::sys::clock::BootTime;
use cgroups::{Cgroups, Hierarchy};
use domain::Domain;
use fields::Fields;
use gpu::Gpus;
use host::Host;
use ledger::{Ledger, FIRST, OTHER, SYSTEM};
use memory::Memory;
use name::{Kind, Name, Workload};
use names::Names;
use outputs::{Binding, Outputs, Thing};
use processes::{Details, Processes};
use scheme::{Scheme, Subject, Value};
use settings::{Settings, View, DEFAULT_MAX_WORKLOADS};
use slots::{Ended, Slots};

/// The meter.
pub(super) const METER: Meter = Meter {
    name: "workloads",
    summary: "energy by service, container, pod or process, of what the other sources measure",
    device_types: &[],
    pace: Pace::AtLeast(INTERVAL),
    read_timeout: READ_TIMEOUT,
    switch: |config| match config.meter::<Settings>().enabled {
        true => Switch::On,
        false => Switch::Off,
    },
    section: SectionSpec::of::<Settings>(),
    devices: Some(devices),
    probe,
    claims: None,
    open,
};

/// CPU time is read no more often, however often the meters are: a poll reads as many files as there are cgroups.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long attribution waits for the first readings of other sources, in seconds.
const METERS_TIMEOUT: f64 = 10.0;
/// The number of series for workloads that exist. The rest of the group's series are for workloads that have ended: their places
/// are taken as long as the history has values of them.
const LIVE_SERIES: usize = MAX_SERIES_PER_GROUP / 4 * 3;
/// The number of series that are kept free for domains that are found later. Each domain has ten series besides those of its
/// workloads.
const DOMAIN_SERIES: usize = 250;

fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    let settings: Settings = config.meter();
    if !settings.enabled {
        return Err(Error::new("it is off (workloads: {enabled: true})"));
    }
    if settings.kinds == [Kind::Process] {
        return Ok("processes by name".to_string());
    }
    let (processes, kinds): (Vec<_>, Vec<_>) = settings
        .kinds
        .iter()
        .map(|kind| kind.as_str())
        .partition(|kind| *kind == Kind::Process.as_str());
    let hierarchy = Hierarchy::find(board)?;
    Ok(format!(
        "{} by {} at {}{}; {}",
        kinds.join(", "),
        hierarchy.version(),
        hierarchy.root.display(),
        if processes.is_empty() {
            ""
        } else {
            ", and processes by name"
        },
        names::describe(board, &settings.names)
    ))
}

/// A source for each view of the same energy: by cgroup, and by process.
fn devices(config: &Config) -> Vec<Device> {
    let settings: Settings = config.meter();
    let views = settings.views().into_iter();
    views
        .map(|view| Device {
            name: view.name.to_string(),
            settings: Some(Arc::new(settings.clone())),
        })
        .collect()
}

/// A workload's name for people, from its labels: `namespace/pod/container` where these are known.
pub fn full_name<T: AsRef<str>>(label: impl Fn(&str) -> Option<T>) -> String {
    let known = |name: &str| label(name).filter(|value| !value.as_ref().is_empty());
    let pod = match known("pod") {
        Some(pod) => [known("namespace"), Some(pod)],
        None => [None, known("name")],
    };
    let parts = pod.into_iter().chain([known("container")]).flatten();
    let mut full = String::new();
    for part in parts {
        if !full.is_empty() {
            full.push('/');
        }
        full.push_str(part.as_ref());
    }
    full
}

/// Has energy attributed, whatever the configuration says of that.
pub fn turn_on(config: &mut Config) {
    config
        .meters
        .edit::<Settings>(|settings| settings.enabled = true);
    if let Some(sources) = &mut config.sources {
        if !sources.iter().any(|source| source == METER.name) {
            sources.push(METER.name.to_owned());
        }
    }
}

/// Whether it is to be known which processes use the GPUs. Only the exporter's own names have energy of GPUs.
pub fn use_gpu_processes(config: &Config) -> bool {
    let settings: Settings = config.meter();
    let sources = config.sources.as_ref();
    settings.enabled
        && settings.gpu_processes
        && settings.metric_names.contains(&scheme::NATIVE)
        && sources.is_none_or(|names| names.iter().any(|name| name == METER.name))
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let settings: Settings = context.config.meter();
    let Context { board, health, .. } = context;
    let mut views = settings.views().into_iter();
    let view = views.find(|view| view.name == context.device.name);
    let View { kinds, schemes, .. } = view.unwrap_or_default();
    let shows_board = schemes.contains(&(scheme::NATIVE, true));
    let is_native = schemes.iter().any(|(name, _)| *name == scheme::NATIVE);
    let schemes = schemes.into_iter().map(|(name, shows_board)| {
        let mut scheme = Scheme::named(name).map_err(Error::new)?;
        if !settings.memory {
            scheme.remove_memory();
        }
        Ok((scheme, shows_board))
    });
    let schemes = schemes.collect::<Result<Vec<_>, Error>>()?;
    let has_field = |field: &str| schemes.iter().any(|(one, _)| one.has_process_field(field));
    let details = Details {
        is_wanted: has_field("pid"),
        cmdline: has_field("cmdline"),
        memory: settings.memory,
    };
    let mut slots = Slots::new(settings.max_workloads);
    if schemes
        .iter()
        .any(|(scheme, _)| scheme.tells_containers_apart(&kinds))
    {
        slots.tell_apart();
    }
    let reader = match kinds.as_slice() {
        [Kind::Process] => {
            let asked = [Kind::Container, Kind::Pod];
            let asked: &[Kind] = if details.is_wanted { &asked } else { &[] };
            let names = Names::new(health, board, &settings.names, asked);
            let processes = Processes::new(health, &board.roots.procfs, details);
            Reader::Processes(processes.with_names(names))
        }
        kinds => {
            let hierarchy = Hierarchy::find(board)?;
            let cgroups = Cgroups::new(health, hierarchy, &board.roots.procfs, kinds.to_vec());
            let names = Names::new(health, board, &settings.names, kinds);
            Reader::Cgroups(cgroups.with_names(names))
        }
    };
    // What the source had named with other settings.
    context.group.retire_all();
    let has_memory = settings.memory && is_native;
    let mut workloads = Workloads {
        context: context.clone(),
        reader,
        slots,
        outputs: Outputs::new(&context.group, &kinds, schemes),
        host: Host::default(),
        gpus: (settings.gpu_processes && is_native).then(|| Gpus::new(health, &board.roots.procfs)),
        settings,
        processors: None,
        version: None,
        domains: Vec::new(),
        cpu: Vec::new(),
        used: Vec::new(),
        last_at: None,
        seconds: 0.0,
        memory: has_memory
            .then(|| Memory::new(health, board, shows_board.then_some(&context.group))),
        busy: shows_board.then(|| {
            let desc = Desc::counter(
                "board_cpu_seconds_total",
                "CPU time of the whole board since attribution began, in seconds.",
            );
            (context.group.series(&desc, &[]), 0)
        }),
        has_begun: false,
        waits_since: None,
        unknown_domains: None,
    };
    workloads.count_processors();
    workloads.describe_board();
    workloads.register(SYSTEM, None);
    workloads.register(OTHER, None);
    Ok(Box::new(workloads))
}

/// Counts workloads without a place, and says once that there are any.
fn leave_out_workloads(health: &Health, slots: &Slots, count: u64) {
    health.left_out("workloads", count, || {
        format!(
            "there are more workloads than have series of their own: {} at most, as workloads.max_workloads and \
             {MAX_SERIES_PER_GROUP} series allow; the others are counted as other",
            slots.max()
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
    outputs: Outputs,
    host: Host,
    /// `None`: GPUs are no domains.
    gpus: Option<Gpus>,
    /// Processors that are on; `None`: unknown.
    processors: Option<f64>,
    /// [`domain::version`] when the domains were last looked for.
    version: Option<(u64, u64)>,
    domains: Vec<Attributed>,
    /// CPU time by place, in nanoseconds.
    cpu: Vec<u64>,
    /// CPU time since the last poll by place, in nanoseconds.
    used: Vec<u64>,
    last_at: Option<BootTime>,
    /// The seconds between the last two polls.
    seconds: f64,
    memory: Option<Memory>,
    /// The board's CPU time since attribution began, in nanoseconds, and its series.
    busy: Option<(SeriesId, u64)>,
    has_begun: bool,
    waits_since: Option<BootTime>,
    /// What was last said of names of `idle_watts` that are no domain's.
    unknown_domains: Option<String>,
}

/// A domain, and its energy by workload.
struct Attributed {
    domain: Domain,
    ledger: Ledger,
    hidden: Hidden,
}

/// What workloads that wait for their names have in a domain. It is shown once they have them.
#[derive(Debug, Clone, Copy, Default)]
struct Hidden {
    watts: f64,
    /// The domain's energy without theirs, in joules. It never falls.
    shown_joules: f64,
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
        let places = self.slots.places().max(self.cpu.len());
        self.cpu.resize(places, 0);
        for ended in self.slots.take_ended() {
            self.end(ended);
        }
        for place in self.slots.take_started() {
            self.register(place, None);
            for attributed in &mut self.domains {
                attributed.ledger.begin(place);
            }
            if let Some(memory) = &mut self.memory {
                memory.start();
            }
        }
        if let Some(memory) = &mut self.memory {
            let cgroups = match &self.reader {
                Reader::Cgroups(cgroups) => Some(cgroups),
                Reader::Processes(_) => None,
            };
            memory.poll(out.at, cgroups);
        }
        self.attribute(out.at);
        if self.outputs.are_of(Subject::Node) {
            let Context { health, board, .. } = &self.context;
            self.host.read(health, board);
        }
        self.publish(out);
        // Where nothing runs that the names have series for, there is nothing to show, and nothing wrong.
        out.suspended = out.is_empty();
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
        self.describe_board();
        self.check_idle_watts();
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
            let mut meters = METERS.iter().filter(|meter| meter.name != METER.name);
            meters.any(|meter| meter.name == group.source) && !group.is_settled()
        };
        let groups = self.context.registry.groups();
        let is_late = at.seconds_since(waits_since) >= METERS_TIMEOUT;
        self.has_begun = is_late || !groups.iter().any(is_awaited);
        !self.has_begun
    }

    /// Looks for domains, if what the meters measure has changed.
    fn find_domains(&mut self) {
        let Context {
            registry, group, ..
        } = &self.context;
        let version = domain::version(registry, group);
        if self.version != Some(version) {
            self.version = Some(version);
            let known = self.domains.len();
            let mut found = domain::find(registry, group);
            match &mut self.gpus {
                Some(gpus) => gpus.limit(&mut found),
                None => found.retain(|domain| domain.gpu.is_none()),
            }
            self.end_rails(&found);
            for domain in found {
                match self
                    .domains
                    .iter_mut()
                    .find(|one| one.domain.name == domain.name)
                {
                    Some(known) => known.domain.replace_with(domain),
                    None => {
                        let given = self.settings.idle_watts.get(&domain.name).copied();
                        let ledger = match domain.gpu {
                            Some(_) => Ledger::of_gpu(given),
                            None => Ledger::new(given),
                        };
                        self.domains.push(Attributed {
                            ledger,
                            domain,
                            hidden: Hidden::default(),
                        });
                    }
                }
            }
            if self.domains.len() > known {
                self.show_new_domains();
            }
            self.describe_domains();
        }
        let room = self.context.group.room().saturating_sub(DOMAIN_SERIES);
        self.slots.set_room(room / self.outputs.per_workload());
    }

    /// Gives every workload its series in the domains that are new.
    fn show_new_domains(&mut self) {
        let before = self.outputs.per_workload();
        let names: Vec<_> = self.domains.iter().map(|one| &*one.domain.name).collect();
        self.outputs.set_domains(&names);
        for (index, Attributed { domain, .. }) in self.domains.iter().enumerate() {
            if domain.gpu.is_some() {
                self.outputs.set_sparse(index);
            }
        }
        let per_workload = self.outputs.per_workload();
        self.limit_workloads(per_workload);
        // The rest of the group may be taken by workloads that have ended.
        let needed = (per_workload - before) * self.slots.all().count();
        let is_full = needed + DOMAIN_SERIES > self.context.group.room();
        if self.slots.are_too_many() || is_full {
            match &mut self.reader {
                Reader::Cgroups(cgroups) => cgroups.unname(&mut self.slots),
                Reader::Processes(processes) => processes.unname(&mut self.slots),
            }
            for ended in self.slots.take_ended() {
                self.end(ended);
            }
        }
        let mut places = vec![SYSTEM, OTHER];
        places.extend(self.slots.all().map(|(place, _)| place));
        for place in places {
            self.register(place, None);
        }
    }

    /// Ends the series of rails that are not in their domains any more.
    fn end_rails(&mut self, found: &[Domain]) {
        let known = |binding: &Binding| Some(&self.domains.get(binding.domain)?.domain);
        let has_gone = |rail: &Arc<str>, binding: &Binding| {
            let name = &known(binding)?.name;
            let mut now = found.iter().find(|domain| domain.name == *name)?.rails();
            Some(now.all(|other| other != rail))
        };
        self.outputs.retain_things(
            |thing, binding| match thing {
                Thing::Rail(rail) => !has_gone(rail, binding).unwrap_or(false),
                _ => true,
            },
            |thing, binding| match thing {
                Thing::Rail(rail) => known(binding)?.of_rail(rail, binding.value),
                _ => None,
            },
        );
    }

    /// Lowers the number of workloads to what there are series for, each having so many. This is a reached limit where the configuration
    /// asks for more; the default stands for as many as there are series for.
    fn limit_workloads(&mut self, per_workload: usize) {
        let asked = self.settings.max_workloads;
        let possible = LIVE_SERIES / per_workload;
        let lowered = self.slots.max().saturating_sub(possible);
        if lowered == 0 {
            return;
        }
        self.slots.set_max(possible);
        match asked {
            DEFAULT_MAX_WORKLOADS => log::info!(
                "workloads: {possible} at most have series of their own, with {per_workload} series each"
            ),
            _ => self.context.health.left_out("max_workloads", lowered as u64, || {
                format!(
                    "workloads.max_workloads is {asked}, but there are series for {possible} workloads, with {per_workload} series each"
                )
            }),
        }
    }

    /// Gives domains and their rails their series.
    fn describe_domains(&mut self) {
        let node = hostname(&self.context);
        for (index, Attributed { domain, .. }) in self.domains.iter().enumerate() {
            let of_domain =
                |field: &str| domain.field(field).or_else(|| fields::of_node(field, node));
            self.outputs
                .add_thing(Thing::Domain, Some(index), &of_domain);
            for rail in domain.rails() {
                let of_rail =
                    |field: &str| domain.rail_field(rail, field).or_else(|| of_domain(field));
                let thing = Thing::Rail(Arc::clone(rail));
                self.outputs.add_thing(thing, Some(index), &of_rail);
            }
        }
    }

    /// Gives the board, its processors and its disks their series, and ends those of processors and disks that are gone.
    fn describe_board(&mut self) {
        let Workloads {
            context,
            outputs,
            host,
            ..
        } = self;
        let Context { health, board, .. } = &*context;
        if outputs.are_of(Subject::Node) {
            let node = hostname(context);
            outputs.add_thing(Thing::Node, None, &|field| fields::of_node(field, node));
        }
        let mut there = Vec::new();
        if outputs.are_of(Subject::Processor) {
            for processor in host.processors(health, board) {
                let thing = Thing::Processor(Arc::new(processor));
                there.push(thing);
            }
        }
        if outputs.are_of(Subject::Disk) {
            let disks = host.find_disks(health, board);
            there.extend(disks.into_iter().map(Thing::Disk));
        }
        outputs.retain_things(
            |thing, _| match thing {
                Thing::Processor(_) | Thing::Disk(_) => there.contains(thing),
                _ => true,
            },
            |_, _| None,
        );
        for thing in there {
            outputs.add_thing(thing.clone(), None, &|field| match &thing {
                Thing::Processor(processor) => fields::of_processor(field, processor),
                Thing::Disk(disk) => fields::of_disk(field, disk),
                _ => None,
            });
        }
    }

    /// Gives a workload its series, with those of this domain, or without those of the GPUs.
    fn register(&mut self, place: usize, domain: Option<usize>) {
        let (system, other) = (system(), other());
        let workload = match place {
            SYSTEM => &system,
            OTHER => &other,
            place => match self.slots.workload(place) {
                Some(workload) => workload,
                None => return,
            },
        };
        if self.cpu.len() <= place {
            self.cpu.resize(place + 1, 0);
        }
        let fields = Fields {
            workload,
            node: hostname(&self.context),
        };
        let field = |field: &str| fields.get(field);
        let kind = workload.name.kind;
        self.outputs.add_workload(place, kind, domain, &field);
        for attributed in &mut self.domains {
            attributed.ledger.make_room(place + 1);
        }
    }

    /// The workload at this place has ended.
    fn end(&mut self, ended: Ended) {
        let Ended { place, heir, .. } = ended;
        let heirs: Vec<_> = (0..self.domains.len())
            .map(|index| self.heir_in(index, place, heir))
            .collect();
        let Workloads {
            outputs,
            domains,
            memory,
            cpu,
            ..
        } = self;
        let nanos = cpu.get(place).copied().unwrap_or_default();
        outputs.end_workload(place, |binding| match binding.value {
            Value::CpuSeconds => Some(nanos as f64 / 1e9),
            Value::Energy => domains.get(binding.domain)?.ledger.joules(place),
            _ => None,
        });
        if let Some(nanos) = cpu.get_mut(place) {
            *nanos = 0;
        }
        if let Some(cpu) = heir
            .filter(|_| ended.was_hidden)
            .and_then(|heir| cpu.get_mut(heir))
        {
            *cpu = cpu.saturating_add(nanos);
        }
        for (attributed, heir) in domains.iter_mut().zip(heirs) {
            match heir {
                Some(heir) if ended.was_hidden => attributed.ledger.inherit(place, heir),
                heir => attributed.ledger.end(place, heir.unwrap_or(OTHER)),
            }
        }
        if let Some(memory) = memory {
            memory.end(place);
        }
    }

    /// The heir of a workload in a domain, in which it has series.
    fn heir_in(&mut self, index: usize, place: usize, heir: Option<usize>) -> Option<usize> {
        let is_gpu = self.domains.get(index)?.domain.gpu.is_some();
        let is_user = self.outputs.is_in(place, index);
        heir.filter(|heir| !is_gpu || is_user && self.is_shown(*heir, index))
    }

    /// Gives a workload series in the domain of a GPU, as far as there is room. Returns whether it has them.
    fn is_shown(&mut self, place: usize, index: usize) -> bool {
        let is_in = |outputs: &Outputs| outputs.is_in(place, index);
        if is_in(&self.outputs) {
            return true;
        }
        let room = self.context.group.room();
        if room > DOMAIN_SERIES && self.outputs.sparse_users() < gpu::MAX_USERS {
            self.register(place, Some(index));
        }
        is_in(&self.outputs)
    }

    /// Shares what the domains have drawn by the CPU time that was used.
    fn attribute(&mut self, at: BootTime) {
        let seconds = self.last_at.map_or(0.0, |last| at.seconds_since(last));
        self.last_at = Some(at);
        self.seconds = seconds;
        for (cpu, used) in self.cpu.iter_mut().zip(&self.used) {
            *cpu = cpu.saturating_add(*used);
        }
        if let Some((_, nanos)) = &mut self.busy {
            let used = self.used.iter();
            *nanos = used.fold(*nanos, |sum, used| sum.saturating_add(*used));
        }
        if let Some(gpus) = &mut self.gpus {
            gpus.begin();
        }
        for index in 0..self.domains.len() {
            let gpu = self.used_in(index, at);
            let Some(Attributed { domain, ledger, .. }) = self.domains.get_mut(index) else {
                continue;
            };
            ledger.make_room(self.slots.places());
            match &gpu {
                Some((used, is_partial)) => ledger.add_gpu(used, seconds, *is_partial),
                None => ledger.add_cpu(&self.used, seconds),
            }
            let was_read = domain.was_read();
            match domain.read(at) {
                Some(reading) => ledger.share(reading, self.processors),
                // What is used before the domain's first reading has no part in its energy.
                None if !was_read => ledger.discard_cpu(),
                None => {}
            }
        }
    }

    /// What each place has used of the GPU that this domain is, and whether that is not available of some processes; `None`: it is none.
    /// A workload that uses it for the first time is given its series.
    fn used_in(&mut self, index: usize, at: BootTime) -> Option<(Vec<u64>, bool)> {
        let Attributed { domain, .. } = self.domains.get(index)?;
        domain.gpu?;
        let gpus = self.gpus.as_mut()?;
        let (used, is_partial) = gpus.used(domain, &self.reader, at, self.seconds);
        let mut used = std::mem::take(used);
        let mut refused: u64 = 0;
        for place in FIRST..used.len() {
            if used[place] == 0 || self.is_shown(place, index) {
                continue;
            }
            refused += u64::from(!self.slots.is_hidden(place));
            let nanos = std::mem::take(&mut used[place]);
            used[OTHER] = used[OTHER].saturating_add(nanos);
        }
        self.gpus.as_mut()?.refuse_users(refused);
        Some((used, is_partial))
    }

    fn publish(&mut self, out: &mut Readings) {
        let hidden: Vec<_> = self.slots.hidden().collect();
        for attributed in &mut self.domains {
            attributed.hide(&hidden);
        }
        let hidden = hidden.iter().filter_map(|place| self.cpu.get(*place));
        let hidden_nanos = hidden.fold(0, |sum: u64, nanos| sum.saturating_add(*nanos));
        let Workloads {
            outputs,
            domains,
            reader,
            host,
            cpu,
            used,
            seconds,
            processors,
            memory,
            busy,
            ..
        } = self;
        let reader = &*reader;
        let capacity = processors.map(|count| count * *seconds * 1e9);
        let capacity = capacity.filter(|nanos| *nanos > 0.0);
        let ratio = |nanos: u64| Some((nanos as f64 / capacity?).min(1.0));
        let of_workload = |place: usize, binding: &Binding| match binding.value {
            Value::CpuSeconds => Some(*cpu.get(place)? as f64 / 1e9),
            Value::CpuRatio => ratio(*used.get(place)?),
            Value::Memory | Value::VirtualMemory => match reader {
                Reader::Processes(processes) => processes.memory(place, binding.value),
                Reader::Cgroups(_) if binding.value == Value::Memory => {
                    Some(memory.as_ref()?.of(place)? as f64)
                }
                Reader::Cgroups(_) => None,
            },
            value => {
                let Attributed { domain, ledger, .. } = domains.get(binding.domain)?;
                match value {
                    Value::Energy => ledger.joules(place),
                    Value::Power if domain.is_fresh => ledger.watts(place),
                    _ => None,
                }
            }
        };
        let of_thing = |thing: &Thing, binding: &Binding| match thing {
            Thing::Domain => domains.get(binding.domain)?.value(binding.value),
            Thing::Rail(rail) => domains
                .get(binding.domain)?
                .domain
                .of_rail(rail, binding.value),
            Thing::Node if binding.value == Value::CpuRatio => {
                ratio(used.iter().fold(0, |sum, used| sum.saturating_add(*used)))
            }
            Thing::Node | Thing::Processor(_) => host.value(binding.value, capacity),
            Thing::Disk(disk) => host.of_disk(disk, binding.value),
        };
        outputs.publish(out, of_workload, of_thing);
        if let Some(memory) = memory {
            memory.publish(out);
        }
        if let Some((series, nanos)) = busy {
            out.set(*series, nanos.saturating_sub(hidden_nanos) as f64 / 1e9);
        }
    }

    fn count_processors(&mut self) {
        let Context { board, health, .. } = &self.context;
        let path = board.roots.sysfs.join("devices/system/cpu/online");
        let online = read_text(health, &path).ok();
        let count = online.and_then(|text| usage::parse_cpu_list(&text));
        if let Some(count) = count.filter(|count| *count > 0) {
            self.processors = Some(count as f64);
        }
    }

    /// Says which names of `idle_watts` nothing here is called by. When this is first asked, there was time for every source to register
    /// what it has.
    fn check_idle_watts(&mut self) {
        let known = self.domains.iter().map(|one| one.domain.name.as_str());
        let known: Vec<_> = known.collect();
        let given = self.settings.idle_watts.keys().map(String::as_str);
        let unknown: Vec<_> = given.filter(|name| !known.contains(name)).collect();
        let what = (!unknown.is_empty()).then(|| {
            format!(
                "workloads.idle_watts names {}, which nothing here measures (measured: {})",
                unknown.join(", "),
                known.join(", ")
            )
        });
        if what == self.unknown_domains {
            return;
        }
        if let Some(what) = &what {
            log::warn!("{what}");
        }
        let health = &self.context.health;
        health.set_value_error(Path::new("/"), what.clone());
        self.unknown_domains = what;
    }
}

impl Attributed {
    /// Leaves out what the workloads at these places have.
    fn hide(&mut self, places: &[usize]) {
        let Attributed { ledger, hidden, .. } = self;
        let (mut joules, mut watts) = (0.0, 0.0);
        for place in places {
            joules += ledger.joules(*place).unwrap_or_default();
            watts += ledger.watts(*place).unwrap_or_default();
        }
        hidden.watts = watts;
        hidden.shown_joules = hidden.shown_joules.max(ledger.total_joules - joules);
    }

    /// A quantity of the domain as a whole.
    fn value(&self, value: Value) -> Option<f64> {
        let Attributed { ledger, hidden, .. } = self;
        let is_fresh = self.domain.is_fresh;
        match value {
            Value::Energy => Some(hidden.shown_joules),
            Value::EndedEnergy => Some(ledger.ended_joules),
            Value::IdleEnergy => Some(ledger.idle_joules),
            Value::ActiveEnergy => Some((hidden.shown_joules - ledger.idle_joules).max(0.0)),
            Value::Power if is_fresh => Some(ledger.domain_watts? - hidden.watts),
            Value::IdlePower if is_fresh => ledger.idle_power,
            Value::ActivePower if is_fresh => {
                let watts = ledger.domain_watts? - hidden.watts;
                Some((watts - ledger.idle_power?).max(0.0))
            }
            Value::UnattributedEnergy => ledger.unattributed_joules,
            Value::UnattributedPower if is_fresh => ledger.unattributed_power,
            Value::IdleWatts => ledger.idle_watts(),
            Value::IdleFit => ledger.fit()?.quality(),
            Value::IdleError => ledger.fit()?.error(),
            _ => None,
        }
    }
}

/// The name of the board, as the label `hostname` has it.
fn hostname(context: &Context) -> &str {
    let configured = context.config.hostname.as_deref();
    configured.unwrap_or(&context.board.hostname)
}

fn system() -> Workload {
    Name::new(Kind::System, Kind::System.as_str()).into()
}

fn other() -> Workload {
    Name::new(Kind::Other, Kind::Other.as_str()).into()
}

#[cfg(test)]
mod tests;
