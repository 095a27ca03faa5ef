//! Where the configurations are kept: what a store can do, and which one is meant.

use std::fmt;
use std::path::Path;

use super::directory::Directory;
use super::etag::Etag;
use super::etcd::Etcd;
use crate::config::load_settings;
use crate::config::ClientSettings as Settings;
use crate::wire::DeviceId;

/// The most devices that are kept.
pub(super) const MAX_DEVICES: usize = 100_000;

/// One configuration as it is kept: YAML, as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) text: Vec<u8>,
    /// The store's own mark of this state; 0 where it has none.
    pub(super) revision: u64,
}

/// What a look at one configuration finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// The revision that is known already.
    Same,
    /// There is none.
    Gone,
    New(Stored),
}

/// What has changed in a store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// Perhaps everything: nobody knows.
    All,
    /// This, in this order.
    These(Vec<Change>),
}

/// A change of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Its configuration may be another: look at it.
    Touched(DeviceId),
    /// Its configuration is this one by now.
    Put(DeviceId, Stored),
    /// Its configuration was removed by the change of this revision.
    Removed(DeviceId, u64),
    /// There is a new note on it.
    Noted(DeviceId, String),
}

impl Stored {
    pub(super) fn etag(&self) -> Etag {
        Etag::of(&self.text)
    }
}

/// Why a store did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It cannot be reached at the moment, and may be again.
    Away(String),
    /// It refuses: the disk is full, it is read-only, ….
    Broken(String),
    /// What there is of this one device cannot be read: a directory, a file of somebody else's, ….
    Unreadable(String),
    /// It keeps as many devices as it may.
    Full,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Away(why) | Failure::Broken(why) | Failure::Unreadable(why) => {
                f.write_str(why)
            }
            Failure::Full => write!(
                f,
                "there are {MAX_DEVICES} devices: no more are kept (DELETE those that are gone)"
            ),
        }
    }
}

/// A place for configurations, and for a note on each device, which may be lost without harm. Every call is bounded in
/// time; many may be made at once, by several servers too if the store is shared.
pub(super) trait Store: Send + Sync {
    /// The configuration of a device.
    fn get(&self, id: &DeviceId) -> Result<Option<Stored>, Failure>;

    /// What has changed since this was asked last. Nothing is missed that was changed before this is asked, by
    /// ourselves or, as far as the store tells, by others.
    fn changes(&self) -> Result<Changes, Failure>;

    /// Looks at one device, of which this revision is known.
    fn look(&self, id: &DeviceId, known: Option<u64>) -> Result<Look, Failure>;

    /// Looks at all of them.
    fn scan(
        &self,
        known: &dyn Fn(&DeviceId) -> Option<u64>,
        found: &mut dyn FnMut(DeviceId, Result<Look, Failure>),
    ) -> Result<(), Failure>;

    /// Whether a revision is one of a kind. If not, a change may hide behind the same one for a moment, as behind the
    /// times of a file.
    fn has_sure_revisions(&self) -> bool;

    /// Puts `text` (`None`: nothing) in the place of `expected` (`None`: of nothing). False: something else is there by
    /// now, and nothing was changed. A device that goes takes its note with it.
    fn swap(
        &self,
        id: &DeviceId,
        expected: Option<&Stored>,
        text: Option<&str>,
    ) -> Result<bool, Failure>;

    /// Keeps a note on a device.
    fn note(&self, id: &DeviceId, note: &str) -> Result<(), Failure>;

    /// The note on a device.
    fn note_on(&self, id: &DeviceId) -> Result<Option<String>, Failure>;

    /// All notes.
    fn notes(&self) -> Result<Vec<(DeviceId, String)>, Failure>;

    /// What and where it is, for people.
    fn describe(&self) -> String;
}

/// The store that `--store` names: a directory, or `etcd://host:port,host:port/prefix` (`etcds://` by TLS), which is asked as
/// the file `http` says.
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
