//! What a poll costs: the way of a value from its file to its series, beside a bare loop that reads as many kept
//! descriptors with `pread`.
//!
//! `cargo bench --bench poll` prints processor time; `bench/callgrind` counts instructions, for which it runs
//! `poll VARIANT ROUNDS`; `bench/pacing.py` runs `poll pace NANOSECONDS SECONDS FILE…` beside the exporter.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edge_metrics_exporter::config::Config;
use edge_metrics_exporter::metrics::{Group, Policy, Rail, Readings, Registry};
use edge_metrics_exporter::sources::workloads::usage::parse_cpu_stat;
use edge_metrics_exporter::sources::{
    parse_number, Board, Context, Health, Roots, Source, METERS, SCHEMA,
};
use edge_metrics_exporter::sys::clock::{process_cpu_seconds, BootTime};
use edge_metrics_exporter::sys::perf::PerfEvent;
use edge_metrics_exporter::sys::stop::Stop;
use nix::sys::time::TimeSpec;
use nix::time::{clock_gettime, clock_nanosleep, ClockId, ClockNanosleepFlags};

/// Values in a poll: a large board's.
const VALUES: usize = 20;
/// Cgroups: a large server's.
const CGROUPS: usize = 1000;
/// The meters, the values in a poll, and the ways of reading their files.
const READERS: [(&str, usize); 4] = [
    ("hwmon", VALUES),
    ("rapl", VALUES),
    ("thermal", VALUES),
    ("workloads", CGROUPS),
];
const WAYS: [&str; 5] = [":bare", ":pread", ":std", "", ":kept"];

fn main() {
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    if let Some(("pace", [nanos, seconds, files @ ..])) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return pace(nanos.parse().unwrap(), seconds.parse().unwrap(), files);
    }
    let tree = Tree::new();
    if let [variant, rounds] = arguments.as_slice() {
        let mut poll = prepare(variant, &tree.0).unwrap_or_else(|| panic!("no {variant}"));
        for _ in 0..rounds.parse().unwrap() {
            poll();
        }
        return;
    }
    compare(&tree.0);
}

/// The barest loop that reads files at equal distances: `clock_nanosleep` and `pread`, or `read` for an event of the kernel
/// (`perf:TYPE:CONFIG:CPU`). Prints the ticks that it took, those that it missed, and its processor time in seconds.
fn pace(interval: u64, seconds: u64, files: &[String]) {
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
    let now = || {
        let time = clock_gettime(CLOCK).unwrap();
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    };
    let mut reads: Vec<Box<dyn FnMut()>> = Vec::new();
    for file in files {
        if let Some(event) = file.strip_prefix("perf:") {
            let mut words = event.split(':').map(|word| word.parse().unwrap());
            let mut word = || words.next().unwrap();
            let event = PerfEvent::open(word(), u64::from(word()), word()).unwrap();
            reads.push(Box::new(move || {
                black_box(event.read().unwrap());
            }));
        } else {
            let file = File::open(file).unwrap();
            reads.push(Box::new(move || {
                let mut buffer = [0; 64];
                black_box(file.read_at(&mut buffer, 0).unwrap());
            }));
        }
    }
    let (begun, begin) = (process_cpu_seconds(), now());
    let (mut due, mut ticks, mut missed) = (begin + interval, 0u64, 0u64);
    while due < begin + seconds * 1_000_000_000 {
        let time = TimeSpec::from_duration(Duration::from_nanos(due));
        while clock_nanosleep(CLOCK, ClockNanosleepFlags::TIMER_ABSTIME, &time).is_err() {}
        reads.iter_mut().for_each(|read| read());
        ticks += 1;
        due += interval;
        // As the exporter's: a tick is missed once a whole interval has passed since it.
        let late = now().saturating_sub(due) / interval;
        missed += late;
        due += late * interval;
    }
    println!("{ticks} {missed} {}", process_cpu_seconds() - begun);
}

