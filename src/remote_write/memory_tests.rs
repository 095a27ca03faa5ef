//! Tests of `memory`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::*;
use crate::metrics::{Desc, Kind, Policy, Readings, WallClock};

/// 2026-11-21T00:00:00Z, in milliseconds.
const TODAY: i64 = 1_795_219_200_000;
const ALL: BatchLimit = BatchLimit {
    samples: 1_000_000,
    readings: usize::MAX,
};
const MARK: f64 = ABSENT;

/// A board whose clock the test sets.
struct Bench {
    registry: Arc<Registry>,
    now: Arc<AtomicI64>,
    clock: WallClock,
}

fn bench() -> Bench {
    let now = Arc::new(AtomicI64::new(0));
    let of_now = Arc::clone(&now);
    Bench {
        registry: Arc::new(Registry::new(Policy::All)),
        now,
        clock: WallClock::new(move || {
            let boot = of_now.load(Ordering::Relaxed) * 1_000_000;
            (BootTime(boot as u64), TODAY * 1_000_000 + boot)
        }),
    }
}

impl Bench {
    fn at(&self, milliseconds: i64) -> BootTime {
        self.now.store(milliseconds, Ordering::Relaxed);
        BootTime((milliseconds * 1_000_000) as u64)
    }

    fn source(&self, rank: u32, name: &str) -> Arc<Group> {
        let group = self.registry.add_group(rank, name, vec![]);
        group.history().limit(Duration::from_secs(3600), 1 << 20);
        group.set_interval(Duration::from_secs(1));
        group
    }

    /// Publishes a row: a gauge, which may be absent, and the increase of a counter.
    fn row(&self, group: &Group, milliseconds: i64, watts: Option<f64>, joules: Option<f64>) {
        let power = group.series(&Desc::gauge("power_watts", "Power."), &[]);
        let energy = group.series(&Desc::counter("energy_joules_total", "Energy."), &[]);
        let mut out = Readings::new(5.0);
        out.begin(self.at(milliseconds));
        if let Some(watts) = watts {
            out.set(power, watts);
        }
        if let Some(joules) = joules {
            out.add(energy, joules);
        }
        group.publish(group.new_generation(), &out);
    }

    fn feed(&self) -> MemoryFeed {
        let labels = [("job".to_string(), "edge".to_string())];
        MemoryFeed::new(Arc::clone(&self.registry), Labels::new(labels), BootTime(0))
    }

    /// Takes a batch: the name of each series, and its samples with stamps since `TODAY`.
    fn give(&self, feed: &mut MemoryFeed, limit: BatchLimit) -> Vec<(String, Vec<(i64, f64)>)> {
        let offset = self.clock.offset().unwrap();
        let now = BootTime((self.now.load(Ordering::Relaxed) * 1_000_000) as u64);
        let batch = feed.next(&offset, now, limit);
        let again = feed.next(&offset, now, limit);
        assert_eq!(batch, again, "the same until it is done");
        feed.done();
        let runs = batch.map_or_else(Vec::new, |batch| batch.runs.clone());
        let mut runs: Vec<_> = runs
            .into_iter()
            .map(|run| {
                let (_, name) = run
                    .series
                    .labels
                    .iter()
                    .find(|(n, _)| n == "__name__")
                    .unwrap();
                let sample = |(stamp, bits): &(i64, u64)| (*stamp - TODAY, f64::from_bits(*bits));
                (name.clone(), run.samples.iter().map(sample).collect())
            })
            .collect();
        runs.sort_by(|a: &(String, _), b| a.0.cmp(&b.0));
        runs
    }
}

