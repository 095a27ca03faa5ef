//! Accepts connections, and survives whatever accepting may fail with.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{getrlimit, Resource};
use tiny_http::HTTPVersion;

use super::access::{AccessControl, Peer};
use super::connection::serve;
use super::connection_slots::{ConnectionSlot, ConnectionSlots};
use super::date::format_date;
use super::limits::{Limits, ACCEPT_RETRY_DELAY, CHUNK, STOP_TIMEOUT, WARNING_INTERVAL};
use super::response::Response;
use super::stream::Socket;
#[cfg(feature = "tls")]
use super::tls::{Failure, TlsStream};
use super::Handler;
#[cfg(feature = "tls")]
use super::{connection::reject, head::RequestError};
use crate::sys::clock::wall_seconds;
use crate::sys::stop::{Stop, Woken};

/// A running server: one thread that accepts, and one thread per connection. Dropping it stops the server.
pub struct Server {
    address: SocketAddr,
    stop: Arc<Stop>,
    slots: Arc<ConnectionSlots>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves everybody on this listener. Fails when the socket does not listen, or when no thread can be started.
    pub fn start(
        listener: TcpListener,
        handler: Arc<Handler>,
        limits: Limits,
    ) -> io::Result<Server> {
        Server::start_with_access(AccessControl::open(), listener, handler, limits)
    }

    /// Serves the clients that `access` lets in.
    pub fn start_with_access(
        access: Arc<AccessControl>,
        listener: TcpListener,
        handler: Arc<Handler>,
        limits: Limits,
    ) -> io::Result<Server> {
        let address = listener.local_addr()?;
        // A client can disconnect between the poll and the accept, which must not block then.
        listener.set_nonblocking(true)?;
        let stop = Arc::new(Stop::default());
        let max = limits.connections.min(max_descriptors() / 2);
        let slots = Arc::new(ConnectionSlots::new(max, limits.per_peer));
        let acceptor = Acceptor {
            listener,
            access,
            handler,
            limits: Arc::new(limits),
            stop: Arc::clone(&stop),
            slots: Arc::clone(&slots),
        };
        let accepting = thread::Builder::new()
            .name("http-accept".into())
            .stack_size(acceptor.limits.stack)
            .spawn(move || acceptor.run())?;
        Ok(Server {
            address,
            stop,
            slots,
            accepting: Some(accepting),
        })
    }

    /// The address it listens on; the port is the real one, also when port 0 was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The number of connections now.
    pub fn connections(&self) -> usize {
        self.slots.count()
    }

    /// Closes the listening socket, then the connections: idle ones at once, the others after their response, but at the
    /// latest after half a second. The port is free when this returns.
    pub fn stop(self) {
        drop(self);
    }

    /// Closes the listening socket alone. Connections stay until [`Self::stop`]. The port is free when this returns.
    pub fn stop_accepting(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            self.stop.set();
            // The thread never blocks for long, so it ends within milliseconds. `Err`: it has panicked, and so ended.
            let _ = accepting.join();
        }
    }

    /// Whether it accepts connections.
    pub fn is_accepting(&self) -> bool {
        self.accepting.is_some()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_accepting();
        self.slots.close(STOP_TIMEOUT);
    }
}

/// The limit on this process's descriptors.
fn max_descriptors() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// What the accepting thread needs.
struct Acceptor {
    listener: TcpListener,
    access: Arc<AccessControl>,
    handler: Arc<Handler>,
    limits: Arc<Limits>,
    stop: Arc<Stop>,
    slots: Arc<ConnectionSlots>,
}

impl Acceptor {
    fn run(self) {
        let mut warned_at: Option<Instant> = None;
        while !self.stop.is_set() {
            match self.listener.accept() {
                Ok((socket, peer)) => self.start_connection(socket, peer),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => {
                        let later = Instant::now() + Duration::from_secs(3600);
                        if self.stop.wait_readable(self.listener.as_fd(), later) == Woken::Stop {
                            return;
                        }
                    }
                    // The client has disconnected already.
                    Some(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => {}
                    errno => {
                        if warned_at.is_none_or(|then| then.elapsed() > WARNING_INTERVAL) {
                            log::warn!("{}: cannot accept a connection: {error}", self.name());
                            warned_at = Some(Instant::now());
                        }
                        // Meanwhile connections may end and free their descriptors.
                        self.stop.wait_until(Instant::now() + ACCEPT_RETRY_DELAY);
                        if matches!(
                            errno,
                            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
                        ) {
                            self.slots.evict_one();
                        }
                    }
                },
            }
        }
    }

    fn name(&self) -> String {
        self.listener
            .local_addr()
            .map_or_else(|_| "?".into(), |a| a.to_string())
    }

    fn start_connection(&self, socket: TcpStream, peer: SocketAddr) {
        let socket = Arc::new(socket);
        let Some(slot) = self.slots.acquire(&socket, peer) else {
            respond_busy(&socket);
            return;
        };
        let (handler, limits) = (Arc::clone(&self.handler), Arc::clone(&self.limits));
        let access = Arc::clone(&self.access);
        let connected = Arc::clone(&socket);
        let thread = thread::Builder::new()
            .name("http".into())
            .stack_size(self.limits.stack)
            .spawn(move || {
                // Without it, the second of two requests on a connection waits for the acknowledgment of the first (44 ms).
                let _ = connected.set_nodelay(true);
                let socket = Socket::new(connected);
                serve_client(socket, peer, &slot, &access, &*handler, &limits);
            });
        if let Err(error) = thread {
            log::debug!("no thread for a connection: {error}");
            respond_busy(&socket);
        }
    }
}

/// Serves a client that has just been accepted, by TLS if the policy asks for that.
fn serve_client(
    socket: Socket,
    peer: SocketAddr,
    slot: &ConnectionSlot,
    access: &Arc<AccessControl>,
    handler: &Handler,
    limits: &Limits,
) {
    let policy = access.policy();
    #[cfg(feature = "tls")]
    if let Some(tls) = &policy.tls {
        let deadline = Instant::now() + limits.head_time;
        match TlsStream::accept(socket, Arc::clone(&tls.config), deadline) {
            Ok(stream) => {
                let peer = Peer::by_tls(peer, policy, stream.certificates());
                serve(stream, peer, slot, access, handler, limits);
            }
            Err(refused) => {
                let why = match refused.why {
                    Failure::NotTls => Some(RequestError {
                        status: 400,
                        reason: "this port speaks https: write https:// in the URL",
                    }),
                    Failure::Handshake(error) => {
                        log::debug!("{peer}: no TLS: {error}");
                        None
                    }
                };
                reject(refused.socket, why, limits);
            }
        }
        return;
    }
    let peer = Peer::plain(peer, policy);
    serve(socket, peer, slot, access, handler, limits);
}

/// Responds with 503, without ever waiting for the client.
fn respond_busy(mut socket: &TcpStream) {
    let mut response = Response::text(503, "all connections are busy: try again\n")
        .with_header("Retry-After", "1");
    let mut bytes = Vec::new();
    let date = format_date(wall_seconds());
    response.print_head(&mut bytes, &HTTPVersion(1, 1), false, &date);
    bytes.extend_from_slice(response.body());
    if socket.set_nonblocking(true).is_ok() {
        // Closing with unread bytes sends a reset, which would overtake the response.
        let _ = socket.read(&mut [0; CHUNK]);
        let _ = socket.write(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
    }
}
