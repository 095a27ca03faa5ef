//! By MSR.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::{bench_by, joules, processor, server, watts};
use crate::sources::rapl::settings::Interface;
use crate::sources::rapl::METER;
use crate::sources::testing::{Bench, Tree};

/// A processor's registers, each eight bytes long.
fn registers(tree: &Tree, cpu: u32, values: &[(u64, u64)]) {
    let path = format!("dev/cpu/{cpu}/msr");
    if !tree.path(&path).exists() {
        tree.write(&path, "");
    }
    let file = OpenOptions::new().write(true).open(tree.path(&path));
    let file = file.unwrap();
    for (register, value) in values {
        file.write_all_at(&value.to_le_bytes(), register * 8)
            .unwrap();
    }
}

/// Processors by number, package and the core's threads.
fn topology(tree: &Tree, cpus: &[(u32, u32, &str)]) {
    for (cpu, package, threads) in cpus {
        let path = |file| format!("sys/devices/system/cpu/cpu{cpu}/topology/{file}");
        tree.write(&path("physical_package_id"), package.to_string());
        tree.write(&path("thread_siblings_list"), threads);
    }
    tree.write(
        "sys/devices/system/cpu/online",
        format!("0-{}\n", cpus.len() - 1),
    );
}

const INTEL_UNITS: (u64, u64) = (0x606, 0x000a_0e03);

#[test]
fn intel_registers_are_read_without_zones() {
    let tree = Tree::new(&[]);
    processor(&tree, "GenuineIntel", 6, 0x9e, "sse");
    topology(&tree, &[(0, 0, "0-1"), (1, 0, "0-1")]);
    registers(
        &tree,
        0,
        &[
            INTEL_UNITS,
            // Above the counter's 32 bits there may be anything.
            (0x611, 0xdead_beef_ffff_ffff),
            (0x639, 0x1000),
            (0x641, 0x1000),
            // No memory counter: it reads 0. No platform counter: the file ends before it.
            (0x619, 0),
        ],
    );
    let mut bench = Bench::open(&METER, &tree);
    assert_eq!(bench.probe().unwrap(), "package-0 by MSR");
    bench.poll(1.0);
    registers(&tree, 0, &[(0x611, 16383), (0x639, 0x1000 + 8192)]);
    assert_eq!(
        bench.poll(2.0),
        [
            r#"energy_joules_total{rail="core-0",source="rapl"} 0.5"#,
            r#"energy_joules_total{rail="package-0",source="rapl"} 1"#,
            r#"energy_joules_total{rail="uncore-0",source="rapl"} 0"#,
            "power_package_watts 1",
            "power_total_watts 1",
            r#"power_watts{rail="core-0",source="rapl"} 0.5"#,
            r#"power_watts{rail="package-0",source="rapl"} 1"#,
            r#"power_watts{rail="uncore-0",source="rapl"} 0"#,
        ]
    );
}

#[test]
fn server_memory_has_its_own_unit() {
    let tree = Tree::new(&[]);
    processor(&tree, "GenuineIntel", 6, 0x55, "");
    topology(&tree, &[(0, 0, "0"), (1, 1, "1")]);
    for cpu in 0..2 {
        let counters = [INTEL_UNITS, (0x611, 1), (0x619, 1), (0x64d, 0)];
        registers(&tree, cpu, &counters);
    }
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    registers(&tree, 1, &[(0x611, 1 + 32768), (0x619, 1 + 1_000_000)]);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "package-0"), Some(0.0));
    assert_eq!(watts(&bench, "package-1"), Some(2.0));
    let dram = watts(&bench, "dram-1").unwrap();
    assert!((dram - 15.3).abs() < 1e-9, "{dram}");
    assert_eq!(watts(&bench, "psys"), None);
}

/// One AMD package of eight cores with two threads each.
fn amd() -> Tree {
    let tree = Tree::new(&[]);
    processor(&tree, "AuthenticAMD", 25, 0x21, "");
    let threads: Vec<String> = (0..8).map(|core| format!("{core},{}", core + 8)).collect();
    let cpus: Vec<_> = (0..16)
        .map(|cpu| (cpu, 0, threads[cpu as usize % 8].as_str()))
        .collect();
    topology(&tree, &cpus);
    for cpu in 0..16 {
        let counters = [
            (0xc001_0299, 0x000a_1003),
            (0xc001_029a, 0xffff_0000 + u64::from(cpu % 8)),
            (0xc001_029b, 7),
        ];
        registers(&tree, cpu, &counters);
    }
    tree
}

#[test]
fn amd_cores_are_summed_once_each() {
    let tree = amd();
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    for cpu in 0..16 {
        // Each core: 65536 units of 2^-16 J, over a wrap.
        registers(&tree, cpu, &[(0xc001_029a, u64::from(cpu % 8))]);
        registers(&tree, cpu, &[(0xc001_029b, 7 + 20 * 65536)]);
    }
    bench.poll(2.0);
    assert_eq!(watts(&bench, "core-0"), Some(8.0));
    assert_eq!(watts(&bench, "package-0"), Some(20.0));
    assert_eq!(bench.value("power_total_watts"), Some(20.0));
}

