//! The last rows of a group, for consumers of every sample: a ring of words, and a cursor for each consumer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::is_absent;
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// Words before a row's values: its time, then its width and the number of present values.
const HEADER_WORDS: usize = 2;
/// Words that a reader copies under the lock, which limits how long the source's thread waits.
const CHUNK_WORDS: usize = 8 * 1024;

/// The rows that one source published last. Limited in age and in bytes; the oldest rows are dropped.
#[derive(Debug)]
pub struct History {
    /// Whether rows are kept at all, known to the publisher without the lock.
    keeps: AtomicBool,
    ring: Mutex<Ring>,
    /// Samples ever added. The counter outlives the history, so that consumers can count what they lost with it.
    added: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Ring {
    /// Header and values of each row, one after the other.
    words: VecDeque<u64>,
    /// Position of the first word, counted since the history was created.
    start: u64,
    /// Samples and rows dropped so far.
    dropped_samples: u64,
    dropped_rows: u64,
    rows: usize,
    max_age: Duration,
    max_words: usize,
    max_rows: usize,
    /// When the last row was read.
    newest: BootTime,
}

/// How far a consumer has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Position of the next word.
    place: u64,
    /// Samples before it.
    samples: u64,
    /// Rows before it.
    rows: u64,
}

/// Rows copied out of a history.
#[derive(Debug, Default)]
pub struct Rows {
    words: Vec<u64>,
    /// Samples that were dropped before the consumer read them.
    pub dropped: u64,
}

impl Default for History {
    /// Keeps nothing until [`History::limit`] is called.
    fn default() -> Self {
        History {
            keeps: AtomicBool::new(false),
            added: Arc::default(),
            ring: Mutex::new(Ring {
                words: VecDeque::new(),
                start: 0,
                dropped_samples: 0,
                dropped_rows: 0,
                rows: 0,
                max_age: Duration::ZERO,
                max_words: 0,
                max_rows: usize::MAX,
                newest: BootTime::default(),
            }),
        }
    }
}

impl History {
    /// Keeps rows no older than `max_age`, in at most `bytes`. Zero of either keeps nothing.
    pub fn limit(&self, max_age: Duration, bytes: usize) {
        let mut ring = lock::lock(&self.ring);
        ring.max_age = max_age;
        ring.max_words = if max_age.is_zero() {
            0
        } else {
            bytes / size_of::<u64>()
        };
        self.keeps.store(ring.max_words > 0, Ordering::Relaxed);
        ring.make_room(0, None);
        ring.words.shrink_to_fit();
    }

    /// Also limits the number of rows.
    pub fn limit_rows(&self, rows: usize) {
        let mut ring = lock::lock(&self.ring);
        ring.max_rows = rows.max(1);
        // `make_room` would leave room for one more row.
        while ring.rows > ring.max_rows && ring.drop_oldest() {}
    }

    /// Adds the row that was read at `at`. A row without a present value is ignored.
    pub(super) fn push(&self, at: BootTime, values: impl ExactSizeIterator<Item = f64> + Clone) {
        if !self.keeps.load(Ordering::Relaxed) {
            return;
        }
        let mut ring = lock::lock(&self.ring);
        let width = values.len();
        if ring.max_words < HEADER_WORDS + width {
            return;
        }
        let present = values.clone().filter(|value| !is_absent(*value)).count();
        if present == 0 {
            return;
        }
        ring.make_room(HEADER_WORDS + width, Some(at));
        ring.grow(HEADER_WORDS + width);
        ring.rows += 1;
        self.added.fetch_add(present as u64, Ordering::Relaxed);
        ring.newest = at;
        ring.words.push_back(at.0);
        ring.words.push_back((width as u64) << 32 | present as u64);
        ring.words.extend(values.map(f64::to_bits));
    }

    /// A cursor at the first row read at or after `since`.
    pub fn cursor_since(&self, since: BootTime) -> Cursor {
        let ring = lock::lock(&self.ring);
        let mut cursor = ring.oldest();
        while let Some((at, width, present)) = ring.header(cursor) {
            if at >= since {
                break;
            }
            cursor = cursor.after(width, present);
        }
        cursor
    }

    /// The number of samples ever added.
    pub fn added(&self) -> &Arc<AtomicU64> {
        &self.added
    }

    /// Reads the next rows, a few thousand values at a time, and moves the cursor behind them. `false` if there are none.
    pub fn read(&self, cursor: &mut Cursor, rows: &mut Rows) -> bool {
        self.read_while(cursor, rows, |_| true)
    }

