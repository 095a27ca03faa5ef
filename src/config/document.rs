//! A configuration as a document: keys and values without their meaning. Documents are exchanged between boards and the
//! central server as JSON, and stored in files as YAML.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::check;
use super::diagnose::Diagnostic;
use super::model::Config;
use super::read;
use super::schema::Schema;
use super::section::Problem;
use super::tree::{self, Node};
use super::{text_of, MAX_SIZE};

/// Keys with values, in order. Parsing has the same limits as for a configuration file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    entries: Vec<(String, Node)>,
}

/// Why a document is not a valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The rejected key, dotted: `udp.port`, `shelly.devices.0.host`. `None` if no single key is wrong.
    pub key: Option<String>,
    /// Line, from 1, if the document was parsed from text.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl From<Diagnostic> for Rejection {
    fn from(diagnostic: Diagnostic) -> Rejection {
        Rejection {
            key: None,
            line: diagnostic.line,
            column: diagnostic.column,
            message: diagnostic.message,
        }
    }
}

impl From<String> for Rejection {
    fn from(message: String) -> Rejection {
        Rejection {
            key: None,
            line: None,
            column: None,
            message,
        }
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Rejection {
        Rejection {
            key: Some(problem.dotted()).filter(|key| !key.is_empty()),
            line: None,
            column: None,
            message: problem.message().to_string(),
        }
    }
}

/// What a document says of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Nothing.
    Nothing,
    /// That the setting has its default, by `null`.
    Null,
    /// A value.
    Value,
}

impl Document {
    /// Parses YAML. The keys are not validated.
    pub fn from_yaml(bytes: &[u8]) -> Result<Document, Diagnostic> {
        Document::from_root(tree::build(text_of(bytes)?)?)
    }

    /// Parses JSON (RFC 8259) with the same limits on size and depth, and without duplicate keys.
    pub fn from_json(bytes: &[u8]) -> Result<Document, Diagnostic> {
        Document::from_root(tree::build_json(bytes)?)
    }

    fn from_root(root: Node) -> Result<Document, Diagnostic> {
        match root {
            Node::Null => Ok(Document::default()),
            Node::Map(entries) => Ok(Document { entries }),
            other => Err(Diagnostic::new(format!(
                "the configuration is {}: settings are wanted, keys with values",
                other.found()
            ))),
        }
    }

    /// A document with these entries.
    pub(crate) fn of(entries: Vec<(String, Node)>) -> Document {
        Document { entries }
    }

    /// The document as the root of a tree.
    pub(crate) fn root(&self) -> Node {
        Node::Map(self.entries.clone())
    }

    /// What is below a top-level key, if that is a mapping.
    pub fn below(&self, key: &str) -> Option<Document> {
        match self.get(key)? {
            Node::Map(entries) => Some(Document::of(entries.clone())),
            _ => None,
        }
    }

    /// Whether the document has no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What this document says of a setting, by the path of the setting.
    pub fn says(&self, path: &[&str]) -> Says {
        let mut entries = &self.entries;
        for step in path {
            match entries.iter().find(|(name, _)| name == step) {
                None => return Says::Nothing,
                Some((_, Node::Null)) => return Says::Null,
                Some((_, Node::Map(inner))) => entries = inner,
                // The value of an outer key replaces all that is below it.
                Some(_) => return Says::Value,
            }
        }
        Says::Value
    }

    /// Validates the document as a configuration file is, and returns the configuration with its warnings.
    pub fn read(&self, schema: &Schema) -> Result<(Config, Vec<Diagnostic>), Rejection> {
        let unchecked = read::read(schema, &self.root())?;
        // There is no text to report positions in.
        check::check("", unchecked).map_err(Rejection::from)
    }

    /// Like `read`, but from YAML text, so that errors have a position.
    pub fn read_yaml(schema: &Schema, text: &[u8]) -> Result<(Config, Vec<Diagnostic>), Rejection> {
        schema.parse_bytes(text).map_err(Rejection::from)
    }

