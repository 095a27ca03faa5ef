//! The meter of NVIDIA GPUs and its child process: a stand-in that prints what nvidia-smi prints, and misbehaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/processes.rs"]
mod processes;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_metrics_exporter::config::{Config, Switch};
use edge_metrics_exporter::metrics::{Policy, Readings, Registry};
use edge_metrics_exporter::sources::nvidia::processes::GpuProcesses;
use edge_metrics_exporter::sources::nvidia::settings::Settings;
use edge_metrics_exporter::sources::{
    Board, Context, Device, Health, Meter, Roots, Source, METERS,
};
use edge_metrics_exporter::sys::clock::BootTime;
use processes::{assert_child_ends_with_source, assert_group_is_gone, members};
use support::programs::make_executable;
use support::{wait_until, TempDir, WAIT_TIMEOUT};

const TWO: &str =
    "index, count, uuid, power.draw, temperature.gpu, utilization.gpu, utilization.memory, name
0, 2, GPU-a, 70.5 W, 61, 87 %, 12 %, NVIDIA RTX A4000
1, 2, GPU-b, 9.5 W, 34, 0 %, [N/A], NVIDIA T400 4GB
";
const ONE_THAT_COUNTS: &str =
    "index, count, uuid, power.draw, total_energy_consumption, temperature.gpu, utilization.gpu, utilization.memory, name
0, 1, GPU-a, 20 W, 5000 mJ, 41, 3 %, 1 %, NVIDIA RTX 2000
";

/// The stand-in in one of its modes, and the context of the meter.
struct Bench {
    temp: TempDir,
    context: Context,
    registry: Arc<Registry>,
    generation: u64,
}

impl Bench {
    fn new(mode: &str, table: &str) -> Bench {
        let temp = TempDir::new();
        let table = temp.write("table.txt", table);
        let stand_in =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/bin/nvidia/nvidia-smi");
        // All tests share the environment, so the stand-in's variables are written into a script.
        let program = temp.write(
            "bin/nvidia-smi",
            &format!(
                "#!/bin/sh\nNVIDIA_SMI_MODE={mode} NVIDIA_SMI_TABLE={} NVIDIA_SMI_PIDS={} NVIDIA_SMI_PMON={} exec {} \"$@\"\n",
                table.display(),
                temp.path().join("pids").display(),
                temp.path().join("pmon").display(),
                stand_in.display()
            ),
        );
        make_executable(&program);
        let mut config = Config::default();
        config
            .meters
            .edit(|settings: &mut Settings| settings.enabled = Switch::On);
        config
            .meters
            .edit(|settings: &mut Settings| settings.nvidia_smi = Some(program));
        let registry = Arc::new(Registry::new(Policy::All));
        let group = registry.add_group(0, "nvidia", vec![]);
        let interval = Duration::from_millis(100);
        group.set_interval(interval);
        Bench {
            temp,
            generation: group.new_generation(),
            context: Context {
                board: Arc::new(Board::detect(Roots::default())),
                config: Arc::new(config),
                device: Device::default(),
                group,
                registry: Arc::clone(&registry),
                health: Arc::new(Health::default()),
                stop: Arc::default(),
                interval,
            },
            registry,
        }
    }

    fn open(&self) -> Box<dyn Source> {
        (meter().open)(&self.context).unwrap()
    }

    /// Polls and publishes; returns what is exported, as `name{labels} value`.
    fn poll(&self, source: &mut dyn Source) -> Vec<String> {
        let mut out = Readings::new(5.0);
        out.begin(BootTime::now());
        source.poll(&mut out).unwrap();
        self.context.group.publish(self.generation, &out);
        let snapshot = self.registry.snapshot(BootTime::now());
        let lines = snapshot.families().flat_map(|family| {
            let samples: Vec<_> = family.samples().collect();
            samples
                .into_iter()
                .map(|(series, value)| format!("{}{value}", series.prefix))
        });
        lines.collect()
    }