    /// Like [`History::read`], up to the first row that `accepts`, called with the time of each row, rejects. The cursor stays
    /// before that row. `accepts` runs under the lock, and has to be quick.
    pub fn read_while(
        &self,
        cursor: &mut Cursor,
        rows: &mut Rows,
        mut accepts: impl FnMut(BootTime) -> bool,
    ) -> bool {
        rows.words.clear();
        let ring = lock::lock(&self.ring);
        let oldest = ring.oldest();
        if cursor.place < oldest.place {
            rows.dropped += oldest.samples - cursor.samples;
            *cursor = oldest;
        }
        let begin = cursor.place;
        while let Some((at, width, present)) = ring.header(*cursor) {
            let length = (cursor.place - begin) as usize;
            if length > 0 && length + HEADER_WORDS + width > CHUNK_WORDS || !accepts(at) {
                break;
            }
            *cursor = cursor.after(width, present);
        }
        let from = (begin - ring.start) as usize;
        let to = (cursor.place - ring.start) as usize;
        rows.words.extend(ring.words.range(from..to));
        from < to
    }

    /// When the next row after `cursor` was read.
    pub fn next_at(&self, cursor: &Cursor) -> Option<BootTime> {
        let ring = lock::lock(&self.ring);
        let oldest = ring.oldest();
        let cursor = if cursor.place < oldest.place {
            oldest
        } else {
            *cursor
        };
        ring.header(cursor).map(|(at, _, _)| at)
    }

    /// Whether the rows after `cursor` take at least half of what is kept, so that the first of them will soon be dropped.
    pub fn is_half_full_after(&self, cursor: &Cursor) -> bool {
        let ring = lock::lock(&self.ring);
        let oldest = ring.oldest();
        let from = if cursor.place < oldest.place {
            oldest
        } else {
            *cursor
        };
        let Some((first, ..)) = ring.header(from) else {
            return false;
        };
        let words = (ring.start + ring.words.len() as u64).saturating_sub(from.place);
        let rows = (ring.dropped_rows + ring.rows as u64).saturating_sub(from.rows);
        let span = Duration::from_nanos(ring.newest.0.saturating_sub(first.0));
        2 * words >= ring.max_words as u64
            || 2 * rows >= ring.max_rows as u64
            || 2 * span >= ring.max_age
    }

    /// The number of rows after `cursor`.
    pub fn rows_after(&self, cursor: &Cursor) -> u64 {
        let ring = lock::lock(&self.ring);
        let from = cursor.rows.max(ring.dropped_rows);
        (ring.dropped_rows + ring.rows as u64).saturating_sub(from)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        lock::lock(&self.ring).words.len() * size_of::<u64>()
    }
}

impl Ring {
    fn oldest(&self) -> Cursor {
        Cursor {
            place: self.start,
            samples: self.dropped_samples,
            rows: self.dropped_rows,
        }
    }

    /// Time, width and number of present values of the row at a cursor.
    fn header(&self, cursor: Cursor) -> Option<(BootTime, usize, u64)> {
        let i = usize::try_from(cursor.place.checked_sub(self.start)?).ok()?;
        let (at, shape) = (*self.words.get(i)?, *self.words.get(i + 1)?);
        Some((BootTime(at), (shape >> 32) as usize, shape & 0xffff_ffff))
    }

    /// Allocates memory for `words` more: doubles it, but not beyond the limit.
    fn grow(&mut self, words: usize) {
        let (has, needs) = (self.words.capacity(), self.words.len() + words);
        if needs > has {
            let next = (2 * has).min(self.max_words).max(needs);
            self.words.reserve_exact(next - self.words.len());
        }
    }

    /// Drops the oldest rows until there is room for `words` more, and no row is too old at `now`.
    fn make_room(&mut self, words: usize, now: Option<BootTime>) {
        while let Some((at, _, _)) = self.header(self.oldest()) {
            let too_many = self.words.len() + words > self.max_words
                || words > 0 && self.rows >= self.max_rows;
            let too_old = now
                .is_some_and(|now| Duration::from_nanos(now.0.saturating_sub(at.0)) > self.max_age);
            if !too_many && !too_old {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Drops the oldest row. `false` if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((_, width, present)) = self.header(self.oldest()) else {
            return false;
        };
        self.words.drain(..HEADER_WORDS + width);
        self.start += (HEADER_WORDS + width) as u64;
        self.dropped_samples += present;
        self.dropped_rows += 1;
        self.rows -= 1;
        true
    }
}

impl Cursor {
    /// Samples before it.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    fn after(self, width: usize, present: u64) -> Cursor {
        Cursor {
            place: self.place + (HEADER_WORDS + width) as u64,
            samples: self.samples + present,
            rows: self.rows + 1,
        }
    }
}

impl Rows {
    /// The rows, oldest first: when each was read, and the values of the group's series in the order of their registration.
    /// A row lacks the series that were registered after it.
    pub fn iter(&self) -> impl Iterator<Item = (BootTime, impl Iterator<Item = f64> + '_)> {
        let mut rest = self.words.as_slice();
        std::iter::from_fn(move || {
            let [at, shape, tail @ ..] = rest else {
                return None;
            };
            let (row, after) = tail.split_at_checked((shape >> 32) as usize)?;
            rest = after;
            Some((BootTime(*at), row.iter().map(|bits| f64::from_bits(*bits))))
        })
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
