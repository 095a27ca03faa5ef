//! The section `shelly:`. One plug may stand in the section itself, as in the replaced exporter's configuration; further
//! plugs are a list below `devices`.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::diagnose::quoted;
use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, Secret, Switch};

/// The user name of Shelly devices. Only the first generation allows another.
const USERNAME: &str = "admin";

/// The section `shelly:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Whether the plugs are read.
    pub enabled: Switch,
    /// The first plug feeds the board, so that its power is the board's total. `device_type: shelly` implies this.
    pub power_total: bool,
    /// The plugs, with unique names. A plug in the section itself comes first.
    #[serde(rename = "devices")]
    pub plugs: Vec<Plug>,
}

/// One plug: the keys of `shelly:`, or of an item of `shelly.devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plug {
    /// The address or name, with a port unless it is 80.
    pub host: String,
    /// The name in labels. `None`: the host.
    pub name: Option<String>,
    /// The number of the switch that feeds the board, from 0.
    pub switch_id: u32,
    /// The user name for the first generation. Later generations only have `admin`.
    pub username: String,
    /// The password, if the device has one.
    pub password: Option<Secret>,
    /// A file whose first line is the password. Not used if `password` is set.
    pub password_file: Option<PathBuf>,
}

impl Plug {
    /// The name in labels.
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
        settings.plugs.extend(listed);
        let names = settings.plugs.iter().map(Plug::name);
        section.refuse_same_names("devices", "plugs of `shelly`", names)?;
        Ok(settings)
    }

    fn warnings(&self, common: &Config) -> Vec<(&'static str, String)> {
        let mut warnings = Vec::new();
        if common.device_type == "shelly" && self.plugs.is_empty() {
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

/// The plug that a section describes. `None` if the section has no host.
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
