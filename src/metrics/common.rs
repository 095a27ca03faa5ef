//! Families that several meters share: a quantity has the same name in every source.

use super::family::Desc;
use super::group::Group;
use super::series::SeriesId;

/// `power_gpu_watts`, in watts. Exported from the first source that has it.
pub fn power_gpu() -> Desc {
    Desc::gauge("power_gpu_watts", "Electric power of the GPU, in watts.").single()
}

/// `voltage_volts{source,rail}`, in volts; see [`rail_series`].
pub fn voltage_volts() -> Desc {
    Desc::gauge(
        "voltage_volts",
        "Electric voltage, by source and rail, in volts.",
    )
}

/// `current_amperes{source,rail}`, in amperes with the meter's own sign; see [`rail_series`].
pub fn current_amperes() -> Desc {
    Desc::gauge(
        "current_amperes",
        "Electric current, by source and rail, in amperes.",
    )
}

/// `energy_returned_joules_total{source,rail}`, in joules: energy fed back, which is not subtracted from consumed energy; see [`rail_series`].
pub fn energy_returned() -> Desc {
    Desc::counter(
        "energy_returned_joules_total",
        "Electric energy returned since the exporter started, by source and rail, in joules.",
    )
}

/// `temperature_celsius{source,sensor}`, in degrees Celsius; see [`sensor_series`].
pub fn temperature_celsius() -> Desc {
    Desc::gauge(
        "temperature_celsius",
        "Temperature, by source and sensor, in degrees Celsius.",
    )
}

/// The family's series for one rail of the group's source.
pub fn rail_series(group: &Group, desc: &Desc, rail: &str) -> SeriesId {
    group.series(desc, &[("source", group.source.as_str()), ("rail", rail)])
}

/// The family's series for one sensor of the group's source.
pub fn sensor_series(group: &Group, desc: &Desc, sensor: &str) -> SeriesId {
    group.series(
        desc,
        &[("source", group.source.as_str()), ("sensor", sensor)],
    )
}
