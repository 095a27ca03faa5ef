//! The power domains that have a meter, found among what the other sources export.
//!
//! | domain | what it is |
//! | --- | --- |
//! | `board` | the board's total (`board_energy_joules_total`) |
//! | `package`, `core`, `dram` | RAPL's domains, all packages together |
//! | `cpu`, `cpu_cv`, `cpu_gpu_cv`, … | a Jetson's rail that feeds the processor, by what else it feeds |
//! | `vdd_core` | a Raspberry Pi 5's rail that feeds the processor and the GPU |
//! | `nvidia_gpu_0`, … | the rail of an NVIDIA GPU |

use std::any::Any;
use std::sync::Arc;

use super::coarse::Coarse;
use super::ledger::Reading;
use super::scheme::Value;
use crate::metrics::{Group, Registry, Series};
use crate::sys::clock::BootTime;

/// The domain of the whole board.
pub(super) const BOARD: &str = "board";

/// One counter of a domain.
#[derive(Clone)]
struct Part {
    place: usize,
    /// Where in the group the power of the board's total is, whose counter may be coarse.
    power: Option<usize>,
    rail: Arc<str>,
    /// What it stood at when it was last read.
    last: Option<f64>,
    /// What it has counted since attribution began, in joules, and its power between the last two readings.
    joules: f64,
    watts: Option<f64>,
}

/// A domain, and the counters of one source that it consists of.
pub(super) struct Domain {
    /// The label `domain`.
    pub name: String,
    /// Whose counters are read. The board's total may go from one source to another, and is one counter all the same.
    groups: Vec<Arc<Group>>,
    parts: Vec<Part>,
    coarse: Coarse,
    read_at: Option<BootTime>,
    /// Whether the meter has been read lately.
    pub is_fresh: bool,
    /// The number of the GPU that this is.
    pub gpu: Option<u32>,
    /// Where in the group there is how busy the GPU is.
    load: Option<usize>,
}

/// The domain that a series is the energy of.
fn domain_of(series: &Series) -> Option<String> {
    match series.family.name.as_str() {
        "board_energy_joules_total" => Some(BOARD.to_string()),
        "energy_joules_total" => {
            let rail = series.label("rail")?;
            let gpu = || gpu_of_rail(&series.source, &rail).map(|_| rail.to_string());
            domain_of_rail(&series.source, &rail).or_else(gpu)
        }
        _ => None,
    }
}

/// The number of the GPU that a rail feeds.
fn gpu_of_rail(source: &str, rail: &str) -> Option<u32> {
    let number = rail.strip_prefix("nvidia_gpu_")?.parse().ok();
    number.filter(|_| source == "nvidia")
}

/// The domain that a rail of a source belongs to; `None`: no processor draws from it, as far as its name says.
pub fn domain_of_rail(source: &str, rail: &str) -> Option<String> {
    match source {
        "rapl" => {
            // `package-0`, and `package-0-die-1` of a processor of several dies.
            let (domain, package) = rail.split_once('-')?;
            let number = package.split('-').next().unwrap_or_default();
            let is_domain = ["package", "core", "dram"].contains(&domain);
            (is_domain && number.parse::<u32>().is_ok()).then(|| domain.to_string())
        }
        "rpi" => (rail == "VDD_CORE").then(|| "vdd_core".to_string()),
        "ina3221" | "tegrastats" | "hwmon" => cpu_rail(rail),
        _ => None,
    }
}

