//! The changes that an etcd watch reports: those of this server, of other servers, and of users with `etcdctl`.
//!
//! A watch reports a change a moment later. So a request for changes first gets etcd's current revision, and waits until the
//! watch has reached it. Changes of other programs' keys also raise the revision, but the watch does not report them. The wait
//! for them ends after [`CATCH_UP_TIMEOUT`].
//!
//! A member that cannot reach the others keeps its watches open, and reports nothing. It answers no other request either: so
//! a watch at another member than the one that answers requests is given up.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::etcd::Cluster;
use super::etcd_json as messages;
use super::store::{Change, Changes, StoreError, MAX_DEVICES};
use crate::sys::lock;
use crate::wire::DeviceId;

/// How long a request waits for the watch.
const CATCH_UP_TIMEOUT: Duration = Duration::from_millis(50);
/// How long one watch lasts. The next one continues where it ended. A connection may be dead without notice for so long.
const SESSION_DURATION: Duration = Duration::from_secs(10);
/// A watch that ends sooner counts as failed.
const MIN_SESSION: Duration = Duration::from_secs(1);
/// The longest line, in bytes.
const MAX_LINE: u64 = 16 << 20;
/// The most changes of configurations that are kept for the next request. Beyond it everything is scanned.
const MAX_CHANGES: usize = 4096;
const STACK: usize = if cfg!(debug_assertions) { 2048 } else { 512 } * 1024;

pub(super) struct EtcdWatch {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<WatchState>,
    progress: Condvar,
}

#[derive(Default)]
struct WatchState {
    /// The number of the current watch. Threads of earlier ones end.
    generation: u64,
    is_running: bool,
    /// The index of the member that is watched.
    member: usize,
    /// The changes since the last request for them, without notes.
    changes: Vec<Change>,
    /// The last note on each board since then: boards are noted all the time, and requests may be rare.
    notes: HashMap<DeviceId, String>,
    /// The watch has reported everything after the first of these revisions, up to the second.
    since: u64,
    seen: u64,
    /// The revision of the last change of a group that it has reported.
    group_changed: u64,
    /// The revision for which a request has waited in vain: it is of another program's change.
    waited_for: u64,
    /// The revision of the last scan, if there was no watch at the time.
    scanned_at: Option<u64>,
    /// The error of a watch that was logged last.
    logged_error: Option<String>,
}

impl EtcdWatch {
    pub(super) fn new(cluster: Arc<Cluster>) -> EtcdWatch {
        EtcdWatch {
            cluster,
            shared: Arc::default(),
        }
    }

    /// The changes since the last call.
    pub(super) fn changes(&self) -> Result<Changes, StoreError> {
        let revision = self.cluster.revision().inspect_err(|_| {
            // It is unknown whether the watch would notice that etcd is gone.
            lock::lock(&self.shared.state).stop();
        })?;
        let mut state = lock::lock(&self.shared.state);
        if state.member != self.cluster.current() {
            state.stop();
        }
        if !state.is_running {
            // With the revision of the last scan nothing has changed.
            let is_known = state.scanned_at == Some(revision);
            state.start(revision, self.cluster.current());
            state.scanned_at = Some(revision);
            let generation = state.generation;
            drop(state);
            self.start(generation);
            return Ok(match is_known {
                true => Changes::Listed(Vec::new()),
                false => Changes::Unknown,
            });
        }
        let until = Instant::now() + CATCH_UP_TIMEOUT;
        while state.is_running && state.seen.max(state.waited_for) < revision {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.waited_for = revision;
                break;
            }
            let woken = self.shared.progress.wait_timeout(state, left);
            state = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        match state.is_running {
            true => Ok(Changes::Listed(state.take())),
            false => {
                state.scanned_at = None;
                Ok(Changes::Unknown)
            }
        }
    }

    /// Whether the watch has reported everything after one revision, up to another one, and no change of a group.
    pub(super) fn has_seen_no_group(&self, after: u64, up_to: u64) -> bool {
        let state = lock::lock(&self.shared.state);
        let is_covered = state.is_running && state.since <= after && up_to <= state.seen;
        is_covered && state.group_changed <= after
    }

