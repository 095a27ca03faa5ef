//! The meter on small trees, with links as sysfs has them.

use super::*;
use crate::sources::testing::{Bench, Tree};
use crate::sources::{hwmon, select_meters};

const MODEL: &str = "proc/device-tree/model";

fn jetson() -> Tree {
    Tree::new(&[(MODEL, "NVIDIA Jetson AGX Orin Developer Kit\0")])
}

/// Puts a chip at `address`, bound to `driver`, with these files in the folder that the driver makes.
fn add(tree: &Tree, driver: &str, address: &str, folder: &str, files: &[(&str, &str)]) -> String {
    let device = format!("sys/devices/platform/bus@0/i2c-1/{address}");
    let dir = format!("{device}/{folder}");
    for (name, content) in files {
        tree.write(&format!("{dir}/{name}"), format!("{content}\n"));
    }
    tree.write(&format!("sys/bus/i2c/drivers/{driver}/uevent"), "");
    tree.link(&format!("sys/bus/i2c/drivers/{driver}/{address}"), &device);
    if folder.starts_with("hwmon") {
        tree.link(&format!("{dir}/device"), &device);
        let name = folder.trim_start_matches("hwmon/");
        tree.link(&format!("sys/class/hwmon/{name}"), &dir);
    }
    dir
}

const ORIN_0X40: &[(&str, &str)] = &[
    ("name", "ina3221"),
    ("in1_label", "VDD_GPU_SOC"),
    ("in1_input", "20000"),
    ("curr1_input", "100"),
    ("in2_label", "VDD_CPU_CV"),
    ("in2_input", "20000"),
    ("curr2_input", "-10"),
    ("in3_label", "VIN_SYS_5V0"),
    ("in3_input", "5000"),
    ("curr3_input", "700"),
    ("in4_input", "1"),
    ("curr4_input", "790"),
    ("in7_label", "sum of shunt voltages"),
    ("in7_input", "3"),
];
const ORIN_0X41: &[(&str, &str)] = &[
    ("name", "ina3221"),
    ("in1_label", "NC"),
    ("in1_input", "0"),
    ("curr1_input", "0"),
    ("in2_label", "VDDQ_VDD2_1V8AO"),
    ("in2_input", "5000"),
    ("curr2_input", "180"),
    ("in3_label", "NC"),
    ("in3_input", "0"),
    ("curr3_input", "0"),
];

fn orin() -> Tree {
    let tree = jetson();
    add(&tree, "ina3221", "1-0040", "hwmon/hwmon1", ORIN_0X40);
    add(&tree, "ina3221", "1-0041", "hwmon/hwmon2", ORIN_0X41);
    tree
}

fn of(family: &str, rail: &str) -> String {
    format!("{family}{{rail=\"{rail}\",source=\"ina3221\"}}")
}

#[test]
fn two_chips_with_hwmon_files() {
    let tree = orin();
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(
        bench.probe().unwrap(),
        "chips: 1-0040 (VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0), 1-0041 (VDDQ_VDD2_1V8AO)"
    );
    let lines = bench.poll(1.0);
    let rails = 4;
    assert_eq!(lines.len(), 5 * rails + 2, "{lines:#?}");
    for (rail, volts, amperes, watts) in [
        ("VDD_GPU_SOC", 20.0, 0.1, 2.0),
        ("VDD_CPU_CV", 20.0, -0.01, -0.2),
        ("VIN_SYS_5V0", 5.0, 0.7, 3.5),
        ("VDDQ_VDD2_1V8AO", 5.0, 0.18, 0.9),
    ] {
        let named = format!("jetson_power_{}_watts", rail.to_lowercase());
        assert_eq!(bench.value(&named), Some(watts));
        assert_eq!(bench.value(&of("power_watts", rail)), Some(watts));
        assert_eq!(bench.value(&of("voltage_volts", rail)), Some(volts));
        assert_eq!(bench.value(&of("current_amperes", rail)), Some(amperes));
    }
    assert_eq!(bench.value("power_total_watts"), Some(5.3));
    assert_eq!(bench.value("power_gpu_watts"), Some(2.0));
    bench.poll(3.0);
    let energy = |rail| bench.value(&of("energy_joules_total", rail));
    assert_eq!(energy("VIN_SYS_5V0"), Some(7.0));
    assert_eq!(energy("VDD_CPU_CV"), Some(0.0));
}

