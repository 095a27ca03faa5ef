//! Faults of chips and buses.

use std::sync::OnceLock;

use nix::libc::{EACCES, EAGAIN, EIO, ENOENT, EREMOTEIO, ETIMEDOUT};

use super::*;
use crate::sources::RunningSource;
use crate::sources::SCHEMA;

const TWO: &str = "ina260: {i2c_address: [0x40, 0x41]}";

fn two() -> SimulatedBuses {
    SimulatedBuses::with(&[
        (1, 0x40, Chip::new(5.0, 1.0)),
        (1, 0x41, Chip::new(12.0, 1.0)),
    ])
}

fn watts(bench: &Bench, rail: &str) -> Option<f64> {
    bench.value(&of("power_watts", rail))
}

fn fail(buses: &SimulatedBuses, address: u8, numbers: &[i32]) {
    let numbers = numbers.iter().copied().collect();
    buses.wiring().failures.insert((1, address), numbers);
}

fn resets(buses: &SimulatedBuses, address: u8) -> usize {
    let is_reset = |written: &&(u8, u16)| **written == (0, 0x8000);
    buses.chip(1, address, |chip| {
        chip.written.iter().filter(is_reset).count()
    })
}

#[test]
fn failing_chip_leaves_the_others() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    for (n, number) in [EREMOTEIO, ETIMEDOUT, EIO].into_iter().enumerate() {
        let second = 100.0 * (n + 1) as f64;
        fail(&buses, 0x40, &[number]);
        bench.poll(second);
        assert_eq!(watts(&bench, "ina260-1-0040"), None, "absent, never zero");
        assert_eq!(watts(&bench, "ina260-1-0041"), Some(12.0));
        assert_eq!(bench.context.health.errors(), n as u64 + 1);
        assert_eq!(bench.context.health.value_errors().len(), 1);
        bench.poll(second + 0.4);
        assert_eq!(watts(&bench, "ina260-1-0040"), None, "left alone");
        bench.poll(second + 50.0);
        assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0));
        assert_eq!(resets(&buses, 0x40), n + 2, "begun anew");
        assert!(bench.context.health.value_errors().is_empty());
    }
    assert_eq!(resets(&buses, 0x41), 1);
}

#[test]
fn lost_arbitration_costs_one_reading_and_no_reset() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    fail(&buses, 0x40, &[EAGAIN]);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), None);
    bench.poll(2.1);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0));
    assert_eq!(resets(&buses, 0x40), 1);
}

#[test]
fn missing_chip_is_tried_with_increasing_delay() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    buses.wiring().chips.remove(&(1, 0x40));
    let before = buses.wiring().opened;
    for second in 2..1002 {
        bench.poll(f64::from(second));
    }
    let tries = buses.wiring().opened - before;
    // At 0.5, 1, 2, … 60 s, and then once a minute.
    assert!((15..30).contains(&tries), "{tries} tries in 1000 s");
    buses.wiring().chips.insert((1, 0x40), Chip::new(5.0, 2.0));
    bench.poll(1100.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(10.0));
}

#[test]
fn other_chip_is_neither_read_nor_written() {
    let buses = two();
    buses.chip(1, 0x40, |chip| chip.die = 0x2260);
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), None);
    assert_eq!(watts(&bench, "ina260-1-0041"), Some(12.0));
    let (written, readings) = buses.chip(1, 0x40, |chip| (chip.written.len(), chip.readings));
    assert_eq!((written, readings), (0, 0));
    let mut alone = bench_of_one(&buses, &tree);
    let error = alone.reopen().unwrap_err().to_string();
    assert!(error.contains("die 0x2260, as an INA226 does"), "{error}");
}

fn bench_of_one(buses: &SimulatedBuses, tree: &Tree) -> Bench {
    super::bench(buses, tree, "ina260: {i2c_address: 0x40}")
}

#[test]
fn address_of_a_kernel_driver_is_left_to_hwmon() {
    let buses = two();
    buses.wiring().held.push((1, 0x40));
    let tree = Tree::new(&[("sys/bus/i2c/drivers/ina2xx/uevent", "")]);
    tree.link(
        "sys/bus/i2c/devices/1-0040/driver",
        "sys/bus/i2c/drivers/ina2xx",
    );
    let error = bench_of_one(&buses, &tree)
        .reopen()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the kernel's driver ina2xx has 0x40 on /"),
        "{error}"
    );
    assert!(error.contains("the source hwmon reads it"), "{error}");
    let written = buses.chip(1, 0x40, |chip| chip.written.len());
    assert_eq!(written, 0, "it is the driver's");
}

#[test]
fn missing_or_forbidden_bus_has_a_hint() {
    let buses = two();
    let tree = Tree::new(&[]);
    for (number, help) in [(ENOENT, "modprobe i2c-dev"), (EACCES, "group i2c")] {
        buses.wiring().closed.insert(1, number);
        let error = bench_of_one(&buses, &tree).reopen().unwrap_err();
        assert!(error.to_string().contains(help), "{error}");
    }
}

