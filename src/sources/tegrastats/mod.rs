//! NVIDIA Jetson, read with one permanent `tegrastats --interval N`, each line of which is a reading.
//!
//! Power is taken from tegrastats only if the kernel's driver cannot be read (see `ina3221`), or if
//! `jetson: {use_tegrastats: true}` asks for it. Average and maximum power are always taken from tegrastats, since nothing
//! else has them.

pub mod line;
mod series;
mod token;
mod value;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use self::series::SeriesOfLine;
use super::io_log::IoLog;
use super::jetson::Settings;
use super::pipe::Printer;
use super::program::Program;
use super::{ina3221, Board, Claims, Context, Error, Health, Meter, Pace, Roots, Source};
use crate::config::{Config, Switch};
use crate::metrics::Readings;
use crate::sys::stop::Stop;

/// The meter.
pub const METER: Meter = Meter {
    device_types: &[
        "jetson_orin",
        "jetson_xavier",
        "jetson_nano",
        "jetson_thor",
        "jetson",
    ],
    pace: Pace::Device,
    claims: Some(claims),
    ..Meter::of::<Settings>(
        "tegrastats",
        "NVIDIA Jetson: power rails, temperatures and loads, by NVIDIA's tegrastats",
        switch,
        probe,
        open,
    )
};

const PROGRAM: Program = Program {
    name: "tegrastats",
    usual_place: "/usr/bin/tegrastats",
    setting: "jetson.tegrastats",
    hint: "is this a Jetson? set jetson.tegrastats",
};
/// The shortest interval. NVIDIA documents none. For a line, tegrastats reads some forty files, and those of the rails
/// take a few hundred microseconds each through I2C. The INA3221 behind them averages over longer than this.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

fn switch(config: &Config) -> Switch {
    let jetson: Settings = config.meter();
    match jetson.enabled {
        Switch::Auto if jetson.use_tegrastats => Switch::On,
        switch => switch,
    }
}

fn program(io_log: &IoLog, roots: &Roots, config: &Config) -> Result<PathBuf, Error> {
    let jetson: Settings = config.meter();
    PROGRAM.find(io_log, roots, jetson.tegrastats.as_deref())
}

fn probe(board: &Board, config: &Config) -> Result<String, Error> {
    program(&board.io_log, &board.roots, config).map(|path| path.display().to_string())
}

/// tegrastats reads the same chips as `ina3221`, through their driver.
fn claims(board: &Board, config: &Config) -> Claims {
    Claims {
        devices: ina3221::devices(board, config),
        rails: Vec::new(),
    }
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let io_log = context.health.io_log();
    let program = program(io_log, &context.board.roots, &context.config)?;
    let interval = context.interval.max(MIN_INTERVAL);
    if interval > context.interval {
        log::info!(
            "{}: the interval is {} ms, the shortest that it supports",
            PROGRAM.name,
            interval.as_millis()
        );
    }
    let mut command = if context.config.meter::<Settings>().sudo {
        let mut sudo = Command::new("sudo");
        sudo.arg("-n").arg(program);
        sudo
    } else {
        Command::new(program)
    };
    let milliseconds = (interval.as_secs_f64() * 1000.0).round();
    command
        .args(["--interval", &milliseconds.to_string()])
        .env("LC_ALL", "C");
    Ok(Box::new(Tegrastats {
        printer: Printer::start(io_log, PROGRAM.name, command, interval, None)?,
        series: SeriesOfLine::new(&context.group, &context.board.claims.rails),
        stop: Arc::clone(&context.stop),
        health: Arc::clone(&context.health),
    }))
}

struct Tegrastats {
    printer: Printer,
    series: SeriesOfLine,
    stop: Arc<Stop>,
    health: Arc<Health>,
}

impl Source for Tegrastats {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let Some(printed) = self.printer.next_line(&self.stop)? else {
            return Ok(());
        };
        out.at = printed.at;
        for _ in 0..printed.overlong {
            self.health.count_error();
        }
        let text = String::from_utf8_lossy(printed.text);
        let line = line::parse(&text);
        self.health.count_unparsed(line.unparsed);
        self.health.left_out("tegrastats", line.left_out, || {
            let (items, cores) = (line::MAX_ITEMS, line::MAX_CORES);
            format!("a line has more than {items} rails, sensors or engines, or {cores} cores")
        });
        self.series.set(out, &line);
        if out.is_empty() {
            log::debug!("{}: no value in {text:?}", PROGRAM.name);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