    /// Writes the document as YAML text that parses to the same document. An error if that is not possible, or if the text
    /// would be too large for a configuration.
    pub fn to_yaml(&self) -> Result<String, Diagnostic> {
        let text = serde_yaml::to_string(self)
            .map_err(|e| Diagnostic::new(format!("cannot be written as YAML: {e}")))?;
        if text.len() > MAX_SIZE {
            return Err(Diagnostic::new(format!(
                "the configuration takes {} bytes as YAML: at most {MAX_SIZE} are read",
                text.len()
            )));
        }
        match Document::from_yaml(text.as_bytes()) {
            Ok(again) if again == *self => Ok(text),
            Ok(_) => Err(Diagnostic::new(
                "the configuration has a value that YAML cannot hold".into(),
            )),
            Err(error) => Err(error),
        }
    }

    /// Whether a top-level key has a value.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|node| *node != Node::Null)
    }

    /// Whether there is a top-level key, with a value or without.
    pub fn has_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value of a top-level key, if it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    fn get(&self, key: &str) -> Option<&Node> {
        let (_, node) = self.entries.iter().find(|(name, _)| name == key)?;
        Some(node)
    }

    /// Copies a top-level key of another document, if that has it and this one does not.
    pub fn keep(&mut self, key: &str, other: &Document) {
        if let (None, Some(node)) = (self.get(key), other.get(key)) {
            self.entries.push((key.to_owned(), node.clone()));
        }
    }

    /// Sets a top-level key to a text: in place if the key exists, else as the first entry.
    pub fn set_text(&mut self, key: &str, text: &str) {
        let node = Node::Text(text.to_owned());
        match self.entries.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = node,
            None => self.entries.insert(0, (key.to_owned(), node)),
        }
    }

    /// Removes a top-level key. Returns whether it existed.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(name, _)| name != key);
        self.entries.len() < before
    }

    /// Removes the top-level keys, apart from these, whose values are the defaults. `null` stays, and so does what is no setting. A
    /// document that is not valid stays as it is.
    pub fn remove_defaults(&mut self, schema: &Schema, kept: &[&str]) {
        let Ok((config, warnings)) = self.read(schema) else {
            return;
        };
        let names: Vec<String> = self.entries.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            if !self.has(&name) || kept.contains(&name.as_str()) {
                continue;
            }
            let mut shorter = self.clone();
            shorter.remove(&name);
            match shorter.read(schema) {
                Ok((same, left)) if same == config && left.len() == warnings.len() => {
                    *self = shorter;
                }
                _ => {}
            }
        }
    }

    /// Replaces `metrics`, and `enabled_metrics`, its old form.
    pub fn set_metrics(&mut self, metrics: &BTreeMap<String, bool>) {
        self.remove("enabled_metrics");
        let node = Node::Map(
            metrics
                .iter()
                .map(|(name, on)| (name.clone(), Node::Bool(*on)))
                .collect(),
        );
        match self.entries.iter_mut().find(|(name, _)| name == "metrics") {
            Some((_, old)) => *old = node,
            None => self.entries.push(("metrics".to_owned(), node)),
        }
    }

    /// Whether the document contains a password or another secret.
    pub fn has_secret(&self) -> bool {
        const SECRETS: [&str; 4] = ["password", "credentials", "headers", "proxy_url"];
        fn within(entries: &[(String, Node)]) -> bool {
            entries.iter().any(|(key, node)| {
                (SECRETS.contains(&key.as_str()) && *node != Node::Null) || below(node)
            })
        }
        fn below(node: &Node) -> bool {
            match node {
                Node::Map(entries) => within(entries),
                Node::List(items) => items.iter().any(below),
                _ => false,
            }
        }
        within(&self.entries)
    }

    /// Applies a JSON Merge Patch (RFC 7396): mappings are merged by key, and `null` removes a key.
    pub fn merge(&mut self, patch: &Document) {
        merge(&mut self.entries, &patch.entries);
    }

    /// The document that makes this one when it is merged into `base`. What `base` has already is left out, unless `kept` has
    /// that key.
    pub fn beyond(&self, base: &Document, kept: &Document) -> Document {
        Document::of(beyond(&self.entries, &base.entries, &kept.entries))
    }

    /// The document without what `base` has already.
    pub fn without(&self, base: &Document) -> Document {
        Document::of(without(&self.entries, &base.entries))
    }
}

