//! A store that is a directory: one YAML file a device, `edge-01.yaml`, which people may read and edit too.
//!
//! A file is replaced whole: written beside, synced, renamed over the old one, and the directory synced. Whenever the
//! process or the machine ends, each file is one that was asked for; what was being written is swept at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use nix::fcntl::{Flock, FlockArg};

use super::store::{Failure, Listing, Store, Stored, MAX_DEVICES};
use crate::config::{self, read_file};
use crate::sys::lock;
use crate::wire::DeviceId;

const SUFFIX: &str = ".yaml";
/// What is being written: never the name of a device, since those do not begin with a dot.
const TEMPORARY: &str = ".tmp";
/// Where the notes are.
const NOTES: &str = ".notes";
/// The mode of new files: there may be passwords in them.
const MODE: u32 = 0o600;
/// A note is a few hundred bytes.
const LONGEST_NOTE: u64 = 4096;

pub(super) struct Directory {
    path: PathBuf,
    /// Held while something is changed: what is compared then is what is replaced.
    changing: Mutex<()>,
    temporaries: AtomicU64,
    /// Held as long as we live: the comparing is right only with one server in the directory.
    _alone: Flock<File>,
}

impl Directory {
    /// Opens it, made if it is not there, and sweeps what an earlier server left half written.
    pub(super) fn open(path: &Path) -> Result<Directory, String> {
        let failed = |what: &str, e: io::Error| {
            format!(
                "cannot {what} {}: {e} (--store names another directory)",
                path.display()
            )
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path.join(NOTES))
            .map_err(|e| failed("make the directory", e))?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path.join(".lock"))
            .map_err(|e| failed("write in the directory", e))?;
        let alone =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
                nix::errno::Errno::EWOULDBLOCK => format!(
                    "another config-server uses {}: several side by side need `--store etcd://…`",
                    path.display()
                ),
                other => failed("lock", other.into()),
            })?;
        let directory = Directory {
            path: path.to_owned(),
            changing: Mutex::new(()),
            temporaries: AtomicU64::new(0),
            _alone: alone,
        };
        directory
            .sweep()
            .map_err(|e| failed("read the directory", e))?;
        Ok(directory)
    }

    fn sweep(&self) -> io::Result<()> {
        for place in [self.path.clone(), self.path.join(NOTES)] {
            for entry in fs::read_dir(&place)?.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with('.') && name.ends_with(TEMPORARY) {
                    log::info!(
                        "{}: half written by an earlier server: removed",
                        entry.path().display()
                    );
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    fn file(&self, id: &DeviceId) -> PathBuf {
        self.path.join(format!("{id}{SUFFIX}"))
    }

    fn note_file(&self, id: &DeviceId) -> PathBuf {
        self.path.join(NOTES).join(format!("{id}.json"))
    }

    /// The devices that there are files of, by name.
    fn ids(&self) -> Result<Vec<DeviceId>, Failure> {
        self.names(&self.path, SUFFIX)
    }

    fn names(&self, place: &Path, suffix: &str) -> Result<Vec<DeviceId>, Failure> {
        let failed =
            |e: io::Error| Failure::Broken(format!("cannot read {}: {e}", place.display()));
        let mut ids = Vec::new();
        for entry in fs::read_dir(place).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(suffix));
            ids.extend(id.and_then(|id| DeviceId::parse(id).ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// Replaces a file. With `lasting`, it is on the disk when this returns.
    fn replace(&self, path: &Path, text: &str, lasting: bool) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let n = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!(".{}.{n}{TEMPORARY}", name.to_string_lossy()));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(MODE)
                .open(&temporary)?;
            // Whoever may read the file now may read it afterwards.
            if let Ok(old) = fs::metadata(path) {
                file.set_permissions(fs::Permissions::from_mode(old.permissions().mode()))?;
            }
            file.write_all(text.as_bytes())?;
            if lasting {
                file.sync_all()?;
            }
            fs::rename(&temporary, path)
        };
        if let Err(error) = write() {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        if lasting {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        File::open(&self.path)?.sync_all()
    }
}

impl Store for Directory {
    fn get(&self, id: &DeviceId) -> Result<Option<Stored>, Failure> {
        match read_file(&self.file(id)) {
            Ok(text) => Ok(Some(Stored { text, revision: 0 })),
            Err(config::Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(config::Error::Read { path, source }) => Err(Failure::Broken(format!(
                "cannot read {}: {source}",
                path.display()
            ))),
            Err(error) => Err(Failure::Broken(error.to_string())),
        }
    }

    fn list(&self) -> Result<Listing, Failure> {
        let read = |id: DeviceId| {
            // One that is gone again since is left out.
            let stored = self.get(&id).transpose()?;
            Some((id, stored))
        };
        Ok(self.ids()?.into_iter().filter_map(read).collect())
    }

    fn swap(
        &self,
        id: &DeviceId,
        expected: Option<&Stored>,
        text: Option<&str>,
    ) -> Result<bool, Failure> {
        let _changing = lock::lock(&self.changing);
        if self.get(id)?.as_ref() != expected {
            return Ok(false);
        }
        let path = self.file(id);
        let failed = |what: &str, e: io::Error| {
            Failure::Broken(format!("cannot {what} {}: {e}", path.display()))
        };
        match text {
            Some(text) => {
                if expected.is_none() && self.ids()?.len() >= MAX_DEVICES {
                    return Err(Failure::Full);
                }
                self.replace(&path, text, true)
                    .map_err(|e| failed("save", e))?;
            }
            None if expected.is_some() => {
                self.remove(&path).map_err(|e| failed("remove", e))?;
                let _ = fs::remove_file(self.note_file(id));
            }
            None => {}
        }
        Ok(true)
    }

    fn note(&self, id: &DeviceId, note: &str) -> Result<(), Failure> {
        let path = self.note_file(id);
        self.replace(&path, note, false)
            .map_err(|e| Failure::Broken(format!("cannot save {}: {e}", path.display())))
    }

    fn note_on(&self, id: &DeviceId) -> Result<Option<String>, Failure> {
        let mut note = String::new();
        let file = match File::open(self.note_file(id)) {
            Ok(file) => file,
            Err(_) => return Ok(None),
        };
        let read = file.take(LONGEST_NOTE).read_to_string(&mut note);
        Ok(read.ok().map(|_| note))
    }

    fn notes(&self) -> Result<Vec<(DeviceId, String)>, Failure> {
        let ids = self.names(&self.path.join(NOTES), ".json")?.into_iter();
        let read = |id: DeviceId| {
            let note = self.note_on(&id).ok()??;
            Some((id, note))
        };
        Ok(ids.filter_map(read).collect())
    }

    fn describe(&self) -> String {
        format!("the directory {}", self.path.display())
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
