//! The chips and boards that the configuration can name, as data.

use super::registers::{ina219, ina226, ina228, ina3221};
use crate::sources::i2c::conversion::{AVERAGINGS, CONVERSION_MICROSECONDS};

/// A kind of chip.
#[derive(Debug, PartialEq)]
pub struct Model {
    /// Its name in the configuration, and the kernel's (`new_device`).
    pub name: &'static str,
    /// Its name for people.
    pub kind: &'static str,
    /// The family of its registers.
    pub family: Family,
    /// The highest address that its pins choose; the lowest is 0x40.
    pub last_address: u8,
    /// Number of averaged conversions that can be configured.
    pub averagings: &'static [u16],
    /// Times of a conversion that can be configured, in microseconds.
    pub microseconds: &'static [u16],
    /// The time of a conversion unless it is configured, in microseconds.
    pub default_microseconds: u16,
    /// The ranges of the shunt's voltage, ascending, in millivolts.
    pub millivolts: &'static [f64],
}

/// A family of chips with one register map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// INA219 and INA220.
    Ina219,
    /// INA226.
    Ina226,
    /// INA228, INA237 and INA238.
    Ina228(ina228::Kind),
    /// INA3221.
    Ina3221,
}

const INA219: Model = Model {
    name: "ina219",
    kind: "INA219",
    family: Family::Ina219,
    last_address: 0x4f,
    averagings: &ina219::AVERAGINGS,
    microseconds: &ina219::MICROSECONDS,
    default_microseconds: 532,
    millivolts: &ina219::MILLIVOLTS,
};

const INA228: Model = Model {
    name: "ina228",
    kind: "INA228",
    family: Family::Ina228(ina228::Kind::Ina228),
    last_address: 0x4f,
    averagings: &AVERAGINGS,
    microseconds: &ina228::MICROSECONDS,
    default_microseconds: 1052,
    millivolts: &ina228::MILLIVOLTS,
};

/// All kinds.
pub static MODELS: [Model; 7] = [
    INA219,
    Model {
        name: "ina220",
        kind: "INA220",
        ..INA219
    },
    Model {
        name: "ina226",
        kind: "INA226",
        family: Family::Ina226,
        last_address: 0x4f,
        averagings: &AVERAGINGS,
        microseconds: &CONVERSION_MICROSECONDS,
        default_microseconds: 1100,
        millivolts: &ina226::MILLIVOLTS,
    },
    INA228,
    Model {
        name: "ina237",
        kind: "INA237",
        family: Family::Ina228(ina228::Kind::Ina237),
        ..INA228
    },
    Model {
        name: "ina238",
        kind: "INA238",
        family: Family::Ina228(ina228::Kind::Ina238),
        ..INA228
    },
    Model {
        name: "ina3221",
        kind: "INA3221",
        family: Family::Ina3221,
        last_address: 0x43,
        averagings: &AVERAGINGS,
        microseconds: &CONVERSION_MICROSECONDS,
        default_microseconds: 1100,
        millivolts: &ina3221::MILLIVOLTS,
    },
];

impl Model {
    /// The model of this name, in any case.
    pub fn named(name: &str) -> Option<&'static Model> {
        MODELS
            .iter()
            .find(|model| model.name.eq_ignore_ascii_case(name))
    }

    /// Whether it has several channels, each with a shunt.
    pub fn has_channels(&self) -> bool {
        self.family == Family::Ina3221
    }

    /// The place of the smallest range that holds this voltage of the shunt; `None` if none does.
    pub fn range(&self, millivolts: f64) -> Option<usize> {
        // Not refused for a rounding error: 3.2 A at 0.1 ohms.
        let holds = |range: &f64| millivolts <= range * (1.0 + 1e-9);
        self.millivolts.iter().position(holds)
    }
}

/// A board that is sold with a chip and its shunt.
#[derive(Debug, PartialEq)]
pub struct KnownBoard {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The model's name.
    pub model: &'static str,
    /// The address as it is sold.
    pub address: u8,
    /// The shunt, in each channel if there are several.
    pub shunt_ohms: f64,
    /// Whether the shunt is at a battery, which is charged and discharged: that is not what the board draws.
    pub at_battery: bool,
}

/// All boards. Adafruit's are in its product guides. Waveshare's address and shunt are those of its demonstration programs
/// for the board (`UPS_HAT.7z`, `UPS_HAT_C.7z`).
pub static BOARDS: [KnownBoard; 5] = [
    KnownBoard {
        name: "adafruit-ina219",
        model: "ina219",
        address: 0x40,
        shunt_ohms: 0.1,
        at_battery: false,
    },
    KnownBoard {
        name: "adafruit-ina228",
        model: "ina228",
        address: 0x40,
        shunt_ohms: 0.015,
        at_battery: false,
    },
    KnownBoard {
        name: "adafruit-ina3221",
        model: "ina3221",
        address: 0x40,
        shunt_ohms: 0.05,
        at_battery: false,
    },
    KnownBoard {
        name: "waveshare-ups-hat",
        model: "ina219",
        address: 0x42,
        shunt_ohms: 0.1,
        at_battery: true,
    },
    KnownBoard {
        name: "waveshare-ups-hat-c",
        model: "ina219",
        address: 0x43,
        shunt_ohms: 0.01,
        at_battery: true,
    },
];

impl KnownBoard {
    /// The board of this name, in any case.
    pub fn named(name: &str) -> Option<&'static KnownBoard> {
        BOARDS
            .iter()
            .find(|board| board.name.eq_ignore_ascii_case(name))
    }
}