/// The depth of the recursion is limited because the depth of a document is.
fn merge(into: &mut Vec<(String, Node)>, patch: &[(String, Node)]) {
    // There may be thousands of keys.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (at, (name, _)) in into.iter().enumerate() {
        places.entry(name.clone()).or_insert(at);
    }
    let mut removed = BTreeSet::new();
    for (key, new) in patch {
        let place = places.get(key).copied();
        let old = place.and_then(|at| into.get_mut(at)).map(|(_, old)| old);
        match (new, old) {
            (Node::Null, Some(_)) => {
                places.remove(key);
                removed.extend(place);
            }
            (Node::Null, None) => {}
            (Node::Map(inner), Some(old)) => {
                let mut merged = match std::mem::replace(old, Node::Null) {
                    Node::Map(entries) => entries,
                    _ => Vec::new(),
                };
                merge(&mut merged, inner);
                *old = Node::Map(merged);
            }
            (new, Some(old)) => *old = new.clone(),
            (new, None) => {
                let new = match new {
                    Node::Map(inner) => {
                        let mut merged = Vec::new();
                        merge(&mut merged, inner);
                        Node::Map(merged)
                    }
                    other => other.clone(),
                };
                places.insert(key.clone(), into.len());
                into.push((key.clone(), new));
            }
        }
    }
    if !removed.is_empty() {
        let mut at = 0..;
        into.retain(|_| at.next().is_some_and(|at| !removed.contains(&at)));
    }
}

/// See [`Document::without`].
fn without(target: &[(String, Node)], base: &[(String, Node)]) -> Vec<(String, Node)> {
    let of_base = |name: &String| {
        let found = base.iter().find(|(known, _)| known == name);
        found.map(|(_, node)| node)
    };
    let left = target.iter().filter_map(|(name, node)| {
        let left = match (node, of_base(name)) {
            (node, Some(known)) if node == known => return None,
            (Node::Map(inner), Some(Node::Map(known))) => match without(inner, known) {
                left if left.is_empty() => return None,
                left => Node::Map(left),
            },
            (node, _) => node.clone(),
        };
        Some((name.clone(), left))
    });
    left.collect()
}

/// See [`Document::beyond`].
fn beyond(
    target: &[(String, Node)],
    base: &[(String, Node)],
    kept: &[(String, Node)],
) -> Vec<(String, Node)> {
    fn by_name(entries: &[(String, Node)]) -> BTreeMap<&str, &Node> {
        entries.iter().map(|(name, node)| (&**name, node)).collect()
    }
    let (wanted, base, kept) = (by_name(target), by_name(base), by_name(kept));
    let mut found = Vec::new();
    for (key, value) in target {
        let is_kept = kept.contains_key(&**key);
        match (value, base.get(&**key)) {
            (Node::Map(inner), Some(Node::Map(base))) => {
                let kept = match kept.get(&**key) {
                    Some(Node::Map(kept)) => kept.as_slice(),
                    _ => &[],
                };
                let inner = beyond(inner, base, kept);
                if is_kept || !inner.is_empty() {
                    found.push((key.clone(), Node::Map(inner)));
                }
            }
            (value, Some(base)) if value == *base && !is_kept => {}
            (value, _) => found.push((key.clone(), value.clone())),
        }
    }
    let gone = base.keys().filter(|key| !wanted.contains_key(**key));
    found.extend(gone.map(|key| (String::from(*key), Node::Null)));
    found
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_map(&self.entries, serializer)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Null => serializer.serialize_unit(),
            Node::Bool(value) => serializer.serialize_bool(*value),
            Node::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => serializer.serialize_i64(value),
                (_, Ok(value)) => serializer.serialize_u64(value),
                _ => serializer.serialize_i128(*value),
            },
            Node::Float(value) => serializer.serialize_f64(*value),
            Node::Text(text) => serializer.serialize_str(text),
            Node::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Node::Map(entries) => serialize_map(entries, serializer),
        }
    }
}

fn serialize_map<S: Serializer>(
    entries: &[(String, Node)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (key, value) in entries {
        map.serialize_entry(key, value)?;
    }
    map.end()
}
