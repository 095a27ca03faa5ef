//! The multirate scrape: every sample to every consumer, once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use support::{exporter, get, on_board, request, request_from, wait_until, Exporter, TempDir};

/// The header of a Prometheus that scrapes every minute.
const MINUTE: (&str, &str) = ("X-Prometheus-Scrape-Timeout-Seconds", "60");

/// An exporter with this many thermal zones.
fn start(zones: usize, config: &str) -> (TempDir, Exporter) {
    let board = TempDir::new();
    board.write("proc/sys/kernel/hostname", "edge-01\n");
    for i in 0..zones {
        let zone = format!("sys/class/thermal/thermal_zone{i}");
        board.write(&format!("{zone}/type"), &format!("zone-{i}\n"));
        board.write(&format!("{zone}/temp"), &format!("{}\n", 40_000 + i));
    }
    let path = board.write("config.yaml", &format!("device_type: generic\n{config}"));
    let mut command = exporter();
    on_board(&mut command, board.path());
    let exporter = Exporter::start(command.arg("--config").arg(path));
    (board, exporter)
}

/// Timestamps of each series in milliseconds.
type Samples = BTreeMap<String, Vec<i64>>;

/// Adds the samples of a response in the text format.
fn add(all: &mut Samples, text: &str) -> usize {
    let mut count = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (rest, stamp) = line.rsplit_once(' ').unwrap();
        let (series, value) = rest.rsplit_once(' ').unwrap();
        assert!((40.0..50.0).contains(&value.parse::<f64>().unwrap()));
        all.entry(series.to_string())
            .or_default()
            .push(stamp.parse().unwrap());
        count += 1;
    }
    count
}

/// Scrapes as a consumer until it has all samples that existed at the start.
fn scrape(exporter: &Exporter, consumer: &str, all: &mut Samples) {
    loop {
        let path = format!("/multirate?consumer={consumer}");
        let answer = request(exporter.metrics, "GET", &path, &[MINUTE]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        // A full response is longer than this.
        if add(all, &answer.text()) < 50_000 {
            return;
        }
    }
}

fn assert_ascending(all: &Samples) {
    for (series, stamps) in all {
        assert!(
            stamps.windows(2).all(|w| w[0] < w[1]),
            "{series}: {stamps:?}"
        );
    }
}

/// Both have the same samples, up to the end of the one that scraped first.
fn assert_same(first: &Samples, second: &Samples, least: usize) {
    assert_ascending(first);
    assert_ascending(second);
    assert_eq!(first.len(), second.len());
    for (series, stamps) in first {
        assert!(stamps.len() >= least, "{series}: only {}", stamps.len());
        let last = *stamps.last().unwrap();
        let upto: BTreeSet<_> = second[series].iter().filter(|s| **s <= last).collect();
        assert_eq!(stamps.iter().collect::<BTreeSet<_>>(), upto, "{series}");
    }
}

fn lost(exporter: &Exporter, consumer: &str) -> Option<f64> {
    exporter.value(&format!(
        "exporter_history_dropped_samples_total{{consumer=\"{consumer}\"}}"
    ))
}

#[test]
fn two_consumers_each_get_every_sample() {
    let listed = "multirate: {consumers: [often, seldom]}\n";
    let (_board, exporter) = start(2, &format!("interval: 0.001\n{listed}"));
    let (mut often, mut seldom) = (Samples::new(), Samples::new());
    let mut asked = 0;
    wait_until("there are many samples", || {
        scrape(&exporter, "often", &mut often);
        asked += 1;
        std::thread::sleep(Duration::from_millis(50));
        let least = often.values().map(Vec::len).min()?;
        (asked >= 20 && least >= 200).then_some(())
    });
    scrape(&exporter, "seldom", &mut seldom);
    assert_same(&often, &seldom, 200);
    for consumer in ["often", "seldom"] {
        assert_eq!(lost(&exporter, consumer), Some(0.0));
    }
    assert_eq!(exporter.value("exporter_clock_ok"), Some(1.0));
    let bytes = exporter.value("exporter_history_bytes").unwrap();
    assert!((1.0..4194304.0).contains(&bytes), "{bytes}");
}

#[test]
fn interrupted_response_loses_no_sample() {
    let config = "interval: 0.001\nhistory: {bytes: 100000000}\n";
    let (_board, exporter) = start(40, config);
    let (mut cut, mut whole) = (Samples::new(), Samples::new());
    // More than the socket buffers hold.
    wait_until("there is much to deliver", || {
        scrape(&exporter, "whole", &mut whole);
        let count: usize = whole.values().map(Vec::len).sum();
        (count > 120_000).then_some(())
    });
    let path = "/multirate?consumer=cut";
    // A HEAD request delivers nothing, and so consumes nothing.
    assert_eq!(request(exporter.metrics, "HEAD", path, &[MINUTE]).body, b"");
    let mut stream = half_read(&exporter, path);
    // Meanwhile the same samples are not given to this consumer again. Other consumers get theirs.
    let busy = get(exporter.metrics, path);
    assert_eq!(busy.status, 503);
    assert!(busy.text().contains("?consumer="), "{}", busy.text());
    assert_eq!(get(exporter.metrics, "/multirate").status, 200);
    stream.read_exact(&mut vec![0; 100_000]).unwrap();
    drop(stream);
    wait_until("its turn is over", || {
        let answer = request(exporter.metrics, "GET", path, &[MINUTE]);
        (answer.status == 200).then(|| add(&mut cut, &answer.text()))
    });
    scrape(&exporter, "cut", &mut cut);
    scrape(&exporter, "whole", &mut whole);
    assert_same(&cut, &whole, 1000);
}

/// A client that requests everything and does not read on: the response is in transit.
fn half_read(exporter: &Exporter, path: &str) -> TcpStream {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &4096).unwrap();
    let address = nix::sys::socket::SockaddrStorage::from(exporter.metrics);
    nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).unwrap();
    let mut stream = TcpStream::from(socket);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\n{}: {}\r\n\r\n",
        MINUTE.0, MINUTE.1
    )
    .unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stream
}

