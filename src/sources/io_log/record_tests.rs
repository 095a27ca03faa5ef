use super::*;
use crate::sources::io_log::{Failure, IoLogs, Recording};
use crate::sources::testing::Tree;

fn refused(dir: &Path, tree: &Tree) -> String {
    let error = Recorder::begin(dir, &tree.roots(), "").unwrap_err();
    error.replace(&tree.path("").display().to_string(), "")
}

#[test]
fn folder_that_is_not_empty_is_not_written_to() {
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
fn recording_that_reaches_its_limit_must_stop_and_can_be_replayed() {
    let tree = Tree::new(&[]);
    let dir = tree.path("recording");
    let limits = Limits {
        end_at_bytes: 10_000,
        end_at_lines: 1_000,
        max_bytes: 20_000,
    };
    let recorder = Recorder::begin_with_limits(limits, &dir, &tree.roots(), "").unwrap();
    let io_log = IoLogs::Record(Arc::clone(&recorder)).for_source("x");
    let request =
        |n: usize| drop(io_log.record_or_replay("request", || Ok(vec![b'a' + n as u8; 1000])));
    (0..5).for_each(request);
    assert_eq!(recorder.stop_reason(), None);
    (5..12).for_each(request);
    let reason = recorder.stop_reason().unwrap();
    assert!(
        reason.contains("recording is as large as a recording may be"),
        "{reason}"
    );
    // A source that does not stop is recorded only up to the hard limit.
    (12..100).for_each(request);
    recorder.finish("").unwrap();
    let log = fs::read(dir.join("logs/x.log")).unwrap();
    assert!((15_000..20_100).contains(&log.len()), "{}", log.len());
    assert!(Recording::open(&dir, true).is_ok());
}

#[test]
fn recording_that_reaches_its_limit_of_lines_must_stop() {
    let tree = Tree::new(&[]);
    let limits = Limits {
        end_at_bytes: 1 << 20,
        end_at_lines: 10,
        max_bytes: 1 << 20,
    };
    let recorder = Recorder::begin_with_limits(limits, &tree.path("r"), &tree.roots(), "").unwrap();
    let io_log = IoLogs::Record(Arc::clone(&recorder)).for_source("x");
    for _ in 0..=10 {
        assert_eq!(recorder.stop_reason(), None);
        io_log.begin_step(Step::Poll);
    }
    assert!(recorder.stop_reason().is_some());
}

#[test]
fn nothing_is_recorded_after_finish() {
    let tree = Tree::new(&[("sys/late", "x")]);
    let dir = tree.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), "").unwrap();
    let io_logs = IoLogs::Record(Arc::clone(&recorder));
    let io_log = io_logs.for_source("x");
    let began = io_log.begin_step(Step::Poll);
    recorder.finish("metric 1\n").unwrap();
    io_log
        .record_or_replay("late", || Ok(b"x".to_vec()))
        .unwrap();
    io_log.discard(began);
    let late = tree.path("sys/late");
    super::super::files::content(&io_log, &late, || Ok(b"x".to_vec())).unwrap();
    let log = fs::read_to_string(dir.join("logs/x.log")).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");
    assert!(!dir.join("sys/late").exists());
    assert_eq!(fs::read_to_string(dir.join(METRICS)).unwrap(), "metric 1\n");
    // The log of a source that starts after the end is not created.
    io_logs.for_source("y").begin_step(Step::Poll);
    assert!(Recording::open(&dir, true).is_ok());
}

#[test]
fn device_names_become_distinct_file_names() {
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
        io_logs.for_source(name).begin_step(Step::Open);
        io_logs.for_source(name).begin_step(Step::Poll);
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
fn equal_responses_are_recorded_once_and_checks_after_a_failure() {
    let tree = Tree::new(&[]);
    let dir = tree.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), "").unwrap();
    let io_log = IoLogs::Record(Arc::clone(&recorder)).for_source("x");
    for response in ["1", "1", "2", "2", "1"] {
        io_log
            .record_or_replay("a", || Ok(response.into()))
            .unwrap();
    }
    let failing = |errno| {
        let error = io::Error::from_raw_os_error(errno);
        let _ = io_log.record_or_replay("b", || Err(Failure::from(&error)));
    };
    [5, 5, 19].into_iter().for_each(failing);
    let source_recorder = io_log.recorder().unwrap();
    let (good, bad) = (Ok(b"good".to_vec()), Err(Failure::new("gone")));
    for result in [&good, &good, &bad, &bad, &good] {
        source_recorder.record_after_failure("c", result);
    }
    recorder.finish("").unwrap();
    let log = fs::read_to_string(dir.join("logs/x.log")).unwrap();
    let lines: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, l)| l)
        .collect();
    assert_eq!(
        lines[1..],
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
