//! The collector with a Prometheus that fails in every way: memory stays bounded, errors are reported, and rows resume.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collector_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use collector_support::{Behaviour, Collector, FakePrometheus};
use support::{get, request, wait_until};

fn collector(prometheus: &FakePrometheus, timeout: u32) -> Collector {
    Collector::start(&format!(
        "prometheus: {{url: '{}', timeout: {timeout}}}\ninterval: 0.1\nkeep: {{nodes: 100000}}\nnamespace: ns\n",
        prometheus.url()
    ))
}

fn vector(series: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
}

/// The values of the last row that begins with `name`, without the first three fields (name and times).
fn last_values(collector: &Collector, path: &str, name: &str) -> Option<String> {
    let rows = collector.rows(path);
    let row = rows.iter().rev().find(|row| row.starts_with(name))?;
    Some(row.splitn(4, ',').nth(3)?.to_owned())
}

#[test]
fn first_round_is_immediate_and_joins_columns_by_node() {
    let prometheus = FakePrometheus::start();
    let config = format!(
        "prometheus: {{url: '{}'}}\nnamespace: ns\n",
        prometheus.url()
    );
    let collector = Collector::start(&config);
    // The interval is 30 s, so this is the first round.
    let row = wait_until("there is a row", || {
        last_values(&collector, "/nodes", "node-a,")
    });
    assert_eq!(row, "1.5,,,,12,,,");
    assert_eq!(
        last_values(&collector, "/nodes", "10.0.0.2,").unwrap(),
        "2.5,,,,,,,"
    );
    let pod = wait_until("there is a pod", || {
        last_values(&collector, "/pods", "node-a,")
    });
    assert_eq!(pod, "web-0,ns,0.25,,,,");
    assert!(collector.rows("/nodes")[0].contains(",2025-11-21T09:23:20.500Z,"));
    wait_until("the round is over", || {
        (collector.health()["status"] == "healthy").then_some(())
    });
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
        ("/workloads?header=original", 400),
        ("/workloads?columns=all", 200),
        ("/nodes?columns=all&header=original", 400),
        ("/nodes?columns=", 400),
        ("/nodes?columns=watts", 400),
        ("/pods?columns=kind", 400),
        ("/metrics/workloads", 426),
        ("/pods?header=", 400),
        ("/", 200),
        ("/metrics", 426),
        ("/metrics/self/", 200),
        ("/nothing", 404),
    ] {
        assert_eq!(get(collector.address, path).status, status, "{path}");
    }
}

#[test]
fn workloads_have_rows_and_the_energy_between_them() {
    let prometheus = FakePrometheus::start();
    let collector = collector(&prometheus, 10);
    let path = "/workloads?size=1000&columns=name,energy_joules,step_joules";
    let rows = wait_until("there are three rows of the service", || {
        let rows = collector.rows(path);
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|row| row.starts_with("\"a, b.service\","))
            .collect();
        (rows.len() > 2).then_some(rows)
    });
    let joules = |row: &String| {
        let mut fields = row.rsplit(',').map(|field| field.parse::<f64>().ok());
        (fields.next().unwrap(), fields.next().unwrap().unwrap())
    };
    assert_eq!(joules(&rows[0]).0, None, "{rows:?}");
    for pair in rows.windows(2) {
        let (step, after) = joules(&pair[1]);
        let before = joules(&pair[0]).1;
        assert_eq!(step, Some(after - before), "{rows:?}");
        assert!(after > before, "{rows:?}");
    }
    let all = collector.rows("/workloads");
    assert!(
        all.iter()
            .any(|row| row.starts_with("edge-01,20") && row.ends_with(",container,web,0.25,,,,")),
        "{all:?}"
    );
    let nodes = get(
        collector.address,
        "/nodes?columns=wattage,instance,idle_wattage&size=1",
    )
    .text();
    let lines: Vec<_> = nodes.lines().collect();
    assert_eq!(lines, ["wattage,instance,idle_wattage", "\"\",node-a,"]);
    let refused = get(collector.address, "/nodes?columns=watts").text();
    assert!(
        refused.contains("wattage") && refused.contains("step_joules"),
        "{refused}"
    );
    assert_eq!(
        collector.health()["rows"]["workloads"]
            .as_u64()
            .map(|rows| rows > 3),
        Some(true)
    );
}

