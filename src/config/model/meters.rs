//! The settings of the meters, and of the agent that is one to others.

use std::path::PathBuf;
use std::time::Duration;

use super::Switch;
use crate::config::secret::Secret;

/// `jetson:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Jetson {
    /// Whether the Jetson source runs.
    pub enabled: Switch,
    /// True reads power by tegrastats even where sysfs has it.
    pub use_tegrastats: bool,
    /// The program to run; `None` is `tegrastats` on `PATH`.
    pub tegrastats: Option<PathBuf>,
    /// Runs it as `sudo -n tegrastats`.
    pub sudo: bool,
}

/// `rpi:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rpi {
    /// Whether the Raspberry Pi source runs.
    pub enabled: Switch,
}

/// `nvidia:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nvidia {
    /// Whether the source of NVIDIA GPUs runs.
    pub enabled: Switch,
    /// The program to run; `None` is `nvidia-smi` on `PATH`.
    pub nvidia_smi: Option<PathBuf>,
    /// True runs it even where that resumes a suspended GPU, or keeps an idle one from being suspended.
    pub wake_suspended: bool,
}

/// `rapl:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rapl {
    /// Whether the RAPL source runs.
    pub enabled: Switch,
    /// Where the counters are read.
    pub interface: RaplInterface,
    /// The name of one more metric of every domain; `None` is none.
    pub metric: Option<String>,
    /// Its help; `None` is one of ours.
    pub metric_help: Option<String>,
    /// The name of its label, whose values are `package_0`, `core_0`, ….
    pub metric_label: String,
    /// What it shows.
    pub metric_unit: RaplUnit,
    /// The name of a metric of the seconds between the last two readings; `None` is none.
    pub duration_metric: Option<String>,
    /// Its help; `None` is one of ours.
    pub duration_help: Option<String>,
}

impl Default for Rapl {
    fn default() -> Self {
        Self {
            enabled: Switch::Auto,
            interface: RaplInterface::Auto,
            metric: None,
            metric_help: None,
            metric_label: "domain".into(),
            metric_unit: RaplUnit::Watts,
            duration_metric: None,
            duration_help: None,
        }
    }
}

/// What is shown of the time between the last two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RaplUnit {
    /// The mean power, in watts.
    #[default]
    Watts,
    /// The energy, in microjoules.
    Microjoules,
}

/// The two ways to RAPL's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RaplInterface {
    /// powercap, and MSR where there is no powercap.
    #[default]
    Auto,
    /// `/sys/class/powercap`.
    Powercap,
    /// `/dev/cpu/N/msr`.
    Msr,
}

/// `hwmon:`, `power_supply:` and `thermal:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sysfs {
    /// Whether the source runs.
    pub enabled: Switch,
    /// The rails whose sum is the board's total; empty leaves it to the documented rule.
    /// Always empty for `thermal:`, which measures no power.
    pub power_total: Vec<String>,
    /// True reads chips even where that resumes a suspended device. Always false but for `hwmon:`.
    pub wake_suspended: bool,
}

/// `shelly:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shelly {
    /// Whether the plugs are read.
    pub enabled: Switch,
    /// True: the board hangs on the first plug, and what that measures is the board's total.
    /// With `device_type: shelly` it is so in any case.
    pub power_total: bool,
    /// The plugs, each with a name of its own; the one written into the section itself comes first.
    pub plugs: Vec<Plug>,
}

/// One plug: the keys of `shelly:`, or of an item of `shelly.devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// `ina260:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ina260 {
    /// Whether the source runs; `Auto` is: if there are chips.
    pub enabled: Switch,
    /// The chips, of `i2c_bus` and `i2c_address` and then of `chips`; no two at one place or of one name.
    pub chips: Vec<Ina260Chip>,
    /// The chips whose sum is the board's total; empty leaves it to the documented rule.
    pub power_total: Vec<String>,
}

/// One chip of `ina260:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ina260Chip {
    /// The name of its rail; `None` is one made of its place.
    pub name: Option<String>,
    /// N of `/dev/i2c-N`.
    pub bus: u32,
    /// 7-bit I2C address, 0x40 to 0x4f (INA260 data sheet SBOS656, table 2: A0 and A1 choose one of 16).
    pub address: u8,
    /// How many conversions a reading is the mean of; `None` is as many as the interval has room for.
    pub averaging: Option<u16>,
    /// How long one conversion of the voltage takes, in microseconds.
    pub voltage_conversion_us: u16,
    /// How long one conversion of the current takes, in microseconds.
    pub current_conversion_us: u16,
    /// Converts only when told to, at each poll.
    pub triggered: bool,
}

impl Default for Ina260Chip {
    fn default() -> Self {
        Self {
            name: None,
            bus: 1,
            address: 0x40,
            averaging: None,
            voltage_conversion_us: 1100,
            current_conversion_us: 1100,
            triggered: false,
        }
    }
}

impl Ina260Chip {
    /// The name of its rail: its own, or such as `ina260-1-0040`.
    pub fn rail(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("ina260-{}-{:04x}", self.bus, self.address),
        }
    }
}

/// `udp:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Udp {
    /// Whether the UDP source runs.
    pub enabled: Switch,
    /// The device's address or name; `None` is no device, and in listen mode any.
    pub host: Option<String>,
    /// The device's port; in listen mode the port listened on.
    pub port: u16,
    /// Who begins.
    pub mode: UdpMode,
    /// What is subscribed to.
    pub channel: u32,
    /// How long to wait between an answer and the next request; `None` is the exporter's interval.
    pub interval: Option<Duration>,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// What the device's current is drawn at, in volts; `None`: no power is known.
    pub voltage: Option<f64>,
    /// Exports zeros until the device has been heard.
    pub start_at_zero: bool,
}

impl Default for Udp {
    fn default() -> Self {
        Self {
            enabled: Switch::Auto,
            host: None,
            port: 5000,
            mode: UdpMode::Request,
            channel: 1,
            interval: None,
            timeout: Duration::from_secs(5),
            voltage: None,
            start_at_zero: false,
        }
    }
}

/// How a UDP device is made to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UdpMode {
    /// Each message is asked for.
    #[default]
    Request,
    /// It sends by itself, to us.
    Listen,
    /// It sends by itself once it has been asked.
    Subscribe,
}

/// `udp_agent:`.
#[derive(Debug, Clone, PartialEq)]
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
