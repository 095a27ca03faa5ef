//! NVIDIA GPUs, read with one permanent `nvidia-smi --query-gpu=… --loop-ms=N`, which prints a line per GPU every interval.
//!
//! * **The rail** of a GPU is `nvidia_gpu_N`, as in pyJoules. N is NVML's index. `power_gpu_watts` is exported if there is
//!   only one GPU.
//! * **Energy** is the driver's counter if nvidia-smi has it, or else integrated power. Fields that this version of nvidia-smi
//!   does not know are left out of the query.
//! * **A GPU that is no longer listed** by nvidia-smi is absent, and reported in the log and by `doctor`. The other GPUs keep
//!   their numbers: N is the index at which a GPU, identified by its UUID, was first seen.
//! * **A suspended GPU** would be resumed by nvidia-smi, which therefore does not run in the meantime; see `sleep`.
//!   `nvidia.wake_suspended` runs it nevertheless.
//! * **Which processes use a GPU** is read with `nvidia-smi pmon`, beside the other, where energy is attributed to workloads; see
//!   `processes`.
//! * **The GPU of a Jetson** has no power in nvidia-smi. The meters of the Jetson's rails read it, and this meter does not run.

pub mod line;
pub mod pmon;
pub mod processes;
mod series;
pub mod settings;
mod sleep;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use line::{Gpu, FIELDS, MAX_GPUS};
use processes::Pmon;
use series::GpuSeries;
use settings::Settings;
use sleep::Sleep;

use super::io_log::{files, IoLog};
use super::jetson::is_jetson;
use super::pipe::Printer;
use super::program::Program;
use super::workloads;
use super::{Board, Context, Error, Health, Meter, Pace, Roots, Source};
use crate::config::Config;
use crate::metrics::Readings;
use crate::sys::clock::BootTime;

/// The meter.
pub(super) const METER: Meter = Meter {
    pace: Pace::Device,
    ..Meter::of::<Settings>(
        "nvidia",
        "NVIDIA GPUs: power, temperature and utilisation, by nvidia-smi",
        |config| config.meter::<Settings>().enabled,
        probe,
        open,
    )
};

const PROGRAM: Program = Program {
    name: "nvidia-smi",
    usual_place: "/usr/bin/nvidia-smi",
    setting: "nvidia.nvidia_smi",
    hint: "it comes with NVIDIA's driver; set nvidia.nvidia_smi",
};
/// The driver averages power over a tenth of a second or longer.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The additional time for the first line. Without NVIDIA's persistence daemon each GPU is initialised first, which takes
/// seconds.
const STARTUP_TIME: Duration = Duration::from_secs(30);

fn program(io_log: &IoLog, roots: &Roots, config: &Config) -> Result<PathBuf, Error> {
    let settings: Settings = config.meter();
    PROGRAM.find(io_log, roots, settings.nvidia_smi.as_deref())
}

fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    if is_jetson(board, config) {
        return Err(Error::new(
            "nvidia-smi does not tell a Jetson's power: see ina3221 and tegrastats",
        ));
    }
    // The program alone may come from a package, without a driver. On Windows (WSL) the driver is behind dxg.
    let roots = &board.roots;
    let driver = roots.procfs.join("driver/nvidia");
    let others = ["nvidiactl", "dxg"].map(|name| roots.dev.join(name));
    let is_there = |path: &PathBuf| files::exists(&board.io_log, path);
    if !is_there(&driver) && !others.iter().any(is_there) {
        let driver = driver.display();
        return Err(Error::new(format!(
            "there is no {driver}: NVIDIA's driver is not loaded"
        )));
    }
    program(&board.io_log, &board.roots, config).map(|path| path.display().to_string())
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let mut sleep = Sleep::new();
    if manages_power(context) {
        sleep.rescan(&context.health, &context.board);
    }
    let program = program(
        context.health.io_log(),
        &context.board.roots,
        &context.config,
    )?;
    let is_configured = workloads::use_gpu_processes(&context.config);
    Ok(Box::new(Nvidia {
        sleep,
        pmon: Pmon::new(context, &program, is_configured),
        listed: Vec::new(),
        program,
        fields: FIELDS.to_vec(),
        pipe: None,
        next_reading: None,
        unparsed_line: None,
        gpus: Vec::new(),
        max_gpus: 0,
        context: context.clone(),
    }))
}

