//! Runtime power management: devices that the kernel suspends while they are unused (Linux,
//! Documentation/power/runtime_pm.rst, Documentation/ABI/testing/sysfs-devices-power).
//!
//! Reading a value makes the driver resume its device, so that a meter would change what it measures: an idle GPU draws
//! several watts while it is kept awake. Reading `power/runtime_status`, the kernel's record of the device's state, resumes
//! nothing.
//!
//! * **Which devices count**: the PCI functions and SCSI devices that a value is read through. The controller of an I2C,
//!   SPI or USB bus does not count: it suspends between any two transfers, and its devices work nevertheless. A display
//!   controller counts, since the GPU's own chips are on its I2C buses.
//! * **A device that may suspend** (`power/control` is `auto`) suspends after it was idle for `autosuspend_delay_ms`, and
//!   every reading restarts that time. Unless another program uses the device (`power/runtime_usage`, where the kernel has
//!   it), it is therefore read no more often than that time plus a second.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::io_log::files;
use super::{read_text, Attribute, Health};
use crate::sys::clock::BootTime;

/// How long a device may take to suspend after its autosuspend delay, in seconds.
const SUSPEND_MARGIN: f64 = 1.0;

/// Whether a device may be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// The device may be read.
    Read,
    /// The device may not be read yet, since it would never suspend. Its last values are kept.
    Hold,
    /// The device is suspended and may not be read.
    Suspended,
}

/// The runtime power management of the devices that a value is read through. The default never suspends.
#[derive(Debug, Default)]
pub(super) struct RuntimePower {
    /// `runtime_status` of each device.
    statuses: Vec<Attribute>,
    control: Option<Attribute>,
    delay: Option<Attribute>,
    usage: Option<Attribute>,
    /// The idle time in seconds after which the device suspends. `None`: never.
    suspends_after: Option<f64>,
    read_at: Option<BootTime>,
    /// Whether the device was suspended at the last check.
    suspended: bool,
    /// Whether the last report was that the device is suspended.
    reported: bool,
}

impl RuntimePower {
    /// The power management of the device in this folder, given as a canonical path.
    pub(super) fn of(health: &Arc<Health>, device: &Path) -> RuntimePower {
        let attribute = |folder: &Path, name: &str| {
            let path = folder.join("power").join(name);
            files::exists(health.io_log(), &path).then(|| Attribute::new(health, path))
        };
        let devices = devices(device, |pci| is_display(health, pci));
        let own = |name| devices.first().and_then(|own| attribute(own, name));
        let mut power = RuntimePower {
            statuses: devices
                .iter()
                .filter_map(|device| attribute(device, "runtime_status"))
                .collect(),
            control: own("control"),
            delay: own("autosuspend_delay_ms"),
            usage: own("runtime_usage"),
            suspends_after: None,
            read_at: None,
            suspended: false,
            reported: false,
        };
        power.refresh_autosuspend();
        power
    }

    /// Reads the autosuspend delay again, which users change.
    pub(super) fn refresh_autosuspend(&mut self) {
        let is_auto = |text: &[u8]| Some(text.trim_ascii() == b"auto");
        let control = self.control.as_mut();
        let may_suspend = control.and_then(|a| a.read_as("a kind of power management", is_auto));
        self.suspends_after = match (may_suspend, &mut self.delay) {
            // A negative delay means never. Reading fails with EIO for most devices, which have no delay.
            (Some(true), Some(delay)) => {
                let delay = delay.try_read().ok().flatten();
                delay.filter(|ms| *ms >= 0).map(|ms| ms as f64 / 1e3)
            }
            _ => None,
        };
    }

    /// Whether the device is suspended, or about to be.
    pub(super) fn is_suspended(&mut self) -> bool {
        let is_suspended =
            |text: &[u8]| Some(matches!(text.trim_ascii(), b"suspended" | b"suspending"));
        let mut statuses = self.statuses.iter_mut();
        self.suspended = statuses.any(|status| {
            let status = status.read_as("a runtime status", is_suspended);
            status == Some(true)
        });
        self.suspended
    }

