//! `docs/metrics.md` lists what the exporter really exports: for the fixture boards, Shelly plugs, a device with JSON, a UDP device, RAPL under the
//! pyJoules names, and itself. `UPDATE_EXPECT=1 cargo test --test metrics_doc` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod device_support;
mod json_support;
mod shelly_support;
mod support;
mod workloads_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use edge_metrics_exporter::sources::{METERS, SCHEMA};
use shelly_support::{fixture, Auth, Plug};
use support::{exporter, get, on_board, wait_until, Exporter, TempDir, WAIT_TIMEOUT};
use workloads_support::LoadedBoard;

/// The names by which `check-config` checks those of a configuration.
const CATALOGUE: &str = "src/sources/catalogue.txt";

/// Names that differ in a number or a rail share a row: prefix, suffix, and the name of the row.
const ALIKE: &[(&str, &str, &str)] = &[
    (
        "jetson_cpu_core",
        "_usage_percent",
        "jetson_cpu_core{N}_usage_percent",
    ),
    (
        "jetson_cpu_core",
        "_freq_mhz",
        "jetson_cpu_core{N}_freq_mhz",
    ),
    ("jetson_cpu_core", "_status", "jetson_cpu_core{N}_status"),
    ("jetson_gpu_freq", "_mhz", "jetson_gpu_freq{N}_mhz"),
    (
        "jetson_power_",
        "_avg_watts",
        "jetson_power_{rail}_avg_watts",
    ),
    ("jetson_power_", "_watts", "jetson_power_{rail}_watts"),
    ("jetson_temp_", "_celsius", "jetson_temp_{zone}_celsius"),
    (
        "shelly_energy_minute_",
        "_mwh",
        "shelly_energy_minute_{N}_mwh",
    ),
    (
        "shelly_energy_returned_minute_",
        "_mwh",
        "shelly_energy_returned_minute_{N}_mwh",
    ),
];

/// The sections: prefixes of their names, and an introduction. A name belongs to the first section that matches.
const SECTIONS: &[(&str, &[&str], &str)] = &[
    (
        "NVIDIA Jetson",
        &["jetson_"],
        "By tegrastats or INA3221, under the names of the Python edge-metrics-exporter.",
    ),
    ("Raspberry Pi", &["rpi_"], "What the firmware says."),
    ("NVIDIA GPUs", &["nvidia_", "gpu_"], "By nvidia-smi."),
    ("Shelly", &["shelly_", "power_voltage_volts", "power_current_amps"], "By HTTP, of plugs, switches and energy meters."),
    (
        "A device by UDP",
        &["powerexporter_"],
        "Under the names of prometheus-power-exporter.",
    ),
    (
        "RAPL as pyJoules",
        &["pyjoules_"],
        "With the presets of those names; `rapl: {metric: ...}` gives them any other.",
    ),
    (
        "Workloads",
        &["workload_", "board_cpu_", "board_memory_"],
        "With `workloads: {enabled: true}`; [workloads.md](workloads.md) has the model.",
    ),
    (
        "Workloads as Kepler",
        &["kepler_"],
        "With the preset `kepler`, or `workloads: {metric_names: [kepler]}`; [kepler.md](migration/kepler.md) says what differs.",
    ),
    (
        "Workloads as Scaphandre",
        &["scaph_"],
        "With the preset `scaphandre`, or `workloads: {metric_names: [scaphandre]}`; [scaphandre.md](migration/scaphandre.md) says what differs.",
    ),
    (
        "The exporter itself",
        &["exporter_", "process_"],
        "Off with `self_metrics: false`.",
    ),
    (
        "Every kind of board",
        &[""],
        "The same names, whatever was measured. With the labels `device_type` and `hostname`, as are those of the other boards.",
    ),
];

const CONSTANT_LABELS: &str = r#"
## Constant labels

