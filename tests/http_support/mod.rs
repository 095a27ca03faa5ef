//! A server on loopback, clients of every kind, and a count of what they leave behind.
#![allow(dead_code, unreachable_pub)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edge_metrics_exporter::http::{bind, Limits, Request, Response, Server};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};

/// Longer than anything here takes, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tests in one process share descriptors and threads, and these tests count them: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A running server, and what there was before it.
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
        // A handler that outlived its server may still be on its way out: what it holds is not this scene's.
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

    /// A server whose answers say what was asked.
    pub fn echo(limits: Limits) -> Scene {
        Scene::new(limits, echo)
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.server.local_addr()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends this on a new connection and reads until the server hangs up.
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect();
        // It may have been refused before it was all sent.
        let _ = socket.write_all(bytes.as_ref());
        read_to_end(&mut socket)
    }

    /// Whether it still answers, as it should.
    pub fn is_well(&self) -> bool {
        self.exchange("GET /well HTTP/1.0\r\n\r\n")
            .ends_with("\r\n\r\nGET /well \n")
    }

    /// Waits for all connections to be gone.
    pub fn settle(&self) {
        wait_for("connections to end", || self.server.connections() == 0);
    }

    /// Stops the server, then drops the clients, and finds no thread and no descriptor left.
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
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All that comes until the server hangs up; a reset ends it too.
pub fn read_to_end(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    if let Err(e) = socket.read_to_end(&mut bytes) {
        assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer of a connection that stays open: head and body.
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

/// Whether the server has hung up, without another byte.
pub fn is_closed(socket: &mut TcpStream) -> bool {
    match socket.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

/// The status of an answer, 0 if there is none.
pub fn status(answer: &str) -> u16 {
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|a| a.get(..3));
    code.map_or(0, |c| c.parse().unwrap())
}

/// A socket that is not connected yet.
pub fn unconnected() -> OwnedFd {
    socket::socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap()
}

/// Connects it, from this address of loopback's many.
pub fn connect_from(socket: OwnedFd, from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let from = SockaddrIn::from(SocketAddrV4::new(from, 0));
    socket::bind(socket.as_raw_fd(), &from).unwrap();
    let IpAddr::V4(ip) = to.ip() else {
        panic!("{to}")
    };
    let to = SockaddrIn::from(SocketAddrV4::new(ip, to.port()));
    socket::connect(socket.as_raw_fd(), &to).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Closing it from now on sends a reset.
pub fn reset_on_close(socket: &TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    socket::setsockopt(socket, socket::sockopt::Linger, &linger).unwrap();
}

/// Threads of servers, by their names; the harness has others, that come and go as it likes.
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
