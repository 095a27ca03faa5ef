//! Power monitors with a driver of the Industrial I/O subsystem: `<sysfs>/bus/iio/devices/iio:device*`
//! (Linux, Documentation/ABI/testing/sysfs-bus-iio): the kernel's `ina2xx-adc`, `max9611`, `pac1934` and others.
//!
//! * **A channel** is `in_{power,voltage,current}…`, as a processed value (`…_input`), or as `…_raw` to which `…_offset` is
//!   added before `…_scale` multiplies. Offset and scale are the channel's own or shared by its type. The result is in
//!   milliwatts, millivolts or milliamperes.
//! * **A device** is named by its driver and its device (`ina226-1-0040`). One that measures neither power nor current is a
//!   plain converter and is not read.
//! * **A rail** is `device:label` where the driver has labels, else `device:channel`. Channels of one label, or without
//!   labels of one number (`device:channel3`), are one rail. The power of a rail without a power channel is voltage times
//!   current. Channels without a number form the device's own rail.
//! * **The board's total** is the sum of the rails that `iio.power_total` lists, and absent while one of them is. If it
//!   lists none, it is the only rail with power.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::io_log::files;
use super::sysfs::{entries, files_of, read_name, unique};
use super::{read_text, Attribute, Board, Context, Error, Health, Meter, Source};
use crate::config::section::{Problem, Section};
use crate::config::{values, Config, MeterSettings, Switch};
use crate::metrics::{common, Grade, PowerSum, Rail, RailTotal, Readings, SeriesId};

/// The meter.
pub(super) const METER: Meter = Meter::of::<Settings>(
    "iio",
    "power monitors with an Industrial I/O driver: watts, volts, amperes",
    |config| config.meter::<Settings>().enabled,
    probe,
    open,
);

/// The section `iio:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Settings {
    /// Whether the meter runs.
    enabled: Switch,
    /// The rails whose sum is the board's total. If empty, the total is the only rail with power.
    power_total: Vec<String>,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "iio";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        section.set("power_total", values::rails, &mut settings.power_total)?;
        Ok(settings)
    }
}

/// What a channel measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Quantity {
    Power,
    Voltage,
    Current,
}

const QUANTITIES: [(&str, Quantity); 3] = [
    ("power", Quantity::Power),
    ("voltage", Quantity::Voltage),
    ("current", Quantity::Current),
];

/// A channel, as named by the file with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ChannelName {
    quantity: Quantity,
    /// The text after the quantity: `0`, `0-voltage1`, `1_vbus`, or nothing.
    suffix: String,
    /// Whether the value is already scaled.
    is_processed: bool,
}

/// Parses the name of a file with a channel's value; `None` for other files.
fn parse_channel(file: &str) -> Option<ChannelName> {
    let rest = file.strip_prefix("in_")?;
    let (rest, is_processed) = match rest.strip_suffix("_input") {
        Some(rest) => (rest, true),
        None => (rest.strip_suffix("_raw")?, false),
    };
    QUANTITIES.iter().find_map(|(word, quantity)| {
        let suffix = rest.strip_prefix(word)?;
        let is_suffix =
            suffix.is_empty() || suffix.starts_with(|c: char| c.is_ascii_digit() || c == '_');
        is_suffix.then(|| ChannelName {
            quantity: *quantity,
            suffix: suffix.to_string(),
            is_processed,
        })
    })
}

impl ChannelName {
    fn word(&self) -> &'static str {
        let mut words = QUANTITIES.iter();
        let found = words.find(|(_, quantity)| *quantity == self.quantity);
        found.map_or("", |(word, _)| word)
    }

    /// Reads the channel's `offset` or `scale`.
    fn parameter(&self, dir: &Path, kind: &str, health: &Arc<Health>) -> Option<f64> {
        let (word, suffix) = (self.word(), &self.suffix);
        // The channel's own parameter, or that of its type.
        let names = [
            format!("in_{word}{suffix}_{kind}"),
            format!("in_{word}_{kind}"),
        ];
        let mut paths = names.iter().map(|name| dir.join(name));
        let path = paths.find(|path| files::exists(health.io_log(), path))?;
        match read_text(health, &path) {
            Ok(text) => decimal(text.as_bytes()),
            Err(error) => {
                log::debug!("{error}");
                None
            }
        }
    }
}

/// A decimal number as the subsystem prints it: `1.250000`, `-12`.
fn decimal(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let is_plain = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+'));
    text.parse()
        .ok()
        .filter(|n: &f64| is_plain && n.is_finite())
}

/// A device and its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FoundDevice {
    /// The device's folder, as a canonical path.
    dir: PathBuf,
    /// The device's name: `ina226-1-0040`.
    id: String,
    channels: Vec<ChannelName>,
}

fn class(board: &Board) -> PathBuf {
    board.roots.sysfs.join("bus/iio/devices")
}

