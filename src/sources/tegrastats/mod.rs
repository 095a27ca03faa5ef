//! NVIDIA Jetson by tegrastats: one long-lived `tegrastats --interval N`, whose every line is a reading.
//!
//! Power comes from it only where the kernel's driver cannot be read (see `ina3221`), or where
//! `jetson: {use_tegrastats: true}` asks for it. Its averages and highest values of power it shows in any case: nobody
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
/// NVIDIA documents no least interval. A line is some forty reads of files, the rails' through I2C at a few hundred
/// microseconds each, and the INA3221 behind them averages over longer than this: there is nothing to gain below.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

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

/// It reads the same chips, by way of their driver.
fn claims(board: &Board, config: &Config) -> Claims {
    Claims {
        devices: ina3221::devices(board, config),
        rails: Vec::new(),
    }
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let io_log = context.health.io_log();
    let program = program(io_log, &context.board.roots, &context.config)?;
    let interval = context.interval.max(LEAST_INTERVAL);
    if interval > context.interval {
        log::info!(
            "{}: the interval is {} ms, its least",
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
        self.health.left_out("tegrastats", line.beyond, || {
            let (most, cores) = (line::MOST, line::MOST_CORES);
            format!("a line has more than {most} rails, sensors or engines, or {cores} cores")
        });
        self.series.set(out, &line);
        if out.is_empty() {
            log::debug!("{}: nothing to be read in {text:?}", PROGRAM.name);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
