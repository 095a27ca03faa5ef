//! Recordings made and replayed by the real binary.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::support::{
    command, difference, exporter, on_board, wait_until, Exporter, TempDir, WAIT_TIMEOUT,
};

/// A board, its recording, and the directory of both.
pub struct Studio {
    pub temp: TempDir,
    pub board: PathBuf,
    pub recording: PathBuf,
    began: Instant,
}

impl Studio {
    pub fn new() -> Studio {
        let temp = TempDir::new();
        let board = temp.path().join("board");
        for root in ["sys", "proc", "dev"] {
            std::fs::create_dir_all(board.join(root)).unwrap();
        }
        Studio {
            recording: temp.path().join("recording"),
            board,
            temp,
            began: Instant::now(),
        }
    }

    /// Writes a file of the board in place, as the kernel does.
    pub fn write(&self, path: &str, content: &str) {
        self.temp.write(&format!("board/{path}"), content);
    }

    /// Creates a link of the board.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.board.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// The `record` command with this configuration.
    pub fn command(&self, config: &str) -> Command {
        let config = self.temp.write("config.yaml", config);
        let mut command = command();
        command.arg("record").arg(&self.recording);
        on_board(&mut command, &self.board);
        command.arg("--config").arg(config);
        command
    }

    /// Records while `meanwhile` runs, then removes the board. Returns the output.
    pub fn record(&self, mut command: Command, meanwhile: impl FnOnce()) -> String {
        let child = command.args(["--for", "600"]).spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let begun = || self.recording.join("logs").exists().then_some(());
        wait_until("the recording has begun", begun);
        meanwhile();
        kill(pid, Signal::SIGTERM).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        std::fs::remove_dir_all(&self.board).unwrap();
        said
    }

    /// A file of the recording.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.recording.join(path)).unwrap()
    }

    pub fn log(&self, source: &str) -> String {
        self.read(&format!("logs/{source}.log"))
    }

    /// Waits until a source's log has this many lines with `text`.
    pub fn wait_for_log(&self, source: &str, text: &str, most: usize) {
        // The progress of the recorder shows in its files only.
        let path = self.recording.join(format!("logs/{source}.log"));
        wait_until(&format!("{source} has {most} of {text:?}"), || {
            let log = std::fs::read_to_string(&path).ok()?;
            (log.matches(text).count() >= most).then_some(())
        });
    }

    /// Replays it elsewhere in both modes, and compares the end with what was exported at the end of the recording.
    pub fn replays_as_it_was(&self) -> String {
        let elsewhere = self.temp.path().join("elsewhere");
        std::fs::rename(&self.recording, &elsewhere).unwrap();
        let expected = std::fs::read_to_string(elsewhere.join("metrics.prom")).unwrap();
        assert!(
            expected.lines().any(|line| !line.starts_with('#')),
            "something was read"
        );
        for more in [&["--replay.at-once"][..], &[]] {
            let exporter = replay(&elsewhere, more);
            let mut last = String::new();
            // A replay takes as long as the recording.
            let end = Instant::now() + self.began.elapsed() + WAIT_TIMEOUT;
            while last != expected {
                assert!(
                    Instant::now() < end,
                    "{more:?}: {}",
                    difference(&expected, &last)
                );
                std::thread::sleep(Duration::from_millis(50));
                last = of_board(&exporter.scrape());
            }
        }
        std::fs::rename(&elsewhere, &self.recording).unwrap();
        expected
    }
}

/// A replay on a machine without the recorded devices.
pub fn replay(recording: &Path, more: &[&str]) -> Exporter {
    let mut command = exporter();
    command.arg("--replay").arg(recording).args(more);
    Exporter::start(command.env("PATH", "/nowhere"))
}

/// The board's part of an exposition.
pub fn of_board(text: &str) -> String {
    let is_own = |line: &&str| {
        let name = line
            .trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ");
        !name.starts_with("exporter_") && !name.starts_with("process_")
    };
    text.lines()
        .filter(is_own)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The message with which the binary fails for these arguments.
pub fn refused(arguments: &[&str], more: &Path) -> String {
    let Output { status, stderr, .. } = command().args(arguments).arg(more).output().unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{said}");
    said
}
