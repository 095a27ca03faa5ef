//! TLS on the exporter's ports: versions, client certificates, changed files, and hostile clients.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_support;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use access_support::tls_client::{client, connect, exchange, BOTH};
use access_support::{basic, clients, pem, tls, users, with_web_config, PASSWORD};
use edge_metrics_exporter::http::{bind, AccessControl, AccessFiles, Limits, Response, Server};
use nix::poll::{poll, PollFd, PollFlags};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::version::{TLS12, TLS13};
use support::{exporter, get, try_get, wait_until, Exporter, TempDir, WAIT_TIMEOUT};

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn start(dir: &TempDir, web: &str) -> Exporter {
    let web = dir.write("web.yml", web);
    Exporter::start(with_web_config(&mut exporter(), &web))
}

/// The status line of a scrape with this client certificate.
fn scrape(address: SocketAddr, certificate: Option<&str>) -> Result<String, String> {
    let answer = exchange(address, client("ca", certificate, BOTH), GET);
    let answer = answer.map_err(|e| e.to_string())?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

const GOOD: &str = "HTTP/1.1 200 OK";

fn is_good(address: SocketAddr, certificate: Option<&str>) -> bool {
    scrape(address, certificate).as_deref() == Ok(GOOD)
}

#[test]
fn both_ports_accept_only_tls() {
    let dir = TempDir::new();
    let web = tls("server", &[]) + &users(&["alice"]);
    let mut exporter = start(&dir, &web);
    exporter.wait_for_log("metrics: listening on https://127.0.0.1:");
    for address in [exporter.metrics, exporter.management] {
        let unknown = scrape(address, None);
        assert_eq!(unknown.as_deref(), Ok("HTTP/1.1 401 Unauthorized"));
        let plain = get(address, "/metrics");
        assert_eq!(plain.status, 400);
        assert!(plain.text().contains("https://"), "{}", plain.text());
    }
    let login = basic("alice", PASSWORD);
    let request = GET.replace("\r\n\r\n", &format!("\r\nAuthorization: {login}\r\n\r\n"));
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let client = client("ca", None, versions);
        let answer = exchange(exporter.metrics, client, &request).unwrap();
        assert!(answer.starts_with(GOOD), "{answer}");
        assert!(answer.contains("exporter_build_info"), "{answer}");
    }
    // A client that trusts another CA refuses the certificate.
    let other = exchange(exporter.metrics, client("other", None, BOTH), GET).unwrap_err();
    assert!(other.to_string().contains("UnknownIssuer"), "{other}");
    // A port without TLS survives a TLS handshake.
    let dir = TempDir::new();
    let plain = start(&dir, "http_server_config: {http2: false}\n");
    assert!(scrape(plain.metrics, None).is_err());
    assert_eq!(get(plain.metrics, "/metrics").status, 200);
}

#[test]
fn configured_versions_and_curves_are_negotiated() {
    let dir = TempDir::new();
    let web = tls(
        "server",
        &["min_version: TLS13", "curve_preferences: [CurveP384]"],
    );
    let exporter = start(&dir, &web);
    let with = |version| exchange(exporter.metrics, client("ca", None, &[version]), GET);
    assert!(with(&TLS13).unwrap().starts_with(GOOD));
    let refused = with(&TLS12).unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    let mut stream = connect(exporter.metrics, client("ca", None, BOTH));
    stream.write_all(GET.as_bytes()).unwrap();
    let group = stream.conn.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::secp384r1);

    let suite = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]";
    let exporter = start(&dir, &tls("server", &["max_version: TLS12", suite]));
    let mut stream = connect(exporter.metrics, client("ca", None, BOTH));
    stream.write_all(GET.as_bytes()).unwrap();
    let chosen = stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(
        chosen,
        rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    );
}

