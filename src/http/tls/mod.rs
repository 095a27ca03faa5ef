//! TLS by rustls and ring: what the client and the server have in common, and the server's side.
//!
//! `pem` reads certificates and keys; `server` makes a [`rustls::ServerConfig`] of the web configuration, with the
//! `clients` whose certificates are taken, by the [`names`] in them; `pinned` are those that nobody has to sign; `signatures` shows who has the key of a certificate;
//! `stream` is a connection.

mod clients;
mod duplex;
pub mod names;
pub(in crate::http) mod pem;
pub(in crate::http) mod pinned;
mod server;
pub(in crate::http) mod signatures;
mod stream;

use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

pub(super) use server::{configure, Accepting};
pub(super) use stream::{Failure, TlsStream};

use crate::sys::clock::wall_seconds;

/// The board's clock, with 64-bit seconds everywhere: rustls' own ends the process on a 32-bit board whose clock is beyond
/// January 2038.
#[derive(Debug)]
pub(super) struct BoardClock;

impl TimeProvider for BoardClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(wall_seconds()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
