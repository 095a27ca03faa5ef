//! The io_log: everything the sources learn from the world outside passes by here, and can be recorded to a directory of
//! plain files, or played from one on a machine that has none of it.
//!
//! A source has a [`IoLog`] with its `Health`, the probes have one with the `Board`. Most of what a source learns is the
//! answer to a *question*: a file's content, a register, what a device says to a request. It goes through [`IoLog::ask`],
//! which asks, or asks and records, or plays what was answered. What *comes by itself* (a line in a pipe, a datagram) is
//! recorded with [`IoLog::came`] and played with [`IoLog::wait`] and [`IoLog::take`]. And whatever the runner does with the
//! source, open it or poll it, is recorded with its time, so that a replay polls at the same moments: it integrates the
//! same energy.
//!
//! Without an I/O log, the way to a value is as it would be without this module: whoever keeps a descriptor has it elsewhere
//! when there is an I/O log (see `Attribute`).
//!
//! ```text
//! DIR/recording.txt    that it is one, and what is in it
//! DIR/config.yaml      the sources' settings, without passwords
//! DIR/logs/SOURCE.log  what was asked and answered (`line` has the form), only what differs from the answer before
//! DIR/sys proc dev     the files that were looked at, as a fixture board has them
//! DIR/metrics.prom     what was exported at the end
//! ```

pub(super) mod files;
mod layout;
mod line;
mod load;
mod log;
mod mirror;
mod play;
mod record;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub use line::{parse as parse_line, render as render_line, Answer, Failure, Kind, Line, Step};
pub use load::Recording;
pub use log::{Log, Wrong};
pub use play::{Next, Playing};
pub use record::Recorder;

use self::layout::TREES;
use self::record::Writing;
use super::Roots;
use crate::sys::clock::BootTime;
use crate::sys::stop::{Stop, Woken};

/// The name of the I/O log for what is looked at before there are sources.
const BOARD: &str = "board";

/// Where I/O logs come from.
#[derive(Debug, Clone, Default)]
pub enum IoLogs {
    /// There are none: the world is as it is.
    #[default]
    Off,
    /// It is recorded.
    Record(Arc<Recorder>),
    /// It is played.
    Play(Arc<Recording>),
}

impl IoLogs {
    /// The I/O log of this source: always the same one for a name.
    pub fn of(&self, source: &str) -> IoLog {
        match self {
            IoLogs::Off => IoLog::default(),
            IoLogs::Record(recorder) => recorder.io_log(source),
            IoLogs::Play(recording) => recording.io_log(source),
        }
    }

    /// What was recorded of sources that do not ask for it.
    pub fn unused(&self) -> Vec<&str> {
        match self {
            IoLogs::Play(recording) => recording.unused(),
            IoLogs::Off | IoLogs::Record(_) => Vec::new(),
        }
    }

    /// The I/O log for what is looked at before there are sources.
    pub fn of_board(&self) -> IoLog {
        self.of(BOARD)
    }
}

/// One source's I/O log, or none.
#[derive(Debug, Clone, Default)]
pub struct IoLog(Option<Arc<Mode>>);

#[derive(Debug)]
enum Mode {
    Writing(Writing),
    Playing(Arc<Recording>, Playing),
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
    fn writing(writing: Writing) -> IoLog {
        IoLog(Some(Arc::new(Mode::Writing(writing))))
    }

    /// Whether there is no I/O log.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// What is being played, if anything is.
    pub fn playing(&self) -> Option<&Playing> {
        match self.0.as_deref() {
            Some(Mode::Playing(_, playing)) => Some(playing),
            _ => None,
        }
    }

    fn recording(&self) -> Option<&Writing> {
        match self.0.as_deref() {
            Some(Mode::Writing(writing)) => Some(writing),
            _ => None,
        }
    }

    /// Now; when playing, the time of what is being played.
    pub fn now(&self) -> BootTime {
        self.playing().map_or_else(BootTime::now, Playing::now)
    }

    /// The source begins something, now.
    pub fn begins(&self, act: Step) -> BootTime {
        match self.recording() {
            Some(writing) => writing.act(act),
            None => BootTime::now(),
        }
    }

    /// Nothing came of the poll that began then.
    pub fn discard(&self, began: BootTime) {
        if let Some(writing) = self.recording() {
            writing.discard(began);
        }
    }

