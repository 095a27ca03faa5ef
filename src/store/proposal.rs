//! A new configuration on its way from the store to the supervisor.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::Arc;

use crate::config::model::Config;

/// Whether it is in force now, or why not.
type Outcome = Result<(), String>;

/// How much of a configuration differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Which metrics are exported, and nothing else.
    Selection,
    /// Anything; and the board is to be looked at anew.
    Anything,
}

/// A new configuration, for the supervisor to take or refuse.
#[derive(Debug)]
pub struct Proposal {
    /// All of it.
    pub config: Arc<Config>,
    /// What may differ from the one in force.
    pub change: Change,
    answer: SyncSender<Outcome>,
}

impl Proposal {
    /// A proposal, and where its outcome arrives; nothing does where nobody takes it.
    pub(super) fn new(config: Arc<Config>, change: Change) -> (Proposal, Receiver<Outcome>) {
        let (answer, outcome) = mpsc::sync_channel(1);
        let proposal = Proposal {
            config,
            change,
            answer,
        };
        (proposal, outcome)
    }

    /// Says that it is in force now, or why it is not, and nothing has changed.
    pub fn answer(&self, outcome: Outcome) {
        // Whoever asked waits for it.
        let _ = self.answer.send(outcome);
    }
}
