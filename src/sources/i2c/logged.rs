//! Buses by way of an I/O log: a transfer's key has the address and the bytes written, its answer the bytes read.

use std::io;
use std::path::Path;

use embedded_hal::i2c::{Error, ErrorKind, ErrorType, I2c, Operation};

use super::bus::{Buses, Errno};
use crate::sources::io_log::{escape_word, files, Failure, IoLog, Response};

/// Buses whose transfers are recorded or replayed.
pub(in crate::sources) struct Logged<B> {
    pub(in crate::sources) buses: B,
    pub(in crate::sources) io_log: IoLog,
}

/// One bus.
pub(in crate::sources) struct Bus<B> {
    /// `None` during replay, without the bus.
    live: Option<B>,
    io_log: IoLog,
    key: String,
}

/// The prefix of a bus's log keys. Address and transfer follow.
pub(super) fn key(io_log: &IoLog, path: &Path) -> String {
    let name = || escape_word(path.file_name().unwrap_or_default());
    files::key(io_log, path).unwrap_or_else(name)
}

impl<B: Buses> Buses for Logged<B> {
    type Bus = Bus<B::Bus>;

    fn open(&self, path: &Path) -> io::Result<Bus<B::Bus>> {
        let mut live = None;
        let key = key(&self.io_log, path);
        let opened = self.io_log.record_or_replay(&format!("open {key}"), || {
            live = Some(
                self.buses
                    .open(path)
                    .map_err(|error| Failure::from(&error))?,
            );
            Ok(b"good".to_vec())
        });
        opened.map_err(|failure| failure.to_io_error())?;
        let io_log = self.io_log.clone();
        Ok(Bus { live, io_log, key })
    }

    fn claim(&self, bus: &mut Bus<B::Bus>, address: u8) -> io::Result<()> {
        let Bus { live, io_log, key } = bus;
        let claimed =
            io_log.record_or_replay(&format!("claim {key} {address:#04x}"), || match live {
                Some(live) => match self.buses.claim(live, address) {
                    Ok(()) => Ok(b"good".to_vec()),
                    Err(error) => Err(Failure::from(&error)),
                },
                None => Err(absent()),
            });
        claimed.map(|_| ()).map_err(|failure| failure.to_io_error())
    }
}

fn absent() -> Failure {
    Failure::new("it is not there")
}

/// The error number of a failed transfer.
#[derive(Debug)]
pub(in crate::sources) struct TransferError(Option<i32>);

impl Error for TransferError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl Errno for TransferError {
    fn errno(&self) -> Option<i32> {
        self.0
    }
}

impl<B> ErrorType for Bus<B> {
    type Error = TransferError;
}

impl<B: I2c<Error: Errno>> I2c for Bus<B> {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), TransferError> {
        let Bus { live, io_log, key } = self;
        let mut question = format!("{key} {address:#04x}");
        for operation in operations.iter() {
            match operation {
                Operation::Write(bytes) => {
                    question.push_str(" w");
                    question.push_str(&hexadecimal(bytes));
                }
                Operation::Read(bytes) => question.push_str(&format!(" r{}", bytes.len())),
            }
        }
        let answer = io_log.record_or_replay(&question, || {
            let Some(live) = live else {
                return Err(absent());
            };
            match live.transaction(address, operations) {
                Ok(()) => Ok(hexadecimal(&read(operations)).into_bytes()),
                Err(error) => Err(Failure {
                    errno: error.errno(),
                    message: format!("{error:?}"),
                }),
            }
        });
        fill(operations, answer)
    }
}

fn read(operations: &[Operation<'_>]) -> Vec<u8> {
    let read = operations.iter().filter_map(|operation| match operation {
        Operation::Read(bytes) => Some(&**bytes),
        Operation::Write(_) => None,
    });
    read.flatten().copied().collect()
}

/// Copies the answer into the read operations.
fn fill(operations: &mut [Operation<'_>], answer: Response) -> Result<(), TransferError> {
    let answer = answer.map_err(|failure| TransferError(failure.errno))?;
    let mut digits = answer.iter().map(|digit| char::from(*digit).to_digit(16));
    for operation in operations {
        let Operation::Read(bytes) = operation else {
            continue;
        };
        for byte in bytes.iter_mut() {
            let two = digits.next().flatten().zip(digits.next().flatten());
            let two = two.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            *byte = two.ok_or(TransferError(Some(nix::libc::EIO)))?;
        }
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
