//! What `record` and `--replay` refuse, and with which messages: the real binary on invalid recordings.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod record_support;
mod support;

use std::path::Path;

use record_support::{refused, replay, Studio};

/// A recording of a thermometer whose board no longer exists.
fn recording() -> Studio {
    let studio = Studio::new();
    studio.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    studio.write("sys/class/thermal/thermal_zone0/temp", "41000\n");
    let mut command = studio.command("interval: 0.05\nlabels: false\n");
    let output = command.args(["--for", "0.5"]).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("recording to"), "{said}");
    studio
}

fn change(studio: &Studio, file: &str, change: impl FnOnce(String) -> String) {
    let path = studio.recording.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

#[test]
fn existing_recording_is_not_overwritten() {
    let studio = recording();
    let before = studio.log("thermal");
    let said = refused(&["record", "--for", "1"], &studio.recording);
    assert!(
        said.contains("recording is not empty: a recording has a folder of its own"),
        "{said}"
    );
    assert_eq!(studio.log("thermal"), before);
}

#[test]
fn truncated_garbled_or_oversized_recording_is_refused_with_its_position() {
    let half = |text: String| text[..text.len() / 2].to_string();
    let garbled = |text: String| text.replacen(" poll\n", " p\u{0}ll\n", 1);
    let huge =
        |text: String| text.replacen(" poll\n", &format!(" a = {}\n", "x".repeat(400_000)), 1);
    type Change = Box<dyn Fn(String) -> String>;
    let cases: [(&str, Change, &str); 6] = [
        ("logs/thermal.log", Box::new(half), "it is cut off here"),
        ("logs/thermal.log", Box::new(garbled), "not printable ASCII"),
        ("logs/thermal.log", Box::new(huge), "longer than"),
        (
            "logs/board.log",
            Box::new(|_| String::new()),
            "logs/board.log:1: it does not begin with",
        ),
        (
            "config.yaml",
            Box::new(|_| "interval: soon\n".to_string()),
            "config.yaml:1:",
        ),
        (
            "recording.txt",
            Box::new(|_| "something else\n".to_string()),
            "recording.txt:1: it does not begin",
        ),
    ];
    for (file, how, why) in cases {
        let studio = recording();
        change(&studio, file, how);
        let said = refused(&["--replay"], &studio.recording);
        assert!(said.contains(why) && said.contains(file), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let studio = recording();
    std::fs::remove_file(studio.recording.join("recording.txt")).unwrap();
    let said = refused(&["--replay"], &studio.recording);
    assert!(
        said.contains("is no recording, or one that was cut off"),
        "{said}"
    );
}

#[test]
fn recording_without_an_end_is_refused() {
    let studio = Studio::new();
    studio.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    studio.write("sys/class/thermal/thermal_zone0/temp", "41000\n");
    let mut child = studio.command("interval: 0.05\n").spawn().unwrap();
    studio.wait_for_log("thermal", " poll\n", 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let said = refused(&["--replay"], &studio.recording);
    assert!(
        said.contains("is no recording, or one that was cut off"),
        "{said}"
    );
}

#[test]
fn replay_reads_nothing_outside_the_recording() {
    let studio = recording();
    let secret = studio.temp.write("secret", "42000\n");
    let temp = studio
        .recording
        .join("sys/class/thermal/thermal_zone0/temp");
    std::fs::remove_file(&temp).unwrap();
    for target in [secret.as_path(), Path::new("../../../../../secret")] {
        std::os::unix::fs::symlink(target, &temp).unwrap();
        let said = refused(&["--replay"], &studio.recording);
        assert!(
            said.contains("temp: the link leads out of the recording"),
            "{said}"
        );
        std::fs::remove_file(&temp).unwrap();
    }
}

/// Directories and links in a log are untrusted input.
#[test]
fn paths_in_a_log_cannot_leave_the_recording() {
    let studio = recording();
    studio.temp.write("secret/type", "secret\n");
    studio.temp.write("secret/temp", "42000\n");
    for log in ["logs/board.log", "logs/thermal.log"] {
        change(&studio, log, |text| {
            text.replace(
                "= thermal_zone0\n",
                "= thermal_zone0/../../../../secret/thermal_zone\n",
            )
        });
    }
    let mut exporter = replay(&studio.recording, &["--replay.at-once"]);
    exporter.wait_for_log("the recording has ended");
    let text = exporter.scrape();
    assert!(text.contains("cpu-thermal"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn settings_in_a_recording_open_and_start_nothing() {
    let studio = recording();
    let mark = studio.temp.path().join("mark");
    let program = studio
        .temp
        .write("program", &format!("#!/bin/sh\ntouch {}\n", mark.display()));
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    change(&studio, "config.yaml", |_| {
        format!(
            "port: off\nreload_port: off\nlanding: theirs\nudp_agent: {{enabled: true, port: 1}}\n\
             jetson: {{enabled: true, tegrastats: {0}}}\nnvidia: {{enabled: true, nvidia_smi: {0}}}\n\
             shelly: {{host: 127.0.0.1, password_file: {0}}}\n",
            program.display()
        )
    });
    let mut exporter = replay(&studio.recording, &[]);
    for source in ["tegrastats", "nvidia", "shelly 127.0.0.1"] {
        exporter.wait_for_log(&format!("has no log of {source}"));
    }
    exporter.wait_for_log("thermal: the recording has ended");
    let page = support::get(exporter.metrics, "/").text();
    assert!(!page.contains("theirs"), "{page}");
    assert!(!mark.exists(), "nothing of theirs was run");
    assert!(!exporter.log().contains("udp_agent"), "{}", exporter.log());
}

#[test]
fn invalid_record_and_replay_options_are_refused() {
    let nowhere = Path::new("/nowhere");
    for (arguments, why) in [
        (&["record", "--for", "0"][..], "--for wants seconds"),
        (&["record", "--for", "1e9"], "--for wants seconds"),
        (&["record", "--for", "soon"], "--for wants seconds"),
        (&["record", "--replay", "x"], "--replay goes with run"),
        (&["doctor", "--for", "1"], "--for goes with record"),
        (&["demo", "--replay"], "--replay goes with run"),
        (
            &["--replay.at-once", "--config"],
            "--replay.at-once goes with --replay",
        ),
        (
            &["--path.sysfs", "/x", "--replay"],
            "--path.… does not go with it",
        ),
        (&["record"], "cannot create /nowhere/recording"),
        (&["record", "a"], "unexpected argument"),
        (
            &["--replay"],
            "cannot read /nowhere/recording/recording.txt",
        ),
    ] {
        let said = refused(arguments, &nowhere.join("recording"));
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    let said = refused(&["record", "--log.level"], Path::new("info"));
    assert!(said.contains("record wants a folder"), "{said}");
}