/// Whether the GPUs' power management decides when the program runs. It does not when replaying, which resumes no GPU.
fn manages_power(context: &Context) -> bool {
    !context.config.meter::<Settings>().wake_suspended && context.health.io_log().replay().is_none()
}

struct Nvidia {
    context: Context,
    program: PathBuf,
    /// The fields of the query.
    fields: Vec<&'static str>,
    /// Started at the first poll.
    pipe: Option<Printer>,
    /// The first line of the next reading.
    next_reading: Option<(BootTime, String)>,
    /// The last line that could not be parsed, until it is reported.
    unparsed_line: Option<String>,
    gpus: Vec<GpuSeries>,
    /// The largest number of GPUs so far.
    max_gpus: u32,
    sleep: Sleep,
    pmon: Pmon,
    /// The indexes and places of the GPUs in the current reading.
    listed: Vec<(u32, u32)>,
}

impl Nvidia {
    /// The program's next line. `None` when the source must stop.
    fn next_line(&mut self) -> Result<Option<(BootTime, String)>, Error> {
        if let Some(line) = self.next_reading.take() {
            return Ok(Some(line));
        }
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            None => self.pipe.insert(start(
                self.context.health.io_log(),
                &self.program,
                &self.fields,
                self.context.interval,
            )?),
        };
        let printed = match pipe.next_line(&self.context.stop) {
            Ok(Some(printed)) => printed,
            Ok(None) => return Ok(None),
            // nvidia-smi prints errors to stdout, like readings.
            Err(error) => {
                self.end();
                return Err(self.with_unparsed_line(&error));
            }
        };
        for _ in 0..printed.overlong {
            self.context.health.count_error();
        }
        let text = String::from_utf8_lossy(printed.text).into_owned();
        Ok(Some((printed.at, text)))
    }

    /// Adds the last line that could not be parsed to the error, since it usually gives the reason.
    fn with_unparsed_line(&mut self, error: &Error) -> Error {
        match self.unparsed_line.take() {
            Some(line) => Error::new(format!("{error}; it prints: {line}")),
            None => Error::new(error.to_string()),
        }
    }

    /// Leaves a field out of the query. Returns false if the field was not in the query or is needed.
    fn leave_out(&mut self, field: &str) -> bool {
        // All versions have the first two fields, which identify the GPU.
        let place = self.fields.iter().skip(2).position(|f| *f == field);
        let Some(place) = place else { return false };
        self.fields.remove(place + 2);
        log::debug!("{}: it does not know {field}", PROGRAM.name);
        // The program has ended by itself.
        self.pipe = None;
        true
    }

    /// Ends the programs. They are started again by the next poll that may run them.
    fn end(&mut self) {
        self.pipe = None;
        self.next_reading = None;
        self.pmon.end();
    }

    fn set(&mut self, out: &mut Readings, gpu: &Gpu<'_>) {
        let place = self.place(gpu);
        self.listed.push((gpu.index, place as u32));
        while self.gpus.len() <= place {
            self.gpus.push(GpuSeries::new(self.gpus.len() as u32));
        }
        let is_alone = self.max_gpus.max(self.gpus.len() as u32) == 1;
        if let Some(series) = self.gpus.get_mut(place) {
            series.set(&self.context.group, out, gpu, is_alone);
        }
    }

    /// The GPU's place in the list, which does not change when its index does: indices change when another GPU is lost.
    fn place(&self, gpu: &Gpu<'_>) -> usize {
        let index = gpu.index as usize;
        let Some(uuid) = gpu.uuid else { return index };
        let known = self.gpus.iter().position(|g| g.uuid() == Some(uuid));
        let is_taken = self.gpus.get(index).is_some_and(|g| g.uuid().is_some());
        match known {
            Some(place) => place,
            None if is_taken && self.gpus.len() < MAX_GPUS as usize => self.gpus.len(),
            None => index,
        }
    }

    /// Reports, after a reading of `listed` of `count` GPUs, which GPUs are missing or faulty, and what else was printed.
    fn complete(&mut self, listed: u32, count: u32) {
        let health = &self.context.health;
        for gpu in &mut self.gpus {
            let place = self.program.join(gpu.rail());
            gpu.complete(PROGRAM.name, health, &place);
        }
        let unknown = count.saturating_sub(self.gpus.len() as u32);
        let all = self.program.join("all GPUs");
        let missing = (unknown > 0)
            .then(|| format!("{} counts {count} GPUs and tells of {listed}", PROGRAM.name));
        report_change(health, &all, missing);
        let unparsed = self.unparsed_line.take();
        let other = self.program.join("other lines");
        report_change(
            health,
            &other,
            unparsed.map(|line| format!("{} prints: {line}", PROGRAM.name)),
        );
        self.pmon.keep(&self.listed);
    }
}

