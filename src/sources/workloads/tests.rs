//! The source on fixture trees, beside a meter of the test's own.

use super::testing::Random;
use super::*;
use crate::metrics::Rail;
use crate::sources::testing::{Bench, Tree};
use crate::sources::SCHEMA;

const UID: &str = "2f3c4d5e-0123-4567-89ab-cdef01234567";

/// The counter begins anew at 0 after 4,295 J.
const RANGE: u64 = 1 << 32;

/// A board with cgroups of version 2, RAPL's counter of a package, and the source.
struct Rig {
    tree: Tree,
    bench: Bench,
    meter: Arc<Group>,
    package: Rail,
    microjoules: u64,
    busy_ticks: u64,
    second: f64,
}

impl Rig {
    fn new(settings: &str) -> Rig {
        let tree = Tree::new(&[
            ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n"),
        ]);
        let text = format!("workloads: {{enabled: true{settings}}}\n");
        let config = SCHEMA.parse(&text).unwrap().0;
        let bench = Bench::new(&METER, &tree, config);
        let meter = bench.context.registry.add_group(1, "rapl", vec![]);
        meter.set_interval(std::time::Duration::from_secs(1));
        Rig {
            package: Rail::with_range(&meter, "package-0", RANGE),
            tree,
            bench,
            meter,
            microjoules: 1000,
            busy_ticks: 0,
            second: 0.0,
        }
    }

    /// A cgroup has used so many milliseconds.
    fn set(&self, cgroup: &str, ms: u64) {
        let text = format!("usage_usec {}\n", ms * 1000);
        self.tree
            .write(&format!("sys/fs/cgroup/{cgroup}/cpu.stat"), text);
    }

    /// The meter counts so many joules.
    fn draw(&mut self, joules: f64) {
        self.microjoules = (self.microjoules + (joules * 1e6) as u64) % RANGE;
        let mut out = Readings::new(5.0);
        out.begin(BootTime(((self.second + 1.0) * 1e9) as u64));
        self.package.set_counter(&mut out, self.microjoules, 1e-6);
        self.meter.publish(self.meter.new_generation(), &out);
    }

    /// A second later, in which the processors were busy for so many milliseconds.
    fn poll(&mut self, busy_ms: u64) -> Vec<String> {
        self.busy_ticks += busy_ms / 10;
        let text = format!("cpu  {} 0 0 0 0 0 0 0 0 0\n", self.busy_ticks);
        self.tree.write("proc/stat", text);
        self.second += 1.0;
        let mut lines = self.bench.poll(self.second);
        lines.retain(|line| line.starts_with("workload_"));
        lines
    }

    fn start(&mut self) {
        self.bench.reopen().unwrap();
        self.draw(0.0);
        self.poll(0);
    }

    fn energy(&self, name: &str) -> Option<f64> {
        let (kind, name) = name.split_once(' ').unwrap();
        self.bench.value(&format!(
            "workload_energy_joules_total{{domain=\"package\",kind=\"{kind}\",name=\"{name}\"}}"
        ))
    }

    /// What the meter says that it has counted.
    fn metered(&self) -> f64 {
        let all = self.meter.all_series();
        let energy =
            |series: &Arc<crate::metrics::Series>| series.family.name == "energy_joules_total";
        self.meter
            .value_at(all.iter().position(energy).unwrap())
            .unwrap_or(0.0)
    }

    fn of_domain(&self, metric: &str) -> Option<f64> {
        self.bench.value(&format!("{metric}{{domain=\"package\"}}"))
    }
}

/// The sum of what is exported of this domain, and the whole.
fn conserved(lines: &[String], domain: &str) -> (f64, f64) {
    let domain = format!("domain=\"{domain}\"");
    let (mut sum, mut whole) = (0.0, 0.0);
    for line in lines.iter().filter(|line| line.contains(&domain)) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        match series.split('{').next().unwrap() {
            "workload_domain_energy_joules_total" => whole = value,
            "workload_energy_joules_total"
            | "workload_ended_energy_joules_total"
            | "workload_idle_energy_joules_total" => sum += value,
            _ => {}
        }
    }
    (sum, whole)
}

#[test]
fn it_is_off_unless_it_is_asked_for() {
    let tree = Tree::new(&[("sys/fs/cgroup/cgroup.controllers", "cpu\n")]);
    let bench = Bench::new(&METER, &tree, Config::default());
    assert_eq!((METER.switch)(&bench.context.config), Switch::Off);
    assert_eq!(
        bench.probe().unwrap_err().to_string(),
        "it is off (workloads: {enabled: true})"
    );
    let rig = Rig::new("");
    assert_eq!((METER.switch)(&rig.bench.context.config), Switch::On);
    let found = rig.bench.probe().unwrap();
    assert!(
        found.starts_with("service, container, pod by cgroup v2 at /"),
        "{found}"
    );
}

