//! Which processes use the GPUs, read with one permanent `nvidia-smi pmon`, which prints a line per GPU and process every second.
//!
//! The meter's source starts and ends it: while some other source wants to know, and while nvidia-smi may run at all (see
//! `sleep`). A thread reads it, because it prints at a pace of its own. When it fails, it is started again after 1, 2, 4 … 60 s.
//! What it said is kept in a [`GpuProcesses`], which the group of the meter's series provides.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::pmon::{Line, Parser, Use};
use crate::sources::io_log::IoLog;
use crate::sources::pipe::Printer;
use crate::sources::{Context, Error, Health};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::stop::{Stop, Woken};

/// The program in messages.
const NAME: &str = "nvidia-smi pmon";
/// It prints whole seconds only (`-d 1`).
const INTERVAL: Duration = Duration::from_secs(1);
/// What one percent of an interval is, in nanoseconds.
const NANOS_PER_PERCENT: u64 = 10_000_000;
/// The most lines of one interval that are kept until they are read.
const MAX_LINES: u32 = 1024;
/// Of one GPU at most so many processes are told apart. The use of the others is that of an unknown process.
const MAX_PROCESSES: usize = 256;
/// What was said longer ago, in seconds, says nothing of now.
const MAX_AGE: f64 = 5.0;
/// The lines of one interval come at once: one so many seconds after the first is of the next interval.
const REPORT_SECONDS: f64 = 0.5;
/// The delay before it is started again: at first, and at most.
const MIN_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// The stack of the thread.
const STACK_BYTES: usize = 256 * 1024;

/// What each process has used a GPU for, in nanoseconds; `None`: one that is not known.
pub type Uses = HashMap<Option<u32>, u64>;

/// What is known of the use of one GPU.
#[derive(Debug, Default)]
pub struct Told {
    /// What each process has used the GPU for.
    pub uses: Uses,
    /// In so many seconds.
    pub seconds: f64,
    /// Whether there are processes whose use is not available (`-`).
    pub is_partial: bool,
}

/// What is known of the processes, by GPU.
#[derive(Debug, Default)]
pub struct GpuProcesses {
    /// How many want to know.
    readers: AtomicUsize,
    /// Whether anyone ever did.
    was_read: AtomicBool,
    /// By the number in the rail's name.
    gpus: Mutex<BTreeMap<u32, Gpu>>,
}

#[derive(Debug)]
struct Gpu {
    /// What was told since this was last taken.
    told: Told,
    /// When the first line of the last interval was read, and the last one of all.
    report_at: Option<BootTime>,
    told_at: BootTime,
    /// Whether one was read since.
    is_new: bool,
}

impl GpuProcesses {
    /// Wants to know, until it is dropped.
    pub fn reader(self: &Arc<Self>) -> Reader {
        self.readers.fetch_add(1, Ordering::Relaxed);
        self.was_read.store(true, Ordering::Relaxed);
        Reader {
            processes: Arc::clone(self),
            last: BTreeMap::new(),
        }
    }

    /// Whether anyone wants to know; until anyone did, what is configured.
    fn are_wanted(&self, is_configured: bool) -> bool {
        match self.was_read.load(Ordering::Relaxed) {
            true => self.readers.load(Ordering::Relaxed) > 0,
            false => is_configured,
        }
    }

    /// Adds what a line says of a GPU. Returns how many processes were not told apart.
    pub(in crate::sources) fn add(&self, gpu: u32, found: Use, at: BootTime) -> u64 {
        let mut gpus = lock::lock(&self.gpus);
        let gpu = gpus.entry(gpu).or_insert_with(|| Gpu {
            told: Told::default(),
            report_at: None,
            told_at: at,
            is_new: false,
        });
        (gpu.told_at, gpu.is_new) = (at, true);
        let is_next = |begun: BootTime| at.seconds_since(begun) >= REPORT_SECONDS;
        if gpu.report_at.is_none_or(is_next) {
            gpu.report_at = Some(at);
            gpu.told.seconds += INTERVAL.as_secs_f64();
        }
        gpu.told.is_partial |= found.pid.is_some() && found.percent.is_none();
        let percent = found.percent.unwrap_or(0);
        if percent == 0 {
            return 0;
        }
        let uses = &mut gpu.told.uses;
        let has_room = uses.len() < MAX_PROCESSES || uses.contains_key(&found.pid);
        let pid = found.pid.filter(|_| has_room);
        let used = uses.entry(pid).or_default();
        *used = used.saturating_add(u64::from(percent) * NANOS_PER_PERCENT);
        u64::from(pid != found.pid)
    }

