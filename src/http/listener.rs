//! Accepting connections, whatever comes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{getrlimit, Resource};
use tiny_http::HTTPVersion;

use super::connection::serve;
use super::date::format_date;
use super::gate::{Caller, Gate};
use super::limits::{Limits, ACCEPT_PAUSE, CHUNK, COMPLAINT_PAUSE, STOP_TIME};
use super::response::Response;
use super::seats::{Guest, Seats};
use super::stream::Socket;
#[cfg(feature = "tls")]
use super::tls::{Failure, TlsStream};
use super::Handler;
#[cfg(feature = "tls")]
use super::{connection::turn_back, head::HeadError};
use crate::sys::clock::wall_seconds;
use crate::sys::stop::{Stop, Woken};

/// A running server: one thread that accepts, and one per connection for as long as that lasts. Dropping it stops it.
pub struct Server {
    address: SocketAddr,
    stop: Arc<Stop>,
    seats: Arc<Seats>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers on this listener from now on. Fails when the listener is no listener, or when there is no thread to be had.
    pub fn start(
        listener: TcpListener,
        handler: Arc<Handler>,
        limits: Limits,
    ) -> io::Result<Server> {
        Server::behind(Gate::open(), listener, handler, limits)
    }

    /// The same for those alone whom this gate lets in.
    pub fn behind(
        gate: Arc<Gate>,
        listener: TcpListener,
        handler: Arc<Handler>,
        limits: Limits,
    ) -> io::Result<Server> {
        let address = listener.local_addr()?;
        // So that accepting never blocks for a client that has gone again after it was announced.
        listener.set_nonblocking(true)?;
        let stop = Arc::new(Stop::default());
        let most = limits.connections.min(descriptors() / 2);
        let seats = Arc::new(Seats::new(most, limits.per_peer));
        let door = Door {
            listener,
            gate,
            handler,
            limits: Arc::new(limits),
            stop: Arc::clone(&stop),
            seats: Arc::clone(&seats),
        };
        let accepting = thread::Builder::new()
            .name("http-accept".into())
            .stack_size(door.limits.stack)
            .spawn(move || door.run())?;
        Ok(Server {
            address,
            stop,
            seats,
            accepting: Some(accepting),
        })
    }

    /// Where it listens; the port is the real one, also when it was bound as port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        self.seats.count()
    }

    /// Closes the listening socket, then the connections: idle ones at once, the others once they have answered, at the
    /// latest after half a second. The port is free when this returns.
    pub fn stop(self) {
        drop(self);
    }

    /// Closes the listening socket alone: who is connected stays, until [`Self::stop`]. The port is free when this
    /// returns.
    pub fn close_door(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            self.stop.set();
            // It ends within a few milliseconds: it never blocks for long. If it panicked it has ended too.
            let _ = accepting.join();
        }
    }

    /// Whether it takes connections.
    pub fn is_open(&self) -> bool {
        self.accepting.is_some()
    }

    fn shut(&mut self) {
        self.close_door();
        self.seats.close(STOP_TIME);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut();
    }
}

/// How many descriptors this process may have.
fn descriptors() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// What the accepting thread holds.
struct Door {
    listener: TcpListener,
    gate: Arc<Gate>,
    handler: Arc<Handler>,
    limits: Arc<Limits>,
    stop: Arc<Stop>,
    seats: Arc<Seats>,
}

impl Door {
    fn run(self) {
        let mut complained: Option<Instant> = None;
        while !self.stop.is_set() {
            match self.listener.accept() {
                Ok((socket, peer)) => self.seat(socket, peer),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => {
                        let later = Instant::now() + Duration::from_secs(3600);
                        if self.stop.wait_readable(self.listener.as_fd(), later) == Woken::Stop {
                            return;
                        }
                    }
                    // That one has gone again.
                    Some(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => {}
                    errno => {
                        if complained.is_none_or(|then| then.elapsed() > COMPLAINT_PAUSE) {
                            log::warn!("{}: cannot accept a connection: {error}", self.name());
                            complained = Some(Instant::now());
                        }
                        // Also time for whoever has just come in to be answered and go.
                        self.stop.wait_until(Instant::now() + ACCEPT_PAUSE);
                        if matches!(
                            errno,
                            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
                        ) {
                            self.seats.free_one();
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

    fn seat(&self, socket: TcpStream, peer: SocketAddr) {
        let socket = Arc::new(socket);
        let Some(guest) = self.seats.take(&socket, peer) else {
            turn_away(&socket);
            return;
        };
        let (handler, limits) = (Arc::clone(&self.handler), Arc::clone(&self.limits));
        let gate = Arc::clone(&self.gate);
        let theirs = Arc::clone(&socket);
        let thread = thread::Builder::new()
            .name("http".into())
            .stack_size(self.limits.stack)
            .spawn(move || {
                // Without it, the second of two requests on a connection waits for the acknowledgment of the first (44 ms).
                let _ = theirs.set_nodelay(true);
                receive(Socket::new(theirs), peer, &guest, &gate, &*handler, &limits);
            });
        if let Err(error) = thread {
            log::debug!("no thread for a connection: {error}");
            turn_away(&socket);
        }
    }
}

/// Serves a client that has just been accepted, by TLS if that is what is spoken here.
fn receive(
    socket: Socket,
    peer: SocketAddr,
    guest: &Guest,
    gate: &Arc<Gate>,
    handler: &Handler,
    limits: &Limits,
) {
    let policy = gate.policy();
    #[cfg(feature = "tls")]
    if let Some(tls) = &policy.tls {
        let deadline = Instant::now() + limits.head_time;
        match TlsStream::accept(socket, Arc::clone(&tls.config), deadline) {
            Ok(stream) => {
                let caller = Caller::by_tls(peer, policy, stream.certificates());
                serve(stream, caller, guest, gate, handler, limits);
            }
            Err(refused) => {
                let why = match refused.why {
                    Failure::NotTls => Some(HeadError {
                        status: 400,
                        reason: "this port speaks https: write https:// in the URL",
                    }),
                    Failure::Handshake(error) => {
                        log::debug!("{peer}: no TLS: {error}");
                        None
                    }
                };
                turn_back(refused.socket, why, limits);
            }
        }
        return;
    }
    let caller = Caller::plain(peer, policy);
    serve(socket, caller, guest, gate, handler, limits);
}

/// 503, without ever waiting.
fn turn_away(mut socket: &TcpStream) {
    let mut answer = Response::text(503, "all connections are busy: try again\n")
        .with_header("Retry-After", "1");
    let mut bytes = Vec::new();
    let date = format_date(wall_seconds());
    answer.print_head(&mut bytes, &HTTPVersion(1, 1), false, &date);
    bytes.extend_from_slice(answer.body());
    if socket.set_nonblocking(true).is_ok() {
        // What is unread at the closing would make it a reset, and that overtakes the answer.
        let _ = socket.read(&mut [0; CHUNK]);
        let _ = socket.write(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
    }
}
