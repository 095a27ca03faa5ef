//! The multirate scrape: each consumer gets every sample since its last successful scrape, with time stamps.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::consumers::{Client, Consumers, Scrape};
use super::routes::requested;
use super::Exporter;
use crate::exposition::{render_batch, render_end, render_families, render_window, Format};
use crate::http::{InFlight, Request};
use crate::metrics::{Batch, Family, Layout, Offset};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// A response has about this much text at most. The rest comes with the next scrape.
const MAX_RESPONSE_BYTES: usize = 16 << 20;
/// The first response to a consumer goes back this far, if the request does not say how often it comes.
const DEFAULT_FIRST_WINDOW: Duration = Duration::from_secs(15);
/// The longest time that the first response goes back, if the request does say so.
const MAX_FIRST_WINDOW: Duration = Duration::from_secs(300);
/// A response that would be limited to less than this is refused, until other responses have been read.
const MIN_RESPONSE_BYTES: usize = 64 << 10;
/// Unread responses are limited to this in all, and to one full response for each address: a client that asks under
/// many names and reads nothing keeps no other client from its response.
const MAX_IN_FLIGHT_BYTES: usize = 4 * MAX_RESPONSE_BYTES;

/// Why a scrape is refused for now.
pub(super) const CLOCK_IS_WRONG: &str =
    "this board's clock is wrong: samples with time stamps are held until it is set (by NTP, for example)\n";
pub(super) const SCRAPE_UNDER_WAY: &str =
    "this consumer is being answered already: add ?consumer=NAME to the URLs of those that share an address\n";

pub(super) const TOO_MUCH_UNREAD: &str =
    "so much is on its way that has not been read that there is no more for now: try again\n";

/// Limits of the responses that are on their way.
pub(super) struct ResponseLimits {
    in_flight: Arc<InFlight>,
    /// One response is rendered at a time: it is made from a copy of the histories.
    rendering: Mutex<()>,
}

impl Default for ResponseLimits {
    fn default() -> Self {
        ResponseLimits {
            in_flight: Arc::new(InFlight::new(MAX_RESPONSE_BYTES, MAX_IN_FLIGHT_BYTES)),
            rendering: Mutex::default(),
        }
    }
}

/// The text for one consumer, and a function to call with whether it was delivered.
pub(super) struct Delivery {
    pub(super) text: Vec<u8>,
    pub(super) done: Done,
}

impl Exporter {
    /// Every sample that this consumer has not received. `Err`: why there are none now.
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

