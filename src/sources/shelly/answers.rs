//! A device's answers: as it gives them, or as it gave them when it was recorded. What is recorded is the answer to the
//! question in the end. How it was logged in for is not: no password, no challenge and no answer to one.

use std::time::Instant;

use super::client::Client;
use super::identity::Generation;
use crate::sources::io_log::{escape_word, Failure, IoLog, Response};
use crate::sources::Error;

/// A device that answers, or did.
pub(super) struct Answers {
    io_log: IoLog,
    /// `None`: it is not asked.
    client: Option<Client>,
}

impl Answers {
    /// Of a device that `find` finds; of a recording, without finding it.
    pub(super) fn of(
        io_log: &IoLog,
        find: impl FnOnce() -> Result<Client, Error>,
    ) -> Result<Answers, Error> {
        let mut client = None;
        ask(io_log, "address", || {
            client = Some(find()?);
            Ok(Vec::new())
        })?;
        Ok(Answers {
            io_log: io_log.clone(),
            client,
        })
    }

    /// Gets what nobody needs to log in for.
    pub(super) fn get_open(&mut self, path: &str, deadline: Instant) -> Result<Vec<u8>, Error> {
        let client = &mut self.client;
        ask(&self.io_log, &key(path), || match client {
            Some(client) => client.get_open(path, deadline),
            None => Err(absent()),
        })
    }

    /// Gets `path`, logging in as this generation asks for it.
    pub(super) fn get(
        &mut self,
        path: &str,
        generation: Generation,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        let client = &mut self.client;
        ask(&self.io_log, &key(path), || match client {
            Some(client) => client.get(path, generation, deadline),
            None => Err(absent()),
        })
    }

    /// An error about this path.
    pub(super) fn error(&self, path: &str, what: &str) -> Error {
        match &self.client {
            Some(client) => client.error(path, what),
            None => Error::new(format!("{path}: {what}")),
        }
    }
}

fn key(path: &str) -> String {
    format!("GET {}", escape_word(path))
}

fn absent() -> Error {
    Error::new("it is not asked")
}

/// Asks; the error is the one that `ask` gives, or what is left of it in a recording.
fn ask(
    io_log: &IoLog,
    key: &str,
    ask: impl FnOnce() -> Result<Vec<u8>, Error>,
) -> Result<Vec<u8>, Error> {
    let mut asked = None;
    let answer: Response = io_log.record_or_replay(key, || {
        ask().map_err(|error| {
            let failure = Failure::new(error.to_string());
            asked = Some(error);
            failure
        })
    });
    answer.map_err(|failure| asked.unwrap_or_else(|| Error::new(failure.message)))
}
