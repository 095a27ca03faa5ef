//! Simulated chips, with the registers of the data sheets.

use std::collections::BTreeMap;

use crate::sources::i2c::simulated::{self, SimulatedChip};

/// Buses of these chips.
pub(super) type SimulatedBuses = simulated::SimulatedBuses<Chip>;

/// A simulated chip.
#[derive(Debug, Clone)]
pub(super) struct Chip {
    pub(super) model: &'static str,
    /// What the channels measure, and their shunts.
    pub(super) volts: [f64; 3],
    pub(super) amperes: [f64; 3],
    pub(super) ohms: [f64; 3],
    /// What an INA228 has counted.
    pub(super) energy: u64,
    /// Each look at the conversion-ready flag ends a conversion; otherwise the test ends it.
    pub(super) converts_freely: bool,
    pub(super) registers: BTreeMap<u8, u64>,
    /// Every write to it, and every register that was read.
    pub(super) written: Vec<(u8, u16)>,
    pub(super) read: Vec<u8>,
    pointer: u8,
}

/// The code of a value, as the converter gives it at its ends.
fn convert(value: f64, unit: f64, bits: u32) -> u64 {
    let end = f64::from(1 << (bits - 1));
    let code = (value / unit).round().clamp(-end, end - 1.0) as i64;
    code as u64 & ((1 << bits) - 1)
}

impl Chip {
    pub(super) fn new(model: &'static str, volts: f64, amperes: f64, ohms: f64) -> Chip {
        let mut chip = Chip {
            model,
            volts: [volts; 3],
            amperes: [amperes; 3],
            ohms: [ohms; 3],
            energy: 0,
            converts_freely: true,
            registers: BTreeMap::new(),
            written: Vec::new(),
            read: Vec::new(),
            pointer: 0,
        };
        chip.power_on();
        chip
    }

    /// Resets the chip, as when its supply returns.
    pub(super) fn power_on(&mut self) {
        self.energy = 0;
        let registers: &[(u8, u64)] = match self.model {
            "ina219" => &[(0, 0x399F), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)],
            "ina226" => &[
                (0, 0x4127),
                (1, 0),
                (2, 0),
                (6, 0),
                (0xFE, 0x5449),
                (0xFF, 0x2260),
            ],
            "ina228" | "ina237" | "ina238" => &[
                (0, 0),
                (1, 0xFB68),
                (2, 0x1000),
                (4, 0),
                (5, 0),
                (9, 0),
                (0xB, 1),
                (0x3E, 0x5449),
                (0x3F, 0x2281),
            ],
            "ina3221" => &[
                (0, 0x7127),
                (1, 0),
                (2, 0),
                (3, 0),
                (4, 0),
                (5, 0),
                (6, 0),
                (0xF, 2),
                (0xFE, 0x5449),
                (0xFF, 0x3220),
            ],
            other => panic!("there is no {other}"),
        };
        self.registers = registers.iter().copied().collect();
        match self.model {
            "ina237" => self.registers.insert(0x3F, 0),
            "ina238" => self.registers.insert(0x3F, 0x2381),
            _ => None,
        };
    }

    /// Where the flag is, and the flag.
    fn ready(&self) -> (u8, u64) {
        match self.model {
            "ina219" => (2, 1 << 1),
            "ina226" => (6, 1 << 3),
            "ina3221" => (0xF, 1),
            _ => (0xB, 1 << 1),
        }
    }

    /// Ends a conversion.
    pub(super) fn convert(&mut self) {
        let [volts, ..] = self.volts;
        let shunts = [0, 1, 2].map(|n| self.amperes[n] * self.ohms[n]);
        let configuration = self.registers[&0];
        match self.model {
            "ina219" => {
                let full = f64::from(0x0FA0 << (configuration >> 11 & 3));
                let code = (shunts[0] / 10e-6).round().clamp(-full, full) as i16;
                self.registers.insert(1, u64::from(code as u16));
                let bus = (volts / 4e-3).round().clamp(0.0, 8000.0) as u64;
                self.registers.insert(2, bus << 3);
            }
            "ina226" => {
                self.registers.insert(1, convert(shunts[0], 2.5e-6, 16));
                self.registers.insert(2, convert(volts, 1.25e-3, 16));
            }
            "ina3221" => {
                for n in 0..3_u8 {
                    if configuration >> (14 - n) & 1 == 0 {
                        continue;
                    }
                    let place = usize::from(n);
                    let shunt = convert(shunts[place], 40e-6, 13) << 3;
                    let bus = convert(self.volts[place], 8e-3, 13) << 3;
                    self.registers.insert(2 * n + 1, shunt);
                    self.registers.insert(2 * n + 2, bus);
                }
            }
            wide => {
                let small = if configuration & 0x10 != 0 { 4.0 } else { 1.0 };
                let is_wide = wide == "ina228";
                let (bits, shift) = if is_wide { (20, 4) } else { (16, 0) };
                let unit = if is_wide { 312.5e-9 } else { 5e-6 };
                let shunt = convert(shunts[0], unit / small, bits) << shift;
                self.registers.insert(4, shunt);
                let unit = if is_wide { 195.3125e-6 } else { 3.125e-3 };
                let bus = convert(volts, unit, bits) << shift;
                self.registers.insert(5, bus);
            }
        }
        let (pointer, flag) = self.ready();
        *self.registers.get_mut(&pointer).unwrap() |= flag;
    }

    fn clear(&mut self) {
        let (pointer, flag) = self.ready();
        *self.registers.get_mut(&pointer).unwrap() &= !flag;
    }

    fn width(&self) -> usize {
        match (self.model, self.pointer) {
            ("ina228", 4 | 5 | 7 | 8) => 3,
            ("ina228", 9 | 0xA) => 5,
            _ => 2,
        }
    }
}

impl SimulatedChip for Chip {
    fn write(&mut self, bytes: &[u8]) {
        self.pointer = bytes[0];
        let [_, high, low] = bytes else { return };
        let word = u16::from_be_bytes([*high, *low]);
        self.written.push((self.pointer, word));
        let is_wide = !matches!(self.model, "ina219" | "ina226" | "ina3221");
        match self.pointer {
            0 => self.clear(),
            1 | 2 | 0xB if is_wide => {}
            other => panic!("register {other:#04x} of an {} is not ours", self.model),
        }
        let word = u64::from(word);
        let word = match (self.model, self.pointer) {
            ("ina226", 0) => word & 0x0FFF | 0x4000,
            (_, 0xB) => word & 0xF000 | self.registers[&0xB] & 0x0FFF,
            _ => word,
        };
        self.registers.insert(self.pointer, word);
    }

    fn read(&mut self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), self.width(), "register {:#04x}", self.pointer);
        self.read.push(self.pointer);
        let (pointer, flag) = self.ready();
        if self.pointer == pointer && self.converts_freely && self.registers[&pointer] & flag == 0 {
            self.convert();
        }
        let known = self.registers.get(&self.pointer).copied();
        let word = match (self.model, self.pointer) {
            ("ina228", 9) => self.energy,
            _ => known.unwrap_or_else(|| panic!("there is no register {:#04x}", self.pointer)),
        };
        let clears = match (self.model, self.pointer) {
            ("ina219", 3) => true,
            ("ina219", _) => false,
            // Only when latched.
            (_, 0xB) => word >> 15 == 1,
            (_, read) => read == pointer,
        };
        if clears {
            self.clear();
        }
        let all = word.to_be_bytes();
        bytes.copy_from_slice(&all[8 - bytes.len()..]);
    }
}
