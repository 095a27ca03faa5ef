//! The management API of the running exporter, and how it edits the configuration file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod management_support;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use management_support::{Board, LABELS, TEMPERATURE};
use support::programs::copy_program;
use support::{on_board, post, wait_until, Exporter, TempDir};

#[test]
fn switch_applies_to_the_next_scrape_and_to_the_file() {
    let board = Board::start(
        "# mine\ndevice_type: generic  # a board\nmetrics:  # some\n  temperature_celsius: true\n",
    );
    assert_eq!(board.value(TEMPERATURE), Some(41.5));
    let answer = board.enable("{\"temperature_celsius\": false, \"power_watts\": true}");
    assert_eq!(answer.as_object().unwrap().len(), 3, "{answer}");
    let scrape = board.exporter.scrape();
    assert!(!scrape.contains("temperature_celsius"), "{scrape}");
    assert!(scrape.contains("\npower_watts{"), "{scrape}");
    let text = board.text();
    let beginning =
        "# mine\ndevice_type: generic  # a board\nmetrics:  # some\n  temperature_celsius: false\n";
    assert!(text.starts_with(beginning), "{text}");
    assert!(text.contains("  power_watts: true\n"), "{text}");
    for n in 0..20 {
        board.enable(&format!("{{\"temperature_celsius\": {}}}", n % 2 == 0));
        assert_eq!(board.value(TEMPERATURE).is_some(), n % 2 == 0);
    }
}

#[test]
fn first_switch_writes_all_known_metrics() {
    let board = Board::start("device_type: generic\n");
    board.enable("{\"temperature_celsius\": false}");
    let (config, _) = edge_metrics_exporter::sources::SCHEMA
        .parse(&board.text())
        .unwrap();
    let metrics = config.metrics.unwrap();
    assert!(!metrics["temperature_celsius"]);
    let others: Vec<_> = metrics
        .iter()
        .filter(|(name, _)| *name != "temperature_celsius")
        .collect();
    assert!(
        others.len() >= 4 && others.iter().all(|(_, on)| **on),
        "{others:?}"
    );
    let scrape = board.exporter.scrape();
    assert!(!scrape.contains("temperature_celsius"), "{scrape}");
    assert!(
        scrape.contains(&format!("power_total_watts{LABELS}}}")),
        "{scrape}"
    );
}

#[test]
fn found_metrics_are_added_to_the_file() {
    let board = Board::start("device_type: generic\nmetrics:\n  power_watts: true # this\n");
    let text = board.waits_for_text("all are noted", |text| {
        text.contains("temperature_celsius: false") && text.contains("power_total_watts: false")
    });
    let beginning = "device_type: generic\nmetrics:\n  power_watts: true # this\n";
    assert!(text.starts_with(beginning), "{text}");
    // Metrics of a device that appears later are added later.
    for (name, content) in [("name", "ina226\n"), ("in1_input", "5000\n")] {
        board
            .dir
            .write(&format!("sys/class/hwmon/hwmon0/{name}"), content);
    }
    assert_eq!(board.reload().status, 200);
    board.waits_for_text("that is noted, too", |text| {
        text.contains("voltage_volts: false")
    });
    assert_eq!(board.value("exporter_config_saved"), Some(1.0));
}

#[test]
fn unsaved_switch_applies_and_is_reported() {
    let board =
        Board::start("device_type: generic\nmetrics: &all\n  temperature_celsius: &on true\n");
    let answer = board.enable("{\"temperature_celsius\": false}");
    assert_eq!(answer["status"], "success");
    assert_eq!(answer["saved"], false);
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("config.yaml:3:") && message.contains("by hand"),
        "{message}"
    );
    assert_eq!(board.value(TEMPERATURE), None);
    assert_eq!(board.value("exporter_config_saved"), Some(0.0));
    let health = board.health();
    assert_eq!(health["config"]["saved"], false);
    assert_eq!(health["status"], "degraded");
    // The reload restores what the file says.
    assert_eq!(board.reload().status, 200);
    assert_eq!(board.value(TEMPERATURE), Some(41.5));
    assert_eq!(board.value("exporter_config_saved"), Some(1.0));
}

