//! Process groups.

use edge_metrics_exporter::sources::Source;

use crate::support::wait_until;

/// The processes of a group: running ones, and zombies of this process. (Orphans are reaped by init.)
pub(crate) fn members(group: i32) -> Vec<i32> {
    let us = std::process::id().to_string();
    let mut members = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // After the name, which may contain anything: state, parent, group.
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        if fields[2] == group.to_string() && (fields[0] != "Z" || fields[1] == us) {
            members.push(stat.split(' ').next().unwrap().parse().unwrap());
        }
    }
    members
}

pub(crate) fn assert_group_is_gone(group: i32) {
    wait_until("the process group is gone", || {
        members(group).is_empty().then_some(())
    });
}

/// Drops a source, and checks that no process of its child's group is left. The child would otherwise run for longer than
/// the wait.
pub(crate) fn assert_child_ends_with_source(group: i32, source: Box<dyn Source>) {
    let dropping = std::thread::spawn(move || drop(source));
    wait_until("the source is dropped", || {
        dropping.is_finished().then_some(())
    });
    dropping.join().unwrap();
    assert_group_is_gone(group);
}