/// The devices that measure power or current and that no other meter claims.
fn find(health: &Arc<Health>, board: &Board) -> Result<Vec<FoundDevice>, Error> {
    let class = class(board);
    let names = entries(health, &class)?.into_iter();
    let devices = names.filter(|name| name.starts_with("iio:device"));
    let found = devices.filter_map(|name| {
        let dir = files::resolve(health.io_log(), &class.join(&name)).ok()?;
        let device = dir.parent()?.to_path_buf();
        if board.claims.devices.contains(&device) {
            return None;
        }
        let files = files_of(health, &dir, |file| parse_channel(file).is_some()).ok()?;
        let mut channels: Vec<ChannelName> = files
            .iter()
            .filter_map(|file| parse_channel(file))
            .collect();
        let is_preferred = |name: &ChannelName| {
            let same = ChannelName {
                is_processed: true,
                ..name.clone()
            };
            name.is_processed
                || !files
                    .iter()
                    .any(|file| parse_channel(file) == Some(same.clone()))
        };
        // A processed value is preferred to the raw value of the same channel.
        channels.retain(is_preferred);
        let measures = |name: &ChannelName| name.quantity != Quantity::Voltage;
        let driver = read_name(health, &dir.join("name")).unwrap_or_else(|| name.clone());
        let place = device.file_name()?.to_string_lossy().into_owned();
        channels.iter().any(measures).then(|| FoundDevice {
            id: format!("{driver}-{place}"),
            channels,
            dir,
        })
    });
    Ok(found.collect())
}

fn no_device_error(board: &Board) -> Error {
    Error::new(format!(
        "{} has no device that measures power or current",
        class(board).display()
    ))
}

fn probe(board: &Board, _: &Config) -> Result<String, Error> {
    let found = find(&board.health(), board)?;
    if found.is_empty() {
        return Err(no_device_error(board));
    }
    let ids: Vec<_> = found.iter().map(|found| found.id.as_str()).collect();
    Ok(format!("devices: {}", ids.join(", ")))
}

fn open(context: &Context) -> Result<Box<dyn Source>, Error> {
    let settings: Settings = context.config.meter();
    let mut source = Iio {
        context: context.clone(),
        devices: Vec::new(),
        total: RailTotal::new(settings.power_total),
    };
    source.update(find(&context.health, &context.board)?);
    if source.devices.is_empty() {
        return Err(no_device_error(&context.board));
    }
    let labels: Vec<_> = source.measured().map(|rail| rail.label.as_str()).collect();
    source.total.warn_of_unknown_names(METER.name, &labels);
    Ok(Box::new(source))
}

/// An open channel, in thousandths of its unit: `(value + offset) * scale`.
struct Channel {
    attribute: Attribute,
    offset: f64,
    scale: f64,
}

impl Channel {
    fn read(&mut self) -> Option<f64> {
        let value = self.attribute.read_as("a number", decimal)?;
        Some((value + self.offset) * self.scale)
    }
}

/// An open rail.
#[derive(Default)]
struct RailSource {
    label: String,
    in_total: bool,
    voltage: Option<(Channel, SeriesId)>,
    current: Option<(Channel, SeriesId)>,
    power: Option<Channel>,
    rail: Option<Rail>,
}

impl RailSource {
    fn has(&self, quantity: Quantity) -> bool {
        match quantity {
            Quantity::Power => self.power.is_some(),
            Quantity::Voltage => self.voltage.is_some(),
            Quantity::Current => self.current.is_some(),
        }
    }

    /// Reads the rail's values and sets them in `out`. Returns the power in watts, if it is known and plausible.
    fn poll(&mut self, out: &mut Readings) -> Option<f64> {
        let mut gauge = |of: &mut Option<(Channel, SeriesId)>| {
            let (channel, series) = of.as_mut()?;
            let value = channel.read()?;
            out.try_set(*series, value / 1e3).map(|_| value)
        };
        let millivolts = gauge(&mut self.voltage);
        let milliamperes = gauge(&mut self.current);
        let milliwatts = match &mut self.power {
            Some(power) => power.read()?,
            None => millivolts? * milliamperes? / 1e3,
        };
        self.rail.as_mut()?.set_watts(out, milliwatts / 1e3)
    }
}

struct Device {
    found: FoundDevice,
    id: String,
    rails: Vec<RailSource>,
}

