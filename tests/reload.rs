//! Reloads of the configuration: invalid files, watched files, and ports that move.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod management_support;
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use management_support::{Board, ENERGY, TEMPERATURE};
use support::free_port::FreePort;
use support::{get, request, wait_until, TempDir};

#[test]
fn invalid_file_is_reported_in_the_response_health_and_a_metric() {
    let board = Board::start("device_type: generic\n");
    let loaded = || board.value("exporter_config_last_reload_success_timestamp_seconds");
    let at_start = loaded();
    assert!(at_start.is_some_and(|at| at > 1.7e9), "{at_start:?}");
    board.write("device_type: generic\ninterval: fast\n");
    let answer = board.reload();
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(
        answer.text().contains("config.yaml:2:11"),
        "{}",
        answer.text()
    );
    let health = board.health();
    assert_eq!(health["status"], "degraded");
    let error = health["config"]["error"].as_str().unwrap();
    assert!(error.contains("config.yaml:2:11"), "{error}");
    assert_eq!(
        board.value("exporter_config_last_reload_successful"),
        Some(0.0)
    );
    assert_eq!(loaded(), at_start);
    assert_eq!(board.value(TEMPERATURE), Some(41.5));
    // A configuration with a port that is in use is refused as a whole.
    let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    board.write(&format!(
        "device_type: generic\nmetrics: {{}}\nudp_agent: {{enabled: true, port: {port}}}\n"
    ));
    let answer = board.reload();
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("UDP port"), "{}", answer.text());
    assert_eq!(board.value(TEMPERATURE), Some(41.5));
    board.write("device_type: generic\n");
    let answer = board.reload();
    assert_eq!(
        (answer.status, &*answer.text()),
        (200, "Config reload triggered\n")
    );
    assert_eq!(
        board.value("exporter_config_last_reload_successful"),
        Some(1.0)
    );
    assert_eq!(board.health()["status"], "healthy");
}

#[test]
fn watched_file_is_reloaded_when_it_changes() {
    let mut board = Board::start("device_type: generic\nwatch: true\ninterval: 0.05\n");
    wait_until("some energy", || {
        board.value(ENERGY).filter(|joules| *joules > 1.0)
    });
    board.write(
        "device_type: generic\nwatch: true\ninterval: 0.05\nmetrics: {energy_joules_total: true}\n",
    );
    wait_until("the temperature is gone", || {
        board.value(TEMPERATURE).is_none().then_some(())
    });
    assert!(board.value(ENERGY).unwrap() > 1.0);
    // An invalid file, renamed over the old one as editors do.
    board.dir.write("etc/new", "watch: true\nport: [\n");
    let etc = board.dir.path().join("etc");
    std::fs::rename(etc.join("new"), etc.join("config.yaml")).unwrap();
    board
        .exporter
        .wait_for_log("the configuration remains unchanged");
    wait_until("it is reported", || {
        board.health()["config"]["error"].is_string().then_some(())
    });
    // The directory is removed and created again.
    std::fs::rename(&etc, board.dir.path().join("away")).unwrap();
    wait_until("it is missed", || {
        let health = board.health();
        let error = health["config"]["error"].as_str()?;
        error.contains("cannot read").then_some(())
    });
    board
        .dir
        .write("etc/config.yaml", "device_type: generic\nwatch: true\n");
    wait_until("it is found again", || board.value(TEMPERATURE));
    wait_until("it is said no longer", || {
        board.health()["config"]["error"].is_null().then_some(())
    });
}

