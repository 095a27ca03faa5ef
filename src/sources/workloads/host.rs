//! What naming schemes ask of the board besides its power: load, memory, the processors, file systems, and the exporter itself.

use std::path::Path;
use std::sync::Arc;

use super::counter::read_long;
use super::scheme::Value;
use super::usage::{meminfo_bytes, parse_process};
use crate::sources::attribute::read_text;
use crate::sources::io_log::files;
use crate::sources::{Board, Health};
use crate::sys::program::page_size;

/// At most this many file systems are measured.
const MAX_DISKS: usize = 16;
/// The longest text, in bytes: that of some 200 processors.
const MAX_TEXT: u64 = 256 * 1024;
/// At most this many processors are listed.
const MAX_PROCESSORS: usize = 256;

/// A processor, as /proc/cpuinfo describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Processor {
    pub processor: String,
    pub vendor_id: Option<String>,
    pub model_name: Option<String>,
    pub physical_id: Option<String>,
    pub core_id: Option<String>,
}

/// A file system on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    pub device: String,
    pub mount_point: String,
    pub file_system: String,
}

/// What was last read.
#[derive(Debug, Default)]
pub(super) struct Host {
    loads: [Option<f64>; 3],
    memory: Memory,
    clock: Option<f64>,
    /// CPU time of the exporter at the last two readings, in nanoseconds.
    own_nanos: [Option<u64>; 2],
    own_memory: [Option<f64>; 2],
    /// Each disk, and its size and free space.
    disks: Vec<(Arc<Disk>, Option<[f64; 2]>)>,
    disks_left_out: LeftOut,
    processors_left_out: LeftOut,
}

/// How many of a list that is read again and again were left out at most: each counts once.
#[derive(Debug, Default)]
pub(super) struct LeftOut(u64);

impl LeftOut {
    pub(super) fn raise(
        &mut self,
        health: &Health,
        limit: &'static str,
        now: u64,
        what: impl FnOnce() -> String,
    ) {
        health.left_out(limit, now.saturating_sub(self.0), what);
        self.0 = self.0.max(now);
    }
}

/// /proc/meminfo, in bytes.
#[derive(Debug, Default, Clone, PartialEq)]
struct Memory {
    total: Option<f64>,
    free: Option<f64>,
    available: Option<f64>,
    swap_total: Option<f64>,
    swap_free: Option<f64>,
}

impl Host {
    /// Reads what changes.
    pub(super) fn read(&mut self, health: &Arc<Health>, board: &Board) {
        let procfs = &board.roots.procfs;
        let text = |path: &Path| {
            let is_there = files::exists(health.io_log(), path);
            is_there.then(|| read_text(health, path).ok()).flatten()
        };
        self.loads = parse_loads(&text(&procfs.join("loadavg")).unwrap_or_default());
        self.memory = parse_memory(text(&procfs.join("meminfo")).unwrap_or_default().as_bytes());
        let clock = "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq";
        let kilohertz = text(&board.roots.sysfs.join(clock));
        self.clock = kilohertz.and_then(|text| Some(text.trim().parse::<u32>().ok()? as f64 * 1e3));
        self.read_own();
        for (disk, space) in &mut self.disks {
            *space = space_of(disk);
        }
    }

    fn read_own(&mut self) {
        // The exporter's own, and not the board's, which may be a directory elsewhere.
        let stat = std::fs::read("/proc/self/stat").unwrap_or_default();
        let own = parse_process(&stat);
        self.own_nanos = [self.own_nanos[1], own.as_ref().map(|own| own.nanos)];
        self.own_memory = [
            own.as_ref()
                .and_then(|own| Some(own.resident_pages? as f64 * page_size()? as f64)),
            own.as_ref().and_then(|own| Some(own.virtual_bytes? as f64)),
        ];
    }

