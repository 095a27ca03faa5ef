//! The fixture boards: the real binary reads each, and its exposition is compared with the board's `expected.prom`.
//!
//! `UPDATE_EXPECT=1 cargo test --test boards` (or `make update-boards`) writes them all anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use support::registers::with_registers;
use support::{difference, exporter, on_board, Exporter, TempDir, WAIT_TIMEOUT};

/// Short enough that no board takes long, and long enough that a busy machine keeps up.
const INTERVAL: &str = "interval: 0.2\n";

#[test]
fn every_board_exports_its_expected_metrics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards");
    let mut boards: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    boards.sort();
    assert!(!boards.is_empty());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let queue = Mutex::new(boards.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| loop {
                let next = queue.lock().unwrap().next();
                let Some(board) = next else { return };
                if let Err(difference) = check(board, update) {
                    failures.lock().unwrap().push(difference);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(board: &Path, update: bool) -> Result<(), String> {
    let temp = TempDir::new();
    let config = std::fs::read_to_string(board.join("config.yaml")).unwrap_or_default();
    let config = temp.write("config.yaml", &format!("{INTERVAL}{config}"));
    let mut command = exporter();
    // A recording contains its times, so that its energy is exact.
    let recorded = board.join("recording.txt").exists();
    let normalised = |text: &str| normalised(text, recorded);
    if recorded {
        command.arg("--replay").arg(board).arg("--replay.at-once");
    } else {
        on_board(&mut command, &with_registers(board, &temp));
        command.arg("--config").arg(config);
    }
    let exporter = Exporter::start(&mut command);

    let file = board.join("expected.prom");
    if update {
        let text = settled(&exporter, normalised);
        std::fs::write(file, text).unwrap();
        return Ok(());
    }
    let name = board.file_name().unwrap().to_string_lossy();
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        let scrape = exporter.scrape();
        let text = normalised(&scrape);
        // The device type x86 is compiled in: a binary of another architecture, under an emulator, does not export it.
        let same = match scrape.contains("arch=\"x86_64\"") {
            true => text == expected,
            false => without_x86(&text) == without_x86(&expected),
        };
        if same {
            return Ok(());
        }
        if Instant::now() > deadline {
            let (difference, log) = (difference(&expected, &text), exporter.log());
            return Err(format!("{name}:\n{difference}\nits log:\n{log}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn without_x86(text: &str) -> String {
    text.replace("device_type=\"x86\"", "device_type=\"generic\"")
}

/// The exposition once it no longer changes.
fn settled(exporter: &Exporter, normalised: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        let now = normalised(&exporter.scrape());
        if now != text {
            (text, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    text
}

/// The board's part of the exposition: without self-metrics, and, unless `exact`, with values that depend on the run
/// time reduced to zero or not zero.
fn normalised(text: &str, exact: bool) -> String {
    let kept = [
        "exporter_source_up",
        "exporter_source_unparsed_tokens_total",
    ];
    let grows = [
        "board_energy_joules_total",
        "energy_joules_total",
        "exporter_source_unparsed_tokens_total",
        "workload_domain_energy_joules_total",
        "workload_domain_power_watts",
        "workload_idle_energy_joules_total",
        "workload_energy_joules_total",
        "workload_power_watts",
    ];
    let mut out = String::new();
    for line in text.lines() {
        let sample = line
            .trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ");
        let name = sample.split(['{', ' ']).next().unwrap();
        let own = name.starts_with("exporter_") || name.starts_with("process_");
        if own && !kept.contains(&name) {
            continue;
        }
        match line.rsplit_once(' ') {
            Some((series, value)) if !exact && !line.starts_with('#') && grows.contains(&name) => {
                let value = if value == "0" { "0" } else { ">0" };
                out.push_str(&format!("{series} {value}\n"));
            }
            _ => out.push_str(&format!("{line}\n")),
        }
    }
    out
}
