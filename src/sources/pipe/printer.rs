//! A program's lines: those that it prints, or those that it printed when it was recorded.

use std::process::Command;
use std::time::Duration;

use super::lines::MOST_LINE;
use super::{Pipe, Printed};
use crate::sources::io_log::{Failure, IoLog};
use crate::sources::Error;
use crate::sys::clock::BootTime;
use crate::sys::stop::{Stop, Woken};

/// A program that prints, or that did.
pub(crate) struct Printer {
    name: &'static str,
    io_log: IoLog,
    /// `None`: it does not run here.
    pipe: Option<Pipe>,
    /// The line that was played last.
    played: Vec<u8>,
}

impl Printer {
    /// Starts `command`, the program `name`, which is to print a line every `interval`; up to `most` of them, if that is
    /// given, the first of which may take so much longer than the others.
    pub(crate) fn start(
        io_log: &IoLog,
        name: &'static str,
        command: Command,
        interval: Duration,
        most: Option<(u32, Duration)>,
    ) -> Result<Printer, Error> {
        let mut pipe = None;
        let start = || {
            let started = Pipe::start(command, interval)?;
            pipe = Some(match most {
                Some((most, patience)) => started.of_several_lines(most, patience),
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
            played: Vec::new(),
        })
    }

    /// Waits for the next whole line; of those that are waiting, only the newest are kept. `None`: it is time to stop.
    pub(crate) fn next_line(&mut self, stop: &Stop) -> Result<Option<Printed<'_>>, Error> {
        if self.pipe.is_none() {
            return self.play(stop);
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

    fn play(&mut self, stop: &Stop) -> Result<Option<Printed<'_>>, Error> {
        if self.io_log.wait(stop) == Some(Woken::Stop) {
            return Ok(None);
        }
        match self.io_log.take_received(self.name) {
            Some((_, Ok(line))) if line.len() > MOST_LINE => Err(Error::new(format!(
                "the recording has a line of {} that is too long to be one",
                self.name
            ))),
            Some((at, Ok(line))) => {
                self.played = line;
                Ok(Some(Printed {
                    at,
                    text: &self.played,
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