    /// Reports a change between suspended and resumed in the log, and as the value error of `path`. `what` names the
    /// device and what is not done, `setting` the setting that allows it nevertheless.
    pub(super) fn announce(
        &mut self,
        health: &Health,
        path: &Path,
        what: impl FnOnce() -> String,
        setting: &str,
    ) {
        if self.suspended == self.reported {
            return;
        }
        self.reported = self.suspended;
        let what = what();
        let why = format!(
            "{what}, because that would resume it (set {setting}: true to read it nevertheless)"
        );
        match self.suspended {
            true => log::info!("{why}"),
            false => log::info!("resumed: no longer {what}"),
        }
        health.set_value_error(path, self.suspended.then_some(why));
    }

    /// Whether the kernel suspends the device when it is idle.
    pub(super) fn may_suspend(&mut self) -> bool {
        let is_auto = |text: &[u8]| Some(text.trim_ascii() == b"auto");
        let control = self.control.as_mut();
        control.and_then(|a| a.read_as("a kind of power management", is_auto)) == Some(true)
    }

    /// Whether the device may be read at this time.
    pub(super) fn access(&mut self, now: BootTime) -> Access {
        if self.statuses.is_empty() {
            return Access::Read;
        }
        if self.is_suspended() {
            self.read_at = None;
            return Access::Suspended;
        }
        if let (Some(delay), Some(then)) = (self.suspends_after, self.read_at) {
            let used = self.usage.as_mut().and_then(Attribute::read);
            if now.seconds_since(then) < delay + SUSPEND_MARGIN && used.unwrap_or(0) <= 0 {
                return Access::Hold;
            }
        }
        self.read_at = Some(now);
        Access::Read
    }
}

/// The devices that the values of the one in this folder are read through, the nearest first.
fn devices(device: &Path, is_display: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let ancestors: Vec<&Path> = device.ancestors().collect();
    let is = |path: &Path, kind: fn(&str) -> bool| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(kind)
    };
    let nearest = ancestors.iter().position(|path| is(path, is_pci));
    let (below, above) = ancestors.split_at(nearest.unwrap_or(ancestors.len()));
    let is_behind_bus = below.iter().any(|path| is(path, is_bus));
    let counts = above
        .first()
        .is_some_and(|pci| !is_behind_bus || is_display(pci));
    let disks = below.iter().filter(|path| is(path, is_scsi));
    let functions = above.iter().filter(|path| counts && is(path, is_pci));
    disks
        .chain(functions)
        .map(|path| path.to_path_buf())
        .collect()
}

