use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::metrics::{Policy, Registry};

const SECOND: u64 = 1_000_000_000;

/// A group with a total.
struct Meter {
    group: Arc<Group>,
    generation: u64,
    total: Total,
}

impl Meter {
    fn new(registry: &Registry, rank: u32, source: &str, grade: Grade) -> Meter {
        let group = registry.add_group(rank, source, vec![]);
        group.set_interval(Duration::from_secs(1));
        Meter {
            generation: group.new_generation(),
            total: Total::new(&group, grade),
            group,
        }
    }

    fn publish(&self, second: u64, set: impl FnOnce(&mut Readings)) {
        let mut out = Readings::new(5.0);
        out.begin(BootTime(second * SECOND));
        set(&mut out);
        self.group.publish(self.generation, &out);
    }

    fn watts(&mut self, second: u64, watts: f64) {
        let mut total = self.total.clone();
        self.publish(second, |out| total.set_watts(out, watts));
        self.total = total;
    }

    /// A reading of a source that measures parts of the board.
    fn parts(&mut self, second: u64, watts: f64) {
        let mut total = self.total.clone();
        self.publish(second, |out| {
            total.set_watts(out, watts);
            total.set_parts(out, watts);
        });
        self.total = total;
    }
}

/// Source, family and value of what is exported.
fn shown(registry: &Registry, second: u64) -> Vec<(String, String, f64)> {
    let snapshot = registry.snapshot(BootTime(second * SECOND));
    let families: Vec<_> = snapshot.families().collect();
    families
        .iter()
        .flat_map(|family| family.samples())
        .map(|(series, value)| (series.source.to_string(), series.family.name.clone(), value))
        .collect()
}

fn total(registry: &Registry, second: u64) -> Option<(String, f64, f64)> {
    let shown = shown(registry, second);
    let one = |name: &str| {
        let mut found = shown.iter().filter(|(_, family, _)| family == name);
        let first = found.next()?;
        assert!(found.next().is_none(), "{name} is there once");
        Some(first)
    };
    let (source, _, watts) = one("power_total_watts")?;
    let (of, _, joules) = one("board_energy_joules_total")?;
    assert_eq!(source, of, "both are of one source");
    Some((source.clone(), *watts, *joules))
}

fn owned_by(source: &str, watts: f64, joules: f64) -> Option<(String, f64, f64)> {
    Some((source.to_string(), watts, joules))
}

#[test]
fn energy_continues_when_total_changes_owner() {
    let registry = Registry::new(Policy::All);
    let mut rapl = Meter::new(&registry, 7, "rapl", Grade::Parts);
    rapl.watts(1, 50.0);
    rapl.watts(2, 50.0);
    assert_eq!(total(&registry, 2), owned_by("rapl", 50.0, 50.0));
    // A meter at the input is added, and counts from then on.
    let mut hwmon = Meter::new(&registry, 4, "hwmon", Grade::Input);
    hwmon.watts(3, 200.0);
    rapl.watts(3, 50.0);
    assert_eq!(total(&registry, 3), owned_by("hwmon", 200.0, 50.0));
    hwmon.watts(4, 200.0);
    rapl.watts(4, 50.0);
    assert_eq!(total(&registry, 4), owned_by("hwmon", 200.0, 250.0));
    // Its source is removed by a new configuration.
    registry.remove_group(&hwmon.group);
    hwmon.watts(5, 200.0);
    rapl.watts(5, 50.0);
    assert_eq!(total(&registry, 5), owned_by("rapl", 50.0, 300.0));
}

#[test]
fn configured_total_precedes_input_and_input_precedes_parts() {
    let registry = Registry::new(Policy::All);
    let mut input = Meter::new(&registry, 4, "hwmon", Grade::Input);
    let mut parts = Meter::new(&registry, 7, "rapl", Grade::Parts);
    let mut configured = Meter::new(&registry, 8, "power_supply", Grade::Configured);
    for (meter, watts) in [
        (&mut input, 30.0),
        (&mut parts, 20.0),
        (&mut configured, 40.0),
    ] {
        meter.watts(1, watts);
    }
    assert_eq!(total(&registry, 1), owned_by("power_supply", 40.0, 0.0));
    configured.group.claim_total(None);
    input.watts(2, 30.0);
    assert_eq!(total(&registry, 2), owned_by("hwmon", 30.0, 30.0));
    input.group.claim_total(None);
    parts.watts(2, 20.0);
    assert_eq!(total(&registry, 2), owned_by("rapl", 20.0, 50.0));
}

