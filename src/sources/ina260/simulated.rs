//! A chip that is none, behind embedded-hal's traits, with every register of the data sheet; and buses full of them,
//! which fail as they are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, Operation};

use super::bridge::{Buses, Errno};

/// The configuration after power-on.
const POWER_ON: u16 = 0x6127;

/// An INA260 (data sheet SBOS656C, 8.6), and what is wired to it.
#[derive(Debug, Clone)]
pub(super) struct Chip {
    /// The voltage and the current that it measures, whenever it converts.
    pub(super) volts: f64,
    pub(super) amperes: f64,
    /// A conversion ends whenever its flags are asked for. Otherwise when the test says so.
    pub(super) runs_free: bool,
    /// So often they are asked for before it does.
    pub(super) asked_in_vain: u32,
    pub(super) manufacturer: u16,
    pub(super) die: u16,
    pub(super) configuration: u16,
    current: u16,
    voltage: u16,
    power: u16,
    mask_enable: u16,
    alert_limit: u16,
    /// How many readings it made, and how often its current was read.
    pub(super) conversions: u32,
    pub(super) readings: u32,
    /// Every write to it, resets included: register and word.
    pub(super) written: Vec<(u8, u16)>,
    /// One is under way.
    converting: bool,
    pointer: u8,
}

impl Chip {
    pub(super) fn new(volts: f64, amperes: f64) -> Chip {
        Chip {
            volts,
            amperes,
            runs_free: true,
            asked_in_vain: 0,
            manufacturer: 0x5449,
            die: 0x2270,
            configuration: POWER_ON,
            current: 0,
            voltage: 0,
            power: 0,
            mask_enable: 0,
            alert_limit: 0,
            conversions: 0,
            readings: 0,
            written: Vec::new(),
            converting: true,
            pointer: 0,
        }
    }

    /// Its supply came back just now.
    pub(super) fn power_on(&mut self) {
        self.configuration = POWER_ON;
        (self.current, self.voltage, self.power) = (0, 0, 0);
        (self.mask_enable, self.alert_limit) = (0, 0);
        self.converting = true;
    }

    /// The conversion under way ends.
    pub(super) fn convert(&mut self) {
        if !self.converting {
            return;
        }
        let bits = |value: f64, least, most| (value / 1.25e-3).round().clamp(least, most);
        self.current = bits(self.amperes, -32_768.0, 32_767.0) as i16 as u16;
        self.voltage = bits(self.volts, 0.0, 32_767.0) as u16;
        let power = (self.volts * self.amperes.abs() / 10e-3).round();
        self.power = power.min(41_943.0) as u16;
        self.mask_enable &= !0x000C;
        self.mask_enable |= 0x0008;
        if power > 41_943.0 {
            self.mask_enable |= 0x0004;
        }
        self.conversions += 1;
        // Bit 2 of the mode is "continuous".
        self.converting = self.configuration & 0b100 != 0;
    }

    fn read(&mut self) -> u16 {
        match self.pointer {
            0x00 => self.configuration,
            0x01 => {
                self.readings += 1;
                self.current
            }
            0x02 => self.voltage,
            0x03 => self.power,
            0x06 => {
                match self.asked_in_vain.checked_sub(1) {
                    Some(left) => self.asked_in_vain = left,
                    None if self.runs_free => self.convert(),
                    None => {}
                }
                let word = self.mask_enable;
                self.mask_enable &= !0x0008;
                word
            }
            0x07 => self.alert_limit,
            0xFE => self.manufacturer,
            0xFF => self.die,
            other => panic!("there is no register {other:#04x}"),
        }
    }

    fn write(&mut self, word: u16) {
        self.written.push((self.pointer, word));
        match self.pointer {
            0x00 if word & 0x8000 != 0 => self.power_on(),
            0x00 => {
                self.configuration = 0x6000 | word & 0x0FFF;
                self.mask_enable &= !0x0008;
                self.converting = word & 0b111 != 0;
            }
            0x06 => self.mask_enable = word & 0xFC03 | self.mask_enable & 0x001C,
            0x07 => self.alert_limit = word,
            other => panic!("register {other:#04x} cannot be written"),
        }
    }
}