    /// Polls until the source fails; returns the error.
    fn failure(&self, source: &mut dyn Source) -> String {
        // Without a pause between polls, as the supervisor polls a source with `Pace::Device`.
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            let mut out = Readings::new(5.0);
            out.begin(BootTime::now());
            if let Err(error) = source.poll(&mut out) {
                return error.to_string();
            }
            assert!(Instant::now() < deadline, "it does not fail");
        }
    }

    /// The starts of the program: process id and arguments.
    fn starts(&self) -> Vec<(i32, String)> {
        wait_until("the stand-in says its number", || {
            let text = std::fs::read_to_string(self.temp.path().join("pids")).ok()?;
            let starts: Option<Vec<_>> = text
                .lines()
                .map(|line| {
                    let (pid, arguments) = line.split_once(' ')?;
                    Some((pid.parse().ok()?, arguments.to_string()))
                })
                .collect();
            starts.filter(|starts| !starts.is_empty())
        })
    }

    fn group(&self) -> i32 {
        self.starts().last().unwrap().0
    }

    /// What others are given besides the series.
    fn processes(&self) -> Arc<GpuProcesses> {
        self.context.group.provided().unwrap()
    }

    /// Waits until so many `pmon` have been started, and returns the last one's process id and arguments.
    fn pmon(&self, source: &mut dyn Source, count: usize) -> (i32, String) {
        wait_until("pmon is started", || {
            self.poll(source);
            let mut starts = self.starts();
            starts.retain(|(_, arguments)| arguments.starts_with("pmon"));
            assert!(starts.len() <= count, "{starts:?}");
            starts.get(count - 1).cloned()
        })
    }
}

fn meter() -> &'static Meter {
    METERS.iter().find(|meter| meter.name == "nvidia").unwrap()
}

fn of(family: &str, gpu: u32) -> String {
    format!("{family}{{rail=\"nvidia_gpu_{gpu}\",source=\"nvidia\"}} ")
}

fn value(lines: &[String], series: &str) -> Option<f64> {
    let line = lines.iter().find_map(|line| line.strip_prefix(series))?;
    line.parse().ok()
}

#[test]
fn reading_has_all_gpus_and_only_supported_fields_are_queried() {
    let bench = Bench::new("none", TWO);
    let mut source = bench.open();
    for _ in 0..5 {
        let lines = bench.poll(&mut *source);
        assert_eq!(value(&lines, &of("power_watts", 0)), Some(70.5));
        assert_eq!(value(&lines, &of("power_watts", 1)), Some(9.5));
        let load = "nvidia_gpu_utilization_ratio{gpu=\"0\"} ";
        assert_eq!(value(&lines, load), Some(0.87));
        let memory = "nvidia_gpu_memory_utilization_ratio{gpu=\"1\"} ";
        assert_eq!(value(&lines, memory), None, "not told of this one");
        let info = "nvidia_gpu_info{gpu=\"1\",name=\"NVIDIA T400 4GB\",uuid=\"GPU-b\"} ";
        assert_eq!(value(&lines, info), Some(1.0));
        let celsius = "temperature_celsius{sensor=\"nvidia_gpu_1\",source=\"nvidia\"} ";
        assert_eq!(value(&lines, celsius), Some(34.0));
        assert_eq!(value(&lines, "power_gpu_watts "), None, "there are two");
    }
    let energy = value(&bench.poll(&mut *source), &of("energy_joules_total", 0));
    assert!(energy.unwrap() > 0.0, "power integrated");
    let starts = bench.starts();
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert_eq!(
        starts[1].1,
        "--query-gpu=index,count,uuid,power.draw,temperature.gpu,utilization.gpu,utilization.memory,name \
         --format=csv,noheader --loop-ms=100"
    );
    let health = &bench.context.health;
    assert_eq!((health.unparsed(), health.errors()), (0, 0));
    let group = bench.group();
    assert!(members(group).contains(&group));
    drop(source);
    assert_group_is_gone(group);
    assert_group_is_gone(starts[0].0);
}

#[test]
fn partial_output_is_joined_into_one_reading() {
    let bench = Bench::new("slow", TWO);
    let mut source = bench.open();
    for _ in 0..3 {
        let lines = bench.poll(&mut *source);
        assert_eq!(value(&lines, &of("power_watts", 0)), Some(70.5));
        assert_eq!(value(&lines, &of("power_watts", 1)), Some(9.5));
    }
}

#[test]
fn energy_counter_takes_precedence_over_integration() {
    let bench = Bench::new("none", ONE_THAT_COUNTS);
    let mut source = bench.open();
    bench.poll(&mut *source);
    let lines = bench.poll(&mut *source);
    assert_eq!(value(&lines, &of("power_watts", 0)), Some(20.0));
    assert_eq!(value(&lines, "power_gpu_watts "), Some(20.0));
    // The stand-in's counter stands still.
    assert_eq!(value(&lines, &of("energy_joules_total", 0)), Some(0.0));
    assert_eq!(bench.starts().len(), 1);
}

