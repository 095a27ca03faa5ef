//! One supply: its description and its values.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::battery::{self, Battery};
use crate::metrics::plausible::{
    AMPERES_OF_BATTERY, VOLTS_OF_BATTERY, WATTS_OF_BATTERY, WATTS_OF_SUPPLY,
};
use crate::metrics::{common, Desc, Rail, RailTotal, Readings, SeriesId};
use crate::sources::sysfs::{files_of, read_name, Gauge};
use crate::sources::{Attribute, Context, Health};

/// The attributes that are read. Of alternatives, the preferred one comes first.
const ATTRIBUTES: &[&str] = &[
    "power_now",
    "voltage_now",
    "current_now",
    "current_avg",
    "online",
    "present",
    "status",
    "temp",
];
/// Prefixes of ports whose voltage and current are a contract, not a measurement.
const CONTRACT_PORTS: &[&str] = &["tcpm-source-psy-", "ucsi-source-psy-"];

/// The role of a supply on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Power comes in through it.
    Source,
    /// It stores energy.
    Storage,
    /// Unknown.
    Other,
}

/// The role of a `type`. Kernels before 4.18 have one for each kind of USB charger (`USB_DCP`, `BrickID`).
fn role(kind: &str) -> Role {
    match kind {
        "Mains" | "Wireless" | "BrickID" => Role::Source,
        "Battery" | "UPS" => Role::Storage,
        usb if usb.starts_with("USB") => Role::Source,
        _ => Role::Other,
    }
}

/// The properties of a supply that are read once. A supply is reopened if they change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Description {
    dir: PathBuf,
    name: String,
    kind: String,
    pub(super) role: Role,
    attributes: Vec<&'static str>,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

/// Describes a supply without reading its values. `None` if it is not the board's, or is gone.
pub(super) fn describe(health: &Arc<Health>, class: &Path, name: &str) -> Option<Description> {
    let dir = class.join(name);
    let files = files_of(health, &dir, |_| true).ok()?;
    let has = |file: &str| files.iter().any(|f| f == file);
    if has("scope") && read_name(health, &dir.join("scope")).as_deref() == Some("Device") {
        return None;
    }
    let kind = read_name(health, &dir.join("type")).unwrap_or_else(|| "Unknown".to_string());
    let contract = CONTRACT_PORTS.iter().any(|prefix| name.starts_with(prefix));
    let mut attributes: Vec<_> = ATTRIBUTES
        .iter()
        .copied()
        .chain(battery::attributes())
        .collect();
    attributes.retain(|a| has(a) && (!contract || *a == "online"));
    Some(Description {
        role: role(&kind),
        kind,
        name: name.to_string(),
        attributes,
        dir,
    })
}

/// An open supply.
pub(super) struct Supply {
    pub(super) description: Description,
    /// Whether the configuration names it as part of the total.
    pub(super) is_named: bool,
    /// Whether it was online at the last poll; `None` if unknown. A supply without the attribute is always online.
    pub(super) online: Option<bool>,
    /// Its power at the last poll, in watts.
    pub(super) watts: Option<f64>,
    is_online: Option<(Attribute, SeriesId)>,
    is_present: Option<Attribute>,
    voltage: Option<Gauge>,
    current: Option<Gauge>,
    power: Option<Attribute>,
    temperature: Option<Gauge>,
    status: Option<Attribute>,
    battery: Battery,
    rail: Option<Rail>,
}

impl Supply {
    pub(super) fn new(description: Description, context: &Context, total: &RailTotal) -> Supply {
        let Context { group, health, .. } = context;
        let name = description.name.as_str();
        let attribute = |name: &str| {
            let there = description.attributes.contains(&name);
            there.then(|| Attribute::new(health, description.dir.join(name)))
        };
        // Batteries and USB chargers have narrower limits than mains supplies and UPSs.
        let is_low = matches!(description.kind.as_str(), "Battery" | "Wireless")
            || description.kind.starts_with("USB");
        let of_rail = |desc: Desc, low| {
            let desc = if is_low { desc.within(low) } else { desc };
            common::rail_series(group, &desc, name)
        };
        let volts = || of_rail(common::voltage_volts(), &VOLTS_OF_BATTERY);
        let amperes = || of_rail(common::current_amperes(), &AMPERES_OF_BATTERY);
        let voltage = attribute("voltage_now").map(|a| Gauge::new(a, volts(), 1e6));
        let current = attribute("current_now").or_else(|| attribute("current_avg"));
        let current = current.map(|a| Gauge::new(a, amperes(), 1e6));
        let power = attribute("power_now");
        let measures = power.is_some() || voltage.is_some() && current.is_some();
        let celsius = || common::sensor_series(group, &common::temperature_celsius(), name);
        let online = || {
            let help = "Whether power can come in through the supply: 1 or 0.";
            common::rail_series(group, &Desc::gauge("power_supply_online", help), name)
        };
        Supply {
            is_named: total.includes(name, false),
            online: None,
            watts: None,
            is_online: attribute("online").map(|a| (a, online())),
            is_present: attribute("present"),
            temperature: attribute("temp").map(|a| Gauge::new(a, celsius(), 10.0)),
            status: attribute("status"),
            battery: Battery::new(group, name, attribute),
            rail: measures.then(|| match is_low {
                true => Rail::within(group, name, &WATTS_OF_BATTERY),
                false => Rail::new(group, name),
            }),
            voltage,
            current,
            power,
            description,
        }
    }

