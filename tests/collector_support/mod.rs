//! A fake Prometheus that can misbehave, a running collector, and a minimal WebSocket client.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{get, Log, TempDir, WAIT_TIMEOUT};

/// How the fake answers queries.
#[derive(Debug, Clone)]
pub enum Behaviour {
    Good,
    /// This body instead of the answer to the query for node_cpu_seconds_total.
    Cpu(Vec<u8>),
    /// Status 503 for queries that contain this text.
    Without(&'static str),
    /// This status, content type and body for every query.
    All(u16, &'static str, &'static str),
    /// No answer.
    Silent,
    /// An answer of one byte a second.
    Drip,
    /// A connection that is cut.
    Cut,
}

/// A fake Prometheus, which stops when it is dropped.
pub struct FakePrometheus {
    pub address: SocketAddr,
    mode: Arc<Mutex<Behaviour>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakePrometheus {
    pub fn start() -> FakePrometheus {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(Behaviour::Good));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared_behaviour, stopped) = (Arc::clone(&mode), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut serving = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (mode, stop) = (Arc::clone(&shared_behaviour), Arc::clone(&stopped));
                let stream = stream.unwrap();
                // Clients may disconnect.
                serving.push(std::thread::spawn(move || {
                    drop(serve(&stream, &mode, &stop))
                }));
            }
            for thread in serving {
                thread.join().unwrap();
            }
        });
        FakePrometheus {
            address,
            mode,
            stop,
            thread: Some(thread),
        }
    }

    pub fn set(&self, mode: Behaviour) {
        *self.mode.lock().unwrap() = mode;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for FakePrometheus {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(stream: &TcpStream, mode: &Mutex<Behaviour>, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    if stop.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                }
                Err(e) => return Err(e),
            }
        }
        let mode = mode.lock().unwrap().clone();
        let target = head.split(' ').nth(1).unwrap_or_default();
        answer(stream, target, &mode, stop)?;
    }
}

