//! Polls the central server in a thread of its own: fetches new configurations, reports changes made on the board, and
//! retries with growing delays while the server does not answer.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Exporter;
use crate::config::Config;
use crate::metrics::{BOARD_ENERGY, BOARD_POWER};
use crate::remote_write::backoff::Backoff;
use crate::sources::{Board, Roots, SCHEMA};
use crate::store::{jittered, CentralServer, ConfigSource};
use crate::sys::clock::BootTime;
use crate::wire::{EnergyReading, PowerReading};

/// The shortest and the longest delay before the server is polled again after a failure.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);
/// The pause when there is nothing to poll for.
const IDLE_PAUSE: Duration = Duration::from_secs(3600);
/// How long changes are gathered before they are reported: switches come in handfuls.
const GATHERING_DELAY: Duration = Duration::from_millis(50);
const STACK: usize = if cfg!(debug_assertions) { 2048 } else { 512 } * 1024;

/// The central server that the local configuration or the environment names, for this board.
pub(super) fn remote(
    configuration: &ConfigSource,
    roots: &Roots,
) -> Result<Option<CentralServer>, String> {
    let local = local_configuration(configuration);
    let settings = local
        .config_server
        .with_environment(|name| std::env::var(name).ok())?;
    let hostname = match local.hostname {
        Some(hostname) => hostname,
        None => Board::detect(roots.clone()).hostname,
    };
    CentralServer::new(&settings, &hostname, configuration.file())
}

/// The local configuration, or the defaults. Errors in it are reported where it is applied.
fn local_configuration(configuration: &ConfigSource) -> Config {
    let loaded = configuration.file().map(|path| SCHEMA.load(path));
    loaded
        .and_then(Result::ok)
        .map_or_else(Config::default, |loaded| loaded.config)
}

/// Starts the thread, if there is a server.
pub(super) fn start(exporter: &Arc<Exporter>) -> Result<(), String> {
    let Some(remote) = exporter.store.remote() else {
        return Ok(());
    };
    let (notify, changes) = mpsc::channel();
    remote.on_work(move || {
        // The receiver is gone when the process is about to end.
        let _ = notify.send(());
    });
    let of_reading = Arc::downgrade(exporter);
    remote.report_power(move || of_reading.upgrade()?.power_reading(BootTime::now()));
    let local_poll = exporter
        .store
        .file()
        .and_then(|path| SCHEMA.load(path).ok())
        .and_then(|loaded| loaded.config.config_poll);
    let poller = ServerPoller {
        exporter: Arc::clone(exporter),
        local_poll,
        backoff: Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY),
        polled_at: Instant::now(),
        retry_delay: None,
        logged_error: None,
    };
    std::thread::Builder::new()
        .name("config-server".to_string())
        .stack_size(STACK)
        .spawn(move || poller.run(&changes))
        .map(|_| ())
        .map_err(|e| format!("cannot start a thread: {e}"))
}

impl Exporter {
    /// The board's total as far as it is known now.
    fn power_reading(&self, now: BootTime) -> Option<PowerReading> {
        let snapshot = self.registry.snapshot(now);
        let one = |name: &str| {
            let family = snapshot.all().find(|view| view.family.name == name)?;
            let total = family.samples().next();
            total
        };
        let watts = one(BOARD_POWER).map(|(_, watts)| watts);
        let energy = one(BOARD_ENERGY).and_then(|(series, joules)| {
            let start = self.registry.groups().into_iter().find_map(|group| {
                let all = group.all_series();
                let place = all.iter().position(|one| std::ptr::eq(&**one, series))?;
                group.counter_start(place)
            });
            EnergyReading::new(joules, now.seconds_since(start?))
        });
        PowerReading::new(watts, energy)
    }
}

struct ServerPoller {
    exporter: Arc<Exporter>,
    /// The poll interval where the server's configuration has none.
    local_poll: Option<Duration>,
    backoff: Backoff,
    /// When the server was polled last.
    polled_at: Instant,
    /// The delay after the last poll, if that failed.
    retry_delay: Option<Duration>,
    /// The error that was logged last, until a poll succeeds.
    logged_error: Option<String>,
}

impl ServerPoller {
    fn run(mut self, changes: &Receiver<()>) {
        loop {
            let due = self.polled_at + self.pause();
            match changes.recv_timeout(due.saturating_duration_since(Instant::now())) {
                // While the server does not answer, another change does not make it answer sooner.
                Ok(()) if self.retry_delay.is_some() => continue,
                Ok(()) => {
                    std::thread::sleep(GATHERING_DELAY);
                    while changes.try_recv().is_ok() {}
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.poll();
        }
    }

    /// The pause after the last poll.
    fn pause(&self) -> Duration {
        let store = &self.exporter.store;
        let Some(remote) = store.remote() else {
            return IDLE_PAUSE;
        };
        match self.retry_delay {
            Some(retry_delay) => retry_delay,
            None if remote.status().has_work => Duration::ZERO,
            None => {
                let poll = store.current().config_poll.or(self.local_poll);
                poll.map_or(IDLE_PAUSE, jittered)
            }
        }
    }

    fn poll(&mut self) {
        let outcome = self.exporter.store.poll_server();
        self.polled_at = Instant::now();
        match outcome {
            Ok(()) => {
                self.backoff = Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
                self.retry_delay = None;
                if self.logged_error.take().is_some() {
                    log::info!("the config server answers again");
                }
            }
            Err(why) => {
                self.retry_delay = Some(self.backoff.wait(None));
                if self.logged_error.as_ref() != Some(&why) {
                    log::warn!("the config server: {why}; trying again");
                    self.logged_error = Some(why);
                }
            }
        }
    }
}
