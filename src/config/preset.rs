//! Presets: built-in configurations that make the exporter behave as another program did.
//!
//! A preset is a configuration file that is compiled in, and whose name is a subcommand. Its section `preset` lists the
//! keys that the command line and the environment set. Precedence, highest first: the command line, the environment, the
//! file named by `--config`, the preset.

use std::path::Path;

use super::diagnose::Origin;
use super::load::{self, Loaded};
use super::overrides::{self, merge, KeyOverride};
use super::schema::Schema;
use super::tree::{self, Node};
use super::{check, read, text_of};

/// All presets.
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
    Preset {
        name: "kepler",
        text: include_str!("presets/kepler.yaml"),
    },
    Preset {
        name: "scaphandre",
        text: include_str!("presets/scaphandre.yaml"),
    },
];

/// A built-in configuration.
#[derive(Debug)]
pub struct Preset {
    /// The name, which is also the subcommand.
    pub name: &'static str,
    text: &'static str,
}

/// Values from the command line and the environment that override the configuration.
#[derive(Debug, Clone, Default)]
pub struct CliOverrides {
    /// Positional arguments.
    pub arguments: Vec<String>,
    /// Flags and their values; names without dashes.
    pub flags: Vec<(String, String)>,
    /// Environment variables that the preset reads.
    pub environment: Vec<(String, String)>,
}

/// The section `preset` of a preset.
#[derive(Debug, Default)]
pub(crate) struct PresetSection {
    pub(crate) usage: String,
    /// The keys set by positional arguments, in order.
    pub(crate) arguments: Vec<String>,
    /// Flags and the keys that they set.
    pub(crate) flags: Vec<(String, String)>,
    /// Environment variables and the keys that they set.
    pub(crate) environment: Vec<(String, String)>,
    /// Keys that the command line or the environment has to set.
    pub(crate) required: Vec<String>,
    /// The error message if a required key is not set.
    pub(crate) missing: String,
}

impl Preset {
    /// The preset of this name.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Whether the preset has a flag of this name.
    pub fn has_flag(&self, name: &str) -> bool {
        self.parse()
            .is_ok_and(|(section, _)| section.flags.iter().any(|(flag, _)| flag == name))
    }

    /// The number of positional arguments.
    pub fn arguments(&self) -> usize {
        self.parse()
            .map_or(0, |(section, _)| section.arguments.len())
    }

    /// The environment variables that the preset reads, looked up by `look`. An empty variable counts as unset.
    pub fn environment(&self, look: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
        let section = self.parse().map(|(section, _)| section).unwrap_or_default();
        let variables = section.environment.into_iter();
        variables
            .filter_map(|(name, _)| look(&name).map(|value| (name, value)))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    /// Loads the preset, overridden by `file` and then by `overrides`. The error is a message for the user.
    pub fn load(
        &self,
        schema: &Schema,
        overrides: &CliOverrides,
        file: Option<&Path>,
    ) -> Result<Loaded, String> {
        let (section, mut root) = self.parse()?;
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
        let settings = section.settings(overrides);
        let is_set = |key: &str| settings.iter().any(|s| s.key == key);
        if let Some(key) = section.required.iter().find(|key| !is_set(key)) {
            return Err(
                match overrides.arguments.is_empty() && overrides.flags.is_empty() {
                    true => section.missing,
                    false => format!("`{key}` is missing: {} {}", self.name, section.usage),
                },
            );
        }
        overrides::apply(&settings, &mut root);
        let unchecked = read::read(schema, &root)
            .map_err(|problem| overrides::explain(problem, &settings, text, &origin))?;
        let (config, warnings) =
            check::check(text, unchecked).map_err(|e| e.with(&origin).to_string())?;
        Ok(Loaded {
            config,
            warnings,
            origin,
            text: bytes,
        })
    }

    /// The section `preset`, and the configuration without it.
    pub(crate) fn parse(&self) -> Result<(PresetSection, Node), String> {
        let mut root = tree::build(self.text).map_err(|e| format!("{}: {e}", self.name))?;
        let mut section = PresetSection::default();
        if let Node::Map(entries) = &mut root {
            if let Some(at) = entries.iter().position(|(key, _)| key == "preset") {
                section = PresetSection::read(entries.remove(at).1);
            }
        }
        Ok((section, root))
    }
}

impl PresetSection {
    fn read(node: Node) -> PresetSection {
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
        let mut section = PresetSection::default();
        if let Node::Map(entries) = node {
            for (key, node) in entries {
                match key.as_str() {
                    "usage" => section.usage = text(node),
                    "arguments" => section.arguments = list(node),
                    "flags" => section.flags = map(node),
                    "environment" => section.environment = map(node),
                    "required" => section.required = list(node),
                    "missing" => section.missing = text(node),
                    _ => {}
                }
            }
        }
        section
    }

    /// The keys set by overrides, in order of increasing precedence.
    fn settings(&self, overrides: &CliOverrides) -> Vec<KeyOverride> {
        let named = |dashes: &str, keys: &[(String, String)], values: &[(String, String)]| {
            let mut settings = Vec::new();
            for (name, value) in values {
                if let Some((_, key)) = keys.iter().find(|(known, _)| known == name) {
                    settings.push(KeyOverride {
                        from: format!("{dashes}{name}"),
                        key: key.clone(),
                        value: value.clone(),
                    });
                }
            }
            settings
        };
        let mut settings = named("", &self.environment, &overrides.environment);
        let arguments = self.arguments.iter().zip(&overrides.arguments);
        settings.extend(arguments.map(|(key, value)| KeyOverride {
            from: format!("the argument {value}"),
            key: key.clone(),
            value: value.clone(),
        }));
        settings.extend(named("--", &self.flags, &overrides.flags));
        settings
    }
}