fn start(
    io_log: &IoLog,
    program: &PathBuf,
    fields: &[&str],
    interval: Duration,
) -> Result<Printer, Error> {
    let interval = interval.max(MIN_INTERVAL);
    let mut command = Command::new(program);
    command
        .arg(format!("--query-gpu={}", fields.join(",")))
        .arg("--format=csv,noheader")
        .arg(format!("--loop-ms={}", interval.as_millis()))
        .env("LC_ALL", "C");
    let max_lines = Some((MAX_GPUS, STARTUP_TIME));
    Printer::start(io_log, PROGRAM.name, command, interval, max_lines)
}

/// Sets or clears the value error at `place`, and logs the change.
fn report_change(health: &Health, place: &Path, error: Option<String>) {
    if error.is_some() != health.has_value_error(place) {
        match &error {
            Some(error) => log::warn!("{error}"),
            None => {
                let name = place.file_name().unwrap_or_default().to_string_lossy();
                log::info!("the error of {name} is resolved");
            }
        }
    }
    health.set_value_error(place, error);
}

impl Source for Nvidia {
    fn reconnects(&self) -> bool {
        true
    }

    fn rescan(&mut self) {
        if manages_power(&self.context) {
            self.sleep.rescan(&self.context.health, &self.context.board);
        }
    }

    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        if manages_power(&self.context) && !self.sleep.allows(&self.context.health, out.at) {
            self.end();
            let interval = self.context.interval.max(MIN_INTERVAL);
            self.context.stop.wait_until(Instant::now() + interval);
            out.suspended = true;
            return Ok(());
        }
        self.read(out)?;
        if manages_power(&self.context) && self.sleep.must_pause(out.at) {
            self.end();
        }
        Ok(())
    }
}

impl Nvidia {
    /// Reads a line for each GPU.
    fn read(&mut self, out: &mut Readings) -> Result<(), Error> {
        let mut last = None;
        let (mut seen, mut count) = (0, 0);
        self.listed.clear();
        loop {
            let Some((at, text)) = self.next_line()? else {
                return Ok(());
            };
            if let Some(field) = line::unknown_field(&text) {
                if self.leave_out(field) {
                    continue;
                }
            }
            let Some(gpu) = line::parse(&self.fields, &text) else {
                let plain = |c: char| if c.is_control() { ' ' } else { c };
                self.unparsed_line = Some(text.chars().take(200).map(plain).collect());
                self.context.health.count_unparsed(1);
                if seen == 0 {
                    out.at = at;
                    return Ok(());
                }
                continue;
            };
            if last.is_some_and(|last| gpu.index <= last) {
                // The next reading has begun, so a GPU is missing from this one.
                self.next_reading = Some((at, text));
                self.complete(seen, count);
                return Ok(());
            }
            out.at = at;
            self.context.health.count_unparsed(gpu.unparsed);
            self.max_gpus = self.max_gpus.max(gpu.count);
            self.sleep.record_load(&gpu, at);
            self.set(out, &gpu);
            last = Some(gpu.index);
            (seen, count) = (seen + 1, gpu.count);
            if seen >= gpu.count {
                self.complete(seen, count);
                return Ok(());
            }
        }
    }
}
