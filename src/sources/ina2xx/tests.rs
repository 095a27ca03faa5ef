//! The meter on simulated chips, through the real `open`, `poll` and `rescan`.

mod faults;
mod replay;

use std::cell::RefCell;

use super::simulated::{Chip, SimulatedBuses};
use super::*;
use crate::sources::testing::{Bench, Tree};
use crate::sources::SCHEMA;

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
    format!("{family}{{rail=\"{rail}\",source=\"ina2xx\"}}")
}

/// Volts, amperes and watts of a rail.
fn values(bench: &Bench, rail: &str) -> [Option<f64>; 3] {
    ["voltage_volts", "current_amperes", "power_watts"].map(|family| bench.value(&of(family, rail)))
}

fn energy(bench: &Bench, rail: &str) -> Option<f64> {
    bench.value(&of("energy_joules_total", rail))
}

#[test]
fn every_model_is_read_in_volts_amperes_and_watts() {
    for (model, ohms) in [
        ("ina219", 0.1),
        ("ina226", 0.02),
        ("ina228", 0.02),
        ("ina237", 0.02),
        ("ina238", 0.02),
    ] {
        let buses = SimulatedBuses::with(&[(1, 0x41, Chip::new(model, 12.0, -0.5, ohms))]);
        let tree = Tree::new(&[]);
        let yaml =
            format!("ina2xx: {{chips: [{{model: {model}, address: 0x41, shunt_ohms: {ohms}}}]}}");
        let mut bench = opened(&buses, &tree, &yaml);
        bench.poll(1.0);
        let rail = format!("{model}-1-0041");
        assert_eq!(
            values(&bench, &rail),
            [Some(12.0), Some(-0.5), Some(-6.0)],
            "{model}"
        );
        assert_eq!(bench.value("power_total_watts"), Some(-6.0));
        bench.poll(2.0);
        assert_eq!(
            energy(&bench, &rail),
            Some(0.0),
            "{model}: nothing was drawn"
        );
        buses.chip(1, 0x41, |chip| chip.amperes = [0.5; 3]);
        bench.poll(3.0);
        assert_eq!(values(&bench, &rail), [Some(12.0), Some(0.5), Some(6.0)]);
    }
}

#[test]
fn channels_are_rails_and_those_left_out_are_off() {
    let mut chip = Chip::new("ina3221", 5.0, 1.0, 0.1);
    (chip.volts[2], chip.amperes[2], chip.ohms[2]) = (12.0, -0.6, 0.05);
    let buses = SimulatedBuses::with(&[(1, 0x40, chip)]);
    let tree = Tree::new(&[]);
    let yaml = "ina2xx: {chips: [{model: ina3221, address: 0x40, channels: [{channel: 3, shunt_ohms: 0.05}, {channel: 1, name: cpu, shunt_ohms: 0.1}]}]}";
    let mut bench = opened(&buses, &tree, yaml);
    bench.poll(1.0);
    assert_eq!(values(&bench, "cpu"), [Some(5.0), Some(1.0), Some(5.0)]);
    assert_eq!(
        values(&bench, "ina3221-1-0040:3"),
        [Some(12.0), Some(-0.6), Some(-7.2)]
    );
    assert_eq!(bench.value("power_total_watts"), None, "which is it?");
    let (read, written) = buses.chip(1, 0x40, |chip| (chip.read.clone(), chip.written.clone()));
    assert!(!read.contains(&3) && !read.contains(&4), "{read:?}");
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].1 >> 12, 0b101, "the second channel is off");

    let named = yaml.replace("chips:", "power_total: [cpu], chips:");
    let mut bench = opened(&buses, &tree, &named);
    bench.poll(1.0);
    assert_eq!(bench.value("power_total_watts"), Some(5.0));
}

#[test]
fn reversed_shunt_has_current_and_power_of_the_other_sign() {
    let one = Chip::new("ina219", 12.0, -0.5, 0.1);
    let three = Chip::new("ina3221", 5.0, 1.0, 0.05);
    let buses = SimulatedBuses::with(&[(1, 0x40, one), (1, 0x41, three)]);
    let tree = Tree::new(&[]);
    let yaml = "ina2xx: {chips: [{board: adafruit-ina219, name: a, reverse: true}, \
                {board: adafruit-ina3221, address: 0x41, channels: [{channel: 1, name: b}, {channel: 2, name: c, reverse: true}]}]}";
    let mut bench = opened(&buses, &tree, yaml);
    bench.poll(1.0);
    bench.poll(2.0);
    assert_eq!(values(&bench, "a"), [Some(12.0), Some(0.5), Some(6.0)]);
    assert_eq!(energy(&bench, "a"), Some(6.0));
    // The shunts of its channels are the board's.
    assert_eq!(values(&bench, "b"), [Some(5.0), Some(1.0), Some(5.0)]);
    assert_eq!(values(&bench, "c"), [Some(5.0), Some(-1.0), Some(-5.0)]);
}

