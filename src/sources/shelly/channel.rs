//! The series of one channel of a device.

use super::status::{Channel, Energy, CONDITIONS};
use crate::metrics::plausible::{range, Range, WATTS_OF_PHASE, WATTS_OF_PLUG};
use crate::metrics::{common, Desc, EnergyCounter, Group, Kind, Rail, Readings, SeriesId};

/// Counters are read in steps of their last digit, a milliwatt-hour, which is 3.6 J.
const STEPS_PER_WATT_HOUR: f64 = 1000.0;
const JOULES_PER_STEP: f64 = 3.6;
/// A terawatt-hour, which no counter reaches.
const MAX_WATT_HOURS: f64 = 1e12;

/// The metrics of the energy of each of the last minutes, as in the replaced exporter.
const MINUTES: [&str; 3] = [
    "shelly_energy_minute_0_mwh",
    "shelly_energy_minute_1_mwh",
    "shelly_energy_minute_2_mwh",
];
const RETURNED_MINUTES: [&str; 3] = [
    "shelly_energy_returned_minute_0_mwh",
    "shelly_energy_returned_minute_1_mwh",
    "shelly_energy_returned_minute_2_mwh",
];
const ERRORS: [&str; CONDITIONS.len()] = [
    "shelly_error_overtemp",
    "shelly_error_overpower",
    "shelly_error_overvoltage",
    "shelly_error_undervoltage",
];

/// The series of one channel, each registered when it first has a value.
pub(super) struct ChannelSeries {
    name: String,
    rail: Option<Rail>,
    returned: Option<EnergyCounter>,
    /// Whether the device counts this channel's energy. It is then never integrated, even while the counter is missing.
    counted: bool,
    /// The energy that the device counted since the last poll, in joules; 0 if the counter was missing.
    joules: f64,
    known: Vec<(&'static str, SeriesId)>,
}

/// Where the values of a channel are set.
pub(super) struct Place<'a> {
    pub(super) group: &'a Group,
    pub(super) device: &'a str,
    pub(super) out: &'a mut Readings,
}

impl ChannelSeries {
    /// The series of a channel without values so far.
    pub(super) fn new(name: &str) -> ChannelSeries {
        ChannelSeries {
            name: name.to_string(),
            rail: None,
            returned: None,
            counted: false,
            joules: 0.0,
            known: Vec::new(),
        }
    }

    /// The channel's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The energy that the device counted since the last poll, in joules. `None`: the device does not count.
    pub(super) fn counted(&self) -> Option<f64> {
        self.counted.then_some(self.joules)
    }

    /// Sets all values of the channel.
    pub(super) fn set(&mut self, at: &mut Place<'_>, channel: &Channel) {
        // If the device also counts returned energy, consumed energy is known only together with that.
        let is_partial = self.returned.is_some() && channel.returned.total.is_none();
        let energy = match is_partial {
            true => &Energy::default(),
            false => &channel.energy,
        };
        self.set_power(at, channel.watts, energy);
        self.set_returned(at, channel);
        let flag = |is: Option<bool>| is.map(f64::from);
        for (name, help, value) in [
            (
                "shelly_power_total_watts",
                "Active power of the channel, in watts.",
                channel.watts,
            ),
            (
                "shelly_power_voltage_volts",
                "Voltage, in volts.",
                channel.volts,
            ),
            (
                "shelly_power_current_amps",
                "Current, in amperes.",
                channel.amperes,
            ),
            ("shelly_power_factor", "Power factor.", channel.power_factor),
            (
                "shelly_power_frequency_hz",
                "Mains frequency, in hertz.",
                channel.hertz,
            ),
            (
                "shelly_power_switch_output",
                "Whether the output is on: 1 or 0.",
                flag(channel.output),
            ),
            (
                "shelly_temperature_celsius",
                "Temperature of the device, in degrees Celsius.",
                channel.celsius,
            ),
            (
                "shelly_temperature_fahrenheit",
                "Temperature of the device, in degrees Fahrenheit.",
                channel.fahrenheit,
            ),
            (
                "shelly_errors_count",
                "How many error conditions the device reports.",
                channel.errors.map(|n| n as f64),
            ),
        ] {
            self.shelly(at, name, help, value);
        }
        for (name, is) in ERRORS.into_iter().zip(channel.conditions) {
            self.shelly(
                at,
                name,
                "Whether the device reports this error: 1 or 0.",
                flag(is),
            );
        }
        self.set_energy(
            at,
            energy,
            (
                "shelly_energy_total_wh",
                "shelly_energy_minute_timestamp",
                MINUTES,
            ),
        );
        self.set_energy(
            at,
            &channel.returned,
            (
                "shelly_energy_returned_total_wh",
                "shelly_energy_returned_minute_timestamp",
                RETURNED_MINUTES,
            ),
        );
        let rail = self.rail_name(at.device);
        for (desc, label, value) in [
            (common::voltage_volts as fn() -> Desc, "rail", channel.volts),
            (common::current_amperes, "rail", channel.amperes),
            (common::temperature_celsius, "sensor", channel.celsius),
        ] {
            self.common(at, desc, (label, &rail), value);
        }
    }

