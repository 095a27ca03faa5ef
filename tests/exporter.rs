//! The running exporter: start, scrapes, signals, reload.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use support::free_port::FreePort;
use support::{exporter, get, on_board, request, wait_until, Exporter, TempDir};

/// A board with a battery and a thermal zone, in a directory that a test can change.
fn small_board() -> TempDir {
    let board = TempDir::new();
    board.write("proc/sys/kernel/hostname", "edge-01\n");
    for (file, content) in [
        ("type", "USB\n"),
        ("online", "1\n"),
        ("voltage_now", "5000000\n"),
        ("current_now", "2000000\n"),
    ] {
        board.write(&format!("sys/class/power_supply/usb/{file}"), content);
    }
    board.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
    board.write("sys/class/thermal/thermal_zone0/temp", "41500\n");
    board
}

fn start(board: &TempDir, config: &str) -> Exporter {
    let config = board.write("config.yaml", config);
    let mut command = exporter();
    on_board(&mut command, board.path());
    let exporter = Exporter::start(command.arg("--config").arg(config));
    wait_until("a source is up", || {
        exporter
            .scrape()
            .contains("exporter_source_up{source=\"thermal\"} 1")
            .then_some(())
    });
    exporter
}

const TEMPERATURE: &str = "temperature_celsius{device_type=\"generic\",hostname=\"edge-01\",sensor=\"cpu\",source=\"thermal\"}";

#[test]
fn scrape_does_not_read_meters() {
    let board = small_board();
    let exporter = start(&board, "device_type: generic\ninterval: 86400\n");
    wait_until("the only poll", || exporter.value(TEMPERATURE));
    std::fs::remove_dir_all(board.path().join("sys")).unwrap();
    assert_eq!(exporter.value(TEMPERATURE), Some(41.5));
}

#[test]
fn blocked_source_does_not_delay_a_scrape() {
    let board = small_board();
    board.write("tegrastats.txt", "VDD_IN 1000/1000\n");
    let config = board.write("config.yaml", "device_type: jetson_orin\ninterval: 0.1\n");
    let mut command = exporter();
    on_board(&mut command, board.path());
    command
        .env("TEGRASTATS_MODE", "silent")
        .arg("--config")
        .arg(config);
    let exporter = Exporter::start(&mut command);
    // The program prints one line and then nothing: the source's thread is blocked in a read from now on.
    let total = "power_total_watts{device_type=\"jetson_orin\",hostname=\"edge-01\"}";
    wait_until("the only line", || exporter.value(total));
    for _ in 0..100 {
        assert_eq!(exporter.value(total), Some(1.0));
    }
}

#[test]
fn changed_value_appears_in_a_scrape() {
    let board = small_board();
    let exporter = start(&board, "device_type: generic\ninterval: 0.01\n");
    board.write("sys/class/thermal/thermal_zone0/temp", "50000\n");
    wait_until("the new temperature", || {
        (exporter.value(TEMPERATURE) == Some(50.0)).then_some(())
    });
}

#[test]
fn energy_is_power_integrated_over_time() {
    let board = small_board();
    let exporter = start(&board, "device_type: generic\ninterval: 0.01\n");
    let energy = "energy_joules_total{device_type=\"generic\",hostname=\"edge-01\",rail=\"usb\",source=\"power_supply\"} ";
    // With the times of the readings, so that the time of the scrape does not matter.
    let mut readings: Vec<(f64, f64)> = Vec::new();
    let seconds = wait_until("half a second of readings", || {
        let text = get(exporter.metrics, "/multirate").text();
        let lines = text.lines().filter_map(|line| line.strip_prefix(energy));
        readings.extend(lines.map(|line| {
            let (joules, ms) = line.split_once(' ').unwrap();
            let ms: f64 = ms.parse().unwrap();
            (joules.parse::<f64>().unwrap(), ms / 1000.0)
        }));
        let seconds = readings.last()?.1 - readings.first()?.1;
        (seconds >= 0.5).then_some(seconds)
    });
    let joules = readings.last().unwrap().0 - readings.first().unwrap().0;
    let watts = joules / seconds;
    assert!((9.9..10.1).contains(&watts), "10 W were counted as {watts}");
}

