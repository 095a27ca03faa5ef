//! `power-exporter` and `udp-agent`, started like the original programs, alone and together.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
mod udp_support;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use support::free_port::FreePort;
use support::{exporter, get, on_board, request, wait_until, Exporter, TempDir};
use udp_support::{message, wait_for_charge, Device, CHARGE, CURRENT, LOCALHOST};

/// The sample of the original's README, for 304000 mAs and the float next below 1600 mA. The original's C library wrote
/// an empty line after each family, which no format requires.
const SAMPLE: &str = "\
# HELP powerexporter_power_consumption_ampere_seconds_total The total power consumption given in ampere-seconds.
# TYPE powerexporter_power_consumption_ampere_seconds_total counter
powerexporter_power_consumption_ampere_seconds_total 304
# HELP powerexporter_current_ampere The electric current given in ampere.
# TYPE powerexporter_current_ampere gauge
powerexporter_current_ampere 1.5999999046325684
";

fn power_exporter() -> Command {
    let mut command = exporter();
    command
        .arg("power-exporter")
        .env_remove("DEVICE_UDP_IP")
        .env_remove("DEVICE_UDP_PORT");
    command
}

#[test]
fn preset_exposition_equals_the_original() {
    let device = Device::new();
    let port = device.port().to_string();
    let exporter = Exporter::start(power_exporter().args(["127.0.0.1", &port]));
    let root = get(exporter.metrics, "/");
    assert_eq!((root.status, root.text().as_str()), (200, "OK\n"));
    let from = device.is_asked();
    let zeros = SAMPLE.replace("total 304", "total 0");
    let zeros = zeros.replace("1.5999999046325684", "0");
    assert_eq!(exporter.scrape(), zeros, "before the first answer");

    device.says(from, &message(1, 304_000.0, f32::from_bits(0x44c7_ffff)));
    wait_for_charge(&exporter, 304.0);
    let answer = get(exporter.metrics, "/metrics");
    assert_eq!(answer.text(), SAMPLE);
    let text = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.header("Content-Type"), Some(text));
    // The Accept header of a Prometheus server.
    let accept = (
        "Accept",
        "application/openmetrics-text;version=1.0.0,*/*;q=0.1",
    );
    let answer = request(exporter.metrics, "GET", "/metrics", &[accept]).text();
    let samples: Vec<_> = answer.lines().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(
        samples,
        SAMPLE
            .lines()
            .filter(|l| !l.starts_with('#'))
            .collect::<Vec<_>>()
    );
}

#[test]
fn arguments_take_precedence_over_the_environment() {
    let device = Device::new();
    let port = device.port().to_string();
    let mut by_flags = power_exporter();
    by_flags.args(["--device-ip", "127.0.0.1", "--device-port", &port]);
    let mut by_environment = power_exporter();
    by_environment
        .env("DEVICE_UDP_IP", "127.0.0.1")
        .env("DEVICE_UDP_PORT", &port);
    let mut by_both = power_exporter();
    by_both.args(["127.0.0.1", &port]);
    by_both
        .env("DEVICE_UDP_IP", "192.0.2.1")
        .env("DEVICE_UDP_PORT", "1");
    for mut command in [by_flags, by_environment, by_both] {
        let exporter = Exporter::start(&mut command);
        device.answers(&message(1, 1000.0, 1600.0));
        wait_for_charge(&exporter, 1.0);
        assert_eq!(exporter.value(CURRENT), Some(1.600_000_023_841_858));
    }
}

#[test]
fn missing_device_fails_with_the_original_message() {
    let missing =
        "ENVs 'DEVICE_UDP_IP' and 'DEVICE_UDP_PORT' must be set when no arguments are given.";
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);
    let cases: [Case<'_>; 6] = [
        (&[], &[], 1, missing),
        (&[], &[("DEVICE_UDP_IP", "127.0.0.1")], 1, missing),
        (
            &[],
            &[("DEVICE_UDP_IP", ""), ("DEVICE_UDP_PORT", "1")],
            1,
            missing,
        ),
        (
            &["127.0.0.1", "many"],
            &[],
            1,
            "the argument many: `udp.port` is",
        ),
        (
            &[],
            &[("DEVICE_UDP_IP", "a b"), ("DEVICE_UDP_PORT", "1")],
            1,
            "DEVICE_UDP_IP: `udp.host` is",
        ),
        (&["127.0.0.1", "1", "2"], &[], 2, "unexpected argument"),
    ];
    for (arguments, environment, status, words) in cases {
        let output = power_exporter()
            .args(arguments)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{said}");
    }
}

