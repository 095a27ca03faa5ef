//! The state that the handlers of requests share.

use std::sync::Arc;

use super::feed::Feed;
use super::join::RowKind;
use super::status::Status;
use super::streams::StreamLoop;
use crate::http::InFlight;

/// The most bytes of downloads that one client address has not read yet.
const MAX_IN_FLIGHT_PER_PEER: usize = 16 << 20;
/// The most bytes of downloads that all clients have not read yet. Containers often have a memory limit of 128 MiB.
const MAX_IN_FLIGHT: usize = 32 << 20;

/// The limits of unread downloads.
pub fn in_flight() -> Arc<InFlight> {
    Arc::new(InFlight::new(MAX_IN_FLIGHT_PER_PEER, MAX_IN_FLIGHT))
}

/// The state that responses are made from.
pub struct AppState {
    /// The downloads that clients have not read yet.
    pub in_flight: Arc<InFlight>,
    /// The last rows, by [`RowKind::ALL`].
    pub feeds: [Arc<Feed>; RowKind::ALL.len()],
    /// The streams.
    pub streams: Arc<StreamLoop>,
    /// The status of the collecting.
    pub status: Arc<Status>,
    /// Prometheus's URL, without a password.
    pub prometheus_url: String,
    /// The namespace whose pods are collected.
    pub namespace: String,
}
