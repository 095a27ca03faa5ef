//! The collector's streams, and the reasons for which they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_support;
mod collector_support;
mod support;

use std::io::Write;

use access_support::{basic, users, PASSWORD};
use collector_support::{Collector, FakePrometheus, Stream};
use support::{request, wait_until, TempDir};

fn collector(prometheus: &FakePrometheus, more: &str) -> Collector {
    Collector::start(&format!(
        "prometheus: {{url: '{}'}}\ninterval: 0.2\n{more}",
        prometheus.url()
    ))
}

#[test]
fn stream_has_the_header_and_then_every_row() {
    let prometheus = FakePrometheus::start();
    let collector = collector(&prometheus, "");
    let mut ours = Stream::open(collector.address, "/metrics");
    let mut original = Stream::open(collector.address, "/metrics/nodes/?header=original");
    let mut pods = Stream::open(collector.address, "/metrics/pods");
    let mut workloads = Stream::open(
        collector.address,
        "/metrics/workloads?columns=kind,name,cpu_usage",
    );
    assert_eq!(workloads.text(), "kind,name,cpu_usage");
    assert_eq!(workloads.text(), "container,web,0.25");
    assert_eq!(workloads.text(), "service,\"a, b.service\",0.5");
    drop(workloads);
    assert!(ours
        .text()
        .starts_with("instance,collection_time,observation_time,cpu_usage,"));
    assert!(original
        .text()
        .starts_with("instance,observation_time,collection_time,cpu_usage,"));
    assert!(pods
        .text()
        .starts_with("instance,collection_time,observation_time,name,namespace,"));
    let rows: Vec<String> = (0..6).map(|_| ours.text()).collect();
    for pair in rows.chunks(2) {
        assert!(
            pair[0].starts_with("10.0.0.2,20") && pair[0].ends_with(",2.5,,,,,,,"),
            "{pair:?}"
        );
        assert!(
            pair[1].starts_with("node-a,20") && pair[1].ends_with(",1.5,,,,12,,,"),
            "{pair:?}"
        );
    }
    assert!(pods.text().ends_with(",web-0,default,0.25,,,,"));
    let row = original.text();
    assert!(row.starts_with("10.0.0.2,2025-11-21 09:23:20,20"), "{row}");
    // The download has the same rows.
    let download = collector.rows("/nodes?size=1000");
    assert!(rows.iter().all(|row| download.contains(row)));
    assert_eq!(collector.metric("collector_streams{kind=\"nodes\"}"), 2.0);
    // A ping is answered, data is ignored, and a close frame is returned.
    ours.socket
        .write_all(b"\x82\x83\0\0\0\0abc\x89\x82\0\0\0\0hi")
        .unwrap();
    let pong = std::iter::from_fn(|| ours.frame()).find(|(opcode, _)| *opcode == 0xa);
    assert_eq!(pong.unwrap().1, b"hi");
    ours.socket.write_all(b"\x88\x82\0\0\0\0\x03\xe8").unwrap();
    assert_eq!(ours.close(), (1000, String::new()));
    assert!(ours.frame().is_none());
    // A broken connection is noticed.
    drop(pods);
    wait_until("all three are gone", || {
        let left = collector.metric("collector_streams_ended_total{reason=\"left\"}");
        (left == 3.0).then_some(())
    });
    assert_eq!(collector.metric("collector_streams{kind=\"nodes\"}"), 1.0);
    assert_eq!(collector.metric("collector_streams{kind=\"pods\"}"), 0.0);
}

