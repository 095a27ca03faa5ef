//! One chip that answers, on any bus, by the register map of its family.

use super::registers::{Register, RegisterMap, Setting};
use crate::sources::i2c::{Bus, Chip, Fault, Measured};

/// The size of the largest register in bytes.
const MAX_BYTES: usize = 5;

/// An identified and configured chip.
pub(super) struct MappedChip<B> {
    bus: B,
    address: u8,
    map: Box<dyn RegisterMap>,
    /// Of each rail, whether current and power have the opposite sign.
    reversed: Vec<bool>,
    /// What is written to it.
    settings: Vec<Setting>,
    /// The words that were read last.
    words: Vec<u64>,
}

impl<B: Bus> MappedChip<B> {
    /// Identifies the chip before anything is written to it, then configures it.
    pub(super) fn start(
        bus: B,
        address: u8,
        map: Box<dyn RegisterMap>,
        reversed: Vec<bool>,
    ) -> Result<MappedChip<B>, Fault> {
        let mut chip = MappedChip {
            bus,
            address,
            settings: map.settings(),
            words: Vec::with_capacity(map.values().len()),
            reversed,
            map,
        };
        chip.read_all(|map| map.identity())?;
        if let Err(says) = chip.map.identify(&chip.words) {
            let wanted = chip.map.wanted();
            return Err(Fault::OtherChip { says, wanted });
        }
        for setting in &chip.settings {
            let [high, low] = setting.word.to_be_bytes();
            chip.bus
                .write(address, &[setting.pointer, high, low])
                .map_err(|e| Fault::of(&e))?;
        }
        Ok(chip)
    }

    /// Reads these registers into the words.
    fn read_all(&mut self, registers: fn(&dyn RegisterMap) -> &[Register]) -> Result<(), Fault> {
        self.words.clear();
        for register in registers(&*self.map) {
            let word = read(&mut self.bus, self.address, *register)?;
            self.words.push(word);
        }
        Ok(())
    }
}

/// One register, the highest byte first.
fn read<B: Bus>(bus: &mut B, address: u8, register: Register) -> Result<u64, Fault> {
    let mut bytes = [0; MAX_BYTES];
    let (bytes, _) = bytes.split_at_mut(usize::from(register.bytes).min(MAX_BYTES));
    bus.write_read(address, &[register.pointer], bytes)
        .map_err(|e| Fault::of(&e))?;
    Ok(bytes
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

impl<B: Bus> MappedChip<B> {
    fn word(&mut self, pointer: u8) -> Result<u16, Fault> {
        let word = read(&mut self.bus, self.address, Register { pointer, bytes: 2 })?;
        Ok(word as u16)
    }
}

impl<B: Bus> Chip for MappedChip<B> {
    fn is_ready(&mut self) -> Result<bool, Fault> {
        let (pointer, flag) = self.map.ready();
        Ok(self.word(pointer)? & flag != 0)
    }

    fn read(&mut self, into: &mut Vec<Measured>) -> Result<(), Fault> {
        self.read_all(|map| map.values())?;
        into.clear();
        if !self.map.measure(&self.words, into) {
            return Err(Fault::ImplausibleVoltage);
        }
        for (measured, reversed) in into.iter_mut().zip(&self.reversed) {
            if *reversed {
                let reading = &mut measured.reading;
                // No current has no sign.
                reading.amperes = 0.0 - reading.amperes;
                reading.watts = 0.0 - reading.watts;
            }
        }
        Ok(())
    }

    fn is_configured(&mut self) -> Result<bool, Fault> {
        for n in 0..self.settings.len() {
            let Some(Setting {
                pointer,
                word,
                kept,
            }) = self.settings.get(n).copied()
            else {
                break;
            };
            if kept != 0 && (self.word(pointer)? ^ word) & kept != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
