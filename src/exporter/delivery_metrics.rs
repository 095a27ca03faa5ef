//! What the exporter says of the samples it keeps, of the clock that stamps them, and of what their consumers lost.

use std::collections::HashMap;
use std::sync::Arc;

use super::consumers::Losses;
use super::Exporter;
use crate::metrics::{Desc, Group, Readings, Registry, SeriesId};
use crate::sys::clock::BootTime;

/// After the exporter's other metrics.
const RANK: u32 = u32::MAX;

/// A group of its own, which is made anew when a consumer is forgotten: names that somebody makes up do not stay.
pub(super) struct DeliveryMetrics {
    group: Arc<Group>,
    generation: u64,
    readings: Readings,
    bytes: SeriesId,
    clock_ok: SeriesId,
    clock_steps: SeriesId,
    consumers: HashMap<String, [SeriesId; 2]>,
}

impl DeliveryMetrics {
    pub(super) fn new(registry: &Registry) -> DeliveryMetrics {
        let group = registry.add_group(RANK, "exporter", vec![]);
        let gauge = |name: &'static str, help: &'static str| {
            group.series(&Desc::gauge(name, help).own(), &[])
        };
        let steps = Desc::counter(
            "exporter_clock_steps_total",
            "How often the wall clock was set while the exporter ran.",
        );
        DeliveryMetrics {
            bytes: gauge(
                "exporter_history_bytes",
                "Memory that the last samples of all sources take, in bytes.",
            ),
            clock_ok: gauge(
                "exporter_clock_ok",
                "1, or 0 while the wall clock is plainly wrong: no sample with a time stamp is delivered then.",
            ),
            clock_steps: group.series(&steps.own(), &[]),
            consumers: HashMap::new(),
            readings: Readings::default(),
            generation: group.new_generation(),
            group,
        }
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) fn refresh(&mut self, now: BootTime, exporter: &Exporter) {
        let losses = exporter.consumers.losses();
        let is_known = |name: &String| losses.iter().any(|l| l.consumer == *name);
        if !self.consumers.keys().all(is_known) {
            let anew = DeliveryMetrics::new(&exporter.registry);
            let old = std::mem::replace(self, anew);
            exporter.registry.remove_group(&old.group);
        }
        self.readings.begin(now);
        for of in losses {
            self.set_losses(of);
        }
        self.readings
            .set(self.bytes, exporter.history_bytes() as f64);
        let clock_ok = exporter.clock.offset().is_some();
        self.readings.set(self.clock_ok, f64::from(clock_ok));
        let steps = exporter.clock.steps();
        self.readings.set(self.clock_steps, steps as f64);
        self.group.publish(self.generation, &self.readings);
    }

    fn set_losses(&mut self, losses: Losses) {
        let Losses {
            consumer,
            dropped,
            set_back,
        } = losses;
        let group = &self.group;
        let ids = self.consumers.entry(consumer).or_insert_with_key(|consumer| {
            let labels = [("consumer", consumer.as_str())];
            let counter = |name: &'static str, help: &'static str| {
                group.series(&Desc::counter(name, help).own(), &labels)
            };
            [
                counter(
                    "exporter_history_dropped_samples_total",
                    "Samples that gave way to newer ones before the consumer came for them.",
                ),
                counter(
                    "exporter_clock_dropped_samples_total",
                    "Samples that the consumer did not get because the clock was set back: it had later ones already.",
                ),
            ]
        });
        self.readings.set(ids[0], dropped as f64);
        self.readings.set(ids[1], set_back as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(exporter: &Exporter) -> Vec<String> {
        let snapshot = exporter.registry.snapshot(BootTime::now());
        let families = snapshot.families();
        families
            .flat_map(|family| {
                family
                    .samples()
                    .map(|(series, _)| series.prefix.to_string())
                    .collect::<Vec<_>>()
            })
            .filter(|prefix| prefix.contains("consumer="))
            .collect()
    }

    #[test]
    fn a_consumer_that_is_forgotten_leaves_no_series() {
        let exporter = Exporter::idle();
        let mut metrics = DeliveryMetrics::new(&exporter.registry);
        for i in 0..1000u64 {
            let now = BootTime::now();
            let turn = exporter.consumers.begin(&i.to_string(), now, now).unwrap();
            turn.end(true);
            if i % 100 == 99 {
                metrics.refresh(now, &exporter);
                assert_eq!(series(&exporter).len(), 2 * 64);
            }
        }
        let last = "exporter_history_dropped_samples_total{consumer=\"999\"} ";
        assert!(series(&exporter).contains(&last.to_string()));
    }
}
