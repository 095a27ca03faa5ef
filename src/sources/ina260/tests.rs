//! The meter on simulated chips, through the real `open`, `poll` and `rescan`.

mod faults;
mod replay;

use std::cell::RefCell;
use std::time::Instant;

use super::simulated::{Chip, SimulatedBuses};
use super::*;
use crate::sources::testing::{Bench, Tree};
use crate::sources::SCHEMA;
use crate::sys::clock::BootTime;

thread_local! {
    /// The buses of the test that runs in this thread.
    static BUSES: RefCell<SimulatedBuses> = RefCell::default();
}

/// The meter, but for its buses.
static SIMULATED: Meter = Meter {
    open: |context| open(context, BUSES.with_borrow(SimulatedBuses::clone)),
    ..METER
};

fn bench(buses: &SimulatedBuses, tree: &Tree, yaml: &str) -> Bench {
    BUSES.set(buses.clone());
    let (config, warnings) = SCHEMA.parse(yaml).unwrap();
    assert_eq!(warnings, []);
    Bench::new(&SIMULATED, tree, config)
}

fn opened(buses: &SimulatedBuses, tree: &Tree, yaml: &str) -> Bench {
    let mut bench = bench(buses, tree, yaml);
    bench.reopen().unwrap();
    bench
}

fn of(family: &str, rail: &str) -> String {
    format!("{family}{{rail=\"{rail}\",source=\"ina260\"}}")
}

/// The four series of a chip.
fn lines(rail: &str, amperes: &str, joules: &str, volts: &str, watts: &str) -> Vec<String> {
    vec![
        of("current_amperes", rail) + " " + amperes,
        of("energy_joules_total", rail) + " " + joules,
        of("power_watts", rail) + " " + watts,
        of("voltage_volts", rail) + " " + volts,
    ]
}

#[test]
fn only_chip_is_the_boards_total() {
    let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(5.1, 1.2))]);
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, "ina260: {i2c_address: 0x40}");
    let mut expected = lines("ina260-1-0040", "1.2", "0", "5.1", "6.12");
    expected.push("power_total_watts 6.12".into());
    expected.sort();
    assert_eq!(bench.poll(1.0), expected);
    bench.poll(3.0);
    let energy = of("energy_joules_total", "ina260-1-0040");
    assert_eq!(bench.value(&energy), Some(12.24));
}

#[test]
fn chips_on_several_buses_have_names() {
    let buses = SimulatedBuses::with(&[
        (1, 0x40, Chip::new(12.0, 1.0)),
        (1, 0x4F, Chip::new(5.0, 0.25)),
        (3, 0x41, Chip::new(24.0, 2.0)),
    ]);
    let tree = Tree::new(&[]);
    let yaml = "ina260: {i2c_address: [0x40, 0x4f], chips: [{name: motor, i2c_bus: 3, i2c_address: 0x41}]}";
    let mut bench = opened(&buses, &tree, yaml);
    let mut expected = lines("ina260-1-0040", "1", "0", "12", "12");
    expected.extend(lines("ina260-1-004f", "0.25", "0", "5", "1.25"));
    expected.extend(lines("motor", "2", "0", "24", "48"));
    expected.sort();
    assert_eq!(
        bench.poll(1.0),
        expected,
        "and no total: which of them is it?"
    );

    let listed = yaml.replace("chips", "power_total: [motor, ina260-1-0040], chips");
    let mut bench = opened(&buses, &tree, &listed);
    bench.poll(1.0);
    assert_eq!(bench.value("power_total_watts"), Some(60.0));
    buses.wiring().chips.remove(&(3, 0x41));
    bench.poll(2.0);
    assert_eq!(bench.value("power_total_watts"), None, "a summand is gone");
}