#[test]
fn clients_need_a_certificate_of_the_configured_ca() {
    let dir = TempDir::new();
    let [kind, ca] = clients("RequireAndVerifyClientCert");
    let exporter = start(&dir, &tls("server", &[&kind, &ca]));
    for name in ["client", "named"] {
        assert_eq!(scrape(exporter.metrics, Some(name)).as_deref(), Ok(GOOD));
    }
    for (name, alert) in [
        (None, "CertificateRequired"),
        (Some("stranger"), "UnknownCA"),
        (Some("expired"), "CertificateExpired"),
    ] {
        let refused = scrape(exporter.metrics, name).unwrap_err();
        assert!(refused.contains(alert), "{name:?}: {refused}");
        assert!(scrape(exporter.management, name).is_err());
    }
}

#[test]
fn client_certificate_needs_an_allowed_name() {
    for name in [
        "prometheus.example.org",
        "prometheus@example.org",
        "spiffe://example.org/prometheus",
        "192.0.2.7",
        "2001:db8::7",
    ] {
        let dir = TempDir::new();
        let [kind, ca] = clients("RequireAndVerifyClientCert");
        let names = format!("client_allowed_sans: [elsewhere.example, \"{name}\"]");
        let exporter = start(&dir, &tls("server", &[&kind, &ca, &names]));
        assert!(is_good(exporter.metrics, Some("named")), "{name}");
        assert!(scrape(exporter.metrics, Some("client")).is_err());
    }
    let dir = TempDir::new();
    let [kind, ca] = clients("VerifyClientCertIfGiven");
    let names = "client_allowed_sans: [example.org]";
    let exporter = start(&dir, &tls("server", &[&kind, &ca, names]));
    assert!(scrape(exporter.metrics, Some("named")).is_err());
    assert!(is_good(exporter.metrics, None));
}

#[test]
fn every_client_auth_type_is_applied() {
    let dir = TempDir::new();
    let verifying = clients("VerifyClientCertIfGiven").join("\n  ");
    for (lines, good, refused) in [
        (
            verifying.as_str(),
            &[None, Some("client")][..],
            &[Some("stranger"), Some("expired")][..],
        ),
        (
            "client_auth_type: RequestClientCert",
            &[None, Some("stranger"), Some("expired")],
            &[],
        ),
        (
            "client_auth_type: RequireAnyClientCert",
            &[Some("client"), Some("stranger")],
            &[None],
        ),
    ] {
        let exporter = start(&dir, &tls("server", &[lines]));
        for name in good {
            assert_eq!(
                scrape(exporter.metrics, *name).as_deref(),
                Ok(GOOD),
                "{lines} {name:?}"
            );
        }
        for name in refused {
            assert!(scrape(exporter.metrics, *name).is_err(), "{lines} {name:?}");
        }
    }
}

#[test]
fn certificates_are_reloaded_while_the_exporter_runs() {
    let dir = TempDir::new();
    let put = |name: &str, ending: &str| {
        let from = pem(&format!("{name}.{ending}"));
        std::fs::copy(from, dir.path().join(format!("own.{ending}"))).unwrap();
    };
    put("server", "pem");
    put("server", "key");
    // Relative paths are resolved against the directory of the file.
    let web = "tls_server_config:\n  cert_file: own.pem\n  key_file: own.key\n";
    let exporter = start(&dir, web);
    let metrics = exporter.metrics;
    let mut kept = connect(metrics, client("ca", None, BOTH));
    let ask = |stream: &mut access_support::tls_client::Tls| {
        stream
            .write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert!(!ask(&mut kept).contains("Connection: close"));
    put("self", "pem");
    wait_until("the log says that they do not belong together", || {
        assert!(is_good(metrics, None));
        exporter
            .log()
            .contains("are no certificate and its key")
            .then_some(())
    });
    put("self", "key");
    wait_until("the other certificate is shown", || {
        let refused = scrape(metrics, None).err()?;
        // The signer is a CA, but not one that the client trusts.
        refused.contains("invalid peer certificate").then_some(())
    });
    // A connection from before the reload is answered once more, then closed.
    assert!(ask(&mut kept).contains("Connection: close"));
    // TLS cannot be switched off by a reload.
    dir.write("web.yml", "http_server_config: {http2: true}\n");
    wait_until("the log says that it stays", || {
        assert_eq!(get(metrics, "/metrics").status, 400);
        exporter
            .log()
            .contains("all would be sent in the clear")
            .then_some(())
    });
}

/// The response to a request on a kept connection.
fn on_kept(stream: &mut access_support::tls_client::Tls) -> String {
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        answer.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&answer);
        let length = text.split("Content-Length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
        let body = text.find("\r\n\r\n").map(|end| text.len() - end - 4);
        if n == 0 || (body.is_some() && body >= length) {
            return text.into_owned();
        }
    }
}

