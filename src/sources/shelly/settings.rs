//! `shelly:`, whose one plug stands in the section itself (as seed 001 has it), or whose plugs are a list below
//! `devices`, or both.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::diagnose::quoted;
use crate::config::section::{Problem, Section};
use crate::config::{values, MeterSettings, Secret, Switch};

/// Whom Shelly's devices know, unless another name was set on one of the first generation.
const USERNAME: &str = "admin";

/// `shelly:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Whether the plugs are read.
    pub enabled: Switch,
    /// True: the board hangs on the first plug, and what that measures is the board's total.
    /// With `device_type: shelly` it is so in any case.
    pub power_total: bool,
    /// The plugs, each with a name of its own; the one written into the section itself comes first.
    #[serde(rename = "devices")]
    pub plugs: Vec<Plug>,
}

/// One plug: the keys of `shelly:`, or of an item of `shelly.devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plug {
    /// Its address or name, with a port if it is not 80.
    pub host: String,
    /// What it is called in labels; `None` is its host.
    pub name: Option<String>,
    /// Which of its switches is the board's, from 0, where there is a question of that.
    pub switch_id: u32,
    /// Whom to log in as on the first generation; later ones know `admin` alone.
    pub username: String,
    /// The password, if it has one.
    pub password: Option<Secret>,
    /// A file whose first line is the password, if that is not here.
    pub password_file: Option<PathBuf>,
}

impl Plug {
    /// What it is called in labels.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.host)
    }
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "shelly";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        section.set("power_total", values::flag, &mut settings.power_total)?;
        settings.plugs = plug(section)?.into_iter().collect();
        let listed = section.sections("devices", |item| {
        let found = plug(item)?;
        found.ok_or_else(|| {
            let message = "an item of `shelly.devices` has no `host`: write the plug's host name or IP address";
            item.refuse(None, message.into())
        })
    })?;
        for plug in listed {
            if let Some(other) = settings
                .plugs
                .iter()
                .find(|other| other.name() == plug.name())
            {
                let name = quoted(other.name());
                let message = format!(
                "two plugs of `shelly` are called {name}: give them a `name` each, or remove one"
            );
                return Err(section.refuse(Some("devices"), message));
            }
            settings.plugs.push(plug);
        }
        Ok(settings)
    }
    fn warnings(&self, device_type: &str) -> Vec<(&'static str, String)> {
        let mut warnings = Vec::new();
        if device_type == "shelly" && self.plugs.is_empty() {
            let message =
                "`device_type: shelly`: there is no plug: write its address as `host` below `shelly:`";
            warnings.push(("device_type", message.to_owned()));
        }
        let both = |plug: &&Plug| plug.password.is_some() && plug.password_file.is_some();
        for plug in self.plugs.iter().filter(both) {
            let name = quoted(plug.name());
            let message = format!(
                "`password_file` of {name} has no effect, because `password` is there: remove one"
            );
            warnings.push((Self::SECTION, message));
        }
        warnings
    }
}

/// The plug that a section describes; `None` if it has no host.
fn plug(section: &mut Section<'_, '_>) -> Result<Option<Plug>, Problem> {
    let mut host = None;
    let mut plug = Plug {
        host: String::new(),
        name: None,
        switch_id: 0,
        username: USERNAME.to_owned(),
        password: None,
        password_file: None,
    };
    section.option("host", values::host, &mut host)?;
    section.option("name", values::label, &mut plug.name)?;
    section.set("switch_id", values::index, &mut plug.switch_id)?;
    section.set("username", values::label, &mut plug.username)?;
    section.option("password", values::secret, &mut plug.password)?;
    section.option("password_file", values::path, &mut plug.password_file)?;
    Ok(host.map(|host| Plug { host, ..plug }))
}
