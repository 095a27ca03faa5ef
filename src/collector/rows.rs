//! The last rows of a table, for whoever wants them: downloads read all of them and take nothing away, streams follow
//! each with a place of its own, as consumers of a history do.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::form::{self, Form};
use super::join::Kind;
use crate::exposition::csv::LINE_END;
use crate::sys::lock::lock;

/// A row as text, in each form.
pub type Lines = [Box<str>; Form::ALL.len()];

/// A table's last rows. The oldest make room for new ones.
#[derive(Debug)]
pub struct Feed {
    kind: Kind,
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    rows: VecDeque<Lines>,
    /// How many there have been.
    published: u64,
}

impl Kept {
    /// The number of the oldest row that is there.
    fn first(&self) -> u64 {
        self.published - self.rows.len() as u64
    }

    fn check(&self, place: Place) -> Result<(), Lost> {
        match self.first().checked_sub(place.0) {
            Some(lost) if lost > 0 => Err(Lost(lost)),
            _ => Ok(()),
        }
    }
}

/// A place in a feed: the number of the next row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u64);

/// So many rows after a place are there no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost(pub u64);

impl Feed {
    /// An empty one, of at most so many rows.
    pub fn new(kind: Kind, most: usize) -> Feed {
        Feed {
            kind,
            most: most.max(1),
            kept: Mutex::default(),
        }
    }

    /// Whose rows.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The most rows that are kept.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Adds the rows of one round, all at once.
    pub fn publish(&self, rows: impl IntoIterator<Item = Lines>) {
        let rows: Vec<_> = rows.into_iter().collect();
        let mut kept = lock(&self.kept);
        for row in rows {
            if kept.rows.len() >= self.most {
                kept.rows.pop_front();
            }
            kept.rows.push_back(row);
            kept.published += 1;
        }
    }

    /// How many rows are kept, and how many there have been.
    pub fn counts(&self) -> (usize, u64) {
        let kept = lock(&self.kept);
        (kept.rows.len(), kept.published)
    }

    /// The last rows as a file, with the header: at most `most` of them.
    pub fn file(&self, most: usize, form: Form) -> String {
        let mut file = form::header(self.kind, form);
        file.push_str(LINE_END);
        let kept = lock(&self.kept);
        let skipped = kept.rows.len().saturating_sub(most);
        let rows = kept.rows.iter().skip(skipped);
        let bytes: usize = rows
            .clone()
            .map(|row| row[form as usize].len() + LINE_END.len())
            .sum();
        file.reserve_exact(bytes);
        for row in rows {
            file.push_str(&row[form as usize]);
            file.push_str(LINE_END);
        }
        file
    }

    /// The place after the last row.
    pub fn end(&self) -> Place {
        Place(lock(&self.kept).published)
    }

    /// Whether all rows after a place are still there.
    pub fn check(&self, place: Place) -> Result<(), Lost> {
        lock(&self.kept).check(place)
    }

    /// Hands over the rows from a place on, which moves along, until `enough`. Whether there were any. Fails when some of
    /// them are gone.
    pub fn follow(
        &self,
        place: &mut Place,
        form: Form,
        mut each: impl FnMut(&str),
        enough: usize,
    ) -> Result<bool, Lost> {
        let kept = lock(&self.kept);
        kept.check(*place)?;
        let from = usize::try_from(place.0 - kept.first()).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let before = *place;
        for row in kept.rows.iter().skip(from) {
            if bytes >= enough {
                break;
            }
            let row = &row[form as usize];
            each(row);
            bytes += row.len();
            place.0 += 1;
        }
        Ok(*place != before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: std::ops::Range<u64>) -> Vec<Lines> {
        numbers
            .map(|n| [n.to_string().into(), format!("o{n}").into()])
            .collect()
    }

    fn follow(feed: &Feed, place: &mut Place, enough: usize) -> Result<Vec<String>, Lost> {
        let mut seen = Vec::new();
        let more = feed.follow(place, Form::Ours, |row| seen.push(row.to_string()), enough)?;
        assert_eq!(more, !seen.is_empty());
        Ok(seen)
    }

    #[test]
    fn downloads_take_nothing_away() {
        let feed = Feed::new(Kind::Pods, 4);
        let header = form::header(Kind::Pods, Form::Ours);
        assert_eq!(feed.file(100, Form::Ours), format!("{header}\r\n"));
        feed.publish(rows(0..6));
        for _ in 0..2 {
            assert_eq!(
                feed.file(3, Form::Ours),
                format!("{header}\r\n3\r\n4\r\n5\r\n")
            );
        }
        assert!(feed
            .file(100, Form::Ours)
            .ends_with("\r\n2\r\n3\r\n4\r\n5\r\n"));
        assert!(feed.file(1, Form::Original).ends_with("\r\no5\r\n"));
        assert_eq!(feed.file(0, Form::Ours), format!("{header}\r\n"));
        assert_eq!(feed.counts(), (4, 6));
    }

    #[test]
    fn each_follower_gets_every_row_once() {
        let feed = Feed::new(Kind::Nodes, 4);
        let mut early = feed.end();
        feed.publish(rows(0..2));
        let mut late = feed.end();
        feed.publish(rows(2..4));
        assert_eq!(follow(&feed, &mut early, 3).unwrap(), ["0", "1", "2"]);
        assert_eq!(follow(&feed, &mut early, 3).unwrap(), ["3"]);
        assert_eq!(follow(&feed, &mut early, 3).unwrap(), [""; 0]);
        assert_eq!(follow(&feed, &mut late, 100).unwrap(), ["2", "3"]);
    }

    #[test]
    fn who_falls_behind_is_told_how_far() {
        let feed = Feed::new(Kind::Nodes, 4);
        let mut slow = feed.end();
        feed.publish(rows(0..4));
        assert_eq!(follow(&feed, &mut slow, 1).unwrap(), ["0"]);
        assert_eq!(feed.check(slow), Ok(()));
        feed.publish(rows(4..7));
        assert_eq!(feed.check(slow), Err(Lost(2)));
        assert_eq!(follow(&feed, &mut slow, 1), Err(Lost(2)));
    }
}
