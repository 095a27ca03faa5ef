//! Adapts a bus of embedded-hal 1.0 to the crate `ina260`, which uses 0.2.

use embedded_hal::i2c::I2c;
use embedded_hal_02::blocking::i2c::{Write, WriteRead};

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