#[test]
fn broken_bus_leaves_the_other_and_recovers() {
    let buses = two();
    let tree = Tree::new(&[]);
    buses.wiring().chips.insert((2, 0x40), Chip::new(3.3, 1.0));
    let yaml = "ina260: {i2c_bus: [1, 2], i2c_address: 0x40}";
    let mut bench = opened(&buses, &tree, yaml);
    bench.poll(1.0);
    buses.wiring().broken.insert(1, ETIMEDOUT);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), None);
    assert_eq!(watts(&bench, "ina260-2-0040"), Some(3.3));
    buses.wiring().broken.clear();
    bench.poll(10.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0));
}

#[test]
fn source_reports_the_error_if_no_chip_is_left() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    buses.wiring().broken.insert(1, ETIMEDOUT);
    for second in [2.0, 2.1, 3.5] {
        let error = bench.try_poll(second).unwrap_err().to_string();
        assert!(
            error.contains("0x40") && error.contains("timed out"),
            "{error}"
        );
    }
    assert!(bench.reopen().is_err());
    buses.wiring().broken.clear();
    bench.reopen().unwrap();
    bench.poll(5.0);
    assert_eq!(watts(&bench, "ina260-1-0041"), Some(12.0));
    let energy = bench.value(&of("energy_joules_total", "ina260-1-0041"));
    assert_eq!(energy, Some(0.0), "what was in between is not known");
}

#[test]
fn chip_is_reconfigured_after_losing_its_supply() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    let configured = buses.chip(1, 0x41, |chip| chip.configuration);
    buses.chip(1, 0x41, Chip::power_on);
    assert_ne!(buses.chip(1, 0x41, |chip| chip.configuration), configured);
    bench.rescan();
    bench.poll(2.0);
    assert_eq!(buses.chip(1, 0x41, |chip| chip.configuration), configured);
    assert_eq!(watts(&bench, "ina260-1-0041"), Some(12.0));
    assert_eq!((resets(&buses, 0x40), resets(&buses, 0x41)), (1, 2));
}

#[test]
fn chip_that_does_not_convert_is_reopened() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&buses, &tree, TWO);
    bench.poll(1.0);
    buses.chip(1, 0x40, |chip| chip.converts_freely = false);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0), "it may be late");
    bench.poll(10.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), None, "not for ever");
    buses.chip(1, 0x40, |chip| chip.converts_freely = true);
    bench.poll(20.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0));
}

#[test]
fn excluded_bus_is_not_accessed() {
    let buses = two();
    let tree = Tree::new(&[]);
    let mut bench = bench_of_one(&buses, &tree);
    bench.context.health.exclude(&tree.path("dev/i2c-1"), 1);
    let error = bench.reopen().unwrap_err().to_string();
    assert!(error.ends_with("hangs and is left alone"), "{error}");
    assert_eq!(buses.wiring().opened, 0);
}

/// The buses of the test below, whose meter is read by a thread of its own.
static HANGING: OnceLock<SimulatedBuses> = OnceLock::new();

static WITH_A_BUS_THAT_HANGS: Meter = Meter {
    open: |context| open(context, HANGING.get().unwrap().clone()),
    ..METER
};

#[test]
fn hanging_bus_leaves_the_other() {
    let buses = HANGING.get_or_init(|| {
        SimulatedBuses::with(&[
            (1, 0x40, Chip::new(5.0, 1.0)),
            (2, 0x40, Chip::new(3.3, 1.0)),
        ])
    });
    let tree = Tree::new(&[]);
    let yaml = "{interval: 0.05, ina260: {i2c_bus: [1, 2], i2c_address: 0x40}}";
    let config = SCHEMA.parse(yaml).unwrap().0;
    let context = Bench::new(&WITH_A_BUS_THAT_HANGS, &tree, config).context;
    let running = RunningSource::start(&WITH_A_BUS_THAT_HANGS, context.clone());
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            running.restart_if_stuck(BootTime::now());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let rail = |name: &str| {
        let labels = [("source", "ina260"), ("rail", name)];
        let id = context
            .group
            .series(&crate::metrics::common::voltage_volts(), &labels);
        context.group.value(id)
    };
    until("both are read", &|| {
        rail("ina260-1-0040").is_some() && rail("ina260-2-0040").is_some()
    });
    buses.wiring().hanging.insert(1);
    until("the bus is left alone", &|| {
        context.health.is_excluded(&tree.path("dev/i2c-1"))
    });
    let then = BootTime::now();
    until("the other is read on", &|| {
        context.group.read_at().is_some_and(|at| at > then)
            && rail("ina260-1-0040").is_none()
            && rail("ina260-2-0040").is_some()
    });
    buses.wiring().hanging.clear();
    running.stop();
    running.join(Instant::now() + Duration::from_secs(10));
}
