//! Where in a device's answers the values are: the key `values`, of a device in the configuration and of a profile.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::pointer::Pointer;
use super::quantity::{Quantity, Unit};
use crate::config::diagnose::quoted;
use crate::config::section::{Problem, Section};
use crate::config::tree::Node;
use crate::config::values::{self, Outcome, Refusal};

/// The most places that are tried for one value.
const MAX_PLACES: usize = 8;
/// The longest pointer, path or name of an entity, in bytes.
const MAX_TEXT: usize = 255;

/// In a path: the path of a member, or the name of an entity.
pub(super) const PLACEHOLDER: &str = "{}";

/// The values of one rail: for each quantity the places where it may be, the preferred one first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RailValues {
    /// The rail's name after the device's. Empty: the device itself.
    pub name: String,
    /// The places by quantity, in the order of [`Quantity::ALL`].
    pub places: [Vec<Place>; Quantity::ALL.len()],
    /// The quantities of a profile that are not read, in the same order.
    pub dropped: [bool; Quantity::ALL.len()],
}

/// A place where a value may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// What is at this place.
    pub at: At,
    /// The unit of the number. `None`: the text after the number, else the quantity's base unit.
    pub unit: Option<UnitAt>,
    /// What the number is multiplied by to be in that unit.
    pub factor: f64,
    /// The path to get, if it is another one than the device's own.
    pub path: Option<String>,
}

/// How a place is given.
#[derive(Debug, Clone, PartialEq)]
pub enum At {
    /// By a pointer into the answer.
    Pointer(Pointer),
    /// By the name of an entity, for which the profile has a path and a pointer.
    Named(String),
}

/// Where a unit is known from.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitAt {
    /// The configuration.
    Fixed(&'static Unit),
    /// A text in the same answer, such as `W` or `12.3 W`.
    Pointer(Pointer),
}

/// Floats of a configuration are finite, so that they equal themselves.
impl Eq for RailValues {}

impl RailValues {
    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(Vec::is_empty)
    }

    fn says_nothing(&self) -> bool {
        self.is_empty() && !self.dropped.contains(&true)
    }

    /// Reads the keys of one item of the list `values`.
    fn read(section: &mut Section<'_, '_>) -> Result<RailValues, Problem> {
        let mut rail = RailValues::default();
        section.set("name", values::label, &mut rail.name)?;
        let all = rail.places.iter_mut().zip(&mut rail.dropped);
        for (quantity, (places, dropped)) in Quantity::ALL.into_iter().zip(all) {
            let read = |node: &Node| {
                *dropped = *node == Node::Bool(false);
                match *dropped {
                    true => Ok(Vec::new()),
                    false => places_of(node, quantity),
                }
            };
            section.set(quantity.key(), read, places)?;
        }
        if rail.says_nothing() {
            let keys = Quantity::ALL.map(Quantity::key).join(", ");
            let message = format!("an item of `values` has no value: write one of {keys}");
            return Err(section.refuse(None, message));
        }
        Ok(rail)
    }

    /// Reads the list `values`, in which every rail has another name.
    pub(super) fn read_list(section: &mut Section<'_, '_>) -> Result<Vec<RailValues>, Problem> {
        let rails = section.sections("values", RailValues::read)?;
        for (i, rail) in rails.iter().enumerate() {
            if rails.iter().take(i).any(|other| other.name == rail.name) {
                let message = match rail.name.as_str() {
                    "" => "two items of `values` have no `name`: give one to each".to_string(),
                    name => format!(
                        "two items of `values` are called {}: put them together",
                        quoted(name)
                    ),
                };
                return Err(section.refuse(Some("values"), message));
            }
        }
        Ok(rails)
    }

    /// All places with their quantities.
    pub(super) fn all(&self) -> impl Iterator<Item = (Quantity, &Place)> {
        let quantities = Quantity::ALL.into_iter().zip(&self.places);
        quantities.flat_map(|(quantity, places)| places.iter().map(move |place| (quantity, place)))
    }

    /// Every value of one entity.
    pub(super) fn of_entity(name: &str) -> Vec<RailValues> {
        let place = || Place {
            at: At::Named(name.to_string()),
            unit: None,
            factor: 1.0,
            path: None,
        };
        vec![RailValues {
            name: String::new(),
            places: std::array::from_fn(|_| vec![place()]),
            ..RailValues::default()
        }]
    }

    /// Replaces the places of the quantities that the other one has, and takes out those that it drops.
    pub(super) fn override_by(&mut self, other: &RailValues) {
        let others = other.places.iter().zip(other.dropped);
        for (own, (other, is_dropped)) in self.places.iter_mut().zip(others) {
            if is_dropped || !other.is_empty() {
                own.clone_from(other);
            }
        }
    }
}

