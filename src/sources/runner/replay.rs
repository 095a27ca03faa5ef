//! The thread of a replayed source, which opens and polls the source at the recorded times.

use super::{poll, Shared};
use crate::metrics::{staleness_limit, Readings};
use crate::sources::io_log::{NextStep, Replay, Step};
use crate::sources::{Context, Error, Pace, Source};
use crate::sys::clock::BootTime;
use std::time::Duration;

/// Replays the recording to its end. The values of the last poll then stay exported.
pub(super) fn run(shared: &Shared, generation: u64, replay: &Replay) {
    let Context {
        group,
        health,
        stop,
        interval,
        ..
    } = &shared.context;
    let mut readings = Readings::new(staleness_limit(*interval).as_secs_f64());
    let mut source: Option<Box<dyn Source>> = None;
    let mut last_event = None;
    while shared.is_current(generation) {
        let next = match shared.meter.pace {
            Pace::Device => replay.next_event_step(source.is_some(), &mut last_event, stop),
            Pace::Interval | Pace::AtLeast(_) => replay.next_step(stop),
        };
        health.poll_begins(BootTime::now());
        let outcome = match (next, &mut source) {
            (NextStep::Run(Step::Open, _), source) => {
                // The open source is dropped first, as it was when recorded.
                drop(source.take());
                let opened = (shared.meter.open)(&shared.context);
                opened.map(|opened| *source = Some(opened))
            }
            (NextStep::Run(Step::Poll, at), Some(source)) => {
                match poll(shared, generation, &mut **source, &mut readings, at) {
                    Some(polled) => polled.map(|_| ()),
                    None => return,
                }
            }
            (NextStep::Run(Step::Rescan, _), Some(source)) => {
                source.rescan();
                Ok(())
            }
            (NextStep::Run(..), None) => Ok(()),
            (NextStep::End(at), _) => {
                if group.is_fresh(at) {
                    group.set_interval(Duration::MAX);
                }
                log::info!("{}: the recording has ended", shared.name);
                health.idle();
                return;
            }
            (NextStep::Stop, _) => return,
        };
        health.idle();
        if let Err(error) = outcome {
            report_failure(shared, &error);
        }
    }
}

fn report_failure(shared: &Shared, error: &Error) {
    let Context { group, health, .. } = &shared.context;
    health.count_error();
    group.settle();
    if health.set_error(Some(error.to_string())) {
        log::warn!("{}: {error}", shared.name);
    }
}