#[test]
fn current_out_of_range_is_absent_and_said() {
    let buses = SimulatedBuses::with(&[(1, 0x42, Chip::new("ina219", 8.0, 5.0, 0.1))]);
    let tree = Tree::new(&[]);
    let mut bench = opened(
        &buses,
        &tree,
        "ina2xx: {chips: [{board: waveshare-ups-hat}]}",
    );
    bench.poll(1.0);
    let rail = "ina219-1-0042";
    assert_eq!(values(&bench, rail), [Some(8.0), None, None]);
    let said = bench.context.health.value_errors().join("\n");
    assert!(
        said.contains("the INA219 at 0x42") && said.contains("the current of ina219-1-0042"),
        "{said}"
    );
    buses.chip(1, 0x42, |chip| chip.amperes = [3.0; 3]);
    bench.poll(2.0);
    assert_eq!(values(&bench, rail), [Some(8.0), Some(3.0), Some(24.0)]);
    assert!(bench.context.health.value_errors().is_empty());
    let total = bench.value("power_total_watts");
    assert_eq!(total, None, "it is the battery's");
    let written = buses.chip(1, 0x42, |chip| chip.written.len());
    assert_eq!(written, 1, "it was not opened again");
}

#[test]
fn smallest_range_that_holds_the_current_is_chosen() {
    for (model, amperes, word) in [
        ("ina219", 0.3, 0x27FF),
        ("ina219", 3.2, 0x3FFF),
        ("ina228", 0.4, 0x0010),
        ("ina228", 1.6, 0x0000),
    ] {
        let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(model, 5.0, 0.2, 0.1))]);
        let tree = Tree::new(&[]);
        let yaml = format!("ina2xx: {{chips: [{{model: {model}, address: 0x40, shunt_ohms: 0.1, max_amperes: {amperes}}}]}}");
        let mut bench = opened(&buses, &tree, &yaml);
        bench.poll(1.0);
        let [first, ..] = buses.chip(1, 0x40, |chip| chip.written.clone())[..] else {
            panic!("nothing was written");
        };
        assert_eq!(first, (0, word), "{model} {amperes}");
        let rail = format!("{model}-1-0040");
        assert_eq!(values(&bench, &rail), [Some(5.0), Some(0.2), Some(1.0)]);
    }
}

/// The joules of this many units of an INA228's counter with a shunt of 0.02 ohms.
fn joules(units: f64) -> f64 {
    units * 51.2 * 312.5e-9 / 0.02
}

fn near(value: Option<f64>, wanted: f64) {
    let value = value.unwrap();
    assert!((value - wanted).abs() < 1e-6, "{value} is not {wanted}");
}

#[test]
fn energy_of_an_ina228_is_what_it_counts() {
    let mut chip = Chip::new("ina228", 5.0, 1.0, 0.02);
    chip.energy = (1 << 40) - 1000;
    let buses = SimulatedBuses::with(&[(1, 0x40, chip)]);
    let tree = Tree::new(&[]);
    let yaml = "ina2xx: {chips: [{model: ina228, address: 0x40, shunt_ohms: 0.02, name: in}]}";
    let mut bench = opened(&buses, &tree, yaml);
    let count = |units| buses.chip(1, 0x40, |chip| chip.energy = units);
    bench.poll(1.0);
    assert_eq!(energy(&bench, "in"), Some(0.0));
    // Between polls there was more than what they saw.
    count((1 << 40) - 1);
    bench.poll(2.0);
    near(energy(&bench, "in"), joules(999.0));
    count(9001);
    bench.poll(3.0);
    near(energy(&bench, "in"), joules(10_001.0));
    near(bench.value("board_energy_joules_total"), joules(10_001.0));
    // The chip lost its supply.
    count(5);
    bench.poll(4.0);
    near(energy(&bench, "in"), joules(10_001.0));
    count(5_005);
    bench.poll(5.0);
    near(energy(&bench, "in"), joules(15_001.0));
}

