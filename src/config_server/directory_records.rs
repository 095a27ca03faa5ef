//! The records of transactions in a directory: `changes/ID.jsonl`, and `changes/ID.unfinished` while the documents are changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;

use super::directory::Files;
use super::store::{RecordHeads, StoreError};
use super::transaction::{
    log_dropped, parse_head, surplus, Transaction, TransactionId, MAX_RECORDS,
    MAX_TRANSACTION_BYTES,
};
use crate::sys::file;
use crate::sys::lock;

const FINISHED: &str = ".jsonl";
const UNFINISHED: &str = ".unfinished";
/// The longest first line of a record.
const MAX_HEAD: u64 = 64 * 1024;
/// The longest record: JSON may take six bytes for one.
const MAX_RECORD: u64 = 6 * (MAX_TRANSACTION_BYTES as u64 + MAX_HEAD);

pub(super) struct DirectoryRecords {
    files: Files,
    kept: Mutex<Kept>,
}

/// The heads of the records.
#[derive(Default)]
struct Kept {
    finished: BTreeMap<TransactionId, Value>,
    unfinished: BTreeMap<TransactionId, Value>,
    dropped: u64,
}

impl DirectoryRecords {
    /// Reads the heads of the records in a directory, which need not exist.
    pub(super) fn open(path: &Path) -> io::Result<DirectoryRecords> {
        let records = DirectoryRecords {
            files: Files::made_late(path, "changes", MAX_RECORDS),
            kept: Mutex::default(),
        };
        let entries = match fs::read_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(records),
            entries => entries?,
        };
        let mut kept = lock::lock(&records.kept);
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            let id = |suffix: &str| TransactionId::parse(name.strip_suffix(suffix)?);
            let (id, is_finished) = match (id(FINISHED), id(UNFINISHED)) {
                (Some(id), _) => (id, true),
                (None, Some(id)) => (id, false),
                (None, None) => continue,
            };
            match head_of(&path.join(&*name)) {
                Some((in_it, head)) if in_it == id => {
                    let heads = match is_finished {
                        true => &mut kept.finished,
                        false => &mut kept.unfinished,
                    };
                    heads.insert(id, head);
                }
                _ => log::warn!(
                    "{}: not a record of a change: it is not listed",
                    path.join(&*name).display()
                ),
            }
        }
        drop(kept);
        Ok(records)
    }

    fn file(&self, id: TransactionId, suffix: &str) -> PathBuf {
        self.files.path().join(format!("{id}{suffix}"))
    }

    /// Keeps the record of a transaction before its changes are made.
    pub(super) fn begin(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let path = self.file(transaction.id, UNFINISHED);
        let record = transaction.record();
        let replaced = self.files.replace(&path, &record, true);
        replaced.map_err(|e| failed("save", &path, &e))?;
        let head = transaction.head.clone();
        lock::lock(&self.kept)
            .unfinished
            .insert(transaction.id, head);
        Ok(())
    }

    /// Marks the record as finished. `durable`: it is marked so on the disk, too. Without it, a loss of power may leave a record
    /// that is found to be finished at the next start.
    pub(super) fn finish(&self, id: TransactionId, durable: bool) {
        let path = self.file(id, UNFINISHED);
        let renamed = fs::rename(&path, self.file(id, FINISHED));
        if let (Ok(()), true) = (&renamed, durable) {
            let _ = File::open(self.files.path()).and_then(|directory| directory.sync_all());
        }
        if let Err(error) = renamed {
            // It is found to be finished at the next start.
            log::warn!("cannot rename {}: {error}", path.display());
            return;
        }
        let mut kept = lock::lock(&self.kept);
        if let Some(head) = kept.unfinished.remove(&id) {
            kept.finished.insert(id, head);
        }
        self.drop_oldest(&mut kept);
    }

    /// Removes the record of a transaction of which nothing is left.
    pub(super) fn forget(&self, id: TransactionId) {
        if let Err(error) = fs::remove_file(self.file(id, UNFINISHED)) {
            log::warn!(
                "cannot remove {}: {error}",
                self.file(id, UNFINISHED).display()
            );
        }
        lock::lock(&self.kept).unfinished.remove(&id);
    }

    /// Removes a finished record. False: there is none.
    pub(super) fn remove(&self, id: TransactionId) -> Result<bool, StoreError> {
        let mut kept = lock::lock(&self.kept);
        if !kept.finished.contains_key(&id) {
            return Ok(false);
        }
        let path = self.file(id, FINISHED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path, &error));
            }
            _ => kept.finished.remove(&id),
        };
        // It is removed because of what is in it: a loss of power must not bring it back.
        let synced = File::open(self.files.path()).and_then(|directory| directory.sync_all());
        synced.map_err(|e| failed("save", self.files.path(), &e))?;
        Ok(true)
    }

    fn drop_oldest(&self, kept: &mut Kept) {
        let heads = kept.finished.iter().map(|(id, head)| (*id, head));
        for id in surplus(heads) {
            kept.finished.remove(&id);
            let path = self.file(id, FINISHED);
            if let Err(error) = fs::remove_file(&path) {
                log::warn!("cannot remove {}: {error}", path.display());
            }
            if kept.dropped == 0 {
                log_dropped(id);
            }
            kept.dropped += 1;
        }
    }

    pub(super) fn heads(&self) -> RecordHeads {
        let kept = lock::lock(&self.kept);
        RecordHeads {
            finished: kept.finished.values().rev().cloned().collect(),
            unfinished: kept.unfinished.values().rev().cloned().collect(),
        }
    }

    pub(super) fn unfinished(&self) -> Vec<TransactionId> {
        let kept = lock::lock(&self.kept);
        kept.unfinished.keys().rev().copied().collect()
    }

    pub(super) fn dropped(&self) -> u64 {
        lock::lock(&self.kept).dropped
    }

    pub(super) fn get(&self, id: TransactionId) -> Result<Option<Transaction>, StoreError> {
        let kept = lock::lock(&self.kept);
        let suffix = match (kept.finished.get(&id), kept.unfinished.get(&id)) {
            (Some(_), _) => FINISHED,
            (None, Some(_)) => UNFINISHED,
            (None, None) => return Ok(None),
        };
        drop(kept);
        let path = self.file(id, suffix);
        let text = match file::read(&path, MAX_RECORD) {
            // It was dropped, or finished, just now.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|e| failed("read", &path, &e))?,
        };
        let text = String::from_utf8_lossy(&text);
        let parsed = Transaction::parse(&text);
        parsed
            .map(Some)
            .map_err(|why| StoreError::Unreadable(format!("{}: {why}", path.display())))
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Failed(format!("cannot {what} {}: {error}", path.display()))
}

/// The head of the record in a file; `None`: it has none.
fn head_of(path: &Path) -> Option<(TransactionId, Value)> {
    let mut line = String::new();
    let file = File::open(path).ok()?;
    BufReader::new(file.take(MAX_HEAD))
        .read_line(&mut line)
        .ok()?;
    parse_head(&line)
}
