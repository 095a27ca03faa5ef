//! WebSockets (RFC 6455), the server's side, for those who only have something to say: text messages go out, and of what
//! comes in pings, pongs and the closing count.
//!
//! [`accept`] is the opening handshake, [`frame`] the frames, both pure; [`WebSocket`] is a connection that never blocks,
//! to be driven by a poll loop.

mod connection;
pub mod frame;
mod handshake;

pub use connection::{Heard, WebSocket};
pub use handshake::{accept, Refusal};
