//! The settings of a device that sends by UDP.

use std::time::Duration;

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::tree::Node;
use crate::config::values::Outcome;
use crate::config::{show, values, MeterSettings, Switch};

/// `udp:`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Whether the UDP source runs.
    pub enabled: Switch,
    /// The device's address or name; `None` is no device, and in listen mode any.
    pub host: Option<String>,
    /// The device's port; in listen mode the port listened on.
    pub port: u16,
    /// Who begins.
    pub mode: Mode,
    /// What is subscribed to.
    pub channel: u32,
    /// How long to wait between an answer and the next request; `None` is the exporter's interval.
    #[serde(serialize_with = "show::optional_seconds")]
    pub interval: Option<Duration>,
    /// How long to wait for an answer.
    #[serde(serialize_with = "show::seconds")]
    pub timeout: Duration,
    /// What the device's current is drawn at, in volts; `None`: no power is known.
    pub voltage: Option<f64>,
    /// Exports zeros until the device has been heard.
    pub start_at_zero: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: Switch::Auto,
            host: None,
            port: 5000,
            mode: Mode::Request,
            channel: 1,
            interval: None,
            timeout: Duration::from_secs(5),
            voltage: None,
            start_at_zero: false,
        }
    }
}

/// How a UDP device is made to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each message is asked for.
    #[default]
    Request,
    /// It sends by itself, to us.
    Listen,
    /// It sends by itself once it has been asked.
    Subscribe,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "udp";

    fn read(udp: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        udp.set("enabled", values::switch, &mut settings.enabled)?;
        udp.option("host", values::host, &mut settings.host)?;
        udp.set("port", values::port, &mut settings.port)?;
        udp.set("mode", mode, &mut settings.mode)?;
        udp.set("channel", values::index, &mut settings.channel)?;
        udp.option("interval", values::seconds, &mut settings.interval)?;
        udp.set("timeout", values::seconds, &mut settings.timeout)?;
        udp.option("voltage", values::volts, &mut settings.voltage)?;
        udp.set("start_at_zero", values::flag, &mut settings.start_at_zero)?;
        Ok(settings)
    }
}

fn mode(node: &Node) -> Outcome<Mode> {
    values::choice(
        node,
        &[
            ("request", Mode::Request),
            ("listen", Mode::Listen),
            ("subscribe", Mode::Subscribe),
        ],
    )
}
