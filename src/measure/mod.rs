//! The `measure` role: runs a command, and says what the board's rails used while it ran.
//!
//! The meters are those of this board, read by this process ([`local`]), or those that a running exporter reads ([`remote`]).
//! A thread collects their readings ([`sampler`]); this one waits for the command ([`command`]) and for signals. What lies
//! between begin and end is computed by [`window`], and written down by [`report`].

pub mod command;
pub mod destination;
pub mod local;
pub mod rail;
pub mod remote;
pub mod report;
pub mod sampler;
pub mod statistics;
pub mod window;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::config::{url_without_secrets, Config};
use crate::doctor::{self, Search};
use crate::exporter::LocalBoard;
use crate::logging;
use crate::sources::workloads::usage::parse_busy;
use crate::sources::Roots;
use crate::store::ConfigSource;
use crate::sys::child::{adopt_orphans, Status};
use crate::sys::clock::BootTime;
use crate::sys::signals::Signals;
use command::{processes_below, Refusal, Running};
use destination::Destination;
use local::Local;
use rail::Rail;
use remote::Remote;
use report::{Idle, Results, Run};
use sampler::Sampler;
use window::Measured;

/// The exit status if the command was not run since something else is wrong, as of `env` and `timeout`.
const FAILED: u8 = 125;
/// How often meters are read if the command line does not say.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(10);
/// How long the idle board is measured if the command line does not say.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(5);
/// How often readings are added up.
const TICK: Duration = Duration::from_millis(250);
/// Readings of the last seconds are kept: a board's clock may be better known later.
const KEPT: Duration = Duration::from_secs(2);
/// How often it is looked whether there are readings.
const POLL: Duration = Duration::from_millis(10);
/// How long meters are waited for that have neither been read nor failed.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the readings after the end are waited for, in seconds: longer than they are expected to take, and at most.
const LAST_MARGIN: f64 = 2.0;
const MAX_LAST_TIMEOUT: f64 = 60.0;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// How often this process reads the meters.
    pub interval: Option<Duration>,
    /// How long the idle board is measured before; zero: not at all.
    pub idle: Duration,
    /// How often the command is run.
    pub repeat: u32,
    /// Where the report goes; `None`: as text to standard error.
    pub output: Option<Output>,
    /// The exporter to ask.
    pub url: Option<String>,
    /// How it is asked: login and TLS.
    pub http: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            command: Vec::new(),
            interval: None,
            idle: DEFAULT_IDLE,
            repeat: 1,
            output: None,
            url: None,
            http: None,
        }
    }
}

/// A report for programs, and the file that it goes to; `-` is standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// JSON.
    Json(PathBuf),
    /// CSV.
    Csv(PathBuf),
}

impl Output {
    fn path(&self) -> &Path {
        let (Output::Json(path) | Output::Csv(path)) = self;
        path
    }

    /// The report in this form.
    fn report(&self, results: &Results) -> String {
        match self {
            Output::Json(_) => format!("{:#}\n", report::machine::json(results)),
            Output::Csv(_) => report::machine::csv(results),
        }
    }
}

/// Why this program ends without a report, and with which status.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    /// For people; empty if there is nothing to say.
    pub message: String,
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure {
            status: FAILED,
            message,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure {
            status: refusal.status,
            message: refusal.message,
        }
    }
}

/// A signal told this program to end before the command was run.
fn ended_by(signal: Signal) -> Failure {
    Failure {
        status: 128 + signal as u8,
        message: String::new(),
    }
}

