//! The multirate scrape: each consumer gets every sample since its last scrape that succeeded, with its time stamp.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::consumers::{Consumers, Turn, Visitor};
use super::routes::wanted;
use super::Exporter;
use crate::exposition::{render_batch, render_end, render_families, render_window, Format};
use crate::http::{InFlight, Request};
use crate::metrics::{Batch, Family, Layout, Offset};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// An answer has about this much text at most; the rest comes with the next.
const MOST_BYTES: usize = 16 << 20;
/// Whoever comes for the first time gets what was read in so many seconds, if it does not say how often it comes.
const FIRST: Duration = Duration::from_secs(15);
/// The most of it for those who do.
const LONGEST_FIRST: Duration = Duration::from_secs(300);
/// An answer that can have no more than this has to wait for those that are on their way.
const LEAST_BYTES: usize = 64 << 10;
/// So much of answers may be on its way in all. One address has as much as one answer, so that who asks under many names,
/// and reads nothing, keeps nobody else from theirs.
const IN_FLIGHT: usize = 4 * MOST_BYTES;

/// Why there is no answer now.
pub(super) const CLOCK_IS_WRONG: &str =
    "this board's clock is plainly wrong: samples with time stamps are kept until it is set (by NTP, say)\n";
pub(super) const ANOTHER_TURN: &str =
    "this consumer is being answered already: add ?consumer=NAME to the URLs of those that share an address\n";

pub(super) const UNREAD: &str =
    "so much is on its way that has not been read that there is no more for now: try again\n";

/// What bounds the answers that are on their way.
pub(super) struct Outgoing {
    in_flight: Arc<InFlight>,
    /// One answer is made at a time: what it is made of is copied out of the histories.
    making: Mutex<()>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Outgoing {
            in_flight: Arc::new(InFlight::new(MOST_BYTES, IN_FLIGHT)),
            making: Mutex::default(),
        }
    }
}

/// The text for one consumer, and what to call with whether it was delivered.
pub(super) struct Delivery {
    pub(super) text: Vec<u8>,
    pub(super) done: Done,
}

impl Exporter {
    /// Every sample that this consumer has not had. `Err` says why there are none now.
    pub(super) fn every_sample(
        &self,
        request: &Request,
        format: Format,
    ) -> Result<Delivery, &'static str> {
        let offset = self.clock.offset().ok_or(CLOCK_IS_WRONG)?;
        let mut text = Vec::with_capacity(64 * 1024);
        let done = self.add_samples(request, &offset, format, &mut text)?;
        render_end(format, &mut text);
        Ok(Delivery { text, done })
    }

    /// The exporter's own metrics, then, if the clock is right, every sample that this consumer has not had.
    pub(super) fn own_and_every_sample(
        &self,
        request: &Request,
        format: Format,
    ) -> Result<Delivery, &'static str> {
        let mut text = Vec::with_capacity(64 * 1024);
        let snapshot = self.snapshot(BootTime::now());
        let wanted = wanted(request);
        let own = |family: &Family| family.own && wanted(&family.name);
        render_families(&snapshot, format, own, &mut text);
        let done = match self.clock.offset() {
            Some(offset) => self.add_samples(request, &offset, format, &mut text)?,
            None => Box::new(|_| ()),
        };
        render_end(format, &mut text);
        Ok(Delivery { text, done })
    }

    /// All that is exported, and what happened since this consumer's last scrape.
    pub(super) fn with_window(&self, request: &Request, format: Format) -> Delivery {
        let mut text = Vec::with_capacity(64 * 1024);
        let snapshot = self.snapshot(BootTime::now());
        let wanted = wanted(request);
        render_families(&snapshot, format, |family| wanted(&family.name), &mut text);
        let mut done: Done = Box::new(|_| ());
        // Another scrape of the same consumer at the same time goes without.
        if let Some(turn) = Turning::begin(&self.windows, self, request) {
            let offset = Offset::of_boot_time();
            let _alone = lock::lock(&self.outgoing.making);
            done = turn.take(self, &offset, usize::MAX, |batch, layout| {
                render_window(batch, layout, wanted, &mut text);
            });
        }
        render_end(format, &mut text);
        Delivery { text, done }
    }

    fn add_samples(
        &self,
        request: &Request,
        offset: &Offset,
        format: Format,
        text: &mut Vec<u8>,
    ) -> Result<Done, &'static str> {
        let turn = Turning::begin(&self.consumers, self, request).ok_or(ANOTHER_TURN)?;
        let _alone = lock::lock(&self.outgoing.making);
        let in_flight = &self.outgoing.in_flight;
        let reserved = in_flight.reserve(request.peer.ip(), LEAST_BYTES, MOST_BYTES);
        let mut reserved = reserved.ok_or(UNREAD)?;
        let wanted = wanted(request);
        let done = turn.take(self, offset, reserved.bytes(), |batch, layout| {
            render_batch(batch, layout, format, |family| wanted(&family.name), text);
        });
        text.shrink_to_fit();
        reserved.resize(text.len());
        Ok(Box::new(move |written| {
            drop(reserved);
            done(written);
        }))
    }

    /// Bytes of the histories of all sources.
    pub(super) fn history_bytes(&self) -> usize {
        let sources = self.sources();
        let bytes = sources.iter().map(|s| s.context().group.history().bytes());
        bytes.sum()
    }
}

