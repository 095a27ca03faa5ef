//! Keeps the fleet in memory as the store has it, and answers from there.
//!
//! Nothing is looked through in vain: before the fleet is told, the store is asked what has changed, and that alone is read.
//! Of many who ask at once one asks the store, and the others take what it found.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::boards::{Board, Boards, Counts, Kind, Renderer};
use super::device::{take_apart, Device, Kept, Summary};
use super::etag::Etag;
use super::pieces::Piece;
use super::store::{Change, Changes, Failure, Look, Stored};
use super::Central;
use crate::http::gzip::Compressor;
use crate::sys::lock;
use crate::wire::DeviceId;

#[derive(Default)]
pub(super) struct Catalog {
    /// Held while the store is asked: changes come in their order.
    sync: Mutex<Sync>,
    /// How often the store was asked.
    begun: AtomicU64,
    boards: Mutex<Boards>,
    compressor: Compressor,
    parsed: AtomicU64,
}

#[derive(Default)]
struct Sync {
    /// Which asking it was that ended last, and what came of it.
    ended: u64,
    outcome: Option<Result<(), Failure>>,
    /// Whether everything has been read once, and nothing was missed since.
    is_whole: bool,
    has_notes: bool,
}

/// A configuration, ready to be sent.
pub(super) struct Found {
    pub(super) etag: Etag,
    /// As JSON; or why it is none.
    pub(super) json: Result<Arc<[u8]>, String>,
}

/// A page of the fleet.
pub(super) struct Page {
    pub(super) devices: Vec<Device>,
    /// Whether there are more after the last.
    pub(super) more: bool,
}

impl Catalog {
    /// How many configurations were parsed, and how many pieces of answers rendered.
    pub(super) fn work(&self) -> (u64, u64) {
        let rendered = lock::lock(&self.boards).rendered;
        (self.parsed.load(Ordering::Relaxed), rendered)
    }

    /// How many boards there are; `None`: not known yet.
    pub(super) fn count(&self) -> Option<usize> {
        let boards = lock::lock(&self.boards).len();
        (self.begun.load(Ordering::Relaxed) > 0).then_some(boards)
    }

    /// Something else is known of a board: something that matters, or merely that it was heard of again.
    pub(super) fn heard_of(&self, id: &DeviceId, matters: bool) {
        lock::lock(&self.boards).heard_of(id, matters);
    }

    /// Compresses the pieces that are not compressed yet.
    pub(super) fn compress(&self, pieces: &mut [Piece]) {
        let pieces = pieces.iter_mut();
        pieces.for_each(|piece| piece.compress(&self.compressor));
    }

    fn take_apart(&self, text: &Stored) -> Result<Kept, String> {
        self.parsed.fetch_add(1, Ordering::Relaxed);
        take_apart(text)
    }

    /// The revision that is known of a board, if it can be gone by.
    fn known(&self, id: &DeviceId) -> Option<u64> {
        lock::lock(&self.boards).get(id)?.settled()
    }

    /// Whether the board has this text.
    fn has(&self, id: &DeviceId, etag: Etag) -> bool {
        lock::lock(&self.boards)
            .get(id)
            .is_some_and(|board| board.etag == etag)
    }
}

