//! The fleet in memory: of each board what its configuration says, and the pieces of answers that were rendered of it.
//!
//! Boards lie in order, some together in a segment, and a piece is rendered of a segment: a change costs one segment, however
//! large the fleet is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::device::{Device, Summary};
use super::etag::Etag;
use super::pieces::Piece;
use crate::http::gzip::Compressor;
use crate::wire::DeviceId;

/// The most boards of a segment.
const MOST: usize = 128;
/// A file is trusted to have changed when its times have, once it has looked the same for so long: until then another change
/// may hide behind the same times (ext3 and some network file systems count whole seconds).
const SETTLING: Duration = Duration::from_secs(2);
/// So long a piece may tell an older `last_seen`.
const AGE: Duration = Duration::from_secs(5);
/// The most bytes of configurations that are kept rendered, in all.
const MOST_JSON: usize = 16 << 20;

/// One board's configuration as we know it.
#[derive(Debug, Clone)]
pub(super) struct Board {
    pub(super) id: DeviceId,
    pub(super) etag: Etag,
    pub(super) kept: Arc<Result<Summary, String>>,
    /// The configuration as JSON; `None`: it is broken, or all together are too long.
    pub(super) json: Option<Arc<[u8]>>,
    pub(super) revision: u64,
    /// Since when it has this revision; `None`: long enough.
    pub(super) since: Option<Instant>,
}

impl Board {
    /// The revision, if a change cannot hide behind it.
    pub(super) fn settled(&self) -> Option<u64> {
        match self.since {
            None => Some(self.revision),
            Some(_) => None,
        }
    }

    /// It was read again and found the same.
    pub(super) fn seen_again(&mut self, revision: u64, is_sure: bool) {
        if self.revision != revision {
            self.revision = revision;
            self.since = (!is_sure).then(Instant::now);
        } else if self.since.is_some_and(|since| since.elapsed() >= SETTLING) {
            self.since = None;
        }
    }
}

/// How many boards are how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: usize,
    pub(super) healthy: usize,
    pub(super) degraded: usize,
    /// The unreachable ones too.
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

    fn count(&mut self, status: &str) {
        self.total += 1;
        match status {
            "healthy" => self.healthy += 1,
            "degraded" => self.degraded += 1,
            "unhealthy" | "unreachable" => self.unhealthy += 1,
            _ => self.unknown += 1,
        }
    }
}

/// Of which answer a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/devices`
    Devices,
    /// `/sd`
    Targets,
}

/// The piece of one segment.
#[derive(Debug)]
struct Rendered {
    /// `None`: nothing is to be said of any of them.
    piece: Option<Piece>,
    counts: Counts,
    made: Instant,
    /// When it is no longer right, if nothing else happens: a board will be silent then.
    until: Option<Instant>,
    /// A board was heard of since.
    is_aged: bool,
}

impl Rendered {
    fn is_right(&self) -> bool {
        let is_over = self.until.is_some_and(|until| Instant::now() >= until);
        let is_old = self.is_aged && self.made.elapsed() >= AGE;
        !is_over && !is_old
    }
}

#[derive(Debug, Default)]
struct Segment {
    /// In order, never empty.
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

    fn changed(&mut self) {
        (self.devices, self.targets) = (None, None);
    }

    fn rendered(&mut self, kind: Kind) -> &mut Option<Rendered> {
        match kind {
            Kind::Devices => &mut self.devices,
            Kind::Targets => &mut self.targets,
        }
    }
}

/// What makes pieces of boards.
pub(super) struct Renderer<'a> {
    /// What is known of the board besides.
    pub(super) device: &'a dyn Fn(&Board) -> Device,
    /// Writes what is to be said of it.
    pub(super) write: &'a dyn Fn(&Device, &mut Vec<u8>),
    /// Compresses the piece too; `None`: it is not needed compressed.
    pub(super) compressor: Option<&'a Compressor>,
}