#[test]
fn lost_gpu_is_absent_and_the_other_is_still_read() {
    let bench = Bench::new("lost", TWO);
    let mut source = bench.open();
    let lines = bench.poll(&mut *source);
    assert_eq!(value(&lines, &of("power_watts", 0)), Some(70.5));
    for _ in 0..3 {
        let lines = bench.poll(&mut *source);
        assert_eq!(value(&lines, &of("power_watts", 0)), None);
        assert_eq!(value(&lines, &of("power_watts", 1)), Some(9.5));
    }
    let dropped_out =
        "nvidia_gpu_0 (NVIDIA RTX A4000) has dropped out: nvidia-smi tells nothing of it any more";
    assert_eq!(bench.context.health.value_errors(), [dropped_out]);
}

#[test]
fn unreachable_gpu_is_reported() {
    for (said, complaint) in [
        ("[GPU is lost]", "says [GPU is lost] of its power.draw"),
        ("[Unknown Error]", "says [Unknown Error] of its power.draw"),
        ("ERR!", "says ERR! of its power.draw"),
    ] {
        let bench = Bench::new("none", &TWO.replace("70.5 W", said));
        let mut source = bench.open();
        let lines = bench.poll(&mut *source);
        assert_eq!(value(&lines, &of("power_watts", 0)), None);
        assert_eq!(value(&lines, &of("power_watts", 1)), Some(9.5));
        let health = &bench.context.health;
        let complaints = health.value_errors();
        assert!(complaints[0].ends_with(complaint), "{complaints:?}");
        assert_eq!((complaints.len(), health.unparsed()), (1, 0));
    }
    // A GPU that nvidia-smi counts but never lists.
    let bench = Bench::new(
        "none",
        &TWO.replace("0, 2, GPU-a", "0, 3, GPU-a")
            .replace("1, 2, GPU-b", "1, 3, GPU-b"),
    );
    let mut source = bench.open();
    bench.poll(&mut *source);
    let complaints = bench.context.health.value_errors();
    assert_eq!(complaints, ["nvidia-smi counts 3 GPUs and tells of 2"]);
}

#[test]
fn remaining_gpus_keep_their_index_when_nvidia_smi_renumbers() {
    let bench = Bench::new("dead", TWO);
    let mut source = bench.open();
    let lines = bench.poll(&mut *source);
    assert_eq!(value(&lines, &of("power_watts", 1)), Some(9.5));
    let left = TWO.replace(
        "0, 2, GPU-a, 70.5 W, 61, 87 %, 12 %, NVIDIA RTX A4000\n",
        "",
    );
    bench
        .temp
        .write("table.txt", &left.replace("1, 2, GPU-b", "0, 1, GPU-b"));
    bench.failure(&mut *source);
    let lines = bench.poll(&mut *source);
    assert_eq!(value(&lines, &of("power_watts", 0)), None);
    assert_eq!(value(&lines, &of("power_watts", 1)), Some(9.5));
    assert_eq!(value(&lines, "power_gpu_watts "), None, "there were two");
    let complaints = bench.context.health.value_errors();
    assert!(complaints[0].contains("nvidia_gpu_0"), "{complaints:?}");
}

#[test]
fn nvidia_smi_does_not_run_while_a_gpu_is_suspended() {
    let mut bench = Bench::new("none", TWO);
    let device = "sys/bus/pci/devices/0000:01:00.0";
    let set = |bench: &Bench, status| {
        let path = format!("{device}/power/runtime_status");
        bench.temp.write(&path, status);
    };
    bench.temp.write(&format!("{device}/vendor"), "0x10de\n");
    bench.temp.write(&format!("{device}/class"), "0x030200\n");
    set(&bench, "suspended\n");
    let roots = Roots {
        sysfs: bench.temp.path().join("sys"),
        procfs: bench.temp.path().join("proc"),
        dev: bench.temp.path().join("dev"),
        programs: None,
    };
    bench.context.board = Arc::new(Board::detect(roots));
    let mut source = bench.open();
    let pids = bench.temp.path().join("pids");
    for _ in 0..3 {
        assert_eq!(bench.poll(&mut *source), [""; 0]);
        source.rescan();
    }
    assert!(!pids.exists(), "nothing was started");
    let complaints = bench.context.health.value_errors();
    assert!(
        complaints[0].contains("0000:01:00.0 is suspended"),
        "{complaints:?}"
    );

    set(&bench, "active\n");
    let lines = bench.poll(&mut *source);
    assert_eq!(value(&lines, &of("power_watts", 0)), Some(70.5));
    assert!(bench.context.health.value_errors().is_empty());
    let group = bench.group();
    set(&bench, "suspending\n");
    bench.poll(&mut *source);
    assert_group_is_gone(group);
    assert_eq!(bench.context.health.errors(), 0);

    let mut config = (*bench.context.config).clone();
    config
        .meters
        .edit(|nvidia: &mut Settings| nvidia.wake_suspended = true);
    bench.context.config = Arc::new(config);
    let lines = bench.poll(&mut *bench.open());
    assert_eq!(value(&lines, &of("power_watts", 0)), Some(70.5));
}

