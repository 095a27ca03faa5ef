//! The fleet in memory, kept in step with the store.
//!
//! Before the fleet is listed, the store reports what has changed, and only the changes are read. Of concurrent requests one
//! synchronises with the store, and the others share the result.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::boards::{Board, Boards, Counts, ListKind, Renderer, Revision};
use super::device::{parse_stored, Device, Own, ParsedConfig, Summary};
use super::etag::Etag;
use super::groups::{of_one, GroupSet, LayerTags, Layers};
use super::pieces::Piece;
use super::rounds::Rounds;
use super::store::{Change, Changes, Lookup, StoreError, Stored};
use super::ConfigServer;
use crate::config::Membership;
use crate::http::gzip::Compressor;
use crate::sys::lock;
use crate::wire::DeviceId;

#[derive(Default)]
pub(super) struct Catalog {
    sync: Rounds<SyncState>,
    boards: Mutex<Boards>,
    compressor: Compressor,
    parsed: AtomicU64,
}

#[derive(Default)]
struct SyncState {
    /// Whether everything has been read once, and no change was missed since then.
    is_complete: bool,
    /// Whether all notes have been read once, and those on devices that no longer exist were forgotten.
    has_loaded_notes: bool,
    /// The version of the groups that all boards are in step with.
    groups_version: u64,
}

/// The most boards that are looked up one by one. Beyond it everything is scanned.
const MAX_LOOKUPS: usize = 100;

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
        self.sync.has_succeeded().then_some(boards)
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

    pub(super) fn parse_stored(
        &self,
        text: &Stored,
        groups: &Layers<'_>,
    ) -> Result<ParsedConfig, String> {
        self.count_parsed();
        parse_stored(text, groups)
    }

    /// Counts a configuration that was parsed.
    pub(super) fn count_parsed(&self) {
        self.parsed.fetch_add(1, Ordering::Relaxed);
    }

    /// The known revision of a board's configuration, if the same revision means the same content.
    pub(super) fn trusted_revision(&self, id: &DeviceId) -> Option<u64> {
        lock::lock(&self.boards).get(id)?.revision.trusted()
    }

    /// The `device_type` of the board's known own document, if that has this tag.
    fn own_type(&self, id: &DeviceId, own: Etag) -> Option<Cow<'static, str>> {
        let boards = lock::lock(&self.boards);
        let board = boards.get(id).filter(|board| board.own == own)?;
        Some(board.own_type.clone())
    }
}