/// One place, or a list of places.
fn places_of(node: &Node, quantity: Quantity) -> Outcome<Vec<Place>> {
    match node {
        Node::List(_) => values::list(node, WANTED, MAX_PLACES, |node| place(node, quantity)),
        node => place(node, quantity).map(|place| vec![place]),
    }
}

const WANTED: &str =
    "a JSON pointer such as /status/power, or {pointer: /status/power, unit: mW}, or a list of these, or false for none";

/// A place: a pointer or an entity's name, or a mapping with more about it.
fn place(node: &Node, quantity: Quantity) -> Outcome<Place> {
    let entries = match node {
        Node::Text(text) => {
            let at = match text.starts_with('/') {
                true => At::Pointer(pointer(node)?),
                false => At::Named(entity(node)?),
            };
            return Place {
                at,
                unit: None,
                factor: 1.0,
                path: None,
            }
            .checked(quantity);
        }
        Node::Map(entries) => entries,
        _ => return values::refuse(node, WANTED),
    };
    let (mut at, mut unit, mut factor, mut path) = (None, None, 1.0, None);
    for (key, value) in entries {
        let read = match key.as_str() {
            "pointer" => pointer(value).map(|pointer| at = Some(At::Pointer(pointer))),
            "entity" => entity(value).map(|name| at = Some(At::Named(name))),
            "unit" => unit_at(value, quantity).map(|found| unit = Some(found)),
            "factor" => number(value).map(|found| factor = found),
            "path" => path_of(value).map(|found| path = Some(found)),
            _ => {
                let message = format!(
                    "has the key {}: there are pointer, entity, unit, factor and path",
                    quoted(key)
                );
                return Err(Refusal {
                    key: true,
                    ..Refusal::new(message)
                }
                .at(key));
            }
        };
        read.map_err(|refusal| refusal.at(key))?;
    }
    match at {
        Some(at) => Place {
            at,
            unit,
            factor,
            path,
        }
        .checked(quantity),
        None => Err(Refusal::new(format!("has no `pointer`: write {WANTED}"))),
    }
}

impl Place {
    /// Checks what depends on several keys.
    fn checked(self, quantity: Quantity) -> Outcome<Place> {
        match &self.at {
            At::Pointer(_) if self.unit.is_none() && !quantity.has_default_unit() => {
                let symbols = quantity.symbols();
                Err(Refusal::new(format!(
                    "has no `unit`: write {{pointer: …, unit: kWh}} ({symbols}), or a pointer to the unit's text"
                )))
            }
            At::Named(_) if self.path.is_some() => Err(Refusal::new(
                "has a `path` beside the name of an entity: write a `pointer` with it".into(),
            )),
            _ => Ok(self),
        }
    }
}

fn pointer(node: &Node) -> Outcome<Pointer> {
    let Node::Text(text) = node else {
        return values::refuse(node, "a JSON pointer such as /status/power");
    };
    if text.len() > MAX_TEXT {
        return Err(Refusal::new(format!("has more than {MAX_TEXT} bytes")));
    }
    let parsed = Pointer::new(text);
    parsed.map_err(|why| Refusal::new(format!("is no JSON pointer such as /status/power: {why}")))
}

