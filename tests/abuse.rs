//! Hostile and broken clients: the exporter keeps running, uses little memory, and still answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use support::{exporter, get, try_get, wait_until, Exporter, WAIT_TIMEOUT};

/// The limit of resident memory in kB. `make system-test` runs these tests with a release build.
const MEMORY: u64 = 8 * 1024;

/// The exporter on an empty board, with the threads and descriptors that it uses when idle.
struct Victim {
    exporter: Exporter,
    threads: u64,
    fds: usize,
}

impl Victim {
    fn start() -> Victim {
        Victim::of(Exporter::start(
            exporter().args(["--path.sysfs", "/nonexistent"]),
        ))
    }

    fn of(exporter: Exporter) -> Victim {
        exporter.scrape();
        let (threads, fds) =
            exporter.at_rest(|exporter| (exporter.status("Threads"), exporter.open_fds()));
        Victim {
            exporter,
            threads,
            fds,
        }
    }

    fn address(&self) -> SocketAddr {
        self.exporter.metrics
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        stream
    }

    /// The exporter answers, and uses no more threads and descriptors than before.
    fn assert_unharmed(self) {
        assert!(self.exporter.scrape().contains("exporter_build_info"));
        let memory = self.exporter.peak_memory();
        assert!(memory < MEMORY, "it grew to {memory} kB");
        wait_until("threads and descriptors are back", || {
            let threads = self.exporter.status("Threads");
            let fds = self.exporter.open_fds();
            (threads <= self.threads && fds <= self.fds).then_some(())
        });
        let (status, _, log) = self.exporter.stop();
        assert!(status.success(), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn reset_connections_leave_nothing_behind() {
    let victim = Victim::start();
    for i in 0..20_000 {
        let mut stream = victim.connect();
        let half = i % 3;
        let request: &[u8] = match half {
            0 => b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            1 => b"GET /metr",
            _ => b"",
        };
        let _ = stream.write_all(request);
        let at_once = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, sockopt::Linger, &at_once).unwrap();
    }
    victim.assert_unharmed();
}

#[test]
fn idle_connections_make_room_for_a_scrape() {
    let victim = Victim::start();
    let idle: Vec<_> = (0..300).map(|_| victim.connect()).collect();
    // The exporter closes idle connections after 75 s, and `get` waits less: a scrape that had to wait for that would fail.
    assert_eq!(get(victim.address(), "/metrics").status, 200);
    drop(idle);
    victim.assert_unharmed();
}

#[test]
fn slow_requests_do_not_block_other_clients() {
    let victim = Victim::start();
    let address = victim.address();
    let trickle = std::thread::spawn(move || {
        let mut streams: Vec<_> = (0..80)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for byte in b"GET" {
            for stream in &mut streams {
                let _ = stream.write_all(&[*byte]);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    // A slow connection may displace a scrape that has not sent its request yet; the next scrape succeeds.
    while !trickle.is_finished() {
        wait_until("a scrape gets through", || {
            try_get(address, "/metrics").filter(|answer| answer.status == 200)
        });
        std::thread::sleep(Duration::from_millis(20));
    }
    trickle.join().unwrap();
    victim.assert_unharmed();
}

#[test]
fn header_of_100_megabytes_is_refused_without_buffering() {
    let victim = Victim::start();
    let mut stream = victim.connect();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")
        .unwrap();
    let chunk = vec![b'a'; 1 << 20];
    for _ in 0..100 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let answer = read_all(&mut stream);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    victim.assert_unharmed();
}

#[test]
fn body_of_100_gigabytes_is_refused() {
    let victim = Victim::start();
    let mut stream = victim.connect();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n")
        .unwrap();
    let answer = read_all(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    victim.assert_unharmed();
}

#[test]
fn request_behind_an_ambiguous_one_is_not_answered() {
    let victim = Victim::start();
    for head in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Content-Length : 5\r\n",
        "X: a\r\n Content-Length: 5\r\n",
        "Content-Length: 5\nX: a\r\n",
    ] {
        let mut stream = victim.connect();
        let request = format!("POST /metrics HTTP/1.1\r\nHost: x\r\n{head}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_all(&mut stream);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
        let refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 501 ");
        assert!(refused, "{head:?}: {answer}");
    }
    victim.assert_unharmed();
}

#[test]
fn malformed_request_lines_get_an_error_status() {
    let victim = Victim::start();
    for line in [
        "",
        " ",
        "GET",
        "GET /",
        "GET /metrics",
        "GET  /metrics HTTP/1.1",
        "GET /metrics  HTTP/1.1",
        "GET /metrics HTTP/1.1 ",
        "GET /metrics HTTP/2.0",
        "GET /metrics HTTP/0.9",
        "GET /metrics HTTP/1.10",
        "GET /metrics HTTP/1",
        "GET /metrics http/1.1",
        "GET /metrics HTTPS/1.1",
        "GET metrics HTTP/1.1",
        "GET /metrics\tHTTP/1.1",
        "GET\t/metrics HTTP/1.1",
        "G\u{0}T /metrics HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /é HTTP/1.1",
        "GET /% HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "PRI * HTTP/2.0",
        "CONNECT x:1 HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET * HTTP/1.1",
        "(GET) / HTTP/1.1",
        "\u{16}\u{3}\u{1}\u{2}\u{0}",
        "GET /../../etc/passwd HTTP/1.1",
        "GET //metrics HTTP/1.1",
        "GET /metrics#x HTTP/1.1",
    ] {
        let mut stream = victim.connect();
        stream
            .write_all(format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let answer = read_all(&mut stream);
        let status = answer.split(' ').nth(1).unwrap_or("none").to_string();
        let sane = ["400", "404", "405", "414", "501", "505"].contains(&status.as_str());
        assert!(sane, "{line:?} was answered with {status}: {answer}");
    }
    victim.assert_unharmed();
}

#[test]
fn scrapes_are_answered_with_64_descriptors() {
    let script = "ulimit -n 64; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(support::binary())
        .args(["--web.listen-address", "127.0.0.1:0"])
        .args(["--web.management-address", "127.0.0.1:0"])
        .args(["--path.sysfs", "/nonexistent"])
        .stderr(Stdio::piped());
    let victim = Victim::of(Exporter::start(&mut command));
    let idle: Vec<_> = (0..200).map(|_| victim.connect()).collect();
    wait_until("a scrape gets through", || {
        let mut stream = victim.connect();
        let _ = stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n");
        read_all(&mut stream)
            .starts_with("HTTP/1.0 200 ")
            .then_some(())
    });
    drop(idle);
    victim.assert_unharmed();
}

#[test]
fn unread_responses_do_not_block_a_scrape() {
    let victim = Victim::start();
    // Fewer than the limit per peer: a peer whose connections are all busy gets no other one.
    let deaf: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = victim.connect();
            setsockopt(&stream, sockopt::RcvBuf, &2048).unwrap();
            let many = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
            stream
                .set_write_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            let _ = stream.write_all(&many);
            stream
        })
        .collect();
    assert_eq!(get(victim.address(), "/metrics").status, 200);
    drop(deaf);
    victim.assert_unharmed();
}

/// Reads until the server closes or resets the connection.
fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            Err(e) => panic!("{e}"),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
