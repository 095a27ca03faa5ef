//! Opening a recording. A recording is untrusted input, so all of it is checked before any of it is used.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::layout::{name_in_log, CONFIG, LOGS, MANIFEST, MANIFEST_HEAD, MAX_BYTES, TREES};
use super::mirror::stays_inside;
use super::replay::{Replay, Schedule};
use super::source_log::{SourceLog, MAX_LINES};
use super::{BoardPaths, IoLog, Mode, BOARD};
use crate::config::{self, Config};
use crate::sources::Roots;
use crate::sources::SCHEMA;
use crate::sys::lock;
use crate::sys::reason;
use crate::sys::sort::sort;

/// The limits on the number of files, folders and links in the trees, and on the depth of a folder.
const MAX_ENTRIES: usize = 100_000;
const MAX_DEPTH: usize = 64;
/// The limit on the number of logs.
const MAX_LOGS: usize = 256;

/// An open recording, to be replayed.
#[derive(Debug)]
pub struct Recording {
    dir: PathBuf,
    paths: BoardPaths,
    config: Config,
    schedule: Schedule,
    logs: HashMap<String, Arc<SourceLog>>,
    io_logs: Mutex<HashMap<String, IoLog>>,
}

impl Recording {
    /// Opens and checks the recording in `dir`, to be replayed at once or at its recorded pace. The error names the file,
    /// the line and what is wrong there.
    pub fn open(dir: &Path, at_once: bool) -> Result<Recording, String> {
        let manifest = dir.join(MANIFEST);
        let head = read(&manifest, 64 * 1024).map_err(|error| {
            format!(
                "{error}: {} is no recording, or one that was cut off",
                dir.display()
            )
        })?;
        if head.split(|byte| *byte == b'\n').next() != Some(MANIFEST_HEAD.as_bytes()) {
            let manifest = manifest.display();
            return Err(format!(
                "{manifest}:1: it does not begin with \"{MANIFEST_HEAD}\": another version made this, or another program"
            ));
        }
        let mut entries = MAX_ENTRIES;
        for tree in TREES {
            check_tree(&dir.join(tree), &mut entries)?;
        }
        let config = dir.join(CONFIG);
        // The limit is that of any configuration file.
        read(&config, config::MAX_SIZE as u64)?;
        let config = SCHEMA.load(&config).map_err(|error| error.to_string())?;
        let logs = read_logs(&dir.join(LOGS))?;
        let length = logs.values().map(|log| log.end).max().unwrap_or_default();
        Ok(Recording {
            paths: BoardPaths::new(&roots(dir)),
            dir: dir.to_path_buf(),
            config: config.config.only_source_settings(),
            schedule: Schedule::new(at_once, length),
            logs,
            io_logs: Mutex::default(),
        })
    }

    /// The roots of the recording's copy of the board's files.
    pub fn roots(&self) -> Roots {
        roots(&self.dir)
    }

    /// The recorded settings of the sources. All other settings have their defaults.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The sources whose logs no source of this process replays.
    pub fn unused(&self) -> Vec<&str> {
        let io_logs = lock::lock(&self.io_logs);
        let mut names: Vec<&str> = self.logs.keys().map(String::as_str).collect();
        names.retain(|name| *name != BOARD && !io_logs.contains_key(*name));
        sort(&mut names);
        names
    }

    pub(super) fn paths(&self) -> &BoardPaths {
        &self.paths
    }

    /// The I/O log of a source. It is empty if the recording has no log of this source.
    pub(super) fn io_log(self: &Arc<Self>, name: &str) -> IoLog {
        let name = name_in_log(name);
        let mut io_logs = lock::lock(&self.io_logs);
        let io_log = io_logs.entry(name.clone()).or_insert_with(|| {
            let log = self.logs.get(&name).cloned().unwrap_or_else(|| {
                if name != BOARD {
                    log::warn!("{} has no log of {name}", self.dir.display());
                }
                Arc::default()
            });
            let replay = Replay::new(log, self.schedule);
            IoLog(Some(Arc::new(Mode::Replaying(Arc::clone(self), replay))))
        });
        io_log.clone()
    }
}

