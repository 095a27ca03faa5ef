//! Starts the real binary, and sends requests to it.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

pub mod free_port;
mod log;
pub mod programs;
pub mod registers;
mod temp_dir;
mod wait;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use log::Log;
pub use temp_dir::TempDir;
pub use wait::{wait_until, WAIT_TIMEOUT};

/// A running exporter. It is killed when this is dropped.
pub struct Exporter {
    pub child: Child,
    pub metrics: SocketAddr,
    pub management: SocketAddr,
    log: Log,
    /// Resident pages of its file after the start, in kB.
    code: u64,
}

/// The binary under test: Cargo's build, or the file that `EXPORTER` names (a release build, or a script that runs a binary
/// of another architecture under an emulator).
pub fn binary() -> OsString {
    let built_by_cargo = env!("CARGO_BIN_EXE_edge-metrics-exporter");
    other_binary().unwrap_or(built_by_cargo.into())
}

fn other_binary() -> Option<OsString> {
    std::env::var_os("EXPORTER")
}

/// The command that starts the binary on free ports.
pub fn exporter() -> Command {
    let mut command = command();
    command
        .args(["--web.listen-address", "127.0.0.1:0"])
        .args(["--web.management-address", "127.0.0.1:0"]);
    command
}

/// The command that starts the binary in a role without ports.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    command
        .env_remove("LOCAL_CONFIG_PATH")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Adds arguments that replace the machine's files by a fixture board.
pub fn on_board(command: &mut Command, board: &Path) {
    for (flag, dir) in [("sysfs", "sys"), ("procfs", "proc"), ("dev", "dev")] {
        command.arg(format!("--path.{flag}")).arg(board.join(dir));
    }
    // Each stand-in has its own directory, so that a board gets only the programs whose output it has.
    let mut path = std::env::var("PATH").unwrap();
    for (output, variable, bin) in [
        ("tegrastats.txt", "TEGRASTATS_LINES", "tests/support/bin"),
        (
            "nvidia-smi.txt",
            "NVIDIA_SMI_TABLE",
            "tests/support/bin/nvidia",
        ),
    ] {
        let output = board.join(output);
        if output.exists() {
            let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join(bin);
            path = format!("{}:{path}", bin.display());
            command.env(variable, output);
            command.env("NVIDIA_SMI_PMON", board.join("nvidia-pmon.txt"));
        }
    }
    command.env("PATH", path);
}

impl Exporter {
    /// Starts the exporter and waits until it listens.
    pub fn start(command: &mut Command) -> Exporter {
        let mut child = command.spawn().unwrap();
        let mut exporter = Exporter {
            log: Log::of(&mut child),
            child,
            metrics: SocketAddr::from(([127, 0, 0, 1], 0)),
            management: SocketAddr::from(([127, 0, 0, 1], 0)),
            code: 0,
        };
        exporter.metrics = exporter.address("metrics");
        exporter.management = exporter.address("management");
        exporter.code = exporter.status("RssFile");
        exporter
    }

    /// The latest listen address of this port in the log.
    pub fn address(&mut self, name: &str) -> SocketAddr {
        self.log.address(&mut self.child, name)
    }

    /// Waits for a log line that contains `text`; returns the last one.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        self.log.wait_for(&mut self.child, text)
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// Stops the exporter by SIGTERM, and waits for its end.
    pub fn stop(mut self) -> (ExitStatus, Duration, String) {
        let asked = Instant::now();
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = wait_until("it ends", || self.child.try_wait().unwrap());
        (status, asked.elapsed(), self.log())
    }

    pub fn scrape(&self) -> String {
        let answer = get(self.metrics, "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// The value of the series whose line begins with `series` and a space.
    pub fn value(&self, series: &str) -> Option<f64> {
        value(&self.scrape(), series)
    }

    /// Peak resident memory in kB. Of a debug build without its code, which is large. The kernel may have evicted code pages
    /// since the peak, so the larger of two readings is subtracted.
    pub fn peak_memory(&self) -> u64 {
        let is_debug_build = cfg!(debug_assertions) && other_binary().is_none();
        let code = match is_debug_build {
            true => self.status("RssFile").max(self.code),
            false => 0,
        };
        self.status("VmHWM").saturating_sub(code)
    }

    /// A number from its `/proc/pid/status`, such as `VmRSS` in kB or `Threads`.
    pub fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(&format!("{field}:")));
        let number = line.unwrap().split_whitespace().nth(1).unwrap();
        number.parse().unwrap()
    }

    /// The number of threads when idle.
    pub fn threads_at_rest(&self) -> u64 {
        self.at_rest(|exporter| exporter.status("Threads"))
    }

    /// The value of `look` once it is the same twice in a row: closed connections take a while to disappear.
    pub fn at_rest<T: PartialEq>(&self, look: impl Fn(&Exporter) -> T) -> T {
        wait_until("it is at rest", || {
            let now = look(self);
            std::thread::sleep(Duration::from_millis(100));
            (now == look(self)).then_some(now)
        })
    }

    pub fn open_fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the exporter's log:\n{}", self.log());
        }
    }
}

/// The value of the series whose line begins with `series` and a space.
pub fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[])
}

/// `None`: the connection was closed without a response, to make room for another.
pub fn try_get(address: SocketAddr, path: &str) -> Option<Answer> {
    try_request(address, "GET", path, &[]).ok()?
}

pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let answer = try_request(address, method, path, headers).unwrap();
    answer.unwrap()
}

/// A POST of JSON.
pub fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    try_post(address, path, body).unwrap()
}

/// `None`: there was no response.
pub fn try_post(address: SocketAddr, path: &str, body: &str) -> Option<Answer> {
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", &length),
    ];
    try_send(address, "POST", path, &headers, body).ok()?
}

fn try_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> std::io::Result<Option<Answer>> {
    try_send(address, method, path, headers, "")
}

/// A scrape with this `Authorization`, from this loopback address; `None`: there was no response.
pub fn request_from(from: Ipv4Addr, address: SocketAddr, login: &str) -> Option<Answer> {
    use nix::sys::socket::{bind, connect, socket, AddressFamily, SockFlag, SockType, SockaddrIn};
    let SocketAddr::V4(to) = address else {
        panic!("{address}")
    };
    let (family, kind) = (AddressFamily::Inet, SockType::Stream);
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let from = SockaddrIn::from(SocketAddrV4::new(from, 0));
    bind(fd.as_raw_fd(), &from).unwrap();
    connect(fd.as_raw_fd(), &SockaddrIn::from(to)).ok()?;
    let headers = [("Authorization", login)];
    let stream = TcpStream::from(fd);
    send_on(stream, address, "GET", "/metrics", &headers, "").ok()?
}

fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Option<Answer>> {
    let stream = TcpStream::connect(address)?;
    send_on(stream, address, method, path, headers, body)
}

fn send_on(
    mut stream: TcpStream,
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Option<Answer>> {
    stream.set_read_timeout(Some(WAIT_TIMEOUT))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    Ok(Some(Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: answer[end + 4..].to_vec(),
    }))
}

/// The lines that only one of the texts has.
pub fn difference(expected: &str, got: &str) -> String {
    let only = |a: &str, b: &str, mark: &str| {
        let missing = a.lines().filter(|line| !b.lines().any(|l| l == *line));
        missing
            .map(|line| format!("{mark} {line}\n"))
            .collect::<String>()
    };
    let lines = only(expected, got, "-") + &only(got, expected, "+");
    if lines.is_empty() {
        "the same lines in another order".to_string()
    } else {
        lines
    }
}
