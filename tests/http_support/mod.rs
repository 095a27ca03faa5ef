//! A server on loopback, clients, and checks for leaked threads and descriptors.
#![allow(dead_code, unreachable_pub)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edge_metrics_exporter::http::{bind, Limits, Request, Response, Server};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};

/// Longer than anything here takes, on a machine that is busy with other things.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// These tests count the descriptors and threads of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A running server, and the threads and descriptors from before its start.
pub struct Scene {
    pub server: Server,
    before: (usize, usize),
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    pub fn new(
        limits: Limits,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Scene {
        Scene::at("127.0.0.1:0", limits, handler)
    }

    /// A server on another address than IPv4's loopback.
    pub fn at(
        address: &str,
        limits: Limits,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Scene {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // A handler of an earlier server may still be ending: its descriptors do not count.
        wait_for("the threads of the scene before to end", || {
            server_threads() == 0
        });
        let before = (server_threads(), sockets());
        let listener = bind(address, "the test").unwrap();
        let server = Server::start(listener, Arc::new(handler), limits).unwrap();
        Scene {
            server,
            before,
            _alone: alone,
        }
    }

    /// A server that echoes method, path and body.
    pub fn echo(limits: Limits) -> Scene {
        Scene::new(limits, echo)
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.server.local_addr()).unwrap();
        socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(WAIT_TIMEOUT)).unwrap();
        socket
    }

    /// Sends this on a new connection and reads until the server closes it.
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect();
        // The request may be refused before it is sent completely.
        let _ = socket.write_all(bytes.as_ref());
        read_to_end(&mut socket)
    }

    /// Whether the server still answers.
    pub fn is_well(&self) -> bool {
        self.exchange("GET /well HTTP/1.0\r\n\r\n")
            .ends_with("\r\n\r\nGET /well \n")
    }

    /// Waits for all connections to be gone.
    pub fn settle(&self) {
        wait_for("connections to end", || self.server.connections() == 0);
    }

    /// Stops the server, drops the clients, and checks that no thread and no descriptor is left.
    pub fn end<T>(self, clients: T) {
        self.server.stop();
        drop(clients);
        let before = self.before;
        wait_for("threads and sockets to be as many as before", || {
            (server_threads(), sockets()) == before
        });
    }
}

pub fn echo(request: &Request) -> Response {
    let query = request
        .query
        .as_deref()
        .map(|q| format!("?{q}"))
        .unwrap_or_default();
    let body = String::from_utf8_lossy(&request.body);
    Response::text(
        200,
        format!("{} {}{query} {body}\n", request.method, request.path),
    )
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads until the server closes or resets the connection.
pub fn read_to_end(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    if let Err(e) = socket.read_to_end(&mut bytes) {
        assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One response on a connection that stays open: head and body.
pub fn read_answer(socket: &mut TcpStream) -> (String, String) {
    let head = read_head(socket);
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "))
        .map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

pub fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(socket.read(&mut byte).unwrap(), 1, "hung up after {head:?}");
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// Whether the server has closed the connection without another byte.
pub fn is_closed(socket: &mut TcpStream) -> bool {
    match socket.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

/// The status of a response, 0 without one.
pub fn status(answer: &str) -> u16 {
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|a| a.get(..3));
    code.map_or(0, |c| c.parse().unwrap())
}

/// An unconnected socket.
pub fn unconnected() -> OwnedFd {
    socket::socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap()
}

/// Connects it from this loopback address.
pub fn connect_from(socket: OwnedFd, from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let from = SockaddrIn::from(SocketAddrV4::new(from, 0));
    socket::bind(socket.as_raw_fd(), &from).unwrap();
    let IpAddr::V4(ip) = to.ip() else {
        panic!("{to}")
    };
    let to = SockaddrIn::from(SocketAddrV4::new(ip, to.port()));
    socket::connect(socket.as_raw_fd(), &to).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    socket
}

/// Makes a later close send a reset.
pub fn reset_on_close(socket: &TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    socket::setsockopt(socket, socket::sockopt::Linger, &linger).unwrap();
}

/// The server's threads, by their names; the test harness has others.
fn server_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .filter(|name| matches!(name.trim_end(), "http" | "http-accept"))
        .count()
}

/// Open sockets and event descriptors.
fn sockets() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter(|to| {
            let to = to.to_string_lossy();
            to.starts_with("socket:") || to.contains("eventfd")
        })
        .count()
}

/// Resident memory of this process in bytes.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
