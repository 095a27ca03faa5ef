//! Atomic replacement of the configuration file: a crash or power failure leaves either the old or the new file.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{fchown, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::config::diagnose::{Diagnostic, Origin};
use crate::config::load;
use crate::sys::file_stamp::FileStamp;

/// How often, and at what interval, to try to lock the directory while another process is writing the file.
const MAX_LOCK_ATTEMPTS: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// How often to start over when another process has written the file between our reading and our writing.
const MAX_ATTEMPTS: u32 = 4;
/// The bits of the mode that are preserved.
const MODE_BITS: u32 = 0o7777;

/// Why the file was not changed.
#[derive(Debug)]
pub enum SaveError {
    /// The file cannot be read.
    Read(load::Error),
    /// The layout of the file is not edited.
    Refused {
        /// The file.
        path: PathBuf,
        /// The change to make by hand, and where.
        diagnostic: Diagnostic,
    },
    /// The file cannot be written.
    Write {
        /// The action that failed, and its path.
        what: String,
        /// The operating system's error.
        source: io::Error,
    },
}

impl SaveError {
    fn write(what: impl Into<String>, source: io::Error) -> SaveError {
        SaveError::Write {
            what: what.into(),
            source,
        }
    }
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaveError::Read(error) => error.fmt(f),
            SaveError::Refused { path, diagnostic } => {
                let origin = Origin::File(path.clone());
                let line = diagnostic.with(&origin).to_string();
                f.write_str(&line)
            }
            SaveError::Write { what, source } => {
                write!(f, "{what}: {source}")?;
                let errno = source.raw_os_error().map(Errno::from_raw);
                f.write_str(match errno {
                    Some(Errno::EROFS) => " (the file system is mounted read-only)",
                    Some(Errno::EACCES | Errno::EPERM) => {
                        " (the user that runs the exporter must own the file and be able to write in its directory)"
                    }
                    Some(Errno::ENOSPC | Errno::EDQUOT) => " (the disk is full)",
                    Some(Errno::EBUSY) => {
                        " (the file is a mount point by itself: mount its directory instead)"
                    }
                    _ => "",
                })
            }
        }
    }
}

impl std::error::Error for SaveError {}

/// The content of a file before and after an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The bytes before.
    pub before: Vec<u8>,
    /// The bytes after; the same if there was nothing to change.
    pub after: Vec<u8>,
}

/// Reads the file, changes its text by `edit`, and replaces the file: a temporary file beside it is written, synced and
/// renamed, and the directory is synced. Links are followed; mode and owner are kept. Concurrent updates wait for each
/// other. If another program writes the file meanwhile, the update starts over from that content.
pub fn update(
    path: &Path,
    edit: impl Fn(&str) -> Result<String, Diagnostic>,
) -> Result<Update, SaveError> {
    // Read first by the path that the user wrote, so that errors contain this path.
    load::read(path).map_err(SaveError::Read)?;
    let real = fs::canonicalize(path)
        .map_err(|e| SaveError::write(format!("cannot find {}", path.display()), e))?;
    let (Some(dir), Some(name)) = (real.parent(), real.file_name()) else {
        let error = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(SaveError::write(
            format!("cannot write {}", real.display()),
            error,
        ));
    };
    let lock = lock(dir)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = dir.join(temporary);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let metadata = fs::metadata(&real)
            .map_err(|e| SaveError::write(format!("cannot look at {}", real.display()), e))?;
        if !metadata.is_file() {
            let error = io::Error::from(Errno::EINVAL);
            let what = format!("cannot replace {}, which is a device", real.display());
            return Err(SaveError::write(what, error));
        }
        let before = load::read(&real).map_err(SaveError::Read)?;
        let after = edited(path, &before, &edit)?;
        if after == before {
            return Ok(Update { before, after });
        }
        let written = write_beside(&real, &temporary, &metadata, &after);
        let replaced = written.and_then(|()| {
            if attempts < MAX_ATTEMPTS && FileStamp::of(&real) != FileStamp::from(&metadata) {
                return Ok(false);
            }
            fs::rename(&temporary, &real)
                .map_err(|e| SaveError::write(format!("cannot replace {}", real.display()), e))?;
            Ok(true)
        });
        if !matches!(replaced, Ok(true)) {
            let _ = fs::remove_file(&temporary);
        }
        if replaced? {
            lock.sync_all()
                .map_err(|e| SaveError::write(format!("cannot sync {}", dir.display()), e))?;
            return Ok(Update { before, after });
        }
    }
}

fn edited(
    path: &Path,
    before: &[u8],
    edit: &impl Fn(&str) -> Result<String, Diagnostic>,
) -> Result<Vec<u8>, SaveError> {
    let text = std::str::from_utf8(before)
        .map_err(|error| crate::config::diagnose::not_utf8(before, error.valid_up_to()));
    let edited = text
        .and_then(edit)
        .map_err(|diagnostic| SaveError::Refused {
            path: path.to_owned(),
            diagnostic,
        })?;
    Ok(edited.into_bytes())
}

/// Locks the directory against other processes that update a file in it.
fn lock(dir: &Path) -> Result<Flock<File>, SaveError> {
    let failed = |e| SaveError::write(format!("cannot lock {}", dir.display()), e);
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECTORY.bits())
        .open(dir)
        .map_err(|e| SaveError::write(format!("cannot open {}", dir.display()), e))?;
    for _ in 0..MAX_LOCK_ATTEMPTS {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(failed(Errno::EWOULDBLOCK.into()))
}

/// Writes the new content to the temporary file, with the owner and mode of the old file, and syncs it.
fn write_beside(
    real: &Path,
    temporary: &Path,
    old: &Metadata,
    content: &[u8],
) -> Result<(), SaveError> {
    // A file that may not be written must not be replaced either.
    OpenOptions::new()
        .write(true)
        .open(real)
        .map_err(|e| SaveError::write(format!("cannot write {}", real.display()), e))?;
    let failed = |e| SaveError::write(format!("cannot write {}", temporary.display()), e);
    match fs::remove_file(temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    let new = file.metadata().map_err(failed)?;
    let owner = (new.uid() != old.uid()).then_some(old.uid());
    let group = (new.gid() != old.gid()).then_some(old.gid());
    if owner.is_some() || group.is_some() {
        fchown(&file, owner, group).map_err(|e| {
            SaveError::write(
                format!(
                    "cannot keep {} the property of user {} and group {}",
                    real.display(),
                    old.uid(),
                    old.gid()
                ),
                e,
            )
        })?;
    }
    let mode = fs::Permissions::from_mode(old.mode() & MODE_BITS);
    file.set_permissions(mode).map_err(failed)?;
    file.sync_all().map_err(failed)
}

#[cfg(test)]
#[path = "save_tests.rs"]
mod tests;
