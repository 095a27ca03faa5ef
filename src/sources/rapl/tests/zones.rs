//! By powercap.

use super::{bench_by, count, joules, server, watts, zone, RANGE};
use crate::config::Config;
use crate::sources::rapl::settings::Interface;
use crate::sources::rapl::METER;
use crate::sources::testing::{Bench, Tree};

#[test]
fn power_is_energy_over_time() {
    let tree = server();
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(
        bench.poll(10.0),
        [
            r#"energy_joules_total{rail="dram-0",source="rapl"} 0"#,
            r#"energy_joules_total{rail="dram-1",source="rapl"} 0"#,
            r#"energy_joules_total{rail="package-0",source="rapl"} 0"#,
            r#"energy_joules_total{rail="package-1",source="rapl"} 0"#,
        ]
    );
    count(&tree, "intel-rapl:0", 100_001_000);
    count(&tree, "intel-rapl:1", 50_001_000);
    count(&tree, "intel-rapl:0:0", 10_001_000);
    assert_eq!(
        bench.poll(12.0),
        [
            r#"energy_joules_total{rail="dram-0",source="rapl"} 10"#,
            r#"energy_joules_total{rail="dram-1",source="rapl"} 0"#,
            r#"energy_joules_total{rail="package-0",source="rapl"} 100"#,
            r#"energy_joules_total{rail="package-1",source="rapl"} 50"#,
            "power_dram_watts 5",
            "power_package_watts 75",
            "power_total_watts 80",
            r#"power_watts{rail="dram-0",source="rapl"} 5"#,
            r#"power_watts{rail="dram-1",source="rapl"} 0"#,
            r#"power_watts{rail="package-0",source="rapl"} 50"#,
            r#"power_watts{rail="package-1",source="rapl"} 25"#,
        ]
    );
}

#[test]
fn zones_wrap_at_their_own_range() {
    let tree = server();
    count(&tree, "intel-rapl:0", RANGE - 3_000_000);
    count(&tree, "intel-rapl:0:0", 65_712_999_613 - 1_000_000);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    count(&tree, "intel-rapl:0", 4_000_000);
    count(&tree, "intel-rapl:0:0", 1_000_000);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "package-0"), Some(7.0));
    assert_eq!(watts(&bench, "dram-0"), Some(2.0));
}

#[test]
fn fall_of_a_zone_without_range_is_a_reset() {
    let tree = Tree::new(&[]);
    zone(&tree, "intel-rapl:0", "package-0", RANGE, 500);
    tree.remove("sys/class/powercap/intel-rapl:0/max_energy_range_uj");
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    count(&tree, "intel-rapl:0", 100);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "package-0"), None);
    assert_eq!(joules(&bench, "package-0"), Some(0.0));
}

#[test]
fn nested_and_flat_zones_are_the_same_zones() {
    let tree = Tree::new(&[]);
    let root = "sys/devices/virtual/powercap/intel-rapl";
    for (path, name) in [
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0/intel-rapl:0:0", "core"),
        ("intel-rapl:0/intel-rapl:0:1", "uncore"),
    ] {
        tree.write(&format!("{root}/{path}/name"), name);
        tree.write(&format!("{root}/{path}/energy_uj"), "5\n");
    }
    // As older kernels' users know it: only the control type in the class directory.
    tree.link("sys/class/powercap/intel-rapl", root);
    let nested = Bench::open(&METER, &tree).probe().unwrap();
    assert_eq!(nested, "package-0, core-0, uncore-0 by powercap");
    // And as it is: everything in it.
    for (link, path) in [
        ("intel-rapl:0", "intel-rapl:0"),
        ("intel-rapl:0:0", "intel-rapl:0/intel-rapl:0:0"),
        ("intel-rapl:0:1", "intel-rapl:0/intel-rapl:0:1"),
    ] {
        tree.link(
            &format!("sys/class/powercap/{link}"),
            &format!("{root}/{path}"),
        );
    }
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(bench.probe().unwrap(), nested);
    assert_eq!(bench.poll(1.0).len(), 3);
}

