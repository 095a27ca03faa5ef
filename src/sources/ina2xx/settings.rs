//! The settings of `ina2xx:`, which form a list of chips.

use serde::{Serialize, Serializer};

use super::models::{KnownBoard, Model, BOARDS, MODELS};
use super::registers::ina3221::CHANNELS;
use crate::config::diagnose::quoted;
use crate::config::section::{Problem, Section};
use crate::config::tree::Node;
use crate::config::values::{self, label, real, refuse, text, whole, Outcome};
use crate::config::{MeterSettings, Switch};
use crate::sources::i2c::settings::{self, bus, one_of, or_auto, show_auto};

/// The least and the greatest shunt in ohms: from bus bars of 10 µΩ to microampere meters.
const SHUNT_OHMS: (f64, f64) = (1e-5, 1e4);
/// The greatest current in amperes that a shunt can be chosen for.
const MAX_AMPERES: f64 = 5000.0;

/// `ina2xx:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Settings {
    /// Whether the source runs; `Auto`: if there are chips.
    pub enabled: Switch,
    /// The chips, each with a different address and different names.
    pub chips: Vec<ChipSettings>,
    /// The rails whose sum is the board's total; empty leaves it to the documented rule.
    pub power_total: Vec<String>,
}

/// One chip of `ina2xx:`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChipSettings {
    /// The board that it is on, if that was named. What it gives is in the other fields.
    #[serde(serialize_with = "board_name")]
    pub board: Option<&'static KnownBoard>,
    /// What kind of chip it is.
    #[serde(serialize_with = "model_name")]
    pub model: &'static Model,
    /// N of `/dev/i2c-N`.
    pub bus: u32,
    /// 7-bit I2C address, 0x40 to 0x4f.
    pub address: u8,
    /// The name of its rail; `None`: derived from its address.
    pub name: Option<String>,
    /// The shunt; `None` of a chip with channels.
    pub shunt_ohms: Option<f64>,
    /// Whether the shunt is connected the other way around: current and power have the opposite sign.
    pub reverse: bool,
    /// The greatest current to be measured; `None`: the chip's largest range.
    pub max_amperes: Option<f64>,
    /// Number of averaged conversions; `None`: as many as fit into the interval.
    #[serde(serialize_with = "show_auto")]
    pub averaging: Option<u16>,
    /// The time of a conversion in microseconds.
    pub conversion_us: u16,
    /// The channels that are used, each once; none of a chip without channels.
    pub channels: Vec<Channel>,
}

/// One channel of a chip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Channel {
    /// Its number, from 1.
    pub channel: u8,
    /// The name of its rail; `None`: derived from the chip's address.
    pub name: Option<String>,
    /// The shunt.
    pub shunt_ohms: f64,
    /// Whether it is connected the other way around.
    pub reverse: bool,
}

fn board_name<S: Serializer>(
    board: &Option<&'static KnownBoard>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    board.map(|board| board.name).serialize(serializer)
}

fn model_name<S: Serializer>(model: &&'static Model, serializer: S) -> Result<S::Ok, S::Error> {
    model.name.serialize(serializer)
}

impl ChipSettings {
    /// The names of its rails: their own, or such as `ina219-1-0040` and `ina3221-1-0040:1`.
    pub fn rails(&self) -> Vec<String> {
        let chip = format!("{}-{}-{:04x}", self.model.name, self.bus, self.address);
        if !self.model.has_channels() {
            return vec![self.name.clone().unwrap_or(chip)];
        }
        let rail = |channel: &Channel| match &channel.name {
            Some(name) => name.clone(),
            None => format!("{chip}:{}", channel.channel),
        };
        self.channels.iter().map(rail).collect()
    }

    /// Of each of its rails, whether its current has the opposite sign.
    pub fn reversed(&self) -> Vec<bool> {
        match self.model.has_channels() {
            true => self
                .channels
                .iter()
                .map(|channel| channel.reverse)
                .collect(),
            false => vec![self.reverse],
        }
    }

