//! Changes of documents that are made together: all of them, or none. Each leaves a record, from which it can be undone.
//!
//! A record is written before the documents, and marked as finished after them. So a change that was broken off by a crash is
//! found, and the documents that it has changed already are put back.

use std::collections::hash_map::RandomState;
use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasher;

use serde_json::{json, Map, Value};

use super::store::{Documents, Store, StoreError, Stored};
use crate::wire::DeviceId;

/// The most bytes of all documents of one transaction, before and after it.
pub(super) const MAX_TRANSACTION_BYTES: usize = 32 << 20;
/// The most records that are kept, and the most bytes of them. The oldest ones are dropped: see [`surplus`].
pub(super) const MAX_RECORDS: usize = 1000;
/// See [`MAX_RECORDS`].
pub(super) const MAX_RECORD_BYTES: u64 = 64 << 20;
/// Who made a change that a board made itself: this, and its login in brackets.
pub(super) const BY_BOARD: &str = "the board";
/// The most documents that the head of a record names.
const MAX_NAMED: usize = 5;

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// A group.
    Group,
    /// The own document of a device.
    Device,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Group => "group",
            Kind::Device => "device",
        }
    }

    fn parse(text: &str) -> Option<Kind> {
        [Kind::Group, Kind::Device]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    /// The documents of this kind.
    pub(super) fn of(self, store: &dyn Store) -> &dyn Documents {
        match self {
            Kind::Group => store.groups(),
            Kind::Device => store.devices(),
        }
    }
}

/// The change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) kind: Kind,
    pub(super) id: DeviceId,
    /// What is replaced; `None`: there is no document. Its revision is not recorded.
    pub(super) before: Option<Stored>,
    /// What replaces it; `None`: the document is removed.
    pub(super) after: Option<String>,
}

impl Edit {
    /// The bytes of both documents.
    pub(super) fn bytes(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |stored| stored.text.len());
        before + self.after.as_ref().map_or(0, String::len)
    }

    /// Whether this is the document before the change.
    pub(super) fn is_before(&self, text: Option<&[u8]>) -> bool {
        text == self.before.as_ref().map(|stored| &stored.text[..])
    }

    /// Whether this is the document after the change.
    pub(super) fn is_after(&self, text: Option<&[u8]>) -> bool {
        text == self.after.as_ref().map(String::as_bytes)
    }

    fn line(&self) -> String {
        let before = self.before.as_ref();
        let before = before.map(|stored| String::from_utf8_lossy(&stored.text));
        let line = json!({
            "kind": self.kind.as_str(),
            "id": self.id.as_str(),
            "before": before,
            "after": self.after,
        });
        format!("{line}\n")
    }

    fn of_line(line: &str) -> Option<Edit> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| match line.get(key) {
            Some(Value::String(text)) => Some(Some(text.clone())),
            Some(Value::Null) => Some(None),
            _ => None,
        };
        Some(Edit {
            kind: Kind::parse(line.get("kind")?.as_str()?)?,
            id: DeviceId::parse(line.get("id")?.as_str()?).ok()?,
            before: text("before")?.map(|text| Stored {
                text: text.into_bytes(),
                revision: 0,
            }),
            after: text("after")?,
        })
    }
}

/// The id of a transaction. Ids are in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TransactionId {
    /// Milliseconds since 1970.
    pub(super) millis: u64,
    /// Tells those of several servers apart.
    suffix: u16,
}

impl TransactionId {
    pub(super) fn new(millis: u64) -> TransactionId {
        let suffix = RandomState::new().hash_one(0u8) as u16;
        TransactionId { millis, suffix }
    }

    pub(super) fn parse(text: &str) -> Option<TransactionId> {
        let (millis, suffix) = text.split_once('-')?;
        let id = TransactionId {
            millis: millis.parse().ok()?,
            suffix: u16::from_str_radix(suffix, 16).ok()?,
        };
        // There is one way to write each.
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:013}-{:04x}", self.millis, self.suffix)
    }
}

/// Changes that are made together, and what their record says of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    /// Who made it, when and how.
    pub(super) head: Value,
    pub(super) edits: Vec<Edit>,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All changes were made.
    Committed,
    /// None was made: a document is no longer what is to be replaced.
    Conflict,
}

impl Transaction {
    /// `head` says who made it, and how; the rest of its record is added.
    pub(super) fn new(
        id: TransactionId,
        head: Map<String, Value>,
        edits: Vec<Edit>,
    ) -> Transaction {
        let mut all = Map::new();
        all.insert("id".into(), id.to_string().into());
        all.extend(head);
        let count = |kind: Kind| edits.iter().filter(|edit| edit.kind == kind).count();
        all.insert("devices".into(), count(Kind::Device).into());
        all.insert("groups".into(), count(Kind::Group).into());
        let named = edits.iter().take(MAX_NAMED);
        let named: Vec<Value> = named.map(|edit| edit.id.as_str().into()).collect();
        all.insert("first".into(), named.into());
        let bytes: usize = edits.iter().map(Edit::bytes).sum();
        all.insert("bytes".into(), bytes.into());
        Transaction {
            id,
            head: all.into(),
            edits,
        }
    }

