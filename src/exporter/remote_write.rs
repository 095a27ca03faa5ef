//! Starts and ends the remote-write senders so that those run that the configuration lists.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Exporter;
use crate::config::{Config, RemoteWrite};
use crate::remote_write::{Feed, Labels, MemoryFeed, QueueFeed, Sender};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// How long senders may take to send what is left when they are ended.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the exporter's own metrics are added to the history, from which senders take them.
const SELF_METRICS_INTERVAL: Duration = Duration::from_secs(15);

/// The running senders.
#[derive(Default)]
pub(super) struct Senders {
    running: Vec<(Sender, Labels)>,
    /// Senders that were taken out of the configuration, and may still have something to send.
    finishing: Vec<Sender>,
    self_metrics_at: Option<Instant>,
    /// The configuration that was applied last.
    config: Option<Arc<Config>>,
}

/// What the label `instance` is made of.
pub(super) struct InstanceAddress<'p> {
    pub(super) hostname: &'p str,
    /// The port of the metrics, if there is one and it is known.
    pub(super) port: Option<u16>,
}

impl Senders {
    /// Applies the entries of the configuration. A sender whose entry is the same goes on. One whose entry changed, but
    /// not its labels, is replaced by one that takes over its feed. A sender that is there from the beginning gets all
    /// that is read; one that comes later gets what is read from now on.
    pub(super) fn apply(
        &mut self,
        exporter: &Exporter,
        config: &Arc<Config>,
        address: &InstanceAddress<'_>,
    ) {
        let since = self
            .config
            .as_ref()
            .map_or(BootTime(0), |_| BootTime::now());
        self.config = Some(Arc::clone(config));
        let mut old = std::mem::take(&mut self.running);
        for entry in &config.remote_write {
            let labels = labels(entry, address);
            let before = old
                .iter()
                .position(|(sender, had)| sender.entry().name == entry.name && *had == labels);
            let before = before.map(|i| old.swap_remove(i).0);
            let sender = match before {
                Some(before) if before.entry() == entry => Ok(before),
                Some(before) => {
                    log::info!("remote write {}: restarted", entry.name);
                    let same_disk = before.entry().disk == entry.disk;
                    let feed = match before.hand_over() {
                        Some(old) if same_disk => old,
                        Some(old) => feed(exporter, entry, old.into_memory()),
                        None => feed(
                            exporter,
                            entry,
                            memory_feed(exporter, labels.clone(), since),
                        ),
                    };
                    start(exporter, entry, feed)
                }
                None => {
                    log::info!("remote write {}: started", entry.name);
                    let memory = memory_feed(exporter, labels.clone(), since);
                    start(exporter, entry, feed(exporter, entry, memory))
                }
            };
            match sender {
                Ok(sender) => self.running.push((sender, labels)),
                Err(why) => log::error!("remote write {} cannot run: {why}", entry.name),
            }
        }
        for (sender, _) in old {
            log::info!("remote write {}: ended", sender.entry().name);
            sender.finish(Instant::now() + FLUSH_TIMEOUT);
            self.finishing.push(sender);
        }
        if self.running.is_empty() {
            exporter.record_self_metrics(Duration::ZERO, 0, BootTime::now());
        }
        self.publish_stats(exporter);
    }

    /// Adds the exporter's own metrics to the history when they are due, and drops senders that have ended.
    pub(super) fn check(&mut self, exporter: &Exporter) {
        if self
            .self_metrics_at
            .is_none_or(|at| at.elapsed() >= SELF_METRICS_INTERVAL)
        {
            self.self_metrics_at = Some(Instant::now());
            self.record_self_metrics(exporter);
        }
        self.finishing.retain(|sender| !sender.has_ended());
    }

    /// Lets all senders send what is left, and waits until they have ended.
    pub(super) fn stop(self, exporter: &Exporter) {
        self.record_self_metrics(exporter);
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let all: Vec<_> = self.running.into_iter().map(|(sender, _)| sender).collect();
        all.iter().for_each(|sender| sender.finish(deadline));
        let finishing = self.finishing.into_iter();
        all.into_iter()
            .chain(finishing)
            .for_each(|s| s.join(deadline));
    }

    fn record_self_metrics(&self, exporter: &Exporter) {
        if let Some(config) = self.config.as_ref().filter(|_| !self.running.is_empty()) {
            exporter.record_self_metrics(
                config.history.keep,
                self_metrics_bytes(config),
                BootTime::now(),
            );
        }
    }

    /// Publishes the statistics of the running senders, for the exporter's own metrics.
    fn publish_stats(&self, exporter: &Exporter) {
        let senders = self
            .running
            .iter()
            .map(|(sender, _)| (sender.entry().name.clone(), Arc::clone(sender.stats())));
        *lock::write(&exporter.senders) = senders.collect();
    }
}

/// Bytes of the history for the exporter's own metrics, which only senders take from there.
pub(super) fn self_metrics_bytes(config: &Config) -> usize {
    match config.remote_write.is_empty() || !config.self_metrics {
        true => 0,
        false => config.history.bytes / 16,
    }
}

fn start(exporter: &Exporter, entry: &RemoteWrite, feed: Box<dyn Feed>) -> Result<Sender, String> {
    Sender::start(entry.clone(), feed, Arc::clone(&exporter.clock))
}

fn memory_feed(exporter: &Exporter, labels: Labels, since: BootTime) -> MemoryFeed {
    MemoryFeed::new(Arc::clone(&exporter.registry), labels, since)
}

/// The feed of an entry: from memory, by way of a queue on disk if the entry has one.
fn feed(exporter: &Exporter, entry: &RemoteWrite, memory: MemoryFeed) -> Box<dyn Feed> {
    match &entry.disk {
        Some(disk) => {
            let clock = Arc::clone(&exporter.clock);
            Box::new(QueueFeed::new(memory, disk.clone(), clock))
        }
        None => Box::new(memory),
    }
}

/// The labels that are added to every series. External labels override `job` and `instance`.
fn labels(entry: &RemoteWrite, address: &InstanceAddress<'_>) -> Labels {
    let instance = entry
        .instance
        .clone()
        .unwrap_or_else(|| match address.port {
            Some(port) => format!("{}:{port}", address.hostname),
            None => address.hostname.to_string(),
        });
    let own = [
        ("job".to_string(), entry.job.clone()),
        ("instance".to_string(), instance),
    ];
    Labels::new(entry.external_labels.iter().cloned().chain(own))
}
