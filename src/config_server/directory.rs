//! A store in a directory: one YAML file per device, such as `edge-01.yaml`, and per group, such as `groups/rack-3.yaml`, which
//! users may edit too.
//!
//! Files are replaced atomically: a temporary file is written and synced, renamed over the old file, and the directory is
//! synced. If the process or the machine stops, every file has its old or its new content. The next start removes temporary
//! files.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::directory_records::DirectoryRecords;
use super::directory_watch::{DirectoryWatch, CONFIG_SUFFIX, TEMPORARY_SUFFIX};
use super::store::{
    Changes, Documents, Lookup, RecordHeads, Store, StoreError, Stored, MAX_DEVICES, MAX_GROUPS,
};
use super::transaction::{
    log_put_back, put_back, recover, Outcome, Recovery, Transaction, TransactionId,
};
use crate::config::{self, read_file};
use crate::sys::file_stamp::FileStamp;
use crate::sys::lock;
use crate::sys::sort::sort;
use crate::wire::DeviceId;

/// The subdirectory of notes.
const NOTES_DIRECTORY: &str = ".notes";
/// The subdirectory of groups, which is made with the first group.
const GROUPS_DIRECTORY: &str = "groups";
/// The subdirectory of records of transactions, which is made with the first one.
const RECORDS_DIRECTORY: &str = "changes";
/// The mode of new files, which may contain passwords.
const FILE_MODE: u32 = 0o600;
/// A restarted server shows at first when a board was heard of so long before. A note each minute would write 7 MB for each
/// board and day: a file takes a block of 4 KiB, and a server may be a small board with flash.
const MAX_NOTE_AGE: Duration = Duration::from_secs(3600);
/// The most changes at a time. Each waits for the disk.
const CONCURRENT_CHANGES: usize = 16;
/// The longest note. A usual one has a few hundred bytes.
const MAX_NOTE_BYTES: u64 = 4096;

pub(super) struct Directory {
    devices: Files,
    groups: Files,
    records: DirectoryRecords,
    /// The lock on the directory: a compare-and-swap is atomic only with one server per directory.
    _lock: Flock<File>,
}

/// The files of one kind.
pub(super) struct Files {
    path: PathBuf,
    /// What they are, in the plural.
    what: &'static str,
    limit: usize,
    /// The directory of notes on them.
    notes: Option<PathBuf>,
    /// Whether the directory is made with the first file. Else it exists.
    is_made_late: bool,
    /// One is locked during a compare-and-swap, by the hash of the name: the disk syncs several files at once.
    changing: [Mutex<()>; CONCURRENT_CHANGES],
    /// The number of temporary files made, for their names.
    temporaries: AtomicU64,
    /// The number of files, which is wrong after other programs added or removed some.
    count: AtomicUsize,
    watch: DirectoryWatch,
}

