//! What is shown, from the samples of one scrape after another.

use std::collections::{BTreeMap, VecDeque};

use crate::exposition::Sample;
use crate::sources::workloads::full_name;

/// The most of each that are kept. The rest is counted.
const MAX_RAILS: usize = 256;
const MAX_SOURCES: usize = 256;
const MAX_DOMAINS: usize = 64;
const MAX_WORKLOADS: usize = 4096;
/// Values of a rail that are kept for its sparkline: more than a screen is wide.
const MAX_HISTORY: usize = 512;
/// The longest label that is kept, in characters.
const MAX_LABEL: usize = 256;
/// The kind and the name of a domain's idle power.
pub(super) const IDLE: &str = "idle";
/// The kind and the name of what a GPU draws above idle and is attributed to no workload.
const UNATTRIBUTED: &str = "unattributed";

/// The last values of a series, the oldest first. `None`: it was not read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History(VecDeque<Option<f64>>);

impl History {
    fn push(&mut self, value: Option<f64>) {
        if self.0.len() == MAX_HISTORY {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    pub(super) fn values(
        &self,
    ) -> impl DoubleEndedIterator<Item = Option<f64>> + ExactSizeIterator + '_ {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Something that draws power.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rail {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) watts: Option<f64>,
    /// Since it was first read.
    pub(super) joules: Option<f64>,
    pub(super) history: History,
}

/// A source that is not read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct UnreadSource {
    pub(super) source: String,
    /// Why, if that is known here.
    pub(super) error: Option<String>,
    /// Since when, in seconds.
    pub(super) age: Option<f64>,
}

/// A part of the board whose energy is attributed to workloads.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) watts: Option<f64>,
    /// Idle power, as given or learned.
    pub(super) idle_watts: Option<f64>,
}

/// A workload, and what it used of each domain.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Workload {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) cpu_seconds: Option<f64>,
    /// By domain.
    pub(super) domains: BTreeMap<String, Used>,
}

/// What a workload used of a domain.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Used {
    pub(super) watts: Option<f64>,
    /// Since attribution began.
    pub(super) joules: Option<f64>,
}

impl Workload {
    fn used(&mut self, domain: String) -> Option<&mut Used> {
        let has_room = self.domains.len() < MAX_DOMAINS || self.domains.contains_key(&domain);
        has_room.then(|| self.domains.entry(domain).or_default())
    }

    pub(super) fn watts(&self, domain: &str) -> Option<f64> {
        self.domains.get(domain)?.watts
    }

    pub(super) fn joules(&self, domain: &str) -> Option<f64> {
        self.domains.get(domain)?.joules
    }
}

/// A board as it was read last, and the power of its rails before.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Model {
    pub(super) hostname: String,
    pub(super) device_type: String,
    /// The board's total.
    pub(super) total: Rail,
    pub(super) rails: Vec<Rail>,
    /// Sources that have neither been read nor failed.
    pub(super) starting: usize,
    pub(super) unread_sources: Vec<UnreadSource>,
    /// In the board's order.
    pub(super) domains: Vec<Domain>,
    pub(super) workloads: Vec<Workload>,
    /// Rails, sources and workloads beyond the limits of this program.
    pub(super) left_out: usize,
    /// Whether the board has been read at all.
    pub(super) is_read: bool,
}