/// What is called with whether an answer was delivered.
type Done = Box<dyn FnOnce(bool) + Send>;

/// The turn of whoever asks.
struct Turning {
    turn: Turn,
    now: BootTime,
    began: Instant,
    patience: Option<Duration>,
}

impl Turning {
    fn begin(
        consumers: &Arc<Consumers>,
        exporter: &Exporter,
        request: &Request,
    ) -> Option<Turning> {
        let now = BootTime::now();
        let patience = scrape_timeout(request.header("X-Prometheus-Scrape-Timeout-Seconds"));
        let window = first_window(patience);
        let since = BootTime(now.0.saturating_sub(window.as_nanos() as u64));
        Some(Turning {
            turn: consumers.begin(Visitor::of(request), &exporter.registry, since, now)?,
            now,
            began: Instant::now(),
            patience,
        })
    }

    /// Has what it has not had yet rendered.
    fn take(
        mut self,
        exporter: &Exporter,
        offset: &Offset,
        bytes: usize,
        render: impl FnOnce(&Batch, &Layout),
    ) -> Done {
        let registry = &exporter.registry;
        let progress = &mut self.turn.progress;
        let batch = progress.take(registry, offset, self.now, bytes);
        self.turn.had = progress.samples(registry);
        // The layout comes after the rows, and so has all their series.
        render(&batch, &registry.layout());
        Box::new(move |written| {
            // Whoever has given up by now has not got it, though the kernel has taken it.
            let began = self.began;
            let in_time = self
                .patience
                .is_none_or(|patience| began.elapsed() < patience);
            self.turn.end(written && in_time);
        })
    }
}

/// How long the consumer waits for an answer, if it says so. Prometheus does; it is at most its scrape interval.
fn scrape_timeout(header: Option<&str>) -> Option<Duration> {
    let seconds = header?.trim().parse::<f64>().ok()?;
    let good = seconds.is_finite() && seconds > 0.0;
    good.then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
}

