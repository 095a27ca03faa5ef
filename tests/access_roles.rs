//! What users, tokens and client certificates permit in each role, over TLS.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_support;
mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use access_support::tls_client::{client, connect, exchange, BOTH};
use access_support::{basic, clients, tls, users, PASSWORD};
use support::{exporter, request, Exporter, Log, TempDir};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Sends a request with a JSON body, with this client certificate and these headers; returns the response.
fn send(
    address: SocketAddr,
    certificate: Option<&str>,
    line: &str,
    headers: &str,
    body: &str,
) -> String {
    let request = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    exchange(address, client("ca", certificate, BOTH), &request).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

const ENABLE: &str = "POST /metrics/enable";
const METRICS: &str = r#"{"metrics": {"power_total_watts": true}}"#;

#[test]
fn only_authenticated_clients_change_settings() {
    let dir = TempDir::new();
    let tokens = dir.write("tokens", TOKEN);
    let config = dir.write("config.yaml", "management: {allow_remote: true}\n");
    let mut command = exporter();
    command.args(["--path.sysfs", "/nonexistent", "--config"]);
    command
        .arg(config)
        .arg("--management.token-file")
        .arg(tokens);
    let exporter = Exporter::start(&mut command);
    let post = |headers: &[(&str, &str)]| {
        let json = [("Content-Type", "application/json")];
        let headers: Vec<_> = headers.iter().chain(&json).copied().collect();
        request(exporter.management, "POST", "/metrics/enable", &headers)
    };
    // Reading and reloading need no login. Where tokens are configured, everything else does.
    assert_eq!(
        request(exporter.management, "GET", "/metrics/list", &[]).status,
        200
    );
    assert_eq!(
        request(exporter.management, "POST", "/reload", &[]).status,
        200
    );
    let refused = post(&[]);
    assert_eq!(refused.status, 401, "{}", refused.text());
    assert!(refused
        .header("WWW-Authenticate")
        .unwrap()
        .starts_with("Bearer "));
    assert!(
        refused.text().contains("\"error\": \"Unauthorized\""),
        "{}",
        refused.text()
    );
    assert_eq!(post(&[("Authorization", "Bearer other")]).status, 401);
    // The request has no body, and is refused for that.
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(post(&[("Authorization", &bearer)]).status, 400);
    // A page of another origin is refused with the token too.
    let page = [
        ("Authorization", bearer.as_str()),
        ("Origin", "http://evil.example"),
    ];
    assert_eq!(post(&page).status, 403);
}

#[test]
fn client_certificate_counts_as_a_login() {
    let dir = TempDir::new();
    let [kind, ca] = clients("VerifyClientCertIfGiven");
    let web = dir.write("web.yml", &tls("server", &[&kind, &ca]));
    let mut command = exporter();
    command.args(["--path.sysfs", "/nonexistent", "--web.config.file"]);
    let exporter = Exporter::start(command.arg(web));
    let with = |certificate, headers: &str| {
        let answer = send(exporter.management, certificate, ENABLE, headers, METRICS);
        status(&answer).to_owned()
    };
    assert_eq!(with(None, ""), "401");
    // The metric is unknown here, which only an authenticated client is told.
    assert_eq!(with(Some("client"), ""), "400");
    assert_eq!(
        with(Some("client"), "Origin: https://evil.example\r\n"),
        "403"
    );
    assert_eq!(with(Some("client"), "Origin: https://localhost\r\n"), "400");
}

/// A running role other than the exporter. It is killed when this is dropped.
struct Role {
    child: Child,
    address: SocketAddr,
}

impl Role {
    fn start(arguments: &[&str], dir: &TempDir, web: &str) -> Role {
        let (web, tokens) = (dir.write("web.yml", web), dir.write("tokens", TOKEN));
        let mut child = Command::new(support::binary())
            .args(arguments)
            .args(["--web.listen-address", "127.0.0.1:0", "--web.config.file"])
            .arg(web)
            .arg("--management.token-file")
            .arg(tokens)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::of(&mut child);
        let mut role = Role {
            child,
            address: ([127, 0, 0, 1], 0).into(),
        };
        role.address = log.address(&mut role.child, arguments[0]);
        role
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn config_server_applies_the_same_access_rules() {
    let dir = TempDir::new();
    let store = dir.path().join("devices");
    std::fs::create_dir(&store).unwrap();
    let arguments = ["config-server", "--store", store.to_str().unwrap()];
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let body = r#"{"device_type": "generic"}"#;
    {
        let role = Role::start(&arguments, &dir, &tls("server", &[]));
        let send = |line, headers: &str, body| send(role.address, None, line, headers, body);
        let refused = send("PUT /config/edge-01", "", body);
        assert_eq!(status(&refused), "401", "{refused}");
        assert!(refused.contains("WWW-Authenticate: Bearer "), "{refused}");
        let put = send("PUT /config/edge-01", &bearer, body);
        assert!(status(&put).starts_with('2'), "{put}");
        let read = send("GET /config/edge-01", "", "");
        assert!(read.contains("generic"), "{read}");
        assert_eq!(status(&send("DELETE /config/edge-01", "", "")), "401");
    }
    let role = Role::start(&arguments, &dir, &(tls("server", &[]) + &users(&["alice"])));
    let send = |line, headers: &str| send(role.address, None, line, headers, "");
    assert_eq!(status(&send("GET /sd", "")), "401");
    let login = format!("Authorization: {}\r\n", basic("alice", PASSWORD));
    for header in [&login, &bearer] {
        assert_eq!(status(&send("GET /sd", header)), "200");
        assert!(send("GET /config/edge-01", header).contains("generic"));
    }
}

#[test]
fn the_collector_streams_over_tls() {
    let dir = TempDir::new();
    let arguments = ["collect", "--prometheus.url", "http://127.0.0.1:1"];
    let web = tls("server", &[]) + &users(&["alice"]);
    let role = Role::start(&arguments, &dir, &web);
    assert_eq!(
        status(&send(role.address, None, "GET /nodes", "", "")),
        "401"
    );
    let opening = |login: &str| {
        format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{login}\r\n"
        )
    };
    let refused = exchange(
        role.address,
        client("ca", None, BOTH),
        &opening("Connection: close\r\n"),
    );
    assert_eq!(status(&refused.unwrap()), "401");
    let mut stream = connect(role.address, client("ca", None, BOTH));
    let login = format!("Authorization: {}\r\n", basic("alice", PASSWORD));
    // A ping in the same TLS record as the request.
    let mut request = opening(&login).into_bytes();
    request.extend(b"\x89\x82\0\0\0\0hi");
    stream.write_all(&request).unwrap();
    let mut heard = Vec::new();
    let mut until = |stream: &mut access_support::tls_client::Tls, part: &[u8]| {
        while !heard.windows(part.len()).any(|w| w == part) {
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).unwrap_or(0);
            assert!(n > 0, "{}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&buffer[..n]);
        }
    };
    until(&mut stream, b"HTTP/1.1 101 ");
    // The pong, and the first line of the stream.
    until(&mut stream, b"\x8a\x02hi");
    until(&mut stream, b"instance,");
    // Many frames in one record, with a close frame at the end: all of them are read, although the socket has no more data.
    let mut frames = Vec::new();
    for _ in 0..12 {
        frames.extend(b"\x82\xfe\x04\x00\0\0\0\0");
        frames.extend([b'x'; 1024]);
    }
    frames.extend(b"\x88\x82\0\0\0\0\x03\xe8");
    stream.write_all(&frames).unwrap();
    until(&mut stream, b"\x88\x02\x03\xe8");
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).unwrap(), 0);
}
