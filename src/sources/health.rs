//! How a source fares, what it is reading right now, and by way of which I/O log.

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

/// Written by the source's thread, read by the watchdog and by whoever shows the exporter's own metrics.
#[derive(Debug, Default)]
pub struct Health {
    errors: AtomicU64,
    missed_ticks: AtomicU64,
    unparsed: AtomicU64,
    implausible: AtomicU64,
    /// How long the last poll took, in nanoseconds.
    duration: AtomicU64,
    /// When the poll under way began, in boot-time nanoseconds; 0 between polls.
    poll_began: AtomicU64,
    /// What is being read: a place in `items`.
    item: AtomicU32,
    items: Mutex<Items>,
    watched: Mutex<Watched>,
    /// What hung, and from when on it may be tried again.
    excluded: Mutex<HashMap<PathBuf, Exclusion>>,
    last_error: Mutex<Option<String>>,
    /// Values that cannot be read just now, and why.
    complaints: Mutex<BTreeMap<PathBuf, String>>,
    /// By place, the series for which something was read that is no value.
    refusals: Mutex<BTreeMap<u32, Refusal>>,
    /// Whether the last poll had such.
    refuses: AtomicBool,
    tallies: Mutex<Vec<Arc<Tally>>>,
    limits: Mutex<BTreeMap<&'static str, Limit>>,
    /// There is no source yet: what is found out is not said in the log.
    quiet: bool,
    io_log: IoLog,
}

/// The paths that can be read: by their places, and their places.
#[derive(Debug, Default)]
struct Items {
    paths: Vec<Arc<Path>>,
    places: HashMap<Arc<Path>, u32>,
}

/// What a limit has cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// How many things were left out because of it, each time that they were.
    pub left_out: u64,
    /// What was left out the first time, for people.
    pub what: String,
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("left_out", &self.left_out)?;
        map.serialize_entry("what", &self.what)?;
        map.end()
    }
}

#[derive(Debug)]
struct Refusal {
    value: f64,
    text: String,
    /// Whether it was so in the last poll.
    is_now: bool,
}

/// A count that only this kind of source has, by kind. It is shown beside the exporter's own, also while the source
/// itself cannot be read.
#[derive(Debug)]
pub struct Tally {
    /// The family: `exporter_…_total`.
    pub name: &'static str,
    /// Its help.
    pub help: &'static str,
    /// The label `kind`.
    pub kind: &'static str,
    count: AtomicU64,
}

impl Tally {
    /// Counts one more.
    pub fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// A board whose files all fail need not have them all told: so many are, and of the rest their number.
const MOST_COMPLAINTS: usize = 64;
/// So many are kept.
const MOST_KEPT: usize = 8192;

/// What the watchdog saw when it last looked, and since when it has been seeing that.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    poll_began: u64,
    item: u32,
    since: BootTime,
}

#[derive(Debug, Clone, Copy)]
struct Exclusion {
    /// The run of the source that hangs in it.
    generation: u64,
    pause: Duration,
    /// `None` while that run still hangs: a second one would hang too.
    until: Option<Instant>,
}

impl Exclusion {
    const FIRST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(600);
}

impl Health {
    /// That of a source whose world passes by this I/O log.
    pub fn on(io_log: IoLog) -> Health {
        Health {
            io_log,
            ..Health::default()
        }
    }

    /// That of a look at the board, before there is a source.
    pub fn of_probe(io_log: IoLog) -> Health {
        Health {
            quiet: true,
            ..Health::on(io_log)
        }
    }

    /// What the source's world passes by.
    #[inline]
    pub fn io_log(&self) -> &IoLog {
        &self.io_log
    }

    /// The place of a path in the list of what can be read.
    pub fn item(&self, path: &Path) -> u32 {
        let mut items = lock::lock(&self.items);
        if let Some(place) = items.places.get(path) {
            return *place;
        }
        let place = items.paths.len() as u32;
        let path: Arc<Path> = path.into();
        items.paths.push(Arc::clone(&path));
        items.places.insert(path, place);
        place
    }