/// All boards, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Boards {
    segments: Vec<Segment>,
    count: usize,
    json_bytes: usize,
    /// How often a piece was rendered.
    pub(super) rendered: u64,
}

impl Boards {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The segment in which it is, or would be.
    fn segment(&self, id: &str) -> usize {
        let after = self
            .segments
            .partition_point(|segment| !segment.starts_after(id));
        after.saturating_sub(1)
    }

    fn place(&self, id: &DeviceId) -> Option<(usize, usize)> {
        let at = self.segment(id.as_str());
        let found = self
            .segments
            .get(at)?
            .boards
            .binary_search_by(|board| board.id.cmp(id));
        Some((at, found.ok()?))
    }

    pub(super) fn get(&self, id: &DeviceId) -> Option<&Board> {
        let (segment, board) = self.place(id)?;
        self.segments.get(segment)?.boards.get(board)
    }

    /// The board was read again, and is the same.
    pub(super) fn seen_again(&mut self, id: &DeviceId, revision: u64, is_sure: bool) {
        if let Some((segment, board)) = self.place(id) {
            let segment = self.segments.get_mut(segment);
            if let Some(board) = segment.and_then(|segment| segment.boards.get_mut(board)) {
                board.seen_again(revision, is_sure);
            }
        }
    }

    /// Puts a board in the place of what there is of it.
    pub(super) fn put(&mut self, mut board: Board) {
        let old = self.get(&board.id).map(json_bytes).unwrap_or_default();
        self.json_bytes -= old;
        if self.json_bytes + json_bytes(&board) > MOST_JSON {
            board.json = None;
        }
        self.json_bytes += json_bytes(&board);
        let at = self.segment(board.id.as_str());
        if self.segments.is_empty() {
            self.segments.push(Segment::default());
        }
        let Some(segment) = self.segments.get_mut(at) else {
            return;
        };
        segment.changed();
        let is_last = segment.boards.last().is_some_and(|last| last.id < board.id);
        match segment
            .boards
            .binary_search_by(|other| other.id.cmp(&board.id))
        {
            Ok(place) => {
                if let Some(there) = segment.boards.get_mut(place) {
                    *there = board;
                }
            }
            Err(place) => {
                segment.boards.insert(place, board);
                self.count += 1;
            }
        }
        if segment.boards.len() > MOST {
            // Where they come in order, the first half stays as it is.
            let keep = if is_last { MOST } else { MOST / 2 };
            let boards = segment.boards.split_off(keep);
            let second = Segment {
                boards,
                ..Segment::default()
            };
            self.segments.insert(at + 1, second);
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, id: &DeviceId) -> bool {
        let Some((at, place)) = self.place(id) else {
            return false;
        };
        let Some(segment) = self.segments.get_mut(at) else {
            return false;
        };
        segment.changed();
        let board = segment.boards.remove(place);
        self.json_bytes -= json_bytes(&board);
        self.count -= 1;
        if segment.boards.is_empty() {
            self.segments.remove(at);
        }
        true
    }

    /// Something else is known of a board: something that matters, or merely that it was heard of again.
    pub(super) fn heard_of(&mut self, id: &DeviceId, matters: bool) {
        let at = self.segment(id.as_str());
        let Some(segment) = self.segments.get_mut(at) else {
            return;
        };
        match matters {
            true => segment.changed(),
            false => {
                if let Some(devices) = &mut segment.devices {
                    devices.is_aged = true;
                }
            }
        }
    }

    /// The ids of all of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = &DeviceId> {
        self.segments
            .iter()
            .flat_map(|segment| segment.boards.iter().map(|board| &board.id))
    }

    /// The boards after this id, of one segment. None: there are no more.
    pub(super) fn after(&self, id: &str) -> &[Board] {
        let from = self.segment(id);
        for segment in self.segments.get(from..).unwrap_or_default() {
            let place = segment
                .boards
                .partition_point(|board| board.id.as_str() <= id);
            match segment.boards.get(place..) {
                None | Some([]) => {}
                Some(boards) => return boards,
            }
        }
        &[]
    }