#[test]
fn metrics_setting_selects_the_exported_families() {
    let board = small_board();
    let exporter = start(
        &board,
        "device_type: generic\nmetrics:\n  power_total_watts: true\n  power_watts: false\n",
    );
    wait_until("the total", || {
        exporter.value("power_total_watts{device_type=\"generic\",hostname=\"edge-01\"}")
    });
    let text = exporter.scrape();
    let foreign: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| !line.starts_with("exporter_") && !line.starts_with("process_"))
        .collect();
    assert_eq!(foreign.len(), 1, "{foreign:?}");
}

#[test]
fn sighup_reloads_and_an_invalid_file_is_ignored() {
    let board = small_board();
    let mut exporter = start(&board, "device_type: generic\ninterval: 0.05\n");
    let energy = "energy_joules_total{device_type=\"generic\",hostname=\"edge-01\",rail=\"usb\",source=\"power_supply\"}";
    wait_until("some energy", || {
        exporter.value(energy).filter(|joules| *joules > 1.0)
    });

    board.write("config.yaml", "device_type: generic\ninterval: fast\n");
    exporter.signal(Signal::SIGHUP);
    let line = exporter.wait_for_log("the configuration remains unchanged");
    assert!(line.contains("config.yaml:2:11"), "{line}");
    // The log line may come a moment before.
    wait_until("the metric says so", || {
        let good = exporter.value("exporter_config_last_reload_successful");
        (good == Some(0.0)).then_some(())
    });
    assert_eq!(exporter.value(TEMPERATURE), Some(41.5));

    board.write(
        "config.yaml",
        "device_type: generic\ninterval: 0.04\nmetrics:\n  energy_joules_total: true\n",
    );
    exporter.signal(Signal::SIGHUP);
    exporter.wait_for_log("configuration reloaded");
    // The log line may come a moment before.
    wait_until("the metric says so", || {
        let good = exporter.value("exporter_config_last_reload_successful");
        (good == Some(1.0)).then_some(())
    });
    assert_eq!(exporter.value(TEMPERATURE), None);
    let joules = wait_until("the energy goes on", || exporter.value(energy));
    assert!(
        joules > 1.0,
        "a changed interval must not reset the energy: {joules}"
    );
}

#[test]
fn reload_moves_one_port_and_keeps_the_other() {
    let board = small_board();
    let config = board.write(
        "config.yaml",
        "device_type: generic\nlisten_address: 127.0.0.1\nport: 0\nreload_port: 0\n",
    );
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    on_board(&mut command, board.path());
    command
        .stderr(std::process::Stdio::piped())
        .arg("--config")
        .arg(config);
    let mut exporter = Exporter::start(&mut command);
    let (before, management) = (exporter.metrics, exporter.management);
    let free = FreePort::new();
    board.write(
        "config.yaml",
        &format!(
            "device_type: generic\nlisten_address: 127.0.0.1\nport: {}\nreload_port: 0\n",
            free.number()
        ),
    );
    assert_eq!(
        request(management, "POST", "/reload", &[]).text(),
        "Config reload triggered\n"
    );
    exporter.wait_for_log("configuration reloaded");
    exporter.metrics = free.address();
    assert!(exporter.scrape().contains("exporter_build_info"));
    assert!(std::net::TcpStream::connect(before).is_err());
    assert_eq!(get(management, "/reload").status, 405);
}

#[test]
fn sigterm_and_sigint_stop_the_exporter_and_its_children() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        stops_with_its_children(signal);
    }
}

/// The interval is an hour: an exporter that waited for its next poll would not stop in time.
fn stops_with_its_children(signal: Signal) {
    let board = small_board();
    board.write("tegrastats.txt", "VDD_IN 1000/1000\n");
    let config = board.write("config.yaml", "device_type: jetson_orin\ninterval: 3600\n");
    let mut command = exporter();
    on_board(&mut command, board.path());
    let mut exporter = Exporter::start(command.arg("--config").arg(config));
    let pid = exporter.child.id();
    let child = wait_until("tegrastats runs", || child_of(pid));
    exporter.signal(signal);
    let status = wait_until("it ends", || exporter.child.try_wait().unwrap());
    assert!(status.success(), "{status}");
    // Orphans are reaped by init, which may take a while.
    let group = Pid::from_raw(-child);
    wait_until("its children are gone", || kill(group, None).err());
}

/// The process group of a child of `pid`: every child has one of its own.
fn child_of(pid: u32) -> Option<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let all: String = children.chain(std::fs::read_to_string(path).ok()).collect();
    all.split_whitespace().next()?.parse().ok()
}