/// Measures the command. Returns the exit status, which is the command's own.
pub fn run(options: &Options, source: ConfigSource, roots: Roots) -> Result<u8, Failure> {
    let program = options.command.first().map(OsString::as_os_str);
    command::check(program.unwrap_or_default())?;
    let output = options.output.as_ref();
    let output = output.map(|output| Ok::<_, String>((output, Destination::open(output.path())?)));
    let output = output.transpose()?;
    adopt_orphans().map_err(|e| format!("cannot become the parent of orphans: {e}"))?;
    let signals = Signals::block_these(&[
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ])
    .map_err(|e| format!("cannot block signals: {e}"))?;
    let stat = roots.procfs.join("stat");
    let mut results = Results {
        command: options
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        repeat: options.repeat,
        ..Results::default()
    };
    let mut local_config = None;
    let (sampler, runs_here) = match &options.url {
        Some(url) => {
            let remote = Remote::new(url, options.http.as_deref())?;
            results.url = Some(url_without_secrets(url).to_string());
            let runs_here = remote.is_this_machine();
            (Sampler::start(remote)?, runs_here)
        }
        None => {
            let interval = options.interval.unwrap_or(DEFAULT_INTERVAL);
            results.interval = Some(interval);
            let config = LocalBoard::configuration(source)?;
            let local = Local::start(roots.clone(), config.clone(), interval)?;
            local_config = Some(config);
            (Sampler::start(local)?, true)
        }
    };
    let session = Session {
        signals,
        sampler,
        stat: runs_here.then_some(stat),
    };
    if !session.wait_for_meters(SETTLE_TIMEOUT)? {
        return Err(match local_config {
            Some(config) => nothing_measured_here(roots, &config, &session),
            None => nothing_measured_there(results.url.as_deref().unwrap_or_default()),
        }
        .into());
    }
    if let Some(note) = session.unsettled() {
        log::warn!("{note}");
        results.notes.push(note);
    }
    if !options.idle.is_zero() {
        results.idle = Some(session.idle(options.idle)?);
    }
    let mut ended = Ended::default();
    while results.runs.len() < options.repeat as usize && ended.is_good() {
        let (run, how) = session.run(&options.command)?;
        results.runs.push(run);
        ended = how;
    }
    let notes = session.notes(&results, runs_here);
    results.notes.extend(notes);
    // What came meanwhile asked for no more than this. Signals end this program from here on, even if nobody reads what it
    // writes.
    while session.signals.next(Duration::ZERO).is_some() {}
    session.signals.unblock();
    drop(session);
    let is_for_people = output.is_none();
    let unwritten = output.and_then(|(output, destination)| {
        let written = destination.write(&output.report(&results));
        written.err()
    });
    // What was measured is not lost with the place for it.
    if is_for_people || unwritten.is_some() {
        logging::flush();
        let _ = io::stderr().write_all(report::text::text(&results).as_bytes());
    }
    match (ended.exit_status(), unwritten) {
        (status, None) => Ok(status),
        (status, Some(message)) => Err(Failure {
            status: if status == 0 { FAILED } else { status },
            message,
        }),
    }
}

/// What is said where no meter of this board measures anything: what `doctor` says of it with this configuration.
fn nothing_measured_here(roots: Roots, config: &Config, session: &Session) -> String {
    let mut problems = session.sampler.state().problems.clone();
    problems.extend(session.unsettled());
    let problems = problems.join("\n");
    let report = doctor::examine(roots, config, &Search::default()).text();
    let text = format!(
        "nothing here measures power or energy, so the command was not run. `doctor` says:\n{report}{problems}"
    );
    text.trim_end().to_string()
}

/// What is said where no meter of an exporter's board measures anything.
fn nothing_measured_there(url: &str) -> String {
    format!(
        "{url}: it has no power or energy to measure by: `doctor` on that board says what would help. (Its `metrics:` may \
         leave out power_watts and energy_joules_total, and `history:` may keep nothing.)"
    )
}

/// How the last command ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    status: Option<Status>,
    /// The signal that ended the measurement.
    interrupted: Option<Signal>,
}

impl Default for Ended {
    /// Before the first one.
    fn default() -> Ended {
        Ended {
            status: Some(Status::Exited(0)),
            interrupted: None,
        }
    }
}

impl Ended {
    /// Whether the command is to be run again, where that was asked for.
    fn is_good(&self) -> bool {
        self.status == Some(Status::Exited(0)) && self.interrupted.is_none()
    }

