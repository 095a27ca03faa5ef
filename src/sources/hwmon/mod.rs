//! Monitoring chips with a kernel driver: `<sysfs>/class/hwmon/hwmon*`
//! (Linux, Documentation/hwmon/sysfs-interface.rst): volts, amperes, watts, joules and degrees.
//!
//! * **A chip** is named by its model and its device (`ina226-1-0040`, `amdgpu-0000:03:00.0`),
//!   never by its number, which changes from boot to boot. Chips of the same name get the suffixes `-2`, `-3`, … in
//!   the order of their devices' paths. While the exporter runs, a chip that returns gets its former name.
//! * **A rail** is `chip:label`, or `chip:channel` (`power1`, `in1`) where the driver has no label; ACPI's power meters are
//!   labelled by `powerN_oem_info` where they have that (the rails of NVIDIA's Grace). Module `layout`
//!   says which values belong to one rail. Its power is `powerN_input`, else `powerN_average`, else voltage times
//!   current. If the chip counts energy, that is used, and without a power the mean power is derived from it.
//! * **Thermal zones and power supplies** appear in this class, too; their own meters read them. So it is with a chip
//!   that a more specific meter claims, such as a Jetson's INA3221.
//! * **A suspended device** (runtime power management: a laptop's GPU) is not read, since that would resume it. A
//!   device that may suspend is read seldom enough to suspend; see `runtime_power`. A chip that is suspended when it is found
//!   is opened when it is resumed. `hwmon.wake_suspended` has suspended devices read all the same.
//! * **The board's total** is the sum of the rails that `hwmon.power_total` lists, if it lists any: absent while one
//!   of them is. Otherwise the ACPI power meter's. Otherwise the sum of what the power supplies with PMBus take in.
//!   Otherwise the power of the only rail of the only chip that is made to measure a supply (INA2xx, LTC29xx, ADM12xx,
//!   …: the lists are in `total`). Otherwise that of the only rail labelled as the board's input (`VDD_IN`, `VIN`,
//!   `total`, …). Otherwise it is not known, and absent.

mod chip;
mod input;
mod layout;
mod total;

use std::path::PathBuf;
use std::sync::Arc;

use chip::{identify, read_inputs, report_suspension, Chip, Identity, RailSource};
use total::{choose_rails, Candidate};

use serde::Serialize;

use super::runtime_power::RuntimePower;
use super::sysfs::{entries, unique};
use super::{Board, Context, Error, Health, Meter, Pace, Source};
use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, Switch};
use crate::metrics::{Grade, PowerSum, RailTotal, Readings};
use crate::sys::sort::sort_by;

/// The meter.
pub(super) const METER: Meter = Meter {
    pace: Pace::Interval,
    ..Meter::of::<Settings>(
        "hwmon",
        "monitoring chips with a kernel driver: volts, amperes, watts, degrees",
        |config| config.meter::<Settings>().enabled,
        probe,
        open,
    )
};

/// `hwmon:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Settings {
    /// Whether the source runs.
    pub enabled: Switch,
    /// The rails whose sum is the board's total; empty leaves it to the documented rule.
    pub power_total: Vec<String>,
    /// True reads chips even where that resumes a suspended device.
    pub wake_suspended: bool,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "hwmon";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        section.set("power_total", values::rails, &mut settings.power_total)?;
        let wake_suspended = &mut settings.wake_suspended;
        section.set("wake_suspended", values::flag, wake_suspended)?;
        Ok(settings)
    }
}

fn class(board: &Board) -> PathBuf {
    board.roots.sysfs.join("class/hwmon")
}

/// The board's chips, in the order of their devices' paths.
fn find(health: &Arc<Health>, board: &Board) -> Result<Vec<Identity>, Error> {
    let class = class(board);
    let mut found: Vec<_> = entries(health, &class)?
        .iter()
        .filter_map(|name| identify(health, &class.join(name)))
        .filter(|identity| !identity.is_one_of(&board.claims.devices))
        .collect();
    // Virtual chips of the same name stay in the order of their numbers.
    sort_by(&mut found, |a, b| a.device.cmp(&b.device));
    Ok(found)
}

fn no_chip_error(board: &Board) -> Error {
    let class = class(board);
    Error::new(format!(
        "{} has no chip that measures voltage, current, power or temperature",
        class.display()
    ))
}

fn probe(board: &Board, _: &Config) -> Result<String, Error> {
    let health = board.health();
    let mut found = find(&health, board)?;
    found.retain(|identity| read_inputs(&health, identity).is_some());
    if found.is_empty() {
        return Err(no_chip_error(board));
    }
    let ids: Vec<_> = found.iter().map(Identity::id).collect();
    Ok(format!("chips: {}", ids.join(", ")))
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let settings: Settings = context.config.meter();
    let mut source = Hwmon {
        context: context.clone(),
        wake_suspended: settings.wake_suspended,
        chips: Vec::new(),
        unsupported: Vec::new(),
        suspended: Vec::new(),
        names: Vec::new(),
        total: RailTotal::new(settings.power_total),
    };
    source.update(find(&context.health, &context.board)?);
    if source.chips.is_empty() && source.suspended.is_empty() {
        return Err(no_chip_error(&context.board));
    }
    source.warn_of_unknown_names();
    Ok(Box::new(source))
}