#[test]
fn bad_answer_empties_only_its_column() {
    let prometheus = FakePrometheus::start();
    let collector = collector(&prometheus, 10);
    wait_until("there is a row", || {
        last_values(&collector, "/nodes", "node-a,")
    });
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
    for (what, body, expected) in bad {
        prometheus.set(Behaviour::Cpu(body.into_bytes()));
        wait_until(what, || {
            let health = collector.health();
            let error = health["failing"]["nodes.cpu_usage"].as_str()?;
            (health["status"] == "degraded" && error.contains(expected)).then_some(())
        });
        let row = || last_values(&collector, "/nodes", "node-a,");
        wait_until("the other columns are there", || {
            (row()? == ",,,,12,,,").then_some(())
        });
        prometheus.set(Behaviour::Good);
        wait_until("the column recovers", || {
            (row()? == "1.5,,,,12,,,").then_some(())
        });
    }
    assert!(
        collector.metric("collector_column_failures_total{column=\"cpu_usage\",group=\"nodes\"}")
            >= 7.0
    );
    // NaN is a missing value, not an error.
    prometheus.set(Behaviour::Cpu(whole.into_bytes()));
    wait_until("NaN is empty", || {
        (last_values(&collector, "/nodes", "node-a,")? == ",,,,12,,,").then_some(())
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
        log.contains("info: nodes.cpu_usage: the queries are answered again"),
        "{log}"
    );
    let resident = collector.status("VmHWM");
    assert!(resident < 128 * 1024, "{resident} kB");
}

/// The rows of a few rounds while `column` fails.
fn rows_while_failing(collector: &Collector, column: &str, name: &str) -> Vec<String> {
    wait_until("the error is reported", || {
        collector.health()["failing"][column].as_str().map(drop)
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
fn nodes_keep_their_names_while_the_query_for_names_fails() {
    let prometheus = FakePrometheus::start();
    let collector = collector(&prometheus, 10);
    wait_until("there is a row", || {
        last_values(&collector, "/nodes", "node-a,")
    });
    prometheus.set(Behaviour::Without("kube_node_info"));
    let rows = rows_while_failing(&collector, "names.nodes", "node-a,");
    assert!(
        !rows.iter().any(|row| row.starts_with("10.0.0.1,")),
        "{rows:?}"
    );
}

#[test]
fn failed_query_is_not_replaced_by_the_next_one() {
    let prometheus = FakePrometheus::start();
    let collector = Collector::start(&format!(
        "prometheus: {{url: '{}'}}\ninterval: 0.1\nkeep: {{nodes: 100000}}\nnamespace: ns\n\
         queries: {{nodes: {{wattage: [kubelet_working_pods, node_cpu_seconds_total]}}}}\n",
        prometheus.url()
    ));
    wait_until("there is a row", || {
        last_values(&collector, "/nodes", "node-a,")
    });
    // The second query fills in nodes for which the first has no value.
    let row = |name| last_values(&collector, "/nodes", name).unwrap();
    assert_eq!(row("node-a,"), "1.5,,,12.0,12,,,");
    assert_eq!(row("10.0.0.2,"), "2.5,,,2.5,,,,");
    prometheus.set(Behaviour::Without("kubelet_working_pods"));
    for row in rows_while_failing(&collector, "nodes.wattage", "node-a,") {
        assert!(
            row.ends_with(",1.5,,,,,,,") || row.ends_with(",2.5,,,,,,,"),
            "{row}"
        );
    }
}

#[test]
fn rows_are_kept_and_resume_after_every_failure_of_prometheus() {
    let prometheus = FakePrometheus::start();
    let collector = collector(&prometheus, 1);
    let count = || collector.rows("/nodes?size=100000").len();
    wait_until("there are rows", || (count() > 4).then_some(()));
    let bad_data = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    for (behaviour, expected) in [
        (
            Behaviour::All(400, "application/json", bad_data),
            "status 400: Prometheus says bad_data: parse error",
        ),
        (
            Behaviour::All(401, "text/plain", "no"),
            "status 401 (text/plain)",
        ),
        (
            Behaviour::All(503, "text/html", "<html>"),
            "status 503 (text/html)",
        ),
        (Behaviour::All(302, "text/html", ""), "status"),
        (
            Behaviour::All(200, "text/html", "<html>Log in</html>"),
            "is this a Prometheus",
        ),
        (
            Behaviour::All(200, "application/json", "{}"),
            "status is neither success nor error",
        ),
        (Behaviour::Silent, "no whole answer within 1 s"),
        (Behaviour::Drip, "no whole answer within 1 s"),
        (Behaviour::Cut, "http://127.0.0.1:"),
    ] {
        prometheus.set(behaviour.clone());
        let error = wait_until("the error is reported", || {
            let health = collector.health();
            let error = health["last_error"].as_str()?.to_owned();
            error.contains(expected).then_some(error)
        });
        assert!(error.contains("/api/v1/query: "), "{error}");
        let before = count();
        assert!(before > 4, "{behaviour:?}");
        assert_eq!(collector.metric("collector_prometheus_up"), 0.0);
        prometheus.set(Behaviour::Good);
        wait_until("rows come again", || (count() > before).then_some(()));
        wait_until("the collector is healthy", || {
            (collector.health()["status"] == "healthy").then_some(())
        });
    }
    wait_until("the log has a line for each recovery", || {
        (collector.log().matches("Prometheus answers again").count() >= 9).then_some(())
    });
}

#[test]
fn persistent_errors_are_logged_once() {
    let prometheus = FakePrometheus::start();
    prometheus.set(Behaviour::All(401, "text/plain", "no"));
    let collector = collector(&prometheus, 10);
    wait_until("it failed often", || {
        let failed = collector.metric("collector_rounds_total{outcome=\"failed\"}");
        (failed > 5.0).then_some(())
    });
    prometheus.set(Behaviour::Cpu(b"{}".to_vec()));
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
fn unread_downloads_are_limited() {
    let prometheus = FakePrometheus::start();
    let name = "x".repeat(240);
    let many: Vec<String> = (0..20_000)
        .map(|n| {
            format!(r#"{{"metric":{{"instance":"{name}{n}:9100"}},"value":[1763717000.5,"1"]}}"#)
        })
        .collect();
    prometheus.set(Behaviour::Cpu(vector(&many.join(",")).into_bytes()));
    let collector = collector(&prometheus, 10);
    wait_until("there are many rows", || {
        let kept = collector.metric("collector_rows_kept{kind=\"nodes\"}");
        (kept >= 40_000.0).then_some(())
    });
    // 12 MB: more than the kernel buffers for a client that does not read.
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
    wait_until("the download is available again", || {
        (get(collector.address, large).status == 200).then_some(())
    });
}