    fn exit_status(&self) -> u8 {
        match (self.status, self.interrupted) {
            (Some(Status::Exited(status)), _) => status,
            (Some(Status::Killed(signal)), _) => 128u8.saturating_add(signal),
            (None, Some(signal)) => 128 + signal as u8,
            (None, None) => FAILED,
        }
    }
}

/// What is needed while meters are read.
struct Session {
    signals: Signals,
    sampler: Sampler,
    /// `/proc/stat` of the board that the command runs on, if that is measured.
    stat: Option<PathBuf>,
}

impl Session {
    /// Waits until everything that measures is known, and was read once. Returns whether there is anything.
    fn wait_for_meters(&self, timeout: Duration) -> Result<bool, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let state = self.sampler.state();
            if let Some(error) = &state.error {
                return Err(error.clone().into());
            }
            let is_settled = state.is_settled();
            if is_settled && (state.has_rails() || !state.may_come) || Instant::now() >= deadline {
                return Ok(state.has_rails());
            }
            drop(state);
            self.pause(POLL).map_err(ended_by)?;
        }
    }

    /// The meters that measuring begins without, in a sentence.
    fn unsettled(&self) -> Option<String> {
        let names = self.sampler.state().unsettled.clone().unwrap_or_default();
        (!names.is_empty()).then(|| {
            let seconds = SETTLE_TIMEOUT.as_secs();
            format!(
                "not ready within {seconds} s, and not waited for any longer: {}",
                names.join(", ")
            )
        })
    }

    /// Waits. `Err`: a signal asks this program to end.
    fn pause(&self, time: Duration) -> Result<(), Signal> {
        match self.signals.next(time) {
            None | Some(Signal::SIGCHLD) => Ok(()),
            Some(signal) => Err(signal),
        }
    }

    /// Measures the idle board.
    fn idle(&self, time: Duration) -> Result<Idle, Failure> {
        let deadline = Instant::now() + time;
        let began = self.begin();
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            self.pause(left.min(TICK)).map_err(ended_by)?;
            self.add_up(BootTime::now());
        }
        let end = BootTime::now();
        let mut interrupted = None;
        self.wait_for_last(end, &mut interrupted);
        if let Some(signal) = interrupted {
            return Err(ended_by(signal));
        }
        let measured = self.sampler.state().finish(end).into_iter();
        Ok(Idle {
            seconds: end.seconds_since(began),
            watts: measured
                .map(|(rail, measured)| (rail, measured.mean_watts()))
                .collect(),
        })
    }

    fn begin(&self) -> BootTime {
        let now = BootTime::now();
        self.sampler.state().begin(now);
        now
    }

    /// Adds up what is long past, at a moment that the window contains.
    fn add_up(&self, now: BootTime) {
        let past = BootTime(now.0.saturating_sub(KEPT.as_nanos() as u64));
        self.sampler.state().add_up(past);
    }

    /// Waits until the meters were read after the end. A first signal is noted: the command may have ended by it before it was
    /// received here. A second one ends the wait.
    fn wait_for_last(&self, end: BootTime, interrupted: &mut Option<Signal>) {
        let delay = self.sampler.state().delay();
        let timeout = (delay + LAST_MARGIN).min(MAX_LAST_TIMEOUT);
        let deadline = Instant::now() + Duration::from_secs_f64(timeout);
        while !self.sampler.state().is_read_at(end) && Instant::now() < deadline {
            if let Err(signal) = self.pause(POLL) {
                if interrupted.replace(signal).is_some() {
                    return;
                }
            }
        }
        if let Err(signal) = self.pause(Duration::ZERO) {
            interrupted.get_or_insert(signal);
        }
    }

    /// Runs the command once.
    fn run(&self, command: &[OsString]) -> Result<(Run, Ended), Failure> {
        let others = processes_below();
        let busy_before = self.busy_seconds();
        let began = self.begin();
        let mut running = Running::start(command, others)?;
        let mut ended = Ended {
            status: None,
            interrupted: None,
        };
        let end = loop {
            let woken_by = self.signals.next(TICK);
            let now = BootTime::now();
            ended.status = running.reap();
            let signal = woken_by.filter(|signal| *signal != Signal::SIGCHLD);
            // A signal counts as well if the command has ended by it already.
            let is_second = signal.is_some_and(|s| ended.interrupted.replace(s).is_some());
            if ended.status.is_some() {
                break now;
            }
            self.add_up(now);
            // The terminal sends its signals to the command itself.
            if let Some(signal @ (Signal::SIGTERM | Signal::SIGHUP)) = signal {
                running.signal(signal);
            }
            // The second one does not wait for the command any more.
            if is_second {
                break now;
            }
        };
        let busy_after = self.busy_seconds();
        let cpu_seconds = running.cpu_seconds();
        self.wait_for_last(end, &mut ended.interrupted);
        let rails: BTreeMap<Rail, Measured> = self.sampler.state().finish(end);
        // A counter that fell has counted nothing that is known.
        let busy = |(before, after): (f64, f64)| (after >= before).then_some(after - before);
        Ok((
            Run {
                seconds: end.seconds_since(began),
                status: ended.status,
                is_interrupted: ended.interrupted.is_some(),
                left_behind: running.processes(),
                cpu_seconds: Some(cpu_seconds),
                busy_seconds: busy_before.zip(busy_after).and_then(busy),
                rails,
            },
            ended,
        ))
    }

    /// CPU time of everything on the board until now, in seconds.
    fn busy_seconds(&self) -> Option<f64> {
        let text = std::fs::read(self.stat.as_ref()?).ok()?;
        Some(parse_busy(&text)? as f64 / 1e9)
    }

    /// What people should know of the measurement.
    fn notes(&self, results: &Results, runs_here: bool) -> Vec<String> {
        let state = self.sampler.state();
        let mut notes = state.problems.clone();
        notes.extend(state.limits());
        if let Some(error) = &state.error {
            notes.push(format!("the board cannot be asked any more: {error}"));
        }
        if results.runs.iter().any(|run| run.rails.is_empty()) {
            notes.push("nothing was measured while the command ran".into());
        }
        let left: usize = results.runs.iter().map(|run| run.left_behind).sum();
        if left > 0 {
            notes.push(format!(
                "processes that the command left behind go on: {left}; what they use after its end is not in here"
            ));
        }
        if !runs_here {
            notes.push(
                "the command's share is unknown, since it ran on this machine and not, as far as the URL says, on that board"
                    .into(),
            );
        }
        if results.runs.len() < results.repeat as usize {
            notes.push(format!(
                "run {} of {} did not end well, and no other was begun",
                results.runs.len(),
                results.repeat
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rail::Quantity;
    use sampler::{Clock, Meter, Readings};

    /// A board with a rail, and with a meter that is never read.
    struct WithStuckMeter;

    impl Meter for WithStuckMeter {
        fn collect(&mut self) -> Result<Vec<Readings>, String> {
            Ok(vec![Readings {
                rail: Rail::Board,
                quantity: Quantity::Power,
                max_gap: 5.0,
                values: vec![(1.0, 2.0)],
            }])
        }

        fn clock(&self) -> Clock {
            Clock::default()
        }

        fn unsettled(&self) -> Vec<String> {
            vec!["shelly plug".to_string()]
        }

        fn may_come(&self) -> bool {
            false
        }

        fn problems(&self) -> Vec<String> {
            Vec::new()
        }

        fn pause(&self) -> Duration {
            Duration::from_millis(1)
        }
    }

    #[test]
    fn meters_that_measuring_begins_without_are_named() {
        let session = Session {
            signals: Signals::block_these(&[]).unwrap(),
            sampler: Sampler::start(WithStuckMeter).unwrap(),
            stat: None,
        };
        while !session.wait_for_meters(Duration::from_millis(1)).unwrap() {}
        let note = session.unsettled().unwrap();
        assert!(note.ends_with(": shelly plug"), "{note}");
    }
}