#[test]
fn samples_that_exceed_the_history_are_counted() {
    let config = "interval: 0.001\nhistory: {bytes: 2400}\nmultirate: {consumers: [late]}\n";
    let (_board, exporter) = start(1, config);
    let mut all = Samples::new();
    scrape(&exporter, "late", &mut all);
    wait_until("something was lost", || {
        std::thread::sleep(Duration::from_millis(300));
        scrape(&exporter, "late", &mut all);
        lost(&exporter, "late").filter(|samples| *samples > 100.0)
    });
    assert_ascending(&all);
    assert_eq!(lost(&exporter, "other"), Some(0.0));
    let bytes = exporter.value("exporter_history_bytes").unwrap();
    assert!(bytes <= 2400.0, "{bytes}");
}

/// Consumer names that must not appear in other clients' scrapes.
const HOSTILE: [&str; 8] = [
    "stranger",
    "other",
    "stranger%22%7D%201%0Afake_metric%201%0A",
    "stranger%00%1b%5B31m",
    "stranger%ff%fe",
    "stranger%ff%fd",
    "stranger+%2525+%C3%A9",
    "127.0.0.1",
];

#[test]
fn unlisted_consumers_cost_others_no_sample_and_are_not_named() {
    let listed = "history: {window_statistics: true}\nmultirate: {consumers: [listed]}\n";
    let (_board, exporter) = start(1, &format!("interval: 0.005\n{listed}"));
    let names = |text: &str| -> BTreeSet<String> {
        let values = text.split("consumer=\"").skip(1);
        values
            .map(|v| v.split('"').next().unwrap().to_string())
            .collect()
    };
    let (mut listed, mut unlisted) = (Samples::new(), Samples::new());
    let long = format!("stranger{}", "x".repeat(3000));
    let mut ports = 0..;
    for round in 0..6 {
        scrape(&exporter, "listed", &mut listed);
        scrape(&exporter, "unlisted", &mut unlisted);
        for (n, port) in ports.by_ref().take(60).enumerate() {
            let hostile = HOSTILE.get(n).copied().unwrap_or(&long);
            for path in ["/multirate", "/metrics"] {
                let path = format!("{path}?consumer={hostile}{port}");
                assert_eq!(get(exporter.metrics, &path).status, 200);
            }
            let from = std::net::Ipv4Addr::from(0x7f01_0000 + round * 256 + n as u32);
            assert_eq!(
                request_from(from, exporter.metrics, "").unwrap().status,
                200
            );
        }
        for text in [
            exporter.scrape(),
            get(exporter.metrics, "/multirate").text(),
        ] {
            assert!(
                !text.contains("stranger") && !text.contains("fake_metric"),
                "{text}"
            );
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        }
        let shown = names(&exporter.scrape());
        assert_eq!(shown, ["listed", "other"].map(String::from).into());
    }
    scrape(&exporter, "listed", &mut listed);
    scrape(&exporter, "unlisted", &mut unlisted);
    assert_same(&listed, &unlisted, 20);
    let mut all = Samples::new();
    scrape(&exporter, "all", &mut all);
    let first = listed.values().next().unwrap()[0];
    for stamps in all.values_mut() {
        stamps.retain(|stamp| *stamp >= first);
    }
    assert_same(&listed, &all, 20);
    assert_eq!(lost(&exporter, "listed"), Some(0.0));
    assert_eq!(lost(&exporter, "other"), Some(0.0));
}

