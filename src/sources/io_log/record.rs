//! Recording: a directory, its logs, and the limits on both.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::layout::{manifest, plain, Limits, CONFIG, LIMITS, LOGS, MANIFEST, METRICS, TREES};
use super::line::{self, Answer, Kind, Line, Step};
use super::log::HEAD;
use super::mirror::Mirror;
use super::{IoLog, Places};
use crate::sources::Roots;
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::reason;

/// So much is kept until it is written.
const CHUNK: usize = 64 * 1024;
/// What a file, a folder or a link is counted for.
const ENTRY: u64 = 256;

/// A recording that is being made.
#[derive(Debug)]
pub struct Recorder {
    dir: PathBuf,
    began: BootTime,
    places: Places,
    mirrors: Mutex<Vec<Mirror>>,
    io_logs: Mutex<HashMap<String, IoLog>>,
    bytes: AtomicU64,
    lines: AtomicU64,
    limits: Limits,
    closed: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl Recorder {
    /// Begins a recording of the board with these roots in `dir`, which is made, or is an empty folder. `config` is what
    /// it will be replayed with. An error names what was in the way.
    pub fn begin(dir: &Path, roots: &Roots, config: &str) -> Result<Arc<Recorder>, String> {
        Recorder::within(LIMITS, dir, roots, config)
    }

    fn within(
        limits: Limits,
        dir: &Path,
        roots: &Roots,
        config: &str,
    ) -> Result<Arc<Recorder>, String> {
        let cannot = |what: &str, path: &Path, error: io::Error| {
            format!("cannot {what} {}: {}", path.display(), reason(&error))
        };
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut entries = fs::read_dir(dir).map_err(|e| cannot("record into", dir, e))?;
                if entries.next().is_some() {
                    let dir = dir.display();
                    return Err(format!(
                        "{dir} is not empty: a recording has a folder of its own"
                    ));
                }
            }
            made => made.map_err(|e| cannot("create", dir, e))?,
        }
        let logs = dir.join(LOGS);
        fs::create_dir(&logs).map_err(|e| cannot("create", &logs, e))?;
        let path = dir.join(CONFIG);
        fs::write(&path, config).map_err(|e| cannot("write", &path, e))?;
        let live = [&roots.sysfs, &roots.procfs, &roots.dev];
        let mirrors = live.iter().zip(TREES).map(|(live, tree)| {
            let copy = dir.join(tree);
            Mirror::new(live, copy.clone()).map_err(|e| cannot("create", &copy, e))
        });
        Ok(Arc::new(Recorder {
            dir: dir.to_path_buf(),
            began: BootTime::now(),
            places: Places::new(roots),
            mirrors: Mutex::new(mirrors.collect::<Result<_, _>>()?),
            io_logs: Mutex::default(),
            bytes: AtomicU64::new(config.len() as u64),
            lines: AtomicU64::new(0),
            limits,
            closed: AtomicBool::new(false),
            trouble: Mutex::default(),
        }))
    }

    /// The I/O log of this source, made at the first time.
    pub(super) fn io_log(self: &Arc<Self>, name: &str) -> IoLog {
        let name = plain(name);
        let mut io_logs = lock::lock(&self.io_logs);
        if let Some(io_log) = io_logs.get(&name) {
            return io_log.clone();
        }
        let writing = Writing {
            recorder: Arc::clone(self),
            state: Mutex::new(State {
                out: self.create_log(&name, io_logs.len()),
                last: HashMap::new(),
                text: format!("{HEAD}{name}\n"),
            }),
        };
        let io_log = IoLog::writing(writing);
        io_logs.insert(name, io_log.clone());
        io_log
    }

    /// The file for a source's log; `None` if it cannot be had, or all has ended.
    fn create_log(&self, name: &str, number: usize) -> Option<File> {
        let plain = |c: char| match c {
            c if c.is_ascii_alphanumeric() => c,
            '_' | '.' => c,
            _ => '-',
        };
        let file: String = name.chars().take(64).map(plain).collect();
        let create = |file: String| File::create_new(self.dir.join(LOGS).join(file));
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        // Two devices' names may differ in what no file's name should have.
        let created =
            create(format!("{file}.log")).or_else(|_| create(format!("{file}-{number}.log")));
        created
            .map_err(|error| self.fail(&format!("cannot create a log: {}", reason(&error))))
            .ok()
    }

    /// Why it is to end early: it is as large as it may be, or cannot be written.
    pub fn trouble(&self) -> Option<String> {
        let (bytes, lines) = (
            self.bytes.load(Ordering::Relaxed),
            self.lines.load(Ordering::Relaxed),
        );
        let full = || {
            (bytes > self.limits.bytes || lines > self.limits.lines).then(|| {
                format!(
                    "{} is as large as a recording may be ({} MiB in {lines} lines)",
                    self.dir.display(),
                    bytes >> 20
                )
            })
        };
        self.failed().or_else(full)
    }

    fn failed(&self) -> Option<String> {
        lock::lock(&self.trouble).clone()
    }

    fn fail(&self, what: &str) {
        let what = format!("{what} ({})", self.dir.display());
        lock::lock(&self.trouble).get_or_insert(what);
    }

    /// Whether so much more may be written. It is written in any case until all have been told to end, but not without end.
    fn spend(&self, bytes: u64) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= self.limits.bytes_in_all && !self.closed.load(Ordering::Acquire)
    }

    fn since(&self, at: BootTime) -> u64 {
        at.0.saturating_sub(self.began.0)
    }

    /// Copies what leads to a file, and what was read of it first.
    fn mirror(&self, path: &Path, content: Option<&[u8]>) {
        let Some((tree, below)) = self.places.place(path) else {
            return;
        };
        if !self.spend(content.map_or(0, |c| c.len() as u64)) {
            return;
        }
        let mut mirrors = lock::lock(&self.mirrors);
        let Some(mirror) = mirrors.get_mut(tree) else {
            return;
        };
        let made = match content {
            Some(content) => mirror.fill(below, content),
            None => mirror.reflect(below),
        };
        match made {
            Ok(made) => drop(self.spend(made as u64 * ENTRY)),
            // What has just gone cannot be copied; for a disk that is full, the logs will say so.
            Err(error) => log::debug!("record: {}: {}", path.display(), reason(&error)),
        }
    }

    /// Ends the recording: nothing is recorded any more. `metrics` is what was exported at the end.
    pub fn finish(&self, metrics: &str) -> Result<(), String> {
        self.closed.store(true, Ordering::Release);
        let length = self.since(BootTime::now());
        for io_log in lock::lock(&self.io_logs).values() {
            if let Some(writing) = io_log.recording() {
                writing.end(length);
            }
        }
        for mirror in lock::lock(&self.mirrors).iter() {
            if let Err(error) = mirror.keep_empty_folders() {
                self.fail(&format!("cannot finish the files: {}", reason(&error)));
            }
        }
        let write = |name: &str, text: &str| {
            let path = self.dir.join(name);
            fs::write(&path, text)
                .map_err(|e| format!("cannot write {}: {}", path.display(), reason(&e)))
        };
        if let Some(failed) = self.failed() {
            return Err(failed);
        }
        write(METRICS, metrics)?;
        // The last thing: what has it, is whole.
        write(MANIFEST, &manifest(length))
    }
}

