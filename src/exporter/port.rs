//! A port of the exporter: bound, rebound when its address changes, retried while its interface is not up.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::{bind, port_of, AccessControl, Handler, Limits, Server};

/// How often an address that the board does not have yet is tried.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// A port, open or closed.
pub(super) struct Port {
    name: &'static str,
    /// The settings of its address, for error messages.
    settings: &'static str,
    access_control: Arc<AccessControl>,
    handler: Arc<Handler>,
    limits: Limits,
    address: String,
    server: Option<Server>,
    /// Servers that were replaced, and may still be sending responses.
    replaced: Vec<Server>,
    retry_at: Option<Instant>,
    /// The service manager owns the socket (systemd's socket activation).
    is_socket_activated: bool,
}

impl Port {
    pub(super) fn new(
        name: &'static str,
        settings: &'static str,
        access_control: Arc<AccessControl>,
        handler: Arc<Handler>,
        limits: Limits,
    ) -> Port {
        Port {
            name,
            settings,
            access_control,
            handler,
            limits,
            replaced: Vec::new(),
            address: String::new(),
            server: None,
            retry_at: None,
            is_socket_activated: false,
        }
    }

    /// Serves on a socket of the service manager, and ignores the configured address from then on.
    pub(super) fn adopt_socket(&mut self, socket: TcpListener) -> Result<(), String> {
        let server = self.serve(socket).map_err(|error| error.message)?;
        self.replace(Some(server));
        self.is_socket_activated = true;
        Ok(())
    }

    /// Prepares to listen on `address`, or on none, without closing the current server. An address that the board does
    /// not have yet is tried again later; any other failure is an error. Dropping the result undoes the preparation.
    pub(super) fn prepare(&self, address: Option<&str>) -> Result<PortChange, ListenError> {
        if !self.moves_to(address) {
            return Ok(PortChange::Keep);
        }
        let Some(address) = address else {
            return Ok(PortChange::Close);
        };
        match self.open(address) {
            Ok(server) => Ok(PortChange::Open(address.to_owned(), server)),
            Err(error) if error.is_transient && self.server.is_none() => {
                log::warn!("{}: {}; trying again", self.name, error.message);
                Ok(PortChange::Wait(address.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Closes the current server if it is going to move to `address` and blocks one of the `wanted` addresses: on a
    /// port, one address and all addresses exclude each other. Returns whether the server was closed.
    pub(super) fn close_if_in_the_way(
        &mut self,
        address: Option<&str>,
        wanted: &[Option<&str>],
    ) -> bool {
        let port = self.port();
        let in_the_way = wanted.iter().flatten().any(|a| port_of(a) == port);
        let moves = self.moves_to(address);
        match &mut self.server {
            Some(server) if in_the_way && moves => {
                server.stop_accepting();
                true
            }
            _ => false,
        }
    }

    /// Makes the prepared change. The old server accepts no more connections, but ends only with [`Port::retire`].
    pub(super) fn commit(&mut self, change: PortChange) {
        match change {
            PortChange::Keep => {}
            PortChange::Close => {
                self.address.clear();
                if self.server.is_some() {
                    log::info!("{}: closed", self.name);
                }
                self.retry_at = None;
                self.replace(None);
            }
            PortChange::Open(address, server) => {
                self.address = address;
                self.retry_at = None;
                self.replace(Some(server));
            }
            PortChange::Wait(address) => {
                self.address = address;
                self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
            }
        }
    }

    /// The number of the port, if it is open.
    pub(super) fn port(&self) -> Option<u16> {
        let server = self.server.as_ref()?;
        Some(server.local_addr().port())
    }

    /// Ends replaced servers, after their last response.
    pub(super) fn retire(&mut self) {
        self.replaced.drain(..).for_each(Server::stop);
    }

    /// Whether `address` differs from the current one.
    fn moves_to(&self, address: Option<&str>) -> bool {
        !self.is_socket_activated && address.unwrap_or_default() != self.address
    }

    /// Listens on the current address again, if its server was closed to make way.
    pub(super) fn reopen(&mut self) {
        if self.server.as_ref().is_none_or(Server::is_accepting) {
            return;
        }
        match self.open(&self.address) {
            Ok(server) => self.replace(Some(server)),
            Err(error) => {
                log::error!("{}: {}; trying again", self.name, error.message);
                self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
            }
        }
    }

    /// Tries a waiting address again, if it is time to.
    pub(super) fn retry(&mut self) {
        if self.retry_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        match self.open(&self.address) {
            Ok(server) => {
                self.retry_at = None;
                self.replace(Some(server));
                self.retire();
            }
            Err(_) => self.retry_at = Some(Instant::now() + RETRY_INTERVAL),
        }
    }

    pub(super) fn stop(mut self) {
        self.replace(None);
        self.retire();
    }

    fn replace(&mut self, server: Option<Server>) {
        if let Some(server) = &server {
            let url = self.access_control.url(server.local_addr());
            log::info!("{}: listening on {url}", self.name);
        }
        if let Some(mut old) = std::mem::replace(&mut self.server, server) {
            old.stop_accepting();
            self.replaced.push(old);
        }
    }

    fn open(&self, address: &str) -> Result<Server, ListenError> {
        let socket = bind(address, self.settings).map_err(|e| ListenError {
            is_transient: e.may_come_up(),
            is_in_use: e.is_in_use(),
            message: e.to_string(),
        })?;
        self.serve(socket)
    }

    fn serve(&self, socket: TcpListener) -> Result<Server, ListenError> {
        let access_control = Arc::clone(&self.access_control);
        let handler = Arc::clone(&self.handler);
        Server::start_with_access(access_control, socket, handler, self.limits.clone()).map_err(
            |e| ListenError {
                is_transient: false,
                is_in_use: false,
                message: format!("cannot serve {}: {e}", self.name),
            },
        )
    }
}

/// A prepared change of a port.
pub(super) enum PortChange {
    /// The port stays as it is.
    Keep,
    /// The port is closed.
    Close,
    /// The port listens here: the server runs already.
    Open(String, Server),
    /// The port listens here as soon as the board has the address.
    Wait(String),
}

/// Why listening on an address failed.
pub(super) struct ListenError {
    pub(super) message: String,
    /// The board does not have the address, but may have it soon.
    is_transient: bool,
    /// Another socket has the address.
    pub(super) is_in_use: bool,
}
