//! One of the exporter's ports: bound, rebound when its address changes, retried while its interface is not up.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::{bind, port_of, AccessControl, Handler, Limits, Server};

/// How long to wait before trying an address again that the board does not have yet.
const RETRY: Duration = Duration::from_secs(2);

/// A port, listened on or not.
pub(super) struct Listening {
    name: &'static str,
    /// The settings of its address.
    chosen_by: &'static str,
    gate: Arc<AccessControl>,
    handler: Arc<Handler>,
    limits: Limits,
    address: String,
    server: Option<Server>,
    /// Replaced, but perhaps still answering.
    leaving: Vec<Server>,
    retry_at: Option<Instant>,
    /// The service manager keeps the socket (systemd's socket activation).
    handed_over: bool,
}

impl Listening {
    pub(super) fn new(
        name: &'static str,
        chosen_by: &'static str,
        gate: Arc<AccessControl>,
        handler: Arc<Handler>,
        limits: Limits,
    ) -> Listening {
        Listening {
            name,
            chosen_by,
            gate,
            handler,
            limits,
            leaving: Vec::new(),
            address: String::new(),
            server: None,
            retry_at: None,
            handed_over: false,
        }
    }

    /// Serves on a socket that was handed over, whatever the configuration says of addresses.
    pub(super) fn take(&mut self, socket: TcpListener) -> Result<(), String> {
        let server = self.serve(socket).map_err(|failure| failure.what)?;
        self.replace(Some(server));
        self.handed_over = true;
        Ok(())
    }

    /// Gets ready to listen on `address`, or on none, beside what is listened on now. An address that the board does
    /// not have yet is tried again later; any other failure is an error. What was prepared is taken back by dropping it.
    pub(super) fn prepare(&self, address: Option<&str>) -> Result<Step, Failure> {
        if !self.moves_to(address) {
            return Ok(Step::Stay);
        }
        let Some(address) = address else {
            return Ok(Step::Close);
        };
        match self.open(address) {
            Ok(server) => Ok(Step::Open(address.to_owned(), server)),
            Err(error) if error.may_pass && self.server.is_none() => {
                log::warn!("{}: {}; trying again", self.name, error.what);
                Ok(Step::Wait(address.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives up what is listened on, if that is going to move to `address` and stands in the way of one that is
    /// `wanted`: on a port, one address and all of them exclude each other. Says whether it did.
    pub(super) fn make_way(&mut self, address: Option<&str>, wanted: &[Option<&str>]) -> bool {
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

    /// Does what was prepared. The old server takes nobody any more, but ends only when [`Self::retire`] says so.
    pub(super) fn commit(&mut self, step: Step) {
        match step {
            Step::Stay => {}
            Step::Close => {
                self.address.clear();
                if self.server.is_some() {
                    log::info!("{}: closed", self.name);
                }
                self.retry_at = None;
                self.replace(None);
            }
            Step::Open(address, server) => {
                self.address = address;
                self.retry_at = None;
                self.replace(Some(server));
            }
            Step::Wait(address) => {
                self.address = address;
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// The port that is listened on.
    pub(super) fn port(&self) -> Option<u16> {
        let server = self.server.as_ref()?;
        Some(server.local_addr().port())
    }

    /// Ends servers that were replaced, once they have answered.
    pub(super) fn retire(&mut self) {
        self.leaving.drain(..).for_each(Server::stop);
    }

    /// Whether this is another address than the one at present.
    fn moves_to(&self, address: Option<&str>) -> bool {
        !self.handed_over && address.unwrap_or_default() != self.address
    }

    /// Listens on the old address again, if that was given up.
    pub(super) fn return_to_old(&mut self) {
        if self.server.as_ref().is_none_or(Server::is_accepting) {
            return;
        }
        match self.open(&self.address) {
            Ok(server) => self.replace(Some(server)),
            Err(error) => {
                log::error!("{}: {}; trying again", self.name, error.what);
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Tries again, if it is time to.
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
            Err(_) => self.retry_at = Some(Instant::now() + RETRY),
        }
    }

    pub(super) fn stop(mut self) {
        self.replace(None);
        self.retire();
    }

    fn replace(&mut self, server: Option<Server>) {
        if let Some(server) = &server {
            let url = self.gate.url(server.local_addr());
            log::info!("{}: listening on {url}", self.name);
        }
        if let Some(mut old) = std::mem::replace(&mut self.server, server) {
            old.stop_accepting();
            self.leaving.push(old);
        }
    }

    fn open(&self, address: &str) -> Result<Server, Failure> {
        let socket = bind(address, self.chosen_by).map_err(|e| Failure {
            may_pass: e.may_come_up(),
            in_use: e.is_in_use(),
            what: e.to_string(),
        })?;
        self.serve(socket)
    }

    fn serve(&self, socket: TcpListener) -> Result<Server, Failure> {
        let (gate, handler) = (Arc::clone(&self.gate), Arc::clone(&self.handler));
        Server::start_with_access(gate, socket, handler, self.limits.clone()).map_err(|e| Failure {
            may_pass: false,
            in_use: false,
            what: format!("cannot serve {}: {e}", self.name),
        })
    }
}

/// What is to be done to listen as the configuration says.
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Listen no longer.
    Close,
    /// Listen here: it does already.
    Open(String, Server),
    /// Listen here as soon as the board has the address.
    Wait(String),
}

/// Why an address cannot be listened on.
pub(super) struct Failure {
    pub(super) what: String,
    /// The board does not have the address, but may have it soon.
    may_pass: bool,
    /// Somebody has it.
    pub(super) in_use: bool,
}
