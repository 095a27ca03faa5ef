//! The settings of a device that sends by UDP.

use std::time::Duration;

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::tree::Node;
use crate::config::values::Outcome;
use crate::config::{show, values, MeterSettings, Switch};

/// The section `udp:`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Whether the UDP source runs.
    pub enabled: Switch,
    /// The device's address or name. `None`: no device is configured; in listen mode, any device is accepted.
    pub host: Option<String>,
    /// The device's port. In listen mode, our port.
    pub port: u16,
    /// How messages are obtained.
    pub mode: Mode,
    /// The channel to subscribe to.
    pub channel: u32,
    /// The pause between a reply and the next request. `None`: the exporter's interval.
    #[serde(serialize_with = "show::optional_seconds")]
    pub interval: Option<Duration>,
    /// The longest time to wait for a message.
    #[serde(serialize_with = "show::seconds")]
    pub timeout: Duration,
    /// The voltage at which the device's current is drawn. `None`: no power is exported.
    pub voltage: Option<f64>,
    /// Export zeros until the first message.
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

/// How messages are obtained from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each message is requested.
    #[default]
    Request,
    /// The device sends messages to our port.
    Listen,
    /// The device sends messages after a subscription.
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
