//! The meter on small trees, with links as sysfs has them.

mod faults;
mod suspended;

use super::*;
use crate::sources::testing::{Bench, Tree};

const BUS: &str = "sys/devices/platform/i2c-1";
const INA226: &[(&str, &str)] = &[
    ("name", "ina226"),
    ("in0_input", "10"),
    ("in1_input", "5103"),
    ("curr1_input", "1204"),
    ("power1_input", "6144000"),
    ("shunt_resistor", "10000"),
];

/// Puts a chip on a device (a path in the tree), as `hwmonN`.
fn add(tree: &Tree, n: u32, device: &str, attributes: &[(&str, &str)]) {
    let dir = format!("{device}/hwmon/hwmon{n}");
    for (name, content) in attributes {
        tree.write(&format!("{dir}/{name}"), format!("{content}\n"));
    }
    tree.link(&format!("{dir}/device"), device);
    tree.link(&format!("sys/class/hwmon/hwmon{n}"), &dir);
}

fn remove(tree: &Tree, n: u32, device: &str) {
    tree.remove(&format!("sys/class/hwmon/hwmon{n}"));
    tree.remove(&format!("{device}/hwmon"));
}

fn of(family: &str, rail: &str) -> String {
    format!("{family}{{rail=\"{rail}\",source=\"hwmon\"}}")
}

fn sensor(sensor: &str) -> String {
    format!("temperature_celsius{{sensor=\"{sensor}\",source=\"hwmon\"}}")
}

fn board(chips: &[(&str, &[(&str, &str)])]) -> Tree {
    let tree = Tree::new(&[]);
    for (n, (device, attributes)) in chips.iter().enumerate() {
        add(&tree, n as u32, &format!("{BUS}/{device}"), attributes);
    }
    tree
}

#[test]
fn only_ina226_is_the_boards_total() {
    let tree = board(&[("1-0040", INA226)]);
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(bench.probe().unwrap(), "chips: ina226-1-0040");
    assert_eq!(
        bench.poll(1.0),
        [
            of("current_amperes", "ina226-1-0040:power1") + " 1.204",
            of("energy_joules_total", "ina226-1-0040:power1") + " 0",
            "power_total_watts 6.144".to_string(),
            of("power_watts", "ina226-1-0040:power1") + " 6.144",
            of("voltage_volts", "ina226-1-0040:power1") + " 5.103",
        ]
    );
    bench.poll(3.0);
    let energy = of("energy_joules_total", "ina226-1-0040:power1");
    assert_eq!(bench.value(&energy), Some(12.288));
}

#[test]
fn ina3221_power_is_voltage_times_current() {
    let tree = board(&[(
        "1-0040",
        &[
            ("name", "ina3221"),
            ("in1_label", "VDD_IN"),
            ("in1_input", "4968"),
            ("curr1_input", "-24"),
            ("in2_label", "NC"),
            ("in2_input", "0"),
            ("curr2_input", "0"),
            ("in3_label", "VDD_SOC"),
            ("in3_enable", "0"),
            ("in3_input", "4960"),
            ("curr3_input", "296"),
            ("in7_label", "sum of shunt voltages"),
            ("in7_input", "1"),
        ],
    )]);
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(
        bench.poll(1.0),
        [
            of("current_amperes", "ina3221-1-0040:VDD_IN") + " -0.024",
            of("current_amperes", "ina3221-1-0040:VDD_SOC") + " 0.296",
            of("energy_joules_total", "ina3221-1-0040:VDD_IN") + " 0",
            "power_total_watts -0.119232".to_string(),
            of("power_watts", "ina3221-1-0040:VDD_IN") + " -0.119232",
            of("voltage_volts", "ina3221-1-0040:VDD_IN") + " 4.968",
        ]
    );
    tree.write(&format!("{BUS}/1-0040/hwmon/hwmon0/in3_enable"), "1\n");
    bench.rescan();
    bench.poll(2.0);
    let power = of("power_watts", "ina3221-1-0040:VDD_SOC");
    assert_eq!(bench.value(&power), Some(1.46816));
}

#[test]
fn chip_that_counts_energy() {
    let tree = board(&[
        (
            "card",
            &[
                ("name", "xe"),
                ("energy1_label", "card"),
                ("energy1_input", "5000000"),
            ],
        ),
        (
            "soc",
            &[
                ("name", "soc"),
                ("energy1_input", "0"),
                ("power1_input", "7"),
            ],
        ),
    ]);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    assert_eq!(bench.value(&of("power_watts", "xe-card:card")), None);
    tree.write(
        &format!("{BUS}/card/hwmon/hwmon0/energy1_input"),
        "11000000\n",
    );
    bench.poll(3.0);
    assert_eq!(bench.value(&of("power_watts", "xe-card:card")), Some(3.0));
    assert_eq!(
        bench.value(&of("energy_joules_total", "xe-card:card")),
        Some(6.0)
    );
    assert_eq!(bench.value("power_total_watts"), None);
}

