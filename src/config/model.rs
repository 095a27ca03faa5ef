//! The exporter's configuration and its defaults, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::central::ConfigServer;
use super::remote_write::RemoteWrite;
use super::schema::{MeterSettings, Meters};
use super::show;

/// All values of `device_type`. `auto` detects the board; the others set the `device_type` label and the behaviour of the
/// sources that depend on the kind of board.
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

/// All settings of the exporter. `Config::default()` applies without a configuration file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// One of [`DEVICE_TYPES`], in lower case.
    pub device_type: String,
    /// The interval at which meters are read: 0.1 ms to a day.
    #[serde(serialize_with = "show::seconds")]
    pub interval: Duration,
    /// Whether the threads that poll meters have real-time priority, and the memory stays resident.
    pub realtime: bool,
    /// Port of `/metrics`; 0 is any free port, `None` is no metrics by HTTP.
    #[serde(serialize_with = "show::port_or_off")]
    pub port: Option<u16>,
    /// Port of the management API; 0 is any free port, `None` is no management API. Differs from `port` unless both are 0.
    #[serde(serialize_with = "show::port_or_off")]
    pub reload_port: Option<u16>,
    /// The address that both ports listen on; `None` is all addresses, IPv4 and IPv6.
    pub listen_address: Option<String>,
    /// The `hostname` label; `None` is the host name of the machine.
    pub hostname: Option<String>,
    /// Whether every series of a source carries the labels `device_type` and `hostname`.
    pub labels: bool,
    /// Labels that every series carries, by name.
    pub constant_labels: BTreeMap<String, String>,
    /// Whether the exporter's own metrics are exported, `exporter_…` and `process_…`.
    pub self_metrics: bool,
    /// The plain-text response to `GET /` on the metrics port; `None` is an HTML page.
    pub landing: Option<String>,
    /// The names of the sources to run; `None` is all that the board has.
    pub sources: Option<Vec<String>>,
    /// Metric families by name; those that are true are exported. `None` (no `metrics:` key) exports all; an empty map exports
    /// only the exporter's own metrics.
    pub metrics: Option<BTreeMap<String, bool>>,
    /// Whether the file is reloaded when it changes.
    pub watch: bool,
    /// Access to the management API, which changes settings.
    pub management: Management,
    /// The history of samples for `/multirate` and remote write.
    pub history: History,
    /// How the history is scraped.
    pub multirate: Multirate,
    /// The settings of the meters.
    #[serde(flatten)]
    pub meters: Meters,
    /// The UDP agent, which sends what this board measures.
    pub udp_agent: UdpAgent,
    /// The remote-write receivers. Their names are unique.
    pub remote_write: Vec<RemoteWrite>,
    /// The central server. Read only from the local configuration, and only at startup.
    pub config_server: ConfigServer,
    /// The interval at which the central server is polled; `None` is only at startup and reload.
    #[serde(serialize_with = "show::optional_seconds")]
    pub config_poll: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device_type: "auto".into(),
            interval: Duration::from_secs(1),
            realtime: false,
            port: Some(9100),
            reload_port: Some(9101),
            listen_address: None,
            hostname: None,
            labels: true,
            constant_labels: BTreeMap::new(),
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
    /// The source runs if the board has it.
    #[default]
    Auto,
    /// The source runs; its absence is shown as an error.
    On,
    /// The source does not run.
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
    /// Host names by which browsers may reach the management API, besides the board's own name and addresses.
    pub hosts: Vec<String>,
    /// The file with the tokens of programs; `None` is no tokens.
    pub token_file: Option<PathBuf>,
}

/// `history:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// The maximum age of a sample; zero keeps no history.
    #[serde(rename = "seconds", serialize_with = "show::seconds")]
    pub keep: Duration,
    /// The memory of all sources together, each with an equal share; 0 keeps no history.
    pub bytes: usize,
    /// The maximum number of readings of each source; `None` is as many as fit.
    pub rows: Option<usize>,
    /// Whether `/metrics` has minimum, maximum and mean since the client's last scrape.
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
    /// The consumers whose lost samples are counted by name.
    pub consumers: Vec<String>,
}

/// The metric of which a name would be a statistic of a window: `a` of `a_max`.
pub(crate) fn of_window_statistic(name: &str) -> Option<&str> {
    let mut endings = ["_min", "_max", "_avg"].into_iter();
    endings.find_map(|ending| name.strip_suffix(ending))
}

impl Config {
    /// The names that `metrics` lists as true and that are not known. The metrics of `history.window_statistics` that are
    /// derived from known metrics count as known.
    pub fn unknown_metrics(&self, known: &BTreeSet<&str>) -> Vec<String> {
        let is_window_statistic = |name: &str| {
            name == "energy_window_joules" && known.contains("energy_joules_total")
                || of_window_statistic(name).is_some_and(|of| known.contains(of))
        };
        let listed = self.metrics.iter().flatten();
        let unknown = listed.filter(|(name, on)| {
            let name = name.as_str();
            **on && !known.contains(name) && !is_window_statistic(name)
        });
        unknown.map(|(name, _)| name.clone()).collect()
    }
}

/// `udp_agent:`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UdpAgent {
    /// Whether requests by UDP are answered.
    pub enabled: bool,
    /// The port; 0 is any free port.
    pub port: u16,
    /// The voltage by which the board's power is divided; `None` is the measured one.
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
