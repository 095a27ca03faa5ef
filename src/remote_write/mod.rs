//! Delivers every sample to Prometheus remote-write receivers (prometheus.io/docs/specs/prw, 1.0 and 2.0).
//!
//! A [`Feed`] turns what was read into batches of samples with labels and stamps. A sender encodes them as messages of
//! either generation ([`Protocol`]), posts them, and acts on the response as [`judge`] says.

pub(crate) mod backoff;
mod delivery;
mod delivery_log;
mod encode;
mod feed;
mod labels;
mod memory;
#[cfg(test)]
mod messages;
pub mod queue;
mod receiver;
mod receiver_clock;
mod response;
mod sender;
mod split;
mod stats;

pub use feed::{Batch, BatchLimit, Feed, Losses, Pending, Run, SeriesIdentity};
pub use labels::Labels;
pub use memory::MemoryFeed;
pub use queue::QueueFeed;
pub use response::{error_text, judge, SentRequest, Verdict};
pub use sender::Sender;
pub use stats::{Numbers, Stats};
