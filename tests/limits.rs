//! Limits: what exceeds one is logged, counted by a metric, and shown by `doctor`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{exporter, on_board, wait_until, Exporter, TempDir};

/// A processor's coretemp chip with this many thermometers, whose files are created in no particular order.
fn coretemp(temp: &TempDir, sensors: usize) {
    const DIR: &str = "sys/devices/platform/coretemp.0/hwmon/hwmon0";
    temp.write(&format!("{DIR}/name"), "coretemp\n");
    // 7919 is a prime, so that each number occurs once.
    for place in 0..sensors {
        let n = place * 7919 % sensors + 1;
        let value = format!("{}\n", 30_000 + n);
        temp.write(&format!("{DIR}/temp{n}_input"), &value);
        temp.write(&format!("{DIR}/temp{n}_label"), &format!("Core {n}\n"));
        for file in ["crit", "crit_alarm", "max"] {
            temp.write(&format!("{DIR}/temp{n}_{file}"), "0\n");
        }
    }
    let class = temp.path().join("sys/class/hwmon");
    std::fs::create_dir_all(&class).unwrap();
    let link = |target: &str, link: &Path| std::os::unix::fs::symlink(target, link).unwrap();
    link(&format!("../../../{DIR}"), &class.join("hwmon0"));
    link("../../../coretemp.0", &temp.path().join(DIR).join("device"));
}

fn start(temp: &TempDir, config: &str) -> Exporter {
    // Longer than a busy machine takes to read all of it: a source that exceeds its interval is opened again, and counts again.
    let config = temp.write("config.yaml", &format!("interval: 5\n{config}"));
    let mut command = exporter();
    on_board(&mut command, temp.path());
    command.arg("--config").arg(config);
    Exporter::start(&mut command)
}

fn thermometer(text: &str, n: usize) -> Option<f64> {
    let sensor = format!("sensor=\"coretemp-coretemp.0:Core {n}\"");
    let mut lines = text.lines();
    let line = lines.find(|l| l.starts_with("temperature_celsius{") && l.contains(&sensor))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn doctor(temp: &TempDir, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    on_board(&mut command, temp.path());
    command.arg("doctor").args(arguments);
    let config = temp.path().join("config.yaml");
    let output = command.arg("--config").arg(config).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The same command with a limit on descriptors.
fn with_descriptors(command: &Command, most: u32) -> Command {
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg(format!("ulimit -n {most}; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("LOCAL_CONFIG_PATH")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    limited
}

#[test]
fn all_289_thermometers_are_read_with_200_descriptors() {
    let temp = TempDir::new();
    coretemp(&temp, 289);
    let mut command = exporter();
    on_board(&mut command, temp.path());
    let exporter = Exporter::start(&mut with_descriptors(&command, 200));
    let text = wait_until("all are there", || {
        let text = exporter.scrape();
        thermometer(&text, 289).map(|_| text)
    });
    for n in 1..=289 {
        let celsius = (30_000 + n) as f64 / 1000.0;
        assert_eq!(thermometer(&text, n), Some(celsius), "{n}");
    }
    let limit = r#"exporter_limit_reached_total{limit="series",source="hwmon"}"#;
    assert_eq!(exporter.value(limit), Some(0.0));
    assert!(!exporter.log().contains("dropped"), "{}", exporter.log());
}

#[test]
fn series_beyond_the_limit_are_counted_and_the_first_by_number_kept() {
    let temp = TempDir::new();
    coretemp(&temp, 4100);
    let exporter = start(&temp, "");
    let text = wait_until("it was read", || {
        let text = exporter.scrape();
        thermometer(&text, 1).map(|_| text)
    });
    assert!(thermometer(&text, 2).is_some());
    assert!(thermometer(&text, 4096).is_some());
    assert_eq!(thermometer(&text, 4097), None);
    let limit = r#"exporter_limit_reached_total{limit="series",source="hwmon"}"#;
    assert_eq!(exporter.value(limit), Some(4.0));
    let log = exporter.log();
    let said = log.lines().filter(|l| l.contains("more than 4096 series"));
    assert_eq!(said.count(), 1, "{log}");

    let hwmon = |report: &Value| {
        let sources = report["sources"].as_array().unwrap();
        let hwmon = sources.iter().find(|s| s["source"] == "hwmon");
        hwmon.unwrap()["limits"].clone()
    };
    let report: Value = serde_json::from_str(&doctor(&temp, &["--json"])).unwrap();
    assert_eq!(hwmon(&report)["series"]["left_out"], 4);
    let report = doctor(&temp, &[]);
    assert!(report.contains("more than 4096 series"), "{report}");
}

#[test]
fn unknown_names_in_metrics_are_logged_once_and_counted() {
    let temp = TempDir::new();
    coretemp(&temp, 2);
    let config = "metrics: {temperature_celsius: true, power_watt: true, jetson_x: false}\n";
    let mut exporter = start(&temp, config);
    let said = "no source on this board has these names under `metrics`: power_watt";
    exporter.wait_for_log(said);
    let unknown = wait_until("it is counted", || {
        exporter
            .value("exporter_unknown_metrics")
            .filter(|n| *n > 0.0)
    });
    assert_eq!(unknown, 1.0);
    assert_eq!(exporter.log().matches(said).count(), 1);

    let report = doctor(&temp, &[]);
    assert!(
        report.contains("! `metrics` lists power_watt, which nothing here has"),
        "{report}"
    );
    let report = doctor(&temp, &["--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["unknown_metrics"], serde_json::json!(["power_watt"]));
}