#[test]
fn dies_and_packages_are_separate_and_mmio_is_not_counted_twice() {
    let tree = Tree::new(&[]);
    zone(&tree, "intel-rapl:0", "package-0-die-0", RANGE, 1);
    zone(&tree, "intel-rapl:1", "package-0-die-1", RANGE, 1);
    zone(&tree, "intel-rapl:1:0", "dram", RANGE, 1);
    zone(&tree, "intel-rapl:2", "psys", RANGE, 1);
    // The kernel has no such thing, but if it had, neither would be lost.
    zone(&tree, "intel-rapl:a", "package-0-die-1", RANGE, 1);
    zone(&tree, "intel-rapl-mmio:0", "package-0-die-0", RANGE, 1);
    zone(&tree, "intel-rapl-mmio:1", "package-1", RANGE, 1);
    // It groups zones, and counts nothing.
    tree.write("sys/class/powercap/intel-rapl/enabled", "1");
    tree.write("sys/class/powercap/intel-rapl:3/name", "limits-only");
    tree.write("sys/class/powercap/dtpm:0/name", "package-7");
    tree.write("sys/class/powercap/dtpm:0/energy_uj", "1");
    assert_eq!(
        Bench::open(&METER, &tree).probe().unwrap(),
        "package-0-die-0, package-0-die-1, dram-0-die-1, psys, package-0-die-1/intel-rapl:a, package-1 by powercap"
    );
}

#[test]
fn psys_is_the_total_once_it_moves() {
    let tree = Tree::new(&[]);
    zone(&tree, "intel-rapl:0", "package-0", RANGE, 1_000_000);
    zone(&tree, "intel-rapl:0:0", "dram", RANGE, 1_000_000);
    zone(&tree, "intel-rapl:1", "psys", RANGE, 1_000_000);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    count(&tree, "intel-rapl:0", 11_000_000);
    count(&tree, "intel-rapl:0:0", 3_000_000);
    bench.poll(2.0);
    assert_eq!(bench.value("power_total_watts"), Some(12.0));
    count(&tree, "intel-rapl:1", 31_000_000);
    bench.poll(3.0);
    assert_eq!(bench.value("power_total_watts"), Some(30.0));
    assert_eq!(
        bench.value("board_energy_joules_total"),
        Some(12.0 + 30.0),
        "it goes on where it was"
    );
    // It stays the total, but what is less than a part of it is not shown.
    count(&tree, "intel-rapl:0", 12_000_000);
    bench.poll(4.0);
    assert_eq!(bench.value("power_total_watts"), None);
    assert_eq!(bench.value("board_energy_joules_total"), Some(42.0));
    count(&tree, "intel-rapl:1", 60_000_000);
    bench.poll(4.5);
    assert_eq!(bench.value("power_total_watts"), Some(58.0));
    assert_eq!(bench.value("board_energy_joules_total"), Some(71.0));
    tree.write("sys/class/powercap/intel-rapl:1/energy_uj", "garbage");
    bench.poll(5.0);
    assert_eq!(bench.value("power_total_watts"), None);
    assert_eq!(bench.value("power_package_watts"), Some(0.0));
}

#[test]
fn psys_below_its_package_is_not_the_total() {
    let tree = Tree::new(&[]);
    zone(&tree, "intel-rapl:0", "package-0", RANGE, 1_000_000);
    zone(&tree, "intel-rapl:1", "psys", RANGE, 1_000_000);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    let (mut package, mut psys, mut second) = (1_000_000, 1_000_000, 1.0);
    let mut poll = |of_package: u64, of_psys: u64| {
        second += 1.0;
        package += of_package * 1_000_000;
        psys += of_psys * 1_000_000;
        count(&tree, "intel-rapl:0", package);
        count(&tree, "intel-rapl:1", psys);
        bench.poll(second);
        (
            bench.value("power_total_watts"),
            bench.value("board_energy_joules_total"),
            watts(&bench, "psys"),
        )
    };
    assert_eq!(poll(32, 3), (Some(32.0), Some(32.0), Some(3.0)));
    // When idle it would be more: the total does not go to and fro.
    assert_eq!(poll(2, 3), (Some(2.0), Some(34.0), Some(3.0)));
    assert_eq!(poll(32, 3), (Some(32.0), Some(66.0), Some(3.0)));
    let complaints = bench.context.health.value_errors();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(
        complaints[0].starts_with("rapl: psys counts less (3.0 W) than packages and memory"),
        "{complaints:?}"
    );
}

