//! Chips of devices that the kernel suspends.

use super::*;
use crate::config::Config;
use crate::sources::io_log::{IoLogs, Recorder};
use crate::sources::testing::replayed;

const FUNCTION: &str = "sys/devices/pci0000:00/0000:00:01.1/0000:03:00.0";
const RAIL: &str = "amdgpu-0000:03:00.0:PPT";

fn set(tree: &Tree, name: &str, content: &str) {
    tree.write(&format!("{FUNCTION}/power/{name}"), format!("{content}\n"));
}

fn attribute(tree: &Tree, name: &str, content: &str) {
    let path = format!("{FUNCTION}/hwmon/hwmon3/{name}");
    tree.write(&path, format!("{content}\n"));
}

/// A GPU in this state, and nothing in it that could be read.
fn gpu(status: &str) -> Tree {
    let tree = Tree::new(&[(&format!("{FUNCTION}/class"), "0x030000\n")]);
    set(&tree, "runtime_status", status);
    set(&tree, "control", "auto");
    let unreadable = [
        ("name", "amdgpu"),
        ("power1_average", "no number: it was read"),
        ("power1_label", "read too early"),
        ("temp1_input", "no number: it was read"),
    ];
    add(&tree, 3, FUNCTION, &unreadable);
    tree
}

fn make_readable(tree: &Tree) {
    attribute(tree, "power1_average", "9000000");
    attribute(tree, "power1_label", "PPT");
    attribute(tree, "temp1_input", "41000");
}

#[test]
fn suspended_gpu_is_not_read_until_resumed() {
    let tree = gpu("suspended");
    let mut bench = Bench::open(&METER, &tree);
    let health = std::sync::Arc::clone(&bench.context.health);
    assert_eq!(bench.probe().unwrap(), "chips: amdgpu-0000:03:00.0");
    for second in 1..5 {
        assert_eq!(bench.poll(f64::from(second)), [""; 0]);
        bench.rescan();
    }
    assert_eq!(health.errors(), 0);
    let complaint =
        "amdgpu-0000:03:00.0 is suspended: it is not read, because that would resume it \
                     (set hwmon.wake_suspended: true to read it nevertheless)";
    assert_eq!(health.value_errors(), [complaint]);

    make_readable(&tree);
    set(&tree, "runtime_status", "active");
    bench.poll(5.0);
    assert_eq!(bench.value(&of("power_watts", RAIL)), Some(9.0));
    assert_eq!(health.value_errors(), [""; 0]);
    bench.poll(6.0);
    assert_eq!(bench.value(&of("energy_joules_total", RAIL)), Some(9.0));

    attribute(&tree, "power1_average", "no number: it was read");
    for status in ["suspending", "suspended"] {
        set(&tree, "runtime_status", status);
        let lines = bench.poll(7.0);
        assert!(!lines.iter().any(|l| l.contains("amdgpu")), "{lines:?}");
    }
    bench.rescan();
    make_readable(&tree);
    set(&tree, "runtime_status", "active");
    bench.poll(60.0);
    assert_eq!(bench.value(&of("power_watts", RAIL)), Some(9.0));
    assert_eq!(
        bench.value(&of("energy_joules_total", RAIL)),
        Some(9.0),
        "the time in which it was suspended is not integrated"
    );
    assert_eq!(health.errors(), 0);
}

#[test]
fn other_chips_are_read_while_a_bridge_is_suspended() {
    let tree = gpu("unsupported");
    let bridge = "sys/devices/pci0000:00/0000:00:01.1/power/runtime_status";
    tree.write(bridge, "suspended\n");
    add(&tree, 0, &format!("{BUS}/1-0040"), INA226);
    // Its controller rests between any two transfers.
    tree.write("sys/devices/platform/power/runtime_status", "suspended\n");
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    assert_eq!(bench.value("power_total_watts"), Some(6.144));
    assert_eq!(bench.context.health.errors(), 0);
    make_readable(&tree);
    tree.write(bridge, "active\n");
    bench.poll(2.0);
    assert_eq!(bench.value(&of("power_watts", RAIL)), Some(9.0));
}

