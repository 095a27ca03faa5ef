//! Values that fail, and chips that come and go.

use super::*;

#[test]
fn failing_value_leaves_the_others() {
    let temp = [("name", "lm75"), ("temp1_input", "20500")];
    let file = format!("{BUS}/1-0040/hwmon/hwmon0/power1_input");
    for break_it in [
        (|tree, path| tree.write(path, "garbage")) as fn(&Tree, &str),
        |tree, path| tree.write(path, ""),
        |tree, path| tree.write(path, "\0\0"),
        |tree, path| tree.write(path, "123456789012345678901234567890"),
        |tree, path| tree.write(path, "1 ".repeat(10_000)),
    ] {
        let tree = board(&[("1-0040", INA226), ("1-0048", &temp)]);
        let mut bench = Bench::open(&METER, &tree);
        bench.poll(1.0);
        break_it(&tree, &file);
        assert_eq!(
            bench.poll(2.0),
            [
                of("current_amperes", "ina226-1-0040:power1") + " 1.204",
                sensor("lm75-1-0048:temp1") + " 20.5",
                of("voltage_volts", "ina226-1-0040:power1") + " 5.103",
            ]
        );
        assert_eq!(bench.context.health.errors(), 1);
        tree.write(&file, "7000000\n");
        assert_eq!(bench.poll(3.0).len(), 6);
        assert_eq!(bench.value("power_total_watts"), Some(7.0));
    }
}

#[test]
fn fifos_and_folders_do_not_block() {
    let tree = board(&[("1-0040", INA226)]);
    let dir = format!("{BUS}/1-0040/hwmon/hwmon0");
    for name in ["power1_input", "in1_input"] {
        tree.remove(&format!("{dir}/{name}"));
    }
    tree.fifo(&format!("{dir}/power1_input"));
    tree.fifo(&format!("{dir}/in1_label"));
    tree.fifo(&format!("{dir}/curr1_enable"));
    tree.write(&format!("{dir}/in1_input/is_a_folder"), "");
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(
        bench.poll(1.0),
        [of("current_amperes", "ina226-1-0040:power1") + " 1.204"]
    );
}

#[test]
fn added_and_removed_chips_leave_the_others() {
    let tree = board(&[("1-0040", INA226), ("1-0041", INA226)]);
    let energy = |rail: &str| of("energy_joules_total", rail);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    bench.poll(2.0);
    assert_eq!(bench.value("power_total_watts"), None);
    remove(&tree, 1, &format!("{BUS}/1-0041"));
    bench.rescan();
    bench.poll(3.0);
    assert_eq!(bench.value(&energy("ina226-1-0040:power1")), Some(12.288));
    assert_eq!(bench.value(&energy("ina226-1-0041:power1")), None);
    assert_eq!(
        bench.value("power_total_watts"),
        Some(6.144),
        "now it is the only one"
    );
    add(&tree, 5, &format!("{BUS}/1-0041"), INA226);
    bench.rescan();
    bench.poll(4.0);
    bench.poll(5.0);
    assert_eq!(bench.value(&energy("ina226-1-0040:power1")), Some(24.576));
    assert_eq!(
        bench.value(&energy("ina226-1-0041:power1")),
        Some(12.288),
        "what it had, and the second since it is back"
    );
    assert_eq!(bench.value("power_total_watts"), None, "which of the two?");
    assert_eq!(bench.value("board_energy_joules_total"), None);
}

#[test]
fn complaints_about_removed_chips_are_dropped() {
    let tree = board(&[("1-0040", INA226), ("1-0041", INA226)]);
    let mut bench = Bench::open(&METER, &tree);
    for chip in ["1-0040/hwmon/hwmon0", "1-0041/hwmon/hwmon1"] {
        tree.write(&format!("{BUS}/{chip}/power1_input"), "garbage");
    }
    bench.poll(1.0);
    let health = Arc::clone(&bench.context.health);
    bench.rescan();
    assert_eq!(health.value_errors().len(), 2, "they are still there");
    remove(&tree, 1, &format!("{BUS}/1-0041"));
    bench.rescan();
    bench.poll(2.0);
    let [complaint] = &health.value_errors()[..] else {
        panic!("{:?}", health.value_errors());
    };
    assert!(complaint.contains("1-0040"), "{complaint}");
}

#[test]
fn descriptors_are_kept_open_and_closed_with_the_chip() {
    let open_files = |tree: &Tree| {
        let ours = tree.path("sys").canonicalize().unwrap();
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .filter(|target| target.starts_with(&ours))
            .count()
    };
    let tree = board(&[("1-0040", INA226), ("1-0041", INA226)]);
    let mut bench = Bench::open(&METER, &tree);
    for second in 1..10 {
        bench.poll(f64::from(second));
        bench.rescan();
    }
    assert_eq!(open_files(&tree), 6);
    remove(&tree, 0, &format!("{BUS}/1-0040"));
    bench.rescan();
    assert_eq!(open_files(&tree), 3);
}

#[test]
fn error_without_chips_names_the_path() {
    let tree = Tree::new(&[("sys/class/hwmon/hwmon0/name", "pwmfan\n")]);
    let mut bench = Bench::new(&METER, &tree, Config::default());
    let error = bench.probe().unwrap_err().to_string();
    assert!(
        error.contains("class/hwmon has no chip that measures"),
        "{error}"
    );
    assert!(bench.reopen().is_err());
}