/// Processor time of each variant, user and system together.
fn compare(tree: &Path) {
    const ROUNDS: usize = 9;
    println!("| poll of {VALUES} values, {CGROUPS} of workloads | ns of processor time a value | of the bare loop |");
    println!("| --- | ---: | ---: |");
    for (meter, values) in READERS {
        let rounds = 100_000 / values;
        let mut polls: Vec<_> = WAYS
            .iter()
            .map(|way| format!("{meter}{way}"))
            .filter_map(|variant| Some((prepare(&variant, tree)?, variant, f64::INFINITY)))
            .collect();
        for _ in 0..ROUNDS {
            for (poll, _, best) in &mut polls {
                let begun = process_cpu_seconds();
                (0..rounds).for_each(|_| poll());
                let spent = (process_cpu_seconds() - begun) / (rounds * values) as f64;
                *best = best.min(spent * 1e9);
            }
        }
        let bare = polls.first().map_or(f64::NAN, |(_, _, best)| *best);
        for (_, variant, best) in &polls {
            println!("| {variant} | {best:.0} | {:.2} |", best / bare);
        }
    }
}

/// One poll of a variant, ready to be repeated. `NAME` is a meter as it is, and `NAME:kept` one whose samples are kept for
/// those who want every one of them; `NAME:pread` only reads the files that it reads; `NAME:bare` makes numbers of them
/// too, with our own parser, and `NAME:std` with the standard library's.
fn prepare(variant: &str, tree: &Path) -> Option<Box<dyn FnMut()>> {
    let (meter, way) = variant.split_once(':').unwrap_or((variant, ""));
    if way.is_empty() || way == "kept" {
        let context = context(tree, meter);
        if way == "kept" {
            // The defaults of `history:`. The ring is full after some thousand polls, and gives way from then on.
            let keep = Config::default().history;
            context.group.history().limit(keep.keep, keep.bytes);
        }
        let meter = METERS.iter().find(|m| m.name == meter)?;
        let source = (meter.open)(&context).unwrap_or_else(|e| panic!("{e}"));
        let draws = (meter.name == "workloads").then(|| package(&context));
        return Some(repeat(context, source, draws));
    }
    let (_, values) = READERS.into_iter().find(|(name, _)| *name == meter)?;
    let file: fn(usize) -> String = match meter {
        "hwmon" => input,
        "rapl" => energy,
        "workloads" => cpu_stat,
        _ => |i| format!("class/thermal/thermal_zone{i}/temp"),
    };
    let open = |i| File::open(tree.join(file(i))).unwrap();
    let files: Vec<File> = (0..values).map(open).collect();
    if meter == "workloads" && way != "pread" {
        // The number is in the file's first line, behind a word.
        return Some(match way {
            "bare" => bare(files, |text| {
                black_box(parse_cpu_stat(text));
            }),
            "std" => bare(files, |text| {
                let text = std::str::from_utf8(text).unwrap();
                let mut lines = text.lines();
                let digits = lines.find_map(|line| line.strip_prefix("usage_usec "));
                black_box(digits.unwrap().parse::<u64>().unwrap());
            }),
            _ => return None,
        });
    }
    Some(match way {
        "pread" => bare(files, |text| {
            black_box(text);
        }),
        "bare" => bare(files, |text| {
            black_box(parse_number(text));
        }),
        "std" => bare(files, |text| {
            let text = std::str::from_utf8(text).unwrap();
            black_box(text.trim().parse::<i64>().unwrap());
        }),
        _ => return None,
    })
}

fn bare(files: Vec<File>, each: impl Fn(&[u8]) + 'static) -> Box<dyn FnMut()> {
    Box::new(move || {
        for file in &files {
            let mut buffer = [0; 64];
            let n = file.read_at(&mut buffer, 0).unwrap();
            each(&buffer[..n]);
        }
    })
}

/// A meter beside: a package that has drawn a joule more each time.
fn package(context: &Context) -> Box<dyn FnMut()> {
    let group = context.registry.add_group(1, "rapl", Vec::new());
    let mut rail = Rail::with_range(&group, "package-0", 0);
    let generation = group.new_generation();
    let mut readings = Readings::new(5.0);
    let mut joules = 0;
    Box::new(move || {
        joules += 1;
        readings.begin(BootTime::now());
        rail.set_counter(&mut readings, joules, 1.0);
        assert!(group.publish(generation, &readings));
    })
}