/// As bits, in which the staleness marker equals itself.
fn same(found: &[(String, Vec<(i64, f64)>)], expected: &[(&str, &[(i64, f64)])]) {
    let bits = |samples: &[(i64, f64)]| -> Vec<(i64, u64)> {
        samples
            .iter()
            .map(|(at, value)| (*at, value.to_bits()))
            .collect()
    };
    let found: Vec<_> = found.iter().map(|(n, s)| (n.as_str(), bits(s))).collect();
    let expected: Vec<_> = expected.iter().map(|(n, s)| (*n, bits(s))).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_sample_is_given_once_with_its_labels() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    let mut feed = bench.feed();
    same(&bench.give(&mut feed, ALL), &[]);
    bench.row(&rapl, 1000, Some(1.5), Some(0.0));
    bench.row(&rapl, 2000, Some(2.5), Some(2.0));
    assert_eq!(
        feed.pending(),
        Pending {
            samples: 4,
            readings: 2,
            overdue: false
        }
    );
    same(
        &bench.give(&mut feed, ALL),
        &[
            ("energy_joules_total", &[(1000, 0.0), (2000, 2.0)]),
            ("power_watts", &[(1000, 1.5), (2000, 2.5)]),
        ],
    );
    assert_eq!(feed.pending(), Pending::default());
    same(&bench.give(&mut feed, ALL), &[]);

    bench.row(&rapl, 3000, Some(3.5), Some(1.0));
    let offset = bench.clock.offset().unwrap();
    let batch = feed.next(&offset, bench.at(3000), ALL).unwrap();
    assert_eq!((batch.len(), batch.newest()), (2, Some(TODAY + 3000)));
    let of = |kind| {
        batch
            .runs
            .iter()
            .find(|run| run.series.kind == kind)
            .unwrap()
    };
    let label = |name: &str, value: &str| (name.to_string(), value.to_string());
    assert_eq!(
        of(Kind::Gauge).series.labels,
        [label("__name__", "power_watts"), label("job", "edge")]
    );
    assert_eq!(of(Kind::Gauge).start, None);
    let energy = of(Kind::Counter);
    assert_eq!(energy.start, Some(TODAY + 1000), "since its first reading");
    assert_eq!(
        (&*energy.series.help, &*energy.series.unit),
        ("Energy.", "joules")
    );
}

#[test]
fn batch_is_no_larger_than_its_limit() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    for i in 1..=10 {
        bench.row(&rapl, i * 1000, Some(1.0), Some(1.0));
    }
    let mut feed = bench.feed();
    let few = BatchLimit {
        samples: 7,
        readings: usize::MAX,
    };
    let sizes: Vec<usize> = (0..4)
        .map(|_| bench.give(&mut feed, few)[0].1.len())
        .collect();
    assert_eq!(sizes, [3, 3, 3, 1]);
    bench.row(&rapl, 11_000, Some(1.0), None);
    bench.row(&rapl, 12_000, Some(1.0), None);
    let one = BatchLimit {
        samples: 1000,
        readings: 1,
    };
    let given = bench.give(&mut feed, one);
    same(
        &given,
        &[
            ("energy_joules_total", &[(11_000, MARK)]),
            ("power_watts", &[(11_000, 1.0)]),
        ],
    );
    assert_eq!(feed.pending().readings, 1);
}

#[test]
fn vanished_value_leaves_one_staleness_marker() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    let mut feed = bench.feed();
    bench.row(&rapl, 1000, Some(1.0), None);
    bench.row(&rapl, 2000, None, Some(1.0));
    bench.row(&rapl, 3000, None, Some(1.0));
    bench.row(&rapl, 4000, Some(4.0), Some(1.0));
    same(
        &bench.give(&mut feed, ALL),
        &[
            (
                "energy_joules_total",
                &[(2000, 1.0), (3000, 2.0), (4000, 3.0)],
            ),
            ("power_watts", &[(1000, 1.0), (2000, MARK), (4000, 4.0)]),
        ],
    );
}

#[test]
fn silent_source_ends_and_can_come_back() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    let mut feed = bench.feed();
    bench.row(&rapl, 1000, Some(1.0), None);
    same(
        &bench.give(&mut feed, ALL),
        &[("power_watts", &[(1000, 1.0)])],
    );
    bench.at(6000);
    same(&bench.give(&mut feed, ALL), &[]);
    bench.at(6001);
    same(
        &bench.give(&mut feed, ALL),
        &[("power_watts", &[(1001, MARK)])],
    );
    same(&bench.give(&mut feed, ALL), &[]);
    // A row that was read in time and published late is not lost.
    bench.row(&rapl, 2000, Some(2.0), None);
    bench.at(7000);
    same(
        &bench.give(&mut feed, ALL),
        &[("power_watts", &[(2000, 2.0)])],
    );
}

