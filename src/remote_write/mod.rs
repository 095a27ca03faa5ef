//! Delivers every sample to Prometheus remote-write receivers (prometheus.io/docs/specs/prw, 1.0 and 2.0).
//!
//! From what was read to the receiver: a [`Feed`] gives batches of samples with their labels and stamps, a sender puts
//! them into messages of either generation ([`Protocol`]), asks, and does what the answer means ([`judge`]).

mod agreement;
pub(crate) mod backoff;
mod delivery;
mod encode;
mod feed;
mod labels;
mod memory;
#[cfg(test)]
mod messages;
pub mod queue;
mod receiver;
mod report;
mod response;
mod sender;
mod split;
mod stats;

pub use feed::{Batch, Feed, Identity, Losses, Most, Pending, Run};
pub use labels::Labels;
pub use memory::MemoryFeed;
pub use queue::QueueFeed;
pub use response::{judge, words, Sent, Verdict};
pub use sender::Sender;
pub use stats::{Numbers, Stats};
