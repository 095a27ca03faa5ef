use super::*;
use crate::metrics::{is_absent, Desc, Group, Policy, Readings, Registry, SeriesId, WallClock};
use crate::remote_write::Labels;
use crate::sys::temp_dir::TempDir;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// 2026-11-21T00:00:00Z, in nanoseconds.
const TODAY: i64 = 1_795_219_200_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// A board with one source of two series, whose clocks the test sets.
struct Board {
    place: TempDir,
    registry: Arc<Registry>,
    group: Arc<Group>,
    ids: Vec<SeriesId>,
    generation: u64,
    now: Arc<AtomicU64>,
    /// Wall clock less boot time.
    offset: Arc<AtomicI64>,
    clock: WallClock,
    read: u64,
}

impl Board {
    fn new() -> Board {
        let registry = Arc::new(Registry::new(Policy::All));
        let group = registry.add_group(0, "rapl", vec![]);
        group.history().limit(Duration::from_secs(3600), 1 << 20);
        let ids = ["a", "b"].map(|name| group.series(&Desc::gauge(name, ""), &[]));
        let now = Arc::new(AtomicU64::new(1000 * SECOND));
        let offset = Arc::new(AtomicI64::new(TODAY));
        let (of_now, of_offset) = (Arc::clone(&now), Arc::clone(&offset));
        let clock = WallClock::new(move || {
            let boot = of_now.load(Ordering::Relaxed);
            (
                BootTime(boot),
                boot as i64 + of_offset.load(Ordering::Relaxed),
            )
        });
        Board {
            place: TempDir::new(),
            generation: group.new_generation(),
            ids: ids.into(),
            registry,
            group,
            now,
            offset,
            clock,
            read: 0,
        }
    }

    fn now(&self) -> BootTime {
        BootTime(self.now.load(Ordering::Relaxed))
    }

    /// Polls the meter that many times, once a second.
    fn seconds(&mut self, count: u64) {
        let mut out = Readings::new(5.0);
        for _ in 0..count {
            self.now.fetch_add(SECOND, Ordering::Relaxed);
            out.begin(self.now());
            self.read += 1;
            out.set(self.ids[0], self.read as f64);
            out.set(self.ids[1], -(self.read as f64));
            self.group.publish(self.generation, &out);
        }
    }

    fn state(&self) -> State {
        let memory = MemoryFeed::new(Arc::clone(&self.registry), Labels::default(), self.now());
        let settings = DiskQueue {
            directory: self.place.path().join("queue"),
            bytes: 1 << 20,
            sync_interval: Duration::from_secs(10),
        };
        State::new(memory, settings, self.now())
    }

    fn next(&self, state: &mut State) -> Option<Arc<Batch>> {
        let limit = BatchLimit {
            samples: 50,
            readings: usize::MAX,
        };
        state.next(&self.clock.offset()?, self.now(), limit)
    }

    /// Delivers everything. Returns the values and stamps of the first series.
    fn deliver(&self, state: &mut State) -> Vec<(i64, f64)> {
        let mut all = Vec::new();
        while let Some(batch) = self.next(state) {
            assert_eq!(self.next(state), Some(Arc::clone(&batch)));
            let run = batch.runs.iter().find(|run| run.series.labels[0].1 == "a");
            let samples = run.into_iter().flat_map(|run| run.samples.iter());
            all.extend(samples.map(|(stamp, bits)| (*stamp, f64::from_bits(*bits))));
            state.done();
        }
        all
    }

    fn flush(&self, state: &mut State) {
        state.flush(self.clock.offset().as_ref(), self.now(), false);
    }

    fn segments(&self) -> usize {
        let entries = std::fs::read_dir(self.place.path().join("queue")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".segment")).count()
    }

    /// What the first series should have: a value a second, with stamps by the present clock.
    fn expected(&self, values: std::ops::RangeInclusive<u64>) -> Vec<(i64, f64)> {
        let offset = self.offset.load(Ordering::Relaxed);
        let stamp = |n: u64| ((1000 + n) * SECOND) as i64 + offset;
        values.map(|n| (stamp(n) / 1_000_000, n as f64)).collect()
    }
}

fn lost(state: &State) -> Vec<(&'static str, u64)> {
    let mut losses = state.losses();
    losses.retain(|(_, samples)| *samples > 0);
    losses
}

