use super::*;
use crate::metrics::{Desc, Policy, Readings, SeriesId, WallClock};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// 2026-11-21T00:00:00Z, in milliseconds.
const TODAY: i64 = 1_795_219_200_000;

struct Bench {
    registry: Registry,
    group: Arc<Group>,
    ids: Vec<SeriesId>,
    clock: WallClock,
    /// Boot time in nanoseconds, and the wall clock's error in milliseconds.
    now: Arc<AtomicI64>,
    ahead: Arc<AtomicI64>,
}

fn bench() -> Bench {
    let registry = Registry::new(Policy::All);
    let group = registry.add_group(0, "rapl", vec![]);
    group.history().limit(Duration::from_secs(3600), 1 << 20);
    let ids = ["a", "b"].map(|name| group.series(&Desc::gauge(name, ""), &[]));
    let (now, ahead) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let (of_now, of_ahead) = (Arc::clone(&now), Arc::clone(&ahead));
    let clock = WallClock::new(move || {
        let boot = of_now.load(Ordering::Relaxed);
        let wall = (TODAY + of_ahead.load(Ordering::Relaxed)) * 1_000_000 + boot;
        (BootTime(boot as u64), wall)
    });
    Bench {
        registry,
        group,
        ids: ids.into(),
        clock,
        now,
        ahead,
    }
}

impl Bench {
    /// Publishes a row every `milliseconds`.
    fn rows(&self, count: usize, milliseconds: i64) {
        self.rows_every(count, milliseconds * 1_000_000);
    }

    fn rows_every(&self, count: usize, nanos: i64) {
        let generation = self.group.new_generation();
        let mut out = Readings::new(5.0);
        for _ in 0..count {
            self.now.fetch_add(nanos, Ordering::Relaxed);
            out.begin(self.at());
            for id in &self.ids {
                out.set(*id, 1.5);
            }
            self.group.publish(generation, &out);
        }
    }

    fn at(&self) -> BootTime {
        BootTime(self.now.load(Ordering::Relaxed) as u64)
    }

    /// Timestamps of the next rows, in milliseconds since the start.
    fn take(&self, progress: &mut Progress, bytes: usize) -> Vec<i64> {
        let offset = self.clock.offset().unwrap();
        let batch = progress.take(&self.registry, &offset, self.at(), bytes);
        let rows = batch.of(&self.group);
        let stamps = rows.into_iter().flat_map(|rows| rows.series(1));
        stamps.map(|(stamp, _)| stamp - TODAY).collect()
    }
}

#[test]
fn failed_delivery_is_repeated() {
    let bench = bench();
    let mut progress = Progress::new(BootTime(0));
    bench.rows(3, 1000);
    let mut lost = progress.clone();
    assert_eq!(bench.take(&mut lost, 10_000), [1000, 2000, 3000]);
    bench.rows(1, 1000);
    assert_eq!(bench.take(&mut progress, 10_000), [1000, 2000, 3000, 4000]);
    assert!(bench.take(&mut progress, 10_000).is_empty());
}

#[test]
fn rows_beyond_the_limit_follow_in_the_next_batch() {
    let bench = bench();
    bench.rows(1000, 1);
    let mut progress = Progress::new(BootTime(0));
    let mut all = Vec::new();
    let mut deliveries = 0;
    loop {
        let some = bench.take(&mut progress, 10_000);
        if some.is_empty() {
            break;
        }
        assert!(some.len() * 2 * VALUE_AND_STAMP_BYTES <= 10_000);
        deliveries += 1;
        all.extend(some);
    }
    assert_eq!(all, (1..=1000).collect::<Vec<_>>());
    assert!(deliveries > 5);
    assert_eq!((progress.dropped, progress.set_back), (0, 0));
}

#[test]
fn last_of_many_rows_has_the_timestamp() {
    let bench = bench();
    let interval = 100_000;
    bench
        .group
        .set_interval(Duration::from_nanos(interval as u64));
    let mut progress = Progress::new(BootTime(0));
    let generation = bench.group.new_generation();
    let mut out = Readings::new(5.0);
    for row in 0..35 {
        bench.now.fetch_add(interval, Ordering::Relaxed);
        out.begin(bench.at());
        // The second series is absent in the last row of each millisecond.
        out.set(bench.ids[0], f64::from(row));
        if row % 10 != 8 {
            out.set(bench.ids[1], f64::from(row));
        }
        bench.group.publish(generation, &out);
    }
    let offset = bench.clock.offset().unwrap();
    let batch = progress.take(&bench.registry, &offset, bench.at(), 1 << 20);
    let rows = batch.of(&bench.group).unwrap();
    let of = |place| -> Vec<_> {
        let samples = rows.series(place);
        samples.map(|(at, value)| (at - TODAY, value)).collect()
    };
    // The rows of the fourth millisecond wait until it is over.
    assert_eq!(of(0), [(0, 8.0), (1, 18.0), (2, 28.0)]);
    assert_eq!(of(1), [(0, 7.0), (1, 17.0), (2, 27.0)]);
    let delivered = 6;
    let read = 29 + 26;
    assert_eq!(progress.merged, read - delivered);
    assert_eq!((progress.dropped, progress.set_back), (0, 0));
    // Microseconds tell all of them apart.
    let mut progress = Progress::new(BootTime(0));
    let offset = offset.in_microseconds();
    let batch = progress.take(&bench.registry, &offset, bench.at(), 1 << 20);
    let rows = batch.of(&bench.group).unwrap();
    let stamps: Vec<_> = rows.series(0).map(|(at, _)| at - TODAY * 1000).collect();
    assert_eq!(stamps, (1..=35).map(|n| n * 100).collect::<Vec<_>>());
    assert_eq!((progress.merged, progress.set_back), (0, 0));
}