#[test]
fn exposition_format_is_negotiated() {
    let board = small_board();
    let exporter = start(&board, "device_type: generic\n");
    let ask = |headers: &[(&str, &str)]| request(exporter.metrics, "GET", "/metrics", headers);
    let text = ask(&[]);
    assert_eq!(
        text.header("Content-Type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(!text.text().contains("# EOF"));
    let open = ask(&[("Accept", "application/openmetrics-text; version=1.0.0")]);
    assert_eq!(
        open.header("Content-Type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().ends_with("# EOF\n"));
    let on_two_lines = ask(&[
        ("Accept", "text/plain;q=0.5"),
        ("Accept", "application/openmetrics-text"),
    ]);
    assert!(on_two_lines.text().ends_with("# EOF\n"));
    let packed = ask(&[("Accept-Encoding", "gzip")]);
    if cfg!(feature = "gzip") {
        assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
        assert_eq!(packed.body[..2], [0x1f, 0x8b]);
        assert!(packed.body.len() * 2 < text.body.len());
    } else {
        assert_eq!(packed.header("Content-Encoding"), None);
    }
    let head = request(exporter.metrics, "HEAD", "/metrics", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(
        head.header("Content-Length")
            .unwrap()
            .parse::<usize>()
            .unwrap()
            > 1000
    );
}

#[test]
fn scrape_can_be_restricted_by_name() {
    let board = small_board();
    let exporter = start(&board, "device_type: generic\n");
    let names = |query: &str, accept: &str| {
        let path = format!("/metrics?{query}");
        let answer = request(exporter.metrics, "GET", &path, &[("Accept", accept)]);
        assert_eq!(answer.status, 200);
        let text = answer.text();
        let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
        let names = types.map(|l| l.split(' ').next().unwrap().to_string());
        (names.collect::<Vec<_>>(), text.ends_with("# EOF\n"))
    };
    let both = "name[]=temperature_celsius&name%5B%5D=process_open_fds";
    assert_eq!(
        names(both, ""),
        (
            vec!["temperature_celsius".into(), "process_open_fds".into()],
            false
        )
    );
    let (counter, ended) = names(
        "name[]=process_cpu_seconds_total",
        "application/openmetrics-text",
    );
    assert_eq!((counter, ended), (vec!["process_cpu_seconds".into()], true));
    assert_eq!(names("name[]=nobody", ""), (vec![], false));
    assert!(names("name=temperature_celsius", "").0.len() > 10);
}

#[test]
fn unknown_paths_and_methods_get_a_helpful_error() {
    let board = small_board();
    let exporter = start(&board, "device_type: generic\n");
    let page = get(exporter.metrics, "/");
    assert!(page.text().contains("href=\"/metrics\""));
    let missing = get(exporter.metrics, "/metric");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("/metrics"));
    let wrong = request(exporter.metrics, "DELETE", "/metrics", &[]);
    assert_eq!(
        (wrong.status, wrong.header("Allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(get(exporter.management, "/nothing").status, 404);
}

#[test]
fn port_in_use_is_reported() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"))
        .args([
            "--web.listen-address",
            &address,
            "--web.management-address",
            "127.0.0.1:0",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains(&address) && error.contains("in use"),
        "{error}"
    );
    // Who has it: this test.
    let holder = format!("process {}, has the port", std::process::id());
    assert!(error.contains(&holder), "{error}");
}

#[test]
fn check_config_reports_the_result_or_the_error() {
    let board = small_board();
    let check = |content: &str| {
        let file = board.write("checked.yaml", content);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
        on_board(&mut command, board.path());
        let output = command.arg("check-config").arg(file).output().unwrap();
        (output.status.code(), output)
    };
    let (status, output) = check("device_type: generic\ninterval: 0.5\n");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(status, Some(0), "{text}");
    for part in [
        "interval: 0.5 s",
        "source thermal:",
        "source power_supply:",
        "hostname: edge-01",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    for line in text.lines() {
        let times = text.lines().filter(|other| *other == line).count();
        assert_eq!(times, 1, "{line:?} is said again in\n{text}");
    }
    let (status, output) = check("interval: -1\n");
    assert_eq!(status, Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("checked.yaml:1:11"), "{text}");
    let missing = Path::new("/nonexistent/config.yaml");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"))
        .arg("check-config")
        .arg(missing)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// The board type that was detected, whatever the file says.
#[test]
fn check_config_reports_the_board_type() {
    let dir = TempDir::new();
    for (content, line) in [
        (
            "device_type: jetson_orin\n",
            "device_type: jetson_orin (raspberry_pi on this board, model Raspberry Pi 4 ",
        ),
        (
            "interval: 1\n",
            "device_type: auto (raspberry_pi on this board, model Raspberry Pi 4 ",
        ),
    ] {
        let file = dir.write("checked.yaml", content);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
        let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/raspberry_pi_4");
        on_board(&mut command, &board);
        let output = command.arg("check-config").arg(file).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
}

/// Names that nothing has are probably mistyped, and have no effect.
#[test]
fn check_config_fails_for_unknown_names_unless_lenient() {
    let dir = TempDir::new();
    let check = |content: &str, more: &[&str]| {
        let file = dir.write("checked.yaml", content);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
        on_board(&mut command, dir.path());
        command.arg("check-config").arg(file).args(more);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    for (content, warning) in [
        (
            "intervall: 1\n",
            "checked.yaml:1:1: unknown key `intervall`: did you mean `interval`?",
        ),
        (
            "metrics:\n  power_wats: true\n",
            "checked.yaml:2:3: unknown metric `power_wats`: did you mean `power_watts`?",
        ),
        (
            "sources: [termal]\n",
            "checked.yaml:1:11: unknown source \"termal\" in `sources`: did you mean `thermal`?",
        ),
    ] {
        let (status, said) = check(content, &[]);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains(warning), "{warning} is not in\n{said}");
        assert!(said.contains("--lenient accepts them"), "{said}");
        assert!(!said.contains("checked.yaml: good"), "{said}");
        let (status, said) = check(content, &["--lenient"]);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains(warning), "{warning} is not in\n{said}");
        assert!(said.contains("checked.yaml: good"), "{said}");
    }
    for (content, what) in [
        ("metrics: {}\n", "metrics: none but the exporter's own\n"),
        (
            "metrics: {}\nself_metrics: false\n",
            "`metrics` is empty: nothing is exported; remove the key",
        ),
        (
            "metrics: {}\nself_metrics: false\n",
            "metrics: none: nothing is exported\n",
        ),
    ] {
        let (status, said) = check(content, &[]);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains(what), "{what} is not in\n{said}");
    }
}

/// A collector's file is recognised by keys that the exporter's file does not have.
#[test]
fn check_config_recognises_a_collector_file() {
    let dir = TempDir::new();
    let check = |content: &str| {
        let file = dir.write("checked.yaml", content);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
        let output = command.arg("check-config").arg(file).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (status, said) = check("prometheus: {url: http://p:9090}\ninterval: 5\nkeep: {node: 3}\n");
    assert_eq!(status, Some(2), "{said}");
    for part in [
        "checked.yaml has unknown names",
        "checked.yaml:3:8: unknown key `keep.node`: did you mean `nodes`?",
        "prometheus: http://p:9090\n",
        "interval: 5 s\n",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert!(!said.contains("device_type"), "{said}");
    let (status, said) = check("streams: {clients: -1}\n");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("checked.yaml:1:20"), "{said}");
    for exporters in ["interval: 5\nport: 9200\n", "metrics: {}\nprometheus: {}\n"] {
        let (_, said) = check(exporters);
        assert!(said.contains("device_type"), "{said}");
    }
    let template = std::fs::read_to_string("collector.yaml.template").unwrap();
    let (_, said) = check(&template);
    assert!(said.contains("good, for `collect`"), "{said}");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    let missing = ["collect", "--config", "/nonexistent/collector.yaml"];
    let output = command.args(missing).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("(copy collector.yaml.template there"),
        "{said}"
    );
    assert!(!said.contains("LOCAL_CONFIG_PATH"), "{said}");
}

#[test]
fn check_config_checks_client_credential_files() {
    let temp = TempDir::new();
    let check = |content: &str| {
        let file = temp.write("checked.yaml", content);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
        command
            .env_remove("CONFIG_SERVER_URL")
            .env_remove("CONFIG_TIMEOUT");
        on_board(&mut command, temp.path());
        let output = command.arg("check-config").arg(file).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let password = temp.write("password", "s3cret\n");
    let login = |file: &Path| {
        let file = file.display();
        check(&format!(
            "config_server: {{url: 'http://a:8080,http://b:8080', basic_auth: {{username: me, password_file: {file}}}}}\n\
             remote_write: [{{url: 'http://c/write', basic_auth: {{username: me, password_file: {file}}}}}]\n"
        ))
    };
    let good = login(&password);
    for line in [
        "config_server: http://a:8080\n",
        "config_server: http://b:8080\n",
    ] {
        assert!(good.contains(line), "{good}");
    }
    assert!(
        !good.contains("cannot read") && !good.contains("s3cret"),
        "{good}"
    );
    let bad = login(&temp.path().join("missing"));
    let complaints = bad.lines().filter(|line| line.contains("cannot read"));
    let of_whom: Vec<_> = complaints
        .filter_map(|line| line.split([':', ' ']).next())
        .collect();
    assert_eq!(
        of_whom,
        ["remote_write", "config_server", "config_server"],
        "{bad}"
    );
    #[cfg(feature = "tls")]
    {
        let text = check(
            "config_server: {url: 'https://a', tls_config: {ca_file: /nonexistent/ca.pem}}\n",
        );
        assert!(
            text.contains("config_server: cannot read /nonexistent/ca.pem"),
            "{text}"
        );
    }
}

#[test]
fn invalid_command_line_is_refused() {
    for arguments in [
        &["--nonsense"][..],
        &["fly"],
        &["run", "fast"],
        &["--log.level", "loud"],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn demo_values_change_and_its_files_are_removed() {
    // A killed demo leaves its files behind, and process ids are reused.
    let place = TempDir::new();
    let exporter = Exporter::start(exporter().arg("demo").env("TMPDIR", place.path()));
    let total = "power_total_watts{device_type=\"jetson_orin\",hostname=\"demo\"}";
    let first = wait_until("the total", || exporter.value(total));
    wait_until("it moves", || {
        exporter.value(total).filter(|watts| *watts != first)
    });
    wait_until("every source is up", || {
        let text = exporter.scrape();
        let up = text
            .lines()
            .filter(|l| l.starts_with("exporter_source_up"))
            .collect::<Vec<_>>();
        (up.len() == 6 && up.iter().all(|line| line.ends_with(" 1"))).then_some(())
    });
    let dir = format!("edge-metrics-demo-{}", exporter.child.id());
    let dir = place.path().join(dir);
    assert!(dir.exists());
    let (status, _, _) = exporter.stop();
    assert!(status.success());
    assert!(!dir.exists());
}

/// Without a board, a configuration (such as remote write) can be tried on the demo.
#[test]
fn demo_accepts_a_configuration() {
    let place = TempDir::new();
    let path = place.write("c.yaml", "hostname: mine\nsources: [rapl, tegrastats]\n");
    let mut command = exporter();
    command.arg("demo").arg("--config").arg(path);
    let exporter = Exporter::start(command.env("TMPDIR", place.path()));
    let total = "power_total_watts{device_type=\"jetson_orin\",hostname=\"mine\"}";
    wait_until("the total", || exporter.value(total));
    assert!(!exporter.scrape().contains("source=\"hwmon\""));
}

/// The demo's configuration is an ordinary one: it is reported, watched and reloaded.
#[test]
fn demo_reports_and_reloads_its_file() {
    let place = TempDir::new();
    let path = place.write(
        "c.yaml",
        "hostname: one\nwatch: true\njetson: {tegrastats: /nowhere/tegrastats}\n",
    );
    let mut command = exporter();
    command.arg("demo").arg("--config").arg(&path);
    let exporter = Exporter::start(command.env("TMPDIR", place.path()));
    let total = |host: &str| {
        format!("power_total_watts{{device_type=\"jetson_orin\",hostname=\"{host}\"}}")
    };
    wait_until("the total", || exporter.value(&total("one")));
    let health = get(exporter.management, "/health").text();
    assert!(health.contains(path.to_str().unwrap()), "{health}");
    place.write("c.yaml", "hostname: another\n");
    wait_until("the changed file is in force", || {
        exporter.value(&total("another"))
    });
}

#[test]
fn demo_follows_the_config_server_of_its_file() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = TempDir::new();
    let url = format!("http://{}", server.local_addr().unwrap());
    let path = place.write("c.yaml", &format!("config_server: {{url: '{url}'}}\n"));
    let mut command = exporter();
    command.arg("demo").arg("--config").arg(path);
    let _exporter = Exporter::start(command.env("TMPDIR", place.path()));
    let (stream, _) = server.accept().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).unwrap();
    assert!(line.starts_with("GET /") && line.contains("demo"), "{line}");
}