struct Hwmon {
    context: Context,
    wake_suspended: bool,
    chips: Vec<Chip>,
    /// Chips without a supported value.
    unsupported: Vec<Identity>,
    /// Chips that have been suspended since they were found.
    suspended: Vec<(Identity, RuntimePower)>,
    /// Where chips were seen, and their names.
    names: Vec<(PathBuf, String)>,
    /// Without rails in the configuration, the total is claimed with its first value, so that hwmon does not keep another
    /// source from it if it never has one.
    total: RailTotal,
}

impl Hwmon {
    fn rails(&self) -> impl Iterator<Item = &RailSource> {
        self.chips.iter().flat_map(|chip| &chip.rails)
    }

    fn warn_of_unknown_names(&self) {
        // The rails of suspended chips are not known yet.
        if self.suspended.is_empty() {
            let rails = self.rails().filter(|rail| rail.has_power());
            let labels: Vec<_> = rails.map(|rail| rail.label.as_str()).collect();
            self.total.warn_of_unknown_names(METER.name, &labels);
        }
    }

    /// Adds new chips and removes those that are gone; the others keep their state.
    fn update(&mut self, found: Vec<Identity>) {
        self.chips.retain(|chip| found.contains(&chip.identity));
        self.unsupported.retain(|known| found.contains(known));
        self.suspended
            .retain(|(identity, _)| found.contains(identity));
        for identity in found {
            let is_known = self.chips.iter().any(|c| c.identity == identity);
            let is_suspended = self.suspended.iter().any(|(known, _)| *known == identity);
            if is_known || is_suspended || self.unsupported.contains(&identity) {
                continue;
            }
            let mut power = match &identity.device {
                Some(device) if !self.wake_suspended => {
                    RuntimePower::of(&self.context.health, device)
                }
                _ => RuntimePower::default(),
            };
            match power.is_suspended() {
                true => self.suspended.push((identity, power)),
                false => self.open(identity, power),
            }
        }
        self.choose_total();
    }

    fn open(&mut self, identity: Identity, power: RuntimePower) {
        let id = self.name(&identity);
        match Chip::open(&self.context, identity.clone(), id, power) {
            Some(chip) => self.chips.push(chip),
            None => self.unsupported.push(identity),
        }
    }

    /// Opens the chips that have been resumed. True if suspended chips remain.
    fn open_resumed(&mut self) -> bool {
        if self.suspended.is_empty() {
            return false;
        }
        for (identity, mut power) in std::mem::take(&mut self.suspended) {
            let is_suspended = power.is_suspended();
            report_suspension(&mut power, &self.context.health, &identity);
            match is_suspended {
                true => self.suspended.push((identity, power)),
                false => self.open(identity, power),
            }
        }
        self.choose_total();
        !self.suspended.is_empty()
    }

    /// The chip's former name, or a new one.
    fn name(&mut self, identity: &Identity) -> String {
        let id = identity.id();
        let taken = |name: &str| self.chips.iter().any(|chip| chip.id == name);
        let is_own = |name: &str| name.strip_prefix(id.as_str()).is_some() && !taken(name);
        let place = identity.place();
        let before = self
            .names
            .iter()
            .find(|(p, name)| p == place && is_own(name));
        if let Some((_, name)) = before {
            return name.clone();
        }
        let name = unique(&id, taken);
        self.names.retain(|(p, _)| p != place);
        self.names.push((place.to_path_buf(), name.clone()));
        name
    }

    fn choose_total(&mut self) {
        let mut candidates = Vec::new();
        for (number, chip) in self.chips.iter().enumerate() {
            for rail in chip.rails.iter().filter(|rail| rail.has_power()) {
                candidates.push(Candidate {
                    chip: number,
                    model: &chip.identity.model,
                    rail: &rail.name,
                });
            }
        }
        let chosen = choose_rails(&candidates);
        let rails = self.chips.iter_mut().flat_map(|chip| &mut chip.rails);
        let measured = rails.filter(|rail| rail.has_power());
        for (place, rail) in measured.enumerate() {
            rail.in_total = self.total.includes(&rail.label, chosen.contains(&place));
        }
        // A total of chosen rails is claimed with its first value.
        let grade = self.total.grade().filter(|_| !chosen.is_empty());
        self.total.claim(&self.context.group, grade);
    }
}

impl Source for Hwmon {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        out.suspended = self.open_resumed();
        let mut sum = PowerSum::default();
        for chip in &mut self.chips {
            chip.poll(out, &mut sum, &self.context.health);
        }
        if sum.watts().is_some() {
            self.total.claim(&self.context.group, Some(Grade::Input));
        }
        self.total.publish(out, &sum);
        Ok(())
    }

    fn rescan(&mut self) {
        self.chips.iter_mut().for_each(Chip::refresh_enabled);
        match find(&self.context.health, &self.context.board) {
            Ok(found) => self.update(found),
            Err(error) => log::debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests;
