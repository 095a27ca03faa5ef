//! The firmware's flags on supply and temperature
//! (Raspberry Pi documentation, "vcgencmd: get_throttled": the bits).

use crate::metrics::{Desc, Group, Readings, SeriesId};

/// A bit, its metric and the metric's help.
const FLAGS: [(u32, &str, &str); 8] = [
    (
        0,
        "rpi_under_voltage",
        "Whether the supply's voltage is too low, by the Raspberry Pi's firmware.",
    ),
    (
        1,
        "rpi_frequency_capped",
        "Whether the processor's frequency is capped, by the Raspberry Pi's firmware.",
    ),
    (
        2,
        "rpi_throttled",
        "Whether the processor is throttled, by the Raspberry Pi's firmware.",
    ),
    (
        3,
        "rpi_soft_temperature_limit",
        "Whether the soft temperature limit is in force, by the Raspberry Pi's firmware.",
    ),
    (
        16,
        "rpi_under_voltage_since_boot",
        "Whether the supply's voltage has been too low since boot, by the Raspberry Pi's firmware.",
    ),
    (
        17,
        "rpi_frequency_capped_since_boot",
        "Whether the processor's frequency has been capped since boot, by the Raspberry Pi's firmware.",
    ),
    (
        18,
        "rpi_throttled_since_boot",
        "Whether the processor has been throttled since boot, by the Raspberry Pi's firmware.",
    ),
    (
        19,
        "rpi_soft_temperature_limit_since_boot",
        "Whether the soft temperature limit has been in force since boot, by the Raspberry Pi's firmware.",
    ),
];

/// The series of the flags, each 0 or 1; they have no labels.
pub(super) struct Flags([Option<SeriesId>; FLAGS.len()]);

impl Flags {
    /// No series yet: they are registered when they are first set.
    pub(super) const fn new() -> Flags {
        Flags([None; FLAGS.len()])
    }

    /// Sets the flags whose bits are in `known`.
    pub(super) fn set(&mut self, group: &Group, out: &mut Readings, flags: u32, known: u32) {
        for (series, (bit, name, help)) in self.0.iter_mut().zip(FLAGS) {
            if known >> bit & 1 == 1 {
                let register = || group.series(&Desc::gauge(name, help), &[]);
                let value = f64::from(flags >> bit & 1);
                out.set(*series.get_or_insert_with(register), value);
            }
        }
    }
}
