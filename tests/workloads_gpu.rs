//! Energy of a GPU by workload through the real binary, with a stand-in of nvidia-smi that says which processes use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
mod workloads_support;

use std::path::Path;
use std::process::Command;

use support::{get, on_board, value, wait_until, Exporter};
use workloads_support::LoadedBoard;

const GPU: &str = "nvidia_gpu_0";

fn of_domain(text: &str, metric: &str, domain: &str) -> Option<f64> {
    let labels = format!("device_type=\"generic\",domain=\"{domain}\",hostname=\"loaded\"");
    value(text, &format!("{metric}{{{labels}}}"))
}

fn energy(text: &str, kind: &str, name: &str) -> Option<f64> {
    let labels = format!(
        "device_type=\"generic\",domain=\"{GPU}\",hostname=\"loaded\",kind=\"{kind}\",name=\"{name}\""
    );
    value(text, &format!("workload_energy_joules_total{{{labels}}}"))
}

fn unattributed(text: &str) -> Option<f64> {
    of_domain(text, "workload_unattributed_energy_joules_total", GPU)
}

/// The joules of the GPU that were shared out, after a look whether the parts of each domain are all of it.
fn conserved(text: &str) -> Option<f64> {
    for domain in ["board", GPU] {
        let whole = of_domain(text, "workload_domain_energy_joules_total", domain)?;
        let label = format!("domain=\"{domain}\"");
        let parts = text.lines().filter(|line| {
            line.starts_with("workload_energy_joules_total{") && line.contains(&label)
        });
        let parts = parts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
        let rest = [
            "workload_idle_energy_joules_total",
            "workload_ended_energy_joules_total",
            "workload_unattributed_energy_joules_total",
        ];
        let rest = rest.map(|metric| of_domain(text, metric, domain).unwrap_or_default());
        let sum = parts.sum::<f64>() + rest.iter().sum::<f64>();
        let is_whole = (sum - whole).abs() <= 1e-6 * whole.max(1.0);
        assert!(is_whole, "{domain}: {sum} of {whole}");
    }
    of_domain(text, "workload_domain_energy_joules_total", GPU)
}

/// A board with two services and a GPU that draws 110 W, of which 10 W are idle.
fn board() -> LoadedBoard {
    let board = LoadedBoard::new(true, &["a.service", "b.service"]);
    board.gpu(110, Some(80));
    board.process("1234", "a.service");
    board.process("1235", "b.service/worker");
    board
}

fn start(board: &LoadedBoard) -> Exporter {
    board.exporter(", idle_watts: {board: 3, nvidia_gpu_0: 10}")
}

#[test]
fn two_services_that_share_a_gpu_have_their_parts_of_it() {
    let board = board();
    board.gpu_processes(&[("1234", "60"), ("1235", "20"), ("77", "-")]);
    let exporter = start(&board);
    wait_until("100 J are attributed", || {
        let text = exporter.scrape();
        conserved(&text)?;
        let (a, b) = (
            energy(&text, "service", "a.service")?,
            energy(&text, "service", "b.service")?,
        );
        if a + b < 100.0 {
            return None;
        }
        assert!((a / b / 3.0 - 1.0).abs() < 0.02, "{a} to {b}");
        assert_eq!(energy(&text, "system", "system"), Some(0.0));
        assert_eq!(energy(&text, "other", "other"), Some(0.0));
        Some(())
    });
    // The first ends, and the second goes on alone; then it is gone as well.
    board.end_process("1234");
    board.remove("a.service");
    board.gpu_processes(&[("1235", "80")]);
    let b_alone = wait_until("a's energy is that of an ended one", || {
        let text = exporter.scrape();
        conserved(&text)?;
        let ended = of_domain(&text, "workload_ended_energy_joules_total", GPU)?;
        let is_over = energy(&text, "service", "a.service").is_none() && ended > 50.0;
        energy(&text, "service", "b.service").filter(|_| is_over)
    });
    wait_until("b has more", || {
        let text = exporter.scrape();
        conserved(&text)?;
        energy(&text, "service", "b.service").filter(|joules| *joules > b_alone + 50.0)
    });
    board.gpu_processes(&[("-", "-")]);
    let before = unattributed(&exporter.scrape()).unwrap();
    wait_until("nobody uses it", || {
        let text = exporter.scrape();
        conserved(&text)?;
        let power = of_domain(&text, "workload_unattributed_power_watts", GPU)?;
        (power > 99.0 && unattributed(&text)? > before + 50.0).then_some(())
    });
}

