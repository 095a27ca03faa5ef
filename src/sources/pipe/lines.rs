//! Splitting a stream of bytes into lines, and checking the rate of lines.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A longer line is dropped.
pub(super) const MAX_LINE_BYTES: usize = 8 * 1024;
/// The rate of lines that is a flood, as a multiple of the expected rate.
const FLOOD_FACTOR: f64 = 10.0;
/// The shortest time over which the rate is measured.
const MIN_FLOOD_TIME: Duration = Duration::from_secs(1);

/// The newest complete lines of a stream.
#[derive(Debug)]
pub(super) struct Lines {
    /// The incomplete line at the end.
    partial: Vec<u8>,
    /// How much of the incomplete line was dropped because the line is too long.
    dropped: usize,
    /// Complete lines that were not taken yet.
    waiting: VecDeque<Vec<u8>>,
    /// The most lines to keep. Older lines are dropped.
    max: usize,
    /// The line that was taken last.
    taken: Vec<u8>,
    /// A buffer of an earlier line, for reuse.
    spare: Vec<u8>,
    count: u64,
    overlong: u64,
}

impl Lines {
    /// No lines yet. The newest `max` lines are kept.
    pub(super) fn new(max: usize) -> Lines {
        Lines {
            partial: Vec::new(),
            dropped: 0,
            waiting: VecDeque::new(),
            max: max.max(1),
            taken: Vec::new(),
            spare: Vec::new(),
            count: 0,
            overlong: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            self.extend(text.unwrap_or(piece));
            if text.is_some() {
                self.end();
            }
        }
    }

    fn extend(&mut self, piece: &[u8]) {
        if self.dropped > 0 || self.partial.len() + piece.len() > MAX_LINE_BYTES {
            self.dropped = self
                .dropped
                .saturating_add(self.partial.len() + piece.len());
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(piece);
        }
    }

    fn end(&mut self) {
        self.count += 1;
        if self.dropped > 0 {
            self.dropped = 0;
            self.overlong += 1;
        } else if !self.partial.trim_ascii().is_empty() {
            let mut free = std::mem::take(&mut self.spare);
            if self.waiting.len() >= self.max {
                free = self.waiting.pop_front().unwrap_or(free);
            }
            self.waiting
                .push_back(std::mem::replace(&mut self.partial, free));
        }
        self.partial.clear();
    }

    /// Whether there is a complete line that was not taken.
    pub(super) fn has_next(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the oldest complete line.
    pub(super) fn take_next(&mut self) -> &[u8] {
        let next = self.waiting.pop_front().unwrap_or_default();
        self.spare = std::mem::replace(&mut self.taken, next);
        &self.taken
    }

    /// The number of lines, including dropped ones, since the last call.
    pub(super) fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }

    /// The number of overlong lines since the last call.
    pub(super) fn take_overlong(&mut self) -> u64 {
        std::mem::take(&mut self.overlong)
    }

    /// The length of the incomplete line, including what was dropped.
    pub(super) fn unfinished(&self) -> usize {
        self.partial.len() + self.dropped
    }
}

/// Compares the rate of lines with the expected rate.
#[derive(Debug)]
pub(super) struct Flow {
    interval: Duration,
    since: Instant,
    lines: u64,
}

impl Flow {
    /// One line is expected every `interval`.
    pub(super) fn new(now: Instant, interval: Duration) -> Flow {
        Flow {
            interval,
            since: now,
            lines: 0,
        }
    }

    /// Counts `lines` more lines. Returns the rate in lines per second if it has been a flood for a second or longer.
    pub(super) fn too_fast(&mut self, now: Instant, lines: u64) -> Option<f64> {
        self.lines = self.lines.saturating_add(lines);
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < MIN_FLOOD_TIME {
            return None;
        }
        let seconds = elapsed.as_secs_f64();
        let expected = (seconds / self.interval.as_secs_f64()).max(1.0);
        let received = self.lines as f64;
        *self = Flow::new(now, self.interval);
        (received > FLOOD_FACTOR * expected).then_some(received / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(lines: &mut Lines) -> Option<String> {
        lines
            .has_next()
            .then(|| String::from_utf8_lossy(lines.take_next()).into_owned())
    }

    #[test]
    fn only_complete_lines_are_taken_and_the_newest_is_kept() {
        let mut lines = Lines::new(1);
        lines.push(b"RAM 1");
        assert_eq!(next(&mut lines), None);
        lines.push(b"2\nRAM 3\nRAM 4");
        assert_eq!(next(&mut lines).as_deref(), Some("RAM 3"));
        assert_eq!(next(&mut lines), None);
        lines.push(b"\n\n \r\n");
        assert_eq!(next(&mut lines).as_deref(), Some("RAM 4"));
        assert_eq!(lines.take_count(), 5);
        assert_eq!(lines.unfinished(), 0);
    }

    #[test]
    fn newest_of_several_lines_are_kept_in_order() {
        let mut lines = Lines::new(2);
        lines.push(b"a\nb\nc\nd");
        assert_eq!(next(&mut lines).as_deref(), Some("b"));
        lines.push(b"\n\n");
        assert_eq!(next(&mut lines).as_deref(), Some("c"));
        assert_eq!(next(&mut lines).as_deref(), Some("d"));
        assert_eq!(next(&mut lines), None);
    }

    #[test]
    fn overlong_line_is_dropped_as_a_whole() {
        let mut lines = Lines::new(1);
        lines.push(&[b'x'; MAX_LINE_BYTES]);
        lines.push(b"\n");
        assert_eq!(next(&mut lines).map(|l| l.len()), Some(MAX_LINE_BYTES));
        for _ in 0..10 {
            lines.push(&[b'x'; MAX_LINE_BYTES]);
        }
        assert_eq!(lines.unfinished(), 10 * MAX_LINE_BYTES);
        assert!(lines.partial.len() <= MAX_LINE_BYTES);
        lines.push(b"RAM 1\nRAM 2\n");
        assert_eq!(next(&mut lines).as_deref(), Some("RAM 2"));
        assert_eq!((lines.take_overlong(), lines.take_overlong()), (1, 0));
    }

    #[test]
    fn ten_times_the_expected_rate_for_a_second_is_a_flood() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut flow = Flow::new(start, Duration::from_millis(100));
        assert_eq!(flow.too_fast(at(900), 1000), None, "not for a second yet");
        assert_eq!(flow.too_fast(at(2000), 1000), Some(1000.0));
        // From here on, 10 lines a second are expected.
        assert_eq!(flow.too_fast(at(3000), 100), None);
        assert_eq!(flow.too_fast(at(4000), 101), Some(101.0));
        // After a suspension of our own process a backlog is no flood.
        assert_eq!(flow.too_fast(at(64_000), 600), None);
        let mut slow = Flow::new(start, Duration::from_secs(60));
        assert_eq!(slow.too_fast(at(1000), 10), None);
        assert_eq!(slow.too_fast(at(2000), 11), Some(11.0));
    }
}