#[test]
fn nothing_is_written_while_the_receiver_is_up() {
    let mut board = Board::new();
    let mut state = board.state();
    let mut all = Vec::new();
    for _ in 0..100 {
        board.seconds(5);
        board.flush(&mut state);
        all.extend(board.deliver(&mut state));
    }
    assert_eq!(all, board.expected(1..=500));
    assert_eq!(board.segments(), 0);
    assert_eq!(state.stats().written_bytes, 0);
    state.flush(board.clock.offset().as_ref(), board.now(), true);
    assert_eq!(state.stats().written_bytes, 0);
}

#[test]
fn unsent_samples_are_written_and_outlast_the_process() {
    let mut board = Board::new();
    let mut state = board.state();
    board.seconds(3);
    assert_eq!(board.deliver(&mut state), board.expected(1..=3));
    // The receiver goes down, then the process is killed at any moment.
    let mut writes = 0;
    for _ in 0..50 {
        board.seconds(1);
        let before = state.stats().written_bytes;
        board.flush(&mut state);
        writes += u64::from(state.stats().written_bytes > before);
    }
    // One write in about eight seconds.
    assert!((5..=8).contains(&writes), "{writes}");
    let killed_at = board.read;
    std::mem::forget(state);
    std::fs::rename(
        board.place.path().join("queue"),
        board.place.path().join("old"),
    )
    .unwrap();
    let copied = board.place.path().join("queue");
    std::fs::create_dir(&copied).unwrap();
    for entry in std::fs::read_dir(board.place.path().join("old")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copied.join(path.file_name().unwrap())).unwrap();
    }
    // The next process has nothing of what was only in memory.
    board.group.history().limit(Duration::ZERO, 0);
    let mut state = board.state();
    let all = board.deliver(&mut state);
    let last = all.len() as u64 + 3;
    assert_eq!(all, board.expected(4..=last));
    assert!(killed_at - last <= 10, "{last} of {killed_at}");
    assert_eq!(board.segments(), 0);
    assert_eq!(lost(&state), []);
}

#[test]
fn small_history_is_written_before_it_is_full() {
    let mut board = Board::new();
    // Room for six rows.
    board
        .group
        .history()
        .limit(Duration::from_secs(3600), 6 * 4 * 8);
    let mut state = board.state();
    for _ in 0..20 {
        board.seconds(2);
        board.flush(&mut state);
    }
    assert_eq!(board.deliver(&mut state), board.expected(1..=40));
    assert_eq!(lost(&state), []);
}

#[test]
fn order_holds_from_disk_to_memory_during_polls() {
    let mut board = Board::new();
    let mut state = board.state();
    let mut all = Vec::new();
    board.seconds(100);
    board.flush(&mut state);
    assert_eq!(board.segments(), 1);
    while all.len() < 400 {
        board.seconds(3);
        board.flush(&mut state);
        if let Some(batch) = board.next(&mut state) {
            let samples = batch.runs[0].samples.iter();
            all.extend(samples.map(|(stamp, bits)| (*stamp, f64::from_bits(*bits))));
            // The batch being sent is written meanwhile, if sending takes long.
            board.seconds(9);
            board.flush(&mut state);
            state.done();
        }
    }
    all.extend(board.deliver(&mut state));
    assert_eq!(all, board.expected(1..=board.read));
    assert_eq!(state.pending(), Pending::default());
    assert_eq!(board.segments(), 0);
}

#[test]
fn batch_written_while_being_sent_is_sent_once() {
    let mut board = Board::new();
    let mut state = board.state();
    board.seconds(9);
    let batch = board.next(&mut state).unwrap();
    assert_eq!(batch.len(), 18);
    board.flush(&mut state);
    assert_eq!(board.segments(), 1);
    assert_eq!(state.pending().samples, 0);
    state.done();
    assert_eq!(board.segments(), 0);
    board.seconds(9);
    assert_eq!(board.deliver(&mut state), board.expected(10..=18));
}

#[test]
fn samples_from_before_the_clock_was_set_get_right_stamps_after_a_restart() {
    let mut board = Board::new();
    board.offset.store(-500 * SECOND as i64, Ordering::Relaxed);
    let mut state = board.state();
    board.seconds(20);
    assert!(board.next(&mut state).is_none());
    board.flush(&mut state);
    assert_eq!(board.segments(), 1);
    drop(state);
    board.group.history().limit(Duration::ZERO, 0);
    let mut state = board.state();
    assert!(board.next(&mut state).is_none());
    board.offset.store(TODAY + 123_456_789, Ordering::Relaxed);
    assert_eq!(board.deliver(&mut state), board.expected(1..=20));
    assert_eq!(lost(&state), []);
}

