//! The fleet in memory, kept in step with the store.
//!
//! Before the fleet is listed, the store reports what has changed, and only the changes are read. Of concurrent requests one
//! synchronises with the store, and the others share the result.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::boards::{Board, Boards, Counts, ListKind, Renderer};
use super::device::{parse_stored, Device, ParsedConfig, Summary};
use super::etag::Etag;
use super::pieces::Piece;
use super::store::{Change, Changes, Lookup, StoreError, Stored};
use super::ConfigServer;
use crate::http::gzip::Compressor;
use crate::sys::lock;
use crate::wire::DeviceId;

#[derive(Default)]
pub(super) struct Catalog {
    /// Locked during a synchronisation, so that changes are applied in order.
    sync: Mutex<SyncState>,
    /// The number of synchronisations started.
    syncs_started: AtomicU64,
    boards: Mutex<Boards>,
    compressor: Compressor,
    parsed: AtomicU64,
}

#[derive(Default)]
struct SyncState {
    /// The number of the last finished synchronisation.
    last_finished: u64,
    /// Its outcome.
    outcome: Option<Result<(), StoreError>>,
    /// Whether everything has been read once, and no change was missed since then.
    is_complete: bool,
    /// Whether all notes have been read once.
    has_loaded_notes: bool,
}

/// A configuration in the form that is sent.
pub(super) struct Configuration {
    pub(super) etag: Etag,
    /// The configuration as JSON; or why it is not valid.
    pub(super) json: Result<Arc<[u8]>, String>,
}

/// A page of the fleet.
pub(super) struct Page {
    pub(super) devices: Vec<Device>,
    /// Whether more devices follow.
    pub(super) more: bool,
}

impl Catalog {
    /// The number of configurations parsed, and the number of pieces rendered.
    pub(super) fn work(&self) -> (u64, u64) {
        let rendered = lock::lock(&self.boards).rendered;
        (self.parsed.load(Ordering::Relaxed), rendered)
    }

    /// The number of boards; `None`: the store was not read yet.
    pub(super) fn count(&self) -> Option<usize> {
        let boards = lock::lock(&self.boards).len();
        (self.syncs_started.load(Ordering::Relaxed) > 0).then_some(boards)
    }

    /// As [`Boards::mark_outdated`].
    pub(super) fn mark_outdated(&self, id: &DeviceId, is_change: bool) {
        lock::lock(&self.boards).mark_outdated(id, is_change);
    }

    /// Compresses the pieces that are not compressed yet.
    pub(super) fn compress(&self, pieces: &mut [Piece]) {
        let pieces = pieces.iter_mut();
        pieces.for_each(|piece| piece.compress(&self.compressor));
    }

    fn parse_stored(&self, text: &Stored) -> Result<ParsedConfig, String> {
        self.parsed.fetch_add(1, Ordering::Relaxed);
        parse_stored(text)
    }

    /// The known revision of a board's configuration, if the same revision means the same content.
    fn trusted_revision(&self, id: &DeviceId) -> Option<u64> {
        lock::lock(&self.boards).get(id)?.trusted_revision()
    }

    /// Whether the board's known configuration has this tag.
    fn has_etag(&self, id: &DeviceId, etag: Etag) -> bool {
        lock::lock(&self.boards)
            .get(id)
            .is_some_and(|board| board.etag == etag)
    }
}

