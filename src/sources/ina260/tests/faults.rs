//! What goes wrong on a bus.

use std::sync::OnceLock;

use nix::libc::{EACCES, EAGAIN, EIO, ENOENT, EREMOTEIO, ETIMEDOUT};

use super::*;
use crate::sources::RunningSource;
use crate::sources::SCHEMA;

const TWO: &str = "ina260: {i2c_address: [0x40, 0x41]}";

fn two() -> Rack {
    Rack::with(&[
        (1, 0x40, Chip::new(5.0, 1.0)),
        (1, 0x41, Chip::new(12.0, 1.0)),
    ])
}

fn watts(bench: &Bench, rail: &str) -> Option<f64> {
    bench.value(&of("power_watts", rail))
}

fn fail(rack: &Rack, address: u8, numbers: &[i32]) {
    let numbers = numbers.iter().copied().collect();
    rack.wiring().failures.insert((1, address), numbers);
}

fn resets(rack: &Rack, address: u8) -> usize {
    let is_reset = |written: &&(u8, u16)| **written == (0, 0x8000);
    rack.chip(1, address, |chip| {
        chip.written.iter().filter(is_reset).count()
    })
}

#[test]
fn one_chip_that_fails_leaves_the_others() {
    let rack = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&rack, &tree, TWO);
    bench.poll(1.0);
    for (n, number) in [EREMOTEIO, ETIMEDOUT, EIO].into_iter().enumerate() {
        let second = 100.0 * (n + 1) as f64;
        fail(&rack, 0x40, &[number]);
        bench.poll(second);
        assert_eq!(watts(&bench, "ina260-1-0040"), None, "absent, never zero");
        assert_eq!(watts(&bench, "ina260-1-0041"), Some(12.0));
        assert_eq!(bench.context.health.errors(), n as u64 + 1);
        assert_eq!(bench.context.health.value_errors().len(), 1);
        bench.poll(second + 0.4);
        assert_eq!(watts(&bench, "ina260-1-0040"), None, "left alone");
        bench.poll(second + 50.0);
        assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0));
        assert_eq!(resets(&rack, 0x40), n + 2, "begun anew");
        assert!(bench.context.health.value_errors().is_empty());
    }
    assert_eq!(resets(&rack, 0x41), 1);
}

#[test]
fn lost_arbitration_costs_one_reading_and_no_reset() {
    let rack = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&rack, &tree, TWO);
    bench.poll(1.0);
    fail(&rack, 0x40, &[EAGAIN]);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), None);
    bench.poll(2.1);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0));
    assert_eq!(resets(&rack, 0x40), 1);
}

#[test]
fn a_chip_that_stays_away_is_asked_ever_more_rarely() {
    let rack = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&rack, &tree, TWO);
    bench.poll(1.0);
    rack.wiring().chips.remove(&(1, 0x40));
    let before = rack.wiring().opened;
    for second in 2..1002 {
        bench.poll(f64::from(second));
    }
    let tries = rack.wiring().opened - before;
    // At 0.5, 1, 2, … 60 s, and then once a minute.
    assert!((15..30).contains(&tries), "{tries} tries in 1000 s");
    rack.wiring().chips.insert((1, 0x40), Chip::new(5.0, 2.0));
    bench.poll(1100.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(10.0));
}

#[test]
fn a_stranger_is_not_believed_and_not_written_to() {
    let rack = two();
    rack.chip(1, 0x40, |chip| chip.die = 0x2260);
    let tree = Tree::new(&[]);
    let mut bench = opened(&rack, &tree, TWO);
    bench.poll(1.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), None);
    assert_eq!(watts(&bench, "ina260-1-0041"), Some(12.0));
    let (written, readings) = rack.chip(1, 0x40, |chip| (chip.written.len(), chip.readings));
    assert_eq!((written, readings), (0, 0));
    let mut alone = bench_of_one(&rack, &tree);
    let error = alone.reopen().unwrap_err().to_string();
    assert!(error.contains("die 0x2260, as an INA226 does"), "{error}");
}

fn bench_of_one(rack: &Rack, tree: &Tree) -> Bench {
    super::bench(rack, tree, "ina260: {i2c_address: 0x40}")
}

#[test]
fn an_address_that_the_kernel_holds_is_left_to_hwmon() {
    let rack = two();
    rack.wiring().held.push((1, 0x40));
    let tree = Tree::new(&[("sys/bus/i2c/drivers/ina2xx/uevent", "")]);
    tree.link(
        "sys/bus/i2c/devices/1-0040/driver",
        "sys/bus/i2c/drivers/ina2xx",
    );
    let error = bench_of_one(&rack, &tree).reopen().unwrap_err().to_string();
    assert!(
        error.starts_with("the kernel's driver ina2xx has 0x40 on /"),
        "{error}"
    );
    assert!(error.contains("the source hwmon reads it"), "{error}");
    let written = rack.chip(1, 0x40, |chip| chip.written.len());
    assert_eq!(written, 0, "it is the driver's");
}