#[test]
fn protocol_errors_and_silence_end_a_stream_with_a_reason() {
    let prometheus = FakePrometheus::start();
    let collector = collector(&prometheus, "streams: {ping: 0.1, patience: 3}\n");
    let mut rude = Stream::open(collector.address, "/metrics");
    rude.socket.write_all(b"\x81\x03abc").unwrap();
    assert_eq!(
        rude.close(),
        (1002, "a client's frame is not masked".into())
    );
    let mut long = Stream::open(collector.address, "/metrics");
    long.socket
        .write_all(b"\x82\xff\0\0\0\x01\0\0\0\0\0\0\0\0")
        .unwrap();
    assert_eq!(long.close().0, 1009);
    let mut silent = Stream::open(collector.address, "/metrics/pods");
    let (code, reason) = silent.close();
    assert_eq!((code, reason.as_str()), (1008, "no sign of life for 3 s"));
    let ended = |reason| {
        collector.metric(&format!(
            "collector_streams_ended_total{{reason=\"{reason}\"}}"
        ))
    };
    // The close frame may arrive a moment before the end is counted.
    wait_until("all three are counted", || {
        (ended("rules") + ended("silent") >= 3.0).then_some(())
    });
    assert_eq!((ended("rules"), ended("silent")), (2.0, 1.0));
}

#[test]
fn refused_handshakes_have_a_status() {
    let prometheus = FakePrometheus::start();
    let collector = collector(&prometheus, "streams: {clients: 2}\n");
    let ask = |path: &str, more: &str| Stream::ask(collector.address, path, more).1;
    assert_eq!(ask("/metrics", "Origin: http://evil.example\r\n"), 403);
    assert_eq!(
        ask(
            "/metrics",
            &format!("Origin: http://{}\r\n", collector.address)
        ),
        101
    );
    assert_eq!(ask("/metrics?header=x", ""), 400);
    assert_eq!(ask("/nodes", ""), 200);
    assert_eq!(ask("/metrics", "Sec-WebSocket-Key: again==\r\n"), 400);
    wait_until("the first stream is gone", || {
        (collector.health()["streams"] == 0).then_some(())
    });
    let _two = [(); 2].map(|()| Stream::open(collector.address, "/metrics"));
    let (_, status, head) = Stream::ask(collector.address, "/metrics/pods", "");
    assert_eq!(status, 503);
    assert!(head.contains("Retry-After: "), "{head}");
    assert_eq!(collector.metric("collector_streams_refused_total"), 1.0);
}

#[test]
fn streams_are_closed_when_the_collector_stops() {
    let prometheus = FakePrometheus::start();
    let mut collector = collector(&prometheus, "");
    let mut streams = [(); 3].map(|()| Stream::open(collector.address, "/metrics"));
    for stream in &mut streams {
        stream.text();
    }
    collector.terminate();
    for stream in &mut streams {
        assert_eq!(stream.close().0, 1001);
    }
    let status = wait_until("the collector exits", || {
        collector.child.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
}

#[test]
fn stream_ends_when_its_user_is_removed() {
    let prometheus = FakePrometheus::start();
    let dir = TempDir::new();
    let web = dir.write("web.yml", &users(&["alice", "bob"]));
    let config = format!(
        "prometheus: {{url: '{}'}}\ninterval: 0.2\n",
        prometheus.url()
    );
    let arguments = ["--web.config.file", web.to_str().unwrap()];
    let collector = Collector::start_in(dir, &config, &arguments);
    let open = |user: &str| {
        let login = format!("Authorization: {}\r\n", basic(user, PASSWORD));
        let (stream, status, head) = Stream::ask(collector.address, "/metrics", &login);
        assert_eq!(status, 101, "{head}");
        stream
    };
    let (mut alice, mut bob) = (open("alice"), open("bob"));
    for stream in [&mut alice, &mut bob] {
        assert!(stream.text().starts_with("instance,"));
        assert!(stream.text().starts_with("10.0.0.2,"));
    }
    collector.dir.write("web.yml", &users(&["bob"]));
    assert_eq!(alice.close(), (1008, "not let in any more".into()));
    // The other user's stream continues.
    while bob.frame().is_some_and(|(opcode, _)| opcode == 1) {
        let rest = request(
            collector.address,
            "GET",
            "/metrics/self",
            &[("Authorization", &basic("bob", PASSWORD))],
        );
        if rest
            .text()
            .contains("collector_streams_ended_total{reason=\"forbidden\"} 1")
        {
            return;
        }
    }
    panic!("bob's stream has ended");
}
