//! The regular work on the configuration, in a thread of its own, since disks can be slow: the file is loaded again
//! after a signal or a change of it, found metrics are reported to the store, and saving that failed is retried. Charts
//! that no client reads any more are dropped here too.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Exporter;
use crate::config::Config;
use crate::store::FileWatch;
use crate::sys::clock::BootTime;

/// How often the checks run.
const INTERVAL: Duration = Duration::from_secs(1);
/// Found metrics are reported when a whole round has brought no new ones, or, where new ones never stop coming, after
/// this many rounds.
const MAX_UNSETTLED_ROUNDS: u32 = 10;
/// How often saving is tried again.
const SAVE_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// The central server is told of a change between healthy and degraded when the new state has lasted this many rounds.
const MIN_DEGRADED_ROUNDS: u32 = 3;
const STACK: usize = if cfg!(debug_assertions) { 2048 } else { 512 } * 1024;

/// A message to the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Load the configuration again.
    Reload,
}

/// Starts the thread. It ends when all senders of tasks are gone.
pub(super) fn start(exporter: Arc<Exporter>) -> Result<Sender<Task>, String> {
    let (tasks, inbox) = mpsc::channel();
    let housekeeping = Housekeeping::new(exporter);
    std::thread::Builder::new()
        .name("configuration".to_string())
        .stack_size(STACK)
        .spawn(move || housekeeping.run(&inbox))
        .map(|_| tasks)
        .map_err(|e| format!("cannot start a thread: {e}"))
}

struct Housekeeping {
    exporter: Arc<Exporter>,
    watch: Option<FileWatch>,
    /// What had been found when it was last reported.
    reported: Option<FoundMetrics>,
    /// What had been found a round ago.
    last_seen: Option<FoundMetrics>,
    /// For how many rounds in a row that has changed.
    unsettled_rounds: u32,
    save_retry_at: Instant,
    /// Whether the board was degraded in the last round, and in how many rounds before it.
    is_degraded: bool,
    degraded_rounds: u32,
}

/// Identifies the set of metrics that were found, and the configuration at that time.
struct FoundMetrics {
    version: u64,
    config: Arc<Config>,
}

impl FoundMetrics {
    fn is(&self, other: &FoundMetrics) -> bool {
        self.version == other.version && Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Housekeeping {
    fn new(exporter: Arc<Exporter>) -> Housekeeping {
        Housekeeping {
            watch: None,
            reported: None,
            last_seen: None,
            unsettled_rounds: 0,
            save_retry_at: Instant::now() + SAVE_RETRY_INTERVAL,
            is_degraded: false,
            degraded_rounds: 0,
            exporter,
        }
    }

    fn run(mut self, inbox: &Receiver<Task>) {
        let mut next = Instant::now() + INTERVAL;
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Task::Reload) => self.reload(),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + INTERVAL;
                    self.check();
                }
            }
        }
    }

    /// The outcome is in the log, in /health and in a metric besides.
    fn reload(&self) {
        let Exporter { manager, store, .. } = &*self.exporter;
        manager.reloading();
        let outcome = store.reload();
        let summary = self.exporter.summary();
        manager.ready(&match outcome {
            Ok(()) => summary,
            Err(error) => format!("{summary}; the configuration remains unchanged: {error}"),
        });
    }

    /// Tells the central server whether the board is degraded, once that has lasted.
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
        if self.degraded_rounds >= MIN_DEGRADED_ROUNDS {
            remote.set_degraded(why);
        }
    }

    fn check(&mut self) {
        self.check_file();
        self.report_found_metrics();
        self.report_health();
        self.exporter.charts.drop_if_idle(BootTime::now());
        if Instant::now() >= self.save_retry_at {
            self.save_retry_at = Instant::now() + SAVE_RETRY_INTERVAL;
            self.exporter.store.retry_saving();
        }
    }

    fn check_file(&mut self) {
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

    fn report_found_metrics(&mut self) {
        let Exporter {
            registry, store, ..
        } = &*self.exporter;
        let now = FoundMetrics {
            version: registry.version(),
            config: store.current(),
        };
        let differs =
            |known: &Option<FoundMetrics>| known.as_ref().is_none_or(|known| !known.is(&now));
        if now.config.metrics.is_none() || !differs(&self.reported) {
            return;
        }
        if differs(&self.last_seen) && self.unsettled_rounds < MAX_UNSETTLED_ROUNDS {
            self.unsettled_rounds += 1;
            self.last_seen = Some(now);
            return;
        }
        self.unsettled_rounds = 0;
        store.add_found_metrics(&registry.switchable());
        self.reported = Some(now);
    }
}

#[cfg(test)]
#[path = "housekeeping_tests.rs"]
mod tests;