#[test]
fn values_are_kept_while_a_device_may_suspend() {
    let tree = gpu("active");
    make_readable(&tree);
    set(&tree, "autosuspend_delay_ms", "3000");
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(0.0);
    attribute(&tree, "power1_average", "30000000");
    for second in 1..4 {
        bench.poll(f64::from(second));
        assert_eq!(bench.value(&of("power_watts", RAIL)), Some(9.0));
    }
    bench.poll(4.0);
    assert_eq!(bench.value(&of("power_watts", RAIL)), Some(30.0));
    let energy = bench.value(&of("energy_joules_total", RAIL));
    assert_eq!(energy, Some(27.0 + 19.5), "as by any slower meter");
}

#[test]
fn energy_is_kept_while_a_counter_is_not_read() {
    let tree = gpu("active");
    set(&tree, "autosuspend_delay_ms", "1000");
    attribute(&tree, "energy1_input", "1000000");
    for name in ["power1_average", "power1_label", "temp1_input"] {
        tree.remove(&format!("{FUNCTION}/hwmon/hwmon3/{name}"));
    }
    let mut bench = Bench::open(&METER, &tree);
    let rail = "amdgpu-0000:03:00.0:energy1";
    let mut seen = Vec::new();
    for second in 0..5 {
        attribute(&tree, "energy1_input", &(second * 5_000_000).to_string());
        bench.poll(second as f64);
        let value = |family| bench.value(&of(family, rail));
        seen.push((value("power_watts"), value("energy_joules_total")));
    }
    assert_eq!(
        seen,
        [
            (None, Some(0.0)),
            (None, Some(0.0)),
            (Some(5.0), Some(10.0)),
            (Some(5.0), Some(10.0)),
            (Some(5.0), Some(20.0)),
        ]
    );
}

#[test]
fn wake_suspended_reads_suspended_devices() {
    let tree = gpu("suspended");
    make_readable(&tree);
    let mut config = Config::default();
    config
        .meters
        .edit(|hwmon: &mut Settings| hwmon.wake_suspended = true);
    let mut bench = Bench::new(&METER, &tree, config);
    bench.reopen().unwrap();
    bench.poll(1.0);
    assert_eq!(bench.value(&of("power_watts", RAIL)), Some(9.0));
}

#[test]
fn acpi_power_meter_is_named_by_oem_info() {
    let tree = Tree::new(&[]);
    for (n, name) in ["Module Power Socket 0", "CPU Power\0Socket 0", "", "x"]
        .iter()
        .enumerate()
    {
        let attributes = [
            ("name", "power_meter"),
            ("power1_average", "1000000"),
            ("power1_oem_info", *name),
            ("temp1_input", "20000"),
            ("temp1_oem_info", "none of a temperature's"),
        ];
        let label = [("power1_label", "label")];
        let device = format!("sys/devices/LNXSYSTM:00/ACPI000D:0{n}");
        let labelled: Vec<_> = attributes.iter().chain(&label).copied().collect();
        match *name {
            "x" => add(&tree, n as u32, &device, &labelled),
            _ => add(&tree, n as u32, &device, &attributes),
        }
    }
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    for rail in [
        "00:Module Power Socket 0",
        "01:CPU Power_Socket 0",
        "02:power1",
        "03:label",
    ] {
        let rail = format!("power_meter-ACPI000D:{rail}");
        assert_eq!(bench.value(&of("power_watts", &rail)), Some(1.0), "{rail}");
    }
    let celsius = bench.value(&sensor("power_meter-ACPI000D:00:temp1"));
    assert_eq!(celsius, Some(20.0));
}

#[test]
fn suspended_device_replays_identically() {
    let tree = gpu("suspended");
    let dir = Tree::new(&[]);
    let dir = dir.path("recording");
    let recorder = Recorder::begin(&dir, &tree.roots(), "hwmon:\n").unwrap();
    let io_logs = IoLogs::Record(std::sync::Arc::clone(&recorder));
    let mut bench = Bench::with_io_log(&METER, tree.roots(), Config::default(), &io_logs);
    bench.probe().unwrap();
    bench.reopen().unwrap();
    bench.tick().unwrap();
    make_readable(&tree);
    set(&tree, "runtime_status", "active");
    for _ in 0..3 {
        bench.tick().unwrap();
    }
    recorder.finish("").unwrap();
    let lines = bench.lines();
    assert!(!lines.is_empty());
    assert_eq!(replayed(&dir, &METER), lines);
    let log = std::fs::read_to_string(dir.join("logs/hwmon.log")).unwrap();
    assert!(!log.contains("it was read"), "{log}");
}
