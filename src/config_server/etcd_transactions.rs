//! Transactions in etcd, and their records.
//!
//! A record is `PREFIX/changes/ID`, its first line, and `PREFIX/change/ID/N`, parts of the whole of it. What fits in one of etcd's
//! own transactions is made by one, record included. etcd takes 128 operations in each and 1.5 MiB (its `--max-txn-ops` and
//! `--max-request-bytes`). What does not fit is made by several, while `PREFIX/unfinished` says so: the parts of the record are
//! put first, then the documents, then the first line. Each of them compares and puts that key, so that one server at a time
//! does this, and that one which is no longer the owner of the key can change nothing. If a document has changed meanwhile,
//! those that were changed are put back. If the server dies, another one, or the same after its start, puts them back when
//! the key has stayed the same for a while.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::etcd::Cluster;
use super::etcd_json as messages;
use super::store::{RecordHeads, Store, StoreError};
use super::transaction::{
    id_of, log_dropped, log_put_back, parse_head, put_back, recover, surplus, Edit, Kind, Outcome,
    Recovery, Transaction, TransactionId, MAX_RECORDS,
};
use crate::sys::lock;

/// The most operations of one of etcd's transactions.
const MAX_OPERATIONS: usize = 100;
/// The most bytes of values in one of them.
const MAX_BYTES: usize = 1 << 20;
/// The bytes of a part of a record.
const PART: usize = 512 << 10;
/// The parts of a record that are read together.
const PARTS_READ: usize = 8;
/// A transaction is broken off if the key stays the same for longer. Each step takes less.
const BROKEN_OFF_AFTER: Duration = Duration::from_secs(30);
/// The time between two looks for a transaction that was broken off, while there is one.
const BUSY_INTERVAL: Duration = Duration::from_secs(10);
/// The same while there is none.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Records are counted, and the oldest dropped, after each this many transactions of a server.
const COUNT_EVERY: u64 = 20;

pub(super) struct EtcdTransactions {
    cluster: Arc<Cluster>,
    /// The revision of `PREFIX/unfinished` that was seen last, and since when.
    seen: Mutex<Option<(u64, Instant)>>,
    committed: AtomicU64,
    dropped: AtomicU64,
}

/// A transaction that takes several of etcd's.
struct Steps<'a> {
    of: &'a EtcdTransactions,
    head: &'a Value,
    /// The revision of `PREFIX/unfinished`.
    revision: u64,
    step: u64,
}

