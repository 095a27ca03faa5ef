//! The battery of truth: a power that is known as a function of time, shown by each kind of meter as its hardware shows it, and
//! read by the real binary. The energy that the binary counts is compared with the integral.
//!
//! A run is a recording, into which the waveform is written, and which is replayed at once: nothing depends on the pace of the
//! machine. `UPDATE_EXPECT=1 cargo test --test truth` writes the table of `docs/accuracy.md` anew.
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod meters;
#[path = "../support/mod.rs"]
mod support;
mod waves;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use meters::{Base, Meter, Method, Now, METERS};
use support::{exporter, on_board, wait_until, Exporter, TempDir};
use waves::{Wave, BURST_OF_20_MS, CONSTANT, SINE, SQUARE};

/// What happens in the middle of a run.
#[derive(Clone, Copy, PartialEq)]
enum Event {
    Nothing,
    /// The meter is not read for a third of the run.
    Gap,
    /// The counter wraps.
    Wrap,
}

/// A column of the table.
struct Case {
    name: &'static str,
    wave: Wave,
    event: Event,
}

const CASES: [Case; 6] = [
    case("constant", CONSTANT, Event::Nothing),
    case("sine of 10 Hz", SINE, Event::Nothing),
    case("square of 10 Hz", SQUARE, Event::Nothing),
    case("20 ms of each second", BURST_OF_20_MS, Event::Nothing),
    case("a third is not read", CONSTANT, Event::Gap),
    case("counter wraps", CONSTANT, Event::Wrap),
];

const fn case(name: &'static str, wave: Wave, event: Event) -> Case {
    Case { name, wave, event }
}

/// The time of the first poll in the recording and of the waveform. Every mean has its whole window by then.
const BEGIN: f64 = 60.0;
/// The error of what a meter can see, as a share of the energy.
const ALLOWED: f64 = 1e-3;
/// A silence of up to this many seconds is bridged at these intervals: five seconds, or three intervals.
const BRIDGED: f64 = 5.0;

const PAGE: &str = "docs/accuracy.md";
const BEGIN_MARK: &str = "<!-- table: begin -->\n";
const END_MARK: &str = "<!-- table: end -->";

/// The error of a run, as a share of the energy; `None` if the meter has nothing that could wrap.
type Error = Option<f64>;