#[test]
fn switch_applies_when_the_file_is_not_writable() {
    let dir = TempDir::new();
    dir.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
    dir.write("sys/class/thermal/thermal_zone0/temp", "41500\n");
    let text = "device_type: generic\nmetrics:\n  temperature_celsius: true\n";
    let config = dir.write("config.yaml", text);
    // Root may write everywhere: the exporter runs as another user, from a copy that the user may execute.
    let binary = dir.path().join("exporter");
    let ours = env!("CARGO_BIN_EXE_edge-metrics-exporter");
    copy_program(ours.as_ref(), &binary);
    let mut command = Command::new(binary);
    on_board(&mut command, dir.path());
    command
        .args(["--web.listen-address", "127.0.0.1:0"])
        .args(["--web.management-address", "127.0.0.1:0"])
        .stderr(std::process::Stdio::piped())
        .arg("--config")
        .arg(&config);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    } else {
        let read_only = std::fs::Permissions::from_mode(0o555);
        std::fs::set_permissions(dir.path(), read_only).unwrap();
    }
    let exporter = Exporter::start(&mut command);
    wait_until("the temperature", || {
        exporter
            .scrape()
            .contains("temperature_celsius{")
            .then_some(())
    });
    let body = "{\"temperature_celsius\": false}";
    let answer = post(exporter.management, "/metrics/enable", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["saved"], false, "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("must own the file"), "{message}");
    assert!(!exporter.scrape().contains("temperature_celsius{"));
    assert_eq!(exporter.value("exporter_config_saved"), Some(0.0));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), text);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn concurrent_switches_are_all_applied() {
    let board = Board::start("device_type: generic\n");
    let names: Vec<_> = {
        let list: serde_json::Value =
            serde_json::from_slice(&board.get("/metrics/list").body).unwrap();
        list["metrics"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let address = board.exporter.management;
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(move || {
                for n in 0..5 {
                    let body = format!("{{\"{name}\": {}}}", n % 2 == 1);
                    assert_eq!(post(address, "/metrics/enable", &body).status, 200);
                }
            });
        }
    });
    let (config, _) = edge_metrics_exporter::sources::SCHEMA
        .parse(&board.text())
        .unwrap();
    let metrics = config.metrics.unwrap();
    assert_eq!(metrics.len(), names.len());
    assert!(metrics.values().all(|on| !on), "{metrics:?}");
    let scrape = board.exporter.scrape();
    assert!(!scrape.contains("_watts"), "{scrape}");
}

#[test]
fn health_reports_sources_and_errors() {
    let board = Board::start("device_type: generic\n");
    let health = board.health();
    for (key, value) in [
        ("status", "healthy"),
        ("device_id", "edge-01"),
        ("device_type", "generic"),
    ] {
        assert_eq!(health[key], value, "{health}");
    }
    let stamp = health["last_collection"].as_str().unwrap();
    assert!(stamp.starts_with("20") && stamp.ends_with('Z'), "{stamp}");
    assert!(health["metrics_count"].as_u64().unwrap() >= 5, "{health}");
    assert_eq!(health["metrics_count"], health["enabled_metrics"]);
    assert_eq!(health["config"]["source"], "file");
    assert_eq!(health["sources"].as_array().unwrap().len(), 2);
    // A sensor without a valid value.
    let sensor = "sys/class/thermal/thermal_zone0/temp";
    board.dir.write(sensor, "broken\n");
    wait_until("it is missed", || {
        let health = board.health();
        let degraded = health["status"] == "degraded";
        degraded.then(|| assert!(health["last_error"].is_string(), "{health}"))
    });
}

#[test]
fn current_configuration_is_shown_without_secrets() {
    let board = Board::start("device_type: generic\ninterval: 0.5\nshelly: {enabled: false, host: 192.0.2.1, password: hunter2}\n");
    let answer = board.get("/config");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    let config: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(config["interval"], 0.5);
    assert_eq!(config["device_type"], "generic");
    board.enable("{\"temperature_celsius\": false}");
    let config: serde_json::Value = serde_json::from_slice(&board.get("/config").body).unwrap();
    assert_eq!(config["metrics"]["temperature_celsius"], false);
}