/// What a kept connection of this client gets after the file has become `after`. A client that is still allowed is
/// answered once more before the connection closes.
fn kept_over_a_change(certificate: Option<&str>, before: &[&str], after: &[&str]) -> String {
    let dir = TempDir::new();
    let exporter = start(&dir, &tls("server", before));
    let mut kept = connect(exporter.metrics, client("ca", certificate, BOTH));
    let first = on_kept(&mut kept);
    assert!(first.starts_with(GOOD), "{first}");
    dir.write("web.yml", &tls("server", after));
    // The file is checked when a client connects.
    wait_until("the change is in force", || {
        let _ = scrape(exporter.metrics, None);
        exporter.log().contains("is in force now").then_some(())
    });
    on_kept(&mut kept)
}

#[test]
fn kept_connection_closes_when_its_certificate_is_no_longer_allowed() {
    let [kind, ca] = &clients("RequireAndVerifyClientCert");
    let other = &format!("client_ca_file: {}", pem("other.pem").display());
    let any = "client_auth_type: RequireAnyClientCert";
    let names = |name: &str| format!("client_allowed_sans: [{name}]");
    let (ours, others) = (
        &names("prometheus.example.org"),
        &names("elsewhere.example"),
    );
    for (certificate, before, after) in [
        // Another name is required, or any name, another CA, or a certificate at all.
        (
            Some("named"),
            &[kind, ca, ours][..],
            &[kind, ca, others][..],
        ),
        (Some("client"), &[kind, ca], &[kind, ca, ours]),
        (Some("client"), &[kind, ca], &[kind, other]),
        (Some("stranger"), &[&any.to_owned()], &[kind, ca]),
        (Some("expired"), &[&any.to_owned()], &[kind, ca]),
        (None, &[], &[kind, ca]),
        (None, &[], &[&any.to_owned()]),
    ] {
        let lines = |lines: &[&String]| lines.iter().map(|l| l.to_string()).collect::<Vec<_>>();
        let (before, after) = (lines(before), lines(after));
        let before: Vec<_> = before.iter().map(String::as_str).collect();
        let after: Vec<_> = after.iter().map(String::as_str).collect();
        let answer = kept_over_a_change(certificate, &before, &after);
        assert!(answer.starts_with("HTTP/1.1 403"), "{after:?}: {answer}");
        assert!(!answer.contains("exporter_build_info"), "{answer}");
    }
    // A client that is still allowed loses no scrape.
    let answer = kept_over_a_change(Some("named"), &[kind, ca], &[kind, ca, ours]);
    assert!(answer.starts_with(GOOD) && answer.contains("Connection: close"));
}

/// A client certificate that is listed among the CAs itself, which exporter-toolkit accepts.
#[test]
fn client_certificates_can_be_pinned() {
    let [kind, _] = clients("RequireAndVerifyClientCert");
    let pinned = |name: &str| format!("client_ca_file: {}", pem(name).display());
    for (certificate, more, good) in [
        ("self-client", None, true),
        ("self", None, true),
        ("leaf", None, true),
        // Signed by a CA that is not configured.
        ("client", None, true),
        ("self-named", Some("prometheus.example.org"), true),
        ("self-named", Some("elsewhere.example"), false),
        // A server certificate.
        ("self-server", None, false),
        ("self-expired", None, false),
    ] {
        let dir = TempDir::new();
        let ca = pinned(&format!("{certificate}.pem"));
        let names = more.map(|name| format!("client_allowed_sans: [{name}]"));
        let names = names.as_deref().unwrap_or("min_version: TLS12");
        let exporter = start(&dir, &tls("server", &[&kind, &ca, names]));
        let scraped = scrape(exporter.metrics, Some(certificate));
        assert_eq!(
            scraped.as_deref() == Ok(GOOD),
            good,
            "{certificate}: {scraped:?}"
        );
        // A certificate with the same names is not the pinned one.
        assert!(scrape(exporter.metrics, Some("self-again")).is_err());
    }
}

