//! Parses YAML text into a tree of limited depth and size. Rejects what serde_yaml accepts silently: duplicate keys (the last
//! one wins there), merge keys (ordinary keys there), and deep nesting (nested `[` take quadratic time there).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde::Deserializer as _;

use super::diagnose::{not_yaml, quoted, Diagnostic};
use super::MAX_SIZE;

/// The maximum nesting depth.
const MAX_DEPTH: usize = 16;
/// The maximum number of opening brackets. They are counted before parsing, therefore including those in comments and
/// text.
const MAX_BRACKETS: usize = 1000;
/// The maximum number of keys and values. Aliases count each time they are used.
const MAX_NODES: usize = 20_000;
/// The maximum size of all text in the tree, in bytes. A file without aliases cannot exceed it (an escape turns 2 bytes into
/// at most 3).
const MAX_TEXT: usize = MAX_SIZE * 3 / 2;

/// One value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// No value, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, decimal, 0x, 0o or 0b.
    Int(i128),
    /// Any other number, `.inf` and `.nan` included.
    Float(f64),
    /// Text, quoted or not.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys with values, in their order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value as shown in errors: `the text "yes"`, `70000`, `a list`.
    pub(crate) fn found(&self) -> String {
        match self {
            Self::Null => "empty".into(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) if value.is_nan() => ".nan".into(),
            Self::Float(value) if value.is_infinite() => "infinite".into(),
            Self::Float(value) => format!("{value:?}"),
            Self::Text(text) => format!("the text {}", quoted(text)),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
        }
    }
}

/// Parses one YAML document.
pub(crate) fn build(text: &str) -> Result<Node, Diagnostic> {
    if text.len() > MAX_SIZE {
        return Err(Diagnostic::new(format!(
            "the configuration is larger than {MAX_SIZE} bytes: it is not read"
        )));
    }
    let brackets = text.bytes().filter(|b| matches!(b, b'[' | b'{')).count();
    if brackets > MAX_BRACKETS {
        return Err(Diagnostic::new(format!(
            "more than {MAX_BRACKETS} brackets `[` and `{{`: it is not read"
        )));
    }
    if let Some(error) = not_yaml(text) {
        return Err(error);
    }
    // The parser reads the whole document before it returns any of it, and takes some 300 bytes for each value.
    let pairs = text.as_bytes().windows(2);
    let marks = pairs.filter(|pair| match pair {
        [b'-' | b'?' | b':', next] => next.is_ascii_whitespace(),
        [first, _] => *first == b',',
        _ => false,
    });
    if marks.count() > MAX_NODES {
        return Err(Diagnostic::new(format!(
            "more than {MAX_NODES} values: it is not read"
        )));
    }
    let budget = Budget::new();
    let seed = NodeSeed {
        depth: 0,
        budget: &budget,
    };
    serde_yaml::Deserializer::from_str(text)
        .deserialize_any(seed)
        .map_err(|error| explain(text, &error))
}

/// Parses JSON into the same tree, with the same limits.
pub(crate) fn build_json(bytes: &[u8]) -> Result<Node, Diagnostic> {
    if bytes.len() > MAX_SIZE {
        return Err(Diagnostic::new(format!(
            "the configuration is larger than {MAX_SIZE} bytes: it is not read"
        )));
    }
    let budget = Budget::new();
    let seed = NodeSeed {
        depth: 0,
        budget: &budget,
    };
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let root = seed.deserialize(&mut parser);
    root.and_then(|root| parser.end().map(|()| root))
        .map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let words = error.to_string();
            let words = words.replacen(&format!(" at line {line} column {column}"), "", 1);
            Diagnostic::at(line, column, one_line(&words))
        })
}

/// The remaining budget of one document.
struct Budget {
    nodes: Cell<usize>,
    text: Cell<usize>,
}

impl Budget {
    fn new() -> Budget {
        Budget {
            nodes: Cell::new(MAX_NODES),
            text: Cell::new(MAX_TEXT),
        }
    }

