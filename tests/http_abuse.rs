//! Misbehaving clients of the HTTP server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http_support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::{mpsc, Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use edge_metrics_exporter::http::{Limits, Response};
use http_support::*;
use nix::sys::resource::{getrlimit, setrlimit, Resource};

/// Deadlines short enough for a test.
fn hasty() -> Limits {
    Limits {
        head_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        answer_time: Duration::from_millis(300),
        idle_time: Duration::from_millis(300),
        linger_time: Duration::from_millis(100),
        ..Limits::default()
    }
}

#[test]
fn trickled_bytes_do_not_extend_a_deadline() {
    let scene = Scene::echo(hasty());
    for request in ["GET /", "POST / HTTP/1.0\r\nContent-Length: 1000\r\n\r\n"] {
        let mut socket = scene.connect();
        socket.write_all(request.as_bytes()).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < WAIT_TIMEOUT && socket.write_all(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
            socket.set_nonblocking(true).unwrap();
            let answered = socket.peek(&mut [0]).is_ok();
            socket.set_nonblocking(false).unwrap();
            if answered {
                break;
            }
        }
        let answer = read_to_end(&mut socket);
        assert_eq!(status(&answer), 408, "{answer}");
    }
    // A client that has sent nothing gets no response.
    assert_eq!(scene.exchange(""), "");
    let mut kept = scene.connect();
    kept.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut kept).1, "GET /a \n");
    assert!(is_closed(&mut kept));
    scene.end(kept);
}

#[test]
fn idle_connections_make_room() {
    let scene = Scene::echo(Limits::default());
    let mut idle = Vec::new();
    for n in 0..300 {
        let mut socket = scene.connect();
        // Every other client has begun a request and does not continue.
        if n % 2 == 0 {
            let _ = socket.write_all(b"GET / HT");
        }
        idle.push(socket);
    }
    assert!(scene.is_well());
    assert!(scene.server.connections() <= Limits::default().per_peer);
    for n in 2..=200u8 {
        let from = Ipv4Addr::new(127, 0, 0, n);
        idle.push(connect_from(unconnected(), from, scene.server.local_addr()));
    }
    assert!(scene.is_well());
    assert!(scene.server.connections() <= Limits::default().connections);
    drop(idle);
    scene.settle();
    scene.end(());
}

#[test]
fn new_client_gets_503_when_all_connections_are_busy() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (entered, has_entered) = mpsc::channel();
    let entered = Mutex::new(entered);
    let held = Arc::clone(&gate);
    let limits = Limits {
        per_peer: 4,
        ..Limits::default()
    };
    let scene = Scene::new(limits, move |request| {
        if request.path == "/wait" {
            entered.lock().unwrap().send(()).unwrap();
            let open = held.0.lock().unwrap();
            drop(held.1.wait_while(open, |open| !*open).unwrap());
        }
        echo(request)
    });
    let mut busy: Vec<_> = (0..4).map(|_| scene.connect()).collect();
    for socket in &mut busy {
        socket
            .write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        has_entered.recv_timeout(WAIT_TIMEOUT).unwrap();
    }
    for _ in 0..20 {
        let answer = scene.exchange("");
        assert_eq!(status(&answer), 503, "{answer}");
        assert!(answer.contains("Retry-After: 1\r\n"), "{answer}");
    }
    // A client of another address is served.
    let mut other = connect_from(
        unconnected(),
        Ipv4Addr::new(127, 0, 0, 2),
        scene.server.local_addr(),
    );
    other.write_all(b"GET /a HTTP/1.0\r\n\r\n").unwrap();
    assert!(read_to_end(&mut other).ends_with("GET /a \n"));
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for socket in &mut busy {
        assert_eq!(read_answer(socket).1, "GET /wait \n");
    }
    assert!(scene.is_well());
    scene.end((busy, other));
}

/// Connections open and close all the time while the server looks for the longest idle one.
#[test]
fn more_active_clients_than_connections_are_served() {
    let scene = Scene::echo(Limits::default());
    std::thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                let mut answered = 0;
                while answered < 50 {
                    let mut socket = scene.connect();
                    let mut answer = [0; 400];
                    // Until the server closes it to make room.
                    while answered < 50
                        && socket
                            .write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
                            .is_ok()
                        && socket.read(&mut answer).is_ok_and(|n| n > 0)
                    {
                        assert!(answer.starts_with(b"HTTP/1.1 "));
                        answered += 1;
                    }
                }
            });
        }
    });
    assert!(scene.is_well());
    scene.end(());
}

