//! What is got from a device, and which of the places where a value may be has it.
//!
//! A new plan gets every path once. Each value then keeps to the first of its places that has it, and only the paths of these are
//! got from then on. A value of the configuration that is nowhere is looked for at every poll, one of the profile in the next
//! plan.

use serde_json::Value;

use super::pointer::{Found, Pointer};
use super::quantity::{number, unit_text, Quantity};
use super::values::{At, Place, RailValues, UnitAt, PLACEHOLDER};
use crate::config::diagnose::quoted;

/// What is got and where the values are.
#[derive(Debug)]
pub(super) struct Plan {
    /// The different paths. `None`: the device's URL itself.
    pub(super) paths: Vec<Option<String>>,
    slots: Vec<Slot>,
    /// Whether every path has been got once.
    is_probed: bool,
}

/// One value of one rail.
#[derive(Debug)]
struct Slot {
    /// The rail's name after the device's.
    rail: String,
    quantity: Quantity,
    /// Whether it is in the configuration, and not only in the profile.
    is_own: bool,
    places: Vec<(usize, Place)>,
    /// The place that has had the value.
    chosen: Option<usize>,
    /// What the last poll read, and at which of the places.
    reading: Option<(usize, Reading)>,
    /// Why the last poll read nothing.
    why: Option<String>,
}

/// What is at one place, in base units.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// The value of the rail itself; for a list, the sum of its items.
    pub whole: Option<f64>,
    /// The values of the items of a `*`, by name.
    pub items: Vec<(String, f64)>,
    /// Whether the items are parts of the whole.
    pub are_parts: bool,
    /// How many items are left out because there are too many.
    pub left_out: usize,
}

/// The values of one rail at one poll, in the order of [`Quantity::ALL`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RailReading {
    /// The rail's name after the device's. Empty: the device itself.
    pub name: String,
    /// Whether the rail is a part of another one.
    pub is_part: bool,
    /// The values in base units.
    pub values: [Option<f64>; Quantity::ALL.len()],
}

impl Plan {
    /// A plan for these rails, whose places are resolved. `own` are the values of the configuration, and `members` the paths
    /// that stand for `{}`.
    pub(super) fn new(rails: &[RailValues], own: &[RailValues], members: &[String]) -> Plan {
        let mut plan = Plan {
            paths: Vec::new(),
            slots: Vec::new(),
            is_probed: false,
        };
        for rail in rails {
            let is_own = |quantity: usize| {
                let own = own.iter().find(|own| own.name == rail.name);
                own.is_some_and(|own| {
                    own.places
                        .get(quantity)
                        .is_some_and(|places| !places.is_empty())
                })
            };
            let has_members = |place: &Place| {
                place
                    .path
                    .as_ref()
                    .is_some_and(|path| path.contains(PLACEHOLDER))
            };
            if !rail.all().any(|(_, place)| has_members(place)) {
                plan.add(rail, &rail.name, None, is_own);
                continue;
            }
            for member in members {
                let name = member
                    .trim_end_matches('/')
                    .rsplit('/')
                    .next()
                    .unwrap_or_default();
                plan.add(rail, &join(name, &rail.name), Some(member), is_own);
            }
        }
        plan
    }

    fn add(
        &mut self,
        rail: &RailValues,
        name: &str,
        member: Option<&str>,
        is_own: impl Fn(usize) -> bool,
    ) {
        for (index, (quantity, places)) in Quantity::ALL.into_iter().zip(&rail.places).enumerate() {
            if places.is_empty() {
                continue;
            }
            let places = places.iter().map(|place| {
                let path = place.path.as_ref().map(|path| match member {
                    Some(member) => path.replace(PLACEHOLDER, member.trim_end_matches('/')),
                    None => path.clone(),
                });
                (self.path(path), place.clone())
            });
            let slot = Slot {
                places: places.collect(),
                rail: name.to_string(),
                quantity,
                is_own: is_own(index),
                chosen: None,
                reading: None,
                why: None,
            };
            self.slots.push(slot);
        }
    }