    /// Looks for file systems, but not with an I/O log: a recording has no file systems.
    pub(super) fn find_disks(&mut self, health: &Arc<Health>, board: &Board) -> Vec<Arc<Disk>> {
        let path = board.roots.procfs.join("self/mounts");
        let is_live = health.io_log().is_off();
        let text = is_live
            .then(|| read_long(health, &path, MAX_TEXT))
            .flatten();
        let mounted = parse_mounts(&text.unwrap_or_default());
        let beyond = mounted.len().saturating_sub(MAX_DISKS) as u64;
        let is_known = |disk: &Disk| self.disks.iter().any(|(known, _)| **known == *disk);
        // Where there are more than fit, those that are known stay.
        let (known, new): (Vec<_>, Vec<_>) = mounted.into_iter().partition(is_known);
        let disks = known.into_iter().chain(new).take(MAX_DISKS).map(Arc::new);
        let disks: Vec<_> = disks.collect();
        self.disks = disks.iter().map(|disk| (Arc::clone(disk), None)).collect();
        self.disks_left_out.raise(health, "disks", beyond, || {
            format!("there are more than {MAX_DISKS} file systems")
        });
        disks
    }

    /// The processors.
    pub(super) fn processors(&mut self, health: &Arc<Health>, board: &Board) -> Vec<Processor> {
        let path = board.roots.procfs.join("cpuinfo");
        let text = read_long(health, &path, MAX_TEXT).unwrap_or_default();
        let mut processors = parse_processors(&text);
        let listed = text.lines().filter(|line| line.starts_with("processor"));
        let is_cut = text.len() as u64 >= MAX_TEXT;
        let beyond = listed.count().saturating_sub(processors.len()) as u64 + u64::from(is_cut);
        self.processors_left_out
            .raise(health, "processors", beyond, || {
                format!("there are more than {MAX_PROCESSORS} processors")
            });
        for processor in &mut processors {
            // Those of ARM have no name.
            if processor.model_name.is_none() {
                processor.model_name.clone_from(&board.model);
            }
        }
        processors
    }

    /// A quantity of the board, but those that the source itself knows. `capacity` is the CPU time that all processors together had between
    /// the last two readings, in nanoseconds.
    pub(super) fn value(&self, value: Value, capacity: Option<f64>) -> Option<f64> {
        match value {
            Value::One => Some(1.0),
            Value::Load1 => self.loads[0],
            Value::Load5 => self.loads[1],
            Value::Load15 => self.loads[2],
            Value::MemoryTotal => self.memory.total,
            Value::MemoryFree => self.memory.free,
            Value::MemoryAvailable => self.memory.available,
            Value::SwapTotal => self.memory.swap_total,
            Value::SwapFree => self.memory.swap_free,
            Value::ClockHertz => self.clock,
            Value::ExporterMemory => self.own_memory[0],
            Value::ExporterVirtualMemory => self.own_memory[1],
            Value::ExporterCpuRatio => {
                let used = self.own_nanos[1]?.checked_sub(self.own_nanos[0]?)?;
                Some((used as f64 / capacity?).min(1.0))
            }
            _ => None,
        }
    }

    /// A quantity of a file system.
    pub(super) fn of_disk(&self, disk: &Disk, value: Value) -> Option<f64> {
        let (_, space) = self.disks.iter().find(|(known, _)| **known == *disk)?;
        let [size, available] = (*space)?;
        match value {
            Value::Size => Some(size),
            Value::Available => Some(available),
            _ => None,
        }
    }
}

fn space_of(disk: &Disk) -> Option<[f64; 2]> {
    let stat = nix::sys::statvfs::statvfs(disk.mount_point.as_str()).ok()?;
    let block = stat.fragment_size() as f64;
    Some([
        stat.blocks() as f64 * block,
        stat.blocks_available() as f64 * block,
    ])
}

/// The three averages at the beginning of /proc/loadavg (proc(5)).
fn parse_loads(text: &str) -> [Option<f64>; 3] {
    let mut words = text.split_ascii_whitespace().map(|word| word.parse().ok());
    [(); 3].map(|()| words.next().flatten().filter(|load: &f64| load.is_finite()))
}

