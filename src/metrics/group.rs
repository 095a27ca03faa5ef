//! The series of one source, which are published and read together.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::board::Grade;
use super::families::Families;
use super::family::Desc;
use super::history::{Cursor, History};
use super::readings::Readings;
use super::series::{Series, SeriesId};
use super::{ABSENT, ABSENT_BITS};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// Limits devices that keep inventing names. No board needs as many.
pub const MAX_SERIES_PER_GROUP: usize = 4096;
/// The place of a retired series is reused when the oldest row of the history is this much later than the series' last value.
/// A batch of samples that was copied out of the history before is rendered by then.
const REUSE_DELAY: Duration = Duration::from_secs(5);

fn hash_of(prefix: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(prefix)
}

/// The age at which the readings of a source that is polled every `interval` become stale: three intervals, and at least
/// five seconds.
pub fn staleness_limit(interval: Duration) -> Duration {
    interval.saturating_mul(3).max(Duration::from_secs(5))
}

#[derive(Default)]
struct SeriesTable {
    series: Vec<Arc<Series>>,
    /// Index into `series` by the hash of the prefix.
    places: HashMap<u64, u32>,
    values: Vec<AtomicU64>,
    /// The places of retired series, oldest first, with the last moment at which each may have had a value. What `retired_at` does
    /// not confirm is registered again.
    retired: VecDeque<(u32, BootTime)>,
    retired_at: Vec<Option<BootTime>>,
}

impl SeriesTable {
    /// The index of the series with this prefix, whose hash is `hash`.
    fn place(&self, hash: u64, prefix: &str) -> Option<u32> {
        let place = *self.places.get(&hash)?;
        let is_it = |series: &Arc<Series>| *series.prefix == *prefix;
        match self.series.get(place as usize).filter(|s| is_it(s)) {
            Some(_) => Some(place),
            // A hash collision.
            None => self.series.iter().position(is_it).map(|i| i as u32),
        }
    }

    /// Puts a series in the place of a retired one.
    fn replace(&mut self, place: u32, hash: u64, series: Series) {
        let before = hash_of(&self.series[place as usize].prefix);
        if self.places.get(&before) == Some(&place) {
            self.places.remove(&before);
        }
        self.places.entry(hash).or_insert(place);
        self.series[place as usize] = Arc::new(series);
        self.values[place as usize].store(ABSENT_BITS, Ordering::Relaxed);
    }

    fn retire(&mut self, place: u32, last: BootTime) {
        if let Some(retired_at @ None) = self.retired_at.get_mut(place as usize) {
            *retired_at = Some(last);
            self.retired.push_back((place, last));
            if self.retired.len() > 2 * MAX_SERIES_PER_GROUP {
                let mut retired = std::mem::take(&mut self.retired);
                retired.retain(|one| self.is_retired(*one));
                self.retired = retired;
            }
        }
    }

    fn is_retired(&self, (place, last): (u32, BootTime)) -> bool {
        self.retired_at.get(place as usize) == Some(&Some(last))
    }
}

/// Whether a series that had its last value then is in no row any more, where the oldest is this.
fn is_reusable(last: BootTime, oldest: BootTime) -> bool {
    oldest.0 > last.0.saturating_add(REUSE_DELAY.as_nanos() as u64)
}

/// State that only the source's thread writes.
struct Writer {
    /// The run of the source that may publish. An earlier run that returns from a stuck read may not.
    generation: u64,
    /// The running totals of the counters, by series.
    totals: Vec<f64>,
    /// When each total was 0 for the last time.
    began: Vec<Option<BootTime>>,
}

