//! Energy by workload through the real binary: a board whose load the test sets, and whose meter follows it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
mod workloads_support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{value, wait_until, Exporter};
use workloads_support::LoadedBoard;

fn energy(text: &str, kind: &str, name: &str) -> Option<f64> {
    let labels = format!(
        "device_type=\"generic\",domain=\"board\",hostname=\"loaded\",kind=\"{kind}\",name=\"{name}\""
    );
    value(text, &format!("workload_energy_joules_total{{{labels}}}"))
}

fn of_board(text: &str, metric: &str) -> Option<f64> {
    value(
        text,
        &format!("{metric}{{device_type=\"generic\",domain=\"board\",hostname=\"loaded\"}}"),
    )
}

/// The joules that were shared out, after a look whether their parts are all of them.
fn conserved(text: &str) -> Option<f64> {
    let whole = of_board(text, "workload_domain_energy_joules_total")?;
    let parts = text
        .lines()
        .filter(|line| line.starts_with("workload_energy_joules_total{"));
    let parts = parts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
    let sum = parts.sum::<f64>()
        + of_board(text, "workload_idle_energy_joules_total").unwrap()
        + of_board(text, "workload_ended_energy_joules_total").unwrap();
    assert!(
        (sum - whole).abs() <= 1e-6 * whole.max(1.0),
        "{sum} of {whole}"
    );
    let series = "board_energy_joules_total{device_type=\"generic\",hostname=\"loaded\"}";
    let metered = value(text, series).unwrap();
    assert!(whole <= metered * (1.0 + 1e-9), "{whole} of {metered}");
    Some(whole)
}

/// Two services of which one uses twice as much CPU time as the other, the kernel, and a load that comes and goes.
struct Load<'a> {
    board: &'a LoadedBoard,
    services: [&'a str; 2],
    began: Instant,
    last: Duration,
    used: [f64; 2],
    busy: f64,
}

impl<'a> Load<'a> {
    fn new(board: &'a LoadedBoard, services: [&'a str; 2]) -> Load<'a> {
        Load {
            board,
            services,
            began: Instant::now(),
            last: Duration::ZERO,
            used: [0.0; 2],
            busy: 0.0,
        }
    }

    /// Has the counters and the meter go on to now.
    fn go_on(&mut self) {
        let now = self.began.elapsed();
        // In small steps, so that it matters little which of the two services was read before and which after one.
        let ms = ((now - self.last).as_secs_f64() * 1000.0).min(20.0);
        self.last = now;
        let load = f64::from(now.as_millis() as u32 / 400 % 3) / 2.0;
        self.used[0] += 2.0 * load * ms;
        self.used[1] += load * ms;
        self.busy += 3.0 * load * ms + 0.1 * ms;
        for (service, used) in self.services.iter().zip(self.used) {
            self.board.used(service, used as u64);
        }
        self.board.busy(self.busy as u64);
        self.board.power(3.0 + 2.0 * (3.0 * load + 0.1));
    }
}

fn attributes(
    is_v2: bool,
    services: [&str; 2],
    names: [(&str, &str); 2],
) -> (LoadedBoard, Exporter) {
    let board = LoadedBoard::new(is_v2, &services);
    let exporter = board.exporter(", idle_watts: 3");
    let mut load = Load::new(&board, services);
    wait_until("20 J are attributed", || {
        load.go_on();
        let text = exporter.scrape();
        conserved(&text)?;
        let [a, b] = names.map(|(kind, name)| energy(&text, kind, name));
        let (a, b) = (a?, b?);
        if a + b < 20.0 {
            return None;
        }
        assert!((a / b / 2.0 - 1.0).abs() < 0.02, "{a} to {b}");
        Some(())
    });
    (board, exporter)
}