impl Directory {
    /// Opens the directory, which is made if necessary, and removes temporary files of an earlier server.
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
            .create(path.join(NOTES_DIRECTORY))
            .map_err(|e| failed("make the directory", e))?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path.join(".lock"))
            .map_err(|e| failed("write in the directory", e))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
                nix::errno::Errno::EWOULDBLOCK => format!(
                    "another config-server uses {}: several side by side need `--store etcd://…`",
                    path.display()
                ),
                other => failed("lock", other.into()),
            })?;
        let notes = path.join(NOTES_DIRECTORY);
        let directory = Directory {
            devices: Files {
                notes: Some(notes.clone()),
                ..Files::new(path.to_owned(), "devices", MAX_DEVICES)
            },
            groups: Files::made_late(&path.join(GROUPS_DIRECTORY), "groups", MAX_GROUPS),
            records: DirectoryRecords::open(&path.join(RECORDS_DIRECTORY))
                .map_err(|e| failed("read the directory", e))?,
            _lock: lock,
        };
        let records = path.join(RECORDS_DIRECTORY);
        for directory in [path, &notes, &directory.groups.path, &records] {
            match remove_temporaries(directory) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("read the directory", e))
                }
                _ => {}
            }
        }
        directory.devices.ids().map_err(|e| e.to_string())?;
        if let Err(error) = directory.recover_all() {
            log::error!(
                "{error}: a change remains half applied (GET /changes shows it under `unfinished`)"
            );
        }
        Ok(directory)
    }

    /// Finishes or puts back transactions that an earlier server has left.
    fn recover_all(&self) -> Result<(), StoreError> {
        let unfinished = self.records.unfinished().into_iter();
        let recovered = unfinished.map(|id| self.recover_one(id));
        // An error of one does not concern the others.
        recovered.fold(Ok(()), Result::and)
    }

    fn recover_one(&self, id: TransactionId) -> Result<(), StoreError> {
        let Some(transaction) = self.records.get(id)? else {
            return Ok(());
        };
        match recover(self, &transaction.edits)? {
            Recovery::Finished => self.records.finish(id, true),
            Recovery::PutBack { count } => {
                log_put_back(&transaction, count);
                self.records.forget(id);
            }
        }
        Ok(())
    }

    /// Makes the changes one by one. Returns how many were made, and why not the rest.
    fn make(&self, transaction: &Transaction) -> (usize, Result<Outcome, StoreError>) {
        for (made, edit) in transaction.edits.iter().enumerate() {
            let documents = edit.kind.of(self);
            let text = edit.after.as_deref();
            match documents.compare_and_swap(&edit.id, edit.before.as_ref(), text) {
                Ok(true) => {}
                Ok(false) => return (made, Ok(Outcome::Conflict)),
                Err(error) => return (made, Err(error)),
            }
        }
        (transaction.edits.len(), Ok(Outcome::Committed))
    }

    fn notes(&self) -> &Path {
        self.devices.notes.as_deref().unwrap_or(&self.devices.path)
    }

    fn note_file(&self, id: &DeviceId) -> PathBuf {
        note_file(self.notes(), id)
    }
}

fn note_file(notes: &Path, id: &DeviceId) -> PathBuf {
    notes.join(format!("{id}.json"))
}

fn remove_temporaries(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX) {
            log::info!(
                "{}: removed (an earlier server had not finished writing it)",
                entry.path().display()
            );
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Files {
    fn new(path: PathBuf, what: &'static str, limit: usize) -> Files {
        Files {
            watch: DirectoryWatch::new(&path),
            path,
            what,
            limit,
            notes: None,
            is_made_late: false,
            changing: Default::default(),
            temporaries: AtomicU64::new(0),
            count: AtomicUsize::new(0),
        }
    }

    /// Files in a directory that is made with the first of them.
    pub(super) fn made_late(path: &Path, what: &'static str, limit: usize) -> Files {
        Files {
            is_made_late: true,
            ..Files::new(path.to_owned(), what, limit)
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, if it is made with the first file.
    fn make(&self) -> io::Result<()> {
        if !self.is_made_late || self.path.is_dir() {
            return Ok(());
        }
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            // Another change has made it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        match self.path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Locks a name against other changes.
    fn changing(&self, id: &DeviceId) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let index = usize::from(hasher.finish() as u8) % CONCURRENT_CHANGES;
        self.changing.get(index).map(lock::lock)
    }

    /// Whether the directory does not exist, and need not.
    fn is_missing(&self, error: &io::Error) -> bool {
        self.is_made_late && error.kind() == io::ErrorKind::NotFound
    }

    fn file(&self, id: &DeviceId) -> PathBuf {
        self.path.join(format!("{id}{CONFIG_SUFFIX}"))
    }

    /// The names that have a file, sorted.
    fn ids(&self) -> Result<Vec<DeviceId>, StoreError> {
        let failed = |e| StoreError::Failed(format!("cannot read {}: {e}", self.path.display()));
        let ids = match names(&self.path, CONFIG_SUFFIX) {
            Err(e) if self.is_missing(&e) => Vec::new(),
            ids => ids.map_err(failed)?,
        };
        self.count.store(ids.len(), Ordering::Relaxed);
        Ok(ids)
    }

    /// Whether the limit is reached. The files are counted only if the known number says so.
    fn is_full(&self) -> Result<bool, StoreError> {
        Ok(self.count.load(Ordering::Relaxed) >= self.limit && self.ids()?.len() >= self.limit)
    }

    /// Why a file was not found: `Ok(None)` if it does not exist. A broken link, or a missing directory, is an error.
    fn not_found(&self, path: &Path) -> Result<Option<Stored>, StoreError> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            return Err(StoreError::Unreadable(format!(
                "cannot read {}: it is a link to nothing",
                path.display()
            )));
        }
        match fs::metadata(&self.path) {
            Ok(_) => Ok(None),
            Err(e) if self.is_missing(&e) => Ok(None),
            Err(e) => Err(StoreError::Failed(format!(
                "cannot read {}: {e}",
                self.path.display()
            ))),
        }
    }

    /// Replaces a file atomically. With `durable`, the file is on the disk when this returns.
    pub(super) fn replace(&self, path: &Path, text: &str, durable: bool) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.make()?;
        let n = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!(".{}.{n}{TEMPORARY_SUFFIX}", name.to_string_lossy()));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(FILE_MODE)
                .open(&temporary)?;
            // The permissions of the file stay as they are.
            if let Ok(old) = fs::metadata(path) {
                file.set_permissions(fs::Permissions::from_mode(old.permissions().mode()))?;
            }
            file.write_all(text.as_bytes())?;
            if durable {
                file.sync_all()?;
            }
            fs::rename(&temporary, path)
        };
        if let Err(error) = write() {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        if durable {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        File::open(&self.path)?.sync_all()
    }
}

