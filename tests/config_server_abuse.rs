//! The config-server under abuse: kills, hostile requests, two servers with one directory, failing disks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use config_server_support::{body, command, try_send, ConfigServer};
use nix::sys::signal::Signal;
use support::{wait_until, TempDir, WAIT_TIMEOUT};

fn config(n: u32) -> String {
    // Long enough for several pages of a file.
    let metrics: Vec<String> = (0..400)
        .map(|i| format!("\"metric_{i}_of_{n}\":true"))
        .collect();
    format!(
        "{{\"device_type\":\"generic\",\"interval\":{n},\"metrics\":{{{}}}}}",
        metrics.join(",")
    )
}

/// After a kill in the middle of changes every file has the last configuration that was acknowledged, or the one of the request under
/// way.
#[test]
fn kill_during_changes_leaves_every_file_whole() {
    let dir = TempDir::new();
    let saved = AtomicU32::new(0);
    let next = AtomicU32::new(1);
    for round in 0..100_u64 {
        let central = ConfigServer::start(dir.path());
        if round > 0 {
            let now = central.json("/config/edge-01");
            let interval = now["interval"].as_u64().unwrap() as u32;
            let (least, most) = (saved.load(Ordering::SeqCst), next.load(Ordering::SeqCst));
            assert!(
                (least..=most).contains(&interval),
                "{interval} of {least}..={most}"
            );
            let names = now["metrics"].as_object().unwrap();
            assert_eq!(names.len(), 400);
            assert!(names
                .keys()
                .all(|name| name.ends_with(&format!("_of_{interval}"))));
            let left = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name());
            let left: Vec<_> = left
                .filter(|name| name.to_string_lossy().ends_with(".tmp"))
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
        let killed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !killed.load(Ordering::SeqCst) {
                    let n = next.load(Ordering::SeqCst);
                    let headers = [("Content-Type", "application/json")];
                    let sent = try_send(
                        central.address,
                        "PUT",
                        "/config/edge-01",
                        &headers,
                        config(n).as_bytes(),
                    );
                    match sent {
                        Ok(answer) => {
                            assert_eq!(answer.status, 200, "{}", answer.text());
                            saved.store(n, Ordering::SeqCst);
                            next.store(n + 1, Ordering::SeqCst);
                        }
                        Err(_) => return,
                    }
                }
            });
            let before = saved.load(Ordering::SeqCst);
            wait_until("something is saved", || {
                (saved.load(Ordering::SeqCst) > before).then_some(())
            });
            // Sometime during the next one or two changes.
            std::thread::sleep(Duration::from_micros(round * 733 % 9000));
            central.signal(Signal::SIGKILL);
            killed.store(true, Ordering::SeqCst);
        });
        central.kill();
    }
    assert!(saved.load(Ordering::SeqCst) >= 100);
}

