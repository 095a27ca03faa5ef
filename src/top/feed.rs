//! What the board says, again and again: of this board from its meters, of another one from its exporter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::model::Model;
use crate::config::{url_without_secrets, ClientSettings, Config};
use crate::exporter::LocalBoard;
use crate::exposition::{parse, Format};
use crate::http::client::{Client, Limits};
use crate::sources::io_log::IoLogs;
use crate::sources::{workloads, Roots};
use crate::sys::lock;
use crate::sys::stop::{Stop, Woken};

/// Bounds of a scrape.
const SCRAPE_LIMITS: Limits = Limits {
    timeout: Duration::from_secs(5),
    body: 16 << 20,
};
/// How often sources that hang are looked for.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long the meters of this board may take until the power of another exporter on it is shown instead. tegrastats takes a
/// second to start on a small board.
const METERS_TIMEOUT: Duration = Duration::from_secs(4);

/// Whose numbers are shown.
pub(super) enum Target {
    /// This board's, read here.
    Local { roots: Roots, config: Config },
    /// Those of an exporter.
    Remote(Remote),
}

/// An exporter that is scraped.
pub(super) struct Remote {
    url: String,
    client: Client,
}

impl Remote {
    /// The exporter at this URL, of which the path may be left away. The error is a message for the user.
    pub(super) fn new(url: &str, settings: ClientSettings) -> Result<Remote, String> {
        let url = scrape_url(url);
        let client = Client::new(settings, SCRAPE_LIMITS).map_err(|e| e.to_string())?;
        client.check(&url).map_err(|e| e.to_string())?;
        Ok(Remote { url, client })
    }

    fn scrape(&self) -> Result<String, String> {
        let name = url_without_secrets(&self.url);
        let accept = [("Accept", "text/plain;version=0.0.4")];
        let answer = self
            .client
            .get(&self.url, &accept)
            .map_err(|e| e.to_string())?;
        match answer.status {
            200 if answer.whole => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
            200 => Err(format!(
                "{name}: the answer is longer than {} MiB",
                SCRAPE_LIMITS.body >> 20
            )),
            401 | 403 => Err(format!(
                "{name}: status {} (--http.config.file FILE has a login: basic_auth or authorization)",
                answer.status
            )),
            status => Err(format!("{name}: status {status}, and no metrics")),
        }
    }
}

/// The URL with the path that Prometheus scrapes, if it has none.
fn scrape_url(url: &str) -> String {
    let url = match url.contains("://") {
        true => url.to_owned(),
        false => format!("http://{url}"),
    };
    let after_host = url.find("://").map_or(0, |at| at + 3);
    match url.get(after_host..).and_then(|rest| rest.split_once('/')) {
        None => format!("{url}/metrics"),
        Some((_, "")) => format!("{url}metrics"),
        Some(_) => url,
    }
}

/// What the board said last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Update {
    /// Its metrics.
    pub(super) text: String,
    /// Why sources cannot be read, by source, if that is known.
    pub(super) errors: Option<BTreeMap<String, String>>,
    /// Whose numbers they are.
    pub(super) origin: String,
}

impl Update {
    pub(super) fn show_in(&self, model: &mut Model) {
        let samples = parse(&self.text, Format::Text).flatten();
        model.update(samples, self.errors.as_ref());
    }
}

/// The latest update, or why there is none. Older ones that nobody took are gone.
type Latest = Mutex<Option<Result<Update, String>>>;

/// A thread that reads the board.
pub(super) struct Feed {
    latest: Arc<Latest>,
    /// Readable when there is something to take.
    pub(super) event: Arc<EventFd>,
    stop: Arc<Stop>,
    thread: Option<std::thread::JoinHandle<()>>,
    waits_for_end: bool,
}

