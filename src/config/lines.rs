//! Finds the line and column of a key and its value in YAML text.
//!
//! serde_yaml gives positions only in errors. Therefore the text is parsed again down to the key, an error is raised there on
//! purpose, and the position of that error is returned. This is exact for every style (blocks, flow mappings, quotes, comments,
//! tabs, CRLF), because the same parser is used. It costs a parse for each key and is done only for messages about a key.

use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::Deserializer as _;

/// A position in a text, as editors count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The position of the key at `path`. The path has keys from the outermost one, `["jetson", "sudo"]`, and for list items
/// their index from 0; the position is then that of the item. `None` if there is no such key, or if the text is not valid
/// YAML up to the key.
pub fn key(text: &str, path: &[&str]) -> Option<Position> {
    path.split_first()?;
    walk(text, path, Target::Key)
}

/// The position where the value at `path` begins: the first character of a scalar (its quote, if any), the first key or
/// dash of a block. The position of an empty value is after its colon. The empty path is the whole document.
pub fn value(text: &str, path: &[&str]) -> Option<Position> {
    walk(text, path, Target::Value)
}

fn walk(text: &str, path: &[&str], target: Target) -> Option<Position> {
    let mut found = false;
    let walk = PathVisitor {
        path,
        target,
        found: &mut found,
    };
    let error = serde_yaml::Deserializer::from_str(text)
        .deserialize_any(walk)
        .err()?;
    let location = error.location().filter(|_| found)?;
    Some(Position {
        line: location.line(),
        column: location.column(),
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Target {
    Key,
    Value,
}

/// Follows `path` and raises an error at its end. `found` distinguishes this error from all others.
struct PathVisitor<'p, 'f> {
    path: &'p [&'p str],
    target: Target,
    found: &'f mut bool,
}

impl PathVisitor<'_, '_> {
    /// Raises the error if this is the end of the path.
    fn stop_at_end<E: de::Error>(&mut self) -> Result<(), E> {
        if self.path.is_empty() {
            *self.found = true;
            return Err(E::custom("here"));
        }
        Ok(())
    }

    fn end<E: de::Error>(mut self) -> Result<(), E> {
        self.stop_at_end()
    }
}

impl<'de> DeserializeSeed<'de> for PathVisitor<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PathVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.end()
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.end()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.end()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.end()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.end()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<(), E> {
        self.end()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<(), E> {
        self.end()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.end()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.end()
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.end()?;
        Err(de::Error::custom("a tag"))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        self.stop_at_end()?;
        let Some((first, rest)) = self.path.split_first() else {
            return Ok(());
        };
        let wanted = first.parse::<usize>().ok();
        let mut index = 0;
        loop {
            let more = if wanted == Some(index) {
                let item = PathVisitor {
                    path: rest,
                    target: self.target,
                    found: &mut *self.found,
                };
                access.next_element_seed(item)?.is_some()
            } else {
                access.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        self.stop_at_end()?;
        let Some((first, rest)) = self.path.split_first() else {
            return Ok(());
        };
        loop {
            let key = Key {
                wanted: first,
                stop: rest.is_empty() && self.target == Target::Key,
                found: &mut *self.found,
            };
            match access.next_key_seed(key)? {
                None => return Ok(()),
                Some(false) => {
                    access.next_value::<IgnoredAny>()?;
                }
                Some(true) => access.next_value_seed(PathVisitor {
                    path: rest,
                    target: self.target,
                    found: &mut *self.found,
                })?,
            }
        }
    }
}

/// Compares a key with the next step of the path.
struct Key<'p, 'f> {
    wanted: &'p str,
    stop: bool,
    found: &'f mut bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.stop {
            *self.found = true;
            return Err(E::custom("here"));
        }
        Ok(key == self.wanted)
    }
}

/// Raises an error at the position of the next value.
pub(super) struct Stop;

impl<'de> Visitor<'de> for Stop {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text from the place on, to the end of its line: what a reader would point at.
    fn at(text: &str, place: Option<Position>) -> Option<&str> {
        let place = place?;
        let line = text.lines().nth(place.line - 1)?;
        let (start, _) = line
            .char_indices()
            .chain([(line.len(), ' ')])
            .nth(place.column - 1)?;
        line.get(start..)
    }

    #[test]
    fn keys_and_values_are_found_in_blocks() {
        let text = "%YAML 1.1\n--- # here it begins\n# sudo: no\nport:   9100  # the port\n\njetson:\n\n    # a comment\n    \
                    tegrastats: 'a: b'\n    \"sudo\": true\nsudo: 1\n...\n";
        assert_eq!(
            at(text, key(text, &["port"])),
            Some("port:   9100  # the port")
        );
        assert_eq!(at(text, value(text, &["port"])), Some("9100  # the port"));
        assert_eq!(
            at(text, key(text, &["jetson", "sudo"])),
            Some("\"sudo\": true")
        );
        assert_eq!(at(text, value(text, &["jetson", "sudo"])), Some("true"));
        assert_eq!(
            at(text, value(text, &["jetson", "tegrastats"])),
            Some("'a: b'")
        );
        assert_eq!(
            at(text, value(text, &["jetson"])),
            Some("tegrastats: 'a: b'")
        );
        assert_eq!(at(text, key(text, &["sudo"])), Some("sudo: 1"));
        assert_eq!(key(text, &["a"]), None);
        assert_eq!(key(text, &["port", "sudo"]), None);
        assert_eq!(key(text, &[]), None);
    }

    #[test]
    fn keys_and_values_are_found_in_flow_style_and_crlf() {
        let text = "a: {b: [1, {c: yes}], \"d e\": 2}\r\nf:\r\n  - 3\r\n  - g: 4\r\n";
        assert_eq!(
            at(text, value(text, &["a", "b", "1", "c"])),
            Some("yes}], \"d e\": 2}")
        );
        assert_eq!(at(text, key(text, &["a", "d e"])), Some("\"d e\": 2}"));
        assert_eq!(at(text, value(text, &["f", "0"])), Some("3"));
        assert_eq!(at(text, key(text, &["f", "1", "g"])), Some("g: 4"));
        assert_eq!(value(text, &["f", "2"]), None);
        assert_eq!(value(text, &["f", "x"]), None);
    }

    #[test]
    fn an_empty_value_is_after_its_colon() {
        let text = "a:\nb:   # nothing\nc: \"\"\n";
        assert_eq!(value(text, &["a"]), Some(Position { line: 1, column: 3 }));
        assert_eq!(value(text, &["b"]), Some(Position { line: 2, column: 3 }));
        assert_eq!(value(text, &["c"]), Some(Position { line: 3, column: 4 }));
    }

    #[test]
    fn columns_are_characters() {
        let text = "\"ключ\": значение\n";
        assert_eq!(
            value(text, &["ключ"]),
            Some(Position { line: 1, column: 9 })
        );
    }

    #[test]
    fn invalid_yaml_has_no_positions() {
        assert_eq!(key("", &["a"]), None);
        assert_eq!(key("a: [", &["b"]), None);
        assert_eq!(value("\t", &[]), None);
        assert_eq!(key("a: &a [*a]", &["a", "0", "0", "b"]), None);
        assert_eq!(key("a: !tag {b: 1}", &["a", "b"]), None);
        // Keys before the mistake are found nevertheless.
        assert_eq!(key("a: [", &["a"]), Some(Position { line: 1, column: 1 }));
    }
}
