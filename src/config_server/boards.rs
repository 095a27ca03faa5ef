//! The fleet in memory: a summary of each board's configuration, and the rendered pieces of responses.
//!
//! Boards are sorted by id and grouped in segments, and each segment is rendered as one piece. A change costs rendering one
//! segment, however large the fleet is.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::device::{Device, Summary};
use super::etag::Etag;
use super::pieces::Piece;
use crate::http::gzip::Compressor;
use crate::wire::DeviceId;

/// The most boards of a segment.
const MAX_SEGMENT_BOARDS: usize = 128;
/// How long a file must have had its revision before the same revision means the same content. Until then another change may
/// have left the file's times as they are (ext3 and some network file systems have a resolution of a second).
const SETTLE_DELAY: Duration = Duration::from_secs(2);
/// How long a piece may show an older `last_seen`.
const MAX_LAST_SEEN_AGE: Duration = Duration::from_secs(5);
/// The most bytes of JSON that are kept for all configurations together.
const MAX_JSON_BYTES: usize = 16 << 20;

/// The store's revision of a document that was read.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) number: u64,
    /// When this revision was first seen, while that is too short ago to trust it; `None`: it is trusted.
    since: Option<Instant>,
}

impl Revision {
    /// A revision that was seen just now. `is_unique`: every change has another one.
    pub(super) fn new(number: u64, is_unique: bool) -> Revision {
        Revision {
            number,
            since: (!is_unique).then(Instant::now),
        }
    }

    /// The revision, if the same revision means the same content.
    pub(super) fn trusted(&self) -> Option<u64> {
        match self.since {
            None => Some(self.number),
            Some(_) => None,
        }
    }

    /// The document was read again, with the same content.
    pub(super) fn confirm(&mut self, number: u64, is_unique: bool) {
        if self.number != number {
            *self = Revision::new(number, is_unique);
        } else if self
            .since
            .is_some_and(|since| since.elapsed() >= SETTLE_DELAY)
        {
            self.since = None;
        }
    }
}

/// The known state of a board's configuration.
#[derive(Debug, Clone)]
pub(super) struct Board {
    pub(super) id: DeviceId,
    /// The tag of the board's own document.
    pub(super) own: Etag,
    /// The tag of all that the state is made of: the own document, and the groups.
    pub(super) inputs: Etag,
    /// The tag of the configuration.
    pub(super) etag: Etag,
    /// The `device_type` of the own document, which decides of groups.
    pub(super) own_type: Cow<'static, str>,
    /// The version of the groups at which `inputs` was right; 0: it may be wrong by now.
    pub(super) groups_version: u64,
    /// The summary; or why the configuration is not valid.
    pub(super) parsed: Arc<Result<Summary, String>>,
    /// The configuration as JSON; `None`: it is not valid, or the limit of all JSON was reached.
    pub(super) json: Option<Arc<[u8]>>,
    pub(super) revision: Revision,
}

/// The number of boards by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: usize,
    pub(super) healthy: usize,
    pub(super) degraded: usize,
    /// Includes the unreachable ones.
    pub(super) unhealthy: usize,
    pub(super) unknown: usize,
}

impl Counts {
    pub(super) fn add(&mut self, other: Counts) {
        self.total += other.total;
        self.healthy += other.healthy;
        self.degraded += other.degraded;
        self.unhealthy += other.unhealthy;
        self.unknown += other.unknown;
    }

    pub(super) fn count(&mut self, status: &str) {
        self.total += 1;
        match status {
            "healthy" => self.healthy += 1,
            "degraded" => self.degraded += 1,
            "unhealthy" | "unreachable" => self.unhealthy += 1,
            _ => self.unknown += 1,
        }
    }
}

/// The response that a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    /// `/devices`
    Devices,
    /// `/sd`
    Targets,
}

/// The rendered piece of a segment.
#[derive(Debug)]
struct Rendered {
    /// `None`: no board of the segment is listed.
    piece: Option<Piece>,
    counts: Counts,
    rendered_at: Instant,
    /// When a board of the segment becomes unreachable if nothing is heard of it.
    expires: Option<Instant>,
    /// A board of the segment has contacted the server since.
    has_newer_contact: bool,
}

impl Rendered {
    fn is_current(&self) -> bool {
        let is_expired = self
            .expires
            .is_some_and(|expires| Instant::now() >= expires);
        let is_outdated = self.has_newer_contact && self.rendered_at.elapsed() >= MAX_LAST_SEEN_AGE;
        !is_expired && !is_outdated
    }
}

