//! The meters: everything that measures power, energy or temperature on a board.
//!
//! Each meter is a file (or a folder) of this module that defines a [`Meter`], and a row in [`METERS`]. The other files are
//! what several meters use. A `Meter` is a description: its name, its section of the configuration, and functions that find
//! and open it. [`select_meters`] decides which of them run on this board. An open meter, or one open device of a meter that
//! has several, is a [`Source`]. [`RunningSource`] runs a source in a thread, which polls the source and publishes the values
//! to the source's [`Group`] of series.
//!
//! Hardware is reached only below [`Board::roots`], by way of the source's I/O log ([`io_log`]), so that tests can supply
//! the files of any board, and a recording of one board can be replayed on another machine.
//!
//! CONTRIBUTING.md says how to add a meter.

mod attribute;
mod board;
mod catalogue;
mod error;
mod health;
mod host;
mod hwmon;
pub mod i2c;
pub mod i2c_search;
mod iio;
pub mod ina260;
pub mod ina2xx;
mod ina3221;
pub mod io_log;
pub mod jetson;
pub mod json;
mod json_answer;
pub mod kasa;
mod natural;
mod number;
pub mod nvidia;
mod pipe;
mod power_supply;
mod program;
pub mod rapl;
pub mod rpi;
mod runner;
mod runtime_power;
pub mod shelly;
mod sysfs;
pub mod tapo;
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
pub use catalogue::unknown_names;
pub use error::Error;
pub use health::{Health, ReachedLimit, SourceCounter};
pub use number::parse_number;
pub use runner::RunningSource;
pub use ticker::Ticker;

use crate::config::{AnySettings, Config, MeterSettings, Schema, SectionSpec, Switch};
use crate::metrics::{Group, Readings, Registry, MAX_SERIES_PER_GROUP};
use crate::sys::stop::Stop;

/// All meters, most preferred first. A meter leaves out what an earlier one claims. Of several totals of the board's power
/// with the same [`Grade`](crate::metrics::Grade), the first one is exported. Series are exported in this order, too.
pub const METERS: &[Meter] = &[
    shelly::METER, // has a total only if the plug feeds the board according to the configuration
    json::METER,   // likewise
    kasa::METER,   // likewise
    tapo::METER,   // likewise
    ina260::METER,
    ina2xx::METER,
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
    workloads::METER, // divides what the other sources measure
];

/// The shortest interval of most meters: their drivers and devices have nothing new sooner.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// How long most meters take for two readings. tegrastats takes a second to start on a small board.
const READ_TIMEOUT: Duration = Duration::from_secs(4);

/// The keys of the configuration: those common to all boards, and the sections of the meters.
pub const SCHEMA: Schema = Schema::new(|| METERS.iter().map(|meter| meter.section).collect());

/// A kind of meter: how it is named, configured, found and opened.
pub struct Meter {
    /// The value of the label `source`, and the name in the configuration's list `sources`.
    pub name: &'static str,
    /// What the meter reads, in a few words, for people.
    pub summary: &'static str,
    /// The device types that certainly have this meter. On these it is started even if `probe` fails, unless it is switched
    /// off, so that its absence shows as a source that is down.
    pub device_types: &'static [&'static str],
    /// What determines when the source is polled.
    pub pace: Pace,
    /// How long `doctor` waits for two readings of each device, if there is no error.
    pub read_timeout: Duration,
    /// Whether the configuration switches the meter on or off, or leaves the decision to `probe`.
    pub switch: fn(&Config) -> Switch,
    /// The meter's section of the configuration. If `devices` is `None`, the source is restarted when its settings change.
    pub section: SectionSpec,
    /// The devices to be read in a thread each. `None`: one source in one thread reads everything.
    pub devices: Option<fn(&Config) -> Vec<Device>>,
    /// Looks for the hardware without reading a value. Returns a description of what was found. The error describes what is
    /// missing.
    pub probe: fn(&Board, &Config) -> Result<String, Error>,
    /// What this meter reads and a more general meter would find, too: later meters of [`METERS`] leave that out. Called only
    /// after a successful `probe`.
    pub claims: Option<fn(&Board, &Config) -> Claims>,
    /// Opens the hardware and registers the series.
    pub open: fn(&Context) -> Result<Box<dyn Source>, Error>,
}

/// One of several devices of a meter, read in a thread of its own so that a slow device does not delay the others.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// The value of the label `device`, unique within the meter. Empty if the meter has only one device.
    pub name: String,
    /// The settings of this device. When they change, the source ends, and another one begins with new counters. `None`: the
    /// device has only the settings of the meter's section.
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
    /// A meter whose section has the settings `S`. It is expected on no device type, is polled at the configured interval, but
    /// not more than 1,000 times a second, by one thread, and claims nothing. A meter that differs in one of these sets that field.
    pub const fn of<S: MeterSettings>(
        name: &'static str,
        summary: &'static str,
        switch: fn(&Config) -> Switch,
        probe: fn(&Board, &Config) -> Result<String, Error>,
        open: fn(&Context) -> Result<Box<dyn Source>, Error>,
    ) -> Meter {
        Meter {
            name,
            summary,
            device_types: &[],
            pace: Pace::AtLeast(MIN_INTERVAL),
            read_timeout: READ_TIMEOUT,
            switch,
            section: SectionSpec::of::<S>(),
            devices: None,
            probe,
            claims: None,
            open,
        }
    }

    /// The devices to start a source for: at least one.
    pub fn devices(&self, config: &Config) -> Vec<Device> {
        let mut devices = self
            .devices
            .map_or_else(Vec::new, |devices| devices(config));
        if devices.is_empty() {
            // Either one source reads everything, or no device is configured: then `open` fails, and its error says which
            // setting is missing.
            devices.push(Device::default());
        }
        devices
    }

    /// Adds the meter's claims to the board's.
    pub fn claim(&self, board: &mut Board, config: &Config) {
        if let Some(claims) = self.claims {
            let claims = claims(board, config);
            board.claims.add(claims);
        }
    }
}

