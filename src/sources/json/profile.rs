//! Profiles: the values of a kind of device, as YAML files that are compiled in.
//!
//! A profile has the keys that a device has in the configuration, `values` above all, and some of its own:
//!
//! | key | meaning |
//! | --- | --- |
//! | `scheme` | `https` where devices of this kind speak it; default `http` |
//! | `path` | what is got from the device |
//! | `timeout` | seconds for an answer; default 5 |
//! | `entity` | `path`, `pointer` and `unit` of a value that is given by an entity's name, which stands for `{}` in the path |
//! | `members` | `path` and `pointer` of a list of paths: the values are read for each of these, which stand for `{}`. `within`: a pointer in a member's own answer to the path of the member that it lies in |
//! | `login_error` | a pointer to what is there only in a refusal of the login that has the status 200 |

use std::time::Duration;

use super::pointer::Pointer;
use super::quantity::Quantity;
use super::values::{path_of, At, Place, RailValues, UnitAt, PLACEHOLDER};
use crate::config::section::{Problem, Section};
use crate::config::tree::Node;
use crate::config::values::{self, Outcome, Refusal};
use crate::config::{read_text, Diagnostic};

/// The profiles: name and text.
const PROFILES: &[(&str, &str)] = &[
    (GENERIC, ""),
    ("tasmota", include_str!("profiles/tasmota.yaml")),
    ("redfish", include_str!("profiles/redfish.yaml")),
    ("esphome", include_str!("profiles/esphome.yaml")),
    ("opendtu", include_str!("profiles/opendtu.yaml")),
    ("homeassistant", include_str!("profiles/homeassistant.yaml")),
];

/// The profile without values.
pub(super) const GENERIC: &str = "generic";

/// The names of the profiles.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

/// A profile.
#[derive(Debug, Default)]
pub(super) struct Profile {
    pub(super) is_https: bool,
    pub(super) path: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) entity: Option<Entity>,
    pub(super) members: Option<Members>,
    pub(super) login_error: Option<Pointer>,
    pub(super) values: Vec<RailValues>,
}

/// How the value of an entity is got.
#[derive(Debug)]
pub(super) struct Entity {
    path: String,
    pointer: Pointer,
    unit: Option<Pointer>,
}

/// How the members are found.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) path: String,
    pub(super) pointer: Pointer,
    pub(super) within: Option<Pointer>,
}

/// The profile of this name, with its name as a constant.
pub(super) fn name_of(node: &Node) -> Outcome<&'static str> {
    let words: Vec<_> = names().map(|name| (name, name)).collect();
    values::choice(node, &words)
}

impl Profile {
    /// Reads a profile. The error is one in the profile's file, which a test excludes.
    pub(super) fn get(name: &str) -> Result<Profile, Diagnostic> {
        let found = PROFILES.iter().find(|(known, _)| *known == name);
        Profile::parse(found.map_or("", |(_, text)| text))
    }

    fn parse(text: &str) -> Result<Profile, Diagnostic> {
        let mut profile = Profile::default();
        read_text(text, |section| profile.read(section))?;
        Ok(profile)
    }

    fn read(&mut self, section: &mut Section<'_, '_>) -> Result<(), Problem> {
        let scheme = |node: &Node| values::choice(node, &[("http", false), ("https", true)]);
        section.set("scheme", scheme, &mut self.is_https)?;
        section.option("path", path_of, &mut self.path)?;
        section.option("timeout", values::seconds, &mut self.timeout)?;
        section.option("login_error", pointer, &mut self.login_error)?;
        let (mut path, mut at, mut unit) = (None, None, None);
        section.section("entity", |section| {
            section.option("path", path_of, &mut path)?;
            section.option("pointer", pointer, &mut at)?;
            section.option("unit", pointer, &mut unit)
        })?;
        self.entity = path.zip(at).map(|(path, pointer)| Entity {
            path,
            pointer,
            unit,
        });
        let (mut path, mut at, mut within) = (None, None, None);
        section.section("members", |section| {
            section.option("path", path_of, &mut path)?;
            section.option("pointer", pointer, &mut at)?;
            section.option("within", pointer, &mut within)
        })?;
        self.members = path.zip(at).map(|(path, pointer)| Members {
            path,
            pointer,
            within,
        });
        self.values = RailValues::read_list(section)?;
        Ok(())
    }

    /// The rails of a device with this profile: the profile's, changed and extended by the device's own. Every place has a
    /// pointer and, unless it is the device's URL itself, a path.
    pub(super) fn rails(&self, own: &[RailValues]) -> Vec<RailValues> {
        let mut rails = self.values.clone();
        for own in own {
            match rails.iter_mut().find(|rail| rail.name == own.name) {
                Some(rail) => rail.override_by(own),
                None => rails.push(own.clone()),
            }
        }
        for rail in &mut rails {
            for place in rail.places.iter_mut().flatten() {
                *place = self.resolved(place);
            }
        }
        rails
    }

    fn resolved(&self, place: &Place) -> Place {
        let path = || place.path.clone().or(self.path.clone());
        match (&place.at, &self.entity) {
            (At::Named(name), Some(entity)) => Place {
                at: At::Pointer(entity.pointer.clone()),
                unit: place
                    .unit
                    .clone()
                    .or(entity.unit.clone().map(UnitAt::Pointer)),
                path: Some(entity.path.replace(PLACEHOLDER, &escaped(name))),
                factor: place.factor,
            },
            _ => Place {
                path: path(),
                ..place.clone()
            },
        }
    }

    /// Why a device with this profile cannot have these values; completes a sentence about the value's key.
    pub(super) fn refuses(&self, own: &[RailValues]) -> Option<(Quantity, &'static str)> {
        let mut all = own.iter().flat_map(RailValues::all);
        let has_placeholder = |place: &Place| {
            place
                .path
                .as_ref()
                .is_some_and(|path| path.contains(PLACEHOLDER))
        };
        all.find_map(|(quantity, place)| match &place.at {
            _ if has_placeholder(place) && self.members.is_none() => Some((
                quantity,
                "has a {} in its path, which nothing stands for in this profile",
            )),
            At::Named(_) if self.entity.is_none() => Some((
                quantity,
                "is no JSON pointer: write one that begins with /, such as /status/power",
            )),
            At::Pointer(_) if self.entity.is_some() && place.path.is_none() => Some((
                quantity,
                "needs a `path`, since this profile has none: or write the name of an entity",
            )),
            _ => None,
        })
    }
}

fn pointer(node: &Node) -> Outcome<Pointer> {
    let text = values::text(node, "a JSON pointer")?;
    Pointer::new(text).map_err(|why| Refusal::new(format!("is no JSON pointer: {why}")))
}

/// An entity's name in a path (RFC 3986, 2.1).
fn escaped(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    name.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_can_be_read() {
        for name in names() {
            let profile = Profile::get(name).unwrap();
            let reads = !profile.values.is_empty() || profile.entity.is_some();
            assert_eq!(reads, name != GENERIC, "{name}");
            let places = profile.values.iter().flat_map(RailValues::all);
            let has_path = |place: &Place| place.path.is_some() || profile.path.is_some();
            assert!(
                places.into_iter().all(|(_, place)| has_path(place)),
                "{name}"
            );
        }
    }

    #[test]
    fn entity_is_escaped_in_its_path() {
        assert_eq!(escaped("sensor.plug_power-1"), "sensor.plug_power-1");
        assert_eq!(escaped("Plug Power/ü?"), "Plug%20Power%2F%C3%BC%3F");
    }
}