fn entity(node: &Node) -> Outcome<String> {
    values::text(
        node,
        "a JSON pointer such as /status/power, or the name of an entity",
    )
    .map(str::to_owned)
}

fn unit_at(node: &Node, quantity: Quantity) -> Outcome<UnitAt> {
    let wanted = || format!("{}, or a pointer to the unit's text", quantity.symbols());
    match node {
        Node::Text(text) if text.starts_with('/') => pointer(node).map(UnitAt::Pointer),
        Node::Text(text) => match quantity.unit(text) {
            Some(unit) => Ok(UnitAt::Fixed(unit)),
            None => values::refuse(node, &wanted()),
        },
        _ => values::refuse(node, &wanted()),
    }
}

fn number(node: &Node) -> Outcome<f64> {
    let number = match node {
        Node::Int(number) => *number as f64,
        Node::Float(number) => *number,
        _ => f64::NAN,
    };
    match number.is_finite() && number != 0.0 {
        true => Ok(number),
        false => values::refuse(node, "a number that is not 0, such as 0.001 or -1"),
    }
}

/// A path to get on the device, with its query.
pub(super) fn path_of(node: &Node) -> Outcome<String> {
    match node {
        Node::Text(text) if is_path(text.strip_prefix(PLACEHOLDER).unwrap_or(text)) => Ok(text.clone()),
        // What it is may be a secret.
        _ => Err(Refusal::new(format!(
            "is no path such as /status: write one that begins with /, without spaces, of at most {MAX_TEXT} bytes"
        ))),
    }
}

/// Whether the text can be put after a server's name.
pub(super) fn is_path(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_graphic() && !b"\"#<>\\^`".contains(&b);
    text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= MAX_TEXT
        && text.bytes().all(legal)
}

/// The values as they are shown: the query of a path may contain a password. Different paths stay different.
pub(super) fn show<S: Serializer>(rails: &[RailValues], serializer: S) -> Result<S::Ok, S::Error> {
    let mut rails = rails.to_vec();
    let mut paths: Vec<String> = Vec::new();
    let places = rails
        .iter_mut()
        .flat_map(|rail| rail.places.iter_mut().flatten());
    for path in places.filter_map(|place| place.path.as_mut()) {
        let Some((bare, _)) = path.split_once('?') else {
            continue;
        };
        let known = paths.iter().position(|known| known == path);
        let number = known.unwrap_or(paths.len()) + 1;
        let shown = format!("{bare}?secret{number}");
        if known.is_none() {
            paths.push(path.clone());
        }
        *path = shown;
    }
    rails.serialize(serializer)
}

impl Serialize for RailValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.name.is_empty() {
            map.serialize_entry("name", &self.name)?;
        }
        let all = self.places.iter().zip(self.dropped);
        for (quantity, (places, is_dropped)) in Quantity::ALL.into_iter().zip(all) {
            if is_dropped {
                map.serialize_entry(quantity.key(), &false)?;
            } else if !places.is_empty() {
                map.serialize_entry(quantity.key(), places)?;
            }
        }
        map.end()
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.at {
            At::Pointer(pointer) => map.serialize_entry("pointer", pointer)?,
            At::Named(name) => map.serialize_entry("entity", name)?,
        }
        match &self.unit {
            Some(UnitAt::Fixed(unit)) => map.serialize_entry("unit", unit.symbol)?,
            Some(UnitAt::Pointer(pointer)) => map.serialize_entry("unit", pointer)?,
            None => {}
        }
        if self.factor != 1.0 {
            map.serialize_entry("factor", &self.factor)?;
        }
        if let Some(path) = &self.path {
            map.serialize_entry("path", path)?;
        }
        map.end()
    }
}
