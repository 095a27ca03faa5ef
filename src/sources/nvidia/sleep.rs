//! When nvidia-smi may run without resuming a suspended GPU or keeping an idle GPU from being suspended.
//!
//! The driver suspends an unused GPU if runtime D3 is enabled (NVIDIA driver README, "PCI-Express Runtime D3 (RTD3) Power
//! Management"), mostly on laptops. nvidia-smi opens all GPUs, even if only one is queried, so one suspended GPU is enough to
//! keep it from running. While it runs, no GPU is suspended. Therefore it is ended for a while if the kernel may suspend a GPU
//! (`power/control` is `auto`) and all GPUs have been idle, to see whether another program keeps them awake.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::Gpu;
use crate::sources::io_log::files;
use crate::sources::runtime_power::{is_display, RuntimePower};
use crate::sources::sysfs::entries;
use crate::sources::{read_text, Board, Health};
use crate::sys::clock::BootTime;

/// NVIDIA's PCI vendor id.
const VENDOR: &str = "0x10de";
/// The idle time in seconds after which nvidia-smi is ended, so that the GPUs can be suspended.
const MIN_IDLE_SECONDS: f64 = 30.0;
/// How long nvidia-smi stays ended, in seconds. According to reports, a GPU is suspended 6 to 20 s after nvidia-smi has ended.
const PAUSE_SECONDS: f64 = 20.0;
/// The idle time before the next pause, in seconds, if the GPUs were not suspended: another program uses them.
const RETRY_SECONDS: f64 = 600.0;

/// The power management of the GPUs of NVIDIA's driver.
pub(super) struct Sleep {
    gpus: Vec<(PathBuf, RuntimePower)>,
    /// Since when all GPUs have been idle.
    idle_since: Option<BootTime>,
    /// The idle time before the next pause.
    min_idle: f64,
    /// The end of the current pause.
    pause_until: Option<BootTime>,
}

impl Sleep {
    /// Without GPUs, nvidia-smi may always run.
    pub(super) fn new() -> Sleep {
        Sleep {
            gpus: Vec::new(),
            idle_since: None,
            min_idle: MIN_IDLE_SECONDS,
            pause_until: None,
        }
    }

    /// Looks for GPUs that were added or removed.
    pub(super) fn rescan(&mut self, health: &Arc<Health>, board: &Board) {
        let found = find(health, &board.roots.sysfs.join("bus/pci/devices"));
        self.gpus.retain(|(path, _)| found.contains(path));
        for path in found {
            if !self.gpus.iter().any(|(known, _)| *known == path) {
                let power = RuntimePower::of(health, &path);
                self.gpus.push((path, power));
            }
        }
    }

    /// Whether nvidia-smi may run now.
    pub(super) fn allows(&mut self, health: &Health, now: BootTime) -> bool {
        let mut suspended = false;
        for (path, power) in &mut self.gpus {
            suspended |= power.is_suspended();
            let what = || {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                format!("GPU {name} is suspended: nvidia-smi does not run")
            };
            power.announce(health, path, what, "nvidia.wake_suspended");
        }
        if suspended {
            *self = Sleep {
                gpus: std::mem::take(&mut self.gpus),
                ..Sleep::new()
            };
            return false;
        }
        match self.pause_until {
            Some(until) if now < until => false,
            Some(_) => {
                log::debug!("the GPUs are not suspended when idle: another program uses them");
                self.pause_until = None;
                self.min_idle = RETRY_SECONDS;
                true
            }
            None => true,
        }
    }

    /// Records whether a GPU was idle in a reading.
    pub(super) fn record_load(&mut self, gpu: &Gpu<'_>, at: BootTime) {
        let is_idle = |load: Option<f64>| load.is_none_or(|load| load == 0.0);
        match is_idle(gpu.load) && is_idle(gpu.memory_load) {
            true => {
                self.idle_since.get_or_insert(at);
            }
            false => self.idle_since = None,
        }
    }

    /// Whether nvidia-smi must be ended after a complete reading, so that the GPUs can be suspended.
    pub(super) fn must_pause(&mut self, now: BootTime) -> bool {
        let idle = |since: BootTime| now.seconds_since(since) >= self.min_idle;
        if !self.idle_since.is_some_and(idle) {
            return false;
        }
        self.idle_since = None;
        if !self.gpus.iter_mut().any(|(_, power)| power.may_suspend()) {
            return false;
        }
        log::info!("nvidia: the GPUs are idle: nvidia-smi is stopped for {PAUSE_SECONDS} s, so that they can be suspended");
        self.pause_until = Some(BootTime(now.0.saturating_add((PAUSE_SECONDS * 1e9) as u64)));
        true
    }
}

