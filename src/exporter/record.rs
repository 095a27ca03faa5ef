//! The `record` role: runs the sources for a while, with a tape, and without serving anything.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::supervisor::{forward, load, Event, Options, Supervisor};
use crate::config;
use crate::exposition::Format;
use crate::sources::tape::{Recorder, Tapes};
use crate::sources::Board;
use crate::sys::signals::Signals;

/// How often to look whether it is time to end.
const STEP: Duration = Duration::from_millis(100);

/// Records for so long, or until it is told to stop. What it says in the end is for people.
pub fn record(
    options: Options,
    file: Option<&Path>,
    dir: &Path,
    longest: Duration,
    signals: Signals,
) -> Result<String, String> {
    let mut config = load(&options.configuration)?;
    // What the board is called here, it is to be called elsewhere.
    if config.device_type == "auto" {
        let board = Board::look(options.roots.clone());
        config.device_type = board.device_type().to_string();
    }
    // The exporter's own metrics are not the board's.
    config.self_metrics = false;
    let shared = config::shared(file, &config.device_type)?;
    let recorder = Recorder::begin(dir, &options.roots, &shared)?;
    let began = Instant::now();
    let (events, inbox) = mpsc::channel();
    let tapes = Tapes::Record(recorder.clone());
    let mut supervisor = Supervisor::new(Options { tapes, ..options }, &events);
    supervisor.apply(config);
    forward(signals, events)?;
    let seconds = longest.as_secs_f64();
    log::info!(
        "recording to {} for {seconds} s, or until told to stop",
        dir.display()
    );
    let mut trouble = None;
    while began.elapsed() < longest && trouble.is_none() {
        let left = longest.saturating_sub(began.elapsed());
        match inbox.recv_timeout(left.min(STEP)) {
            Ok(Event::Reload) => log::warn!("a recording has one configuration: not loaded again"),
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        supervisor.watch();
        trouble = recorder.trouble();
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