fn gate(web: std::path::PathBuf) -> Arc<AccessControl> {
    let files = AccessFiles {
        web_config: Some(web),
        tokens: None,
    };
    AccessControl::new(&files).unwrap()
}

/// A server in this process, with short deadlines.
fn server(dir: &TempDir, limits: Limits) -> Server {
    let web = dir.write("web.yml", &tls("server", &[]));
    let listener = bind("127.0.0.1:0", "the test").unwrap();
    let handler = |request: &edge_metrics_exporter::http::Request| match request.body.len() {
        0 => Response::text(200, vec![b'x'; 5 << 20]),
        n => Response::text(200, format!("{n} bytes")),
    };
    Server::start_with_access(gate(web), listener, Arc::new(handler), limits).unwrap()
}

#[test]
fn large_responses_and_bodies_arrive_complete() {
    let dir = TempDir::new();
    let server = server(&dir, Limits::default());
    let ca = client("ca", None, BOTH);
    let answer = exchange(server.local_addr(), Arc::clone(&ca), GET).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Length: 5242880"), "{head}");
    assert!(body.len() == 5 << 20 && body.bytes().all(|b| b == b'x'));
    let post = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 65536\r\n\r\n{}",
        "y".repeat(65536)
    );
    let answer = exchange(server.local_addr(), ca, &post).unwrap();
    assert!(answer.ends_with("65536 bytes"), "{answer}");
    server.stop();
}

/// The bytes of an upgraded connection: none missing and none twice, although the kernel accepts them in pieces.
#[test]
fn upgraded_connection_delivers_every_byte() {
    const LENGTH: usize = 3 << 20;
    let pattern = |at: usize| (at % 251) as u8;
    let dir = TempDir::new();
    let web = dir.write("web.yml", &tls("server", &[]));
    let listener = bind("127.0.0.1:0", "the test").unwrap();
    let flood = move |_: &edge_metrics_exporter::http::Request| {
        Response::switching("flood", move |mut upgraded| {
            let (mut sent, mut blocked) = (0, 0);
            while sent < LENGTH {
                let next: Vec<_> = (sent..LENGTH.min(sent + 100_000)).map(pattern).collect();
                match upgraded.stream.write(&next) {
                    Ok(n) => sent += n,
                    Err(e) => {
                        assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock);
                        blocked += 1;
                        let mut fds = [PollFd::new(upgraded.stream.as_fd(), PollFlags::POLLOUT)];
                        poll(&mut fds, 20_000_u16).unwrap();
                    }
                }
            }
            assert!(blocked > 0);
        })
    };
    let limits = Limits::default();
    let server = Server::start_with_access(gate(web), listener, Arc::new(flood), limits).unwrap();
    let mut stream = connect(server.local_addr(), client("ca", None, BOTH));
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    std::thread::sleep(Duration::from_millis(100));
    let mut body = Vec::new();
    stream.read_to_end(&mut body).unwrap();
    assert_eq!(body.len(), LENGTH);
    assert!(body
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte == pattern(at)));
    server.stop();
}