    fn path(&mut self, path: Option<String>) -> usize {
        let known = self.paths.iter().position(|known| *known == path);
        known.unwrap_or_else(|| {
            self.paths.push(path);
            self.paths.len() - 1
        })
    }

    /// Begins a poll. Returns the paths to get.
    pub(super) fn begin(&mut self) -> Vec<usize> {
        for slot in &mut self.slots {
            slot.reading = None;
            slot.why = None;
        }
        let is_needed = |path: &usize| {
            self.slots
                .iter()
                .any(|slot| slot.needs(*path, self.is_probed))
        };
        (0..self.paths.len()).filter(is_needed).collect()
    }

    /// Reads the values out of the answer for a path.
    pub(super) fn take(&mut self, path: usize, answer: &Value) {
        for slot in &mut self.slots {
            slot.take(path, answer);
        }
    }

    /// Notes that there is no answer for a path.
    pub(super) fn refuse(&mut self, path: usize, why: &str) {
        for slot in &mut self.slots {
            if slot.places.iter().any(|(at, _)| *at == path) {
                slot.why.get_or_insert_with(|| why.to_string());
            }
        }
    }

    /// Ends a poll that has got every path.
    pub(super) fn end(&mut self) {
        for slot in &mut self.slots {
            if let (None, Some((place, _))) = (slot.chosen, &slot.reading) {
                slot.chosen = Some(*place);
            }
        }
        self.is_probed = true;
    }

    /// Whether a value was found at any poll.
    pub(super) fn has_found(&self) -> bool {
        self.slots.iter().any(|slot| slot.chosen.is_some())
    }

    /// Whether the configuration itself says where a value is.
    pub(super) fn has_own(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_own)
    }

    /// The rails that have values at this poll.
    pub(super) fn rails(&self) -> Vec<RailReading> {
        let mut rails: Vec<RailReading> = Vec::new();
        let mut set = |name: String, is_part: bool, quantity: Quantity, value: f64| {
            let known = rails.iter().position(|rail| rail.name == name);
            let place = known.unwrap_or_else(|| {
                rails.push(RailReading {
                    name,
                    is_part,
                    ..RailReading::default()
                });
                rails.len() - 1
            });
            if let Some(value_of) = rails
                .get_mut(place)
                .and_then(|rail| rail.values.get_mut(quantity as usize))
            {
                *value_of = Some(value);
            }
        };
        for slot in &self.slots {
            let Some((_, reading)) = &slot.reading else {
                continue;
            };
            if let Some(whole) = reading.whole {
                set(slot.rail.clone(), false, slot.quantity, whole);
            }
            for (item, value) in &reading.items {
                set(
                    join(&slot.rail, item),
                    reading.are_parts,
                    slot.quantity,
                    *value,
                );
            }
        }
        rails
    }

    /// How many items of lists were left out at this poll.
    pub(super) fn left_out(&self) -> u64 {
        let readings = self.slots.iter().filter_map(|slot| slot.reading.as_ref());
        readings.map(|(_, reading)| reading.left_out as u64).sum()
    }

    /// The values that are missing at this poll, though the configuration says where they are or they were there before: rail,
    /// key and reason.
    pub(super) fn missing(&self) -> impl Iterator<Item = (&str, &'static str, &str)> {
        let missing = self.slots.iter().filter(|slot| slot.reading.is_none());
        let missing = missing.filter(|slot| slot.is_own || slot.chosen.is_some());
        missing.filter_map(|slot| {
            Some((
                slot.rail.as_str(),
                slot.quantity.key(),
                slot.why.as_deref()?,
            ))
        })
    }

    /// Why nothing was found, for people.
    pub(super) fn why_nothing(&self) -> Option<&str> {
        self.slots.iter().find_map(|slot| slot.why.as_deref())
    }
}

impl Slot {
    fn needs(&self, path: usize, is_probed: bool) -> bool {
        let is_it = |place: Option<&(usize, Place)>| place.is_some_and(|(at, _)| *at == path);
        match self.chosen {
            Some(chosen) => is_it(self.places.get(chosen)),
            None => {
                (self.is_own || !is_probed) && self.places.iter().any(|place| is_it(Some(place)))
            }
        }
    }

