//! `doctor`: its report on a board, as text and as JSON.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use support::{on_board, TempDir};

fn doctor(board: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    on_board(&mut command, board);
    command
        .arg("doctor")
        .args(arguments)
        .env_remove("LOCAL_CONFIG_PATH")
        .output()
        .unwrap()
}

/// The report with wrapped lines put together.
fn joined(report: Vec<u8>) -> String {
    let text = String::from_utf8(report).unwrap();
    text.replace("\n      ", " ")
}

fn board(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/boards")
        .join(name)
}

#[test]
fn reports_each_source_with_a_reading() {
    let output = doctor(&board("ina226_hwmon"), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let works = section(&text, "Works:");
    assert!(
        works.contains("  hwmon         chips: ina226-1-0040"),
        "{text}"
    );
    assert!(
        works.contains("      7.675 W    power_total_watts\n"),
        "{text}"
    );
    let (_, absent) = text.split_once("\nNot found: ").unwrap();
    let mut absent = absent.split_whitespace();
    assert!(absent.any(|name| name == "power_supply,"), "{text}");
}

/// The lines below a heading.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap();
    rest.split("\n\n").next().unwrap()
}

#[test]
fn report_of_every_board_fits_the_terminal() {
    let boards = std::fs::read_dir(board("")).unwrap();
    let boards: Vec<_> = boards.map(|entry| entry.unwrap().path()).collect();
    let found: Vec<_> = std::thread::scope(|scope| {
        let reports: Vec<_> = boards
            .iter()
            .step_by(4)
            .map(|board| scope.spawn(|| doctor(board, &[])))
            .collect();
        reports.into_iter().map(|r| r.join().unwrap()).collect()
    });
    assert!(found.len() > 5, "{found:?}");
    for output in found {
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("\nNot found: "), "{text}");
        for line in text.lines() {
            // The path of a fixture board can be long.
            let has_long_word = line.split_whitespace().any(|word| word.len() > 80);
            assert!(has_long_word || line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn fails_when_nothing_can_be_read() {
    let output = doctor(&board("empty_vm"), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Nothing can be read here"), "{text}");
}

#[test]
fn reports_a_board_that_measures_no_power() {
    let text = |name: &str| String::from_utf8(doctor(&board(name), &[]).stdout).unwrap();
    let lack = "\nNothing here measures power. ";
    let without = text("raspberry_pi_4");
    assert!(without.contains(lack), "{without}");
    // Temperatures alone are not what the exporter is for.
    let output = doctor(&board("raspberry_pi_4"), &[]);
    assert_eq!(output.status.code(), Some(1), "{without}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("no power, current or energy can be read"),
        "{error}"
    );
    // A supply with its state and its power.
    let with = text("orange_pi_axp");
    assert!(!with.contains(lack), "{with}");
}

#[test]
fn names_values_that_cannot_be_read() {
    let temp = TempDir::new();
    temp.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
    temp.write("sys/class/thermal/thermal_zone0/temp", "41000\n");
    temp.write("sys/class/thermal/thermal_zone1/type", "gpu\n");
    temp.write("sys/class/thermal/thermal_zone1/temp", "hot\n");
    let output = doctor(temp.path(), &[]);
    let text = joined(output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("thermal_zone1/temp does not hold a number but \"hot\""),
        "{text}"
    );
}

#[test]
fn reports_suspended_devices_and_doubtful_values() {
    let text = |name: &str| joined(doctor(&board(name), &[]).stdout);
    let suspended = text("laptop_amdgpu_suspended");
    assert!(
        suspended.contains("\n  hwmon         chips: amdgpu-0000:03:00.0, "),
        "{suspended}"
    );
    let lines = [
        "    ! amdgpu-0000:03:00.0 is suspended: it is not read, because that would resume it",
        "    ! GPU 0000:01:00.0 is suspended: nvidia-smi does not run",
    ];
    for line in lines {
        assert!(suspended.contains(line), "{suspended}");
    }
    let in_doubt = text("old_bsp_thermal");
    let line =
        "thermal_zone1/temp says 52, which is 0.052 °C; the kernels of some vendors mean 52 °C";
    assert!(in_doubt.contains(line), "{in_doubt}");
}

#[test]
fn says_which_right_perf_events_need() {
    let temp = TempDir::new();
    let pmu = "sys/bus/event_source/devices/power";
    // The kernel's software clock, which this machine has, in the place of RAPL's PMU.
    for (file, text) in [
        ("type", "1\n"),
        ("cpumask", "0\n"),
        ("events/energy-pkg", "event=0x00\n"),
        ("events/energy-pkg.scale", "1e-8\n"),
        ("events/energy-pkg.unit", "Joules\n"),
    ] {
        temp.write(&format!("{pmu}/{file}"), text);
    }
    temp.write(
        "sys/devices/system/cpu/cpu0/topology/physical_package_id",
        "0\n",
    );
    let paranoid = "sys/kernel/perf_event_paranoid";
    let level = std::fs::read_to_string(format!("/proc/{paranoid}")).unwrap();
    temp.write(&format!("proc/{paranoid}"), &level);
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    on_board(&mut command, temp.path());
    command.arg("doctor").env_remove("LOCAL_CONFIG_PATH");
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let text = joined(command.output().unwrap().stdout);
    let is_allowed = level.trim().parse::<i32>().unwrap() <= 0;
    let works = text.split("\nCould work:").next().unwrap();
    assert!(
        text.contains("  rapl          package-0 by perf events"),
        "{text}"
    );
    assert!(
        is_allowed && works.contains("  rapl ")
            || text.contains("energy-pkg on CPU 0: permission denied (needs CAP_PERFMON while")
            || text
                .contains("energy-pkg on CPU 0: operation not permitted (needs CAP_PERFMON, and"),
        "{text}"
    );
}

#[test]
fn prints_json_on_request() {
    let output = doctor(&board("jetson_nano_jp4"), &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["device_type"], "jetson_nano");
    assert_eq!(report["readable"], true);
    let sources = report["sources"].as_array().unwrap();
    let tegrastats = sources
        .iter()
        .find(|s| s["source"] == "tegrastats")
        .unwrap();
    assert_eq!(tegrastats["readable"], true);
    assert_eq!(tegrastats["samples"][0]["series"], "power_total_watts");
    assert_eq!(tegrastats["samples"][0]["value"], 1.022);
}

#[test]
fn writes_a_configuration_but_never_over_another_file() {
    let temp = TempDir::new();
    let file = temp.path().join("config.yaml");
    let name = file.to_str().unwrap();
    let output = doctor(&board("orange_pi_axp"), &["--write", name]);
    assert!(output.status.success());
    let mut check = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    let checked = check.args(["check-config", name]).output().unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("device_type: orange_pi"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("#  power_total_watts: true\n"), "{text}");

    let again = doctor(&board("orange_pi_axp"), &["--write", name]);
    assert_eq!(again.status.code(), Some(1));
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(error.contains("cannot create"), "{error}");
}

#[test]
fn extends_the_given_configuration() {
    let temp = TempDir::new();
    let given = temp.write(
        "given.yaml",
        "interval: 0.25\nport: 'off'\nthermal: {enabled: false}\nina260: {i2c_address: 0x41}\n\
         udp: {host: 127.0.0.1, port: 1, mode: listen, voltage: 12}\nmetrics: {power_total_watts: true}\n",
    );
    let file = temp.path().join("config.yaml");
    let names = [given.to_str().unwrap(), file.to_str().unwrap()];
    let board = board("orange_pi_axp");
    let output = doctor(&board, &["--config", names[0], "--write", names[1]]);
    assert!(output.status.success());
    let read = |name| {
        let text = std::fs::read_to_string(name).unwrap();
        let (config, warnings) = edge_metrics_exporter::sources::SCHEMA.parse(&text).unwrap();
        assert_eq!(warnings.len(), 0, "{text}");
        (config, text)
    };
    let (given, _) = read(names[0]);
    let (mut written, text) = read(names[1]);
    assert_eq!(written.device_type, "orange_pi", "{text}");
    let metrics = written.metrics.as_mut().unwrap();
    // Metrics that were found but not listed are written as well, switched off.
    assert_eq!(metrics.remove("power_watts"), Some(false), "{text}");
    metrics.retain(|_, on| *on);
    written.device_type = given.device_type.clone();
    assert_eq!(written, given, "{text}");
}
