//! `shelly:`, whose one plug stands in the section itself (as seed 001 has it), or whose plugs are a list below
//! `devices`, or both.

use super::model::{Plug, Shelly};
use super::section::{Problem, Section};
use super::values;

/// Whom Shelly's devices know, unless another name was set on one of the first generation.
const USERNAME: &str = "admin";

/// Reads the section.
pub(super) fn read(section: &mut Section<'_, '_>, shelly: &mut Shelly) -> Result<(), Problem> {
    section.set("enabled", values::switch, &mut shelly.enabled)?;
    section.set("power_total", values::flag, &mut shelly.power_total)?;
    shelly.plugs = plug(section)?.into_iter().collect();
    let listed = section.sections("devices", |item| {
        let found = plug(item)?;
        found.ok_or_else(|| {
            let message = "an item of `shelly.devices` has no `host`: write the plug's host name or IP address";
            item.refuse(None, message.into())
        })
    })?;
    for plug in listed {
        if let Some(other) = shelly
            .plugs
            .iter()
            .find(|other| other.name() == plug.name())
        {
            let name = super::diagnose::quoted(other.name());
            let message = format!(
                "two plugs of `shelly` are called {name}: give them a `name` each, or remove one"
            );
            return Err(section.refuse(Some("devices"), message));
        }
        shelly.plugs.push(plug);
    }
    Ok(())
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