#[test]
fn psys_below_packages_and_memory_is_not_the_total() {
    let tree = Tree::new(&[]);
    zone(&tree, "intel-rapl:0", "package-0", RANGE, 1_000_000);
    zone(&tree, "intel-rapl:0:0", "dram", RANGE, 1_000_000);
    zone(&tree, "intel-rapl:1", "psys", RANGE, 1_000_000);
    let mut bench = Bench::open(&METER, &tree);
    for second in 0..4 {
        count(&tree, "intel-rapl:0", 1_000_000 + second * 30_000_000);
        count(&tree, "intel-rapl:0:0", 1_000_000 + second * 10_000_000);
        count(&tree, "intel-rapl:1", 1_000_000 + second * 35_000_000);
        bench.poll(second as f64);
    }
    assert_eq!(bench.value("power_total_watts"), Some(40.0));
    assert_eq!(bench.value("board_energy_joules_total"), Some(120.0));
}

#[test]
fn unreadable_package_does_not_reject_psys() {
    let tree = Tree::new(&[]);
    zone(&tree, "intel-rapl:0", "package-0", RANGE, 1_000_000);
    zone(&tree, "intel-rapl:1", "psys", RANGE, 1_000_000);
    let mut bench = Bench::open(&METER, &tree);
    for second in 0..6 {
        match second {
            2 => tree.write("sys/class/powercap/intel-rapl:0/energy_uj", "garbage"),
            _ => count(&tree, "intel-rapl:0", 1_000_000 + second * 30_000_000),
        }
        count(&tree, "intel-rapl:1", 1_000_000 + second * 40_000_000);
        bench.poll(second as f64);
    }
    assert_eq!(bench.value("power_total_watts"), Some(40.0));
}

#[test]
fn psys_that_stops_is_no_longer_the_total() {
    let tree = Tree::new(&[]);
    zone(&tree, "intel-rapl:0", "package-0", RANGE, 1_000_000);
    zone(&tree, "intel-rapl:1", "psys", RANGE, 1_000_000);
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(0.0);
    let mut energy = 0.0;
    let mut totals = Vec::new();
    for second in 1..=100 {
        count(&tree, "intel-rapl:0", 1_000_000 + second * 10_000_000);
        let psys = second.min(20) * 25_000_000;
        count(&tree, "intel-rapl:1", 1_000_000 + psys);
        bench.poll(second as f64);
        totals.push(bench.value("power_total_watts"));
        let now = bench.value("board_energy_joules_total").unwrap();
        assert!(now >= energy, "it falls at {second}");
        energy = now;
    }
    assert_eq!(totals[19], Some(25.0));
    // Not known for a while, and from then on that of the package.
    let unknown = totals.iter().filter(|total| total.is_none()).count();
    assert!((10..60).contains(&unknown), "{unknown}");
    assert!(totals[20..20 + unknown].iter().all(Option::is_none));
    assert!(totals[20 + unknown..].iter().all(|t| *t == Some(10.0)));
}

