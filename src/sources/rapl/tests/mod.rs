//! The meter on trees shaped as the kernel makes them.

mod alias;
mod events;
mod registers;
mod zones;

use crate::config::Config;
use crate::sources::rapl::settings::{Interface, Settings};
use crate::sources::testing::{Bench, Tree};

use super::METER;

/// What 32 bits of 61.035 µJ come to, in microjoules.
const RANGE: u64 = 262_143_328_850;

fn zone(tree: &Tree, zone: &str, name: &str, range: u64, energy: u64) {
    let path = |file| format!("sys/class/powercap/{zone}/{file}");
    tree.write(&path("name"), format!("{name}\n"));
    tree.write(&path("max_energy_range_uj"), format!("{range}\n"));
    tree.write(&path("enabled"), "0\n");
    count(tree, zone, energy);
}

fn count(tree: &Tree, zone: &str, energy: u64) {
    let path = format!("sys/class/powercap/{zone}/energy_uj");
    tree.write(&path, format!("{energy}\n"));
}

fn bench_by(tree: &Tree, interface: Interface) -> Bench {
    let mut config = Config::default();
    config
        .meters
        .edit(|rapl: &mut Settings| rapl.interface = interface);
    Bench::new(&METER, tree, config)
}

fn watts(bench: &Bench, rail: &str) -> Option<f64> {
    bench.value(&format!("power_watts{{rail=\"{rail}\",source=\"rapl\"}}"))
}

fn joules(bench: &Bench, rail: &str) -> Option<f64> {
    bench.value(&format!(
        "energy_joules_total{{rail=\"{rail}\",source=\"rapl\"}}"
    ))
}

fn processor(tree: &Tree, vendor: &str, family: u32, model: u32, flags: &str) {
    let text = format!(
        "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nflags\t\t: fpu {flags}\n\n"
    );
    tree.write("proc/cpuinfo", text);
}

/// Two packages with memory, as a server has them.
fn server() -> Tree {
    let tree = Tree::new(&[]);
    for package in 0..2 {
        let name = format!("package-{package}");
        zone(&tree, &format!("intel-rapl:{package}"), &name, RANGE, 1_000);
        zone(
            &tree,
            &format!("intel-rapl:{package}:0"),
            "dram",
            65_712_999_613,
            1_000,
        );
    }
    tree
}
