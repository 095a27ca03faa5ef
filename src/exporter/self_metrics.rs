//! The exporter's metrics of itself, of its sources and of what it delivers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::Mutex;
use std::time::Duration;

use super::consumers::Losses;
use super::{Exporter, UNKNOWN};
use crate::metrics::{Process, Registry, SelfGroup, BUILD};
use crate::remote_write::queue::QueueStats;
use crate::remote_write::Numbers;
use crate::sources::{reached_limits, ReachedLimit, RunningSource, SERIES_LIMIT};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// The groups sort after those of all sources.
const RANK: u32 = u32::MAX;

/// The exporter's own metrics, which are written at each scrape.
pub(super) struct SelfMetrics {
    labels: BTreeMap<String, String>,
    groups: Mutex<Groups>,
}

struct Groups {
    exporter: SelfGroup,
    /// These have labels that come and go with the configuration.
    sources: SelfGroup,
    delivery: SelfGroup,
    remote_write: SelfGroup,
    process: Process,
}

impl SelfMetrics {
    /// Adds the metrics to the registry. All their series have these labels.
    pub(super) fn new(registry: &Registry, labels: &BTreeMap<String, String>) -> SelfMetrics {
        let group = || {
            let labels = labels.clone().into_iter().collect();
            SelfGroup::new(registry, RANK, "exporter", labels)
        };
        SelfMetrics {
            labels: labels.clone(),
            groups: Mutex::new(Groups {
                exporter: group(),
                sources: group(),
                delivery: group(),
                remote_write: group(),
                process: Process::default(),
            }),
        }
    }

    /// The labels that all series have.
    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Takes the metrics out of the registry.
    pub(super) fn remove_from(self, registry: &Registry) {
        let mut groups = lock::lock(&self.groups);
        for group in groups.all() {
            group.remove_from(registry);
        }
    }

    /// Limits the metrics' history in time and, taken together, in bytes.
    pub(super) fn limit_history(&self, keep: Duration, bytes: usize) {
        let mut groups = lock::lock(&self.groups);
        let groups = groups.all();
        let share = bytes / groups.len();
        for group in groups {
            group.limit_history(keep, share);
        }
    }

    /// Brings the metrics up to date.
    pub(super) fn refresh(&self, now: BootTime, exporter: &Exporter) {
        let mut groups = lock::lock(&self.groups);
        let Groups {
            sources,
            delivery,
            remote_write,
            ..
        } = &mut *groups;
        for group in [sources, delivery, remote_write] {
            group.forget_gone(&exporter.registry);
        }
        for group in groups.all() {
            group.begin(now);
        }
        let Groups {
            exporter: out,
            sources,
            delivery,
            remote_write,
            process,
        } = &mut *groups;
        write_configuration(out, exporter);
        process.write(out);
        write_unknown_metrics(out, exporter);
        for running in exporter.sources().iter() {
            write_source(sources, running, now);
        }
        write_config_server(out, exporter);
        write_delivery(delivery, exporter);
        write_remote_write(remote_write, exporter);
        for group in groups.all() {
            group.publish();
        }
    }
}

impl Groups {
    fn all(&mut self) -> [&mut SelfGroup; 4] {
        [
            &mut self.exporter,
            &mut self.sources,
            &mut self.delivery,
            &mut self.remote_write,
        ]
    }
}

fn write_configuration(out: &mut SelfGroup, exporter: &Exporter) {
    out.gauge(
        "exporter_build_info",
        "1. The labels describe this exporter's build.",
        &BUILD,
        1.0,
    );
    let status = exporter.store.status();
    out.gauge(
        "exporter_config_last_reload_success_timestamp_seconds",
        "When the active configuration was loaded, in seconds since 1970.",
        &[],
        status.loaded_at as f64,
    );
    out.gauge(
        "exporter_config_last_reload_successful",
        "Whether the last attempt to load the configuration succeeded: 1 or 0.",
        &[],
        f64::from(status.refusal.is_none()),
    );
    out.gauge(
        "exporter_config_saved",
        "Whether all changes of settings are saved in the configuration file: 1 or 0.",
        &[],
        f64::from(status.unsaved.is_none()),
    );
}

fn write_unknown_metrics(out: &mut SelfGroup, exporter: &Exporter) {
    let count = exporter.unknown_metrics.load(Ordering::Relaxed);
    out.gauge(
        "exporter_unknown_metrics",
        "Names under `metrics:` that no source on this board has.",
        &[],
        (count != UNKNOWN).then_some(count as f64),
    );
}

