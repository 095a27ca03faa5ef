//! The interface of a store of configurations, and the choice of the store.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::directory::Directory;
use super::etag::Etag;
use super::etcd::Etcd;
use super::transaction::{Outcome, Transaction, TransactionId};
use crate::config::load_settings;
use crate::config::ClientSettings as Settings;
use crate::wire::DeviceId;

/// The most devices of a store.
pub(super) const MAX_DEVICES: usize = 100_000;
/// The most groups of a store.
pub(super) const MAX_GROUPS: usize = 1000;

/// A stored document: YAML, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) text: Vec<u8>,
    /// The store's revision of this state; 0: unknown.
    pub(super) revision: u64,
}

/// The result of looking up one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The document still has the known revision.
    Unchanged,
    /// There is no document.
    Missing,
    /// The document has another revision.
    Found(Stored),
}

/// The changes in a store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// Anything may have changed.
    Unknown,
    /// These changes, in this order.
    Listed(Vec<Change>),
}

/// A change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The document may have changed: look it up.
    Touched(DeviceId),
    /// This document was put.
    Put(DeviceId, Stored),
    /// The document was removed, by the change of this revision.
    Removed(DeviceId, u64),
    /// This note was put on a device.
    Noted(DeviceId, String),
}

impl Stored {
    pub(super) fn etag(&self) -> Etag {
        Etag::of(&self.text)
    }
}

/// Why a call of a store failed. The texts are messages for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreError {
    /// The store cannot be reached at the moment.
    Unavailable(String),
    /// The store refuses: the disk is full, the directory is read-only, ….
    Failed(String),
    /// The configuration of this one device cannot be read: it is a directory, the permissions forbid it, ….
    Unreadable(String),
    /// There are as many documents of a kind as are kept.
    Full {
        /// What they are, in the plural.
        what: &'static str,
        limit: usize,
    },
    /// Another server changes many documents at the moment.
    Busy(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unavailable(why)
            | StoreError::Failed(why)
            | StoreError::Unreadable(why)
            | StoreError::Busy(why) => f.write_str(why),
            StoreError::Full { what, limit } => write!(
                f,
                "there are {limit} {what}: no more are kept (DELETE those that are gone)"
            ),
        }
    }
}

/// Documents by name: configurations by device id, or groups by name. Every call is bounded in time. Calls may be concurrent,
/// also from several servers if the store is shared.
pub(super) trait Documents: Send + Sync {
    /// The document of this name.
    fn get(&self, id: &DeviceId) -> Result<Option<Stored>, StoreError>;

    /// What has changed since the last call. Includes every change that this server made before the call, and the changes of
    /// others as far as the store reports them.
    fn changes(&self) -> Result<Changes, StoreError>;

    /// Whether it is known that nothing has changed from the last call of `changes` until the store last answered a lookup, of any
    /// kind of document. Then a request that has looked something up need not ask for changes as well.
    fn is_unchanged(&self) -> bool {
        false
    }

    /// Looks up one document, whose revision `known` is known.
    fn lookup(&self, id: &DeviceId, known: Option<u64>) -> Result<Lookup, StoreError>;

    /// Looks up all documents, whose known revisions `known` returns. The error of one document is passed to `found`.
    fn scan(
        &self,
        known: &dyn Fn(&DeviceId) -> Option<u64>,
        found: &mut dyn FnMut(DeviceId, Result<Lookup, StoreError>),
    ) -> Result<(), StoreError>;

    /// Whether every change has a new revision. If not, two changes in quick succession may have the same one: a file's times
    /// have a coarse resolution.
    fn has_unique_revisions(&self) -> bool;

    /// Replaces `expected` (`None`: no document) by `text` (`None`: removes the document, and the note if there is one). False:
    /// the store has something else than `expected`, and nothing was changed.
    fn compare_and_swap(
        &self,
        id: &DeviceId,
        expected: Option<&Stored>,
        text: Option<&str>,
    ) -> Result<bool, StoreError>;
}

/// The heads of the records of transactions.
#[derive(Debug, Default)]
pub(super) struct RecordHeads {
    /// Those that are kept, the newest first.
    pub(super) finished: Vec<Value>,
    /// Those of transactions that are under way, or were broken off.
    pub(super) unfinished: Vec<Value>,
}

/// A store of the devices' configurations, of groups, of a note on each device, and of the records of transactions. Losing a
/// note does no harm. Every call is bounded in time.
pub(super) trait Store: Send + Sync {
    /// The configurations.
    fn devices(&self) -> &dyn Documents;

    /// The groups.
    fn groups(&self) -> &dyn Documents;

    /// Makes all changes of a transaction and keeps its record, or makes none. An error that says so leaves it unfinished.
    fn commit(&self, transaction: &Transaction) -> Result<Outcome, StoreError>;

    /// The heads of all records.
    fn record_heads(&self) -> Result<RecordHeads, StoreError>;

    /// The record of this transaction, finished or not.
    fn record(&self, id: TransactionId) -> Result<Option<Transaction>, StoreError>;

    /// Removes the record of a finished transaction, from the disk too, and returns whether there was one.
    fn remove_record(&self, id: TransactionId) -> Result<bool, StoreError>;

    /// The number of records that this server has dropped, since only so many are kept.
    fn dropped_records(&self) -> u64;

    /// Finishes or puts back transactions that were broken off, as far as it is known that they were, and returns after which time
    /// to call this again, since another server of the same store may die. `None`: no other server uses it.
    fn recover(&self) -> Result<Option<Duration>, StoreError>;

    /// The age at which a note is put again though only its time has changed: often if other servers read it.
    fn max_note_age(&self) -> Duration;

    /// Puts a note on a device.
    fn put_note(&self, id: &DeviceId, note: &str) -> Result<(), StoreError>;

    /// The note on a device.
    fn get_note(&self, id: &DeviceId) -> Result<Option<String>, StoreError>;

    /// All notes.
    fn list_notes(&self) -> Result<Vec<(DeviceId, String)>, StoreError>;

    /// The kind and place of the store, for messages.
    fn describe(&self) -> String;
}

/// Opens the store that `--store` names: a directory, or `etcd://host:port,host:port/prefix` (`etcds://` for TLS). `http` is
/// a file of HTTP client settings for etcd.
pub(super) fn open(place: &str, http: Option<&Path>) -> Result<Box<dyn Store>, String> {
    match (place.split_once("://"), http) {
        (Some((scheme @ ("etcd" | "etcds"), rest)), http) => {
            let settings = http.map_or_else(|| Ok(Settings::default()), load_settings);
            let settings = settings.map_err(|why| format!("--store.http.config.file: {why}"))?;
            Ok(Box::new(Etcd::new(scheme, rest, settings)?))
        }
        (Some((scheme, _)), _) => Err(format!(
            "--store {place}: there is no store `{scheme}`: name a directory, or etcd://host:2379/prefix"
        )),
        (None, Some(_)) => Err(format!(
            "--store.http.config.file is for an etcd, and --store {place} is a directory"
        )),
        (None, None) => Ok(Box::new(Directory::open(Path::new(place))?)),
    }
}
