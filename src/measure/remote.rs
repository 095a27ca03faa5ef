//! A board that another exporter reads, maybe on another machine: every sample by `/multirate`, as a consumer of its own, so
//! that no other consumer loses any.
//!
//! The samples have the times of the board's clock. How far that is from this machine's is learned from each answer: the
//! board's time in it (`Board-Time`, or `Date` of an older exporter) was between the moments at which the request left and the
//! answer came.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::rail::{identify, Quantity, Rail, METRICS};
use super::sampler::{Clock, Meter, Readings, MAX_RAILS};
use crate::config::{check_url, load_settings, url_without_secrets, ClientSettings};
use crate::exposition::{parse, Format};
use crate::http::client::{Answer, Client, Limits};
use crate::sys::clock::BootTime;

/// What one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of an answer. The exporter's own have a little more than 16 MiB at most.
const MAX_BODY: u64 = 20 << 20;
/// How often the board is asked.
const PAUSE: Duration = Duration::from_millis(250);
/// How far back the first answer is to go, so that slow meters are in it.
const FIRST_WINDOW: &str = "60";
/// The clock is the best of so many answers.
const CLOCKS: usize = 20;
/// After so many answers the clock is known well enough to begin.
const MIN_CLOCKS: usize = 3;
/// A change of the clock that is larger, in seconds, is no drift: the clock was set.
const STEP: f64 = 0.25;
/// A silence is counted if it is shorter than this, or than three of the usual times between readings.
const MIN_GAP: f64 = 5.0;
/// A text with more lines that are no samples is none of an exporter.
const MAX_MALFORMED: usize = 100;
/// Of an answer no more series are kept: power and energy of one rail more than are measured, so that this is noticed.
const MAX_SERIES: usize = 2 * (MAX_RAILS + 1);
/// An error shows no more of what the board answered.
const MAX_SHOWN: usize = 200;

/// The board.
pub struct Remote {
    client: Client,
    /// The exporter's URL, without paths.
    base: String,
    /// The URL for people: without a password.
    shown: String,
    clocks: VecDeque<Clock>,
    /// The name under which the exporter is asked, once it has answered; it keeps what such a consumer has not received.
    consumer: Option<String>,
    clock_was_set: bool,
    /// The shortest time between two readings of a rail, in seconds.
    spacings: BTreeMap<Rail, (f64, f64)>,
}

impl Remote {
    /// The exporter at this URL, such as `http://board:9100`, asked as the file says.
    pub fn new(url: &str, http: Option<&Path>) -> Result<Remote, String> {
        let settings = match http {
            Some(file) => load_settings(file)?,
            None => ClientSettings::default(),
        };
        let base = base_url(url)?;
        let limits = Limits {
            timeout: TIMEOUT,
            body: MAX_BODY,
        };
        let client = Client::new(settings, limits).map_err(|e| e.to_string())?;
        client.check(&base).map_err(|e| e.to_string())?;
        Ok(Remote {
            client,
            shown: url_without_secrets(&base).to_string(),
            base,
            clocks: VecDeque::new(),
            consumer: None,
            clock_was_set: false,
            spacings: BTreeMap::new(),
        })
    }

