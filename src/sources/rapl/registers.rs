//! The device `/dev/cpu/N/msr` with one processor's registers.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::counter::ReadState;
use crate::sources::io_log::{files, Failure};
use crate::sources::{Error, Health};

pub(super) const MISSING_HINT: &str = "modprobe msr";
const DENIED_HINT: &str =
    "needs root, or the capability CAP_SYS_RAWIO and the right to read this file";
/// The counters have 32 bits; the bits above are undefined.
pub(super) const COUNTER_MASK: u64 = 0xffff_ffff;

/// A device that is read by way of an I/O log.
#[derive(Debug)]
struct LoggedRegister {
    /// The prefix of its log keys.
    key: String,
    /// `None` during replay, without the device.
    file: Option<File>,
}

/// One processor's registers.
#[derive(Debug)]
pub(super) struct MsrDevice {
    pub(super) path: PathBuf,
    /// `None` if it is read by way of an I/O log.
    file: Option<File>,
    by_io_log: Option<LoggedRegister>,
    /// Bytes between two registers: 1 for the device, which returns eight bytes at the offset of a register's number; 8 in a
    /// fixture's regular file.
    stride: u64,
    health: Arc<Health>,
    /// Its index in the health's list of items.
    item: u32,
}

impl MsrDevice {
    pub(super) fn open(health: &Arc<Health>, dev: &Path, cpu: u32) -> Result<MsrDevice, Error> {
        let path = msr_path(dev, cpu);
        if health.is_excluded(&path) {
            let path = path.display();
            return Err(Error::new(format!("{path} hangs and is left alone")));
        }
        let item = health.path_id(&path);
        health.begin_read(item);
        let cannot = |verb, error: &io::Error| {
            let error = Error::cannot(verb, &path, error).hint_if_denied(DENIED_HINT);
            match error.is_missing() {
                true => error.hint(MISSING_HINT),
                false => error,
            }
        };
        let io_log = health.io_log();
        let by_io_log = files::key(io_log, &path);
        let mut opened = None;
        let mut kind = None;
        let looked = files::open(io_log, &path, || {
            let file = OpenOptions::new()
                .read(true)
                // Opening a FIFO in its place would otherwise block.
                .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
                .open(&path)?;
            kind = Some(file.metadata()?.file_type());
            opened = Some(file);
            Ok(())
        });
        looked.map_err(|e| cannot("open", &e))?;
        if kind.is_some_and(|kind| !kind.is_char_device() && !kind.is_file()) {
            let path = path.display();
            return Err(Error::new(format!("{path} is not a device")));
        }
        let (file, by_io_log) = match by_io_log {
            None => (opened, None),
            Some(key) => (None, Some(LoggedRegister { key, file: opened })),
        };
        Ok(MsrDevice {
            path,
            file,
            by_io_log,
            stride: if kind.is_some_and(|kind| kind.is_file()) {
                8
            } else {
                1
            },
            health: Arc::clone(health),
            item,
        })
    }

    #[inline]
    pub(super) fn read(&self, register: u32) -> Result<u64, Error> {
        self.health.begin_read(self.item);
        let read = match &self.file {
            Some(file) => self.read_from(file, register),
            None => self.read_by_io_log(register),
        };
        read.map_err(|error| {
            let verb = format!("read register {register:#x} of");
            Error::cannot(&verb, &self.path, &error).hint_if_denied(DENIED_HINT)
        })
    }

    #[inline]
    fn read_from(&self, file: &File, register: u32) -> io::Result<u64> {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, u64::from(register) * self.stride)?;
        Ok(u64::from_le_bytes(bytes))
    }

    #[cold]
    fn read_by_io_log(&self, register: u32) -> io::Result<u64> {
        let Some(LoggedRegister { key, file }) = &self.by_io_log else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let key = format!("{key} {register:#x}");
        let answer = self.health.io_log().record_or_replay(&key, || match file {
            Some(file) => match self.read_from(file, register) {
                Ok(value) => Ok(format!("{value:#018x}").into_bytes()),
                Err(error) => Err(Failure::from(&error)),
            },
            None => Err(Failure::new("it is not there")),
        });
        let text = answer.map_err(|failure| failure.to_io_error())?;
        let digits = text.strip_prefix(b"0x").unwrap_or(&text);
        let value = std::str::from_utf8(digits).ok();
        value
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether the register is a counter: where there is none, reading fails or yields 0.
    pub(super) fn has_counter(&self, register: u32) -> bool {
        self.read(register).is_ok_and(|n| n & COUNTER_MASK != 0)
    }
}

/// A counter in a register.
#[derive(Debug)]
pub(super) struct Register {
    device: Arc<MsrDevice>,
    number: u32,
    state: ReadState,
}

impl Register {
    pub(super) fn new(device: Arc<MsrDevice>, number: u32) -> Register {
        let name = format!("{} {number:#x}", device.path.display());
        Register {
            state: ReadState::new(&device.health, name),
            device,
            number,
        }
    }

    #[inline]
    pub(super) fn read(&mut self) -> Option<u64> {
        let read = self.device.read(self.number);
        self.state.value(read).map(|value| value & COUNTER_MASK)
    }
}

/// The path of a processor's device.
pub(super) fn msr_path(dev: &Path, cpu: u32) -> PathBuf {
    dev.join("cpu").join(cpu.to_string()).join("msr")
}
