//! The `run` role: meters to Prometheus.

mod central;
mod consumers;
mod delivery_metrics;
mod event;
#[cfg(feature = "gzip")]
mod gzip;
mod health;
mod history;
mod housekeeping;
mod listening;
mod management;
mod multirate;
mod places;
mod ports;
mod record;
mod remote_write;
mod remote_write_metrics;
mod routes;
mod self_metrics;
mod supervisor;
mod udp_agent;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

pub use crate::store::Configuration;
pub use record::record;
pub use supervisor::{run, Options};

use crate::config::Config;
use crate::exposition::{render_end, render_families, Format};
use crate::metrics::{Policy, Registry, Snapshot, WallClock};
use crate::remote_write::Stats;
use crate::sources::RunningSource;
use crate::store::Store;
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::notify::Notifier;
use consumers::Consumers;
use self_metrics::SelfMetrics;

/// There is no number yet.
const UNKNOWN: u64 = u64::MAX;

/// What the listeners share with the supervisor.
struct Exporter {
    registry: Arc<Registry>,
    /// See [`Exporter::sources`].
    sources: RwLock<Arc<[Arc<RunningSource>]>>,
    /// How many names `metrics:` lists as true that nothing on this board has; [`UNKNOWN`] while sources are tried.
    unknown_metrics: AtomicU64,
    /// Whether it is known which those are: before, that there are none means nothing.
    set_up: AtomicBool,
    /// The configuration in force, through which all changes go.
    store: Arc<Store>,
    identity: RwLock<Identity>,
    started_at: BootTime,
    /// The service manager that started us, if one did.
    manager: Notifier,
    /// The exporter's own metrics, if they are wanted.
    self_metrics: RwLock<Option<SelfMetrics>>,
    /// What `GET /` answers instead of the page.
    landing: RwLock<Option<String>>,
    #[cfg(feature = "gzip")]
    packer: gzip::Packer,
    clock: Arc<WallClock>,
    /// Those who scrape every sample.
    consumers: Arc<Consumers>,
    /// Those who scrape `/metrics`, where that has what happened since their last scrape.
    windows: Arc<Consumers>,
    outgoing: multirate::Outgoing,
    window_statistics: AtomicBool,
    /// Whether `/metrics` has every sample, too.
    multirate_on_metrics: AtomicBool,
    /// The senders of remote write, by name, and what they say of themselves.
    senders: RwLock<Vec<(String, Arc<Stats>)>>,
    /// What the status page shows of the last minutes.
    charts: history::Charts,
}

/// What the board is called, and what it is.
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
            unknown_metrics: AtomicU64::new(UNKNOWN),
            set_up: AtomicBool::new(false),
            landing: RwLock::default(),
            #[cfg(feature = "gzip")]
            packer: gzip::Packer::default(),
            clock: Arc::default(),
            consumers: Arc::default(),
            windows: Arc::default(),
            outgoing: multirate::Outgoing::default(),
            window_statistics: AtomicBool::new(false),
            multirate_on_metrics: AtomicBool::new(false),
            senders: RwLock::default(),
            charts: history::Charts::default(),
        }
    }

    /// Takes over what the configuration says of how things are shown.
    fn present(&self, config: &Config) {
        lock::write(&self.landing).clone_from(&config.landing);
        self.window_statistics
            .store(config.history.window_statistics, Ordering::Relaxed);
        self.multirate_on_metrics
            .store(config.multirate.on_metrics, Ordering::Relaxed);
        for consumers in [&self.consumers, &self.windows] {
            consumers.list(&config.multirate.consumers);
        }
        let mut current = lock::write(&self.self_metrics);
        if config.self_metrics && current.is_none() {
            *current = Some(SelfMetrics::new(&self.registry));
        } else if !config.self_metrics {
            if let Some(gone) = current.take() {
                gone.remove_from(&self.registry);
            }
        }
    }

    /// Has the exporter's own metrics kept as what is measured is, as they are now.
    fn keep_own(&self, keep: Duration, bytes: usize, now: BootTime) {
        if let Some(own) = &*lock::read(&self.self_metrics) {
            own.keep(keep, bytes);
            own.refresh(now, self);
        }
    }

    /// The sources that run. No lock is held while they are used: a second reader behind a waiting writer would wait for
    /// the first one, and so for itself where both are one thread.
    fn sources(&self) -> Arc<[Arc<RunningSource>]> {
        Arc::clone(&lock::read(&self.sources))
    }

    /// What it does, in a line.
    fn summary(&self) -> String {
        let sources = self.sources();
        let names: Vec<_> = sources.iter().map(|running| running.name()).collect();
        match names.as_slice() {
            [] => "nothing to read on this board".to_string(),
            names => format!("reads {}", names.join(", ")),
        }
    }

    /// All that is exported, as text. Reads no meter: a source that hangs does not delay it.
    fn scrape(&self, format: Format) -> Vec<u8> {
        self.scrape_of(|_| true, format)
    }

    /// Those alone that are wanted.
    fn scrape_of(&self, wanted: impl Fn(&str) -> bool, format: Format) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        let snapshot = self.snapshot(BootTime::now());
        render_families(&snapshot, format, |family| wanted(&family.name), &mut text);
        render_end(format, &mut text);
        text
    }

    /// All that is exported, with the exporter's own metrics brought up to date.
    fn snapshot(&self, now: BootTime) -> Snapshot {
        if let Some(own) = &*lock::read(&self.self_metrics) {
            own.refresh(now, self);
        }
        self.registry.snapshot(now)
    }
}

#[cfg(test)]
impl Exporter {
    /// One that has the defaults and no board.
    fn idle() -> Exporter {
        let nothing = Configuration::Fixed(Box::default());
        Exporter::new(Arc::new(
            Store::open(nothing, |p| p.answer(Ok(()))).unwrap(),
        ))
    }
}