    fn spend<E: de::Error>(&self, text: usize) -> Result<(), E> {
        match (
            self.nodes.get().checked_sub(1),
            self.text.get().checked_sub(text),
        ) {
            (Some(nodes), Some(text)) => {
                self.nodes.set(nodes);
                self.text.set(text);
                Ok(())
            }
            _ => Err(E::custom(format!(
                "more than {MAX_NODES} values or {MAX_TEXT} bytes of them, aliases (`*name`) counted each time"
            ))),
        }
    }
}

/// Builds one node and those below it.
#[derive(Clone, Copy)]
struct NodeSeed<'b> {
    depth: usize,
    budget: &'b Budget,
}

impl NodeSeed<'_> {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn leaf<E: de::Error>(self, node: Node) -> Result<Node, E> {
        self.budget.spend(0)?;
        Ok(node)
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        self.leaf(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        self.leaf(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        self.leaf(Node::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        self.leaf(Node::Int(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        self.leaf(Node::Int(value.into()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        self.leaf(Node::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        self.leaf(Node::Int(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        self.leaf(Node::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        self.budget.spend(value.len())?;
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        self.budget.spend(0)?;
        let below = self.below()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        self.budget.spend(0)?;
        let below = self.below()?;
        let mut entries = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some(key) = access.next_key_seed(Key {
            seen: &mut seen,
            budget: self.budget,
        })? {
            entries.push((key, access.next_value_seed(below)?));
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(de::Error::custom("YAML tags (`!name`) are not understood"))
    }
}

/// Reads one key of a mapping. The error is raised here, and not later, because serde_yaml gives an error the position of
/// what is being read at that moment.
struct Key<'s, 'b> {
    seen: &'s mut BTreeSet<String>,
    budget: &'b Budget,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = String;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name as the key (in quotes, if it looks like something else)")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        self.budget.spend(key.len())?;
        if key == "<<" {
            return Err(E::custom("merge keys (`<<`) are not understood"));
        }
        if !self.seen.insert(key.to_owned()) {
            return Err(E::custom(format!(
                "{} stands here a second time: remove one of the two",
                quoted(key)
            )));
        }
        Ok(key.to_owned())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(de::Error::custom("YAML tags (`!name`) are not understood"))
    }
}

/// Converts an error of serde_yaml: separates the position from the message, and replaces misleading messages.
fn explain(text: &str, error: &serde_yaml::Error) -> Diagnostic {
    let words = error.to_string();
    if words.contains("more than one document") {
        let message = "this is in a second document, after `---`: only one is read";
        return match second_document(text) {
            Some(location) => Diagnostic::at(location.line(), location.column(), message.into()),
            None => Diagnostic::new(message.into()),
        };
    }
    let Some(location) = error.location() else {
        return Diagnostic::new(words);
    };
    let (line, column) = (location.line(), location.column());
    let words = words.replacen(&format!(" at line {line} column {column}"), "", 1);
    let indented_by_tab = text
        .lines()
        .nth(line.saturating_sub(1))
        .is_some_and(|line| {
            line.chars()
                .take_while(|c| c.is_whitespace())
                .any(|c| c == '\t')
        });
    if indented_by_tab {
        let message = "a tab in the indentation: YAML wants spaces";
        return Diagnostic::at(line, column, message.into());
    }
    let hint = if words.contains("mapping values are not allowed") {
        ": is a space missing after a `:`, or quotes around a text with `: ` in it?"
    } else {
        ""
    };
    Diagnostic::at(line, column, one_line(&words) + hint)
}

/// serde_yaml puts the path of keys before its words as the user wrote it, of any length and with any characters.
fn one_line(words: &str) -> String {
    const SHOWN: usize = 200;
    let escaped: String = words
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    match escaped.char_indices().rev().nth(SHOWN) {
        Some((at, _)) => format!("…{}", escaped.get(at..).unwrap_or_default()),
        None => escaped,
    }
}

/// Where the second document's content begins.
fn second_document(text: &str) -> Option<serde_yaml::Location> {
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    second.deserialize_any(super::lines::Stop).err()?.location()
}