#[test]
fn thousands_of_resets_leak_nothing() {
    let scene = Scene::echo(Limits::default());
    for n in 0..4000 {
        let mut socket = scene.connect();
        reset_on_close(&socket);
        // At every stage: nothing sent, half a head, a complete request, and an answered one.
        if n % 4 > 0 {
            let _ = socket.write_all(b"GET / HTTP/1.1\r\nHost:");
        }
        if n % 4 > 1 {
            let _ = socket.write_all(b" a\r\n\r\n");
        }
        if n % 4 > 2 {
            let _ = socket.read(&mut [0; 10]);
        }
    }
    assert!(scene.is_well());
    scene.settle();
    scene.end(());
}

#[test]
fn unread_response_times_out() {
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let scene = Scene::new(hasty(), move |request| {
        if request.path != "/big" {
            return echo(request);
        }
        let told = told.lock().unwrap().clone();
        Response::text(200, vec![b'x'; 16 << 20])
            .on_done(move |written| told.send(written).unwrap())
    });
    let mut socket = scene.connect();
    socket
        .write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert!(!heard.recv_timeout(WAIT_TIMEOUT).unwrap());
    scene.settle();
    assert!(scene.is_well());
    scene.end(socket);
}

#[test]
fn endless_head_or_body_is_not_buffered() {
    let scene = Scene::echo(Limits::default());
    assert!(scene.is_well());
    let before = resident();
    let chunk = vec![b'a'; 64 * 1024];
    for (wanted, begin) in [
        (414, "GET /"),
        (431, "GET / HTTP/1.1\r\nHost: a\r\nX: "),
        (
            413,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n",
        ),
    ] {
        let mut socket = scene.connect();
        let mut reader = socket.try_clone().unwrap();
        let reading = std::thread::spawn(move || read_to_end(&mut reader));
        socket.write_all(begin.as_bytes()).unwrap();
        let mut sent = 0;
        while sent < 100 << 20 && socket.write_all(&chunk).is_ok() {
            sent += chunk.len();
        }
        assert!(sent < 100 << 20, "all of it was taken");
        let answer = reading.join().unwrap();
        assert_eq!(status(&answer), wanted, "{answer}");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
    scene.end(());
}

#[test]
fn announced_bodies_reserve_no_memory() {
    let scene = Scene::echo(hasty());
    let mut sockets: Vec<_> = (0..20).map(|_| scene.connect()).collect();
    for socket in &mut sockets {
        socket
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\nabc")
            .unwrap();
    }
    for socket in &mut sockets {
        assert_eq!(status(&read_to_end(socket)), 408);
    }
    assert!(scene.is_well());
    scene.settle();
    scene.end(sockets);
}

#[test]
fn handler_panic_closes_only_its_connection() {
    let scene = Scene::new(Limits::default(), |request| {
        assert_ne!(request.path, "/panic", "as this test wants it");
        echo(request)
    });
    let mut other = scene.connect();
    other
        .write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut other).1, "GET /a \n");
    for _ in 0..3 {
        let answer = scene.exchange("GET /panic HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n");
        assert_eq!(status(&answer), 500, "{answer}");
        assert_eq!(answer.matches("\nDate: ").count(), 1, "{answer}");
    }
    other
        .write_all(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut other).1, "GET /b \n");
    assert!(scene.is_well());
    scene.end(other);
}

#[test]
fn idle_connections_close_when_descriptors_run_out() {
    let scene = Scene::echo(Limits::default());
    // The limit is the process's: `Scene` keeps other tests out before it is set.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(256), hard).unwrap();
    let mut idle = scene.connect();
    idle.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut idle).1, "GET /a \n");
    let clients = [unconnected(), unconnected()];
    let mut fillers = Vec::new();
    let error = loop {
        match File::open("/dev/null") {
            Ok(file) => fillers.push(file),
            Err(e) => break e,
        }
    };
    assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
    for client in clients {
        let mut socket = connect_from(client, Ipv4Addr::LOCALHOST, scene.server.local_addr());
        socket
            .write_all(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        assert_eq!(read_answer(&mut socket).1, "GET /b \n");
        // The new connection got the descriptor of the idle one.
        assert!(is_closed(&mut idle));
        idle = socket;
    }
    fillers.clear();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(scene.is_well());
    scene.end(idle);
}