fn write_source(out: &mut SelfGroup, running: &RunningSource, now: BootTime) {
    let context = running.context();
    let (group, health) = (&context.group, &context.health);
    let source = running.meter().name;
    let device = context.device.name.as_str();
    let labels = [("source", source), ("device", device)];
    // A meter of one device has no label for it.
    let labels = match device {
        "" => &labels[..1],
        _ => &labels,
    };
    out.gauge(
        "exporter_source_up",
        "Whether the source has been read within three intervals (at least 5 s): 1 or 0.",
        labels,
        f64::from(group.is_fresh(now)),
    );
    out.gauge(
        "exporter_source_poll_duration_seconds",
        "How long the last poll of the source took.",
        labels,
        health.poll_seconds(),
    );
    out.counter(
        "exporter_source_errors_total",
        "Values and whole polls of the source that could not be read.",
        labels,
        health.errors() as f64,
    );
    out.counter(
        "exporter_source_unparsed_tokens_total",
        "Words in the source's output that were not recognised and skipped.",
        labels,
        health.unparsed() as f64,
    );
    out.counter(
        "exporter_source_implausible_values_total",
        "Values dropped as impossible for the source's kind of meter, and dropped jumps of counters.",
        labels,
        health.implausible() as f64,
    );
    out.counter(
        "exporter_source_missed_polls_total",
        "Polls skipped because the previous one took longer than the interval.",
        labels,
        health.missed_ticks() as f64,
    );
    out.gauge(
        "exporter_source_last_success_age_seconds",
        "Time since the source was last read.",
        labels,
        group.read_at().map(|at| now.seconds_since(at)),
    );
    let mut reached = reached_limits(group, health);
    // This limit is there for every source, so that an alert can see it change.
    reached.entry(SERIES_LIMIT).or_insert(ReachedLimit {
        left_out: 0,
        what: String::new(),
    });
    for (limit, reached) in reached {
        let labels = [("source", source), ("limit", limit), ("device", device)];
        let labels = match device {
            "" => &labels[..2],
            _ => &labels,
        };
        out.counter(
            "exporter_limit_reached_total",
            "How often items of the source were left out because they exceed a limit, by limit.",
            labels,
            reached.left_out as f64,
        );
    }
    for counter in health.counters() {
        let labels = [
            ("source", source),
            ("kind", counter.kind),
            ("device", device),
        ];
        let labels = match device {
            "" => &labels[..2],
            _ => &labels,
        };
        out.counter(counter.name, counter.help, labels, counter.count() as f64);
    }
}

/// The metrics of the central server, if there is one.
fn write_config_server(out: &mut SelfGroup, exporter: &Exporter) {
    let Some(remote) = exporter.store.remote() else {
        return;
    };
    let server = remote.status();
    out.gauge(
        "exporter_config_server_up",
        "Whether the config server answered the last request: 1 or 0.",
        &[],
        f64::from(server.answered),
    );
    out.gauge(
        "exporter_config_server_unsent",
        "Switched metrics that have not been sent to the config server yet.",
        &[],
        server.unsent as f64,
    );
}

/// The metrics of the samples that are kept, of the clock that stamps them, and of what their consumers lost.
fn write_delivery(out: &mut SelfGroup, exporter: &Exporter) {
    out.gauge(
        "exporter_history_bytes",
        "Memory used by the history of all sources, in bytes.",
        &[],
        exporter.history_bytes() as f64,
    );
    out.gauge(
        "exporter_clock_ok",
        "1, or 0 while the wall clock is wrong (before this version was written, for example): samples with time stamps are not delivered then.",
        &[],
        f64::from(exporter.clock.offset().is_some()),
    );
    out.counter(
        "exporter_clock_steps_total",
        "How often the wall clock was set while the exporter ran.",
        &[],
        exporter.clock.steps() as f64,
    );
    let forgotten = exporter.consumers.forgotten() + exporter.windows.forgotten();
    out.counter(
        "exporter_consumers_forgotten_total",
        "How often a consumer's position was dropped because there were too many consumers.",
        &[],
        forgotten as f64,
    );
    let mut losses: BTreeMap<String, Losses> = BTreeMap::new();
    for consumers in [&exporter.consumers, &exporter.windows] {
        for (name, of_name) in consumers.losses() {
            losses.entry(name).or_default().add(of_name);
        }
    }
    for (consumer, losses) in &losses {
        let labels = [("consumer", consumer.as_str())];
        out.counter(
            "exporter_history_dropped_samples_total",
            "Samples dropped from the history before the consumer requested them, or missed because its position was dropped.",
            &labels,
            losses.dropped as f64,
        );
        out.counter(
            "exporter_clock_dropped_samples_total",
            "Samples not delivered to the consumer because the clock was set back and it already has later ones.",
            &labels,
            losses.set_back as f64,
        );
        out.counter(
            "exporter_history_merged_samples_total",
            "Samples not delivered to the consumer because a later one has the same time stamp.",
            &labels,
            losses.merged as f64,
        );
    }
}

