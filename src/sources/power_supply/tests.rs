//! The meter on small trees.

use super::*;
use crate::sources::testing::{Bench, Tree};

fn write(tree: &Tree, supply: &str, attributes: &[(&str, &str)]) {
    for (name, content) in attributes {
        tree.write(
            &format!("sys/class/power_supply/{supply}/{name}"),
            format!("{content}\n"),
        );
    }
}

fn tree(supplies: &[(&str, &[(&str, &str)])]) -> Tree {
    let tree = Tree::new(&[]);
    for (supply, attributes) in supplies {
        write(&tree, supply, attributes);
    }
    tree
}

fn of(family: &str, rail: &str) -> String {
    format!("{family}{{rail=\"{rail}\",source=\"power_supply\"}}")
}

const USB: &[(&str, &str)] = &[
    ("type", "USB"),
    ("present", "1"),
    ("online", "1"),
    ("voltage_now", "5100000"),
    ("current_now", "640000"),
];

/// The files of an AXP209.
fn axp209() -> Tree {
    tree(&[
        (
            "axp20x-ac",
            &[
                ("type", "Mains"),
                ("present", "0"),
                ("online", "0"),
                ("voltage_now", "23800"),
                ("current_now", "0"),
            ],
        ),
        ("axp20x-usb", USB),
        (
            "axp20x-battery",
            &[
                ("type", "Battery"),
                ("present", "1"),
                ("status", "Charging"),
                ("voltage_now", "4012800"),
                ("current_now", "-250000"),
                ("temp", "285"),
            ],
        ),
    ])
}

#[test]
fn axp209_on_usb() {
    let tree = axp209();
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(
        bench.probe().unwrap(),
        "supplies: axp20x-ac (Mains), axp20x-battery (Battery), axp20x-usb (USB)"
    );
    assert_eq!(
        bench.poll(1.0),
        [
            of("current_amperes", "axp20x-battery") + " -0.25",
            of("current_amperes", "axp20x-usb") + " 0.64",
            of("energy_joules_total", "axp20x-battery") + " 0",
            of("energy_joules_total", "axp20x-usb") + " 0",
            of("power_supply_online", "axp20x-ac") + " 0",
            of("power_supply_online", "axp20x-usb") + " 1",
            "power_total_watts 3.264".to_string(),
            of("power_watts", "axp20x-battery") + " 1.0032",
            of("power_watts", "axp20x-usb") + " 3.264",
            "temperature_celsius{sensor=\"axp20x-battery\",source=\"power_supply\"} 28.5".into(),
            of("voltage_volts", "axp20x-battery") + " 4.0128",
            of("voltage_volts", "axp20x-usb") + " 5.1",
        ]
    );
    bench.poll(3.0);
    assert_eq!(
        bench.value(&of("energy_joules_total", "axp20x-usb")),
        Some(6.528)
    );
}

#[test]
fn discharging_battery_is_the_total_without_a_supply() {
    let tree = axp209();
    let mut bench = Bench::open(&METER, &tree);
    write(
        &tree,
        "axp20x-usb",
        &[("online", "0"), ("current_now", "0")],
    );
    bench.poll(1.0);
    assert_eq!(bench.value("power_total_watts"), None, "it says Charging");
    assert_eq!(bench.value(&of("power_watts", "axp20x-usb")), None);
    assert_eq!(bench.value(&of("voltage_volts", "axp20x-usb")), Some(5.1));
    write(&tree, "axp20x-battery", &[("status", "Discharging")]);
    bench.poll(2.0);
    assert_eq!(bench.value("power_total_watts"), Some(1.0032));
    write(&tree, "axp20x-battery", &[("present", "0")]);
    let lines = bench.poll(3.0);
    assert_eq!(bench.value("power_total_watts"), None);
    assert!(!lines.iter().any(|l| l.contains("battery")), "{lines:?}");
}