#[derive(Debug, Default)]
struct Segment {
    /// Sorted by id, never empty.
    boards: Vec<Board>,
    devices: Option<Rendered>,
    targets: Option<Rendered>,
}

impl Segment {
    fn starts_after(&self, id: &str) -> bool {
        self.boards
            .first()
            .is_some_and(|first| first.id.as_str() > id)
    }

    fn invalidate(&mut self) {
        (self.devices, self.targets) = (None, None);
    }

    fn cache(&mut self, kind: ListKind) -> &mut Option<Rendered> {
        match kind {
            ListKind::Devices => &mut self.devices,
            ListKind::Targets => &mut self.targets,
        }
    }
}

/// Renders pieces.
pub(super) struct Renderer<'a> {
    /// Adds to a board what is known from its contacts.
    pub(super) device: &'a dyn Fn(&Board) -> Device,
    /// Writes the device as JSON; nothing if it is not listed.
    pub(super) write: &'a dyn Fn(&Device, &mut Vec<u8>),
    /// Compresses the piece too; `None`: it is not needed compressed.
    pub(super) compressor: Option<&'a Compressor>,
}

/// All boards, sorted by id.
#[derive(Debug, Default)]
pub(super) struct Boards {
    segments: Vec<Segment>,
    count: usize,
    json_bytes: usize,
    /// Boards of which something was heard that may make them members of other groups.
    moved: HashSet<DeviceId>,
    /// The number of pieces rendered so far.
    pub(super) rendered: u64,
}

impl Boards {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The index of the segment in which the id is, or would be.
    fn segment_of(&self, id: &str) -> usize {
        let after = self
            .segments
            .partition_point(|segment| !segment.starts_after(id));
        after.saturating_sub(1)
    }

    /// The index of the board's segment, and its index in the segment.
    fn find(&self, id: &DeviceId) -> Option<(usize, usize)> {
        let at = self.segment_of(id.as_str());
        let found = self
            .segments
            .get(at)?
            .boards
            .binary_search_by(|board| board.id.cmp(id));
        Some((at, found.ok()?))
    }

    pub(super) fn get(&self, id: &DeviceId) -> Option<&Board> {
        let (segment, board) = self.find(id)?;
        self.segments.get(segment)?.boards.get(board)
    }

    fn get_mut(&mut self, id: &DeviceId) -> Option<&mut Board> {
        let (segment, board) = self.find(id)?;
        self.segments.get_mut(segment)?.boards.get_mut(board)
    }

    /// The board's configuration was read again, with the same content.
    pub(super) fn confirm(&mut self, id: &DeviceId, revision: u64, is_unique: bool) {
        if let Some(board) = self.get_mut(id) {
            board.revision.confirm(revision, is_unique);
        }
    }

    /// The board's state is right with the groups of this version.
    pub(super) fn confirm_groups(&mut self, id: &DeviceId, version: u64) {
        if let Some(board) = self.get_mut(id) {
            board.groups_version = version;
        }
    }

    /// Takes the boards whose groups may have changed though no group has.
    pub(super) fn take_moved(&mut self) -> HashSet<DeviceId> {
        std::mem::take(&mut self.moved)
    }

