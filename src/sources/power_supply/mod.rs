//! Batteries, chargers and PMICs: `<sysfs>/class/power_supply/*` (Linux, Documentation/ABI/testing/sysfs-class-power),
//! in µV, µA, µW and tenths of a degree Celsius. A rail is a supply, under its own name.
//!
//! * **Power** is `power_now`, and voltage times current where there is none, or where it is 0 beside a current. A battery's
//!   power is the magnitude: whether a negative current charges or discharges it differs from driver to driver, so that the
//!   power's sign means nothing. Current is exported with the driver's sign. A supply that is offline, or a battery that is
//!   not present, has no power.
//! * **A battery's state** is its level, energy or charge (now, when full, when new), and charge cycles; see `battery`.
//! * **`scope` Device** supplies are not the board's (the battery of a mouse), and are skipped.
//! * **Type-C ports** (`tcpm-source-psy-…`, `ucsi-source-psy-…`) report the contract with the charger, not a measurement
//!   (Linux, drivers/usb/typec/{tcpm/tcpm,ucsi/psy}.c): only their online state is read.
//! * **The board's total** is the sum of the supplies that `power_supply.power_total` lists, if it lists any. Otherwise it is
//!   the sum of the online mains, USB and wireless supplies that measure power. With no supply online, it is the sum of the
//!   batteries that are discharging. Otherwise it is absent, since the power of a supply without a meter is unknown. It is
//!   absent, too, if one of the summands cannot be read. A board of which only the batteries measure leaves the total to a
//!   source that knows it on mains as well, such as RAPL.

mod battery;
mod supply;

use std::path::PathBuf;
use std::sync::Arc;

use supply::{describe, Description, Role, Supply};

use serde::Serialize;

use super::sysfs::entries;
use super::{Board, Context, Error, Health, Meter, Source};
use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, Switch};
use crate::metrics::{Grade, PowerSum, RailTotal, Readings};

/// The meter.
pub(super) const METER: Meter = Meter::of::<Settings>(
    "power_supply",
    "batteries, chargers and PMICs, by the kernel's power_supply class",
    |config| config.meter::<Settings>().enabled,
    probe,
    open,
);

/// `power_supply:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Settings {
    /// Whether the source runs.
    pub enabled: Switch,
    /// The rails whose sum is the board's total; empty leaves it to the documented rule.
    pub power_total: Vec<String>,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "power_supply";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        section.set("power_total", values::rails, &mut settings.power_total)?;
        Ok(settings)
    }
}

fn class(board: &Board) -> PathBuf {
    board.roots.sysfs.join("class/power_supply")
}

/// The board's supplies; an error if there are none.
fn find(health: &Arc<Health>, board: &Board) -> Result<Vec<Description>, Error> {
    let class = class(board);
    let found: Vec<_> = entries(health, &class)?
        .iter()
        .filter_map(|name| describe(health, &class, name))
        .collect();
    if found.is_empty() {
        let what = format!("{} has no supply of the board's", class.display());
        return Err(Error::new(what));
    }
    Ok(found)
}

fn probe(board: &Board, _: &Config) -> Result<String, Error> {
    let found = find(&board.health(), board)?;
    let names: Vec<_> = found.iter().map(Description::to_string).collect();
    Ok(format!("supplies: {}", names.join(", ")))
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let settings: Settings = context.config.meter();
    let mut source = PowerSupply {
        context: context.clone(),
        supplies: Vec::new(),
        total: RailTotal::new(settings.power_total),
    };
    source.update(find(&context.health, &context.board)?);
    let names: Vec<_> = source.supplies.iter().map(Supply::name).collect();
    source.total.warn_of_unknown_names(METER.name, &names);
    Ok(Box::new(source))
}

struct PowerSupply {
    context: Context,
    supplies: Vec<Supply>,
    total: RailTotal,
}

impl PowerSupply {
    /// Adds new supplies and removes those that are gone; the others keep their state.
    fn update(&mut self, found: Vec<Description>) {
        self.supplies.retain(|s| found.contains(&s.description));
        for description in found {
            if !self.supplies.iter().any(|s| s.description == description) {
                let supply = Supply::new(description, &self.context, &self.total);
                self.supplies.push(supply);
            }
        }
        let measures = |s: &Supply| s.measures() && s.description.role != Role::Other;
        let comes_in = |s: &Supply| s.measures() && s.description.role == Role::Source;
        let grade = match &self.supplies {
            supplies if supplies.iter().any(comes_in) => Some(Grade::Input),
            // On mains the power of such a board is unknown: its batteries' power is the board's only while they discharge.
            supplies if supplies.iter().any(measures) => Some(Grade::Other),
            _ => None,
        };
        self.total.claim(&self.context.group, grade);
    }

    /// The power of the supplies that make the total.
    fn sum(&mut self) -> PowerSum {
        let is_online = |s: &Supply| s.description.role == Role::Source && s.online != Some(false);
        if self.total.is_named() {
            let named = self.supplies.iter().filter(|s| s.is_named);
            named.map(|s| s.watts).collect()
        } else if self.supplies.iter().any(is_online) {
            let online = self.supplies.iter().filter(|s| is_online(s));
            let measured = online.filter(|s| s.measures());
            measured.map(|s| s.watts).collect()
        } else {
            let batteries = self.supplies.iter_mut();
            let batteries = batteries.filter(|s| s.description.role == Role::Storage);
            batteries
                .filter_map(|s| s.is_discharging().then_some(s.watts))
                .collect()
        }
    }
}

impl Source for PowerSupply {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        for supply in &mut self.supplies {
            supply.poll(out);
        }
        let sum = self.sum();
        self.total.publish(out, &sum);
        Ok(())
    }

    fn rescan(&mut self) {
        match find(&self.context.health, &self.context.board) {
            Ok(found) => self.update(found),
            Err(error) => log::debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests;
