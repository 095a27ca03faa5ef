//! Batteries, chargers and PMICs: `<sysfs>/class/power_supply/*` (Linux, Documentation/ABI/testing/sysfs-class-power),
//! in µV, µA, µW and tenths of a degree Celsius. A rail is a supply, under its own name.
//!
//! * **Power** is `power_now`, and voltage times current where there is none, or where it is 0 beside a current. A battery's is the magnitude: whether a
//!   negative current charges or discharges it differs from driver to driver, so the power's sign would say nothing.
//!   Current is exported as it was read. A supply that is offline, or a battery that is not present, has no power.
//! * **A battery's state** is what its driver tells of it: how full it is, energy or charge (now, when full, when new), and
//!   charge cycles; see `battery`.
//! * **`scope` Device** supplies are not the board's (the battery of a mouse), and are passed over.
//! * **Type-C ports** (`tcpm-source-psy-…`, `ucsi-source-psy-…`) report what was agreed on with the charger, not what
//!   flows (Linux, drivers/usb/typec/{tcpm/tcpm,ucsi/psy}.c): only whether they are online is taken from them.
//! * **The board's total** is what `power_supply.power_total` lists, if it lists any. Otherwise the sum of the online
//!   mains, USB and wireless supplies that measure power. With no supply online, the sum of the batteries that are
//!   discharging. Else it is absent: what a supply without a meter delivers is not known. So it is if one of the
//!   summands cannot be read. A board whose batteries alone measure leaves the total to a meter that knows it on mains
//!   too, RAPL.

mod battery;
mod settings;
mod supply;

use std::path::PathBuf;
use std::sync::Arc;

use settings::Settings;
use supply::{describe, Description, Role, Supply};

use super::sysfs::entries;
use super::{Board, Context, Error, Health, Meter, Pace, Source};
use crate::config::{Config, SectionSpec};
use crate::metrics::{Grade, Readings, Total};

/// The meter.
pub(super) const METER: Meter = Meter {
    name: "power_supply",
    summary: "batteries, chargers and PMICs, by the kernel's power_supply class",
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
    board.roots.sysfs.join("class/power_supply")
}

/// The board's supplies. An error says that there are none.
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
    let mut source = PowerSupply {
        context: context.clone(),
        settings: context.config.meter(),
        supplies: Vec::new(),
        total: None,
    };
    source.update(find(&context.health, &context.board)?);
    source.warn_of_strangers();
    Ok(Box::new(source))
}

struct PowerSupply {
    context: Context,
    settings: Settings,
    supplies: Vec<Supply>,
    /// There from when the board has a supply that measures power.
    total: Option<(Grade, Total)>,
}

impl PowerSupply {
    /// The rails that the user says make the total.
    fn asked_for(&self) -> &[String] {
        &self.settings.power_total
    }

    fn warn_of_strangers(&self) {
        for rail in self.asked_for() {
            if !self.supplies.iter().any(|s| s.name() == rail) {
                let names: Vec<_> = self.supplies.iter().map(Supply::name).collect();
                log::warn!(
                    "power_supply: power_total names {rail:?}, which is not there (there are: {})",
                    names.join(", ")
                );
            }
        }
    }

    /// Leaves the supplies that are still there as they are.
    fn update(&mut self, found: Vec<Description>) {
        self.supplies.retain(|s| found.contains(&s.description));
        for description in found {
            if !self.supplies.iter().any(|s| s.description == description) {
                let supply = Supply::new(description, &self.context, self.asked_for());
                self.supplies.push(supply);
            }
        }
        let measures = |s: &Supply| s.measures() && s.description.role != Role::Other;
        let comes_in = |s: &Supply| s.measures() && s.description.role == Role::Source;
        let grade = match self.asked_for().is_empty() {
            false => Some(Grade::Asked),
            true if self.supplies.iter().any(comes_in) => Some(Grade::Input),
            // Of the mains, such a board knows nothing: its batteries' power is its own only while they discharge.
            true if self.supplies.iter().any(measures) => Some(Grade::Other),
            true => None,
        };
        if grade != self.total.as_ref().map(|(grade, _)| *grade) {
            let group = &self.context.group;
            self.total = grade.map(|grade| (grade, Total::new(group, grade)));
        }
        if grade.is_none() {
            self.context.group.claim_board(None);
        }
    }

    fn total_watts(&mut self) -> Option<f64> {
        let asked_for = self.settings.power_total.len();
        if asked_for > 0 {
            return sum(self
                .supplies
                .iter()
                .filter(|s| s.asked_for)
                .map(|s| s.watts))
            .filter(|(_, n)| *n == asked_for)
            .map(|(watts, _)| watts);
        }
        let sources = || {
            self.supplies
                .iter()
                .filter(|s| s.description.role == Role::Source)
        };
        let (watts, n) = sum(sources()
            .filter(|s| s.measures() && s.online != Some(false))
            .map(|s| s.watts))?;
        if n > 0 {
            return Some(watts);
        }
        if sources().any(|s| s.online != Some(false)) {
            return None;
        }
        let batteries = self.supplies.iter_mut();
        let (watts, n) = sum(batteries
            .filter(|s| s.description.role == Role::Storage)
            .filter_map(|s| s.is_discharging().then_some(s.watts)))?;
        (n > 0).then_some(watts)
    }
}

/// The sum and the number of its summands; `None` if one of them is not known.
fn sum(watts: impl Iterator<Item = Option<f64>>) -> Option<(f64, usize)> {
    let mut watts = watts;
    watts.try_fold((0.0, 0), |(sum, n), watts| Some((sum + watts?, n + 1)))
}

impl Source for PowerSupply {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        for supply in &mut self.supplies {
            supply.poll(out);
        }
        let watts = self.total_watts();
        if let (Some((_, total)), Some(watts)) = (&mut self.total, watts) {
            total.watts(out, watts);
        }
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