/// What a source's thread does between two waits.
fn repeat(
    context: Context,
    mut source: Box<dyn Source>,
    mut draws: Option<Box<dyn FnMut()>>,
) -> Box<dyn FnMut()> {
    let generation = context.group.new_generation();
    let mut readings = Readings::new(5.0);
    Box::new(move || {
        if let Some(draws) = &mut draws {
            draws();
        }
        let began = BootTime::now();
        context.health.poll_begins(began);
        readings.begin(began);
        source.poll(&mut readings).unwrap();
        context.health.poll_ended(began, BootTime::now());
        assert!(context.group.publish(generation, &readings));
        context.health.set_error(None);
    })
}

fn context(tree: &Path, meter: &str) -> Context {
    let settings = format!("workloads: {{enabled: true, max_workloads: {CGROUPS}}}");
    let config = match meter {
        "workloads" => SCHEMA.parse(&settings).unwrap().0,
        _ => Config::default(),
    };
    let roots = Roots {
        sysfs: tree.into(),
        procfs: tree.into(),
        dev: tree.into(),
        programs: None,
    };
    let registry = Arc::new(Registry::new(Policy::All));
    let group: Arc<Group> = registry.add_group(0, "bench", Vec::new());
    Context {
        device: Default::default(),
        board: Arc::new(Board::detect(roots)),
        config: Arc::new(config),
        group,
        registry,
        health: Arc::new(Health::default()),
        stop: Arc::new(Stop::default()),
        interval: Duration::from_secs(1),
    }
}

/// What an INA226 has.
const INPUTS: [(&str, usize); 4] = [
    ("in1", 12_000),
    ("curr1", 1_250),
    ("power1", 15_000_000),
    ("temp1", 41_500),
];

fn input(i: usize) -> String {
    let (name, _) = INPUTS[i % 4];
    format!("class/hwmon/hwmon{}/{name}_input", i / 4)
}

fn energy(i: usize) -> String {
    format!("class/powercap/{}/energy_uj", zone(i))
}

/// Powercap zones: four packages, each with four zones below it.
fn zone(i: usize) -> String {
    match i % 5 {
        0 => format!("intel-rapl:{}", i / 5),
        n => format!("intel-rapl:{}:{}", i / 5, n - 1),
    }
}

fn cpu_stat(i: usize) -> String {
    format!("fs/cgroup/system.slice/some-{i:04}.service/cpu.stat")
}

/// A sysfs of 20 values of five chips in hwmon, 20 zones of powercap, 20 thermal zones, and 1,000 services.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Tree {
        let root = std::env::temp_dir().join(format!("bench-poll-{}", std::process::id()));
        let write = |path: String, value: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        };
        for i in 0..VALUES {
            if i % 4 == 0 {
                write(format!("class/hwmon/hwmon{}/name", i / 4), "ina226\n");
            }
            write(input(i), &format!("{}\n", INPUTS[i % 4].1 + i));
            let zone = format!("class/powercap/{}", zone(i));
            let name = match i % 5 {
                0 => format!("package-{}", i / 5),
                n => ["core", "uncore", "dram", "psys"][n - 1].to_string(),
            };
            write(format!("{zone}/name"), &format!("{name}\n"));
            write(energy(i), &format!("{}\n", 98_765_432_100 + i));
            write(format!("{zone}/max_energy_range_uj"), "262143328850\n");
            let zone = format!("class/thermal/thermal_zone{i}");
            write(format!("{zone}/type"), &format!("sensor{i}\n"));
            write(format!("{zone}/temp"), &format!("{}\n", 41_500 + i));
        }
        let usage = |usec: usize| {
            let rest = "nice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n";
            format!("usage_usec {usec}\nuser_usec 98000\nsystem_usec 45678\n{rest}nr_bursts 0\nburst_usec 0\n")
        };
        let processors = "cpu  123456 789 45678 98765432 1234 0 567 0 0 0\n";
        write("stat".to_string(), &processors.repeat(5));
        write("fs/cgroup/cgroup.controllers".to_string(), "cpu\n");
        let slice = "fs/cgroup/system.slice/cpu.stat".to_string();
        write(slice, &usage(98_765_432_100));
        (0..CGROUPS).for_each(|i| write(cpu_stat(i), &usage(98_765_000 + 1_234 * i)));
        Tree(root)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