    /// Says what is read next.
    #[inline]
    pub fn reading(&self, item: u32) {
        self.item.store(item, Ordering::Relaxed);
    }

    /// Says that nothing is being read: what the source does now is its own.
    #[inline]
    pub fn was_read(&self) {
        self.reading(u32::MAX);
    }

    /// A poll begins.
    pub fn poll_begins(&self, at: BootTime) {
        self.was_read();
        self.poll_began.store(at.0.max(1), Ordering::Relaxed);
    }

    /// The poll that began at `began` is over.
    pub fn poll_ended(&self, began: BootTime, now: BootTime) {
        self.idle();
        self.duration
            .store(now.0.saturating_sub(began.0), Ordering::Relaxed);
    }

    /// Nothing is being read.
    pub fn idle(&self) {
        self.poll_began.store(0, Ordering::Relaxed);
    }

    /// What hangs: the path being read, if the poll under way has been going on for longer than `poll` and the
    /// watchdog, who calls this, has been seeing it read that path for longer than `item`. The second keeps a long row
    /// of slow values from costing the one that happens to be read just now.
    pub fn stuck_in(&self, now: BootTime, poll: Duration, item: Duration) -> Option<PathBuf> {
        let seen = Watched {
            poll_began: self.poll_began.load(Ordering::Relaxed),
            item: self.item.load(Ordering::Relaxed),
            since: now,
        };
        let mut watched = lock::lock(&self.watched);
        if (watched.poll_began, watched.item) != (seen.poll_began, seen.item) {
            *watched = seen;
        }
        let longer =
            |since: u64, than: Duration| Duration::from_nanos(now.0.saturating_sub(since)) > than;
        let stuck =
            seen.poll_began != 0 && longer(seen.poll_began, poll) && longer(watched.since.0, item);
        let items = lock::lock(&self.items);
        let item = items.paths.get(seen.item as usize).filter(|_| stuck)?;
        Some(item.to_path_buf())
    }