#[test]
fn energy_above_idle_is_attributed_by_cpu_time() {
    let mut rig = Rig::new(", idle_watts: {package: 4}");
    let pod = format!("kubepods/burstable/pod{UID}");
    rig.set("system.slice/ssh.service", 0);
    rig.set("system.slice", 0);
    for cgroup in ["kubepods", "kubepods/burstable", &pod] {
        rig.set(cgroup, 0);
    }
    rig.start();
    rig.set("system.slice/ssh.service", 200);
    rig.set("system.slice", 200);
    for cgroup in ["kubepods", "kubepods/burstable", &pod] {
        rig.set(cgroup, 400);
    }
    rig.draw(12.0);
    let lines = rig.poll(1000);
    let series = |metric: &str, kind: &str, name: &str, value: &str| {
        format!("{metric}{{domain=\"package\",kind=\"{kind}\",name=\"{name}\"}} {value}")
    };
    for line in [
        series(
            "workload_energy_joules_total",
            "service",
            "ssh.service",
            "1.6",
        ),
        series("workload_energy_joules_total", "pod", UID, "3.2"),
        series("workload_energy_joules_total", "system", "system", "3.2"),
        series("workload_energy_joules_total", "other", "other", "0"),
        series("workload_power_watts", "pod", UID, "3.2"),
        "workload_idle_energy_joules_total{domain=\"package\"} 4".to_string(),
        "workload_idle_watts{domain=\"package\"} 4".to_string(),
        "workload_domain_energy_joules_total{domain=\"package\"} 12".to_string(),
        "workload_domain_power_watts{domain=\"package\"} 12".to_string(),
        "workload_cpu_seconds_total{kind=\"service\",name=\"ssh.service\"} 0.2".to_string(),
        "workload_cpu_seconds_total{kind=\"system\",name=\"system\"} 0.4".to_string(),
    ] {
        assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    }
}

#[test]
fn series_of_an_ended_workload_end_and_its_energy_stays() {
    let mut rig = Rig::new(", idle_watts: {package: 0}");
    rig.set("a.service", 0);
    rig.start();
    rig.set("a.service", 100);
    rig.draw(6.0);
    rig.poll(100);
    assert_eq!(rig.energy("service a.service"), Some(6.0));
    rig.tree.remove("sys/fs/cgroup/a.service");
    rig.draw(2.0);
    let lines = rig.poll(100);
    assert_eq!(rig.energy("service a.service"), None);
    assert!(
        !lines.iter().any(|line| line.contains("a.service")),
        "{lines:?}"
    );
    assert_eq!(
        rig.of_domain("workload_ended_energy_joules_total"),
        Some(6.0)
    );
    assert_eq!(rig.energy("system system"), Some(2.0));
    assert_eq!(conserved(&lines, "package"), (8.0, 8.0));
}

#[test]
fn idle_power_that_is_not_given_is_learned_and_constant_load_says_unknown() {
    let mut rig = Rig::new("");
    rig.set("a.service", 0);
    rig.start();
    let mut used = 0;
    for _ in 0..120 {
        used += 500;
        rig.set("a.service", used);
        rig.draw(10.0);
        rig.poll(500);
    }
    assert_eq!(rig.of_domain("workload_idle_watts"), None);
    // Half of one of four processors: the rest of the energy is idle's.
    assert_eq!(
        rig.of_domain("workload_idle_energy_joules_total"),
        Some(10.0 * 120.0 * 0.875)
    );
    let mut rig = Rig::new("");
    rig.set("a.service", 0);
    rig.start();
    let mut used = 0;
    for second in 0..300 {
        let busy = 100 * (second % 30);
        used += busy;
        rig.set("a.service", used);
        rig.draw(5.0 + 0.002 * busy as f64);
        rig.poll(busy);
    }
    let idle = rig.of_domain("workload_idle_watts").unwrap();
    assert!((idle / 5.0 - 1.0).abs() < 0.03, "{idle}");
    assert!(rig.of_domain("workload_idle_fit_ratio").unwrap() > 0.99);
    assert!(rig.of_domain("workload_idle_error_watts").unwrap() < 0.1);
}

#[test]
fn domain_that_appears_later_is_attributed_from_then_on() {
    let mut rig = Rig::new(", idle_watts: {package: 0, core: 0}");
    rig.set("a.service", 0);
    rig.start();
    let chip = rig.bench.context.registry.add_group(2, "rpi", vec![]);
    let rail = Rail::with_range(&chip, "VDD_CORE", 0);
    let mut rail = rail;
    for (second, joules) in [(1, 50), (2, 58)] {
        let mut out = Readings::new(5.0);
        out.begin(BootTime(second * 1_000_000_000 + 1));
        rail.set_counter(&mut out, joules, 1.0);
        chip.publish(chip.new_generation(), &out);
        rig.set("a.service", second * 100);
        rig.draw(1.0);
        rig.poll(100);
    }
    let energy =
        "workload_energy_joules_total{domain=\"vdd_core\",kind=\"service\",name=\"a.service\"}";
    // Idle power is unknown: a tenth of a second of one of four processors.
    let shared = rig.bench.value(energy).unwrap();
    assert!((shared - 8.0 * 0.1 / 4.0).abs() < 1e-9, "{shared}");
}