#[test]
fn clock_set_before_sending_moves_all_stamps() {
    let mut board = Board::new();
    let mut state = board.state();
    for step in [0, 3_600_000_000_000, -7_200_000_000_000, 250_000] {
        board.offset.fetch_add(step, Ordering::Relaxed);
        board.seconds(20);
        board.flush(&mut state);
        board.seconds(2);
    }
    // A quarter of a millisecond is no change.
    board.offset.fetch_sub(250_000, Ordering::Relaxed);
    assert_eq!(board.deliver(&mut state), board.expected(1..=88));
    assert_eq!(lost(&state), []);
}

#[test]
fn after_a_clock_step_back_no_series_goes_back_and_losses_are_counted() {
    let mut board = Board::new();
    let mut state = board.state();
    board.seconds(20);
    board.deliver(&mut state);
    board.offset.fetch_sub(5_500_000_000, Ordering::Relaxed);
    board.seconds(20);
    board.flush(&mut state);
    assert_eq!(board.deliver(&mut state), board.expected(26..=40));
    assert_eq!(lost(&state), [("clock_set_back", 10)]);
}

/// Makes what is on disk come from another boot.
fn reboot(board: &Board) {
    for entry in std::fs::read_dir(board.place.path().join("queue")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "segment")
        {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, super::super::segment::in_another_boot(&bytes)).unwrap();
        }
    }
    board.now.store(30 * SECOND, Ordering::Relaxed);
    board.group.history().limit(Duration::ZERO, 0);
}

#[test]
fn samples_of_an_earlier_boot_get_its_last_clock() {
    let mut board = Board::new();
    let mut state = board.state();
    // First an hour late, then right.
    board.offset.fetch_sub(3_600_000_000_000, Ordering::Relaxed);
    board.seconds(20);
    board.flush(&mut state);
    board.offset.fetch_add(3_600_000_000_000, Ordering::Relaxed);
    board.seconds(20);
    board.flush(&mut state);
    drop(state);
    let expected = board.expected(1..=40);
    reboot(&board);
    board
        .offset
        .fetch_add(5000 * SECOND as i64, Ordering::Relaxed);
    let mut state = board.state();
    assert_eq!(board.deliver(&mut state), expected);
    assert_eq!(lost(&state), []);
}

#[test]
fn samples_of_a_boot_without_a_right_clock_are_dropped_and_counted() {
    let mut board = Board::new();
    board.offset.store(0, Ordering::Relaxed);
    let mut state = board.state();
    board.seconds(20);
    board.flush(&mut state);
    drop(state);
    reboot(&board);
    board.offset.store(TODAY, Ordering::Relaxed);
    let mut state = board.state();
    assert_eq!(board.deliver(&mut state), []);
    assert_eq!(lost(&state), [("clock_never_set", 40)]);
    assert_eq!(board.segments(), 0);
}

#[test]
fn samples_from_the_future_wait_for_the_clock_for_a_limited_time() {
    for in_time in [true, false] {
        let mut board = Board::new();
        let mut state = board.state();
        board.seconds(20);
        board.flush(&mut state);
        drop(state);
        let expected = board.expected(1..=20);
        reboot(&board);
        // Without a battery the clock stands where it was saved last, until NTP sets it.
        board
            .offset
            .fetch_sub(1000 * SECOND as i64, Ordering::Relaxed);
        let mut state = board.state();
        assert!(board.next(&mut state).is_none());
        if in_time {
            board
                .offset
                .fetch_add(3000 * SECOND as i64, Ordering::Relaxed);
            assert_eq!(board.deliver(&mut state), expected);
        } else {
            board.now.fetch_add(601 * SECOND, Ordering::Relaxed);
            assert_eq!(board.deliver(&mut state), []);
            assert_eq!(lost(&state), [("clock_never_set", 40)]);
        }
    }
}

