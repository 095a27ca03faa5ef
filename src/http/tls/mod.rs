//! TLS by rustls and ring: what the HTTP client and the server have in common, and the server's side.
//!
//! * `pem` reads certificates and keys;
//! * `verify` verifies the other side's certificate, with `pinned` certificates, which need no signature, and the [`names`]
//!   and purposes in a certificate;
//! * `server` makes a [`rustls::ServerConfig`] out of the web configuration;
//! * `stream` is a connection of the server, and `duplex` one that has left HTTP.

mod duplex;
pub mod names;
pub(in crate::http) mod pem;
pub(in crate::http) mod pinned;
mod server;
mod stream;
pub(in crate::http) mod verify;

use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

pub(super) use server::{configure, TlsAcceptor};
pub(super) use stream::{Failure, TlsStream};

use crate::sys::clock::wall_seconds;

/// The board's clock, with 64-bit seconds on every platform. The clock that rustls uses by default ends the process on a
/// 32-bit board whose time is beyond January 2038.
#[derive(Debug)]
pub(super) struct BoardClock;

impl TimeProvider for BoardClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(wall_seconds()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
