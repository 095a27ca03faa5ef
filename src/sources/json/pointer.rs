//! JSON pointers (RFC 6901) with one step more: `*` stands for every item of a list or an object.

use std::fmt;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

/// The most items that a `*` stands for. The others are left out.
pub const MAX_ITEMS: usize = 16;
/// The most characters of an item's name, which becomes a part of a label.
const MAX_NAME: usize = 64;

/// A pointer such as `/StatusSNS/ENERGY/Power/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    /// Where the step `*` is: the pointers before and after it end and begin here.
    star: Option<usize>,
}

/// What is at a pointer.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'v> {
    /// One value.
    One(&'v Value),
    /// The items of a `*` by name: an object's keys or a list's indices.
    Many {
        items: Vec<(String, &'v Value)>,
        /// Whether these are the parts of one whole: a list's items.
        is_list: bool,
        /// How many items are left out; only one more than the most is looked at.
        left_out: usize,
    },
}

impl Pointer {
    /// Parses a pointer. The error completes a sentence.
    pub fn new(text: &str) -> Result<Pointer, &'static str> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err("it does not begin with /");
        }
        let escapes = text.split('~').skip(1);
        if escapes
            .into_iter()
            .any(|rest| !rest.starts_with(['0', '1']))
        {
            return Err("in it ~ stands before 0 (which is ~) or 1 (which is /)");
        }
        let mut stars = Vec::new();
        let mut at = 0;
        for step in text.split('/') {
            if step == "*" {
                stars.push(at - 1);
            }
            at += step.len() + 1;
        }
        match stars.as_slice() {
            [] | [_] => Ok(Pointer {
                text: text.to_string(),
                star: stars.first().copied(),
            }),
            _ => Err("it has more than one *"),
        }
    }

    /// The value or values at this pointer. A `*` at the end also finds a value that is no list: devices have a number where
    /// others of their kind have a list of one per phase.
    pub(super) fn find<'v>(&self, root: &'v Value) -> Option<Found<'v>> {
        let Some(star) = self.star else {
            return root.pointer(&self.text).map(Found::One);
        };
        let (before, rest) = self.text.split_at_checked(star)?;
        let after = rest.get(2..)?;
        let whole = root.pointer(before)?;
        let is_list = whole.is_array();
        let all: Vec<(String, &Value)> = match whole {
            Value::Array(items) => match items.as_slice() {
                [only] => return only.pointer(after).map(Found::One),
                items => {
                    let items = items.iter().enumerate();
                    let item =
                        |(i, item): (usize, &'v Value)| Some((i.to_string(), item.pointer(after)?));
                    items.filter_map(item).take(MAX_ITEMS + 1).collect()
                }
            },
            Value::Object(entries) => {
                let item =
                    |(key, item): (&String, &'v Value)| Some((name_of(key), item.pointer(after)?));
                entries
                    .iter()
                    .filter_map(item)
                    .take(MAX_ITEMS + 1)
                    .collect()
            }
            single if after.is_empty() => return Some(Found::One(single)),
            _ => return None,
        };
        let left_out = all.len().saturating_sub(MAX_ITEMS);
        let items = all.into_iter().take(MAX_ITEMS).collect();
        Some(Found::Many {
            items,
            is_list,
            left_out,
        })
    }
}

/// A key as a part of a label.
fn name_of(key: &str) -> String {
    key.chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect()
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => f.write_str("the whole answer"),
            text => f.write_str(text),
        }
    }
}

impl Serialize for Pointer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn find(pointer: &str, root: &Value) -> Option<Vec<(String, Value)>> {
        let pointer = Pointer::new(pointer).unwrap();
        pointer.find(root).map(|found| match found {
            Found::One(value) => vec![(String::new(), value.clone())],
            Found::Many { items, .. } => items
                .into_iter()
                .map(|(name, value)| (name, value.clone()))
                .collect(),
        })
    }

    fn one(value: Value) -> Option<Vec<(String, Value)>> {
        Some(vec![(String::new(), value)])
    }

    /// RFC 6901, section 5.
    #[test]
    fn pointers_find_what_the_standard_says() {
        let root = json!({
            "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8
        });
        for (pointer, value) in [
            ("", root.clone()),
            ("/foo", json!(["bar", "baz"])),
            ("/foo/0", json!("bar")),
            ("/", json!(0)),
            ("/a~1b", json!(1)),
            ("/c%d", json!(2)),
            ("/e^f", json!(3)),
            ("/g|h", json!(4)),
            ("/i\\j", json!(5)),
            ("/k\"l", json!(6)),
            ("/ ", json!(7)),
            ("/m~0n", json!(8)),
        ] {
            assert_eq!(find(pointer, &root), one(value), "{pointer}");
        }
        for pointer in ["/foo/2", "/foo/-", "/foo/00", "/foo/bar", "/nothing", "//"] {
            assert_eq!(find(pointer, &root), None, "{pointer}");
        }
    }

    #[test]
    fn star_stands_for_every_item() {
        let items = |all: &[(&str, Value)]| {
            let all = all
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()));
            Some(all.collect::<Vec<_>>())
        };
        let root = json!({
            "Power": [298, 7, 0], "one": [5], "none": [], "single": 4,
            "inv": [{"v": 1}, {}, {"v": 3}],
            "AM2301": {"Temperature": 30.2}, "ESP32": {"Temperature": 41.1}, "Time": "now"
        });
        for (pointer, found) in [
            (
                "/Power/*",
                items(&[("0", json!(298)), ("1", json!(7)), ("2", json!(0))]),
            ),
            ("/one/*", one(json!(5))),
            ("/none/*", Some(vec![])),
            ("/single/*", one(json!(4))),
            ("/inv/*/v", items(&[("0", json!(1)), ("2", json!(3))])),
            (
                "/*/Temperature",
                items(&[("AM2301", json!(30.2)), ("ESP32", json!(41.1))]),
            ),
            ("/single/*/v", None),
            ("/nothing/*", None),
        ] {
            assert_eq!(find(pointer, &root), found, "{pointer}");
        }
    }

    #[test]
    fn items_and_their_names_are_limited() {
        let many = json!((0..1000).collect::<Vec<u32>>());
        let pointer = Pointer::new("/*").unwrap();
        let Some(Found::Many {
            items, left_out, ..
        }) = pointer.find(&many)
        else {
            panic!();
        };
        assert_eq!((items.len(), left_out), (MAX_ITEMS, 1));
        let named = json!({"x\n\u{7}".repeat(500): 1, "y": 2});
        let found = find("/*", &named).unwrap();
        assert_eq!(found[0].0, "x".repeat(MAX_NAME));
    }

    #[test]
    fn text_that_is_no_pointer_is_refused() {
        for (text, why) in [
            ("power", "begin with /"),
            ("/a~b", "~"),
            ("/a~", "~"),
            ("/*/*", "more than one"),
        ] {
            let error = Pointer::new(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
