//! A feed gives a sender the samples to send. The memory feed takes them from the histories of the sources; the queue
//! on disk is a feed between the memory feed and the sender.

use std::sync::Arc;

use super::memory::MemoryFeed;
use super::queue::QueueStats;
use crate::metrics::{Kind, Offset};
use crate::sys::clock::BootTime;

/// A series as a receiver knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeriesIdentity {
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
    /// The series.
    pub series: Arc<SeriesIdentity>,
    /// When a counter began to count, in milliseconds since 1970, if that is known. Not later than the first sample.
    pub start: Option<i64>,
    /// Time stamp in milliseconds since 1970, and the bits of the value, in ascending order of the stamps. The bits of
    /// [`crate::metrics::ABSENT`] are a staleness marker: the series has ended, for the time being.
    pub samples: Vec<(i64, u64)>,
}

/// The samples to send next. There is one run for each series, whose stamps are later than all of the batch before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// At least one run, and no run is empty.
    pub runs: Vec<Run>,
    /// Some of the samples may have been sent before: if the receiver refuses these, few others are to be refused with
    /// them.
    pub may_be_repeated: bool,
}

impl Batch {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.samples.len()).sum()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds later samples, at least one, to the run of their series. A new run has `start`.
    pub fn add(
        &mut self,
        series: &Arc<SeriesIdentity>,
        start: Option<i64>,
        samples: Vec<(i64, u64)>,
    ) {
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

    /// Converts the stamps to a clock that is `by` milliseconds ahead of theirs.
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

/// About how large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// Samples in all.
    pub samples: usize,
    /// Readings of each source.
    pub readings: usize,
}

/// How much waits to be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Samples in all, about: values that a reading did not have are counted too.
    pub samples: u64,
    /// Readings of the source with most of them.
    pub readings: u64,
    /// Some samples have waited too long to wait for a full batch.
    pub overdue: bool,
}

/// The samples that the feed lost since the start, by reason, which is the value of the label.
pub type Losses = Vec<(&'static str, u64)>;

/// The source of a sender's batches. It belongs to one sender at a time.
pub trait Feed: Send {
    /// The next batch; `None`: there is nothing to send. The batch stays the same until [`Feed::done`]. `offset`
    /// converts the times of readings to stamps; no stamp is later than now.
    fn next(&mut self, offset: &Offset, now: BootTime, most: BatchLimit) -> Option<Arc<Batch>>;

    /// The batch was delivered or dropped: it is not given again.
    fn done(&mut self);

    /// What waits, without the current batch.
    fn pending(&self) -> Pending;

    /// The losses.
    fn losses(&self) -> Losses;

    /// The state of the queue on disk, if there is one.
    fn on_disk(&self) -> Option<QueueStats> {
        None
    }

    /// Converts the feed into a memory feed, which gives again what was not delivered. What is on disk stays there.
    fn into_memory(self: Box<Self>) -> MemoryFeed;

    /// Nothing more will be read: after the last readings come the staleness markers of all series.
    fn finish(&mut self);
}
