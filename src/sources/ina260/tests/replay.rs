//! Chips recorded at the buses' boundary, and replayed where there is no bus.

use super::*;
use crate::sources::i2c::logged::Logged;
use crate::sources::io_log::{IoLogs, Recorder};
use crate::sources::testing::replayed;
use crate::sources::SCHEMA;

/// The simulated chips, by way of the I/O log.
static LOGGED: Meter = Meter {
    open: |context| {
        let buses = BUSES.with_borrow(SimulatedBuses::clone);
        let io_log = context.health.io_log().clone();
        open(context, Logged { buses, io_log })
    },
    ..METER
};

/// Records these polls and asserts that their replay exports the same. Returns the log.
fn assert_replays(buses: &SimulatedBuses, yaml: &str, polls: impl FnOnce(&mut Bench)) -> String {
    BUSES.set(buses.clone());
    let tree = Tree::new(&[("dev/i2c-1", ""), ("dev/i2c-3", "")]);
    let dir = Tree::new(&[]);
    let dir = dir.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), yaml).unwrap();
    let (config, _) = SCHEMA.parse(yaml).unwrap();
    let io_logs = IoLogs::Record(recorder.clone());
    let mut bench = Bench::with_io_log(&LOGGED, tree.roots(), config, &io_logs);
    assert!(bench.probe().is_ok());
    bench.reopen().unwrap();
    polls(&mut bench);
    recorder.finish("").unwrap();
    let lines = bench.lines();
    drop((bench, tree));
    assert_eq!(replayed(&dir, &METER), lines);
    assert!(!lines.is_empty());
    std::fs::read_to_string(dir.join("logs/ina260.log")).unwrap()
}

#[test]
fn readings_of_several_chips_replay_identically() {
    let buses = SimulatedBuses::with(&[
        (1, 0x40, Chip::new(5.1, 1.2)),
        (3, 0x41, Chip::new(12.0, -0.5)),
    ]);
    let yaml = "ina260: {i2c_address: 0x40, chips: [{name: motor, i2c_bus: 3, i2c_address: 0x41}]}";
    let log = assert_replays(&buses, yaml, |bench| {
        for amperes in [1.2, 2.5, 2.5, 0.25] {
            buses.wiring().chips.get_mut(&(1, 0x40)).unwrap().amperes = amperes;
            bench.tick().unwrap();
        }
        bench.rescan();
        bench.tick().unwrap();
    });
    // The registers of the data sheet: identity, then current, voltage and power.
    for line in [
        " open dev/i2c-1 = good\n",
        " dev/i2c-1 0x40 wfe r2 = 5449\n",
        " dev/i2c-1 0x40 wff r2 = 2270\n",
        " dev/i2c-1 0x40 w01 r2 = 07d0\n",
        " dev/i2c-3 0x41 w01 r2 = fe70\n",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn replay_does_not_wait_for_conversions() {
    let buses = SimulatedBuses::with(&[(1, 0x40, Chip::new(5.0, 1.0))]);
    let slow = |free: bool| {
        let mut wiring = buses.wiring();
        let chip = wiring.chips.get_mut(&(1, 0x40)).unwrap();
        chip.converts_freely = free;
        chip.amperes += 0.5;
    };
    assert_replays(
        &buses,
        "ina260: {i2c_address: 0x40, averaging: 1}",
        |bench| {
            bench.tick().unwrap();
            slow(false);
            // No reading in time: the last one stands.
            bench.tick().unwrap();
            bench.tick().unwrap();
            slow(true);
            bench.tick().unwrap();
        },
    );
}

#[test]
fn faults_replay_identically() {
    let buses = SimulatedBuses::with(&[
        (1, 0x40, Chip::new(5.0, 1.0)),
        (1, 0x41, Chip::new(5.0, 2.0)),
    ]);
    let log = assert_replays(&buses, "ina260: {i2c_address: [0x40, 0x41]}", |bench| {
        bench.tick().unwrap();
        let fail = |errno| {
            buses
                .wiring()
                .failures
                .entry((1, 0x41))
                .or_default()
                .push_back(errno)
        };
        fail(nix::libc::EREMOTEIO);
        bench.tick().unwrap();
        bench.tick().unwrap();
    });
    assert!(log.contains(" ! 121 "), "{log}");
}
