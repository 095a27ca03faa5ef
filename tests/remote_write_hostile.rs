//! Hostile and broken receivers: whatever they answer, the sender continues in bounded time and memory, and ends when it is
//! told to.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod remote_write_support;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_metrics_exporter::metrics::WallClock;
use remote_write_support::{answer, status, written, Answer, Board, Receiver, SECOND};
use support::wait_until;

fn clock() -> WallClock {
    WallClock::default().with_synchronised(|| Some(true))
}

/// Answers the first request of each connection by `answer`, then closes the connection. Counts the requests.
fn raw(answer: impl Fn(usize, &mut TcpStream) + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/write", listener.local_addr().unwrap());
    let count = Arc::<AtomicUsize>::default();
    let of_thread = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 64 * 1024];
            if matches!(stream.read(&mut bytes), Ok(read) if read > 0) {
                answer(of_thread.fetch_add(1, Ordering::SeqCst), &mut stream);
            }
        }
    });
    (url, count)
}

/// Writes until the client closes the connection, or fails after so much that it never would.
fn without_end(stream: &mut TcpStream, head: &str, more: &[u8]) {
    let _ = stream.write_all(head.as_bytes());
    for _ in 0..1_000_000 {
        if stream.write_all(more).is_err() {
            return;
        }
    }
}

fn chunk() -> Vec<u8> {
    let mut chunk = b"4000\r\n".to_vec();
    chunk.extend([b'x'; 0x4000]);
    chunk.extend(b"\r\n");
    chunk
}

const ENDLESS: &str = "Transfer-Encoding: chunked\r\n\r\n";

/// The status is valid: samples that were stored or refused are not sent again.
#[test]
fn endless_body_is_not_read_to_its_end() {
    for (code, sent, dropped) in [(200, 1, 0), (400, 0, 1)] {
        let head = format!("HTTP/1.1 {code} X\r\n{ENDLESS}");
        let (url, count) = raw(move |_, stream| without_end(stream, &head, &chunk()));
        let mut board = Board::with_clock(&url, "", clock());
        board.publish(&[("x", 1.0)]);
        wait_until("it is done with", || {
            let numbers = board.numbers();
            (numbers.sent == sent && board.dropped("http_400") == dropped).then_some(())
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn endless_body_of_a_retryable_response_is_not_read_to_its_end() {
    let (url, count) = raw(|n, stream| match n {
        0 => without_end(stream, &format!("HTTP/1.1 503 X\r\n{ENDLESS}"), &chunk()),
        _ => drop(stream.write_all(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n")),
    });
    let mut board = Board::with_clock(&url, "", clock());
    board.publish(&[("x", 1.0)]);
    wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

/// An endless head, or endless informational responses, are no response.
#[test]
fn endless_response_head_is_cut_off() {
    for (head, more) in [
        ("HTTP/1.1 204 X\r\n", "X-More: and more\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        ("HTTP/1.1 204 ", "x"),
    ] {
        let (url, _) = raw(move |n, stream| match n {
            0 => without_end(stream, head, more.as_bytes()),
            _ => drop(stream.write_all(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n")),
        });
        let mut board = Board::with_clock(&url, "    remote_timeout: 2s\n", clock());
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        assert!(board.numbers().requests["failed"] >= 1, "{more}");
    }
}

/// Any number of these may precede the response (RFC 9110, 15.2).
#[test]
fn informational_responses_are_skipped() {
    for early in ["100 Continue", "102 Processing", "103 Early Hints"] {
        let early = format!("HTTP/1.1 {early}\r\n\r\n");
        let receiver = Receiver::new(move |_, _| {
            let Answer(text) = status(204);
            Answer(format!("{early}{early}{text}"))
        });
        let mut board = Board::with_clock(&receiver.url(), "", clock());
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        assert_eq!(receiver.requests().len(), 1);
    }
}

/// Meaningless or non-text headers do not change the meaning of the status.
#[test]
fn malformed_headers_are_ignored() {
    for headers in [
        "Date: the day before yesterday\r\nRetry-After: -1\r\nX-\u{e9}: 1\r\n",
        "X-Y: \u{1f980}\r\nDate: Thu, 99 Foo 9999999 99:99:99 GMT\r\n",
        "Date: \r\nDate: \r\nRetry-After: \r\nX-Prometheus-Remote-Write-Version: 99.0.0\r\n",
    ] {
        let receiver = Receiver::new(move |n, _| match n {
            0 => Answer(format!(
                "HTTP/1.1 503 X\r\n{headers}Content-Length: 0\r\n\r\n"
            )),
            _ => written(1),
        });
        let mut board = Board::with_clock(&receiver.url(), SECOND, clock());
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
    }
}

/// The sender ends when it is told to, however long the receiver asks it to wait.
#[test]
fn excessive_retry_after_does_not_delay_shutdown() {
    for after in [
        "99999999999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "300",
    ] {
        for code in [429, 503] {
            let headers = format!("Retry-After: {after}\r\n");
            let receiver = Receiver::new(move |_, _| answer(code, &headers, ""));
            let mut board = Board::with_clock(&receiver.url(), "", clock());
            board.publish(&[("x", 1.0)]);
            receiver.wait_for(1);
            let sender = board.sender.take().unwrap();
            sender.finish(Instant::now() + Duration::from_secs(60));
            wait_until("it ends", || sender.has_ended().then_some(()));
            assert_eq!(receiver.requests().len(), 1, "and asks no more");
        }
    }
}

/// Samples are sent to the configured URL only.
#[test]
fn redirect_is_not_followed() {
    let elsewhere = Receiver::willing();
    for code in [300, 301, 302, 303, 307, 308] {
        let location = format!("Location: {}\r\n", elsewhere.url());
        let receiver = Receiver::new(move |n, _| match n {
            0 => answer(code, &location, ""),
            _ => status(204),
        });
        let mut board = Board::with_clock(&receiver.url(), "", clock());
        board.publish(&[("x", 1.0)]);
        wait_until("it is sent", || (board.numbers().sent == 1).then_some(()));
        let requests = receiver.requests();
        assert_eq!(requests[0].body, requests[1].body);
        assert!(requests.iter().all(|request| request.method == "POST"));
    }
    assert!(elsewhere.requests().is_empty() && elsewhere.others().is_empty());
}
