//! An outage of an hour, at 100 readings a second of 20 series: memory stays bounded, and lost samples are counted. The hour
//! passes on an injected clock.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use edge_metrics_exporter::metrics::{Desc, Policy, Readings, Registry, WallClock};
use edge_metrics_exporter::remote_write::{BatchLimit, Feed, Labels, MemoryFeed};
use edge_metrics_exporter::sys::clock::BootTime;

/// The default of `history.bytes`, and longer than any outage.
const BYTES: usize = 4 << 20;
const KEEP: Duration = Duration::from_secs(86_400);
const SERIES: usize = 20;
const TICK_MS: i64 = 10;
const HOUR: i64 = 3_600_000 / TICK_MS;
/// 2026-11-21T00:00:00Z.
const TODAY_MS: i64 = 1_795_219_200_000;
/// `max_samples_per_send`.
const MOST: BatchLimit = BatchLimit {
    samples: 2000,
    readings: usize::MAX,
};

/// Memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

#[test]
fn memory_stays_bounded_during_an_hour_without_a_receiver() {
    let now = Arc::new(AtomicI64::new(0));
    let of_clock = Arc::clone(&now);
    let clock = WallClock::new(move || {
        let boot = of_clock.load(Ordering::Relaxed) * 1_000_000;
        (BootTime(boot as u64), TODAY_MS * 1_000_000 + boot)
    });
    let registry = Arc::new(Registry::new(Policy::All));
    let group = registry.add_group(0, "rapl", vec![]);
    group.history().limit(KEEP, BYTES);
    group.set_interval(Duration::from_millis(10));
    let ids: Vec<_> = (0..SERIES)
        .map(|i| group.series(&Desc::gauge(format!("metric_{i}"), ""), &[]))
        .collect();
    let generation = group.new_generation();
    let mut feed = MemoryFeed::new(Arc::clone(&registry), Labels::default(), BootTime(0));
    let mut out = Readings::new(5.0);
    let mut tick = |number: i64| {
        now.store(number * TICK_MS, Ordering::Relaxed);
        let at = BootTime((number * TICK_MS * 1_000_000) as u64);
        out.begin(at);
        for (i, id) in ids.iter().enumerate() {
            out.set(*id, number as f64 + i as f64 / 100.0);
        }
        group.publish(generation, &out);
        at
    };

    // A minute with a receiver, for everything that is allocated once.
    for number in 1..=6000 {
        let at = tick(number);
        if number % 100 == 0 && feed.next(&clock.offset().unwrap(), at, MOST).is_some() {
            feed.done();
        }
    }
    while feed
        .next(&clock.offset().unwrap(), BootTime(60_000_000_000), MOST)
        .is_some()
    {
        feed.done();
    }
    let before = resident();

    // The sender holds a batch, and retries.
    for number in 6001..=6000 + HOUR {
        let at = tick(number);
        if number % 100 == 0 {
            let batch = feed.next(&clock.offset().unwrap(), at, MOST).unwrap();
            assert!(batch.len() <= MOST.samples + SERIES);
        }
    }
    let (bytes, after) = (group.history().bytes(), resident());
    assert!(bytes <= BYTES, "{bytes}");
    let grown = after.saturating_sub(before);
    // At most twice the ring while it grows, and the batch. The hour has 58 MB of samples.
    assert!(grown <= 2 * BYTES + (2 << 20), "{grown}");

    // The receiver is back: the kept samples arrive complete and in order, and the others were counted.
    let mut given = 0;
    let mut last = 0;
    let end = BootTime(((6000 + HOUR) * TICK_MS * 1_000_000) as u64);
    while let Some(batch) = feed.next(&clock.offset().unwrap(), end, MOST) {
        let stamps = batch.runs[0].samples.iter().map(|(stamp, _)| *stamp);
        for stamp in stamps {
            assert!(stamp > last);
            last = stamp;
        }
        given += batch.len() as u64;
        feed.done();
    }
    assert_eq!(last, TODAY_MS + (6000 + HOUR) * TICK_MS);
    let lost: u64 = feed.losses().iter().map(|(_, samples)| samples).sum();
    assert_eq!(given + lost, HOUR as u64 * SERIES as u64);
    assert!(
        given >= (BYTES / 8 / (SERIES + 2) - 1) as u64 * SERIES as u64,
        "{given}"
    );
}
