//! Standard error is a full pipe that nobody reads: the program keeps working, and counts the lines that it drops.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::sys::signal::{kill, Signal};
use nix::unistd::{pipe2, Pid};
use support::free_port::FreePort;
use support::{get, on_board, try_get, value, wait_until, TempDir};

/// What the pipe is filled with.
const BEFORE: u8 = b'.';

/// The read end and the write end.
fn pipe() -> (File, File) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    (File::from(reader), File::from(writer))
}

/// A full pipe: a write to it blocks.
fn full_pipe() -> (File, File) {
    let (reader, mut writer) = pipe();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[BEFORE; 4096]).is_ok() {}
    while writer.write(&[BEFORE]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

/// A running role whose log nobody reads. It is killed when this is dropped.
struct Unread {
    child: Child,
    address: SocketAddr,
    /// The address of its metrics.
    path: &'static str,
    log: Option<File>,
    _port: FreePort,
}

impl Unread {
    /// Starts a role and waits until it answers.
    fn start(arguments: &[&str], more: impl FnOnce(&mut Command)) -> Unread {
        let port = FreePort::new();
        let (log, stderr) = full_pipe();
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
        command
            .args(arguments)
            .args(["--web.listen-address", &port.address().to_string()])
            .env_remove("LOCAL_CONFIG_PATH")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        more(&mut command);
        let unread = Unread {
            child: command.spawn().unwrap(),
            address: port.address(),
            path: match arguments {
                ["collect", ..] => "/metrics/self",
                _ => "/metrics",
            },
            log: Some(log),
            _port: port,
        };
        wait_until(&format!("{arguments:?} answers"), || {
            try_get(unread.address, unread.path).filter(|answer| answer.status == 200)
        });
        unread
    }

    fn value(&self, series: &str) -> Option<f64> {
        value(&get(self.address, self.path).text(), series)
    }

    fn dropped(&self) -> f64 {
        self.value("exporter_log_dropped_lines_total").unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Asks it to stop, and waits for its end.
    fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        wait_until("it ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A board with one sensor, and a configuration file whose long name makes long log lines.
fn board() -> (TempDir, String) {
    let board = TempDir::new();
    board.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
    board.write("sys/class/thermal/thermal_zone0/temp", "41500\n");
    let place = ["x".repeat(250).as_str(); 8].join("/");
    let config = format!("{place}/config.yaml");
    board.write(&config, "interval: 0.02\nhostname: before\n");
    (board, config)
}

fn on(board: &TempDir, config: &str, command: &mut Command) {
    on_board(command, board.path());
    command
        .args(["--web.management-address", "127.0.0.1:0", "--config"])
        .arg(board.path().join(config));
}

/// Reloads with another hostname each time until `done`. Every reload takes effect.
fn reload_until(unread: &Unread, board: &TempDir, config: &str, done: impl Fn() -> bool) {
    for n in 0..1000 {
        if done() {
            return;
        }
        board.write(config, &format!("interval: 0.02\nhostname: name-{n}\n"));
        unread.signal(Signal::SIGHUP);
        let name = format!("hostname=\"name-{n}\"");
        wait_until("the reload is in force", || {
            let text = get(unread.address, "/metrics").text();
            text.contains(&name).then_some(())
        });
    }
    panic!("it does not come to that");
}

#[test]
fn scrapes_readings_reloads_and_shutdown_do_not_block_on_the_log() {
    let (board, config) = board();
    let mut unread = Unread::start(&["run"], |command| on(&board, &config, command));
    reload_until(&unread, &board, &config, || unread.dropped() > 0.0);
    let temperature = |hot: &str| {
        board.write("sys/class/thermal/thermal_zone0/temp", hot);
        wait_until("the sensor is read", || {
            let text = get(unread.address, "/metrics").text();
            text.contains(&format!(" {}.5\n", &hot[..2])).then_some(())
        });
    };
    temperature("42500\n");
    temperature("43500\n");
    assert!(unread.stop().success());
}

#[test]
fn late_reader_gets_the_kept_lines_and_the_number_of_dropped_ones() {
    let (board, config) = board();
    let mut unread = Unread::start(&["run"], |command| on(&board, &config, command));
    reload_until(&unread, &board, &config, || unread.dropped() >= 3.0);
    let dropped = unread.dropped();
    let mut pipe = unread.log.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    });
    // Later lines are written again, and none is dropped. Every reload has ended before the exporter is stopped.
    let before = std::cell::Cell::new(f64::NAN);
    reload_until(&unread, &board, &config, || {
        let now = unread.dropped();
        before.replace(now) == now
    });
    let dropped_in_all = unread.dropped();
    assert!(dropped_in_all >= dropped);
    assert!(unread.stop().success());
    let text = reader.join().unwrap();
    let log = text.trim_start_matches(char::from(BEFORE));
    let lines: Vec<_> = log.lines().collect();
    let listening = lines
        .iter()
        .position(|l| l.contains("metrics: listening on"));
    let note = lines.iter().position(|l| l.contains(" dropped: standard"));
    assert!(listening.unwrap() < note.unwrap(), "{log}");
    let said: f64 = lines
        .iter()
        .filter(|l| l.contains(" dropped: standard"))
        .map(|l| l.split(' ').nth(1).unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(said, dropped_in_all);
    assert!(
        lines
            .iter()
            .all(|l| l.starts_with("info: ") || l.starts_with("warn: ")),
        "{log}"
    );
}

#[test]
fn every_server_role_starts_answers_and_stops_with_a_full_log_pipe() {
    let store = TempDir::new();
    let collector = TempDir::new();
    let collector = collector.write(
        "c.yaml",
        "prometheus: {url: 'http://127.0.0.1:1', timeout: 1}\ninterval: 1\nnamespace: ns\n",
    );
    let store_path = store.path().to_str().unwrap();
    for arguments in [
        ["config-server", "--store", store_path],
        ["collect", "--config", collector.to_str().unwrap()],
        ["demo", "--web.management-address", "127.0.0.1:0"],
    ] {
        let mut unread = Unread::start(&arguments, |command| {
            command
                .env("TMPDIR", store.path())
                .envs(["PROMETHEUSSERVER", "UPDATE_INTERVAL", "NAMESPACE"].map(|name| (name, "")))
                .env_remove("KUBERNETES_SERVICE_HOST");
        });
        unread.signal(Signal::SIGHUP);
        assert_eq!(unread.dropped(), 0.0, "{arguments:?}");
        assert!(unread.stop().success(), "{arguments:?}");
    }
}

#[test]
fn failing_command_exits_and_reports_the_error_when_the_log_is_read() {
    for readable in [true, false] {
        let (reader, stderr) = match readable {
            true => pipe(),
            false => full_pipe(),
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"))
            .args(["run", "--config", "/nonexistent/config.yaml"])
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let status = wait_until("it ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(1));
        if readable {
            let mut reader = reader;
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let last = text.lines().last().unwrap();
            assert!(last.starts_with("edge-metrics-exporter: "), "{text}");
            assert!(last.contains("/nonexistent/config.yaml"), "{text}");
        }
    }
}

#[test]
fn closed_log_or_full_disk_stops_nothing() {
    let (board, config) = board();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut unread = Unread::start(&["run"], |command| {
        on(&board, &config, command);
        command.stderr(full);
    });
    wait_until("what is lost is counted", || {
        (unread.dropped() >= 1.0).then_some(())
    });
    assert!(unread.stop().success());

    let mut unread = Unread::start(&["run"], |command| on(&board, &config, command));
    drop(unread.log.take());
    wait_until("what is lost is counted", || {
        (unread.dropped() >= 1.0).then_some(())
    });
    assert!(unread.stop().success());
}
