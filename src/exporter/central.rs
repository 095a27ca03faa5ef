//! Keeps in touch with the central server, in a thread of its own: asks whether there is something new for the board, tells
//! what was changed on it, and tries again, ever more rarely, where the server does not answer.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Exporter;
use crate::config::Config;
use crate::remote_write::backoff::Backoff;
use crate::sources::SCHEMA;
use crate::sources::{Board, Roots};
use crate::store::{jittered, Configuration, Remote};

/// How long to wait before the server is asked again when it did not answer: at first, and at most.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Where nothing is to be done.
const LONG: Duration = Duration::from_secs(3600);
/// So long changes may gather before they are told: switches come in handfuls.
const GATHER: Duration = Duration::from_millis(50);
const STACK: usize = if cfg!(debug_assertions) { 2048 } else { 512 } * 1024;

/// The central server that the local configuration or the environment names, for this board.
pub(super) fn remote(
    configuration: &Configuration,
    roots: &Roots,
) -> Result<Option<Remote>, String> {
    let local = local(configuration);
    let settings = local
        .config_server
        .with_environment(|name| std::env::var(name).ok())?;
    let hostname = match local.hostname {
        Some(hostname) => hostname,
        None => Board::detect(roots.clone()).hostname,
    };
    Remote::new(&settings, &hostname, configuration.file())
}

/// The local configuration. One that is wrong is said later, when it is to count.
fn local(configuration: &Configuration) -> Config {
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
    let (bell, rung) = mpsc::channel();
    remote.on_work(move || {
        // Nobody listens any more when the process is about to end.
        let _ = bell.send(());
    });
    let local_poll = exporter
        .store
        .file()
        .and_then(|path| SCHEMA.load(path).ok())
        .and_then(|loaded| loaded.config.config_poll);
    let touch = Touch {
        exporter: Arc::clone(exporter),
        local_poll,
        backoff: Backoff::new(WAITS.0, WAITS.1),
        met_at: Instant::now(),
        wait: None,
        complaint: None,
    };
    std::thread::Builder::new()
        .name("config-server".to_string())
        .stack_size(STACK)
        .spawn(move || touch.run(&rung))
        .map(|_| ())
        .map_err(|e| format!("cannot start a thread: {e}"))
}

struct Touch {
    exporter: Arc<Exporter>,
    /// How often to ask, where the server's configuration does not say.
    local_poll: Option<Duration>,
    backoff: Backoff,
    /// When the server was asked last.
    met_at: Instant,
    /// How long to wait after that, since it did not answer or refused; `None`: it is well.
    wait: Option<Duration>,
    /// What was last said of it in the log.
    complaint: Option<String>,
}

impl Touch {
    fn run(mut self, rung: &Receiver<()>) {
        loop {
            let due = self.met_at + self.pause();
            match rung.recv_timeout(due.saturating_duration_since(Instant::now())) {
                // While it does not answer, something more to tell does not make it answer.
                Ok(()) if self.wait.is_some() => continue,
                Ok(()) => {
                    std::thread::sleep(GATHER);
                    while rung.try_recv().is_ok() {}
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.meet();
        }
    }

    /// How long to wait after the last meeting.
    fn pause(&self) -> Duration {
        let store = &self.exporter.store;
        let Some(remote) = store.remote() else {
            return LONG;
        };
        match self.wait {
            Some(wait) => wait,
            None if remote.standing().work => Duration::ZERO,
            None => {
                let poll = store.current().config_poll.or(self.local_poll);
                poll.map_or(LONG, jittered)
            }
        }
    }

    fn meet(&mut self) {
        let outcome = self.exporter.store.meet_server();
        self.met_at = Instant::now();
        match outcome {
            Ok(()) => {
                self.backoff = Backoff::new(WAITS.0, WAITS.1);
                self.wait = None;
                if self.complaint.take().is_some() {
                    log::info!("the central server answers again");
                }
            }
            Err(why) => {
                self.wait = Some(self.backoff.wait(None));
                if self.complaint.as_ref() != Some(&why) {
                    log::warn!("the central server: {why}; trying again");
                    self.complaint = Some(why);
                }
            }
        }
    }
}
