//! The `record` role: runs the sources for a while, with an I/O log, and without serving anything.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::local::LocalBoard;
use super::supervisor::{forward_signals, Event};
use crate::exposition::Format;
use crate::sources::io_log::{IoLogs, Recorder};
use crate::sources::{Board, Roots, SCHEMA};
use crate::store::ConfigSource;
use crate::sys::signals::Signals;

/// How often hung sources and errors of the recording are checked for.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Records for `longest`, or until a signal stops it. Returns a summary for people.
pub fn record(
    configuration: ConfigSource,
    roots: Roots,
    dir: &Path,
    longest: Duration,
    signals: Signals,
) -> Result<String, String> {
    let mut config = LocalBoard::configuration(configuration)?;
    // A replay on another machine must find the same device type.
    if config.device_type == "auto" {
        let board = Board::detect(roots.clone());
        config.device_type = board.device_type().to_string();
    }
    // A recording sends nothing anywhere, and has no metrics of the exporter itself.
    config = config.only_source_settings();
    config.self_metrics = false;
    let recorder = Recorder::begin(dir, &roots, &SCHEMA.shared(&config))?;
    let began = Instant::now();
    let board = LocalBoard::start(roots, config, IoLogs::Record(recorder.clone()))?;
    let (events, inbox) = mpsc::channel();
    // Tasks are not received: a recording has one configuration.
    let (tasks, _inbox) = mpsc::channel();
    forward_signals(signals, events, tasks)?;
    let seconds = longest.as_secs_f64();
    log::info!(
        "recording to {} for {seconds} s, or until stopped",
        dir.display()
    );
    let mut error = None;
    while began.elapsed() < longest && error.is_none() {
        let left = longest.saturating_sub(began.elapsed());
        match inbox.recv_timeout(left.min(CHECK_INTERVAL)) {
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Event::Adopt(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
        board.restart_hung_sources();
        error = recorder.stop_reason();
    }
    let sources = board.stop_sources();
    recorder.finish(&board.scrape(Format::Text))?;
    if let Some(error) = error {
        log::warn!("{error}: the recording ends here");
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