`constant_labels: {site: berlin, rack: "3"}` in the configuration puts labels on every series, the exporter's own (`exporter_…`, `process_…`) among
them: in `/metrics`, `/multirate`, the column names of `/history.csv`, and remote write, where they count more than `external_labels` of that
name. Without the key nothing changes: the names and labels below are all there are. A config server can set them for groups of boards
([fleet.md](fleet.md#labels)).

There are 32 at most, with names of up to 128 and values of up to 256 bytes, 2,048 bytes in all, since every series keeps them in memory. They are
written in the order of their names, among the series' other labels. A label of the tables below cannot be set, nor one that Prometheus has a use for
(`job`, `instance`, `le`, `quantile`, and what begins with `__`): such a configuration is refused, and the error names the label.

A change of them, at a reload, ends all series and begins new ones. At the remote-write receiver the old ones end with a stale marker. Counters
begin at 0. Samples that wait in memory or in a queue on disk keep the labels that they were read with. A Prometheus that scrapes `/multirate` shows the
old series for five minutes more, since samples with time stamps have no stale marker.

A Prometheus whose target has the same label (by `labels` of the job, or by the config server's `/sd`) has one label with `honor_labels: true`, the
series' own. Without that it has two, `site` of the target and `exported_site` of the series. The rules and dashboards of deploy/ work in either
case: they add up by `hostname`, `device_type` and the like.
"#;

#[derive(Default, Clone)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    sources: BTreeSet<String>,
}

#[derive(Default)]
struct Found(BTreeMap<String, Family>);

impl Found {
    /// Adds the families of a scrape.
    fn take(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' '))
            {
                self.family(name).help = help_of(name, help);
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
            {
                self.family(name).kind = kind.to_string();
            } else if let Some((name, rest)) = line.split_once('{') {
                let labels = rest.rsplit_once('}').unwrap().0;
                let family = self.family(name);
                for (label, value) in pairs(labels) {
                    if label == "source" {
                        family.sources.insert(value);
                    }
                    if !matches!(label.as_str(), "device_type" | "hostname") {
                        family.labels.insert(label);
                    }
                }
            }
        }
    }

    fn family(&mut self, name: &str) -> &mut Family {
        let row = alike(name).map_or(name, |(row, _)| row);
        self.0.entry(row.to_string()).or_default()
    }
}

/// The row of a name, and the part of the name that varies within the row.
fn alike(name: &str) -> Option<(&'static str, &str)> {
    ALIKE.iter().find_map(|(begin, end, row)| {
        let own = name.strip_prefix(begin)?.strip_suffix(end)?;
        (!own.is_empty()).then_some((*row, own))
    })
}

/// A help that holds for the whole row: `{N}` for the number, `{rail}` for the rail.
fn help_of(name: &str, help: &str) -> String {
    let Some((row, own)) = alike(name) else {
        return help.to_string();
    };
    let place = &row[row.find('{').unwrap()..=row.find('}').unwrap()];
    match help.to_lowercase().rfind(own) {
        Some(at) => format!("{}{place}{}", &help[..at], &help[at + own.len()..]),
        None => help.to_string(),
    }
}

/// The labels of a line. No label value here contains a quote or a comma.
fn pairs(labels: &str) -> Vec<(String, String)> {
    let pair = |label: &str| {
        let (name, value) = label.split_once("=\"")?;
        Some((name.to_string(), value.trim_end_matches('"').to_string()))
    };
    labels.split("\",").filter_map(pair).collect()
}

fn boards() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards");
    let mut boards: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    boards.sort();
    boards
}

/// Accepts whatever is pushed to it while the test runs.
fn receiver() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = BufReader::new(connection.unwrap());
            let mut length = 0;
            let mut line = String::new();
            while connection.read_line(&mut line).is_ok_and(|n| n > 2) {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let _ = connection.read_exact(&mut vec![0; length]);
            let now = httpdate();
            let answer =
                format!("HTTP/1.1 204 No Content\r\nDate: {now}\r\nConnection: close\r\n\r\n");
            let _ = connection.get_mut().write_all(answer.as_bytes());
        }
    });
    address
}