    /// The name of the supply and of its rail.
    pub(super) fn name(&self) -> &str {
        &self.description.name
    }

    /// Whether it measures power.
    pub(super) fn measures(&self) -> bool {
        self.rail.is_some()
    }

    /// Reads and publishes its values.
    pub(super) fn poll(&mut self, out: &mut Readings) {
        self.watts = None;
        self.online = match &mut self.is_online {
            None => Some(true),
            // 2 is online with a voltage that can be chosen (sysfs-class-power, `online`).
            Some((attribute, series)) => attribute.read().map(|value| {
                out.set(*series, if value == 0 { 0.0 } else { 1.0 });
                value != 0
            }),
        };
        let is_present = self.is_present.as_mut().and_then(Attribute::read);
        if is_present == Some(0) {
            return;
        }
        let microvolts = self.voltage.as_mut().and_then(|g| g.poll(out));
        let microamperes = self.current.as_mut().and_then(|g| g.poll(out));
        if let Some(temperature) = &mut self.temperature {
            temperature.poll(out);
        }
        self.battery.poll(out);
        if self.online == Some(false) {
            return;
        }
        let Some(rail) = &mut self.rail else { return };
        let power = self.power.as_mut().and_then(Attribute::read);
        let product = || Some(microvolts? * microamperes? / 1e12);
        let watts = match power {
            // Some drivers have a power that is always 0, but measure voltage and current (ClockworkPi's for the AXP221). If the
            // power really is 0, so is the current.
            Some(0) => product().or(Some(0.0)),
            Some(microwatts) => Some(microwatts as f64 / 1e6),
            None => product(),
        };
        let watts = match self.description.role {
            // A value that is implausible with its sign (-1 for "unknown") stays implausible without it.
            Role::Storage if watts.is_some_and(|w| WATTS_OF_SUPPLY.contains(w)) => {
                watts.map(f64::abs)
            }
            _ => watts,
        };
        self.watts = watts.and_then(|watts| rail.set_watts(out, watts));
    }

    /// Whether the battery reports that it is discharging.
    pub(super) fn is_discharging(&mut self) -> bool {
        let status = self.status.as_mut();
        status
            .and_then(|a| a.read_as("a battery's status", is_discharging))
            .unwrap_or(false)
    }
}

/// Parses `status`: one of Unknown, Charging, Discharging, Not charging, Full.
fn is_discharging(text: &[u8]) -> Option<bool> {
    match text.trim_ascii() {
        b"Discharging" => Some(true),
        b"Unknown" | b"Charging" | b"Not charging" | b"Full" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_all_kernels_have_roles() {
        for kind in ["Mains", "USB", "Wireless", "USB_DCP", "USB_PD", "BrickID"] {
            assert_eq!(role(kind), Role::Source, "{kind}");
        }
        assert_eq!(role("Battery"), Role::Storage);
        assert_eq!(role("UPS"), Role::Storage);
        assert_eq!(role("Unknown"), Role::Other);
        assert_eq!(role(""), Role::Other);
    }

    #[test]
    fn only_discharging_counts_as_discharging() {
        assert_eq!(is_discharging(b"Discharging\n"), Some(true));
        assert_eq!(is_discharging(b"Not charging\n"), Some(false));
        assert_eq!(is_discharging(b"Full"), Some(false));
        assert_eq!(is_discharging(b""), None);
        assert_eq!(is_discharging(b"\xff\x00"), None);
    }
}
