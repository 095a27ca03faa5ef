//! The tegrastats meter and its child process: stand-ins that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/processes.rs"]
mod processes;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_metrics_exporter::config::{Config, Switch};
use edge_metrics_exporter::metrics::{Policy, Readings, Registry};
use edge_metrics_exporter::sources::jetson::Settings;
use edge_metrics_exporter::sources::{
    Board, Context, Health, Meter, Roots, RunningSource, Source, METERS,
};
use edge_metrics_exporter::sys::clock::BootTime;
use nix::sys::signal::{kill, SigSet, Signal};
use nix::unistd::Pid;
use processes::{assert_child_ends_with_source, assert_group_is_gone, members};
use support::programs::make_executable;
use support::{exporter, on_board, wait_until, Exporter, TempDir};

const LINES: &str =
    "RAM 1/2MB CPU [1%@2] VDD_IN 1000/1000\nRAM 1/2MB CPU [1%@2] VDD_IN 2000/1500\n";

/// The stand-in in one of its modes, and the context of the meter.
struct Bench {
    temp: TempDir,
    context: Context,
    registry: Arc<Registry>,
}

impl Bench {
    fn new(mode: &str, interval: Duration) -> Bench {
        let temp = TempDir::new();
        let lines = temp.write("lines.txt", LINES);
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/bin/tegrastats");
        // All tests share the environment, so the stand-in's variables are written into a script.
        let program = temp.write(
            "jetson/tegrastats",
            &format!(
                "#!/bin/sh\nTEGRASTATS_MODE={mode} TEGRASTATS_LINES={} TEGRASTATS_PIDS={} exec {} \"$@\"\n",
                lines.display(),
                temp.path().join("pids").display(),
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
            .edit(|settings: &mut Settings| settings.tegrastats = Some(program));
        let registry = Arc::new(Registry::new(Policy::All));
        let group = registry.add_group(0, "tegrastats", vec![]);
        group.set_interval(interval);
        let context = Context {
            board: Arc::new(Board::detect(Roots::default())),
            config: Arc::new(config),
            device: Default::default(),
            group,
            registry: Arc::clone(&registry),
            health: Arc::new(Health::default()),
            stop: Arc::default(),
            interval,
        };
        Bench {
            temp,
            context,
            registry,
        }
    }

    fn open(&self) -> Box<dyn Source> {
        (meter().open)(&self.context).unwrap()
    }

    /// Polls until the source fails; returns the error.
    fn failure(&self, source: &mut dyn Source) -> String {
        let started = Instant::now();
        let mut out = Readings::new(5.0);
        loop {
            out.begin(BootTime::now());
            if let Err(error) = source.poll(&mut out) {
                return error.to_string();
            }
            assert!(
                started.elapsed() < support::WAIT_TIMEOUT,
                "it does not fail"
            );
        }
    }

    /// The process group of the latest child.
    fn group(&self) -> i32 {
        let pids = self.temp.path().join("pids");
        wait_until("the stand-in says its number", || {
            std::fs::read_to_string(&pids)
                .ok()?
                .lines()
                .last()?
                .parse()
                .ok()
        })
    }

    fn value(&self, family: &str) -> Option<f64> {
        let snapshot = self.registry.snapshot(BootTime::now());
        let value = snapshot
            .families()
            .find(|f| f.family.name == family)
            .and_then(|f| f.samples().next().map(|(_, value)| value));
        value
    }
}

fn meter() -> &'static Meter {
    METERS
        .iter()
        .find(|meter| meter.name == "tegrastats")
        .unwrap()
}

#[test]
fn lines_are_readings_and_the_child_ends_with_the_source() {
    let bench = Bench::new("none", Duration::from_millis(20));
    assert!((meter().probe)(&bench.context.board, &bench.context.config).is_ok());
    let generation = bench.context.group.new_generation();
    let mut source = bench.open();
    let mut out = Readings::new(5.0);
    wait_until("the second line's power is there", || {
        let before = BootTime::now();
        out.begin(before);
        source.poll(&mut out).unwrap();
        assert!(out.at >= before);
        bench.context.group.publish(generation, &out);
        (bench.value("power_total_watts") == Some(2.0)).then_some(())
    });
    assert!(bench.value("energy_joules_total").unwrap() > 0.0);
    assert_eq!(bench.context.health.unparsed(), 0);
    let group = bench.group();
    assert!(members(group).contains(&group));
    assert_child_ends_with_source(group, source);
}

#[test]
fn stop_request_ends_a_wait() {
    let bench = Bench::new("none", Duration::from_secs(3600));
    let mut source = bench.open();
    let group = bench.group();
    let stop = Arc::clone(&bench.context.stop);
    let waiting = std::thread::spawn(move || {
        let mut out = Readings::new(5.0);
        source.poll(&mut out).unwrap();
        source.poll(&mut out).unwrap();
    });
    stop.set();
    waiting.join().unwrap();
    assert_group_is_gone(group);
}

#[test]
fn silent_child_is_stopped() {
    let bench = Bench::new("silent", Duration::from_millis(20));
    let mut source = bench.open();
    let failure = bench.failure(&mut *source);
    assert!(failure.contains("has printed nothing for "), "{failure}");
    let group = bench.group();
    drop(source);
    assert_group_is_gone(group);
}

#[test]
fn exit_status_and_last_output_are_reported() {
    let bench = Bench::new("dead", Duration::from_millis(20));
    let mut source = bench.open();
    let failure = bench.failure(&mut *source);
    let end = "--interval 20 ended with exit status 3; it says: nvml: device lost";
    assert!(failure.ends_with(end), "{failure}");
    let group = bench.group();
    drop(source);
    assert_group_is_gone(group);
}

#[test]
fn failure_to_start_is_reported_with_its_reason() {
    let bench = Bench::new("missing", Duration::from_millis(20));
    let failure = bench.failure(&mut *bench.open());
    assert!(failure.contains("status 127; it says: "), "{failure}");
    assert!(failure.contains("libnvidia-ml.so.1"), "{failure}");
}

#[test]
fn signal_that_killed_the_child_is_reported() {
    let bench = Bench::new("none", Duration::from_millis(500));
    let mut source = bench.open();
    let group = bench.group();
    for member in members(group) {
        kill(Pid::from_raw(member), Signal::SIGKILL).unwrap();
    }
    let failure = bench.failure(&mut *source);
    assert!(failure.contains("was ended by SIGKILL"), "{failure}");
    drop(source);
    assert_group_is_gone(group);
}

#[test]
fn output_flood_is_stopped() {
    let bench = Bench::new("flood", Duration::from_millis(100));
    let mut source = bench.open();
    let failure = bench.failure(&mut *source);
    assert!(failure.contains("lines a second"), "{failure}");
    let group = bench.group();
    drop(source);
    assert_group_is_gone(group);
}

#[test]
fn endless_line_is_stopped() {
    let bench = Bench::new("endless", Duration::from_millis(100));
    let mut source = bench.open();
    let failure = bench.failure(&mut *source);
    assert!(failure.contains("a line without an end"), "{failure}");
    let group = bench.group();
    drop(source);
    assert_group_is_gone(group);
}

#[test]
fn malformed_lines_are_skipped() {
    let bench = Bench::new("garbage", Duration::from_millis(20));
    let generation = bench.context.group.new_generation();
    let mut source = bench.open();
    let mut out = Readings::new(5.0);
    let health = &bench.context.health;
    wait_until("the line after the garbage is read", || {
        out.begin(BootTime::now());
        source.poll(&mut out).unwrap();
        bench.context.group.publish(generation, &out);
        (bench.value("power_total_watts") == Some(2.0)).then_some(())
    });
    assert_eq!(health.errors(), 1, "the line that was too long");
}

#[test]
fn child_that_ignores_sigterm_is_killed_with_its_children() {
    let bench = Bench::new("stubborn", Duration::from_millis(20));
    let mut source = bench.open();
    let mut out = Readings::new(5.0);
    let group = bench.group();
    wait_until("it has a stubborn child", || {
        source.poll(&mut out).unwrap();
        (members(group).len() >= 3).then_some(())
    });
    assert_child_ends_with_source(group, source);
}

#[test]
fn child_does_not_inherit_blocked_signals() {
    let bench = Bench::new("none", Duration::from_millis(500));
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
        .thread_block()
        .unwrap();
    let source = bench.open();
    let group = bench.group();
    // A shell blocks signals itself for short times.
    wait_until("no signal is blocked in the child", || {
        let status = std::fs::read_to_string(format!("/proc/{group}/status")).unwrap();
        status.contains("SigBlk:\t0000000000000000\n").then_some(())
    });
    drop(source);
    assert_group_is_gone(group);
}

#[test]
fn exited_child_is_restarted() {
    let bench = Bench::new("dead", Duration::from_millis(20));
    let running = RunningSource::start(meter(), bench.context.clone());
    let first = bench.group();
    let second = wait_until("there is another", || {
        Some(bench.group()).filter(|group| *group != first)
    });
    assert_group_is_gone(first);
    assert!(bench.context.health.errors() >= 1);
    running.stop();
    running.join(Instant::now() + support::WAIT_TIMEOUT);
    assert_group_is_gone(second);
}

/// The exporter on a fixture board, with the stand-in in this mode.
fn on_orin(mode: &str, temp: &TempDir) -> Exporter {
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/jetson_agx_orin_jp6");
    let mut command = exporter();
    on_board(&mut command, &board);
    let config = temp.write("config.yaml", "interval: 0.05\n");
    command
        .arg("--config")
        .arg(config)
        .env("TEGRASTATS_MODE", mode)
        .env("TEGRASTATS_PIDS", temp.path().join("pids"));
    Exporter::start(&mut command)
}

fn group_in(temp: &TempDir) -> i32 {
    let pids = temp.path().join("pids");
    wait_until("the stand-in says its number", || {
        std::fs::read_to_string(&pids)
            .ok()?
            .lines()
            .last()?
            .parse()
            .ok()
    })
}

#[test]
fn stopped_exporter_leaves_no_child() {
    let temp = TempDir::new();
    let exporter = on_orin("stubborn", &temp);
    let group = group_in(&temp);
    wait_until("it has a stubborn child", || {
        (members(group).len() >= 3).then_some(())
    });
    let (status, _, log) = exporter.stop();
    assert!(status.success(), "{log}");
    assert_group_is_gone(group);
}

#[test]
fn killed_exporter_leaves_no_child() {
    let temp = TempDir::new();
    let exporter = on_orin("silent", &temp);
    let group = group_in(&temp);
    exporter.signal(Signal::SIGKILL);
    wait_until("the child is gone", || {
        (!members(group).contains(&group)).then_some(())
    });
    for orphan in members(group) {
        // A child of the stand-in; tegrastats itself has none.
        kill(Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
    }
}
