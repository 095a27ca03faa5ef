//! Where the configuration comes from.

use std::path::{Path, PathBuf};

use crate::config::diagnose::Origin;
use crate::config::load::Loaded;
use crate::config::model::Config;
use crate::config::preset::{Given, Preset};
use crate::sources::SCHEMA;

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum Configuration {
    /// A file; `None`: there is none, and all is as the defaults say.
    File(Option<PathBuf>),
    /// Built in.
    Fixed(Box<Config>),
    /// Built in, with what the user said, and a file over it if there is one.
    Preset(&'static Preset, Given, Option<PathBuf>),
}

impl Configuration {
    /// The file that settings are written to.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Configuration::File(file) | Configuration::Preset(_, _, file) => file.as_deref(),
            Configuration::Fixed(_) => None,
        }
    }

    /// Loads it, and has the log say what there is to say about it.
    pub(super) fn load(&self) -> Result<Loaded, String> {
        let loaded = match self {
            Configuration::Fixed(config) => Loaded::built_in((**config).clone()),
            Configuration::File(None) => {
                log::info!("no configuration file: everything that this board has is exported");
                Loaded::built_in(Config::default())
            }
            Configuration::File(Some(path)) => SCHEMA.load(path).map_err(|e| e.to_string())?,
            Configuration::Preset(preset, given, file) => {
                preset.load(&SCHEMA, given, file.as_deref())?
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
