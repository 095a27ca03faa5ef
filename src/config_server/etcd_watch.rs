//! What has changed in an etcd, as its watch tells: by us, by the servers beside us, and by people with `etcdctl`.
//!
//! A watch tells a moment later. So whoever asks what has changed asks etcd first how many changes there were, and waits until the
//! watch has come so far. Where etcd is used by others too the watch says nothing of their changes, and the waiting ends soon.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::etcd::Cluster;
use super::etcd_json as words;
use super::store::{Change, Changes, Failure};
use crate::sys::lock;

/// How long the watch is waited for.
const CATCH_UP: Duration = Duration::from_millis(50);
/// How long one watch lasts; then there is another, from where it ended.
const SESSION: Duration = Duration::from_secs(60);
/// One that ends sooner does not work.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest line, and the most changes that nobody has asked for yet.
const MAX_LINE: u64 = 16 << 20;
const MOST_CHANGES: usize = 4096;
const STACK: usize = if cfg!(debug_assertions) { 2048 } else { 512 } * 1024;

pub(super) struct EtcdWatch {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Default)]
struct State {
    /// Which watch it is; another one has no say any more.
    generation: u64,
    is_running: bool,
    /// What nobody has asked for yet.
    changes: Vec<Change>,
    /// The watch has told everything up to this revision.
    seen: u64,
    /// Up to which each of the two watches of a stream has: configurations, and notes.
    told: [u64; 2],
    /// Up to this revision the watch was waited for in vain: others' changes.
    waited: u64,
    /// How it was when everything was looked at last, without a watch.
    looked_at: Option<u64>,
    /// Why a watch failed, as it was said in the log.
    complaint: Option<String>,
}

impl EtcdWatch {
    pub(super) fn new(cluster: Arc<Cluster>) -> EtcdWatch {
        EtcdWatch {
            cluster,
            shared: Arc::default(),
        }
    }

    /// What has changed since this was asked last.
    pub(super) fn changes(&self) -> Result<Changes, Failure> {
        let revision = self.cluster.revision().inspect_err(|_| {
            // Nobody knows whether the watch would hear of its end.
            lock::lock(&self.shared.state).stop();
        })?;
        let mut state = lock::lock(&self.shared.state);
        if !state.is_running {
            // Nothing has changed since, or this is the first time.
            let is_known = state.looked_at == Some(revision);
            state.start(revision);
            state.looked_at = Some(revision);
            let generation = state.generation;
            drop(state);
            self.start(generation);
            return Ok(match is_known {
                true => Changes::These(Vec::new()),
                false => Changes::All,
            });
        }
        let until = Instant::now() + CATCH_UP;
        while state.is_running && state.seen.max(state.waited) < revision {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.waited = revision;
                break;
            }
            let waited = self.shared.told.wait_timeout(state, left);
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        match state.is_running {
            true => Ok(Changes::These(std::mem::take(&mut state.changes))),
            false => {
                state.looked_at = None;
                Ok(Changes::All)
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

impl State {
    fn start(&mut self, revision: u64) {
        self.generation += 1;
        self.is_running = true;
        self.changes.clear();
        (self.seen, self.waited) = (revision, revision);
        self.told = [revision; 2];
    }

    fn stop(&mut self) {
        self.generation += 1;
        self.is_running = false;
        self.looked_at = None;
        self.changes.clear();
    }
}

/// Watches until it does not work, or another one does.
fn run(cluster: &Cluster, shared: &Shared, generation: u64) {
    loop {
        let state = lock::lock(&shared.state);
        // What is told twice does no harm.
        let from = state.told.into_iter().min().unwrap_or_default() + 1;
        let is_ours = state.generation == generation;
        drop(state);
        if !is_ours {
            return;
        }
        let begun = Instant::now();
        let outcome = cluster
            .watch(from, SESSION)
            .and_then(|stream| listen(cluster, shared, generation, stream));
        let mut state = lock::lock(&shared.state);
        if state.generation != generation {
            return;
        }
        let why = match outcome {
            // It is over after its time, or the member is gone.
            Ok(()) if begun.elapsed() >= SHORTEST => continue,
            Ok(()) => "it ends at once".to_string(),
            Err(why) => why,
        };
        let looked_at = state.looked_at;
        state.stop();
        // If all is as it was then, nothing was missed.
        state.looked_at = looked_at;
        if state.complaint.as_ref() != Some(&why) {
            log::warn!("etcd's watch does not work: {why}; what changes is looked for by asking for everything");
            state.complaint = Some(why);
        }
        drop(state);
        shared.told.notify_all();
        return;
    }
}

/// Takes what a watch tells, until it ends. An error: something may be missed.
fn listen(
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
            // It was cut off: once more from here.
            return Ok(());
        }
        let told = words::parse_watched(&line)?;
        if told.canceled {
            return Err("etcd has ended it".to_string());
        }
        let mut state = lock::lock(&shared.state);
        if state.generation != generation {
            return Ok(());
        }
        let changes = told
            .events
            .into_iter()
            .filter_map(|event| cluster.change(event));
        state.changes.extend(changes);
        if state.changes.len() > MOST_CHANGES {
            // Nobody asks: they are found by looking, when somebody does.
            state.stop();
            return Ok(());
        }
        // That it has begun says nothing of what there was before.
        if !told.created {
            state.seen = state.seen.max(told.revision);
            let watch = usize::try_from(told.watch).unwrap_or(1).min(1);
            if let Some(up_to) = state.told.get_mut(watch) {
                *up_to = told.revision.max(*up_to);
            }
            state.looked_at = None;
        }
        drop(state);
        shared.told.notify_all();
    }
}
