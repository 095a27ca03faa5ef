use super::*;
use std::f64::consts::TAU;

/// A meter of known waveform: 10 W, ±5 W every 0.7 s.
fn watts(t: f64) -> f64 {
    10.0 + 5.0 * (TAU * t / 0.7).sin()
}

/// The joules of the waveform until `t`.
fn joules(t: f64) -> f64 {
    10.0 * t - 5.0 * 0.7 / TAU * ((TAU * t / 0.7).cos() - 1.0)
}

/// A window that is fed like a running meter: every `interval`, added up in between.
fn measure(quantity: Quantity, interval: f64, start: f64, end: f64) -> Measured {
    let mut window = Window::new(5.0);
    window.restart(start);
    let count = (end / interval) as usize + 3;
    for n in 0..count {
        // Not on a grid that fits the borders.
        let at = 0.0037 + n as f64 * interval;
        let value = match quantity {
            Quantity::Power => watts(at),
            Quantity::Energy => 1000.0 + joules(at),
        };
        window.push(quantity, at, value);
        window.add_up((at - 0.1).min(end));
    }
    window.finish(end).unwrap()
}

#[test]
fn known_waveform_is_measured_within_a_thousandth() {
    for quantity in [Quantity::Power, Quantity::Energy] {
        for (start, end) in [(1.2345, 3.9876), (0.5, 60.05), (2.0, 2.77)] {
            let measured = measure(quantity, 0.01, start, end);
            let expected = joules(end) - joules(start);
            let error = (measured.joules - expected).abs() / expected;
            assert!(error < 1e-3, "{quantity:?} {start} {end}: {measured:?}");
            assert!((measured.seconds - (end - start)).abs() < 1e-9);
            assert!(measured.at_least <= expected && expected <= measured.at_most);
            let readings = ((end - start) / 0.01) as u64;
            assert!(measured.readings.abs_diff(readings) <= 1);
        }
    }
    let measured = measure(Quantity::Power, 0.01, 1.0, 3.0);
    assert!((measured.peak_watts.unwrap() - 15.0).abs() < 0.01);
    assert_eq!(measured.method, Method::Power);
}

#[test]
fn window_between_two_readings_is_a_share_by_time_and_says_so() {
    for quantity in [Quantity::Power, Quantity::Energy] {
        let mut window = Window::new(5.0);
        window.restart(10.2);
        for (at, watts) in [(9.0, 8.0), (10.0, 8.0), (11.0, 8.0), (12.0, 20.0)] {
            let value = match quantity {
                Quantity::Power => watts,
                Quantity::Energy => 8.0 * at,
            };
            window.push(quantity, at, value);
        }
        let measured = window.finish(10.3).unwrap();
        assert!((measured.joules - 0.8).abs() < 1e-9, "{measured:?}");
        assert_eq!((measured.at_least, measured.readings), (0.0, 0));
        assert!((measured.at_most - 8.0).abs() < 1e-9);
        assert_eq!(measured.peak_watts, None);
    }
}

#[test]
fn windows_follow_each_other_without_a_gap() {
    let mut window = Window::new(5.0);
    window.restart(0.5);
    for second in 0..=3 {
        window.push(Quantity::Energy, f64::from(second), f64::from(second) * 2.0);
    }
    assert!(!window.is_read_at(3.5) && window.is_read_at(2.5));
    let first = window.finish(2.5).unwrap();
    window.restart(2.5);
    window.push(Quantity::Energy, 4.0, 8.0);
    let second = window.finish(3.5).unwrap();
    assert!((first.joules - 4.0).abs() < 1e-12 && (first.mean_watts() - 2.0).abs() < 1e-12);
    assert!((second.joules - 2.0).abs() < 1e-12, "{second:?}");
}

#[test]
fn what_was_not_measured_is_not_made_up() {
    let mut window = Window::new(5.0);
    window.restart(1.0);
    assert_eq!(window.finish(2.0), None);
    window.push(Quantity::Power, 0.0, 3.0);
    assert_eq!(window.finish(2.0), None, "one reading has no duration");
    window.push(Quantity::Power, 2.0, 3.0);
    // A silence of 8 s, and an end that no reading follows.
    window.push(Quantity::Power, 10.0, 100.0);
    window.push(Quantity::Power, 11.0, 100.0);
    let measured = window.finish(20.0).unwrap();
    assert!((measured.joules - 103.0).abs() < 1e-9, "{measured:?}");
    assert!((measured.seconds - 2.0).abs() < 1e-9);
}

#[test]
fn counter_that_begins_anew_costs_the_step_in_which_it_did() {
    let mut window = Window::new(5.0);
    window.restart(0.0);
    for (at, joules) in [(0.0, 100.0), (1.0, 110.0), (2.0, 3.0), (3.0, 13.0)] {
        window.push(Quantity::Energy, at, joules);
    }
    let measured = window.finish(3.0).unwrap();
    assert_eq!((measured.joules, measured.seconds), (20.0, 2.0));
    assert!(measured.began_anew);
}

#[test]
fn counter_of_the_hardware_counts_over_a_silence_and_a_summed_one_does_not() {
    for (after, seconds) in [(90.0, 11.0), (0.0, 1.0)] {
        let mut window = Window::new(5.0);
        window.restart(0.0);
        window.push(Quantity::Energy, 0.0, 0.0);
        window.push(Quantity::Energy, 10.0, after);
        window.push(Quantity::Energy, 11.0, after + 9.0);
        let measured = window.finish(11.0).unwrap();
        assert_eq!((measured.joules, measured.seconds), (after + 9.0, seconds));
    }
}

#[test]
fn power_counts_where_a_counter_moves_in_large_steps() {
    let mut window = Window::new(5.0);
    window.restart(0.0);
    for n in 0..=100 {
        let at = f64::from(n);
        window.push(Quantity::Power, at, 6.0);
        window.push(Quantity::Energy, at, (at / 60.0).floor() * 360.0);
    }
    let measured = window.finish(100.0).unwrap();
    assert_eq!((measured.joules, measured.method), (600.0, Method::Power));
    // Alone, it says nothing as long as it stands still.
    let mut window = Window::new(5.0);
    window.restart(0.0);
    for n in 0..10 {
        window.push(Quantity::Energy, f64::from(n), 360.0);
    }
    assert_eq!(window.finish(5.0), None);
}

#[test]
fn readings_that_are_none_are_ignored_and_memory_is_bounded() {
    let mut window = Window::new(5.0);
    window.restart(0.0);
    for (at, watts) in [
        (0.0, 1.0),
        (f64::NAN, 9.0),
        (1.0, f64::NAN),
        (1.0, f64::INFINITY),
        (1.0, 1e300),
        (1.0, 1.0),
        (1.0, 9.0),
        (0.5, 9.0),
        (2.0, 1.0),
    ] {
        window.push(Quantity::Power, at, watts);
    }
    assert_eq!(window.finish(2.0).unwrap().joules, 2.0);
    for n in 0..MAX_PENDING + 10 {
        window.push(Quantity::Power, 1000.0 + n as f64, 1.0);
    }
    assert!(window.overflowed());
    assert_eq!(window.power.pending.len(), MAX_PENDING);
    window.add_up(f64::INFINITY);
    assert_eq!(window.power.pending.len(), 1);
}