    /// The record: a line of JSON with the head, and one for each change.
    pub(super) fn record(&self) -> String {
        let mut record = format!("{}\n", self.head);
        self.edits
            .iter()
            .for_each(|edit| record.push_str(&edit.line()));
        record
    }

    /// Parses a whole record. The error is a message for the user.
    pub(super) fn parse(record: &str) -> Result<Transaction, String> {
        let mut lines = record.lines();
        let head = lines.next().and_then(parse_head);
        let (id, head) = head.ok_or("the first line is not what a record begins with")?;
        let edits: Option<Vec<Edit>> = lines.map(Edit::of_line).collect();
        let edits = edits.ok_or("a line is not a change of a document")?;
        let count = |key: &str| head.get(key).and_then(Value::as_u64).unwrap_or(0);
        if edits.len() as u64 != count("devices") + count("groups") {
            return Err("it has not as many lines as its head says".into());
        }
        Ok(Transaction { id, head, edits })
    }
}

/// Parses the first line of a record.
pub(super) fn parse_head(line: &str) -> Option<(TransactionId, Value)> {
    let head: Value = serde_json::from_str(line).ok()?;
    Some((id_of(&head)?, head))
}

/// The id in the head of a record.
pub(super) fn id_of(head: &Value) -> Option<TransactionId> {
    TransactionId::parse(head.get("id")?.as_str()?)
}

/// The bytes of the documents that the head of a record tells.
pub(super) fn bytes_of(head: &Value) -> u64 {
    head.get("bytes").and_then(Value::as_u64).unwrap_or(0)
}

/// Whether a board itself made the change, as the head of its record says.
fn is_by_board(head: &Value) -> bool {
    let by = head.get("by").and_then(Value::as_str);
    by.is_some_and(|by| by == BY_BOARD || by.starts_with(&format!("{BY_BOARD} (")))
}

/// The records to drop of these, the oldest first, so that only so many are kept. Changes that boards made themselves have no more
/// than half of the room while others need it: a fleet whose boards change their metrics does not push out what people changed.
pub(super) fn surplus<'a>(
    oldest_first: impl Iterator<Item = (TransactionId, &'a Value)>,
) -> Vec<TransactionId> {
    let (mut boards, mut others): (VecDeque<_>, VecDeque<_>) = oldest_first
        .map(|(id, head)| (id, bytes_of(head), is_by_board(head)))
        .partition(|(.., is_by_board)| *is_by_board);
    let sum = |some: &VecDeque<(TransactionId, u64, bool)>| {
        some.iter().map(|(_, bytes, _)| bytes).sum::<u64>()
    };
    let (mut boards_bytes, mut others_bytes) = (sum(&boards), sum(&others));
    let mut dropped = Vec::new();
    loop {
        let are_too_many = boards.len() + others.len() > MAX_RECORDS;
        if !are_too_many && boards_bytes + others_bytes <= MAX_RECORD_BYTES {
            return dropped;
        }
        let boards_have_more = match are_too_many {
            true => boards.len() > MAX_RECORDS / 2,
            false => boards_bytes > MAX_RECORD_BYTES / 2,
        };
        let (from, left) = match boards_have_more || others.is_empty() {
            true => (&mut boards, &mut boards_bytes),
            false => (&mut others, &mut others_bytes),
        };
        let Some((id, bytes, _)) = from.pop_front() else {
            return dropped;
        };
        *left -= bytes;
        dropped.push(id);
    }
}

/// Logs that the first record is dropped.
pub(super) fn log_dropped(id: TransactionId) {
    log::info!(
        "the record of the change {id} is dropped, and older ones will be (the limits are {MAX_RECORDS} records and {} MiB of documents)",
        MAX_RECORD_BYTES >> 20
    );
}

/// Logs that so many documents of an interrupted transaction are as they were.
pub(super) fn log_put_back(transaction: &Transaction, count: usize) {
    log::warn!(
        "the change {} of {} documents was interrupted: {count} documents have been restored",
        transaction.id,
        transaction.edits.len()
    );
}

/// What became of a transaction that was broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// All its changes had been made.
    Finished,
    /// Those that had been made were put back.
    PutBack {
        /// How many.
        count: usize,
    },
}

/// Finds what was made of a transaction that was broken off, and puts it back unless it is all of it.
pub(super) fn recover(store: &dyn Store, edits: &[Edit]) -> Result<Recovery, StoreError> {
    for edit in edits {
        let current = match edit.kind.of(store).get(&edit.id) {
            // It was not changed by this transaction, which would have failed.
            Err(StoreError::Unreadable(_)) => continue,
            current => current?,
        };
        let current = current.as_ref().map(|stored| &stored.text[..]);
        if edit.is_before(current) && !edit.is_after(current) {
            let count = put_back(store, edits)?;
            return Ok(Recovery::PutBack { count });
        }
    }
    Ok(Recovery::Finished)
}

