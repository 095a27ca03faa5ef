//! Making a recording: its directory, the logs of its sources, and the limits on its size.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::layout::{
    manifest, name_in_log, Limits, CONFIG, LIMITS, LOGS, MANIFEST, METRICS, TREES,
};
use super::line::{self, EntryKind, Line, Response, Step};
use super::mirror::Mirror;
use super::source_log::HEAD;
use super::{BoardPaths, IoLog};
use crate::sources::Roots;
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::reason;

/// The most bytes of a log's lines that are buffered.
const BUFFER_BYTES: usize = 64 * 1024;
/// A file, a folder or a link counts as this many bytes towards the limit.
const ENTRY_BYTES: u64 = 256;

/// A recording in progress.
#[derive(Debug)]
pub struct Recorder {
    dir: PathBuf,
    began: BootTime,
    paths: BoardPaths,
    mirrors: Mutex<Vec<Mirror>>,
    io_logs: Mutex<HashMap<String, IoLog>>,
    bytes: AtomicU64,
    lines: AtomicU64,
    limits: Limits,
    is_finished: AtomicBool,
    /// The first error that prevents the recording from being complete.
    error: Mutex<Option<String>>,
}

impl Recorder {
    /// Begins a recording of the board with these roots. `dir` is created, or is an empty folder. `config` is what the
    /// recording will be replayed with. The error names the path and what failed.
    pub fn begin(dir: &Path, roots: &Roots, config: &str) -> Result<Arc<Recorder>, String> {
        Recorder::begin_with_limits(LIMITS, dir, roots, config)
    }

