//! Which processes there are.

use edge_metrics_exporter::sources::Source;

use crate::support::wait_until;

/// The processes of a group: those that run, and those that we have not reaped. (Orphans are init's to reap.)
pub(crate) fn members(group: i32) -> Vec<i32> {
    let us = std::process::id().to_string();
    let mut members = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // After the name, which may hold anything: state, parent, group.
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        if fields[2] == group.to_string() && (fields[0] != "Z" || fields[1] == us) {
            members.push(stat.split(' ').next().unwrap().parse().unwrap());
        }
    }
    members
}

pub(crate) fn nothing_is_left_of(group: i32) {
    wait_until("the process group is gone", || {
        members(group).is_empty().then_some(())
    });
}

/// A source that is let go of waits no longer than it must, and leaves nothing of its child's process group, which for
/// its own part would go on for longer than is waited here.
pub(crate) fn goes_with_its_source(group: i32, source: Box<dyn Source>) {
    let letting_go = std::thread::spawn(move || drop(source));
    wait_until("the source is let go of", || {
        letting_go.is_finished().then_some(())
    });
    letting_go.join().unwrap();
    nothing_is_left_of(group);
}
