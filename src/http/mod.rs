//! A small HTTP/1.1 and 1.0 server that can face a network, and an HTTP client. Neither knows any routes: a [`Handler`]
//! answers requests.
//!
//! `Method`, `Header`, `StatusCode` and `HTTPVersion` are tiny_http's, which also writes the heads of responses; listening is
//! done here (`docs/decisions.md` says why). The server, from outside in:
//!
//! * [`bind`] makes the listening socket; [`Server`] accepts connections and gives each a thread;
//! * `connection_slots` limits the connections, in all and per peer, and closes idle ones to make room;
//! * `stream` is a byte stream with a deadline: a socket, or with `tls` a TLS connection over one;
//! * `connection` serves one client: it reads a head and a body, calls the handler, writes the response, and repeats;
//! * [`parse_head`] parses a head. It is pure and strict: requests that two readers could understand differently are refused;
//! * [`gzip`] compresses the bodies of responses;
//! * [`access`] decides which requests are let in;
//! * [`Response::switching`] hands a connection over to another protocol; `websocket` is one.
//!
//! Every bound and deadline of the server is in [`Limits`]; [`InFlight`] limits the memory of large responses, and
//! [`RateLimiter`] how often something may be requested. [`page`] is the web pages. [`client`] is the HTTP client.

pub mod access;
mod address;
pub mod client;
mod connection;
mod connection_slots;
mod date;
#[cfg(feature = "gzip")]
pub mod gzip;
#[cfg(not(feature = "gzip"))]
#[path = "no_gzip.rs"]
pub mod gzip;
mod head;
mod in_flight;
mod limits;
mod listener;
pub mod page;
mod rate_limiter;
mod request;
mod response;
mod stream;
#[cfg(feature = "tls")]
pub mod tls;
mod upgraded;
pub mod websocket;

pub use access::{foreign_page, is_local, AccessControl, AccessFiles, WriteAccess, BEARER};
pub use address::{bind, host_address, peer_network, port_of, BindError};
pub use date::parse_date;
pub use head::{parse_head, Head, RequestError};
pub use in_flight::{InFlight, Reservation};
pub use limits::{ErrorFormat, LargeBody, Limits};
pub use listener::Server;
pub use rate_limiter::RateLimiter;
pub use request::{Login, Request};
pub use response::Response;
pub use tiny_http::{HTTPVersion, Header, Method, StatusCode};
pub use upgraded::{Duplex, Upgraded};

/// Answers requests. It is called on the threads of the connections, by many at a time.
pub type Handler = dyn Fn(&Request) -> Response + Send + Sync;