/// `0000:03:00.0`: domain, bus, device and function.
fn is_pci(name: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = name.splitn(3, ':');
    let (Some(domain), Some(bus), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some((device, function)) = rest.split_once('.') else {
        return false;
    };
    // Names of HID devices are of the same form, and longer.
    let lengths = (bus.len(), device.len(), function.len());
    domain.len() >= 4
        && lengths == (2, 2, 1)
        && [domain, bus, device, function].into_iter().all(is_hex)
}

/// `0:0:0:0`: host, channel, target and unit.
fn is_scsi(name: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    name.split(':').count() == 4 && name.split(':').all(is_number)
}

/// `i2c-5`, `spi0`, `usb1`: a bus whose controller works for each transfer.
fn is_bus(name: &str) -> bool {
    ["i2c-", "i3c-", "spi", "usb"].iter().any(|bus| {
        let number = name.strip_prefix(bus);
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Whether a PCI function is a display controller: base class 3 (PCI Code and ID Assignment Specification).
pub(super) fn is_display(health: &Arc<Health>, pci: &Path) -> bool {
    read_text(health, &pci.join("class")).is_ok_and(|class| class.starts_with("0x03"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;

    fn names(device: &str, display: bool) -> Vec<String> {
        let found = devices(Path::new(device), |_| display);
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        found.iter().map(name).collect()
    }

    #[test]
    fn pci_functions_and_disks_count_but_bus_controllers_do_not() {
        let gpu = "/sys/devices/pci0000:00/0000:00:01.1/0000:02:00.0/0000:03:00.0";
        assert_eq!(
            names(gpu, true),
            ["0000:03:00.0", "0000:02:00.0", "0000:00:01.1"]
        );
        assert_eq!(names(&format!("{gpu}/i2c-5/5-0041"), true).len(), 3);
        let nvme = "/sys/devices/pci0000:00/10000:e1:00.0/nvme/nvme0";
        assert_eq!(names(nvme, false), ["10000:e1:00.0"]);
        let sata = "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0";
        assert_eq!(names(sata, false), ["0:0:0:0", "0000:00:17.0"]);
        for (device, expected) in [
            (
                "/sys/devices/pci0000:00/0000:00:15.0/i2c_designware.0/i2c-0/0-0040",
                &[][..],
            ),
            ("/sys/devices/pci0000:00/0000:00:1f.4/i2c-1/1-0018", &[]),
            (
                "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/0003:1B1C:1C05.0001",
                &[],
            ),
            (
                "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0",
                &["6:0:0:0"],
            ),
            ("/sys/devices/platform/soc/fe804000.i2c/i2c-1/1-0040", &[]),
            ("/sys/devices/platform/coretemp.0", &[]),
            ("/", &[]),
        ] {
            assert_eq!(names(device, false), expected, "{device}");
        }
    }

    const GPU: &str = "sys/devices/pci0000:00/0000:03:00.0";

    fn power(tree: &Tree, files: &[(&str, &str)]) -> RuntimePower {
        for (name, content) in files {
            tree.write(&format!("{GPU}/power/{name}"), format!("{content}\n"));
        }
        RuntimePower::of(&Arc::new(Health::default()), &tree.path(GPU))
    }

    #[test]
    fn only_suspended_and_suspending_devices_are_not_read() {
        for (status, expected) in [
            ("suspended", Access::Suspended),
            ("suspending", Access::Suspended),
            ("active", Access::Read),
            ("resuming", Access::Read),
            ("error", Access::Read),
            ("unsupported", Access::Read),
            ("", Access::Read),
            ("\u{fffd}", Access::Read),
        ] {
            let tree = Tree::new(&[]);
            let mut power = power(&tree, &[("runtime_status", status), ("control", "on")]);
            for second in 1..4 {
                let now = BootTime(second * 1_000_000_000);
                assert_eq!(power.access(now), expected, "{status}");
            }
        }
        let tree = Tree::new(&[]);
        assert_eq!(power(&tree, &[]).access(BootTime(1)), Access::Read);
    }

    /// Reading fails with EIO on devices without a delay. Reading a folder fails, too.
    #[test]
    fn device_without_a_delay_is_read_without_errors() {
        let tree = Tree::new(&[
            (&format!("{GPU}/power/runtime_status"), "active\n"),
            (&format!("{GPU}/power/control"), "auto\n"),
            (&format!("{GPU}/power/autosuspend_delay_ms/x"), ""),
        ]);
        let health = Arc::new(Health::default());
        let mut power = RuntimePower::of(&health, &tree.path(GPU));
        for second in 1..4 {
            power.refresh_autosuspend();
            assert_eq!(power.access(BootTime(second * 1_000_000_000)), Access::Read);
        }
        assert_eq!((health.errors(), health.value_errors()), (0, vec![]));
    }

    #[test]
    fn idle_device_is_read_rarely_enough_to_suspend() {
        let accesses = |files: &[(&str, &str)]| {
            let tree = Tree::new(&[]);
            let mut power = power(&tree, files);
            let letters = (0..14).map(|s| match power.access(BootTime(s * 1_000_000_000)) {
                Access::Read => 'r',
                Access::Hold => '.',
                Access::Suspended => 's',
            });
            letters.collect::<String>()
        };
        let idle = [
            ("runtime_status", "active"),
            ("control", "auto"),
            ("autosuspend_delay_ms", "5000"),
        ];
        assert_eq!(accesses(&idle), "r.....r.....r.");
        let all = "rrrrrrrrrrrrrr";
        for (name, content, expected) in [
            ("runtime_usage", "0", "r.....r.....r."),
            ("runtime_usage", "2", all),
            ("control", "on", all),
            ("autosuspend_delay_ms", "-1", all),
            (
                "autosuspend_delay_ms",
                "9223372036854775807",
                "r.............",
            ),
            ("runtime_status", "suspended", "ssssssssssssss"),
        ] {
            let mut files = idle.to_vec();
            files.push((name, content));
            assert_eq!(accesses(&files), expected, "{name} {content}");
        }
    }
}
