//! The `run` role: meters to Prometheus.

mod central;
mod consumers;
mod health;
mod history;
mod history_csv;
mod housekeeping;
mod local;
mod management;
mod multirate;
mod port;
mod ports;
mod record;
mod remote_write;
mod routes;
mod self_metrics;
mod slots;
mod supervisor;
mod udp_agent;
mod workloads;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

pub use crate::store::ConfigSource;
pub use local::LocalBoard;
pub use record::record;
pub use supervisor::{run, Options};

use crate::config::Config;
use crate::exposition::{render_end, render_families, Format};
use crate::http::gzip::Compressor;
use crate::metrics::{Policy, Registry, Snapshot, WallClock};
use crate::remote_write::Stats;
use crate::sources::RunningSource;
use crate::store::Store;
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::notify::Notifier;
use consumers::Consumers;
use self_metrics::SelfMetrics;

/// The value of `unknown_metrics` before the sources were tried.
const UNKNOWN: u64 = u64::MAX;

/// What the listeners share with the supervisor.
struct Exporter {
    registry: Arc<Registry>,
    /// See [`Exporter::sources`].
    sources: RwLock<Arc<[Arc<RunningSource>]>>,
    /// How many names `metrics:` lists as true that nothing on this board has; [`UNKNOWN`] while sources are tried.
    unknown_metrics: AtomicU64,
    /// Whether `sources` was set. Before, that it is empty means nothing.
    set_up: AtomicBool,
    /// The configuration in force. All changes go through the store.
    store: Arc<Store>,
    identity: RwLock<Identity>,
    started_at: BootTime,
    /// The meters that were looked for and are not there, by name, with what is missing.
    missing_meters: RwLock<Vec<(&'static str, String)>>,
    /// The service manager, if one started the process.
    manager: Notifier,
    /// The exporter's own metrics, if they are enabled.
    self_metrics: RwLock<Option<SelfMetrics>>,
    /// The response to `GET /` in place of the page.
    landing: RwLock<Option<String>>,
    compressor: Compressor,
    clock: Arc<WallClock>,
    /// The consumers that scrape every sample.
    consumers: Arc<Consumers>,
    /// The consumers that scrape `/metrics`, where that has statistics since their last scrape.
    windows: Arc<Consumers>,
    response_limits: multirate::ResponseLimits,
    history_limits: history_csv::HistoryLimits,
    window_statistics: AtomicBool,
    /// Whether `/metrics` has every sample too.
    multirate_on_metrics: AtomicBool,
    /// The names of the remote-write senders, and their statistics.
    senders: RwLock<Vec<(String, Arc<Stats>)>>,
    /// The charts of the status page.
    charts: history::Charts,
}

/// The name and the type of the board.
#[derive(Debug, Clone, Default)]
struct Identity {
    device_type: String,
    hostname: String,
}

impl Exporter {
    fn new(store: Arc<Store>) -> Exporter {
        Exporter {
            store,
            identity: RwLock::default(),
            started_at: BootTime::now(),
            manager: Notifier::from_environment(),
            self_metrics: RwLock::default(),
            registry: Arc::new(Registry::new(Policy::All)),
            sources: RwLock::new(Arc::new([])),
            missing_meters: RwLock::default(),
            unknown_metrics: AtomicU64::new(UNKNOWN),
            set_up: AtomicBool::new(false),
            landing: RwLock::default(),
            compressor: Compressor::default(),
            clock: Arc::default(),
            consumers: Arc::default(),
            windows: Arc::default(),
            response_limits: multirate::ResponseLimits::default(),
            history_limits: history_csv::HistoryLimits::default(),
            window_statistics: AtomicBool::new(false),
            multirate_on_metrics: AtomicBool::new(false),
            senders: RwLock::default(),
            charts: history::Charts::default(),
        }
    }

    /// Applies the settings of what the listeners respond: the page, the statistics, the named consumers, and whether there
    /// are metrics of the exporter itself.
    fn apply_output_settings(&self, config: &Config) {
        lock::write(&self.landing).clone_from(&config.landing);
        self.window_statistics
            .store(config.history.window_statistics, Ordering::Relaxed);
        self.multirate_on_metrics
            .store(config.multirate.on_metrics, Ordering::Relaxed);
        for consumers in [&self.consumers, &self.windows] {
            consumers.list(&config.multirate.consumers);
        }
        let labels = &config.constant_labels;
        let mut current = lock::write(&self.self_metrics);
        let is_kept = |own: &SelfMetrics| config.self_metrics && own.labels() == labels;
        if let Some(gone) = current.take_if(|own| !is_kept(own)) {
            gone.remove_from(&self.registry);
        }
        if config.self_metrics && current.is_none() {
            *current = Some(SelfMetrics::new(&self.registry, labels));
        }
    }

    /// Adds the exporter's own metrics of now to their history, which is limited in time and bytes.
    fn record_self_metrics(&self, keep: Duration, bytes: usize, now: BootTime) {
        if let Some(own) = &*lock::read(&self.self_metrics) {
            own.limit_history(keep, bytes);
            own.refresh(now, self);
        }
    }

    /// The running sources. The lock is not held while they are used: a second reader behind a waiting writer would
    /// wait for the first one, and so for itself where both are one thread.
    fn sources(&self) -> Arc<[Arc<RunningSource>]> {
        Arc::clone(&lock::read(&self.sources))
    }

    /// A line about the running sources, for the service manager.
    fn summary(&self) -> String {
        let sources = self.sources();
        let names: Vec<_> = sources.iter().map(|running| running.name()).collect();
        match names.as_slice() {
            [] => "nothing to read on this board".to_string(),
            names => format!("reads {}", names.join(", ")),
        }
    }

    /// All metrics, as text. No meter is read: a source that hangs does not delay a scrape.
    fn scrape(&self, format: Format) -> Vec<u8> {
        self.scrape_of(|_| true, format)
    }

    /// The metrics with a wanted name, as text.
    fn scrape_of(&self, wanted: impl Fn(&str) -> bool, format: Format) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        let snapshot = self.snapshot(BootTime::now());
        render_families(&snapshot, format, |family| wanted(&family.name), &mut text);
        render_end(format, &mut text);
        text
    }

    /// All metrics, with the exporter's own brought up to date.
    fn snapshot(&self, now: BootTime) -> Snapshot {
        if let Some(own) = &*lock::read(&self.self_metrics) {
            own.refresh(now, self);
        }
        self.registry.snapshot(now)
    }
}

#[cfg(test)]
impl Exporter {
    /// An exporter with the default configuration and without a board.
    fn idle() -> Exporter {
        let nothing = ConfigSource::BuiltIn(Box::default());
        Exporter::new(Arc::new(
            Store::open(nothing, |p| p.answer(Ok(()))).unwrap(),
        ))
    }
}
