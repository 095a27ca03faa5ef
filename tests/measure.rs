//! `measure`: what commands used, with the meters of fixture boards, and through running exporters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_support;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{kill, killpg, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use support::{binary, exporter, get, on_board, wait_until, Exporter, TempDir};

/// The power of the fixture board, in watts.
const WATTS: f64 = 7.675;

fn board(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/boards")
        .join(name)
}

/// `measure` of this command, without looking at the idle board.
fn measure(arguments: &[&str], command: &[&str]) -> Command {
    let mut measure = Command::new(binary());
    measure
        .env_remove("LOCAL_CONFIG_PATH")
        .env_remove("RUST_LOG")
        .args(["measure", "--idle", "0"]);
    measure
        .stdin(Stdio::null())
        .args(arguments)
        .arg("--")
        .args(command);
    measure
}

/// The same with the meters of a fixture board.
fn on(board: &Path, arguments: &[&str], command: &[&str]) -> Command {
    let mut options = Command::new("options");
    on_board(&mut options, board);
    let mut all: Vec<_> = options.get_args().map(|a| a.to_str().unwrap()).collect();
    all.extend(arguments);
    measure(&all, command)
}

/// The same, whose report is JSON on standard output.
fn json_on(board: &Path, arguments: &[&str], command: &[&str]) -> (Value, Output) {
    let arguments = [&["--json", "-"], arguments].concat();
    let output = on(board, &arguments, command).output().unwrap();
    (report(&output), output)
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// The board's total in a run.
fn total(run: &Value) -> &Value {
    let rails = run["rails"].as_array().unwrap();
    let total = rails.iter().find(|rail| rail["source"].is_null());
    total.unwrap_or_else(|| panic!("{run}"))
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

/// Whether a rail's joules are those of the board's power over the time that the run took, within a thousandth.
fn assert_all_of(run: &Value, rail: &Value) {
    let expected = WATTS * float(&run["seconds"]);
    let error = (float(&rail["joules"]) - expected).abs() / expected;
    assert!(error < 1e-3, "{run}");
}

#[test]
fn every_rail_has_joules_and_the_report_goes_to_standard_error() {
    let arguments = ["--idle", "0.1", "--interval", "0.01"];
    let output = on(&board("ina226_hwmon"), &arguments, &["echo", "hello"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"hello\n");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("echo hello: "), "{text}");
    let lines = text
        .lines()
        .filter(|l| l.starts_with("board ") || l.starts_with("hwmon "));
    assert_eq!(
        lines.filter(|line| line.contains(" 7.675")).count(),
        2,
        "{text}"
    );
    assert!(text.contains("J above idle"), "{text}");
}

#[test]
fn command_longer_than_the_interval_is_measured_within_a_thousandth() {
    let arguments = ["--idle", "0.2", "--interval", "0.01", "--repeat", "3"];
    let (report, output) = json_on(&board("ina226_hwmon"), &arguments, &["sleep", "0.3"]);
    assert!(output.status.success(), "{output:?}");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for run in runs {
        assert_all_of(run, total(run));
        assert!(float(&run["seconds"]) >= 0.3);
        assert!(
            float(&total(run)["joules_above_idle"]).abs() < 1e-2,
            "{run}"
        );
        assert_eq!(total(run)["peak_watts"], WATTS);
    }
    let mean = &report["mean"];
    assert!((float(&total(mean)["mean_watts"]["mean"]) - WATTS).abs() < 1e-3);
    assert!(float(&total(mean)["mean_watts"]["interval_95"]) < 1e-3);
}

#[test]
fn command_shorter_than_the_interval_says_what_is_uncertain() {
    let (report, output) = json_on(&board("ina226_hwmon"), &["--interval", "0.5"], &["true"]);
    assert!(output.status.success(), "{output:?}");
    let run = &report["runs"][0];
    let total = total(run);
    assert_all_of(run, total);
    // A slow machine may take longer for the command than one interval.
    if total["readings"] == 0 {
        assert_eq!(total["joules_at_least"], 0.0);
        assert_eq!(total["peak_watts"], Value::Null);
        let notes = report["notes"].to_string();
        assert!(
            notes.contains("shorter than the time between two readings"),
            "{notes}"
        );
    }
    assert!(float(&total["joules_at_most"]) > float(&total["joules"]));
    assert_eq!(
        total["joules_above_idle"],
        Value::Null,
        "idle was not measured"
    );
}

#[test]
fn what_the_command_makes_the_board_draw_is_above_idle() {
    let temp = TempDir::new();
    temp.write("sys/class/hwmon/hwmon0/name", "ina226\n");
    temp.write("sys/class/hwmon/hwmon0/in1_input", "5000\n");
    let power = temp.write("sys/class/hwmon/hwmon0/power1_input", " 5000000\n");
    // The file is overwritten in place, with as many bytes.
    let load = format!(
        "echo 20000000 | dd of={0} conv=notrunc status=none; sleep 0.5; \
         echo ' 5000000' | dd of={0} conv=notrunc status=none",
        power.display()
    );
    let (report, _) = json_on(temp.path(), &["--idle", "0.2"], &["sh", "-c", &load]);
    let run = &report["runs"][0];
    let total = total(run);
    let above = float(&total["joules_above_idle"]);
    assert!(
        above > 15.0 * 0.4 && above < 15.0 * float(&run["seconds"]),
        "{run}"
    );
    assert_eq!(total["peak_watts"], 20.0);
    let idle = float(&report["idle"]["rails"][0]["watts"]);
    assert!((idle - 5.0).abs() < 1e-6, "{idle}");
}

#[test]
fn exit_status_is_the_commands_own() {
    let board = board("ina226_hwmon");
    let run = |command: &[&str]| on(&board, &[], command).output().unwrap();
    let failed = run(&["sh", "-c", "exit 7"]);
    assert_eq!(failed.status.code(), Some(7));
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(
        text.contains("exit status 7") && text.contains("board "),
        "{text}"
    );
    let killed = run(&["sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
    let text = String::from_utf8(killed.stderr).unwrap();
    assert!(text.contains("killed by signal 9"), "{text}");
    let missing = run(&["no-such-program-anywhere"]);
    assert_eq!(missing.status.code(), Some(127));
    let text = String::from_utf8(missing.stderr).unwrap();
    assert!(
        text.contains("cannot run no-such-program-anywhere: "),
        "{text}"
    );
    assert_eq!(run(&["/etc/passwd"]).status.code(), Some(126));
    // What only the start finds out.
    let temp = TempDir::new();
    for (content, why) in [
        ("#!/no/such/interpreter\n", "its interpreter"),
        ("\u{7f}ELF nonsense", "exec format error"),
    ] {
        let script = temp.write("script", content);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        let refused = run(&[script.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(126));
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn run_that_fails_is_the_last_one() {
    let temp = TempDir::new();
    let count = temp.path().join("count");
    let command = format!("echo x >> {0}; [ $(wc -l < {0}) -lt 2 ]", count.display());
    let arguments = ["--repeat", "5"];
    let (report, output) = json_on(&board("ina226_hwmon"), &arguments, &["sh", "-c", &command]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["runs"].as_array().unwrap().len(), 2);
    assert!(
        report["notes"].to_string().contains("run 2 of 5"),
        "{report}"
    );
}

#[test]
fn command_has_input_outputs_and_signals_of_its_own() {
    let script = "cat; head -c 3000000 /dev/zero; echo err >&2; grep SigBlk /proc/self/status >&2";
    let mut command = on(
        &board("ina226_hwmon"),
        &["--csv", "/dev/null"],
        &["sh", "-c", script],
    );
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hello").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.stderr);
    assert_eq!(output.stdout.len(), 5 + 3_000_000);
    assert!(output.stdout.starts_with(b"hello\0"));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "err\nSigBlk:\t0000000000000000\n");
}

/// A loop of the shell that takes some CPU time, and writes how much to a file.
fn busy(file: &Path) -> String {
    format!(
        "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; times > {0}.new; mv {0}.new {0}",
        file.display()
    )
}

/// The user time in such a file, in seconds.
fn user_seconds(file: &Path) -> f64 {
    let text = std::fs::read_to_string(file).unwrap();
    let (minutes, rest) = text.split_once('m').unwrap();
    let (seconds, _) = rest.split_once('s').unwrap();
    minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
}

#[test]
fn cpu_time_is_that_of_all_descendants() {
    let temp = TempDir::new();
    let (ended, living) = (temp.path().join("ended"), temp.path().join("living"));
    let marker = temp.path().join("end");
    // One descendant is orphaned and ends, another one is in a session of its own and goes on after the command.
    let script = format!(
        "(sh -c '{}' &); (setsid sh -c '{}; while [ -e {4} ] && ! [ -e {2} ]; do sleep 0.05; done' </dev/null >/dev/null 2>&1 &); \
         while ! [ -e {3} -a -e {4} ]; do sleep 0.05; done",
        busy(&ended),
        busy(&living),
        marker.display(),
        ended.display(),
        living.display()
    );
    let mut command = on(
        &board("ina226_hwmon"),
        &["--json", "-"],
        &["sh", "-c", &script],
    );
    // Here the processors of this machine count.
    command = {
        let mut arguments: Vec<_> = command.get_args().map(|a| a.to_owned()).collect();
        let end = arguments.iter().position(|a| a == "--").unwrap();
        arguments.splice(end..end, ["--path.procfs".into(), "/proc".into()]);
        let mut changed = Command::new(binary());
        changed.args(arguments).env_remove("LOCAL_CONFIG_PATH");
        changed
    };
    // What goes on after the command does not keep this program from ending.
    let output = command.stderr(Stdio::null()).output();
    std::fs::write(&marker, "").unwrap();
    let output = output.unwrap();
    let report = report(&output);
    let run = &report["runs"][0];
    let expected = user_seconds(&ended) + user_seconds(&living);
    assert!(expected > 0.0);
    let counted = float(&run["cpu_seconds"]);
    assert!(counted >= expected - 0.02, "{counted} of {expected}");
    let share = float(&run["cpu_share"]);
    assert!(share > 0.0 && share <= 1.0, "{run}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("left behind"), "{notes}");
}

/// A command that was started, and its process group.
struct Started {
    child: std::process::Child,
    group: Pid,
}

impl Started {
    /// Starts `measure` in a process group of its own, and waits until its command runs this script.
    fn new(script: &str) -> Started {
        let temp = TempDir::new();
        let marker = temp.path().join("started");
        let script = format!("{script}; touch {}; sleep 600", marker.display());
        let script = script.replace("; sleep 600", "; exec sleep 600");
        let mut command = on(
            &board("ina226_hwmon"),
            &["--json", "-"],
            &["sh", "-c", &script],
        );
        let child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let group = Pid::from_raw(child.id() as i32);
        wait_until("the command runs", || marker.exists().then_some(()));
        Started { child, group }
    }

    fn end(self) -> Output {
        self.child.wait_with_output().unwrap()
    }
}

#[test]
fn interrupted_command_is_reported() {
    let started = Started::new("true");
    killpg(started.group, Signal::SIGINT).unwrap();
    let output = started.end();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report = report(&output);
    let run = &report["runs"][0];
    assert_eq!(
        (&run["signal"], &run["interrupted"]),
        (&2.into(), &true.into())
    );
    assert_all_of(run, total(run));
    // A signal for this program alone is passed on.
    let started = Started::new("true");
    kill(started.group, Signal::SIGTERM).unwrap();
    let output = started.end();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
}

#[test]
fn second_signal_does_not_wait_for_a_command_that_ignores_it() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        second_signal_ends_measuring(signal);
    }
}

fn second_signal_ends_measuring(signal: Signal) {
    let started = Started::new(&format!("trap '' {}", signal as i32));
    let group = started.group;
    kill(group, signal).unwrap();
    // A second one that came before the first one was received would be lost.
    wait_until("the first one is received", || {
        let status = std::fs::read_to_string(format!("/proc/{group}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("ShdPnd:")).unwrap();
        let pending = u64::from_str_radix(line.trim_start_matches("ShdPnd:").trim(), 16).unwrap();
        (pending >> (signal as u64 - 1) & 1 == 0).then_some(())
    });
    kill(group, signal).unwrap();
    let stopped = started.child.id();
    wait_until("it has ended", || {
        let stat = std::fs::read_to_string(format!("/proc/{stopped}/stat")).unwrap();
        stat.contains(") Z ").then_some(())
    });
    killpg(group, Signal::SIGKILL).unwrap();
    let output = started.end();
    assert_eq!(
        output.status.code(),
        Some(128 + signal as i32),
        "{output:?}"
    );
    let report = report(&output);
    assert_eq!(report["runs"][0]["exit_status"], Value::Null);
    assert!(
        report["notes"].to_string().contains("left behind"),
        "{report}"
    );
}

#[test]
fn nothing_is_run_where_nothing_measures() {
    let temp = TempDir::new();
    let marker = temp.path().join("run");
    let command = ["touch", marker.to_str().unwrap()];
    for board in ["empty_vm", "raspberry_pi_4"] {
        let output = on(&self::board(board), &[], &command).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("nothing here measures power"), "{text}");
        assert!(
            text.contains("can hang on a smart plug"),
            "doctor's words: {text}"
        );
        assert!(!marker.exists());
    }
}

#[test]
fn advice_where_nothing_measures_is_about_the_configured_meters() {
    let temp = TempDir::new();
    // Nobody listens on this port any more.
    let closed = support::free_port::FreePort::new().number();
    let config = temp.write(
        "config.yaml",
        &format!("shelly: {{host: \"127.0.0.1:{closed}\"}}\n"),
    );
    let arguments = ["--config", config.to_str().unwrap()];
    let output = on(&board("empty_vm"), &arguments, &["true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let (_, advice) = text.split_once("`doctor` says:").unwrap();
    assert!(advice.contains("refused"), "{text}");
    assert!(!advice.contains("set shelly.host"), "{text}");
}

#[test]
fn reports_for_programs_go_to_files() {
    let temp = TempDir::new();
    let csv = temp.path().join("report.csv");
    let arguments = ["--csv", csv.to_str().unwrap(), "--repeat", "2"];
    let output = on(&board("ina226_hwmon"), &arguments, &["true"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
    let text = std::fs::read_to_string(csv).unwrap();
    assert!(
        text.starts_with("run,source,rail,seconds,joules,"),
        "{text}"
    );
    assert_eq!(
        text.lines()
            .filter(|l| l.starts_with("2,\"\",board,") || l.starts_with("2,,board,"))
            .count(),
        1,
        "{text}"
    );
    for wrong in [
        vec!["--interval", "0"],
        vec!["--idle", "-1"],
        vec!["--repeat", "0"],
        vec!["--url", "http://x", "--interval", "1"],
        vec!["--http.config.file", "x"],
        vec!["--json", "-", "--csv", "-"],
    ] {
        let output = measure(&wrong, &["true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let output = Command::new(binary()).arg("measure").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn report_replaces_a_file_only_when_it_is_complete() {
    let temp = TempDir::new();
    let report = temp.write("report.json", "the one before");
    let marker = temp.path().join("run");
    let path = report.to_str().unwrap();
    let run = |board: &str, path: &str, command: &[&str]| {
        let output = on(&self::board(board), &["--json", path], command);
        { output }.output().unwrap()
    };
    // Nothing measures, or the command cannot be run: the file is as it was.
    let command = ["touch", marker.to_str().unwrap()];
    assert_eq!(run("empty_vm", path, &command).status.code(), Some(125));
    assert_eq!(
        run("ina226_hwmon", path, &["/etc/passwd"]).status.code(),
        Some(126)
    );
    assert_eq!(std::fs::read_to_string(&report).unwrap(), "the one before");
    // A place that takes no report is found out before the command is run.
    let nowhere = temp.path().join("no/such/report.json");
    let refused = run("ina226_hwmon", nowhere.to_str().unwrap(), &command);
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    assert!(!marker.exists());
    let output = run("ina226_hwmon", path, &["cat", path]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"the one before");
    let written = std::fs::read(&report).unwrap();
    assert!(serde_json::from_slice::<Value>(&written).is_ok());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn report_to_standard_output_under_another_name_is_after_the_commands_own() {
    let temp = TempDir::new();
    let file = temp.path().join("out");
    // A pipe.
    let (piped, file_output) = ("/dev/stdout", file.to_str().unwrap());
    let output = on(
        &board("ina226_hwmon"),
        &["--csv", piped],
        &["echo", "hello"],
    )
    .output()
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("hello\nrun,source,"), "{text}");
    // A file, by two names.
    for name in [piped, file_output] {
        let status = on(&board("ina226_hwmon"), &["--csv", name], &["echo", "hello"])
            .stdout(std::fs::File::create(&file).unwrap())
            .status()
            .unwrap();
        assert!(status.success());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("hello\nrun,source,"), "{name}: {text}");
    }
}

#[test]
fn report_that_cannot_be_written_is_on_standard_error() {
    for (script, status) in [("true", 125), ("exit 3", 3)] {
        let output = on(
            &board("ina226_hwmon"),
            &["--json", "/dev/full"],
            &["sh", "-c", script],
        )
        .output()
        .unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains("cannot write the report to /dev/full: no space"),
            "{text}"
        );
        assert!(text.contains("\nboard "), "{text}");
    }
}

#[test]
fn command_whose_reader_has_gone_ends_and_is_measured() {
    let temp = TempDir::new();
    let file = temp.path().join("report.json");
    let arguments = ["--json", file.to_str().unwrap()];
    let mut child = on(&board("ina226_hwmon"), &arguments, &["yes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    std::io::Read::read_exact(&mut output, &mut [0; 1_000_000]).unwrap();
    drop(output);
    // SIGPIPE.
    assert_eq!(child.wait().unwrap().code(), Some(128 + 13));
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(report["runs"][0]["signal"], 13);
    assert!(float(&total(&report["runs"][0])["joules"]) > 0.0);
}

/// An exporter of the fixture board.
fn running(interval: &str) -> Exporter {
    let temp = TempDir::new();
    let config = temp.write("config.yaml", &format!("interval: {interval}\n"));
    let mut command = exporter();
    on_board(&mut command, &board("ina226_hwmon"));
    Exporter::start(command.arg("--config").arg(config))
}

fn through(url: &str, arguments: &[&str], command: &[&str]) -> Output {
    let arguments = [&["--url", url, "--json", "-"], arguments].concat();
    measure(&arguments, command).output().unwrap()
}

#[test]
fn running_exporter_is_asked_and_its_consumers_lose_nothing() {
    let exporter = running("0.02");
    let url = format!("http://{}", exporter.metrics);
    let before = get(exporter.metrics, "/multirate").text();
    let output = through(&url, &["--idle", "0.2"], &["sleep", "0.5"]);
    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    let run = &report["runs"][0];
    // Times of samples are whole milliseconds: up to one is lost or won at each end, of the idle board's measurement, too.
    let millisecond = 0.001 * WATTS;
    let expected = WATTS * float(&run["seconds"]);
    let error = float(&total(run)["joules"]) - expected;
    assert!(error.abs() < 2.5 * millisecond, "{run}");
    let above = float(&total(run)["joules_above_idle"]);
    assert!(above.abs() < 10.0 * millisecond, "{run}");
    assert!(float(&run["cpu_seconds"]) >= 0.0);
    assert_eq!(report["interval_seconds"], Value::Null);
    // An unnamed consumer at the same address gets every sample that it has not had.
    let stamps = |text: &str| -> Vec<u64> {
        let lines = text.lines().filter(|l| l.starts_with("power_total_watts"));
        lines
            .map(|l| l.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect()
    };
    let (had, all) = (stamps(&before), get(exporter.metrics, "/multirate").text());
    let new = stamps(&all);
    assert!(new.first() > had.last(), "none twice");
    let gaps = new.windows(2).map(|pair| pair[1] - pair[0]);
    let covered = new.last().unwrap() - new.first().unwrap();
    assert!(
        covered >= 500,
        "{covered} ms, of gaps up to {:?}",
        gaps.max()
    );
}

/// A tunnel to this address, through which answers take so long.
fn slow_tunnel(to: std::net::SocketAddr, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    request.extend(byte);
                }
                let end = request.len() - 2;
                request.splice(end..end, *b"Connection: close\r\n");
                let mut exporter = TcpStream::connect(to)?;
                exporter.write_all(&request)?;
                let mut answer = Vec::new();
                exporter.read_to_end(&mut answer)?;
                std::thread::sleep(delay);
                stream.write_all(&answer)
            });
        }
    });
    url
}

#[test]
fn answers_that_come_late_lose_nothing() {
    let exporter = running("0.02");
    // Longer than the readings after the end are waited for where answers come at once.
    let url = slow_tunnel(exporter.metrics, Duration::from_millis(1500));
    let output = through(&url, &[], &["sleep", "0.5"]);
    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    let run = &report["runs"][0];
    let rail = total(run);
    // Begin and end fall into the same answer's time, so that they are uncertain alike: the power is constant.
    let error = float(&rail["joules"]) - WATTS * float(&run["seconds"]);
    assert!(error.abs() < 2.5 * 0.001 * WATTS, "{run}");
    let missing = float(&run["seconds"]) - float(&rail["measured_seconds"]);
    assert!(missing.abs() < 0.0025, "{run}");
    let notes = report["notes"].to_string();
    assert!(
        notes.contains("its clock is known to 0.8 s only"),
        "{notes}"
    );
    assert!(!notes.contains("not measured all the time"), "{notes}");
}

#[test]
fn board_that_cannot_be_measured_says_why() {
    let exporter = running("0.02");
    let closed = support::free_port::FreePort::new().number();
    let management = format!("http://{}", exporter.management);
    for (url, expected) in [
        (format!("http://127.0.0.1:{closed}"), "refused"),
        (management, "it has no /multirate"),
        ("ftp://board".to_string(), "--url ftp://board: "),
    ] {
        let output = through(&url, &[], &["true"]);
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn exporter_behind_a_login_is_asked_with_it() {
    let temp = TempDir::new();
    let web = temp.write("web.yml", &access_support::users(&["edge"]));
    let login = format!(
        "basic_auth: {{username: edge, password: {}}}\n",
        access_support::PASSWORD
    );
    let http = temp.write("http.yml", &login);
    let mut command = exporter();
    on_board(&mut command, &board("ina226_hwmon"));
    let exporter = Exporter::start(command.arg("--web.config.file").arg(web));
    let url = format!("http://{}/metrics", exporter.metrics);
    let output = through(&url, &[], &["true"]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--http.config.file FILE has one"), "{text}");
    let arguments = ["--http.config.file", http.to_str().unwrap()];
    let output = through(&url, &arguments, &["true"]);
    assert!(output.status.success(), "{output:?}");
    assert!(float(&total(&report(&output)["runs"][0])["joules"]) > 0.0);
}

#[test]
fn board_that_goes_away_costs_the_measurement_and_not_the_status() {
    let mut exporter = running("0.02");
    let url = format!("http://{}", exporter.metrics);
    let script = format!("kill -9 {}; exit 3", exporter.child.id());
    let output = through(&url, &[], &["sh", "-c", &script]);
    assert_eq!(exporter.child.wait().unwrap().signal(), Some(9));
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let report = report(&output);
    let notes = report["notes"].to_string();
    assert!(notes.contains("cannot be asked any more"), "{notes}");
}
