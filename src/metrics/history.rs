//! The last rows of a group, for those who want every sample: a ring of words, and a cursor per consumer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::is_absent;
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// Words before a row's values: its time, then its width and how many of its values are there.
const HEAD: usize = 2;
/// A reader copies so many words at a time: the source's thread waits for no more than that.
const CHUNK: usize = 8 * 1024;

/// The rows that one source published last. Bounded in time and in bytes; the oldest give way.
#[derive(Debug)]
pub struct History {
    /// Whether anything is kept: whoever publishes need not lock to find out that nothing is.
    keeps: AtomicBool,
    ring: Mutex<Ring>,
    /// Samples that were ever added. It outlasts the history: what a consumer had not had when that ended is lost to it.
    added: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Ring {
    /// Head and values of each row, one after the other.
    words: VecDeque<u64>,
    /// Place of the first word, counted from the beginning of time.
    start: u64,
    /// Samples that have been pushed out of the ring, and rows.
    gone: u64,
    gone_rows: u64,
    rows: usize,
    keep: Duration,
    most_words: usize,
    most_rows: usize,
    /// When the last row was read.
    newest: BootTime,
}

/// How far a consumer has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Place of the next word.
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
    /// Samples that were pushed out of the ring before the consumer came for them.
    pub dropped: u64,
}

impl Default for History {
    /// Keeps nothing until it is told to.
    fn default() -> Self {
        History {
            keeps: AtomicBool::new(false),
            added: Arc::default(),
            ring: Mutex::new(Ring {
                words: VecDeque::new(),
                start: 0,
                gone: 0,
                gone_rows: 0,
                rows: 0,
                keep: Duration::ZERO,
                most_words: 0,
                most_rows: usize::MAX,
                newest: BootTime::default(),
            }),
        }
    }
}

impl History {
    /// How much to keep: rows no older than `keep`, in no more than `bytes`. Zero of either keeps nothing.
    pub fn limit(&self, keep: Duration, bytes: usize) {
        let mut ring = lock::lock(&self.ring);
        ring.keep = keep;
        ring.most_words = if keep.is_zero() {
            0
        } else {
            bytes / size_of::<u64>()
        };
        self.keeps.store(ring.most_words > 0, Ordering::Relaxed);
        ring.make_room(0, None);
        ring.words.shrink_to_fit();
    }

    /// Keeps no more than so many rows, besides.
    pub fn limit_rows(&self, rows: usize) {
        let mut ring = lock::lock(&self.ring);
        ring.most_rows = rows.max(1);
        // Down to the limit, and not, as before a row is added, to one less.
        while ring.rows > ring.most_rows && ring.let_go() {}
    }

    /// Adds the row that was read at `at`. A row with nothing in it is none.
    pub(super) fn push(&self, at: BootTime, values: impl ExactSizeIterator<Item = f64> + Clone) {
        if !self.keeps.load(Ordering::Relaxed) {
            return;
        }
        let mut ring = lock::lock(&self.ring);
        let width = values.len();
        if ring.most_words < HEAD + width {
            return;
        }
        let present = values.clone().filter(|value| !is_absent(*value)).count();
        if present == 0 {
            return;
        }
        ring.make_room(HEAD + width, Some(at));
        ring.grow(HEAD + width);
        ring.rows += 1;
        self.added.fetch_add(present as u64, Ordering::Relaxed);
        ring.newest = at;
        ring.words.push_back(at.0);
        ring.words.push_back((width as u64) << 32 | present as u64);
        ring.words.extend(values.map(f64::to_bits));
    }

    /// A cursor at the first row that is not older than `since`.
    pub fn cursor_since(&self, since: BootTime) -> Cursor {
        let ring = lock::lock(&self.ring);
        let mut cursor = ring.oldest();
        while let Some((at, width, present)) = ring.head(cursor) {
            if at >= since {
                break;
            }
            cursor = cursor.after(width, present);
        }
        cursor
    }

    /// How many samples were ever added.
    pub fn added(&self) -> &Arc<AtomicU64> {
        &self.added
    }

    /// The next rows from `cursor` on, which moves behind them: a few thousand values at a time. `false`: there are
    /// none (yet).
    pub fn read(&self, cursor: &mut Cursor, rows: &mut Rows) -> bool {
        self.read_while(cursor, rows, |_| true)
    }