#[test]
fn power_now_is_preferred_and_current_avg_a_fallback() {
    let tree = tree(&[
        (
            "BAT0",
            &[
                ("type", "Battery"),
                ("status", "Discharging"),
                ("power_now", "-8300000"),
                ("voltage_now", "11400000"),
                ("current_now", "1"),
            ],
        ),
        (
            "ups",
            &[
                ("type", "UPS"),
                ("status", "Discharging"),
                ("voltage_now", "12000000"),
                ("current_avg", "-500000"),
            ],
        ),
        ("AC", &[("type", "Mains"), ("online", "0")]),
    ]);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    assert_eq!(bench.value(&of("power_watts", "BAT0")), Some(8.3));
    assert_eq!(bench.value(&of("power_watts", "ups")), Some(6.0));
    assert_eq!(bench.value(&of("current_amperes", "ups")), Some(-0.5));
    assert_eq!(bench.value("power_total_watts"), Some(8.3 + 6.0));
    write(&tree, "AC", &[("online", "1")]);
    bench.poll(2.0);
    assert_eq!(
        bench.value("power_total_watts"),
        None,
        "what comes through AC is not measured"
    );
}

#[test]
fn device_supplies_and_contracts_do_not_count() {
    let tree = tree(&[
        (
            "hidpp_battery_0",
            &[
                ("type", "Battery"),
                ("scope", "Device"),
                ("voltage_now", "3900000"),
            ],
        ),
        (
            "tcpm-source-psy-4-0022",
            &[
                ("type", "USB"),
                ("online", "1"),
                ("voltage_now", "20000000"),
                ("current_now", "3250000"),
            ],
        ),
        (
            "vbus",
            &[
                ("type", "USB"),
                ("scope", "System"),
                ("power_now", "4500000"),
            ],
        ),
    ]);
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(
        bench.poll(1.0),
        [
            of("energy_joules_total", "vbus") + " 0",
            of("power_supply_online", "tcpm-source-psy-4-0022") + " 1",
            "power_total_watts 4.5".to_string(),
            of("power_watts", "vbus") + " 4.5",
        ]
    );
}

#[test]
fn configured_supplies_are_the_total() {
    let tree = axp209();
    let mut config = Config::default();
    config.meters.edit(|settings: &mut Settings| {
        settings.power_total = vec!["axp20x-usb".into(), "axp20x-battery".into()]
    });
    let mut bench = Bench::new(&METER, &tree, config);
    bench.reopen().unwrap();
    bench.poll(1.0);
    assert_eq!(bench.value("power_total_watts"), Some(3.264 + 1.0032));
    write(&tree, "axp20x-battery", &[("present", "0")]);
    bench.poll(2.0);
    assert_eq!(
        bench.value("power_total_watts"),
        None,
        "one of them is missing"
    );
}

#[test]
fn failing_value_takes_only_derived_values_with_it() {
    for break_it in [
        (|tree, path| tree.write(path, "garbage")) as fn(&Tree, &str),
        |tree, path| tree.write(path, ""),
        |tree, path| tree.write(path, b"\xff\xfe\x00"),
        |tree, path| tree.write(path, "99999999999999999999"),
    ] {
        let tree = tree(&[("usb", USB)]);
        let mut bench = Bench::open(&METER, &tree);
        bench.poll(1.0);
        assert_eq!(bench.value("power_total_watts"), Some(3.264));
        break_it(&tree, "sys/class/power_supply/usb/current_now");
        assert_eq!(
            bench.poll(2.0),
            [
                of("power_supply_online", "usb") + " 1",
                of("voltage_volts", "usb") + " 5.1",
            ]
        );
        assert_eq!(bench.context.health.errors(), 1);
        write(&tree, "usb", &[("current_now", "640000")]);
        bench.poll(3.0);
        assert_eq!(bench.value("power_total_watts"), Some(3.264));
    }
}

#[test]
fn fifos_do_not_block() {
    let tree = tree(&[("usb", USB), ("bat", &[("voltage_now", "4000000")])]);
    for name in ["usb/current_now", "usb/type", "bat/scope", "bat/status"] {
        let path = format!("sys/class/power_supply/{name}");
        if tree.path(&path).exists() {
            tree.remove(&path);
        }
        tree.fifo(&path);
    }
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(
        bench.poll(1.0),
        [
            of("power_supply_online", "usb") + " 1",
            of("voltage_volts", "bat") + " 4",
            of("voltage_volts", "usb") + " 5.1",
        ]
    );
}

