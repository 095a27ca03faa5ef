//! A small HTTP/1.1 and 1.0 server that can face a network. It knows no routes: a [`Handler`] does.
//!
//! The words are tiny_http's (`Method`, `Header`, `StatusCode`, `HTTPVersion`), and so is the writing of an answer's
//! head; the listening is ours (`docs/decisions.md` says why). From outside in:
//!
//! * [`bind`] makes the listening socket; [`Server`] accepts, and gives each connection a thread for as long as it lasts;
//! * `seats` holds the bounds: so many connections in all and per peer, and who has to go for a newcomer;
//! * `in_flight` is a bound for the bytes of large answers that are on their way, for those handlers that have such;
//! * `connection` is one client: read a head, read a body, call the handler, write the answer, again;
//! * [`parse_head`] is pure, and strict: what two readers could understand differently is refused;
//! * [`gzip`] compresses the bodies of responses;
//! * `stream` is a byte stream with a deadline: a socket, or with `tls` between socket and connection;
//! * [`gate`] decides who may come in;
//! * [`Response::switching`] gives a connection away to another protocol; `websocket` is one.
//!
//! Every bound and deadline is in [`Limits`]. What people see in a browser is in [`page`].
//!
//! The other way round, [`client`] asks other servers.

mod access;
mod address;
pub mod client;
mod connection;
mod date;
pub mod gate;
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
mod rate;
mod request;
mod response;
mod seats;
mod stream;
#[cfg(feature = "tls")]
pub mod tls;
mod upgraded;
pub mod websocket;

pub use access::{foreign_page, is_local, Standing, BEARER};
pub use address::{bind, host_address, port_of, BindError};
pub use date::parse_date;
pub use gate::{AccessFiles, Gate};
pub use head::{parse_head, Head, HeadError};
pub use in_flight::{network, InFlight, Share};
pub use limits::{Form, Limits};
pub use listener::Server;
pub use rate::Rate;
pub use request::{Login, Request};
pub use response::Response;
pub use tiny_http::{HTTPVersion, Header, Method, StatusCode};
pub use upgraded::{Duplex, Upgraded};

/// What answers requests. It runs on the connection's thread, many at a time.
pub type Handler = dyn Fn(&Request) -> Response + Send + Sync;
