//! What the exporter says of the samples it keeps, of the clock that stamps them, and of what their consumers lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consumers::Losses;
use super::Exporter;
use crate::metrics::{Desc, Group, Readings, Registry, SeriesId};
use crate::sys::clock::BootTime;

/// After the exporter's other metrics.
const RANK: u32 = u32::MAX;

const DROPPED: &str =
    "Samples that gave way to newer ones before the consumer came for them, or that it missed because its position was forgotten.";

/// A group of its own, which is made anew when the configuration lists other consumers.
pub(super) struct DeliveryMetrics {
    group: Arc<Group>,
    generation: u64,
    readings: Readings,
    bytes: SeriesId,
    clock_ok: SeriesId,
    clock_steps: SeriesId,
    forgotten: SeriesId,
    consumers: BTreeMap<String, [SeriesId; 2]>,
}

impl DeliveryMetrics {
    pub(super) fn new(registry: &Registry) -> DeliveryMetrics {
        let group = registry.add_group(RANK, "exporter", vec![]);
        let gauge = |name: &'static str, help: &'static str| {
            group.series(&Desc::gauge(name, help).own(), &[])
        };
        let counter = |name: &'static str, help: &'static str| {
            group.series(&Desc::counter(name, help).own(), &[])
        };
        DeliveryMetrics {
            bytes: gauge(
                "exporter_history_bytes",
                "Memory that the last samples of all sources take, in bytes.",
            ),
            clock_ok: gauge(
                "exporter_clock_ok",
                "1, or 0 while the wall clock is plainly wrong: no sample with a time stamp is delivered then.",
            ),
            clock_steps: counter(
                "exporter_clock_steps_total",
                "How often the wall clock was set while the exporter ran.",
            ),
            forgotten: counter(
                "exporter_consumers_forgotten_total",
                "How often a consumer's position was forgotten, or not kept, because too many others asked for samples.",
            ),
            consumers: BTreeMap::new(),
            readings: Readings::default(),
            generation: group.new_generation(),
            group,
        }
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) fn refresh(&mut self, now: BootTime, exporter: &Exporter) {
        let mut losses: BTreeMap<String, Losses> = BTreeMap::new();
        for consumers in [&exporter.consumers, &exporter.windows] {
            for (name, of_name) in consumers.losses() {
                losses.entry(name).or_default().add(of_name);
            }
        }
        if !self.consumers.keys().all(|name| losses.contains_key(name)) {
            let anew = DeliveryMetrics::new(&exporter.registry);
            let old = std::mem::replace(self, anew);
            exporter.registry.remove_group(&old.group);
        }
        self.readings.begin(now);
        for (name, of_name) in losses {
            self.set_losses(name, of_name);
        }
        self.readings
            .set(self.bytes, exporter.history_bytes() as f64);
        let clock_ok = exporter.clock.offset().is_some();
        self.readings.set(self.clock_ok, f64::from(clock_ok));
        let steps = exporter.clock.steps();
        self.readings.set(self.clock_steps, steps as f64);
        let forgotten = exporter.consumers.forgotten() + exporter.windows.forgotten();
        self.readings.set(self.forgotten, forgotten as f64);
        self.group.publish(self.generation, &self.readings);
    }

    fn set_losses(&mut self, consumer: String, losses: Losses) {
        let group = &self.group;
        let ids = self.consumers.entry(consumer).or_insert_with_key(|consumer| {
            let labels = [("consumer", consumer.as_str())];
            let counter = |name: &'static str, help: &'static str| {
                group.series(&Desc::counter(name, help).own(), &labels)
            };
            [
                counter("exporter_history_dropped_samples_total", DROPPED),
                counter(
                    "exporter_clock_dropped_samples_total",
                    "Samples that the consumer did not get because the clock was set back: it had later ones already.",
                ),
            ]
        });
        self.readings.set(ids[0], losses.dropped as f64);
        self.readings.set(ids[1], losses.set_back as f64);
    }
}