#[test]
fn processes_of_all_gpus_are_told_while_somebody_wants_to_know() {
    let bench = Bench::new("none", TWO);
    bench.temp.write(
        "pmon",
        "# gpu        pid  type    sm   mem   enc   dec   command\n\
         # Idx          #   C/G     %     %     %     %   name\n    \
         0         71     C    60     1     -     -   a\n    \
         1         72   C+G    20     1     -     -   b c\n    \
         7         73     C     1     1     -     -   of no GPU\n",
    );
    let mut source = bench.open();
    bench.poll(&mut *source);
    let is_query = |(_, arguments): &(i32, String)| arguments.starts_with("--query-gpu");
    assert!(bench.starts().iter().all(is_query), "nobody wants to know");
    let mut reader = bench.processes().reader();
    let (pmon, arguments) = bench.pmon(&mut *source, 1);
    assert_eq!(arguments, "pmon -s u -d 1 -i 0,1");
    for (gpu, pid, nanos) in [(0, 71, 600_000_000), (1, 72, 200_000_000)] {
        let used = wait_until("it is read", || {
            reader
                .take(gpu, BootTime::now())
                .uses
                .get(&Some(pid))
                .copied()
        });
        assert_eq!(used % nanos, 0, "{used}");
    }
    let health = &bench.context.health;
    wait_until("one of no GPU", || (health.unparsed() > 0).then_some(()));
    assert!(health.value_errors().is_empty() && !health.is_asking());
    drop(reader);
    bench.poll(&mut *source);
    assert_group_is_gone(pmon);
    let _reader = bench.processes().reader();
    let (pmon, _) = bench.pmon(&mut *source, 2);
    drop(source);
    assert_group_is_gone(pmon);
}

#[test]
fn pmon_that_hangs_is_ended_and_started_again() {
    let bench = Bench::new("none", TWO);
    bench.temp.write("pmon", "silent\n");
    let mut source = bench.open();
    let _reader = bench.processes().reader();
    let (pmon, _) = bench.pmon(&mut *source, 1);
    let (next, _) = bench.pmon(&mut *source, 2);
    assert_group_is_gone(pmon);
    let complaints = bench.context.health.value_errors();
    let is_said = complaints[0].contains("pmon -s u -d 1 -i 0,1 has printed nothing for");
    assert!(is_said, "{complaints:?}");
    assert_eq!(bench.context.health.errors(), 1);
    drop(source);
    assert_group_is_gone(next);
}

#[test]
fn pmon_does_not_run_while_a_gpu_is_suspended() {
    let mut bench = Bench::new("none", TWO);
    let device = "sys/bus/pci/devices/0000:01:00.0";
    let set = |bench: &Bench, status| {
        let path = format!("{device}/power/runtime_status");
        bench.temp.write(&path, status);
    };
    bench.temp.write(&format!("{device}/vendor"), "0x10de\n");
    bench.temp.write(&format!("{device}/class"), "0x030200\n");
    set(&bench, "suspended\n");
    bench.context.board = Arc::new(Board::detect(Roots {
        sysfs: bench.temp.path().join("sys"),
        procfs: bench.temp.path().join("proc"),
        dev: bench.temp.path().join("dev"),
        programs: None,
    }));
    let mut source = bench.open();
    let _reader = bench.processes().reader();
    for _ in 0..3 {
        bench.poll(&mut *source);
    }
    assert!(!bench.temp.path().join("pids").exists());
    set(&bench, "active\n");
    let (pmon, _) = bench.pmon(&mut *source, 1);
    set(&bench, "suspending\n");
    bench.poll(&mut *source);
    assert_group_is_gone(pmon);
    assert_eq!(bench.context.health.errors(), 0);
}

