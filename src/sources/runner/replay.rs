//! The same with a recording: the source is opened and polled when it was, and not when it would be.

use super::{poll, Shared};
use crate::metrics::{staleness_limit, Readings};
use crate::sources::io_log::{Next, Playing, Step};
use crate::sources::{Context, Error, Pace, Source};
use crate::sys::clock::BootTime;
use std::time::Duration;

/// Plays it to its end. There the source stands still: what it said last remains what it says.
pub(super) fn run(shared: &Shared, generation: u64, playing: &Playing) {
    let Context {
        group,
        health,
        stop,
        interval,
        ..
    } = &shared.context;
    let mut readings = Readings::new(staleness_limit(*interval).as_secs_f64());
    let mut source: Option<Box<dyn Source>> = None;
    let mut seen = None;
    while shared.is_current(generation) {
        let next = match shared.meter.pace {
            Pace::Device => playing.next_item(source.is_some(), &mut seen, stop),
            Pace::Interval | Pace::AtLeast(_) => playing.next_step(stop),
        };
        health.poll_begins(BootTime::now());
        let outcome = match (next, &mut source) {
            (Next::Do(Step::Open, _), source) => {
                // One that is opened anew is ended first.
                drop(source.take());
                let opened = (shared.meter.open)(&shared.context);
                opened.map(|opened| *source = Some(opened))
            }
            (Next::Do(Step::Poll, at), Some(source)) => {
                match poll(shared, generation, &mut **source, &mut readings, at) {
                    Some(polled) => polled.map(|_| ()),
                    None => return,
                }
            }
            (Next::Do(Step::Rescan, _), Some(source)) => {
                source.rescan();
                Ok(())
            }
            (Next::Do(..), None) => Ok(()),
            (Next::Over(at), _) => {
                if group.is_fresh(at) {
                    group.set_interval(Duration::MAX);
                }
                log::info!("{}: the recording is over", shared.name);
                health.idle();
                return;
            }
            (Next::Stop, _) => return,
        };
        health.idle();
        if let Err(error) = outcome {
            failed(shared, &error);
        }
    }
}

fn failed(shared: &Shared, error: &Error) {
    let Context { group, health, .. } = &shared.context;
    health.count_error();
    group.settle();
    if health.set_error(Some(error.to_string())) {
        log::warn!("{}: {error}", shared.name);
    }
}
