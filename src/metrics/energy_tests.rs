use super::*;
use crate::metrics::{plausible, Policy, Registry};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

#[test]
fn integrates_by_trapezoids_over_real_time() {
    let mut integrator = Integrator::default();
    assert_eq!(integrator.advance(BootTime(SECOND), 10.0, 5.0), 0.0);
    assert_eq!(integrator.advance(BootTime(3 * SECOND), 20.0, 5.0), 30.0);
    assert_eq!(integrator.advance(BootTime(3 * SECOND), 20.0, 5.0), 0.0);
}

#[test]
fn silence_is_not_integrated() {
    let mut integrator = Integrator::default();
    integrator.advance(BootTime(SECOND), 10.0, 5.0);
    assert_eq!(integrator.advance(BootTime(7 * SECOND), 10.0, 5.0), 0.0);
    assert_eq!(integrator.advance(BootTime(8 * SECOND), 10.0, 5.0), 10.0);
}

#[test]
fn negative_power_does_not_reduce_the_total() {
    let mut integrator = Integrator::default();
    integrator.advance(BootTime(SECOND), -4.0, 5.0);
    assert_eq!(integrator.advance(BootTime(2 * SECOND), -4.0, 5.0), 0.0);
    assert_eq!(integrator.advance(BootTime(3 * SECOND), 8.0, 5.0), 4.0);
}

#[test]
fn counter_unwraps_at_its_range() {
    let mut counter = CounterUnwrap::new(262_143_328_850);
    assert_eq!(counter.advance(262_143_000_000), None);
    assert_eq!(counter.advance(262_143_328_850), Some(328_850));
    assert_eq!(counter.advance(1_000), Some(1_000));
    assert_eq!(counter.advance(1_000), Some(0));
}

#[test]
fn register_unwraps_exactly() {
    let mut counter = CounterUnwrap::new(1 << 32);
    counter.advance(0xffff_ffff);
    assert_eq!(counter.advance(0), Some(1));
    assert_eq!(counter.advance(0xffff_ffff), Some(0xffff_ffff));
    assert_eq!(counter.advance(0xffff_fffe), Some(0xffff_ffff));
}

#[test]
fn fall_without_wrap_is_a_reset() {
    let mut counter = CounterUnwrap::new(0);
    counter.advance(500);
    assert_eq!(counter.advance(20), None);
    assert_eq!(counter.advance(25), Some(5));
    let mut counter = CounterUnwrap::new(100);
    counter.advance(500);
    assert_eq!(counter.advance(20), None, "500 was never in its range");
}

/// Watt-hours and jumps that a counter in units of 1 mWh yields for readings of (second, watt-hours).
fn counted(readings: &[(u64, f64)]) -> (f64, usize) {
    let registry = Registry::new(Policy::All);
    let group = registry.add_group(0, "shelly", vec![]);
    let generation = group.new_generation();
    let mut rail = Rail::within(&group, "switch:0", &plausible::WATTS_OF_PLUG);
    let mut out = Readings::new(5.0);
    let mut jumps = 0;
    for (second, watt_hours) in readings {
        out.begin(BootTime(second * SECOND));
        rail.set_coarse_counter(&mut out, (watt_hours * 1e3).round() as u64, 3.6);
        jumps += out.rejected().len();
        group.publish(generation, &out);
        assert_eq!(
            group.value(rail.power),
            None,
            "a coarse counter has no power"
        );
    }
    let joules = group.value(rail.counter.energy).unwrap();
    ((joules / 3.6).round() / 1e3, jumps)
}