/// `VDD_CPU_GPU_CV` feeds processor, GPU and accelerators: `cpu_gpu_cv`. `None`: it feeds no processor, or is no Jetson's.
fn cpu_rail(rail: &str) -> Option<String> {
    let is_word = |word: &str| {
        word.bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    let words: Vec<&str> = rail.split('_').collect();
    if !words.iter().all(|word| is_word(word)) || !words.contains(&"CPU") {
        return None;
    }
    let fed = words
        .into_iter()
        .filter(|word| !["VDD", "SYS", "POM", "5V", "VIN"].contains(word));
    Some(fed.collect::<Vec<_>>().join("_").to_lowercase())
}

/// Whether a group may have domains. Those of this meter, which registers series whenever workloads begin, have none.
fn is_of_meter(group: &Arc<Group>, own: &Arc<Group>) -> bool {
    !Arc::ptr_eq(group, own) && group.source != super::METER.name
}

/// Changes whenever [`find`] may find other domains.
pub(super) fn version(registry: &Registry, own: &Arc<Group>) -> (u64, u64) {
    registry.version_of(|group| is_of_meter(group, own))
}

/// The domains that there are, in the order of the sources; GPUs are last, since they are the least of the board.
pub(super) fn find(registry: &Registry, own: &Arc<Group>) -> Vec<Domain> {
    let mut found: Vec<Domain> = Vec::new();
    for group in registry.groups() {
        // One that has not been read yet may not have registered all of its rails.
        if !is_of_meter(&group, own) || !group.is_settled() {
            continue;
        }
        let all = group.all_series();
        for (place, series) in all.iter().enumerate() {
            let Some(name) = domain_of(series) else {
                continue;
            };
            let rail: Arc<str> = series.label("rail").unwrap_or_default().into();
            let gpu = gpu_of_rail(&series.source, &rail);
            let power = match name == BOARD {
                true => all.iter().position(is_power_of_board),
                false => None,
            };
            let part = Part {
                place,
                power,
                rail,
                last: None,
                joules: 0.0,
                watts: None,
            };
            match found.iter_mut().find(|domain| domain.name == name) {
                None => found.push(Domain {
                    name,
                    groups: vec![Arc::clone(&group)],
                    parts: vec![part],
                    coarse: Coarse::default(),
                    read_at: None,
                    is_fresh: false,
                    load: gpu.and_then(|gpu| load_of_gpu(&all, gpu)),
                    gpu,
                }),
                Some(domain) if domain.name == BOARD => {
                    domain.groups.push(Arc::clone(&group));
                    domain.parts.push(part);
                }
                // Another source that measures the same is not added to it.
                Some(domain) if Arc::ptr_eq(&domain.groups[0], &group) => domain.parts.push(part),
                Some(_) => {}
            }
        }
    }
    let (gpus, mut others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|domain| domain.gpu.is_some());
    others.extend(gpus);
    others
}

fn is_power_of_board(series: &Arc<Series>) -> bool {
    series.family.name == "power_total_watts"
}

/// Where there is how busy a GPU is.
fn load_of_gpu(all: &[Arc<Series>], gpu: u32) -> Option<usize> {
    let gpu = gpu.to_string();
    all.iter().position(|series| {
        series.family.name == "nvidia_gpu_utilization_ratio"
            && series.label("gpu").is_some_and(|label| label == gpu)
    })
}

impl Domain {
    /// The same domain as it was found now: it goes on from what it had counted.
    pub(super) fn replace_with(&mut self, mut found: Domain) {
        found.take_over(self);
        *self = found;
    }

    fn take_over(&mut self, known: &Domain) {
        self.read_at = known.read_at;
        self.is_fresh = known.is_fresh;
        self.coarse = known.coarse;
        if self.name == BOARD {
            let last = known.parts.first().and_then(|part| part.last);
            self.parts.iter_mut().for_each(|part| part.last = last);
            return;
        }
        let is_same_group = Arc::ptr_eq(&self.groups[0], &known.groups[0]);
        let is_same_source = self.groups[0].source == known.groups[0].source;
        for part in &mut self.parts {
            let before = known.parts.iter().find(|before| before.rail == part.rail);
            part.joules = before.map_or(0.0, |before| before.joules);
            part.last = match before {
                Some(before) if is_same_group => before.last,
                // A source that was started anew counts from 0.
                Some(before) if is_same_source => before.last.map(|_| 0.0),
                // Another source that measures the same may have counted for long.
                _ => None,
            };
        }
    }

    /// Whether there was a reading so far.
    pub(super) fn was_read(&self) -> bool {
        self.read_at.is_some()
    }

    /// What was counted since the domain was last read; `None`: it has not been read since.
    pub(super) fn read(&mut self, now: BootTime) -> Option<Reading> {
        self.is_fresh = self.groups.iter().any(|group| group.is_fresh(now));
        let (mut load, mut watts) = (None, None);
        let (at, values, longest) = if self.name == BOARD {
            let totals = self
                .groups
                .iter()
                .zip(&self.parts)
                .filter_map(|(group, part)| {
                    let places: Vec<_> = [part.place].into_iter().chain(part.power).collect();
                    let (at, values) = consistent(group, &places)?;
                    let watts = values.get(1).copied().flatten();
                    Some((at, *values.first()?, watts, group.staleness_limit()))
                });
            let totals =
                totals.filter_map(|(at, total, watts, longest)| Some((at, total?, watts, longest)));
            // The total goes on from one source to the other: whichever has more has it.
            let (at, total, now, longest) =
                totals.max_by(|(_, a, ..), (_, b, ..)| a.total_cmp(b))?;
            watts = now;
            (at, vec![Some(total); self.parts.len()], longest)
        } else {
            let group = &self.groups[0];
            let places = self.parts.iter().map(|part| part.place);
            let places: Vec<_> = places.chain(self.load).collect();
            let (at, mut values) = consistent(group, &places)?;
            load = values.split_off(self.parts.len()).pop().flatten();
            (at, values, group.staleness_limit())
        };
        if self.read_at == Some(at) || values.iter().all(Option::is_none) {
            return None;
        }
        let before = self.read_at.replace(at);
        let seconds = before.map_or(0.0, |before| at.seconds_since(before));
        let mut joules = 0.0;
        let mut counted = false;
        for (part, value) in self.parts.iter_mut().zip(values) {
            let Some(value) = value else {
                continue;
            };
            if let Some(last) = part.last.replace(value) {
                counted = true;
                // A counter that fell began anew.
                let step = if value >= last { value - last } else { value };
                joules += step;
                part.joules += step;
                part.watts = (seconds > 0.0).then_some(step / seconds);
                if self.name == BOARD {
                    break;
                }
            }
        }
        if self.name == BOARD {
            let last = self.parts.first().and_then(|part| part.last);
            self.parts.iter_mut().for_each(|part| part.last = last);
        }
        let is_gap = seconds > longest;
        if self.name == BOARD && counted {
            joules = self.coarse.joules(joules, watts, seconds, is_gap);
        }
        counted.then_some(Reading {
            joules,
            seconds,
            is_gap,
            age: now.seconds_since(at),
            load,
        })
    }
}

impl Domain {
    /// What the source gives besides its series.
    pub(super) fn provided<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.groups.first()?.provided()
    }

    /// The names of its counters.
    pub(super) fn rails(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts.iter().map(|part| &part.rail)
    }

    /// What names the domain.
    pub(super) fn field(&self, field: &str) -> Option<String> {
        match field {
            "domain" => Some(self.name.clone()),
            "meter" => self.groups.first().map(|group| group.source.clone()),
            "gpu" => self.gpu.map(|gpu| gpu.to_string()),
            _ => None,
        }
    }

    /// What names a counter of the domain. `socket` is that of a package of RAPL, `part_of_socket` that of a part of one.
    pub(super) fn rail_field(&self, rail: &str, field: &str) -> Option<String> {
        let is_rapl = self
            .groups
            .first()
            .is_some_and(|group| group.source == "rapl");
        let number = || {
            let (_, number) = rail.split_once('-').filter(|_| is_rapl)?;
            Some(number.split('-').next().unwrap_or(number).to_string())
        };
        match (field, self.name.as_str()) {
            ("rail", _) => Some(rail.to_string()),
            ("socket", "package") => number(),
            ("part_of_socket", "core" | "dram") => number(),
            _ => None,
        }
    }

    /// What a counter of the domain has counted.
    pub(super) fn of_rail(&self, rail: &str, value: Value) -> Option<f64> {
        let part = self.parts.iter().find(|part| *part.rail == *rail)?;
        match value {
            Value::Energy => part.last.map(|_| part.joules),
            Value::Power => part.watts.filter(|_| self.is_fresh),
            _ => None,
        }
    }
}

