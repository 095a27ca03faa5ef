//! Where a sender takes its work from. The memory's feed gives what the histories of the sources hold; a queue on disk
//! is one more, between that and the sender.

use std::sync::Arc;

use super::memory::MemoryFeed;
use super::queue::Figures;
use crate::metrics::{Kind, Offset};
use crate::sys::clock::BootTime;

/// What a series is to a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Name and value of each label, `__name__` and those of the receiver's entry among them: sorted by name, no name
    /// twice, no empty value.
    pub labels: Vec<(String, String)>,
    /// Gauge or counter.
    pub kind: Kind,
    /// The text of `# HELP`.
    pub help: String,
    /// The base unit, or nothing.
    pub unit: String,
}

/// Some samples of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Of which series.
    pub series: Arc<Identity>,
    /// Since when a counter counts, in milliseconds since 1970, where that is known. Not after its first sample.
    pub start: Option<i64>,
    /// Stamp in milliseconds since 1970, and the bits of the value, in ascending order of the stamps. The bits of
    /// [`crate::metrics::ABSENT`] say that the series has ended, for the time being.
    pub samples: Vec<(i64, u64)>,
}

/// What is to be sent next. Of each series there is one run, whose stamps are later than all of the batch before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// At least one, and none is empty.
    pub runs: Vec<Run>,
    /// Some of it may have been sent before: a receiver that refuses that is to refuse little else with it.
    pub doubtful: bool,
}

impl Batch {
    /// How many samples it holds.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.samples.len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds later samples, at least one, to the run of their series. It has its `start` from the first of them.
    pub fn add(&mut self, series: &Arc<Identity>, start: Option<i64>, samples: Vec<(i64, u64)>) {
        let mut runs = self.runs.iter_mut();
        match runs.find(|run| Arc::ptr_eq(&run.series, series)) {
            Some(run) => run.samples.extend(samples),
            None => self.runs.push(Run {
                series: Arc::clone(series),
                start,
                samples,
            }),
        }
    }

    /// The same samples on a clock that is so many milliseconds ahead of theirs.
    pub fn shift(&mut self, by: i64) {
        for run in &mut self.runs {
            run.start = run.start.map(|start| start.saturating_add(by));
            for (stamp, _) in &mut run.samples {
                *stamp = stamp.saturating_add(by);
            }
        }
    }

    /// The stamp of the newest sample.
    pub fn newest(&self) -> Option<i64> {
        let last = |run: &Run| run.samples.last().map(|(stamp, _)| *stamp);
        self.runs.iter().filter_map(last).max()
    }
}

/// How large a batch may be, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Samples in all.
    pub samples: usize,
    /// Readings of each source.
    pub readings: usize,
}

/// What waits to be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Samples in all, about: what a reading did not read is counted too.
    pub samples: u64,
    /// Readings of the source that has most.
    pub readings: u64,
    /// Some of it has waited for long, and is to wait for no more to come.
    pub overdue: bool,
}

/// What was lost on the way to the sender, by reason: the value of the label, and how many samples since the start.
pub type Losses = Vec<(&'static str, u64)>;

/// A source of work. It belongs to one sender at a time, which asks again and again.
pub trait Feed: Send {
    /// The next batch; `None`: there is nothing to send. It is the same one until [`Feed::done`]. With `offset` stamps
    /// are made of the moments of readings; no stamp is later than its own moment.
    fn next(&mut self, offset: &Offset, now: BootTime, most: Most) -> Option<Arc<Batch>>;

    /// The batch was delivered, or given up: it is never wanted again.
    fn done(&mut self);

    /// What waits, without the batch that was given last.
    fn pending(&self) -> Pending;

    /// What was lost.
    fn losses(&self) -> Losses;

    /// How the queue on disk stands, if there is one.
    fn on_disk(&self) -> Option<Figures> {
        None
    }

    /// What it holds in memory, for a feed of another kind to go on with: what was not delivered is given again. What is
    /// on disk stays there.
    fn into_memory(self: Box<Self>) -> MemoryFeed;

    /// Nothing will be read any more: what follows the last readings are the marks that all series have ended.
    fn finish(&mut self);
}
