//! `pyjoules-simple` and `pyjoules-multirate`, started like the original programs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::process::Command;

use support::{exporter, get, on_board, request, wait_until, Exporter, TempDir};

const ZONE: &str = "sys/class/powercap/intel-rapl:0";

fn board() -> TempDir {
    let board = TempDir::new();
    board.write(&format!("{ZONE}/name"), "package-0\n");
    board.write(&format!("{ZONE}/max_energy_range_uj"), "262143328850\n");
    board.write(&format!("{ZONE}/energy_uj"), "1000\n");
    // Domains that the originals do not read.
    board.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
    board.write("sys/class/thermal/thermal_zone0/temp", "40000\n");
    board
}

fn preset(name: &str, board: &Path) -> Command {
    let mut command = exporter();
    on_board(&mut command, board);
    // The presets have no management port, which `Exporter::start` needs.
    command.arg(name).env("SCRAPE_INTERVAL_SECONDS", "0.02");
    command
}

/// The lines without self-metrics.
fn measured(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.contains("pyjoules"));
    assert!(!text.contains("temperature") && !text.contains("power_watts"));
    lines.collect()
}

#[test]
fn simple_shows_watts_by_domain() {
    let board = board();
    let exporter = Exporter::start(&mut preset("pyjoules-simple", board.path()));
    let text = wait_until("a second reading", || {
        let text = exporter.scrape();
        text.contains("pyjoules_simple_energy_watts{")
            .then_some(text)
    });
    let lines = measured(&text);
    assert_eq!(
        lines[..4],
        [
            "# HELP pyjoules_simple_energy_watts Energy consumption in Watts reported by pyJoules, on simple client",
            "# TYPE pyjoules_simple_energy_watts gauge",
            "pyjoules_simple_energy_watts{domain=\"package_0\"} 0",
            "# HELP pyjoules_simple_measurement_duration_seconds Duration of the pyJoules energy measurement cycle, on simple client",
        ]
    );
    assert_eq!(lines.len(), 6, "{lines:?}");
    let duration = exporter.value("pyjoules_simple_measurement_duration_seconds");
    assert!(duration.is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn multirate_shows_the_microjoules_of_every_interval_once() {
    let board = board();
    let exporter = Exporter::start(&mut preset("pyjoules-multirate", board.path()));
    let mut energy = 0.0;
    let mut stamps = Vec::new();
    let mut ask = || {
        let text = get(exporter.metrics, "/metrics").text();
        for line in measured(&text) {
            if let Some(sample) =
                line.strip_prefix("pyjoules_multirate_energy_uj{component=\"package_0\"} ")
            {
                let (value, stamp) = sample.split_once(' ').unwrap();
                energy += value.parse::<f64>().unwrap();
                stamps.push(stamp.parse::<i64>().unwrap());
            }
        }
        let help = "# HELP pyjoules_multirate_energy_uj Energy consumption (µJ) per component, on multirate client";
        assert!(text.matches(help).count() <= 1, "{text}");
        assert!(stamps.windows(2).all(|w| w[0] < w[1]), "{stamps:?}");
        (stamps.len(), energy)
    };
    wait_until("a first interval", || (ask().0 > 0).then_some(()));
    // The counter's increase since the first reading, no part of it twice.
    for steps in 1..=20 {
        let counted = 1000 + steps * 123_456;
        board.write(&format!("{ZONE}/energy_uj"), &format!("{counted}\n"));
        wait_until("the energy of this step", || {
            let (_, energy) = ask();
            assert!(energy <= f64::from(steps * 123_456), "{energy}");
            (energy == f64::from(steps * 123_456)).then_some(())
        });
    }
    let open = ("Accept", "application/openmetrics-text");
    let text = request(exporter.metrics, "GET", "/metrics", &[open]).text();
    assert!(text.ends_with("# EOF\n"));
}
