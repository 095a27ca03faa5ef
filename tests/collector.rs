//! The collector with a Prometheus that does all that one does on a bad day: bounded, reported, recovered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collector_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use collector_support::{Collector, Mode, Prometheus};
use support::{get, request, wait_until};

fn collector(prometheus: &Prometheus, timeout: u32) -> Collector {
    Collector::start(&format!(
        "prometheus: {{url: '{}', timeout: {timeout}}}\ninterval: 0.1\nkeep: {{nodes: 100000}}\nnamespace: ns\n",
        prometheus.url()
    ))
}

fn vector(series: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
}

/// The values of the last row that begins so: what is behind the three fields that say who and when.
fn last(collector: &Collector, path: &str, name: &str) -> Option<String> {
    let rows = collector.rows(path);
    let row = rows.iter().rev().find(|row| row.starts_with(name))?;
    Some(row.splitn(4, ',').nth(3)?.to_owned())
}

#[test]
fn rows_are_collected_at_once_and_join_by_node() {
    let prometheus = Prometheus::start();
    let config = format!(
        "prometheus: {{url: '{}'}}\nnamespace: ns\n",
        prometheus.url()
    );
    let collector = Collector::start(&config);
    // The interval is 30 s: this is the first round.
    let row = wait_until("there is a row", || last(&collector, "/nodes", "node-a,"));
    assert_eq!(row, "1.5,,,,12,,,");
    assert_eq!(
        last(&collector, "/nodes", "10.0.0.2,").unwrap(),
        "2.5,,,,,,,"
    );
    let pod = wait_until("there is a pod", || last(&collector, "/pods", "node-a,"));
    assert_eq!(pod, "web-0,ns,0.25,,,,");
    assert!(collector.rows("/nodes")[0].contains(",2025-11-21T09:23:20.500Z,"));
    assert_eq!(collector.health()["status"], "healthy");
    let head = request(collector.address, "HEAD", "/download", &[]);
    assert_eq!(
        head.header("Content-Disposition"),
        Some("attachment; filename=metrics.csv")
    );
    assert_eq!(
        request(collector.address, "POST", "/nodes", &[]).status,
        405
    );
    for (path, status) in [
        ("/nodes?size=1", 200),
        ("/nodes?size=0", 200),
        ("/nodes/", 200),
        ("/nodes?size=-1", 400),
        ("/nodes?size=99999999999999999999999", 400),
        ("/pods?header=original", 200),
        ("/pods?header=", 400),
        ("/", 200),
        ("/metrics", 426),
        ("/metrics/self/", 200),
        ("/nothing", 404),
    ] {
        assert_eq!(get(collector.address, path).status, status, "{path}");
    }
}

