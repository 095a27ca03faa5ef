//! The meters. One file each, and one row each in [`METERS`].
//!
//! To add one, see CONTRIBUTING.md.

mod attribute;
mod board;
mod error;
mod health;
mod hwmon;
mod iio;
pub mod ina260;
mod ina3221;
pub mod io_log;
pub mod jetson;
mod natural;
mod number;
pub mod nvidia;
mod pipe;
mod power_supply;
mod program;
mod rapl;
pub mod rpi;
mod runner;
mod runtime_power;
pub mod shelly;
mod sysfs;
pub mod tegrastats;
#[cfg(test)]
mod testing;
mod thermal;
mod ticker;
pub mod udp;
pub mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use attribute::{read_text, Attribute};
pub use board::{Board, Claims, Roots};
pub use error::Error;
pub use health::{Health, Limit, Tally};
pub use number::parse_number;
pub use runner::Running;
pub use ticker::Ticker;

use crate::config::{AnySettings, Config, Schema, SectionSpec, Switch};
use crate::metrics::{Group, Readings, Registry, MAX_SERIES_PER_GROUP};
use crate::sys::stop::Stop;

/// All meters, in the order of preference: where several know the board's total power, the first one's is shown.
pub const METERS: &[Meter] = &[
    shelly::METER, // a total only if the user says that the board hangs on it
    ina260::METER,
    ina3221::METER,
    tegrastats::METER,
    hwmon::METER,
    iio::METER,
    rpi::METER,
    nvidia::METER,
    rapl::METER,
    power_supply::METER,
    thermal::METER,
    udp::METER,
    workloads::METER, // reads what those before it have measured
];

/// The configuration's keys: those of every board, and the meters' sections.
pub const SCHEMA: Schema = Schema::new(|| METERS.iter().map(|meter| meter.section).collect());

/// What the rest of the exporter knows of a meter.
pub struct Meter {
    /// Its name: the label `source`, and its section in the configuration.
    pub name: &'static str,
    /// What it reads, in a few words.
    pub summary: &'static str,
    /// The device types that have it for certain: there it runs even if it was not found, so that its absence is seen.
    pub device_types: &'static [&'static str],
    /// Who says when to poll.
    pub pace: Pace,
    /// Whether the configuration asks for it.
    pub switch: fn(&Config) -> Switch,
    /// Its section of the configuration: when that changes, the meter is started anew.
    pub section: SectionSpec,
    /// What it reads in a thread each, where these are several; `None`: all in one thread.
    pub devices: Option<fn(&Config) -> Vec<Device>>,
    /// Looks for it, without reading a value; `Err` says what was looked for.
    pub probe: fn(&Board, &Config) -> Result<String, Error>,
    /// What it reads that more general meters would find as well: those after it in [`METERS`] leave that out. Asked for
    /// where `probe` found it.
    pub claims: Option<fn(&Board, &Config) -> Claims>,
    /// Opens it.
    pub open: fn(&Context) -> Result<Box<dyn Source>, Error>,
}

/// One of several devices that a meter reads in a thread each, so that none delays another.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// What it is called, in the label `device`; no other of the meter's has this name. Empty: the meter has but one.
    pub name: String,
    /// What it depends on: when that changes, the device is started anew. `None`: the meter's section.
    pub settings: Option<Arc<dyn AnySettings>>,
}

impl PartialEq for Device {
    fn eq(&self, other: &Device) -> bool {
        self.name == other.name
            && match (&self.settings, &other.settings) {
                (Some(one), Some(other)) => one.equals(other.as_ref()),
                (None, None) => true,
                _ => false,
            }
    }
}

impl Meter {
    /// Its devices: at least one.
    pub fn devices(&self, config: &Config) -> Vec<Device> {
        let mut devices = self
            .devices
            .map_or_else(Vec::new, |devices| devices(config));
        if devices.is_empty() {
            // Opening it says what is missing.
            devices.push(Device::default());
        }
        devices
    }

