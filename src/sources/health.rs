//! The health of a source: its errors, the limits it has reached, the path that it is reading, and its I/O log.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::io_log::IoLog;
use super::natural::natural;
use crate::metrics::{Group, Readings, RejectReason, Rejected};
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::sort::sort_by;

/// The health of one source. Written by the source's thread; read by the watchdog, the exporter's own metrics and `doctor`.
#[derive(Debug, Default)]
pub struct Health {
    errors: AtomicU64,
    missed_ticks: AtomicU64,
    unparsed: AtomicU64,
    implausible: AtomicU64,
    /// The duration of the last poll, in nanoseconds.
    duration: AtomicU64,
    /// When the current poll began, in nanoseconds of the boot-time clock; 0 between polls.
    poll_began: AtomicU64,
    /// The id in `paths` of the path that is being read.
    current_path: AtomicU32,
    /// Counts the reads below one path.
    reads: AtomicU32,
    paths: Mutex<Paths>,
    watchdog: Mutex<WatchdogView>,
    /// Paths whose reading hung, and when they may be read again.
    excluded: Mutex<HashMap<PathBuf, Exclusion>>,
    last_error: Mutex<Option<String>>,
    /// Values that cannot be read now, and why.
    value_errors: Mutex<BTreeMap<PathBuf, String>>,
    /// Series whose readings were refused as implausible, by the series' place in the group.
    refusals: Mutex<BTreeMap<u32, Refusal>>,
    /// Whether a reading of the last poll was refused.
    had_refusals: AtomicBool,
    counters: Mutex<Vec<Arc<SourceCounter>>>,
    limits: Mutex<BTreeMap<&'static str, ReachedLimit>>,
    /// Whether the source has asked something that it does not wait for, and has no answer yet.
    is_asking: AtomicBool,
    /// Whether this is a probe, before there is a source. A probe does not log the limits it reaches.
    is_probe: bool,
    io_log: IoLog,
}

/// The paths that the source reads, each with an id.
#[derive(Debug, Default)]
struct Paths {
    by_id: Vec<Arc<Path>>,
    ids: HashMap<Arc<Path>, u32>,
}

/// A limit that was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedLimit {
    /// How much was left out because of the limit, added up over all occasions.
    pub left_out: u64,
    /// A description of the limit when it was first reached, for people.
    pub what: String,
}

impl Serialize for ReachedLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("left_out", &self.left_out)?;
        map.serialize_entry("what", &self.what)?;
        map.end()
    }
}

/// The last refused reading of a series.
#[derive(Debug)]
struct Refusal {
    value: f64,
    text: String,
    /// Whether the last poll had it.
    is_current: bool,
}

/// A counter that only this kind of source has, such as the datagrams that a UDP device lost. It is exported with the
/// exporter's own metrics, also while the source cannot be read.
#[derive(Debug)]
pub struct SourceCounter {
    /// The metric's name: `exporter_…_total`.
    pub name: &'static str,
    /// The metric's help.
    pub help: &'static str,
    /// The value of the label `kind`.
    pub kind: &'static str,
    count: AtomicU64,
}

impl SourceCounter {
    /// Adds one.
    pub fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The count.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// At most this many value errors, and as many refusals, are listed. The others are counted.
const MAX_LISTED: usize = 64;
/// At most this many value errors are kept.
const MAX_VALUE_ERRORS: usize = 8192;

/// The poll and the path at the watchdog's last check, and since when they have been the same.
#[derive(Debug, Clone, Copy, Default)]
struct WatchdogView {
    poll_began: u64,
    path: u32,
    reads: u32,
    since: BootTime,
}

/// A path that is not read because a read of it hung.
#[derive(Debug, Clone, Copy)]
struct Exclusion {
    /// The generation of the source's thread that hangs in the read.
    generation: u64,
    pause: Duration,
    /// `None` while that thread still hangs: another one would hang, too.
    until: Option<Instant>,
}

impl Exclusion {
    const MIN_PAUSE: Duration = Duration::from_secs(10);
    const MAX_PAUSE: Duration = Duration::from_secs(600);
}

impl Health {
    /// The health of a source with this I/O log.
    pub fn with_io_log(io_log: IoLog) -> Health {
        Health {
            io_log,
            ..Health::default()
        }
    }