/// The current time as an HTTP date.
fn httpdate() -> String {
    let date = Command::new("date")
        .args(["-u", "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_string()
}

/// What no board's fixture tree exports: plugs, a UDP device, remote write, window statistics. Sources may be late with
/// some of it: scrapes are repeated until one is `complete`, or the wait times out.
fn of_the_network(found: &mut Found, mut complete: impl FnMut(&Found) -> bool) {
    let temp = TempDir::new();
    let gen1 = Plug::start(
        &fixture("gen1_plug_s.shelly"),
        &fixture("gen1_plug_s.status"),
        Auth::None,
    );
    let gen2 = Plug::start(
        &fixture("gen2_plus_plug_s.shelly"),
        &fixture("gen2_pro_4pm.status"),
        Auth::None,
    );
    let meter = Plug::start(
        &fixture("gen2_plus_plug_s.shelly"),
        &fixture("gen2_pro_3em.status"),
        Auth::None,
    );
    let status = json_support::fixture("tasmota-three-phases").replace(
        "}}}",
        "},\"ESP32\":{\"Temperature\":41.5},\"TempUnit\":\"C\"}}",
    );
    let phases = json_support::Device::start(&[("/cm?cmnd=Status%208", &status)]);
    let config = format!(
        "device_type: shelly\ninterval: 0.2\nhistory: {{window_statistics: true}}\n\
         shelly:\n  devices:\n  - host: \"{}\"\n    name: a\n  - host: \"{}\"\n    name: b\n  - host: \"{}\"\n    name: c\n\
         json: {{devices: [{{profile: tasmota, host: \"{}\", name: d}}]}}\n\
         udp: {{host: 127.0.0.1, port: 9, voltage: 5, start_at_zero: true}}\n\
         remote_write:\n  - url: http://{}/\n    name: main\n    queue_config: {{batch_send_deadline: 100ms}}\n    queue_directory: {}\n",
        gen1.address, gen2.address, meter.address, phases.address, receiver(), temp.path().join("queue").display()
    );
    let config = temp.write("config.yaml", &config);
    let mut command = exporter();
    on_board(&mut command, temp.path());
    // An unreachable config server has its metrics too.
    command.env("CONFIG_SERVER_URL", "http://127.0.0.1:9");
    let exporter = Exporter::start(command.arg("--config").arg(config));
    get(exporter.metrics, "/multirate?consumer=a");
    wait_until("all of it is there", || {
        let text = exporter.scrape();
        let all = [
            "shelly_power_total_watts{",
            "power_watts_max{",
            "power_total_watts_max{",
            "energy_window_joules{",
            "exporter_remote_write_requests_total{",
            "exporter_remote_write_lag_seconds{",
            "exporter_remote_write_clock_skew_seconds{",
            "device=\"a\"",
            "device=\"b\"",
            "device=\"c\"",
            "rail=\"d\"",
        ];
        all.iter()
            .all(|word| text.contains(word))
            .then(|| found.take(&text))
    });
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !complete(found) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        found.take(&exporter.scrape());
    }
}

fn of_preset(found: &mut Found, preset: &str, last: &str) {
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/lattepanda");
    let mut command = exporter();
    on_board(&mut command, &board);
    // A receiver that is not there.
    command.env("REMOTE_WRITE_URL", "http://127.0.0.1:9/");
    let exporter = Exporter::start(command.arg(preset));
    wait_until("it has measured", || {
        let text = exporter.scrape();
        text.contains(last).then(|| found.take(&text))
    });
}

/// The families of a preset on the demo's board, whose names begin so. It waits for lines that have all words of each of `last`.
fn of_demo(found: &mut Found, preset: &str, begin: &str, last: &[&str]) {
    let exporter = Exporter::start(exporter().args(["demo", "--preset", preset]));
    wait_until("all is there", || {
        let text = exporter.scrape();
        let has = |last: &&str| {
            let mut lines = text.lines();
            lines.any(|line| last.split(' ').all(|word| line.contains(word)))
        };
        let are_there = last.iter().all(has);
        let is_ours = |line: &&str| line.contains(begin);
        let ours = || text.lines().filter(is_ours).collect::<Vec<_>>().join("\n");
        are_there.then(|| found.take(&ours()))
    });
}

/// How well idle power is learned shows after minutes of a load that changes: these two families are read in the exporter's own list.
fn of_learned_idle_power(found: &mut Found) {
    let list = include_str!("../src/sources/workloads/schemes/native.yaml");
    for name in ["workload_idle_fit_ratio", "workload_idle_error_watts"] {
        let (_, rest) = list.split_once(&format!("- name: {name}\n")).unwrap();
        let (_, rest) = rest.split_once("help: ").unwrap();
        let help = rest.lines().next().unwrap();
        found.take(&format!(
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{domain=\"board\"}} 1"
        ));
    }
}

/// The names of containers are asked for where there are any.
fn of_workload_names(found: &mut Found) {
    let container = format!("docker-{}.scope", "0123456789abcdef".repeat(4));
    let board = LoadedBoard::new(true, &[&container]);
    board.memory(&container, 1 << 20);
    let nerdctl = board.path().display();
    let exporter = board.exporter(&format!(", names: {{nerdctl: {nerdctl}}}"));
    wait_until("they were asked for", || {
        let text = exporter.scrape();
        let all = [
            "\nexporter_workload_name_requests_total{",
            "\nboard_memory_size_bytes",
        ];
        let is_there = all.iter().all(|name| text.contains(name));
        is_there.then(|| found.take(&text))
    });
}

/// Unattributed energy is shown of GPUs alone.
fn of_gpu_workloads(found: &mut Found) {
    let board = LoadedBoard::new(true, &["a.service"]);
    board.gpu(100, Some(50));
    let exporter = board.exporter("");
    let begin = "workload_unattributed_";
    wait_until("the GPU's energy is attributed", || {
        let text = exporter.scrape();
        let is_there = text.contains("\nworkload_unattributed_power_watts{");
        let ours: Vec<_> = text.lines().filter(|line| line.contains(begin)).collect();
        is_there.then(|| found.take(&ours.join("\n")))
    });
}

const INTRODUCTION: &str = "\
# Metrics

Made by `UPDATE_EXPECT=1 cargo test --test metrics_doc` out of what is really exported; a test compares it. A value that could not be read is not there.

Names under \"Every kind of board\" are the same whatever was measured. Beside them are the names of the replaced programs, letter for
letter: `jetson_…` and `power_package_watts` of the Python edge-metrics-exporter, `shelly_…` of its Shelly server. With `device_type: shelly`, or
`shelly: {power_total: true}`, `power_total_watts`, `power_voltage_volts` and `power_current_amps` are those of the plug that the board hangs on.
`exporter_source_up{source}` says whether a source is read, the other `exporter_source_…` how well.
";

fn document(mut families: BTreeMap<String, Family>) -> String {
    let mut sections = Vec::new();
    for (title, begins, about) in SECTIONS {
        let (rows, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = families
            .into_iter()
            .partition(|(name, _)| begins.iter().any(|begin| name.starts_with(begin)));
        families = rest;
        sections.push((title, about, rows));
    }
    // The families of all boards come first.
    sections.rotate_right(1);
    let mut text = INTRODUCTION.to_string();
    text.push_str(CONSTANT_LABELS);
    for (title, about, rows) in sections {
        if rows.is_empty() {
            continue;
        }
        write!(text, "\n## {title}\n\n{about}\n\n| metric | labels | type | meaning |\n| --- | --- | --- | --- |\n").unwrap();
        for (name, family) in rows {
            let labels: Vec<_> = family.labels.iter().map(|l| format!("`{l}`")).collect();
            let sources: Vec<_> = family.sources.into_iter().collect();
            let of = match sources.as_slice() {
                [] => String::new(),
                sources => format!(" ({})", sources.join(", ")),
            };
            let help = family.help.replace('|', "\\|");
            writeln!(
                text,
                "| `{name}` | {} | {} | {help}{of} |",
                labels.join(" "),
                family.kind
            )
            .unwrap();
        }
    }
    text
}

/// A constant label of a series' own label's name would make the series invalid.
#[test]
fn every_label_is_refused_as_a_constant_one() {
    let document = std::fs::read_to_string("docs/metrics.md").unwrap();
    let cells = document.lines().filter_map(|line| line.split('|').nth(2));
    let labels: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(labels.contains("rail") && labels.len() > 40, "{labels:?}");
    for label in labels {
        let text = format!("constant_labels: {{{label}: x}}\n");
        let refused = SCHEMA.parse(&text).unwrap_err().to_string();
        assert!(refused.contains(&format!("`{label}`")), "{refused}");
    }
}

/// The first column of all tables, a name a line.
fn catalogue(document: &str) -> String {
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split_once('`'));
    names.map(|(name, _)| format!("{name}\n")).collect()
}

/// `check-config` knows the metrics of the document.
#[test]
fn documented_metrics_are_those_that_configurations_are_checked_by() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let file = root.join(CATALOGUE);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, catalogue(&document)).unwrap();
        return;
    }
    let known = std::fs::read_to_string(&file).unwrap();
    assert!(known.lines().count() > 150, "{known}");
    assert!(
        known == catalogue(&document),
        "{CATALOGUE} is out of date (UPDATE_EXPECT=1 cargo test --test metrics_doc)"
    );
}