impl EtcdTransactions {
    pub(super) fn new(cluster: Arc<Cluster>) -> EtcdTransactions {
        EtcdTransactions {
            cluster,
            seen: Mutex::default(),
            committed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    fn heads_prefix(&self) -> String {
        format!("{}/changes/", self.cluster.prefix())
    }

    fn head_key(&self, id: TransactionId) -> String {
        format!("{}{id}", self.heads_prefix())
    }

    fn parts_prefix(&self, id: TransactionId) -> String {
        format!("{}/change/{id}/", self.cluster.prefix())
    }

    fn unfinished_key(&self) -> String {
        format!("{}/unfinished", self.cluster.prefix())
    }

    fn put_head(&self, id: TransactionId, head: &Value) -> Value {
        messages::put_operation(&self.head_key(id), head.to_string().as_bytes())
    }

    fn put_parts(&self, id: TransactionId, record: &str) -> Vec<Value> {
        let prefix = self.parts_prefix(id);
        let parts = record.as_bytes().chunks(PART).enumerate();
        parts
            .map(|(number, part)| messages::put_operation(&format!("{prefix}{number:04}"), part))
            .collect()
    }

    /// The comparison and the operations that make a change.
    fn operations(&self, edit: &Edit) -> (Value, Vec<Value>) {
        let (prefix, ..) = self.cluster.keys_of(edit.kind);
        let key = format!("{prefix}{}", edit.id);
        let revision = edit.before.as_ref().map_or(0, |stored| stored.revision);
        let note = (edit.kind == Kind::Device).then(|| self.cluster.note_key(&edit.id));
        (
            messages::comparison(&key, revision),
            messages::swap_operations(&key, edit.after.as_deref(), note.as_deref()),
        )
    }

    pub(super) fn commit(
        &self,
        store: &dyn Store,
        transaction: &Transaction,
    ) -> Result<Outcome, StoreError> {
        for kind in [Kind::Group, Kind::Device] {
            let new = transaction.edits.iter();
            let new = new.filter(|edit| edit.kind == kind && edit.before.is_none());
            let new = new.filter(|edit| edit.after.is_some()).count();
            let (prefix, what, limit) = self.cluster.keys_of(kind);
            if new > 0 && self.cluster.count(&prefix)?.saturating_add(new) > limit {
                return Err(StoreError::Full { what, limit });
            }
        }
        let record = transaction.record();
        let outcome = match self.commit_at_once(transaction, &record) {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => self.commit_in_steps(store, transaction, &record),
            Err(error) => Err(error),
        };
        let is_committed = outcome == Ok(Outcome::Committed);
        if is_committed && self.committed.fetch_add(1, Ordering::Relaxed) % COUNT_EVERY == 0 {
            if let Err(error) = self.drop_oldest() {
                log::warn!("cannot count the records of changes: {error}");
            }
        }
        outcome
    }

    /// Makes a transaction by one of etcd's; `None`: it does not fit.
    fn commit_at_once(
        &self,
        transaction: &Transaction,
        record: &str,
    ) -> Result<Option<Outcome>, StoreError> {
        let bytes: usize = transaction.edits.iter().map(after_bytes).sum();
        if transaction.edits.len() > MAX_OPERATIONS || record.len() + bytes > MAX_BYTES {
            return Ok(None);
        }
        let (mut comparisons, mut operations) = (Vec::new(), Vec::new());
        for edit in &transaction.edits {
            let (comparison, of_edit) = self.operations(edit);
            comparisons.push(comparison);
            operations.extend(of_edit);
        }
        operations.extend(self.put_parts(transaction.id, record));
        operations.push(self.put_head(transaction.id, &transaction.head));
        if operations.len() > MAX_OPERATIONS {
            return Ok(None);
        }
        match self.cluster.transact(comparisons, operations) {
            Ok(Some(_)) => Ok(Some(Outcome::Committed)),
            // It was made if its answer was lost, and it was sent once more.
            Ok(None) => match self.cluster.get(&self.head_key(transaction.id))? {
                Some(_) => Ok(Some(Outcome::Committed)),
                None => Ok(Some(Outcome::Conflict)),
            },
            Err(error) if is_too_large(&error) && transaction.edits.len() > 1 => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn commit_in_steps(
        &self,
        store: &dyn Store,
        transaction: &Transaction,
        record: &str,
    ) -> Result<Outcome, StoreError> {
        let mut steps = self.begin(store, transaction)?;
        let mut made = 0;
        let outcome = steps.make(transaction, record, &mut made);
        let id = transaction.id;
        let outcome = match outcome {
            Ok(Outcome::Committed) => match steps.finish(id) {
                // Its answer may have been lost.
                Err(why) => match self.cluster.get(&self.head_key(id)) {
                    Ok(Some(_)) => Ok(Outcome::Committed),
                    Ok(None) => Err(why),
                    Err(why) => return Err(half_made(id, &why)),
                },
                finished => finished,
            },
            other => other,
        };
        if outcome == Ok(Outcome::Committed) {
            return outcome;
        }
        let tried = transaction.edits.get(..made).unwrap_or_default();
        let cleaned = steps.end_lost_steps();
        let cleaned = cleaned.and_then(|()| put_back(store, tried));
        let cleaned = cleaned.and_then(|_| steps.forget(id));
        match (cleaned, outcome) {
            (Ok(()), outcome) => outcome,
            (Err(why), Ok(_)) => Err(half_made(id, &why)),
            (Err(_), Err(why)) => Err(half_made(id, &why)),
        }
    }

    /// Takes `PREFIX/unfinished`.
    fn begin<'a>(
        &'a self,
        store: &dyn Store,
        transaction: &'a Transaction,
    ) -> Result<Steps<'a>, StoreError> {
        let mut steps = Steps {
            of: self,
            head: &transaction.head,
            revision: 0,
            step: 0,
        };
        if steps.take(Vec::new(), Vec::new())? {
            return Ok(steps);
        }
        self.recover(store)?;
        if steps.take(Vec::new(), Vec::new())? {
            return Ok(steps);
        }
        let unfinished = self.unfinished()?.map(|(_, head)| head);
        let text = |key: &str| {
            let head = unfinished.as_ref()?;
            Some(head.get(key)?.as_str()?.to_owned())
        };
        Err(StoreError::Busy(format!(
            "another server changes many documents since {} (the change {}): try again later; what a server that died has left is put back after {} s",
            text("time").unwrap_or_else(|| "just now".into()),
            text("id").unwrap_or_else(|| "has ended".into()),
            BROKEN_OFF_AFTER.as_secs(),
        )))
    }

    /// The revision of `PREFIX/unfinished`, and the head in it.
    fn unfinished(&self) -> Result<Option<(u64, Value)>, StoreError> {
        let stored = self.cluster.get(&self.unfinished_key())?;
        Ok(stored.map(|stored| {
            let value: Value = serde_json::from_slice(&stored.text).unwrap_or_default();
            let head = value.get("head").cloned().unwrap_or_default();
            (stored.revision, head)
        }))
    }

    /// As [`Store::recover`].
    pub(super) fn recover(&self, store: &dyn Store) -> Result<Option<Duration>, StoreError> {
        let unfinished = self.unfinished()?;
        let mut seen = lock::lock(&self.seen);
        let Some((revision, head)) = unfinished else {
            *seen = None;
            return Ok(Some(IDLE_INTERVAL));
        };
        match *seen {
            Some((known, since)) if known == revision => {
                if since.elapsed() < BROKEN_OFF_AFTER {
                    return Ok(Some(BUSY_INTERVAL));
                }
            }
            _ => {
                *seen = Some((revision, Instant::now()));
                return Ok(Some(BUSY_INTERVAL));
            }
        }
        drop(seen);
        let Some(id) = id_of(&head) else {
            let key = self.unfinished_key();
            return Err(StoreError::Failed(format!(
                "the key {key} is not what a config-server puts there: delete it"
            )));
        };
        let mut steps = Steps {
            of: self,
            head: &head,
            revision,
            // No step of another attempt, or of the server that began it, has such a number.
            step: RandomState::new().hash_one(0u8) >> 1,
        };
        if !steps.take(Vec::new(), Vec::new())? {
            return Ok(Some(BUSY_INTERVAL));
        }
        match self.parts(id)? {
            // No document is changed before all parts are there.
            None => steps.forget(id)?,
            Some(transaction) => match recover(store, &transaction.edits)? {
                Recovery::Finished => {
                    steps.finish(id)?;
                }
                Recovery::PutBack { count } => {
                    log_put_back(&transaction, count);
                    steps.forget(id)?;
                }
            },
        }
        Ok(Some(IDLE_INTERVAL))
    }

    pub(super) fn heads(&self) -> Result<RecordHeads, StoreError> {
        let mut finished = Vec::new();
        let prefix = self.heads_prefix();
        self.cluster.all(&prefix, 2 * MAX_RECORDS, &mut |_, pair| {
            let head = String::from_utf8_lossy(&pair.value);
            finished.extend(parse_head(&head).map(|(_, head)| head));
        })?;
        finished.reverse();
        let unfinished = self.unfinished()?.into_iter();
        Ok(RecordHeads {
            finished,
            unfinished: unfinished.map(|(_, head)| head).collect(),
        })
    }

    pub(super) fn record(&self, id: TransactionId) -> Result<Option<Transaction>, StoreError> {
        self.parts(id)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The record in its parts; `None`: there are none, or not all.
    fn parts(&self, id: TransactionId) -> Result<Option<Transaction>, StoreError> {
        let prefix = self.parts_prefix(id);
        let (mut record, mut after) = (Vec::new(), None::<Vec<u8>>);
        loop {
            let request = messages::range(&prefix, after.as_deref(), PARTS_READ);
            let page = self
                .cluster
                .request("/v3/kv/range", &request, messages::parse_range)?;
            after = page.pairs.last().map(|pair| pair.key.clone());
            page.pairs
                .iter()
                .for_each(|pair| record.extend_from_slice(&pair.value));
            if !page.more || after.is_none() {
                break;
            }
        }
        Ok(Transaction::parse(&String::from_utf8_lossy(&record)).ok())
    }

    /// As [`Store::remove_record`].
    pub(super) fn remove_record(&self, id: TransactionId) -> Result<bool, StoreError> {
        // Without a head it is unfinished, and what it has changed may have to be put back.
        if self.cluster.get(&self.head_key(id))?.is_none() {
            return Ok(false);
        }
        self.delete_record(id)?;
        Ok(true)
    }

    /// Deletes the record of a finished transaction.
    fn delete_record(&self, id: TransactionId) -> Result<(), StoreError> {
        let operations = vec![
            messages::delete_operation(&self.head_key(id)),
            messages::delete_all_operation(&self.parts_prefix(id)),
        ];
        self.cluster.transact(Vec::new(), operations)?;
        Ok(())
    }

    fn drop_oldest(&self) -> Result<(), StoreError> {
        let heads = self.heads()?.finished;
        let oldest_first = heads.iter().rev();
        for id in surplus(oldest_first.filter_map(|head| Some((id_of(head)?, head)))) {
            self.delete_record(id)?;
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                log_dropped(id);
            }
        }
        Ok(())
    }
}

impl Steps<'_> {
    /// Does these operations, if the comparisons hold, as the next step. False: one does not hold. An error if the key is no
    /// longer this server's.
    fn take(
        &mut self,
        mut comparisons: Vec<Value>,
        mut operations: Vec<Value>,
    ) -> Result<bool, StoreError> {
        let key = self.of.unfinished_key();
        let value = json!({"head": self.head, "step": self.step + 1}).to_string();
        comparisons.push(messages::comparison(&key, self.revision));
        operations.push(messages::put_operation(&key, value.as_bytes()));
        let revision = match self.of.cluster.transact(comparisons, operations)? {
            Some(revision) => revision,
            None => match self.of.cluster.get(&key)? {
                // It was made, its answer was lost, and it was sent once more.
                Some(stored) if stored.text == value.as_bytes() => stored.revision,
                // A document has changed; or another server has the key already.
                now if now.as_ref().map_or(0, |stored| stored.revision) == self.revision => {
                    return Ok(false)
                }
                _ if self.revision == 0 => return Ok(false),
                _ => {
                    return Err(StoreError::Failed(
                        "another server took this one for dead, and puts the change back".into(),
                    ))
                }
            },
        };
        self.revision = revision;
        self.step += 1;
        Ok(true)
    }

    /// Puts the record, and makes the changes. `made` is the number of those that may have been made.
    fn make(
        &mut self,
        transaction: &Transaction,
        record: &str,
        made: &mut usize,
    ) -> Result<Outcome, StoreError> {
        for part in self.of.put_parts(transaction.id, record) {
            self.take(Vec::new(), vec![part])?;
        }
        let mut most = MAX_OPERATIONS;
        let mut rest = transaction.edits.as_slice();
        while !rest.is_empty() {
            let (mut comparisons, mut operations, mut bytes, mut count) = (vec![], vec![], 0, 0);
            for edit in rest {
                let (comparison, of_edit) = self.of.operations(edit);
                let is_full = bytes + after_bytes(edit) > MAX_BYTES
                    || operations.len() + of_edit.len() > most;
                if count > 0 && is_full {
                    break;
                }
                comparisons.push(comparison);
                operations.extend(of_edit);
                bytes += after_bytes(edit);
                count += 1;
            }
            *made = transaction.edits.len() - rest.len() + count;
            match self.take(comparisons, operations) {
                Ok(true) => rest = rest.get(count..).unwrap_or_default(),
                Ok(false) => {
                    *made -= count;
                    return Ok(Outcome::Conflict);
                }
                // This etcd takes less than others.
                Err(error) if is_too_large(&error) && count > 1 => most /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Committed)
    }

    /// Marks the record as finished, and gives the key back.
    fn finish(&mut self, id: TransactionId) -> Result<Outcome, StoreError> {
        let key = self.of.unfinished_key();
        let comparison = messages::comparison(&key, self.revision);
        let operations = vec![
            self.of.put_head(id, self.head),
            messages::delete_operation(&key),
        ];
        match self.of.cluster.transact(vec![comparison], operations)? {
            Some(_) => Ok(Outcome::Committed),
            None => match self.of.cluster.get(&self.of.head_key(id))? {
                Some(_) => Ok(Outcome::Committed),
                None => Err(StoreError::Failed(
                    "another server took this one for dead, and puts the change back".into(),
                )),
            },
        }
    }

    /// Takes the key once more. A step whose answer was lost was made before that, or will never be.
    fn end_lost_steps(&mut self) -> Result<(), StoreError> {
        if let Some((revision, _)) = self.of.unfinished()?.filter(|(_, head)| self.is_own(head)) {
            self.revision = revision;
        }
        match self.take(Vec::new(), Vec::new())? {
            true => Ok(()),
            false => Err(StoreError::Failed(
                "another server has begun a change".into(),
            )),
        }
    }

    /// Whether a head is that of this transaction.
    fn is_own(&self, head: &Value) -> bool {
        head.get("id") == self.head.get("id")
    }

    /// Removes the record, and gives the key back.
    fn forget(&mut self, id: TransactionId) -> Result<(), StoreError> {
        let key = self.of.unfinished_key();
        let comparison = messages::comparison(&key, self.revision);
        let operations = vec![
            messages::delete_all_operation(&self.of.parts_prefix(id)),
            messages::delete_operation(&key),
        ];
        if self
            .of
            .cluster
            .transact(vec![comparison], operations)?
            .is_some()
        {
            return Ok(());
        }
        // It was done if its answer was lost, and it was sent once more.
        match self.of.unfinished()? {
            Some((_, head)) if self.is_own(&head) => Err(StoreError::Failed(format!(
                "the key {key} is not given back"
            ))),
            _ => Ok(()),
        }
    }
}

fn after_bytes(edit: &Edit) -> usize {
    edit.after.as_ref().map_or(0, String::len)
}

/// Whether etcd refuses a transaction for its size.
fn is_too_large(error: &StoreError) -> bool {
    let is_so = |why: &str| why.contains("too many operations") || why.contains("too large");
    matches!(error, StoreError::Unavailable(why) if is_so(why))
}

fn half_made(id: TransactionId, why: &StoreError) -> StoreError {
    StoreError::Failed(format!(
        "{why}; the change {id} may be half made: it is put back within {} s of etcd's next answer",
        (BROKEN_OFF_AFTER + IDLE_INTERVAL + BUSY_INTERVAL).as_secs()
    ))
}
