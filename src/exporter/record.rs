//! The `record` role: runs the sources for a while, with an I/O log, and without serving anything.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::Event;
use super::supervisor::{forward, Options, Supervisor};
use crate::exposition::Format;
use crate::http::Gate;
use crate::sources::io_log::{IoLogs, Recorder};
use crate::sources::Board;
use crate::sources::SCHEMA;
use crate::store::{Configuration, Store};
use crate::sys::signals::Signals;

/// How often to look whether it is time to end.
const STEP: Duration = Duration::from_millis(100);

/// Records for so long, or until it is told to stop. What it says in the end is for people.
pub fn record(
    options: Options,
    dir: &Path,
    longest: Duration,
    signals: Signals,
) -> Result<String, String> {
    let loaded = Store::open(options.configuration.clone(), |p| p.answer(Ok(())))?;
    let mut config = (*loaded.current()).clone();
    // What the board is called here, it is to be called elsewhere.
    if config.device_type == "auto" {
        let board = Board::detect(options.roots.clone());
        config.device_type = board.device_type().to_string();
    }
    // Nothing is sent anywhere, and the exporter's own metrics are not the board's.
    config = config.of_sources();
    config.self_metrics = false;
    let recorder = Recorder::begin(dir, &options.roots, &SCHEMA.shared(&config))?;
    let began = Instant::now();
    let fixed = Configuration::Fixed(Box::new(config.clone()));
    let store = Store::open(fixed, |p| p.answer(Ok(())))?;
    let io_logs = IoLogs::Record(recorder.clone());
    let mut supervisor = Supervisor::new(
        Options { io_logs, ..options },
        Gate::open(),
        Arc::new(store),
    );
    supervisor.apply(config);
    let (events, inbox) = mpsc::channel();
    // Nobody does them: a recording has one configuration.
    let (errands, _errands) = mpsc::channel();
    forward(signals, events, errands)?;
    let seconds = longest.as_secs_f64();
    log::info!(
        "recording to {} for {seconds} s, or until told to stop",
        dir.display()
    );
    let mut trouble = None;
    while began.elapsed() < longest && trouble.is_none() {
        let left = longest.saturating_sub(began.elapsed());
        match inbox.recv_timeout(left.min(STEP)) {
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Event::Adopt(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
        supervisor.watch();
        trouble = recorder.stop_reason();
    }
    let sources = supervisor.end_sources();
    recorder.finish(&supervisor.scrape(Format::Text))?;
    if let Some(trouble) = trouble {
        log::warn!("{trouble}: it ends here");
    }
    let sources = match sources.is_empty() {
        true => "of a board where nothing was found".to_string(),
        false => format!("of {}", sources.join(", ")),
    };
    Ok(format!(
        "{}: {:.1} s {sources}\nlook before you send it: recording.txt says what is in it\n",
        dir.display(),
        began.elapsed().as_secs_f64(),
    ))
}