    /// A health for reading the board's files before there is a source.
    pub fn for_probe(io_log: IoLog) -> Health {
        Health {
            is_probe: true,
            ..Health::with_io_log(io_log)
        }
    }

    /// The source's I/O log, or none.
    #[inline]
    pub fn io_log(&self) -> &IoLog {
        &self.io_log
    }

    /// The id of a path, for [`Health::begin_read`]. Ids are assigned on first use.
    pub fn path_id(&self, path: &Path) -> u32 {
        let mut paths = lock::lock(&self.paths);
        if let Some(id) = paths.ids.get(path) {
            return *id;
        }
        let id = paths.by_id.len() as u32;
        let path: Arc<Path> = path.into();
        paths.by_id.push(Arc::clone(&path));
        paths.ids.insert(path, id);
        id
    }

    /// Records for the watchdog that this path is read next.
    #[inline]
    pub fn begin_read(&self, path_id: u32) {
        self.current_path.store(path_id, Ordering::Relaxed);
    }

    /// Notes for the watchdog that another file below the same path is read: a folder of thousands of files takes its time.
    #[inline]
    pub fn continue_read(&self) {
        // One thread reads at a time.
        let reads = self.reads.load(Ordering::Relaxed);
        self.reads.store(reads.wrapping_add(1), Ordering::Relaxed);
    }

    /// Notes for the watchdog that the read is over.
    #[inline]
    pub fn end_read(&self) {
        self.begin_read(u32::MAX);
    }

    /// Records for the watchdog that a poll begins.
    pub fn poll_begins(&self, at: BootTime) {
        self.end_read();
        self.poll_began.store(at.0.max(1), Ordering::Relaxed);
    }

    /// Records for the watchdog that the poll that began at `began` is over, and keeps the poll's duration.
    pub fn poll_ended(&self, began: BootTime, now: BootTime) {
        self.idle();
        self.duration
            .store(now.0.saturating_sub(began.0), Ordering::Relaxed);
    }

    /// Records for the watchdog that no poll is in progress.
    pub fn idle(&self) {
        self.poll_began.store(0, Ordering::Relaxed);
    }

    /// The path whose reading is stuck. A source is stuck if the current poll has lasted longer than `max_poll` and the
    /// watchdog, which calls this, has seen the source read the same path for longer than `max_read`. The second condition
    /// keeps a poll of many slow reads from being blamed on the path that happens to be read.
    pub fn stuck_in(
        &self,
        now: BootTime,
        max_poll: Duration,
        max_read: Duration,
    ) -> Option<PathBuf> {
        let current = WatchdogView {
            poll_began: self.poll_began.load(Ordering::Relaxed),
            path: self.current_path.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            since: now,
        };
        let mut seen = lock::lock(&self.watchdog);
        let what = |view: &WatchdogView| (view.poll_began, view.path, view.reads);
        if what(&seen) != what(&current) {
            *seen = current;
        }
        let longer =
            |since: u64, than: Duration| Duration::from_nanos(now.0.saturating_sub(since)) > than;
        let is_stuck = current.poll_began != 0
            && longer(current.poll_began, max_poll)
            && longer(seen.since.0, max_read);
        let paths = lock::lock(&self.paths);
        let path = paths
            .by_id
            .get(current.path as usize)
            .filter(|_| is_stuck)?;
        Some(path.to_path_buf())
    }

    /// Excludes a path, since the source's thread of this generation hangs in reading it.
    pub fn exclude(&self, path: &Path, generation: u64) {
        let mut excluded = lock::lock(&self.excluded);
        let pause = excluded.get(path).map_or(Exclusion::MIN_PAUSE, |before| {
            (before.pause * 2).min(Exclusion::MAX_PAUSE)
        });
        excluded.insert(
            path.to_path_buf(),
            Exclusion {
                generation,
                pause,
                until: None,
            },
        );
    }

