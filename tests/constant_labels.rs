//! `constant_labels` from outside: on every series, by every way, and changed by a reload.
#![allow(
    clippy::type_complexity,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod remote_write_support;
mod support;

use nix::sys::signal::Signal;
use remote_write_support::process::{board, config, TEMPERATURE};
use remote_write_support::{status, Receiver};
use support::{get, request, wait_until, Exporter};

/// Names, in any order, and values with all that is escaped.
const LABELS: &str = "constant_labels: {site: 'a \"b\" \\ c, d}', Rack: 3, zz: é}\n";

/// The lines of samples of a scrape.
fn samples(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.collect()
}

#[test]
fn every_series_has_them_and_without_them_nothing_changes() {
    let plain = "device_type: generic\ninterval: 0.02\n";
    let (dir, mut command) = board(plain);
    let exporter = Exporter::start(&mut command);
    let before = wait_until("it was read, and what was found was counted", || {
        let text = exporter.scrape();
        let is_counted = text.contains("exporter_unknown_metrics");
        (text.contains(TEMPERATURE) && is_counted).then_some(text)
    });
    let names = |text: &str| {
        let names = samples(text).into_iter();
        let names = names.map(|line| line.split(['{', ' ']).next().unwrap().to_string());
        // The order is that in which the exporter's own metrics were begun.
        let mut names = names.collect::<Vec<_>>();
        names.sort_unstable();
        names
    };
    let temperature = "temperature_celsius{device_type=\"generic\",hostname=\"edge-01\",sensor=\"cpu\",source=\"thermal\"}";
    assert!(before.contains(temperature), "{before}");
    dir.write(
        "config.yaml",
        &format!("{plain}{LABELS}history: {{window_statistics: true}}\n"),
    );
    exporter.signal(Signal::SIGHUP);
    let scrape = wait_until("it has the labels", || {
        let text = exporter.scrape();
        // During a reload some have them already, others not yet.
        let has_all = samples(&text).into_iter().all(|line| line.contains("Rack"));
        (text.contains(TEMPERATURE) && has_all).then_some(text)
    });
    for line in samples(&scrape) {
        let is_labelled = line.contains(r#"Rack="3","#) || line.contains(r#"Rack="3""#);
        let is_escaped = line.contains(r#"site="a \"b\" \\ c, d}""#) && line.contains("zz=\"é\"");
        assert!(is_labelled && is_escaped, "{line}");
    }
    assert_eq!(names(&scrape), names(&before));
    let labelled = r#"temperature_celsius{Rack="3",device_type="generic",hostname="edge-01",sensor="cpu",site="a \"b\" \\ c, d}",source="thermal",zz="é"} 41.5"#;
    assert!(scrape.contains(labelled), "{scrape}");
    let minute = ("X-Prometheus-Scrape-Timeout-Seconds", "60");
    let multirate = request(exporter.metrics, "GET", "/multirate", &[minute]).text();
    assert!(multirate.contains(&format!("{labelled} ")), "{multirate}");
    let history = get(exporter.metrics, "/history.csv").text();
    assert!(
        history.lines().next().unwrap().contains(r#"Rack=""3"""#),
        "{history}"
    );
}

#[test]
fn series_of_the_old_labels_end_at_the_receiver() {
    let receiver = Receiver::willing();
    let with = |labels: &str| format!("{}{labels}", config(&[("main", &receiver)]));
    let (dir, mut command) = board(&with("constant_labels: {site: old}\n"));
    let exporter = Exporter::start(&mut command);
    let of = |site: Option<&str>| {
        let mut found = Vec::new();
        for request in receiver.requests() {
            for series in &request.message().series {
                if series.name() == TEMPERATURE && series.label("site") == site {
                    found.extend(series.samples.iter().map(|s| s.value().to_bits()));
                }
            }
        }
        found
    };
    wait_until("it sends", || (of(Some("old")).len() > 5).then_some(()));
    for (site, text) in [(Some("new"), "constant_labels: {site: new}\n"), (None, "")] {
        dir.write("config.yaml", &with(text));
        exporter.signal(Signal::SIGHUP);
        wait_until("it sends the new series", || {
            (of(site).len() > 5).then_some(())
        });
        assert!(of(site).contains(&41.5f64.to_bits()));
    }
    for site in ["old", "new"] {
        let samples = of(Some(site));
        let (last, values) = samples.split_last().unwrap();
        assert_eq!(*last, 0x7ff0_0000_0000_0002, "a staleness marker");
        assert!(values.iter().all(|bits| *bits == 41.5f64.to_bits()));
    }
}

/// What was read with the old labels keeps them in the queue on disk, also over a restart.
#[test]
fn queue_on_disk_keeps_the_labels_that_its_samples_were_read_with() {
    let away = Receiver::new(|_, _| status(503));
    let queue = support::TempDir::new();
    let with = |receiver: &Receiver, labels: &str| {
        let queue = queue.path().display();
        format!(
            "{}    queue_directory: {queue}/queue\n    sync_interval: 100ms\n{labels}",
            config(&[("main", receiver)])
        )
    };
    let (dir, mut command) = board(&with(&away, "constant_labels: {site: old}\n"));
    let exporter = Exporter::start(&mut command);
    wait_until("samples are on disk", || {
        let written =
            "exporter_remote_write_queue_written_bytes_total{remote_name=\"main\",site=\"old\"}";
        (exporter.value(written)? > 0.0).then_some(())
    });
    exporter.stop();
    let receiver = Receiver::willing();
    dir.write(
        "config.yaml",
        &with(&receiver, "constant_labels: {site: new}\n"),
    );
    let _exporter = Exporter::start(&mut command);
    let values = |site: &str| {
        let requests = receiver.requests();
        let mut series = requests.iter().flat_map(|request| request.message().series);
        series.any(|s| s.name() == TEMPERATURE && s.label("site") == Some(site))
    };
    wait_until("both arrive", || {
        (values("old") && values("new")).then_some(())
    });
}
