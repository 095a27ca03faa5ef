//! A group of series that one source publishes together.

use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::family::{Desc, Family};
use super::history::History;
use super::registry::Families;
use super::{ABSENT, ABSENT_BITS};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// More than any board has; a device that makes up names without end stops growing here.
pub const MAX_SERIES_PER_GROUP: usize = 4096;

/// A series' place in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesId(u32);

impl SeriesId {
    /// A series that did not fit: setting it does nothing.
    const NONE: SeriesId = SeriesId(u32::MAX);
}

/// A family and a set of labels.
#[derive(Debug)]
pub struct Series {
    /// The source whose it is, as in the label `source`.
    pub source: Box<str>,
    /// The family.
    pub family: Arc<Family>,
    /// Name and value of each label, sorted by name.
    pub labels: Vec<(String, String)>,
    /// `name{label="value",…} `: all of the sample's line that comes before its value.
    pub prefix: Box<str>,
}

impl Series {
    fn new(source: &str, family: Arc<Family>, mut labels: Vec<(String, String)>) -> Series {
        labels.sort();
        let mut prefix = family.name.clone();
        for (i, (name, value)) in labels.iter().enumerate() {
            prefix.push(if i == 0 { '{' } else { ',' });
            prefix.push_str(name);
            prefix.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => prefix.push_str("\\\\"),
                    '"' => prefix.push_str("\\\""),
                    '\n' => prefix.push_str("\\n"),
                    c => prefix.push(c),
                }
            }
            prefix.push('"');
        }
        if !labels.is_empty() {
            prefix.push('}');
        }
        prefix.push(' ');
        Series {
            source: source.into(),
            family,
            labels,
            prefix: prefix.into(),
        }
    }
}

/// After how long without a reading nothing is known of a source that is polled every `interval`: three polls, and at
/// least five seconds.
pub fn longest_silence(interval: Duration) -> Duration {
    interval.saturating_mul(3).max(Duration::from_secs(5))
}

#[derive(Default)]
struct Table {
    series: Vec<Arc<Series>>,
    values: Vec<AtomicU64>,
}

/// What only the source's own thread writes.
struct Writer {
    /// Which run of the source may publish; an earlier one, stuck in a read and come back, may not.
    generation: u64,
    /// The running totals of the counters, by series.
    totals: Vec<f64>,
}

/// The series of one source. They are published together, and read together.
pub struct Group {
    /// The source's name, as in the label `source`.
    pub source: String,
    /// Labels that every one of its series carries.
    const_labels: Vec<(String, String)>,
    families: Arc<Families>,
    table: RwLock<Table>,
    writer: Mutex<Writer>,
    /// Odd while a row is being published.
    sequence: AtomicU64,
    /// When the published row was read, in boot-time nanoseconds; 0 before the first.
    read_at: AtomicU64,
    /// After so many nanoseconds without a new row, the old one is not exported.
    stale_after: AtomicU64,
    /// Whether it is known by now what this source has: it was read, or it could not be.
    settled: AtomicBool,
    history: History,
}

impl Group {
    pub(super) fn new(
        source: &str,
        const_labels: Vec<(String, String)>,
        families: Arc<Families>,
    ) -> Group {
        Group {
            source: source.to_string(),
            const_labels,
            families,
            table: RwLock::default(),
            writer: Mutex::new(Writer {
                generation: 0,
                totals: Vec::new(),
            }),
            sequence: AtomicU64::new(0),
            read_at: AtomicU64::new(0),
            stale_after: AtomicU64::new(u64::MAX),
            settled: AtomicBool::new(false),
            history: History::default(),
        }
    }

    /// The series of this family and these labels (besides the group's own), made if it is not there yet.
    pub fn series(&self, desc: &Desc, labels: &[(&str, &str)]) -> SeriesId {
        let family = self.families.intern(desc);
        let mut all = self.const_labels.clone();
        all.extend(labels.iter().map(|(n, v)| (n.to_string(), v.to_string())));
        let series = Series::new(&self.source, family, all);
        let mut table = lock::write(&self.table);
        if let Some(i) = table.series.iter().position(|s| s.prefix == series.prefix) {
            return SeriesId(i as u32);
        }
        if table.series.len() >= MAX_SERIES_PER_GROUP {
            log::debug!(
                "{}: over {MAX_SERIES_PER_GROUP} series: {} is left out",
                self.source,
                series.prefix
            );
            return SeriesId::NONE;
        }
        let id = SeriesId(table.series.len() as u32);
        table.series.push(Arc::new(series));
        table.values.push(AtomicU64::new(ABSENT_BITS));
        drop(table);
        self.families.changed();
        id
    }

    /// Gives a series a value that it has until something is published.
    pub fn start_at(&self, id: SeriesId, value: f64) {
        let _writer = lock::lock(&self.writer);
        if self.read_at().is_none() {
            if let Some(start) = lock::read(&self.table).values.get(id.0 as usize) {
                start.store(value.to_bits(), Ordering::Relaxed);
            }
        }
    }