#[test]
fn unfinished_handshake_times_out() {
    let dir = TempDir::new();
    let limits = Limits {
        head_time: Duration::from_millis(300),
        idle_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = server(&dir, limits);
    let address = server.local_addr();
    // The start of a ClientHello that announces more.
    let hello = [0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3];
    for sent in [0, 1, 5, hello.len()] {
        let mut silent = TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        silent.write_all(&hello[..sent]).unwrap();
        let mut rest = Vec::new();
        let ended = silent.read_to_end(&mut rest);
        assert!(ended.is_ok() && rest.is_empty(), "{ended:?} {rest:?}");
    }
    // Single bytes do not extend the deadline.
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(&hello).unwrap();
    wait_until("it is closed under the bytes", || {
        std::thread::sleep(Duration::from_millis(20));
        slow.write_all(&[0]).err()
    });
    // The handshake does not extend the deadline for the request.
    let mut idle = connect(address, client("ca", None, BOTH));
    idle.conn.complete_io(&mut idle.sock).unwrap();
    let mut rest = Vec::new();
    assert_eq!(idle.read_to_end(&mut rest).unwrap(), 0, "{rest:?}");
    wait_until("all are gone", || (server.connections() == 0).then_some(()));
    server.stop();
}

/// The limit of resident memory in kB: more than without TLS by the record buffers of 64 connections.
const MEMORY: u64 = 12 * 1024;

#[track_caller]
fn assert_unharmed(exporter: Exporter) {
    wait_until("a scrape gets through", || {
        is_good(exporter.metrics, None).then_some(())
    });
    let memory = exporter.peak_memory();
    assert!(memory < MEMORY, "it grew to {memory} kB");
    let (status, _, log) = exporter.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn idle_tls_connections_make_room_for_a_scrape() {
    let dir = TempDir::new();
    let exporter = start(&dir, &tls("server", &[]));
    let ca = client("ca", None, BOTH);
    let mut idle = Vec::new();
    for n in 0..300 {
        let mut stream = connect(exporter.metrics, Arc::clone(&ca));
        if n % 2 == 0 {
            let _ = stream.conn.complete_io(&mut stream.sock);
        }
        idle.push(stream);
    }
    wait_until("a scrape gets through", || {
        is_good(exporter.metrics, None).then_some(())
    });
    drop(idle);
    assert_unharmed(exporter);
}

#[test]
fn handshake_cut_off_at_any_byte_is_harmless() {
    let dir = TempDir::new();
    let exporter = start(&dir, &tls("server", &[]));
    let ca = client("ca", None, BOTH);
    for n in 0..400 {
        let mut stream = connect(exporter.metrics, Arc::clone(&ca));
        let mut hello = Vec::new();
        stream.conn.write_tls(&mut hello).unwrap();
        match n % 4 {
            0 => {
                let _ = stream.sock.write_all(&hello[..n % hello.len()]);
            }
            1 => {
                let at = 5 + n % (hello.len() - 5);
                hello[at] ^= 0x55;
                let _ = stream.sock.write_all(&hello);
            }
            2 => {
                let _ = stream.sock.write_all(&hello);
            }
            _ => {
                let _ = stream.sock.write_all(&hello);
                while stream.conn.is_handshaking()
                    && stream.conn.complete_io(&mut stream.sock).is_ok()
                {}
                let _ = stream.write_all(GET.as_bytes());
            }
        }
        let at_once = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        if n % 3 > 0 {
            setsockopt(&stream.sock, sockopt::Linger, &at_once).unwrap();
        }
    }
    assert_unharmed(exporter);
}

#[test]
fn invalid_records_and_unread_responses_are_harmless() {
    let dir = TempDir::new();
    let exporter = start(&dir, &tls("server", &[]));
    let ca = client("ca", None, BOTH);
    let mut deaf = Vec::new();
    for n in 0..20 {
        let mut stream = connect(exporter.metrics, Arc::clone(&ca));
        stream.conn.complete_io(&mut stream.sock).unwrap();
        setsockopt(&stream.sock, sockopt::RcvBuf, &2048).unwrap();
        stream
            .sock
            .set_write_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        if n % 2 == 0 {
            let many = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
            let _ = stream.write_all(many.as_bytes());
            let _ = stream.flush();
        } else {
            // A record of the largest size with random bytes, where an encrypted record is expected.
            let mut record = vec![0x17, 3, 3, 0x40, 0];
            record.resize(5 + 0x4000, n as u8);
            let _ = stream.sock.write_all(&record);
        }
        deaf.push(stream);
    }
    wait_until("a scrape gets through", || {
        is_good(exporter.metrics, None).then_some(())
    });
    // No plaintext response is sent on a TLS port.
    assert_eq!(
        try_get(exporter.metrics, "/metrics").map(|a| a.status),
        Some(400)
    );
    drop(deaf);
    assert_unharmed(exporter);
}
