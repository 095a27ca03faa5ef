//! The `top` role: the board on a terminal, with the power of its rails, sources that cannot be read, and workloads by power.
//!
//! A thread reads the board ([`feed`]): the meters themselves, in this process, or `/metrics` of an exporter. Both are the same
//! text, which [`model`] takes what is shown from, and [`view`] makes lines of it. [`screen`] draws these on a [`terminal`]
//! until the user quits. Where there is none, the lines are printed once.

mod feed;
mod format;
mod keys;
mod line;
mod model;
mod screen;
mod sparkline;
mod terminal;
mod text;
mod view;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::os::fd::AsFd;

use crate::config::{load_settings, ClientSettings};
use crate::exporter::{ConfigSource, LocalBoard};
use crate::sources::Roots;
use crate::sys::terminal::size;
use feed::{Feed, Remote, Target};
use model::Model;
use terminal::Terminal;
use view::{Choice, Context, Screen};

/// The shortest time between two readings.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The time between two readings, unless another one is given.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time between two readings for a single picture: energy counters need two for power.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(500);
/// How long a single picture may take. Sources are given up after a while; an exporter here is asked then.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the shares of workloads are waited for once there is power.
const SHARES_TIMEOUT: Duration = Duration::from_secs(3);
/// The width of a picture that no terminal limits.
const SNAPSHOT_COLUMNS: usize = 100;
/// The widest and the narrowest picture that `COLUMNS` may ask for.
const COLUMNS_RANGE: std::ops::RangeInclusive<usize> = 20..=1000;

/// The options of the command line.
#[derive(Debug, Default)]
pub struct Options {
    /// The exporter to show instead of this board's meters.
    pub url: Option<String>,
    /// How that one is called: login, TLS.
    pub http: Option<PathBuf>,
    /// The time between two readings.
    pub interval: Option<Duration>,
}

/// Shows the board until the user quits; where nobody can, once. The error is a message for the user.
pub fn run(options: Options, configuration: ConfigSource, roots: Roots) -> Result<(), String> {
    let target = match &options.url {
        Some(url) => {
            let settings = match &options.http {
                Some(path) => load_settings(path)?,
                None => ClientSettings::default(),
            };
            Target::Remote(Remote::new(url, settings)?)
        }
        None => Target::Local {
            roots,
            config: LocalBoard::configuration(configuration)?,
        },
    };
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let unicode = is_utf_8(environment);
    let interval = options.interval;
    match interactive(environment) {
        Some(terminal) => screen::run(target, interval.unwrap_or(INTERVAL), terminal, unicode),
        None => snapshot(
            target,
            interval.unwrap_or(SNAPSHOT_INTERVAL),
            unicode,
            environment,
        ),
    }
}

/// The terminal, if there is one that can do more than print line after line, and somebody can press keys on it.
fn interactive(environment: impl Fn(&str) -> Option<String>) -> Option<Terminal> {
    let can_move = environment("TERM").is_some_and(|term| term != "dumb");
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !can_move || !is_terminal {
        return None;
    }
    // no-color.org.
    let colours = environment("NO_COLOR").is_none();
    Terminal::open(colours).ok()
}

/// Whether the locale's characters are UTF-8 (POSIX, 8.2: the first of these that is set and not empty counts).
fn is_utf_8(environment: impl Fn(&str) -> Option<String>) -> bool {
    let mut variables = ["LC_ALL", "LC_CTYPE", "LANG"].iter();
    let locale = variables.find_map(|name| environment(name));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Prints the board once.
fn snapshot(
    target: Target,
    interval: Duration,
    unicode: bool,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let is_local = matches!(target, Target::Local { .. });
    let feed = Feed::start(target, interval)?;
    let mut deadline = Instant::now() + SNAPSHOT_TIMEOUT;
    let mut has_power = false;
    let mut model = Model::default();
    let mut context = Context::default();
    loop {
        match feed.take() {
            Some(Ok(update)) => {
                update.show_in(&mut model);
                context.origin = update.origin;
                if !is_local || model.is_complete() {
                    break;
                }
                if model.has_power() && !std::mem::replace(&mut has_power, true) {
                    deadline = Instant::now() + SHARES_TIMEOUT;
                }
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let mut fds = [PollFd::new(feed.event.as_fd(), PollFlags::POLLIN)];
        let _ = poll(
            &mut fds,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        );
    }
    model.forget_histories();
    let given = environment("COLUMNS").and_then(|columns| columns.parse().ok());
    let columns = size(std::io::stdout()).map(|(columns, _)| usize::from(columns));
    let columns = columns
        .or_else(|| given.filter(|columns| COLUMNS_RANGE.contains(columns)))
        .unwrap_or(SNAPSHOT_COLUMNS);
    let screen = Screen {
        columns,
        rows: None,
        unicode,
        has_keys: false,
    };
    let mut text = String::new();
    for line in view::lines(&model, &context, &Choice::default(), &screen) {
        text.push_str(&line.plain());
        text.push('\n');
    }
    // The reader may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