    /// Sets how old a row may grow before it is no longer exported: the [`longest_silence`] of this interval.
    pub fn set_interval(&self, interval: Duration) {
        let nanos = longest_silence(interval).as_nanos();
        self.stale_after
            .store(nanos.min(u128::from(u64::MAX)) as u64, Ordering::Relaxed);
    }

    /// Ends the right of earlier runs of the source to publish, and gives the caller that right.
    pub fn new_generation(&self) -> u64 {
        let mut writer = lock::lock(&self.writer);
        writer.generation += 1;
        writer.generation
    }

    /// Publishes one poll's readings. What they do not hold becomes absent. False: this generation's right has ended.
    pub fn publish(&self, generation: u64, readings: &Readings) -> bool {
        let mut writer = lock::lock(&self.writer);
        if writer.generation != generation {
            return false;
        }
        let table = lock::read(&self.table);
        let totals = &mut writer.totals;
        totals.resize(table.values.len(), 0.0);
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let values = table.values.as_slice();
        let (set, beyond) = values.split_at(readings.row.len().min(values.len()));
        for (value, new) in set.iter().zip(&readings.row) {
            value.store(new.to_bits(), Ordering::Relaxed);
        }
        for value in beyond {
            value.store(ABSENT_BITS, Ordering::Relaxed);
        }
        for &(SeriesId(id), increase) in &readings.increases {
            if let (Some(total), Some(value)) =
                (totals.get_mut(id as usize), values.get(id as usize))
            {
                // A total only grows: a negative or broken increase is none.
                *total += if increase > 0.0 { increase } else { 0.0 };
                value.store(total.to_bits(), Ordering::Relaxed);
            }
        }
        self.read_at.store(readings.at.0, Ordering::Relaxed);
        self.sequence.store(sequence + 2, Ordering::Release);
        let row = table.values.iter();
        self.history.push(
            readings.at,
            row.map(|value| f64::from_bits(value.load(Ordering::Relaxed))),
        );
        if !self.is_settled() {
            self.settle();
        }
        true
    }

    /// Says that it is known by now what this source has. Until then a total that a later source has is not shown:
    /// it would give way a moment later.
    pub fn settle(&self) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            self.families.changed();
        }
    }

    /// Whether it is known by now what this source has: it was read, or it could not be.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// The rows that were published last, as far as they are kept.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// When the published row was read.
    pub fn read_at(&self) -> Option<BootTime> {
        match self.read_at.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(BootTime(nanos)),
        }
    }

    /// Whether there is a row, and it is not too old.
    pub fn is_fresh(&self, now: BootTime) -> bool {
        self.read_at().is_some_and(|at| {
            now.0.saturating_sub(at.0) <= self.stale_after.load(Ordering::Relaxed)
        })
    }

    /// The value that was last published for a series.
    pub fn value(&self, id: SeriesId) -> Option<f64> {
        let table = lock::read(&self.table);
        let value = f64::from_bits(table.values.get(id.0 as usize)?.load(Ordering::Relaxed));
        (!super::is_absent(value)).then_some(value)
    }

    pub(super) fn all_series(&self) -> Vec<Arc<Series>> {
        lock::read(&self.table).series.clone()
    }

    /// Appends the values of one poll, as many as `expected`; absent ones where the row is too old or not there.
    pub(super) fn snapshot(&self, now: BootTime, expected: usize, out: &mut Vec<f64>) {
        let start = out.len();
        let table = lock::read(&self.table);
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before % 2 == 0 {
                // Before the first row, what is there is what a series was said to start at.
                let fresh = self.read_at().is_none() || self.is_fresh(now);
                out.truncate(start);
                out.extend(table.values.iter().take(expected).map(|value| {
                    if fresh {
                        f64::from_bits(value.load(Ordering::Relaxed))
                    } else {
                        ABSENT
                    }
                }));
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    break;
                }
            }
            // The writer is between two stores: it needs the processor more than we do.
            std::thread::yield_now();
        }
        drop(table);
        out.resize(start + expected, ABSENT);
    }
}

/// What one poll of a source read. Everything not set is absent.
#[derive(Debug, Default)]
pub struct Readings {
    /// When it was read.
    pub at: BootTime,
    /// So many seconds between two readings, and what was in between is not known.
    pub longest_gap: f64,
    row: Vec<f64>,
    increases: Vec<(SeriesId, f64)>,
}

impl Readings {
    /// No readings, from a source that is silent when it says nothing for `longest_gap` seconds.
    pub fn new(longest_gap: f64) -> Readings {
        Readings {
            longest_gap,
            ..Readings::default()
        }
    }

    /// Empties it for the poll that begins at `at`.
    pub fn begin(&mut self, at: BootTime) {
        self.at = at;
        self.row.fill(ABSENT);
        self.increases.clear();
    }

    /// Sets a gauge, or a counter whose running total the source itself keeps. A NaN sets nothing; setting twice in one
    /// poll keeps the last.
    #[inline]
    pub fn set(&mut self, id: SeriesId, value: f64) {
        if value.is_nan() {
            return;
        }
        match self.row.get_mut(id.0 as usize) {
            Some(place) => *place = value,
            None if id == SeriesId::NONE => {}
            None => self.make_room(id, value),
        }
    }