    /// Nothing is known any more.
    fn forget(&self) {
        lock::lock(&self.gpus).clear();
    }
}

/// Reads what the processes use. There is one reader at a time: what one has taken, another does not see.
#[derive(Debug)]
pub struct Reader {
    processes: Arc<GpuProcesses>,
    /// What was taken last, by GPU: it goes on until there is a new line.
    last: BTreeMap<u32, Told>,
}

impl Reader {
    /// Whether these are what it reads.
    pub fn is_of(&self, processes: &Arc<GpuProcesses>) -> bool {
        Arc::ptr_eq(&self.processes, processes)
    }

    /// What each process has used a GPU for since this was last asked, or before that, if nothing was said since. Empty if nothing
    /// is known of the GPU.
    pub fn take(&mut self, gpu: u32, now: BootTime) -> &Told {
        let mut gpus = lock::lock(&self.processes.gpus);
        let last = self.last.entry(gpu).or_default();
        match gpus.get_mut(&gpu) {
            Some(known) if now.seconds_since(known.told_at) <= MAX_AGE => {
                if std::mem::take(&mut known.is_new) {
                    *last = std::mem::take(&mut known.told);
                    known.report_at = None;
                }
            }
            _ => *last = Told::default(),
        }
        last
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.processes.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The program, which runs while it is wanted.
pub(super) struct Pmon {
    processes: Arc<GpuProcesses>,
    health: Arc<Health>,
    program: PathBuf,
    is_configured: bool,
    running: Option<Running>,
    said: Arc<Said>,
}

/// What was said of the program in the log.
#[derive(Debug, Default)]
struct Said {
    /// That it fails, and it has not been read since.
    is_failing: AtomicBool,
    /// That some of its lines are not understood.
    unparsed: AtomicBool,
}

/// The thread that reads the program.
struct Running {
    /// NVML's index and the rail's number of each GPU.
    gpus: Vec<(u32, u32)>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Pmon {
    /// It does not run yet. It never does with an I/O log: a recording has the readings of the meter alone.
    pub(super) fn new(context: &Context, program: &Path, is_configured: bool) -> Pmon {
        let processes = Arc::new(GpuProcesses::default());
        context.group.provide(Arc::clone(&processes));
        Pmon {
            processes,
            health: Arc::clone(&context.health),
            program: program.to_path_buf(),
            is_configured,
            running: None,
            said: Arc::default(),
        }
    }

    /// Has the program run if it is wanted, for the GPUs with these indexes and rails' numbers.
    pub(super) fn keep(&mut self, gpus: &[(u32, u32)]) {
        let is_wanted = self.health.io_log().is_off()
            && !gpus.is_empty()
            && self.processes.are_wanted(self.is_configured);
        if !is_wanted {
            return self.end();
        }
        if self.running.as_ref().is_some_and(|one| one.gpus == gpus) {
            return;
        }
        self.end();
        let stop = Arc::new(Stop::default());
        let work = Work {
            processes: Arc::clone(&self.processes),
            health: Arc::clone(&self.health),
            program: self.program.clone(),
            place: self.place(),
            gpus: gpus.to_vec(),
            stop: Arc::clone(&stop),
            said: Arc::clone(&self.said),
        };
        // Until it has said something, that is what is known.
        self.health.set_asking(true);
        let silent = Some(format!("{NAME} has said nothing yet"));
        self.health.set_value_error(&self.place(), silent);
        let spawned = std::thread::Builder::new()
            .name(NAME.to_string())
            .stack_size(STACK_BYTES)
            .spawn(move || work.run());
        match spawned {
            Ok(thread) => {
                self.running = Some(Running {
                    gpus: gpus.to_vec(),
                    stop,
                    thread: Some(thread),
                });
            }
            Err(error) => {
                self.health.set_asking(false);
                let error = format!("cannot start a thread for {NAME}: {error}");
                if !self.said.is_failing.swap(true, Ordering::Relaxed) {
                    log::error!("{error}");
                }
                self.health.set_value_error(&self.place(), Some(error));
            }
        }
    }

    /// Ends the program.
    pub(super) fn end(&mut self) {
        if self.running.take().is_some() {
            self.processes.forget();
            self.health.set_asking(false);
            self.health.set_value_error(&self.place(), None);
        }
    }

    /// What stands for the program among the health's values.
    fn place(&self) -> PathBuf {
        self.program.join("pmon")
    }
}

/// What the thread does.
struct Work {
    processes: Arc<GpuProcesses>,
    health: Arc<Health>,
    program: PathBuf,
    place: PathBuf,
    gpus: Vec<(u32, u32)>,
    stop: Arc<Stop>,
    said: Arc<Said>,
}

impl Work {
    fn run(&self) {
        let mut delay = MIN_DELAY;
        while let Err(error) = self.read(&mut delay) {
            self.processes.forget();
            self.health.count_error();
            let error = format!("{error}; meanwhile no process has a part of the GPUs' energy");
            if !self.said.is_failing.swap(true, Ordering::Relaxed) {
                log::warn!("nvidia: {error}");
            }
            self.health.set_value_error(&self.place, Some(error));
            self.health.set_asking(false);
            if self.stop.wait_until(Instant::now() + delay) == Woken::Stop {
                return;
            }
            delay = (delay * 2).min(MAX_DELAY);
        }
    }

    /// Reads what the program prints, until it fails or has to end.
    fn read(&self, delay: &mut Duration) -> Result<(), Error> {
        let max_lines = Some((MAX_LINES, Duration::ZERO));
        let command = self.command();
        let mut printer = Printer::start(&IoLog::default(), NAME, command, INTERVAL, max_lines)?;
        let mut parser = Parser::default();
        // nvidia-smi prints errors to stdout, like readings.
        let mut unparsed: Option<String> = None;
        loop {
            let printed = match printer.next_line(&self.stop) {
                Ok(Some(printed)) => printed,
                Ok(None) => return Ok(()),
                Err(error) => {
                    return Err(match unparsed {
                        Some(line) => Error::new(format!("{error}; it prints: {line}")),
                        None => error,
                    });
                }
            };
            for _ in 0..printed.overlong {
                self.health.count_error();
            }
            let text = String::from_utf8_lossy(printed.text);
            match parser.parse(&text) {
                Some(Line::Header) => {}
                Some(Line::Use(found)) => {
                    *delay = MIN_DELAY;
                    self.add(found, printed.at);
                }
                None if text.trim().is_empty() => {}
                None => {
                    let plain = |c: char| if c.is_control() { ' ' } else { c };
                    let line: String = text.chars().take(200).map(plain).collect();
                    self.pass_over(&line);
                    unparsed = Some(line);
                }
            }
        }
    }

    /// Counts a line that is not understood, and says so of the first one.
    fn pass_over(&self, line: &str) {
        self.health.count_unparsed(1);
        let error = format!("{NAME} prints what is not understood: {line}");
        if self.health.has_value_error(&self.place) {
            self.health
                .set_value_error(&self.place, Some(error.clone()));
        }
        if !self.said.unparsed.swap(true, Ordering::Relaxed) {
            log::warn!("nvidia: {error}");
        }
    }

    fn add(&self, found: Use, at: BootTime) {
        let known = self.gpus.iter().find(|(index, _)| *index == found.gpu);
        let Some((_, number)) = known else {
            return self.pass_over(&format!("a line of GPU {}", found.gpu));
        };
        let beyond = self.processes.add(*number, found, at);
        self.health.left_out("gpu_processes", beyond, || {
            format!("nvidia_gpu_{number} has more than {MAX_PROCESSES} processes: what the rest uses is counted as other's")
        });
        if self.health.has_value_error(&self.place) {
            self.health.set_value_error(&self.place, None);
            self.health.set_asking(false);
            if self.said.is_failing.swap(false, Ordering::Relaxed) {
                log::info!("nvidia: {NAME} is read");
            }
        }
    }

    /// All GPUs are named: without that, some versions tell of the first four only.
    fn command(&self) -> Command {
        let indexes: Vec<_> = self
            .gpus
            .iter()
            .map(|(index, _)| index.to_string())
            .collect();
        let mut command = Command::new(&self.program);
        command.args(["pmon", "-s", "u", "-d", "1", "-i", &indexes.join(",")]);
        command.env("LC_ALL", "C");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(second: u64) -> BootTime {
        BootTime(second * SECOND)
    }

    fn of(pid: u32, percent: u32) -> Use {
        Use {
            gpu: 0,
            pid: Some(pid),
            percent: Some(percent),
        }
    }

    fn sorted(told: &Told) -> Vec<(Option<u32>, u64)> {
        let mut uses: Vec<_> = told
            .uses
            .iter()
            .map(|(pid, nanos)| (*pid, *nanos))
            .collect();
        uses.sort_unstable();
        uses
    }

    #[test]
    fn use_is_added_up_by_gpu_and_process_and_taken_once() {
        let processes = Arc::new(GpuProcesses::default());
        let mut reader = processes.reader();
        assert!(reader.take(0, at(1)).uses.is_empty());
        for second in 1..=2 {
            processes.add(0, of(7, 75), at(second));
            processes.add(0, of(8, 25), at(second));
            processes.add(1, of(7, 10), at(second));
        }
        let expected = [(Some(7), 1_500_000_000), (Some(8), 500_000_000)];
        assert_eq!(sorted(reader.take(0, at(2))), expected);
        assert_eq!(sorted(reader.take(1, at(2))), [(Some(7), 200_000_000)]);
        assert!(reader.take(2, at(2)).uses.is_empty());
        processes.add(0, of(9, 1), at(3));
        assert_eq!(sorted(reader.take(0, at(3))), [(Some(9), 10_000_000)]);
    }

    #[test]
    fn what_was_said_last_goes_on_for_five_seconds() {
        let processes = Arc::new(GpuProcesses::default());
        let mut reader = processes.reader();
        processes.add(0, of(7, 50), at(10));
        let expected = [(Some(7), 500_000_000)];
        for second in [10, 11, 15] {
            assert_eq!(sorted(reader.take(0, at(second))), expected, "{second}");
        }
        assert!(reader.take(0, at(16)).uses.is_empty());
        // Said since: nobody uses it.
        processes.add(0, of(7, 50), at(20));
        assert_eq!(sorted(reader.take(0, at(20))), expected);
        let nobody = Use {
            gpu: 0,
            pid: None,
            percent: None,
        };
        processes.add(0, nobody, at(21));
        assert!(reader.take(0, at(21)).uses.is_empty());
        processes.add(0, of(7, 50), at(22));
        processes.forget();
        assert!(reader.take(0, at(22)).uses.is_empty());
    }

    #[test]
    fn it_is_known_for_how_long_it_was_told() {
        let processes = Arc::new(GpuProcesses::default());
        let mut reader = processes.reader();
        assert_eq!(reader.take(0, at(1)).seconds, 0.0);
        for second in 1..=3 {
            let begin = second * SECOND;
            for (pid, after) in [(7, 0), (8, 1_000_000), (9, 20_000_000)] {
                processes.add(0, of(pid, 10), BootTime(begin + after));
            }
        }
        assert_eq!(reader.take(0, at(4)).seconds, 3.0);
        assert_eq!(reader.take(0, at(5)).seconds, 3.0, "it is the same again");
        processes.add(0, of(7, 50), at(6));
        assert_eq!(reader.take(0, at(6)).seconds, 1.0);
    }

    #[test]
    fn use_that_is_not_available_is_not_none() {
        let processes = Arc::new(GpuProcesses::default());
        let mut reader = processes.reader();
        let untold = Use {
            gpu: 0,
            pid: Some(8),
            percent: None,
        };
        processes.add(0, of(7, 50), at(1));
        assert!(!reader.take(0, at(1)).is_partial);
        processes.add(0, of(7, 50), at(2));
        processes.add(0, untold, at(2));
        let told = reader.take(0, at(2));
        assert!(told.is_partial);
        assert_eq!(sorted(told), [(Some(7), 500_000_000)]);
        // A GPU without processes has none that is not available.
        processes.add(
            0,
            Use {
                pid: None,
                ..untold
            },
            at(3),
        );
        assert!(!reader.take(0, at(3)).is_partial);
    }

    #[test]
    fn processes_beyond_the_limit_are_unknown_ones() {
        let processes = Arc::new(GpuProcesses::default());
        let mut reader = processes.reader();
        let mut beyond = 0;
        for pid in 1..=MAX_PROCESSES as u32 + 3 {
            beyond += processes.add(0, of(pid, 1), at(1));
        }
        assert_eq!(beyond, 3);
        let uses = &reader.take(0, at(1)).uses;
        assert_eq!(uses.len(), MAX_PROCESSES + 1);
        assert_eq!(uses[&None], 3 * NANOS_PER_PERCENT);
    }

    #[test]
    fn they_are_wanted_as_configured_until_there_is_a_reader() {
        let processes = Arc::new(GpuProcesses::default());
        assert!(processes.are_wanted(true) && !processes.are_wanted(false));
        let first = processes.reader();
        assert!(first.is_of(&processes) && processes.are_wanted(false));
        let second = processes.reader();
        drop(first);
        assert!(processes.are_wanted(false));
        drop(second);
        assert!(!processes.are_wanted(true));
    }
}