#[test]
fn current_and_power_have_a_sign_and_energy_only_grows() {
    let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(12.0, -0.5))]);
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, "ina260: {i2c_address: 0x40}");
    bench.poll(1.0);
    bench.poll(2.0);
    let value = |family| bench.value(&of(family, "ina260-1-0040"));
    assert_eq!(value("current_amperes"), Some(-0.5));
    assert_eq!(value("power_watts"), Some(-6.0));
    assert_eq!(value("energy_joules_total"), Some(0.0));
}

#[test]
fn full_scale_values() {
    let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(36.0, -15.0))]);
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, "ina260: {i2c_address: 0x40}");
    bench.poll(1.0);
    let value = |bench: &Bench, family| bench.value(&of(family, "ina260-1-0040"));
    assert_eq!(value(&bench, "voltage_volts"), Some(36.0));
    assert_eq!(value(&bench, "current_amperes"), Some(-15.0));
    // The chip's power register ends at 419.43 W.
    assert_eq!(value(&bench, "power_watts"), Some(-540.0));
    buses.chip(1, 0x40, |chip| (chip.volts, chip.amperes) = (100.0, 100.0));
    bench.poll(2.0);
    assert_eq!(value(&bench, "voltage_volts"), Some(40.95875));
    assert_eq!(value(&bench, "current_amperes"), Some(40.95875));
    buses.chip(1, 0x40, |chip| (chip.volts, chip.amperes) = (30.0, 10.0));
    bench.poll(3.0);
    assert_eq!(value(&bench, "power_watts"), Some(300.0), "over 256 W");
}

#[test]
fn chip_is_configured_as_set() {
    let buses = SimulatedBuses::with(&[
        (1, 0x40, Chip::new(5.0, 1.0)),
        (1, 0x41, Chip::new(5.0, 1.0)),
    ]);
    let tree = Tree::new(&[]);
    let yaml = "
ina260:
  i2c_address: 0x40
  averaging: 16
  voltage_conversion_us: 140
  current_conversion_us: 8244
  chips:
    - {i2c_address: 0x41, averaging: 1024, mode: triggered}
";
    let mut bench = opened(&buses, &tree, yaml);
    bench.poll(1.0);
    let configuration = |address| buses.chip(1, address, |chip| chip.configuration);
    assert_eq!(configuration(0x40), 0x6000 | 2 << 9 | 7 << 3 | 0b111);
    assert_eq!(configuration(0x41), 0x6000 | 7 << 9 | 7 << 3 | 0b011);
    let first = buses.chip(1, 0x40, |chip| chip.written[0]);
    assert_eq!(first, (0x00, 0x8000), "reset first");
    // Only the configuration is ever written.
    assert!(buses.chip(1, 0x41, |chip| chip.written.iter().all(|w| w.0 == 0)));
}

#[test]
fn default_averaging_fills_the_interval() {
    let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(5.0, 1.0))]);
    let tree = Tree::new(&[]);
    for (interval, code) in [("0.001", 0), ("0.01", 1), ("1", 5), ("60", 7)] {
        let yaml = format!("interval: {interval}\nina260: {{i2c_address: 0x40}}");
        opened(&buses, &tree, &yaml);
        let configuration = buses.chip(1, 0x40, |chip| chip.configuration);
        assert_eq!(configuration >> 9 & 7, code, "{interval} s");
    }
}

#[test]
fn no_conversion_is_read_twice() {
    let mut chip = Chip::new(5.0, 1.0);
    chip.converts_freely = false;
    let buses = SimulatedBuses::with(&[(1, 0x40, chip)]);
    let tree = Tree::new(&[]);
    let mut bench = opened(
        &buses,
        &tree,
        "{interval: 0.001, ina260: {i2c_address: 0x40}}",
    );
    let power = of("power_watts", "ina260-1-0040");

    // Before the first conversion its registers hold zeros, which are no reading.
    bench.poll(1.0);
    assert_eq!(bench.value(&power), None);
    assert_eq!(buses.chip(1, 0x40, |chip| chip.readings), 0);

    for second in 2..5 {
        buses.chip(1, 0x40, |chip| {
            chip.amperes = f64::from(second);
            chip.convert();
        });
        bench.poll(f64::from(second));
        assert_eq!(bench.value(&power), Some(5.0 * f64::from(second)));
        // The same reading stands until the next, without being read again.
        bench.poll(f64::from(second) + 0.5);
        assert_eq!(bench.value(&power), Some(5.0 * f64::from(second)));
    }
    let (conversions, readings) = buses.chip(1, 0x40, |chip| (chip.conversions, chip.readings));
    assert_eq!((conversions, readings), (3, 3));
}