#[test]
fn counter_does_not_count_what_flows_back() {
    let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new("ina228", 5.0, 1.0, 0.02))]);
    let tree = Tree::new(&[]);
    let yaml = "ina2xx: {chips: [{model: ina228, address: 0x40, shunt_ohms: 0.02, name: in}]}";
    let mut bench = opened(&buses, &tree, yaml);
    let set = |amperes, units| {
        buses.chip(1, 0x40, |chip| {
            (chip.amperes, chip.energy) = ([amperes; 3], units);
        });
    };
    set(1.0, 0);
    bench.poll(1.0);
    // The register counts the magnitude. From 5 W to -5 W the integral of what was drawn is half of 5 J.
    set(-1.0, 6250);
    bench.poll(2.0);
    near(energy(&bench, "in"), 2.5);
    set(-1.0, 12_500);
    bench.poll(3.0);
    near(energy(&bench, "in"), 2.5);
    set(1.0, 18_750);
    bench.poll(4.0);
    near(energy(&bench, "in"), 5.0);
    set(1.0, 25_000);
    bench.poll(5.0);
    near(energy(&bench, "in"), 5.0 + joules(6250.0));
}

#[test]
fn default_averaging_fills_the_interval() {
    for (model, interval, word) in [
        ("ina219", "0.001", 0x399F),
        ("ina219", "1", 0x3FFF),
        ("ina226", "1", 0x4B27),
        ("ina226", "0.01", 0x4327),
    ] {
        let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(model, 5.0, 0.2, 0.1))]);
        let tree = Tree::new(&[]);
        let yaml = format!("interval: {interval}\nina2xx: {{chips: [{{model: {model}, address: 0x40, shunt_ohms: 0.1}}]}}");
        opened(&buses, &tree, &yaml);
        let written = buses.chip(1, 0x40, |chip| chip.written.clone());
        assert_eq!(written, [(0, word)], "{model} {interval}");
    }
}

#[test]
fn no_conversion_is_read_twice() {
    for (model, values) in [("ina219", 1), ("ina226", 1), ("ina228", 4), ("ina3221", 1)] {
        let mut chip = Chip::new(model, 5.0, 1.0, 0.05);
        chip.converts_freely = false;
        let buses = SimulatedBuses::with(&[(1, 0x40, chip)]);
        let tree = Tree::new(&[]);
        let shunt = match model {
            "ina3221" => "channels: [{channel: 1, name: in, shunt_ohms: 0.05}]",
            _ => "name: in, shunt_ohms: 0.05",
        };
        let yaml = format!(
            "{{interval: 0.001, ina2xx: {{chips: [{{model: {model}, address: 0x40, {shunt}}}]}}}}"
        );
        let mut bench = opened(&buses, &tree, &yaml);
        let power = of("power_watts", "in");
        bench.poll(1.0);
        assert_eq!(
            bench.value(&power),
            None,
            "{model}: before the first conversion"
        );
        for second in 2..5 {
            buses.chip(1, 0x40, |chip| {
                chip.amperes = [0.2 * f64::from(second); 3];
                chip.convert();
            });
            bench.poll(f64::from(second));
            assert_eq!(bench.value(&power), Some(f64::from(second)), "{model}");
            bench.poll(f64::from(second) + 0.5);
            assert_eq!(bench.value(&power), Some(f64::from(second)), "{model}");
        }
        let reads = buses.chip(1, 0x40, |chip| {
            chip.read
                .iter()
                .filter(|register| **register == values)
                .count()
        });
        assert_eq!(reads, 3, "{model}");
    }
}

#[test]
fn source_runs_only_with_a_configured_chip() {
    let tree = Tree::new(&[("dev/i2c-1", "")]);
    let buses = SimulatedBuses::default();
    let (config, _) = SCHEMA.parse("ina2xx: {chips: []}").unwrap();
    assert_eq!(switch(&config), Switch::Auto);
    assert!(probe(&Board::detect(tree.roots()), &config).is_err());
    let yaml = "ina2xx: {chips: [{board: waveshare-ups-hat-c}, {model: ina228, address: 0x40, shunt_ohms: 0.015, name: in}]}";
    let given = bench(&buses, &tree, yaml);
    assert_eq!(switch(&given.context.config), Switch::On);
    assert_eq!(
        given.probe().unwrap(),
        "configured: ina219-1-0043, in; the kernel's own driver, which is better, is bound by \
         `echo ina219 0x43 > /sys/bus/i2c/devices/i2c-1/new_device`, \
         `echo ina228 0x40 > /sys/bus/i2c/devices/i2c-1/new_device`"
    );
    let off = bench(
        &buses,
        &tree,
        &yaml.replace("{chips", "{enabled: false, chips"),
    );
    assert_eq!(switch(&off.context.config), Switch::Off);
    let elsewhere = bench(
        &buses,
        &tree,
        &yaml.replace("ups-hat-c", "ups-hat-c, bus: 7"),
    );
    let error = elsewhere.probe().unwrap_err().to_string();
    assert!(error.contains("i2c-7"), "{error}");
    assert_eq!(buses.wiring().opened, 0, "looking touches no bus");
}