#[test]
fn documented_metrics_are_the_exported_ones() {
    let mut found = Found::default();
    for board in boards() {
        found.take(&std::fs::read_to_string(board.join("expected.prom")).unwrap());
    }
    of_preset(
        &mut found,
        "pyjoules-simple",
        "pyjoules_simple_measurement_duration_seconds",
    );
    of_preset(
        &mut found,
        "pyjoules-multirate",
        "pyjoules_multirate_measurement_duration_seconds",
    );
    of_preset(
        &mut found,
        "pyjoules-remote-write",
        "pyjoules_remote_write_energy_uj{",
    );
    of_learned_idle_power(&mut found);
    of_workload_names(&mut found);
    of_gpu_workloads(&mut found);
    let last = [
        "kepler_node_cpu_active_watts{",
        "kepler_pod_cpu_watts{ pod_name=",
        "kepler_process_cpu_watts{ container_id=",
    ];
    of_demo(&mut found, "kepler", "kepler_", &last);
    let last = [
        "scaph_process_power_consumption_microwatts{ kubernetes_pod_name=",
        "scaph_self_cpu_usage_percent",
    ];
    of_demo(&mut found, "scaphandre", "scaph_", &last);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let mut looks = 0;
        of_the_network(&mut found, |_| {
            looks += 1;
            looks > 100
        });
        let text = document(found.0);
        let names = Path::new(env!("CARGO_MANIFEST_DIR")).join(CATALOGUE);
        std::fs::write(names, catalogue(&text)).unwrap();
        std::fs::write(&file, text).unwrap();
        return;
    }
    of_the_network(&mut found, |found| document(found.0.clone()) == expected);
    let text = document(found.0);
    let only_in = |one: &str, other: &str| {
        let lines = one.lines().filter(|l| !other.lines().any(|o| o == *l));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(
        text == expected,
        "docs/metrics.md is out of date (UPDATE_EXPECT=1 cargo test --test metrics_doc); new in it:\n{}\nand gone:\n{}",
        only_in(&text, &expected),
        only_in(&expected, &text)
    );
}

/// The order decides which source's total is the board's.
#[test]
fn table_of_devices_has_the_order_of_preference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let devices = std::fs::read_to_string(root.join("docs/devices/README.md")).unwrap();
    let rows = devices
        .lines()
        .skip_while(|l| !l.starts_with("| device | source |"));
    let rows = rows.skip(2).take_while(|l| l.starts_with('|'));
    let shown: Vec<_> = rows
        .map(|row| row.split('|').nth(2).unwrap().trim().trim_matches('`'))
        .collect();
    let meters: Vec<_> = METERS.iter().map(|meter| meter.name).collect();
    assert_eq!(shown, meters);
}
