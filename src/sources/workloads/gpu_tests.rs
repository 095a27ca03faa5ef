//! The limits of GPUs' domains, and processes that end.

use super::*;
use crate::metrics::{Group, Rail, Readings};
use crate::sources::nvidia::pmon::Use;
use crate::sources::testing::{Bench, Tree};
use crate::sources::workloads::METER;
use crate::sources::SCHEMA;

/// A board with GPUs that count so many joules, processes that use them, and the source.
struct Rig {
    tree: Tree,
    bench: Bench,
    meter: Arc<Group>,
    rails: Vec<Rail>,
    processes: Arc<GpuProcesses>,
    second: u64,
}

impl Rig {
    fn new(gpus: u32, services: u32) -> Rig {
        let settings = "{enabled: true, idle_watts: {nvidia_gpu_0: 10}, max_workloads: 2000}";
        Rig::with(settings, gpus, services)
    }

    fn with(settings: &str, gpus: u32, services: u32) -> Rig {
        let tree = Tree::new(&[
            ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
            ("sys/fs/cgroup/system.slice/cpu.stat", "usage_usec 0\n"),
            ("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n"),
        ]);
        for service in 1..=services {
            let folder = format!("sys/fs/cgroup/system.slice/{service}.service");
            tree.write(&format!("{folder}/cpu.stat"), "usage_usec 0\n");
            let cgroup = format!("0::/system.slice/{service}.service\n");
            tree.write(&format!("proc/{service}/cgroup"), cgroup);
        }
        let text = format!("workloads: {settings}\n");
        let mut bench = Bench::new(&METER, &tree, SCHEMA.parse(&text).unwrap().0);
        let meter = bench.context.registry.add_group(1, "nvidia", vec![]);
        let processes = Arc::new(GpuProcesses::default());
        meter.provide(Arc::clone(&processes));
        let rail = |gpu| Rail::with_range(&meter, &format!("nvidia_gpu_{gpu}"), 0);
        let rails = (0..gpus).map(rail).collect();
        bench.reopen().unwrap();
        let mut rig = Rig {
            tree,
            bench,
            meter,
            rails,
            processes,
            second: 0,
        };
        rig.poll(&[]);
        rig
    }

    /// A second later, in which each GPU drew 110 J, and these processes used the first one.
    fn poll(&mut self, uses: &[(u32, u32)]) -> Vec<String> {
        self.second += 1;
        let at = BootTime(self.second * 1_000_000_000);
        for (pid, percent) in uses {
            let found = Use {
                gpu: 0,
                pid: Some(*pid),
                percent: Some(*percent),
            };
            self.processes.add(0, found, at);
        }
        let mut out = Readings::new(5.0);
        out.begin(at);
        for rail in &mut self.rails {
            rail.set_counter(&mut out, self.second * 110, 1.0);
        }
        self.meter.publish(self.meter.new_generation(), &out);
        self.bench.poll(self.second as f64)
    }

    /// What is exported of the first GPU by `kind name`, in joules. All of it together is what the GPU has drawn.
    fn energy(&mut self, uses: &[(u32, u32)]) -> Vec<(String, f64)> {
        let lines = self.poll(uses);
        let mut found = Vec::new();
        let mut sum = 0.0;
        for line in &lines {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let (family, labels) = series.split_once('{').unwrap_or((series, ""));
            if !labels.contains("domain=\"nvidia_gpu_0\"") {
                continue;
            }
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                Some(rest.split('"').next().unwrap().to_string())
            };
            match family {
                "workload_energy_joules_total" => {
                    sum += value;
                    let name = label(",name").unwrap();
                    found.push((name, value));
                }
                "workload_idle_energy_joules_total"
                | "workload_ended_energy_joules_total"
                | "workload_unattributed_energy_joules_total" => sum += value,
                _ => {}
            }
        }
        let whole = (self.second - 1) as f64 * 110.0;
        assert!((sum - whole).abs() <= 1e-6 * whole, "{sum} of {whole}");
        found.retain(|(_, joules)| *joules > 0.0);
        found
    }

    fn limit(&self, limit: &str) -> u64 {
        let limits = self.bench.context.health.limits();
        limits.get(limit).map_or(0, |limit| limit.left_out)
    }
}

fn of(name: &str, joules: f64) -> (String, f64) {
    (name.to_string(), joules)
}

#[test]
fn process_that_has_ended_counts_where_it_was_and_an_unknown_one_is_other() {
    let mut rig = Rig::new(1, 2);
    let uses = [(1, 75), (2, 25)];
    let expected = [of("1.service", 75.0), of("2.service", 25.0)];
    assert_eq!(rig.energy(&uses), expected);
    rig.tree.remove("proc/1");
    let expected = [of("1.service", 150.0), of("2.service", 50.0)];
    assert_eq!(rig.energy(&uses), expected);
    // Its cgroup has ended, too; what it had is that of an ended workload.
    rig.tree.remove("sys/fs/cgroup/system.slice/1.service");
    let expected = [of("2.service", 75.0), of("other", 75.0)];
    let mut found = rig.energy(&uses);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected);
    let before = rig.energy(&[(99, 50)]);
    let (_, other) = before.iter().find(|(name, _)| name == "other").unwrap();
    assert_eq!(*other, 175.0);
}

#[test]
fn workloads_and_gpus_beyond_the_limits_are_other_and_no_domains() {
    let mut rig = Rig::new(20, 300);
    assert_eq!(rig.limit("gpus"), 4);
    let uses: Vec<_> = (1..=300).map(|pid| (pid, 1)).collect();
    // The meter tells 256 of them apart, and the rest is other's.
    for _ in 0..2 {
        rig.energy(&uses[..200]);
    }
    let found = rig.energy(&uses[100..]);
    assert_eq!(found.len(), MAX_USERS + 1);
    assert_eq!(rig.limit("gpu_users"), 44);
    rig.energy(&uses[100..]);
    assert_eq!(rig.limit("gpu_users"), 44, "each counts once");
    let names = |lines: Vec<String>| {
        let domains = lines.into_iter();
        domains
            .filter(|line| line.starts_with("workload_domain_energy_joules_total"))
            .count()
    };
    assert_eq!(names(rig.poll(&[])), MAX_GPUS);
}

#[test]
fn time_that_is_told_twice_or_not_at_all_between_two_polls_is_the_same_busy_time() {
    let mut rig = Rig::with("{enabled: true}", 1, 1);
    let half = Use {
        gpu: 0,
        pid: Some(1),
        percent: Some(50),
    };
    let workload = |found: Vec<(String, f64)>| found.first().map_or(0.0, |(_, joules)| *joules);
    // Idle power is unknown: half of each second's 110 J is the workload's.
    assert_eq!(workload(rig.energy(&[(1, 50)])), 55.0);
    assert_eq!(workload(rig.energy(&[])), 110.0);
    let between = BootTime(rig.second * 1_000_000_000 + 100_000_000);
    rig.processes.add(0, half, between);
    assert_eq!(workload(rig.energy(&[(1, 50)])), 165.0);
}
