//! The settings of `ina260:`, which form a list of chips.

use serde::{Serialize, Serializer};

use super::registers::{AVERAGINGS, CONVERSION_MICROSECONDS};
use crate::config::diagnose::{nearest, quoted};
use crate::config::section::{Problem, Section};
use crate::config::tree::Node;
use crate::config::values::{self, list, refuse, text, Outcome, Refusal, MAX_ITEMS};
use crate::config::{MeterSettings, Switch};
use crate::sources::i2c::settings::{self, address, bus, one_of, or_auto, show_auto};

/// `ina260:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Whether the source runs; `Auto`: if there are chips.
    pub enabled: Switch,
    /// The chips of `i2c_bus` and `i2c_address`, then those of `chips`; each with a different address and name.
    pub chips: Vec<Ina260Chip>,
    /// The chips whose sum is the board's total; empty leaves it to the documented rule.
    pub power_total: Vec<String>,
}

/// One chip of `ina260:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ina260Chip {
    /// The name of its rail; `None`: derived from its address.
    pub name: Option<String>,
    /// N of `/dev/i2c-N`.
    #[serde(rename = "i2c_bus")]
    pub bus: u32,
    /// 7-bit I2C address, 0x40 to 0x4f (INA260 data sheet SBOS656, table 2: A0 and A1 choose one of 16).
    #[serde(rename = "i2c_address")]
    pub address: u8,
    /// Number of averaged conversions; `None`: as many as fit into the interval.
    #[serde(serialize_with = "show_auto")]
    pub averaging: Option<u16>,
    /// Conversion time of the voltage, in microseconds.
    pub voltage_conversion_us: u16,
    /// Conversion time of the current, in microseconds.
    pub current_conversion_us: u16,
    /// Converts only when triggered, at each poll.
    #[serde(rename = "mode", serialize_with = "mode")]
    pub triggered: bool,
}

impl Default for Ina260Chip {
    fn default() -> Self {
        Self {
            name: None,
            bus: 1,
            address: 0x40,
            averaging: None,
            voltage_conversion_us: 1100,
            current_conversion_us: 1100,
            triggered: false,
        }
    }
}

impl Ina260Chip {
    /// The name of its rail: its own, or such as `ina260-1-0040`.
    pub fn rail(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("ina260-{}-{:04x}", self.bus, self.address),
        }
    }
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "ina260";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let Settings {
            mut enabled,
            mut chips,
            mut power_total,
        } = Settings::default();
        let mut common = SharedSettings::default();
        section.set("enabled", values::switch, &mut enabled)?;
        section.set("i2c_bus", buses, &mut common.buses)?;
        section.set("i2c_address", addresses, &mut common.addresses)?;
        let chip = &mut common.chip;
        section.set("averaging", averaging, &mut chip.averaging)?;
        let us = &mut chip.voltage_conversion_us;
        section.set("voltage_conversion_us", conversion, us)?;
        let us = &mut chip.current_conversion_us;
        section.set("current_conversion_us", conversion, us)?;
        section.set("mode", triggered, &mut chip.triggered)?;
        chips.extend(common.chips());
        let more = |node: &Node| self::chips(node, &common);
        section.set("chips", more, &mut chips)?;
        let there: Vec<_> = chips.iter().map(Ina260Chip::rail).collect();
        let rails = |node: &Node| settings::power_total(node, &there);
        section.set("power_total", rails, &mut power_total)?;
        Ok(Settings {
            enabled,
            chips,
            power_total,
        })
    }
}

fn mode<S: Serializer>(triggered: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match triggered {
        true => "triggered",
        false => "continuous",
    })
}

/// The settings shared by all chips.
#[derive(Debug, Clone)]
struct SharedSettings {
    buses: Vec<u32>,
    addresses: Vec<u8>,
    chip: Ina260Chip,
}

impl Default for SharedSettings {
    fn default() -> Self {
        let chip = Ina260Chip::default();
        Self {
            buses: vec![chip.bus],
            addresses: Vec::new(),
            chip,
        }
    }
}

impl SharedSettings {
    /// The chips at each address of each bus.
    fn chips(&self) -> Vec<Ina260Chip> {
        let places = self
            .buses
            .iter()
            .flat_map(|bus| self.addresses.iter().map(move |address| (*bus, *address)));
        places
            .map(|(bus, address)| Ina260Chip {
                bus,
                address,
                ..self.chip.clone()
            })
            .collect()
    }
}

