//! The settings of NVIDIA GPUs.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::{values, MeterSettings, Switch};

/// The section `nvidia:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Whether the meter runs.
    pub enabled: Switch,
    /// The program to run. `None`: `nvidia-smi` on `PATH`.
    pub nvidia_smi: Option<PathBuf>,
    /// Run the program even if that resumes a suspended GPU, or keeps an idle GPU from being suspended.
    pub wake_suspended: bool,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "nvidia";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        section.option("nvidia_smi", values::program, &mut settings.nvidia_smi)?;
        let wake_suspended = &mut settings.wake_suspended;
        section.set("wake_suspended", values::flag, wake_suspended)?;
        Ok(settings)
    }
}
