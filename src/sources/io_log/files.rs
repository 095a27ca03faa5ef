//! The board's files, as far as they decide what there is: whether a file is there, what a folder holds, where a link
//! leads. By the I/O log like everything else; what a recording does not say of them, its copy of the files does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::natural::natural;
use super::mirror::KEEP;
use super::{Answer, Failure, IoLog, Mode, Playing, Recording, Writing};

/// A path, and how it is looked at.
enum Way<'a> {
    Live,
    Recorded(&'a Writing, String),
    Played(&'a Recording, &'a Playing, String),
}

fn way<'a>(io_log: &'a IoLog, path: &Path) -> Way<'a> {
    let way = match io_log.0.as_deref() {
        None => None,
        Some(Mode::Writing(writing)) => {
            let key = writing.places().key(path);
            key.map(|key| Way::Recorded(writing, key))
        }
        Some(Mode::Playing(recording, playing)) => {
            let key = recording.places().key(path);
            key.map(|key| Way::Played(recording, playing, key))
        }
    };
    way.unwrap_or(Way::Live)
}

/// The question for a path, if there is an I/O log and the path is the board's.
pub(in crate::sources) fn key(io_log: &IoLog, path: &Path) -> Option<String> {
    match way(io_log, path) {
        Way::Live => None,
        Way::Recorded(_, key) | Way::Played(_, _, key) => Some(key),
    }
}

/// Whether there is something at `path`.
pub(in crate::sources) fn exists(io_log: &IoLog, path: &Path) -> bool {
    look(io_log, path).is_ok()
}

/// Whether there is something at `path`, or why that is not known.
pub(in crate::sources) fn look(io_log: &IoLog, path: &Path) -> io::Result<()> {
    check(io_log, path, "look", || fs::metadata(path).map(|_| ()))
}

/// Whether the file at `path` may be read.
pub(in crate::sources) fn may_be_read(io_log: &IoLog, path: &Path) -> io::Result<()> {
    use nix::unistd::{access, AccessFlags};
    check(io_log, path, "access", || {
        Ok(access(path, AccessFlags::R_OK)?)
    })
}

/// Opens the device at `path` by `open`, or says how that ended.
pub(in crate::sources) fn open(
    io_log: &IoLog,
    path: &Path,
    open: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    check(io_log, path, "open", open)
}

/// A question of which mostly the failure is recorded: that all is well is the copy's to say.
fn check(
    io_log: &IoLog,
    path: &Path,
    verb: &str,
    mut live: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    match way(io_log, path) {
        Way::Live => live(),
        Way::Recorded(writing, key) => {
            let outcome = live();
            if outcome.is_ok() {
                writing.mirror(path, None);
            }
            let answer: Answer = match &outcome {
                Ok(()) => Ok(b"good".to_vec()),
                Err(error) => Err(error.into()),
            };
            writing.check(&format!("{verb} {key}"), &answer);
            outcome
        }
        Way::Played(_, playing, key) => match playing.answer(&format!("{verb} {key}")) {
            Some(answer) => answer.map(|_| ()).map_err(|failure| failure.io()),
            // As far as it was: a device's copy is a file, and none to be opened.
            None => fs::metadata(path).map(|_| ()),
        },
    }
}

/// What `path` is without links.
pub(in crate::sources) fn resolve(io_log: &IoLog, path: &Path) -> io::Result<PathBuf> {
    match way(io_log, path) {
        Way::Live => path.canonicalize(),
        Way::Recorded(writing, key) => {
            let found = path.canonicalize();
            let answer = match &found {
                Ok(free) => {
                    writing.mirror(path, None);
                    let name = writing.places().name(free);
                    name.ok_or_else(|| Failure::new("it leads out of its root"))
                }
                Err(error) => Err(Failure::from(error)),
            };
            writing.fact(&format!("resolve {key}"), super::Kind::Asked, &answer);
            found
        }
        Way::Played(recording, playing, key) => match playing.answer(&format!("resolve {key}")) {
            Some(Ok(name)) => recording
                .places()
                .path(&name)
                .ok_or_else(|| io::ErrorKind::InvalidData.into()),
            Some(Err(failure)) => Err(failure.io()),
            None => path.canonicalize(),
        },
    }
}

/// Whether `path` is a link.
pub(in crate::sources) fn is_link(path: &Path) -> bool {
    path.is_symlink()
}

/// So many names of a folder are looked at: what is in no order has to be read as a whole to be put in one.
const MOST_NAMES: usize = 1 << 16;

/// The names in a folder that are `wanted`, in their natural order, and how many there are beyond the first `most`.
/// Those that are not UTF-8 are not among them.
pub(in crate::sources) fn list(
    io_log: &IoLog,
    dir: &Path,
    most: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> io::Result<(Vec<String>, u64)> {
    let mut names = all(io_log, dir)?;
    names.retain(|name| wanted(name));
    names.sort_by(|a, b| natural(a, b));
    let beyond = names.len().saturating_sub(most);
    names.truncate(most);
    Ok((names, beyond as u64))
}

/// The names in a folder, in no order, those that are UTF-8.
fn all(io_log: &IoLog, dir: &Path) -> io::Result<Vec<String>> {
    let live = || -> io::Result<Vec<String>> {
        Ok(fs::read_dir(dir)?
            .take(MOST_NAMES)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect())
    };
    match way(io_log, dir) {
        Way::Live => live(),
        Way::Recorded(writing, key) => {
            let found = live();
            let answer = match &found {
                Ok(names) => {
                    writing.mirror(dir, None);
                    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
                    for name in &names {
                        writing.mirror(&dir.join(name), None);
                    }
                    names.sort_unstable();
                    // No name has this in it.
                    Ok(names.join("/").into_bytes())
                }
                Err(error) => Err(Failure::from(error)),
            };
            writing.fact(&format!("list {key}"), super::Kind::Asked, &answer);
            found
        }
        Way::Played(_, playing, key) => match playing.answer(&format!("list {key}")) {
            Some(Ok(names)) => Ok(String::from_utf8_lossy(&names)
                .split('/')
                .filter(|name| !matches!(*name, "" | "." | ".."))
                .take(MOST_NAMES)
                .map(str::to_string)
                .collect()),
            Some(Err(failure)) => Err(failure.io()),
            None => live().map(|mut names| {
                names.retain(|name| name != KEEP);
                names
            }),
        },
    }
}

/// What `read` finds at `path`.
pub(in crate::sources) fn content(
    io_log: &IoLog,
    path: &Path,
    read: impl FnOnce() -> Answer,
) -> Answer {
    match way(io_log, path) {
        Way::Live => read(),
        Way::Recorded(writing, key) => {
            let answer = read();
            if let Ok(content) = &answer {
                writing.mirror(path, Some(content));
            }
            writing.fact(&key, super::Kind::Asked, &answer);
            answer
        }
        Way::Played(_, playing, key) => playing.answer(&key).unwrap_or_else(read),
    }
}