fn write_remote_write(out: &mut SelfGroup, exporter: &Exporter) {
    let senders = lock::read(&exporter.senders).clone();
    let wall_ms = exporter.clock.offset().map(|offset| offset.now_ms());
    for (name, stats) in &senders {
        let numbers = stats.numbers();
        write_sender(out, name, &numbers, wall_ms);
        if let Some(queue) = &numbers.on_disk {
            write_disk_queue(out, name, queue);
        }
    }
}

fn write_sender(out: &mut SelfGroup, name: &str, numbers: &Numbers, wall_ms: Option<i64>) {
    let labels = [("remote_name", name)];
    out.counter(
        "exporter_remote_write_samples_sent_total",
        "Samples accepted by the receiver.",
        &labels,
        numbers.sent as f64,
    );
    out.gauge(
        "exporter_remote_write_samples_pending",
        "Samples waiting to be sent.",
        &labels,
        numbers.pending as f64,
    );
    out.counter(
        "exporter_remote_write_retries_total",
        "Requests sent again.",
        &labels,
        numbers.retries as f64,
    );
    out.counter(
        "exporter_remote_write_bytes_sent_total",
        "Compressed bytes of all request bodies.",
        &labels,
        numbers.bytes as f64,
    );
    out.gauge(
        "exporter_remote_write_highest_sent_timestamp_seconds",
        "Newest time stamp accepted by the receiver, in seconds since 1970.",
        &labels,
        numbers.highest_ms.map(seconds),
    );
    let lag_ms = numbers
        .highest_ms
        .zip(wall_ms)
        .map(|(highest, now)| match numbers.pending {
            0 => 0,
            _ => now.saturating_sub(highest).max(0),
        });
    out.gauge(
        "exporter_remote_write_lag_seconds",
        "Age of the newest time stamp accepted by the receiver while samples wait, else 0.",
        &labels,
        lag_ms.map(seconds),
    );
    out.gauge(
        "exporter_remote_write_clock_skew_seconds",
        "How far this board's clock is ahead of the receiver's, according to the receiver's answers.",
        &labels,
        numbers.skew_ms.map(seconds),
    );
    out.gauge(
        "exporter_remote_write_held",
        "1 while sending is held or slowed down because the clock is not reliable, else 0.",
        &labels,
        f64::from(numbers.held),
    );
    for (reason, samples) in &numbers.dropped {
        out.counter(
            "exporter_remote_write_samples_dropped_total",
            "Samples not sent to the receiver or refused by it, by reason.",
            &[("remote_name", name), ("reason", reason)],
            *samples as f64,
        );
    }
    for (outcome, requests) in &numbers.requests {
        out.counter(
            "exporter_remote_write_requests_total",
            "Requests with samples, by outcome.",
            &[("remote_name", name), ("outcome", outcome)],
            *requests as f64,
        );
    }
}

fn write_disk_queue(out: &mut SelfGroup, name: &str, queue: &QueueStats) {
    let labels = [("remote_name", name)];
    out.counter(
        "exporter_remote_write_queue_written_bytes_total",
        "Bytes written to the queue on disk.",
        &labels,
        queue.written_bytes as f64,
    );
    out.counter(
        "exporter_remote_write_queue_damaged_records_total",
        "Records of the queue on disk that could not be read.",
        &labels,
        queue.damaged_records as f64,
    );
    out.gauge(
        "exporter_remote_write_queue_bytes",
        "Bytes of the queue on disk.",
        &labels,
        queue.bytes as f64,
    );
    out.gauge(
        "exporter_remote_write_queue_ok",
        "1, or 0 while the queue is kept in memory because the disk cannot be written.",
        &labels,
        f64::from(queue.ok),
    );
}

fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}
