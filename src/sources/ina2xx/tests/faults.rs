//! Faults of chips and buses.

use nix::libc::{EIO, EREMOTEIO, ETIMEDOUT};

use super::*;

const TWO: &str = "ina2xx: {chips: [{model: ina219, address: 0x40, shunt_ohms: 0.1, name: one}, {model: ina226, address: 0x41, shunt_ohms: 0.02, name: two}]}";

fn two() -> SimulatedBuses {
    SimulatedBuses::with(&[
        (1, 0x40, Chip::new("ina219", 5.0, 1.0, 0.1)),
        (1, 0x41, Chip::new("ina226", 12.0, 1.0, 0.02)),
    ])
}

fn watts(bench: &Bench, rail: &str) -> Option<f64> {
    bench.value(&of("power_watts", rail))
}

fn is_written(buses: &SimulatedBuses, address: u8) -> bool {
    buses.chip(1, address, |chip| !chip.written.is_empty())
}

#[test]
fn failing_chip_leaves_the_other() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    for (n, number) in [EREMOTEIO, ETIMEDOUT, EIO].into_iter().enumerate() {
        let second = 100.0 * (n + 1) as f64;
        let failures = [number].into_iter().collect();
        buses.wiring().failures.insert((1, 0x40), failures);
        bench.poll(second);
        assert_eq!(watts(&bench, "one"), None, "absent, never zero");
        assert_eq!(watts(&bench, "two"), Some(12.0));
        let said = bench.context.health.value_errors().join("\n");
        assert!(said.contains("the INA219 at 0x40"), "{said}");
        bench.poll(second + 50.0);
        assert_eq!(watts(&bench, "one"), Some(5.0));
        assert!(bench.context.health.value_errors().is_empty());
    }
    buses.wiring().broken.insert(1, ETIMEDOUT);
    let error = bench.try_poll(500.0).unwrap_err().to_string();
    assert!(error.contains("timed out"), "{error}");
}

#[test]
fn other_chip_is_neither_read_nor_written() {
    for (configured, there, says) in [
        ("ina226", "ina3221", "die 0x3220, as an INA3221 does"),
        ("ina238", "ina228", "die 0x2281, as an INA228 does"),
        ("ina228", "ina238", "die 0x2381, as an INA238 does"),
        // An INA219 has no identity register, but bits that are always 0.
        ("ina219", "ina226", "is no INA219: it says configuration"),
    ] {
        let mut chip = Chip::new(there, 5.0, 1.0, 0.1);
        // What these chips have no register for is read as ones.
        for pointer in [0x05, 0x3E, 0x3F, 0xFE, 0xFF] {
            chip.registers.entry(pointer).or_insert(0xFFFF);
        }
        let buses = SimulatedBuses::with(&[(1, 0x40, chip)]);
        let tree = Tree::new(&[]);
        let yaml =
            format!("ina2xx: {{chips: [{{model: {configured}, address: 0x40, shunt_ohms: 0.1}}]}}");
        let error = bench(&buses, &tree, &yaml)
            .reopen()
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
        assert!(!is_written(&buses, 0x40), "{configured}");
    }
}

#[test]
fn address_of_a_kernel_driver_is_left_to_its_source() {
    for (driver, source) in [("ina2xx", "hwmon"), ("ina2xx-adc", "iio")] {
        let buses = two();
        buses.wiring().held.push((1, 0x40));
        let link = format!("sys/bus/i2c/drivers/{driver}");
        let tree = Tree::new(&[(format!("{link}/uevent").as_str(), "")]);
        tree.link("sys/bus/i2c/devices/1-0040/driver", &link);
        let mut bench = opened(&buses, &tree, TWO);
        bench.poll(1.0);
        assert_eq!(watts(&bench, "two"), Some(12.0));
        let said = bench.context.health.value_errors().join("\n");
        let wanted = format!("the source {source} reads it: remove the address from ina2xx");
        assert!(
            said.contains(&format!("driver {driver} has 0x40")),
            "{said}"
        );
        assert!(said.contains(&wanted), "{said}");
        assert!(!is_written(&buses, 0x40), "it is the driver's");
    }
}

#[test]
fn chip_is_reconfigured_after_losing_its_supply() {
    for model in ["ina219", "ina226", "ina228", "ina238", "ina3221"] {
        let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(model, 5.0, 1.0, 0.05))]);
        let tree = Tree::new(&[]);
        let shunt = match model {
            "ina3221" => "channels: [{channel: 1, name: in, shunt_ohms: 0.05}]",
            _ => "name: in, shunt_ohms: 0.05",
        };
        let yaml = format!("ina2xx: {{chips: [{{model: {model}, address: 0x40, {shunt}}}]}}");
        let mut bench = opened(&buses, &tree, &yaml);
        bench.poll(1.0);
        let writes = buses.chip(1, 0x40, |chip| chip.written.len());
        bench.rescan();
        bench.poll(2.0);
        assert_eq!(
            buses.chip(1, 0x40, |chip| chip.written.len()),
            writes,
            "{model}"
        );
        buses.chip(1, 0x40, Chip::power_on);
        bench.rescan();
        bench.poll(3.0);
        assert_eq!(
            buses.chip(1, 0x40, |chip| chip.written.len()),
            2 * writes,
            "{model}"
        );
        assert_eq!(watts(&bench, "in"), Some(5.0), "{model}");
    }
}

#[test]
fn chip_that_does_not_convert_is_reopened() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    buses.chip(1, 0x40, |chip| chip.converts_freely = false);
    bench.poll(2.0);
    bench.poll(3.0);
    assert_eq!(watts(&bench, "one"), Some(5.0), "it may be late");
    bench.poll(10.0);
    assert_eq!(watts(&bench, "one"), None, "not for ever");
    assert_eq!(watts(&bench, "two"), Some(12.0));
    buses.chip(1, 0x40, |chip| chip.converts_freely = true);
    bench.poll(20.0);
    assert_eq!(watts(&bench, "one"), Some(5.0));
}