#[test]
fn poll_waits_for_a_short_conversion() {
    let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(5.0, 1.0))]);
    let tree = Tree::new(&[]);
    let yaml = "{interval: 0.001, ina260: {i2c_address: 0x40, averaging: 256, voltage_conversion_us: 140, current_conversion_us: 140}}";
    let mut bench = opened(&buses, &tree, yaml);
    // On a busy machine the time to wait may be over before it has begun; one that does not wait never has the value.
    let waits = (1..1000).any(|second| {
        let volts = f64::from(second % 30 + 1);
        buses.chip(1, 0x40, |chip| {
            (chip.volts, chip.not_ready_reads) = (volts, 1);
        });
        bench.poll(f64::from(second));
        bench.value(&of("power_watts", "ina260-1-0040")) == Some(volts)
    });
    assert!(waits);
}

#[test]
fn triggered_chip_converts_once_per_poll() {
    let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(5.0, 1.0))]);
    let tree = Tree::new(&[]);
    let yaml = "ina260: {i2c_address: 0x40, averaging: 1, mode: triggered}";
    let mut bench = opened(&buses, &tree, yaml);
    for second in 1..=4 {
        buses.chip(1, 0x40, |chip| chip.amperes = f64::from(second));
        bench.poll(f64::from(second));
        let amperes = bench.value(&of("current_amperes", "ina260-1-0040"));
        assert_eq!(amperes, Some(f64::from(second)));
        assert_eq!(buses.chip(1, 0x40, |chip| chip.conversions), second);
    }
}

#[test]
fn source_runs_only_with_a_configured_address() {
    let tree = Tree::new(&[("dev/i2c-1", "")]);
    let buses = SimulatedBuses::default();
    for yaml in ["{}", "device_type: raspberry_pi", "ina260: {i2c_bus: 1}"] {
        let (config, _) = SCHEMA.parse(yaml).unwrap();
        assert_eq!(switch(&config), Switch::Auto);
        let board = Board::detect(tree.roots());
        assert!(probe(&board, &config).is_err(), "{yaml}");
    }
    let given = bench(&buses, &tree, "ina260: {i2c_address: [0x40, 0x41]}");
    assert_eq!(switch(&given.context.config), Switch::On);
    assert_eq!(
        given.probe().unwrap(),
        "configured: ina260-1-0040, ina260-1-0041"
    );
    let off = bench(&buses, &tree, "ina260: {enabled: false, i2c_address: 0x40}");
    assert_eq!(switch(&off.context.config), Switch::Off);
    let elsewhere = bench(&buses, &tree, "ina260: {i2c_bus: 7, i2c_address: 0x40}");
    let error = elsewhere.probe().unwrap_err().to_string();
    assert!(
        error.contains("i2c-7") && error.contains("dtparam=i2c_arm=on"),
        "{error}"
    );
    assert_eq!(buses.wiring().opened, 0, "looking touches no bus");
}

#[test]
fn regular_file_is_reported_as_no_bus() {
    let tree = Tree::new(&[("dev/i2c-1", "")]);
    let config = SCHEMA.parse("ina260: {i2c_address: 0x40}").unwrap().0;
    let mut bench = Bench::new(&METER, &tree, config);
    let error = bench.reopen().unwrap_err().to_string();
    assert!(error.ends_with("/dev/i2c-1 is no I2C bus"), "{error}");
}