#[test]
fn energy_of_an_unreadable_core_is_added_later() {
    let tree = amd();
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    for cpu in 0..8 {
        registers(&tree, cpu, &[(0xc001_029a, u64::from(cpu))]);
    }
    // The file ends before the register: reading it fails.
    tree.write("dev/cpu/3/msr", "");
    bench.poll(2.0);
    assert_eq!(watts(&bench, "core-0"), None);
    assert_eq!(watts(&bench, "package-0"), Some(0.0));
    registers(&tree, 3, &[(0xc001_029a, 3)]);
    bench.poll(3.0);
    assert_eq!(joules(&bench, "core-0"), Some(8.0));
    // After a sleep of a minute one of them has begun anew: the sum is not known, but goes on.
    registers(&tree, 5, &[(0xc001_029a, 0)]);
    bench.poll(63.0);
    assert_eq!(watts(&bench, "core-0"), None);
    registers(&tree, 5, &[(0xc001_029a, 65536)]);
    bench.poll(64.0);
    assert_eq!(watts(&bench, "core-0"), Some(1.0));
    assert_eq!(joules(&bench, "core-0"), Some(9.0));
}

#[test]
fn registers_are_reopened_when_processors_change() {
    let tree = Tree::new(&[]);
    processor(&tree, "GenuineIntel", 6, 0x9e, "");
    topology(&tree, &[(0, 0, "0"), (1, 0, "1")]);
    for cpu in 0..2 {
        registers(&tree, cpu, &[INTEL_UNITS, (0x611, 1)]);
    }
    let mut bench = Bench::open(&METER, &tree);
    bench.poll(1.0);
    tree.write("sys/devices/system/cpu/cpu0/online", "0\n");
    tree.write("sys/devices/system/cpu/online", "1\n");
    bench.rescan();
    bench.poll(2.0);
    registers(&tree, 1, &[(0x611, 1 + 16384)]);
    bench.poll(3.0);
    assert_eq!(watts(&bench, "package-0"), Some(1.0));
}

#[test]
fn configured_interface_is_used() {
    let tree = server();
    processor(&tree, "GenuineIntel", 6, 0x55, "");
    topology(&tree, &[(0, 0, "0")]);
    registers(&tree, 0, &[INTEL_UNITS, (0x611, 1)]);
    let found = |interface| bench_by(&tree, interface).probe().unwrap();
    let by_powercap = "package-0, dram-0, package-1, dram-1 by powercap";
    assert_eq!(found(Interface::Auto), by_powercap);
    assert_eq!(found(Interface::Powercap), by_powercap);
    assert_eq!(found(Interface::Msr), "package-0 by MSR");
    let mut bench = bench_by(&tree, Interface::Msr);
    bench.reopen().unwrap();
    bench.poll(1.0);
    bench.rescan();
    registers(&tree, 0, &[(0x611, 1 + 3 * 16384)]);
    bench.poll(2.0);
    assert_eq!(watts(&bench, "package-0"), Some(3.0));
    assert_eq!(watts(&bench, "package-1"), None);
}

#[test]
fn error_names_missing_device_or_counters() {
    let tree = Tree::new(&[]);
    processor(&tree, "GenuineIntel", 6, 0x9e, "hypervisor");
    topology(&tree, &[(0, 0, "0")]);
    let error = |interface| {
        let mut bench = bench_by(&tree, interface);
        let probe = bench.probe().err().map(|e| e.to_string());
        let open = bench.reopen().unwrap_err().to_string();
        (probe.unwrap_or_default(), open)
    };
    let (probe, open) = error(Interface::Msr);
    assert!(
        probe.ends_with("msr is not there (modprobe msr)"),
        "{probe}"
    );
    assert!(
        open.ends_with("msr: no such file or directory (modprobe msr)"),
        "{open}"
    );

    registers(&tree, 0, &[INTEL_UNITS, (0x611, 0)]);
    let (probe, open) = error(Interface::Auto);
    assert!(
        probe.ends_with("a virtual machine has no RAPL registers"),
        "{probe}"
    );
    assert!(
        open.ends_with("none of the RAPL registers counts"),
        "{open}"
    );

    registers(&tree, 0, &[(0x606, 0), (0x611, 1)]);
    let (_, open) = error(Interface::Auto);
    assert!(open.ends_with("msr is empty"), "{open}");

    tree.remove("dev/cpu/0/msr");
    tree.fifo("dev/cpu/0/msr");
    let (_, open) = error(Interface::Msr);
    assert!(open.ends_with("msr is not a device"), "{open}");
}
