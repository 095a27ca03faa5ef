//! A board whose load and power the test sets: cgroups of version 2 or 1, processors, and a meter at the board's input.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use crate::support::{exporter, on_board, Exporter, TempDir};

/// The files of the board.
pub struct LoadedBoard {
    temp: TempDir,
    is_v2: bool,
}

impl LoadedBoard {
    /// A board of four processors that draws 3 W, and these cgroups.
    pub fn new(is_v2: bool, cgroups: &[&str]) -> LoadedBoard {
        let board = LoadedBoard {
            temp: TempDir::new(),
            is_v2,
        };
        match is_v2 {
            true => board.write("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            false => board.write("sys/fs/cgroup/cpuacct/cpuacct.usage", "0\n"),
        }
        board.write("sys/devices/system/cpu/online", "0-3\n");
        board.write("proc/sys/kernel/hostname", "loaded\n");
        board.write("sys/class/hwmon/hwmon0/name", "ina226\n");
        board.write("sys/class/hwmon/hwmon0/in1_input", "5000\n");
        let meminfo = "MemTotal: 4194304 kB\nMemFree: 2097152 kB\nMemAvailable: 3145728 kB\n";
        board.write("proc/meminfo", meminfo);
        board.busy(0);
        board.power(3.0);
        cgroups.iter().for_each(|cgroup| board.used(cgroup, 0));
        board
    }

    /// The directory of the board's files.
    pub fn path(&self) -> &std::path::Path {
        self.temp.path()
    }

    /// Replaces a file as a whole, so that no reader sees half of it where it is opened anew.
    fn write(&self, path: &str, content: &str) {
        self.temp.write(path, content);
    }

    /// The board draws so many watts.
    pub fn power(&self, watts: f64) {
        let text = format!("{:>12}\n", (watts * 1e6) as u64);
        self.write("sys/class/hwmon/hwmon0/power1_input", &text);
    }

    /// All processors together were busy for so many milliseconds.
    pub fn busy(&self, ms: u64) {
        let text = format!("cpu  {:012} 0 0 99999 0 0 0 0 0 0\n", ms / 10);
        self.write("proc/stat", &text);
    }

    /// A cgroup has used so many milliseconds, and what it lies in as many.
    pub fn used(&self, cgroup: &str, ms: u64) {
        if let Some((above, _)) = cgroup.rsplit_once('/') {
            self.used(above, ms);
        }
        match self.is_v2 {
            true => {
                let text = format!("usage_usec {:014}\nuser_usec 0\n", ms * 1000);
                self.write(&format!("sys/fs/cgroup/{cgroup}/cpu.stat"), &text);
            }
            false => {
                let text = format!("{:017}\n", ms * 1_000_000);
                let file = format!("sys/fs/cgroup/cpuacct/{cgroup}/cpuacct.usage");
                self.write(&file, &text);
            }
        }
    }

    /// A cgroup has so many bytes of memory.
    pub fn memory(&self, cgroup: &str, bytes: u64) {
        let file = match self.is_v2 {
            true => format!("sys/fs/cgroup/{cgroup}/memory.current"),
            false => format!("sys/fs/cgroup/memory/{cgroup}/memory.usage_in_bytes"),
        };
        self.write(&file, &format!("{bytes}\n"));
    }

    /// Takes a cgroup away.
    pub fn remove(&self, cgroup: &str) {
        let root = if self.is_v2 { "" } else { "cpuacct/" };
        let folder = format!("sys/fs/cgroup/{root}{cgroup}");
        std::fs::remove_dir_all(self.temp.path().join(folder)).unwrap();
    }

    /// Starts the exporter on it, with these settings of `workloads` besides.
    pub fn exporter(&self, settings: &str) -> Exporter {
        let text = format!(
            "device_type: generic\ninterval: 0.05\nworkloads: {{enabled: true{settings}}}\n"
        );
        let config = self.temp.write("config.yaml", &text);
        let mut command = exporter();
        on_board(&mut command, self.temp.path());
        Exporter::start(command.arg("--config").arg(config))
    }
}