#[test]
fn domain_that_appears_in_a_full_group_is_exported_whole() {
    let mut rig = Rig::new(", idle_watts: {package: 0, vdd_core: 0}");
    (0..50).for_each(|i| rig.set(&format!("s{i}.service"), 0));
    rig.start();
    let group = Arc::clone(&rig.bench.context.group);
    let mut others = 0;
    while group.room() > 60 {
        group.series(&Desc::gauge(format!("g{others}"), ""), &[]);
        others += 1;
    }
    let chip = rig.bench.context.registry.add_group(2, "rpi", vec![]);
    let mut rail = Rail::with_range(&chip, "VDD_CORE", 0);
    let mut lines = Vec::new();
    for (second, joules) in [(1, 50), (2, 58)] {
        let mut out = Readings::new(5.0);
        out.begin(BootTime(second * 1_000_000_000 + 1));
        rail.set_counter(&mut out, joules, 1.0);
        chip.publish(chip.new_generation(), &out);
        (0..50).for_each(|i| rig.set(&format!("s{i}.service"), second * 10));
        rig.draw(1.0);
        lines = rig.poll(500);
    }
    assert_eq!(group.left_out(), 0);
    for (domain, expected) in [("package", 2.0), ("vdd_core", 8.0)] {
        let (sum, whole) = conserved(&lines, domain);
        assert!((sum - expected).abs() < 1e-6, "{sum} of {domain}");
        assert!((whole - expected).abs() < 1e-6, "{whole} of {domain}");
    }
}

#[test]
fn power_of_a_new_workload_is_absent_until_the_meter_is_read() {
    let mut rig = Rig::new(", idle_watts: {package: 0}");
    rig.set("a.service", 0);
    rig.start();
    rig.draw(1.0);
    rig.poll(0);
    let watts = |rig: &Rig, name: &str| {
        rig.bench.value(&format!(
            "workload_power_watts{{domain=\"package\",kind=\"service\",name=\"{name}\"}}"
        ))
    };
    for (gone, new) in [("z", "b"), ("b", "c")] {
        let _ = std::fs::remove_dir_all(rig.tree.path(&format!("sys/fs/cgroup/{gone}.service")));
        rig.poll(0);
        let new = format!("{new}.service");
        rig.set(&new, 0);
        // The meter is a plug that has not been read since.
        rig.poll(0);
        assert_eq!(watts(&rig, &new), None);
        assert_eq!(watts(&rig, "a.service"), Some(0.0));
        rig.draw(3.0);
        rig.poll(100);
        assert_eq!(watts(&rig, &new), Some(0.0));
    }
}

#[test]
fn cpu_time_before_a_domains_first_reading_has_no_part_in_its_energy() {
    let mut rig = Rig::new(", idle_watts: {package: 0}");
    rig.set("a.service", 0);
    rig.set("b.service", 0);
    rig.bench.reopen().unwrap();
    rig.poll(0);
    // It does not wait for the meter any longer.
    rig.second += METERS_TIMEOUT;
    rig.poll(0);
    rig.set("a.service", 1000);
    rig.poll(1000);
    rig.draw(0.0);
    rig.poll(0);
    rig.set("b.service", 1000);
    rig.draw(6.0);
    rig.poll(1000);
    assert_eq!(rig.energy("service a.service"), Some(0.0));
    assert_eq!(rig.energy("service b.service"), Some(6.0));
}

#[test]
fn silent_meter_has_no_power_and_its_energy_stands() {
    let mut rig = Rig::new(", idle_watts: {package: 1}");
    rig.set("a.service", 0);
    rig.start();
    rig.set("a.service", 100);
    rig.draw(3.0);
    rig.poll(100);
    rig.second += 60.0;
    let lines = rig.poll(0);
    assert!(
        !lines.iter().any(|line| line.contains("power_watts{domain")),
        "{lines:?}"
    );
    assert_eq!(rig.energy("service a.service"), Some(2.0));
    // It counted on meanwhile.
    rig.draw(100.0);
    let lines = rig.poll(100);
    assert_eq!(conserved(&lines, "package"), (103.0, 103.0));
}

/// Workloads start, end, restart, are renamed, are nested and are too many; processors come and go; counters are reset, wrap and go
/// back; the meter is slow and silent; the board is suspended, and its clock goes back.
#[test]
fn the_exported_parts_are_the_whole_at_every_poll() {
    for seed in 1..=4 {
        let mut random = Random::new(seed);
        let mut rig = Rig::new(if seed % 2 == 0 {
            ", max_workloads: 5"
        } else {
            ""
        });
        rig.set("system.slice", 0);
        rig.start();
        let mut usage: std::collections::BTreeMap<String, u64> = Default::default();
        let mut slice = 0;
        let begun = rig.metered();
        let mut last = 0.0;
        for round in 0..150 {
            if random.below(3) == 0 {
                let name = match random.below(3) {
                    0 => format!("system.slice/s{}.service", random.below(9)),
                    1 => format!("system.slice/docker-{:064x}.scope", random.below(4)),
                    _ => format!(
                        "system.slice/s{}.service/lxc.payload.{}",
                        random.below(9),
                        random.below(3)
                    ),
                };
                let parent = name.rsplit_once('/').unwrap().0.to_string();
                usage.entry(parent).or_default();
                usage.entry(name).or_default();
            }
            if random.below(5) == 0 && usage.len() > 3 {
                let name = usage.keys().nth(random.below(usage.len())).unwrap().clone();
                if name != "system.slice" {
                    let _ =
                        std::fs::remove_dir_all(rig.tree.path(&format!("sys/fs/cgroup/{name}")));
                    usage.retain(|known, _| !known.starts_with(&name));
                }
            }
            let mut busy = 10 * random.below(20) as u64;
            for (name, used) in &mut usage {
                let more = random.below(400) as u64;
                *used += more;
                if random.below(40) == 0 {
                    *used = 0;
                }
                busy += more;
                rig.set(name, *used);
            }
            slice += busy;
            rig.set("system.slice", slice);
            match random.below(8) {
                0 => {}
                1 => {
                    rig.second += 30.0;
                    rig.draw(7.5);
                }
                // The next reading is late as well.
                2 if random.below(3) == 0 => rig.second += 7200.0,
                3 if random.below(3) == 0 => rig.second -= 1.5,
                _ => rig.draw(random.below(1000) as f64 / 8.0),
            }
            // Processors go off line and come back, and what they had counted with them.
            match random.below(12) {
                0 => {
                    rig.tree.write("sys/devices/system/cpu/online", "0-1\n");
                    rig.busy_ticks /= 2;
                }
                1 => {
                    rig.tree.write("sys/devices/system/cpu/online", "0-3\n");
                    rig.busy_ticks *= 2;
                }
                2 => {
                    let renamed = format!("system.slice/renamed{round}.service");
                    let name = usage
                        .keys()
                        .find(|name| name.ends_with(".service"))
                        .cloned();
                    if let Some(name) = name {
                        let path = |name: &str| rig.tree.path(&format!("sys/fs/cgroup/{name}"));
                        std::fs::rename(path(&name), path(&renamed)).unwrap();
                        let old = std::mem::take(&mut usage);
                        let moved = old
                            .into_iter()
                            .map(|(key, used)| (key.replace(&name, &renamed), used));
                        usage = moved.collect();
                    }
                }
                _ => {}
            }
            if random.below(10) == 0 {
                rig.bench.rescan();
            }
            let lines = rig.poll(busy / 10 * 10);
            let (sum, exported) = conserved(&lines, "package");
            let whole = rig.metered() - begun;
            assert!(
                (sum - exported).abs() <= 1e-6 * exported.max(1.0),
                "{sum} of {exported}: seed {seed}, round {round}"
            );
            assert!(
                (whole - exported).abs() <= 1e-6 * whole.max(1.0),
                "{exported} of {whole}: seed {seed}, round {round}"
            );
            assert!(
                exported >= last && lines.iter().all(|line| !line.contains("} -")),
                "{lines:?}"
            );
            last = exported;
        }
    }
}