#[test]
fn services_of_cgroup_v2_have_their_part_and_leave_it_when_they_end() {
    let names = [("service", "a.service"), ("service", "b.service")];
    let (board, exporter) = attributes(true, ["a.service", "b.service"], names);
    board.remove("a.service");
    wait_until("a's series end", || {
        let text = exporter.scrape();
        conserved(&text)?;
        if energy(&text, "service", "a.service").is_some() {
            return None;
        }
        assert!(!text.contains("a.service"), "{text}");
        let ended = of_board(&text, "workload_ended_energy_joules_total").unwrap();
        assert!(ended > 10.0, "{ended}");
        Some(())
    });
}

#[test]
fn containers_and_pods_of_cgroup_v1_have_their_part() {
    let id = "3f1c9a7be2d04865a1b2c3d4e5f60718293a4b5c6d7e8f90112233445566778a";
    let uid = "7c1d2e3f-4a5b-4c6d-8e9f-0123456789ab";
    let container = format!("docker/{id}");
    let pod = format!("kubepods/besteffort/pod{uid}");
    let names = [("container", &id[..12]), ("pod", uid)];
    let (_board, exporter) = attributes(false, [&container, &pod], names);
    assert!(exporter
        .scrape()
        .contains("exporter_source_up{source=\"workloads\"} 1"));
}

#[test]
fn more_workloads_than_there_is_room_for_are_other_and_it_is_said() {
    let board = LoadedBoard::new(true, &["a.service", "b.service", "c.service"]);
    let exporter = board.exporter(", max_workloads: 1, idle_watts: 0");
    let mut used = 0;
    wait_until("energy is other's", || {
        used += 20;
        ["a", "b", "c"]
            .iter()
            .for_each(|name| board.used(&format!("{name}.service"), used));
        board.busy(3 * used);
        let text = exporter.scrape();
        conserved(&text)?;
        energy(&text, "other", "other").filter(|joules| *joules > 0.1)
    });
    let text = exporter.scrape();
    let series = "exporter_limit_reached_total{limit=\"workloads\",source=\"workloads\"}";
    assert_eq!(value(&text, series), Some(2.0));
    assert!(
        exporter.log().contains("(limit: workloads)"),
        "{}",
        exporter.log()
    );
    assert!(energy(&text, "service", "a.service").is_some());
    assert!(energy(&text, "service", "b.service").is_none());
}

/// Anonymous memory of a process in KiB.
fn anonymous(exporter: &Exporter) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", exporter.pid());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("Anonymous:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// How many workloads have CPU time of their own.
fn workloads(text: &str) -> usize {
    let lines = text.lines();
    lines
        .filter(|line| line.starts_with("workload_cpu_seconds_total{"))
        .count()
}

/// Services with long names, by their number.
fn services(count: usize) -> Vec<String> {
    let name = |i| format!("system.slice/some-service-with-a-name-{i:05}.service");
    (0..count).map(name).collect()
}

#[test]
fn thousand_cgroups_take_at_most_3_mb() {
    let start = |count: usize| {
        let services = services(count);
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        let board = LoadedBoard::new(true, &services);
        // Without a history, which would grow.
        let settings = ", idle_watts: 1";
        let exporter = board.exporter_with(settings, "history: {seconds: 0}\n");
        wait_until("all workloads are attributed energy", || {
            let text = exporter.scrape();
            conserved(&text)?;
            // The system, and others.
            (workloads(&text) == count.min(500) + 2).then_some(())
        });
        (board, exporter)
    };
    let (_board, few) = start(1);
    let (_board, many) = start(1000);
    let few = anonymous(&few);
    // What the answers took is given back.
    wait_until("1,000 cgroups take at most 3 MB", || {
        (anonymous(&many) <= few + 3_000).then_some(())
    });
}

