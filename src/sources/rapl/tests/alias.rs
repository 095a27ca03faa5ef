//! Domains under another name.

use super::{count, server, zone, RANGE};
use crate::config::Config;
use crate::sources::rapl::settings::{AliasUnit, Settings};
use crate::sources::rapl::METER;
use crate::sources::testing::{Bench, Tree};

fn bench(tree: &Tree, unit: AliasUnit) -> Bench {
    let mut config = Config::default();
    config
        .meters
        .edit(|rapl: &mut Settings| rapl.metric = Some("other".into()));
    config
        .meters
        .edit(|rapl: &mut Settings| rapl.metric_label = "component".into());
    config
        .meters
        .edit(|rapl: &mut Settings| rapl.metric_unit = unit);
    config
        .meters
        .edit(|rapl: &mut Settings| rapl.duration_metric = Some("took_seconds".into()));
    let mut bench = Bench::new(&METER, tree, config);
    bench.reopen().unwrap();
    bench
}

fn others(lines: Vec<String>) -> Vec<String> {
    let other = |line: &String| line.starts_with("other") || line.starts_with("took");
    lines.into_iter().filter(other).collect()
}

#[test]
fn microjoules_cover_the_interval_and_are_whole() {
    let tree = server();
    zone(&tree, "intel-rapl:2", "psys", RANGE, 0);
    let mut bench = bench(&tree, AliasUnit::Microjoules);
    assert!(others(bench.poll(10.0)).is_empty());
    count(&tree, "intel-rapl:0", 1_000 + 1_234_567);
    count(&tree, "intel-rapl:0:0", 1_001);
    assert_eq!(
        others(bench.poll(10.5)),
        [
            r#"other{component="dram_0"} 1"#,
            r#"other{component="dram_1"} 0"#,
            r#"other{component="package_0"} 1234567"#,
            r#"other{component="package_1"} 0"#,
            "took_seconds 0.5",
        ]
    );
    // A wrap does not make energy negative.
    count(&tree, "intel-rapl:1", RANGE - 1_000);
    bench.poll(11.0);
    count(&tree, "intel-rapl:1", 1_000);
    let lines = others(bench.poll(11.5));
    assert!(
        lines.contains(&r#"other{component="package_1"} 2000"#.to_string()),
        "{lines:?}"
    );
}

#[test]
fn watts_are_the_mean_over_the_interval() {
    let tree = server();
    let mut bench = bench(&tree, AliasUnit::Watts);
    bench.poll(10.0);
    count(&tree, "intel-rapl:0", 1_000 + 5_000_000);
    let lines = others(bench.poll(10.5));
    assert!(
        lines.contains(&r#"other{component="package_0"} 10"#.to_string()),
        "{lines:?}"
    );
}