#[test]
fn added_and_removed_supplies_leave_the_others() {
    let tree = tree(&[
        ("usb", USB),
        ("old", &[("type", "Mains"), ("power_now", "1000000")]),
    ]);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(0.0);
    bench.poll(1.0);
    tree.remove("sys/class/power_supply/old");
    write(
        &tree,
        "new",
        &[("type", "Wireless"), ("power_now", "2000000")],
    );
    bench.rescan();
    bench.poll(2.0);
    assert_eq!(bench.value(&of("power_watts", "old")), None);
    assert_eq!(bench.value(&of("energy_joules_total", "usb")), Some(6.528));
    assert_eq!(bench.value("power_total_watts"), Some(3.264 + 2.0));
    write(&tree, "old", &[("type", "Mains"), ("power_now", "1000000")]);
    bench.rescan();
    bench.poll(3.0);
    bench.poll(4.0);
    assert_eq!(
        bench.value(&of("energy_joules_total", "old")),
        Some(2.0),
        "the joule from before it went, and the one since it is back"
    );
}

#[test]
fn error_without_supplies_names_the_path() {
    let tree = tree(&[("mouse", &[("type", "Battery"), ("scope", "Device")])]);
    let mut bench = Bench::new(&METER, &tree, Config::default());
    let error = bench.probe().unwrap_err().to_string();
    assert!(error.ends_with("class/power_supply has no supply of the board's"));
    assert!(bench.reopen().is_err());
}

#[test]
fn zero_power_with_a_current_is_voltage_times_current() {
    for (power, volts, amperes, watts) in [
        ("0", "3800000", "1310000", Some(4.978)),
        ("0", "3800000", "-1310000", Some(4.978)),
        ("0", "3800000", "0", Some(0.0)),
        ("0", "garbage", "1310000", Some(0.0)),
        ("5200000", "3800000", "1310000", Some(5.2)),
        ("garbage", "3800000", "1310000", Some(4.978)),
    ] {
        let tree = tree(&[(
            "axp20x-battery",
            &[
                ("type", "Battery"),
                ("status", "Discharging"),
                ("power_now", power),
                ("voltage_now", volts),
                ("current_now", amperes),
            ],
        )]);
        let mut bench = Bench::open(&METER, &tree);
        bench.poll(1.0);
        let found = bench.value(&of("power_watts", "axp20x-battery"));
        assert_eq!(found, watts, "{power} {volts} {amperes}");
        assert_eq!(bench.value("power_total_watts"), watts);
    }
}

#[test]
fn battery_state_is_exported_while_present_and_known() {
    let tree = tree(&[
        (
            "BAT0",
            &[
                ("type", "Battery"),
                ("present", "1"),
                ("capacity", "81"),
                ("energy_now", "40500000"),
                ("energy_full", "50000000"),
                ("energy_full_design", "-1"),
                ("cycle_count", "0"),
            ],
        ),
        (
            "bq27411-0",
            &[
                ("type", "Battery"),
                ("capacity", "255"),
                ("charge_now", "2500000"),
                ("charge_full", "4294967295"),
                ("charge_full_design", "full"),
                ("cycle_count", "12"),
            ],
        ),
        (
            "wacom_battery_0",
            &[("type", "Battery"), ("scope", "Device"), ("capacity", "5")],
        ),
        ("AC", &[("type", "Mains"), ("online", "1")]),
    ]);
    let mut bench = Bench::open(&METER, &tree);
    let lines = bench.poll(1.0);
    assert_eq!(
        lines,
        [
            of("power_supply_capacity_ratio", "BAT0") + " 0.81",
            of("power_supply_charge_coulombs", "bq27411-0") + " 9000",
            of("power_supply_charge_cycles", "bq27411-0") + " 12",
            of("power_supply_energy_full_joules", "BAT0") + " 180000",
            of("power_supply_energy_joules", "BAT0") + " 145800",
            of("power_supply_online", "AC") + " 1",
        ]
    );
    // -1, 255 % and all bits set; no cycles are not known by the ABI.
    assert_eq!(bench.context.health.implausible(), 3);
    write(&tree, "BAT0", &[("present", "0")]);
    let lines = bench.poll(2.0);
    assert!(!lines.iter().any(|l| l.contains("BAT0")), "{lines:?}");
}