    /// Whether the command runs on the board, as far as the URL says.
    pub fn is_this_machine(&self) -> bool {
        let host = check_url(&self.base).ok();
        let host = host.as_ref().and_then(|uri| uri.host());
        let host = host.unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Takes note of the board's time in an answer to a request that left and came at these moments.
    fn note_time(&mut self, answer: &Answer, left: BootTime, came: BootTime) {
        let Some((seconds, precision)) = board_time(answer) else {
            return;
        };
        let middle = (left.0 as f64 + came.0 as f64) / 2e9;
        let clock = Clock {
            offset: seconds - middle,
            uncertainty: came.seconds_since(left) / 2.0 + precision,
        };
        let known = self.clock();
        let difference = (clock.offset - known.offset).abs();
        let margin = clock.uncertainty + known.uncertainty + STEP;
        if !self.clocks.is_empty() && difference > margin {
            // What was known of the clock is of no use any more.
            self.clock_was_set = true;
            self.clocks.clear();
        }
        if self.clocks.len() >= CLOCKS {
            self.clocks.pop_front();
        }
        self.clocks.push_back(clock);
    }

    /// A longer silence of a rail is not counted, where these are its readings.
    fn max_gap(&mut self, rail: &Rail, values: &[(f64, f64)]) -> f64 {
        let known = self.spacings.get(rail).copied();
        let (mut last, mut shortest) = known.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        for (at, _) in values {
            let spacing = at - last;
            if spacing > 0.0 {
                shortest = shortest.min(spacing);
            }
            last = last.max(*at);
        }
        if known.is_some() || self.spacings.len() < MAX_RAILS {
            self.spacings.insert(rail.clone(), (last, shortest));
        }
        match shortest.is_finite() {
            true => MIN_GAP.max(3.0 * shortest),
            false => MIN_GAP,
        }
    }
}

impl Meter for Remote {
    fn collect(&mut self) -> Result<Vec<Readings>, String> {
        // An answer that got lost counts as received. Therefore the exporter is asked under a new name after it, and for what
        // was read in the last minute: what of that is known already is passed over.
        let (consumer, window) = match self.consumer.take() {
            Some(consumer) => (consumer, TIMEOUT.as_secs().to_string()),
            None => (new_consumer(), FIRST_WINDOW.to_string()),
        };
        let names: String = METRICS.iter().map(|m| format!("&name[]={m}")).collect();
        let url = format!("{}/multirate?consumer={consumer}{names}", self.base);
        let headers = [
            ("Accept", Format::Text.content_type()),
            ("X-Prometheus-Scrape-Timeout-Seconds", window.as_str()),
        ];
        let left = BootTime::now();
        let answer = self.client.get(&url, &headers);
        let came = BootTime::now();
        let answer = answer.map_err(|error| error.to_string())?;
        let text = text_of(&answer, &self.shown)?;
        self.note_time(&answer, left, came);
        if self.clocks.is_empty() {
            return Err(format!(
                "{}: its answer has no date, so that its clock is unknown",
                self.shown
            ));
        }
        let series = readings(&text, &self.shown)?;
        self.consumer = Some(consumer);
        Ok(series
            .into_iter()
            .map(|((rail, quantity), values)| Readings {
                max_gap: self.max_gap(&rail, &values),
                rail,
                quantity,
                values,
            })
            .collect())
    }

    fn clock(&self) -> Clock {
        let by_uncertainty = |a: &&Clock, b: &&Clock| a.uncertainty.total_cmp(&b.uncertainty);
        let best = self.clocks.iter().min_by(by_uncertainty);
        best.copied().unwrap_or_default()
    }

    fn unsettled(&self) -> Vec<String> {
        match self.clocks.len() >= MIN_CLOCKS {
            true => Vec::new(),
            false => vec![format!("the clock of {}", self.shown)],
        }
    }

    fn may_come(&self) -> bool {
        // The exporter may have been started just now.
        true
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.clock_was_set {
            problems.push(format!(
                "{}: its clock was set meanwhile: what was read around that moment may be counted at the wrong time",
                self.shown
            ));
        }
        let uncertainty = self.clock().uncertainty;
        if uncertainty > 0.1 {
            problems.push(format!(
                "{}: its clock is known to {uncertainty:.1} s only: begin and end of the command are as uncertain",
                self.shown
            ));
        }
        problems
    }

