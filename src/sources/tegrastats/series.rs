//! The series of a line, under the replaced exporter's names and as power and energy by rail.

use std::collections::HashMap;
use std::fmt::Arguments;
use std::sync::Arc;

use super::line::{Core, Engine, Line, Load, Power};
use crate::metrics::common::power_gpu;
use crate::metrics::plausible::{range, OFF_CELSIUS};
use crate::metrics::{metric_name, Desc, Grade, Group, Kind, Readings, SeriesId, Total};
use crate::sources::jetson::{self, power_of_rail, PowerRail, NOT_CONNECTED};

/// The series, each registered when it first has a value.
pub(super) struct SeriesOfLine {
    group: Arc<Group>,
    fixed: HashMap<&'static str, SeriesId>,
    total: Option<Total>,
    cores: Vec<[Option<SeriesId>; 3]>,
    gpu_mhz: Vec<Option<SeriesId>>,
    engines: Named<[Option<SeriesId>; 3]>,
    temperatures: Named<SeriesId>,
    rails: Named<RailSeries>,
    /// Rails whose power another meter reads.
    read_elsewhere: Vec<String>,
}

struct RailSeries {
    /// `None` if another meter reads the rail.
    power: Option<PowerRail>,
    average: Option<SeriesId>,
    maximum: Option<SeriesId>,
}

impl SeriesOfLine {
    /// No series yet. For rails that are `read_elsewhere`, only the average and the maximum are exported.
    pub(super) fn new(group: &Arc<Group>, read_elsewhere: &[String]) -> SeriesOfLine {
        SeriesOfLine {
            group: Arc::clone(group),
            fixed: HashMap::new(),
            total: None,
            cores: Vec::new(),
            gpu_mhz: Vec::new(),
            engines: Named::default(),
            temperatures: Named::default(),
            rails: Named::default(),
            read_elsewhere: read_elsewhere.to_vec(),
        }
    }

    /// Sets all values of the line.
    pub(super) fn set(&mut self, out: &mut Readings, line: &Line<'_>) {
        self.memory(out, line);
        self.cores(out, &line.cores);
        self.loads(out, line);
        for (i, engine) in line.engines.iter().enumerate() {
            self.engine(out, i, engine);
        }
        for (i, (name, celsius)) in line.temperatures.iter().enumerate() {
            // A sensor that is powered off may never be on, so its series is not registered.
            if *celsius != OFF_CELSIUS {
                let group = &self.group;
                let id = self.temperatures.get(i, name, || {
                    let metric = format!("jetson_temp_{}_celsius", metric_name(name));
                    let help = format!("Temperature of sensor {name}, in degrees Celsius.");
                    group.series(&Desc::gauge(metric, help), &[])
                });
                if let Some(id) = id {
                    out.set(*id, *celsius);
                }
            }
        }
        for (i, power) in line.rails.iter().enumerate() {
            if power.name != NOT_CONNECTED {
                self.rail(out, i, power);
            }
        }
        let power = range(&self.group.source, "power_watts", Kind::Gauge);
        let milliwatts = |name: &str| {
            let rail = line.rails.iter().find(|rail| rail.name == name);
            rail.map(|rail| rail.milliwatts)
                .filter(|milliwatts| power.contains(milliwatts / 1000.0))
        };
        if let Some(total) = jetson::total(milliwatts) {
            let group = &self.group;
            let board_total = self
                .total
                .get_or_insert_with(|| Total::new(group, Grade::Input));
            board_total.set_watts(out, total / 1000.0);
        }
        if let Some(gpu) = jetson::gpu(milliwatts) {
            let id = self.known("power_gpu_watts", power_gpu);
            out.set(id, gpu / 1000.0);
        }
    }