#[test]
fn rail_has_its_measured_power_and_energy() {
    let files = [
        ("name", "ina238"),
        ("in1_input", "12000"),
        ("curr1_input", "500"),
    ];
    let counts = [("power1_input", "6100000"), ("energy1_input", "40")];
    let tree = board(&[("1-0045", &[&files[..], &counts[..]].concat())]);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    assert_eq!(
        bench.value(&of("power_watts", "ina238-1-0045:power1")),
        Some(6.1)
    );
    tree.write(
        &format!("{BUS}/1-0045/hwmon/hwmon0/energy1_input"),
        "9000040\n",
    );
    bench.poll(2.0);
    assert_eq!(
        bench.value(&of("power_watts", "ina238-1-0045:power1")),
        Some(6.1)
    );
    assert_eq!(
        bench.value(&of("energy_joules_total", "ina238-1-0045:power1")),
        Some(9.0)
    );
    assert_eq!(bench.value("power_total_watts"), Some(6.1));
}

#[test]
fn chips_of_one_model_are_named_by_device() {
    let tree = Tree::new(&[]);
    let temp = |millidegrees| [("name", "nvme"), ("temp1_input", millidegrees)];
    add(&tree, 0, "sys/devices/pci1/ssd", &temp("51000"));
    add(&tree, 1, "sys/devices/pci0/ssd", &temp("50000"));
    tree.write("sys/devices/virtual/hwmon/hwmon2/name", "virt\n");
    tree.write("sys/devices/virtual/hwmon/hwmon2/temp1_input", "20000\n");
    tree.link("sys/class/hwmon/hwmon2", "sys/devices/virtual/hwmon/hwmon2");
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(
        bench.poll(1.0),
        [
            sensor("nvme-ssd-2:temp1") + " 51",
            sensor("nvme-ssd:temp1") + " 50",
            sensor("virt:temp1") + " 20",
        ]
    );
    // The second stays the second while the first is away, and the first becomes the first again.
    remove(&tree, 1, "sys/devices/pci0/ssd");
    bench.rescan();
    bench.poll(2.0);
    assert_eq!(bench.value(&sensor("nvme-ssd:temp1")), None);
    assert_eq!(bench.value(&sensor("nvme-ssd-2:temp1")), Some(51.0));
    add(&tree, 9, "sys/devices/pci0/ssd", &temp("49000"));
    bench.rescan();
    bench.poll(3.0);
    assert_eq!(bench.value(&sensor("nvme-ssd:temp1")), Some(49.0));
}

#[test]
fn old_drivers_have_attributes_in_the_device_folder() {
    let tree = Tree::new(&[
        ("sys/devices/platform/k8temp.0/name", "k8temp\n"),
        ("sys/devices/platform/k8temp.0/temp1_input", "33000\n"),
    ]);
    add(&tree, 0, "sys/devices/platform/k8temp.0", &[("uevent", "")]);
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(bench.poll(1.0), [sensor("k8temp-k8temp.0:temp1") + " 33"]);
}

#[test]
fn chips_of_other_meters_are_skipped() {
    let tree = board(&[("1-0040", INA226)]);
    let temp = [("name", "acpitz"), ("temp1_input", "40000")];
    add(&tree, 7, "sys/devices/virtual/thermal/thermal_zone0", &temp);
    let battery = [
        ("name", "BAT0"),
        ("in0_input", "12000"),
        ("curr1_input", "1000"),
    ];
    add(&tree, 8, "sys/devices/acpi/power_supply/BAT0", &battery);
    add(
        &tree,
        9,
        "sys/devices/fan",
        &[("name", "pwmfan"), ("fan1_input", "900")],
    );
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(bench.probe().unwrap(), "chips: ina226-1-0040");
    assert_eq!(bench.poll(1.0).len(), 5);
}

#[test]
fn thermometer_at_fault_or_disabled_is_absent() {
    let tree = board(&[(
        "1-004c",
        &[
            ("name", "tmp421"),
            ("temp1_input", "31500"),
            ("temp1_fault", "0"),
            ("temp2_input", "127000"),
            ("temp2_fault", "1"),
            ("temp3_input", "-273000"),
            ("temp4_input", "1000"),
            ("temp4_enable", "0"),
        ],
    )]);
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(bench.poll(1.0), [sensor("tmp421-1-004c:temp1") + " 31.5"]);
}

#[test]
fn configured_rails_are_the_total() {
    let tree = board(&[("1-0040", INA226), ("1-0041", INA226)]);
    assert_eq!(total_of(&tree, &[]), None, "two inputs are none");
    let both = ["ina226-1-0040:power1", "ina226-1-0041:power1"];
    assert_eq!(total_of(&tree, &both), Some(12.288));
    assert_eq!(total_of(&tree, &both[1..]), Some(6.144));
    assert_eq!(total_of(&tree, &[both[0], "ina226-1-0099:power1"]), None);
}

fn total_of(tree: &Tree, rails: &[&str]) -> Option<f64> {
    let mut config = Config::default();
    config.meters.edit(|settings: &mut Settings| {
        settings.power_total = rails.iter().map(|r| r.to_string()).collect()
    });
    let mut bench = Bench::new(&METER, tree, config);
    bench.reopen().unwrap();
    bench.poll(1.0);
    bench.value("power_total_watts")
}