impl Feed {
    pub(super) fn start(target: Target, interval: Duration) -> Result<Feed, String> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_flags(flags).map_err(|e| format!("cannot make an event: {e}"))?;
        let (latest, event) = (Arc::<Latest>::default(), Arc::new(event));
        let stop = Arc::<Stop>::default();
        let publish = {
            let (latest, event) = (Arc::clone(&latest), Arc::clone(&event));
            move |update| {
                *lock::lock(&latest) = Some(update);
                let _ = event.write(1);
            }
        };
        // A request to another machine is not waited for at the end.
        let waits_for_end = matches!(target, Target::Local { .. });
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || match target {
                Target::Local { roots, config } => {
                    follow_local(roots, config, interval, &stopped, &publish);
                }
                Target::Remote(remote) => follow_remote(&remote, interval, &stopped, &publish),
            })
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Feed {
            latest,
            event,
            stop,
            thread: Some(thread),
            waits_for_end,
        })
    }

    /// What is new.
    pub(super) fn take(&self) -> Option<Result<Update, String>> {
        let _ = self.event.read();
        lock::lock(&self.latest).take()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take().filter(|_| self.waits_for_end) {
            let _ = thread.join();
        }
    }
}

fn follow_remote(
    remote: &Remote,
    interval: Duration,
    stop: &Stop,
    publish: &impl Fn(Result<Update, String>),
) {
    let mut next = Instant::now();
    loop {
        let update = remote.scrape().map(|text| Update {
            text,
            errors: None,
            origin: url_without_secrets(&remote.url).to_owned(),
        });
        publish(update);
        // After an answer that took longer than the interval, no other one is asked for at once.
        next = (next + interval).max(Instant::now() + interval / 4);
        if stop.wait_until(next) == Woken::Stop {
            return;
        }
    }
}

fn follow_local(
    roots: Roots,
    mut config: Config,
    interval: Duration,
    stop: &Stop,
    publish: &impl Fn(Result<Update, String>),
) {
    let port = config.port;
    config.interval = interval;
    // Everything is read, whatever is exported; nothing reads the history.
    config.metrics = None;
    config.labels = true;
    config.self_metrics = true;
    config.history.keep = Duration::ZERO;
    workloads::turn_on(&mut config);
    let board = match LocalBoard::start(roots, config, IoLogs::Off) {
        Ok(board) => board,
        Err(error) => return publish(Err(error)),
    };
    let began = Instant::now();
    let mut asks_exporter = true;
    let mut next = Instant::now();
    loop {
        let update = update_of(&board);
        let mut model = Model::default();
        update.show_in(&mut model);
        if model.has_power() {
            asks_exporter = false;
        } else if asks_exporter && began.elapsed() >= METERS_TIMEOUT {
            asks_exporter = false;
            if let Some(remote) = exporter_here(port) {
                drop(board);
                return follow_remote(&remote, interval, stop, publish);
            }
        }
        publish(Ok(update));
        next = (next + interval).max(Instant::now());
        // The first values come as soon as they are there.
        if asks_exporter {
            next = Instant::now() + CHECK_INTERVAL;
        }
        while Instant::now() < next {
            if stop.wait_until(next.min(Instant::now() + CHECK_INTERVAL)) == Woken::Stop {
                return;
            }
            board.restart_hung_sources();
        }
    }
}

fn update_of(board: &LocalBoard) -> Update {
    let sources = board.sources();
    let errors = sources.iter().filter_map(|running| {
        let context = running.context();
        let name = [running.meter().name, &context.device.name].join(" ");
        Some((name.trim_end().to_owned(), context.health.last_error()?))
    });
    Update {
        text: board.scrape(Format::Text),
        errors: Some(errors.collect()),
        origin: String::new(),
    }
}

/// The exporter that runs on this board, if it has power to show: what only root can read, its service can.
fn exporter_here(port: Option<u16>) -> Option<Remote> {
    let url = format!("http://localhost:{}", port.filter(|port| *port != 0)?);
    let remote = Remote::new(&url, ClientSettings::default()).ok()?;
    let mut model = Model::default();
    let text = remote.scrape().ok()?;
    model.update(parse(&text, Format::Text).flatten(), None);
    model.has_power().then_some(remote)
}

#[cfg(test)]
mod tests {
    use super::scrape_url;

    #[test]
    fn path_of_the_url_may_be_left_away() {
        for (given, expected) in [
            ("http://board:9100", "http://board:9100/metrics"),
            ("http://board:9100/", "http://board:9100/metrics"),
            ("https://board/metrics", "https://board/metrics"),
            (
                "https://proxy/board-7/metrics",
                "https://proxy/board-7/metrics",
            ),
            ("board:9100", "http://board:9100/metrics"),
            ("http://[::1]:9100", "http://[::1]:9100/metrics"),
        ] {
            assert_eq!(scrape_url(given), expected);
        }
    }
}