/// The series of one source. A snapshot sees all of them as one poll left them.
pub struct Group {
    /// The source's name, as in the label `source`.
    pub source: String,
    /// Labels that all its series carry.
    const_labels: Vec<(String, String)>,
    families: Arc<Families>,
    /// Identifies the group in the decision on the board's total.
    board_id: u64,
    table: RwLock<SeriesTable>,
    writer: Mutex<Writer>,
    /// Odd while a row is being published.
    sequence: AtomicU64,
    /// When the published row was read, in boot-time nanoseconds; 0 before the first.
    read_at: AtomicU64,
    /// A row older than this many nanoseconds is not exported.
    stale_after: AtomicU64,
    /// The least interval of readings so far, in nanoseconds: the history may still have some that are so close.
    least_interval: AtomicU64,
    /// Whether the source has been read, or could not be: what it measures is known.
    settled: AtomicBool,
    history: History,
    /// How often a series was not registered because of [`MAX_SERIES_PER_GROUP`].
    left_out: AtomicU64,
    /// What the source knows besides its series.
    provided: RwLock<Option<Arc<dyn Any + Send + Sync>>>,
    /// Incremented whenever a series is registered, and when the group is settled.
    version: AtomicU64,
}

impl Group {
    pub(super) fn new(
        rank: u32,
        source: &str,
        const_labels: Vec<(String, String)>,
        families: Arc<Families>,
    ) -> Group {
        Group {
            source: source.to_string(),
            const_labels,
            board_id: families.board.join(rank, source),
            families,
            table: RwLock::default(),
            writer: Mutex::new(Writer {
                generation: 0,
                totals: Vec::new(),
                began: Vec::new(),
            }),
            sequence: AtomicU64::new(0),
            read_at: AtomicU64::new(0),
            stale_after: AtomicU64::new(u64::MAX),
            least_interval: AtomicU64::new(u64::MAX),
            settled: AtomicBool::new(false),
            history: History::default(),
            left_out: AtomicU64::new(0),
            provided: RwLock::default(),
            version: AtomicU64::new(0),
        }
    }

    /// The labels that all its series carry.
    pub(super) fn const_labels(&self) -> &[(String, String)] {
        &self.const_labels
    }

    /// Gives other sources something that is no series, in the place of what was given before.
    pub fn provide<T: Any + Send + Sync>(&self, what: Arc<T>) {
        *lock::write(&self.provided) = Some(what);
    }