fn answer(
    mut stream: &TcpStream,
    target: &str,
    mode: &Behaviour,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let (status, kind, body) = match mode {
        Behaviour::All(status, kind, body) => (*status, *kind, body.as_bytes().to_vec()),
        Behaviour::Cpu(body) if target.contains("node_cpu_seconds_total") => {
            (200, "application/json", body.clone())
        }
        Behaviour::Without(name) if target.contains(name) => (503, "text/plain", Vec::new()),
        Behaviour::Cut => return Err(std::io::ErrorKind::ConnectionAborted.into()),
        _ => (200, "application/json", good(target).into_bytes()),
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nLocation: /login\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let whole = [head.as_bytes(), &body].concat();
    // Waits in small steps, to notice the end of the test.
    let wait = |tenths: usize| {
        (0..tenths).all(|_| {
            std::thread::sleep(Duration::from_millis(100));
            !stop.load(Ordering::SeqCst)
        })
    };
    match mode {
        Behaviour::Silent => {
            wait(100);
            Err(std::io::ErrorKind::TimedOut.into())
        }
        Behaviour::Drip => {
            for byte in whole {
                stream.write_all(&[byte])?;
                if !wait(10) {
                    break;
                }
            }
            Ok(())
        }
        _ => stream.write_all(&whole),
    }
}

/// A cluster of two nodes and one pod.
fn good(target: &str) -> String {
    let vector = |series: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    };
    let has = |name: &str| target.contains(name);
    if has("query=time%28%29") {
        return r#"{"status":"success","data":{"resultType":"scalar","result":[1763717000.5,"1763717000.5"]}}"#.into();
    }
    if has("node_cpu_seconds_total") {
        vector(
            r#"{"metric":{"instance":"10.0.0.1:9100"},"value":[1763717000.5,"1.5"]},
               {"metric":{"instance":"10.0.0.2:9100"},"value":[1763717000.5,"2.5"]}"#,
        )
    } else if has("kubelet_working_pods") {
        vector(r#"{"metric":{"instance":"10.0.0.1:10250"},"value":[1763717000.5,"12"]}"#)
    } else if has("kube_node_info") {
        vector(
            r#"{"metric":{"internal_ip":"10.0.0.1","node":"node-a"},"value":[1763717000.5,"1"]}"#,
        )
    } else if has("container_cpu_usage") {
        vector(
            r#"{"metric":{"pod":"web-0","instance":"10.0.0.1:10250"},"value":[1763717000.5,"0.25"]}"#,
        )
    } else if has("kind%2C%20name%2C") && has("workload_energy_joules_total") && has("board") {
        // It draws 1.5 W, by the clock of the test.
        let joules = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs_f64()
            * 1.5;
        vector(&format!(
            r#"{{"metric":{{"kind":"service","name":"a, b.service","hostname":"edge-01"}},"value":[1763717000.5,"{joules}"]}}"#
        ))
    } else if has("kind%2C%20name%2C") && has("workload_cpu_seconds_total") {
        vector(
            r#"{"metric":{"kind":"service","name":"a, b.service","hostname":"edge-01"},"value":[1763717000.5,"0.5"]},
               {"metric":{"kind":"container","name":"web","hostname":"edge-01"},"value":[1763717000.5,"0.25"]}"#,
        )
    } else {
        vector("")
    }
}

/// A running collector, which is killed when this is dropped.
pub struct Collector {
    pub child: Child,
    pub address: SocketAddr,
    log: Log,
    pub dir: TempDir,
}

impl Collector {
    /// Starts a collector with this configuration, on any free port.
    pub fn start(config: &str) -> Collector {
        Collector::start_in(TempDir::new(), config, &[])
    }

    /// The same, with its files in this directory and more arguments.
    pub fn start_in(dir: TempDir, config: &str, arguments: &[&str]) -> Collector {
        let path = dir.write("collector.yaml", config);
        let mut child = Command::new(env!("CARGO_BIN_EXE_edge-metrics-exporter"))
            .args(["collect", "--web.listen-address", "127.0.0.1:0", "--config"])
            .arg(path)
            .args(arguments)
            .envs([
                ("PROMETHEUSSERVER", ""),
                ("UPDATE_INTERVAL", ""),
                ("NAMESPACE", ""),
            ])
            .env_remove("KUBERNETES_SERVICE_HOST")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut collector = Collector {
            log: Log::of(&mut child),
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            dir,
        };
        collector.address = collector.log.address(&mut collector.child, "collect");
        collector
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    pub fn rows(&self, path: &str) -> Vec<String> {
        let answer = get(self.address, path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().lines().skip(1).map(str::to_owned).collect()
    }

    pub fn health(&self) -> serde_json::Value {
        serde_json::from_slice(&get(self.address, "/health").body).unwrap()
    }

    /// The value of a series at `/metrics/self`.
    pub fn metric(&self, series: &str) -> f64 {
        let text = get(self.address, "/metrics/self").text();
        crate::support::value(&text, series).unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    pub fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(&format!("{field}:")));
        line.unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    pub fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client of a WebSocket.
pub struct Stream {
    pub socket: TcpStream,
    received: Vec<u8>,
}

impl Stream {
    /// Sends the handshake. Also returns the status and the head of the response.
    pub fn ask(address: SocketAddr, path: &str, more: &str) -> (Stream, u16, String) {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut stream = Stream {
            socket,
            received: Vec::new(),
        };
        let end = loop {
            if let Some(at) = stream.received.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(stream.receive(), "closed before there was an answer");
        };
        let head = String::from_utf8(stream.received.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (stream, status, head)
    }

    pub fn open(address: SocketAddr, path: &str) -> Stream {
        let (stream, status, head) = Stream::ask(address, path, "");
        assert_eq!(status, 101, "{head}");
        // RFC 6455, 1.3.
        assert!(
            head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{head}"
        );
        stream
    }

    fn receive(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let n = self.socket.read(&mut chunk).unwrap();
        self.received.extend(&chunk[..n]);
        n > 0
    }

    /// Reads the next frame: opcode and payload; `None` at the end.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let [first, length, rest @ ..] = self.received.as_slice() {
                let (length, start) = match (*length, rest) {
                    (126, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
                    (126, _) => (usize::MAX / 2, 4),
                    (short, _) => (usize::from(short), 2),
                };
                if self.received.len() >= start + length {
                    let opcode = first & 0x0f;
                    let frame: Vec<u8> = self.received.drain(..start + length).collect();
                    return Some((opcode, frame[start..].to_vec()));
                }
            }
            if !self.receive() {
                return None;
            }
        }
    }

    /// Reads the next text message.
    pub fn text(&mut self) -> String {
        loop {
            match self.frame() {
                Some((1, text)) => return String::from_utf8(text).unwrap(),
                Some((9, _)) => {}
                other => panic!("{other:?} instead of a message"),
            }
        }
    }

    /// Reads up to the close frame: its code and reason.
    pub fn close(&mut self) -> (u16, String) {
        loop {
            match self.frame() {
                Some((8, payload)) => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    return (code, String::from_utf8(payload[2..].to_vec()).unwrap());
                }
                Some(_) => {}
                None => panic!("closed without a close frame"),
            }
        }
    }
}