    /// The place of the range of its shunt's voltage.
    pub fn range(&self) -> usize {
        let largest = self.model.millivolts.len().saturating_sub(1);
        let millivolts = self.max_amperes.zip(self.shunt_ohms);
        millivolts
            .and_then(|(amperes, ohms)| self.model.range(amperes * ohms * 1e3))
            .unwrap_or(largest)
    }
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "ina2xx";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        let mut names: Vec<String> = Vec::new();
        for chip in section.sections("chips", chip)? {
            let ChipSettings { bus, address, .. } = chip;
            let mut others = settings.chips.iter();
            if others.any(|other| (other.bus, other.address) == (bus, address)) {
                let message = format!(
                    "`ina2xx.chips` has two chips at {address:#04x} of bus {bus}: remove one of the two"
                );
                return Err(section.refuse(Some("chips"), message));
            }
            for name in chip.rails() {
                if names.contains(&name) {
                    let name = quoted(&name);
                    let message = format!(
                        "`ina2xx.chips` has two rails that are named {name}: name one of the two differently"
                    );
                    return Err(section.refuse(Some("chips"), message));
                }
                names.push(name);
            }
            settings.chips.push(chip);
        }
        let rails = |node: &Node| settings::power_total(node, &names);
        section.set("power_total", rails, &mut settings.power_total)?;
        Ok(settings)
    }
}

fn model(node: &Node) -> Outcome<&'static Model> {
    let names: Vec<_> = MODELS.iter().map(|model| model.name).collect();
    let wanted = format!("one of {}", names.join(", "));
    Model::named(text(node, &wanted)?).map_or_else(|| refuse(node, &wanted), Ok)
}

fn board(node: &Node) -> Outcome<&'static KnownBoard> {
    let names: Vec<_> = BOARDS.iter().map(|board| board.name).collect();
    let wanted = format!("one of {}", names.join(", "));
    KnownBoard::named(text(node, &wanted)?).map_or_else(|| refuse(node, &wanted), Ok)
}

fn ohms(node: &Node) -> Outcome<f64> {
    let (least, most) = SHUNT_OHMS;
    match real(node).filter(|ohms| (least..=most).contains(ohms)) {
        Some(ohms) => Ok(ohms),
        None => refuse(node, &format!("ohms from {least} to {most}, such as 0.1")),
    }
}

fn amperes(node: &Node) -> Outcome<f64> {
    match real(node).filter(|amperes| *amperes > 0.0 && *amperes <= MAX_AMPERES) {
        Some(amperes) => Ok(amperes),
        None => refuse(node, &format!("amperes, up to {MAX_AMPERES}")),
    }
}

/// A chip. Its keys depend on its model, but all are read first, so that they are known.
fn chip(item: &mut Section<'_, '_>) -> Result<ChipSettings, Problem> {
    let mut board = None;
    let mut model: Option<&Model> = None;
    let mut address = None;
    item.option("board", self::board, &mut board)?;
    item.option("model", self::model, &mut model)?;
    item.option("address", settings::address, &mut address)?;
    let known = board.and_then(|board| Model::named(board.model));
    let chosen = model.or(known);
    // Without a model the section is refused below; until then any model will do.
    let model = chosen.unwrap_or(&MODELS[0]);
    let mut chip = ChipSettings {
        board,
        model,
        bus: 1,
        address: address.or(board.map(|board| board.address)).unwrap_or(0x40),
        name: None,
        shunt_ohms: None,
        reverse: false,
        max_amperes: None,
        averaging: None,
        conversion_us: model.default_microseconds,
        channels: Vec::new(),
    };
    item.set("bus", bus, &mut chip.bus)?;
    item.option("name", label, &mut chip.name)?;
    item.option("shunt_ohms", ohms, &mut chip.shunt_ohms)?;
    item.set("reverse", values::flag, &mut chip.reverse)?;
    item.option("max_amperes", amperes, &mut chip.max_amperes)?;
    let averaging = |node: &Node| or_auto(node, model.averagings);
    item.set("averaging", averaging, &mut chip.averaging)?;
    let time = |node: &Node| one_of(node, model.microseconds, "");
    item.set("conversion_us", time, &mut chip.conversion_us)?;
    chip.channels = channels(item, board.map(|board| board.shunt_ohms))?;
    let missing = |message: &str| Err(item.refuse(None, message.to_string()));
    if chosen.is_none() {
        return missing("an item of `ina2xx.chips` has neither `model` nor `board`: write `model: ina219`, or another");
    }
    if board.is_some() && known != chosen {
        return missing("an item of `ina2xx.chips` has a `board` with another chip than `model` says: leave out one of the two");
    }
    if address.is_none() && board.is_none() {
        return missing("an item of `ina2xx.chips` has no `address`: give it one");
    }
    if chip.address > model.last_address {
        let (address, kind, last) = (chip.address, model.kind, model.last_address);
        let message = format!(
            "`ina2xx.chips.address` is {address:#04x}, which no {kind} can have: write 0x40 to {last:#04x}"
        );
        return Err(item.refuse(Some("address"), message));
    }
    complete(item, chip)
}

