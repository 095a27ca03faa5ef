//! Recording everything that sources read, and replaying it on a machine without the hardware.
//!
//! Each source has an [`IoLog`] in its `Health`; the probes, which run before there are sources, have the one of the `Board`.
//! All input of a source passes through its I/O log:
//!
//! * A *request* and its response: a file's content, a register, an HTTP response. [`IoLog::record_or_replay`] performs the
//!   request; performs it and records the response; or returns the recorded response.
//! * Something *received* without waiting for a response: a line from a pipe, a datagram. It is recorded with
//!   [`IoLog::record_received`], and replayed with [`IoLog::wait`] and [`IoLog::take_received`].
//! * The *steps* of the source: opening, polling and rescanning it. They are recorded with their times and repeated at the
//!   same times, so that a replay integrates the same energy.
//!
//! Without an I/O log, reading a value costs no more than it would without this module. See `Attribute`, which keeps its
//! descriptor in another field if there is an I/O log.
//!
//! ```text
//! DIR/recording.txt    the manifest, written last
//! DIR/config.yaml      the settings of the sources, without passwords
//! DIR/logs/SOURCE.log  steps, requests and responses in the format of `line`; a response only if it differs from the last
//! DIR/sys proc dev     copies of the files that were read, laid out as a fixture board
//! DIR/metrics.prom     what was exported at the end
//! ```

pub(super) mod files;
mod layout;
mod line;
mod load;
mod mirror;
mod record;
mod replay;
mod source_log;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub use line::{
    parse as parse_line, render as render_line, EntryKind, Failure, Line, Response, Step,
};
pub use load::Recording;
pub use record::Recorder;
pub use replay::{NextStep, Replay};
pub use source_log::{LogError, SourceLog};

use self::layout::TREES;
use self::record::SourceRecorder;
use super::Roots;
use crate::sys::clock::BootTime;
use crate::sys::stop::{Stop, Woken};

/// The name of the I/O log of everything that is read before there are sources.
const BOARD: &str = "board";

/// The I/O logs of all sources.
#[derive(Debug, Clone, Default)]
pub enum IoLogs {
    /// Nothing is recorded or replayed.
    #[default]
    Off,
    /// A recording in progress.
    Record(Arc<Recorder>),
    /// A recording that is replayed.
    Replay(Arc<Recording>),
}

impl IoLogs {
    /// The I/O log of a source: the same one each time.
    pub fn for_source(&self, name: &str) -> IoLog {
        match self {
            IoLogs::Off => IoLog::default(),
            IoLogs::Record(recorder) => recorder.io_log(name),
            IoLogs::Replay(recording) => recording.io_log(name),
        }
    }

    /// The I/O log of everything that is read before there are sources.
    pub fn for_board(&self) -> IoLog {
        self.for_source(BOARD)
    }

    /// The recorded sources that no source of this process replays.
    pub fn unused(&self) -> Vec<&str> {
        match self {
            IoLogs::Replay(recording) => recording.unused(),
            IoLogs::Off | IoLogs::Record(_) => Vec::new(),
        }
    }
}

/// The I/O log of one source, or none.
#[derive(Debug, Clone, Default)]
pub struct IoLog(Option<Arc<Mode>>);

#[derive(Debug)]
enum Mode {
    Recording(SourceRecorder),
    Replaying(Arc<Recording>, Replay),
}

impl PartialEq for IoLog {
    fn eq(&self, other: &IoLog) -> bool {
        match (&self.0, &other.0) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        }
    }
}

impl Eq for IoLog {}

impl IoLog {
    fn recorded_by(recorder: SourceRecorder) -> IoLog {
        IoLog(Some(Arc::new(Mode::Recording(recorder))))
    }

    /// Whether there is no I/O log.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// The replay, when replaying.
    pub fn replay(&self) -> Option<&Replay> {
        match self.0.as_deref() {
            Some(Mode::Replaying(_, replay)) => Some(replay),
            _ => None,
        }
    }

    fn recorder(&self) -> Option<&SourceRecorder> {
        match self.0.as_deref() {
            Some(Mode::Recording(recorder)) => Some(recorder),
            _ => None,
        }
    }

    /// The current time; when replaying, the time in the replay.
    pub fn now(&self) -> BootTime {
        self.replay().map_or_else(BootTime::now, Replay::now)
    }

    /// Records that a step begins now. Returns the time.
    pub fn begin_step(&self, step: Step) -> BootTime {
        match self.recorder() {
            Some(recorder) => recorder.begin_step(step),
            None => BootTime::now(),
        }
    }

    /// Records that the readings of the poll that began then were not used.
    pub fn discard(&self, began: BootTime) {
        if let Some(recorder) = self.recorder() {
            recorder.discard(began);
        }
    }

