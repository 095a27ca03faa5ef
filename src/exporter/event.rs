//! What the supervisor is told.

use crate::store::Proposal;

/// One thing to attend to.
#[derive(Debug)]
pub(super) enum Event {
    /// Take over a configuration, or say why not.
    Adopt(Proposal),
    /// End.
    Stop,
}
