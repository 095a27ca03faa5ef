//! Reads keys from a document, one section at a time.
//!
//! Reading a key also registers it as known. The list of known keys, which serves suggestions for misspelt keys and the test
//! of the template, can therefore never differ from what is read.

use super::diagnose::{quoted, Diagnostic};
use super::keys::{dotted, unknown, KeyUsage};
use super::tree::Node;
use super::values::{self, Outcome, Refusal};

/// A key or value that was rejected, and why.
#[derive(Debug)]
pub struct Problem {
    path: Vec<String>,
    key: bool,
    message: String,
}

impl Problem {
    /// The key as the user knows it: `udp.port`.
    pub(crate) fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// The message: what is wrong, and what to write instead.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The error with its position in `text`.
    pub(crate) fn locate(self, text: &str) -> Diagnostic {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if self.key {
            Diagnostic::at_key(text, &path, self.message)
        } else {
            Diagnostic::at_value(text, &path, self.message)
        }
    }
}

/// The top-level entries of a document.
pub(crate) fn root_entries(root: &Node) -> Result<&[(String, Node)], Problem> {
    match root {
        Node::Null => Ok(&[]),
        Node::Map(entries) => Ok(entries),
        _ => Err(Problem {
            path: Vec::new(),
            key: false,
            message: format!(
                "the file is {}: write settings, `key: value`, one a line",
                root.found()
            ),
        }),
    }
}

/// Reads a document other than the exporter's configuration. `schema` reads its keys.
pub(crate) fn read_document<'n>(
    root: &'n Node,
    keys: &mut KeyUsage,
    schema: impl FnOnce(&mut Section<'n, '_>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut section = Section::new(Vec::new(), root_entries(root)?, keys);
    schema(&mut section)?;
    section.finish();
    Ok(())
}

/// One mapping of the document. A mapping that is missing is read as an empty one.
pub struct Section<'n, 'r> {
    /// The path from the root: keys, and indices of list items.
    path: Vec<String>,
    entries: &'n [(String, Node)],
    taken: Vec<&'static str>,
    keys: &'r mut KeyUsage,
}

impl<'n, 'r> Section<'n, 'r> {
    pub(crate) fn new(
        path: Vec<String>,
        entries: &'n [(String, Node)],
        keys: &'r mut KeyUsage,
    ) -> Self {
        Self {
            path,
            entries,
            taken: Vec::new(),
            keys,
        }
    }