    /// The response to a request, which `perform` performs. When replaying, the recorded response.
    pub fn record_or_replay(&self, key: &str, perform: impl FnOnce() -> Response) -> Response {
        match self.0.as_deref() {
            None => perform(),
            Some(Mode::Recording(recorder)) => {
                let response = perform();
                recorder.record(key, EntryKind::Response, &response);
                response
            }
            Some(Mode::Replaying(_, replay)) => replay
                .response(key)
                .unwrap_or_else(|| Err(Failure::new("the recording does not say"))),
        }
    }

    /// Records that something was received on the channel `key` at this time.
    pub fn record_received(&self, key: &str, at: BootTime, response: &Response) {
        if let Some(recorder) = self.recorder() {
            recorder.record_received(key, at, response);
        }
    }

    /// Sends something on the channel `key`. When replaying, returns the recorded result instead.
    pub fn send(&self, key: &str, send: impl FnOnce() -> Response) -> Response {
        match self.0.as_deref() {
            None => send(),
            Some(Mode::Recording(recorder)) => {
                let result = send();
                recorder.record(key, EntryKind::Sent, &result);
                result
            }
            Some(Mode::Replaying(_, replay)) => replay.take_sent(),
        }
    }

    /// When replaying, waits as [`Replay::wait`] does. `None`: not replaying, so the caller waits for its device.
    pub fn wait(&self, stop: &Stop) -> Option<Woken> {
        self.replay().map(|replay| replay.wait(stop))
    }

    /// When replaying, the next received data and its time, if it was received on the channel `key`.
    pub fn take_received(&self, key: &str) -> Option<(BootTime, Response)> {
        self.replay()?.take_received(key)
    }

    /// When replaying, whether the current step has more responses to requests whose first words are these.
    pub fn has_pending(&self, first_words: &str) -> bool {
        self.replay()
            .is_some_and(|replay| replay.has_pending(first_words))
    }
}

/// The three trees of a board's files, and the names that their paths have in a recording.
#[derive(Debug, Clone)]
struct BoardPaths {
    /// Each root as it is configured, and its canonical path.
    roots: [[PathBuf; 2]; 3],
}

impl BoardPaths {
    fn new(roots: &Roots) -> BoardPaths {
        let both = |root: &PathBuf| {
            let canonical = root.canonicalize().unwrap_or_else(|_| root.clone());
            [root.clone(), canonical]
        };
        BoardPaths {
            roots: [both(&roots.sysfs), both(&roots.procfs), both(&roots.dev)],
        }
    }

    /// The tree that a path is in, and the path below the tree's root. `None`: the path is in no tree.
    fn locate<'a>(&self, path: &'a Path) -> Option<(usize, &'a Path)> {
        self.roots.iter().enumerate().find_map(|(tree, roots)| {
            let below = roots.iter().find_map(|root| path.strip_prefix(root).ok());
            below.map(|below| (tree, below))
        })
    }

    /// The name of a path in a recording: `sys/class/hwmon`.
    fn name_of(&self, path: &Path) -> Option<Vec<u8>> {
        let (tree, below) = self.locate(path)?;
        let path = Path::new(TREES.get(tree)?).join(below);
        Some(path.into_os_string().into_encoded_bytes())
    }

    /// The name of a path, escaped as a word of a request's key.
    fn key_of(&self, path: &Path) -> Option<String> {
        self.name_of(path).map(line::escape_word)
    }

    /// The path with this name. `None`: the name leads out of its tree.
    fn path_of(&self, name: &[u8]) -> Option<PathBuf> {
        let name = Path::new(OsStr::from_bytes(name));
        let mut components = name.components();
        let tree = components.next()?;
        let tree = TREES.iter().position(|name| tree.as_os_str() == *name)?;
        let [_, root] = self.roots.get(tree)?;
        let mut path = root.clone();
        for component in components {
            match component {
                Component::Normal(name) => path.push(name),
                _ => return None,
            }
        }
        Some(path)
    }
}

/// Escapes text for use as one word of a request's key.
pub fn escape_word(text: impl AsRef<OsStr>) -> String {
    line::escape_word(text.as_ref().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;

    #[test]
    fn paths_have_names_and_no_name_leads_out_of_its_tree() {
        let tree = Tree::new(&[("sys/a", "")]);
        let paths = BoardPaths::new(&tree.roots());
        let name = |path: &str| paths.key_of(&tree.path(path));
        assert_eq!(name("sys/class/a b").as_deref(), Some("sys/class/a\\x20b"));
        assert_eq!(name("dev").as_deref(), Some("dev/"));
        assert_eq!(name("elsewhere"), None);
        assert_eq!(paths.key_of(Path::new("/etc/passwd")), None);
        let sys = tree.path("sys").canonicalize().unwrap();
        let path = |name: &str| paths.path_of(name.as_bytes());
        assert_eq!(path("sys/class/a b"), Some(sys.join("class/a b")));
        for name in [
            "",
            "/",
            "/etc",
            "etc/passwd",
            "sys/../x",
            "sys/a/../../..",
            "..",
            ".",
        ] {
            assert_eq!(path(name), None, "{name}");
        }
    }
}