#[test]
fn reload_can_move_the_port_it_was_requested_on() {
    let board = TempDir::new();
    let config = |host: &str, port: u16| {
        let text = format!("listen_address: {host}\nport: off\nreload_port: {port}\n");
        board.write("config.yaml", &text)
    };
    let ports = [(); 2].map(|()| FreePort::new());
    let [first, second] = ports.each_ref().map(FreePort::number);
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    command.arg("--config").arg(config("127.0.0.1", first));
    command.args(["--path.sysfs", "/nonexistent"]);
    let child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let child = KillOnDrop(child);
    let at = |ip: [u8; 4], port: u16| std::net::SocketAddr::from((ip, port));
    let there = |address| std::net::TcpStream::connect(address).is_ok();
    wait_until("it listens", || {
        there(at([127, 0, 0, 1], first)).then_some(())
    });
    config("127.0.0.1", second);
    let answer = request(at([127, 0, 0, 1], first), "POST", "/reload", &[]);
    assert_eq!(
        (answer.status, &*answer.text()),
        (200, "Config reload triggered\n")
    );
    assert!(there(at([127, 0, 0, 1], second)) && !there(at([127, 0, 0, 1], first)));
    // The same port on more addresses, or on others, is only free once the old socket is closed.
    config("0.0.0.0", second);
    let answer = request(at([127, 0, 0, 1], second), "POST", "/reload", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(there(at([127, 0, 0, 2], second)));
    config("127.0.0.2", second);
    let answer = request(at([127, 0, 0, 1], second), "POST", "/reload", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(there(at([127, 0, 0, 2], second)) && !there(at([127, 0, 0, 1], second)));
    // A port in use is refused, and the old port is kept.
    let taken = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    config("127.0.0.2", taken.local_addr().unwrap().port());
    let answer = request(at([127, 0, 0, 2], second), "POST", "/reload", &[]);
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(get(at([127, 0, 0, 2], second), "/health").status, 200);
    drop(child);
}

#[test]
fn ports_are_exchanged_atomically() {
    let board = TempDir::new();
    let config = |ports: [u16; 2], more: &str| {
        let [metrics, management] = ports;
        let text = format!(
            "listen_address: 127.0.0.1\nport: {metrics}\nreload_port: {management}\n{more}"
        );
        board.write("config.yaml", &text)
    };
    let free = [(); 3].map(|()| FreePort::new());
    let [a, b, c] = free.each_ref().map(FreePort::number);
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    command.arg("--config").arg(config([a, b], ""));
    command.args(["--path.sysfs", "/nonexistent"]);
    let child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let _child = KillOnDrop(child);
    let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let serves = |[metrics, management]: [u16; 2]| {
        assert_eq!(get(at(metrics), "/metrics").status, 200);
        // This path exists on the management port only.
        assert_eq!(get(at(management), "/metrics/list").status, 200);
        assert_ne!(get(at(metrics), "/metrics/list").status, 200);
    };
    let there = |port| std::net::TcpStream::connect(at(port)).is_ok();
    wait_until("it listens", || (there(a) && there(b)).then_some(()));
    serves([a, b]);
    let mut now = [a, b];
    // Both ports are exchanged; then each in turn takes the port that the other one leaves.
    for next in [[b, a], [a, c], [c, b], [b, c]] {
        config(next, "");
        let answer = request(at(now[1]), "POST", "/reload", &[]);
        assert_eq!(answer.status, 200, "{now:?} to {next:?}: {}", answer.text());
        serves(next);
        for gone in now.iter().filter(|port| !next.contains(port)) {
            assert!(!there(*gone), "{gone} is still listened on");
        }
        now = next;
    }
    // One port of the new pair is in use: both listeners are restored.
    let taken = std::net::TcpListener::bind(at(a)).unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let agent = datagrams.local_addr().unwrap().port();
    let agent = format!("udp_agent: {{enabled: true, port: {agent}}}\n");
    for (next, more, setting) in [
        ([c, a], "", "`reload_port:` or --web.management-address"),
        ([a, b], "", "`port:` or --web.listen-address"),
        ([c, b], &*agent, "udp_agent.port"),
    ] {
        config(next, more);
        let answer = request(at(now[1]), "POST", "/reload", &[]);
        let text = answer.text();
        assert_eq!(answer.status, 422, "{now:?} to {next:?}: {text}");
        assert!(text.contains(setting), "{text}");
        serves(now);
    }
    drop(taken);
}

struct KillOnDrop(std::process::Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn exporter_stops_during_concurrent_reloads() {
    let board = Board::start("device_type: generic\n");
    let address = board.exporter.management;
    let busy: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let end = Instant::now() + Duration::from_secs(2);
                while Instant::now() < end && std::net::TcpStream::connect(address).is_ok() {
                    let _ = std::panic::catch_unwind(|| request(address, "POST", "/reload", &[]));
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let Board { dir, exporter } = board;
    let (status, _, log) = exporter.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    for thread in busy {
        thread.join().unwrap();
    }
    drop(dir);
}
