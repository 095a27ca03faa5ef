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
        self.usage_of(cgroup, ms);
    }

    /// The same, and nothing of what it lies in.
    pub fn usage_of(&self, cgroup: &str, ms: u64) {
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

    /// A GPU of NVIDIA's draws so many watts, and is busy for this part of the time in percent; `None`: it does not say.
    pub fn gpu(&self, watts: u32, busy: Option<u32>) {
        self.write("proc/driver/nvidia/version", "");
        let busy = busy.map_or("[N/A]".to_string(), |busy| format!("{busy} %"));
        let text = format!(
            "index, count, uuid, power.draw, temperature.gpu, utilization.gpu, utilization.memory, name\n\
             0, 1, GPU-a, {watts} W, 50, {busy}, 0 %, NVIDIA RTX A4000\n"
        );
        self.write("nvidia-smi.txt", &text);
    }

    /// What `nvidia-smi pmon` says of the GPU's processes: id and part of the time in percent, or `-`.
    pub fn gpu_processes(&self, processes: &[(&str, &str)]) {
        let mut text =
            "# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command \n\
             # Idx           #    C/G      %      %      %      %      %      %    name \n"
                .to_string();
        for (pid, percent) in processes {
            text += &format!(
                "    0 {pid:>11} {:>6} {percent:>6}      -      -      -      -      -    a b\n",
                "C"
            );
        }
        self.pmon(&text);
    }

    /// What `nvidia-smi pmon` prints, or how it fails.
    pub fn pmon(&self, text: &str) {
        self.write("nvidia-pmon.txt", text);
    }

    /// There is this process in a cgroup.
    pub fn process(&self, pid: &str, cgroup: &str) {
        let text = format!("0::/{cgroup}\n4:cpu,cpuacct:/{cgroup}\n");
        self.write(&format!("proc/{pid}/cgroup"), &text);
    }

    /// A process has ended.
    pub fn end_process(&self, pid: &str) {
        std::fs::remove_dir_all(self.temp.path().join("proc").join(pid)).unwrap();
    }

    /// Takes a cgroup away.
    pub fn remove(&self, cgroup: &str) {
        let root = if self.is_v2 { "" } else { "cpuacct/" };
        let folder = format!("sys/fs/cgroup/{root}{cgroup}");
        std::fs::remove_dir_all(self.temp.path().join(folder)).unwrap();
    }

    /// Has the kernel's own cgroups and processor time in the place of the files.
    pub fn with_real_cgroups(self) -> LoadedBoard {
        let link = |target: &str, path: &str| {
            let path = self.temp.path().join(path);
            match path.is_dir() {
                true => std::fs::remove_dir_all(&path).unwrap(),
                false => std::fs::remove_file(&path).unwrap(),
            }
            std::os::unix::fs::symlink(target, path).unwrap();
        };
        link("/sys/fs/cgroup", "sys/fs/cgroup");
        link("/proc/stat", "proc/stat");
        self
    }

    /// Starts the exporter on it, with these settings of `workloads` besides.
    pub fn exporter(&self, settings: &str) -> Exporter {
        self.exporter_with(settings, "")
    }

    /// The same, with other settings as well.
    pub fn exporter_with(&self, settings: &str, others: &str) -> Exporter {
        let text = format!(
            "device_type: generic\ninterval: 0.05\nworkloads: {{enabled: true{settings}}}\n{others}"
        );
        let config = self.temp.write("config.yaml", &text);
        let mut command = exporter();
        on_board(&mut command, self.temp.path());
        Exporter::start(command.arg("--config").arg(config))
    }
}
