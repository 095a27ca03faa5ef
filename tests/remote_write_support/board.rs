//! A board in this process, with a sender.

use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_metrics_exporter::config;
use edge_metrics_exporter::metrics::{Desc, Group, Policy, Readings, Registry, WallClock};
use edge_metrics_exporter::remote_write::{Feed, Labels, MemoryFeed, Sender};
use edge_metrics_exporter::sys::clock::BootTime;

use super::{Given, Receiver};
use crate::support::WAIT_TIMEOUT;

fn entry(url: &str, settings: &str) -> config::RemoteWrite {
    let text = format!("remote_write:\n  - url: {url}\n{settings}");
    let (mut config, _) = edge_metrics_exporter::sources::SCHEMA.parse(&text).unwrap();
    config.remote_write.remove(0)
}

/// A board with one source that publishes given values, and a sender.
pub struct Board {
    pub registry: Arc<Registry>,
    pub group: Arc<Group>,
    pub sender: Option<Sender>,
    generation: u64,
    at: BootTime,
}

impl Board {
    /// With these settings below the entry's URL, each line indented by four spaces. The sender starts immediately.
    pub fn new(receiver: &Receiver, settings: &str) -> Board {
        Board::with_clock(&receiver.url(), settings, WallClock::default())
    }

    pub fn with_clock(url: &str, settings: &str, clock: WallClock) -> Board {
        let mut board = Board::silent();
        board.send_to(url, settings, clock);
        board
    }

    /// Without a sender.
    pub fn silent() -> Board {
        let registry = Arc::new(Registry::new(Policy::All));
        let labels = vec![("hostname".to_string(), "edge-01".to_string())];
        let group = registry.add_group(0, "test", labels);
        group.history().limit(Duration::from_secs(3600), 4 << 20);
        group.set_interval(Duration::from_secs(1));
        Board {
            generation: group.new_generation(),
            registry,
            group,
            sender: None,
            at: BootTime(0),
        }
    }

    pub fn send_to(&mut self, url: &str, settings: &str, clock: WallClock) {
        let queue =
            "    queue_config: {batch_send_deadline: 20ms, min_backoff: 5ms, max_backoff: 40ms}\n";
        let queue = if settings.contains("queue_config") {
            ""
        } else {
            queue
        };
        let entry = entry(url, &format!("{queue}{settings}"));
        let own = [("job", entry.job.as_str()), ("instance", "edge-01:9100")];
        let own = own.map(|(name, value)| (name.to_string(), value.to_string()));
        let labels = Labels::new(entry.external_labels.iter().cloned().chain(own));
        let feed = MemoryFeed::new(Arc::clone(&self.registry), labels, BootTime(0));
        self.sender = Some(Sender::start(entry, Box::new(feed), Arc::new(clock)).unwrap());
    }

    /// The same with another feed.
    pub fn send(&mut self, feed: Box<dyn Feed>, url: &str, settings: &str) {
        let sender = Sender::start(entry(url, settings), feed, Arc::default());
        self.sender = Some(sender.unwrap());
    }

    /// Publishes one reading: values of gauges, and increases of counters, which have names that end in `_total`.
    pub fn publish(&mut self, values: &[(&str, f64)]) {
        self.publish_labelled(
            &values
                .iter()
                .map(|(n, v)| (*n, &[][..], *v))
                .collect::<Vec<_>>(),
        );
    }

    pub fn publish_labelled(&mut self, values: &[Given<'_>]) {
        // Never two readings in one millisecond.
        while BootTime::now().0 < self.at.0 + 1_100_000 {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.publish_at(BootTime::now(), values);
    }

    /// The same for a reading at this time.
    pub fn publish_at(&mut self, at: BootTime, values: &[Given<'_>]) {
        let mut out = Readings::new(5.0);
        self.at = at;
        out.begin(at);
        for (name, labels, value) in values {
            if name.ends_with("_total") {
                let help = format!("Help of {name}, \"quoted\" and\nbroken.");
                let desc = Desc::counter(name.to_string(), help);
                out.add(self.group.series(&desc, labels), *value);
            } else {
                let desc = Desc::gauge(name.to_string(), format!("Help of {name}."));
                // Measured values are finite; self-metrics need not be.
                let desc = if value.is_infinite() {
                    desc.own()
                } else {
                    desc
                };
                out.set(self.group.series(&desc, labels), *value);
            }
        }
        assert!(self.group.publish(self.generation, &out));
    }

    pub fn sender(&self) -> &Sender {
        self.sender.as_ref().unwrap()
    }

    pub fn numbers(&self) -> edge_metrics_exporter::remote_write::Numbers {
        self.sender().stats().numbers()
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        self.numbers().dropped.get(reason).copied().unwrap_or(0)
    }

    /// Lets the sender send what is left, and waits for its end.
    pub fn finish(&mut self) {
        let sender = self.sender.take().unwrap();
        let deadline = Instant::now() + WAIT_TIMEOUT;
        sender.finish(deadline);
        sender.join(deadline);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.hand_over();
        }
    }
}
