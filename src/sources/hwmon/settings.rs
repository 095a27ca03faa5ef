//! The settings of chips with a kernel driver.

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::{values, MeterSettings, Switch};

/// `hwmon:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct Settings {
    /// Whether the source runs.
    pub enabled: Switch,
    /// The rails whose sum is the board's total; empty leaves it to the documented rule.
    pub power_total: Vec<String>,
    /// True reads chips even where that resumes a suspended device.
    pub wake_suspended: bool,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "hwmon";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        section.set("power_total", values::rails, &mut settings.power_total)?;
        let wake_suspended = &mut settings.wake_suspended;
        section.set("wake_suspended", values::flag, wake_suspended)?;
        Ok(settings)
    }
}