#[test]
fn queue_stays_in_memory_while_its_directory_is_unusable() {
    let mut board = Board::new();
    let path = board.place.path().join("queue");
    std::fs::write(&path, "in the way").unwrap();
    let mut state = board.state();
    board.seconds(20);
    board.flush(&mut state);
    assert!(!state.stats().ok);
    assert_eq!(board.deliver(&mut state), board.expected(1..=20));
    std::fs::remove_file(&path).unwrap();
    board.seconds(40);
    board.flush(&mut state);
    assert!(state.stats().ok && board.segments() == 1);
    // The directory is removed while it is used, with all that is in it.
    std::fs::remove_dir_all(&path).unwrap();
    state.disk.as_mut().unwrap().sent(
        Position {
            segment: 7,
            offset: 0,
        },
        0,
    );
    board.seconds(40);
    board.flush(&mut state);
    assert!(!state.stats().ok);
    assert_eq!(board.deliver(&mut state), board.expected(61..=100));
}

#[test]
fn samples_on_disk_at_the_start_are_given_block_by_block() {
    let mut board = Board::new();
    let mut state = board.state();
    for _ in 0..5 {
        board.seconds(10);
        board.flush(&mut state);
    }
    drop(state);
    board.group.history().limit(Duration::ZERO, 0);
    let mut state = board.state();
    for _ in 0..5 {
        let batch = board.next(&mut state).unwrap();
        assert_eq!((batch.len(), batch.may_be_repeated), (20, true));
        state.done();
    }
    assert!(board.next(&mut state).is_none());
}

#[test]
fn samples_written_since_the_start_are_given_in_whole_batches() {
    let mut board = Board::new();
    let mut state = board.state();
    for _ in 0..5 {
        board.seconds(10);
        board.flush(&mut state);
    }
    // Blocks of 20 samples, and no more than 50 in a batch.
    let batch = board.next(&mut state).unwrap();
    assert_eq!((batch.len(), batch.may_be_repeated), (40, false));
}

#[test]
fn unsent_samples_and_staleness_markers_are_written_at_the_end() {
    let mut board = Board::new();
    let mut state = board.state();
    board.seconds(3);
    state.finish();
    state.flush(board.clock.offset().as_ref(), board.now(), true);
    drop(state);
    board.group.history().limit(Duration::ZERO, 0);
    board.now.fetch_add(SECOND, Ordering::Relaxed);
    let mut state = board.state();
    let all = board.deliver(&mut state);
    assert_eq!(all[..3], board.expected(1..=3));
    assert!(all.len() == 4 && all[3].0 == all[2].0 + 1 && is_absent(all[3].1));
}

/// Stamps are converted from boot time to 1970 and back: those given and not delivered, and those not given.
#[test]
fn memory_continues_without_the_disk_and_with_it_again() {
    let mut board = Board::new();
    let mut state = board.state();
    board.seconds(3);
    assert_eq!(board.deliver(&mut state), board.expected(1..=3));
    board.seconds(2);
    let held = board.next(&mut state);
    board.seconds(2);
    let mut memory = state.take_memory();
    // Samples that are read meanwhile do not belong to the old queue: on disk they would come before what was handed
    // over.
    for _ in 0..2 {
        state.flush(board.clock.offset().as_ref(), board.now(), true);
        assert_eq!(state.stats().written_bytes, 0);
        board.seconds(1);
    }
    drop(state);

    let limit = DEFAULT_LIMIT;
    let offset = board.clock.offset().unwrap();
    assert_eq!(memory.next(&offset, board.now(), limit), held);
    memory.done();
    let rest = memory.next(&offset, board.now(), limit).unwrap();
    let stamps = board.expected(6..=9);
    let stamps: Vec<_> = stamps.iter().map(|(s, v)| (*s, v.to_bits())).collect();
    assert_eq!(rest.runs[0].samples, stamps);

    // The time of given samples is kept: they are written when they are due.
    assert_eq!(memory.oldest(), Some(BootTime(1006 * SECOND)));
    board.seconds(1);
    let settings = board.state().settings;
    let mut state = State::new(memory, settings, board.now());
    assert_eq!(board.deliver(&mut state), board.expected(6..=10));
    assert_eq!(lost(&state), []);
}

#[test]
fn samples_on_disk_stay_when_memory_is_handed_over() {
    let mut board = Board::new();
    let mut state = board.state();
    board.seconds(10);
    board.flush(&mut state);
    board.seconds(2);
    assert!(board.next(&mut state).is_some());
    let mut memory = state.take_memory();
    drop(state);
    let offset = board.clock.offset().unwrap();
    let given = memory.next(&offset, board.now(), DEFAULT_LIMIT).unwrap();
    assert_eq!(given.runs[0].samples.len(), 2);
    board.group.history().limit(Duration::ZERO, 0);
    let mut state = board.state();
    assert_eq!(board.deliver(&mut state), board.expected(1..=10));
}