#[test]
fn a_bus_that_is_missing_or_forbidden_says_what_would_help() {
    let rack = two();
    let tree = Tree::new(&[]);
    for (number, help) in [(ENOENT, "modprobe i2c-dev"), (EACCES, "group i2c")] {
        rack.wiring().closed.insert(1, number);
        let error = bench_of_one(&rack, &tree).reopen().unwrap_err();
        assert!(error.to_string().contains(help), "{error}");
    }
}

#[test]
fn a_bus_that_breaks_leaves_the_other_and_comes_back() {
    let rack = two();
    let tree = Tree::new(&[]);
    rack.wiring().chips.insert((2, 0x40), Chip::new(3.3, 1.0));
    let yaml = "ina260: {i2c_bus: [1, 2], i2c_address: 0x40}";
    let mut bench = opened(&rack, &tree, yaml);
    bench.poll(1.0);
    rack.wiring().broken.insert(1, ETIMEDOUT);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), None);
    assert_eq!(watts(&bench, "ina260-2-0040"), Some(3.3));
    rack.wiring().broken.clear();
    bench.poll(10.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0));
}

#[test]
fn with_no_chip_left_the_source_says_why() {
    let rack = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&rack, &tree, TWO);
    bench.poll(1.0);
    rack.wiring().broken.insert(1, ETIMEDOUT);
    for second in [2.0, 2.1, 3.5] {
        let error = bench.try_poll(second).unwrap_err().to_string();
        assert!(
            error.contains("0x40") && error.contains("timed out"),
            "{error}"
        );
    }
    assert!(bench.reopen().is_err());
    rack.wiring().broken.clear();
    bench.reopen().unwrap();
    bench.poll(5.0);
    assert_eq!(watts(&bench, "ina260-1-0041"), Some(12.0));
    let energy = bench.value(&of("energy_joules_total", "ina260-1-0041"));
    assert_eq!(energy, Some(0.0), "what was in between is not known");
}

#[test]
fn a_chip_that_lost_its_supply_is_configured_anew() {
    let rack = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&rack, &tree, TWO);
    bench.poll(1.0);
    let configured = rack.chip(1, 0x41, |chip| chip.configuration);
    rack.chip(1, 0x41, Chip::power_on);
    assert_ne!(rack.chip(1, 0x41, |chip| chip.configuration), configured);
    bench.rescan();
    bench.poll(2.0);
    assert_eq!(rack.chip(1, 0x41, |chip| chip.configuration), configured);
    assert_eq!(watts(&bench, "ina260-1-0041"), Some(12.0));
    assert_eq!((resets(&rack, 0x40), resets(&rack, 0x41)), (1, 2));
}

#[test]
fn a_chip_that_converts_nothing_is_begun_anew() {
    let rack = two();
    let tree = Tree::new(&[]);
    let mut bench = opened(&rack, &tree, TWO);
    bench.poll(1.0);
    rack.chip(1, 0x40, |chip| chip.runs_free = false);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0), "it may be late");
    bench.poll(10.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), None, "not for ever");
    rack.chip(1, 0x40, |chip| chip.runs_free = true);
    bench.poll(20.0);
    assert_eq!(watts(&bench, "ina260-1-0040"), Some(5.0));
}

#[test]
fn a_bus_that_hangs_is_left_alone() {
    let rack = two();
    let tree = Tree::new(&[]);
    let mut bench = bench_of_one(&rack, &tree);
    bench.context.health.exclude(&tree.path("dev/i2c-1"), 1);
    let error = bench.reopen().unwrap_err().to_string();
    assert!(error.ends_with("hangs and is left alone"), "{error}");
    assert_eq!(rack.wiring().opened, 0);
}

/// The buses of the test below, whose meter is read by a thread of its own.
static HANGING: OnceLock<Rack> = OnceLock::new();

static WITH_A_BUS_THAT_HANGS: Meter = Meter {
    open: |context| open(context, HANGING.get().unwrap().clone()),
    ..METER
};

#[test]
fn a_bus_that_begins_to_hang_costs_that_bus_alone() {
    let rack = HANGING.get_or_init(|| {
        Rack::with(&[
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
    rack.wiring().hanging.insert(1);
    until("the bus is left alone", &|| {
        context.health.is_excluded(&tree.path("dev/i2c-1"))
    });
    let then = BootTime::now();
    until("the other is read on", &|| {
        context.group.read_at().is_some_and(|at| at > then)
            && rail("ina260-1-0040").is_none()
            && rail("ina260-2-0040").is_some()
    });
    rack.wiring().hanging.clear();
    running.stop();
    running.join(Instant::now() + Duration::from_secs(10));
}