#[test]
fn samples_dropped_by_a_reload_are_counted() {
    let (board, exporter) = start(1, "interval: 0.005\nmultirate: {consumers: [a]}\n");
    let mut before = Samples::new();
    wait_until("it is read", || {
        scrape(&exporter, "a", &mut before);
        (!before.is_empty()).then_some(())
    });
    let read = || exporter.value("exporter_history_bytes").unwrap();
    let then = read();
    wait_until("more is read", || (read() > then).then_some(()));
    // The source ends, and the samples that were not fetched with it.
    board.write(
        "config.yaml",
        "interval: 0.005\nthermal: {enabled: false}\nmultirate: {consumers: [a, b]}\n",
    );
    exporter.signal(nix::sys::signal::Signal::SIGHUP);
    wait_until("the new configuration is in force", || lost(&exporter, "b"));
    wait_until("the source has ended", || {
        (!exporter.scrape().contains("temperature_celsius")).then_some(())
    });
    let mut after = Samples::new();
    wait_until("what was not delivered is counted", || {
        scrape(&exporter, "a", &mut after);
        lost(&exporter, "a").filter(|samples| *samples > 0.0)
    });
    assert!(after.is_empty(), "{after:?}");
    assert_eq!(lost(&exporter, "b"), Some(0.0));
}

#[test]
fn first_response_covers_one_scrape_interval() {
    let (_board, exporter) = start(1, "interval: 0.001\n");
    let half = ("X-Prometheus-Scrape-Timeout-Seconds", "0.5");
    let mut consumer = 0;
    wait_until("a first answer that could have had more", || {
        consumer += 1;
        let ask = |path: &str, timeout| {
            let mut all = Samples::new();
            let text = request(exporter.metrics, "GET", path, &[timeout]).text();
            add(&mut all, &text);
            all.into_values().next()
        };
        let stamps = ask(&format!("/multirate?consumer=half-{consumer}"), half)?;
        assert!((1..=501).contains(&stamps.len()), "{}", stamps.len());
        assert!(stamps[stamps.len() - 1] - stamps[0] <= 500);
        let all = ask(&format!("/multirate?consumer=all-{consumer}"), MINUTE)?;
        let had_more = all[all.len() - 1] - all[0] > 1000;
        (had_more && stamps.len() > 1).then_some(())
    });
}

#[test]
fn samples_are_served_in_both_formats_and_on_metrics() {
    let (_board, exporter) = start(1, "interval: 0.01\nmultirate: {on_metrics: true}\n");
    let open = ("Accept", "application/openmetrics-text;version=1.0.0");
    // The first response has the existing samples, a later one those since then.
    wait_until("it was read", || {
        let age = exporter.value("exporter_source_last_success_age_seconds{source=\"thermal\"}");
        age.map(|_| std::thread::sleep(Duration::from_millis(300)))
    });
    let text = wait_until("samples", || {
        std::thread::sleep(Duration::from_millis(300));
        let path = "/multirate?consumer=new";
        let answer = request(exporter.metrics, "GET", path, &[open, MINUTE]);
        let text = answer.text();
        assert!(answer
            .header("Content-Type")
            .unwrap()
            .starts_with("application/openmetrics-text"));
        assert!(text.ends_with("# EOF\n"));
        (text.lines().count() > 10).then_some(text)
    });
    assert!(!text.contains("exporter_"), "only what is measured: {text}");
    let line = text.lines().nth(3).unwrap();
    let (_, stamp) = line.rsplit_once(' ').unwrap();
    let (seconds, millis) = stamp.split_once('.').unwrap();
    assert_eq!((seconds.len(), millis.len()), (10, 3), "{line}");

    let text = wait_until("several samples", || {
        std::thread::sleep(Duration::from_millis(300));
        let text = get(exporter.metrics, "/metrics").text();
        let count = text.matches("\ntemperature_celsius{").count();
        (count > 3).then_some(text)
    });
    assert!(text.contains("\nexporter_clock_ok 1\n"), "{text}");
    assert_eq!(text.matches("# TYPE temperature_celsius ").count(), 1);

    let packed = ("Accept-Encoding", "gzip");
    std::thread::sleep(Duration::from_millis(500));
    let answer = request(
        exporter.metrics,
        "GET",
        "/multirate?consumer=z",
        &[packed, MINUTE],
    );
    let coding = if cfg!(feature = "gzip") {
        Some("gzip")
    } else {
        None
    };
    assert_eq!(answer.header("Content-Encoding"), coding);
}