/// How far back a consumer's first answer goes.
fn first_window(timeout: Option<Duration>) -> Duration {
    timeout.map_or(FIRST, |timeout| timeout.min(LONGEST_FIRST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Desc, Readings, WallClock};

    #[test]
    fn the_first_answer_goes_back_as_far_as_a_scrape_interval() {
        let window = |header| first_window(scrape_timeout(header));
        assert_eq!(window(Some("1")), Duration::from_secs(1));
        assert_eq!(window(Some(" 0.5")), Duration::from_millis(500));
        for none in [
            None,
            Some(""),
            Some("x"),
            Some("nan"),
            Some("inf"),
            Some("-1"),
            Some("0"),
        ] {
            assert_eq!(window(none), FIRST, "{none:?}");
        }
        assert_eq!(window(Some("1e300")), LONGEST_FIRST);
    }

    fn request(query: &str, peer: &str, timeout: &str) -> Request {
        let header = format!("X-Prometheus-Scrape-Timeout-Seconds: {timeout}");
        Request {
            method: crate::http::Method::Get,
            path: "/multirate".into(),
            query: Some(query.into()),
            version: (1, 1).into(),
            headers: header.parse().into_iter().collect(),
            body: Vec::new(),
            peer: peer.parse().unwrap(),
            login: Default::default(),
        }
    }

    /// A clock that said so, in nanoseconds since 1970, when the machine started.
    fn clock(start: i64) -> WallClock {
        WallClock::new(move || {
            let now = BootTime::now();
            (now, start + now.0 as i64)
        })
    }

    /// An exporter with such a clock, and one row read.
    fn exporter(start: i64) -> Exporter {
        let exporter = Exporter {
            clock: Arc::new(clock(start)),
            ..Exporter::idle()
        };
        let group = exporter.registry.add_group(0, "rapl", vec![]);
        group.history().limit(Duration::from_secs(60), 1000);
        let id = group.series(&Desc::gauge("power_watts", "Power."), &[]);
        let mut out = Readings::new(5.0);
        out.begin(BootTime::now());
        out.set(id, 1.5);
        group.publish(group.new_generation(), &out);
        exporter
    }

    const TODAY: i64 = 1_795_219_200_000_000_000;

    fn text(delivery: Result<Delivery, &'static str>) -> (String, Box<dyn FnOnce(bool) + Send>) {
        let Delivery { text, done } = delivery.ok().unwrap();
        (String::from_utf8(text).unwrap(), done)
    }

    #[test]
    fn while_the_clock_is_wrong_nothing_is_delivered_and_nothing_lost() {
        let asked = request("", "192.0.2.1:1", "10");
        let wrong = exporter(1_000_000_000);
        let refused = wrong.every_sample(&asked, Format::Text).err();
        assert_eq!(refused, Some(CLOCK_IS_WRONG));
        let (own, _) = text(wrong.own_and_every_sample(&asked, Format::Text));
        assert_eq!(own, "");
        let right = Exporter {
            clock: Arc::new(clock(TODAY)),
            ..wrong
        };
        let (samples, done) = text(right.every_sample(&asked, Format::Text));
        assert!(samples.contains("\npower_watts 1.5 1"), "{samples}");
        done(true);
        assert_eq!(text(right.every_sample(&asked, Format::Text)).0, "");
    }

    #[test]
    fn who_reads_nothing_is_given_no_more_under_another_name() {
        let exporter = Exporter {
            outgoing: Outgoing {
                in_flight: Arc::new(InFlight::new(LEAST_BYTES + 100, 10 * LEAST_BYTES)),
                ..Outgoing::default()
            },
            ..exporter(TODAY)
        };
        let ask = |name: &str, peer| {
            let asked = request(&format!("consumer={name}"), peer, "10");
            exporter.every_sample(&asked, Format::Text)
        };
        let unread: Vec<_> = (0..10)
            .map_while(|n| ask(&n.to_string(), "192.0.2.1:1").ok())
            .collect();
        assert!((1..10).contains(&unread.len()), "{}", unread.len());
        let refused = ask("more", "192.0.2.1:1").err();
        assert_eq!(refused, Some(UNREAD));
        assert!(ask("more", "192.0.2.2:1").is_ok(), "others get theirs");
        drop(unread);
        let (samples, _) = text(ask("more", "192.0.2.1:1"));
        assert!(samples.contains("\npower_watts 1.5 1"), "nothing is lost");
    }

    #[test]
    fn what_comes_too_late_is_delivered_again() {
        let hasty = request("", "192.0.2.1:1", "0.001");
        let patient = request("", "192.0.2.1:1", "10");
        let exporter = exporter(TODAY);
        let (samples, done) = text(exporter.every_sample(&patient, Format::Text));
        done(false);
        let (again, done) = text(exporter.every_sample(&hasty, Format::Text));
        assert_eq!(samples, again);
        std::thread::sleep(Duration::from_millis(2));
        done(true);
        assert_eq!(
            text(exporter.every_sample(&patient, Format::Text)).0,
            samples
        );
    }
}