    fn pause(&self) -> Duration {
        PAUSE
    }
}

/// A name that no other consumer has.
fn new_consumer() -> String {
    format!("measure-{}-{}", std::process::id(), BootTime::now().0)
}

/// The URL of the exporter, without the paths that it has.
fn base_url(url: &str) -> Result<String, String> {
    let url = match url.contains("://") {
        true => url.to_string(),
        false => format!("http://{url}"),
    };
    let shown = url_without_secrets(&url);
    check_url(&url).map_err(|why| format!("--url {shown}: {why}"))?;
    if url.contains(['?', '#']) {
        return Err(format!(
            "--url {shown}: it is that of an exporter, such as http://board:9100, without a query"
        ));
    }
    let base = url.trim_end_matches('/');
    let base = base.strip_suffix("/metrics").unwrap_or(base);
    let base = base.strip_suffix("/multirate").unwrap_or(base);
    Ok(base.trim_end_matches('/').to_string())
}

/// The board's time in seconds since 1970, and how wrong that may be.
fn board_time(answer: &Answer) -> Option<(f64, f64)> {
    if let Some(time) = answer.header("Board-Time") {
        let seconds: f64 = time.trim().parse().ok()?;
        return seconds.is_finite().then_some((seconds, 0.001));
    }
    let date = httpdate::parse_http_date(answer.header("Date")?).ok()?;
    let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    // Whole seconds, cut off.
    Some((since.as_secs_f64() + 0.5, 0.5))
}

/// The text of an answer of `/multirate`; else what the answer says, and what would help.
fn text_of(answer: &Answer, url: &str) -> Result<String, String> {
    let body = String::from_utf8_lossy(&answer.body);
    let said: String = body
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_SHOWN)
        .collect();
    match answer.status {
        200 => {}
        401 | 403 => {
            return Err(format!(
                "{url}: status {}: it wants a login; --http.config.file FILE has one",
                answer.status
            ))
        }
        404 | 405 => {
            return Err(format!(
                "{url}: status {}: it has no /multirate. Is that the metrics port of an edge-metrics-exporter? Through other \
                 exporters, such as node_exporter, nothing can be measured",
                answer.status
            ))
        }
        status => return Err(format!("{url}: status {status}: {said}")),
    }
    if !answer.whole {
        return Err(format!("{url}: its answer has more than {MAX_BODY} bytes"));
    }
    let kind = answer.header("Content-Type").unwrap_or_default();
    match kind.starts_with("text/plain") {
        true => Ok(body.into_owned()),
        false => Err(format!(
            "{url}: it answers {kind:?}, and no text of an exporter: is that the metrics port?"
        )),
    }
}

type Series = BTreeMap<(Rail, Quantity), Vec<(f64, f64)>>;