/// A source's log that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    recorder: Arc<Recorder>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: it cannot be written.
    out: Option<File>,
    /// The last answer to each question.
    last: HashMap<String, Answer>,
    /// Lines that are not written yet.
    text: String,
}

impl Writing {
    pub(super) fn places(&self) -> &Places {
        &self.recorder.places
    }

    pub(super) fn mirror(&self, path: &Path, content: Option<&[u8]>) {
        self.recorder.mirror(path, content);
    }

    pub(super) fn act(&self, act: Step) -> BootTime {
        let mut state = lock::lock(&self.state);
        let now = BootTime::now();
        self.put(&mut state, now, &Line::Step(act));
        now
    }

    pub(super) fn discard(&self, began: BootTime) {
        let then = self.recorder.since(began);
        let mut state = lock::lock(&self.state);
        self.put(&mut state, BootTime::now(), &Line::Discard(then));
    }

    /// What was asked or sent, and how that ended. An answer that is the same as the one before is not recorded again.
    pub(super) fn fact(&self, key: &str, kind: Kind, answer: &Answer) {
        let mut state = lock::lock(&self.state);
        if kind == Kind::Asked {
            if state.last.get(key) == Some(answer) {
                return;
            }
            state.last.insert(key.to_string(), answer.clone());
        }
        let line = Line::Fact {
            key: key.to_string(),
            kind,
            answer: answer.clone(),
        };
        self.put(&mut state, BootTime::now(), &line);
    }

    /// As [`Writing::fact`], where nothing needs to be said as long as all is well.
    pub(super) fn check(&self, key: &str, answer: &Answer) {
        if answer.is_ok() {
            let mut state = lock::lock(&self.state);
            if !state.last.contains_key(key) {
                state.last.insert(key.to_string(), answer.clone());
                return;
            }
        }
        self.fact(key, Kind::Asked, answer);
    }

    pub(super) fn came(&self, key: &str, at: BootTime, answer: &Answer) {
        let line = Line::Fact {
            key: key.to_string(),
            kind: Kind::Came,
            answer: answer.clone(),
        };
        self.put(&mut lock::lock(&self.state), at, &line);
    }

    /// Adds a line, and writes what there is when the next thing begins.
    fn put(&self, state: &mut State, at: BootTime, line: &Line) {
        let is_answer = matches!(
            line,
            Line::Fact {
                kind: Kind::Asked,
                ..
            }
        );
        let head = state.text.len();
        line::write(&mut state.text, self.recorder.since(at), line);
        if !self.recorder.spend((state.text.len() - head) as u64) {
            state.text.truncate(head);
        }
        self.recorder.lines.fetch_add(1, Ordering::Relaxed);
        if !is_answer || state.text.len() > CHUNK {
            self.write(state);
        }
    }

    fn write(&self, state: &mut State) {
        if let Some(file) = &mut state.out {
            if let Err(error) = file.write_all(state.text.as_bytes()) {
                self.recorder
                    .fail(&format!("cannot write a log: {}", reason(&error)));
                state.out = None;
            }
        }
        state.text.clear();
    }

    fn end(&self, at: u64) {
        let mut state = lock::lock(&self.state);
        line::write(&mut state.text, at, &Line::End);
        self.write(&mut state);
        // Nothing comes after the end.
        state.out = None;
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
