//! The senders of remote write, brought in line with the configuration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Exporter;
use crate::config::{Config, RemoteWrite};
use crate::remote_write::{Feed, Labels, MemoryFeed, QueueFeed, Sender};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// How long they have to send what is left when the process is told to end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often the exporter's own metrics are kept for them.
const OWN: Duration = Duration::from_secs(15);

/// All that run.
#[derive(Default)]
pub(super) struct Senders {
    running: Vec<(Sender, Labels)>,
    /// Those that were taken out of the configuration, and may still have something to send.
    leaving: Vec<Sender>,
    own_at: Option<Instant>,
    /// What was applied last.
    config: Option<Arc<Config>>,
}

/// Where the board is, for the label `instance`.
pub(super) struct Place<'p> {
    pub(super) hostname: &'p str,
    /// The port of its metrics, if there is one and it is known.
    pub(super) port: Option<u16>,
}

impl Senders {
    /// Starts and ends senders so that those run that the configuration asks for. What has not changed goes on; what has
    /// changed but for its labels goes on where it was. One that is there from the beginning gets all that is read; one
    /// that comes later, what is read from now on.
    pub(super) fn apply(&mut self, exporter: &Exporter, config: &Arc<Config>, place: &Place<'_>) {
        let since = self
            .config
            .as_ref()
            .map_or(BootTime(0), |_| BootTime::now());
        self.config = Some(Arc::clone(config));
        let mut old = std::mem::take(&mut self.running);
        for entry in &config.remote_write {
            let labels = labels(entry, place);
            let before = old
                .iter()
                .position(|(sender, had)| sender.entry().name == entry.name && *had == labels);
            let before = before.map(|i| old.swap_remove(i).0);
            let sender = match before {
                Some(before) if before.entry() == entry => Ok(before),
                Some(before) => {
                    log::info!("remote write {}: started anew", entry.name);
                    let same_place = before.entry().disk == entry.disk;
                    let feed = match before.hand_over() {
                        Some(feed) if same_place => feed,
                        Some(feed) => feed_on(exporter, entry, feed.into_memory()),
                        None => feed_on(exporter, entry, begin(exporter, labels.clone(), since)),
                    };
                    start(exporter, entry, feed)
                }
                None => {
                    log::info!("remote write {}: begins", entry.name);
                    let memory = begin(exporter, labels.clone(), since);
                    start(exporter, entry, feed_on(exporter, entry, memory))
                }
            };
            match sender {
                Ok(sender) => self.running.push((sender, labels)),
                Err(why) => log::error!("remote write {} cannot run: {why}", entry.name),
            }
        }
        for (sender, _) in old {
            log::info!("remote write {}: ended", sender.entry().name);
            sender.finish(Instant::now() + FAREWELL);
            self.leaving.push(sender);
        }
        if self.running.is_empty() {
            exporter.keep_own(Duration::ZERO, 0, BootTime::now());
        }
        self.share(exporter);
    }

    /// Has the exporter's own metrics kept for the senders from time to time, and forgets those that have left.
    pub(super) fn attend(&mut self, exporter: &Exporter) {
        if self.own_at.is_none_or(|at| at.elapsed() >= OWN) {
            self.own_at = Some(Instant::now());
            self.keep_own(exporter);
        }
        self.leaving.retain(|sender| !sender.has_ended());
    }

    /// Has them send what is left, and waits for that.
    pub(super) fn stop(self, exporter: &Exporter) {
        self.keep_own(exporter);
        let deadline = Instant::now() + FAREWELL;
        let all: Vec<_> = self.running.into_iter().map(|(sender, _)| sender).collect();
        all.iter().for_each(|sender| sender.finish(deadline));
        let leaving = self.leaving.into_iter();
        all.into_iter()
            .chain(leaving)
            .for_each(|s| s.join(deadline));
    }

    fn keep_own(&self, exporter: &Exporter) {
        if let Some(config) = self.config.as_ref().filter(|_| !self.running.is_empty()) {
            exporter.keep_own(config.history.keep, own_share(config), BootTime::now());
        }
    }

    /// Shows their numbers to whoever asks for metrics.
    fn share(&self, exporter: &Exporter) {
        let senders = self
            .running
            .iter()
            .map(|(sender, _)| (sender.entry().name.clone(), Arc::clone(sender.stats())));
        *lock::write(&exporter.senders) = senders.collect();
    }
}

/// The bytes of the history that the exporter's own metrics take, so that senders have them.
pub(super) fn own_share(config: &Config) -> usize {
    match config.remote_write.is_empty() || !config.self_metrics {
        true => 0,
        false => config.history.bytes / 16,
    }
}

fn start(exporter: &Exporter, entry: &RemoteWrite, feed: Box<dyn Feed>) -> Result<Sender, String> {
    Sender::start(entry.clone(), feed, Arc::clone(&exporter.clock))
}

fn begin(exporter: &Exporter, labels: Labels, since: BootTime) -> MemoryFeed {
    MemoryFeed::new(Arc::clone(&exporter.registry), labels, since)
}

/// What memory gives, by way of a queue on disk if the entry has one.
fn feed_on(exporter: &Exporter, entry: &RemoteWrite, memory: MemoryFeed) -> Box<dyn Feed> {
    match &entry.disk {
        Some(disk) => {
            let clock = Arc::clone(&exporter.clock);
            Box::new(QueueFeed::new(memory, disk.clone(), clock))
        }
        None => Box::new(memory),
    }
}

/// What every series gets: the external labels count more than `job` and `instance`.
fn labels(entry: &RemoteWrite, place: &Place<'_>) -> Labels {
    let instance = entry.instance.clone().unwrap_or_else(|| match place.port {
        Some(port) => format!("{}:{port}", place.hostname),
        None => place.hostname.to_string(),
    });
    let own = [
        ("job".to_string(), entry.job.clone()),
        ("instance".to_string(), instance),
    ];
    Labels::new(entry.external_labels.iter().cloned().chain(own))
}
