//! WebSockets (RFC 6455), the server's side, for sending only: text messages are sent; of the client's frames pings, pongs
//! and close frames are handled, and data is ignored.
//!
//! [`accept`] is the opening handshake and [`frame`] the frames, both pure. [`WebSocket`] is a connection that never blocks,
//! for use in a poll loop.

mod connection;
pub mod frame;
mod handshake;

pub use connection::{Received, WebSocket};
pub use handshake::{accept, Refusal};
