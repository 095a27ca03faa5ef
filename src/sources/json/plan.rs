//! What is got from a device, and which of the places where a value may be has it.
//!
//! A new plan gets every path until the device has said what is there. Each value then keeps to the first of its places that has it,
//! and only the paths of these are got from then on. A value of the configuration that is nowhere is looked for at every poll, one of
//! the profile in the next plan.

use serde_json::Value;

use super::members::Member;
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
    /// For each path, whether the device has said what is there, or that nothing is.
    is_probed: Vec<bool>,
}

/// One value of one rail.
#[derive(Debug)]
struct Slot {
    /// The rail's name after the device's.
    rail: String,
    /// The rail of the member that this one's lies in.
    within: Option<String>,
    quantity: Quantity,
    /// Whether it is in the configuration, and not only in the profile.
    is_own: bool,
    places: Vec<(usize, Place)>,
    /// The place that has had the value.
    chosen: Option<usize>,
    /// What the last poll read, and at which of the places.
    reading: Option<(usize, Reading)>,
    /// Why the last poll read nothing: the reason that says most, and at which of the places.
    why: Option<(usize, Miss)>,
}

/// Why there is no value at a place; the text completes a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Miss {
    kind: MissKind,
    pub(super) text: String,
}

/// What is missing. What says most of why there is no value comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MissKind {
    /// The device says that there is nothing at this path.
    Path,
    /// The answer has nothing at the pointer.
    Pointer,
    /// The device does not answer, or refuses to.
    Answer,
    /// What is at the pointer is no value.
    Value,
}

/// What became of one value at a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome<'p> {
    Read,
    /// It was not read, for this reason. A missing value is said where it is expected: the configuration says where it is, it was
    /// there before, or the device has not said yet whether it is there.
    Missing {
        why: &'p str,
        is_expected: bool,
    },
    /// It was not looked for.
    NotAsked,
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
    /// Why there is no sum of the items, where there would be one.
    pub no_sum: Option<String>,
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
    /// A plan for these rails, whose places are resolved. `own` are the values of the configuration, and the paths of `members` stand
    /// for `{}`.
    pub(super) fn new(rails: &[RailValues], own: &[RailValues], members: &[Member]) -> Plan {
        let mut plan = Plan {
            paths: Vec::new(),
            slots: Vec::new(),
            is_probed: Vec::new(),
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
                plan.add(rail, None, is_own);
                continue;
            }
            for member in members {
                plan.add(rail, Some(member), is_own);
            }
        }
        plan
    }

    fn add(&mut self, rail: &RailValues, member: Option<&Member>, is_own: impl Fn(usize) -> bool) {
        let of_member = |name: &str| join(name, &rail.name);
        let within = member.and_then(|member| member.within.as_deref());
        for (index, (quantity, places)) in Quantity::ALL.into_iter().zip(&rail.places).enumerate() {
            if places.is_empty() {
                continue;
            }
            let places = places.iter().map(|place| {
                let path = place.path.as_ref().map(|path| match member {
                    Some(member) => path.replace(PLACEHOLDER, &member.path),
                    None => path.clone(),
                });
                (self.path(path), place.clone())
            });
            let slot = Slot {
                places: places.collect(),
                rail: of_member(member.map_or("", |member| &member.name)),
                within: within.map(of_member),
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
            self.is_probed.push(false);
            self.paths.len() - 1
        })
    }

    /// Begins a poll. Returns the paths to get.
    pub(super) fn begin(&mut self) -> Vec<usize> {
        for slot in &mut self.slots {
            slot.reading = None;
            slot.why = None;
        }
        let needed = self.is_probed.iter().enumerate().filter(|(path, probed)| {
            let mut slots = self.slots.iter();
            slots.any(|slot| slot.needs(*path, **probed))
        });
        needed.map(|(path, _)| path).collect()
    }

    /// Reads the values out of the answer for a path.
    pub(super) fn take(&mut self, path: usize, answer: &Value) {
        self.set_probed(path);
        for slot in &mut self.slots {
            slot.take(path, answer);
        }
    }

    /// Notes that there is no answer for a path; `is_absent`: the device says that there is nothing. Otherwise the next poll tries
    /// again.
    pub(super) fn refuse(&mut self, path: usize, why: &str, is_absent: bool) {
        let kind = match is_absent {
            true => MissKind::Path,
            false => MissKind::Answer,
        };
        if is_absent {
            self.set_probed(path);
        }
        for slot in &mut self.slots {
            slot.refuse(path, kind, why);
        }
    }

    fn set_probed(&mut self, path: usize) {
        if let Some(probed) = self.is_probed.get_mut(path) {
            *probed = true;
        }
    }

    /// Ends a poll.
    pub(super) fn end(&mut self) {
        let is_probed = |path: usize| self.is_probed.get(path).copied().unwrap_or_default();
        for slot in &mut self.slots {
            let (None, Some((place, _))) = (slot.chosen, &slot.reading) else {
                continue;
            };
            // A better place may have it, whose path has not answered yet.
            let mut better = slot.places.iter().take(*place);
            if better.all(|(path, _)| is_probed(*path)) {
                slot.chosen = Some(*place);
            }
        }
    }

    /// Whether a value was found at any poll.
    pub(super) fn has_found(&self) -> bool {
        self.slots.iter().any(Slot::has_found)
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
            let is_part = self.is_part(slot);
            if let Some(whole) = reading.whole {
                set(slot.rail.clone(), is_part, slot.quantity, whole);
            }
            for (item, value) in &reading.items {
                set(
                    join(&slot.rail, item),
                    is_part || reading.are_parts,
                    slot.quantity,
                    *value,
                );
            }
        }
        rails
    }

    /// Whether what a slot's member draws is a part of what another one draws, in which it lies.
    fn is_part(&self, slot: &Slot) -> bool {
        let mut within = slot.within.as_ref();
        // The way up has no circles (see `members`).
        while let Some(rail) = within {
            let mut around = self.slots.iter().filter(|slot| slot.rail == *rail);
            if around.any(|slot| slot.quantity.adds_up() && slot.has_found()) {
                return true;
            }
            let mut around = self.slots.iter().filter(|slot| slot.rail == *rail);
            within = around.find_map(|slot| slot.within.as_ref());
        }
        false
    }

    /// How many items of lists were left out at this poll.
    pub(super) fn left_out(&self) -> u64 {
        let readings = self.slots.iter().filter_map(|slot| slot.reading.as_ref());
        readings.map(|(_, reading)| reading.left_out as u64).sum()
    }

    /// What became of each value at this poll, by rail and key.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&str, &'static str, Outcome<'_>)> {
        self.slots.iter().map(|slot| {
            let outcome = match (&slot.reading, &slot.why) {
                (Some((_, reading)), _) => match &reading.no_sum {
                    Some(why) => Outcome::Missing {
                        why,
                        is_expected: true,
                    },
                    None => Outcome::Read,
                },
                (None, Some((_, miss))) => Outcome::Missing {
                    why: &miss.text,
                    is_expected: slot.is_own
                        || slot.chosen.is_some()
                        || miss.kind == MissKind::Answer,
                },
                (None, None) => Outcome::NotAsked,
            };
            (slot.rail.as_str(), slot.quantity.key(), outcome)
        })
    }

    /// Why nothing was found, for people.
    pub(super) fn why_nothing(&self) -> Option<&str> {
        let misses = self.slots.iter().filter_map(|slot| slot.why.as_ref());
        let first = misses.min_by_key(|(_, miss)| std::cmp::Reverse(miss.kind));
        first.map(|(_, miss)| miss.text.as_str())
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

    fn has_found(&self) -> bool {
        self.chosen.is_some() || self.reading.is_some()
    }

    /// Notes why there is no value at a place. Of two reasons that say as much, that of the better place is kept.
    fn miss(&mut self, place: usize, miss: Miss) {
        let is_better = |(known, before): &(usize, Miss)| {
            (before.kind, std::cmp::Reverse(*known)) >= (miss.kind, std::cmp::Reverse(place))
        };
        if !self.why.as_ref().is_some_and(is_better) {
            self.why = Some((place, miss));
        }
    }

    fn refuse(&mut self, path: usize, kind: MissKind, why: &str) {
        let is_it = |(index, (at, _)): &(usize, &(usize, Place))| {
            *at == path && self.chosen.is_none_or(|chosen| chosen == *index)
        };
        let found = self.places.iter().enumerate().find(is_it);
        if let Some((place, _)) = found {
            let text = why.to_string();
            self.miss(place, Miss { kind, text });
        }
    }

    fn take(&mut self, path: usize, answer: &Value) {
        let mut misses = Vec::new();
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
                Err(miss) => misses.push((index, miss)),
            }
        }
        for (place, miss) in misses {
            self.miss(place, miss);
        }
    }
}