    /// Allows the paths that the thread of this generation hung in to be read again after a pause. The thread has returned.
    pub fn release_excluded(&self, generation: u64) {
        for exclusion in lock::lock(&self.excluded).values_mut() {
            if exclusion.generation == generation && exclusion.until.is_none() {
                exclusion.until = Some(Instant::now() + exclusion.pause);
            }
        }
    }

    /// Whether a path must not be read now.
    pub fn is_excluded(&self, path: &Path) -> bool {
        lock::lock(&self.excluded)
            .get(path)
            .is_some_and(|e| e.until.is_none_or(|until| Instant::now() < until))
    }

    /// Counts a failure of one value.
    pub fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of failures of single values and of whole polls.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Notes that the source has asked something that its polls do not wait for, or that this was answered or has failed.
    pub fn set_asking(&self, is_asking: bool) {
        self.is_asking.store(is_asking, Ordering::Relaxed);
    }

    /// Whether an answer that polls do not wait for is due.
    pub fn is_asking(&self) -> bool {
        self.is_asking.load(Ordering::Relaxed)
    }

    /// Counts ticks at which no poll could begin because the previous one was still in progress.
    pub fn count_missed_ticks(&self, ticks: u64) {
        self.missed_ticks.fetch_add(ticks, Ordering::Relaxed);
    }

    /// The number of missed ticks.
    pub fn missed_ticks(&self) -> u64 {
        self.missed_ticks.load(Ordering::Relaxed)
    }

    /// Counts tokens that a parser did not understand and skipped.
    pub fn count_unparsed(&self, tokens: u64) {
        self.unparsed.fetch_add(tokens, Ordering::Relaxed);
    }

    /// The number of skipped tokens.
    pub fn unparsed(&self) -> u64 {
        self.unparsed.load(Ordering::Relaxed)
    }

    /// Counts the readings of a poll that were refused as implausible. `source` is the source's name in the log. A refusal
    /// is logged as a warning once per series.
    #[inline]
    pub fn record_refused(&self, source: &str, group: &Group, readings: &Readings) {
        if !readings.rejected().is_empty() || self.had_refusals.load(Ordering::Relaxed) {
            self.update_refusals(source, group, readings.rejected());
        }
    }

    #[cold]
    fn update_refusals(&self, source: &str, group: &Group, refused: &[Rejected]) {
        self.implausible
            .fetch_add(refused.len() as u64, Ordering::Relaxed);
        self.had_refusals
            .store(!refused.is_empty(), Ordering::Relaxed);
        let mut refusals = lock::lock(&self.refusals);
        refusals
            .values_mut()
            .for_each(|known| known.is_current = false);
        for reading in refused {
            let place = reading.id.place();
            let known = refusals.get_mut(&place);
            if let Some(known) = known.filter(|known| known.value == reading.value) {
                known.is_current = true;
                continue;
            }
            let name = group.name(reading.id);
            let text = describe(name.as_deref().unwrap_or("a series too many"), reading);
            let refusal = Refusal {
                value: reading.value,
                is_current: true,
                text,
            };
            let message = format!("{source}: {}", refusal.text);
            match refusals.insert(place, refusal) {
                None => log::warn!("{message}"),
                Some(_) => log::debug!("{message}"),
            }
        }
    }

    /// The number of refused readings: values that a meter of this kind cannot give, and jumps of a counter.
    pub fn implausible(&self) -> u64 {
        self.implausible.load(Ordering::Relaxed)
    }

    /// The source's counter of this name and kind, created at 0 on first use.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
    ) -> Arc<SourceCounter> {
        let mut counters = lock::lock(&self.counters);
        let found = counters.iter().find(|c| c.name == name && c.kind == kind);
        if let Some(counter) = found {
            return Arc::clone(counter);
        }
        let counter = Arc::new(SourceCounter {
            name,
            help,
            kind,
            count: AtomicU64::new(0),
        });
        counters.push(Arc::clone(&counter));
        counter
    }

    /// All counters of the source.
    pub fn counters(&self) -> Vec<Arc<SourceCounter>> {
        lock::lock(&self.counters).clone()
    }

