//! By performance events. The PMU of these trees is the kernel's software PMU, whose clock counts the nanoseconds of a
//! processor: real events, where the machine lets this process count them, and real refusals.

use super::{bench_by, joules, processor, server, watts};
use crate::config::Config;
use crate::sources::rapl::settings::Interface;
use crate::sources::rapl::METER;
use crate::sources::testing::{Bench, Tree};
use crate::sys::clock::BootTime;
use crate::sys::perf::testing::{is_allowed_to_all, without_capabilities};
use crate::sys::perf::PerfEvent;

const PMUS: &str = "sys/bus/event_source/devices";
/// `PERF_TYPE_SOFTWARE`, of which event 0 is the clock.
const SOFTWARE: &str = "1\n";
/// 10 nJ for a nanosecond: 10 W.
const SCALE: &str = "1e-08\n";

fn pmu(tree: &Tree, name: &str, kind: &str, cpumask: &str, events: &[&str]) {
    let write = |file: &str, text: &str| tree.write(&format!("{PMUS}/{name}/{file}"), text);
    write("type", kind);
    write("cpumask", cpumask);
    for event in events {
        write(&format!("events/{event}"), "event=0x00\n");
        write(&format!("events/{event}.scale"), SCALE);
        write(&format!("events/{event}.unit"), "Joules\n");
    }
}

/// Processors by number, package and die.
fn topology(tree: &Tree, cpus: &[(u32, u32, u32)]) {
    for (cpu, package, die) in cpus {
        let path = |file| format!("sys/devices/system/cpu/cpu{cpu}/topology/{file}");
        tree.write(&path("physical_package_id"), package.to_string());
        tree.write(&path("die_id"), die.to_string());
        tree.write(&path("thread_siblings_list"), cpu.to_string());
    }
}

/// A package with memory on processor 0.
fn desktop() -> Tree {
    let tree = Tree::new(&[("sys/devices/system/cpu/online", "0-3\n")]);
    topology(&tree, &[(0, 0, 0)]);
    pmu(
        &tree,
        "power",
        SOFTWARE,
        "0\n",
        &["energy-pkg", "energy-ram"],
    );
    let level = "sys/kernel/perf_event_paranoid";
    if let Ok(text) = std::fs::read(format!("/proc/{level}")) {
        tree.write(&format!("proc/{level}"), text);
    }
    tree
}

/// Whether this process may count. Where it may not, the tests see the refusal.
fn may_count() -> bool {
    PerfEvent::open(1, 0, 0).is_ok()
}

fn assert_refused(error: &str) {
    let denied = [
        "energy-pkg on CPU 0: permission denied (needs CAP_PERFMON while kernel.perf_event_paranoid is above 0 (it is ",
        "energy-pkg on CPU 0: operation not permitted (needs CAP_PERFMON, and a filter of system calls",
    ];
    assert!(denied.iter().any(|text| error.contains(text)), "{error}");
}

#[test]
fn events_are_counted_in_their_scale() {
    let tree = desktop();
    let mut bench = Bench::new(&METER, &tree, Config::default());
    assert_eq!(bench.probe().unwrap(), "package-0, dram-0 by perf events");
    if let Err(error) = bench.reopen() {
        assert!(!may_count());
        return assert_refused(&error.to_string());
    }
    let begin = BootTime::now();
    bench.tick().unwrap();
    let first = BootTime::now();
    assert_eq!(joules(&bench, "package-0"), Some(0.0));
    let second = BootTime::now();
    bench.tick().unwrap();
    let end = BootTime::now();
    // The two clocks are not adjusted alike.
    let least = 10.0 * second.seconds_since(first) * 0.9;
    let most = 10.0 * end.seconds_since(begin) * 1.1;
    for rail in ["package-0", "dram-0"] {
        let counted = joules(&bench, rail).unwrap();
        assert!(
            (least..=most).contains(&counted),
            "{least} {counted} {most}"
        );
    }
    let parts = watts(&bench, "package-0").unwrap() + watts(&bench, "dram-0").unwrap();
    assert_eq!(bench.value("power_total_watts"), Some(parts));
}

