//! The series of a device's rails, and the board's total.

use std::sync::Arc;

use super::plan::RailReading;
use super::quantity::Quantity;
use crate::metrics::plausible;
use crate::metrics::{
    common, EnergyCounter, Grade, Group, PowerSum, Rail, RailTotal, Readings, SeriesId,
};

/// More rails than a device has. A device may have as many names.
pub(super) const MAX_RAILS: usize = 256;
/// Counters are read in steps of a joule's hundredth.
const JOULES_PER_STEP: f64 = 0.01;
/// A terawatt-hour, which no counter reaches.
const MAX_JOULES: f64 = 3.6e15;

/// The series of one device.
pub(in crate::sources) struct DeviceSeries {
    group: Arc<Group>,
    device: String,
    rails: Vec<RailSeries>,
    left_out: u64,
    total: Option<RailTotal>,
}

/// The series of one rail, each registered when it first has a value.
struct RailSeries {
    /// The name after the device's.
    name: String,
    /// The label: `<device>/<name>`.
    label: String,
    is_part: bool,
    rail: Option<Rail>,
    returned: Option<EnergyCounter>,
    /// Whether the device counts this rail's energy. It is then never integrated, even while the counter is missing.
    counted: bool,
    /// What it counted between the last two polls, in joules.
    joules: f64,
    /// Whether it has had a power.
    is_measured: bool,
    voltage: Option<SeriesId>,
    current: Option<SeriesId>,
    temperature: Option<SeriesId>,
}

impl DeviceSeries {
    /// The series of a device; `is_total`: it feeds the board.
    pub(in crate::sources) fn new(
        group: &Arc<Group>,
        device: &str,
        is_total: bool,
    ) -> DeviceSeries {
        let total = is_total.then(|| {
            let mut total = RailTotal::new(Vec::new());
            total.claim(group, Some(Grade::Configured));
            total
        });
        DeviceSeries {
            group: Arc::clone(group),
            device: device.to_string(),
            rails: Vec::new(),
            left_out: 0,
            total,
        }
    }

    /// Forgets the counters of the rails, since another device has the address now.
    pub(in crate::sources) fn forget_counters(&mut self) {
        self.rails.clear();
    }

    /// The number of rails left out since the last call because there are too many.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Sets the values of one poll.
    pub(in crate::sources) fn set(&mut self, out: &mut Readings, readings: &[RailReading]) {
        for reading in readings {
            let is_known = self.rails.iter().any(|rail| rail.name == reading.name);
            if !is_known && self.rails.len() >= MAX_RAILS {
                self.left_out += 1;
            } else if !is_known {
                self.rails.push(RailSeries::new(&self.device, reading));
            }
        }
        let watts: Vec<Option<f64>> = self
            .rails
            .iter_mut()
            .map(|rail| {
                let reading = readings.iter().find(|reading| reading.name == rail.name);
                // What it is a part of may have answered later.
                rail.is_part = reading.map_or(rail.is_part, |reading| reading.is_part);
                rail.set(&self.group, out, reading)
            })
            .collect();
        let Some(total) = &mut self.total else {
            return;
        };
        // Rails that only count energy have no part in the power. If there are no others, the total is energy alone.
        let is_measured = self.rails.iter().any(|rail| rail.is_measured);
        let whole = self.rails.iter().zip(watts).filter(|(rail, _)| {
            let has_part = rail.is_measured || !is_measured;
            !rail.is_part && rail.rail.is_some() && has_part
        });
        let mut sum = None;
        for (rail, watts) in whole {
            let sum = sum.get_or_insert_with(PowerSum::default);
            sum.add(watts, rail.counted.then_some(rail.joules));
        }
        if let Some(sum) = sum {
            total.publish(out, &sum);
        }
    }
}

impl RailSeries {
    fn new(device: &str, reading: &RailReading) -> RailSeries {
        RailSeries {
            label: match reading.name.as_str() {
                "" => device.to_string(),
                name => format!("{device}/{name}"),
            },
            name: reading.name.clone(),
            is_part: reading.is_part,
            rail: None,
            returned: None,
            counted: false,
            joules: 0.0,
            is_measured: false,
            voltage: None,
            current: None,
            temperature: None,
        }
    }

    /// Sets the values of one poll, if it has any. Returns the power, if it is plausible.
    fn set(
        &mut self,
        group: &Group,
        out: &mut Readings,
        reading: Option<&RailReading>,
    ) -> Option<f64> {
        self.joules = 0.0;
        let reading = reading?;
        let value = |quantity: Quantity| reading.values.get(quantity as usize).copied().flatten();
        if let Some(steps) = value(Quantity::EnergyReturned).and_then(steps) {
            let counter = self.returned.get_or_insert_with(|| {
                let energy = common::rail_series(group, &common::energy_returned(), &self.label);
                let most =
                    plausible::range(&group.source, "power_watts", crate::metrics::Kind::Gauge).max;
                EnergyCounter::new(energy, 0, most)
            });
            counter.update(out, steps, JOULES_PER_STEP);
        }
        let rail = |desc: fn() -> _| common::rail_series(group, &desc(), &self.label);
        if let Some(volts) = value(Quantity::Voltage) {
            out.set(
                *self
                    .voltage
                    .get_or_insert_with(|| rail(common::voltage_volts)),
                volts,
            );
        }
        if let Some(amperes) = value(Quantity::Current) {
            out.set(
                *self
                    .current
                    .get_or_insert_with(|| rail(common::current_amperes)),
                amperes,
            );
        }
        if let Some(celsius) = value(Quantity::Temperature) {
            let sensor =
                || common::sensor_series(group, &common::temperature_celsius(), &self.label);
            out.set(*self.temperature.get_or_insert_with(sensor), celsius);
        }
        self.set_power(group, out, value(Quantity::Power), value(Quantity::Energy))
    }

    fn set_power(
        &mut self,
        group: &Group,
        out: &mut Readings,
        watts: Option<f64>,
        joules: Option<f64>,
    ) -> Option<f64> {
        let steps = joules.and_then(steps);
        // A counter that has never counted is none: some devices have one that stays at 0.
        let counts = steps.filter(|steps| *steps > 0 || self.counted || watts.is_none());
        if watts.is_none() && counts.is_none() {
            return None;
        }
        let rail = self
            .rail
            .get_or_insert_with(|| Rail::new(group, &self.label));
        self.is_measured |= watts.is_some();
        if let Some(steps) = counts {
            self.counted |= steps > 0;
            rail.set_coarse_counter(out, steps, JOULES_PER_STEP);
            self.joules = rail.last_counted().unwrap_or(0.0);
        }
        match self.counted {
            true => rail.set_power(out, watts?),
            false => rail.set_watts(out, watts?),
        }
    }
}

/// A counter's value in steps. `None` if no counter can have this value.
fn steps(joules: f64) -> Option<u64> {
    let is_possible = (0.0..=MAX_JOULES).contains(&joules);
    is_possible.then(|| (joules / JOULES_PER_STEP).round() as u64)
}
