//! What the exporter says of itself and of its sources.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::delivery_metrics::DeliveryMetrics;
use super::remote_write_metrics::RemoteWriteMetrics;
use super::{Exporter, UNKNOWN};
use crate::metrics::{Desc, Group, Readings, Registry, SeriesId};
use crate::metrics::{Process, BUILD};
use crate::sources::{reached_limits, ReachedLimit, RunningSource, SERIES_LIMIT};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// After every source.
const RANK: u32 = u32::MAX;

/// The group of the exporter's own series, brought up to date at each scrape.
pub(super) struct SelfMetrics {
    group: Arc<Group>,
    generation: u64,
    state: Mutex<State>,
}

struct State {
    readings: Readings,
    build_info: SeriesId,
    reloaded: SeriesId,
    saved: SeriesId,
    /// Whether the central server answers, and how much it has not been told; if there is one.
    central: Option<[SeriesId; 2]>,
    process: Process,
    delivery: DeliveryMetrics,
    remote_write: RemoteWriteMetrics,
    /// By the source's name and its device's.
    sources: HashMap<(&'static str, String), OfSource>,
    /// The sources' own counts, by source, family and kind.
    tallies: HashMap<[&'static str; 3], SeriesId>,
    /// By the source's name, its device's and the limit's.
    limits: HashMap<(&'static str, String, &'static str), SeriesId>,
    unknown: SeriesId,
}

/// The series of one source.
#[derive(Clone, Copy)]
struct OfSource {
    up: SeriesId,
    duration: SeriesId,
    errors: SeriesId,
    unparsed: SeriesId,
    implausible: SeriesId,
    missed: SeriesId,
    age: SeriesId,
}

impl SelfMetrics {
    pub(super) fn new(registry: &Registry) -> SelfMetrics {
        let group = registry.add_group(RANK, "exporter", vec![]);
        let build_info = Desc::gauge(
            "exporter_build_info",
            "1, with what this exporter was built from as labels.",
        );
        let reloaded = Desc::gauge(
            "exporter_config_last_reload_successful",
            "Whether the last attempt to load the configuration succeeded: 1 or 0.",
        );
        let saved = Desc::gauge(
            "exporter_config_saved",
            "Whether all settings in force are in the configuration file, as far as they were changed since: 1 or 0.",
        );
        let unknown = Desc::gauge(
            "exporter_unknown_metrics",
            "Names under `metrics:` that nothing on this board has.",
        );
        let state = State {
            readings: Readings::default(),
            build_info: group.series(&build_info.own(), &BUILD),
            reloaded: group.series(&reloaded.own(), &[]),
            saved: group.series(&saved.own(), &[]),
            central: None,
            process: Process::new(&group),
            delivery: DeliveryMetrics::new(registry),
            remote_write: RemoteWriteMetrics::new(registry),
            sources: HashMap::new(),
            tallies: HashMap::new(),
            limits: HashMap::new(),
            unknown: group.series(&unknown.own(), &[]),
        };
        SelfMetrics {
            generation: group.new_generation(),
            group,
            state: Mutex::new(state),
        }
    }

    /// Takes its series out of the registry.
    pub(super) fn remove_from(self, registry: &Registry) {
        self.groups()
            .iter()
            .for_each(|group| registry.remove_group(group));
    }

    /// Has their last values kept, in so many bytes.
    pub(super) fn keep(&self, keep: Duration, bytes: usize) {
        let groups = self.groups();
        for group in &groups {
            group.history().limit(keep, bytes / groups.len());
        }
    }

    fn groups(&self) -> [Arc<Group>; 3] {
        let state = lock::lock(&self.state);
        let (delivery, remote_write) = (state.delivery.group(), state.remote_write.group());
        [&self.group, delivery, remote_write].map(Arc::clone)
    }

    /// Brings all of it up to date.
    pub(super) fn refresh(&self, now: BootTime, exporter: &Exporter) {
        let sources = exporter.sources();
        let config = exporter.store.status();
        let mut state = lock::lock(&self.state);
        let State {
            readings,
            process,
            sources: known,
            tallies,
            limits: known_limits,
            ..
        } = &mut *state;
        readings.begin(now);
        for running in sources.iter() {
            let of = known
                .entry((running.meter().name, running.context().device.name.clone()))
                .or_insert_with_key(|(name, device)| OfSource::new(&self.group, name, device));
            of.set(running, now, readings);
            let source = running.meter().name;
            let context = running.context();
            let mut reached = reached_limits(&context.group, &context.health);
            // There for every source, so that an alert can see it change.
            reached.entry(SERIES_LIMIT).or_insert(ReachedLimit {
                left_out: 0,
                what: String::new(),
            });
            for (name, limit) in reached {
                let device = &context.device.name;
                let id = *known_limits
                    .entry((source, device.clone(), name))
                    .or_insert_with(|| {
                        let desc = Desc::counter(
                            "exporter_limit_reached_total",
                            "How often something of the source was left out because there is more of it than is read, by limit.",
                        );
                        let mut labels = vec![("source", source), ("limit", name)];
                        if !device.is_empty() {
                            labels.push(("device", device));
                        }
                        self.group.series(&desc.own(), &labels)
                    });
                readings.set(id, limit.left_out as f64);
            }
            for tally in running.context().health.counters() {
                let id = *tallies
                    .entry([source, tally.name, tally.kind])
                    .or_insert_with(|| {
                        let desc = Desc::counter(tally.name, tally.help).own();
                        let labels = [("source", source), ("kind", tally.kind)];
                        self.group.series(&desc, &labels)
                    });
                readings.set(id, tally.count() as f64);
            }
        }
        process.set(readings);
        let unknown = exporter.unknown_metrics.load(Ordering::Relaxed);
        if let Some(remote) = exporter.store.remote() {
            let standing = remote.standing();
            let [up, unsent] = *state.central.get_or_insert_with(|| self.central());
            state.readings.set(up, f64::from(standing.answered));
            state.readings.set(unsent, standing.unsent as f64);
        }
        let (build_info, reloaded, saved) = (state.build_info, state.reloaded, state.saved);
        state.readings.set(build_info, 1.0);
        let place = state.unknown;
        if unknown != UNKNOWN {
            state.readings.set(place, unknown as f64);
        }
        state
            .readings
            .set(reloaded, f64::from(config.refusal.is_none()));
        state
            .readings
            .set(saved, f64::from(config.unsaved.is_none()));
        self.group.publish(self.generation, &state.readings);
        state.delivery.refresh(now, exporter);
        state.remote_write.refresh(now, exporter);
    }
}

impl SelfMetrics {
    fn central(&self) -> [SeriesId; 2] {
        [
            (
                "exporter_config_server_up",
                "Whether the central config server answered the last question: 1 or 0.",
            ),
            (
                "exporter_config_server_unsent",
                "Metrics whose state the central config server has not been told yet.",
            ),
        ]
        .map(|(name, help)| self.group.series(&Desc::gauge(name, help).own(), &[]))
    }
}

impl OfSource {
    fn new(group: &Group, source: &str, device: &str) -> OfSource {
        let mut labels = vec![("source", source)];
        if !device.is_empty() {
            labels.push(("device", device));
        }
        let gauge = |name: &'static str, help: &'static str| {
            group.series(&Desc::gauge(name, help).own(), &labels)
        };
        let counter = |name: &'static str, help: &'static str| {
            group.series(&Desc::counter(name, help).own(), &labels)
        };
        OfSource {
            up: gauge(
                "exporter_source_up",
                "Whether the source has been read within three intervals (at least 5 s): 1 or 0.",
            ),
            duration: gauge(
                "exporter_source_poll_duration_seconds",
                "How long the last poll of the source took.",
            ),
            errors: counter(
                "exporter_source_errors_total",
                "Values and whole polls of the source that could not be read.",
            ),
            unparsed: counter(
                "exporter_source_unparsed_tokens_total",
                "Words in the source's output that were not understood and passed over.",
            ),
            implausible: counter(
                "exporter_source_implausible_values_total",
                "Values that no meter of the source's kind gives, and jumps of counters, which were left out.",
            ),
            missed: counter(
                "exporter_source_missed_polls_total",
                "Polls left out because the one before took longer than the interval.",
            ),
            age: gauge(
                "exporter_source_last_success_age_seconds",
                "Time since the source was last read.",
            ),
        }
    }

    fn set(&self, running: &RunningSource, now: BootTime, out: &mut Readings) {
        let context = running.context();
        let (group, health) = (&context.group, &context.health);
        out.set(self.up, f64::from(group.is_fresh(now)));
        out.set(self.duration, health.poll_seconds());
        out.set(self.errors, health.errors() as f64);
        out.set(self.unparsed, health.unparsed() as f64);
        out.set(self.implausible, health.implausible() as f64);
        out.set(self.missed, health.missed_ticks() as f64);
        if let Some(at) = group.read_at() {
            out.set(self.age, now.seconds_since(at));
        }
    }
}