/// The display controllers that are bound to NVIDIA's driver, as canonical paths.
fn find(health: &Arc<Health>, devices: &Path) -> Vec<PathBuf> {
    let io_log = health.io_log();
    let names = entries(health, devices).unwrap_or_default();
    let gpus = names.iter().map(|name| devices.join(name)).filter(|pci| {
        let has_vendor = || read_text(health, &pci.join("vendor")).is_ok_and(|v| v == VENDOR);
        // nvidia-smi does not see a GPU that is bound to another driver (for a virtual machine).
        let driver = || files::resolve(io_log, &pci.join("driver")).ok();
        let is_nvidia = |driver: PathBuf| driver.file_name().is_some_and(|name| name == "nvidia");
        has_vendor() && is_display(health, pci) && driver().is_none_or(is_nvidia)
    });
    gpus.filter_map(|pci| files::resolve(io_log, &pci).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;

    const GPU: &str = "sys/devices/pci0000:00/0000:01:00.0";

    fn at(second: u64) -> BootTime {
        BootTime(second * 1_000_000_000)
    }

    /// Adds a PCI function of this vendor, class and driver, with this runtime status.
    fn add(tree: &Tree, name: &str, [vendor, class, driver, status]: [&str; 4]) {
        let dir = format!("sys/devices/pci0000:00/{name}");
        for (file, content) in [
            ("vendor", vendor),
            ("class", class),
            ("power/runtime_status", status),
            ("power/control", "auto"),
        ] {
            tree.write(&format!("{dir}/{file}"), format!("{content}\n"));
        }
        let drivers = format!("sys/bus/pci/drivers/{driver}");
        if !driver.is_empty() {
            tree.write(&format!("{drivers}/x"), "");
            tree.link(&format!("{dir}/driver"), &drivers);
        }
        tree.link(&format!("sys/bus/pci/devices/{name}"), &dir);
    }

    fn sleep(tree: &Tree, health: &Arc<Health>) -> Sleep {
        let mut sleep = Sleep::new();
        sleep.rescan(health, &Board::detect(tree.roots()));
        sleep
    }

    #[test]
    fn only_a_suspended_gpu_of_nvidias_driver_forbids_nvidia_smi() {
        for (device, allowed) in [
            (["0x10de", "0x030000", "nvidia", "suspended"], false),
            (["0x10de", "0x030200", "nvidia", "suspending"], false),
            (["0x10de", "0x030000", "", "suspended"], false),
            (["0x10de", "0x030000", "nvidia", "active"], true),
            (["0x10de", "0x030000", "vfio-pci", "suspended"], true),
            (["0x10de", "0x040300", "snd_hda_intel", "suspended"], true),
            (["0x10de", "0x0c0330", "xhci_hcd", "suspended"], true),
            (["0x1002", "0x030000", "amdgpu", "suspended"], true),
        ] {
            let tree = Tree::new(&[]);
            add(
                &tree,
                "0000:02:00.0",
                ["0x10de", "0x030000", "nvidia", "active"],
            );
            add(&tree, "0000:01:00.0", device);
            let health = Arc::new(Health::default());
            let mut sleep = sleep(&tree, &health);
            assert_eq!(sleep.allows(&health, at(1)), allowed, "{device:?}");
            assert_eq!(health.value_errors().is_empty(), allowed);
            tree.write(&format!("{GPU}/power/runtime_status"), "active\n");
            assert!(sleep.allows(&health, at(2)));
            assert!(health.value_errors().is_empty());
        }
    }

    #[test]
    fn nvidia_smi_pauses_when_the_gpus_are_idle() {
        let tree = Tree::new(&[]);
        add(
            &tree,
            "0000:01:00.0",
            ["0x10de", "0x030000", "nvidia", "active"],
        );
        let health = Arc::new(Health::default());
        let mut sleep = sleep(&tree, &health);
        let mut run = |from: u64, to: u64, load: f64| {
            let gpu = Gpu {
                load: Some(load),
                ..Gpu::default()
            };
            (from..to).find(|second| {
                assert!(sleep.allows(&health, at(*second)), "{second}");
                sleep.record_load(&gpu, at(*second));
                sleep.must_pause(at(*second))
            })
        };
        assert_eq!(run(0, 100, 0.01), None);
        assert_eq!(run(100, 120, 0.0), None);
        assert_eq!(run(120, 121, 0.5), None, "not idle for long enough");
        assert_eq!(run(121, 200, 0.0), Some(151));
        assert!(!sleep.allows(&health, at(152)));
        assert!(!sleep.allows(&health, at(170)));
        // The GPU was not suspended: another program uses it.
        let idle = Gpu::default();
        assert!(sleep.allows(&health, at(171)));
        sleep.record_load(&idle, at(171));
        assert!(!sleep.must_pause(at(400)));
        assert!(sleep.must_pause(at(771)));
        // The GPU is suspended now, until a program uses it.
        tree.write(&format!("{GPU}/power/runtime_status"), "suspended\n");
        assert!(!sleep.allows(&health, at(780)));
        assert!(!sleep.allows(&health, at(2000)));
        tree.write(&format!("{GPU}/power/runtime_status"), "active\n");
        assert!(sleep.allows(&health, at(2001)));
        sleep.record_load(&idle, at(2001));
        assert!(
            sleep.must_pause(at(2031)),
            "the GPU was suspended when idle"
        );
        // If the kernel never suspends the GPU, there is no pause.
        tree.write(&format!("{GPU}/power/control"), "on\n");
        assert!(sleep.allows(&health, at(2060)));
        sleep.record_load(&idle, at(2060));
        assert!(!sleep.must_pause(at(9000)));
    }
}