#[test]
fn disabled_series_end() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    let mut feed = bench.feed();
    bench.row(&rapl, 1000, Some(1.0), Some(1.0));
    bench.give(&mut feed, ALL);
    let listed = [("energy_joules_total".to_string(), true)].into();
    bench.registry.set_policy(Policy::Listed(listed));
    bench.row(&rapl, 2000, Some(2.0), Some(1.0));
    same(
        &bench.give(&mut feed, ALL),
        &[
            ("energy_joules_total", &[(2000, 2.0)]),
            ("power_watts", &[(1001, MARK)]),
        ],
    );
}

#[test]
fn samples_of_a_removed_source_are_given_before_its_series_end() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    let mut feed = bench.feed();
    bench.row(&rapl, 1000, Some(1.0), None);
    bench.give(&mut feed, ALL);
    bench.row(&rapl, 2000, Some(2.0), None);
    bench.row(&rapl, 3000, Some(3.0), None);
    bench.registry.remove_group(&rapl);
    bench.at(3100);
    assert_eq!(feed.pending().readings, 2);
    let one = BatchLimit {
        samples: 1000,
        readings: 1,
    };
    same(
        &bench.give(&mut feed, one),
        &[("power_watts", &[(2000, 2.0)])],
    );
    same(
        &bench.give(&mut feed, one),
        &[("power_watts", &[(3000, 3.0)])],
    );
    same(
        &bench.give(&mut feed, one),
        &[("power_watts", &[(3001, MARK)])],
    );
    same(&bench.give(&mut feed, one), &[]);
    assert!(
        feed.series.is_empty() && feed.groups.is_empty(),
        "and is forgotten"
    );
}

#[test]
fn remaining_samples_come_before_the_final_staleness_markers() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    let mut feed = bench.feed();
    bench.row(&rapl, 1000, Some(1.0), None);
    bench.row(&rapl, 2000, Some(2.0), None);
    feed.finish();
    let one = BatchLimit {
        samples: 1000,
        readings: 1,
    };
    same(
        &bench.give(&mut feed, one),
        &[("power_watts", &[(1000, 1.0)])],
    );
    // A staleness marker may not be in the future either.
    same(
        &bench.give(&mut feed, one),
        &[("power_watts", &[(2000, 2.0)])],
    );
    bench.at(2001);
    same(
        &bench.give(&mut feed, one),
        &[("power_watts", &[(2001, MARK)])],
    );
    same(&bench.give(&mut feed, one), &[]);
}

#[test]
fn overwritten_samples_are_counted() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    let mut feed = bench.feed();
    bench.row(&rapl, 1000, Some(1.0), None);
    bench.give(&mut feed, ALL);
    for i in 2..=10 {
        bench.row(&rapl, i * 1000, Some(1.0), None);
    }
    rapl.history().limit(Duration::from_secs(3600), 3 * 4 * 8);
    let (_, samples) = bench.give(&mut feed, ALL).remove(0);
    assert_eq!(samples.len(), 3);
    assert_eq!(feed.losses()[0], ("history_overrun", 6));
}

#[test]
fn removed_sources_take_bounded_memory() {
    let bench = bench();
    let mut feed = bench.feed();
    for i in 1..=10 {
        let rapl = bench.source(0, "rapl");
        bench.row(&rapl, i * 1000, Some(1.0), None);
        bench.row(&rapl, i * 1000 + 1, Some(1.0), None);
        let offset = bench.clock.offset().unwrap();
        let one = BatchLimit {
            samples: 1000,
            readings: 1,
        };
        feed.next(&offset, bench.at(i * 1000 + 1), one);
        bench.registry.remove_group(&rapl);
        feed.done();
    }
    assert!(
        feed.groups.len() <= MAX_RETIRED_GROUPS + 1,
        "{}",
        feed.groups.len()
    );
}

#[test]
fn source_that_reads_nothing_ends() {
    let bench = bench();
    let rapl = bench.source(0, "rapl");
    let mut feed = bench.feed();
    bench.row(&rapl, 1000, Some(1.0), None);
    bench.give(&mut feed, ALL);
    bench.row(&rapl, 2000, None, None);
    same(
        &bench.give(&mut feed, ALL),
        &[("power_watts", &[(1001, MARK)])],
    );
    bench.row(&rapl, 3000, None, None);
    same(&bench.give(&mut feed, ALL), &[]);
    bench.row(&rapl, 4000, Some(4.0), None);
    same(
        &bench.give(&mut feed, ALL),
        &[("power_watts", &[(4000, 4.0)])],
    );
}