#[test]
fn total_waits_for_earlier_sources_to_settle() {
    let registry = Registry::new(Policy::All);
    let first = registry.add_group(0, "hwmon", vec![]);
    let mut rapl = Meter::new(&registry, 7, "rapl", Grade::Parts);
    rapl.watts(1, 50.0);
    assert_eq!(shown(&registry, 1), []);
    first.settle();
    rapl.watts(2, 50.0);
    assert_eq!(total(&registry, 2), owned_by("rapl", 50.0, 50.0));
}

#[test]
fn input_below_the_boards_parts_is_rejected() {
    let registry = Registry::new(Policy::All);
    let mut fan = Meter::new(&registry, 4, "hwmon", Grade::Input);
    let mut rapl = Meter::new(&registry, 7, "rapl", Grade::Parts);
    let mut second = 0;
    let mut poll = |watts: f64| {
        second += 1;
        fan.watts(second, watts);
        rapl.parts(second, 89.0);
        total(&registry, second).unwrap().0
    };
    // A slowly following average is not rejected.
    for _ in 0..60 {
        assert_eq!(poll(120.0), "hwmon");
    }
    for _ in 0..5 {
        assert_eq!(poll(60.0), "hwmon");
    }
    let mut polls = 0;
    while poll(3.0) == "hwmon" {
        polls += 1;
        assert!(polls < 120, "the input is never rejected");
    }
    // The rejection is final: the total does not change its meaning from poll to poll.
    for watts in [500.0, 3.0, 500.0] {
        assert_eq!(poll(watts), "rapl");
    }
}

#[test]
fn configured_total_is_never_rejected() {
    let registry = Registry::new(Policy::All);
    let mut configured = Meter::new(&registry, 4, "hwmon", Grade::Configured);
    let mut rapl = Meter::new(&registry, 7, "rapl", Grade::Parts);
    for second in 1..60 {
        configured.watts(second, 3.0);
        rapl.parts(second, 89.0);
    }
    assert_eq!(total(&registry, 59), owned_by("hwmon", 3.0, 174.0));
}

#[test]
fn energy_never_falls() {
    let registry = Registry::new(Policy::All);
    let meter = Meter::new(&registry, 4, "shelly", Grade::Configured);
    let mut before = 0.0;
    let readings = [10.0, -5.0, f64::NAN, f64::NEG_INFINITY, 0.0, 3.0];
    for (i, joules) in readings.into_iter().enumerate() {
        let second = i as u64 + 1;
        meter.publish(second, |out| {
            meter.total.set_counted(out, Some(1.0), joules)
        });
        let (_, _, now) = total(&registry, second).unwrap();
        assert!(now >= before, "{joules}");
        before = now;
    }
    assert_eq!(before, 13.0);
    // Unknown power is absent; the counted energy is there.
    meter.publish(9, |out| meter.total.set_counted(out, None, 2.0));
    let shown = shown(&registry, 9);
    assert_eq!(
        shown,
        [("shelly".into(), "board_energy_joules_total".into(), 15.0)]
    );
}

#[test]
fn ended_run_counts_no_energy() {
    let registry = Registry::new(Policy::All);
    let mut meter = Meter::new(&registry, 4, "hwmon", Grade::Input);
    meter.watts(1, 10.0);
    let late = meter.generation;
    meter.generation = meter.group.new_generation();
    meter.watts(2, 10.0);
    meter.generation = late;
    meter.watts(3, 10.0);
    assert_eq!(total(&registry, 3), owned_by("hwmon", 10.0, 10.0));
}