impl ConfigServer {
    /// Brings the fleet in memory up to date with the store.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let started_before = self.catalog.syncs_started.load(Ordering::SeqCst);
        let mut sync = lock::lock(&self.catalog.sync);
        match &sync.outcome {
            // This synchronisation started after this call, so it has seen every earlier change.
            Some(outcome) if sync.last_finished > started_before => return outcome.clone(),
            _ => {}
        }
        let number = self.catalog.syncs_started.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = self.with_store(|_| self.catch_up(&mut sync));
        sync.is_complete &= outcome.is_ok();
        (sync.last_finished, sync.outcome) = (number, Some(outcome.clone()));
        outcome
    }

    fn catch_up(&self, sync: &mut SyncState) -> Result<(), StoreError> {
        match self.store.changes()? {
            Changes::Listed(changes) if sync.is_complete => changes
                .into_iter()
                .try_for_each(|change| self.apply(change)),
            _ => self.scan(sync),
        }
    }

    fn scan(&self, sync: &mut SyncState) -> Result<(), StoreError> {
        let is_first = !std::mem::replace(&mut sync.has_loaded_notes, true);
        if is_first {
            sync.has_loaded_notes = false;
            for (id, note) in self.store.list_notes()? {
                self.apply(Change::Noted(id, note))?;
            }
            sync.has_loaded_notes = true;
        }
        let mut found = HashSet::new();
        let known = |id: &DeviceId| self.catalog.trusted_revision(id);
        self.store.scan(&known, &mut |id, result| {
            // A configuration that was removed during the scan is left out.
            if result != Ok(Lookup::Missing) {
                found.insert(id.clone());
            }
            self.apply_lookup(&id, result);
        })?;
        let boards = lock::lock(&self.catalog.boards);
        let removed: Vec<_> = boards
            .ids()
            .filter(|id| !found.contains(*id))
            .cloned()
            .collect();
        drop(boards);
        removed.iter().for_each(|id| self.remove(id));
        if is_first {
            // Forget notes on devices that no longer exist.
            self.fleet.retain(|id| found.contains(id));
        }
        sync.is_complete = true;
        Ok(())
    }

    fn apply(&self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::Touched(id) => match self.store.lookup(&id, self.catalog.trusted_revision(&id))
            {
                Err(error @ (StoreError::Unavailable(_) | StoreError::Failed(_))) => {
                    return Err(error)
                }
                result => self.apply_lookup(&id, result),
            },
            Change::Put(id, stored) => {
                let is_newer = |board: &Board| board.revision >= stored.revision;
                if !lock::lock(&self.catalog.boards)
                    .get(&id)
                    .is_some_and(is_newer)
                {
                    self.apply_lookup(&id, Ok(Lookup::Found(stored)));
                }
            }
            Change::Removed(id, revision) => {
                let is_newer = |board: &Board| board.revision > revision;
                if !lock::lock(&self.catalog.boards)
                    .get(&id)
                    .is_some_and(is_newer)
                {
                    self.remove(&id);
                }
            }
            Change::Noted(id, note) => {
                if let Some(is_change) = self.fleet.apply_note(&id, &note) {
                    self.catalog.mark_outdated(&id, is_change);
                }
            }
        }
        Ok(())
    }

    /// Applies the result of looking up a board's configuration.
    fn apply_lookup(&self, id: &DeviceId, result: Result<Lookup, StoreError>) {
        let is_unique = self.store.has_unique_revisions();
        let board = match result {
            Ok(Lookup::Unchanged) => return,
            Ok(Lookup::Missing) => return self.remove(id),
            Ok(Lookup::Found(stored)) => {
                let etag = stored.etag();
                if self.catalog.has_etag(id, etag) {
                    let mut boards = lock::lock(&self.catalog.boards);
                    return boards.confirm(id, stored.revision, is_unique);
                }
                let parsed = self.catalog.parse_stored(&stored);
                let json = parsed.as_ref().ok().and_then(|parsed| parsed.json().ok());
                Board {
                    id: id.clone(),
                    etag,
                    parsed: Arc::new(parsed.map(|parsed| Summary::of(&parsed))),
                    json: json.map(Into::into),
                    revision: stored.revision,
                    revision_since: (!is_unique).then(Instant::now),
                }
            }
            Err(error) => {
                let why = error.to_string();
                let etag = Etag::of(format!("unreadable: {why}").as_bytes());
                if self.catalog.has_etag(id, etag) {
                    return;
                }
                Board {
                    id: id.clone(),
                    etag,
                    parsed: Arc::new(Err(why)),
                    json: None,
                    revision: 0,
                    // Never trusted, so that it is looked up again each time.
                    revision_since: Some(Instant::now()),
                }
            }
        };
        lock::lock(&self.catalog.boards).put(board);
    }

    fn remove(&self, id: &DeviceId) {
        lock::lock(&self.catalog.boards).remove(id);
        self.fleet.forget(id);
    }

    /// The configuration of a board; `None`: there is none.
    pub(super) fn configuration(&self, id: &DeviceId) -> Result<Option<Configuration>, StoreError> {
        let known = self.catalog.trusted_revision(id);
        match self.with_store(|store| store.lookup(id, known))? {
            Lookup::Missing => Ok(None),
            Lookup::Found(stored) => Ok(Some(self.read(id, &stored))),
            Lookup::Unchanged => match self.cached(id, None) {
                Some(found) => Ok(Some(found)),
                // It was removed just now, or its JSON is not kept because the limit was reached.
                None => {
                    let stored = self.with_store(|store| store.get(id))?;
                    Ok(stored.map(|stored| self.read(id, &stored)))
                }
            },
        }
    }

    /// The cached configuration, if there is one, and it has this tag (`None`: any tag).
    fn cached(&self, id: &DeviceId, etag: Option<Etag>) -> Option<Configuration> {
        let boards = lock::lock(&self.catalog.boards);
        let board = boards.get(id)?;
        if etag.is_some_and(|etag| etag != board.etag) {
            return None;
        }
        let json = match (&board.json, board.parsed.as_ref()) {
            (Some(json), _) => Ok(Arc::clone(json)),
            (None, Err(why)) => Err(why.clone()),
            (None, Ok(_)) => return None,
        };
        let etag = board.etag;
        Some(Configuration { etag, json })
    }

    /// The stored configuration in the form that is sent. Caches it, unless a synchronisation is under way.
    fn read(&self, id: &DeviceId, stored: &Stored) -> Configuration {
        let etag = stored.etag();
        if let Some(found) = self.cached(id, Some(etag)) {
            return found;
        }
        if !self.store.has_unique_revisions() {
            if let Ok(sync) = self.catalog.sync.try_lock() {
                if sync.is_complete {
                    // Read once more, since it may have changed meanwhile.
                    let _ = self.apply(Change::Touched(id.clone()));
                }
            }
            if let Some(found) = self.cached(id, Some(etag)) {
                return found;
            }
        }
        let parsed = self.catalog.parse_stored(stored);
        let json = parsed.and_then(|parsed| Ok(parsed.json()?.into()));
        Configuration { etag, json }
    }

    fn device_of(&self, board: &Board) -> Device {
        let state = self.fleet.state(&board.id);
        Device {
            id: board.id.clone(),
            parsed: Arc::clone(&board.parsed),
            silence: self.fleet.silence(&state),
            state,
        }
    }

    /// The pieces of a response about the whole fleet, also compressed if `gzip`, and the number of boards by status.
    pub(super) fn pieces(
        &self,
        kind: ListKind,
        gzip: bool,
        write: &dyn Fn(&Device, &mut Vec<u8>),
    ) -> Result<(Vec<Piece>, Counts), StoreError> {
        self.sync()?;
        let device = |board: &Board| self.device_of(board);
        let (mut pieces, mut counts, mut after) = (Vec::new(), Counts::default(), None);
        let renderer = Renderer {
            device: &device,
            write,
            compressor: gzip.then_some(&self.catalog.compressor),
        };
        loop {
            // The lock is released between two segments, so that other requests can proceed.
            let mut boards = lock::lock(&self.catalog.boards);
            let last = after.as_ref().map_or("", DeviceId::as_str);
            let Some((piece, of_piece, last)) = boards.piece(kind, last, &renderer) else {
                return Ok((pieces, counts));
            };
            drop(boards);
            counts.add(of_piece);
            pieces.extend(piece);
            after = Some(last);
        }
    }

    /// At most `limit` devices after an id for which `wanted` is true.
    pub(super) fn page(&self, after: &str, limit: usize, wanted: &dyn Fn(&Device) -> bool) -> Page {
        let mut devices: Vec<Device> = Vec::new();
        let mut after = after.to_owned();
        loop {
            let boards = lock::lock(&self.catalog.boards);
            let segment: Vec<_> = boards
                .after(&after)
                .iter()
                .map(|board| self.device_of(board))
                .collect();
            drop(boards);
            let Some(last) = segment.last() else {
                return Page {
                    devices,
                    more: false,
                };
            };
            last.id.as_str().clone_into(&mut after);
            for device in segment.into_iter().filter(wanted) {
                if devices.len() == limit {
                    return Page {
                        devices,
                        more: true,
                    };
                }
                devices.push(device);
            }
        }
    }

    /// All devices, by id.
    pub(super) fn devices(&self) -> Result<Vec<Device>, StoreError> {
        self.sync()?;
        Ok(self.page("", usize::MAX, &|_| true).devices)
    }
}
