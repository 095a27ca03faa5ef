use super::*;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

/// 2026-11-21T00:00:00Z.
const TODAY: i64 = 1_795_219_200 * SECOND;
const HOUR: i64 = 3600 * SECOND;

/// Two clocks that the test sets.
#[derive(Clone, Default)]
struct FakeClocks {
    boot: Arc<AtomicI64>,
    wall: Arc<AtomicI64>,
}

impl FakeClocks {
    fn clock(&self) -> WallClock {
        let clocks = self.clone();
        WallClock::new(move || (clocks.now(), clocks.wall.load(Ordering::Relaxed)))
    }

    fn now(&self) -> BootTime {
        BootTime(self.boot.load(Ordering::Relaxed) as u64)
    }

    fn pass(&self, nanos: i64) -> BootTime {
        self.boot.fetch_add(nanos, Ordering::Relaxed);
        self.step(nanos);
        self.now()
    }

    fn step(&self, nanos: i64) {
        self.wall.fetch_add(nanos, Ordering::Relaxed);
    }

    fn set(&self, wall: i64) {
        self.wall.store(wall, Ordering::Relaxed);
    }
}

/// The timestamps of rows read at these times.
fn stamps(stamps: &mut Stamps, offset: &Offset, rows: &[BootTime]) -> Vec<Stamp> {
    rows.iter().map(|at| stamps.next(offset, *at)).collect()
}

fn ms(nanos: i64) -> i64 {
    nanos / MILLISECOND
}

#[test]
fn readings_before_ntp_get_correct_timestamps_after_ntp() {
    let clocks = FakeClocks::default();
    let clock = clocks.clock();
    let rows: Vec<_> = (0..5).map(|_| clocks.pass(SECOND)).collect();
    assert_eq!(clock.offset(), None);
    clocks.set(TODAY);
    clocks.pass(SECOND);
    let offset = clock.offset().unwrap();
    assert_eq!(clock.steps(), 1);
    assert_eq!(
        stamps(&mut Stamps::default(), &offset, &rows),
        [-4, -3, -2, -1, 0].map(|s| Stamp::At(ms(TODAY + s * SECOND)))
    );
    clocks.set(MIN_WALL_TIME - 1);
    assert_eq!(clock.offset(), None);
    clocks.set(MAX_WALL_TIME);
    assert_eq!(
        clock.offset(),
        None,
        "a clock far in the future is wrong, too"
    );
    clocks.set(i64::MAX);
    assert_eq!(clock.offset(), None);
    clocks.set(i64::MIN);
    assert_eq!(clock.offset(), None);
}

#[test]
fn no_timestamp_goes_back_after_the_clock_was_set_back() {
    let clocks = FakeClocks::default();
    clocks.set(TODAY);
    let clock = clocks.clock();
    let mut consumer = Stamps::default();
    let at = clocks.pass(SECOND);
    let last = ms(TODAY + SECOND);
    let offset = clock.offset().unwrap();
    assert_eq!(consumer.next(&offset, at), Stamp::At(last));
    clocks.step(-HOUR);
    for _ in 0..3600 {
        let at = clocks.pass(SECOND);
        let offset = clock.offset().unwrap();
        let stamp = consumer.next(&offset, at);
        // The last row's own timestamp equals the last delivered one: one millisecond later would be in the future.
        assert!(matches!(stamp, Stamp::Never | Stamp::NotYet), "{stamp:?}");
    }
    let at = clocks.pass(SECOND);
    let offset = clock.offset().unwrap();
    assert_eq!(consumer.next(&offset, at), Stamp::At(last + 1000));
    assert_eq!(clock.steps(), 1);
    let newcomer = Stamps::default().next(&offset, at);
    assert_eq!(newcomer, Stamp::At(last + 1000));
}

#[test]
fn no_timestamp_is_in_the_future_after_the_clock_was_set_forward() {
    let clocks = FakeClocks::default();
    clocks.set(TODAY);
    let clock = clocks.clock();
    let mut consumer = Stamps::default();
    let delivered = clocks.pass(SECOND);
    let offset = clock.offset().unwrap();
    consumer.next(&offset, delivered);
    let waiting = clocks.pass(SECOND);
    clocks.step(HOUR);
    let offset = clock.offset().unwrap();
    // The timestamp follows the clock that is correct now.
    let stamp = consumer.next(&offset, waiting);
    assert_eq!(stamp, Stamp::At(ms(TODAY + HOUR + 2 * SECOND)));
    let after = clocks.pass(SECOND);
    let offset = clock.offset().unwrap();
    let stamp = consumer.next(&offset, after);
    assert_eq!(stamp, Stamp::At(ms(TODAY + HOUR + 3 * SECOND)));
    assert_eq!(clock.steps(), 1);
    // A row read in the future has to wait.
    let future = BootTime(clocks.now().0 + 60_000_000_000);
    assert_eq!(consumer.next(&offset, future), Stamp::NotYet);
}

#[test]
fn slew_loses_no_rows_and_is_no_step() {
    for slew in [-500, 500] {
        let clocks = FakeClocks::default();
        clocks.set(TODAY);
        let clock = clocks.clock();
        let mut consumer = Stamps::default();
        let mut last = 0;
        for tick in 0..400_000 {
            let at = clocks.pass(10 * MILLISECOND);
            clocks.step(10 * slew); // 500 ppm is 500 ns a millisecond
            if tick % 25 == 0 {
                let offset = clock.offset().unwrap();
                assert!((offset.stamp_ms(at) - offset.now_ms()).abs() <= 1);
                match consumer.next(&offset, at) {
                    Stamp::At(stamp) => {
                        assert!(stamp > last);
                        last = stamp;
                    }
                    // Less than half a millisecond is ignored: the row follows with the next check.
                    Stamp::NotYet => {}
                    Stamp::Never | Stamp::Same => panic!("lost"),
                }
            }
        }
        assert_eq!(clock.steps(), 0);
    }
}

#[test]
fn rows_of_one_millisecond_get_different_timestamps() {
    let clocks = FakeClocks::default();
    clocks.set(TODAY);
    let clock = clocks.clock();
    let rows = [1_900_000, 2_950_000, 2_990_000, 4_010_000].map(BootTime);
    clocks.pass(SECOND);
    let offset = clock.offset().unwrap();
    let mut consumer = Stamps::default();
    assert_eq!(
        stamps(&mut consumer, &offset, &rows),
        [1, 2, 3, 4].map(|after| Stamp::At(ms(TODAY) + after))
    );
    // A flood of rows is not spread over time that has not passed.
    let flood = [BootTime(4_020_000); 20];
    let got = stamps(&mut consumer, &offset, &flood);
    let delivered = got.iter().filter(|s| matches!(s, Stamp::At(_))).count();
    assert_eq!(delivered as i64, ms(MAX_SHIFT));
    assert_eq!(got.last(), Some(&Stamp::Never));
}

#[test]
fn timestamp_does_not_depend_on_when_it_is_computed() {
    let clocks = FakeClocks::default();
    clocks.set(TODAY);
    let clock = clocks.clock();
    let first = clock.offset().unwrap();
    for jitter in [400_000, -300_000, -100_000] {
        clocks.step(jitter);
        let at = clocks.pass(SECOND);
        let offset = clock.offset().unwrap();
        assert_eq!(offset.stamp_ms(at), first.stamp_ms(at));
    }
    assert_eq!(clock.steps(), 0);
}