/// When a group was read, and the values that it had then.
fn consistent(group: &Group, places: &[usize]) -> Option<(BootTime, Vec<Option<f64>>)> {
    loop {
        let at = group.read_at()?;
        let values = places.iter().map(|place| group.value_at(*place)).collect();
        if group.read_at() == Some(at) {
            return Some((at, values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Desc, Grade, Policy, Rail, Readings, Total};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn jetson_rails_are_named_by_what_they_feed() {
        for (rail, expected) in [
            ("VDD_CPU", Some("cpu")),
            ("CPU", Some("cpu")),
            ("VDD_SYS_CPU", Some("cpu")),
            ("POM_5V_CPU", Some("cpu")),
            ("VDD_CPU_CV", Some("cpu_cv")),
            ("VDD_CPU_GPU_CV", Some("cpu_gpu_cv")),
            ("VDD_CPU_SOC_MSS", Some("cpu_soc_mss")),
            ("VDD_GPU_SOC", None),
            ("VDD_IN", None),
            ("power_meter-ACPI000D:02:CPU Power Socket 0", None),
            ("", None),
        ] {
            assert_eq!(cpu_rail(rail).as_deref(), expected, "{rail}");
        }
    }

    struct Board {
        registry: Registry,
        own: Arc<Group>,
        domains: Vec<Domain>,
    }

    impl Board {
        fn new() -> Board {
            let registry = Registry::new(Policy::Listed([].into()));
            let own = registry.add_group(99, "workloads", vec![]);
            Board {
                registry,
                own,
                domains: Vec::new(),
            }
        }

        /// Whether there are new domains.
        fn find(&mut self) -> bool {
            let before = self.domains.len();
            for domain in find(&self.registry, &self.own) {
                match self.domains.iter_mut().find(|d| d.name == domain.name) {
                    Some(known) => known.replace_with(domain),
                    None => self.domains.push(domain),
                }
            }
            self.domains.len() > before
        }

        fn read(&mut self, domain: &str, second: u64) -> Option<Reading> {
            let mut domains = self.domains.iter_mut();
            domains
                .find(|d| d.name == domain)?
                .read(BootTime(second * SECOND))
        }
    }

    fn publish(group: &Group, second: u64, poll: impl FnOnce(&mut Readings)) {
        let mut out = Readings::new(5.0);
        out.begin(BootTime(second * SECOND));
        poll(&mut out);
        group.publish(group.new_generation(), &out);
    }

    #[test]
    fn packages_are_added_up_and_a_source_that_begins_anew_counts_from_0() {
        let mut board = Board::new();
        let group = board.registry.add_group(0, "rapl", vec![]);
        let mut rails = ["package-0", "package-1", "core-0", "psys"]
            .map(|rail| Rail::with_range(&group, rail, 0));
        assert!(!board.find(), "it may not have registered all");
        group.settle();
        assert!(board.find());
        assert!(!board.find());
        let names: Vec<_> = board.domains.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["package", "core"]);
        let mut at = |second: u64, joules: [u64; 2]| {
            publish(&group, second, |out| {
                rails[0].set_counter(out, joules[0], 1.0);
                rails[1].set_counter(out, joules[1], 1.0);
            });
        };
        at(1, [100, 200]);
        assert_eq!(board.read("package", 1), None, "the first reading");
        assert_eq!(board.read("core", 1), None);
        at(3, [110, 230]);
        let expected = Reading {
            joules: 40.0,
            seconds: 2.0,
            is_gap: false,
            age: 0.0,
            load: None,
        };
        assert_eq!(board.read("package", 3), Some(expected));
        assert_eq!(board.read("package", 3), None, "it is read once");
        at(60, [115, 231]);
        let expected = Reading {
            joules: 6.0,
            seconds: 57.0,
            is_gap: true,
            age: 0.0,
            load: None,
        };
        board.domains.iter().for_each(|d| assert!(d.is_fresh));
        group.set_interval(std::time::Duration::from_secs(1));
        assert_eq!(board.read("package", 60), Some(expected));
        // Ended and started with other settings.
        board.registry.remove_group(&group);
        let again = board.registry.add_group(0, "rapl", vec![]);
        let mut rail = Rail::with_range(&again, "package-0", 0);
        publish(&again, 61, |out| {
            rail.set_counter(out, 1000, 1.0);
        });
        assert!(!board.find());
        publish(&again, 62, |out| {
            rail.set_counter(out, 1003, 1.0);
        });
        let reading = board.read("package", 62).unwrap();
        assert_eq!((reading.joules, reading.seconds), (3.0, 2.0));
    }

    #[test]
    fn another_source_of_the_same_domain_goes_on_from_what_it_has_counted() {
        let mut board = Board::new();
        let first = board.registry.add_group(0, "ina3221", vec![]);
        let second = board.registry.add_group(1, "tegrastats", vec![]);
        let mut ended = Rail::with_range(&first, "VDD_CPU", 0);
        let mut rail = Rail::with_range(&second, "VDD_CPU", 0);
        let mut at = |second_read: u64, joules: u64| {
            publish(&second, second_read, |out| {
                rail.set_counter(out, joules, 1.0);
            });
        };
        publish(&first, 1, |out| {
            ended.set_counter(out, 100, 1.0);
        });
        at(1, 100);
        assert!(board.find());
        assert_eq!(board.read("cpu", 1), None, "the first reading");
        at(2, 150);
        board.registry.remove_group(&first);
        assert!(!board.find());
        assert_eq!(board.read("cpu", 2), None, "what it counted before");
        at(3, 153);
        assert_eq!(board.read("cpu", 3).unwrap().joules, 3.0);
    }

    #[test]
    fn dies_are_parts_of_their_package() {
        let mut board = Board::new();
        let group = board.registry.add_group(0, "rapl", vec![]);
        for rail in ["package-0-die-0", "package-0-die-1", "dram-1", "psys"] {
            Rail::new(&group, rail);
        }
        group.settle();
        assert!(board.find());
        let domains = board.domains.iter();
        let found: Vec<_> = domains.map(|d| (&*d.name, d.parts.len())).collect();
        assert_eq!(found, [("package", 2), ("dram", 1)]);
    }

    #[test]
    fn the_boards_total_goes_on_from_one_source_to_the_other() {
        let mut board = Board::new();
        let plug = board.registry.add_group(0, "shelly", vec![]);
        let chip = board.registry.add_group(1, "ina260", vec![]);
        let mut first = Total::new(&plug, Grade::Input);
        publish(&plug, 1, |out| first.set_watts(out, 10.0));
        let mut second = Total::new(&chip, Grade::Input);
        publish(&chip, 1, |out| second.set_watts(out, 10.0));
        assert!(board.find());
        assert_eq!(board.read("board", 1), None);
        publish(&plug, 2, |out| first.set_watts(out, 10.0));
        publish(&chip, 2, |out| second.set_watts(out, 8.0));
        assert_eq!(board.read("board", 2).unwrap().joules, 10.0);
        board.registry.remove_group(&plug);
        publish(&chip, 3, |out| second.set_watts(out, 8.0));
        board.find();
        assert_eq!(board.read("board", 3).unwrap().joules, 8.0);
    }

    #[test]
    fn coarse_counter_of_the_board_goes_by_its_power() {
        let mut board = Board::new();
        let plug = board.registry.add_group(0, "json", vec![]);
        let total = Total::new(&plug, Grade::Configured);
        let poll = |second: u64, joules: f64| {
            publish(&plug, second, |out| {
                total.set_counted(out, Some(5.0), joules);
            });
        };
        poll(1, 3600.0);
        assert!(board.find());
        board.read(BOARD, 1);
        let mut sum = 0.0;
        for second in 2..=3000 {
            poll(second, if second % 720 == 400 { 3600.0 } else { 0.0 });
            let reading = board.read(BOARD, second).unwrap();
            sum += reading.joules;
            // Half a minute later than it could be said that it is coarse.
            if second > 150 {
                assert!((reading.joules - 5.0).abs() < 1e-6, "{second}");
            }
        }
        let counted: f64 = 4.0 * 3600.0;
        assert!((sum - counted).abs() <= 3600.0, "{sum} of {counted}");
    }

    #[test]
    fn gpus_are_domains_with_their_load_and_come_last() {
        let mut board = Board::new();
        let gpus = board.registry.add_group(0, "nvidia", vec![]);
        let loads = [0, 1].map(|gpu: u32| {
            let desc = Desc::gauge("nvidia_gpu_utilization_ratio", "x");
            gpus.series(&desc, &[("gpu", &gpu.to_string())])
        });
        let mut rails =
            ["nvidia_gpu_0", "nvidia_gpu_1"].map(|rail| Rail::with_range(&gpus, rail, 0));
        let rapl = board.registry.add_group(1, "rapl", vec![]);
        Rail::new(&rapl, "package-0");
        rapl.settle();
        let mut at = |second: u64, load: Option<f64>| {
            publish(&gpus, second, |out| {
                for (rail, id) in rails.iter_mut().zip(loads) {
                    rail.set_counter(out, second * 100, 1.0);
                    if let Some(load) = load {
                        out.set(id, load);
                    }
                }
            });
        };
        at(1, None);
        assert!(board.find());
        let names = board.domains.iter().map(|d| (d.name.as_str(), d.gpu));
        let expected = [
            ("package", None),
            ("nvidia_gpu_0", Some(0)),
            ("nvidia_gpu_1", Some(1)),
        ];
        assert!(names.eq(expected));
        assert_eq!(board.read("nvidia_gpu_1", 1), None);
        at(2, Some(0.5));
        let reading = board.read("nvidia_gpu_1", 2).unwrap();
        assert_eq!((reading.joules, reading.load), (100.0, Some(0.5)));
        at(3, None);
        assert_eq!(board.read("nvidia_gpu_1", 3).unwrap().load, None);
        assert_eq!(gpu_of_rail("nvidia", "nvidia_gpu_x"), None);
        assert_eq!(gpu_of_rail("hwmon", "nvidia_gpu_0"), None);
    }

    #[test]
    fn version_changes_with_what_meters_register_only() {
        let board = Board::new();
        let other_view = board.registry.add_group(100, "workloads", vec![]);
        let meter = board.registry.add_group(0, "rapl", vec![]);
        let version = || version(&board.registry, &board.own);
        let mut last = version();
        let mut has_changed = || std::mem::replace(&mut last, version()) != version();
        for group in [&board.own, &other_view] {
            Rail::new(group, "a");
            group.settle();
            assert!(!has_changed());
        }
        Rail::new(&meter, "package-0");
        assert!(has_changed());
        meter.settle();
        assert!(has_changed());
        board.registry.remove_group(&meter);
        assert!(has_changed());
        assert!(!has_changed());
    }

    #[test]
    fn a_source_of_another_kind_is_no_domain() {
        let mut board = Board::new();
        let group = board.registry.add_group(0, "nvidia", vec![]);
        Rail::new(&group, "0");
        let group = board.registry.add_group(1, "rapl", vec![]);
        Rail::new(&group, "uncore-0");
        board
            .registry
            .groups()
            .iter()
            .for_each(|group| group.settle());
        assert!(!board.find());
        assert!(board.domains.is_empty());
        assert_eq!(board.read("board", 1), None);
    }
}