    fn path(&self, key: &str) -> Vec<String> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        path
    }

    fn node(&mut self, key: &'static str) -> Option<&'n Node> {
        self.taken.push(key);
        let known = dotted(&self.path(key));
        if !self.keys.known.contains(&known) {
            self.keys.known.push(known);
        }
        let (_, node) = self.entries.iter().find(|(name, _)| name == key)?;
        Some(node)
    }

    fn problem(&self, key: &str, refusal: Refusal) -> Problem {
        let mut path = self.path(key);
        let dotted = dotted(&path);
        let is_item = |step: &String| step.parse::<usize>().is_ok();
        let subject = match refusal.below.as_slice() {
            // The message contains the rejected key.
            [_] if refusal.key => format!("`{dotted}`"),
            [item] if is_item(item) => format!("an item of `{dotted}`"),
            [item, inner, ..] if is_item(item) => format!("`{inner}` of an item of `{dotted}`"),
            [name, ..] => format!("`{dotted}.{name}`"),
            [] => format!("`{dotted}`"),
        };
        path.extend(refusal.below);
        Problem {
            path,
            key: refusal.key,
            message: format!("{subject} {}", refusal.message),
        }
    }

    /// Returns the value of `key` if the key is there, even with an empty value.
    pub(crate) fn get_even_if_empty<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&Node) -> Outcome<T>,
    ) -> Result<Option<T>, Problem> {
        match self.node(key) {
            None => Ok(None),
            Some(node) => match kind(node) {
                Ok(value) => Ok(Some(value)),
                Err(refusal) => Err(self.problem(key, refusal)),
            },
        }
    }

    /// Sets `target` if `key` has a value. With nothing after its colon, the key keeps its default.
    pub(crate) fn set<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&Node) -> Outcome<T>,
        target: &mut T,
    ) -> Result<(), Problem> {
        let kind = |node: &Node| match node {
            Node::Null => Ok(None),
            node => kind(node).map(Some),
        };
        if let Some(value) = self.get_even_if_empty(key, kind)?.flatten() {
            *target = value;
        }
        Ok(())
    }

    /// Like `set`, for a field that is `None` by default.
    pub(crate) fn option<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&Node) -> Outcome<T>,
        target: &mut Option<T>,
    ) -> Result<(), Problem> {
        self.set(key, |node| kind(node).map(Some), target)
    }

    /// Accepts a key of Prometheus or another program that has no effect here. Its presence is reported as a warning.
    pub(crate) fn ignored(&mut self, key: &'static str, why: &str) {
        self.taken.push(key);
        if self.entries.iter().any(|(name, _)| name == key) {
            let path = self.path(key);
            let message = format!("`{}` has no effect: {why}", dotted(&path));
            self.keys.ignored.push((path, message));
        }
    }

    /// Rejects a key of Prometheus or another program that is not supported here, where ignoring the key would do something
    /// other than the user wants.
    pub(crate) fn unsupported(&mut self, key: &'static str, instead: &str) -> Result<(), Problem> {
        if !self.entries.iter().any(|(name, _)| name == key) {
            return Ok(());
        }
        let path = self.path(key);
        Err(Problem {
            message: format!("`{}` is not supported: {instead}", dotted(&path)),
            path,
            key: true,
        })
    }

    /// Reads the mapping below `key`. `inside` is called even if the mapping is missing, so that its keys become known.
    pub(crate) fn section(
        &mut self,
        key: &'static str,
        inside: impl FnOnce(&mut Section<'n, '_>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let entries: &[(String, Node)] = match self.node(key) {
            None | Some(Node::Null) => &[],
            Some(Node::Map(entries)) => entries,
            Some(node) => {
                return Err(Problem {
                    path: self.path(key),
                    key: false,
                    message: format!(
                    "`{}` is {}: write its settings below it, indented, `key: value`, one a line",
                    dotted(&self.path(key)),
                    node.found()
                ),
                })
            }
        };
        let mut section = Section::new(self.path(key), entries, self.keys);
        inside(&mut section)?;
        section.finish();
        Ok(())
    }

    /// Reads each mapping of the list below `key`; a single mapping counts as a list of one. If there is none, `inside` is
    /// called with an empty mapping, so that its keys become known, and the result is discarded.
    pub(crate) fn sections<T>(
        &mut self,
        key: &'static str,
        inside: impl Fn(&mut Section<'n, '_>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let path = self.path(key);
        let refused = |path: Vec<String>, message: String| Problem {
            message: format!("`{}` {message}", dotted(&path)),
            path,
            key: false,
        };
        let items: Vec<(Vec<String>, &'n Node)> = match self.node(key) {
            None | Some(Node::Null) => Vec::new(),
            Some(node @ Node::Map(_)) => vec![(path, node)],
            Some(Node::List(nodes)) if nodes.len() <= values::MAX_ITEMS => {
                let item = |(i, node)| ([path.as_slice(), &[usize::to_string(&i)]].concat(), node);
                nodes.iter().enumerate().map(item).collect()
            }
            Some(Node::List(nodes)) => {
                let max = values::MAX_ITEMS;
                let message = format!("has {} items: at most {max} are allowed", nodes.len());
                return Err(refused(path, message));
            }
            Some(node) => {
                let message = format!(
                    "is {}: write a list of mappings, `- key: value`",
                    node.found()
                );
                return Err(refused(path, message));
            }
        };
        if items.is_empty() {
            let _ = inside(&mut Section::new(self.path(key), &[], self.keys));
        }
        items
            .into_iter()
            .map(|(path, node)| {
                let Node::Map(entries) = node else {
                    let message =
                        format!("has an item that is {}: write `- key: value`", node.found());
                    return Err(Problem {
                        key: false,
                        message: format!("`{}` {message}", dotted(&path)),
                        path,
                    });
                };
                let mut section = Section::new(path, entries, self.keys);
                let read = inside(&mut section)?;
                section.finish();
                Ok(read)
            })
            .collect()
    }

    /// Whether the section has no values.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.iter().all(|(_, node)| *node == Node::Null)
    }

    /// An error about the value of `key`, or about the section as a whole.
    pub(crate) fn refuse(&self, key: Option<&str>, message: String) -> Problem {
        Problem {
            path: key.map_or_else(|| self.path.clone(), |key| self.path(key)),
            key: false,
            message,
        }
    }

    /// An error if two of these names, of `what` in the list `key`, are the same.
    pub(crate) fn refuse_same_names<'s>(
        &self,
        key: &str,
        what: &str,
        names: impl Iterator<Item = &'s str>,
    ) -> Result<(), Problem> {
        let mut known: Vec<&str> = Vec::new();
        for name in names {
            if known.contains(&name) {
                let name = quoted(name);
                let message =
                    format!("two {what} are called {name}: give them a `name` each, or remove one");
                return Err(self.refuse(Some(key), message));
            }
            known.push(name);
        }
        Ok(())
    }

    /// Rejects unknown keys, which otherwise only cause a warning. To be called after all known keys were read.
    pub(crate) fn refuse_others(&self) -> Result<(), Problem> {
        let mut keys = self.entries.iter().map(|(key, _)| key.as_str());
        let Some(key) = keys.find(|key| !self.taken.contains(key)) else {
            return Ok(());
        };
        let path = self.path(key);
        Err(Problem {
            message: unknown(&path, &self.keys.known).replace(": it has no effect", ""),
            path,
            key: true,
        })
    }

    /// Records the keys that were not read as unknown.
    pub(crate) fn finish(self) {
        for (key, _) in self.entries {
            if !self.taken.contains(&key.as_str()) {
                self.keys.unknown.push(self.path(key));
            }
        }
    }
}