    /// Counts `n` things left out because of a limit, and logs the first occasion. Nothing happens if `n` is 0.
    pub fn left_out(&self, limit: &'static str, n: u64, what: impl FnOnce() -> String) {
        if n == 0 {
            return;
        }
        let mut limits = lock::lock(&self.limits);
        if let Some(known) = limits.get_mut(limit) {
            known.left_out = known.left_out.saturating_add(n);
            return;
        }
        let what = what();
        if !self.is_probe {
            log::warn!("{what}; the rest is dropped (limit: {limit})");
        }
        limits.insert(limit, ReachedLimit { left_out: n, what });
    }

    /// The limits that were reached, by name.
    pub fn limits(&self) -> BTreeMap<&'static str, ReachedLimit> {
        lock::lock(&self.limits).clone()
    }

    /// The duration of the last poll, in seconds.
    pub fn poll_seconds(&self) -> f64 {
        self.duration.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Sets or clears the error of the value at `path`.
    pub fn set_value_error(&self, path: &Path, error: Option<String>) {
        let mut errors = lock::lock(&self.value_errors);
        match error {
            Some(error) if errors.len() < MAX_VALUE_ERRORS || errors.contains_key(path) => {
                errors.insert(path.to_path_buf(), error);
            }
            Some(_) => {
                drop(errors);
                self.left_out("complaints", 1, || {
                    format!("more than {MAX_VALUE_ERRORS} values cannot be read")
                });
            }
            None => {
                errors.remove(path);
            }
        }
    }

    /// Whether this value has an error now.
    pub fn has_value_error(&self, path: &Path) -> bool {
        lock::lock(&self.value_errors).contains_key(path)
    }

    /// Drops the errors of files whose folder was removed, since nothing reads these files any more. Does nothing if there
    /// is an I/O log: recorded files may have no folder.
    pub fn forget_removed(&self) {
        if self.io_log.is_off() {
            let exists = |path: &PathBuf| path.parent().is_none_or(Path::exists);
            lock::lock(&self.value_errors).retain(|path, _| exists(path));
        }
    }

    /// The errors of values that cannot be read now, and the readings that were refused, for people. The first of each are
    /// listed, the others are counted.
    pub fn value_errors(&self) -> Vec<String> {
        let errors = lock::lock(&self.value_errors);
        let mut sorted: Vec<_> = errors.iter().collect();
        sort_by(&mut sorted, |(a, _), (b, _)| {
            natural(&a.to_string_lossy(), &b.to_string_lossy())
        });
        let mut lines: Vec<String> = sorted.iter().map(|(_, why)| (*why).clone()).collect();
        if let Some(more @ 1..) = lines.len().checked_sub(MAX_LISTED) {
            lines.truncate(MAX_LISTED);
            lines.push(format!("and {more} more values cannot be read"));
        }
        let refusals = lock::lock(&self.refusals);
        let current = || refusals.values().filter(|refusal| refusal.is_current);
        lines.extend(
            current()
                .take(MAX_LISTED)
                .map(|refusal| refusal.text.clone()),
        );
        if let Some(more @ 1..) = current().count().checked_sub(MAX_LISTED) {
            lines.push(format!("and {more} more values that are not plausible"));
        }
        lines
    }

    /// Sets or clears the error of the source as a whole. Returns whether it changed.
    pub fn set_error(&self, error: Option<String>) -> bool {
        let mut last = lock::lock(&self.last_error);
        let changed = *last != error;
        *last = error;
        changed
    }

    /// Why the source as a whole cannot be read. `None` if it can.
    pub fn last_error(&self) -> Option<String> {
        lock::lock(&self.last_error).clone()
    }
}