/// Checks the shunts, and fills in what the board says of them.
fn complete(item: &Section<'_, '_>, mut chip: ChipSettings) -> Result<ChipSettings, Problem> {
    let known = chip.board.map(|board| board.shunt_ohms);
    let kind = chip.model.kind;
    let refuse = |key: Option<&str>, message: String| Err(item.refuse(key, message));
    if chip.model.has_channels() {
        for (key, is_given) in [
            ("name", chip.name.is_some()),
            ("shunt_ohms", chip.shunt_ohms.is_some()),
            ("reverse", chip.reverse),
            ("max_amperes", chip.max_amperes.is_some()),
        ] {
            if is_given {
                let message = format!("`ina2xx.chips.{key}` is for chips of one channel: an {kind} has `channels: [{{channel: 1, name: cpu, shunt_ohms: 0.1}}]`");
                return refuse(Some(key), message);
            }
        }
        if chip.channels.is_empty() {
            let all = known.into_iter().flat_map(|shunt_ohms| {
                (1..=CHANNELS as u8).map(move |channel| Channel {
                    channel,
                    name: None,
                    shunt_ohms,
                    reverse: false,
                })
            });
            chip.channels = all.collect();
        }
        if chip.channels.is_empty() {
            let message = format!("an {kind} of `ina2xx.chips` has no `channels`: write `channels: [{{channel: 1, shunt_ohms: 0.1}}]`, with the shunt that is on the board");
            return refuse(None, message);
        }
        return Ok(chip);
    }
    if !chip.channels.is_empty() {
        let message = format!("`ina2xx.chips.channels` is for an INA3221: an {kind} has one channel, with `name` and `shunt_ohms`");
        return refuse(Some("channels"), message);
    }
    chip.shunt_ohms = chip.shunt_ohms.or(known);
    let Some(ohms) = chip.shunt_ohms else {
        let message = format!("an {kind} of `ina2xx.chips` has no `shunt_ohms`: give it the resistance of the shunt that is on the board, such as 0.1 where R100 is printed on it");
        return refuse(None, message);
    };
    if let Some(amperes) = chip.max_amperes {
        let millivolts = amperes * ohms * 1e3;
        if chip.model.range(millivolts).is_none() {
            let most = chip.model.millivolts.last().copied().unwrap_or_default();
            let message = format!(
                "`ina2xx.chips.max_amperes` is {amperes}: at {ohms} ohms that is {millivolts} mV, and an {kind} measures up to {most} mV, {} A",
                most / 1e3 / ohms
            );
            return refuse(Some("max_amperes"), message);
        }
    }
    if chip.averaging.is_some_and(|n| n > 1) && !chip.averages() {
        let message = format!("`ina2xx.chips.averaging` is for the longest `conversion_us` of an {kind}: leave out one of the two");
        return refuse(Some("averaging"), message);
    }
    Ok(chip)
}

impl ChipSettings {
    /// Whether conversions of the configured time can be averaged: an INA219 averages only those of 12 bits.
    pub fn averages(&self) -> bool {
        self.model.family != super::models::Family::Ina219
            || Some(&self.conversion_us) == self.model.microseconds.last()
    }
}

/// The channels that are given, in the order of their numbers. `known` is the board's shunt.
fn channels(item: &mut Section<'_, '_>, known: Option<f64>) -> Result<Vec<Channel>, Problem> {
    let mut channels = item.sections("channels", |section| {
        let mut channel = None;
        let mut name = None;
        let mut shunt_ohms = known;
        let mut reverse = false;
        section.option("channel", number, &mut channel)?;
        section.option("name", label, &mut name)?;
        section.option("shunt_ohms", ohms, &mut shunt_ohms)?;
        section.set("reverse", values::flag, &mut reverse)?;
        let (Some(channel), Some(shunt_ohms)) = (channel, shunt_ohms) else {
            let message = "an item of `ina2xx.chips.channels` needs a `channel` from 1 to 3, and the `shunt_ohms` that is on the board";
            return Err(section.refuse(None, message.to_string()));
        };
        Ok(Channel {
            channel,
            name,
            shunt_ohms,
            reverse,
        })
    })?;
    channels.sort_by_key(|channel| channel.channel);
    if let Some([one, _]) = channels
        .windows(2)
        .find(|two| two[0].channel == two[1].channel)
    {
        let message = format!(
            "`ina2xx.chips.channels` has channel {} twice: remove one of the two",
            one.channel
        );
        return Err(item.refuse(Some("channels"), message));
    }
    Ok(channels)
}

fn number(node: &Node) -> Outcome<u8> {
    whole(node)
        .filter(|n| (1..=CHANNELS as u8).contains(n))
        .map_or_else(|| refuse(node, "a channel from 1 to 3"), Ok)
}
