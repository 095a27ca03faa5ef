//! Presets: built-in configurations that make the exporter behave as another program did.
//!
//! A preset is a configuration file, compiled in, whose name is a subcommand. Its section `preset` says which keys the
//! command line and the environment set; all else is as in any configuration. Arguments count more than the
//! environment, that more than the file named by `--config`, and that more than the preset.

use std::path::Path;

use super::diagnose::Origin;
use super::load::{self, Loaded};
use super::schema::Schema;
use super::settings::{self, merge, Setting};
use super::tree::{self, Node};
use super::{check, read, text_of};

/// Every preset.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "power-exporter",
        text: include_str!("presets/power-exporter.yaml"),
    },
    Preset {
        name: "udp-agent",
        text: include_str!("presets/udp-agent.yaml"),
    },
    Preset {
        name: "pyjoules-simple",
        text: include_str!("presets/pyjoules-simple.yaml"),
    },
    Preset {
        name: "pyjoules-multirate",
        text: include_str!("presets/pyjoules-multirate.yaml"),
    },
    Preset {
        name: "pyjoules-remote-write",
        text: include_str!("presets/pyjoules-remote-write.yaml"),
    },
];

/// A built-in configuration.
#[derive(Debug)]
pub struct Preset {
    /// Its name, which is the subcommand.
    pub name: &'static str,
    text: &'static str,
}

/// What the user said besides.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Arguments without a name, in their order.
    pub arguments: Vec<String>,
    /// Arguments with a name, without its dashes.
    pub flags: Vec<(String, String)>,
    /// Variables of the environment that the preset asks for.
    pub environment: Vec<(String, String)>,
}

/// The section `preset`.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) summary: String,
    pub(crate) usage: String,
    /// The keys that arguments without a name set, in their order.
    pub(crate) arguments: Vec<String>,
    /// The keys that flags set.
    pub(crate) flags: Vec<(String, String)>,
    /// The keys that variables set.
    pub(crate) environment: Vec<(String, String)>,
    /// Keys that must have been set by one of them.
    pub(crate) required: Vec<String>,
    /// What to say if they have not.
    pub(crate) missing: String,
}

impl Preset {
    /// The preset of this name.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// What it does, in a few words, and its arguments.
    pub fn about(&self) -> (String, String) {
        let head = self.parse().map(|(head, _)| head).unwrap_or_default();
        (head.summary, head.usage)
    }

    /// Whether it takes a flag of this name.
    pub fn has_flag(&self, name: &str) -> bool {
        self.parse()
            .is_ok_and(|(head, _)| head.flags.iter().any(|(flag, _)| flag == name))
    }

    /// How many arguments without a name it takes.
    pub fn arguments(&self) -> usize {
        self.parse().map_or(0, |(head, _)| head.arguments.len())
    }

    /// The variables it asks for, as `look` knows them. An empty one is as good as none.
    pub fn environment(&self, look: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
        let head = self.parse().map(|(head, _)| head).unwrap_or_default();
        let variables = head.environment.into_iter();
        variables
            .filter_map(|(name, _)| look(&name).map(|value| (name, value)))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    /// The configuration: the preset, with `file` over it, and what was given over that. The error is for people.
    pub fn load(
        &self,
        schema: &Schema,
        given: &Given,
        file: Option<&Path>,
    ) -> Result<Loaded, String> {
        let (head, mut root) = self.parse()?;
        let mut bytes = Vec::new();
        let mut origin = Origin::Preset(self.name);
        if let Some(path) = file {
            bytes = load::read(path).map_err(|e| e.to_string())?;
            origin = Origin::File(path.to_owned());
        }
        let text = text_of(&bytes).map_err(|e| e.with(&origin).to_string())?;
        if file.is_some() {
            let over = tree::build(text).map_err(|e| e.with(&origin).to_string())?;
            merge(&mut root, over);
        }
        let settings = head.settings(given);
        let is_given = |key: &str| settings.iter().any(|s| s.key == key);
        if let Some(key) = head.required.iter().find(|key| !is_given(key)) {
            return Err(match given.arguments.is_empty() && given.flags.is_empty() {
                true => head.missing,
                false => format!("`{key}` is missing: {} {}", self.name, head.usage),
            });
        }
        settings::apply(&settings, &mut root);
        let reading = read::read(schema, &root)
            .map_err(|problem| settings::explain(problem, &settings, text, &origin))?;
        let (config, warnings) =
            check::check(text, reading).map_err(|e| e.with(&origin).to_string())?;
        Ok(Loaded {
            config,
            warnings,
            origin,
            text: bytes,
        })
    }

    /// Its head and the rest of it.
    pub(crate) fn parse(&self) -> Result<(Head, Node), String> {
        let mut root = tree::build(self.text).map_err(|e| format!("{}: {e}", self.name))?;
        let mut head = Head::default();
        if let Node::Map(entries) = &mut root {
            if let Some(at) = entries.iter().position(|(key, _)| key == "preset") {
                head = Head::read(entries.remove(at).1);
            }
        }
        Ok((head, root))
    }
}

impl Head {
    fn read(node: Node) -> Head {
        let text = |node: Node| match node {
            Node::Text(text) => text,
            _ => String::new(),
        };
        let list = |node: Node| match node {
            Node::List(items) => items.into_iter().map(text).collect(),
            _ => Vec::new(),
        };
        let map = |node: Node| match node {
            Node::Map(entries) => entries.into_iter().map(|(k, v)| (k, text(v))).collect(),
            _ => Vec::new(),
        };
        let mut head = Head::default();
        if let Node::Map(entries) = node {
            for (key, node) in entries {
                match key.as_str() {
                    "summary" => head.summary = text(node),
                    "usage" => head.usage = text(node),
                    "arguments" => head.arguments = list(node),
                    "flags" => head.flags = map(node),
                    "environment" => head.environment = map(node),
                    "required" => head.required = list(node),
                    "missing" => head.missing = text(node),
                    _ => {}
                }
            }
        }
        head
    }

    /// The keys that were given, the weightiest last.
    fn settings(&self, given: &Given) -> Vec<Setting> {
        let named = |dashes: &str, keys: &[(String, String)], values: &[(String, String)]| {
            let mut settings = Vec::new();
            for (name, value) in values {
                if let Some((_, key)) = keys.iter().find(|(known, _)| known == name) {
                    settings.push(Setting {
                        from: format!("{dashes}{name}"),
                        key: key.clone(),
                        value: value.clone(),
                    });
                }
            }
            settings
        };
        let mut settings = named("", &self.environment, &given.environment);
        let arguments = self.arguments.iter().zip(&given.arguments);
        settings.extend(arguments.map(|(key, value)| Setting {
            from: format!("the argument {value}"),
            key: key.clone(),
            value: value.clone(),
        }));
        settings.extend(named("--", &self.flags, &given.flags));
        settings
    }
}