#[test]
fn churn_does_not_fill_the_group() {
    let mut rig = Rig::new("");
    let history = rig.bench.context.group.history();
    history.limit(std::time::Duration::from_secs(20), 8 << 20);
    rig.start();
    for round in 0..80 {
        for i in 0..40 {
            rig.set(&format!("r{round}-{i}.service"), 10);
        }
        rig.draw(1.0);
        let lines = rig.poll(400);
        for i in 0..40 {
            rig.tree
                .remove(&format!("sys/fs/cgroup/r{round}-{i}.service"));
        }
        let (sum, whole) = conserved(&lines, "package");
        assert!((sum - whole).abs() < 1e-6, "{sum} of {whole}");
    }
    let group = &rig.bench.context.group;
    assert_eq!(group.left_out(), 0);
    assert!(
        group.all_series().len() < MAX_SERIES_PER_GROUP,
        "{}",
        group.all_series().len()
    );
    assert!(rig.bench.context.health.limits().is_empty());
}

#[test]
fn processes_of_one_name_are_one_workload() {
    let mut rig = Rig::new(", kinds: [process], idle_watts: {package: 0}");
    let stat = |rig: &Rig, pid: u32, comm: &str, flags: u32, ticks: u64, started: u64| {
        let text = format!(
            "{pid} ({comm}) S 1 1 1 0 -1 {flags} 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {started} 0\n"
        );
        rig.tree.write(&format!("proc/{pid}/stat"), text);
    };
    stat(&rig, 10, "worker", 0, 100, 5);
    stat(&rig, 11, "worker", 0, 100, 6);
    stat(&rig, 12, "my) shell", 0, 100, 7);
    stat(&rig, 2, "kthreadd", 0x0020_0000, 100, 0);
    rig.start();
    stat(&rig, 10, "worker", 0, 110, 5);
    stat(&rig, 11, "worker", 0, 120, 6);
    // Another process of the same number, and one that is new.
    stat(&rig, 12, "other", 0, 20, 900);
    stat(&rig, 13, "new", 0, 10, 901);
    stat(&rig, 2, "kthreadd", 0x0020_0000, 130, 0);
    rig.draw(10.0);
    let lines = rig.poll(1000);
    assert_eq!(rig.energy("process worker"), Some(3.0));
    assert_eq!(rig.energy("process other"), Some(2.0));
    assert_eq!(rig.energy("process new"), Some(1.0));
    assert_eq!(rig.energy("process my) shell"), None);
    assert_eq!(rig.energy("system system"), Some(4.0));
    assert_eq!(conserved(&lines, "package"), (10.0, 10.0));
    rig.tree.remove("proc/10");
    // It has become another program.
    stat(&rig, 13, "sh", 0, 30, 901);
    rig.draw(1.0);
    rig.poll(200);
    assert_eq!(rig.energy("process worker"), Some(3.0));
    assert_eq!(rig.energy("process sh"), Some(1.0));
    assert_eq!(rig.energy("process new"), None);
}

#[test]
fn attribution_begins_once_every_meter_has_been_read_or_is_late() {
    let mut rig = Rig::new("");
    rig.set("a.service", 0);
    rig.bench.reopen().unwrap();
    assert_eq!(rig.poll(0), [""; 0], "the meter has not been read");
    rig.draw(0.0);
    assert!(rig.poll(0).len() > 3);
    let mut rig = Rig::new("");
    rig.bench.reopen().unwrap();
    rig.poll(0);
    rig.second += 10.0;
    assert!(rig.poll(0).len() >= 2);
}