    /// What the source gives of this type besides its series.
    pub fn provided<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(lock::read(&self.provided).as_ref()?)
            .downcast()
            .ok()
    }

    /// The series of this family with these labels, in addition to the group's own; registered if it is new.
    pub fn series(&self, desc: &Desc, labels: &[(&str, &str)]) -> SeriesId {
        let family = self.families.intern(desc);
        let range = desc.range_of(&self.source);
        let own = self.const_labels.iter();
        let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
        let series = Series::new(
            &self.source,
            family,
            own.chain(labels.iter().copied()).collect(),
        );
        let mut table = lock::write(&self.table);
        let hash = hash_of(&series.prefix);
        if let Some(place) = table.place(hash, &series.prefix) {
            table.retired_at[place as usize] = None;
            return SeriesId { place, range };
        }
        if let Some(place) = self.reusable(&mut table) {
            table.replace(place, hash, series);
            drop(table);
            self.changed();
            return SeriesId { place, range };
        }
        if table.series.len() >= MAX_SERIES_PER_GROUP {
            let before = self.left_out.fetch_add(1, Ordering::Relaxed);
            if before == 0 {
                log::warn!(
                    "{}: more than {MAX_SERIES_PER_GROUP} series: {} and all further ones are dropped",
                    self.source,
                    series.prefix.trim_end()
                );
            }
            return SeriesId::NONE;
        }
        let id = SeriesId {
            place: table.series.len() as u32,
            range,
        };
        table.places.entry(hash).or_insert(id.place);
        table.series.push(Arc::new(series));
        table.values.push(AtomicU64::new(ABSENT_BITS));
        table.retired_at.push(None);
        drop(table);
        self.changed();
        id
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.families.changed();
    }

    /// Changes whenever a series is registered, and when the group is settled.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Marks a series as ended: it is not set any more. Its place is given to a new series when no kept row has a value of it.
    /// Only for gauges and for counters whose totals the source keeps, and not for power and energy of rails: charts and the
    /// statistics of consumers keep the last values of these by place.
    pub fn retire(&self, id: SeriesId) {
        let last = self.read_at().unwrap_or_default();
        lock::write(&self.table).retire(id.place, last);
    }

    /// Retires all series. One that is registered again is no longer retired.
    pub fn retire_all(&self) {
        let mut table = lock::write(&self.table);
        let last = self.read_at().unwrap_or_default();
        (0..table.series.len() as u32).for_each(|place| table.retire(place, last));
    }

    /// For how many more series there is room just now.
    pub fn room(&self) -> usize {
        let table = lock::read(&self.table);
        let oldest = self.oldest_row();
        let mut free = MAX_SERIES_PER_GROUP - table.series.len();
        for retired in &table.retired {
            if !is_reusable(retired.1, oldest) {
                break;
            }
            free += usize::from(table.is_retired(*retired));
        }
        free
    }

    /// A place whose retired series no kept row has a value of.
    fn reusable(&self, table: &mut SeriesTable) -> Option<u32> {
        let oldest = self.oldest_row();
        while let Some((place, last)) = table.retired.front().copied() {
            if !is_reusable(last, oldest) {
                return None;
            }
            table.retired.pop_front();
            if !table.is_retired((place, last)) {
                continue;
            }
            table.retired_at[place as usize] = None;
            // A series that is still set, such as by a new run of the source, has not ended.
            let value = table.values.get(place as usize)?;
            if value.load(Ordering::Relaxed) == ABSENT_BITS {
                return Some(place);
            }
        }
        None
    }

    /// When the oldest row that is kept was read.
    fn oldest_row(&self) -> BootTime {
        let oldest = self.history.next_at(&Cursor::default());
        oldest.or_else(|| self.read_at()).unwrap_or_default()
    }

    /// Claims the board's total with this grade, or withdraws the claim.
    pub fn claim_total(&self, grade: Option<Grade>) {
        if self.families.board.claim(self.board_id, grade) {
            self.families.changed();
        }
    }

    /// Identifies the group in the decision on the board's total.
    pub(super) fn board_id(&self) -> u64 {
        self.board_id
    }

    /// Withdraws the group from the decision on the board's total.
    pub(super) fn leave(&self) {
        self.families.board.leave(self.board_id);
    }

    /// Sets the value of a series until the first row is published.
    pub fn set_initial_value(&self, id: SeriesId, value: f64) {
        let _writer = lock::lock(&self.writer);
        if self.read_at().is_none() {
            if let Some(start) = lock::read(&self.table).values.get(id.place as usize) {
                start.store(value.to_bits(), Ordering::Relaxed);
            }
        }
    }

    /// Sets the staleness limit to the [`staleness_limit`] of this interval.
    pub fn set_interval(&self, interval: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let stale_after = nanos(staleness_limit(interval));
        self.stale_after.store(stale_after, Ordering::Relaxed);
        self.least_interval
            .fetch_min(nanos(interval), Ordering::Relaxed);
    }

    /// Whether it is read several times in so many nanoseconds, or was.
    pub(super) fn is_read_within(&self, nanos: i64) -> bool {
        let least = self.least_interval.load(Ordering::Relaxed);
        i64::try_from(least).is_ok_and(|least| least < nanos)
    }

    /// A row older than this many seconds is not exported.
    pub fn staleness_limit(&self) -> f64 {
        self.stale_after.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Begins a new run of the source. Earlier runs can no longer publish.
    pub fn new_generation(&self) -> u64 {
        let mut writer = lock::lock(&self.writer);
        writer.generation += 1;
        writer.generation
    }

    /// Publishes one poll's readings. Series without a reading become absent. False if this run has been replaced.
    pub fn publish(&self, generation: u64, readings: &Readings) -> bool {
        let mut writer = lock::lock(&self.writer);
        if writer.generation != generation {
            return false;
        }
        let table = lock::read(&self.table);
        let Writer { totals, began, .. } = &mut *writer;
        totals.resize(table.values.len(), 0.0);
        began.resize(table.values.len(), None);
        let Readings {
            at,
            max_gap,
            board: poll,
            ..
        } = readings;
        // The first readings settle what the source measures, and count already.
        let settles = !self.is_settled();
        if settles {
            self.families.board.settle(self.board_id);
        }
        let board = &self.families.board;
        let (of_board, moved) = board.publish(self.board_id, *at, *max_gap, poll);
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
        for &(SeriesId { place: id, .. }, increase) in &readings.increases {
            if let (Some(total), Some(value)) =
                (totals.get_mut(id as usize), values.get(id as usize))
            {
                if let Some(began) = began.get_mut(id as usize) {
                    began.get_or_insert(readings.at);
                }
                // A total never decreases: negative and NaN increases count as 0.
                *total += if increase > 0.0 { increase } else { 0.0 };
                value.store(total.to_bits(), Ordering::Relaxed);
            }
        }
        if let Some((SeriesId { place: id, .. }, joules, since)) = of_board {
            if let (Some(value), Some(began)) =
                (values.get(id as usize), began.get_mut(id as usize))
            {
                *began = Some(since);
                value.store(joules.to_bits(), Ordering::Relaxed);
            }
        }
        self.read_at.store(readings.at.0, Ordering::Relaxed);
        self.sequence.store(sequence + 2, Ordering::Release);
        let row = table.values.iter();
        let row = row.map(|value| f64::from_bits(value.load(Ordering::Relaxed)));
        // A row without a value that is exported is not kept.
        let mut all = table.series.iter().zip(row.clone());
        if all.any(|(series, value)| series.family.is_enabled() && !super::is_absent(value)) {
            self.history.push(readings.at, row);
        }
        if settles {
            self.settle();
        }
        if moved {
            self.families.changed();
        }
        true
    }

    /// Since when the counter at this place counts; `None` if it is no counter, or its source keeps the total.
    pub fn counter_start(&self, place: usize) -> Option<BootTime> {
        *lock::lock(&self.writer).began.get(place)?
    }

    /// Marks what the source measures as known. Until then the board's total of a later source is not exported, because it
    /// might have to give way a moment later.
    pub fn settle(&self) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            self.families.board.settle(self.board_id);
            self.changed();
        }
    }

    /// Whether the source has been read, or could not be.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// The last published rows.
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

    /// Whether there is a row that is not stale.
    pub fn is_fresh(&self, now: BootTime) -> bool {
        self.read_at().is_some_and(|at| {
            now.0.saturating_sub(at.0) <= self.stale_after.load(Ordering::Relaxed)
        })
    }

    /// Whether the series at this place has a value in the published row.
    pub fn has_value(&self, place: usize) -> bool {
        let table = lock::read(&self.table);
        let value = table.values.get(place);
        value.is_some_and(|value| value.load(Ordering::Relaxed) != ABSENT_BITS)
    }

    /// The value of a series in the published row.
    pub fn value(&self, id: SeriesId) -> Option<f64> {
        self.value_at(id.place as usize)
    }

    /// The value that was last published for the series at this place.
    pub fn value_at(&self, place: usize) -> Option<f64> {
        let table = lock::read(&self.table);
        let value = f64::from_bits(table.values.get(place)?.load(Ordering::Relaxed));
        (!super::is_absent(value)).then_some(value)
    }

    /// Whether all its series are about the exporter itself; such a group is not delivered sample by sample.
    pub(super) fn is_own(&self) -> bool {
        let table = lock::read(&self.table);
        !table.series.is_empty() && table.series.iter().all(|series| series.family.own)
    }

    /// How often a series was not registered because of [`MAX_SERIES_PER_GROUP`].
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Name and labels of a series.
    pub fn name(&self, id: SeriesId) -> Option<String> {
        let table = lock::read(&self.table);
        let series = table.series.get(id.place as usize)?;
        Some(series.prefix.trim_end().to_string())
    }

    /// All its series, in the order of their places in a row.
    pub fn all_series(&self) -> Vec<Arc<Series>> {
        lock::read(&self.table).series.clone()
    }

    /// Appends the `expected` first values of the published row; absent values if the row is stale or too short.
    pub(super) fn snapshot(&self, now: BootTime, expected: usize, out: &mut Vec<f64>) {
        let start = out.len();
        let table = lock::read(&self.table);
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before % 2 == 0 {
                // Before the first row there are only initial values.
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
            // The writer is between two stores, and needs the processor to finish.
            std::thread::yield_now();
        }
        drop(table);
        out.resize(start + expected, ABSENT);
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
