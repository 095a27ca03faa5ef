//! Invalid requests, and requests hidden behind them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http_support;

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use edge_metrics_exporter::http::Limits;
use http_support::*;

/// A request whose end two parsers could see in different places is refused, and nothing behind it is answered.
#[test]
fn ambiguous_request_is_refused_and_the_connection_closed() {
    let smuggled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&smuggled);
    let scene = Scene::new(Limits::default(), move |request| {
        if request.path == "/smuggled" {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        echo(request)
    });
    let behind = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let heads = [
        (
            400,
            "Host: a\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n",
        ),
        (400, "Host: a\r\nContent-Length: 0, 5\r\n\r\n"),
        (400, "Host: a\r\nContent-Length: +0\r\n\r\n"),
        (400, "Host: a\r\nContent-Length: 0x0\r\n\r\n"),
        (400, "Host: a\r\nContent-Length: -0\r\n\r\n"),
        (400, "Host: a\r\nContent-Length : 5\r\n\r\n"),
        (400, "Host: a\r\nContent-Length: \u{b}5\r\n\r\n"),
        (
            400,
            "Host: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            501,
            "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            501,
            "Host: a\r\nTransfer-Encoding: \tchunked\r\n\r\n0\r\n\r\n",
        ),
        (
            501,
            "Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        (
            400,
            "Host: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            400,
            "Host: a\r\nTransfer-Encoding\u{b}: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            400,
            "Host: a\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            400,
            "Host: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            400,
            "Host: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (400, "Host: a\r\nHost: b\r\n\r\n"),
        (400, "X: y\r\n\r\n"),
        (413, "Host: a\r\nContent-Length: 100000000000\r\n\r\n"),
        (
            413,
            "Host: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        ),
        (417, "Host: a\r\nExpect: x\r\nContent-Length: 5\r\n\r\n"),
    ];
    for (wanted, head) in heads {
        let answer = scene.exchange(format!("POST / HTTP/1.1\r\n{head}{behind}"));
        assert_eq!(status(&answer), wanted, "{head:?} {answer}");
        assert_eq!(answer.matches("\nDate: ").count(), 1, "{head:?} {answer}");
        assert!(
            answer.contains("Connection: close\r\n"),
            "{head:?} {answer}"
        );
    }
    for line in [
        "GET / HTTP/2.0",
        "GET /",
        "GET / HTTP/1.1 x",
        "\0",
        "GET http://a b/ HTTP/1.1",
    ] {
        let answer = scene.exchange(format!("{line}\r\nHost: a\r\n\r\n{behind}"));
        assert!([400, 505].contains(&status(&answer)), "{line:?} {answer}");
        assert_eq!(answer.matches("\nDate: ").count(), 1, "{line:?} {answer}");
    }
    // A body that looks like a request is not a request.
    let answer = scene.exchange(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{behind}",
        behind.len()
    ));
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert_eq!(smuggled.load(Ordering::SeqCst), 0);
    // The control: a second request is counted.
    scene.exchange(format!(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n{behind}GET / HTTP/1.0\r\n\r\n"
    ));
    assert_eq!(smuggled.load(Ordering::SeqCst), 1);
    scene.end(());
}

/// Bytes from a generator with a fixed seed, mostly characters that occur in requests.
#[test]
fn random_bytes_get_an_error_or_a_closed_connection() {
    let scene = Scene::echo(Limits {
        linger_time: Duration::from_millis(100),
        ..Limits::default()
    });
    let words: [&[u8]; 16] = [
        b"GET ",
        b"/",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"Host: a",
        b": ",
        b" ",
        b"\0",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"\xff",
        b"?a=%",
    ];
    let mut seed: u64 = 1;
    let mut next = move || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    for _ in 0..500 {
        let bytes: Vec<u8> = (0..next() % 20)
            .flat_map(|_| words[next() % 16])
            .copied()
            .collect();
        let mut socket = scene.connect();
        socket.write_all(&bytes).unwrap();
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        match socket.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{bytes:?}"),
        }
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{bytes:?}"
        );
    }
    assert!(scene.is_well());
    scene.settle();
    scene.end(());
}