    fn memory(&mut self, out: &mut Readings, line: &Line<'_>) {
        if let Some(ram) = line.ram {
            let (used, total) = (ram.used_kb / 1024.0, ram.total_kb / 1024.0);
            self.gauge(
                out,
                "jetson_ram_used_mb",
                "Main memory in use, in MB.",
                used,
            );
            self.gauge(out, "jetson_ram_total_mb", "Main memory, in MB.", total);
            if total > 0.0 {
                let percent = hundredths(used / total * 100.0);
                let help = "Main memory in use, in percent.";
                self.gauge(out, "jetson_ram_used_percent", help, percent);
            }
        }
        if let Some(blocks) = line.largest_free {
            let help = "Free blocks of main memory of the largest size there is.";
            self.gauge(out, "jetson_lfb_blocks", help, blocks.count);
            let total = blocks.count * blocks.size_kb / 1024.0;
            let help = "Main memory in free blocks of the largest size there is, in MB.";
            self.gauge(out, "jetson_lfb_total_mb", help, total);
        }
        if let Some(swap) = line.swap {
            let (used, total) = (swap.used_kb / 1024.0, swap.total_kb / 1024.0);
            self.gauge(
                out,
                "jetson_swap_used_mb",
                "Swap space in use, in MB.",
                used,
            );
            self.gauge(out, "jetson_swap_total_mb", "Swap space, in MB.", total);
        }
        if let Some(cached) = line.swap_cached_kb {
            let help = "Swap space that is also in main memory, in MB.";
            self.gauge(out, "jetson_swap_cached_mb", help, cached / 1024.0);
        }
        if let Some(iram) = line.iram {
            let help = "Memory of the video engines in use, in kB.";
            self.gauge(out, "jetson_iram_used_kb", help, iram.used_kb);
            let help = "Memory of the video engines, in kB.";
            self.gauge(out, "jetson_iram_total_kb", help, iram.total_kb);
            if iram.total_kb > 0.0 {
                let percent = hundredths(iram.used_kb / iram.total_kb * 100.0);
                let help = "Memory of the video engines in use, in percent.";
                self.gauge(out, "jetson_iram_used_percent", help, percent);
            }
        }
        if let Some(block) = line.iram_largest_free_kb {
            let help = "Largest free block of the video engines' memory, in kB.";
            self.gauge(out, "jetson_iram_lfb_kb", help, block);
        }
    }

    fn cores(&mut self, out: &mut Readings, cores: &[Core]) {
        if self.cores.len() < cores.len() {
            self.cores.resize(cores.len(), [None; 3]);
        }
        for (i, core) in cores.iter().enumerate() {
            let ids = &mut self.cores[i];
            let names = (
                format_args!("cpu_core{i}"),
                format_args!("processor core {i}"),
            );
            set_load(&self.group, out, ids, core.load, core.on, names);
        }
        let percent = range(&self.group.source, "usage_percent", Kind::Gauge);
        let busy: Vec<f64> = cores.iter().filter_map(|core| core.load.percent).collect();
        // One core with an unknown load makes the average unknown.
        if !busy.is_empty() && busy.iter().all(|load| percent.contains(*load)) {
            let average = busy.iter().sum::<f64>() / busy.len() as f64;
            let help = "Load of the cores that are on, on average, in percent.";
            let average = hundredths(average);
            self.gauge(out, "jetson_cpu_avg_usage_percent", help, average);
        }
        if !cores.is_empty() {
            let on = cores.iter().filter(|core| core.on == Some(true)).count();
            let help = "Processor cores that are on.";
            self.gauge(out, "jetson_cpu_active_cores", help, on as f64);
        }
    }

    fn loads(&mut self, out: &mut Readings, line: &Line<'_>) {
        let second_cluster_help = "Load of the GPU's second cluster, in percent.";
        let controller_help = "Load of the memory controller, in percent.";
        for (name, help, value) in [
            (
                "jetson_gpu_usage_percent",
                "Load of the GPU, in percent.",
                line.gpu_percent[0],
            ),
            (
                "jetson_gpu2_usage_percent",
                second_cluster_help,
                line.gpu_percent[1],
            ),
            (
                "jetson_emc_usage_percent",
                controller_help,
                line.emc.percent,
            ),
            (
                "jetson_emc_freq_mhz",
                "Frequency of the memory controller, in MHz.",
                line.emc.mhz,
            ),
            (
                "jetson_mts_fg_usage_percent",
                "Time spent in the code optimiser's foreground tasks, in percent.",
                line.mts_percent[0],
            ),
            (
                "jetson_mts_bg_usage_percent",
                "Time spent in the code optimiser's background tasks, in percent.",
                line.mts_percent[1],
            ),
        ] {
            if let Some(value) = value {
                self.gauge(out, name, help, value);
            }
        }
        for &(cluster, mhz) in &line.gpu_mhz {
            if self.gpu_mhz.len() <= cluster {
                self.gpu_mhz.resize(cluster + 1, None);
            }
            let group = &self.group;
            let id = self.gpu_mhz[cluster].get_or_insert_with(|| {
                let name = format!("jetson_gpu_freq{cluster}_mhz");
                let help = format!("Frequency of the GPU's cluster {cluster}, in MHz.");
                group.series(&Desc::gauge(name, help), &[])
            });
            out.set(*id, mhz);
        }
    }

