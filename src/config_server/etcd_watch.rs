//! The changes that an etcd watch reports: those of this server, of other servers, and of users with `etcdctl`.
//!
//! A watch reports a change a moment later. So a request for changes first gets etcd's current revision, and waits until the
//! watch has reached it. Changes of other keys also raise the revision, but the watch does not report them. The wait for them
//! ends after [`CATCH_UP_TIMEOUT`].

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::etcd::Cluster;
use super::etcd_json as messages;
use super::store::{Change, Changes, StoreError};
use crate::sys::lock;

/// How long a request waits for the watch.
const CATCH_UP_TIMEOUT: Duration = Duration::from_millis(50);
/// How long one watch lasts. The next one continues where it ended.
const SESSION_DURATION: Duration = Duration::from_secs(60);
/// A watch that ends sooner counts as failed.
const MIN_SESSION: Duration = Duration::from_secs(1);
/// The longest line, in bytes.
const MAX_LINE: u64 = 16 << 20;
/// The most changes that are kept for the next request. Beyond it everything is scanned.
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
    /// The changes since the last request for them.
    changes: Vec<Change>,
    /// The watch has reported everything up to this revision.
    seen: u64,
    /// The same for each of the two watches of a stream: configurations and notes.
    watch_revisions: [u64; 2],
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
        if !state.is_running {
            // With the revision of the last scan nothing has changed.
            let is_known = state.scanned_at == Some(revision);
            state.start(revision);
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
            true => Ok(Changes::Listed(std::mem::take(&mut state.changes))),
            false => {
                state.scanned_at = None;
                Ok(Changes::Unknown)
            }
        }
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
    fn start(&mut self, revision: u64) {
        self.generation += 1;
        self.is_running = true;
        self.changes.clear();
        (self.seen, self.waited_for) = (revision, revision);
        self.watch_revisions = [revision; 2];
    }

    fn stop(&mut self) {
        self.generation += 1;
        self.is_running = false;
        self.scanned_at = None;
        self.changes.clear();
    }
}

/// Watches until a watch fails, or another thread has taken over.
fn run(cluster: &Cluster, shared: &Shared, generation: u64) {
    loop {
        let state = lock::lock(&shared.state);
        // Reporting a change twice does no harm.
        let from = state.watch_revisions.into_iter().min().unwrap_or_default() + 1;
        let is_current = state.generation == generation;
        drop(state);
        if !is_current {
            return;
        }
        let started = Instant::now();
        let outcome = cluster
            .watch(from, SESSION_DURATION)
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
            log::warn!("etcd's watch does not work: {why}; what changes is looked for by asking for everything");
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
        let changes = message
            .events
            .into_iter()
            .filter_map(|event| cluster.change(event));
        state.changes.extend(changes);
        if state.changes.len() > MAX_CHANGES {
            // There are no requests for changes. The next one scans everything.
            state.stop();
            return Ok(());
        }
        // The message of a watch's creation does not mean that earlier changes were reported.
        if !message.created {
            state.seen = state.seen.max(message.revision);
            let watch = usize::try_from(message.watch).unwrap_or(1).min(1);
            if let Some(up_to) = state.watch_revisions.get_mut(watch) {
                *up_to = message.revision.max(*up_to);
            }
            state.scanned_at = None;
        }
        drop(state);
        shared.progress.notify_all();
    }
}