/// What a bus fails with: an error number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure(i32);

impl embedded_hal::i2c::Error for Failure {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl Errno for Failure {
    fn errno(&self) -> Option<i32> {
        Some(self.0)
    }
}

/// What is on the buses, by number and address.
#[derive(Default)]
pub(super) struct Wiring {
    pub(super) chips: BTreeMap<(u32, u8), Chip>,
    /// Addresses that a driver of the kernel has.
    pub(super) held: Vec<(u32, u8)>,
    /// Error numbers that the next transfers to an address end with.
    pub(super) failures: BTreeMap<(u32, u8), VecDeque<i32>>,
    /// What every transfer on this bus ends with.
    pub(super) broken: BTreeMap<u32, i32>,
    /// What opening this bus ends with.
    pub(super) closed: BTreeMap<u32, i32>,
    /// Buses on which a transfer does not end while they are listed.
    pub(super) hanging: BTreeSet<u32>,
    /// How often a bus was opened.
    pub(super) opened: u32,
}

/// Buses that a test can look at and disturb while they are read.
#[derive(Clone, Default)]
pub(super) struct Rack(Arc<Mutex<Wiring>>);

impl Rack {
    pub(super) fn with(chips: &[(u32, u8, Chip)]) -> Rack {
        let rack = Rack::default();
        for (bus, address, chip) in chips {
            rack.wiring().chips.insert((*bus, *address), chip.clone());
        }
        rack
    }

    pub(super) fn wiring(&self) -> MutexGuard<'_, Wiring> {
        self.0.lock().unwrap()
    }

    /// Does something to the chip at this place.
    pub(super) fn chip<T>(&self, bus: u32, address: u8, act: impl FnOnce(&mut Chip) -> T) -> T {
        act(self.wiring().chips.get_mut(&(bus, address)).unwrap())
    }
}

impl Buses for Rack {
    type Bus = Bus;

    fn open(&self, path: &Path) -> io::Result<Bus> {
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = name.strip_prefix("i2c-").unwrap().parse().unwrap();
        let mut wiring = self.wiring();
        wiring.opened += 1;
        match wiring.closed.get(&number) {
            Some(error) => Err(io::Error::from_raw_os_error(*error)),
            None => Ok(Bus {
                number,
                rack: self.clone(),
            }),
        }
    }

    fn claim(&self, bus: &mut Bus, address: u8) -> io::Result<()> {
        if self.wiring().held.contains(&(bus.number, address)) {
            return Err(io::Error::from_raw_os_error(nix::libc::EBUSY));
        }
        Ok(())
    }
}

/// One bus.
pub(super) struct Bus {
    number: u32,
    rack: Rack,
}

impl ErrorType for Bus {
    type Error = Failure;
}

impl I2c for Bus {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), Failure> {
        while self.rack.wiring().hanging.contains(&self.number) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut wiring = self.rack.wiring();
        let place = (self.number, address);
        if let Some(number) = wiring.broken.get(&self.number) {
            return Err(Failure(*number));
        }
        let failures = wiring.failures.get_mut(&place);
        if let Some(number) = failures.and_then(VecDeque::pop_front) {
            return Err(Failure(number));
        }
        let chip = wiring.chips.get_mut(&place);
        let chip = chip.ok_or(Failure(nix::libc::EREMOTEIO))?;
        for operation in operations {
            match operation {
                Operation::Write([pointer]) => chip.pointer = *pointer,
                Operation::Write([pointer, high, low]) => {
                    chip.pointer = *pointer;
                    chip.write(u16::from_be_bytes([*high, *low]));
                }
                Operation::Read(bytes) if bytes.len() == 2 => {
                    bytes.copy_from_slice(&chip.read().to_be_bytes());
                }
                other => panic!("no INA260 is spoken to like this: {other:?}"),
            }
        }
        Ok(())
    }
}
