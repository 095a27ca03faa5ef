//! Simulated boards for trying the exporter on a laptop. A board is read through the real interfaces: a sysfs tree whose files
//! change, and a `tegrastats` process (this binary under that name). `boards` has the kinds of boards, `fleet` runs many.

mod boards;
pub mod fleet;
mod load;
mod tegrastats;
mod workloads;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{symlink, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use boards::{Kind, KINDS};
pub use tegrastats::run as tegrastats;

use crate::sources::Roots;
use crate::sys::clock::BootTime;
use crate::sys::stop::{Stop, Woken};
use boards::Curve;
use workloads::Workloads;

/// The update interval of the simulated hardware.
const STEP: Duration = Duration::from_millis(50);
/// The name of the board, where none is given.
const NAME: &str = "demo";

/// Whether this binary was started as `tegrastats`.
pub fn is_tegrastats(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new("tegrastats"))
}

/// The simulated board. Its files are removed on drop.
pub struct Board {
    dir: PathBuf,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Board {
    /// Creates the board in a new temporary directory and starts updating its files. `name` is its host name.
    pub fn build(kind: &Kind, name: Option<&str>) -> Result<Board, String> {
        let dir = std::env::temp_dir().join(format!("edge-metrics-demo-{}", std::process::id()));
        let mut board = Board {
            dir,
            stop: Arc::default(),
            thread: None,
        };
        let hardware = board
            .create_files(kind, name.unwrap_or(NAME))
            .map_err(|e| format!("cannot build the demo in {}: {e}", board.dir.display()))?;
        let stop = Arc::clone(&board.stop);
        let thread = std::thread::Builder::new()
            .name("demo".to_string())
            .stack_size(64 * 1024)
            .spawn(move || hardware.run(&stop))
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        board.thread = Some(thread);
        Ok(board)
    }

    /// The directories of the simulated files.
    pub fn roots(&self) -> Roots {
        Roots {
            sysfs: self.dir.join("sys"),
            procfs: self.dir.join("proc"),
            dev: self.dir.join("dev"),
            programs: Some(self.dir.join("bin")),
        }
    }

    fn create_files(&self, kind: &Kind, name: &str) -> io::Result<Hardware> {
        // An existing directory is refused: another user may have created it to redirect our writes.
        fs::create_dir(&self.dir)?;
        for dir in ["sys", "proc", "dev", "bin"] {
            fs::create_dir(self.dir.join(dir))?;
        }
        let hostname = format!("{name}\n");
        let files = kind.files.iter().copied();
        for (path, content) in files.chain([(load::HOSTNAME, hostname.as_str())]) {
            fs::write(new_path(&self.dir, path)?, content)?;
        }
        for (path, target) in kind.links {
            symlink(target, new_path(&self.dir, path)?)?;
        }
        if kind.has_tegrastats {
            symlink(std::env::current_exe()?, self.dir.join("bin/tegrastats"))?;
        }
        Hardware::build(kind, &self.dir, load::phase(name))
    }
}

/// A path below `dir`, whose folders are created.
fn new_path(dir: &Path, path: &str) -> io::Result<PathBuf> {
    let path = dir.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(path)
}

impl Drop for Board {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            log::warn!("cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// The files with changing content.
struct Hardware {
    gauges: Vec<(File, Curve)>,
    counters: Vec<Counter>,
    workloads: Option<Workloads>,
    /// How far the board's load is ahead of that of a board without a number in its name, in seconds.
    phase: f64,
}

struct Counter {
    file: File,
    watts: Curve,
    range: u64,
    microjoules: f64,
}

impl Hardware {
    fn build(kind: &Kind, dir: &Path, phase: f64) -> io::Result<Hardware> {
        let file = |path: &str| File::create(new_path(dir, path)?);
        let gauges = kind.gauges.iter();
        let gauges = gauges.map(|(path, value)| Ok((file(path)?, *value)));
        let counters = kind.counters.iter().map(|(path, watts, range)| {
            Ok(Counter {
                file: file(path)?,
                watts: *watts,
                range: *range,
                microjoules: 0.0,
            })
        });
        let workloads = || {
            fs::write(dir.join("proc/cpuinfo"), boards::cpuinfo())?;
            Workloads::build(dir)
        };
        let mut hardware = Hardware {
            gauges: gauges.collect::<io::Result<_>>()?,
            counters: counters.collect::<io::Result<_>>()?,
            workloads: kind.has_workloads.then(workloads).transpose()?,
            phase,
        };
        hardware.step(BootTime::now(), 0.0)?;
        Ok(hardware)
    }

    fn run(mut self, stop: &Stop) {
        let mut last = BootTime::now();
        let mut next = Instant::now();
        loop {
            next += STEP;
            if stop.wait_until(next) == Woken::Stop {
                return;
            }
            let now = BootTime::now();
            if let Err(error) = self.step(now, now.seconds_since(last)) {
                log::warn!("the demo's simulated hardware has stopped: {error}");
            }
            last = now;
        }
    }

    fn step(&mut self, now: BootTime, seconds: f64) -> io::Result<()> {
        let t = load::time(now, self.phase);
        for (file, value) in &self.gauges {
            overwrite(file, value(t) as i64)?;
        }
        for counter in &mut self.counters {
            let grown = counter.microjoules + (counter.watts)(t) * seconds * 1e6;
            counter.microjoules = grown % counter.range as f64;
            overwrite(&counter.file, counter.microjoules as i64)?;
        }
        match &mut self.workloads {
            Some(workloads) => workloads.step(t, seconds),
            None => Ok(()),
        }
    }
}

/// Overwrites a number in place by a single write of constant length, so that a reader never sees a part of it.
fn overwrite(file: &File, value: i64) -> io::Result<()> {
    file.write_all_at(format!("{value:>20}\n").as_bytes(), 0)
}
