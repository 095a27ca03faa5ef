//! The mailbox by way of an I/O log: messages and answers as bytes, without trailing zeros.

use std::path::Path;
use std::sync::Arc;

use super::mailbox::Mailbox;
use crate::sources::io_log::{escape_word, files, Failure, IoLog, Response};
use crate::sources::{Error, Health};

/// A mailbox whose messages are recorded or replayed.
pub(super) struct Logged {
    io_log: IoLog,
    path: Box<Path>,
    /// The prefix of its log keys.
    key: String,
    /// The real mailbox; `None` during replay.
    mailbox: Option<Box<dyn Mailbox>>,
}

/// Opens the mailbox at `path`, by way of the I/O log if there is one.
pub(super) fn open(
    health: &Arc<Health>,
    path: &Path,
    open: super::OpenMailbox,
) -> Result<Box<dyn Mailbox>, Error> {
    let io_log = health.io_log();
    if io_log.is_off() {
        return open(health, path);
    }
    let name = || escape_word(path.file_name().unwrap_or_default());
    let key = files::key(io_log, path).unwrap_or_else(name);
    let mut mailbox = None;
    let opened = io_log.record_or_replay(&format!("open {key}"), || {
        mailbox = Some(open(health, path).map_err(|error| Failure::from(&error))?);
        Ok(b"good".to_vec())
    });
    opened.map_err(|failure| Error::cannot("open", path, &failure.to_io_error()))?;
    Ok(Box::new(Logged {
        io_log: io_log.clone(),
        path: path.into(),
        key,
        mailbox,
    }))
}

impl Mailbox for Logged {
    fn property(&mut self, message: &mut [u32]) -> Result<(), Error> {
        let key = format!("{} {}", self.key, word_of(message));
        let Logged { mailbox, path, .. } = self;
        let answer = self.io_log.record_or_replay(&key, || match mailbox {
            Some(mailbox) => match mailbox.property(message) {
                Ok(()) => Ok(bytes(message)),
                Err(error) => Err(Failure::from(&error)),
            },
            None => Err(Failure::new("it is not there")),
        });
        fill(message, answer).map_err(|failure| Error::cannot("ask", path, &failure.to_io_error()))
    }
}

/// The message's first tag and value, as one word of the log.
fn word_of(message: &[u32]) -> String {
    let tag = message.get(2).copied().unwrap_or_default();
    let value = bytes(message.get(5..).unwrap_or_default());
    let value = String::from_utf8_lossy(&value)
        .trim_start_matches('\0')
        .to_string();
    format!("{tag:#010x} {}", escape_word(value))
}

fn bytes(message: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = message.iter().flat_map(|word| word.to_le_bytes()).collect();
    let end = bytes.iter().rposition(|byte| *byte != 0);
    bytes.truncate(end.map_or(0, |end| end + 1));
    bytes
}

fn fill(message: &mut [u32], answer: Response) -> Result<(), Failure> {
    let answer = answer?;
    message.fill(0);
    for (word, four) in message.iter_mut().zip(answer.chunks(4)) {
        let mut bytes = [0; 4];
        bytes
            .iter_mut()
            .zip(four)
            .for_each(|(to, from)| *to = *from);
        *word = u32::from_le_bytes(bytes);
    }
    Ok(())
}