#[test]
fn unreadable_rail_takes_only_the_total_with_it() {
    let tree = orin();
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    let file = "sys/class/hwmon/hwmon1/curr3_input";
    tree.write(file, "");
    bench.poll(2.0);
    assert_eq!(bench.value("jetson_power_vin_sys_5v0_watts"), None);
    assert_eq!(bench.value(&of("voltage_volts", "VIN_SYS_5V0")), Some(5.0));
    assert_eq!(bench.value("power_total_watts"), None);
    assert_eq!(bench.value("power_gpu_watts"), Some(2.0));
    tree.write(file, "700\n");
    bench.poll(3.0);
    assert_eq!(bench.value("power_total_watts"), Some(5.3));
}

#[test]
fn jetpack_4_with_iio_files() {
    let tree = Tree::new(&[(MODEL, "NVIDIA Jetson Nano Developer Kit\0")]);
    let dir = add(
        &tree,
        "ina3221x",
        "6-0040",
        "iio:device0",
        &[
            ("rail_name_0", "POM_5V_IN"),
            ("in_voltage0_input", "5080"),
            ("in_current0_input", "400"),
            ("in_power0_input", "2032"),
            ("rail_name_1", "POM_5V_GPU"),
            ("in_voltage1_input", "5080"),
            ("in_current1_input", "8"),
            ("in_power1_input", "40"),
            ("rail_name_2", "NC"),
            ("in_voltage2_input", "0"),
            ("in_current2_input", "0"),
            ("in_power2_input", "0"),
        ],
    );
    let mut bench = Bench::open(&METER, &tree);
    let lines = bench.poll(1.0);
    assert_eq!(lines.len(), 12, "{lines:#?}");
    assert_eq!(bench.value("jetson_power_pom_5v_in_watts"), Some(2.032));
    assert_eq!(bench.value("power_total_watts"), Some(2.032));
    assert_eq!(bench.value("power_gpu_watts"), Some(0.04));
    let amperes = of("current_amperes", "POM_5V_IN");
    assert_eq!(bench.value(&amperes), Some(0.4));
    tree.write(&format!("{dir}/in_power0_input"), "x");
    bench.poll(2.0);
    assert_eq!(bench.value("power_total_watts"), None);
    assert_eq!(bench.value(&amperes), Some(0.4));
}

#[test]
fn input_of_thor_is_an_ina238() {
    let files: &[(&str, &str)] = &[
        ("name", "ina238"),
        ("in0_input", "4"),
        ("in1_input", "20080"),
        ("curr1_input", "985"),
        ("power1_input", "19780000"),
        ("temp1_input", "38000"),
    ];
    for driver in ["ina238", "ina2xx"] {
        let tree = Tree::new(&[(MODEL, "NVIDIA Jetson AGX Thor Developer Kit\0")]);
        let dir = add(&tree, driver, "2-0044", "hwmon/hwmon4", files);
        // A chip added by the user, with the same driver.
        let own = [("name", "ina226"), ("in1_input", "1"), ("curr1_input", "1")];
        add(&tree, driver, "2-004a", "hwmon/hwmon5", &own);
        let mut bench = Bench::open(&METER, &tree);
        assert_eq!(bench.probe().unwrap(), "chips: 2-0044 (VIN)");
        bench.poll(1.0);
        assert_eq!(bench.value("jetson_power_vin_watts"), Some(19.78));
        assert_eq!(bench.value("power_total_watts"), Some(19.78));
        assert_eq!(bench.value(&of("voltage_volts", "VIN")), Some(20.08));
        tree.write(&format!("{dir}/label"), "VIN_MAIN\n");
        assert_eq!(bench.probe().unwrap(), "chips: 2-0044 (VIN_MAIN)");
    }
}

