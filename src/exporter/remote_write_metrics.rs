//! What the senders of remote write say of themselves, as metrics.

use std::collections::HashMap;
use std::sync::Arc;

use super::Exporter;
use crate::metrics::{Desc, Group, Readings, Registry, SeriesId};
use crate::remote_write::queue::Figures;
use crate::remote_write::Numbers;
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// After the exporter's other metrics.
const RANK: u32 = u32::MAX;

/// A group of its own, which is made anew when an entry is gone.
pub(super) struct RemoteWriteMetrics {
    group: Arc<Group>,
    generation: u64,
    readings: Readings,
    senders: HashMap<String, OfSender>,
}

/// The series of one sender.
struct OfSender {
    sent: SeriesId,
    pending: SeriesId,
    retries: SeriesId,
    bytes: SeriesId,
    highest: SeriesId,
    lag: SeriesId,
    skew: SeriesId,
    held: SeriesId,
}

impl RemoteWriteMetrics {
    pub(super) fn new(registry: &Registry) -> RemoteWriteMetrics {
        let group = registry.add_group(RANK, "exporter", vec![]);
        RemoteWriteMetrics {
            generation: group.new_generation(),
            group,
            readings: Readings::default(),
            senders: HashMap::new(),
        }
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) fn refresh(&mut self, now: BootTime, exporter: &Exporter) {
        let senders = lock::read(&exporter.senders).clone();
        let is_known = |name: &String| senders.iter().any(|(known, _)| known == name);
        if !self.senders.keys().all(is_known) {
            let anew = RemoteWriteMetrics::new(&exporter.registry);
            let old = std::mem::replace(self, anew);
            exporter.registry.remove_group(&old.group);
        }
        self.readings.begin(now);
        let wall_ms = exporter.clock.offset().map(|offset| offset.now_ms());
        for (name, stats) in senders {
            let group = &self.group;
            let of = self.senders.entry(name.clone());
            let of = of.or_insert_with_key(|name| OfSender::new(group, name));
            let numbers = stats.numbers();
            of.set(&numbers, wall_ms, &mut self.readings);
            self.set_counts(&name, &numbers);
            if let Some(figures) = &numbers.on_disk {
                self.set_on_disk(&name, figures);
            }
        }
        self.group.publish(self.generation, &self.readings);
    }

    fn set_on_disk(&mut self, name: &str, figures: &Figures) {
        let labels = [("remote_name", name)];
        let group = &self.group;
        let counter = |name: &'static str, help: &'static str| {
            group.series(&Desc::counter(name, help).own(), &labels)
        };
        let gauge = |name: &'static str, help: &'static str| {
            group.series(&Desc::gauge(name, help).own(), &labels)
        };
        let all = [
            (
                counter(
                    "exporter_remote_write_queue_written_bytes_total",
                    "Bytes that were written to the queue on disk.",
                ),
                figures.written_bytes as f64,
            ),
            (
                counter(
                    "exporter_remote_write_queue_damaged_records_total",
                    "Records of the queue on disk that could not be read.",
                ),
                figures.damaged_records as f64,
            ),
            (
                gauge(
                    "exporter_remote_write_queue_bytes",
                    "Bytes of the queue on disk.",
                ),
                figures.bytes as f64,
            ),
            (
                gauge(
                    "exporter_remote_write_queue_ok",
                    "1, or 0 while the queue goes on in memory because its disk cannot be written.",
                ),
                f64::from(figures.ok),
            ),
        ];
        for (id, value) in all {
            self.readings.set(id, value);
        }
    }

    fn set_counts(&mut self, name: &str, numbers: &Numbers) {
        let dropped = Desc::counter(
            "exporter_remote_write_samples_dropped_total",
            "Samples that the receiver did not get, or did not take, by reason.",
        );
        for (reason, samples) in &numbers.dropped {
            let labels = [("remote_name", name), ("reason", reason)];
            let id = self.group.series(&dropped.clone().own(), &labels);
            self.readings.set(id, *samples as f64);
        }
        let requests = Desc::counter(
            "exporter_remote_write_requests_total",
            "Requests with samples, by what became of them.",
        );
        for (outcome, count) in &numbers.requests {
            let labels = [("remote_name", name), ("outcome", outcome)];
            let id = self.group.series(&requests.clone().own(), &labels);
            self.readings.set(id, *count as f64);
        }
    }
}

impl OfSender {
    fn new(group: &Group, name: &str) -> OfSender {
        let labels = [("remote_name", name)];
        let gauge = |name: &'static str, help: &'static str| {
            group.series(&Desc::gauge(name, help).own(), &labels)
        };
        let counter = |name: &'static str, help: &'static str| {
            group.series(&Desc::counter(name, help).own(), &labels)
        };
        OfSender {
            sent: counter(
                "exporter_remote_write_samples_sent_total",
                "Samples that the receiver has taken.",
            ),
            pending: gauge(
                "exporter_remote_write_samples_pending",
                "Samples that wait to be sent.",
            ),
            retries: counter(
                "exporter_remote_write_retries_total",
                "Requests that were sent again.",
            ),
            bytes: counter(
                "exporter_remote_write_bytes_sent_total",
                "Bytes of all requests' bodies, compressed.",
            ),
            highest: gauge(
                "exporter_remote_write_highest_sent_timestamp_seconds",
                "The newest time stamp that the receiver has taken, in seconds since 1970.",
            ),
            lag: gauge(
                "exporter_remote_write_lag_seconds",
                "How long ago that was, while there is something to send; else 0.",
            ),
            skew: gauge(
                "exporter_remote_write_clock_skew_seconds",
                "How far this board's clock is ahead of the receiver's, as far as its answers tell.",
            ),
            held: gauge(
                "exporter_remote_write_held",
                "1 while nothing is sent, or rarely, because the clock is not to be trusted, else 0.",
            ),
        }
    }

    fn set(&self, numbers: &Numbers, wall_ms: Option<i64>, out: &mut Readings) {
        out.set(self.sent, numbers.sent as f64);
        out.set(self.pending, numbers.pending as f64);
        out.set(self.retries, numbers.retries as f64);
        out.set(self.bytes, numbers.bytes as f64);
        out.set(self.held, f64::from(numbers.held));
        if let Some(highest) = numbers.highest_ms {
            out.set(self.highest, highest as f64 / 1000.0);
            if let Some(now) = wall_ms {
                let lag = match numbers.pending {
                    0 => 0,
                    _ => now.saturating_sub(highest).max(0),
                };
                out.set(self.lag, lag as f64 / 1000.0);
            }
        }
        if let Some(skew) = numbers.skew_ms {
            out.set(self.skew, skew as f64 / 1000.0);
        }
    }
}