    /// Leaves a path alone, since this run of the source hangs in it.
    pub fn exclude(&self, path: &Path, generation: u64) {
        let mut excluded = lock::lock(&self.excluded);
        let pause = excluded.get(path).map_or(Exclusion::FIRST, |before| {
            (before.pause * 2).min(Exclusion::LONGEST)
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

    /// The run came back: what it hung in may be tried again after a pause.
    pub fn released(&self, generation: u64) {
        for exclusion in lock::lock(&self.excluded).values_mut() {
            if exclusion.generation == generation && exclusion.until.is_none() {
                exclusion.until = Some(Instant::now() + exclusion.pause);
            }
        }
    }

    /// Whether a path is to be left alone.
    pub fn is_excluded(&self, path: &Path) -> bool {
        lock::lock(&self.excluded)
            .get(path)
            .is_some_and(|e| e.until.is_none_or(|until| Instant::now() < until))
    }

    /// Counts a failure of one value.
    pub fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Failures, of single values and of whole polls.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Counts moments at which a poll should have begun but the one before was still under way.
    pub fn count_missed(&self, ticks: u64) {
        self.missed_ticks.fetch_add(ticks, Ordering::Relaxed);
    }

    /// See [`Health::count_missed`].
    pub fn missed_ticks(&self) -> u64 {
        self.missed_ticks.load(Ordering::Relaxed)
    }

    /// Counts what a parser did not understand and passed over.
    pub fn count_unparsed(&self, tokens: u64) {
        self.unparsed.fetch_add(tokens, Ordering::Relaxed);
    }

    /// See [`Health::count_unparsed`].
    pub fn unparsed(&self) -> u64 {
        self.unparsed.load(Ordering::Relaxed)
    }

    /// Counts what the source, as the log calls it, read in this poll that is no value. It is said once for each series.
    #[inline]
    pub fn refused(&self, source: &str, group: &Group, readings: &Readings) {
        if !readings.rejected().is_empty() || self.refuses.load(Ordering::Relaxed) {
            self.note_refused(source, group, readings.rejected());
        }
    }

    #[cold]
    fn note_refused(&self, source: &str, group: &Group, refused: &[Rejected]) {
        self.implausible
            .fetch_add(refused.len() as u64, Ordering::Relaxed);
        self.refuses.store(!refused.is_empty(), Ordering::Relaxed);
        let mut refusals = lock::lock(&self.refusals);
        refusals.values_mut().for_each(|known| known.is_now = false);
        for one in refused {
            let place = one.id.place();
            let known = refusals.get_mut(&place);
            if let Some(known) = known.filter(|known| known.value == one.value) {
                known.is_now = true;
                continue;
            }
            let name = group.name(one.id);
            let text = describe(name.as_deref().unwrap_or("a series too many"), one);
            let refusal = Refusal {
                value: one.value,
                is_now: true,
                text,
            };
            let news = format!("{source}: {}", refusal.text);
            match refusals.insert(place, refusal) {
                None => log::warn!("{news}"),
                Some(_) => log::debug!("{news}"),
            }
        }
    }

    /// How many values were read that no meter of this kind gives, or that no time and no rating explains.
    pub fn implausible(&self) -> u64 {
        self.implausible.load(Ordering::Relaxed)
    }

    /// A count of the source's own: the one that is there, if it was asked for before.
    pub fn tally(&self, name: &'static str, help: &'static str, kind: &'static str) -> Arc<Tally> {
        let mut tallies = lock::lock(&self.tallies);
        let found = tallies.iter().find(|t| t.name == name && t.kind == kind);
        if let Some(tally) = found {
            return Arc::clone(tally);
        }
        let tally = Arc::new(Tally {
            name,
            help,
            kind,
            count: AtomicU64::new(0),
        });
        tallies.push(Arc::clone(&tally));
        tally
    }

    /// All of the source's own counts.
    pub fn tallies(&self) -> Vec<Arc<Tally>> {
        lock::lock(&self.tallies).clone()
    }

    /// Counts what was left out because of a limit, and says it in the log the first time. 0 says nothing.
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
        if !self.quiet {
            log::warn!("{what}; the rest is left out (limit: {limit})");
        }
        limits.insert(limit, Limit { left_out: n, what });
    }

    /// The limits that were reached, by name.
    pub fn limits(&self) -> BTreeMap<&'static str, Limit> {
        lock::lock(&self.limits).clone()
    }

    /// How long the last poll took, in seconds.
    pub fn poll_seconds(&self) -> f64 {
        self.duration.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Says why a value cannot be read, or that it can be again.
    pub fn complain(&self, path: &Path, why: Option<String>) {
        let mut complaints = lock::lock(&self.complaints);
        match why {
            Some(why) if complaints.len() < MOST_KEPT || complaints.contains_key(path) => {
                complaints.insert(path.to_path_buf(), why);
            }
            Some(_) => {
                drop(complaints);
                self.left_out("complaints", 1, || {
                    format!("more than {MOST_KEPT} values cannot be read")
                });
            }
            None => {
                complaints.remove(path);
            }
        }
    }

    /// Whether something was said of this path.
    pub fn complains_of(&self, path: &Path) -> bool {
        lock::lock(&self.complaints).contains_key(path)
    }

    /// Takes back what was said of files whose folder is gone: nobody reads them any more. (What was recorded may have
    /// no folders.)
    pub fn forget_gone(&self) {
        if self.io_log.is_off() {
            let is_there = |path: &PathBuf| path.parent().is_none_or(Path::exists);
            lock::lock(&self.complaints).retain(|path, _| is_there(path));
        }
    }

    /// Why values cannot be read just now: the first of them in their natural order, and how many more there are.
    pub fn complaints(&self) -> Vec<String> {
        let complaints = lock::lock(&self.complaints);
        let mut all: Vec<_> = complaints.iter().collect();
        all.sort_by(|(a, _), (b, _)| natural(&a.to_string_lossy(), &b.to_string_lossy()));
        let mut told: Vec<String> = all.iter().map(|(_, why)| (*why).clone()).collect();
        if let Some(more @ 1..) = told.len().checked_sub(MOST_COMPLAINTS) {
            told.truncate(MOST_COMPLAINTS);
            told.push(format!("and {more} more values cannot be read"));
        }
        let refusals = lock::lock(&self.refusals);
        let now = || refusals.values().filter(|refusal| refusal.is_now);
        told.extend(now().take(MOST_COMPLAINTS).map(|one| one.text.clone()));
        if let Some(more @ 1..) = now().count().checked_sub(MOST_COMPLAINTS) {
            told.push(format!("and {more} more values that are not plausible"));
        }
        told
    }

    /// Sets or clears why the source as a whole cannot be read; true if that is news.
    pub fn set_error(&self, error: Option<String>) -> bool {
        let mut last = lock::lock(&self.last_error);
        let news = *last != error;
        *last = error;
        news
    }

    /// Why the source as a whole cannot be read.
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
    fn of_many_complaints_the_first_are_told_and_the_rest_is_counted() {
        let health = Health::default();
        for n in (0..200).rev() {
            let path = format!("/sys/temp{n}_input");
            health.complain(Path::new(&path), Some(path.clone()));
        }
        let told = health.complaints();
        assert_eq!(told.len(), MOST_COMPLAINTS + 1);
        assert_eq!(told[0], "/sys/temp0_input");
        assert_eq!(told[MOST_COMPLAINTS - 1], "/sys/temp63_input");
        assert_eq!(told[MOST_COMPLAINTS], "and 136 more values cannot be read");
    }

    #[test]
    fn a_limit_is_counted_by_what_it_costs() {
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
    fn names_what_a_poll_is_stuck_in() {
        const MS: u64 = 1_000_000;
        let limit = Duration::from_millis(200);
        let health = Health::default();
        let stuck = |ms: u64| health.stuck_in(BootTime(ms * MS), limit, limit);
        let slow = Path::new("/sys/slow");
        let (a, b) = (health.item(Path::new("/sys/quick")), health.item(slow));
        assert_eq!(health.item(slow), b);
        assert_eq!(stuck(500), None, "no poll is under way");
        health.poll_begins(BootTime(1_000 * MS));
        assert_eq!(stuck(1_500), None, "nothing is being read");
        health.reading(a);
        health.reading(b);
        assert_eq!(stuck(2_000), None, "seen for the first time");
        assert_eq!(stuck(2_250).as_deref(), Some(slow));
        health.poll_ended(BootTime(1_000 * MS), BootTime(2_300 * MS));
        assert_eq!(stuck(2_500), None);
        assert_eq!(health.poll_seconds(), 1.3);
    }

    #[test]
    fn a_long_row_of_slow_values_is_not_stuck_in_any() {
        let health = Health::default();
        let limit = Duration::from_millis(200);
        health.poll_begins(BootTime(1));
        for n in 0..40 {
            health.reading(health.item(Path::new(&format!("/sys/{n}"))));
            let now = BootTime((n + 1) * 250_000_000);
            assert_eq!(health.stuck_in(now, limit, limit), None);
        }
    }

    #[test]
    fn what_hangs_is_left_alone_until_it_came_back_and_a_pause_is_over() {
        let health = Health::default();
        let path = Path::new("/sys/slow");
        assert!(!health.is_excluded(path));
        health.exclude(path, 1);
        assert!(health.is_excluded(path));
        health.released(1);
        assert!(health.is_excluded(path));
        assert!(!health.is_excluded(Path::new("/sys/other")));
    }
}
