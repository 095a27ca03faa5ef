//! Which buses are asked without being named. A display's data channel and a PC's SMBus have no power monitors that anybody has
//! wired there, but screens, memory modules and battery controllers. (lm_sensors' `sensors-detect` leaves out buses of graphics
//! cards as well; probing SMBus has erased EEPROMs of ThinkPads.)

use std::path::{Path, PathBuf};

use crate::sources::Roots;

/// Parts of names of adapters that belong to a display, in lower case. (Linux, drivers/gpu/drm, drivers/video/fbdev.) The
/// second bus of a Raspberry Pi 0 to 3 is its HDMI socket's.
const DISPLAY_NAMES: [&str; 12] = [
    "ddc",
    "hdmi",
    "gmbus",
    "nvidia i2c",
    "nvkm",
    "nouveau",
    "radeon",
    "amdgpu",
    "dpaux",
    "aux ch",
    "dpmst",
    "i2c@7e805000",
];

fn folder(roots: &Roots, bus: u32) -> PathBuf {
    roots.sysfs.join(format!("bus/i2c/devices/i2c-{bus}"))
}

/// What the driver calls the bus: `bcm2835 (i2c@7e804000)`.
pub(super) fn name(roots: &Roots, bus: u32) -> Option<String> {
    let text = std::fs::read_to_string(folder(roots, bus).join("name")).ok()?;
    let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    (!text.is_empty()).then_some(text)
}

/// The buses that this one is a branch of: multiplexers can stand behind each other.
pub(super) fn parents(roots: &Roots, bus: u32) -> Vec<u32> {
    let path = std::fs::canonicalize(folder(roots, bus)).unwrap_or_default();
    let folders = path.ancestors().skip(1);
    let number = |folder: &Path| {
        let name = folder.file_name()?.to_str()?;
        name.strip_prefix("i2c-")?.parse().ok()
    };
    folders.filter_map(number).collect()
}

/// Why a bus is asked only if it is named.
pub(super) fn reason_to_leave_out(roots: &Roots, bus: u32) -> Option<&'static str> {
    const DISPLAY: Option<&str> = Some("it is a display's");
    const SMBUS: Option<&str> = Some("it is a PC's SMBus, with its memory modules");
    let name = name(roots, bus).unwrap_or_default().to_lowercase();
    if DISPLAY_NAMES.iter().any(|part| name.contains(part)) || is_ddc(roots, bus) {
        return DISPLAY;
    }
    if name.contains("smbus") {
        return SMBUS;
    }
    let path = std::fs::canonicalize(folder(roots, bus)).ok()?;
    if path.components().any(|part| part.as_os_str() == "drm") {
        return DISPLAY;
    }
    // The class of the PCI device that it belongs to.
    let mut folders = path.ancestors();
    let class = folders.find_map(|folder| std::fs::read_to_string(folder.join("class")).ok())?;
    match class.trim() {
        class if class.starts_with("0x03") => DISPLAY,
        class if class.starts_with("0x0c05") => SMBUS,
        _ => None,
    }
}

/// Whether a display's connector has this bus as its data channel (Linux, drivers/gpu/drm/drm_sysfs.c).
fn is_ddc(roots: &Roots, bus: u32) -> bool {
    let connectors = std::fs::read_dir(roots.sysfs.join("class/drm"));
    connectors.into_iter().flatten().flatten().any(|connector| {
        let link = std::fs::read_link(connector.path().join("ddc"));
        let bus = format!("i2c-{bus}");
        link.is_ok_and(|link| link.file_name().is_some_and(|name| *name == *bus))
    })
}
