//! A new configuration on its way from the store to the supervisor.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::Arc;

use crate::config::model::Config;

/// `Ok` if the configuration is in force now, else the reason why not.
type Outcome = Result<(), String>;

/// What may differ from the previous configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only which metrics are exported.
    Selection,
    /// Any setting. The board is probed again.
    Anything,
}

/// A new configuration, which the supervisor applies or rejects.
#[derive(Debug)]
pub struct Proposal {
    /// The complete configuration.
    pub config: Arc<Config>,
    /// What may differ from the configuration in force.
    pub change: Change,
    answer: SyncSender<Outcome>,
}

impl Proposal {
    /// Creates a proposal and the channel for its outcome. A proposal dropped without an answer closes the channel.
    pub(super) fn new(config: Arc<Config>, change: Change) -> (Proposal, Receiver<Outcome>) {
        let (answer, outcome) = mpsc::sync_channel(1);
        let proposal = Proposal {
            config,
            change,
            answer,
        };
        (proposal, outcome)
    }

    /// Reports that the configuration is in force, or why nothing has changed.
    pub fn answer(&self, outcome: Outcome) {
        // The store waits for the answer, so that sending fails only while the store is dropped.
        let _ = self.answer.send(outcome);
    }
}