/// As the original: on port 8000 of all addresses, and nowhere else. The test's own addresses would hide this, so the log
/// is checked.
#[test]
fn preset_uses_the_original_ports() {
    let device = Device::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"))
        .args(["power-exporter", "127.0.0.1", &device.port().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The source is running, or port 8000 is in use and that was logged.
    let mut log = String::new();
    let asked = wait_until("it asks or ends", || {
        device
            .0
            .set_read_timeout(Some(std::time::Duration::from_millis(50)))
            .unwrap();
        let asked = device.0.recv(&mut [0; 64]).is_ok();
        (asked || child.try_wait().unwrap().is_some()).then_some(asked)
    });
    // The exporter flushes its log at the end. It may have exited by itself.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    child.wait().unwrap();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut log).unwrap();
    if asked {
        assert!(
            log.contains("metrics: listening on http://localhost:8000/"),
            "{log}"
        );
        assert!(!log.contains("management: listening"), "{log}");
    } else {
        assert!(log.contains("cannot listen on :8000"), "{log}");
    }
}

/// A board with one USB supply.
fn board(milliamperes: f64) -> TempDir {
    let dir = TempDir::new();
    let supply = "sys/class/power_supply/usb";
    for (file, content) in [
        ("type", "USB\n"),
        ("online", "1\n"),
        ("voltage_now", "5000000\n"),
    ] {
        dir.write(&format!("{supply}/{file}"), content);
    }
    dir.write(
        &format!("{supply}/current_now"),
        &format!("{}\n", milliamperes * 1000.0),
    );
    dir.write("proc/sys/kernel/hostname", "edge-01\n");
    std::fs::create_dir_all(dir.path().join("dev")).unwrap();
    dir
}

/// An agent on a free port.
fn agent(board: &TempDir, arguments: &[&str]) -> (Exporter, SocketAddr) {
    agent_at(0, board, arguments)
}

fn agent_at(port: u16, board: &TempDir, arguments: &[&str]) -> (Exporter, SocketAddr) {
    let config = board.write("config.yaml", "interval: 0.05\n");
    let mut command = exporter();
    on_board(&mut command, board.path());
    command.args(["udp-agent", "--listen", "127.0.0.1", "--port"]);
    command.arg(port.to_string()).arg("--config").arg(config);
    let mut agent = Exporter::start(command.args(arguments));
    let line = agent.wait_for_log("udp-agent: listening on ");
    let address = line
        .rsplit_once("listening on ")
        .unwrap()
        .1
        .parse()
        .unwrap();
    (agent, address)
}

/// Queries an agent until it has measured.
fn measured(address: SocketAddr, ask: &[u8]) -> Vec<u8> {
    let asker = Device::new();
    wait_until("the agent has measured", || {
        asker.says(address, ask);
        let (answer, from) = asker.hears();
        assert_eq!(from, address);
        // With a current, the charge grows too.
        (answer.len() >= 16).then_some(answer)
    })
}

#[test]
fn agent_answers_any_datagram_with_the_current() {
    let board = board(1600.0);
    let (agent, address) = agent(&board, &[]);
    for ask in [&b"DATA_REQUEST"[..], b"", b"HELLO", &[0xff; 2000]] {
        let answer = measured(address, ask);
        assert_eq!(answer[0], 0x08, "a timestamp");
        assert_eq!(
            answer[answer.len() - 5..],
            message(0, 0.0, 1600.0),
            "the current"
        );
        assert_eq!(answer[answer.len() - 14], 0x11, "a charge");
    }
    let (status, _, log) = agent.stop();
    assert!(status.success(), "{log}");
}

#[test]
fn agent_without_a_meter_answers_with_an_empty_datagram() {
    let board = TempDir::new();
    for dir in ["sys", "proc", "dev"] {
        std::fs::create_dir_all(board.path().join(dir)).unwrap();
    }
    let (_agent, address) = agent(&board, &[]);
    let asker = Device::new();
    for _ in 0..3 {
        asker.says(address, b"DATA_REQUEST");
        assert_eq!(asker.hears(), (vec![], address));
    }
}

/// Otherwise one forged datagram could make two agents answer each other for ever.
#[test]
fn agent_replies_are_limited_in_rate() {
    let board = board(100.0);
    let (agent, address) = agent(&board, &["--log.level", "debug"]);
    let asker = Device::new();
    asker.0.set_nonblocking(true).unwrap();
    let mut answers = 0;
    // On any machine, however slow. The exact limit is covered by the unit tests of the quota.
    wait_until("it is asked too often", || {
        for _ in 0..1000 {
            asker.says(address, b"?");
        }
        while asker.0.recv(&mut [0; 64]).is_ok() {
            answers += 1;
        }
        (answers > 0 && agent.log().contains("too many requests")).then_some(())
    });
    wait_until("it answers again", || {
        asker.says(address, b"?");
        std::thread::sleep(std::time::Duration::from_millis(5));
        asker.0.recv(&mut [0; 64]).ok()
    });
}

#[test]
fn exporter_reads_the_agent() {
    let board = board(1250.0);
    let port = FreePort::new();
    let (agent_process, address) = agent_at(port.number(), &board, &[]);
    let start = |address: SocketAddr| {
        let config = board.write("exporter.yaml", "interval: 0.05\nudp: {timeout: 0.5}\n");
        let port = address.port().to_string();
        let mut command = power_exporter();
        command.args(["127.0.0.1", &port, "--config"]).arg(config);
        Exporter::start(&mut command)
    };
    let exporter = start(address);
    wait_until("the current is there", || {
        (exporter.value(CURRENT)? == 1.25).then_some(())
    });
    let before = exporter.value(CHARGE).unwrap();
    wait_until("charge flows", || {
        (exporter.value(CHARGE)? > before + 0.1).then_some(())
    });
    // The board restarts: its charge starts at zero, and the exported counter continues.
    drop(agent_process);
    let before = exporter.value(CHARGE).unwrap();
    let _again = agent_at(port.number(), &board, &[]);
    wait_until("it goes on", || {
        let now = exporter.value(CHARGE)?;
        assert!(now >= before, "{now} after {before}");
        (now > before).then_some(())
    });
}

#[test]
fn voltage_setting_divides_the_power() {
    // A board with a power, but no voltage and no current.
    let dir = TempDir::new();
    let supply = "sys/class/power_supply/usb";
    for (file, content) in [
        ("type", "USB\n"),
        ("online", "1\n"),
        ("power_now", "10000000\n"),
    ] {
        dir.write(&format!("{supply}/{file}"), content);
    }
    for name in ["proc", "dev"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let (_agent, address) = agent(&dir, &["--voltage", "20"]);
    let answer = measured(address, b"?");
    assert_eq!(answer[answer.len() - 5..], message(0, 0.0, 500.0));
    assert_eq!(address.ip(), LOCALHOST);
}
