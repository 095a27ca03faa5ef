//! What the configuration needs from time to time, in a thread of its own, since disks can be slow: loading it when a
//! signal says so or when the file has changed, noting what metrics were found, saving what could not be saved; and
//! charts that nobody looks at any more are let go.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Exporter;
use crate::config::Config;
use crate::store::FileWatch;
use crate::sys::clock::BootTime;

/// How often to look.
const ROUND: Duration = Duration::from_secs(1);
/// Metrics are noted when no others have come for a round; or, where they never stop coming, after so many.
const MOST_ROUNDS: u32 = 10;
/// How often what could not be saved is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// Whether the board is degraded is told to the central server when it has been so for so many rounds.
const LASTING: u32 = 3;
const STACK: usize = if cfg!(debug_assertions) { 2048 } else { 512 } * 1024;

/// What the thread is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// Load the configuration again.
    Reload,
}

/// Starts the thread. It ends when nobody is left to tell it anything.
pub(super) fn start(exporter: Arc<Exporter>) -> Result<Sender<Errand>, String> {
    let (errands, inbox) = mpsc::channel();
    let housekeeping = Housekeeping {
        watch: None,
        noted: None,
        seen: None,
        rounds: 0,
        retry_at: Instant::now() + RETRY,
        is_degraded: false,
        degraded_rounds: 0,
        exporter,
    };
    std::thread::Builder::new()
        .name("configuration".to_string())
        .stack_size(STACK)
        .spawn(move || housekeeping.run(&inbox))
        .map(|_| errands)
        .map_err(|e| format!("cannot start a thread: {e}"))
}

struct Housekeeping {
    exporter: Arc<Exporter>,
    watch: Option<FileWatch>,
    /// What was known when metrics were last noted.
    noted: Option<Known>,
    /// What was known a round ago.
    seen: Option<Known>,
    /// For how many rounds that has changed.
    rounds: u32,
    retry_at: Instant,
    /// Whether the board is degraded, and for how many rounds that has been so.
    is_degraded: bool,
    degraded_rounds: u32,
}

/// What metrics there were, under which configuration.
struct Known {
    version: u64,
    config: Arc<Config>,
}

impl Known {
    fn is(&self, other: &Known) -> bool {
        self.version == other.version && Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Housekeeping {
    fn run(mut self, inbox: &Receiver<Errand>) {
        let mut next = Instant::now() + ROUND;
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Errand::Reload) => self.reload(),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + ROUND;
                    self.round();
                }
            }
        }
    }

    /// What came of it is in the log, in /health and in a metric, besides.
    fn reload(&self) {
        let Exporter { manager, store, .. } = &*self.exporter;
        manager.reloading();
        let outcome = store.reload();
        let summary = self.exporter.summary();
        manager.ready(&match outcome {
            Ok(()) => summary,
            Err(error) => format!("{summary}; the configuration stays as it was: {error}"),
        });
    }

    /// Has the central server know whether the board is degraded, once that lasts.
    fn report_health(&mut self) {
        let (Some(remote), Some(why)) = (self.exporter.store.remote(), self.exporter.degraded())
        else {
            return;
        };
        if self.is_degraded != why.is_some() {
            self.is_degraded = why.is_some();
            self.degraded_rounds = 0;
        }
        self.degraded_rounds = self.degraded_rounds.saturating_add(1);
        if self.degraded_rounds >= LASTING {
            remote.set_degraded(why);
        }
    }

    fn round(&mut self) {
        self.look_at_the_file();
        self.note_metrics();
        self.report_health();
        self.exporter.charts.rest(BootTime::now());
        if Instant::now() >= self.retry_at {
            self.retry_at = Instant::now() + RETRY;
            self.exporter.store.retry_saving();
        }
    }

    fn look_at_the_file(&mut self) {
        let store = &self.exporter.store;
        let Some(path) = store.file().filter(|_| store.current().watch) else {
            self.watch = None;
            return;
        };
        let watch = self.watch.get_or_insert_with(|| FileWatch::new(path));
        if watch.has_changed() {
            store.reload_if_changed();
        }
    }

    fn note_metrics(&mut self) {
        let Exporter {
            registry, store, ..
        } = &*self.exporter;
        let now = Known {
            version: registry.version(),
            config: store.current(),
        };
        let has_come = |known: &Option<Known>| known.as_ref().is_none_or(|known| !known.is(&now));
        if now.config.metrics.is_none() || !has_come(&self.noted) {
            return;
        }
        if has_come(&self.seen) && self.rounds < MOST_ROUNDS {
            self.rounds += 1;
            self.seen = Some(now);
            return;
        }
        self.rounds = 0;
        store.add_found_metrics(&registry.switchable());
        self.noted = Some(now);
    }
}