#[test]
fn twenty_thousand_cgroups_are_bounded() {
    let services = services(20_000);
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let board = LoadedBoard::new(true, &services[..1]);
    services
        .iter()
        .for_each(|service| board.usage_of(service, 0));
    let exporter = board.exporter(", idle_watts: 0");
    let text = wait_until("energy is attributed", || {
        board.used(services[0], 100);
        let text = exporter.scrape();
        conserved(&text).filter(|joules| *joules > 1.0)?;
        Some(text)
    });
    assert_eq!(workloads(&text), 500 + 2);
    let left_out = |limit: &str| {
        let series =
            format!("exporter_limit_reached_total{{limit=\"{limit}\",source=\"workloads\"}}");
        value(&text, &series).unwrap_or_default()
    };
    // 4,096, of which two are the root and the slice.
    assert_eq!(left_out("cgroups"), 20_000.0 - 4_094.0);
    assert_eq!(left_out("workloads"), 4_094.0 - 500.0);
    let files = std::fs::read_dir(format!("/proc/{}/fd", exporter.pid())).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", exporter.pid())).unwrap();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let limit: usize = limit
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let count = files.count();
    assert!(
        count <= limit / 2 + 100 && count > 100,
        "{count} of {limit}"
    );
}

/// A cgroup of the kernel's that is removed in the end.
struct RealCgroup(PathBuf);

impl RealCgroup {
    /// `None`: there is no hierarchy in which this process may make one.
    fn new(name: &str) -> Option<RealCgroup> {
        let top = Path::new("/sys/fs/cgroup");
        let roots = match top.join("cgroup.controllers").exists() {
            true => vec![top.to_path_buf()],
            false => vec![top.join("cpuacct"), top.join("cpu,cpuacct")],
        };
        let mut folders = roots.iter().map(|root| root.join(name));
        let folder = folders.find(|folder| std::fs::create_dir(folder).is_ok())?;
        // The folder of a board's copy would be made as well.
        let is_real = folder.join("cgroup.procs").exists();
        let cgroup = RealCgroup(folder);
        is_real.then_some(cgroup)
    }
}

impl Drop for RealCgroup {
    fn drop(&mut self) {
        // The kernel may still be burying the last process.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// `WORKLOADS_PROCESSES=10000` has as many.
#[test]
fn short_processes_in_a_cgroup_of_the_kernel_are_all_counted() {
    let name = format!("edge-metrics-test-{}.service", std::process::id());
    let Some(cgroup) = RealCgroup::new(&name) else {
        let why = "skipped: no hierarchy of cgroups in /sys/fs/cgroup is writable (as root it is)";
        let _ = writeln!(std::io::stderr(), "{why}");
        return;
    };
    let board = LoadedBoard::new(true, &[]).with_real_cgroups();
    let exporter = board.exporter(", kinds: [service], idle_watts: 1");
    let series = format!("workload_cpu_seconds_total{{device_type=\"generic\",hostname=\"loaded\",kind=\"service\",name=\"{name}\"}}");
    let counted = || value(&exporter.scrape(), &series);
    wait_until("it is a workload", counted);
    let processes = std::env::var("WORKLOADS_PROCESSES").unwrap_or_else(|_| "300".to_string());
    // Each lives for some milliseconds: the exporter sees none of them.
    let script = r#"echo $$ > "$0/cgroup.procs"
        i=0
        while [ $i -lt $1 ]; do
            (j=0; while [ $j -lt 6000 ]; do j=$((j+1)); done)
            i=$((i+1))
        done
        times"#;
    let before = counted().unwrap();
    let mut command = Command::new("sh");
    let output = command
        .args(["-c", script])
        .arg(&cgroup.0)
        .arg(&processes)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // Of the shell and of its children, user and system: `0m1.230s`.
    let times = String::from_utf8(output.stdout).unwrap();
    let seconds = |time: &str| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    };
    let used: f64 = times.split_whitespace().map(seconds).sum();
    assert!(used > 0.1, "{times}");
    wait_until("all of it is counted", || {
        conserved(&exporter.scrape())?;
        let more = counted()? - before;
        assert!(more <= used * 1.02 + 0.1, "{more} of {used}");
        (more >= used * 0.98 - 0.1).then_some(())
    });
}