impl Device {
    fn open(context: &Context, found: FoundDevice, id: String) -> Device {
        let Context { group, health, .. } = context;
        let mut rails: BTreeMap<String, RailSource> = BTreeMap::new();
        for name in &found.channels {
            let own = format!("{}{}", name.word(), name.suffix);
            let label = found.dir.join(format!("in_{own}_label"));
            let label = files::exists(health.io_log(), &label).then(|| read_name(health, &label));
            let label = label.flatten();
            let mut key = label.clone().unwrap_or_else(|| name.suffix.clone());
            let of_number = |other: &&ChannelName| other.suffix == name.suffix;
            let is_alone = found.channels.iter().filter(of_number).count() == 1;
            let mut place = label.unwrap_or_else(|| match name.suffix.as_str() {
                "" => String::new(),
                _ if is_alone => own.clone(),
                number => format!("channel{number}"),
            });
            if rails.get(&key).is_some_and(|rail| rail.has(name.quantity)) {
                key = format!("{key} {own}");
                place = own;
            }
            let rail = rails.entry(key).or_insert_with(|| RailSource {
                label: match place.as_str() {
                    "" => id.clone(),
                    place => format!("{id}:{place}"),
                },
                ..RailSource::default()
            });
            let channel = name.open(&found.dir, health);
            let series = |desc| common::rail_series(group, &desc, &rail.label);
            match name.quantity {
                Quantity::Power => rail.power = Some(channel),
                Quantity::Voltage => {
                    rail.voltage = Some((channel, series(common::voltage_volts())));
                }
                Quantity::Current => {
                    rail.current = Some((channel, series(common::current_amperes())));
                }
            }
        }
        let mut rails: Vec<RailSource> = rails.into_values().collect();
        for rail in &mut rails {
            let has_power =
                rail.power.is_some() || (rail.voltage.is_some() && rail.current.is_some());
            rail.rail = has_power.then(|| Rail::new(group, &rail.label));
        }
        Device { found, id, rails }
    }
}

impl ChannelName {
    fn open(&self, dir: &Path, health: &Arc<Health>) -> Channel {
        let (word, suffix) = (self.word(), &self.suffix);
        let value =
            |kind: &str| Attribute::new(health, dir.join(format!("in_{word}{suffix}_{kind}")));
        match self.is_processed {
            true => Channel {
                attribute: value("input"),
                offset: 0.0,
                scale: 1.0,
            },
            false => Channel {
                attribute: value("raw"),
                offset: self.parameter(dir, "offset", health).unwrap_or(0.0),
                scale: self.parameter(dir, "scale", health).unwrap_or(1.0),
            },
        }
    }
}

struct Iio {
    context: Context,
    devices: Vec<Device>,
    total: RailTotal,
}

impl Iio {
    /// The rails whose power can be known.
    fn measured(&self) -> impl Iterator<Item = &RailSource> {
        let rails = self.devices.iter().flat_map(|device| &device.rails);
        rails.filter(|rail| rail.rail.is_some())
    }

    /// Adds new devices and drops removed ones. The others keep their state.
    fn update(&mut self, found: Vec<FoundDevice>) {
        self.devices.retain(|device| found.contains(&device.found));
        for found in found {
            if self.devices.iter().any(|device| device.found == found) {
                continue;
            }
            let id = unique(&found.id, |id| self.devices.iter().any(|d| d.id == id));
            self.devices.push(Device::open(&self.context, found, id));
        }
        self.choose_total();
    }

    fn choose_total(&mut self) {
        let is_only = self.measured().count() == 1;
        for rail in self.devices.iter_mut().flat_map(|device| &mut device.rails) {
            rail.in_total = rail.rail.is_some() && self.total.includes(&rail.label, is_only);
        }
        let grade = is_only.then_some(Grade::Input);
        self.total.claim(&self.context.group, grade);
    }
}

impl Source for Iio {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let mut sum = PowerSum::default();
        for rail in self.devices.iter_mut().flat_map(|device| &mut device.rails) {
            let watts = rail.poll(out);
            if rail.in_total {
                sum.add(watts, None);
            }
        }
        self.total.publish(out, &sum);
        Ok(())
    }

    fn rescan(&mut self) {
        match find(&self.context.health, &self.context.board) {
            Ok(found) => self.update(found),
            Err(error) => log::debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_parsed_from_file_names() {
        let name = |quantity, suffix: &str, is_processed| {
            let suffix = suffix.to_string();
            Some(ChannelName {
                quantity,
                suffix,
                is_processed,
            })
        };
        for (file, expected) in [
            ("in_power2_raw", name(Quantity::Power, "2", false)),
            ("in_power_input", name(Quantity::Power, "", true)),
            (
                "in_voltage0-voltage1_raw",
                name(Quantity::Voltage, "0-voltage1", false),
            ),
            (
                "in_current1_vbus_raw",
                name(Quantity::Current, "1_vbus", false),
            ),
            ("in_current_shunt_resistor", None),
            ("in_voltage1_scale", None),
            ("in_powerful_raw", None),
            ("out_voltage0_raw", None),
            ("in_temp_input", None),
        ] {
            assert_eq!(parse_channel(file), expected, "{file}");
        }
    }

    #[test]
    fn only_decimal_numbers_are_parsed() {
        assert_eq!(decimal(b"1.250000000\n"), Some(1.25));
        assert_eq!(decimal(b"-69\n"), Some(-69.0));
        for none in [
            &b""[..],
            b"nan",
            b"inf",
            b"1e5",
            b"0x10",
            b"1.5 dB",
            b"\xff",
        ] {
            assert_eq!(decimal(none), None, "{none:?}");
        }
    }
}