#[test]
fn process_that_nobody_knows_is_other_and_one_without_a_service_the_systems() {
    let board = board();
    board.process("20", "");
    board.gpu_processes(&[("20", "30"), ("99", "20"), ("0", "10")]);
    let exporter = start(&board);
    wait_until("60 J are attributed", || {
        let text = exporter.scrape();
        conserved(&text)?;
        let (system, other) = (
            energy(&text, "system", "system")?,
            energy(&text, "other", "other")?,
        );
        if system + other < 60.0 {
            return None;
        }
        assert!((system / other - 1.0).abs() < 0.02, "{system} to {other}");
        assert!(!text.contains(&format!(
            "domain=\"{GPU}\",hostname=\"loaded\",kind=\"service\""
        )));
        Some(())
    });
}

#[test]
fn gpu_in_mig_mode_is_nobodys() {
    let board = board();
    board.gpu(110, None);
    board.gpu_processes(&[("1234", "-"), ("1235", "-")]);
    let exporter = start(&board);
    wait_until("100 J are nobody's", || {
        let text = exporter.scrape();
        let whole = conserved(&text)?;
        let nobodys = unattributed(&text)?;
        let idle = of_domain(&text, "workload_idle_energy_joules_total", GPU)?;
        assert!((nobodys + idle - whole).abs() <= 1e-6 * whole.max(1.0));
        (nobodys > 100.0).then_some(())
    });
    assert!(exporter
        .log()
        .lines()
        .all(|line| !line.contains("nvidia-smi pmon")));
}

#[test]
fn pmon_that_refuses_is_said_once_and_tried_again() {
    let board = board();
    board.pmon("refuse\n");
    let mut exporter = start(&board);
    let complaint =
        "ended with exit status 3; it prints: Process monitoring is Not Supported on this device.";
    exporter.wait_for_log(complaint);
    let errors = "exporter_source_errors_total{source=\"nvidia\"}";
    wait_until("it was tried again", || {
        let text = exporter.scrape();
        conserved(&text)?;
        value(&text, errors).filter(|errors| *errors >= 2.0)
    });
    let up = "exporter_source_up{source=\"nvidia\"}";
    assert_eq!(exporter.value(up), Some(1.0));
    let address = exporter.management;
    assert!(get(address, "/health").text().contains(complaint));
    assert_eq!(exporter.log().matches(complaint).count(), 1);
    board.gpu_processes(&[("1234", "60")]);
    wait_until("it is read", || {
        energy(&exporter.scrape(), "service", "a.service").filter(|joules| *joules > 10.0)
    });
    assert!(exporter.log().contains("nvidia-smi pmon is read"));
    assert!(!get(address, "/health").text().contains(complaint));
}

#[test]
fn doctor_says_what_pmon_says() {
    let board = board();
    let report = |workloads: &str| {
        let config = board.path().join("doctor.yaml");
        std::fs::write(&config, format!("workloads: {{{workloads}}}\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
        on_board(&mut command, board.path());
        command.arg("doctor").arg("--config").arg(config);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    board.pmon("refuse\n");
    let text = report("enabled: true");
    assert!(
        text.contains("    ! ") && text.contains("is Not Supported on this device"),
        "{text}"
    );
    board.pmon("silent\n");
    let text = report("enabled: true");
    assert!(
        text.contains("    ! nvidia-smi pmon has said nothing yet"),
        "{text}"
    );
    for off in ["enabled: false", "enabled: true, gpu_processes: false"] {
        assert!(!report(off).contains("nvidia-smi pmon"), "{off}");
    }
}

#[test]
fn without_gpu_processes_a_gpu_is_no_domain() {
    let board = board();
    let exporter = board.exporter(", gpu_processes: false, idle_watts: {board: 3}");
    wait_until("the board and the GPU are read", || {
        let text = exporter.scrape();
        of_domain(&text, "workload_domain_energy_joules_total", "board")?;
        text.contains("rail=\"nvidia_gpu_0\"").then_some(())
    });
    assert!(!exporter.scrape().contains(&format!("domain=\"{GPU}\"")));
}

#[test]
fn processes_by_name_share_a_gpu() {
    let board = board();
    for (pid, name) in [("1234", "a"), ("1235", "b")] {
        let stat = format!("{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 5 1 1\n");
        let path = board.path().join("proc").join(pid).join("stat");
        std::fs::write(Path::new(&path), stat).unwrap();
    }
    board.gpu_processes(&[("1234", "60"), ("1235", "20")]);
    let exporter = board.exporter(", kinds: [process], idle_watts: {board: 3, nvidia_gpu_0: 10}");
    wait_until("60 J are attributed", || {
        let text = exporter.scrape();
        conserved(&text)?;
        let (a, b) = (
            energy(&text, "process", "a")?,
            energy(&text, "process", "b")?,
        );
        if a + b < 60.0 {
            return None;
        }
        assert!((a / b / 3.0 - 1.0).abs() < 0.02, "{a} to {b}");
        Some(())
    });
}
