//! The section `tapo:`, the login of an account and a list of its plugs.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, Secret, Switch};
use crate::sources::kasa::settings::{plug, Plug};

/// `tapo:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Whether the plugs are read.
    pub enabled: Switch,
    /// The login of the account that the plugs belong to.
    #[serde(flatten)]
    pub login: Login,
    /// The plugs and strips, with different names.
    pub devices: Vec<Plug>,
}

/// The login of an account of TP-Link's app.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Login {
    /// The account's e-mail address. `None`: the plugs belong to no account.
    pub username: Option<String>,
    /// The account's password.
    pub password: Option<Secret>,
    /// A file whose first line is the password. Not used if `password` is set.
    pub password_file: Option<PathBuf>,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "tapo";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        let login = &mut settings.login;
        section.option("username", values::label, &mut login.username)?;
        section.option("password", values::secret, &mut login.password)?;
        section.option("password_file", values::path, &mut login.password_file)?;
        let has_password = login.password.is_some() || login.password_file.is_some();
        if has_password && login.username.is_none() {
            let message = "`tapo` has a password, but no `username`: write the e-mail address of the app's account";
            return Err(section.refuse(None, message.into()));
        }
        settings.devices = section.sections("devices", |item| plug(item, Self::SECTION))?;
        let names = settings.devices.iter().map(Plug::name);
        section.refuse_same_names("devices", "devices of `tapo`", names)?;
        Ok(settings)
    }

    fn warnings(&self, _: &Config) -> Vec<(&'static str, String)> {
        let both = self.login.password.is_some() && self.login.password_file.is_some();
        let message = "`password_file` has no effect, because `password` is there: remove one";
        both.then(|| (Self::SECTION, message.to_string()))
            .into_iter()
            .collect()
    }
}