    fn begin_with_limits(
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
            created => created.map_err(|e| cannot("create", dir, e))?,
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
            paths: BoardPaths::new(roots),
            mirrors: Mutex::new(mirrors.collect::<Result<_, _>>()?),
            io_logs: Mutex::default(),
            bytes: AtomicU64::new(config.len() as u64),
            lines: AtomicU64::new(0),
            limits,
            is_finished: AtomicBool::new(false),
            error: Mutex::default(),
        }))
    }

    /// The I/O log of a source, created on first use.
    pub(super) fn io_log(self: &Arc<Self>, name: &str) -> IoLog {
        let name = name_in_log(name);
        let mut io_logs = lock::lock(&self.io_logs);
        if let Some(io_log) = io_logs.get(&name) {
            return io_log.clone();
        }
        let recorder = SourceRecorder {
            recorder: Arc::clone(self),
            state: Mutex::new(State {
                file: self.create_log(&name, io_logs.len()),
                latest: HashMap::new(),
                buffer: format!("{HEAD}{name}\n"),
            }),
        };
        let io_log = IoLog::recorded_by(recorder);
        io_logs.insert(name, io_log.clone());
        io_log
    }

    /// Creates the file for a source's log. `None`: it cannot be created, or the recording is finished.
    fn create_log(&self, name: &str, number: usize) -> Option<File> {
        let safe = |c: char| match c {
            c if c.is_ascii_alphanumeric() => c,
            '_' | '.' => c,
            _ => '-',
        };
        let file: String = name.chars().take(64).map(safe).collect();
        let create = |file: String| File::create_new(self.dir.join(LOGS).join(file));
        if self.is_finished.load(Ordering::Acquire) {
            return None;
        }
        // Two devices' names may differ only in characters that were replaced.
        let created =
            create(format!("{file}.log")).or_else(|_| create(format!("{file}-{number}.log")));
        created
            .map_err(|error| self.fail(&format!("cannot create a log: {}", reason(&error))))
            .ok()
    }

    /// Why the recording must end early, if it must: it has reached its largest size, or cannot be written.
    pub fn stop_reason(&self) -> Option<String> {
        let (bytes, lines) = (
            self.bytes.load(Ordering::Relaxed),
            self.lines.load(Ordering::Relaxed),
        );
        let too_large = || {
            (bytes > self.limits.end_at_bytes || lines > self.limits.end_at_lines).then(|| {
                format!(
                    "{} is as large as a recording may be ({} MiB in {lines} lines)",
                    self.dir.display(),
                    bytes >> 20
                )
            })
        };
        self.error().or_else(too_large)
    }

    fn error(&self) -> Option<String> {
        lock::lock(&self.error).clone()
    }

    fn fail(&self, what: &str) {
        let what = format!("{what} ({})", self.dir.display());
        lock::lock(&self.error).get_or_insert(what);
    }

    /// Counts bytes to be written, and returns whether they may be. Beyond `end_at_bytes` writing goes on until all sources
    /// have stopped, but never beyond `max_bytes`.
    fn reserve(&self, bytes: u64) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= self.limits.max_bytes && !self.is_finished.load(Ordering::Acquire)
    }

    /// The time since the recording began, in nanoseconds.
    fn since_begin(&self, at: BootTime) -> u64 {
        at.0.saturating_sub(self.began.0)
    }

    /// Copies a file with its folders and links. `content` is copied when the file is read for the first time.
    fn mirror(&self, path: &Path, content: Option<&[u8]>) {
        let Some((tree, below)) = self.paths.locate(path) else {
            return;
        };
        if !self.reserve(content.map_or(0, |c| c.len() as u64)) {
            return;
        }
        let mut mirrors = lock::lock(&self.mirrors);
        let Some(mirror) = mirrors.get_mut(tree) else {
            return;
        };
        let created = match content {
            Some(content) => mirror.copy_content(below, content),
            None => mirror.copy_path(below),
        };
        match created {
            Ok(created) => drop(self.reserve(created as u64 * ENTRY_BYTES)),
            // A file that was just removed cannot be copied. If the disk is full, writing a log reports it.
            Err(error) => log::debug!("record: {}: {}", path.display(), reason(&error)),
        }
    }

    /// Finishes the recording. Nothing is recorded after this. `metrics` is what was exported at the end.
    pub fn finish(&self, metrics: &str) -> Result<(), String> {
        self.is_finished.store(true, Ordering::Release);
        let length = self.since_begin(BootTime::now());
        for io_log in lock::lock(&self.io_logs).values() {
            if let Some(recorder) = io_log.recorder() {
                recorder.finish(length);
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
        if let Some(error) = self.error() {
            return Err(error);
        }
        write(METRICS, metrics)?;
        // The manifest is written last: a directory that has one is complete.
        write(MANIFEST, &manifest(length))
    }
}

/// Records the log of one source.
#[derive(Debug)]
pub(super) struct SourceRecorder {
    recorder: Arc<Recorder>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: the file cannot be written, or the recording is finished.
    file: Option<File>,
    /// The latest response to each request.
    latest: HashMap<String, Response>,
    /// Lines that are not written yet.
    buffer: String,
}

impl SourceRecorder {
    pub(super) fn paths(&self) -> &BoardPaths {
        &self.recorder.paths
    }

    pub(super) fn mirror(&self, path: &Path, content: Option<&[u8]>) {
        self.recorder.mirror(path, content);
    }

    pub(super) fn begin_step(&self, step: Step) -> BootTime {
        let mut state = lock::lock(&self.state);
        let now = BootTime::now();
        self.append(&mut state, now, &Line::Step(step));
        now
    }

    pub(super) fn discard(&self, began: BootTime) {
        let then = self.recorder.since_begin(began);
        let mut state = lock::lock(&self.state);
        self.append(&mut state, BootTime::now(), &Line::Discard(then));
    }

    /// Records a response, or the result of sending. A response equal to the previous one of the same key is not recorded.
    pub(super) fn record(&self, key: &str, kind: EntryKind, response: &Response) {
        let mut state = lock::lock(&self.state);
        if kind == EntryKind::Response {
            if state.latest.get(key) == Some(response) {
                return;
            }
            state.latest.insert(key.to_string(), response.clone());
        }
        let line = Line::Entry {
            key: key.to_string(),
            kind,
            response: response.clone(),
        };
        self.append(&mut state, BootTime::now(), &line);
    }

    /// Records the response to a request that normally succeeds: nothing is recorded before the first failure.
    pub(super) fn record_after_failure(&self, key: &str, response: &Response) {
        if response.is_ok() {
            let mut state = lock::lock(&self.state);
            if !state.latest.contains_key(key) {
                state.latest.insert(key.to_string(), response.clone());
                return;
            }
        }
        self.record(key, EntryKind::Response, response);
    }

    pub(super) fn record_received(&self, key: &str, at: BootTime, response: &Response) {
        let line = Line::Entry {
            key: key.to_string(),
            kind: EntryKind::Received,
            response: response.clone(),
        };
        self.append(&mut lock::lock(&self.state), at, &line);
    }

    /// Appends a line. The buffer is written unless the line is a response, since more of these usually follow.
    fn append(&self, state: &mut State, at: BootTime, line: &Line) {
        let is_response = matches!(
            line,
            Line::Entry {
                kind: EntryKind::Response,
                ..
            }
        );
        let start = state.buffer.len();
        line::write(&mut state.buffer, self.recorder.since_begin(at), line);
        if !self.recorder.reserve((state.buffer.len() - start) as u64) {
            state.buffer.truncate(start);
        }
        self.recorder.lines.fetch_add(1, Ordering::Relaxed);
        if !is_response || state.buffer.len() > BUFFER_BYTES {
            self.write_buffer(state);
        }
    }

    fn write_buffer(&self, state: &mut State) {
        if let Some(file) = &mut state.file {
            if let Err(error) = file.write_all(state.buffer.as_bytes()) {
                self.recorder
                    .fail(&format!("cannot write a log: {}", reason(&error)));
                state.file = None;
            }
        }
        state.buffer.clear();
    }

    fn finish(&self, at: u64) {
        let mut state = lock::lock(&self.state);
        line::write(&mut state.buffer, at, &Line::End);
        self.write_buffer(&mut state);
        state.file = None;
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