#[test]
fn counter_that_falls_and_returns_was_not_reset() {
    let mut idle: Vec<_> = (1..3600).map(|second| (second, 50.0)).collect();
    idle.extend([(3600, 5000.0), (3601, 5000.1)]);
    for (readings, wanted, jumps) in [
        // 0 between two correct readings: at once, after a few polls, after a silence.
        (&[(1, 31_250.0), (2, 0.0), (3, 31_250.1)][..], 0.1, 0),
        (&[(1, 31_250.0), (2, 0.0), (3, 0.0), (4, 31_250.1)], 0.1, 0),
        (&[(1, 31_250.0), (2, 0.0), (602, 31_252.0)], 2.0, 0),
        (&[(1, 100.0), (2, 0.0), (3, 100.0), (4, 100.01)], 0.01, 0),
        // One slightly lower reading.
        (&[(1, 500.0), (2, 499.9), (3, 500.0), (4, 500.1)], 0.1, 0),
        // Two devices behind one address: the steps between them do not count.
        (
            &[
                (1, 1000.0),
                (2, 50.0),
                (3, 1000.0),
                (4, 50.0),
                (5, 1000.2),
                (6, 50.0),
            ],
            0.2,
            0,
        ),
        (
            &[
                (1, 50.0),
                (2, 1000.0),
                (3, 50.0),
                (4, 1000.0),
                (5, 50.1),
                (6, 1000.1),
            ],
            0.1,
            1,
        ),
        // It was reset, and counts past its former value.
        (
            &[(1, 1.0), (2, 0.0), (3, 0.4), (4, 0.8), (5, 1.2), (6, 1.6)],
            1.4,
            0,
        ),
        // It stands still for an hour of readings: the step after that was not drawn in that hour.
        (&idle, 0.1, 1),
        // It was reset, and then an hour without network.
        (&[(1, 100.0), (2, 0.0), (3602, 150.0)], 150.0, 0),
    ] {
        assert_eq!(counted(readings), (wanted, jumps), "{readings:?}");
    }
}

#[test]
fn step_counts_only_if_time_and_rating_allow_it() {
    for (readings, wanted, jumps) in [
        // A counter that moves once a minute at 3.5 kW; the first minute began before the first reading.
        (
            &[(1, 7.0), (2, 7.0), (3, 65.3), (62, 65.3), (63, 123.6)][..],
            116.6,
            0,
        ),
        // A megawatt-hour in a second, and in an hour.
        (&[(1, 7.0), (2, 1_000_007.0), (3, 1_000_007.5)], 0.5, 1),
        (
            &[(1, 7.0), (3601, 1_000_007.0), (3602, 1_000_007.5)],
            0.5,
            1,
        ),
        // 150 Wh in a second, one second after its last move.
        (&[(1, 7.0), (2, 7.1), (3, 157.1), (4, 157.2)], 0.2, 1),
        // Counted while the network was down.
        (&[(1, 7.0), (2, 7.1), (3602, 3_507.1)], 3_500.1, 0),
        // A spike.
        (&[(1, 7.0), (2, 7.1), (3, 9e8), (4, 7.2), (5, 7.3)], 0.2, 1),
    ] {
        assert_eq!(counted(readings), (wanted, jumps), "{readings:?}");
    }
}

#[test]
fn reset_of_a_32_bit_counter_is_not_a_wrap() {
    let registry = Registry::new(Policy::All);
    let group = registry.add_group(0, "rapl", vec![]);
    let generation = group.new_generation();
    let range = 262_143_328_850;
    let mut rail = Rail::with_range(&group, "package-0", range);
    let mut out = Readings::new(5.0);
    let mut energy = 0.0;
    for (second, raw, joules) in [
        (1, 100_000_000_000, 0.0),
        (2, 100_050_000_000, 50.0),
        // Reset, as by a short suspend: 162 kJ in a second are impossible.
        (3, 1_000_000, 0.0),
        (4, 51_000_000, 50.0),
        // A real wrap.
        (5, 51_000_000, 0.0),
        (6, 262_143_000_000, 0.0),
        (7, 49_671_150, 50.0),
    ] {
        out.begin(BootTime(second * SECOND));
        let watts = rail.set_counter(&mut out, raw, 1e-6);
        group.publish(generation, &out);
        energy += joules;
        let value = group.value(rail.counter.energy).unwrap();
        assert!(
            (value - energy).abs() < 1e-6,
            "{second}: {value}, not {energy}"
        );
        assert!(
            watts.is_none_or(|watts| watts < 51.0),
            "{second}: {watts:?}"
        );
    }
}

