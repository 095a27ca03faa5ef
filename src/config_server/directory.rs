//! A store that is a directory: one YAML file a device, `edge-01.yaml`, which people may read and edit too.
//!
//! A file is replaced whole: written beside, synced, renamed over the old one, and the directory synced. Whenever the
//! process or the machine ends, each file is one that was asked for; what was being written is swept at the next start.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Mutex;

use nix::fcntl::{Flock, FlockArg};

use super::directory_watch::{DirectoryWatch, SUFFIX, TEMPORARY};
use super::store::{Changes, Failure, Look, Store, Stored, MAX_DEVICES};
use crate::config::{self, read_file};
use crate::sys::file_stamp::FileStamp;
use crate::sys::lock;
use crate::wire::DeviceId;

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
    /// How many devices there are, as far as we know.
    count: AtomicUsize,
    watch: DirectoryWatch,
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
            count: AtomicUsize::new(0),
            watch: DirectoryWatch::new(path),
            _alone: alone,
        };
        directory
            .sweep()
            .map_err(|e| failed("read the directory", e))?;
        directory.ids().map_err(|e| e.to_string())?;
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
        let ids = self.names(&self.path, SUFFIX)?;
        self.count.store(ids.len(), Ordering::Relaxed);
        Ok(ids)
    }

    /// Whether no more are kept. The files are counted only where it may be so.
    fn is_full(&self) -> Result<bool, Failure> {
        Ok(self.count.load(Ordering::Relaxed) >= MAX_DEVICES && self.ids()?.len() >= MAX_DEVICES)
    }

    /// There is nothing of this name, or nothing that the name leads to, or no directory any more.
    fn missing(&self, path: &Path) -> Result<Option<Stored>, Failure> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            return Err(Failure::Unreadable(format!(
                "cannot read {}: it is a link to nothing",
                path.display()
            )));
        }
        match fs::metadata(&self.path) {
            Ok(_) => Ok(None),
            Err(e) => Err(Failure::Broken(format!(
                "cannot read {}: {e}",
                self.path.display()
            ))),
        }
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

/// The revision of a file that looks so; 0 for one that cannot be looked at.
fn revision(mark: FileStamp) -> u64 {
    if mark == FileStamp::default() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    mark.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Whether a failure to read is that of one file alone.
fn is_of_the_file(error: &io::Error) -> bool {
    use nix::libc::{EACCES, ELOOP, EPERM};
    matches!(error.raw_os_error(), Some(EACCES | EPERM | ELOOP))
}

impl Store for Directory {
    fn get(&self, id: &DeviceId) -> Result<Option<Stored>, Failure> {
        let path = self.file(id);
        let before = FileStamp::of(&path);
        match read_file(&path) {
            Ok(text) => {
                // What was written meanwhile is of no revision.
                let is_whole = FileStamp::of(&path) == before;
                let revision = if is_whole { revision(before) } else { 0 };
                Ok(Some(Stored { text, revision }))
            }
            Err(config::Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.missing(&path)
            }
            Err(config::Error::Read { path, source }) => {
                let why = format!("cannot read {}: {source}", path.display());
                Err(match is_of_the_file(&source) {
                    true => Failure::Unreadable(why),
                    false => Failure::Broken(why),
                })
            }
            Err(error) => Err(Failure::Unreadable(error.to_string())),
        }
    }

    fn changes(&self) -> Result<Changes, Failure> {
        self.watch
            .changes()
            .map_err(|e| Failure::Broken(format!("cannot read {}: {e}", self.path.display())))
    }

    fn look(&self, id: &DeviceId, known: Option<u64>) -> Result<Look, Failure> {
        if let Some(known) = known.filter(|known| *known != 0) {
            if revision(FileStamp::of(&self.file(id))) == known {
                return Ok(Look::Same);
            }
        }
        Ok(self.get(id)?.map_or(Look::Gone, Look::New))
    }

    fn scan(
        &self,
        known: &dyn Fn(&DeviceId) -> Option<u64>,
        found: &mut dyn FnMut(DeviceId, Result<Look, Failure>),
    ) -> Result<(), Failure> {
        let scan = self.watch.scan();
        for id in self.ids()? {
            match self.look(&id, known(&id)) {
                Err(failure @ (Failure::Away(_) | Failure::Broken(_))) => return Err(failure),
                look => found(id, look),
            }
        }
        scan.done();
        Ok(())
    }

    fn has_sure_revisions(&self) -> bool {
        false
    }

    fn swap(
        &self,
        id: &DeviceId,
        expected: Option<&Stored>,
        text: Option<&str>,
    ) -> Result<bool, Failure> {
        let _changing = lock::lock(&self.changing);
        let current = self.get(id)?.map(|stored| stored.text);
        if current.as_ref() != expected.map(|stored| &stored.text) {
            return Ok(false);
        }
        let path = self.file(id);
        let failed = |what: &str, e: io::Error| {
            Failure::Broken(format!("cannot {what} {}: {e}", path.display()))
        };
        match text {
            Some(text) => {
                if expected.is_none() && self.is_full()? {
                    return Err(Failure::Full);
                }
                let replaced = self.replace(&path, text, true);
                self.watch.touched(id);
                replaced.map_err(|e| failed("save", e))?;
                if expected.is_none() {
                    self.count.fetch_add(1, Ordering::Relaxed);
                }
            }
            None if expected.is_some() => {
                let removed = self.remove(&path);
                self.watch.touched(id);
                removed.map_err(|e| failed("remove", e))?;
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
