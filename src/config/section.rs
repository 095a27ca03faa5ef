//! Taking keys out of a document, section by section.
//!
//! Taking a key is what makes it known. So the list of known keys, which serves "did you mean", the template's test and
//! others, is what was asked for, and can't be another.

use super::diagnose::Diagnostic;
use super::keys::{dotted, unknown, Keys};
use super::tree::Node;
use super::values::{self, Outcome, Refusal};

/// A value that was refused.
#[derive(Debug)]
pub struct Problem {
    path: Vec<String>,
    key: bool,
    message: String,
}

impl Problem {
    /// The key it is about, as the user knows it: `udp.port`.
    pub(crate) fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// What is wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The error, at its place in `text`.
    pub(crate) fn locate(self, text: &str) -> Diagnostic {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if self.key {
            Diagnostic::at_key(text, &path, self.message)
        } else {
            Diagnostic::at_value(text, &path, self.message)
        }
    }
}

/// The keys of a whole file.
pub(crate) fn top(root: &Node) -> Result<&[(String, Node)], Problem> {
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

/// Takes another configuration than the exporter's out of a document: `schema` asks for its keys.
pub(crate) fn read_as<'n>(
    root: &'n Node,
    keys: &mut Keys,
    schema: impl FnOnce(&mut Section<'n, '_>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut section = Section::new(Vec::new(), top(root)?, keys);
    schema(&mut section)?;
    section.finish();
    Ok(())
}

/// One mapping of the file, or one that is not there.
pub struct Section<'n, 'r> {
    /// The steps to it from the top: keys, and numbers of items.
    path: Vec<String>,
    entries: &'n [(String, Node)],
    taken: Vec<&'static str>,
    keys: &'r mut Keys,
}

impl<'n, 'r> Section<'n, 'r> {
    pub(crate) fn new(
        path: Vec<String>,
        entries: &'n [(String, Node)],
        keys: &'r mut Keys,
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
            // The message names the name itself.
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

    /// The value of `key` if it is there, an empty one too.
    pub(crate) fn take_even_empty<T>(
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

    /// Sets `target` if `key` is there with a value. A key with nothing after its colon has its default.
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
        if let Some(value) = self.take_even_empty(key, kind)?.flatten() {
            *target = value;
        }
        Ok(())
    }

    /// As `set`, for what is `None` by default.
    pub(crate) fn option<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&Node) -> Outcome<T>,
        target: &mut Option<T>,
    ) -> Result<(), Problem> {
        self.set(key, |node| kind(node).map(Some), target)
    }

    /// A key of a program that this one follows, which has no effect here: if it is there, it is warned of.
    pub(crate) fn idle(&mut self, key: &'static str, why: &str) {
        self.taken.push(key);
        if self.entries.iter().any(|(name, _)| name == key) {
            let path = self.path(key);
            let message = format!("`{}` has no effect: {why}", dotted(&path));
            self.keys.idle.push((path, message));
        }
    }

    /// A key of a program that this one follows, without which the rest would do something else than is wanted: if it
    /// is there, it is refused.
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

    /// Reads the mapping under `key`. `inside` is called whether or not there is one.
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

    /// Reads the mappings of the list under `key`, or the one mapping that is there. `inside` is called for each, and
    /// for an empty one if there is none, of which nothing but its keys is kept.
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
                let most = values::MAX_ITEMS;
                let message = format!("has {} items: at most {most} are allowed", nodes.len());
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

    /// Whether nobody wrote anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.iter().all(|(_, node)| *node == Node::Null)
    }

    /// Something wrong with the value under `key`, or with the section itself.
    pub(crate) fn refuse(&self, key: Option<&str>, message: String) -> Problem {
        Problem {
            path: key.map_or_else(|| self.path.clone(), |key| self.path(key)),
            key: false,
            message,
        }
    }

    /// Refuses what nobody asked for, where it would otherwise be warned of: nothing else may be in this section.
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

    /// Notes what nobody asked for.
    pub(crate) fn finish(self) {
        for (key, _) in self.entries {
            if !self.taken.contains(&key.as_str()) {
                self.keys.unknown.push(self.path(key));
            }
        }
    }
}
