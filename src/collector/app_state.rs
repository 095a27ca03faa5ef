//! What the requests to the collector share.

use std::sync::Arc;

use super::join::Kind;
use super::rows::Feed;
use super::status::Status;
use super::streams::Shared;
use crate::http::InFlight;

/// So many bytes of files may be on their way to one address, and in all: where there is a limit to memory, it is often
/// 128 MiB.
const PER_PEER: usize = 16 << 20;
const IN_FLIGHT: usize = 32 << 20;

/// What bounds the files that are on their way.
pub fn in_flight() -> Arc<InFlight> {
    Arc::new(InFlight::new(PER_PEER, IN_FLIGHT))
}

/// What requests are answered from.
pub struct AppState {
    /// The files on their way.
    pub in_flight: Arc<InFlight>,
    /// By [`Kind::ALL`].
    pub feeds: [Arc<Feed>; Kind::ALL.len()],
    /// The streams.
    pub streams: Arc<Shared>,
    /// How the collecting goes.
    pub status: Arc<Status>,
    /// What is collected, in words: Prometheus's URL, and the namespace.
    pub about: [String; 2],
}
