//! Simulated chips behind embedded-hal's traits, with every register of the data sheet; and buses of them that fail as a
//! test requests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, Operation};

use super::bridge::{Buses, Errno};

/// The configuration after power-on.
const POWER_ON: u16 = 0x6127;

/// A simulated INA260 (data sheet SBOS656C, 8.6).
#[derive(Debug, Clone)]
pub(super) struct Chip {
    /// The voltage and the current that it measures.
    pub(super) volts: f64,
    pub(super) amperes: f64,
    /// Each reading of the flags ends a conversion; otherwise the test ends it.
    pub(super) converts_freely: bool,
    /// Number of readings of the flags before a conversion ends.
    pub(super) not_ready_reads: u32,
    pub(super) manufacturer: u16,
    pub(super) die: u16,
    pub(super) configuration: u16,
    current: u16,
    voltage: u16,
    power: u16,
    mask_enable: u16,
    alert_limit: u16,
    /// Number of conversions, and of readings of the current.
    pub(super) conversions: u32,
    pub(super) readings: u32,
    /// Every write to it, resets included: register and word.
    pub(super) written: Vec<(u8, u16)>,
    /// A conversion is under way.
    converting: bool,
    pointer: u8,
}

impl Chip {
    pub(super) fn new(volts: f64, amperes: f64) -> Chip {
        Chip {
            volts,
            amperes,
            converts_freely: true,
            not_ready_reads: 0,
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

    /// Resets the chip, as when its supply returns.
    pub(super) fn power_on(&mut self) {
        self.configuration = POWER_ON;
        (self.current, self.voltage, self.power) = (0, 0, 0);
        (self.mask_enable, self.alert_limit) = (0, 0);
        self.converting = true;
    }

    /// Ends the conversion under way.
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
                match self.not_ready_reads.checked_sub(1) {
                    Some(left) => self.not_ready_reads = left,
                    None if self.converts_freely => self.convert(),
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

/// A bus error with an error number.
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

/// The chips on the buses, by bus and address, and the faults to simulate.
#[derive(Default)]
pub(super) struct Wiring {
    pub(super) chips: BTreeMap<(u32, u8), Chip>,
    /// Addresses that a kernel driver uses.
    pub(super) held: Vec<(u32, u8)>,
    /// Error numbers of the next transfers to an address.
    pub(super) failures: BTreeMap<(u32, u8), VecDeque<i32>>,
    /// The error number of every transfer on a bus.
    pub(super) broken: BTreeMap<u32, i32>,
    /// The error number of opening a bus.
    pub(super) closed: BTreeMap<u32, i32>,
    /// Buses whose transfers hang.
    pub(super) hanging: BTreeSet<u32>,
    /// How often a bus was opened.
    pub(super) opened: u32,
}

/// Buses that a test can look at and disturb while they are read.
#[derive(Clone, Default)]
pub(super) struct SimulatedBuses(Arc<Mutex<Wiring>>);

impl SimulatedBuses {
    pub(super) fn with(chips: &[(u32, u8, Chip)]) -> SimulatedBuses {
        let buses = SimulatedBuses::default();
        for (bus, address, chip) in chips {
            buses.wiring().chips.insert((*bus, *address), chip.clone());
        }
        buses
    }

    pub(super) fn wiring(&self) -> MutexGuard<'_, Wiring> {
        self.0.lock().unwrap()
    }

    /// Accesses the chip at this address.
    pub(super) fn chip<T>(&self, bus: u32, address: u8, act: impl FnOnce(&mut Chip) -> T) -> T {
        act(self.wiring().chips.get_mut(&(bus, address)).unwrap())
    }
}

impl Buses for SimulatedBuses {
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
                buses: self.clone(),
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
    buses: SimulatedBuses,
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
        while self.buses.wiring().hanging.contains(&self.number) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut wiring = self.buses.wiring();
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