    /// The piece of the first segment that has boards after this id, with the last id in it. `None`: there are no more.
    pub(super) fn piece(
        &mut self,
        kind: Kind,
        after: &str,
        renderer: &Renderer<'_>,
    ) -> Option<(Option<Piece>, Counts, DeviceId)> {
        let place = |segment: &Segment| {
            segment
                .boards
                .last()
                .is_some_and(|last| last.id.as_str() <= after)
        };
        let at = self.segments.partition_point(place);
        let segment = self.segments.get_mut(at)?;
        let last = segment.boards.last()?.id.clone();
        if !segment
            .rendered(kind)
            .as_ref()
            .is_some_and(Rendered::is_right)
        {
            let rendered = render(&segment.boards, renderer);
            *segment.rendered(kind) = Some(rendered);
            self.rendered += 1;
        }
        let rendered = segment.rendered(kind).as_mut()?;
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
    let made = Instant::now();
    let mut text = Vec::with_capacity(boards.len() * 400);
    let mut counts = Counts::default();
    let mut until: Option<Instant> = None;
    for board in boards {
        let device = (renderer.device)(board);
        counts.count(device.status().0);
        if let Some(at) = device.silent_in().and_then(|left| made.checked_add(left)) {
            until = Some(until.map_or(at, |until| until.min(at)));
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
        made,
        until,
        is_aged: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fleet::State;
    use super::*;

    fn board(name: &str) -> Board {
        Board {
            id: DeviceId::parse(name).unwrap(),
            etag: Etag::of(name.as_bytes()),
            kept: Arc::new(Err("broken".into())),
            json: None,
            revision: 1,
            since: None,
        }
    }

    fn device(board: &Board) -> Device {
        Device {
            id: board.id.clone(),
            kept: Arc::clone(&board.kept),
            state: State::default(),
            quiet: Duration::ZERO,
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
        while let Some((piece, _, last)) = boards.piece(Kind::Devices, &after, &renderer) {
            all.extend(piece.map(|piece| String::from_utf8(piece.plain.to_vec()).unwrap()));
            after = last.to_string();
        }
        (
            all.join(",\n").replace(",\n", " "),
            boards.rendered - before,
        )
    }

    #[test]
    fn boards_lie_in_order_however_they_come() {
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
    fn a_change_costs_one_piece() {
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
        boards.heard_of(&board("edge-0500").id, true);
        assert_eq!(text(&mut boards).1, 1);
        // It may be told a little later.
        boards.heard_of(&board("edge-0500").id, false);
        assert_eq!(text(&mut boards).1, 0);
        boards.remove(&board("edge-0001").id);
        assert_eq!(text(&mut boards).1, 1);
    }

    #[test]
    fn what_is_kept_rendered_is_bounded() {
        let mut boards = Boards::default();
        for n in 0..300 {
            let json = Some(vec![b' '; 100_000].into());
            boards.put(Board {
                json,
                ..board(&format!("edge-{n}"))
            });
        }
        assert!(boards.json_bytes <= MOST_JSON && boards.json_bytes > MOST_JSON / 2);
        for n in 0..300 {
            boards.remove(&board(&format!("edge-{n}")).id);
        }
        assert_eq!(boards.json_bytes, 0);
    }

    #[test]
    fn a_file_is_trusted_once_it_has_been_the_same_for_a_while() {
        let mut board = Board {
            since: Some(Instant::now()),
            ..board("a")
        };
        assert_eq!(board.settled(), None);
        board.seen_again(1, false);
        assert_eq!(board.settled(), None);
        board.since = Instant::now().checked_sub(SETTLING);
        board.seen_again(1, false);
        assert_eq!(board.settled(), Some(1));
        board.seen_again(2, false);
        assert_eq!(board.settled(), None);
        board.seen_again(3, true);
        assert_eq!(board.settled(), Some(3));
    }
}