#[test]
fn memory_is_that_of_a_workload_without_those_that_lie_in_it() {
    const MIB: u64 = 1 << 20;
    let mut rig = Rig::new(", names: {enabled: false}");
    let docker = "system.slice/docker.service";
    let id = "3f1c9a7be2d04865a1b2c3d4e5f60718293a4b5c6d7e8f90112233445566778a";
    let inner = format!("{docker}/docker-{id}.scope");
    let set = |rig: &Rig, cgroup: &str, mib: u64| {
        let path = format!("sys/fs/cgroup/{cgroup}/memory.current");
        rig.tree.write(&path, format!("{}\n", mib * MIB));
    };
    for (cgroup, mib) in [("system.slice", 90), (docker, 80), (inner.as_str(), 30)] {
        rig.set(cgroup, 0);
        set(&rig, cgroup, mib);
    }
    rig.set("system.slice/bare.service", 0);
    let meminfo = "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\n";
    rig.tree.write("proc/meminfo", meminfo);
    rig.start();
    let memory = |rig: &Rig, kind: &str, name: &str| {
        let labels = format!("{{kind=\"{kind}\",name=\"{name}\"}}");
        rig.bench.value(&format!("workload_memory_bytes{labels}"))
    };
    let mib = |mib: u64| Some((mib * MIB) as f64);
    assert_eq!(memory(&rig, "service", "docker.service"), mib(50));
    assert_eq!(memory(&rig, "container", &id[..12]), mib(30));
    assert_eq!(memory(&rig, "service", "bare.service"), None);
    assert_eq!(memory(&rig, "system", "system"), None);
    let board = |rig: &Rig, what: &str| rig.bench.value(&format!("board_memory_{what}_bytes"));
    assert_eq!(board(&rig, "size"), mib(4));
    assert_eq!(board(&rig, "available"), mib(1));
    // It is read again after 15 seconds.
    set(&rig, docker, 60);
    rig.poll(0);
    assert_eq!(memory(&rig, "service", "docker.service"), mib(50));
    rig.second += 15.0;
    rig.poll(0);
    assert_eq!(memory(&rig, "service", "docker.service"), mib(30));
    // What cannot be read any more is absent.
    rig.tree
        .remove(&format!("sys/fs/cgroup/{docker}/memory.current"));
    rig.tree.write("proc/meminfo", "MemTotal: 4096 kB\n");
    rig.second += 15.0;
    rig.poll(0);
    assert_eq!(memory(&rig, "service", "docker.service"), None);
    assert_eq!(memory(&rig, "container", &id[..12]), mib(30));
    assert_eq!(board(&rig, "size"), None);
}

#[test]
fn memory_of_cgroup_v1_lies_in_a_hierarchy_of_its_own() {
    let tree = Tree::new(&[
        ("sys/fs/cgroup/cpuacct/cpuacct.usage", "0\n"),
        ("sys/fs/cgroup/cpuacct/docker/cpuacct.usage", "0\n"),
        ("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n"),
    ]);
    let id = "3f1c9a7be2d04865a1b2c3d4e5f60718293a4b5c6d7e8f90112233445566778a";
    tree.write(
        &format!("sys/fs/cgroup/cpuacct/docker/{id}/cpuacct.usage"),
        "0\n",
    );
    let path = format!("sys/fs/cgroup/memory/docker/{id}/memory.usage_in_bytes");
    tree.write(&path, "1048576\n");
    for (memory, expected) in [("true", Some(1_048_576.0)), ("false", None)] {
        let text = format!("workloads: {{enabled: true, memory: {memory}}}\n");
        let mut bench = Bench::new(&METER, &tree, SCHEMA.parse(&text).unwrap().0);
        bench.reopen().unwrap();
        bench.poll(1.0);
        let name = &id[..12];
        let series = format!("workload_memory_bytes{{kind=\"container\",name=\"{name}\"}}");
        assert_eq!(bench.value(&series), expected);
    }
}

const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn kepler_has_containers_pods_and_the_node() {
    let mut rig =
        Rig::new(", kinds: [container, pod], metric_names: [kepler], idle_watts: {package: 4}");
    rig.tree.write("proc/sys/kernel/hostname", "edge-01\n");
    let docker = format!("docker/{CONTAINER}");
    let pod = format!("kubepods/pod{UID}");
    let inner = format!("{pod}/{}", CONTAINER.replace('0', "f"));
    let all = ["docker", &docker, "kubepods", &pod, &inner];
    all.iter().for_each(|cgroup| rig.set(cgroup, 0));
    rig.start();
    rig.set("docker", 200);
    rig.set(&docker, 200);
    for (cgroup, ms) in [("kubepods", 400), (&pod, 400), (&inner, 300)] {
        rig.set(cgroup, ms);
    }
    rig.draw(14.0);
    rig.poll(1000);
    let energy = |metric: &str, labels: &str| {
        rig.bench.value(&format!(
            "kepler_{metric}_joules_total{{{labels},zone=\"package\"}}"
        ))
    };
    let node = "node_name=\"localhost\"";
    let of_docker = format!(
        "container_id=\"{CONTAINER}\",container_name=\"0123456789ab\",{node},runtime=\"docker\",state=\"running\""
    );
    assert_eq!(energy("container_cpu", &of_docker), Some(2.0));
    let id = CONTAINER.replace('0', "f");
    let of_inner = format!(
        "container_id=\"{id}\",container_name=\"f123456789ab\",{node},pod_id=\"{UID}\",state=\"running\""
    );
    assert_eq!(energy("container_cpu", &of_inner), Some(3.0));
    let of_pod = format!("{node},pod_id=\"{UID}\",state=\"running\"");
    assert_eq!(energy("pod_cpu", &of_pod), Some(4.0));
    let path = format!("{node},path=\"rapl\"");
    assert_eq!(energy("node_cpu", &path), Some(14.0));
    assert_eq!(energy("node_cpu_active", &path), Some(10.0));
    assert_eq!(energy("node_cpu_idle", &path), Some(4.0));
    let usage = format!("kepler_node_cpu_usage_ratio{{{node}}}");
    assert_eq!(rig.bench.value(&usage), Some(0.25));
    let lines = rig.poll(0);
    assert_eq!(lines, [""; 0], "no native names");
}

