//! The series of a GPU.

use std::path::Path;

use super::line::Gpu;
use super::report_change;
use crate::metrics::{common, Desc, Group, Rail, Readings, SeriesId};
use crate::sources::Health;

/// The series of one GPU, registered when they first have a value.
pub(super) struct GpuSeries {
    index: u32,
    /// The rail's name, as in pyJoules.
    rail_name: String,
    rail: Option<Rail>,
    /// Whether the driver counts the GPU's energy. Power is then not integrated.
    counts: bool,
    power: Option<SeriesId>,
    celsius: Option<SeriesId>,
    load: Option<SeriesId>,
    memory_load: Option<SeriesId>,
    /// The UUID, and the series `nvidia_gpu_info` with this UUID.
    info: Option<(String, SeriesId)>,
    name: String,
    /// Whether the GPU was ever listed.
    is_known: bool,
    /// Whether the GPU is in the current reading.
    is_listed: bool,
    /// The fault that the current reading reports.
    fault: Option<String>,
}

impl GpuSeries {
    /// No series yet. `index` is the GPU's number.
    pub(super) fn new(index: u32) -> GpuSeries {
        GpuSeries {
            index,
            rail_name: format!("nvidia_gpu_{index}"),
            rail: None,
            counts: false,
            power: None,
            celsius: None,
            load: None,
            memory_load: None,
            info: None,
            name: String::new(),
            is_known: false,
            is_listed: false,
            fault: None,
        }
    }

    /// The rail's name.
    pub(super) fn rail(&self) -> &str {
        &self.rail_name
    }

    /// The GPU's UUID, if it is known.
    pub(super) fn uuid(&self) -> Option<&str> {
        self.info.as_ref().map(|(uuid, _)| uuid.as_str())
    }

    /// Reports, after a complete reading, whether the GPU is missing or faulty.
    pub(super) fn complete(&mut self, program: &str, health: &Health, place: &Path) {
        let gpu = format!("{} ({})", self.rail_name, self.name);
        let is_listed = std::mem::take(&mut self.is_listed);
        let error = match self.fault.take() {
            _ if self.is_known && !is_listed => Some(format!(
                "{gpu} has dropped out: {program} tells nothing of it any more"
            )),
            fault => fault.map(|fault| format!("{gpu}: {program} says {fault}")),
        };
        report_change(health, place, error);
    }

    /// Sets all values of a line. `is_alone`: no other GPU has been seen.
    pub(super) fn set(&mut self, group: &Group, out: &mut Readings, gpu: &Gpu<'_>, is_alone: bool) {
        (self.is_known, self.is_listed) = (true, true);
        if let Some(name) = gpu.name {
            self.name = name.to_string();
        }
        self.fault = gpu
            .fault
            .map(|(field, text)| format!("{text} of its {field}"));
        let index = self.index.to_string();
        let gauge = |name: &'static str, help: &'static str| {
            group.series(&Desc::gauge(name, help), &[("gpu", &index)])
        };
        if gpu.watts.is_some() || gpu.millijoules.is_some() {
            let rail = self
                .rail
                .get_or_insert_with(|| Rail::new(group, &self.rail_name));
            let mut mean = None;
            if let Some(millijoules) = gpu.millijoules {
                self.counts = true;
                mean = rail.set_counter(out, millijoules, 1e-3);
            }
            let watts = match gpu.watts {
                Some(watts) if self.counts => rail.set_power(out, watts).or(mean),
                Some(watts) => rail.set_watts(out, watts),
                None => mean,
            };
            // With several GPUs, none of them is "the GPU".
            if let Some(watts) = watts.filter(|_| is_alone) {
                let register = || group.series(&common::power_gpu(), &[]);
                out.set(*self.power.get_or_insert_with(register), watts);
            }
        }
        if let Some(celsius) = gpu.celsius {
            let desc = common::temperature_celsius();
            let register = || common::sensor_series(group, &desc, &self.rail_name);
            out.set(*self.celsius.get_or_insert_with(register), celsius);
        }
        if let Some(load) = gpu.load {
            let id = self.load.get_or_insert_with(|| {
                gauge(
                    "nvidia_gpu_utilization_ratio",
                    "Fraction of time in which the GPU was busy, from 0 to 1.",
                )
            });
            out.set(*id, load);
        }
        if let Some(load) = gpu.memory_load {
            let id = self.memory_load.get_or_insert_with(|| {
                gauge(
                    "nvidia_gpu_memory_utilization_ratio",
                    "Fraction of time in which the GPU's memory was read or written, from 0 to 1.",
                )
            });
            out.set(*id, load);
        }
        if let Some(uuid) = gpu.uuid {
            if self.info.as_ref().is_none_or(|(known, _)| known != uuid) {
                let desc = Desc::gauge(
                    "nvidia_gpu_info",
                    "1. The labels have the GPU's name and identity.",
                );
                let name = gpu.name.unwrap_or_default();
                let labels = [("gpu", index.as_str()), ("uuid", uuid), ("name", name)];
                self.info = Some((uuid.to_string(), group.series(&desc, &labels)));
            }
            if let Some((_, id)) = self.info {
                out.set(id, 1.0);
            }
        }
    }
}