#[test]
fn hostile_requests_are_answered_in_bounded_memory() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let raw = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(central.address).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        // The request may have been refused before all of it was sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let head = "PUT /config/edge-01 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let huge = raw(format!("{head}Content-Length: 1000000000\r\n\r\n{{").as_bytes());
    assert!(huge.starts_with("HTTP/1.1 413 "), "{huge}");
    let chunk = "10000\r\n".to_string() + &"x".repeat(0x10000) + "\r\n";
    let chunks = raw(format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(50)
    )
    .as_bytes());
    assert!(
        chunks.starts_with("HTTP/1.1 4") || chunks.starts_with("HTTP/1.1 501 "),
        "{chunks}"
    );

    let json = [("Content-Type", "application/json")];
    let yaml = [("Content-Type", "application/yaml")];
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..10 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(",");
        laughs.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    let deep = "[".repeat(60_000);
    let maps = "{\"a\":".repeat(12_000);
    for (headers, sent) in [
        (json, deep.as_bytes()),
        (json, maps.as_bytes()),
        (json, b"\xff\xfe{\x00}\x00"),
        (json, b"{\"device_type\":\"caf\xe9\"}"),
        (
            json,
            b"{\"device_type\":\"generic\",\"hostname\":\"\\ud800\"}",
        ),
        (json, b"\0"),
        (yaml, deep.as_bytes()),
        (yaml, "{".repeat(60_000).as_bytes()),
        (yaml, laughs.as_bytes()),
        (yaml, b"a: &a [*a]"),
        (yaml, b"\xff\xfe{\x00}\x00"),
        (yaml, b"--- a\n--- b\n"),
    ] {
        for method in ["PUT", "POST", "PATCH"] {
            let answer = central.send_with(method, "/config/edge-01", &headers, sent);
            assert!(
                (400..500).contains(&answer.status),
                "{method}: {}",
                answer.text()
            );
            let said = body(&answer);
            assert!(
                said["error"].is_string() && answer.body.len() < 1500,
                "{said}"
            );
        }
    }
    // Short enough as JSON, but too long as YAML.
    let grows = format!(
        "{{\"device_type\":\"generic\",\"metrics\":{{}},\"x\":[{}]}}",
        vec!["{\"a\":[[[[1]]]]}"; 900].join(",")
    );
    let answer = central.send("PUT", "/config/grows", &grows);
    assert!([200, 400].contains(&answer.status));
    assert_eq!(central.json("/health")["status"], "healthy");
    let status = std::fs::read_to_string(format!("/proc/{}/status", central.child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 48 * 1024, "it grew to {kilobytes} kB");
}

#[test]
fn failed_write_is_reported_and_loses_nothing() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    assert_eq!(
        central.send("PUT", "/config/edge-01", &config(1)).status,
        200
    );
    // A missing directory fails for root too, where a read-only one would not.
    let away = dir.path().with_extension("away");
    std::fs::rename(dir.path(), &away).unwrap();
    let answer = central.send("PUT", "/config/edge-02", &config(1));
    let health = central.get("/devices");
    std::fs::rename(&away, dir.path()).unwrap();
    assert_eq!(answer.status, 500, "{}", answer.text());
    let said = body(&answer);
    assert!(
        said["message"].as_str().unwrap().contains("cannot"),
        "{said}"
    );
    assert_eq!(health.status, 500);
    assert_eq!(central.json("/config/edge-01")["interval"], 1);
    assert_eq!(
        central.send("PUT", "/config/edge-02", &config(1)).status,
        200
    );
}

#[test]
fn errors_at_start_name_the_cause() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let store = dir.path().to_str().unwrap();
    let port = central.address.to_string();
    let other = TempDir::new();
    let other = other.path().to_str().unwrap();
    let binary = env!("CARGO_BIN_EXE_edge-metrics-exporter");
    for (arguments, status, words) in [
        (
            vec![
                "config-server",
                "--store",
                store,
                "--web.listen-address",
                "127.0.0.1:0",
            ],
            1,
            "another config-server",
        ),
        (
            vec![
                "config-server",
                "--store",
                other,
                "--web.listen-address",
                &port,
            ],
            1,
            "cannot listen",
        ),
        (
            vec!["config-server", "--store", "/dev/null/x"],
            1,
            "--store",
        ),
        (
            vec!["config-server", "--store", "redis://localhost"],
            1,
            "etcd://",
        ),
        (
            vec!["config-server", "--store", "etcd://a b"],
            1,
            "etcd://host:2379/prefix",
        ),
        (vec!["run", "--store", other], 2, "goes with config-server"),
        (vec!["config-server", "extra"], 2, "extra"),
    ] {
        let output = Command::new(binary)
            .args(&arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn sigterm_stops_the_server_and_sighup_does_not() {
    let dir = TempDir::new();
    let mut central = ConfigServer::of(&mut command(dir.path().to_str().unwrap()));
    central.signal(Signal::SIGHUP);
    wait_until("the signal is seen", || {
        central.log().contains("SIGHUP is ignored").then_some(())
    });
    assert_eq!(central.get("/health").status, 200);
    central.signal(Signal::SIGTERM);
    let status = wait_until("it ends", || central.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", central.log());
}