    fn start(&self, generation: u64) {
        let (cluster, shared) = (Arc::clone(&self.cluster), Arc::clone(&self.shared));
        let started = std::thread::Builder::new()
            .name("etcd-watch".to_string())
            .stack_size(STACK)
            .spawn(move || run(&cluster, &shared, generation));
        if let Err(error) = started {
            log::warn!("cannot start a thread: {error}");
            lock::lock(&self.shared.state).stop();
        }
    }
}

impl WatchState {
    fn start(&mut self, revision: u64, member: usize) {
        self.generation += 1;
        self.is_running = true;
        self.member = member;
        self.take();
        (self.since, self.seen, self.waited_for) = (revision, revision, revision);
    }

    fn stop(&mut self) {
        self.generation += 1;
        self.is_running = false;
        self.scanned_at = None;
        self.take();
    }

    fn add(&mut self, change: Change) {
        match change {
            Change::Noted(id, note) => {
                self.notes.insert(id, note);
            }
            other => {
                if let Change::Removed(id, _) = &other {
                    self.notes.remove(id);
                }
                self.changes.push(other);
            }
        }
    }

    /// Whether more changes are kept than are allowed.
    fn is_full(&self) -> bool {
        self.changes.len() > MAX_CHANGES || self.notes.len() > MAX_DEVICES
    }

    fn take(&mut self) -> Vec<Change> {
        let notes = std::mem::take(&mut self.notes).into_iter();
        let notes = notes.map(|(id, note)| Change::Noted(id, note));
        let mut changes = std::mem::take(&mut self.changes);
        changes.extend(notes);
        changes
    }
}

/// Watches until a watch fails, or another thread has taken over.
fn run(cluster: &Cluster, shared: &Shared, generation: u64) {
    loop {
        let state = lock::lock(&shared.state);
        let (member, from) = (state.member, state.seen + 1);
        let is_current = state.generation == generation;
        drop(state);
        if !is_current {
            return;
        }
        let started = Instant::now();
        let outcome = cluster
            .watch(member, from, SESSION_DURATION)
            .and_then(|stream| read_stream(cluster, shared, generation, stream));
        let mut state = lock::lock(&shared.state);
        if state.generation != generation {
            return;
        }
        let why = match outcome {
            // The watch ended after its time, or the member is gone.
            Ok(()) if started.elapsed() >= MIN_SESSION => continue,
            Ok(()) => "it ends at once".to_string(),
            Err(why) => why,
        };
        let scanned_at = state.scanned_at;
        state.stop();
        // If etcd still has that revision at the next request, nothing was missed.
        state.scanned_at = scanned_at;
        if state.logged_error.as_ref() != Some(&why) {
            log::warn!("etcd's watch has failed: {why}; all documents are requested instead");
            state.logged_error = Some(why);
        }
        drop(state);
        shared.progress.notify_all();
        return;
    }
}

/// Reads the messages of a watch until its stream ends. After an error changes may be missed.
fn read_stream(
    cluster: &Cluster,
    shared: &Shared,
    generation: u64,
    stream: impl Read,
) -> Result<(), String> {
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE => {
                return Err("a line is too long".to_string())
            }
            Ok(_) => {}
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if line.last() != Some(&b'\n')
            && serde_json::from_slice::<serde_json::Value>(&line).is_err()
        {
            // The stream was cut off. The next watch continues from here.
            return Ok(());
        }
        let message = messages::parse_watch(&line)?;
        if message.canceled {
            return Err("etcd has ended it".to_string());
        }
        let mut state = lock::lock(&shared.state);
        if state.generation != generation {
            return Ok(());
        }
        // etcd's revision may be a later one: of many changes it reports some in each message.
        let last = message.events.last().map(|event| event.pair.revision);
        let seen = last.unwrap_or(message.revision);
        let groups = message
            .events
            .iter()
            .filter(|event| cluster.is_of_group(event));
        let group_changed = groups.last().map_or(0, |event| event.pair.revision);
        let changes = message
            .events
            .into_iter()
            .filter_map(|event| cluster.change(event));
        changes.for_each(|change| state.add(change));
        if state.is_full() {
            // There are no requests for changes. The next one scans everything.
            state.stop();
            return Ok(());
        }
        // The message of a watch's creation does not mean that earlier changes were reported.
        if !message.created {
            state.seen = state.seen.max(seen);
            state.group_changed = state.group_changed.max(group_changed);
            state.scanned_at = None;
        }
        drop(state);
        shared.progress.notify_all();
    }
}
