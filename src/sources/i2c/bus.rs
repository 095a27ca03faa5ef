//! Buses: the trait for opening one, and the kernel's `/dev/i2c-N`.

use std::io;
use std::path::Path;

use embedded_hal::i2c::I2c;
use linux_embedded_hal::i2cdev::linux::LinuxI2CError;
use linux_embedded_hal::{I2CError, I2cdev};

/// The error number of a bus's error. embedded-hal's error kinds have no timeout.
pub(in crate::sources) trait Errno {
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

/// A bus as one chip sees it.
pub(in crate::sources) trait Bus: I2c<Error: Errno> + Send + 'static {}

impl<B: I2c<Error: Errno> + Send + 'static> Bus for B {}

/// Opens buses.
pub(in crate::sources) trait Buses: Send + 'static {
    /// A bus as one chip sees it.
    type Bus: I2c<Error: Errno> + Send + 'static;

    /// Opens the bus at `path`.
    fn open(&self, path: &Path) -> io::Result<Self::Bus>;

    /// Claims the chip's address, without a transfer: EBUSY if a kernel driver has it.
    fn claim(&self, bus: &mut Self::Bus, address: u8) -> io::Result<()>;
}

/// The kernel's `/dev/i2c-N`. Each chip has a descriptor of its own, because `I2cdev` reopens the device whenever
/// the address changes.
pub(in crate::sources) struct Linux;

impl Buses for Linux {
    type Bus = I2cdev;

    fn open(&self, path: &Path) -> io::Result<I2cdev> {
        Ok(I2cdev::new(path)?)
    }

    fn claim(&self, bus: &mut I2cdev, address: u8) -> io::Result<()> {
        Ok(bus.set_slave_address(u16::from(address))?)
    }
}
