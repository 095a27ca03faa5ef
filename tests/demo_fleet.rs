//! `demo --fleet`: simulated boards of all kinds and their config-server, in one process tree.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use config_server_support::ConfigServer;
use support::{binary, get, wait_until, TempDir};

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
    let targets = server.json("/sd");
    let targets = targets.as_array().unwrap();
    assert_eq!(targets.len(), BOARDS);
    let mut kinds = BTreeSet::new();
    let mut watts = BTreeSet::new();
    for target in targets {
        let address = target["targets"][0].as_str().unwrap().parse().unwrap();
        let labels = &target["labels"];
        kinds.insert(labels["device_type"].as_str().unwrap().to_string());
        let series = format!(
            "power_total_watts{{device_type={},hostname={}}}",
            labels["device_type"], labels["hostname"]
        );
        let total = wait_until("the board measures its power", || {
            support::value(&get(address, "/metrics").text(), &series)
        });
        watts.insert((total * 1e3) as i64);
    }
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
