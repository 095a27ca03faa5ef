//! One chip: its identity and its values.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::input::{inputs, is_value, Input, Quantity};
use super::layout::{rails, sensors};
use crate::metrics::plausible::THERMOCOUPLE;
use crate::metrics::{common, Desc, PowerSum, Rail, Readings, SeriesId};
use crate::sources::io_log::files;
use crate::sources::runtime_power::{Access, RuntimePower};
use crate::sources::sysfs::{files_of, read_name};
use crate::sources::{Attribute, Context, Health};

/// Identifies a chip. A chip is reopened if its identity changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// The `hwmonN` folder, free of links: the path contains the device, so that another chip with the same `N` has another
    /// path.
    pub(super) dir: PathBuf,
    /// The chip's device; `None` for a virtual chip.
    pub(super) device: Option<PathBuf>,
    /// The chip's name for itself.
    pub(super) model: String,
}

impl Identity {
    /// A name of model and device: `ina226-1-0040`, `coretemp-coretemp.0`.
    pub(super) fn id(&self) -> String {
        let device = self.device.as_deref().and_then(Path::file_name);
        match device {
            Some(device) => format!("{}-{}", self.model, device.to_string_lossy()),
            None => self.model.clone(),
        }
    }

    /// Whether its device is one of these.
    pub(super) fn is_one_of(&self, devices: &[PathBuf]) -> bool {
        self.device.as_ref().is_some_and(|d| devices.contains(d))
    }

    /// A path that stays the same if the chip returns under another number.
    pub(super) fn place(&self) -> &Path {
        self.device.as_deref().unwrap_or(&self.dir)
    }
}

/// Identifies `hwmonN`. `None` if it is gone, or another meter reads the device.
pub(super) fn identify(health: &Arc<Health>, hwmon: &Path) -> Option<Identity> {
    let dir = files::resolve(health.io_log(), hwmon).ok()?;
    let device = files::resolve(health.io_log(), &dir.join("device")).ok();
    let class = device.as_deref().and_then(Path::parent);
    let class = class.and_then(Path::file_name);
    if class.is_some_and(|c| c == "power_supply" || c == "thermal") {
        return None;
    }
    let name = |dir: &Path| read_name(health, &dir.join("name"));
    let model = name(&dir).or_else(|| name(&dir.join("device")));
    Some(Identity {
        model: model.unwrap_or_else(|| "unknown".to_string()),
        device,
        dir,
    })
}

/// The chip's measured values, without labels, and their folder: drivers from before Linux 3.13 have them in the device's.
pub(super) fn read_inputs(
    health: &Arc<Health>,
    identity: &Identity,
) -> Option<(PathBuf, Vec<Input>)> {
    let dirs = [identity.dir.clone(), identity.dir.join("device")];
    dirs.into_iter().find_map(|dir| {
        let found = inputs(&identity.model, &files_of(health, &dir, is_value).ok()?);
        (!found.is_empty()).then_some((dir, found))
    })
}

/// A value that can be disabled or at fault.
struct Sensor {
    attribute: Attribute,
    /// `*_enable`, read at each rescan: by the kernel's ABI, reading a disabled value fails anyway.
    enable: Option<Attribute>,
    enabled: bool,
    /// `*_fault`, read with every value.
    fault: Option<Attribute>,
    /// The last reading.
    last: Option<i64>,
}

impl Sensor {
    /// The number, in the attribute's own unit: a new reading if `fresh`, else the last one.
    #[inline]
    fn read(&mut self, fresh: bool) -> Option<i64> {
        if fresh {
            self.last = self.read_now();
        }
        self.last
    }

    #[inline]
    fn read_now(&mut self) -> Option<i64> {
        let is_at_fault = |a: &mut Attribute| a.read().is_some_and(|fault| fault != 0);
        if !self.enabled || self.fault.as_mut().is_some_and(is_at_fault) {
            return None;
        }
        self.attribute.read()
    }

    fn refresh_enabled(&mut self) {
        let enabled = self.enable.as_mut().and_then(Attribute::read);
        self.enabled = enabled != Some(0);
    }
}

/// A value that the driver reports in thousandths of its unit.
struct Gauge {
    sensor: Sensor,
    series: SeriesId,
}

impl Gauge {
    /// Reads and publishes the value. Returns the number in the attribute's own unit, if it is plausible.
    #[inline]
    fn poll(&mut self, out: &mut Readings, fresh: bool) -> Option<f64> {
        let value = self.sensor.read(fresh)? as f64;
        out.try_set(self.series, value / 1e3)?;
        Some(value)
    }
}

/// An open rail.
pub(super) struct RailSource {
    /// Its name within the chip.
    pub(super) name: String,
    /// The label `rail`: the chip's name and its own.
    pub(super) label: String,
    /// Whether it is part of the board's total.
    pub(super) in_total: bool,
    voltage: Option<Gauge>,
    current: Option<Gauge>,
    power: Option<Sensor>,
    energy: Option<Sensor>,
    /// The mean power by the last reading of the energy.
    mean: Option<f64>,
    rail: Option<Rail>,
    /// Joules that the last poll added to its energy.
    joules: f64,
    /// Whether the chip counts energy.
    counts: bool,
}

impl RailSource {
    /// Whether it has a power.
    pub(super) fn has_power(&self) -> bool {
        self.rail.is_some()
    }

    fn sensors(&mut self) -> impl Iterator<Item = &mut Sensor> {
        let gauges = [&mut self.voltage, &mut self.current].into_iter().flatten();
        let others = [&mut self.power, &mut self.energy].into_iter().flatten();
        gauges.map(|g| &mut g.sensor).chain(others)
    }