    #[cold]
    fn make_room(&mut self, SeriesId(id): SeriesId, value: f64) {
        self.row.resize(id as usize, ABSENT);
        self.row.push(value);
    }

    /// Adds to a counter, and says by adding 0 that it is there. An increase below 0 counts as 0.
    #[inline]
    pub fn add(&mut self, id: SeriesId, increase: f64) {
        if id != SeriesId::NONE {
            self.increases.push((id, increase));
        }
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.increases.is_empty() && self.row.iter().all(|value| super::is_absent(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Policy, Registry};

    fn group() -> Arc<Group> {
        let labels = vec![
            ("hostname".to_string(), "edge-01".to_string()),
            ("device_type".to_string(), "x86".to_string()),
        ];
        Registry::new(Policy::All).add_group(0, "test", labels)
    }

    #[test]
    fn the_text_before_a_value_is_made_once_sorted_and_escaped() {
        let group = group();
        group.series(
            &Desc::gauge("a", ""),
            &[("rail", "back\\slash \"quote\"\nline")],
        );
        assert_eq!(
            &*group.all_series()[0].prefix,
            r#"a{device_type="x86",hostname="edge-01",rail="back\\slash \"quote\"\nline"} "#
        );
    }

    #[test]
    fn the_same_series_is_registered_once() {
        let group = group();
        let a = group.series(&Desc::gauge("a", ""), &[]);
        assert_eq!(a, group.series(&Desc::gauge("a", ""), &[]));
        assert_ne!(a, group.series(&Desc::gauge("a", ""), &[("x", "y")]));
    }

    #[test]
    fn what_a_poll_did_not_read_is_absent_and_totals_stay() {
        let group = group();
        let gauge = group.series(&Desc::gauge("g", ""), &[]);
        let counter = group.series(&Desc::counter("c_total", ""), &[]);
        let generation = group.new_generation();
        let mut out = Readings::new(5.0);
        out.begin(BootTime(1));
        out.set(gauge, 1.5);
        out.add(counter, 2.0);
        assert!(group.publish(generation, &out));
        assert_eq!(group.value(gauge), Some(1.5));
        out.begin(BootTime(2));
        group.publish(generation, &out);
        assert_eq!(group.value(gauge), None);
        assert_eq!(group.value(counter), None);
        out.begin(BootTime(3));
        out.add(counter, -7.0);
        out.set(gauge, f64::NAN);
        group.publish(generation, &out);
        assert_eq!(group.value(counter), Some(2.0));
        assert_eq!(group.value(gauge), None);
    }

    #[test]
    fn a_run_that_was_replaced_can_no_longer_publish() {
        let group = group();
        let gauge = group.series(&Desc::gauge("g", ""), &[]);
        let old = group.new_generation();
        let new = group.new_generation();
        let mut out = Readings::new(5.0);
        out.begin(BootTime(1));
        out.set(gauge, 1.0);
        assert!(!group.publish(old, &out));
        assert_eq!(group.value(gauge), None);
        assert!(group.publish(new, &out));
    }

    #[test]
    fn a_row_grows_stale_after_three_polls_and_at_least_five_seconds() {
        let group = group();
        let generation = group.new_generation();
        let second = 1_000_000_000;
        group.set_interval(Duration::from_secs(1));
        assert!(!group.is_fresh(BootTime(second)));
        let mut out = Readings::new(5.0);
        out.begin(BootTime(second));
        group.publish(generation, &out);
        assert!(group.is_fresh(BootTime(6 * second)));
        assert!(!group.is_fresh(BootTime(6 * second + 1)));
        group.set_interval(Duration::from_secs(10));
        assert!(group.is_fresh(BootTime(31 * second)));
        assert!(!group.is_fresh(BootTime(31 * second + 1)));
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let group = group();
        let mut last = SeriesId(0);
        for i in 0..MAX_SERIES_PER_GROUP + 2 {
            last = group.series(&Desc::gauge(format!("g{i}"), ""), &[]);
        }
        assert_eq!(last, SeriesId::NONE);
        let mut out = Readings::new(5.0);
        out.begin(BootTime(1));
        out.set(last, 1.0);
        out.add(last, 1.0);
        assert!(out.is_empty());
        assert_eq!(group.all_series().len(), MAX_SERIES_PER_GROUP);
    }

    #[test]
    fn a_snapshot_never_mixes_two_polls() {
        let group = group();
        let ids: Vec<_> = (0..200)
            .map(|i| group.series(&Desc::gauge(format!("g{i}"), ""), &[]))
            .collect();
        let generation = group.new_generation();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut out = Readings::new(5.0);
                for round in 1..20_000u32 {
                    out.begin(BootTime(1));
                    for id in &ids {
                        out.set(*id, f64::from(round));
                    }
                    group.publish(generation, &out);
                }
                done.store(true, Ordering::Relaxed);
            });
            let mut row = Vec::new();
            while !done.load(Ordering::Relaxed) {
                row.clear();
                group.snapshot(BootTime(1), ids.len(), &mut row);
                assert!(row.iter().all(|v| v.to_bits() == row[0].to_bits()));
            }
        });
    }
}
