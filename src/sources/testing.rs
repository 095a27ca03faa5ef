//! For the meters' tests: a tree of files in a temporary directory, and a bench on which a meter is opened and polled at
//! times that the test sets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::io_log::{IoLogs, Recording, Step};
use super::runner::rescan;
use super::{Board, Context, Device, Error, Health, Meter, Roots, RunningSource, Source};
use crate::config::Config;
use crate::metrics::{Group, Policy, Readings, Registry};
use crate::sys::clock::BootTime;
use crate::sys::stop::Stop;
use crate::sys::temp_dir::TempDir;

/// Files in a temporary directory, which is removed on drop. Paths are relative: `sys/class/…`, `proc/…`, `dev/…`.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// A tree with these files, as (path, content).
    pub(crate) fn new(files: &[(&str, &str)]) -> Tree {
        let tree = Tree(TempDir::new());
        for dir in ["sys", "proc", "dev"] {
            std::fs::create_dir_all(tree.path(dir)).unwrap();
        }
        for (path, content) in files {
            tree.write(path, content);
        }
        tree
    }

    /// The absolute path of a file in the tree.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// The roots of a board whose files are this tree.
    pub(crate) fn roots(&self) -> Roots {
        Roots {
            sysfs: self.path("sys"),
            procfs: self.path("proc"),
            dev: self.path("dev"),
            programs: None,
        }
    }

    /// Writes a file. An existing file keeps its inode, as a kernel attribute does.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.make_parent(path), content).unwrap();
    }

    /// Makes a FIFO, on which a plain open or read blocks forever.
    pub(crate) fn fifo(&self, path: &str) {
        nix::unistd::mkfifo(&self.make_parent(path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    /// Makes a symbolic link; `target` is relative to the tree.
    pub(crate) fn link(&self, path: &str, target: &str) {
        std::os::unix::fs::symlink(self.path(target), self.make_parent(path)).unwrap();
    }

    /// Removes a file, a link or a folder.
    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Renames a file or folder within the tree.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.make_parent(to)).unwrap();
    }

    fn make_parent(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        path
    }
}

/// The series that a meter exports at the end of the recording in `dir`, replayed by the runner.
pub(crate) fn replayed(dir: &Path, meter: &'static Meter) -> Vec<String> {
    let recording = Arc::new(Recording::open(dir, true).unwrap());
    let (roots, config) = (recording.roots(), recording.config().clone());
    let bench = Bench::with_io_log(meter, roots, config, &IoLogs::Replay(recording));
    let running = RunningSource::start(meter, bench.context.clone());
    running.join(Instant::now() + Duration::from_secs(60));
    bench.lines()
}

/// A meter that reads a tree, with a registry of its own.
pub(crate) struct Bench {
    /// The context that the meter is opened with.
    pub(crate) context: Context,
    meter: &'static Meter,
    registry: Arc<Registry>,
    generation: u64,
    readings: Readings,
    source: Option<Box<dyn Source>>,
}

impl Bench {
    /// A bench with the meter on this tree, not open yet. As at an interval of 1 s, gaps of more than 5 s are not
    /// integrated.
    pub(crate) fn new(meter: &'static Meter, tree: &Tree, config: Config) -> Bench {
        Bench::with_io_log(meter, tree.roots(), config, &IoLogs::Off)
    }

    /// As [`Bench::new`], with these roots and I/O logs.
    pub(crate) fn with_io_log(
        meter: &'static Meter,
        roots: Roots,
        config: Config,
        io_logs: &IoLogs,
    ) -> Bench {
        let registry = Arc::new(Registry::new(Policy::All));
        let group: Arc<Group> = registry.add_group(0, meter.name, vec![]);
        Bench {
            generation: group.new_generation(),
            context: Context {
                board: Arc::new(Board::detect_with(roots, io_logs.for_board())),
                interval: config.interval,
                config: Arc::new(config),
                device: Device::default(),
                group,
                registry: Arc::clone(&registry),
                health: Arc::new(Health::with_io_log(io_logs.for_source(meter.name))),
                stop: Arc::new(Stop::default()),
            },
            meter,
            registry,
            readings: Readings::new(5.0),
            source: None,
        }
    }

    /// A bench with the default settings and the meter open.
    pub(crate) fn open(meter: &'static Meter, tree: &Tree) -> Bench {
        let mut bench = Bench::new(meter, tree, Config::default());
        bench.reopen().unwrap();
        bench
    }

    /// Opens the meter. If it is open, it is closed first.
    pub(crate) fn reopen(&mut self) -> Result<(), Error> {
        self.source = None;
        self.context.health.io_log().begin_step(Step::Open);
        self.source = Some((self.meter.open)(&self.context)?);
        Ok(())
    }

    /// The result of the meter's probe.
    pub(crate) fn probe(&self) -> Result<String, Error> {
        (self.meter.probe)(&self.context.board, &self.context.config)
    }

    /// Polls at this second of the boot-time clock and publishes. Returns the exported series, as [`Bench::lines`].
    pub(crate) fn poll(&mut self, second: f64) -> Vec<String> {
        self.try_poll(second).unwrap();
        self.lines()
    }

    /// Polls at this second, and publishes unless the poll fails.
    pub(crate) fn try_poll(&mut self, second: f64) -> Result<(), Error> {
        let mut source = self.source.take().expect("the meter is open");
        let polled = self.poll_with(second, |out| source.poll(out));
        self.source = Some(source);
        polled
    }

    /// As [`Bench::try_poll`], with `poll` instead of the meter's poll.
    pub(crate) fn poll_with(
        &mut self,
        second: f64,
        poll: impl FnOnce(&mut Readings) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.poll_at(BootTime((second * 1e9) as u64), poll)
    }

    fn poll_at(
        &mut self,
        at: BootTime,
        poll: impl FnOnce(&mut Readings) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.readings.begin(at);
        poll(&mut self.readings)?;
        let Context { health, group, .. } = &self.context;
        health.record_refused(self.meter.name, group, &self.readings);
        self.context.group.publish(self.generation, &self.readings);
        Ok(())
    }

    /// Polls now, as the runner does, and publishes unless the poll fails.
    pub(crate) fn tick(&mut self) -> Result<(), Error> {
        let began = self.context.health.io_log().begin_step(Step::Poll);
        let mut source = self.source.take().expect("the meter is open");
        let polled = self.poll_at(began, |out| source.poll(out));
        self.source = Some(source);
        polled
    }

    /// Lets the source look for devices that were added or removed.
    pub(crate) fn rescan(&mut self) {
        self.context.health.io_log().begin_step(Step::Rescan);
        let source = self.source.as_mut().expect("the meter is open");
        rescan(&mut **source, &self.context.health);
    }

    /// The exported series: `name{label="value",…} value`, sorted. The board's energy is left out, since it is the same
    /// for every meter that knows the board's power.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = self.all_lines();
        lines.retain(|line| !line.starts_with("board_energy_joules_total"));
        lines
    }

    fn all_lines(&self) -> Vec<String> {
        let now = self.context.group.read_at().unwrap_or_default();
        let snapshot = self.registry.snapshot(now);
        let mut lines: Vec<_> = snapshot
            .families()
            .flat_map(|family| family.samples().collect::<Vec<_>>())
            .map(|(series, value)| format!("{}{value}", series.prefix))
            .collect();
        lines.sort();
        lines
    }

    /// The exported value of the series `name{label="value",…}`.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.all_lines().iter().find_map(|line| {
            let value = line.strip_prefix(series)?.strip_prefix(' ')?;
            value.parse().ok()
        })
    }
}
