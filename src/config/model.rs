//! The configuration and its defaults, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::central::ConfigServer;
use super::remote_write::RemoteWrite;
use super::schema::{MeterSettings, Meters};
use super::show;

/// Every `device_type` there is. `auto` reads whatever the board has; the others say what board it is, for the
/// `device_type` label and for the sources that ask.
pub const DEVICE_TYPES: &[&str] = &[
    "auto",
    "jetson_orin",
    "jetson_xavier",
    "jetson_nano",
    "jetson_thor",
    "jetson",
    "raspberry_pi",
    "orange_pi",
    "lattepanda",
    "shelly",
    "x86",
    "generic",
];

/// All settings of the exporter. `Config::default()` is what runs without any file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// One of [`DEVICE_TYPES`], in lower case.
    pub device_type: String,
    /// How often meters are read: 1 ms to a day.
    #[serde(serialize_with = "show::seconds")]
    pub interval: Duration,
    /// Port of `/metrics`; 0 takes any free one, `None` is no metrics by HTTP.
    #[serde(serialize_with = "show::port_or_off")]
    pub port: Option<u16>,
    /// Port of the management API; 0 takes any free one, `None` is no management API. Never the same as `port`, unless
    /// both are 0.
    #[serde(serialize_with = "show::port_or_off")]
    pub reload_port: Option<u16>,
    /// The one address to listen on, for both ports; `None` is every address, IPv4 and IPv6.
    pub listen_address: Option<String>,
    /// The `hostname` label; `None` is the machine's own name.
    pub hostname: Option<String>,
    /// Whether every series of a source carries the labels `device_type` and `hostname`.
    pub labels: bool,
    /// Whether the exporter's own metrics are exported, `exporter_…` and `process_…`.
    pub self_metrics: bool,
    /// What `GET /` on the metrics port answers, as plain text; `None` is a page.
    pub landing: Option<String>,
    /// The only sources that run, by name; `None` is all that the board has.
    pub sources: Option<Vec<String>>,
    /// Metric families by name: true is exported, false and unlisted are not. `None` (no `metrics:` key) exports
    /// all that is found; an empty map exports nothing but the exporter's own metrics.
    pub metrics: Option<BTreeMap<String, bool>>,
    /// Whether the file is loaded again when it changes.
    pub watch: bool,
    /// Who may change settings by the management API.
    pub management: Management,
    /// The last samples, for those who want every one of them.
    pub history: History,
    /// How they are scraped.
    pub multirate: Multirate,
    /// The meters' own settings.
    #[serde(flatten)]
    pub meters: Meters,
    /// What this board measures, for others by UDP.
    pub udp_agent: UdpAgent,
    /// Who is sent every sample; no two of one name.
    pub remote_write: Vec<RemoteWrite>,
    /// The central server, and how it is asked. Of the local configuration alone, when the exporter starts.
    pub config_server: ConfigServer,
    /// How often the central server is asked for a change; `None` is at start and reload only.
    #[serde(serialize_with = "show::optional_seconds")]
    pub config_poll: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device_type: "auto".into(),
            interval: Duration::from_secs(1),
            port: Some(9100),
            reload_port: Some(9101),
            listen_address: None,
            hostname: None,
            labels: true,
            self_metrics: true,
            landing: None,
            sources: None,
            metrics: None,
            watch: false,
            management: Management::default(),
            history: History::default(),
            multirate: Multirate::default(),
            meters: Meters::default(),
            udp_agent: UdpAgent::default(),
            remote_write: Vec::new(),
            config_server: ConfigServer::default(),
            config_poll: None,
        }
    }
}

impl Config {
    /// The settings of one meter.
    pub fn meter<T: MeterSettings>(&self) -> T {
        self.meters.get()
    }
}

/// Whether a source runs: YAML `auto`, `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Switch {
    /// When the board has it.
    #[default]
    Auto,
    /// Yes, and its absence is an error worth showing.
    On,
    /// No.
    Off,
}

impl Serialize for Switch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Switch::Auto => serializer.serialize_str("auto"),
            Switch::On => serializer.serialize_bool(true),
            Switch::Off => serializer.serialize_bool(false),
        }
    }
}

/// `management:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Management {
    /// Whether settings may be changed from other machines.
    pub allow_remote: bool,
    /// Names by which browsers may reach the management API, besides the board's own and its addresses.
    pub hosts: Vec<String>,
    /// The tokens by which programs show that they may; `None`: there are none.
    pub token_file: Option<PathBuf>,
}

/// `history:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// How old a sample grows; zero keeps none.
    #[serde(rename = "seconds", serialize_with = "show::seconds")]
    pub keep: Duration,
    /// How much memory all of them take, each source an equal share; 0 keeps none.
    pub bytes: usize,
    /// How many readings of each source; `None`: as many as there is room for.
    pub rows: Option<usize>,
    /// Whether `/metrics` has what happened since the consumer's last scrape.
    pub window_statistics: bool,
}

impl Default for History {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(300),
            bytes: 4 << 20,
            window_statistics: false,
            rows: None,
        }
    }
}

/// `multirate:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Multirate {
    /// Whether `/metrics` answers as `/multirate` does, besides the exporter's own metrics.
    pub on_metrics: bool,
    /// The consumers whose losses are shown by name.
    pub consumers: Vec<String>,
}

impl Config {
    /// The names that `metrics` lists as true and that are not among the known ones. What is made of those for a scrape's
    /// window (`history.window_statistics`) is known, too.
    pub fn unknown_metrics(&self, known: &BTreeSet<&str>) -> Vec<String> {
        let of_window = |name: &str| {
            let mut stems = ["_min", "_max", "_avg"].into_iter();
            name == "energy_window_joules" && known.contains("energy_joules_total")
                || stems.any(|end| name.strip_suffix(end).is_some_and(|n| known.contains(n)))
        };
        let listed = self.metrics.iter().flatten();
        let unknown = listed.filter(|(name, on)| {
            let name = name.as_str();
            **on && !known.contains(name) && !of_window(name)
        });
        unknown.map(|(name, _)| name.clone()).collect()
    }
}

/// `udp_agent:`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UdpAgent {
    /// Whether requests by UDP are answered.
    pub enabled: bool,
    /// The port; 0 takes any free one.
    pub port: u16,
    /// What the board's power is drawn at, in volts; `None`: as measured.
    pub voltage: Option<f64>,
}

impl Default for UdpAgent {
    fn default() -> Self {
        Self {
            enabled: false,
            port: 5000,
            voltage: None,
        }
    }
}
