//! Tests of opening recordings: which are opened and which are refused.

use std::os::unix::fs::symlink;

use super::*;
use crate::sources::io_log::source_log::HEAD;
use crate::sources::testing::Tree;

/// A small recording that can be opened.
fn recording() -> Tree {
    let tree = Tree::new(&[
        (MANIFEST, &format!("{MANIFEST_HEAD}\n")),
        (CONFIG, "interval: 0.5\nport: 1\nlanding: hello\n"),
        (
            "logs/thermal.log",
            &format!("{HEAD}thermal\n0.000000000 open\n1.000000000 end\n"),
        ),
        ("logs/README", "not a log"),
        ("sys/devices/a/name", "a\n"),
    ]);
    symlink("../devices/a", {
        fs::create_dir_all(tree.path("sys/class")).unwrap();
        tree.path("sys/class/a")
    })
    .unwrap();
    tree
}

fn open(tree: &Tree) -> Result<Recording, String> {
    Recording::open(&tree.path(""), true)
}

/// The error of opening the recording, without the directory's name.
fn refused(tree: &Tree) -> String {
    let error = open(tree).unwrap_err();
    error.replace(&tree.path("").display().to_string(), "")
}

#[test]
fn recording_has_only_the_settings_of_its_sources() {
    let tree = recording();
    let recording = open(&tree).unwrap();
    assert_eq!(recording.config().interval.as_millis(), 500);
    assert_eq!(recording.config().port, Some(9100));
    assert_eq!(recording.config().landing, None);
    assert_eq!(recording.unused(), ["thermal"]);
    let recording = Arc::new(recording);
    let io_log = recording.io_log("thermal");
    assert_eq!(
        io_log,
        recording.io_log("thermal"),
        "one I/O log for a name"
    );
    assert!(recording.unused().is_empty());
    assert!(recording.io_log("hwmon").replay().is_some(), "an empty one");
}

#[test]
fn directory_without_a_valid_manifest_is_refused() {
    let tree = recording();
    tree.write(MANIFEST, "edge-metrics-exporter recording 2\n");
    assert!(refused(&tree).starts_with("recording.txt:1: it does not begin with"));
    tree.write(MANIFEST, "x".repeat(100_000));
    assert!(refused(&tree).contains("has more than"));
    tree.remove(MANIFEST);
    let error = refused(&tree);
    assert!(error.contains("cannot read recording.txt"), "{error}");
    assert!(error.contains("cut off"), "{error}");
    tree.fifo(MANIFEST);
    assert!(refused(&tree).contains("is not a file"));
}

#[test]
fn errors_in_a_log_name_the_line() {
    let tree = recording();
    for (log, why) in [
        ("", "logs/thermal.log:1: it does not begin with"),
        ("thermal", "logs/thermal.log:1: it does not begin with"),
        (
            &format!("{HEAD}thermal\n0.000000000 open\n0.5000"),
            "logs/thermal.log:3: it is cut off",
        ),
        (
            &format!("{HEAD}thermal\n0.000000000 open\n"),
            "logs/thermal.log:3: it is cut off",
        ),
        (
            &format!("{HEAD}thermal\n0.000000000 open\n\0\u{1}garbage\n0.000000000 end\n"),
            "logs/thermal.log:3: the line has bytes",
        ),
    ] {
        tree.write("logs/thermal.log", log);
        let error = refused(&tree);
        assert!(error.starts_with(why), "{error}");
    }
    let good = format!("{HEAD}thermal\n1.000000000 end\n");
    tree.write("logs/thermal.log", &good);
    tree.write("logs/again.log", &good);
    assert!(refused(&tree).contains("there are two logs of thermal"));
    tree.remove("logs/again.log");
    tree.fifo("logs/fifo.log");
    assert!(refused(&tree).contains("logs/fifo.log is not a file"));
    tree.remove("logs/fifo.log");
    tree.link("logs/link.log", CONFIG);
    assert!(refused(&tree).contains("logs/link.log is not a file"));
}

#[test]
fn recording_beyond_the_limits_is_refused() {
    let tree = recording();
    let huge = File::create(tree.path("logs/huge.log")).unwrap();
    huge.set_len(MAX_BYTES + 1).unwrap();
    assert!(refused(&tree).contains("has more than"));
    tree.remove("logs/huge.log");
    tree.write("logs/lines.log", "\n".repeat(MAX_LINES + 1));
    assert!(refused(&tree).contains("lines"));
    tree.remove("logs/lines.log");
    for n in 0..=MAX_LOGS {
        tree.write(
            &format!("logs/{n}.log"),
            format!("{HEAD}{n}\n1.000000000 end\n"),
        );
    }
    assert!(refused(&tree).contains("more than 256 logs"));
}

#[test]
fn links_and_special_files_are_refused() {
    for (link, target) in [
        ("sys/class/a/escape", "/etc/passwd"),
        ("sys/class/a/escape", "/etc/nothing-there"),
        (
            "sys/class/a/escape",
            "../../../../../../../../../etc/passwd",
        ),
        ("sys/class/a/escape", "../../../nothing-there"),
        ("sys/escape", ".."),
        ("sys/escape", "../config.yaml"),
        // Through another link, which itself stays inside.
        ("sys/escape", "class/a/../../../config.yaml"),
        ("proc/escape", "/proc"),
    ] {
        let tree = recording();
        let path = tree.path(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        let error = refused(&tree);
        assert!(
            error.contains("leads out of the recording"),
            "{target}: {error}"
        );
    }
    for dir in ["sys", "logs"] {
        let tree = recording();
        tree.remove(dir);
        tree.link(dir, "proc");
        assert!(refused(&tree).contains("is not a folder"));
    }
    let tree = recording();
    tree.fifo("sys/class/a/fifo");
    assert!(refused(&tree).contains("neither a file nor a folder"));
    let tree = recording();
    tree.write(&format!("sys/{}x", "d/".repeat(MAX_DEPTH + 1)), "");
    assert!(refused(&tree).contains("too deep a folder"));
}

#[test]
fn link_to_a_missing_folder_is_accepted() {
    let tree = recording();
    symlink("../devices/empty", tree.path("sys/class/b")).unwrap();
    assert!(open(&tree).is_ok());
}

#[test]
fn errors_in_the_settings_name_the_line() {
    let tree = recording();
    tree.write(CONFIG, "interval: 1\ninterval: 2\n");
    assert!(
        refused(&tree).starts_with("config.yaml:2:"),
        "{}",
        refused(&tree)
    );
    tree.write(CONFIG, " ".repeat(config::MAX_SIZE + 1));
    assert!(refused(&tree).contains("config.yaml has more than"));
    tree.remove(CONFIG);
    assert!(refused(&tree).contains("cannot read config.yaml"));
}
