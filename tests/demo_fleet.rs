//! `demo --fleet`: simulated boards of all kinds and their config-server, in one process tree.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use config_server_support::ConfigServer;
use serde_json::Value;
use support::{binary, try_get, wait_until, TempDir};

const BOARDS: usize = 5;

fn fleet(place: &TempDir) -> ConfigServer {
    let mut command = Command::new(binary());
    command
        .args(["demo", "--fleet", &BOARDS.to_string()])
        .args(["--web.listen-address", "127.0.0.1:0"])
        .env("TMPDIR", place.path())
        .env_remove("RUST_LOG")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    ConfigServer::of(&mut command)
}

/// The boards' processes.
fn children(server: &ConfigServer) -> Vec<PathBuf> {
    let parent = server.child.id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let paths = processes.map(|entry| entry.path());
    let is_child = |path: &PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after_name.split(' ').nth(1) == Some(&parent)
    };
    paths.filter(is_child).collect()
}

fn wait_for_healthy(server: &ConfigServer) {
    wait_until("all boards are healthy", || {
        let healthy = &server.json("/devices")["healthy"];
        (*healthy == BOARDS).then_some(())
    });
}

#[test]
fn boards_of_all_kinds_register_and_are_scraped() {
    let place = TempDir::new();
    let server = fleet(&place);
    wait_for_healthy(&server);
    assert_eq!(children(&server).len(), BOARDS);
    // Until a board has said what it is and where it listens, the list has what its configuration says.
    let read = |target: &Value| {
        let labels = &target["labels"];
        let series = format!(
            "power_total_watts{{device_type={},hostname={}}}",
            labels["device_type"], labels["hostname"]
        );
        let address = target["targets"][0].as_str().unwrap().parse().unwrap();
        let watts = support::value(&try_get(address, "/metrics")?.text(), &series)?;
        Some((labels["device_type"].as_str()?.to_string(), watts))
    };
    let found = wait_until("all boards measure their power", || {
        let targets = server.json("/sd");
        let targets = targets.as_array().unwrap().iter();
        let found: Vec<_> = targets.filter_map(read).collect();
        (found.len() == BOARDS).then_some(found)
    });
    let kinds: BTreeSet<_> = found.iter().map(|(kind, _)| kind.as_str()).collect();
    let watts: BTreeSet<_> = found
        .iter()
        .map(|(_, watts)| (watts * 1e3) as i64)
        .collect();
    // A PC has the type that this program was built for, or `generic`.
    for kind in ["jetson_orin", "raspberry_pi", "orange_pi"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
    assert_eq!(watts.len(), BOARDS, "they are busy at different times");
}

#[test]
fn nothing_is_left_of_a_fleet_that_is_stopped() {
    let place = TempDir::new();
    let mut server = fleet(&place);
    wait_for_healthy(&server);
    let boards = children(&server);
    assert_eq!(boards.len(), BOARDS);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    let status = wait_until("it ends", || server.child.try_wait().unwrap());
    assert!(status.success());
    assert!(boards.iter().all(|board| !board.exists()), "{boards:?}");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn boards_end_with_a_fleet_that_is_killed() {
    let place = TempDir::new();
    let mut server = fleet(&place);
    wait_for_healthy(&server);
    let boards = children(&server);
    assert_eq!(boards.len(), BOARDS);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    // Whoever adopted them may not have reaped them yet.
    let has_ended = |board: &PathBuf| {
        let stat = std::fs::read_to_string(board.join("stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    wait_until("they end", || boards.iter().all(has_ended).then_some(()));
}

#[test]
fn wrong_options_are_refused() {
    for (arguments, why) in [
        (&["--fleet", "0"][..], "a number of boards from 1 to 200"),
        (&["--fleet", "201"], "a number of boards from 1 to 200"),
        (&["--fleet", "2", "--name", "x"], "goes with"),
        (
            &["--board", "toaster"],
            "jetson, raspberry-pi, orange-pi, pc",
        ),
        (&["--name", "../x"], "letters"),
    ] {
        let output = Command::new(binary()).arg("demo").args(arguments).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(why), "{arguments:?}: {text}");
    }
}
