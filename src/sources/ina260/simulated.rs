//! Simulated chips, with every register of the data sheet.

use crate::sources::i2c::simulated::{self, SimulatedChip};

/// Buses of these chips.
pub(super) type SimulatedBuses = simulated::SimulatedBuses<Chip>;

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

    fn register(&mut self) -> u16 {
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

    fn set_register(&mut self, word: u16) {
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

impl SimulatedChip for Chip {
    fn write(&mut self, bytes: &[u8]) {
        match bytes {
            [pointer] => self.pointer = *pointer,
            [pointer, high, low] => {
                self.pointer = *pointer;
                self.set_register(u16::from_be_bytes([*high, *low]));
            }
            other => panic!("no INA260 is written to like this: {other:?}"),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), 2, "no INA260 is read like this");
        bytes.copy_from_slice(&self.register().to_be_bytes());
    }
}
