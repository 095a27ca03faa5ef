//! The lines of a program, recorded or replayed.

use std::process::Command;
use std::time::Duration;

use super::lines::MAX_LINE_BYTES;
use super::{Pipe, PrintedLine};
use crate::sources::io_log::{Failure, IoLog};
use crate::sources::Error;
use crate::sys::clock::BootTime;
use crate::sys::stop::{Stop, Woken};

/// A running program whose lines are recorded, or the replay of one.
pub(crate) struct Printer {
    name: &'static str,
    io_log: IoLog,
    /// `None` when replaying.
    pipe: Option<Pipe>,
    /// The last replayed line.
    replayed: Vec<u8>,
}

impl Printer {
    /// Starts `command`, the program `name`, which prints a line every `interval`. With `max_lines`, the program prints up to
    /// this many lines every interval, and the first line may take this much longer than the others.
    pub(crate) fn start(
        io_log: &IoLog,
        name: &'static str,
        command: Command,
        interval: Duration,
        max_lines: Option<(u32, Duration)>,
    ) -> Result<Printer, Error> {
        let mut pipe = None;
        let start = || {
            let started = Pipe::start(command, interval)?;
            pipe = Some(match max_lines {
                Some((max, startup_time)) => started.of_several_lines(max, startup_time),
                None => started,
            });
            Ok(())
        };
        if io_log.is_off() {
            start()?;
        } else {
            let started = io_log.record_or_replay(&format!("start {name}"), || match start() {
                Ok(()) => Ok(b"good".to_vec()),
                Err(error) => Err(Failure::new(error.to_string())),
            });
            started.map_err(|failure| Error::new(failure.message))?;
        }
        Ok(Printer {
            name,
            io_log: io_log.clone(),
            pipe,
            replayed: Vec::new(),
        })
    }

    /// Waits for the next complete line. If several are waiting, only the newest are kept. `None` when the source must stop.
    pub(crate) fn next_line(&mut self, stop: &Stop) -> Result<Option<PrintedLine<'_>>, Error> {
        if self.pipe.is_none() {
            return self.replay(stop);
        }
        let Printer {
            name, io_log, pipe, ..
        } = self;
        let Some(pipe) = pipe else {
            return Ok(None);
        };
        let next = pipe.next_line(stop);
        if !io_log.is_off() {
            match &next {
                Ok(Some(printed)) => {
                    io_log.record_received(name, printed.at, &Ok(printed.text.to_vec()))
                }
                Ok(None) => {}
                Err(error) => {
                    let failure = Failure::new(error.to_string());
                    io_log.record_received(name, BootTime::now(), &Err(failure));
                }
            }
        }
        next
    }

    fn replay(&mut self, stop: &Stop) -> Result<Option<PrintedLine<'_>>, Error> {
        if self.io_log.wait(stop) == Some(Woken::Stop) {
            return Ok(None);
        }
        match self.io_log.take_received(self.name) {
            Some((_, Ok(line))) if line.len() > MAX_LINE_BYTES => Err(Error::new(format!(
                "the recording has a line of {} that is too long to be one",
                self.name
            ))),
            Some((at, Ok(line))) => {
                self.replayed = line;
                Ok(Some(PrintedLine {
                    at,
                    text: &self.replayed,
                    overlong: 0,
                }))
            }
            Some((_, Err(failure))) => Err(Error::new(failure.message)),
            None => Err(Error::new(format!(
                "the recording has something else than a line of {}",
                self.name
            ))),
        }
    }
}
