//! Delivers every sample to Prometheus remote-write receivers (prometheus.io/docs/specs/prw, 1.0 and 2.0).
//!
//! From what was read to the receiver: a [`Feed`] gives batches of samples with their labels and stamps.

mod feed;
mod labels;
mod memory;

pub use feed::{Batch, Feed, Identity, Losses, Most, Pending, Run};
pub use labels::{valid_label_name, Labels};
pub use memory::MemoryFeed;
