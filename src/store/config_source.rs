//! The source of the local configuration.

use std::path::{Path, PathBuf};

use crate::config::diagnose::Origin;
use crate::config::load::Loaded;
use crate::config::model::Config;
use crate::config::preset::{CliOverrides, Preset};
use crate::sources::SCHEMA;

/// The source of the local configuration.
#[derive(Debug, Clone)]
pub enum ConfigSource {
    /// A file; `None` means the defaults.
    File(Option<PathBuf>),
    /// A fixed configuration, which is not saved.
    BuiltIn(Box<Config>),
    /// A preset, overridden by the file, if any, and by the command line and the environment.
    Preset(&'static Preset, CliOverrides, Option<PathBuf>),
}

impl ConfigSource {
    /// The file that settings are saved to.
    pub fn file(&self) -> Option<&Path> {
        match self {
            ConfigSource::File(file) | ConfigSource::Preset(_, _, file) => file.as_deref(),
            ConfigSource::BuiltIn(_) => None,
        }
    }

    /// Loads the configuration and logs its warnings.
    pub(super) fn load(&self) -> Result<Loaded, String> {
        let loaded = match self {
            ConfigSource::BuiltIn(config) => Loaded::built_in((**config).clone()),
            ConfigSource::File(None) => {
                log::info!("no configuration file: all metrics of this board are exported");
                Loaded::built_in(Config::default())
            }
            ConfigSource::File(Some(path)) => SCHEMA.load(path).map_err(|e| e.to_string())?,
            ConfigSource::Preset(preset, overrides, file) => {
                preset.load(&SCHEMA, overrides, file.as_deref())?
            }
        };
        for warning in &loaded.warnings {
            log::warn!("{}", warning.with(&loaded.origin));
        }
        if loaded.origin != Origin::Defaults {
            log::info!("configuration: {}", loaded.origin);
        }
        Ok(loaded)
    }
}