#[test]
fn disabled_family_is_not_delivered() {
    let (_board, exporter) = start(1, "interval: 0.01\nmetrics: {power_watts: true}\n");
    wait_until("it was read", || {
        exporter
            .value("exporter_source_up{source=\"thermal\"}")
            .filter(|up| *up == 1.0)
    });
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(get(exporter.metrics, "/multirate").text(), "");
}

#[test]
fn spike_between_scrapes_is_reported_to_both_consumers() {
    let board = TempDir::new();
    let supply = |file: &str, content: &str| {
        board.write(&format!("sys/class/power_supply/usb/{file}"), content);
    };
    supply("type", "USB\n");
    supply("online", "1\n");
    supply("voltage_now", "5000000\n");
    supply("current_now", "2000000\n");
    let config =
        "device_type: generic\ninterval: 0.01\nlabels: false\nhistory: {window_statistics: true}\n";
    let path = board.write("config.yaml", config);
    let mut command = exporter();
    on_board(&mut command, board.path());
    let exporter = Exporter::start(command.arg("--config").arg(path));
    let rail = "{rail=\"usb\",source=\"power_supply\"}";
    let asked = |consumer: &str, what: &str| {
        let text = get(exporter.metrics, &format!("/metrics?consumer={consumer}")).text();
        support::value(&text, &format!("{what}{rail}"))
    };
    for consumer in ["a", "b"] {
        wait_until("it is read", || asked(consumer, "power_watts_max"));
    }
    supply("current_now", "9000000\n");
    wait_until("the spike was read", || {
        (exporter.value(&format!("power_watts{rail}")) == Some(45.0)).then_some(())
    });
    supply("current_now", "2000000\n");
    wait_until("it is over", || {
        (exporter.value(&format!("power_watts{rail}")) == Some(10.0)).then_some(())
    });
    for consumer in ["a", "b"] {
        assert_eq!(asked(consumer, "power_watts_max"), Some(45.0));
        let energy = || exporter.value(&format!("energy_joules_total{rail}"));
        let before = energy().unwrap();
        wait_until("a while passes", || {
            (energy()? > before + 2.0).then_some(())
        });
        let text = get(exporter.metrics, &format!("/metrics?consumer={consumer}")).text();
        for (name, watts) in [
            ("power_watts_max", 10.0),
            ("power_watts_min", 10.0),
            ("power_watts_avg", 10.0),
        ] {
            assert_eq!(support::value(&text, &format!("{name}{rail}")), Some(watts));
        }
        let joules = support::value(&text, &format!("energy_window_joules{rail}")).unwrap();
        assert!(joules > 0.5, "{joules}");
    }
}

#[test]
fn requested_names_apply_to_windows_and_samples() {
    let types = |exporter: &Exporter, path: &str, least: usize| {
        wait_until("it is read", || {
            let text = get(exporter.metrics, path).text();
            let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
            let names = types.map(|l| l.split(' ').next().unwrap().to_string());
            let names: BTreeSet<_> = names.collect();
            (names.len() >= least).then_some(names)
        })
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
    let (_board, exporter) = start(1, "interval: 0.01\nmultirate: {on_metrics: true}\n");
    let query = "?consumer=a&name[]=temperature_celsius";
    let only: BTreeSet<_> = set(&["temperature_celsius"]);
    for path in ["/metrics", "/multirate"] {
        let found = types(&exporter, &format!("{path}{query}"), 1);
        assert_eq!(found, only, "{path}");
    }
    let own = types(&exporter, "/metrics?consumer=a&name[]=process_open_fds", 1);
    assert_eq!(own, set(&["process_open_fds"]));
    assert!(types(&exporter, "/metrics?consumer=b", 5).is_superset(&only));

    let board = TempDir::new();
    for (file, content) in [("type", "USB"), ("online", "1"), ("power_now", "2000000")] {
        board.write(&format!("sys/class/power_supply/usb/{file}"), content);
    }
    let path = board.write(
        "config.yaml",
        "interval: 0.01\nhistory: {window_statistics: true}\n",
    );
    let mut command = exporter_on(&board);
    let exporter = Exporter::start(command.arg("--config").arg(path));
    let wanted = ["energy_window_joules", "power_watts", "power_watts_max"];
    let query = wanted.map(|name| format!("name[]={name}")).join("&");
    let found = types(&exporter, &format!("/metrics?consumer=a&{query}"), 3);
    assert_eq!(found, set(&wanted));
    assert!(types(&exporter, "/metrics?consumer=b", 5).len() > 5);
}

fn exporter_on(board: &TempDir) -> std::process::Command {
    let mut command = exporter();
    on_board(&mut command, board.path());
    command
}