/// A query that fails costs its column, not the row.
#[test]
fn one_bad_answer_costs_its_column_alone() {
    let prometheus = Prometheus::start();
    let collector = collector(&prometheus, 10);
    wait_until("there is a row", || last(&collector, "/nodes", "node-a,"));
    let one = r#"{"metric":{"instance":"10.0.0.1:9100"},"value":[1763717000.5,"NaN"]}"#;
    let many: Vec<String> = (0..100_000)
        .map(|n| format!(r#"{{"metric":{{"instance":"n{n}:9100"}},"value":[1763717000.5,"1"]}}"#))
        .collect();
    let whole = vector(one);
    let bad = [
        ("html", "<html>Sign in</html>".to_owned(), "not JSON"),
        (
            "truncated",
            whole[..whole.len() - 9].to_owned(),
            "ends too early",
        ),
        (
            "100,000 series",
            vector(&many.join(",")),
            "more than 20000 series",
        ),
        (
            "17 MB",
            vector(&format!(
                r#"{{"metric":{{"x":"{}"}}}}"#,
                "x".repeat(17_000_000)
            )),
            "longer than 16 MiB",
        ),
        (
            "a range",
            r#"{"status":"success","data":{"result":[{"metric":{},"values":[]}]}}"#.into(),
            "over time",
        ),
        ("deep", "[".repeat(100_000), "not JSON"),
        ("nothing", String::new(), "ends too early"),
    ];
    for (what, body, said) in bad {
        prometheus.set(Mode::Cpu(body.into_bytes()));
        wait_until(what, || {
            let health = collector.health();
            let trouble = health["failing"]["nodes.cpu_usage"].as_str()?;
            (health["status"] == "degraded" && trouble.contains(said)).then_some(())
        });
        let row = || last(&collector, "/nodes", "node-a,");
        wait_until("the rest is there", || {
            (row()? == ",,,,12,,,").then_some(())
        });
        prometheus.set(Mode::Good);
        wait_until("it is well again", || {
            (row()? == "1.5,,,,12,,,").then_some(())
        });
    }
    assert!(
        collector.metric("collector_column_failures_total{column=\"cpu_usage\",group=\"nodes\"}")
            >= 7.0
    );
    // NaN is no failure, and no value.
    prometheus.set(Mode::Cpu(whole.into_bytes()));
    wait_until("NaN is empty", || {
        (last(&collector, "/nodes", "node-a,")? == ",,,,12,,,").then_some(())
    });
    wait_until("all is answered", || {
        (collector.health()["status"] == "healthy").then_some(())
    });
    let log = collector.log();
    assert!(
        log.contains("warn: nodes.cpu_usage: http://127.0.0.1:"),
        "{log}"
    );
    assert!(
        log.contains("info: nodes.cpu_usage: is answered again"),
        "{log}"
    );
    let resident = collector.status("VmHWM");
    assert!(resident < 128 * 1024, "{resident} kB");
}

/// As they are in the rows that are collected from now on, however long there is trouble with this subject.
fn in_trouble(collector: &Collector, subject: &str, name: &str) -> Vec<String> {
    wait_until("the trouble is told", || {
        collector.health()["failing"][subject].as_str().map(drop)
    });
    let partial = || collector.metric("collector_rounds_total{outcome=\"partial\"}");
    let before = partial();
    let rows = collector.rows("/nodes?size=100000").len();
    wait_until("some rounds", || (partial() > before + 2.0).then_some(()));
    let rows = collector.rows("/nodes?size=100000").split_off(rows);
    assert!(rows.iter().any(|row| row.starts_with(name)), "{rows:?}");
    rows
}

#[test]
fn a_node_keeps_its_name_while_names_cannot_be_asked_for() {
    let prometheus = Prometheus::start();
    let collector = collector(&prometheus, 10);
    wait_until("there is a row", || last(&collector, "/nodes", "node-a,"));
    prometheus.set(Mode::Without("kube_node_info"));
    let rows = in_trouble(&collector, "names.nodes", "node-a,");
    assert!(
        !rows.iter().any(|row| row.starts_with("10.0.0.1,")),
        "{rows:?}"
    );
}

#[test]
fn a_query_that_fails_is_not_one_that_has_nothing_to_say() {
    let prometheus = Prometheus::start();
    let collector = Collector::start(&format!(
        "prometheus: {{url: '{}'}}\ninterval: 0.1\nkeep: {{nodes: 100000}}\nnamespace: ns\n\
         queries: {{nodes: {{wattage: [kubelet_working_pods, node_cpu_seconds_total]}}}}\n",
        prometheus.url()
    ));
    wait_until("there is a row", || last(&collector, "/nodes", "node-a,"));
    // The second query is for those of whom the first knows nothing.
    let row = |name| last(&collector, "/nodes", name).unwrap();
    assert_eq!(row("node-a,"), "1.5,,,12.0,12,,,");
    assert_eq!(row("10.0.0.2,"), "2.5,,,2.5,,,,");
    prometheus.set(Mode::Without("kubelet_working_pods"));
    for row in in_trouble(&collector, "nodes.wattage", "node-a,") {
        assert!(
            row.ends_with(",1.5,,,,,,,") || row.ends_with(",2.5,,,,,,,"),
            "{row}"
        );
    }
}

/// Nothing that was collected is lost, and it goes on where it can.
#[test]
fn a_prometheus_that_is_no_help_costs_nothing_but_its_time() {
    let prometheus = Prometheus::start();
    let collector = collector(&prometheus, 1);
    let count = || collector.rows("/nodes?size=100000").len();
    wait_until("there are rows", || (count() > 4).then_some(()));
    let bad_data = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    for (mode, said) in [
        (
            Mode::All(400, "application/json", bad_data),
            "status 400: Prometheus says bad_data: parse error",
        ),
        (
            Mode::All(401, "text/plain", "no"),
            "status 401 (text/plain)",
        ),
        (
            Mode::All(503, "text/html", "<html>"),
            "status 503 (text/html)",
        ),
        (Mode::All(302, "text/html", ""), "status"),
        (
            Mode::All(200, "text/html", "<html>Log in</html>"),
            "is this a Prometheus",
        ),
        (
            Mode::All(200, "application/json", "{}"),
            "status is neither success nor error",
        ),
        (Mode::Silent, "no whole answer within 1 s"),
        (Mode::Drip, "no whole answer within 1 s"),
        (Mode::Cut, "http://127.0.0.1:"),
    ] {
        prometheus.set(mode.clone());
        let trouble = wait_until("the trouble is told", || {
            let health = collector.health();
            let trouble = health["last_error"].as_str()?.to_owned();
            trouble.contains(said).then_some(trouble)
        });
        assert!(trouble.contains("/api/v1/query: "), "{trouble}");
        let before = count();
        assert!(before > 4, "{mode:?}");
        assert_eq!(collector.metric("collector_prometheus_up"), 0.0);
        prometheus.set(Mode::Good);
        wait_until("rows come again", || (count() > before).then_some(()));
        wait_until("it is well", || {
            (collector.health()["status"] == "healthy").then_some(())
        });
    }
    assert!(collector.log().matches("Prometheus answers again").count() >= 9);
}

#[test]
fn states_are_logged_and_not_rounds() {
    let prometheus = Prometheus::start();
    prometheus.set(Mode::All(401, "text/plain", "no"));
    let collector = collector(&prometheus, 10);
    wait_until("it failed often", || {
        let failed = collector.metric("collector_rounds_total{outcome=\"failed\"}");
        (failed > 5.0).then_some(())
    });
    prometheus.set(Mode::Cpu(b"{}".to_vec()));
    wait_until("a column failed often", || {
        let series = "collector_column_failures_total{column=\"cpu_usage\",group=\"nodes\"}";
        let text = get(collector.address, "/metrics/self").text();
        (support::value(&text, series)? > 5.0).then_some(())
    });
    let log = collector.log();
    assert_eq!(log.matches("status 401 (text/plain)").count(), 1, "{log}");
    assert_eq!(log.matches("warn: nodes.cpu_usage: ").count(), 1, "{log}");
}

#[test]
fn files_that_nobody_reads_do_not_pile_up() {
    let prometheus = Prometheus::start();
    let name = "x".repeat(240);
    let many: Vec<String> = (0..20_000)
        .map(|n| {
            format!(r#"{{"metric":{{"instance":"{name}{n}:9100"}},"value":[1763717000.5,"1"]}}"#)
        })
        .collect();
    prometheus.set(Mode::Cpu(vector(&many.join(",")).into_bytes()));
    let collector = collector(&prometheus, 10);
    wait_until("there are many rows", || {
        let kept = collector.metric("collector_rows_kept{kind=\"nodes\"}");
        (kept >= 40_000.0).then_some(())
    });
    // 12 MB: more than the kernel takes for somebody who does not read.
    let large = "/nodes?size=40000";
    let mut unread = TcpStream::connect(collector.address).unwrap();
    write!(unread, "GET {large} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 12];
    unread.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let refused = get(collector.address, large);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(get(collector.address, "/nodes").status, 200);
    drop(unread);
    wait_until("it is there again", || {
        (get(collector.address, large).status == 200).then_some(())
    });
}