impl Model {
    /// Takes what the board says now. `errors` are why sources cannot be read, by source, where that is known: there a
    /// source that was never read and has no error is one that has only begun.
    pub(super) fn update<'t>(
        &mut self,
        samples: impl Iterator<Item = Sample<'t>>,
        errors: Option<&BTreeMap<String, String>>,
    ) {
        let mut next = Reading::default();
        for sample in samples {
            next.take(&sample);
        }
        next.fill_in_idle();
        let before = std::mem::take(self);
        let mut histories: BTreeMap<_, _> = before
            .rails
            .into_iter()
            .map(|rail| ((rail.source, rail.name), rail.history))
            .collect();
        let mut rails = next.rails;
        for rail in &mut rails {
            let key = (rail.source.clone(), rail.name.clone());
            rail.history = histories.remove(&key).unwrap_or_default();
            rail.history.push(rail.watts);
        }
        // A rail that was not read is shown as long as there is something to see of it.
        for ((source, name), mut history) in histories {
            history.push(None);
            if !history.is_empty() && rails.len() < MAX_RAILS {
                let rail = Rail {
                    name,
                    source,
                    history,
                    ..Rail::default()
                };
                rails.push(rail);
            }
        }
        let mut total = Rail {
            history: before.total.history,
            ..next.total
        };
        total.history.push(total.watts);
        let down = next.sources.iter().filter(|(_, state)| !state.is_up);
        let down_count = down.clone().count();
        let unread_sources: Vec<_> = down
            .map(|(source, state)| UnreadSource {
                source: source.clone(),
                error: errors
                    .and_then(|errors| errors.get(source))
                    .map(|text| bounded(text)),
                age: state.age,
            })
            .filter(|unread| errors.is_none() || unread.error.is_some() || unread.age.is_some())
            .collect();
        *self = Model {
            hostname: next.hostname.unwrap_or(before.hostname),
            device_type: next.device_type.unwrap_or(before.device_type),
            total,
            rails,
            starting: down_count - unread_sources.len(),
            unread_sources,
            domains: next.domains,
            workloads: next.workloads.into_values().collect(),
            left_out: next.left_out,
            is_read: true,
        };
    }

    /// Whether anything measures power.
    pub(super) fn has_power(&self) -> bool {
        self.total.watts.is_some() || self.rails.iter().any(|rail| rail.watts.is_some())
    }

    /// Whether there is nothing more to come: power, and its shares unless workloads cannot be read.
    pub(super) fn is_complete(&self) -> bool {
        let has_shares = self.domains.iter().any(|domain| domain.watts.is_some());
        let mut unread_sources = self.unread_sources.iter();
        self.has_power()
            && (has_shares || unread_sources.any(|unread| unread.source == "workloads"))
    }

    /// Forgets the values before the last ones.
    pub(super) fn forget_histories(&mut self) {
        let rails = self.rails.iter_mut().chain([&mut self.total]);
        rails.for_each(|rail| rail.history = History::default());
    }

    pub(super) fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.name == name)
    }

    /// The domain to show of those there are: the one that was asked for, else the whole board, else the first.
    pub(super) fn shown_domain(&self, asked: Option<&str>) -> Option<&Domain> {
        asked
            .and_then(|name| self.domain(name))
            .or_else(|| self.domain("board"))
            .or_else(|| self.domains.first())
    }

    /// The domain after that one, which comes after the last one again.
    pub(super) fn next_domain(&self, shown: Option<&str>) -> Option<String> {
        let place = self
            .domains
            .iter()
            .position(|domain| Some(domain.name.as_str()) == shown)?;
        let next = (place + 1) % self.domains.len();
        Some(self.domains.get(next)?.name.clone())
    }
}

#[derive(Default)]
struct SourceState {
    is_up: bool,
    age: Option<f64>,
}

/// What one scrape says.
#[derive(Default)]
struct Reading {
    hostname: Option<String>,
    device_type: Option<String>,
    total: Rail,
    rails: Vec<Rail>,
    sources: BTreeMap<String, SourceState>,
    domains: Vec<Domain>,
    /// By kind and name, and by namespace, pod and container.
    workloads: BTreeMap<(String, String), Workload>,
    left_out: usize,
}