#[test]
fn processes_have_their_program_and_container() {
    let mut rig = Rig::new(
        ", kinds: [service, process], metric_names: [native, scaphandre], idle_watts: {package: 0}",
    );
    rig.bench.context.device.name = "processes".to_string();
    for (pid, cgroup) in [
        (10, format!("/docker/{CONTAINER}")),
        (11, format!("/docker/{CONTAINER}")),
        (12, "/system.slice/a.service".to_string()),
    ] {
        let text = format!("12:cpuset:/\n4:cpu,cpuacct:{cgroup}\n0::/\n");
        rig.tree.write(&format!("proc/{pid}/cgroup"), text);
        rig.tree
            .write(&format!("proc/{pid}/cmdline"), "python3\0-u\0\0a b\n\0");
        let exe = rig.tree.path(&format!("proc/{pid}/exe"));
        std::os::unix::fs::symlink("/usr/bin/python3.11", exe).unwrap();
    }
    let stat = |rig: &Rig, pid: u32, ticks: u64| {
        let text =
            format!("{pid} (python3) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 8192 2 0\n");
        rig.tree.write(&format!("proc/{pid}/stat"), text);
    };
    [10, 11, 12].iter().for_each(|pid| stat(&rig, *pid, 0));
    rig.start();
    stat(&rig, 10, 10);
    stat(&rig, 11, 20);
    stat(&rig, 12, 40);
    rig.draw(10.0);
    let lines = rig.poll(1000);
    assert_eq!(lines, [""; 0], "native names are those of the other view");
    let of = |metric: &str, labels: &str| rig.bench.value(&format!("scaph_{metric}{{{labels}}}"));
    let of_docker = format!(
        "cmdline=\"python3 -u a b\",container_id=\"{CONTAINER}\",container_names=\"0123456789ab\",\
         container_scheduler=\"docker\",exe=\"python3.11\",pid=\"10\""
    );
    let power = "process_power_consumption_microwatts";
    assert_eq!(of(power, &of_docker), Some(3e6));
    assert_eq!(
        of("process_memory_virtual_bytes", &of_docker),
        Some(16384.0)
    );
    assert_eq!(of("process_cpu_usage_percentage", &of_docker), Some(7.5));
    let of_service = "cmdline=\"python3 -u a b\",exe=\"python3.11\",pid=\"12\"";
    assert_eq!(of(power, of_service), Some(4e6));
    assert_eq!(of(power, "exe=\"system\""), Some(3e6));
    assert_eq!(
        of("host_power_microwatts", "value_source=\"rapl\""),
        Some(10e6)
    );
    assert_eq!(of("socket_power_microwatts", "socket_id=\"0\""), Some(10e6));
    // The first of them has ended: the other goes on under its number.
    rig.tree.remove("proc/10");
    rig.draw(1.0);
    rig.poll(0);
    assert_eq!(
        rig.bench.value(&format!("scaph_{power}{{{of_docker}}}")),
        Some(0.0)
    );
}

#[test]
fn board_without_containers_is_no_failure() {
    let mut rig = Rig::new(", kinds: [container], metric_names: [native, kepler]");
    rig.set("a.service", 0);
    rig.start();
    assert!(!rig.poll(0).is_empty(), "the kernel is there");
    let text = "workloads: {enabled: true, kinds: [container, process], metric_names: [kepler]}";
    let mut context = rig.bench.context.clone();
    context.config = Arc::new(SCHEMA.parse(text).unwrap().0);
    context.device.name = "cgroups".to_string();
    let mut source = (METER.open)(&context).unwrap();
    let mut out = Readings::new(5.0);
    for second in 60..80 {
        out.begin(BootTime(second * 1_000_000_000));
        source.poll(&mut out).unwrap();
        assert!(out.is_empty() && out.suspended, "{second}");
    }
}

#[test]
fn both_views_are_sources_of_their_own() {
    let names = |text: &str| {
        let text = format!("workloads: {{enabled: true{text}}}\n");
        let devices = devices(&SCHEMA.parse(&text).unwrap().0);
        let names = devices.into_iter().map(|device| device.name);
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(""), [""]);
    assert_eq!(names(", kinds: [process]"), [""]);
    let both = ", kinds: [pod, process], metric_names: [kepler, native]";
    assert_eq!(names(both), ["cgroups", "processes"]);
}