    /// Reads and publishes its values, or publishes the last ones again. Returns its power in watts.
    fn poll(&mut self, out: &mut Readings, fresh: bool) -> Option<f64> {
        let mut gauge = |g: &mut Option<Gauge>| g.as_mut()?.poll(out, fresh);
        let millivolts = gauge(&mut self.voltage);
        let milliamperes = gauge(&mut self.current);
        self.joules = 0.0;
        let rail = self.rail.as_mut()?;
        let watts = match &mut self.power {
            Some(power) => power.read(fresh).map(|microwatts| microwatts as f64 / 1e6),
            None => None,
        };
        if let Some(energy) = &mut self.energy {
            if fresh {
                let microjoules = energy.read(fresh).and_then(|n| u64::try_from(n).ok());
                self.mean = microjoules.and_then(|n| rail.set_counter(out, n, 1e-6));
                if microjoules.is_some() {
                    self.joules = rail.last_counted().unwrap_or(0.0);
                }
            } else {
                rail.hold_energy(out);
            }
            return rail.set_power(out, watts.or(self.mean)?);
        }
        let watts = match self.power {
            Some(_) => watts?,
            None => millivolts? * milliamperes? / 1e6,
        };
        rail.set_watts(out, watts)
    }
}

/// An open chip.
pub(super) struct Chip {
    pub(super) identity: Identity,
    /// Its name, the prefix of its rails' and sensors' names.
    pub(super) id: String,
    pub(super) rails: Vec<RailSource>,
    thermometers: Vec<Gauge>,
    power: RuntimePower,
}

impl Chip {
    /// Reads its labels and registers its series. `None` if it has no supported value.
    pub(super) fn open(
        context: &Context,
        identity: Identity,
        id: String,
        power: RuntimePower,
    ) -> Option<Chip> {
        let Context { group, health, .. } = context;
        let (dir, mut inputs) = read_inputs(health, &identity)?;
        let has = |name: &str| files::exists(health.io_log(), &dir.join(name));
        for input in &mut inputs {
            // ACPI's power meters have no label, but may have this description (Documentation/hwmon/acpi_power_meter).
            let names = ["label", "oem_info"].map(|item| format!("{}_{item}", input.channel()));
            let of_power = usize::from(input.quantity == Quantity::Power);
            let mut names = names[..=of_power].iter().filter(|name| has(name));
            input.label = names.find_map(|name| read_name(health, &dir.join(name)));
        }
        let sensor = |place: usize| {
            let input = &inputs[place];
            let beside = |item: &str| {
                let name = format!("{}_{item}", input.channel());
                has(&name).then(|| Attribute::new(health, dir.join(name)))
            };
            let mut sensor = Sensor {
                attribute: Attribute::new(health, dir.join(&input.file)),
                enable: beside("enable"),
                enabled: true,
                fault: beside("fault"),
                last: None,
            };
            sensor.refresh_enabled();
            sensor
        };
        let rails = rails(&identity.model, &inputs).into_iter().map(|layout| {
            let label = format!("{id}:{}", layout.name);
            let gauge = |place: Option<usize>, desc: Desc| {
                place.map(|place| Gauge {
                    sensor: sensor(place),
                    series: common::rail_series(group, &desc, &label),
                })
            };
            RailSource {
                voltage: gauge(layout.voltage, common::voltage_volts()),
                current: gauge(layout.current, common::current_amperes()),
                power: layout.power.map(sensor),
                counts: layout.energy.is_some(),
                joules: 0.0,
                energy: layout.energy.map(sensor),
                mean: None,
                rail: layout.has_power().then(|| Rail::new(group, &label)),
                name: layout.name,
                in_total: false,
                label,
            }
        });
        let celsius = match identity.model.as_str() {
            "iio_hwmon" => common::temperature_celsius().within(&THERMOCOUPLE),
            _ => common::temperature_celsius(),
        };
        let thermometers = sensors(&inputs).into_iter().map(|(place, name)| {
            let name = format!("{id}:{name}");
            Gauge {
                sensor: sensor(place),
                series: common::sensor_series(group, &celsius, &name),
            }
        });
        let (rails, thermometers) = (rails.collect(), thermometers.collect());
        Some(Chip {
            identity,
            id,
            rails,
            thermometers,
            power,
        })
    }

    /// Reads which values are disabled, unless the chip is suspended.
    pub(super) fn refresh_enabled(&mut self) {
        self.power.refresh_autosuspend();
        if self.power.is_suspended() {
            return;
        }
        let of_rails = self.rails.iter_mut().flat_map(RailSource::sensors);
        let others = self.thermometers.iter_mut().map(|g| &mut g.sensor);
        of_rails.chain(others).for_each(Sensor::refresh_enabled);
    }

    /// Reads and publishes its values, unless it is suspended, and adds the total's rails to the sum.
    pub(super) fn poll(&mut self, out: &mut Readings, sum: &mut PowerSum, health: &Health) {
        let access = self.power.access(out.at);
        report_suspension(&mut self.power, health, &self.identity);
        if access == Access::Suspended {
            out.suspended = true;
            let rails = self.rails.iter().filter(|rail| rail.in_total);
            rails.for_each(|_| sum.add(None, None));
            return;
        }
        let fresh = access == Access::Read;
        for rail in &mut self.rails {
            let watts = rail.poll(out, fresh);
            if rail.in_total {
                sum.add(watts, rail.counts.then_some(rail.joules));
            }
        }
        for thermometer in &mut self.thermometers {
            thermometer.poll(out, fresh);
        }
    }
}

/// Reports whether the chip is suspended, if that changed.
pub(super) fn report_suspension(power: &mut RuntimePower, health: &Health, identity: &Identity) {
    let what = || format!("{} is suspended: it is not read", identity.id());
    power.announce(health, &identity.dir, what, "hwmon.wake_suspended");
}