/// What determines when a source is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The configured interval, down to a tenth of a millisecond. A poll that takes longer and does not get past one value counts as stuck: see
    /// [`RunningSource::restart_if_stuck`].
    Interval,
    /// The same, but with an interval of at least this.
    AtLeast(Duration),
    /// The device: a poll blocks until the device sends something. The poll waits with `Context::stop`, and times out by
    /// itself when the device is silent for too long.
    Device,
}

impl Pace {
    /// The interval between polls at the configured `interval`.
    pub fn interval(self, interval: Duration) -> Duration {
        match self {
            Pace::Interval => interval,
            Pace::AtLeast(min) => interval.max(min),
            Pace::Device => interval.max(MIN_INTERVAL),
        }
    }
}

/// Everything that a source is opened with.
#[derive(Clone)]
pub struct Context {
    /// The board and where its files are.
    pub board: Arc<Board>,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The device to read, where the meter has several.
    pub device: Device,
    /// The group in which the source registers its series and publishes their values.
    pub group: Arc<Group>,
    /// Where the series of all sources are, for a source that reads what the others measured.
    pub registry: Arc<Registry>,
    /// The source's errors, limits and I/O log.
    pub health: Arc<Health>,
    /// Set when the source is to end. Anything that blocks waits on it.
    pub stop: Arc<Stop>,
    /// The interval between polls. With [`Pace::Device`], the configured interval: it only decides when
    /// values are stale, unless the source calls [`Group::set_interval`].
    pub interval: Duration,
}

/// An open meter, or one open device of it.
pub trait Source: Send {
    /// Reads every value once and sets it in `out`. A value that cannot be read is not set. An error means that nothing can
    /// be read. A poll that sets no value has failed, too, unless it sets `out.suspended`.
    ///
    /// The source is opened anew after three failed polls in a row. One error is enough with [`Pace::Device`], or if the
    /// error has a minimum delay ([`Error::retry_after`]).
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error>;

    /// Looks for devices that were added or removed. Called between polls, at most every half minute.
    fn rescan(&mut self) {}

    /// Whether the source reconnects to its device by itself. Such a source is polled again after an error instead of being
    /// opened again, and so keeps its state of the device's counters. The pause before the next poll is the same.
    fn reconnects(&self) -> bool {
        false
    }
}

/// The limits that a source has reached, by name.
pub fn reached_limits(group: &Group, health: &Health) -> BTreeMap<&'static str, ReachedLimit> {
    let mut limits = health.limits();
    if group.left_out() > 0 {
        let limit = ReachedLimit {
            left_out: group.left_out(),
            what: format!("more than {MAX_SERIES_PER_GROUP} series"),
        };
        limits.insert(SERIES_LIMIT, limit);
    }
    limits
}

/// The name of the limit on the number of series per source.
pub const SERIES_LIMIT: &str = "series";

/// The name of a source in the log: the meter's name, and the device's if it has one.
pub fn source_name(meter: &Meter, device: &Device) -> String {
    match device.name.as_str() {
        "" => meter.name.to_string(),
        device => format!("{} {device}", meter.name),
    }
}

/// The names in the configuration's list `sources` that no meter has.
pub fn unknown_sources(config: &Config) -> Vec<&str> {
    let names = config.sources.iter().flatten().map(String::as_str);
    names
        .filter(|name| METERS.iter().all(|meter| meter.name != *name))
        .collect()
}

/// What would help where no meter measures power.
pub const NO_POWER_HELP: &str =
    "A board without a meter of its own can hang on a smart plug or an INA260: `doctor --network` and `doctor --probe-i2c` look for those.";

/// The meters of a board.
#[derive(Default)]
pub struct SelectedMeters {
    /// Those to run, each with the reason why.
    pub meters: Vec<(&'static Meter, String)>,
    /// Those that were looked for, by name, with what is missing.
    pub missing: Vec<(&'static str, String)>,
}

/// Selects the meters to run on this board. Replaces the board's claims with those of the selected meters.
pub fn select_meters(board: &mut Board, config: &Config) -> SelectedMeters {
    board.claims = Claims::default();
    let mut selected = SelectedMeters::default();
    for meter in METERS {
        let listed = config.sources.as_ref();
        if listed.is_some_and(|names| names.iter().all(|name| name != meter.name)) {
            continue;
        }
        let expected = meter.device_types.contains(&config.device_type.as_str());
        let reason = match ((meter.switch)(config), (meter.probe)(board, config)) {
            (Switch::Off, _) => continue,
            (_, Ok(found)) => {
                meter.claim(board, config);
                found
            }
            (Switch::On, Err(missing)) => format!("asked for, but {missing}"),
            (Switch::Auto, Err(missing)) if expected => {
                format!("expected of a {}, but {missing}", config.device_type)
            }
            (Switch::Auto, Err(missing)) => {
                selected.missing.push((meter.name, missing.to_string()));
                continue;
            }
        };
        selected.meters.push((meter, reason));
    }
    selected
}

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod preset_tests;
#[cfg(test)]
mod schema_tests;