#[test]
fn pmu_that_cannot_be_counted_by_is_reported_and_does_not_concern_the_other_one() {
    let tree = desktop();
    pmu(&tree, "power_core", SOFTWARE, "0-3\n", &["energy-core"]);
    tree.write(&format!("{PMUS}/power_core/type"), "unknown\n");
    let mut bench = Bench::new(&METER, &tree, Config::default());
    let probe = bench.probe().unwrap();
    let why = "power_core/type is not the number of a PMU but \"unknown\"";
    let first = "package-0, dram-0 by perf events; left out: ";
    assert!(probe.starts_with(first) && probe.ends_with(why), "{probe}");
    if let Err(error) = bench.reopen() {
        assert!(!may_count());
        return assert_refused(&error.to_string());
    }
    assert_eq!(bench.context.health.errors(), 1);
    bench.tick().unwrap();
    assert_eq!(joules(&bench, "dram-0"), Some(0.0));
}

#[test]
fn missing_right_is_reported_with_what_helps() {
    let tree = desktop();
    let opened = without_capabilities(|| Bench::new(&METER, &tree, Config::default()).reopen());
    match opened {
        Ok(()) => assert!(is_allowed_to_all()),
        Err(error) => assert_refused(&error.to_string()),
    }
}

#[test]
fn unreadable_zones_give_way_to_events() {
    let tree = server();
    let events = desktop();
    for folder in ["bus", "devices"] {
        std::fs::rename(
            events.path("sys").join(folder),
            tree.path("sys").join(folder),
        )
        .unwrap();
    }
    for zone in ["0", "0:0", "1", "1:0"] {
        use std::os::unix::fs::PermissionsExt;
        let path = tree.path(&format!("sys/class/powercap/intel-rapl:{zone}/energy_uj"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o000)).unwrap();
    }
    let (probe, opened) = without_capabilities(|| {
        let mut bench = Bench::new(&METER, &tree, Config::default());
        (bench.probe().unwrap(), bench.reopen())
    });
    assert_eq!(probe, "package-0, dram-0 by perf events");
    match opened {
        Ok(()) => assert!(is_allowed_to_all()),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("since CVE-2020-8694"), "{error}");
            assert_refused(&error);
            assert!(!error.contains("cpuinfo"), "{error}");
        }
    }
    // The right to count helps, the files' owner does not matter.
    let as_nobody = || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
        let mut bench = Bench::new(&METER, &tree, Config::default());
        let opened = bench.reopen();
        opened.map(|()| bench.tick().map(|()| joules(&bench, "package-0")))
    };
    let read = std::thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
    match read {
        Ok(joules) => assert_eq!(joules.unwrap(), Some(0.0)),
        Err(_) => assert!(!may_count()),
    }
}

#[test]
fn configured_interface_is_used() {
    let tree = desktop();
    super::zone(&tree, "intel-rapl:0", "package-7", super::RANGE, 1);
    let found = |interface| bench_by(&tree, interface).probe().unwrap();
    assert_eq!(found(Interface::Auto), "package-7 by powercap");
    assert_eq!(found(Interface::Perf), "package-0, dram-0 by perf events");
    let mut bench = bench_by(&tree, Interface::Perf);
    if bench.reopen().is_err() {
        return assert!(!may_count());
    }
    bench.rescan();
    bench.tick().unwrap();
    assert_eq!(joules(&bench, "package-0"), Some(0.0));
    assert_eq!(joules(&bench, "package-7"), None);
}

#[test]
fn rails_are_named_as_by_powercap() {
    let all = [
        "energy-cores",
        "energy-gpu",
        "energy-pkg",
        "energy-psys",
        "energy-ram",
    ];
    let probe = |tree: &Tree| Bench::new(&METER, tree, Config::default()).probe().unwrap();
    let tree = Tree::new(&[]);
    pmu(&tree, "power", SOFTWARE, "0,16\n", &all);
    topology(&tree, &[(0, 0, 0), (16, 1, 0)]);
    assert_eq!(
        probe(&tree),
        "package-0, core-0, uncore-0, dram-0, psys, package-1, core-1, uncore-1, dram-1 by perf events"
    );
    // Several dies in a package count each for itself, but not AMD's.
    pmu(&tree, "power", SOFTWARE, "0,8,16,24\n", &[]);
    topology(&tree, &[(0, 0, 0), (8, 0, 1), (16, 1, 0), (24, 1, 1)]);
    for event in &all[..2] {
        tree.remove(&format!("{PMUS}/power/events/{event}"));
    }
    processor(&tree, "GenuineIntel", 6, 0x55, "");
    assert_eq!(
        probe(&tree),
        "package-0-die-0, dram-0-die-0, psys, package-0-die-1, dram-0-die-1, \
         package-1-die-0, dram-1-die-0, package-1-die-1, dram-1-die-1 by perf events"
    );
    processor(&tree, "AuthenticAMD", 25, 0x11, "");
    pmu(
        &tree,
        "power_core",
        SOFTWARE,
        "0,8,16,24\n",
        &["energy-core"],
    );
    assert_eq!(
        probe(&tree),
        "package-0, dram-0, psys, package-1, dram-1, core-0, core-1 by perf events"
    );
}

