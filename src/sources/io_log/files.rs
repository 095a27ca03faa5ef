//! Access to files: whether a file exists, its content, the names in a folder, and the target of a link.
//!
//! All access is recorded and replayed. Where a recording has no response, its copy of the files is read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::natural::natural;
use super::mirror::PLACEHOLDER;
use super::{EntryKind, Failure, IoLog, Mode, Recording, Replay, Response, SourceRecorder};
use crate::sys::sort::{sort, sort_by};

/// How a path is accessed. The keys are the path's name in the recording.
enum Access<'a> {
    Live,
    Record(&'a SourceRecorder, String),
    Replay(&'a Recording, &'a Replay, String),
}

/// A path outside the board's three trees is always accessed live.
fn access<'a>(io_log: &'a IoLog, path: &Path) -> Access<'a> {
    let access = match io_log.0.as_deref() {
        None => None,
        Some(Mode::Recording(recorder)) => {
            let key = recorder.paths().key_of(path);
            key.map(|key| Access::Record(recorder, key))
        }
        Some(Mode::Replaying(recording, replay)) => {
            let key = recording.paths().key_of(path);
            key.map(|key| Access::Replay(recording, replay, key))
        }
    };
    access.unwrap_or(Access::Live)
}

/// The key of a path, if there is an I/O log and the path is in one of the board's trees.
pub(in crate::sources) fn key(io_log: &IoLog, path: &Path) -> Option<String> {
    match access(io_log, path) {
        Access::Live => None,
        Access::Record(_, key) | Access::Replay(_, _, key) => Some(key),
    }
}

/// Whether anything exists at `path`.
pub(in crate::sources) fn exists(io_log: &IoLog, path: &Path) -> bool {
    stat(io_log, path).is_ok()
}

/// Succeeds if anything exists at `path`.
pub(in crate::sources) fn stat(io_log: &IoLog, path: &Path) -> io::Result<()> {
    check(io_log, path, "look", || fs::metadata(path).map(|_| ()))
}

/// Succeeds if the file at `path` may be read.
pub(in crate::sources) fn may_be_read(io_log: &IoLog, path: &Path) -> io::Result<()> {
    use nix::unistd::AccessFlags;
    check(io_log, path, "access", || {
        Ok(nix::unistd::access(path, AccessFlags::R_OK)?)
    })
}

/// Calls `open`, which opens the device at `path`. When replaying, returns the recorded result instead.
pub(in crate::sources) fn open(
    io_log: &IoLog,
    path: &Path,
    open: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    check(io_log, path, "open", open)
}

/// A request that has only success or failure. Success is normally not recorded, since the copied file shows it.
fn check(
    io_log: &IoLog,
    path: &Path,
    verb: &str,
    mut live: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    match access(io_log, path) {
        Access::Live => live(),
        Access::Record(recorder, key) => {
            let result = live();
            if result.is_ok() {
                recorder.mirror(path, None);
            }
            let response: Response = match &result {
                Ok(()) => Ok(b"good".to_vec()),
                Err(error) => Err(error.into()),
            };
            recorder.record_after_failure(&format!("{verb} {key}"), &response);
            result
        }
        Access::Replay(_, replay, key) => match replay.response(&format!("{verb} {key}")) {
            Some(response) => response
                .map(|_| ())
                .map_err(|failure| failure.to_io_error()),
            // The copy of a device is an empty file, so it is never opened itself.
            None => fs::metadata(path).map(|_| ()),
        },
    }
}

/// The canonical path of `path`, without links.
pub(in crate::sources) fn resolve(io_log: &IoLog, path: &Path) -> io::Result<PathBuf> {
    match access(io_log, path) {
        Access::Live => path.canonicalize(),
        Access::Record(recorder, key) => {
            let found = path.canonicalize();
            let response = match &found {
                Ok(canonical) => {
                    recorder.mirror(path, None);
                    let name = recorder.paths().name_of(canonical);
                    name.ok_or_else(|| Failure::new("it leads out of its root"))
                }
                Err(error) => Err(Failure::from(error)),
            };
            recorder.record(&format!("resolve {key}"), EntryKind::Response, &response);
            found
        }
        Access::Replay(recording, replay, key) => {
            match replay.response(&format!("resolve {key}")) {
                Some(Ok(name)) => recording
                    .paths()
                    .path_of(&name)
                    .ok_or_else(|| io::ErrorKind::InvalidData.into()),
                Some(Err(failure)) => Err(failure.to_io_error()),
                None => path.canonicalize(),
            }
        }
    }
}

/// The most names that are read from a folder. A folder has no order, so all its names are read before they are sorted.
const MAX_NAMES: usize = 1 << 16;

/// The first `max` of the folder's names that are `wanted`, in natural order, and the number of wanted names left out.
/// Names that are not UTF-8 are ignored.
pub(in crate::sources) fn list(
    io_log: &IoLog,
    dir: &Path,
    max: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> io::Result<(Vec<String>, u64)> {
    let mut beyond = 0;
    let mut names = all_names(io_log, dir, &mut |name| beyond += u64::from(wanted(name)))?;
    names.retain(|name| wanted(name));
    let left_out = names.len().saturating_sub(max) as u64;
    if max > 0 {
        sort_by(&mut names, |a, b| natural(a, b));
    }
    names.truncate(max);
    Ok((names, left_out + beyond))
}

/// The folder's names that are UTF-8, in no order. `beyond` gets those for which there is no room.
fn all_names(io_log: &IoLog, dir: &Path, beyond: &mut dyn FnMut(&str)) -> io::Result<Vec<String>> {
    let mut live = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let Some(name) = entry.ok().and_then(|e| e.file_name().into_string().ok()) else {
                continue;
            };
            match names.len() < MAX_NAMES {
                true => names.push(name),
                false => beyond(&name),
            }
        }
        Ok(names)
    };
    match access(io_log, dir) {
        Access::Live => live(),
        Access::Record(recorder, key) => {
            let found = live();
            let response = match &found {
                Ok(names) => {
                    recorder.mirror(dir, None);
                    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
                    for name in &names {
                        recorder.mirror(&dir.join(name), None);
                    }
                    sort(&mut names);
                    // A name cannot contain the separator.
                    Ok(names.join("/").into_bytes())
                }
                Err(error) => Err(Failure::from(error)),
            };
            recorder.record(&format!("list {key}"), EntryKind::Response, &response);
            found
        }
        Access::Replay(_, replay, key) => match replay.response(&format!("list {key}")) {
            Some(Ok(names)) => Ok(String::from_utf8_lossy(&names)
                .split('/')
                .filter(|name| !matches!(*name, "" | "." | ".."))
                .take(MAX_NAMES)
                .map(str::to_string)
                .collect()),
            Some(Err(failure)) => Err(failure.to_io_error()),
            None => live().map(|mut names| {
                names.retain(|name| name != PLACEHOLDER);
                names
            }),
        },
    }
}

/// The content of the file at `path`, which `read` reads.
pub(in crate::sources) fn content(
    io_log: &IoLog,
    path: &Path,
    read: impl FnOnce() -> Response,
) -> Response {
    match access(io_log, path) {
        Access::Live => read(),
        Access::Record(recorder, key) => {
            let response = read();
            if let Ok(content) = &response {
                recorder.mirror(path, Some(content));
            }
            recorder.record(&key, EntryKind::Response, &response);
            response
        }
        Access::Replay(_, replay, key) => replay.response(&key).unwrap_or_else(read),
    }
}