#[test]
fn energy_is_the_integral_of_the_power() {
    let rows: Vec<(&Meter, (f64, f64))> = METERS
        .iter()
        .flat_map(|meter| meter.runs.iter().map(move |run| (meter, *run)))
        .collect();
    let next = Mutex::new(rows.iter().enumerate());
    let errors = Mutex::new(vec![Vec::new(); rows.len()]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| loop {
                let Some((place, (meter, run))) = next.lock().unwrap().next() else {
                    return;
                };
                let template = Template::new(meter);
                let row = CASES.iter().map(|case| template.error(*run, case));
                let row: Vec<Error> = row.collect();
                errors.lock().unwrap()[place] = row;
            });
        }
    });
    let errors = errors.into_inner().unwrap();
    let mut wrong = String::new();
    for ((meter, run), row) in rows.iter().zip(&errors) {
        for (case, error) in CASES.iter().zip(row) {
            let (expected, tolerance) = expected(meter, *run, case);
            if error.is_some_and(|error| error.is_nan() || (error - expected).abs() > tolerance) {
                let (name, case) = (meter.name, case.name);
                let _ = writeln!(
                    wrong,
                    "{name}, {} s, {case}: {error:?} is not {expected} ± {tolerance}",
                    run.0
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    compare_with_the_page(&table(&rows, &errors));
}

/// The error that follows from what the meter sees (`docs/accuracy.md`), and by how much it may differ from that.
fn expected(meter: &Meter, (interval, seconds): (f64, f64), case: &Case) -> (f64, f64) {
    let of_the_whole = meter.step / truth(&case.wave, seconds);
    if meter.method == Method::Counter {
        return (0.0, ALLOWED + of_the_whole);
    }
    if case.event == Event::Gap && seconds / 3.0 > BRIDGED {
        return (-1.0 / 3.0, ALLOWED);
    }
    let is_seen = meter.method == Method::Whole || interval <= case.wave.determined_by;
    let unseen = case.wave.unseen * (interval / case.wave.shortest).min(1.0);
    (0.0, if is_seen { ALLOWED } else { ALLOWED + unseen })
}

/// The energy of a run, in joules.
fn truth(wave: &Wave, seconds: f64) -> f64 {
    (wave.joules)(BEGIN + seconds) - (wave.joules)(BEGIN)
}

/// A recording of a meter, into whose source's log a waveform is written.
struct Template {
    meter: &'static Meter,
    temp: TempDir,
    /// The name of its source's log.
    log: String,
    /// The lines up to the first poll.
    head: String,
    /// The lines of the first poll.
    poll: String,
}

impl Template {
    fn new(meter: &'static Meter) -> Template {
        let temp = TempDir::new();
        let recording = temp.path().join("recording");
        let log = match meter.base {
            Base::Board(board) => {
                record(&recording, &fixture(board), "device_type: generic\n", &temp);
                meter.source
            }
            Base::Recording(board) => {
                copy(&fixture(board), &recording);
                meter.source
            }
            Base::Network(config, log) => {
                record(&recording, temp.path(), config, &temp);
                log
            }
        };
        let log = format!("logs/{log}.log");
        let text = std::fs::read_to_string(recording.join(&log)).unwrap();
        // A source that waits for its device has no polls: what it received is left out.
        let head = text.lines().take_while(|line| {
            let rest = line.split_once(' ').unwrap().1;
            rest != "poll" && !rest.contains(" < ") && rest != "end" && !rest.starts_with("discard")
        });
        let head: String = head.map(|line| format!("{line}\n")).collect();
        let after = text[head.len()..]
            .split_once('\n')
            .map_or("", |(_, rest)| rest);
        let is_response = |line: &&str| line.contains(" = ") || line.contains(" ! ");
        let poll = after.lines().take_while(is_response);
        Template {
            poll: poll.map(|line| format!("{line}\n")).collect(),
            head,
            log,
            temp,
            meter,
        }
    }

    /// Replays a run, and compares the energy with the integral.
    fn error(&self, (interval, seconds): (f64, f64), case: &Case) -> Error {
        if case.event == Event::Wrap && !self.meter.wraps {
            return None;
        }
        let run = TempDir::new();
        let recording = run.path().join("recording");
        copy(&self.temp.path().join("recording"), &recording);
        let config = recording.join("config.yaml");
        let settings = std::fs::read_to_string(&config).unwrap();
        let settings = match settings.contains("\"interval\"") {
            true => settings.replace("\"interval\": 1", &format!("\"interval\": {interval}")),
            false => format!("interval: {interval}\n{settings}"),
        };
        std::fs::write(config, settings).unwrap();

        let mut log = self.head.clone();
        let opened = log.lines().last().and_then(|line| line.split_once(' '));
        let opened = opened.map_or("0", |(at, _)| at).to_string();
        for setting in self.meter.takes {
            let _ = writeln!(log, "{opened} {setting} = ");
        }
        let polls = (seconds / interval).round() as u32;
        let mut late = Lateness::default();
        let mut last = BEGIN;
        for n in 0..=polls {
            let planned = f64::from(n) * interval;
            let in_gap = planned > seconds / 3.0 && planned < seconds * 2.0 / 3.0;
            if case.event == Event::Gap && in_gap {
                continue;
            }
            // The first and the last are on time, so that the energy between them is that of whole periods.
            let lateness = late.next() * interval.min(0.1) / 50.0;
            let is_end = n == 0 || n == polls;
            last = BEGIN + planned + if is_end { 0.0 } else { lateness };
            let now = Now {
                wave: case.wave,
                at: last,
                interval,
                wraps_at: (case.event == Event::Wrap).then_some(BEGIN + seconds / 2.0),
            };
            self.write_poll(&mut log, &now);
        }
        let _ = writeln!(log, "{:.9} end", last + 1e-3);
        std::fs::write(recording.join(&self.log), log).unwrap();

        let mut command = exporter();
        command
            .arg("--replay")
            .arg(&recording)
            .arg("--replay.at-once");
        let exporter = Exporter::start(command.env("PATH", "/nowhere"));
        // Its name may be followed by the device's.
        let name = self.meter.source;
        wait_until("the recording is over", || {
            let is_over = |line: &str| {
                line.contains(&format!(" {name}")) && line.contains(": the recording has ended")
            };
            exporter.log().lines().any(is_over).then_some(())
        });
        let energy = self.energy(&exporter);
        Some(energy / truth(&case.wave, seconds) - 1.0)
    }

    /// One poll, or one line of a source that waits for its device.
    fn write_poll(&self, log: &mut String, now: &Now) {
        let says = (self.meter.says)(now);
        if self.meter.is_received() {
            let _ = writeln!(log, "{:.9} {} < {}", now.at, says[0].0, says[0].1);
            return;
        }
        let _ = writeln!(log, "{:.9} poll", now.at);
        if now.at == BEGIN {
            // All that it reads at first, with the waveform's first values in their places.
            for line in self.poll.lines() {
                let rest = line.split_once(' ').unwrap().1;
                let is_said = |(key, _): &(&str, String)| rest.starts_with(&format!("{key} "));
                if !says.iter().any(is_said) {
                    let _ = writeln!(log, "{:.9} {rest}", now.at);
                }
            }
        }
        for (key, content) in says {
            let _ = writeln!(log, "{:.9} {key} = {content}", now.at);
        }
    }

    fn energy(&self, exporter: &Exporter) -> f64 {
        let text = exporter.scrape();
        let (rail, source) = (self.meter.rail, self.meter.source);
        let is_it = |line: &&str| {
            line.starts_with("energy_joules_total{")
                && line.contains(&format!("rail=\"{rail}\""))
                && line.contains(&format!("source=\"{source}\""))
        };
        let line = text.lines().find(is_it);
        let line = line.unwrap_or_else(|| panic!("{}: no energy in {text}", self.meter.name));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }
}

/// Lateness of polls, between 0 and 1, the same in each run.
#[derive(Default)]
struct Lateness(u32);

impl Lateness {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1 << 24)
    }
}

fn fixture(board: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/boards")
        .join(board)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

/// Records a board, or what there is without one.
fn record(recording: &Path, board: &Path, config: &str, temp: &TempDir) {
    let mut command = support::command();
    command.arg("record").arg(recording).args(["--for", "0.5"]);
    on_board(&mut command, board);
    let config = temp.write("config.yaml", &format!("labels: false\n{config}"));
    let output = command.arg("--config").arg(config).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The rows in Markdown.
fn table(rows: &[(&Meter, (f64, f64))], errors: &[Vec<Error>]) -> String {
    let mut out = String::from("| meter | interval |");
    for case in &CASES {
        let _ = write!(out, " {} |", case.name);
    }
    out += "\n| --- | ---: |";
    out += &" ---: |".repeat(CASES.len());
    out.push('\n');
    for ((meter, (interval, _)), row) in rows.iter().zip(errors) {
        let _ = write!(out, "| {} | {interval} s |", meter.name);
        for error in row {
            let cell = error.map_or("".to_string(), |error| {
                let percent = format!("{:+.2} %", error * 100.0);
                match percent.trim_start_matches(['+', '-']) == "0.00 %" {
                    true => "0.00 %".to_string(),
                    false => percent.replace('-', "−"),
                }
            });
            let _ = write!(out, " {cell} |");
        }
        out.push('\n');
    }
    out
}

fn compare_with_the_page(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let begin = page.find(BEGIN_MARK).unwrap() + BEGIN_MARK.len();
    let end = page.find(END_MARK).unwrap();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let page = format!("{}{table}{}", &page[..begin], &page[end..]);
        std::fs::write(path, page).unwrap();
        return;
    }
    assert_eq!(
        &page[begin..end],
        table,
        "UPDATE_EXPECT=1 writes {PAGE} anew"
    );
}