#[test]
fn implausible_power_is_neither_exported_nor_integrated() {
    let registry = Registry::new(Policy::All);
    let group = registry.add_group(0, "hwmon", vec![]);
    let generation = group.new_generation();
    let mut rail = Rail::new(&group, "power1");
    let mut out = Readings::new(5.0);
    for (second, watts, taken) in [
        (1, 100.0, Some(100.0)),
        (2, 4_294_967.295, None),
        (3, f64::NAN, None),
        (4, 100.0, Some(100.0)),
    ] {
        out.begin(BootTime(second * SECOND));
        assert_eq!(rail.set_watts(&mut out, watts), taken, "{second}");
        assert_eq!(out.rejected().len(), usize::from(taken.is_none()));
        group.publish(generation, &out);
        assert_eq!(group.value(rail.power), taken);
    }
    assert_eq!(group.value(rail.counter.energy), Some(300.0));
}

#[test]
fn counter_with_all_bits_set_is_rejected() {
    for unknown in [u64::from(u32::MAX), u64::MAX, i64::MAX as u64] {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "hwmon", vec![]);
        let generation = group.new_generation();
        let mut rail = Rail::new(&group, "energy1");
        let mut out = Readings::new(5.0);
        for (second, raw, watts) in [
            (1, unknown, None),
            (2, 1_000_000, None),
            (3, 2_000_000, Some(1.0)),
            (4, unknown, None),
            (5, 6_000_000, Some(2.0)),
        ] {
            out.begin(BootTime(second * SECOND));
            assert_eq!(rail.set_counter(&mut out, raw, 1e-6), watts, "{second}");
            assert_eq!(out.rejected().len(), usize::from(raw == unknown));
            group.publish(generation, &out);
            let is_known = raw != unknown;
            assert_eq!(group.value(rail.counter.energy).is_some(), is_known);
        }
        assert_eq!(group.value(rail.counter.energy), Some(5.0));
    }
}

#[test]
fn every_value_of_a_40_bit_register_counts() {
    let registry = Registry::new(Policy::All);
    let group = registry.add_group(0, "ina2xx", vec![]);
    let mut rail = Rail::with_range(&group, "input", 1 << 40);
    let mut out = Readings::new(5.0);
    let all_32_bits = u64::from(u32::MAX);
    for (second, raw, joules) in [
        (1, all_32_bits - 100, None),
        (2, all_32_bits, Some(100.0)),
        (3, all_32_bits + 50, Some(50.0)),
    ] {
        out.begin(BootTime(second * SECOND));
        rail.set_power_and_counter(&mut out, 75.0, raw, 1.0);
        assert_eq!(rail.last_counted(), joules, "{second}");
        assert_eq!(out.rejected().len(), 0);
    }
}

#[test]
fn counter_reset_during_suspend_is_not_a_wrap() {
    let registry = Registry::new(Policy::All);
    let group = registry.add_group(0, "rapl", vec![]);
    let generation = group.new_generation();
    let mut rail = Rail::with_range(&group, "package-0", 1_000_000_000);
    let mut out = Readings::new(5.0);
    for (second, raw, watts) in [
        (10, 600_000_000, None),
        (11, 603_000_000, Some(3.0)),
        // Suspended for a minute; continues from 0.
        (71, 1_000_000, None),
        (72, 3_000_000, Some(2.0)),
        // A minute in which it kept counting.
        (132, 63_000_000, Some(1.0)),
    ] {
        out.begin(BootTime(second * SECOND));
        assert_eq!(rail.set_counter(&mut out, raw, 1e-6), watts, "{second}");
        group.publish(generation, &out);
    }
    assert_eq!(group.value(rail.counter.energy), Some(3.0 + 2.0 + 60.0));
}

#[test]
fn counter_yields_joules_and_mean_power() {
    let registry = Registry::new(Policy::All);
    let group = registry.add_group(0, "rapl", vec![]);
    group.set_interval(Duration::from_secs(1));
    let generation = group.new_generation();
    let mut rail = Rail::with_range(&group, "package-0", 1_000_000);
    let mut out = Readings::new(5.0);

    out.begin(BootTime(SECOND));
    assert_eq!(rail.set_counter(&mut out, 900_000, 1e-6), None);
    group.publish(generation, &out);
    assert_eq!(group.value(rail.power), None);
    assert_eq!(group.value(rail.counter.energy), Some(0.0));

    out.begin(BootTime(SECOND + SECOND / 2));
    assert_eq!(rail.set_counter(&mut out, 400_000, 1e-6), Some(1.0));
    group.publish(generation, &out);
    assert_eq!(group.value(rail.power), Some(1.0));
    assert_eq!(group.value(rail.counter.energy), Some(0.5));
}
