//! What well-behaved clients can rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http_support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::Mutex;
use std::time::Duration;

use edge_metrics_exporter::http::{bind, Limits, Response, Server};
use http_support::*;

#[test]
fn keep_alive_answers_pipelined_requests_in_order() {
    let scene = Scene::echo(Limits::default());
    let mut socket = scene.connect();
    for n in 0..3 {
        write!(socket, "GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (head, body) = read_answer(&mut socket);
        assert_eq!(body, format!("GET /{n} \n"));
        assert!(
            head.contains("\r\nDate: ") && !head.contains("Connection"),
            "{head}"
        );
    }
    socket
        .write_all(
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\nGET / HTTP/1.0\r\n\
              \r\nPUT http://b/b?c HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\nx\
              OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
              GET /after-close HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .unwrap();
    assert_eq!(read_answer(&mut socket).1, "POST /a GET / HTTP/1.0\r\n\n");
    assert_eq!(read_answer(&mut socket).1, "PUT /b?c x\n");
    let (head, body) = read_answer(&mut socket);
    assert_eq!(body, "OPTIONS * \n");
    assert!(head.contains("Connection: close\r\n"), "{head}");
    assert_eq!(read_to_end(&mut socket), "");
    scene.end(socket);
}

#[test]
fn large_and_fragmented_bodies_arrive_complete() {
    let scene = Scene::echo(Limits::default());
    let mut socket = scene.connect();
    let body = "x".repeat(64 * 1024);
    write!(
        socket,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    assert_eq!(read_answer(&mut socket).1, format!("POST / {body}\n"));
    for piece in [
        "PO",
        "ST / HTTP/1.1\r\nHo",
        "st: a\r\nContent-Length: 4\r",
        "\n\r\n",
        "ab",
        "cd",
    ] {
        socket.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(read_answer(&mut socket).1, "POST / abcd\n");
    scene.end(socket);
}

#[test]
fn http_1_0_request_gets_an_http_1_0_response() {
    let scene = Scene::echo(Limits::default());
    let answer = scene.exchange("GET /a HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with("Connection: close\r\n\r\nGET /a \n"),
        "{answer}"
    );
    let mut socket = scene.connect();
    for _ in 0..2 {
        socket
            .write_all(b"GET /b HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            .unwrap();
        let (head, body) = read_answer(&mut socket);
        assert!(head.contains("Connection: keep-alive\r\n"), "{head}");
        assert_eq!(body, "GET /b \n");
    }
    scene.end(socket);
}

#[test]
fn head_response_has_a_length_and_no_body() {
    let scene = Scene::echo(Limits::default());
    let mut socket = scene.connect();
    socket
        .write_all(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let head = read_head(&mut socket);
    assert!(head.contains("Content-Length: 9\r\n"), "{head}");
    socket
        .write_all(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut socket).1, "GET /b \n");
    scene.end(socket);
}

#[test]
fn expect_100_continue_is_answered() {
    let scene = Scene::echo(Limits::default());
    let mut socket = scene.connect();
    socket
        .write_all(
            b"PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        )
        .unwrap();
    assert_eq!(read_head(&mut socket), "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"abc").unwrap();
    assert_eq!(read_answer(&mut socket).1, "PUT /a abc\n");
    // A client that does not wait for the 100 is served too, and a body that is too large is refused before it is sent.
    socket
        .write_all(
            b"PUT /b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nb",
        )
        .unwrap();
    assert_eq!(read_answer(&mut socket).1, "PUT /b b\n");
    let large =
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n";
    let refused = scene.exchange(large);
    assert_eq!(status(&refused), 413);
    assert!(refused.contains("at most 65536 bytes"), "{refused}");
    let other = "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n";
    assert_eq!(status(&scene.exchange(other)), 417);
    scene.end(socket);
}

#[test]
fn on_done_reports_whether_the_response_was_sent() {
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let scene = Scene::new(Limits::default(), move |_| {
        let told = told.lock().unwrap().clone();
        Response::text(200, "x").on_done(move |written| told.send(written).unwrap())
    });
    scene.exchange("GET / HTTP/1.0\r\n\r\n");
    assert!(heard.recv_timeout(WAIT_TIMEOUT).unwrap());
    scene.exchange("HEAD / HTTP/1.0\r\n\r\n");
    assert!(!heard.recv_timeout(WAIT_TIMEOUT).unwrap());
    scene.end(());
}

#[test]
fn stopped_server_releases_its_port_and_clients() {
    let (entered, has_entered) = mpsc::channel();
    let entered = Mutex::new(entered);
    let (over, is_over) = mpsc::channel::<()>();
    let is_over = Mutex::new(is_over);
    let scene = Scene::new(Limits::default(), move |request| {
        entered.lock().unwrap().send(()).unwrap();
        if request.path == "/slow" {
            std::thread::sleep(Duration::from_millis(100));
        }
        if request.path == "/stuck" {
            let _ = is_over.lock().unwrap().recv();
        }
        echo(request)
    });
    let address = scene.server.local_addr();
    let mut idle = scene.connect();
    let mut slow = scene.connect();
    let mut stuck = scene.connect();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    stuck
        .write_all(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    for _ in 0..2 {
        has_entered.recv_timeout(WAIT_TIMEOUT).unwrap();
    }
    let Scene { server, .. } = scene;
    server.stop();
    assert!(TcpStream::connect(address).is_err());
    let again = Server::start(
        bind(&address.to_string(), "the test").unwrap(),
        std::sync::Arc::new(echo),
        Limits::default(),
    );
    assert!(is_closed(&mut idle));
    let (head, body) = read_answer(&mut slow);
    assert!(head.contains("Connection: close\r\n"), "{head}");
    assert_eq!(body, "GET /slow \n");
    assert!(is_closed(&mut stuck));
    drop(over);
    drop(again.unwrap());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn both_families_are_served_by_one_socket() {
    let scene = Scene::at(":0", Limits::default(), |request| {
        Response::text(200, request.peer.to_string())
    });
    let port = scene.server.local_addr().port();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let answer = read_to_end(&mut socket);
    assert!(answer.contains("127.0.0.1"), "{answer}");
    scene.end(socket);
}
