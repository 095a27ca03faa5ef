//! The settings of batteries, chargers and PMICs.

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::{values, MeterSettings, Switch};

/// `power_supply:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct Settings {
    /// Whether the source runs.
    pub enabled: Switch,
    /// The rails whose sum is the board's total; empty leaves it to the documented rule.
    pub power_total: Vec<String>,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "power_supply";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        section.set("power_total", values::rails, &mut settings.power_total)?;
        Ok(settings)
    }
}