impl ConfigServer {
    /// Brings the fleet in memory up to date with the store.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.catalog.sync.run(|sync| {
            let outcome = self.groups().and_then(|groups| {
                self.with_store(|_| self.catch_up(sync))?;
                self.refresh(&groups, sync)
            });
            if outcome.is_err() {
                (sync.is_complete, sync.groups_version) = (false, 0);
            }
            outcome
        })
    }

    /// Reads the boards again whose groups have changed.
    fn refresh(&self, groups: &GroupSet, sync: &mut SyncState) -> Result<(), StoreError> {
        let moved = lock::lock(&self.catalog.boards).take_moved();
        let is_all = sync.groups_version != groups.version;
        let mut outdated = HashSet::new();
        if is_all {
            // The lock is released between two segments, so that other requests can proceed.
            let mut after = String::new();
            loop {
                let boards = lock::lock(&self.catalog.boards);
                let segment = boards.after(&after);
                let Some(last) = segment.last() else {
                    break;
                };
                last.id.as_str().clone_into(&mut after);
                let ids: Vec<_> = segment.iter().map(|board| board.id.clone()).collect();
                drop(boards);
                outdated.extend(ids.into_iter().filter(|id| !self.is_current(id, groups)));
            }
        } else {
            outdated.extend(moved.into_iter().filter(|id| !self.is_current(id, groups)));
        }
        let store = self.store.devices();
        if outdated.len() <= MAX_LOOKUPS {
            for id in &outdated {
                let look = self.with_store(|_| of_one(store.lookup(id, None)))?;
                self.apply_lookup(id, look);
            }
        } else {
            let known = |id: &DeviceId| match outdated.contains(id) {
                true => None,
                false => self.catalog.trusted_revision(id),
            };
            self.with_store(|_| {
                store.scan(&known, &mut |id, look| {
                    if outdated.contains(&id) {
                        self.apply_lookup(&id, look);
                    }
                })
            })?;
        }
        sync.groups_version = groups.version;
        Ok(())
    }

    /// Whether the known configuration of a board is right with these groups.
    fn is_current(&self, id: &DeviceId, groups: &GroupSet) -> bool {
        let boards = lock::lock(&self.catalog.boards);
        let Some(board) = boards.get(id) else {
            return false;
        };
        if board.groups_version == groups.version {
            return true;
        }
        let (own, inputs, own_type) = (board.own, board.inputs, board.own_type.clone());
        drop(boards);
        let is_current = self.layer_tags(id, own, &own_type, groups).inputs == inputs;
        if is_current {
            lock::lock(&self.catalog.boards).confirm_groups(id, groups.version);
        }
        is_current
    }

    /// The groups of a board whose own document has this type, which are passed to `work`.
    pub(super) fn with_layers<T>(
        &self,
        id: &DeviceId,
        own_type: &str,
        groups: &GroupSet,
        work: impl FnOnce(&Layers<'_>) -> T,
    ) -> T {
        let device_type = self.member_type(id, own_type);
        let device_type = device_type.as_str();
        work(&groups.layers(Membership { id, device_type }))
    }

    fn layer_tags(&self, id: &DeviceId, own: Etag, own_type: &str, groups: &GroupSet) -> LayerTags {
        self.with_layers(id, own_type, groups, |layers| layers.tags(own))
    }

    /// The `device_type` of a stored own document.
    pub(super) fn own_type(&self, id: &DeviceId, stored: &Stored) -> Cow<'static, str> {
        let known = self.catalog.own_type(id, stored.etag());
        known
            .unwrap_or_else(|| Own::parse(stored).map_or("unknown".into(), |own| own.device_type()))
    }

    /// The tags of the configuration with this own document.
    pub(super) fn tags(&self, id: &DeviceId, stored: &Stored, groups: &GroupSet) -> LayerTags {
        let own = stored.etag();
        match groups.is_empty() {
            true => LayerTags::without_groups(own),
            false => self.layer_tags(id, own, &self.own_type(id, stored), groups),
        }
    }

    fn catch_up(&self, sync: &mut SyncState) -> Result<(), StoreError> {
        match self.store.devices().changes()? {
            Changes::Listed(changes) if sync.is_complete => changes
                .into_iter()
                .try_for_each(|change| self.apply(change)),
            _ => self.scan(sync),
        }
    }

    fn scan(&self, sync: &mut SyncState) -> Result<(), StoreError> {
        let is_first = !sync.has_loaded_notes;
        if is_first {
            for (id, note) in self.store.list_notes()? {
                self.apply(Change::Noted(id, note))?;
            }
        }
        let mut found = HashSet::new();
        let known = |id: &DeviceId| self.catalog.trusted_revision(id);
        self.store.devices().scan(&known, &mut |id, result| {
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
            sync.has_loaded_notes = true;
        }
        sync.is_complete = true;
        Ok(())
    }

    fn apply(&self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::Touched(id) => match self
                .store
                .devices()
                .lookup(&id, self.catalog.trusted_revision(&id))
            {
                Err(error @ (StoreError::Unavailable(_) | StoreError::Failed(_))) => {
                    return Err(error)
                }
                result => self.apply_lookup(&id, result),
            },
            Change::Put(id, stored) => {
                let is_newer = |board: &Board| board.revision.number >= stored.revision;
                if !lock::lock(&self.catalog.boards)
                    .get(&id)
                    .is_some_and(is_newer)
                {
                    self.apply_lookup(&id, Ok(Lookup::Found(stored)));
                }
            }
            Change::Removed(id, revision) => {
                let is_newer = |board: &Board| board.revision.number > revision;
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
        let board = match result {
            Ok(Lookup::Unchanged) => return,
            Ok(Lookup::Missing) => return self.remove(id),
            Ok(Lookup::Found(stored)) => self.board(id, &stored, &self.groups.current()),
            Err(error) => self.unreadable(id, error.to_string(), &self.groups.current()),
        };
        if let Some(board) = board {
            lock::lock(&self.catalog.boards).put(board);
        }
    }

    /// The state of a board with this own document; `None`: it is the known one.
    fn board(&self, id: &DeviceId, stored: &Stored, groups: &GroupSet) -> Option<Board> {
        let is_unique = self.store.devices().has_unique_revisions();
        let own = stored.etag();
        let own_type = self.own_type(id, stored);
        self.with_layers(id, &own_type, groups, |layers| {
            let LayerTags { inputs, etag } = layers.tags(own);
            if self.confirm(id, own, inputs, groups) {
                let mut boards = lock::lock(&self.catalog.boards);
                boards.confirm(id, stored.revision, is_unique);
                return None;
            }
            let parsed = self.catalog.parse_stored(stored, layers);
            let json = parsed.as_ref().ok().and_then(|parsed| parsed.json().ok());
            Some(Board {
                id: id.clone(),
                own,
                inputs,
                etag,
                own_type: own_type.clone(),
                groups_version: groups.version,
                parsed: Arc::new(parsed.map(|parsed| Summary::of(&parsed))),
                json: json.map(Into::into),
                revision: Revision::new(stored.revision, is_unique),
            })
        })
    }

    /// The state of a board whose own document cannot be read; `None`: it is the known one.
    fn unreadable(&self, id: &DeviceId, why: String, groups: &GroupSet) -> Option<Board> {
        let own = Etag::of(format!("unreadable: {why}").as_bytes());
        let own_type = "unknown";
        let LayerTags { inputs, etag } = self.layer_tags(id, own, own_type, groups);
        (!self.confirm(id, own, inputs, groups)).then(|| Board {
            id: id.clone(),
            own,
            inputs,
            etag,
            own_type: own_type.into(),
            groups_version: groups.version,
            parsed: Arc::new(Err(why)),
            json: None,
            // Never trusted, so that it is looked up again each time.
            revision: Revision::new(0, false),
        })
    }

    /// Whether the known state of a board was made of these inputs. It is right with these groups then.
    fn confirm(&self, id: &DeviceId, own: Etag, inputs: Etag, groups: &GroupSet) -> bool {
        let mut boards = lock::lock(&self.catalog.boards);
        let known = boards.get(id);
        let is_known = known.is_some_and(|board| (board.own, board.inputs) == (own, inputs));
        if is_known {
            boards.confirm_groups(id, groups.version);
        }
        is_known
    }

    fn remove(&self, id: &DeviceId) {
        lock::lock(&self.catalog.boards).remove(id);
        self.fleet.forget(id);
    }

    /// The configuration of a board; `None`: there is none. `exists` is called first if the store has the board: what it
    /// records may make the board a member of other groups.
    pub(super) fn configuration(
        &self,
        id: &DeviceId,
        exists: &dyn Fn(),
    ) -> Result<Option<Configuration>, StoreError> {
        let known = self.catalog.trusted_revision(id);
        let look = self.with_store(|store| store.devices().lookup(id, known));
        if let Ok(Lookup::Found(_) | Lookup::Unchanged) | Err(StoreError::Unreadable(_)) = look {
            exists();
        }
        let look = look?;
        let groups = self.groups_after_lookup()?;
        match look {
            Lookup::Missing => Ok(None),
            Lookup::Found(stored) => Ok(Some(self.read(id, &stored, &groups))),
            Lookup::Unchanged => {
                let cached = match self.is_current(id, &groups) {
                    true => self.cached(id, None),
                    false => None,
                };
                match cached {
                    Some(found) => Ok(Some(found)),
                    // It was removed just now, its groups have changed, or its JSON is not kept because the limit was reached.
                    None => {
                        let stored = self.with_store(|store| store.devices().get(id))?;
                        Ok(stored.map(|stored| self.read(id, &stored, &groups)))
                    }
                }
            }
        }
    }

    /// The cached configuration, if there is one, and it is made of these inputs (`None`: any).
    fn cached(&self, id: &DeviceId, inputs: Option<Etag>) -> Option<Configuration> {
        let boards = lock::lock(&self.catalog.boards);
        let board = boards.get(id)?;
        if inputs.is_some_and(|inputs| inputs != board.inputs) {
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
    fn read(&self, id: &DeviceId, stored: &Stored, groups: &GroupSet) -> Configuration {
        let tags = self.tags(id, stored, groups);
        if let Some(found) = self.cached(id, Some(tags.inputs)) {
            return found;
        }
        self.cache(id, stored, groups);
        if let Some(found) = self.cached(id, Some(tags.inputs)) {
            return found;
        }
        let own_type = self.own_type(id, stored);
        let parsed = self.with_layers(id, &own_type, groups, |layers| {
            self.catalog.parse_stored(stored, layers)
        });
        Configuration {
            etag: tags.etag,
            json: parsed.and_then(|parsed| Ok(parsed.json()?.into())),
        }
    }

    /// Updates the known state of a board, unless a synchronisation is under way.
    fn cache(&self, id: &DeviceId, stored: &Stored, groups: &GroupSet) {
        let Some(sync) = self.catalog.sync.idle() else {
            return;
        };
        if !sync.state.is_complete {
            return;
        }
        if !self.store.devices().has_unique_revisions() {
            // Read once more, since it may have changed meanwhile.
            if let Ok(look) = of_one(self.store.devices().lookup(id, None)) {
                self.apply_lookup(id, look);
            }
        } else if self.catalog.own_type(id, stored.etag()).is_some() {
            // Only the groups have changed. Other changes are applied in their order.
            if let Some(board) = self.board(id, stored, groups) {
                lock::lock(&self.catalog.boards).put(board);
            }
        }
    }

    fn device_of(&self, board: &Board) -> Device {
        let state = self.fleet.state(&board.id);
        Device {
            id: board.id.clone(),
            own_type: board.own_type.clone(),
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

    /// Passes all devices to `seen`, by id.
    pub(super) fn visit(&self, seen: &dyn Fn(&Device)) {
        self.page("", 0, &|device| {
            seen(device);
            false
        });
    }

    /// The devices of these ids that are known, in this order.
    pub(super) fn known_devices(&self, ids: &[DeviceId]) -> Vec<Device> {
        let boards = lock::lock(&self.catalog.boards);
        let known = ids.iter().filter_map(|id| boards.get(id));
        known.map(|board| self.device_of(board)).collect()
    }

    /// All devices, by id.
    pub(super) fn devices(&self) -> Result<Vec<Device>, StoreError> {
        self.sync()?;
        Ok(self.page("", usize::MAX, &|_| true).devices)
    }
}