    /// The answer to a question: by asking, or as it was recorded.
    pub fn ask(&self, key: &str, ask: impl FnOnce() -> Answer) -> Answer {
        match self.0.as_deref() {
            None => ask(),
            Some(Mode::Writing(writing)) => {
                let answer = ask();
                writing.fact(key, Kind::Asked, &answer);
                answer
            }
            Some(Mode::Playing(_, playing)) => playing
                .answer(key)
                .unwrap_or_else(|| Err(Failure::new("the recording does not say"))),
        }
    }

    /// Something came by itself, at this time.
    pub fn came(&self, key: &str, at: BootTime, answer: &Answer) {
        if let Some(writing) = self.recording() {
            writing.came(key, at, answer);
        }
    }

    /// Sends something; or says how that ended.
    pub fn send(&self, key: &str, send: impl FnOnce() -> Answer) -> Answer {
        match self.0.as_deref() {
            None => send(),
            Some(Mode::Writing(writing)) => {
                let outcome = send();
                writing.fact(key, Kind::Sent, &outcome);
                outcome
            }
            Some(Mode::Playing(_, playing)) => playing.sent(),
        }
    }

    /// When playing, waits as [`Playing::wait`] does; `None`: wait yourself.
    pub fn wait(&self, stop: &Stop) -> Option<Woken> {
        self.playing().map(|playing| playing.wait(stop))
    }

    /// When playing, what came, if that is next and of this kind.
    pub fn take(&self, key: &str) -> Option<(BootTime, Answer)> {
        self.playing()?.take(key)
    }

    /// Whether an answer to a question that begins so needs not be waited for, since it is known already.
    pub fn has_more(&self, begin: &str) -> bool {
        self.playing()
            .is_some_and(|playing| playing.has_more(begin))
    }
}

/// The three trees of a board's files, and how their paths are named in a recording.
#[derive(Debug, Clone)]
struct Places {
    /// Each as it is named, and free of links.
    roots: [[PathBuf; 2]; 3],
}

impl Places {
    fn new(roots: &Roots) -> Places {
        let both = |root: &PathBuf| {
            let free = root.canonicalize().unwrap_or_else(|_| root.clone());
            [root.clone(), free]
        };
        Places {
            roots: [both(&roots.sysfs), both(&roots.procfs), both(&roots.dev)],
        }
    }

    /// Which tree a path is in, and where in it. `None`: it is none of the board's.
    fn place<'a>(&self, path: &'a Path) -> Option<(usize, &'a Path)> {
        self.roots.iter().enumerate().find_map(|(tree, roots)| {
            let below = roots.iter().find_map(|root| path.strip_prefix(root).ok());
            below.map(|below| (tree, below))
        })
    }

    /// What a path is called in a recording: `sys/class/hwmon`.
    fn name(&self, path: &Path) -> Option<Vec<u8>> {
        let (tree, below) = self.place(path)?;
        let path = Path::new(TREES.get(tree)?).join(below);
        Some(path.into_os_string().into_encoded_bytes())
    }

    /// The same in a question.
    fn key(&self, path: &Path) -> Option<String> {
        self.name(path).map(line::word)
    }

    /// The path that is called so. `None`: it would lead out of its tree.
    fn path(&self, name: &[u8]) -> Option<PathBuf> {
        let name = Path::new(OsStr::from_bytes(name));
        let mut steps = name.components();
        let tree = steps.next()?;
        let tree = TREES.iter().position(|name| tree.as_os_str() == *name)?;
        let [_, root] = self.roots.get(tree)?;
        let mut path = root.clone();
        for step in steps {
            match step {
                Component::Normal(step) => path.push(step),
                _ => return None,
            }
        }
        Some(path)
    }
}

/// A word of a question: any text, without anything that means something in a log.
pub fn word(text: impl AsRef<OsStr>) -> String {
    line::word(text.as_ref().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;

    #[test]
    fn paths_have_names_and_no_name_leads_out() {
        let tree = Tree::new(&[("sys/a", "")]);
        let places = Places::new(&tree.roots());
        let name = |path: &str| places.key(&tree.path(path));
        assert_eq!(name("sys/class/a b").as_deref(), Some("sys/class/a\\x20b"));
        assert_eq!(name("dev").as_deref(), Some("dev/"));
        assert_eq!(name("elsewhere"), None);
        assert_eq!(places.key(Path::new("/etc/passwd")), None);
        let sys = tree.path("sys").canonicalize().unwrap();
        let path = |name: &str| places.path(name.as_bytes());
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