impl Central {
    /// Brings the fleet in memory up to what the store has.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        let arrived = self.catalog.begun.load(Ordering::SeqCst);
        let mut sync = lock::lock(&self.catalog.sync);
        match &sync.outcome {
            // Whatever had changed when we came was seen by it.
            Some(outcome) if sync.ended > arrived => return outcome.clone(),
            _ => {}
        }
        let this = self.catalog.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = self.ask(|_| self.bring_up(&mut sync));
        sync.is_whole &= outcome.is_ok();
        (sync.ended, sync.outcome) = (this, Some(outcome.clone()));
        outcome
    }

    fn bring_up(&self, sync: &mut Sync) -> Result<(), Failure> {
        match self.store.changes()? {
            Changes::These(changes) if sync.is_whole => changes
                .into_iter()
                .try_for_each(|change| self.apply(change)),
            _ => self.scan(sync),
        }
    }

    fn scan(&self, sync: &mut Sync) -> Result<(), Failure> {
        let is_first = !std::mem::replace(&mut sync.has_notes, true);
        if is_first {
            sync.has_notes = false;
            for (id, note) in self.store.notes()? {
                self.apply(Change::Noted(id, note))?;
            }
            sync.has_notes = true;
        }
        let mut there = std::collections::HashSet::new();
        let known = |id: &DeviceId| self.catalog.known(id);
        self.store.scan(&known, &mut |id, look| {
            // One that is gone again since is left out.
            if look != Ok(Look::Gone) {
                there.insert(id.clone());
            }
            self.looked(&id, look);
        })?;
        let boards = lock::lock(&self.catalog.boards);
        let gone: Vec<_> = boards
            .ids()
            .filter(|id| !there.contains(*id))
            .cloned()
            .collect();
        drop(boards);
        gone.iter().for_each(|id| self.gone(id));
        if is_first {
            // Notes on what is not kept any more.
            self.fleet.retain(|id| there.contains(id));
        }
        sync.is_whole = true;
        Ok(())
    }

    fn apply(&self, change: Change) -> Result<(), Failure> {
        match change {
            Change::Touched(id) => match self.store.look(&id, self.catalog.known(&id)) {
                Err(failure @ (Failure::Away(_) | Failure::Broken(_))) => return Err(failure),
                look => self.looked(&id, look),
            },
            Change::Put(id, stored) => {
                let newer = |board: &Board| board.revision >= stored.revision;
                if !lock::lock(&self.catalog.boards).get(&id).is_some_and(newer) {
                    self.looked(&id, Ok(Look::New(stored)));
                }
            }
            Change::Removed(id, revision) => {
                let newer = |board: &Board| board.revision > revision;
                if !lock::lock(&self.catalog.boards).get(&id).is_some_and(newer) {
                    self.gone(&id);
                }
            }
            Change::Noted(id, note) => {
                if let Some(matters) = self.fleet.noted(&id, &note) {
                    self.catalog.heard_of(&id, matters);
                }
            }
        }
        Ok(())
    }

    /// A look at a board found this.
    fn looked(&self, id: &DeviceId, look: Result<Look, Failure>) {
        let is_sure = self.store.has_sure_revisions();
        let board = match look {
            Ok(Look::Same) => return,
            Ok(Look::Gone) => return self.gone(id),
            Ok(Look::New(stored)) => {
                let etag = stored.etag();
                if self.catalog.has(id, etag) {
                    let mut boards = lock::lock(&self.catalog.boards);
                    return boards.seen_again(id, stored.revision, is_sure);
                }
                let kept = self.catalog.take_apart(&stored);
                let json = kept.as_ref().ok().and_then(|kept| kept.json().ok());
                Board {
                    id: id.clone(),
                    etag,
                    kept: Arc::new(kept.map(|kept| Summary::of(&kept))),
                    json: json.map(Into::into),
                    revision: stored.revision,
                    since: (!is_sure).then(Instant::now),
                }
            }
            Err(failure) => {
                let why = failure.to_string();
                let etag = Etag::of(format!("unreadable: {why}").as_bytes());
                if self.catalog.has(id, etag) {
                    return;
                }
                Board {
                    id: id.clone(),
                    etag,
                    kept: Arc::new(Err(why)),
                    json: None,
                    revision: 0,
                    // Looked at again each time.
                    since: Some(Instant::now()),
                }
            }
        };
        lock::lock(&self.catalog.boards).put(board);
    }

    fn gone(&self, id: &DeviceId) {
        lock::lock(&self.catalog.boards).remove(id);
        self.fleet.forget(id);
    }

    /// The configuration of a board; `None`: there is none.
    pub(super) fn configuration(&self, id: &DeviceId) -> Result<Option<Found>, Failure> {
        let known = self.catalog.known(id);
        match self.ask(|store| store.look(id, known))? {
            Look::Gone => Ok(None),
            Look::New(stored) => Ok(Some(self.read(id, &stored))),
            Look::Same => match self.remembered(id, None) {
                Some(found) => Ok(Some(found)),
                // It was removed just now, or is too long to be remembered.
                None => {
                    let stored = self.ask(|store| store.get(id))?;
                    Ok(stored.map(|stored| self.read(id, &stored)))
                }
            },
        }
    }

    /// What is remembered of it; if it has this tag, where one is given.
    fn remembered(&self, id: &DeviceId, etag: Option<Etag>) -> Option<Found> {
        let boards = lock::lock(&self.catalog.boards);
        let board = boards.get(id)?;
        if etag.is_some_and(|etag| etag != board.etag) {
            return None;
        }
        let json = match (&board.json, board.kept.as_ref()) {
            (Some(json), _) => Ok(Arc::clone(json)),
            (None, Err(why)) => Err(why.clone()),
            (None, Ok(_)) => return None,
        };
        let etag = board.etag;
        Some(Found { etag, json })
    }

    /// A configuration that was read, and is remembered where nobody is changing what is.
    fn read(&self, id: &DeviceId, stored: &Stored) -> Found {
        let etag = stored.etag();
        if let Some(found) = self.remembered(id, Some(etag)) {
            return found;
        }
        if !self.store.has_sure_revisions() {
            if let Ok(sync) = self.catalog.sync.try_lock() {
                if sync.is_whole {
                    // Read once more: it may have been changed since.
                    let _ = self.apply(Change::Touched(id.clone()));
                }
            }
            if let Some(found) = self.remembered(id, Some(etag)) {
                return found;
            }
        }
        let kept = self.catalog.take_apart(stored);
        let json = kept.and_then(|kept| Ok(kept.json()?.into()));
        Found { etag, json }
    }

    fn device_of(&self, board: &Board) -> Device {
        let state = self.fleet.state(&board.id);
        Device {
            id: board.id.clone(),
            kept: Arc::clone(&board.kept),
            quiet: self.fleet.quiet(&state),
            state,
        }
    }

    /// The pieces of an answer about the whole fleet, compressed too if that is wanted, and how many are how.
    pub(super) fn pieces(
        &self,
        kind: Kind,
        gzip: bool,
        write: &dyn Fn(&Device, &mut Vec<u8>),
    ) -> Result<(Vec<Piece>, Counts), Failure> {
        self.sync()?;
        let device = |board: &Board| self.device_of(board);
        let (mut pieces, mut counts, mut after) = (Vec::new(), Counts::default(), None);
        let renderer = Renderer {
            device: &device,
            write,
            compressor: gzip.then_some(&self.catalog.compressor),
        };
        loop {
            // Others have their turn between two segments.
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

    /// The devices after an id that are wanted, at most so many.
    pub(super) fn page(&self, after: &str, limit: usize, wanted: &dyn Fn(&Device) -> bool) -> Page {
        let mut devices: Vec<Device> = Vec::new();
        let mut after = after.to_owned();
        loop {
            let boards = lock::lock(&self.catalog.boards);
            let some: Vec<_> = boards
                .after(&after)
                .iter()
                .map(|board| self.device_of(board))
                .collect();
            drop(boards);
            let Some(last) = some.last() else {
                return Page {
                    devices,
                    more: false,
                };
            };
            last.id.as_str().clone_into(&mut after);
            for device in some.into_iter().filter(wanted) {
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
    pub(super) fn devices(&self) -> Result<Vec<Device>, Failure> {
        self.sync()?;
        Ok(self.page("", usize::MAX, &|_| true).devices)
    }
}