    /// The exporter's own metrics, and, if the clock is right, every sample that this consumer has not received.
    pub(super) fn own_and_every_sample(
        &self,
        request: &Request,
        format: Format,
    ) -> Result<Delivery, &'static str> {
        let mut text = Vec::with_capacity(64 * 1024);
        let snapshot = self.snapshot(BootTime::now());
        let requested = requested(request);
        let own = |family: &Family| family.own && requested(&family.name);
        render_families(&snapshot, format, own, &mut text);
        let done = match self.clock.offset() {
            Some(offset) => self.add_samples(request, &offset, format, &mut text)?,
            None => Box::new(|_| ()),
        };
        render_end(format, &mut text);
        Ok(Delivery { text, done })
    }

    /// All metrics, and the statistics since this consumer's last scrape.
    pub(super) fn with_window(&self, request: &Request, format: Format) -> Delivery {
        let mut text = Vec::with_capacity(64 * 1024);
        let snapshot = self.snapshot(BootTime::now());
        let requested = requested(request);
        render_families(
            &snapshot,
            format,
            |family| requested(&family.name),
            &mut text,
        );
        let mut done: Done = Box::new(|_| ());
        // A second scrape of the same consumer at the same time gets no statistics.
        if let Some(scrape) = TimedScrape::begin(&self.windows, self, request) {
            let offset = Offset::exact();
            let _rendering = lock::lock(&self.response_limits.rendering);
            done = scrape.render(self, &offset, usize::MAX, |batch, layout| {
                render_window(batch, layout, requested, &mut text);
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
        let scrape = TimedScrape::begin(&self.consumers, self, request).ok_or(SCRAPE_UNDER_WAY)?;
        let offset = match resolution(request, format) {
            Ok(Resolution::Microseconds) => &offset.in_microseconds(),
            _ => offset,
        };
        let _rendering = lock::lock(&self.response_limits.rendering);
        let in_flight = &self.response_limits.in_flight;
        let reserved = in_flight.reserve(request.peer.ip(), MIN_RESPONSE_BYTES, MAX_RESPONSE_BYTES);
        let mut reserved = reserved.ok_or(TOO_MUCH_UNREAD)?;
        let requested = requested(request);
        let done = scrape.render(self, offset, reserved.bytes(), |batch, layout| {
            render_batch(
                batch,
                layout,
                format,
                |family| requested(&family.name),
                text,
            );
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

/// The resolution of time stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    Milliseconds,
    Microseconds,
}

/// The resolution that the request wants. `Err`: why the request is refused.
pub(super) fn resolution(request: &Request, format: Format) -> Result<Resolution, &'static str> {
    match request.query_values("resolution").last().as_deref() {
        None | Some("ms") => Ok(Resolution::Milliseconds),
        Some("us") if format != Format::Text => Ok(Resolution::Microseconds),
        Some("us") => Err(
            "time stamps of microseconds need OpenMetrics: Accept: application/openmetrics-text\n",
        ),
        Some(_) => Err("resolution is ms or us\n"),
    }
}

/// A function that is called with whether a response was delivered.
type Done = Box<dyn FnOnce(bool) + Send>;

/// A consumer's scrape, with how long the consumer waits for the response.
struct TimedScrape {
    scrape: Scrape,
    now: BootTime,
    began: Instant,
    timeout: Option<Duration>,
}

impl TimedScrape {
    fn begin(
        consumers: &Arc<Consumers>,
        exporter: &Exporter,
        request: &Request,
    ) -> Option<TimedScrape> {
        let now = BootTime::now();
        let timeout = scrape_timeout(request.header("X-Prometheus-Scrape-Timeout-Seconds"));
        let window = first_window(timeout);
        let since = BootTime(now.0.saturating_sub(window.as_nanos() as u64));
        Some(TimedScrape {
            scrape: consumers.begin(Client::of(request), &exporter.registry, since, now)?,
            now,
            began: Instant::now(),
            timeout,
        })
    }

    /// Renders what the consumer has not received yet.
    fn render(
        mut self,
        exporter: &Exporter,
        offset: &Offset,
        bytes: usize,
        write: impl FnOnce(&Batch, &Layout),
    ) -> Done {
        let registry = &exporter.registry;
        let progress = &mut self.scrape.progress;
        let batch = progress.take(registry, offset, self.now, bytes);
        self.scrape.samples_passed = progress.samples(registry);
        // The layout is taken after the rows, and so has all their series.
        write(&batch, &registry.layout());
        Box::new(move |written| {
            // A client that has timed out by now has not received the response, even if the kernel took it.
            let began = self.began;
            let in_time = self.timeout.is_none_or(|timeout| began.elapsed() < timeout);
            self.scrape.end(written && in_time);
        })
    }
}

/// How long the client waits for a response, if the request says so. Prometheus does: at most its scrape interval.
fn scrape_timeout(header: Option<&str>) -> Option<Duration> {
    let seconds = header?.trim().parse::<f64>().ok()?;
    let good = seconds.is_finite() && seconds > 0.0;
    good.then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
}

/// How far back a consumer's first response goes.
fn first_window(timeout: Option<Duration>) -> Duration {
    timeout.map_or(DEFAULT_FIRST_WINDOW, |timeout| {
        timeout.min(MAX_FIRST_WINDOW)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Desc, Readings, WallClock};

    #[test]
    fn first_response_goes_back_one_scrape_interval() {
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
            assert_eq!(window(none), DEFAULT_FIRST_WINDOW, "{none:?}");
        }
        assert_eq!(window(Some("1e300")), MAX_FIRST_WINDOW);
    }

    #[test]
    fn microseconds_need_openmetrics() {
        let of = |query, format| resolution(&request(query, "192.0.2.1:5", "1"), format);
        let open = Format::OpenMetrics1;
        assert_eq!(of("", Format::Text), Ok(Resolution::Milliseconds));
        assert_eq!(of("resolution=ms", open), Ok(Resolution::Milliseconds));
        assert_eq!(of("resolution=us", open), Ok(Resolution::Microseconds));
        assert!(of("resolution=us", Format::Text).is_err());
        assert!(of("resolution=ns", open).is_err());
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

    /// A clock by which the machine started at `start`, in nanoseconds since 1970.
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
    fn wrong_clock_delays_samples_without_loss() {
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
    fn unread_responses_limit_an_address_under_any_name() {
        let exporter = Exporter {
            response_limits: ResponseLimits {
                in_flight: Arc::new(InFlight::new(
                    MIN_RESPONSE_BYTES + 100,
                    10 * MIN_RESPONSE_BYTES,
                )),
                ..ResponseLimits::default()
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
        assert_eq!(refused, Some(TOO_MUCH_UNREAD));
        assert!(ask("more", "192.0.2.2:1").is_ok(), "others get theirs");
        drop(unread);
        let (samples, _) = text(ask("more", "192.0.2.1:1"));
        assert!(samples.contains("\npower_watts 1.5 1"), "nothing is lost");
    }

    #[test]
    fn response_after_the_clients_timeout_is_delivered_again() {
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
