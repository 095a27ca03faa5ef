//! A running config-server, a client for it, and a fake board that it calls.
#![allow(dead_code, unreachable_pub, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use edge_metrics_exporter::http::{bind, Limits, Request, Response, Server};
use serde_json::Value;

use crate::support::{Answer, Log, WAIT_TIMEOUT};

/// A running config-server, which is killed when this is dropped.
pub struct ConfigServer {
    pub child: Child,
    pub address: SocketAddr,
    log: Log,
}

pub fn command(store: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"));
    command
        .args([
            "config-server",
            "--store",
            store,
            "--web.listen-address",
            "127.0.0.1:0",
        ])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl ConfigServer {
    pub fn start(directory: &Path) -> ConfigServer {
        ConfigServer::of(&mut command(directory.to_str().unwrap()))
    }

    /// Starts the server and waits until it listens.
    pub fn of(command: &mut Command) -> ConfigServer {
        let mut child = command.spawn().unwrap();
        let mut central = ConfigServer {
            log: Log::of(&mut child),
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        central.address = central.log.address(&mut central.child, "config-server");
        central
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Sends a request with a JSON body.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_with(
            method,
            path,
            &[("Content-Type", "application/json")],
            body.as_bytes(),
        )
    }

    pub fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        try_send(self.address, method, path, headers, body).unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send_with("GET", path, &[], b"")
    }

    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        body(&answer)
    }

    /// The device of this id in `/devices`.
    pub fn device(&self, id: &str) -> Value {
        let all = self.json("/devices");
        let devices = all["devices"].as_array().unwrap().iter();
        devices
            .clone()
            .find(|d| d["device_id"] == id)
            .unwrap()
            .clone()
    }
}

impl Drop for ConfigServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("the server's log:\n{}", self.log());
        }
    }
}

/// The body of a JSON response.
pub fn body(answer: &Answer) -> Value {
    assert_eq!(
        answer.header("Content-Type"),
        Some("application/json"),
        "{}",
        answer.text()
    );
    serde_json::from_slice(&answer.body).unwrap()
}

/// Sends a request. An error is for callers that expect the server to be gone.
pub fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(WAIT_TIMEOUT * 2))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    Ok(Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: answer[end + 4..].to_vec(),
    })
}

/// The management port of a fake board, which records requests.
pub struct Board {
    pub server: Server,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Board {
    pub fn new(answer: impl Fn() -> Response + Send + Sync + 'static) -> Board {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&asked);
        let handler = move |request: &Request| {
            notes
                .lock()
                .unwrap()
                .push(format!("{} {}", request.method, request.path));
            answer()
        };
        let listener = bind("127.0.0.1:0", "the test").unwrap();
        let server = Server::start(listener, Arc::new(handler), Limits::default()).unwrap();
        Board { server, asked }
    }

    pub fn port(&self) -> u16 {
        self.server.local_addr().port()
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
