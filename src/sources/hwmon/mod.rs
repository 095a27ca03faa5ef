//! Monitoring chips with a kernel driver: `<sysfs>/class/hwmon/hwmon*`
//! (Linux, Documentation/hwmon/sysfs-interface.rst): volts, amperes, watts, joules and degrees.
//!
//! * **A chip** is named by what it calls itself and the device it sits on (`ina226-1-0040`, `amdgpu-0000:03:00.0`),
//!   never by its number, which changes from boot to boot. Chips of the same name are told apart as `…-2`, `…-3` in
//!   the order of their devices' paths; while the exporter runs, a chip that comes back gets its name back.
//! * **A rail** is `chip:label`, or `chip:channel` (`power1`, `in1`) where the driver has no label; which values
//!   belong to one rail is told in `layout`. Its power is `powerN_input`, else `powerN_average`, else voltage times
//!   current. Where the chip counts energy itself, that is taken, and without a power the mean power comes from it.
//! * **Thermal zones and power supplies** appear in this class once more; their own meters read them. So does a chip
//!   that a more specific meter claims: a Jetson's INA3221.
//! * **The board's total** is the sum of the rails that `hwmon.power_total` lists, if it lists any: absent while one
//!   of them is. Otherwise the power of the only rail of the only chip that is made to measure a supply (INA2xx,
//!   LTC29xx, ADM12xx, a power supply with PMBus, …: the list is in `total`). Otherwise that of the only rail labelled
//!   as the board's input (`VDD_IN`, `VIN`, `total`, …). Otherwise it is not known, and absent.

mod chip;
mod input;
mod layout;
mod settings;
mod total;

use std::path::PathBuf;
use std::sync::Arc;

use chip::{identify, look, Chip, Identity, RailSource};
use settings::Settings;
use total::{by_rule, Candidate};

use super::sysfs::{entries, unique};
use super::{Board, Context, Error, Health, Meter, Pace, Source};
use crate::config::{Config, SectionSpec};
use crate::metrics::{common, Readings, SeriesId};

/// The meter.
pub(super) const METER: Meter = Meter {
    name: "hwmon",
    summary: "monitoring chips with a kernel driver: volts, amperes, watts, degrees",
    device_types: &[],
    pace: Pace::Interval,
    section: SectionSpec::of::<Settings>(),
    switch: |config| config.meter::<Settings>().enabled,
    devices: None,
    probe,
    claims: None,
    open,
};

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
    found.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(found)
}

fn none_in(board: &Board) -> Error {
    let class = class(board);
    Error::new(format!(
        "{} has no chip that measures voltage, current, power or temperature",
        class.display()
    ))
}

fn probe(board: &Board, _: &Config) -> Result<String, Error> {
    let health = board.health();
    let mut found = find(&health, board)?;
    found.retain(|identity| look(&health, identity).is_some());
    if found.is_empty() {
        return Err(none_in(board));
    }
    let ids: Vec<_> = found.iter().map(Identity::id).collect();
    Ok(format!("chips: {}", ids.join(", ")))
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let mut source = Hwmon {
        context: context.clone(),
        settings: context.config.meter(),
        chips: Vec::new(),
        idle: Vec::new(),
        names: Vec::new(),
        in_total: 0,
        total: None,
    };
    source.update(find(&context.health, &context.board)?);
    if source.chips.is_empty() {
        return Err(none_in(&context.board));
    }
    source.warn_of_strangers();
    Ok(Box::new(source))
}

struct Hwmon {
    context: Context,
    settings: Settings,
    chips: Vec<Chip>,
    /// Chips that measure nothing that we know.
    idle: Vec<Identity>,
    /// The places where chips were seen, and the names they had.
    names: Vec<(PathBuf, String)>,
    /// How many rails make the total.
    in_total: usize,
    /// There from when a total is known.
    total: Option<SeriesId>,
}

impl Hwmon {
    fn asked_for(&self) -> &[String] {
        &self.settings.power_total
    }

    fn rails(&self) -> impl Iterator<Item = &RailSource> {
        self.chips.iter().flat_map(|chip| &chip.rails)
    }

    fn warn_of_strangers(&self) {
        for rail in self.asked_for() {
            if !self.rails().any(|r| r.has_power() && r.label == *rail) {
                let rails = self.rails().filter(|r| r.has_power());
                let labels: Vec<_> = rails.map(|r| r.label.as_str()).collect();
                log::warn!(
                    "hwmon: power_total names {rail:?}, which is not there (there are: {})",
                    labels.join(", ")
                );
            }
        }
    }

    /// Leaves the chips that are still there as they are.
    fn update(&mut self, found: Vec<Identity>) {
        self.chips.retain(|chip| found.contains(&chip.identity));
        self.idle.retain(|idle| found.contains(idle));
        for identity in found {
            let is_known = self.chips.iter().any(|c| c.identity == identity);
            if is_known || self.idle.contains(&identity) {
                continue;
            }
            let id = self.name(&identity);
            match Chip::open(&self.context, identity.clone(), id) {
                Some(chip) => self.chips.push(chip),
                None => self.idle.push(identity),
            }
        }
        self.choose_total();
    }

    /// The name the chip had before, or a new one.
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
        let asked_for = &self.settings.power_total;
        let mut candidates = Vec::new();
        for chip in &self.chips {
            for rail in chip.rails.iter().filter(|rail| rail.has_power()) {
                candidates.push(Candidate {
                    model: &chip.identity.model,
                    rail: &rail.name,
                });
            }
        }
        let by_rule = by_rule(&candidates);
        self.in_total = match (asked_for.len(), by_rule) {
            (0, by_rule) => usize::from(by_rule.is_some()),
            (n, _) => n,
        };
        let rails = self.chips.iter_mut().flat_map(|chip| &mut chip.rails);
        let measured = rails.filter(|rail| rail.has_power());
        for (place, rail) in measured.enumerate() {
            rail.in_total = if asked_for.is_empty() {
                by_rule == Some(place)
            } else {
                asked_for.contains(&rail.label)
            };
        }
        if self.in_total > 0 {
            self.total = Some(self.context.group.series(&common::power_total(), &[]));
        }
    }
}

impl Source for Hwmon {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let mut sum = (0.0, 0);
        for chip in &mut self.chips {
            chip.poll(out, &mut sum);
        }
        if let (Some(total), (watts, n)) = (self.total, sum) {
            if n > 0 && n == self.in_total {
                out.set(total, watts);
            }
        }
        Ok(())
    }

    fn rescan(&mut self) {
        self.chips.iter_mut().for_each(Chip::look_whether_enabled);
        match find(&self.context.health, &self.context.board) {
            Ok(found) => self.update(found),
            Err(error) => log::debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests;
