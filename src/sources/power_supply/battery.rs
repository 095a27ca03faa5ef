//! A battery's charge level, contents and wear (Linux, Documentation/ABI/testing/sysfs-class-power): percent,
//! µWh, µAh and charge cycles.
//!
//! Drivers report an unknown value in various ways: an error, a negative number, a register with all bits set in its own
//! unit or in that of the attribute, or 0 cycles (by the ABI). None of these is exported.

use crate::metrics::{common, Desc, Group, Readings, RejectReason, SeriesId};
use crate::sources::Attribute;

/// The attributes of a battery's state, with the families that export them.
const LEVELS: &[Level] = &[
    Level {
        attribute: "capacity",
        family: "power_supply_capacity_ratio",
        help: "How full the battery is, from 0 to 1.",
        per_unit: 100.0,
        min: 0,
        max: 100,
    },
    Level {
        attribute: "energy_now",
        family: "power_supply_energy_joules",
        help: "Energy that the battery holds, in joules.",
        per_unit: PER_JOULE,
        min: 0,
        max: MAX_CONTENT,
    },
    Level {
        attribute: "energy_full",
        family: "power_supply_energy_full_joules",
        help: "Energy that the battery holds when it is full, in joules.",
        per_unit: PER_JOULE,
        min: 1,
        max: MAX_CONTENT,
    },
    Level {
        attribute: "energy_full_design",
        family: "power_supply_energy_full_design_joules",
        help: "Energy that the battery held when it was new and full, in joules.",
        per_unit: PER_JOULE,
        min: 1,
        max: MAX_CONTENT,
    },
    Level {
        attribute: "charge_now",
        family: "power_supply_charge_coulombs",
        help: "Charge that the battery holds, in coulombs.",
        per_unit: PER_COULOMB,
        min: 0,
        max: MAX_CONTENT,
    },
    Level {
        attribute: "charge_full",
        family: "power_supply_charge_full_coulombs",
        help: "Charge that the battery holds when it is full, in coulombs.",
        per_unit: PER_COULOMB,
        min: 1,
        max: MAX_CONTENT,
    },
    Level {
        attribute: "charge_full_design",
        family: "power_supply_charge_full_design_coulombs",
        help: "Charge that the battery held when it was new and full, in coulombs.",
        per_unit: PER_COULOMB,
        min: 1,
        max: MAX_CONTENT,
    },
    Level {
        attribute: "cycle_count",
        family: "power_supply_charge_cycles",
        help: "How often the battery has been charged in full.",
        per_unit: 1.0,
        min: 1,
        max: 65_534,
    },
];

/// Microwatt-hours in a joule, and microampere-hours in a coulomb.
const PER_JOULE: f64 = 1e6 / 3600.0;
const PER_COULOMB: f64 = 1e6 / 3600.0;
/// A megawatt-hour or a mega-ampere-hour: more than any battery that powers a board.
const MAX_CONTENT: i64 = 1_000_000_000_000;
/// Registers of various widths with all bits set.
const UNKNOWN: [i64; 4] = [0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX];
/// The factors by which drivers multiply a register: mAh and mWh, and tens of mWh (Smart Battery Data Specification 1.1, 5.1.4).
const FACTORS: [i64; 3] = [1, 1000, 10_000];

struct Level {
    attribute: &'static str,
    family: &'static str,
    help: &'static str,
    /// Units of the attribute in one unit of the family.
    per_unit: f64,
    min: i64,
    max: i64,
}

impl Level {
    /// Whether the ABI uses this number for "unknown": no cycles, or an empty full battery.
    fn is_absent(&self, number: i64) -> bool {
        number == 0 && self.min > 0
    }

    /// The attribute's number in the family's unit; `None` if it is no value.
    fn value(&self, number: i64) -> Option<f64> {
        let is_unknown = UNKNOWN.iter().any(|unknown| {
            FACTORS
                .iter()
                .any(|f| unknown.checked_mul(*f) == Some(number))
        });
        let is_value = !is_unknown && (self.min..=self.max).contains(&number);
        is_value.then(|| number as f64 / self.per_unit)
    }
}

/// The attributes of a battery's state.
pub(super) fn attributes() -> impl Iterator<Item = &'static str> {
    LEVELS.iter().map(|level| level.attribute)
}

/// A battery's open attributes.
pub(super) struct Battery(Vec<(&'static Level, Attribute, SeriesId)>);

impl Battery {
    /// Registers the series of the supply of this name for the attributes that it has.
    pub(super) fn new(
        group: &Group,
        name: &str,
        attribute: impl Fn(&str) -> Option<Attribute>,
    ) -> Battery {
        let levels = LEVELS.iter().filter_map(|level| {
            let attribute = attribute(level.attribute)?;
            let desc = Desc::gauge(level.family, level.help);
            Some((level, attribute, common::rail_series(group, &desc, name)))
        });
        Battery(levels.collect())
    }

    pub(super) fn poll(&mut self, out: &mut Readings) {
        for (level, attribute, series) in &mut self.0 {
            let Some(number) = attribute.read() else {
                continue;
            };
            match level.value(number) {
                Some(value) => out.set(*series, value),
                None if level.is_absent(number) => {}
                None => out.reject(
                    *series,
                    number as f64 / level.per_unit,
                    RejectReason::Implausible,
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(attribute: &str, number: i64) -> Option<f64> {
        let level = LEVELS.iter().find(|level| level.attribute == attribute);
        level.unwrap().value(number)
    }

    #[test]
    fn values_are_in_base_units() {
        assert_eq!(value("capacity", 42), Some(0.42));
        assert_eq!(value("capacity", 0), Some(0.0));
        assert_eq!(value("capacity", 100), Some(1.0));
        assert_eq!(value("energy_now", 50_000_000), Some(180_000.0));
        assert_eq!(value("energy_now", 0), Some(0.0));
        assert_eq!(value("charge_full", 3_000_000), Some(10_800.0));
        assert_eq!(value("cycle_count", 1), Some(1.0));
    }

    #[test]
    fn unknown_values_are_not_exported() {
        for attribute in attributes() {
            for number in [
                -1,
                i64::MIN,
                i64::MAX,
                65_535,
                65_535_000,
                655_350_000,
                0x7fff_ffff,
                0xffff_ffff,
                4_294_967_295_000,
                MAX_CONTENT + 1,
            ] {
                assert_eq!(value(attribute, number), None, "{attribute} {number}");
            }
        }
        for (attribute, number) in [
            ("capacity", 101),
            ("capacity", 255),
            ("energy_full", 0),
            ("charge_full_design", 0),
            ("cycle_count", 0),
        ] {
            assert_eq!(value(attribute, number), None, "{attribute} {number}");
        }
    }
}