    fn engine(&mut self, out: &mut Readings, i: usize, engine: &Engine<'_>) {
        let Some(ids) = self.engines.get(i, engine.name, || [None; 3]) else {
            return;
        };
        let name = metric_name(engine.name);
        let names = (
            format_args!("{name}"),
            format_args!("engine {}", engine.name),
        );
        set_load(&self.group, out, ids, engine.load, Some(engine.on), names);
    }

    fn rail(&mut self, out: &mut Readings, i: usize, power: &Power<'_>) {
        let group = &self.group;
        let name = power.name;
        let is_read_elsewhere = || self.read_elsewhere.iter().any(|rail| rail == name);
        let series = self.rails.get(i, name, || RailSeries {
            power: (!is_read_elsewhere()).then(|| PowerRail::new(group, name)),
            average: None,
            maximum: None,
        });
        let Some(series) = series else { return };
        if let Some(rail) = &mut series.power {
            let _ = rail.set(out, power.milliwatts / 1000.0);
        }
        if let Some(average) = power.average {
            let help = "Average electric power since tegrastats started";
            let id = series
                .average
                .get_or_insert_with(|| power_of_rail(group, name, "_avg", help));
            out.set(*id, average / 1000.0);
        }
        if let Some(maximum) = power.maximum {
            let help = "Highest electric power since tegrastats started";
            let id = series
                .maximum
                .get_or_insert_with(|| power_of_rail(group, name, "_max", help));
            out.set(*id, maximum / 1000.0);
        }
    }

    fn gauge(&mut self, out: &mut Readings, name: &'static str, help: &'static str, value: f64) {
        let id = self.known(name, || Desc::gauge(name, help));
        out.set(id, value);
    }

    fn known(&mut self, name: &'static str, desc: impl FnOnce() -> Desc) -> SeriesId {
        let group = &self.group;
        *self
            .fixed
            .entry(name)
            .or_insert_with(|| group.series(&desc(), &[]))
    }
}

/// Sets load, frequency and status of a core or an engine. `name` is part of the metrics' names; `thing` names the core or
/// engine in their help.
fn set_load(
    group: &Group,
    out: &mut Readings,
    ids: &mut [Option<SeriesId>; 3],
    load: Load,
    on: Option<bool>,
    (name, thing): (Arguments<'_>, Arguments<'_>),
) {
    let values = [
        (load.percent, "usage_percent", "Load", "in percent"),
        (load.mhz, "freq_mhz", "Frequency", "in MHz"),
        (on.map(f64::from), "status", "Status", "1 for on, 0 for off"),
    ];
    for (id, (value, kind, help, unit)) in ids.iter_mut().zip(values) {
        if let Some(value) = value {
            let id = id.get_or_insert_with(|| {
                let help = format!("{help} of {thing}, {unit}.");
                group.series(&Desc::gauge(format!("jetson_{name}_{kind}"), help), &[])
            });
            out.set(*id, value);
        }
    }
}

/// Rounds a computed percentage as the replaced exporter does (Python's `round(x, 2)`).
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round_ties_even() / 100.0
}

/// Values by name. Lines mostly have the same names in the same order, so the name's place in the line is tried first. The
/// number of names is limited to twice that of a line.
struct Named<T>(Vec<(Box<str>, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<T> Named<T> {
    const MAX: usize = 2 * super::line::MAX_ITEMS;

    fn get(&mut self, place: usize, name: &str, make: impl FnOnce() -> T) -> Option<&mut T> {
        let has_name = |(known, _): &(Box<str>, T)| **known == *name;
        let found = match self.0.get(place) {
            Some(entry) if has_name(entry) => Some(place),
            _ => self.0.iter().position(has_name),
        };
        let place = match found {
            Some(place) => place,
            None if self.0.len() < Self::MAX => {
                self.0.push((name.into(), make()));
                self.0.len() - 1
            }
            None => return None,
        };
        self.0.get_mut(place).map(|(_, thing)| thing)
    }
}