impl Reading {
    fn take(&mut self, sample: &Sample<'_>) {
        self.identify(sample);
        // An infinite value is a driver's word for something else.
        let value = Some(sample.value).filter(|value| value.is_finite());
        match sample.name {
            "power_watts" => self.rail(sample, |rail| rail.watts = value),
            "energy_joules_total" => self.rail(sample, |rail| rail.joules = value),
            "power_total_watts" => self.total.watts = value,
            "board_energy_joules_total" => self.total.joules = value,
            "exporter_source_up" => {
                self.source(sample, |state| state.is_up = value != Some(0.0));
            }
            "exporter_source_last_success_age_seconds" => {
                self.source(sample, |state| state.age = value);
            }
            "workload_domain_energy_joules_total" => self.domain(sample, |_| {}),
            "workload_domain_power_watts" => self.domain(sample, |domain| domain.watts = value),
            "workload_idle_watts" => self.domain(sample, |domain| domain.idle_watts = value),
            "workload_cpu_seconds_total" => {
                if let Some(workload) = self.workload(sample) {
                    workload.cpu_seconds = value;
                }
            }
            "workload_power_watts" | "workload_unattributed_power_watts" => {
                if let Some(used) = self.used(sample) {
                    used.watts = value;
                }
            }
            "workload_energy_joules_total"
            | "workload_idle_energy_joules_total"
            | "workload_unattributed_energy_joules_total" => {
                if let Some(used) = self.used(sample) {
                    used.joules = value;
                }
            }
            _ => {}
        }
    }

    fn identify(&mut self, sample: &Sample<'_>) {
        if self.hostname.is_none() {
            self.hostname = sample.label("hostname").map(bounded);
            self.device_type = sample.label("device_type").map(bounded);
        }
    }

    fn rail(&mut self, sample: &Sample<'_>, set: impl FnOnce(&mut Rail)) {
        let source = label(sample, "source");
        let mut name = label(sample, "rail");
        if let Some(device) = sample.label("device") {
            name = bounded(&format!("{device} {name}"));
        }
        let known = |rail: &&mut Rail| rail.name == name && rail.source == source;
        if let Some(rail) = self.rails.iter_mut().find(known) {
            set(rail);
        } else if self.rails.len() < MAX_RAILS {
            let mut rail = Rail {
                name,
                source,
                ..Rail::default()
            };
            set(&mut rail);
            self.rails.push(rail);
        } else {
            self.left_out += 1;
        }
    }

    fn source(&mut self, sample: &Sample<'_>, set: impl FnOnce(&mut SourceState)) {
        let mut name = label(sample, "source");
        if let Some(device) = sample.label("device") {
            name = bounded(&format!("{name} {device}"));
        }
        if let Some(state) = self.sources.get_mut(&name) {
            set(state);
        } else if self.sources.len() < MAX_SOURCES {
            set(self.sources.entry(name).or_default());
        } else {
            self.left_out += 1;
        }
    }

    fn domain(&mut self, sample: &Sample<'_>, set: impl FnOnce(&mut Domain)) {
        let name = label(sample, "domain");
        if let Some(domain) = self.domains.iter_mut().find(|one| one.name == name) {
            set(domain);
        } else if self.domains.len() < MAX_DOMAINS {
            let mut domain = Domain {
                name,
                ..Domain::default()
            };
            set(&mut domain);
            self.domains.push(domain);
        } else {
            self.left_out += 1;
        }
    }

    fn workload(&mut self, sample: &Sample<'_>) -> Option<&mut Workload> {
        let (kind, name) = match sample.name {
            "workload_idle_energy_joules_total" => (IDLE.to_owned(), IDLE.to_owned()),
            name if name.starts_with("workload_unattributed_") => {
                (UNATTRIBUTED.to_owned(), UNATTRIBUTED.to_owned())
            }
            _ => (
                label(sample, "kind"),
                bounded(&full_name(|name| sample.label(name))),
            ),
        };
        let key = (kind, name);
        if self.workloads.len() >= MAX_WORKLOADS && !self.workloads.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        let (kind, name) = key.clone();
        let workload = self.workloads.entry(key).or_insert_with(|| Workload {
            kind,
            name,
            ..Workload::default()
        });
        Some(workload)
    }

    fn used(&mut self, sample: &Sample<'_>) -> Option<&mut Used> {
        self.workload(sample)?.used(label(sample, "domain"))
    }

    /// What a domain drew and no workload has, and what is not unattributed, is idle.
    fn fill_in_idle(&mut self) {
        for domain in &self.domains {
            let workloads = self.workloads.values().filter(|one| one.kind != IDLE);
            let shared: f64 = workloads.filter_map(|one| one.watts(&domain.name)).sum();
            let watts = domain.watts.map(|watts| (watts - shared).max(0.0));
            let idle = self.workloads.get_mut(&(IDLE.to_owned(), IDLE.to_owned()));
            if let Some(used) = idle.and_then(|idle| idle.used(domain.name.clone())) {
                used.watts = watts;
            }
        }
    }
}

