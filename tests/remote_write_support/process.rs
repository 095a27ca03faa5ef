//! The real binary on a board of one thermal zone, with receivers.

use std::process::Command;

use super::Receiver;
use crate::support::{exporter, on_board, request, Exporter, TempDir};

pub const ZONE: &str = "sys/class/thermal/thermal_zone0";
pub const TEMPERATURE: &str = "temperature_celsius";

pub fn board(config: &str) -> (TempDir, Command) {
    let board = TempDir::new();
    board.write("proc/sys/kernel/hostname", "edge-01\n");
    board.write(&format!("{ZONE}/type"), "cpu\n");
    board.write(&format!("{ZONE}/temp"), "41500\n");
    let path = board.write("config.yaml", config);
    let mut command = exporter();
    on_board(&mut command, board.path());
    command.arg("--config").arg(path);
    (board, command)
}

pub fn config(entries: &[(&str, &Receiver)]) -> String {
    let mut text = String::from("device_type: generic\ninterval: 0.02\nremote_write:\n");
    for (name, receiver) in entries {
        text.push_str(&format!(
            "  - url: {}\n    name: {name}\n    queue_config: {{batch_send_deadline: 50ms}}\n",
            receiver.url()
        ));
    }
    text
}

pub fn of(name: &str, exporter: &Exporter, metric: &str) -> Option<f64> {
    exporter.value(&format!(
        "exporter_remote_write_{metric}{{remote_name=\"{name}\"}}"
    ))
}

/// The timestamps of all readings in the history.
pub fn kept(exporter: &Exporter) -> Vec<i64> {
    let minute = ("X-Prometheus-Scrape-Timeout-Seconds", "60");
    let kept = request(exporter.metrics, "GET", "/multirate", &[minute]).text();
    let kept = kept.lines().filter(|line| line.starts_with(TEMPERATURE));
    kept.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect()
}