    /// All boards.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Board> {
        self.segments
            .iter()
            .flat_map(|segment| segment.boards.iter())
    }

    /// Inserts or replaces a board.
    pub(super) fn put(&mut self, mut board: Board) {
        let old = self.get(&board.id).map(json_bytes).unwrap_or_default();
        self.json_bytes -= old;
        if self.json_bytes + json_bytes(&board) > MAX_JSON_BYTES {
            board.json = None;
        }
        self.json_bytes += json_bytes(&board);
        let at = self.segment_of(board.id.as_str());
        if self.segments.is_empty() {
            self.segments.push(Segment::default());
        }
        let Some(segment) = self.segments.get_mut(at) else {
            return;
        };
        segment.invalidate();
        let is_last = segment.boards.last().is_some_and(|last| last.id < board.id);
        match segment
            .boards
            .binary_search_by(|other| other.id.cmp(&board.id))
        {
            Ok(index) => {
                if let Some(old) = segment.boards.get_mut(index) {
                    *old = board;
                }
            }
            Err(index) => {
                segment.boards.insert(index, board);
                self.count += 1;
            }
        }
        if segment.boards.len() > MAX_SEGMENT_BOARDS {
            // If boards are inserted in order, the full segment stays as it is. Otherwise it is split in halves.
            let keep = if is_last {
                MAX_SEGMENT_BOARDS
            } else {
                MAX_SEGMENT_BOARDS / 2
            };
            let boards = segment.boards.split_off(keep);
            let second = Segment {
                boards,
                ..Segment::default()
            };
            self.segments.insert(at + 1, second);
        }
    }

    /// Removes a board. Returns whether it was there.
    pub(super) fn remove(&mut self, id: &DeviceId) -> bool {
        let Some((at, index)) = self.find(id) else {
            return false;
        };
        let Some(segment) = self.segments.get_mut(at) else {
            return false;
        };
        segment.invalidate();
        let board = segment.boards.remove(index);
        self.json_bytes -= json_bytes(&board);
        self.count -= 1;
        if segment.boards.is_empty() {
            self.segments.remove(at);
        }
        true
    }

    /// What is known of a board has changed: its status or data (`is_change`), or only the time of its last contact.
    pub(super) fn mark_outdated(&mut self, id: &DeviceId, is_change: bool) {
        let at = self.segment_of(id.as_str());
        let Some(segment) = self.segments.get_mut(at) else {
            return;
        };
        match is_change {
            true => {
                segment.invalidate();
                if let Some(board) = self.get_mut(id) {
                    board.groups_version = 0;
                    self.moved.insert(id.clone());
                }
            }
            false => {
                if let Some(devices) = &mut segment.devices {
                    devices.has_newer_contact = true;
                }
            }
        }
    }

    /// The ids of all boards.
    pub(super) fn ids(&self) -> impl Iterator<Item = &DeviceId> {
        self.iter().map(|board| &board.id)
    }

    /// The boards of one segment after this id; empty if there are no more.
    pub(super) fn after(&self, id: &str) -> &[Board] {
        let from = self.segment_of(id);
        for segment in self.segments.get(from..).unwrap_or_default() {
            let index = segment
                .boards
                .partition_point(|board| board.id.as_str() <= id);
            match segment.boards.get(index..) {
                None | Some([]) => {}
                Some(boards) => return boards,
            }
        }
        &[]
    }

    /// The piece of the first segment that has boards after this id, and the last id in the segment. `None`: there are no
    /// more.
    pub(super) fn piece(
        &mut self,
        kind: ListKind,
        after: &str,
        renderer: &Renderer<'_>,
    ) -> Option<(Option<Piece>, Counts, DeviceId)> {
        let is_before = |segment: &Segment| {
            segment
                .boards
                .last()
                .is_some_and(|last| last.id.as_str() <= after)
        };
        let at = self.segments.partition_point(is_before);
        let segment = self.segments.get_mut(at)?;
        let last = segment.boards.last()?.id.clone();
        if !segment
            .cache(kind)
            .as_ref()
            .is_some_and(Rendered::is_current)
        {
            let rendered = render(&segment.boards, renderer);
            *segment.cache(kind) = Some(rendered);
            self.rendered += 1;
        }
        let rendered = segment.cache(kind).as_mut()?;
        if let (Some(piece), Some(compressor)) = (&mut rendered.piece, renderer.compressor) {
            piece.compress(compressor);
        }
        Some((rendered.piece.clone(), rendered.counts, last))
    }
}

fn json_bytes(board: &Board) -> usize {
    board.json.as_ref().map_or(0, |json| json.len())
}