fn parse_memory(text: &[u8]) -> Memory {
    let bytes = |name: &str| meminfo_bytes(text, name).map(|bytes| bytes as f64);
    Memory {
        total: bytes("MemTotal"),
        free: bytes("MemFree"),
        available: bytes("MemAvailable"),
        swap_total: bytes("SwapTotal"),
        swap_free: bytes("SwapFree"),
    }
}

/// /proc/cpuinfo: lines of `name : value`, one paragraph for each processor.
fn parse_processors(text: &str) -> Vec<Processor> {
    let mut found: Vec<Processor> = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.trim() == "processor" && value.parse::<u32>().is_ok() {
            if found.len() >= MAX_PROCESSORS {
                return found;
            }
            found.push(Processor {
                processor: value.to_string(),
                ..Processor::default()
            });
            continue;
        }
        let Some(last) = found.last_mut() else {
            continue;
        };
        let field = match name.trim() {
            "vendor_id" => &mut last.vendor_id,
            "model name" => &mut last.model_name,
            "physical id" => &mut last.physical_id,
            "core id" => &mut last.core_id,
            _ => continue,
        };
        *field = crate::sources::sysfs::clean_name(value);
    }
    found
}

/// File systems on disks in /proc/mounts (fstab(5)), each device once.
fn parse_mounts(text: &str) -> Vec<Disk> {
    let mut found: Vec<Disk> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(mount_point), Some(file_system)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // Images are mounted by loop devices, and are always full.
        let is_disk = device.starts_with("/dev/") && !device.starts_with("/dev/loop");
        // An octal escape stands for a space or the like: no system's own mount point has one.
        if is_disk && !line.contains('\\') && found.iter().all(|disk| disk.device != device) {
            found.push(Disk {
                device: device.to_string(),
                mount_point: mount_point.to_string(),
                file_system: file_system.to_string(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_averages_are_read() {
        assert_eq!(
            parse_loads("0.52 0.58 0.59 3/1234 9876\n"),
            [Some(0.52), Some(0.58), Some(0.59)]
        );
        assert_eq!(parse_loads("0.5 x inf"), [Some(0.5), None, None]);
        assert_eq!(parse_loads(""), [None; 3]);
    }

    #[test]
    fn memory_is_in_bytes() {
        let memory = parse_memory(b"MemTotal:   100 kB\nMemFree: 7 kB\nnone\nSwapFree: many\n");
        assert_eq!(memory.total, Some(102_400.0));
        assert_eq!(memory.free, Some(7168.0));
        assert_eq!((memory.available, memory.swap_free), (None, None));
    }

    #[test]
    fn processors_are_read_from_paragraphs() {
        let text =
            "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: A 3.0\ncore id\t\t: 1\n\n\
                    processor\t: 1\nBogoMIPS\t: 38.40\n\nModel\t\t: Raspberry Pi 5\n";
        let found = parse_processors(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].vendor_id.as_deref(), Some("GenuineIntel"));
        assert_eq!(found[0].model_name.as_deref(), Some("A 3.0"));
        assert_eq!(found[0].core_id.as_deref(), Some("1"));
        assert_eq!((&*found[1].processor, &found[1].model_name), ("1", &None));
        let many: String = (0..1000).map(|i| format!("processor : {i}\n")).collect();
        assert_eq!(parse_processors(&many).len(), MAX_PROCESSORS);
        assert_eq!(parse_processors("model name: none\n"), []);
    }

    #[test]
    fn disks_are_listed_once() {
        let text = "proc /proc proc rw 0 0\n/dev/mmcblk0p2 / ext4 rw 0 0\n/dev/mmcblk0p2 /home ext4 rw 0 0\n\
                    /dev/loop3 /snap/a squashfs ro 0 0\n/dev/sda1 /mnt/a\\040b vfat rw 0 0\n/dev/sda2\n";
        let expected = Disk {
            device: "/dev/mmcblk0p2".to_string(),
            mount_point: "/".to_string(),
            file_system: "ext4".to_string(),
        };
        assert_eq!(parse_mounts(text), [expected]);
    }
}
