//! A simulated board for trying the exporter on a laptop. The board is read through the real interfaces: a sysfs tree whose
//! files change, and a `tegrastats` process (this binary under that name).

mod load;
mod tegrastats;
mod workloads;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{symlink, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use tegrastats::run as tegrastats;

use crate::sources::Roots;
use crate::sys::clock::BootTime;
use crate::sys::stop::{Stop, Woken};
use workloads::Workloads;

/// The update interval of the simulated hardware.
const STEP: Duration = Duration::from_millis(50);
/// The `max_energy_range_uj` of many processors: about 2^32 times 61 µJ.
const ENERGY_RANGE: u64 = 262_143_328_850;

/// The demo's configuration, where none is given.
pub const CONFIG: &str = "workloads: {enabled: true}\n";

/// Files with constant content: path and content.
const STATIC_FILES: &[(&str, &str)] = &[
    (
        "proc/device-tree/model",
        "NVIDIA Jetson Orin NX (simulated)\0",
    ),
    ("proc/sys/kernel/hostname", "demo\n"),
    ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
    (
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
        "262143328850\n",
    ),
    ("sys/class/powercap/intel-rapl:0:0/name", "core\n"),
    (
        "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj",
        "262143328850\n",
    ),
    ("sys/class/powercap/intel-rapl:0:1/name", "dram\n"),
    (
        "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj",
        "65712999613\n",
    ),
    ("sys/devices/platform/i2c/i2c-1/1-0040/name", "ina226\n"),
    ("sys/class/power_supply/usb-c/type", "USB\n"),
    ("sys/class/power_supply/usb-c/online", "1\n"),
    ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
    ("sys/class/thermal/thermal_zone1/type", "board-thermal\n"),
    ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
    ("sys/devices/system/cpu/online", "0-7\n"),
    (
        "proc/meminfo",
        "MemTotal: 15895552 kB\nMemFree: 8912345 kB\nMemAvailable: 12345678 kB\nSwapTotal: 7947776 kB\nSwapFree: 7947776 kB\n",
    ),
    ("proc/self/mounts", "/dev/nvme0n1p1 / ext4 rw 0 0\n"),
];

/// The directory of the simulated I2C chip.
const CHIP: &str = "sys/devices/platform/i2c/i2c-1/1-0040";

/// The directory with the clock of the first processor.
const CLOCK: &str = "sys/devices/system/cpu/cpu0/cpufreq";

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
    /// Creates the board in a new temporary directory and starts updating its files.
    pub fn build() -> Result<Board, String> {
        let dir = std::env::temp_dir().join(format!("edge-metrics-demo-{}", std::process::id()));
        let mut board = Board {
            dir,
            stop: Arc::default(),
            thread: None,
        };
        let hardware = board
            .create_files()
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

    fn create_files(&self) -> std::io::Result<Hardware> {
        // An existing directory is refused: another user may have created it to redirect our writes.
        fs::create_dir(&self.dir)?;
        for (path, content) in STATIC_FILES {
            let path = self.dir.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)?;
        }
        for dir in ["dev", "bin", "sys/class/hwmon"] {
            fs::create_dir_all(self.dir.join(dir))?;
        }
        let chip = self.dir.join(CHIP);
        let hwmon = chip.join("hwmon/hwmon0");
        fs::create_dir_all(&hwmon)?;
        symlink("../..", hwmon.join("device"))?;
        fs::rename(chip.join("name"), hwmon.join("name"))?;
        symlink(&hwmon, self.dir.join("sys/class/hwmon/hwmon0"))?;
        symlink(std::env::current_exe()?, self.dir.join("bin/tegrastats"))?;
        fs::write(self.dir.join("proc/cpuinfo"), workloads::cpuinfo())?;
        fs::create_dir_all(self.dir.join(CLOCK))?;
        Hardware::build(&self.dir)
    }
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

/// A value as a function of the boot-time clock, in seconds.
type Curve = fn(f64) -> f64;

/// The files with changing content.
struct Hardware {
    gauges: Vec<(File, Curve)>,
    counters: Vec<Counter>,
    workloads: Workloads,
}

struct Counter {
    file: File,
    watts: Curve,
    range: u64,
    microjoules: f64,
}

impl Hardware {
    fn build(dir: &Path) -> std::io::Result<Hardware> {
        let file = |path: &str| File::create(dir.join(path));
        let zone = |zone: &str| file(&format!("sys/class/powercap/{zone}/energy_uj"));
        let chip = |name: &str| file(&format!("{CHIP}/hwmon/hwmon0/{name}"));
        let gauges: Vec<(File, Curve)> = vec![
            (chip("in1_input")?, |t| load::input_volts(t) * 1e3),
            (chip("curr1_input")?, |t| {
                load::input_watts(t) / load::input_volts(t) * 1e3
            }),
            (chip("power1_input")?, |t| load::input_watts(t) * 1e6),
            (file("sys/class/power_supply/usb-c/voltage_now")?, |_| 5.1e6),
            (file("sys/class/power_supply/usb-c/current_now")?, |t| {
                load::input_watts(t) / 5.1 * 1e6
            }),
            (file("sys/class/thermal/thermal_zone0/temp")?, |t| {
                load::celsius(t) * 1e3
            }),
            (file("sys/class/thermal/thermal_zone1/temp")?, |t| {
                (30.0 + load::celsius(t) / 10.0) * 1e3
            }),
            (file(&format!("{CLOCK}/scaling_cur_freq"))?, |t| {
                729e3 + 1_200e3 * load::busy(t)
            }),
        ];
        let counter = |name: &str, watts: Curve, range: u64| {
            std::io::Result::Ok(Counter {
                file: zone(name)?,
                watts,
                range,
                microjoules: 0.0,
            })
        };
        let mut hardware = Hardware {
            gauges,
            counters: vec![
                counter("intel-rapl:0", load::package_watts, ENERGY_RANGE)?,
                counter(
                    "intel-rapl:0:0",
                    |t| load::package_watts(t) * 0.6,
                    ENERGY_RANGE,
                )?,
                counter("intel-rapl:0:1", load::memory_watts, 65_712_999_613)?,
            ],
            workloads: Workloads::build(dir)?,
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
                log::warn!("the demo's hardware stands still: {error}");
            }
            last = now;
        }
    }

    fn step(&mut self, now: BootTime, seconds: f64) -> std::io::Result<()> {
        let t = now.0 as f64 / 1e9;
        for (file, value) in &self.gauges {
            overwrite(file, value(t) as i64)?;
        }
        for counter in &mut self.counters {
            let grown = counter.microjoules + (counter.watts)(t) * seconds * 1e6;
            counter.microjoules = grown % counter.range as f64;
            overwrite(&counter.file, counter.microjoules as i64)?;
        }
        self.workloads.step(t, seconds)
    }
}

/// Overwrites a number in place by a single write of constant length, so that a reader never sees a part of it.
fn overwrite(file: &File, value: i64) -> std::io::Result<()> {
    file.write_all_at(format!("{value:>20}\n").as_bytes(), 0)
}