#[test]
fn exit_message_is_reported() {
    let bench = Bench::new("dead", TWO);
    let failure = bench.failure(&mut *bench.open());
    let end = "ended with exit status 15; it prints: \
               Unable to determine the device handle for GPU0: 0000:01:00.0: GPU is lost.";
    assert!(failure.ends_with(end), "{failure}");

    let bench = Bench::new("missing", TWO);
    let failure = bench.failure(&mut *bench.open());
    let end = "ended with exit status 6; it prints: No devices were found";
    assert!(failure.ends_with(end), "{failure}");
}

#[test]
fn program_without_known_fields_is_not_queried_again() {
    let bench = Bench::new("none", "uuid, name\nGPU-a, x\n");
    let failure = bench.failure(&mut *bench.open());
    let end = "exit status 2; it prints: Field \"index\" is not a valid field to query.";
    assert!(failure.ends_with(end), "{failure}");
    assert_eq!(bench.starts().len(), 1);
}

#[test]
fn endless_output_is_stopped() {
    for (mode, what) in [
        ("flood", "lines a second"),
        ("endless", "a line without an end"),
    ] {
        let bench = Bench::new(mode, TWO);
        let mut source = bench.open();
        let failure = bench.failure(&mut *source);
        assert!(failure.contains(what), "{failure}");
        let group = bench.group();
        drop(source);
        assert_group_is_gone(group);
    }
}

#[test]
fn malformed_lines_are_skipped() {
    let bench = Bench::new("garbage", TWO);
    let mut source = bench.open();
    let health = &bench.context.health;
    wait_until("the reading after the garbage is there", || {
        let lines = bench.poll(&mut *source);
        let both = value(&lines, &of("power_watts", 0)).is_some()
            && value(&lines, &of("power_watts", 1)).is_some();
        (both && health.unparsed() > 0).then_some(())
    });
    assert_eq!(health.errors(), 1, "the line that was too long");
}

#[test]
fn program_that_ignores_sigterm_is_killed_with_its_children() {
    let bench = Bench::new("stubborn", TWO);
    let mut source = bench.open();
    bench.poll(&mut *source);
    let group = bench.group();
    wait_until("it has a stubborn child", || {
        bench.poll(&mut *source);
        (members(group).len() >= 3).then_some(())
    });
    assert_child_ends_with_source(group, source);
}

#[test]
fn stop_request_ends_a_wait() {
    let bench = Bench::new("silent", TWO);
    let mut source = bench.open();
    bench.poll(&mut *source);
    let stop = Arc::clone(&bench.context.stop);
    let waiting = std::thread::spawn(move || {
        let mut out = Readings::new(5.0);
        source.poll(&mut out).unwrap();
    });
    stop.set();
    waiting.join().unwrap();
    assert_group_is_gone(bench.group());
}

#[test]
fn probe_declines_without_a_driver_and_on_a_jetson() {
    let bench = Bench::new("none", TWO);
    let temp = TempDir::new();
    let roots = Roots {
        sysfs: temp.path().join("sys"),
        procfs: temp.path().join("proc"),
        dev: temp.path().join("dev"),
        programs: None,
    };
    let probe = |config: &Config| (meter().probe)(&Board::detect(roots.clone()), config);
    let mut config = (*bench.context.config).clone();
    let error = probe(&config).unwrap_err().to_string();
    assert!(error.ends_with("NVIDIA's driver is not loaded"), "{error}");
    temp.write("proc/driver/nvidia/version", "");
    assert!(probe(&config).unwrap().ends_with("/bin/nvidia-smi"));
    config.device_type = "jetson_orin".to_string();
    let error = probe(&config).unwrap_err().to_string();
    assert!(error.contains("a Jetson's power"), "{error}");
    config.device_type = "x86".to_string();
    config
        .meters
        .edit(|settings: &mut Settings| settings.nvidia_smi = Some("/nowhere/nvidia-smi".into()));
    let error = probe(&config).unwrap_err().to_string();
    assert!(error.contains("(nvidia.nvidia_smi names it)"), "{error}");
}
