//! Adapts `linux-embedded-hal`, which implements embedded-hal 1.0, to the crate `ina260`, which uses 0.2; and the trait for
//! opening buses.

use std::io;
use std::path::Path;

use embedded_hal::i2c::I2c;
use embedded_hal_02::blocking::i2c::{Write, WriteRead};
use linux_embedded_hal::i2cdev::linux::LinuxI2CError;
use linux_embedded_hal::{I2CError, I2cdev};

/// A bus of embedded-hal 1.0 as one of 0.2.
pub(super) struct Bridge<B>(pub(super) B);

impl<B: I2c> Write for Bridge<B> {
    type Error = B::Error;

    fn write(&mut self, address: u8, bytes: &[u8]) -> Result<(), B::Error> {
        self.0.write(address, bytes)
    }
}

impl<B: I2c> WriteRead for Bridge<B> {
    type Error = B::Error;

    fn write_read(&mut self, address: u8, out: &[u8], into: &mut [u8]) -> Result<(), B::Error> {
        self.0.write_read(address, out, into)
    }
}

/// The error number of a bus's error. embedded-hal's error kinds have no timeout.
pub(super) trait Errno {
    /// `None` where there was none.
    fn errno(&self) -> Option<i32>;
}

impl Errno for I2CError {
    fn errno(&self) -> Option<i32> {
        match self.inner() {
            LinuxI2CError::Errno(number) => Some(*number),
            LinuxI2CError::Io(error) => error.raw_os_error(),
        }
    }
}

/// Opens buses.
pub(super) trait Buses: Send {
    /// A bus as one chip sees it.
    type Bus: I2c<Error: Errno> + Send;

    /// Opens the bus at `path`.
    fn open(&self, path: &Path) -> io::Result<Self::Bus>;

    /// Claims the chip's address, without a transfer: EBUSY if a kernel driver has it.
    fn claim(&self, bus: &mut Self::Bus, address: u8) -> io::Result<()>;
}

/// The kernel's `/dev/i2c-N`. Each chip has a descriptor of its own, because `I2cdev` reopens the device whenever
/// the address changes.
pub(super) struct Linux;

impl Buses for Linux {
    type Bus = I2cdev;

    fn open(&self, path: &Path) -> io::Result<I2cdev> {
        Ok(I2cdev::new(path)?)
    }

    fn claim(&self, bus: &mut I2cdev, address: u8) -> io::Result<()> {
        Ok(bus.set_slave_address(u16::from(address))?)
    }
}