/// Puts back those of the changes that were made, the last one first, and returns their number. A document that others have
/// changed meanwhile stays, and so does one that cannot be read: that is an error after all others were put back.
pub(super) fn put_back(store: &dyn Store, edits: &[Edit]) -> Result<usize, StoreError> {
    let mut count = 0;
    let mut unreadable = None;
    for edit in edits.iter().rev() {
        let documents = edit.kind.of(store);
        let current = match documents.get(&edit.id) {
            Err(error @ StoreError::Unreadable(_)) => {
                unreadable = Some(error);
                continue;
            }
            current => current?,
        };
        let text = current.as_ref().map(|stored| &stored.text[..]);
        if !edit.is_after(text) || edit.is_before(text) {
            continue;
        }
        let before = edit.before.as_ref();
        let before = before.map(|stored| String::from_utf8_lossy(&stored.text));
        if documents.compare_and_swap(&edit.id, current.as_ref(), before.as_deref())? {
            count += 1;
        }
    }
    unreadable.map_or(Ok(count), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(id: &str, before: Option<&str>, after: Option<&str>) -> Edit {
        Edit {
            kind: Kind::Device,
            id: DeviceId::parse(id).unwrap(),
            before: before.map(|text| Stored {
                text: text.into(),
                revision: 0,
            }),
            after: after.map(str::to_owned),
        }
    }

    #[test]
    fn record_is_parsed_again() {
        let id = TransactionId::new(1_796_000_000_123);
        let edits = vec![
            edit("a", None, Some("x: \"1\"\n# ü\n")),
            edit("b", Some("y: 1\r\n"), None),
        ];
        let head = Map::from_iter([("action".to_owned(), "import".into())]);
        let transaction = Transaction::new(id, head, edits);
        let record = transaction.record();
        assert_eq!(record.lines().count(), 3);
        assert_eq!(Transaction::parse(&record), Ok(transaction));
        for cut in [
            record.lines().next().unwrap().to_owned(),
            String::new(),
            "{}\n".to_owned(),
            record[..record.len() - 5].to_owned(),
        ] {
            assert!(Transaction::parse(&cut).is_err(), "{cut}");
        }
    }

    fn kept(
        by: impl Fn(u64) -> Option<&'static str>,
        count: u64,
        bytes: u64,
    ) -> Vec<TransactionId> {
        let heads: Vec<(TransactionId, Value)> = (0..count)
            .map(|millis| {
                (
                    TransactionId::new(millis),
                    json!({"by": by(millis), "bytes": bytes}),
                )
            })
            .collect();
        let dropped = surplus(heads.iter().map(|(id, head)| (*id, head)));
        let ids = heads.iter().map(|(id, _)| *id);
        ids.filter(|id| !dropped.contains(id)).collect()
    }

    #[test]
    fn only_so_many_records_are_kept_and_only_so_many_bytes_the_newest() {
        for by in [None, Some("the board (lab)"), Some("admin")] {
            let left = kept(|_| by, 1003, 10);
            assert_eq!((left.len(), left[0].millis), (1000, 3), "{by:?}");
            let left = kept(|_| by, 70, 1 << 20);
            assert_eq!((left.len(), left[0].millis), (64, 6), "{by:?}");
        }
        assert_eq!(kept(|_| None, 1000, 10).len(), 1000);
    }

    #[test]
    fn changes_by_boards_do_not_push_out_those_by_others() {
        // The first hundred are an operator's.
        let by = |millis| if millis < 100 { "admin" } else { "the board" };
        let left = kept(|millis| Some(by(millis)), 3000, 10);
        assert_eq!(
            (left.len(), left[0].millis, left[100].millis),
            (1000, 0, 2100)
        );
        let left = kept(|millis| Some(by(millis)), 200, 1 << 20);
        let of_boards = left.iter().filter(|id| id.millis >= 100).count();
        assert_eq!((left.len(), of_boards), (64, 32));
        // And the other way round.
        let by = |millis| {
            if millis < 600 {
                "the board"
            } else {
                "the board of directors"
            }
        };
        let left = kept(|millis| Some(by(millis)), 1500, 10);
        // Boards have half, and the newest of the others the rest.
        assert_eq!(
            (
                left.len(),
                left[0].millis,
                left[499].millis,
                left[500].millis
            ),
            (1000, 100, 599, 1000)
        );
    }

    #[test]
    fn ids_are_in_the_order_of_time_and_written_in_one_way() {
        let [first, second] = [9_999_999_999, 1_796_000_000_123].map(TransactionId::new);
        assert!(first < second && first.to_string() < second.to_string());
        let text = second.to_string();
        assert_eq!(TransactionId::parse(&text), Some(second));
        for bad in [
            "",
            "-",
            "1-2",
            "1796000000123",
            "1796000000123-00FF",
            "+796000000123-00ff",
        ] {
            assert_eq!(TransactionId::parse(bad), None, "{bad}");
        }
    }
}
