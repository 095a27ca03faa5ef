//! The client of a device, recorded or replayed. Only the final response to each path is recorded. Logging in is not: no
//! password, no challenge and no authorization.

use std::time::Instant;

use super::client::Client;
use super::identity::Generation;
use crate::sources::io_log::{escape_word, Failure, IoLog, Response};
use crate::sources::Error;

/// A client whose responses are recorded, or the replay of one.
pub(super) struct RecordedClient {
    io_log: IoLog,
    /// `None` when replaying.
    client: Option<Client>,
}

impl RecordedClient {
    /// A client made by `connect`. When replaying, `connect` is not called.
    pub(super) fn connect(
        io_log: &IoLog,
        connect: impl FnOnce() -> Result<Client, Error>,
    ) -> Result<RecordedClient, Error> {
        let mut client = None;
        request(io_log, "address", || {
            client = Some(connect()?);
            Ok(Vec::new())
        })?;
        Ok(RecordedClient {
            io_log: io_log.clone(),
            client,
        })
    }

    /// Gets a path that needs no login.
    pub(super) fn get_open(&mut self, path: &str, deadline: Instant) -> Result<Vec<u8>, Error> {
        let client = &mut self.client;
        request(&self.io_log, &key(path), || match client {
            Some(client) => client.get_open(path, deadline),
            None => Err(no_client()),
        })
    }

    /// Gets a path, with a login as this generation requires it.
    pub(super) fn get(
        &mut self,
        path: &str,
        generation: Generation,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        let client = &mut self.client;
        request(&self.io_log, &key(path), || match client {
            Some(client) => client.get(path, generation, deadline),
            None => Err(no_client()),
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

fn no_client() -> Error {
    Error::new("a replay sends no requests")
}

/// Performs or replays a request. The error is the original one, or its message when replaying.
fn request(
    io_log: &IoLog,
    key: &str,
    perform: impl FnOnce() -> Result<Vec<u8>, Error>,
) -> Result<Vec<u8>, Error> {
    let mut original = None;
    let response: Response = io_log.record_or_replay(key, || {
        perform().map_err(|error| {
            let failure = Failure::new(error.to_string());
            original = Some(error);
            failure
        })
    });
    response.map_err(|failure| original.unwrap_or_else(|| Error::new(failure.message)))
}