/// The names in a directory that have this suffix, sorted.
fn names(directory: &Path, suffix: &str) -> io::Result<Vec<DeviceId>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(suffix));
        ids.extend(id.and_then(|id| DeviceId::parse(id).ok()));
    }
    sort(&mut ids);
    Ok(ids)
}

/// The revision of a file; 0: its metadata could not be read.
fn revision(stamp: FileStamp) -> u64 {
    if stamp == FileStamp::default() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    stamp.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Whether an error of reading is about one file, not about the directory or the disk.
fn concerns_one_file(error: &io::Error) -> bool {
    use nix::libc::{EACCES, ELOOP, EPERM};
    matches!(error.raw_os_error(), Some(EACCES | EPERM | ELOOP))
}

impl Documents for Files {
    fn get(&self, id: &DeviceId) -> Result<Option<Stored>, StoreError> {
        let path = self.file(id);
        let before = FileStamp::of(&path);
        match read_file(&path) {
            Ok(text) => {
                // A file that changed while it was read has no revision.
                let is_unchanged = FileStamp::of(&path) == before;
                let revision = if is_unchanged { revision(before) } else { 0 };
                Ok(Some(Stored { text, revision }))
            }
            Err(config::Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.not_found(&path)
            }
            Err(config::Error::Read { path, source }) => {
                let why = format!("cannot read {}: {source}", path.display());
                Err(match concerns_one_file(&source) {
                    true => StoreError::Unreadable(why),
                    false => StoreError::Failed(why),
                })
            }
            Err(error) => Err(StoreError::Unreadable(error.to_string())),
        }
    }

    fn changes(&self) -> Result<Changes, StoreError> {
        self.watch
            .changes(self.is_made_late)
            .map_err(|e| StoreError::Failed(format!("cannot read {}: {e}", self.path.display())))
    }

    fn lookup(&self, id: &DeviceId, known: Option<u64>) -> Result<Lookup, StoreError> {
        if let Some(known) = known.filter(|known| *known != 0) {
            if revision(FileStamp::of(&self.file(id))) == known {
                return Ok(Lookup::Unchanged);
            }
        }
        Ok(self.get(id)?.map_or(Lookup::Missing, Lookup::Found))
    }

    fn scan(
        &self,
        known: &dyn Fn(&DeviceId) -> Option<u64>,
        found: &mut dyn FnMut(DeviceId, Result<Lookup, StoreError>),
    ) -> Result<(), StoreError> {
        let scan = self.watch.scan();
        for id in self.ids()? {
            match self.lookup(&id, known(&id)) {
                Err(error @ (StoreError::Unavailable(_) | StoreError::Failed(_))) => {
                    return Err(error)
                }
                look => found(id, look),
            }
        }
        scan.done();
        Ok(())
    }

    fn has_unique_revisions(&self) -> bool {
        false
    }

    fn compare_and_swap(
        &self,
        id: &DeviceId,
        expected: Option<&Stored>,
        text: Option<&str>,
    ) -> Result<bool, StoreError> {
        let _changing = self.changing(id);
        let current = self.get(id)?.map(|stored| stored.text);
        if current.as_ref() != expected.map(|stored| &stored.text) {
            return Ok(false);
        }
        let path = self.file(id);
        let failed = |what: &str, e: io::Error| {
            StoreError::Failed(format!("cannot {what} {}: {e}", path.display()))
        };
        match text {
            Some(text) => {
                if expected.is_none() && self.is_full()? {
                    return Err(StoreError::Full {
                        what: self.what,
                        limit: self.limit,
                    });
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
                if let Some(notes) = &self.notes {
                    let _ = fs::remove_file(note_file(notes, id));
                }
            }
            None => {}
        }
        Ok(true)
    }
}

impl Store for Directory {
    fn devices(&self) -> &dyn Documents {
        &self.devices
    }

    fn groups(&self) -> &dyn Documents {
        &self.groups
    }

    fn commit(&self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let id = transaction.id;
        self.records.begin(transaction)?;
        let (made, outcome) = self.make(transaction);
        if outcome == Ok(Outcome::Committed) {
            self.records.finish(id, made > 1);
            return outcome;
        }
        // A change that failed may have been made all the same: the directory could not be synchronised after it.
        let tried = made + usize::from(outcome.is_err());
        let tried = transaction.edits.get(..tried).unwrap_or_default();
        match (put_back(self, tried), outcome) {
            (Ok(_), outcome) => {
                self.records.forget(id);
                outcome
            }
            (Err(error), _) => Err(StoreError::Failed(format!(
                "{error}; the change {id} is half made, and could not be put back: the next start of the server puts it back, and POST /changes/{id}/undo?force does"
            ))),
        }
    }

    fn record_heads(&self) -> Result<RecordHeads, StoreError> {
        Ok(self.records.heads())
    }

    fn record(&self, id: TransactionId) -> Result<Option<Transaction>, StoreError> {
        self.records.get(id)
    }

    fn remove_record(&self, id: TransactionId) -> Result<bool, StoreError> {
        self.records.remove(id)
    }

    fn dropped_records(&self) -> u64 {
        self.records.dropped()
    }

    fn recover(&self) -> Result<Option<Duration>, StoreError> {
        // Only this server uses the directory, and has done so when it opened it.
        Ok(None)
    }

    fn max_note_age(&self) -> Duration {
        MAX_NOTE_AGE
    }

    fn put_note(&self, id: &DeviceId, note: &str) -> Result<(), StoreError> {
        let path = self.note_file(id);
        self.devices
            .replace(&path, note, false)
            .map_err(|e| StoreError::Failed(format!("cannot save {}: {e}", path.display())))
    }

    fn get_note(&self, id: &DeviceId) -> Result<Option<String>, StoreError> {
        let mut note = String::new();
        let file = match File::open(self.note_file(id)) {
            Ok(file) => file,
            Err(_) => return Ok(None),
        };
        let read = file.take(MAX_NOTE_BYTES).read_to_string(&mut note);
        Ok(read.ok().map(|_| note))
    }

    fn list_notes(&self) -> Result<Vec<(DeviceId, String)>, StoreError> {
        let failed = |e| StoreError::Failed(format!("cannot read {}: {e}", self.notes().display()));
        let ids = names(self.notes(), ".json").map_err(failed)?.into_iter();
        let read = |id: DeviceId| {
            let note = self.get_note(&id).ok()??;
            Some((id, note))
        };
        Ok(ids.filter_map(read).collect())
    }

    fn describe(&self) -> String {
        format!("the directory {}", self.devices.path.display())
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