impl Place {
    /// The value at this place of an answer.
    pub(super) fn read(&self, quantity: Quantity, answer: &Value) -> Result<Reading, Miss> {
        let miss = |kind: MissKind, text: String| Miss { kind, text };
        let no_value = |text: String| miss(MissKind::Value, text);
        let At::Pointer(pointer) = &self.at else {
            return Err(no_value("the profile does not say where it is".to_string()));
        };
        let value = |value: &Value| self.value(quantity, answer, pointer, value);
        match pointer.find(answer) {
            None => Err(miss(
                MissKind::Pointer,
                format!("the answer has no {pointer}"),
            )),
            Some(Found::One(found)) => Ok(Reading {
                whole: Some(value(found).map_err(no_value)?),
                ..Reading::default()
            }),
            Some(Found::Many {
                items,
                is_list,
                left_out,
            }) => {
                let mut found = Vec::new();
                let mut bad = None;
                for (name, item) in items {
                    match value(item) {
                        Ok(value) => found.push((name, value)),
                        Err(why) => drop(bad.get_or_insert((name, why))),
                    }
                }
                if found.is_empty() {
                    let why = bad.map_or_else(
                        || miss(MissKind::Pointer, format!("{pointer} has no items")),
                        |(_, why)| no_value(why),
                    );
                    return Err(why);
                }
                let sum: f64 = found.iter().map(|(_, value)| value).sum();
                let no_sum = match bad {
                    _ if left_out > 0 => Some(format!("{pointer} has too many items for a sum")),
                    Some((name, why)) => Some(format!("no sum, since of item {name} {why}")),
                    None if !sum.is_finite() => Some(format!("the sum of {pointer} is too large")),
                    None => None,
                };
                let has_sum = is_list && quantity.adds_up();
                Ok(Reading {
                    whole: Some(sum).filter(|_| has_sum && no_sum.is_none()),
                    items: found,
                    are_parts: is_list,
                    left_out,
                    no_sum: no_sum.filter(|_| has_sum),
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
                Some(Found::One(Value::String(text))) if !unit_text(text).is_empty() => {
                    let text = unit_text(text);
                    let unit = quantity.unit(text);
                    Some(unit.ok_or_else(|| unknown_unit(quantity, pointer, text))?)
                }
                // It may be any: a number of kilowatts is none of watts.
                _ => {
                    let base = quantity.units().first().map_or("", |unit| unit.symbol);
                    return Err(format!(
                        "{pointer}: its unit, at {at}, is not there (`unit: {base}` in `values` says which it is)"
                    ));
                }
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
