//! Replacing the configuration file: whole or not at all, whatever ends the process or the power meanwhile.

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

/// How long another process that is just writing the file is waited for.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// How often to begin again when somebody else wrote the file between our reading and our writing.
const TRIES: u32 = 4;
/// The bits of a mode that are kept.
const MODE: u32 = 0o7777;

/// Why the file is as it was.
#[derive(Debug)]
pub enum Unsaved {
    /// It cannot be read.
    Read(load::Error),
    /// It is laid out in a way that is not changed by itself.
    Refused {
        /// The file.
        path: PathBuf,
        /// What to write by hand, and where.
        diagnostic: Diagnostic,
    },
    /// It cannot be written.
    Write {
        /// What was tried, on which path.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Unsaved {
    fn write(what: impl Into<String>, source: io::Error) -> Unsaved {
        Unsaved::Write {
            what: what.into(),
            source,
        }
    }
}

impl fmt::Display for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsaved::Read(error) => error.fmt(f),
            Unsaved::Refused { path, diagnostic } => {
                let origin = Origin::File(path.clone());
                let line = diagnostic.with(&origin).to_string();
                f.write_str(&line)
            }
            Unsaved::Write { what, source } => {
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

impl std::error::Error for Unsaved {}

/// What a file held, and holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Its bytes before.
    pub before: Vec<u8>,
    /// Its bytes now: the same, if there was nothing to change.
    pub after: Vec<u8>,
}

/// Reads the file, has `edit` change its text, and puts the result in its place: a temporary file beside it is written,
/// synced and renamed, and the directory synced. A link is followed; mode and owner are kept. Of two processes that do
/// so at once, one waits; what somebody else writes meanwhile is not lost.
pub fn update(
    path: &Path,
    edit: impl Fn(&str) -> Result<String, Diagnostic>,
) -> Result<Update, Unsaved> {
    // Says what is wrong with the path as the user wrote it.
    load::read(path).map_err(Unsaved::Read)?;
    let real = fs::canonicalize(path)
        .map_err(|e| Unsaved::write(format!("cannot find {}", path.display()), e))?;
    let (Some(dir), Some(name)) = (real.parent(), real.file_name()) else {
        let error = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(Unsaved::write(
            format!("cannot write {}", real.display()),
            error,
        ));
    };
    let lock = lock(dir)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = dir.join(temporary);
    let mut tries = 0;
    loop {
        tries += 1;
        let metadata = fs::metadata(&real)
            .map_err(|e| Unsaved::write(format!("cannot look at {}", real.display()), e))?;
        if !metadata.is_file() {
            let error = io::Error::from(Errno::EINVAL);
            let what = format!("cannot replace {}, which is a device", real.display());
            return Err(Unsaved::write(what, error));
        }
        let before = load::read(&real).map_err(Unsaved::Read)?;
        let after = edited(path, &before, &edit)?;
        if after == before {
            return Ok(Update { before, after });
        }
        let written = write_beside(&real, &temporary, &metadata, &after);
        let replaced = written.and_then(|()| {
            if tries < TRIES && FileStamp::of(&real) != FileStamp::from(&metadata) {
                return Ok(false);
            }
            fs::rename(&temporary, &real)
                .map_err(|e| Unsaved::write(format!("cannot replace {}", real.display()), e))?;
            Ok(true)
        });
        if !matches!(replaced, Ok(true)) {
            let _ = fs::remove_file(&temporary);
        }
        if replaced? {
            lock.sync_all()
                .map_err(|e| Unsaved::write(format!("cannot sync {}", dir.display()), e))?;
            return Ok(Update { before, after });
        }
    }
}

fn edited(
    path: &Path,
    before: &[u8],
    edit: &impl Fn(&str) -> Result<String, Diagnostic>,
) -> Result<Vec<u8>, Unsaved> {
    let text = std::str::from_utf8(before)
        .map_err(|error| crate::config::diagnose::not_utf8(before, error.valid_up_to()));
    let edited = text.and_then(edit).map_err(|diagnostic| Unsaved::Refused {
        path: path.to_owned(),
        diagnostic,
    })?;
    Ok(edited.into_bytes())
}

/// The directory, locked against others who do as we do.
fn lock(dir: &Path) -> Result<Flock<File>, Unsaved> {
    let failed = |e| Unsaved::write(format!("cannot lock {}", dir.display()), e);
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECTORY.bits())
        .open(dir)
        .map_err(|e| Unsaved::write(format!("cannot open {}", dir.display()), e))?;
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(failed(Errno::EWOULDBLOCK.into()))
}

/// Writes the new content beside the file, with its owner and mode, and onto the disk.
fn write_beside(
    real: &Path,
    temporary: &Path,
    old: &Metadata,
    content: &[u8],
) -> Result<(), Unsaved> {
    // A file that may not be written is not to be replaced either.
    OpenOptions::new()
        .write(true)
        .open(real)
        .map_err(|e| Unsaved::write(format!("cannot write {}", real.display()), e))?;
    let failed = |e| Unsaved::write(format!("cannot write {}", temporary.display()), e);
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
            Unsaved::write(
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
    let mode = fs::Permissions::from_mode(old.mode() & MODE);
    file.set_permissions(mode).map_err(failed)?;
    file.sync_all().map_err(failed)
}

#[cfg(test)]
#[path = "save_tests.rs"]
mod tests;
