//! The settings of Raspberry Pi boards.

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::{values, MeterSettings, Switch};

/// `rpi:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct Settings {
    /// Whether the source runs.
    pub enabled: Switch,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "rpi";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        Ok(settings)
    }
}