fn describe(name: &str, refused: &Rejected) -> String {
    let Rejected { id, value, reason } = refused;
    let range = id.range();
    let unit = range.unit;
    match reason {
        RejectReason::Jump(seconds) => format!(
            "{name}: it moved by {value} in {seconds} s, which is no consumption but a counter that was set anew or a wrong \
             reading: it is not counted"
        ),
        RejectReason::Unknown => {
            format!("{name}: {value} J are a counter with all bits set, which is not known: it is left out")
        }
        RejectReason::Implausible if range.is_unbounded() => {
            format!("{name}: {value} is no number, or a driver's word for \"not known\": it is left out")
        }
        RejectReason::Implausible => format!(
            "{name}: {value} {unit} is not plausible (from {} to {} {unit}, and no driver's word for \"not known\"): it is left \
             out",
            range.min, range.max
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_value_errors_are_listed_and_the_rest_counted() {
        let health = Health::default();
        for n in (0..200).rev() {
            let path = format!("/sys/temp{n}_input");
            health.set_value_error(Path::new(&path), Some(path.clone()));
        }
        let errors = health.value_errors();
        assert_eq!(errors.len(), MAX_LISTED + 1);
        assert_eq!(errors[0], "/sys/temp0_input");
        assert_eq!(errors[MAX_LISTED - 1], "/sys/temp63_input");
        assert_eq!(errors[MAX_LISTED], "and 136 more values cannot be read");
    }

    #[test]
    fn things_left_out_because_of_a_limit_add_up() {
        let health = Health::default();
        health.left_out("zones", 0, || unreachable!());
        assert!(health.limits().is_empty());
        health.left_out("zones", 3, || "260 zones".to_string());
        health.left_out("zones", 2, || "others".to_string());
        health.left_out("zones", u64::MAX, || "others".to_string());
        let limits = health.limits();
        assert_eq!(limits["zones"].left_out, u64::MAX);
        assert_eq!(limits["zones"].what, "260 zones");
    }

    #[test]
    fn stuck_poll_is_reported_with_its_path() {
        const MS: u64 = 1_000_000;
        let limit = Duration::from_millis(200);
        let health = Health::default();
        let stuck = |ms: u64| health.stuck_in(BootTime(ms * MS), limit, limit);
        let slow = Path::new("/sys/slow");
        let (a, b) = (
            health.path_id(Path::new("/sys/quick")),
            health.path_id(slow),
        );
        assert_eq!(health.path_id(slow), b);
        assert_eq!(stuck(500), None, "no poll is in progress");
        health.poll_begins(BootTime(1_000 * MS));
        assert_eq!(stuck(1_500), None, "nothing is being read");
        health.begin_read(a);
        health.begin_read(b);
        assert_eq!(stuck(2_000), None, "seen for the first time");
        assert_eq!(stuck(2_250).as_deref(), Some(slow));
        health.poll_ended(BootTime(1_000 * MS), BootTime(2_300 * MS));
        assert_eq!(stuck(2_500), None);
        assert_eq!(health.poll_seconds(), 1.3);
    }

    #[test]
    fn poll_of_many_slow_reads_is_not_stuck() {
        let health = Health::default();
        let limit = Duration::from_millis(200);
        health.poll_begins(BootTime(1));
        for n in 0..40 {
            health.begin_read(health.path_id(Path::new(&format!("/sys/{n}"))));
            let now = BootTime((n + 1) * 250_000_000);
            assert_eq!(health.stuck_in(now, limit, limit), None);
        }
    }

    #[test]
    fn many_reads_below_one_path_are_not_a_hang() {
        let health = Health::default();
        let limit = Duration::from_millis(200);
        health.poll_begins(BootTime(1));
        health.begin_read(health.path_id(Path::new("/sys/fs/cgroup")));
        for n in 0..40 {
            health.continue_read();
            let now = BootTime((n + 1) * 250_000_000);
            assert_eq!(health.stuck_in(now, limit, limit), None);
        }
        let now = BootTime(41 * 250_000_000);
        assert!(health.stuck_in(now, limit, limit).is_some());
    }

    #[test]
    fn released_path_stays_excluded_for_a_pause() {
        let health = Health::default();
        let path = Path::new("/sys/slow");
        assert!(!health.is_excluded(path));
        health.exclude(path, 1);
        assert!(health.is_excluded(path));
        health.release_excluded(1);
        assert!(health.is_excluded(path));
        assert!(!health.is_excluded(Path::new("/sys/other")));
    }
}
