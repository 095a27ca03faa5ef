//! `realtime: true`: the threads that poll have real-time priority and the memory is locked, or it is said why not.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use support::{exporter, get, on_board, request, wait_until, Exporter, TempDir};

/// `policy` of the thread with this name (proc(5), field 41 of `stat`): 0 is the usual one, 1 is SCHED_FIFO.
fn policy(exporter: &Exporter, name: &str) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", exporter.child.id())).unwrap();
    let mut stats = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let stat = stats.find(|stat| stat.contains(&format!("({name})")))?;
    let rest = stat.rsplit_once(") ")?.1.to_string();
    rest.split_whitespace().nth(38).map(str::to_string)
}

#[test]
fn polling_threads_have_priority_and_memory_is_locked_as_far_as_that_is_allowed() {
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/intel_laptop_psys");
    let temp = TempDir::new();
    let config = temp.write("config.yaml", "interval: 0.01\nrealtime: true\n");
    let mut command = exporter();
    on_board(&mut command, &board);
    let exporter = Exporter::start(command.arg("--config").arg(&config));
    wait_until("the source is read", || {
        exporter.value("exporter_source_up{source=\"rapl\"}")
    });
    let has_priority = policy(&exporter, "rapl").as_deref() == Some("1");
    let says = exporter
        .log()
        .contains("rapl: cannot set real-time priority: ");
    assert_ne!(has_priority, says, "{}", exporter.log());
    let is_locked = exporter.status("VmLck") > 0;
    let says = exporter.log().contains("cannot lock memory: ");
    assert_ne!(is_locked, says, "{}", exporter.log());
    // Threads that poll no meter never have it.
    let main = std::fs::read_to_string(format!("/proc/{}/stat", exporter.child.id())).unwrap();
    let rest = main.rsplit_once(") ").unwrap().1;
    assert_eq!(rest.split_whitespace().nth(38), Some("0"));

    std::fs::write(&config, "interval: 0.01\n").unwrap();
    let answer = request(exporter.management, "POST", "/reload", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until("the priority is gone", || {
        (policy(&exporter, "rapl").as_deref() == Some("0")).then_some(())
    });
    wait_until("the memory is unlocked", || {
        (exporter.status("VmLck") == 0).then_some(())
    });
    assert!(get(exporter.metrics, "/metrics")
        .text()
        .contains("energy_joules_total"));
}