/// The readings in a text.
fn readings(text: &str, url: &str) -> Result<Series, String> {
    let mut series = Series::new();
    let (mut malformed, mut without_time) = (0, false);
    for sample in parse(text, Format::Text) {
        let sample = match sample {
            Ok(sample) => sample,
            Err(_) if malformed < MAX_MALFORMED => {
                malformed += 1;
                continue;
            }
            Err(at) => {
                return Err(format!(
                    "{url}: line {} of its answer is no sample, as {malformed} before: that is no exporter",
                    at.line
                ))
            }
        };
        let Some(key) = identify(sample.name, |name| sample.label(name)) else {
            continue;
        };
        if series.len() >= MAX_SERIES && !series.contains_key(&key) {
            continue;
        }
        match sample.timestamp_ms {
            Some(at) => series
                .entry(key)
                .or_default()
                .push((at as f64 / 1000.0, sample.value)),
            None => without_time = true,
        }
    }
    if without_time && series.is_empty() {
        return Err(format!(
            "{url}: its samples have no time: nothing can be measured through that exporter"
        ));
    }
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn url_is_that_of_an_exporter() {
        for (given, expected) in [
            ("http://board:9100", "http://board:9100"),
            ("board:9100", "http://board:9100"),
            ("http://board:9100/", "http://board:9100"),
            ("http://board:9100/metrics", "http://board:9100"),
            ("http://proxy/board/multirate", "http://proxy/board"),
            ("http://[::1]:9100", "http://[::1]:9100"),
        ] {
            assert_eq!(base_url(given).as_deref(), Ok(expected), "{given}");
        }
        for wrong in [
            "ftp://board",
            "http://board:9100/metrics?x=1",
            "http://",
            "",
        ] {
            let error = base_url(wrong).unwrap_err();
            assert!(error.starts_with("--url "), "{error}");
        }
        let is_here = |url: &str| Remote::new(url, None).unwrap().is_this_machine();
        for here in ["localhost:9100", "http://127.0.0.2:1", "http://[::1]:9100"] {
            assert!(is_here(here), "{here}");
        }
        assert!(!is_here("http://192.0.2.7:9100") && !is_here("board:9100"));
    }

    #[test]
    fn readings_are_by_rail_and_in_seconds() {
        let text = "# TYPE power_watts gauge\n\
            power_watts{rail=\"a\",source=\"x\"} 2.5 1795219200500\n\
            power_watts{rail=\"a\",source=\"x\"} 3.5 1795219201500\n\
            energy_joules_total{rail=\"a\",source=\"x\"} 9 1795219201500\n\
            board_energy_joules_total 7 1795219201500\n\
            voltage_volts 5 1795219201500\n\
            nonsense\n";
        let series = readings(text, "http://x").unwrap();
        assert_eq!(series.len(), 3);
        let power = &series[&(Rail::of("x", "a"), Quantity::Power)];
        assert_eq!(power, &[(1_795_219_200.5, 2.5), (1_795_219_201.5, 3.5)]);
        assert_eq!(
            series[&(Rail::Board, Quantity::Energy)],
            [(1_795_219_201.5, 7.0)]
        );
        let timeless = readings("power_total_watts 5\n", "http://x").unwrap_err();
        assert!(timeless.contains("no time"), "{timeless}");
        let nonsense = readings(&"?\n".repeat(1000), "http://x").unwrap_err();
        assert!(nonsense.contains("line 101"), "{nonsense}");
    }

    #[test]
    fn rails_of_a_hostile_exporter_are_bounded() {
        let line = |n: usize| format!("power_watts{{source=\"x\",rail=\"r{n}\"}} 1 1000\n");
        let text: String = (0..3 * MAX_RAILS).map(line).collect();
        let series = readings(&text, "http://x").unwrap();
        assert_eq!(series.len(), MAX_SERIES);
        let mut remote = Remote::new("http://192.0.2.1:9100", None).unwrap();
        for (rail, _) in series.keys() {
            remote.max_gap(rail, &[(1.0, 1.0)]);
        }
        assert_eq!(remote.spacings.len(), MAX_RAILS);
    }

    #[test]
    fn answer_that_gets_lost_is_asked_for_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nBoard-Time: 100.0\r\nConnection: close\r\n\r\n";
        let answers = std::thread::spawn(move || {
            let answer = |is_lost: bool| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                if !is_lost {
                    stream.write_all(answer.as_bytes()).unwrap();
                }
                let request = String::from_utf8(request).unwrap().to_lowercase();
                let (_, consumer) = request.split_once("consumer=").unwrap();
                let (consumer, _) = consumer.split_once('&').unwrap();
                let is_first = request.contains("scrape-timeout-seconds: 60");
                (consumer.to_string(), is_first)
            };
            [false, false, true, false, false].map(answer)
        });
        let mut remote = Remote::new(&url, None).unwrap();
        let collected = [(); 5].map(|()| remote.collect().is_ok());
        assert_eq!(collected, [true, true, false, true, true]);
        let [first, second, lost, again, last] = answers.join().unwrap();
        assert_eq!(
            [first.1, second.1, lost.1, again.1, last.1],
            [true, false, false, true, false]
        );
        assert!(
            first.0 == second.0 && second.0 == lost.0,
            "{first:?} {second:?} {lost:?}"
        );
        assert!(
            again.0 != lost.0 && again.0 == last.0,
            "{lost:?} {again:?} {last:?}"
        );
    }

    #[test]
    fn gap_follows_the_boards_interval() {
        let mut remote = Remote::new("http://192.0.2.1:9100", None).unwrap();
        let a = Rail::of("x", "a");
        assert_eq!(remote.max_gap(&a, &[(100.0, 1.0)]), MIN_GAP);
        assert_eq!(remote.max_gap(&a, &[(110.0, 1.0), (120.0, 1.0)]), 30.0);
        assert_eq!(remote.max_gap(&a, &[(120.0, 1.0)]), 30.0);
        assert_eq!(remote.max_gap(&a, &[(121.0, 1.0)]), MIN_GAP);
    }
}
