//! One chip that answers, on any bus.

use embedded_hal::i2c::I2c;
use ina260::{Averaging, BVConvTime, INA260NonOwned, OperMode, SCConvTime};

use super::bridge::Bridge;
use super::registers::{
    flags, is_ina260, Conversion, RawReading, CONFIGURATION, DIE, MANUFACTURER, MASK_ENABLE,
};
use crate::sources::i2c::{identity, Bus, Chip, Errno, Fault, Measured};

/// An identified and configured INA260. Dropping it leaves the chip converting.
pub(super) struct Ina260<B> {
    bus: Bridge<B>,
    driver: INA260NonOwned<Bridge<B>>,
    address: u8,
    conversion: Conversion,
    /// Whether the flags that were read last say that the power did not fit its register.
    overflow: bool,
}

impl<B: Bus> Ina260<B> {
    /// Identifies the chip as an INA260 before anything is written to it, then resets and configures it.
    pub(super) fn start(bus: B, address: u8, conversion: Conversion) -> Result<Ina260<B>, Fault> {
        let mut bus = Bridge(bus);
        let manufacturer = register(&mut bus, address, MANUFACTURER)?;
        let die = register(&mut bus, address, DIE)?;
        if !is_ina260(manufacturer, die) {
            return Err(Fault::OtherChip {
                says: identity::describe(manufacturer, die),
                wanted: "an INA260 says 0x5449, 0x227x",
            });
        }
        let driver = INA260NonOwned::new(&mut bus, address).map_err(|e| Fault::of(&e))?;
        let mut chip = Ina260 {
            bus,
            driver,
            address,
            conversion,
            overflow: false,
        };
        chip.configure().map_err(|e| Fault::of(&e))?;
        Ok(chip)
    }

    fn configure(&mut self) -> Result<(), B::Error> {
        let Ina260 { bus, driver, .. } = self;
        driver.set_averaging_mode(bus, averaging(self.conversion.averaging))?;
        driver.set_bvconvtime_mode(bus, voltage_time(self.conversion.voltage))?;
        driver.set_scconvtime_mode(bus, current_time(self.conversion.current))?;
        if self.conversion.triggered {
            driver.set_operating_mode(bus, OperMode::SCBVT)?;
        }
        Ok(())
    }
}

impl<B: Bus> Chip for Ina260<B> {
    /// In triggered mode; this clears the conversion-ready flag.
    fn trigger(&mut self) -> Result<(), Fault> {
        if !self.conversion.triggered {
            return Ok(());
        }
        self.driver
            .set_operating_mode(&mut self.bus, OperMode::SCBVT)
            .map_err(|e| Fault::of(&e))
    }

    /// Reads and thereby clears the conversion-ready flag.
    fn is_ready(&mut self) -> Result<bool, Fault> {
        let flags = register(&mut self.bus, self.address, MASK_ENABLE).map(flags)?;
        self.overflow = flags.overflow;
        Ok(flags.ready)
    }

    /// Reads the three measuring registers.
    fn read(&mut self, into: &mut Vec<Measured>) -> Result<(), Fault> {
        let Ina260 {
            bus,
            driver,
            overflow,
            ..
        } = self;
        let mut read = || {
            Ok(RawReading {
                current: driver.current_raw(bus)?,
                voltage: driver.voltage_raw(bus)?,
                power: driver.power_raw(bus)?,
                overflow: *overflow,
            })
        };
        let raw = read().map_err(|e: B::Error| Fault::of(&e))?;
        let reading = raw.reading().ok_or(Fault::ImplausibleVoltage)?;
        into.clear();
        into.push(reading.into());
        Ok(())
    }

    fn is_configured(&mut self) -> Result<bool, Fault> {
        register(&mut self.bus, self.address, CONFIGURATION)
            .map(|configuration| self.conversion.is_in(configuration))
    }
}

/// One register, the higher byte first.
fn register<B: I2c<Error: Errno>>(
    bus: &mut Bridge<B>,
    address: u8,
    register: u8,
) -> Result<u16, Fault> {
    let mut word = [0; 2];
    bus.0
        .write_read(address, &[register], &mut word)
        .map_err(|e| Fault::of(&e))?;
    Ok(u16::from_be_bytes(word))
}

fn averaging(code: usize) -> Averaging {
    use Averaging::*;
    [AVG1, AVG4, AVG16, AVG64, AVG128, AVG256, AVG512, AVG1024][code % 8]
}

fn voltage_time(code: usize) -> BVConvTime {
    use BVConvTime::*;
    [US140, US204, US332, US588, MS1_1, MS2_116, MS4_156, MS8_244][code % 8]
}

fn current_time(code: usize) -> SCConvTime {
    use SCConvTime::*;
    [US140, US204, US332, US588, MS1_1, MS2_116, MS4_156, MS8_244][code % 8]
}