/// One value or a list of them without repetition.
fn one_or_more<T: Copy + PartialEq>(
    node: &Node,
    kind: impl Fn(&Node) -> Outcome<T>,
    show: impl Fn(T) -> String,
) -> Outcome<Vec<T>> {
    let values = match node {
        Node::List(_) => list(node, "", MAX_ITEMS, kind)?,
        _ => vec![kind(node)?],
    };
    for (i, value) in values.iter().enumerate() {
        if values.iter().take(i).any(|earlier| earlier == value) {
            let message = format!("is {} a second time: remove one of the two", show(*value));
            return Err(Refusal::new(message).at(i));
        }
    }
    Ok(values)
}

/// One bus, or a list.
fn buses(node: &Node) -> Outcome<Vec<u32>> {
    one_or_more(node, bus, |bus| bus.to_string())
}

/// One address, or a list.
fn addresses(node: &Node) -> Outcome<Vec<u8>> {
    one_or_more(node, address, |address| format!("{address:#04x}"))
}

/// `auto`, or the number of averaged conversions.
fn averaging(node: &Node) -> Outcome<Option<u16>> {
    or_auto(node, &AVERAGINGS)
}

/// A conversion time, in microseconds.
fn conversion(node: &Node) -> Outcome<u16> {
    one_of(node, &CONVERSION_MICROSECONDS, "")
}

/// `continuous` or `triggered`.
fn triggered(node: &Node) -> Outcome<bool> {
    match node {
        Node::Text(text) if text.eq_ignore_ascii_case("continuous") => Ok(false),
        Node::Text(text) if text.eq_ignore_ascii_case("triggered") => Ok(true),
        _ => refuse(node, "continuous or triggered"),
    }
}

/// The chips of `i2c_address`, and those of the list.
fn chips(node: &Node, common: &SharedSettings) -> Outcome<Vec<Ina260Chip>> {
    let wanted = "a list of chips, `- i2c_address: 0x40`, one below the other";
    let mut all = common.chips();
    for (i, chip) in list(node, wanted, MAX_ITEMS, |item| chip(item, common))?
        .into_iter()
        .enumerate()
    {
        let place = |chip: &Ina260Chip| (chip.bus, chip.address);
        let message = if all.iter().any(|other| place(other) == place(&chip)) {
            let Ina260Chip { bus, address, .. } = chip;
            format!(
                "is at {address:#04x} of bus {bus}, where another one is: remove one of the two"
            )
        } else if all.iter().any(|other| other.rail() == chip.rail()) {
            let name = quoted(&chip.rail());
            format!("is named {name}, as another one is: name one of the two differently")
        } else {
            all.push(chip);
            continue;
        };
        return Err(Refusal::new(message).at(i));
    }
    Ok(all)
}

fn chip(node: &Node, common: &SharedSettings) -> Outcome<Ina260Chip> {
    const KEYS: [&str; 7] = [
        "name",
        "i2c_bus",
        "i2c_address",
        "averaging",
        "voltage_conversion_us",
        "current_conversion_us",
        "mode",
    ];
    let Node::Map(entries) = node else {
        return refuse(node, "a chip's settings, `i2c_address: 0x40`");
    };
    let mut chip = common.chip.clone();
    let mut place = (None, None);
    if let [bus] = common.buses.as_slice() {
        place.0 = Some(*bus);
    }
    for (key, value) in entries {
        if let Node::Null = value {
            continue;
        }
        let outcome = match key.as_str() {
            "name" => text(value, "a name").map(|name| chip.name = Some(name.to_owned())),
            "i2c_bus" => bus(value).map(|bus| place.0 = Some(bus)),
            "i2c_address" => address(value).map(|address| place.1 = Some(address)),
            "averaging" => averaging(value).map(|averaging| chip.averaging = averaging),
            "voltage_conversion_us" => conversion(value).map(|us| chip.voltage_conversion_us = us),
            "current_conversion_us" => conversion(value).map(|us| chip.current_conversion_us = us),
            "mode" => triggered(value).map(|triggered| chip.triggered = triggered),
            _ => {
                let hint = nearest(key, KEYS).map_or_else(
                    || format!("write one of {}", KEYS.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let message = format!("has the unknown key {}: {hint}", quoted(key));
                return Err(Refusal::new(message));
            }
        };
        outcome.map_err(|refusal| refusal.at(key))?;
    }
    let refused = |message: &str| Err(Refusal::new(message.into()));
    match place {
        (Some(bus), Some(address)) => Ok(Ina260Chip {
            bus,
            address,
            ..chip
        }),
        (_, None) => refused("has no `i2c_address`: give it one"),
        (None, _) => refused("has no `i2c_bus`, and `ina260.i2c_bus` has several: give it one"),
    }
}