fn roots(dir: &Path) -> Roots {
    let [sysfs, procfs, dev] = TREES.map(|tree| dir.join(tree));
    Roots {
        sysfs,
        procfs,
        dev,
        programs: None,
    }
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {}", path.display(), reason(error))
}

/// The content of a regular file of at most `max` bytes. A link or a FIFO is refused.
fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let kind = path
        .symlink_metadata()
        .map_err(|e| cannot("read", path, &e))?;
    if !kind.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut content))
        .map_err(|e| cannot("read", path, &e))?;
    if content.len() as u64 > max {
        return Err(format!("{} has more than {max} bytes", path.display()));
    }
    Ok(content)
}

fn read_logs(dir: &Path) -> Result<HashMap<String, Arc<SourceLog>>, String> {
    let is_folder = dir.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !is_folder {
        return Err(format!("{} is not a folder", dir.display()));
    }
    let mut logs = HashMap::new();
    let mut bytes = MAX_BYTES;
    let mut lines = MAX_LINES;
    for entry in fs::read_dir(dir).map_err(|e| cannot("list", dir, &e))? {
        let path = entry.map_err(|e| cannot("list", dir, &e))?.path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        if logs.len() >= MAX_LOGS {
            return Err(format!("{} has more than {MAX_LOGS} logs", dir.display()));
        }
        let text = read(&path, bytes)?;
        bytes -= text.len() as u64;
        let count = text.iter().filter(|byte| **byte == b'\n').count();
        lines = lines.checked_sub(count).ok_or_else(|| {
            format!(
                "the logs in {} have more than {MAX_LINES} lines",
                dir.display()
            )
        })?;
        let log = SourceLog::parse(&text).map_err(|error| format!("{}:{error}", path.display()))?;
        let name = log.name.clone();
        if logs.insert(name.clone(), Arc::new(log)).is_some() {
            return Err(format!(
                "{}:1: there are two logs of {name}",
                path.display()
            ));
        }
    }
    Ok(logs)
}

/// Checks that a tree holds only files, folders, and links that stay in it. `entries` is how many more there may be.
fn check_tree(root: &Path, entries: &mut usize) -> Result<(), String> {
    match root.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {}
        // Archives and version control may drop empty folders.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(_) => return Err(format!("{} is not a folder", root.display())),
        Err(error) => return Err(cannot("read", root, &error)),
    }
    let inside = root.canonicalize().map_err(|e| cannot("read", root, &e))?;
    let mut pending = vec![(root.to_path_buf(), 0)];
    while let Some((dir, depth)) = pending.pop() {
        for entry in fs::read_dir(&dir).map_err(|e| cannot("list", &dir, &e))? {
            let entry = entry.map_err(|e| cannot("list", &dir, &e))?;
            let path = entry.path();
            let refuse = |why: &str| Err(format!("{}: {why}", path.display()));
            *entries = match entries.checked_sub(1) {
                Some(left) if depth < MAX_DEPTH => left,
                _ => return refuse("there are too many files, or too deep a folder"),
            };
            let kind = entry
                .file_type()
                .map_err(|e| cannot("look at", &path, &e))?;
            if kind.is_dir() {
                pending.push((path, depth + 1));
            } else if kind.is_symlink() {
                match path.canonicalize() {
                    Ok(target) if target.starts_with(&inside) => {}
                    Ok(_) => return refuse("the link leads out of the recording"),
                    // The target may be a folder that was empty and was dropped.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        let target = fs::read_link(&path).map_err(|e| cannot("read", &path, &e))?;
                        if !stays_inside(depth, &target) {
                            return refuse("the link leads out of the recording");
                        }
                    }
                    Err(error) => return Err(cannot("follow", &path, &error)),
                }
            } else if !kind.is_file() {
                return refuse("it is neither a file nor a folder nor a link");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
