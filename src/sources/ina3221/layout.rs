//! The files and units of a Jetson's power monitors in the kernel's drivers.
//!
//! * **NVIDIA's `ina3221x`** (L4T up to 32, JetPack 4), an IIO device: `rail_name_N`, `in_voltageN_input` in mV,
//!   `in_currentN_input` in mA and `in_powerN_input` in mW, N from 0 to 2.
//! * **Linux's `ina3221`** (L4T from 34, JetPack 5 to 7), hwmon: `inN_label`, `inN_input` in mV and `currN_input` in mA, N
//!   from 1 to 3; the inputs from 4 on are shunt voltages (Linux, Documentation/hwmon/ina3221.rst). It gives no power.
//! * **Linux's `ina238`** (AGX Thor's input), hwmon: `in1_input` in mV, `curr1_input` in mA, `power1_input` in µW
//!   (Documentation/hwmon/ina238.rst). Its driver knows no label, but the device tree may have one for all of it.
//!
//! A channel labelled `NC` is not connected. A chip without a labelled channel is not the board's own:
//! the hwmon meter reads it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sources::io_log::files;
use crate::sources::jetson::NOT_CONNECTED;
use crate::sources::sysfs::{entries, read_name, unique};
use crate::sources::Health;

/// The name of AGX Thor's INA238 channel if the device tree has none.
const THOR_INPUT: &str = "VIN";

/// A chip of the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chip {
    /// The device, free of links.
    pub(super) device: PathBuf,
    /// Its connected channels: at least one.
    pub(super) channels: Vec<Channel>,
}

/// One rail, and the files that measure it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Channel {
    /// Its name on the board: `VDD_IN`.
    pub(super) rail: String,
    /// In mV.
    pub(super) voltage: PathBuf,
    /// In mA.
    pub(super) current: PathBuf,
    /// The file, and its unit in µW. `None`: power is voltage times current.
    pub(super) power: Option<(PathBuf, u16)>,
}

/// The board's chips, in the order of the drivers above and of their addresses. No two rails have the same name.
pub(super) fn chips(health: &Arc<Health>, sysfs: &Path) -> Vec<Chip> {
    let drivers = sysfs.join("bus/i2c/drivers");
    let mut chips = Vec::new();
    // In some kernels the INA238's driver is `ina2xx`, which also drives chips that are not a Jetson's.
    for driver in ["ina3221x", "ina3221", "ina238", "ina2xx"] {
        let dir = drivers.join(driver);
        // The links to devices, as opposed to the driver's own files.
        let is_address = |name: &String| name.starts_with(|c: char| c.is_ascii_digit());
        for name in entries(health, &dir).unwrap_or_default() {
            let Some(device) = Some(dir.join(&name)).filter(|_| is_address(&name)) else {
                continue;
            };
            let channels = match driver {
                "ina3221x" => ina3221x_channels(health, &device),
                "ina3221" => ina3221_channels(health, &device),
                _ => ina238_channels(health, &device),
            };
            if let (false, Ok(device)) = (
                channels.is_empty(),
                files::resolve(health.io_log(), &device),
            ) {
                chips.push(Chip { device, channels });
            }
        }
    }
    let mut taken: Vec<String> = Vec::new();
    for channel in chips.iter_mut().flat_map(|chip| &mut chip.channels) {
        channel.rail = unique(&channel.rail, |name| taken.iter().any(|t| t == name));
        taken.push(channel.rail.clone());
    }
    chips
}

fn ina3221x_channels(health: &Arc<Health>, device: &Path) -> Vec<Channel> {
    let Some(dir) = folder(health, device, "iio:device") else {
        return Vec::new();
    };
    let channel = |n: u8| {
        Some(Channel {
            rail: connected(health, &dir.join(format!("rail_name_{n}")))?,
            voltage: dir.join(format!("in_voltage{n}_input")),
            current: dir.join(format!("in_current{n}_input")),
            power: Some((dir.join(format!("in_power{n}_input")), 1000)),
        })
    };
    (0..3).filter_map(channel).collect()
}

fn ina3221_channels(health: &Arc<Health>, device: &Path) -> Vec<Channel> {
    let Some(dir) = folder(health, &device.join("hwmon"), "hwmon") else {
        return Vec::new();
    };
    let channel = |n: u8| {
        Some(Channel {
            rail: connected(health, &dir.join(format!("in{n}_label")))?,
            voltage: dir.join(format!("in{n}_input")),
            current: dir.join(format!("curr{n}_input")),
            power: None,
        })
    };
    (1..=3).filter_map(channel).collect()
}

fn ina238_channels(health: &Arc<Health>, device: &Path) -> Vec<Channel> {
    let Some(dir) = folder(health, &device.join("hwmon"), "hwmon") else {
        return Vec::new();
    };
    if read_name(health, &dir.join("name")).as_deref() != Some("ina238") {
        return Vec::new();
    }
    let rail = match dir.join("label") {
        label if files::exists(health.io_log(), &label) => connected(health, &label),
        _ => Some(THOR_INPUT.to_string()),
    };
    let channel = |rail| Channel {
        rail,
        voltage: dir.join("in1_input"),
        current: dir.join("curr1_input"),
        power: Some((dir.join("power1_input"), 1)),
    };
    rail.map(channel).into_iter().collect()
}

/// The first folder with this prefix: a chip has one.
fn folder(health: &Arc<Health>, dir: &Path, prefix: &str) -> Option<PathBuf> {
    let mut names = entries(health, dir).ok()?.into_iter();
    names
        .find(|name| name.starts_with(prefix))
        .map(|name| dir.join(name))
}

/// A channel's label, if it has one and is connected.
fn connected(health: &Arc<Health>, label: &Path) -> Option<String> {
    if !files::exists(health.io_log(), label) {
        return None;
    }
    read_name(health, label).filter(|name| name != NOT_CONNECTED)
}