fn label(sample: &Sample<'_>, name: &str) -> String {
    bounded(sample.label(name).unwrap_or_default())
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_LABEL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{parse, Format};

    fn update(model: &mut Model, text: &str, errors: Option<&BTreeMap<String, String>>) {
        model.update(parse(text, Format::Text).flatten(), errors);
    }

    #[test]
    fn rail_that_is_not_read_has_a_gap_and_is_shown_until_its_values_are_gone() {
        let mut model = Model::default();
        let rail = "power_watts{rail=\"a\",source=\"x\"} 2\n";
        for text in [rail, "", rail, ""] {
            update(&mut model, text, None);
        }
        let [shown] = &model.rails[..] else {
            panic!("{:?}", model.rails);
        };
        assert_eq!(shown.watts, None);
        let values: Vec<_> = shown.history.values().collect();
        assert_eq!(values, [Some(2.0), None, Some(2.0), None]);
        for _ in 0..MAX_HISTORY {
            update(&mut model, "", None);
        }
        assert_eq!(model.rails, []);
    }

    #[test]
    fn values_that_are_no_numbers_are_absent() {
        let mut model = Model::default();
        let text = "power_watts{rail=\"a\",source=\"x\"} NaN\npower_total_watts +Inf\n";
        update(&mut model, text, None);
        assert_eq!((model.rails[0].watts, model.total.watts), (None, None));
        assert!(!model.has_power());
    }

    #[test]
    fn source_that_has_only_begun_is_not_among_the_unread_ones() {
        let text = "exporter_source_up{source=\"rapl\"} 0\nexporter_source_up{device=\"plug\",source=\"shelly\"} 0\n";
        let why = BTreeMap::from([("shelly plug".to_owned(), "no route to host".to_owned())]);
        let mut model = Model::default();
        update(&mut model, text, Some(&why));
        let [unread] = &model.unread_sources[..] else {
            panic!("{:?}", model.unread_sources);
        };
        assert_eq!(unread.source, "shelly plug");
        assert_eq!(unread.error.as_deref(), Some("no route to host"));
        // Of a board elsewhere that is not known.
        update(&mut model, text, None);
        assert_eq!(model.unread_sources.len(), 2);
    }

    #[test]
    fn unattributed_power_of_a_gpu_is_not_idle() {
        let text = r#"
workload_domain_energy_joules_total{domain="nvidia_gpu_0"} 500
workload_domain_power_watts{domain="nvidia_gpu_0"} 100
workload_idle_energy_joules_total{domain="nvidia_gpu_0"} 150
workload_unattributed_energy_joules_total{domain="nvidia_gpu_0"} 350
workload_unattributed_power_watts{domain="nvidia_gpu_0"} 70
"#;
        let mut model = Model::default();
        update(&mut model, text, None);
        let of = |kind: &str| {
            let found = model.workloads.iter().find(|one| one.kind == kind);
            found.map(|one| (one.watts("nvidia_gpu_0"), one.joules("nvidia_gpu_0")))
        };
        assert_eq!(of(IDLE), Some((Some(30.0), Some(150.0))));
        assert_eq!(of(UNATTRIBUTED), Some((Some(70.0), Some(350.0))));
    }

    #[test]
    fn pods_have_the_names_that_people_gave_them() {
        let text = r#"
workload_cpu_seconds_total{kind="pod",name="0f0e",namespace="shop",pod="cart-1",container="app"} 1
workload_cpu_seconds_total{kind="pod",name="0f0e",namespace="shop",pod="cart-1"} 1
workload_cpu_seconds_total{kind="pod",name="7c1d",container="app"} 1
workload_cpu_seconds_total{kind="pod",name="7c1d"} 1
"#;
        let mut model = Model::default();
        update(&mut model, text, None);
        let names: Vec<_> = model
            .workloads
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["7c1d", "7c1d/app", "shop/cart-1", "shop/cart-1/app"]
        );
    }
}