#[test]
fn rows_of_one_timestamp_come_in_one_batch() {
    let bench = bench();
    bench.group.set_interval(Duration::from_micros(100));
    let mut progress = Progress::new(BootTime(0));
    bench.rows_every(20, 100_000);
    // One row fits.
    assert_eq!(bench.take(&mut progress, 1), [0]);
    assert_eq!(progress.rows_left(&bench.group), 11);
    assert_eq!(bench.take(&mut progress, 1), [1]);
    assert_eq!(progress.rows_left(&bench.group), 1);
    assert_eq!(bench.take(&mut progress, 1), [0; 0]);
    assert_eq!(progress.merged, 2 * 17, "the last row waits");
}

#[test]
fn rows_with_timestamps_going_back_are_skipped_and_counted() {
    let bench = bench();
    let mut progress = Progress::new(BootTime(0));
    bench.rows(2, 1000);
    assert_eq!(bench.take(&mut progress, 10_000), [1000, 2000]);
    bench.ahead.store(-3_500, Ordering::Relaxed);
    bench.rows(5, 1000);
    assert_eq!(bench.take(&mut progress, 10_000), [2500, 3500]);
    assert_eq!(progress.set_back, 6, "three rows of two values");
    assert_eq!(bench.clock.steps(), 1);
}

#[test]
fn timestamps_continue_after_a_source_restarts() {
    let mut bench = bench();
    let mut progress = Progress::new(BootTime(0));
    bench.rows(2, 1000);
    assert_eq!(bench.take(&mut progress, 10_000), [1000, 2000]);
    bench.registry.remove_group(&bench.group);
    bench.group = bench.registry.add_group(0, "rapl", vec![]);
    bench
        .group
        .history()
        .limit(Duration::from_secs(60), 1 << 20);
    for name in ["a", "b"] {
        bench.group.series(&Desc::gauge(name, ""), &[]);
    }
    bench.ahead.store(-1_500, Ordering::Relaxed);
    bench.rows(2, 1000);
    assert_eq!(bench.take(&mut progress, 10_000), [2500]);
    assert_eq!(progress.set_back, 2);
}

#[test]
fn dropped_rows_are_counted() {
    let bench = bench();
    bench
        .group
        .history()
        .limit(Duration::from_secs(60), 10 * 4 * 8);
    let mut progress = Progress::new(BootTime(0));
    assert!(bench.take(&mut progress, 10_000).is_empty());
    bench.rows(15, 1000);
    assert_eq!(bench.take(&mut progress, 10_000).len(), 10);
    assert_eq!(progress.dropped, 10, "five rows of two values");
}

#[test]
fn unused_share_goes_to_larger_groups() {
    let bench = bench();
    let busy = bench.registry.add_group(1, "busy", vec![]);
    busy.history().limit(Duration::from_secs(3600), 1 << 20);
    let idle = bench.registry.add_group(2, "idle", vec![]);
    idle.series(&Desc::gauge("c", ""), &[]);
    bench.rows(3, 1000);
    let id = busy.series(&Desc::gauge("d", ""), &[]);
    let generation = busy.new_generation();
    let mut out = Readings::new(5.0);
    for i in 0..100 {
        out.begin(BootTime(1 + i * 10_000_000));
        out.set(id, 1.0);
        busy.publish(generation, &out);
    }
    let limit = DeliveryLimit::Samples {
        samples: 60,
        rows: usize::MAX,
    };
    let mut progress = Progress::new(BootTime(0));
    let offset = bench.clock.offset().unwrap();
    let batch = progress.take_from(&bench.registry.groups(), &offset, bench.at(), limit);
    let rows = |group: &Group| batch.of(group).map_or(0, |rows| rows.series(0).count());
    // Three rows of two series; the other series fills the rest.
    assert_eq!((rows(&bench.group), rows(&busy)), (3, 54));
    assert_eq!(progress.rows_left(&busy), 46);
}