#[test]
fn rebound_driver_is_found() {
    let tree = orin();
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    let device = "sys/devices/platform/bus@0/i2c-1/1-0040";
    tree.remove(&format!("{device}/hwmon"));
    bench.poll(2.0);
    assert_eq!(bench.value("power_total_watts"), Some(5.3), "still open");
    for (name, content) in ORIN_0X40 {
        tree.write(&format!("{device}/hwmon/hwmon7/{name}"), content);
    }
    tree.write(&format!("{device}/hwmon/hwmon7/curr1_input"), "200");
    bench.rescan();
    bench.poll(3.0);
    assert_eq!(bench.value("jetson_power_vdd_gpu_soc_watts"), Some(4.0));
}

#[test]
fn rails_of_one_name_get_suffixes() {
    let tree = orin();
    add(&tree, "ina3221", "7-0040", "hwmon/hwmon3", ORIN_0X41);
    let bench = Bench::open(&METER, &tree);
    let found = bench.probe().unwrap();
    assert!(
        found.ends_with("7-0040 (VDDQ_VDD2_1V8AO-2)"),
        "no two series of one name: {found}"
    );
}

#[test]
fn only_labelled_chips_of_a_jetson_count() {
    let pi = Tree::new(&[(MODEL, "Raspberry Pi 5 Model B Rev 1.0\0")]);
    add(&pi, "ina3221", "1-0040", "hwmon/hwmon1", ORIN_0X40);
    let bench = Bench::new(&METER, &pi, Config::default());
    let error = bench.probe().unwrap_err().to_string();
    assert!(error.ends_with("has no INA3221 or INA238 of a Jetson"));

    let own = jetson();
    let unlabelled = [
        ("name", "ina3221"),
        ("in1_input", "1"),
        ("curr1_input", "1"),
    ];
    add(&own, "ina3221", "1-0042", "hwmon/hwmon1", &unlabelled);
    let bench = Bench::new(&METER, &own, Config::default());
    assert!(bench.probe().is_err());
    let hwmon = Bench::new(&hwmon::METER, &own, Config::default());
    assert_eq!(hwmon.probe().unwrap(), "chips: ina3221-1-0042");
}

/// The names of the meters that are selected, with tegrastats installed, and what is claimed.
fn choose(tree: &Tree, config: &Config) -> (Vec<&'static str>, Claims) {
    let mut config = config.clone();
    config
        .meters
        .edit(|settings: &mut Settings| settings.tegrastats = Some("/bin/sh".into()));
    let mut board = Board::detect(tree.roots());
    let chosen = select_meters(&mut board, &config).meters;
    let names = chosen.iter().map(|(meter, _)| meter.name);
    (names.collect(), board.claims)
}

#[test]
fn claimed_chips_are_skipped_by_other_meters() {
    let tree = orin();
    let other = [("name", "ina226"), ("in1_input", "1"), ("curr1_input", "1")];
    add(&tree, "ina2xx", "1-0048", "hwmon/hwmon5", &other);
    let (names, claims) = choose(&tree, &Config::default());
    assert_eq!(names, ["ina3221", "tegrastats", "hwmon"]);
    let rails = [
        "VDD_GPU_SOC",
        "VDD_CPU_CV",
        "VIN_SYS_5V0",
        "VDDQ_VDD2_1V8AO",
    ];
    assert_eq!(claims.rails, rails);
    let mut board = Board::detect(tree.roots());
    board.claims = claims;
    let found = (hwmon::METER.probe)(&board, &Config::default()).unwrap();
    assert_eq!(found, "chips: ina226-1-0048");
}

#[test]
fn tegrastats_reads_power_if_configured_or_alone() {
    let tree = orin();
    let mut config = Config::default();
    config
        .meters
        .edit(|settings: &mut Settings| settings.use_tegrastats = true);
    let (names, claims) = choose(&tree, &config);
    assert_eq!(names, ["tegrastats"], "and hwmon has nothing left");
    assert!(claims.rails.is_empty());

    config
        .meters
        .edit(|settings: &mut Settings| settings.enabled = Switch::Off);
    let (names, claims) = choose(&tree, &config);
    assert_eq!(names, ["hwmon"], "nobody claims the chips");
    assert_eq!(claims, Claims::default());

    let config = Config::default();
    tree.remove("sys/class/hwmon/hwmon1/curr2_input");
    let (names, claims) = choose(&tree, &config);
    assert_eq!(names, ["tegrastats"], "one rail cannot be read");
    assert!(claims.rails.is_empty());
}