    /// `<device>/<channel>`, or only the device for the device itself.
    fn rail_name(&self, device: &str) -> String {
        match self.name.as_str() {
            "" => device.to_string(),
            name => format!("{device}/{name}"),
        }
    }

    fn set_returned(&mut self, at: &mut Place<'_>, channel: &Channel) {
        let Some(steps) = channel.returned.total.and_then(steps) else {
            return;
        };
        let name = self.rail_name(at.device);
        let counter = self.returned.get_or_insert_with(|| {
            let desc = common::energy_returned();
            let energy = common::rail_series(at.group, &desc, &name);
            EnergyCounter::new(energy, 0, watts_of(at.group, &self.name).max)
        });
        counter.update(at.out, steps, JOULES_PER_STEP);
    }

    fn set_power(&mut self, at: &mut Place<'_>, watts: Option<f64>, energy: &Energy) {
        let steps = energy.total.and_then(steps);
        if watts.is_none() && steps.is_none() {
            return;
        }
        let name = self.rail_name(at.device);
        let possible = watts_of(at.group, &self.name);
        let register = || Rail::within(at.group, &name, possible);
        let rail = self.rail.get_or_insert_with(register);
        self.counted |= steps.is_some();
        self.joules = 0.0;
        if let Some(steps) = steps {
            rail.set_coarse_counter(at.out, steps, JOULES_PER_STEP);
            self.joules = rail.last_counted().unwrap_or(0.0);
        }
        let _ = match watts {
            Some(watts) if self.counted => rail.set_power(at.out, watts),
            Some(watts) => rail.set_watts(at.out, watts),
            None => None,
        };
    }

    fn set_energy(
        &mut self,
        at: &mut Place<'_>,
        energy: &Energy,
        (total, timestamp, minutes): (&'static str, &'static str, [&'static str; 3]),
    ) {
        const TOTAL: &str = "Energy that the device counted, consumed or returned apart, in watt-hours; it may begin anew when the device restarts.";
        const MINUTE: &str =
            "Energy of one of the last three full minutes, the latest being 0, in milliwatt-hours.";
        const BEGAN: &str = "When the minute began that these three come before, in Unix seconds.";
        self.shelly(at, total, TOTAL, energy.total);
        self.shelly(at, timestamp, BEGAN, energy.minute_began);
        for (name, value) in minutes.into_iter().zip(energy.minutes) {
            self.shelly(at, name, MINUTE, value);
        }
    }

    /// Sets a metric of the replaced exporter, with the labels `device` and `channel`.
    fn shelly(
        &mut self,
        at: &mut Place<'_>,
        name: &'static str,
        help: &'static str,
        value: Option<f64>,
    ) {
        let Some(value) = value else {
            return;
        };
        let id = match self.known.iter().find(|(known, _)| *known == name) {
            Some((_, id)) => *id,
            None => {
                let mut labels = vec![("device", at.device)];
                if !self.name.is_empty() {
                    labels.push(("channel", &self.name));
                }
                let id = at.group.series(&Desc::gauge(name, help), &labels);
                self.known.push((name, id));
                id
            }
        };
        at.out.set(id, value);
    }

    /// Sets a metric that all meters have.
    fn common(
        &mut self,
        at: &mut Place<'_>,
        desc: fn() -> Desc,
        (label, rail): (&'static str, &str),
        value: Option<f64>,
    ) {
        let Some(value) = value else {
            return;
        };
        let desc = desc();
        let known = self.known.iter().find(|(known, _)| *known == desc.name);
        let id = match (known, &desc.name) {
            (Some((_, id)), _) => *id,
            (None, name) => {
                let labels = [("source", at.group.source.as_str()), (label, rail)];
                let id = at.group.series(&desc, &labels);
                if let std::borrow::Cow::Borrowed(name) = name {
                    self.known.push((name, id));
                }
                id
            }
        };
        at.out.set(id, value);
    }
}

/// The plausible power of a channel. Clamps measure the conductors of a house; all other channels are wires through the
/// device.
fn watts_of(group: &Group, channel: &str) -> &'static Range {
    match channel.split_once(':') {
        Some(("em", id)) if !id.contains('/') => range(&group.source, "power_watts", Kind::Gauge),
        Some(("em" | "em1" | "emeter", _)) => &WATTS_OF_PHASE,
        _ => &WATTS_OF_PLUG,
    }
}

/// A counter's value in steps. `None` if no counter can have this value.
fn steps(watt_hours: f64) -> Option<u64> {
    let possible = (0.0..=MAX_WATT_HOURS).contains(&watt_hours);
    possible.then(|| (watt_hours * STEPS_PER_WATT_HOUR).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_counter_is_ignored() {
        assert_eq!(steps(-1.0), None);
        assert_eq!(steps(1e300), None);
        assert_eq!(steps(0.0), Some(0));
        assert_eq!(steps(7258.589), Some(7_258_589));
    }
}
