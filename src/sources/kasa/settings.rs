//! The section `kasa:`, a list of plugs.

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::{values, MeterSettings, Switch};

/// `kasa:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Whether the plugs are read.
    pub enabled: Switch,
    /// The plugs and strips, with different names.
    pub devices: Vec<Plug>,
}

/// An item of `devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plug {
    /// The address or name, with a port unless it is the protocol's.
    pub host: String,
    /// The name in labels. `None`: the host.
    pub name: Option<String>,
    /// It feeds the board.
    pub power_total: bool,
    /// The socket of a strip that feeds the board. `None`: all of them.
    pub socket: Option<u32>,
}

impl Plug {
    /// The name in labels.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.host)
    }
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "kasa";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        settings.devices = section.sections("devices", |item| plug(item, Self::SECTION))?;
        let names = settings.devices.iter().map(Plug::name);
        section.refuse_same_names("devices", "devices of `kasa`", names)?;
        Ok(settings)
    }
}

/// The plugs, for people: `desk (192.168.1.40), …`.
pub(in crate::sources) fn shown(plugs: &[Plug]) -> String {
    let show = |plug: &Plug| match &plug.name {
        Some(name) => format!("{name} ({})", plug.host),
        None => plug.host.clone(),
    };
    plugs.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// Reads an item of a section's `devices`.
pub(in crate::sources) fn plug(item: &mut Section<'_, '_>, section: &str) -> Result<Plug, Problem> {
    let mut host = None;
    let mut plug = Plug {
        host: String::new(),
        name: None,
        power_total: false,
        socket: None,
    };
    item.option("host", values::host, &mut host)?;
    item.option("name", values::label, &mut plug.name)?;
    item.set("power_total", values::flag, &mut plug.power_total)?;
    item.option("socket", values::index, &mut plug.socket)?;
    let Some(host) = host else {
        let message = format!(
            "an item of `{section}.devices` has no `host`: write the plug's host name or IP address"
        );
        return Err(item.refuse(None, message));
    };
    if plug.socket.is_some() && !plug.power_total {
        let message = format!(
            "an item of `{section}.devices` has a `socket`, which is the one that feeds the board, but no `power_total: true`: \
             add it, or leave out the socket"
        );
        return Err(item.refuse(Some("socket"), message));
    }
    Ok(Plug { host, ..plug })
}