    /// Adds what it claims to the board's claims.
    pub fn claim(&self, board: &mut Board, config: &Config) {
        if let Some(claims) = self.claims {
            let claims = claims(board, config);
            board.claims.add(claims);
        }
    }
}

/// Who says when to poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// We do, every interval. A poll that takes longer is stuck.
    Interval,
    /// We do, every interval, but not more often than this.
    AtLeast(Duration),
    /// The device does: a poll waits for what it says next. It waits with `Context::stop`, and ends by itself when the
    /// device says nothing for too long.
    Device,
}

impl Pace {
    /// How often to poll, where the user asks for `interval`.
    pub fn interval(self, interval: Duration) -> Duration {
        match self {
            Pace::AtLeast(least) => interval.max(least),
            Pace::Interval | Pace::Device => interval,
        }
    }
}

/// What a meter gets to work with.
#[derive(Clone)]
pub struct Context {
    /// Where the board's files are.
    pub board: Arc<Board>,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Which of the meter's devices to read.
    pub device: Device,
    /// Where its series are registered.
    pub group: Arc<Group>,
    /// Where the series of all sources are, for a source that reads what the others measured.
    pub registry: Arc<Registry>,
    /// Where errors of single values are counted.
    pub health: Arc<Health>,
    /// To wait with, if it waits.
    pub stop: Arc<Stop>,
    /// How often it is polled.
    pub interval: Duration,
}

/// An open meter.
pub trait Source: Send {
    /// Reads everything once. A value that cannot be read is left out; an error means that nothing can be read, and
    /// after three in a row the source is opened anew.
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error>;

    /// Looks for devices that came or went since. Called between polls, every half minute.
    fn rescan(&mut self) {}

    /// Whether it finds its device again by itself: then it is not opened anew, and keeps what it knows of the
    /// device's counters. It is left alone for as long as one that is.
    fn lasts(&self) -> bool {
        false
    }
}

/// The limits that a source has reached, by name: how much was left out because of each, and what it says.
pub fn limits(group: &Group, health: &Health) -> BTreeMap<&'static str, Limit> {
    let mut limits = health.limits();
    if group.left_out() > 0 {
        let limit = Limit {
            left_out: group.left_out(),
            what: format!("it has more than {MAX_SERIES_PER_GROUP} series"),
        };
        limits.insert(SERIES, limit);
    }
    limits
}

/// The name of the limit on a source's series.
pub const SERIES: &str = "series";

/// What a source is called: the meter, and which of its devices it reads.
pub fn source_name(meter: &Meter, device: &Device) -> String {
    match device.name.as_str() {
        "" => meter.name.to_string(),
        device => format!("{} {device}", meter.name),
    }
}

/// The names under `sources` that no source has.
pub fn unknown(config: &Config) -> Vec<&str> {
    let names = config.sources.iter().flatten().map(String::as_str);
    names
        .filter(|name| METERS.iter().all(|meter| meter.name != *name))
        .collect()
}

/// The meters that run on this board, and why. The board is left with what they claim.
pub fn chosen(board: &mut Board, config: &Config) -> Vec<(&'static Meter, String)> {
    board.claims = Claims::default();
    METERS
        .iter()
        .filter(|meter| {
            let only = config.sources.as_ref();
            only.is_none_or(|names| names.iter().any(|name| name == meter.name))
        })
        .filter_map(|meter| {
            let expected = meter.device_types.contains(&config.device_type.as_str());
            let reason = match ((meter.switch)(config), (meter.probe)(board, config)) {
                (Switch::Off, _) => return None,
                (_, Ok(found)) => {
                    meter.claim(board, config);
                    found
                }
                (Switch::On, Err(missing)) => format!("asked for, but {missing}"),
                (Switch::Auto, Err(missing)) if expected => {
                    format!("expected of a {}, but {missing}", config.device_type)
                }
                (Switch::Auto, Err(_)) => return None,
            };
            Some((meter, reason))
        })
        .collect()
}

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod preset_tests;
#[cfg(test)]
mod schema_tests;
