//! Publishing, staleness, and consistency of a group's rows.

use super::*;
use crate::metrics::{Policy, Registry};

fn group() -> Arc<Group> {
    let labels = vec![
        ("hostname".to_string(), "edge-01".to_string()),
        ("device_type".to_string(), "x86".to_string()),
    ];
    Registry::new(Policy::All).add_group(0, "test", labels)
}

#[test]
fn prefix_is_sorted_and_escaped() {
    let group = group();
    group.series(
        &Desc::gauge("a", ""),
        &[("rail", "back\\slash \"quote\"\nline")],
    );
    assert_eq!(
        &*group.all_series()[0].prefix,
        r#"a{device_type="x86",hostname="edge-01",rail="back\\slash \"quote\"\nline"} "#
    );
}

#[test]
fn same_series_is_registered_once() {
    let group = group();
    let a = group.series(&Desc::gauge("a", ""), &[]);
    assert_eq!(a, group.series(&Desc::gauge("a", ""), &[]));
    assert_ne!(a, group.series(&Desc::gauge("a", ""), &[("x", "y")]));
}

#[test]
fn unread_series_are_absent_and_totals_stay() {
    let group = group();
    let gauge = group.series(&Desc::gauge("g", ""), &[]);
    let counter = group.series(&Desc::counter("c_total", ""), &[]);
    let generation = group.new_generation();
    let mut out = Readings::new(5.0);
    out.begin(BootTime(1));
    out.set(gauge, 1.5);
    out.add(counter, 2.0);
    assert!(group.publish(generation, &out));
    assert_eq!(group.value(gauge), Some(1.5));
    out.begin(BootTime(2));
    group.publish(generation, &out);
    assert_eq!(group.value(gauge), None);
    assert_eq!(group.value(counter), None);
    out.begin(BootTime(3));
    out.add(counter, -7.0);
    out.set(gauge, f64::NAN);
    group.publish(generation, &out);
    assert_eq!(group.value(counter), Some(2.0));
    assert_eq!(group.value(gauge), None);
}

#[test]
fn replaced_run_cannot_publish() {
    let group = group();
    let gauge = group.series(&Desc::gauge("g", ""), &[]);
    let old = group.new_generation();
    let new = group.new_generation();
    let mut out = Readings::new(5.0);
    out.begin(BootTime(1));
    out.set(gauge, 1.0);
    assert!(!group.publish(old, &out));
    assert_eq!(group.value(gauge), None);
    assert!(group.publish(new, &out));
}

#[test]
fn row_is_stale_after_three_polls_and_at_least_five_seconds() {
    let group = group();
    let generation = group.new_generation();
    let second = 1_000_000_000;
    group.set_interval(Duration::from_secs(1));
    assert!(!group.is_fresh(BootTime(second)));
    let mut out = Readings::new(5.0);
    out.begin(BootTime(second));
    group.publish(generation, &out);
    assert!(group.is_fresh(BootTime(6 * second)));
    assert!(!group.is_fresh(BootTime(6 * second + 1)));
    group.set_interval(Duration::from_secs(10));
    assert!(group.is_fresh(BootTime(31 * second)));
    assert!(!group.is_fresh(BootTime(31 * second + 1)));
}

#[test]
fn number_of_series_is_limited() {
    let group = group();
    let mut last = SeriesId::NONE;
    for i in 0..MAX_SERIES_PER_GROUP + 2 {
        last = group.series(&Desc::gauge(format!("g{i}"), ""), &[]);
    }
    assert_eq!(last, SeriesId::NONE);
    assert_eq!(group.left_out(), 2);
    let mut out = Readings::new(5.0);
    out.begin(BootTime(1));
    out.set(last, 1.0);
    out.add(last, 1.0);
    assert!(out.is_empty());
    assert_eq!(group.all_series().len(), MAX_SERIES_PER_GROUP);
}

#[test]
fn place_of_a_retired_series_is_reused_once_no_kept_row_has_its_value() {
    const SECOND: u64 = 1_000_000_000;
    let group = group();
    group.history().limit(Duration::from_secs(10), 1024 * 1024);
    let generation = group.new_generation();
    let named = |name: &str| group.series(&Desc::gauge("g", ""), &[("name", name)]);
    let mut out = Readings::new(5.0);
    let mut publish = |second: u64, id: SeriesId| {
        out.begin(BootTime(second * SECOND));
        out.set(id, second as f64);
        group.publish(generation, &out);
    };
    let (kept, ended) = (named("kept"), named("ended"));
    publish(1, ended);
    group.retire(ended);
    group.retire(ended);
    publish(2, kept);
    let early = named("early");
    assert_eq!(early.place(), 2, "a kept row has a value of the old series");
    publish(30, kept);
    let late = named("late");
    assert_eq!(late.place(), ended.place());
    publish(31, late);
    assert_eq!(group.value(late), Some(31.0));
    assert_eq!(group.value(kept), None);
    assert_eq!(named("late"), late);
    assert_eq!(named("ended").place(), 3, "its old place is taken");
}

#[test]
fn retired_series_that_comes_back_keeps_its_place() {
    let group = group();
    let generation = group.new_generation();
    let desc = Desc::gauge("g", "");
    let id = group.series(&desc, &[("name", "a")]);
    let mut out = Readings::new(5.0);
    out.begin(BootTime(1));
    out.set(id, 1.0);
    group.publish(generation, &out);
    group.retire(id);
    assert_eq!(group.series(&desc, &[("name", "a")]), id);
    out.begin(BootTime(100_000_000_000));
    out.set(id, 2.0);
    group.publish(generation, &out);
    assert_ne!(group.series(&desc, &[("name", "b")]), id);
}

#[test]
fn place_of_a_retired_series_that_is_still_set_is_not_reused() {
    let group = group();
    let generation = group.new_generation();
    let desc = Desc::gauge("g", "");
    let id = group.series(&desc, &[("name", "a")]);
    group.retire(id);
    let mut out = Readings::new(5.0);
    out.begin(BootTime(100_000_000_000));
    out.set(id, 1.0);
    group.publish(generation, &out);
    assert_ne!(group.series(&desc, &[("name", "b")]), id);
    assert_eq!(group.value(id), Some(1.0));
}

#[test]
fn snapshot_never_mixes_two_polls() {
    let group = group();
    let ids: Vec<_> = (0..200)
        .map(|i| group.series(&Desc::gauge(format!("g{i}"), ""), &[]))
        .collect();
    let generation = group.new_generation();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut out = Readings::new(5.0);
            for round in 1..20_000u32 {
                out.begin(BootTime(1));
                for id in &ids {
                    out.set(*id, f64::from(round));
                }
                group.publish(generation, &out);
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut row = Vec::new();
        while !done.load(Ordering::Relaxed) {
            row.clear();
            group.snapshot(BootTime(1), ids.len(), &mut row);
            assert!(row.iter().all(|v| v.to_bits() == row[0].to_bits()));
        }
    });
}