#[test]
fn cores_are_summed() {
    let tree = desktop();
    pmu(&tree, "power_core", SOFTWARE, "0\n", &["energy-core"]);
    let mut bench = Bench::new(&METER, &tree, Config::default());
    if bench.reopen().is_err() {
        return assert!(!may_count());
    }
    bench.tick().unwrap();
    bench.tick().unwrap();
    let counted = joules(&bench, "core-0").unwrap();
    assert!(counted > 0.0, "{counted}");
}

#[test]
fn events_are_reopened_when_processors_change() {
    let tree = desktop();
    let mut bench = Bench::new(&METER, &tree, Config::default());
    if bench.reopen().is_err() {
        return assert!(!may_count());
    }
    bench.tick().unwrap();
    // With the same processors online, nothing is looked at.
    topology(&tree, &[(0, 1, 0)]);
    bench.rescan();
    bench.tick().unwrap();
    assert_eq!(joules(&bench, "package-1"), None);
    tree.write("sys/devices/system/cpu/online", "0\n");
    bench.rescan();
    bench.tick().unwrap();
    assert_eq!(joules(&bench, "package-1"), Some(0.0));
    assert_eq!(watts(&bench, "package-0"), None);
}

#[test]
fn what_is_wrong_with_a_pmu_is_said() {
    for (file, text, error) in [
        (
            "type",
            "power",
            "type is not the number of a PMU but \"power\"",
        ),
        (
            "cpumask",
            "",
            "cpumask is not a list of processors but \"\"",
        ),
        (
            "cpumask",
            "0-99999999",
            "cpumask is not a list of processors but \"0-99999999\"",
        ),
        (
            "events/energy-pkg",
            "event=2,umask=1",
            "energy-pkg is not an event but",
        ),
        (
            "events/energy-pkg.scale",
            "inf",
            "energy-pkg.scale is not a scale but \"inf\"",
        ),
        (
            "events/energy-ram.unit",
            "Watts",
            "energy-ram.unit is not Joules but \"Watts\"",
        ),
        ("cpumask", "7", "says which package it is in"),
    ] {
        let tree = desktop();
        tree.write(&format!("{PMUS}/power/{file}"), text);
        let mut bench = bench_by(&tree, Interface::Perf);
        for said in [bench.probe().unwrap_err(), bench.reopen().unwrap_err()] {
            assert!(said.to_string().contains(error), "{file}: {said}");
        }
    }
    let tree = desktop();
    tree.remove(&format!("{PMUS}/power/events"));
    let said = bench_by(&tree, Interface::Perf).probe().unwrap_err();
    let said = said.to_string();
    assert!(
        said.ends_with("power has no event that counts energy"),
        "{said}"
    );
    tree.remove(&format!("{PMUS}/power"));
    let said = bench_by(&tree, Interface::Perf).reopen().unwrap_err();
    let said = said.to_string();
    assert!(
        said.ends_with("bus/event_source/devices has no power"),
        "{said}"
    );
}

#[test]
fn what_the_kernel_does_not_have_is_said() {
    if !may_count() {
        return;
    }
    let tree = desktop();
    topology(&tree, &[(2_000_000_000, 0, 0)]);
    let error = |file: &str, text: &str| {
        tree.write(&format!("{PMUS}/power/{file}"), text);
        let error = bench_by(&tree, Interface::Perf).reopen().unwrap_err();
        error.to_string()
    };
    let unknown = error("type", "4294967295\n");
    assert!(
        unknown.ends_with(
            "on CPU 0: no such file or directory (the kernel does not know the PMU or the event)"
        ),
        "{unknown}"
    );
    let no_processor = error("cpumask", "2000000000\n");
    assert!(
        no_processor.contains("on CPU 2000000000: "),
        "{no_processor}"
    );
}