#[test]
fn energy_is_conserved_while_containers_get_their_names() {
    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    let engine = Tree::new(&[("list", "[]")]);
    let socket = engine.path("engine.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let list = engine.path("list");
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let body = std::fs::read_to_string(&list).unwrap_or_default();
            let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{body}");
        }
    });
    let settings = format!(
        ", idle_watts: {{package: 1}}, names: {{sockets: [{}]}}",
        socket.display()
    );
    let mut rig = Rig::new(&settings);
    rig.set("docker", 0);
    rig.start();
    // Each container is busy for a tenth of a second in each second. What it has used so far:
    let mut containers: Vec<(&str, u64)> = vec![(A, 0)];
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // Goes on until one of these has series: how much energy that is, and how much the last container has used.
    let go_on_until = |rig: &mut Rig, containers: &mut Vec<(&str, u64)>, names: &[&str]| loop {
        assert!(std::time::Instant::now() < deadline, "{names:?}");
        for (id, ms) in containers.iter_mut() {
            *ms += 100;
            rig.set(&format!("docker/{id}"), *ms);
        }
        rig.set("docker", containers.iter().map(|(_, ms)| ms).sum());
        rig.draw(3.0);
        let lines = rig.poll(500);
        let (sum, whole) = conserved(&lines, "package");
        assert!((sum - whole).abs() < 1e-9, "{sum} of {whole}");
        let held = rig.metered() - whole;
        if let Some(joules) = names.iter().find_map(|name| rig.energy(name)) {
            assert!(held.abs() < 1e-9, "{held}");
            // 2 J a second are above idle, and it uses a fifth of the CPU time.
            return (joules, 0.4 * containers.last().unwrap().1 as f64 / 100.0);
        }
        // What is held back is the energy of one that waits for its name.
        assert!((-1e-9..1.0).contains(&held), "{held}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let (joules, used) = go_on_until(&mut rig, &mut containers, &["container aaaaaaaaaaaa"]);
    assert!((joules - used).abs() < 1e-9, "{joules} of {used}");
    let listed =
        format!("[{{\"Id\":\"{A}\",\"Names\":[\"/web\"]}},{{\"Id\":\"{B}\",\"Names\":[\"/db\"]}}]");
    engine.write("list", listed);
    containers.push((B, 0));
    // The engine may be asked again after its time to wait.
    let names = ["container db", "container bbbbbbbbbbbb"];
    let (joules, used) = go_on_until(&mut rig, &mut containers, &names);
    assert!((joules - used).abs() < 1e-9, "{joules} of {used}");
    for name in ["container db", "container web"] {
        go_on_until(&mut rig, &mut containers, &[name]);
    }
    assert_eq!(rig.energy("container aaaaaaaaaaaa"), None);
    assert!(rig.of_domain("workload_ended_energy_joules_total") > Some(0.0));
}

#[test]
fn names_of_idle_watts_that_are_no_domain_are_said_together_until_they_are() {
    let mut rig = Rig::new(", idle_watts: {package: 1, vdd_core: 2, cpu: 3}");
    rig.start();
    let errors = |rig: &Rig| rig.bench.context.health.value_errors().join("; ");
    rig.bench.rescan();
    assert!(
        errors(&rig).contains("names cpu, vdd_core, which nothing"),
        "{}",
        errors(&rig)
    );
    for (source, rail) in [("rpi", "VDD_CORE"), ("ina3221", "VDD_CPU")] {
        let group = rig.bench.context.registry.add_group(2, source, vec![]);
        Rail::with_range(&group, rail, 0);
        group.settle();
    }
    rig.poll(0);
    rig.bench.rescan();
    assert_eq!(errors(&rig), "");
}

/// RAPL starts anew with these rails, each of which counts so many joules until the next reading.
fn restart_meter(rig: &mut Rig, rails: &[(&str, u64)]) {
    let registry = Arc::clone(&rig.bench.context.registry);
    registry.remove_group(&rig.meter);
    rig.meter = registry.add_group(1, "rapl", vec![]);
    rig.meter.set_interval(std::time::Duration::from_secs(1));
    let mut rails: Vec<_> = rails
        .iter()
        .map(|(name, joules)| (Rail::with_range(&rig.meter, name, 0), *joules))
        .collect();
    // Between registering its rails and its first reading.
    rig.poll(0);
    for step in 1..=2 {
        let mut out = Readings::new(5.0);
        out.begin(BootTime(((rig.second + 1.0) * 1e9) as u64));
        for (rail, joules) in &mut rails {
            rail.set_counter(&mut out, 1000 + step * *joules, 1.0);
        }
        rig.meter.publish(rig.meter.new_generation(), &out);
        rig.poll(0);
    }
}

#[test]
fn rails_keep_their_series_where_their_source_starts_anew_with_others() {
    let sockets = |rig: &Rig| {
        [0, 1, 2].map(|socket| {
            let series = format!("scaph_socket_energy_microjoules{{socket_id=\"{socket}\"}}");
            rig.bench.value(&series)
        })
    };
    let settings = ", kinds: [process], metric_names: [scaphandre]";
    let mut rig = Rig::new(settings);
    rig.bench.reopen().unwrap();
    restart_meter(&mut rig, &[("package-0", 10), ("package-1", 20)]);
    assert_eq!(sockets(&rig), [Some(10e6), Some(20e6), None]);
    restart_meter(&mut rig, &[("package-1", 3), ("package-2", 5)]);
    assert_eq!(sockets(&rig), [None, Some(23e6), Some(5e6)]);
    // Two dies are one socket, whose counter does not fall with one of them.
    let mut rig = Rig::new(settings);
    rig.bench.reopen().unwrap();
    restart_meter(
        &mut rig,
        &[("package-0-die-0", 10), ("package-0-die-1", 20)],
    );
    assert_eq!(sockets(&rig), [Some(30e6), None, None]);
    restart_meter(&mut rig, &[("package-0-die-1", 5)]);
    assert_eq!(sockets(&rig), [Some(35e6), None, None]);
}

#[test]
fn series_of_disks_and_processors_that_are_gone_end() {
    let mut rig = Rig::new(", kinds: [process], metric_names: [kepler, scaphandre]");
    let has = |rig: &Rig, disk: &str, processor: u32| {
        let disk = format!("scaph_host_disk_total_bytes{{disk_file_system=\"ext4\",disk_mount_point=\"{disk}\",disk_name=\"/dev{disk}\"}}");
        let processor = format!("kepler_node_cpu_info{{processor=\"{processor}\"}}");
        [disk, processor].map(|series| rig.bench.value(&series).is_some())
    };
    let set = |rig: &Rig, disks: &[&str], processors: &str| {
        let lines = disks
            .iter()
            .map(|disk| format!("/dev{disk} {disk} ext4 rw 0 0\n"));
        rig.tree
            .write("proc/self/mounts", lines.collect::<String>());
        rig.tree.write("proc/cpuinfo", processors);
    };
    set(&rig, &["/tmp", "/"], "processor : 0\n\nprocessor : 1\n");
    rig.start();
    assert_eq!([has(&rig, "/tmp", 0), has(&rig, "/", 1)], [[true; 2]; 2]);
    set(&rig, &["/"], "processor : 1\n");
    rig.bench.rescan();
    rig.poll(0);
    assert_eq!(has(&rig, "/tmp", 0), [false; 2]);
    assert_eq!(has(&rig, "/", 1), [true; 2]);
    set(&rig, &["/", "/tmp"], "processor : 0\n");
    rig.bench.rescan();
    rig.poll(0);
    assert_eq!([has(&rig, "/tmp", 0), has(&rig, "/", 0)], [[true; 2]; 2]);
}

#[test]
fn ratios_are_absent_while_the_number_of_processors_is_unknown() {
    let mut rig = Rig::new(", kinds: [process], metric_names: [kepler, scaphandre]");
    rig.tree.remove("sys/devices/system/cpu/online");
    rig.start();
    let ratios = |rig: &mut Rig| {
        rig.draw(1.0);
        rig.poll(1000);
        [
            "kepler_node_cpu_usage_ratio{node_name=\"localhost\"}",
            "scaph_self_cpu_usage_percent",
            "scaph_process_cpu_usage_percentage{exe=\"system\"}",
        ]
        .map(|series| rig.bench.value(series))
    };
    assert_eq!(ratios(&mut rig), [None; 3]);
    rig.tree.write("sys/devices/system/cpu/online", "0-3\n");
    rig.bench.rescan();
    let [node, own, system] = ratios(&mut rig);
    assert_eq!((node, system), (Some(0.25), Some(25.0)));
    assert!(own.is_some());
}

#[test]
fn memory_of_processes_and_of_the_board_can_be_switched_off() {
    let series = |rig: &Rig| {
        let lines = rig.bench.lines();
        let memory = lines.iter().filter_map(|line| {
            let name = line.split(['{', ' ']).next()?;
            let is_memory = name.contains("memory") || name.contains("swap");
            is_memory.then(|| name.to_string())
        });
        memory.collect::<std::collections::BTreeSet<_>>()
    };
    let started = |settings: &str| {
        let mut rig = Rig::new(&format!(", kinds: [process]{settings}"));
        let stat = "7 (sh) S 1 1 1 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 5 8192 2 0\n";
        rig.tree.write("proc/7/stat", stat);
        let meminfo =
            "MemTotal: 4 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\nSwapTotal: 3 kB\nSwapFree: 3 kB\n";
        rig.tree.write("proc/meminfo", meminfo);
        rig.start();
        rig
    };
    let native = [
        "board_memory_available_bytes",
        "board_memory_size_bytes",
        "workload_memory_bytes",
    ];
    let native = native.map(str::to_string);
    assert_eq!(series(&started("")), native.into());
    assert_eq!(series(&started(", memory: false")), [].into());
    let names = ", metric_names: [scaphandre]";
    assert_eq!(series(&started(names)).len(), 9);
    let own = ["scaph_self_memory_bytes", "scaph_self_memory_virtual_bytes"].map(str::to_string);
    let off = started(&format!("{names}, memory: false"));
    assert_eq!(series(&off), own.into());
}

#[test]
fn fewer_workloads_than_the_configuration_asks_for_are_a_reached_limit() {
    for (settings, expected) in [
        ("", None),
        (", max_workloads: 768", None),
        // Each has two series for its one domain, CPU time and memory.
        (", max_workloads: 800", Some(32)),
        (", max_workloads: 2000", Some(2000 - 768)),
    ] {
        let mut rig = Rig::new(settings);
        rig.start();
        let limits = rig.bench.context.health.limits();
        let lowered = limits.get("max_workloads");
        assert_eq!(lowered.map(|limit| limit.left_out), expected, "{settings}");
        let has_number = |what: &str| what.contains("series for 768 workloads");
        assert!(lowered.is_none_or(|limit| has_number(&limit.what)));
    }
}
