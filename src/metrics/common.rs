//! Families that several meters share. A value of the same kind has the same name, whatever it was read from.

use super::family::Desc;
use super::group::Group;
use super::series::SeriesId;

/// `power_gpu_watts`: what the GPU draws, in watts. The first source that has it is the one that is shown.
pub fn power_gpu() -> Desc {
    Desc::gauge("power_gpu_watts", "Electric power of the GPU, in watts.").single()
}

/// `voltage_volts{source,rail}`, in volts; see [`of_rail`].
pub fn voltage_volts() -> Desc {
    Desc::gauge(
        "voltage_volts",
        "Electric voltage, by source and rail, in volts.",
    )
}

/// `current_amperes{source,rail}`, in amperes with the meter's own sign; see [`of_rail`].
pub fn current_amperes() -> Desc {
    Desc::gauge(
        "current_amperes",
        "Electric current, by source and rail, in amperes.",
    )
}

/// `energy_returned_joules_total{source,rail}`: what flowed back, which no consumed energy contains; see [`of_rail`].
pub fn energy_returned() -> Desc {
    Desc::counter(
        "energy_returned_joules_total",
        "Electric energy that flowed back since the exporter started, by source and rail, in joules.",
    )
}

/// `temperature_celsius{source,sensor}`, in degrees Celsius; see [`of_sensor`].
pub fn temperature_celsius() -> Desc {
    Desc::gauge(
        "temperature_celsius",
        "Temperature, by source and sensor, in degrees Celsius.",
    )
}

/// The family's series for one rail of the group's source.
pub fn of_rail(group: &Group, desc: &Desc, rail: &str) -> SeriesId {
    group.series(desc, &[("source", group.source.as_str()), ("rail", rail)])
}

/// The family's series for one sensor of the group's source.
pub fn of_sensor(group: &Group, desc: &Desc, sensor: &str) -> SeriesId {
    group.series(
        desc,
        &[("source", group.source.as_str()), ("sensor", sensor)],
    )
}
