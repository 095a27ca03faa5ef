//! The last rows of a table. Downloads read all of them, each stream reads on from a cursor of its own, and neither takes a
//! row away from another reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::join::{Row, RowKind};
use super::layout::Layout;
use crate::exposition::csv::LINE_END;
use crate::sys::lock::lock;

/// The last rows of a table. New rows replace the oldest ones.
#[derive(Debug)]
pub struct Feed {
    kind: RowKind,
    /// The namespace of pods.
    namespace: Box<str>,
    max_rows: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    rows: VecDeque<Arc<Row>>,
    /// The number of rows published so far.
    published: u64,
}

impl Ring {
    /// The number of the oldest row in the ring.
    fn first(&self) -> u64 {
        self.published - self.rows.len() as u64
    }

    fn check(&self, cursor: Cursor) -> Result<(), Lost> {
        match self.first().checked_sub(cursor.0) {
            Some(lost) if lost > 0 => Err(Lost(lost)),
            _ => Ok(()),
        }
    }
}

/// A position in a feed: the number of the next row to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

/// The number of rows that a cursor missed because they are no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost(pub u64);

impl Feed {
    /// An empty feed that keeps at most `max_rows` rows. `namespace` is that of pods.
    pub fn new(kind: RowKind, namespace: &str, max_rows: usize) -> Feed {
        Feed {
            kind,
            namespace: namespace.into(),
            max_rows: max_rows.max(1),
            ring: Mutex::default(),
        }
    }

    /// What the rows are about.
    pub fn kind(&self) -> RowKind {
        self.kind
    }

    /// How many rows are kept at most.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Adds the rows of one round, all at once.
    pub fn publish(&self, rows: impl IntoIterator<Item = Row>) {
        let rows: Vec<_> = rows.into_iter().map(Arc::new).collect();
        let mut ring = lock(&self.ring);
        for row in rows {
            if ring.rows.len() >= self.max_rows {
                ring.rows.pop_front();
            }
            ring.rows.push_back(row);
            ring.published += 1;
        }
    }

    /// The number of rows kept, and the number of rows published so far.
    pub fn counts(&self) -> (usize, u64) {
        let ring = lock(&self.ring);
        (ring.rows.len(), ring.published)
    }

    /// A CSV file of the header and the last `max_rows` rows.
    pub fn csv(&self, max_rows: usize, layout: &Layout) -> String {
        let mut csv = layout.header();
        csv.push_str(LINE_END);
        // The rows are written after the lock is released: a round waits for it.
        let rows: Vec<_> = {
            let ring = lock(&self.ring);
            let skipped = ring.rows.len().saturating_sub(max_rows);
            ring.rows.iter().skip(skipped).map(Arc::clone).collect()
        };
        for row in rows {
            csv.push_str(&layout.line(&row, &self.namespace));
            csv.push_str(LINE_END);
        }
        csv.shrink_to_fit();
        csv
    }

    /// A cursor after the last row.
    pub fn end(&self) -> Cursor {
        Cursor(lock(&self.ring).published)
    }

    /// Fails if rows after the cursor are no longer kept.
    pub fn check(&self, cursor: Cursor) -> Result<(), Lost> {
        lock(&self.ring).check(cursor)
    }

    /// Passes the rows after the cursor to `each` and advances the cursor, until `max_bytes` are reached. Returns whether
    /// there were any rows. Fails if rows after the cursor are no longer kept.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        layout: &Layout,
        mut each: impl FnMut(&str),
        max_bytes: usize,
    ) -> Result<bool, Lost> {
        let ring = lock(&self.ring);
        ring.check(*cursor)?;
        let from = usize::try_from(cursor.0 - ring.first()).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let before = *cursor;
        for row in ring.rows.iter().skip(from) {
            if bytes >= max_bytes {
                break;
            }
            let line = layout.line(row, &self.namespace);
            each(&line);
            bytes += line.len();
            cursor.0 += 1;
        }
        Ok(*cursor != before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: std::ops::Range<u64>) -> Vec<Row> {
        let row = |n: u64| Row {
            name: n.to_string().into(),
            kind: None,
            node: None,
            at: 0.0,
            collected: 0,
            values: Vec::new(),
        };
        numbers.map(row).collect()
    }

    /// A layout of the name alone.
    fn layout() -> Layout {
        Layout::chosen(RowKind::Pods, "name").unwrap()
    }

    fn read(feed: &Feed, cursor: &mut Cursor, max_bytes: usize) -> Result<Vec<String>, Lost> {
        let mut seen = Vec::new();
        let more = feed.read(
            cursor,
            &layout(),
            |row| seen.push(row.to_string()),
            max_bytes,
        )?;
        assert_eq!(more, !seen.is_empty());
        Ok(seen)
    }

    #[test]
    fn downloads_do_not_consume_rows() {
        let feed = Feed::new(RowKind::Pods, "ns", 4);
        assert_eq!(feed.csv(100, &layout()), "name\r\n");
        feed.publish(rows(0..6));
        for _ in 0..2 {
            assert_eq!(feed.csv(3, &layout()), "name\r\n3\r\n4\r\n5\r\n");
        }
        assert_eq!(feed.csv(100, &layout()), "name\r\n2\r\n3\r\n4\r\n5\r\n");
        let original = Layout::original(RowKind::Pods).unwrap();
        assert!(feed
            .csv(1, &original)
            .ends_with("\r\n1970-01-01 00:00:00,1970-01-01 00:00:00,5,ns,,,,,,\r\n"));
        assert_eq!(feed.csv(0, &layout()), "name\r\n");
        assert_eq!(feed.counts(), (4, 6));
    }

    #[test]
    fn each_cursor_reads_every_row_once() {
        let feed = Feed::new(RowKind::Nodes, "ns", 4);
        let mut early = feed.end();
        feed.publish(rows(0..2));
        let mut late = feed.end();
        feed.publish(rows(2..4));
        assert_eq!(read(&feed, &mut early, 3).unwrap(), ["0", "1", "2"]);
        assert_eq!(read(&feed, &mut early, 3).unwrap(), ["3"]);
        assert_eq!(read(&feed, &mut early, 3).unwrap(), [""; 0]);
        assert_eq!(read(&feed, &mut late, 100).unwrap(), ["2", "3"]);
    }

    #[test]
    fn cursor_that_fell_behind_reports_lost_rows() {
        let feed = Feed::new(RowKind::Nodes, "ns", 4);
        let mut slow = feed.end();
        feed.publish(rows(0..4));
        assert_eq!(read(&feed, &mut slow, 1).unwrap(), ["0"]);
        assert_eq!(feed.check(slow), Ok(()));
        feed.publish(rows(4..7));
        assert_eq!(feed.check(slow), Err(Lost(2)));
        assert_eq!(read(&feed, &mut slow, 1), Err(Lost(2)));
    }
}
