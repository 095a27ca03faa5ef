//! Energy by workload through the real binary: a board whose load the test sets, and whose meter follows it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
mod workloads_support;

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