    fn take(&mut self, path: usize, answer: &Value) {
        for (index, (at, place)) in self.places.iter().enumerate() {
            let is_other = self.chosen.is_some_and(|chosen| chosen != index);
            let has_better = self
                .reading
                .as_ref()
                .is_some_and(|(found, _)| *found < index);
            if *at != path || is_other || has_better {
                continue;
            }
            match place.read(self.quantity, answer) {
                Ok(reading) => {
                    self.reading = Some((index, reading));
                    return;
                }
                Err(why) => drop(self.why.get_or_insert(why)),
            }
        }
    }
}

impl Place {
    /// The value at this place of an answer; the error completes a sentence.
    pub(super) fn read(&self, quantity: Quantity, answer: &Value) -> Result<Reading, String> {
        let At::Pointer(pointer) = &self.at else {
            return Err("the profile does not say where it is".to_string());
        };
        let value = |value: &Value| self.value(quantity, answer, pointer, value);
        match pointer.find(answer) {
            None => Err(format!("the answer has no {pointer}")),
            Some(Found::One(found)) => Ok(Reading {
                whole: Some(value(found)?),
                ..Reading::default()
            }),
            Some(Found::Many {
                items,
                is_list,
                left_out,
            }) => {
                let all = items.len();
                let mut why = format!("{pointer} has no items");
                let mut found = Vec::new();
                for (name, item) in items {
                    match value(item) {
                        Ok(value) => found.push((name, value)),
                        Err(reason) => why = reason,
                    }
                }
                if found.is_empty() {
                    return Err(why);
                }
                let is_whole = is_list && quantity.adds_up() && found.len() == all && left_out == 0;
                let sum: f64 = found.iter().map(|(_, value)| value).sum();
                Ok(Reading {
                    whole: Some(sum).filter(|sum| is_whole && sum.is_finite()),
                    items: found,
                    are_parts: is_list,
                    left_out,
                })
            }
        }
    }

    fn value(
        &self,
        quantity: Quantity,
        answer: &Value,
        pointer: &Pointer,
        value: &Value,
    ) -> Result<f64, String> {
        let Some((number, text)) = number(value) else {
            return Err(format!("{pointer} is {}", shown(value)));
        };
        let unit = match (text, &self.unit) {
            ("", Some(UnitAt::Fixed(unit))) => Some(*unit),
            ("", Some(UnitAt::Pointer(at))) => match at.find(answer) {
                Some(Found::One(Value::String(text))) => {
                    let text = unit_text(text);
                    let unit = quantity.unit(text);
                    Some(unit.ok_or_else(|| unknown_unit(quantity, pointer, text))?)
                }
                _ if quantity.has_default_unit() => None,
                _ => return Err(format!("{pointer}: its unit, at {at}, is not there")),
            },
            ("", None) => None,
            (text, _) => Some(
                quantity
                    .unit(text)
                    .ok_or_else(|| unknown_unit(quantity, pointer, text))?,
            ),
        };
        let number = number * self.factor;
        let unit = unit.or(quantity.units().first());
        let number = unit.map_or(number, |unit| unit.to_base(number));
        match number.is_finite() {
            true => Ok(number),
            false => Err(format!("{pointer} is too large")),
        }
    }
}

fn unknown_unit(quantity: Quantity, pointer: &Pointer, text: &str) -> String {
    let (key, symbols) = (quantity.key(), quantity.symbols());
    format!(
        "{pointer} has the unit {}, which is none of {key} ({symbols})",
        quoted(text)
    )
}

/// A value that is no number, as it is shown.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{}, which is no number", quoted(text)),
        Value::Array(_) => "a list".to_string(),
        Value::Object(_) => "an object".to_string(),
        other => other.to_string(),
    }
}

fn join(one: &str, other: &str) -> String {
    match (one, other) {
        ("", name) | (name, "") => name.to_string(),
        (one, other) => format!("{one}/{other}"),
    }
}
