use super::*;
use crate::sources::io_log::{Failure, IoLogs, Recording};
use crate::sources::testing::Tree;

fn refused(dir: &Path, tree: &Tree) -> String {
    let error = Recorder::begin(dir, &tree.roots(), "").unwrap_err();
    error.replace(&tree.path("").display().to_string(), "")
}

#[test]
fn a_folder_that_holds_something_is_not_written_to() {
    let tree = Tree::new(&[("taken/file", "x"), ("file", "x")]);
    assert_eq!(
        refused(&tree.path("taken"), &tree),
        "taken is not empty: a recording has a folder of its own"
    );
    assert_eq!(fs::read_dir(tree.path("taken")).unwrap().count(), 1);
    assert_eq!(
        refused(&tree.path("file"), &tree),
        "cannot record into file: not a directory"
    );
    assert_eq!(
        refused(&tree.path("nowhere/dir"), &tree),
        "cannot create nowhere/dir: no such file or directory"
    );
    fs::create_dir(tree.path("empty")).unwrap();
    assert!(Recorder::begin(&tree.path("empty"), &tree.roots(), "").is_ok());
}

#[test]
fn a_recording_that_grows_too_large_is_told_to_end_and_can_be_replayed() {
    let tree = Tree::new(&[]);
    let dir = tree.path("recording");
    let limits = Limits {
        bytes: 10_000,
        lines: 1_000,
        bytes_in_all: 20_000,
    };
    let recorder = Recorder::within(limits, &dir, &tree.roots(), "").unwrap();
    let io_log = IoLogs::Record(Arc::clone(&recorder)).of("x");
    let fact = |n: usize| drop(io_log.ask("question", || Ok(vec![b'a' + n as u8; 1000])));
    (0..5).for_each(fact);
    assert_eq!(recorder.trouble(), None);
    (5..12).for_each(fact);
    let trouble = recorder.trouble().unwrap();
    assert!(
        trouble.contains("recording is as large as a recording may be"),
        "{trouble}"
    );
    // Whoever does not end is not recorded for ever.
    (12..100).for_each(fact);
    recorder.finish("").unwrap();
    let log = fs::read(dir.join("logs/x.log")).unwrap();
    assert!((15_000..20_100).contains(&log.len()), "{}", log.len());
    assert!(Recording::open(&dir, true).is_ok());
}

#[test]
fn many_short_lines_are_too_many_as_well() {
    let tree = Tree::new(&[]);
    let limits = Limits {
        bytes: 1 << 20,
        lines: 10,
        bytes_in_all: 1 << 20,
    };
    let recorder = Recorder::within(limits, &tree.path("r"), &tree.roots(), "").unwrap();
    let io_log = IoLogs::Record(Arc::clone(&recorder)).of("x");
    for _ in 0..=10 {
        assert_eq!(recorder.trouble(), None);
        io_log.begins(Step::Poll);
    }
    assert!(recorder.trouble().is_some());
}

#[test]
fn nothing_is_recorded_after_the_end() {
    let tree = Tree::new(&[("sys/late", "x")]);
    let dir = tree.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), "").unwrap();
    let io_logs = IoLogs::Record(Arc::clone(&recorder));
    let io_log = io_logs.of("x");
    let began = io_log.begins(Step::Poll);
    recorder.finish("metric 1\n").unwrap();
    io_log.ask("late", || Ok(b"x".to_vec())).unwrap();
    io_log.discard(began);
    let late = tree.path("sys/late");
    super::super::files::content(&io_log, &late, || Ok(b"x".to_vec())).unwrap();
    let log = fs::read_to_string(dir.join("logs/x.log")).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");
    assert!(!dir.join("sys/late").exists());
    assert_eq!(fs::read_to_string(dir.join(METRICS)).unwrap(), "metric 1\n");
    // One that asks for an I/O log only now has none to be kept.
    io_logs.of("y").begins(Step::Poll);
    assert!(Recording::open(&dir, true).is_ok());
}

#[test]
fn names_of_devices_make_files_of_their_own() {
    let tree = Tree::new(&[]);
    let dir = tree.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), "").unwrap();
    let io_logs = IoLogs::Record(Arc::clone(&recorder));
    for name in [
        "shelly a/b",
        "shelly a b",
        "shelly ../../x",
        "shelly \n\u{e9}",
    ] {
        io_logs.of(name).begins(Step::Open);
        io_logs.of(name).begins(Step::Poll);
    }
    recorder.finish("").unwrap();
    let mut files: Vec<_> = fs::read_dir(dir.join(LOGS))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files.len(), 4, "{files:?}");
    let recording = Recording::open(&dir, true).unwrap();
    assert_eq!(
        recording.unused(),
        [
            "shelly ../../x",
            "shelly a b",
            "shelly a/b",
            "shelly \u{e9}"
        ]
    );
}

#[test]
fn the_same_answer_is_recorded_once_and_a_check_only_when_it_fails() {
    let tree = Tree::new(&[]);
    let dir = tree.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), "").unwrap();
    let io_log = IoLogs::Record(Arc::clone(&recorder)).of("x");
    for answer in ["1", "1", "2", "2", "1"] {
        io_log.ask("a", || Ok(answer.into())).unwrap();
    }
    let failing = |errno| {
        let error = io::Error::from_raw_os_error(errno);
        let _ = io_log.ask("b", || Err(Failure::from(&error)));
    };
    [5, 5, 19].into_iter().for_each(failing);
    let writing = io_log.recording().unwrap();
    let (good, bad) = (Ok(b"good".to_vec()), Err(Failure::new("gone")));
    for outcome in [&good, &good, &bad, &bad, &good] {
        writing.check("c", outcome);
    }
    recorder.finish("").unwrap();
    let log = fs::read_to_string(dir.join("logs/x.log")).unwrap();
    let said: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, l)| l)
        .collect();
    assert_eq!(
        said[1..],
        [
            "a = 1",
            "a = 2",
            "a = 1",
            "b ! 5 i/O error",
            "b ! 19 no such device",
            "c ! - gone",
            "c = good",
            "end"
        ]
    );
}
