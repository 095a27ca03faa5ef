//! Chips recorded at the buses' boundary, and replayed where there is no bus.

use super::*;
use crate::sources::i2c::logged::Logged;
use crate::sources::io_log::{IoLogs, Recorder};
use crate::sources::testing::replayed;

/// The simulated chips, by way of the I/O log.
static LOGGED: Meter = Meter {
    open: |context| {
        let buses = BUSES.with_borrow(SimulatedBuses::clone);
        let io_log = context.health.io_log().clone();
        open(context, Logged { buses, io_log })
    },
    ..METER
};

#[test]
fn readings_and_faults_of_every_family_replay_identically() {
    let yaml = "ina2xx: {chips: [{board: adafruit-ina219, name: battery}, {model: ina226, address: 0x41, shunt_ohms: 0.02}, {board: adafruit-ina228, address: 0x44, name: input}, {board: adafruit-ina3221, address: 0x43}], power_total: [input]}";
    let buses = SimulatedBuses::with(&[
        (1, 0x40, Chip::new("ina219", 7.4, -0.5, 0.1)),
        (1, 0x41, Chip::new("ina226", 5.0, 1.2, 0.02)),
        (1, 0x44, Chip::new("ina228", 12.0, 1.0, 0.015)),
        (1, 0x43, Chip::new("ina3221", 3.2, 0.4, 0.05)),
    ]);
    BUSES.set(buses.clone());
    let tree = Tree::new(&[("dev/i2c-1", "")]);
    let dir = Tree::new(&[]);
    let dir = dir.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), yaml).unwrap();
    let (config, warnings) = SCHEMA.parse(yaml).unwrap();
    assert_eq!(warnings, []);
    let io_logs = IoLogs::Record(recorder.clone());
    let mut bench = Bench::with_io_log(&LOGGED, tree.roots(), config, &io_logs);
    assert!(bench.probe().is_ok());
    bench.reopen().unwrap();
    for step in 0..4_u32 {
        buses.chip(1, 0x44, |chip| {
            chip.amperes = [1.0 + 0.5 * f64::from(step); 3];
            chip.energy += 10_000;
        });
        if step == 2 {
            let failures = [nix::libc::EREMOTEIO].into_iter().collect();
            buses.wiring().failures.insert((1, 0x41), failures);
        }
        bench.tick().unwrap();
    }
    bench.rescan();
    bench.tick().unwrap();
    recorder.finish("").unwrap();
    let lines = bench.lines();
    drop((bench, tree));
    assert_eq!(replayed(&dir, &METER), lines);
    let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
    // 30,000 units of 16 µJ per ohm.
    assert!(
        has("energy_joules_total{rail=\"input\",source=\"ina2xx\"} 32"),
        "{lines:?}"
    );
    assert!(has("power_total_watts 30"), "{lines:?}");
    let log = std::fs::read_to_string(dir.join("logs/ina2xx.log")).unwrap();
    for line in [
        " open dev/i2c-1 = good\n",
        " dev/i2c-1 0x40 w003fff = \n",
        " dev/i2c-1 0x41 wff r2 = 2260\n",
        " dev/i2c-1 0x44 w09 r5 = 0000002710\n",
        " dev/i2c-1 0x43 w06 r2 = 0c80\n",
        " ! 121 ",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
}