#[test]
fn packages_are_numbered_in_hexadecimal() {
    let tree = Tree::new(&[]);
    for package in 0..18u32 {
        let name = format!("package-{package}");
        let id = format!("intel-rapl:{package:x}");
        zone(&tree, &id, &name, RANGE, 1_000_000);
        zone(&tree, &format!("{id}:0"), "dram", RANGE, 1_000_000);
        zone(
            &tree,
            &format!("intel-rapl-mmio:{package:x}"),
            &name,
            RANGE,
            1,
        );
    }
    // Sub-zones have such numbers too.
    for part in 1..12u32 {
        let id = format!("intel-rapl:a:{part:x}");
        zone(&tree, &id, &format!("part{part}"), RANGE, 1_000_000);
    }
    let mut bench = Bench::open(&METER, &tree);
    let found = bench.probe().unwrap();
    let found: Vec<&str> = found.trim_end_matches(" by powercap").split(", ").collect();
    assert_eq!(found.len(), 18 * 2 + 11);
    let packages = found.iter().filter(|rail| rail.starts_with("package-"));
    let expected: Vec<_> = (0..18).map(|n| format!("package-{n}")).collect();
    assert_eq!(
        packages.collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    assert!(found.contains(&"part11-10"), "{found:?}");
    bench.poll(1.0);
    for package in 0..18u64 {
        let id = format!("intel-rapl:{package:x}");
        count(&tree, &id, 1_000_000 + (package + 1) * 1_000_000);
        count(&tree, &format!("{id}:0"), 1_500_000);
    }
    bench.poll(2.0);
    assert_eq!(watts(&bench, "package-10"), Some(11.0));
    assert_eq!(watts(&bench, "package-17"), Some(18.0));
    assert_eq!(bench.value("power_package_watts"), Some(171.0));
    assert_eq!(bench.value("power_dram_watts"), Some(9.0));
    assert_eq!(bench.value("power_total_watts"), Some(180.0));
    assert_eq!(bench.value("board_energy_joules_total"), Some(180.0));
}

#[test]
fn unreadable_zone_takes_only_its_sums_with_it() {
    let tree = server();
    let energy = "sys/class/powercap/intel-rapl:1:0/energy_uj";
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    let mut second = 1.0;
    for broken in ["", "-5", "0x10", "99999999999999999999999"] {
        tree.write(energy, broken);
        second += 0.25;
        bench.poll(second);
        assert_eq!(watts(&bench, "dram-1"), None, "{broken:?}");
        assert_eq!(watts(&bench, "dram-0"), Some(0.0), "{broken:?}");
        assert_eq!(bench.value("power_dram_watts"), None, "{broken:?}");
        assert_eq!(bench.value("power_total_watts"), None, "{broken:?}");
        assert_eq!(bench.value("power_package_watts"), Some(0.0), "{broken:?}");
    }
    tree.write(energy, "3000\n");
    bench.poll(3.0);
    assert_eq!(bench.value("power_dram_watts"), Some(0.001));
}

#[test]
fn packages_can_be_removed_and_added() {
    let tree = server();
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    tree.rename("sys/class/powercap/intel-rapl:1", "gone");
    tree.rename("sys/class/powercap/intel-rapl:1:0", "gone-too");
    bench.rescan();
    count(&tree, "intel-rapl:0", 2_001_000);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "package-1"), None);
    assert_eq!(bench.value("power_package_watts"), Some(2.0));
    tree.rename("gone", "sys/class/powercap/intel-rapl:1");
    tree.rename("gone-too", "sys/class/powercap/intel-rapl:1:0");
    bench.rescan();
    count(&tree, "intel-rapl:0", 3_001_000);
    bench.poll(3.0);
    // The one that stayed went on counting; of the one that came, nothing is known yet.
    assert_eq!(watts(&bench, "package-0"), Some(1.0));
    assert_eq!(bench.value("power_package_watts"), None);
    count(&tree, "intel-rapl:1", 6_001_000);
    bench.poll(4.0);
    assert_eq!(watts(&bench, "package-1"), Some(6.0));
    assert_eq!(bench.value("power_package_watts"), Some(6.0));
}

#[test]
fn permission_error_has_a_hint() {
    let tree = server();
    for zone in ["0", "0:0", "1", "1:0"] {
        use std::os::unix::fs::PermissionsExt;
        let path = tree.path(&format!("sys/class/powercap/intel-rapl:{zone}/energy_uj"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o000)).unwrap();
    }
    let as_nobody = || {
        // For this thread alone: root may read anything.
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
        Bench::new(&METER, &tree, Config::default()).reopen()
    };
    // The tree is not that thread's, which may not take it away.
    let error = std::thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains(
            "intel-rapl:0/energy_uj: permission denied (readable by root only since CVE-2020-8694"
        ),
        "{error}"
    );
}

#[test]
fn error_without_rapl_names_the_paths() {
    let tree = Tree::new(&[]);
    let mut bench = Bench::new(&METER, &tree, Config::default());
    for error in [bench.probe().unwrap_err(), bench.reopen().unwrap_err()] {
        let error = error.to_string();
        assert!(
            error.contains("sys/class/powercap has no intel-rapl zones"),
            "{error}"
        );
        assert!(error.contains("proc/cpuinfo"), "{error}");
    }
    let mut bench = bench_by(&tree, Interface::Powercap);
    for error in [bench.probe().unwrap_err(), bench.reopen().unwrap_err()] {
        assert!(!error.to_string().contains("cpuinfo"), "{error}");
    }
}

#[test]
fn zones_hidden_by_a_container_runtime_have_a_hint() {
    let tree = Tree::new(&[]);
    tree.link(
        "sys/class/powercap/intel-rapl",
        "sys/devices/virtual/powercap/intel-rapl",
    );
    let error = Bench::new(&METER, &tree, Config::default()).probe();
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("no intel-rapl zones (hidden, as container runtimes do: mount"),
        "{error}"
    );
}