fn render(boards: &[Board], renderer: &Renderer<'_>) -> Rendered {
    let rendered_at = Instant::now();
    let mut text = Vec::with_capacity(boards.len() * 400);
    let mut counts = Counts::default();
    let mut expires: Option<Instant> = None;
    for board in boards {
        let device = (renderer.device)(board);
        counts.count(device.status().0);
        if let Some(at) = device
            .unreachable_in()
            .and_then(|left| rendered_at.checked_add(left))
        {
            expires = Some(expires.map_or(at, |expires| expires.min(at)));
        }
        let length = text.len();
        text.extend(match length {
            0 => b"".as_slice(),
            _ => b",\n",
        });
        let with_comma = text.len();
        (renderer.write)(&device, &mut text);
        if text.len() == with_comma {
            text.truncate(length);
        }
    }
    text.shrink_to_fit();
    Rendered {
        piece: (!text.is_empty()).then(|| Piece::new(text)),
        counts,
        rendered_at,
        expires,
        has_newer_contact: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fleet::BoardState;
    use super::*;

    fn board(name: &str) -> Board {
        Board {
            id: DeviceId::parse(name).unwrap(),
            own: Etag::of(name.as_bytes()),
            inputs: Etag::of(name.as_bytes()),
            etag: Etag::of(name.as_bytes()),
            own_type: "auto".into(),
            groups_version: 0,
            parsed: Arc::new(Err("broken".into())),
            json: None,
            revision: Revision::new(1, true),
        }
    }

    fn device(board: &Board) -> Device {
        Device {
            id: board.id.clone(),
            own_type: board.own_type.clone(),
            parsed: Arc::clone(&board.parsed),
            state: BoardState::default(),
            silence: Duration::ZERO,
        }
    }

    /// The whole text, and how many pieces were rendered for it.
    fn text(boards: &mut Boards) -> (String, u64) {
        let before = boards.rendered;
        let renderer = Renderer {
            device: &device,
            write: &|device, text| {
                if !device.id.as_str().ends_with("no") {
                    text.extend(device.id.as_str().bytes());
                }
            },
            compressor: None,
        };
        let (mut all, mut after) = (Vec::new(), String::new());
        while let Some((piece, _, last)) = boards.piece(ListKind::Devices, &after, &renderer) {
            all.extend(piece.map(|piece| String::from_utf8(piece.plain.to_vec()).unwrap()));
            after = last.to_string();
        }
        (
            all.join(",\n").replace(",\n", " "),
            boards.rendered - before,
        )
    }

    #[test]
    fn boards_are_sorted_whatever_the_order_of_insertion() {
        let names: Vec<String> = (0..1000).map(|n| format!("edge-{n:04}")).collect();
        for step in [1, 7, 999] {
            let mut boards = Boards::default();
            for n in 0..1000 {
                boards.put(board(&names[n * step % 1000]));
                boards.put(board(&names[n * step % 1000]));
            }
            assert_eq!((boards.len(), text(&mut boards).0), (1000, names.join(" ")));
            assert!(boards
                .ids()
                .map(DeviceId::as_str)
                .eq(names.iter().map(String::as_str)));
            for name in names.iter().filter(|name| !name.ends_with('5')) {
                assert!(boards.remove(&board(name).id));
                assert!(!boards.remove(&board(name).id));
            }
            let left: Vec<_> = names
                .iter()
                .filter(|name| name.ends_with('5'))
                .cloned()
                .collect();
            assert_eq!((boards.len(), text(&mut boards).0), (100, left.join(" ")));
            assert_eq!(boards.after("edge-0005")[0].id.as_str(), "edge-0015");
            assert!(boards.after("edge-0995").is_empty());
            for name in &left {
                boards.remove(&board(name).id);
            }
            assert_eq!((boards.len(), text(&mut boards).0), (0, String::new()));
        }
    }

    #[test]
    fn change_renders_one_piece_again() {
        let mut boards = Boards::default();
        for n in 0..1000 {
            boards.put(board(&format!("edge-{n:04}")));
        }
        let all = text(&mut boards).1;
        assert!(all >= 8);
        assert_eq!(text(&mut boards).1, 0);
        boards.put(board("edge-0500-no"));
        assert!((1..=2).contains(&text(&mut boards).1));
        assert!(!text(&mut boards).0.contains("  "));
        boards.mark_outdated(&board("edge-0500").id, true);
        assert_eq!(text(&mut boards).1, 1);
        // A new `last_seen` may be shown a little later.
        boards.mark_outdated(&board("edge-0500").id, false);
        assert_eq!(text(&mut boards).1, 0);
        boards.remove(&board("edge-0001").id);
        assert_eq!(text(&mut boards).1, 1);
    }

    #[test]
    fn kept_json_is_bounded() {
        let mut boards = Boards::default();
        for n in 0..300 {
            let json = Some(vec![b' '; 100_000].into());
            boards.put(Board {
                json,
                ..board(&format!("edge-{n}"))
            });
        }
        assert!(boards.json_bytes <= MAX_JSON_BYTES && boards.json_bytes > MAX_JSON_BYTES / 2);
        for n in 0..300 {
            boards.remove(&board(&format!("edge-{n}")).id);
        }
        assert_eq!(boards.json_bytes, 0);
    }

    #[test]
    fn revision_is_trusted_after_the_settle_delay() {
        let mut revision = Revision::new(1, false);
        assert_eq!(revision.trusted(), None);
        revision.confirm(1, false);
        assert_eq!(revision.trusted(), None);
        revision.since = Instant::now().checked_sub(SETTLE_DELAY);
        revision.confirm(1, false);
        assert_eq!(revision.trusted(), Some(1));
        revision.confirm(2, false);
        assert_eq!(revision.trusted(), None);
        revision.confirm(3, true);
        assert_eq!(revision.trusted(), Some(3));
    }
}