    /// As [`History::read`], up to the first row that `wanted` (given the moment of each row in turn) does not want: the
    /// cursor stays before that. The source waits meanwhile: `wanted` has to be quick.
    pub fn read_while(
        &self,
        cursor: &mut Cursor,
        rows: &mut Rows,
        mut wanted: impl FnMut(BootTime) -> bool,
    ) -> bool {
        rows.words.clear();
        let ring = lock::lock(&self.ring);
        let oldest = ring.oldest();
        if cursor.place < oldest.place {
            rows.dropped += oldest.samples - cursor.samples;
            *cursor = oldest;
        }
        let begin = cursor.place;
        while let Some((at, width, present)) = ring.head(*cursor) {
            let length = (cursor.place - begin) as usize;
            if length > 0 && length + HEAD + width > CHUNK || !wanted(at) {
                break;
            }
            *cursor = cursor.after(width, present);
        }
        let from = (begin - ring.start) as usize;
        let to = (cursor.place - ring.start) as usize;
        rows.words.extend(ring.words.range(from..to));
        from < to
    }

    /// When the first row from `cursor` on was read.
    pub fn next_at(&self, cursor: &Cursor) -> Option<BootTime> {
        let ring = lock::lock(&self.ring);
        let oldest = ring.oldest();
        let cursor = if cursor.place < oldest.place {
            oldest
        } else {
            *cursor
        };
        ring.head(cursor).map(|(at, _, _)| at)
    }

    /// Whether the rows from `cursor` on take half of what may be kept, or more: the first of them give way before long.
    pub fn is_half_full_after(&self, cursor: &Cursor) -> bool {
        let ring = lock::lock(&self.ring);
        let oldest = ring.oldest();
        let from = if cursor.place < oldest.place {
            oldest
        } else {
            *cursor
        };
        let Some((first, ..)) = ring.head(from) else {
            return false;
        };
        let words = (ring.start + ring.words.len() as u64).saturating_sub(from.place);
        let rows = (ring.gone_rows + ring.rows as u64).saturating_sub(from.rows);
        let span = Duration::from_nanos(ring.newest.0.saturating_sub(first.0));
        2 * words >= ring.most_words as u64
            || 2 * rows >= ring.most_rows as u64
            || 2 * span >= ring.keep
    }

    /// How many rows there are from `cursor` on.
    pub fn rows_after(&self, cursor: &Cursor) -> u64 {
        let ring = lock::lock(&self.ring);
        let from = cursor.rows.max(ring.gone_rows);
        (ring.gone_rows + ring.rows as u64).saturating_sub(from)
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
            samples: self.gone,
            rows: self.gone_rows,
        }
    }

    /// Time, width and present values of the row at a cursor.
    fn head(&self, cursor: Cursor) -> Option<(BootTime, usize, u64)> {
        let i = usize::try_from(cursor.place.checked_sub(self.start)?).ok()?;
        let (at, shape) = (*self.words.get(i)?, *self.words.get(i + 1)?);
        Some((BootTime(at), (shape >> 32) as usize, shape & 0xffff_ffff))
    }

    /// Takes memory for `words` more: twice as much as there was, but no more than the ring may have.
    fn grow(&mut self, words: usize) {
        let (has, needs) = (self.words.capacity(), self.words.len() + words);
        if needs > has {
            let next = (2 * has).min(self.most_words).max(needs);
            self.words.reserve_exact(next - self.words.len());
        }
    }

    /// Lets the oldest rows go until there is room for `words` more, and none is too old at `now`.
    fn make_room(&mut self, words: usize, now: Option<BootTime>) {
        while let Some((at, _, _)) = self.head(self.oldest()) {
            let too_many = self.words.len() + words > self.most_words
                || words > 0 && self.rows >= self.most_rows;
            let too_old =
                now.is_some_and(|now| Duration::from_nanos(now.0.saturating_sub(at.0)) > self.keep);
            if !too_many && !too_old {
                return;
            }
            self.let_go();
        }
    }

    /// Lets the oldest row go. `false`: there is none.
    fn let_go(&mut self) -> bool {
        let Some((_, width, present)) = self.head(self.oldest()) else {
            return false;
        };
        self.words.drain(..HEAD + width);
        self.start += (HEAD + width) as u64;
        self.gone += present;
        self.gone_rows += 1;
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
            place: self.place + (HEAD + width) as u64,
            samples: self.samples + present,
            rows: self.rows + 1,
        }
    }
}

impl Rows {
    /// The rows, oldest first: when each was read, and the bits of the value of each series of the group, in the order
    /// of their registration. A series that was registered later is not in it.
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
