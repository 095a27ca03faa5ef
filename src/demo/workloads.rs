//! What runs on the simulated board: services, a container, pods and a virtual machine, as cgroups of version 2 and processes
//! in `/proc`. Their CPU time follows the load.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{symlink, FileExt};
use std::path::Path;

use super::load;

/// The number of processors of the board.
pub(super) const PROCESSORS: u32 = 8;
/// The part of the busy time that is the kernel's.
const KERNEL_SHARE: f64 = 0.08;
/// The seconds after which programs have changed their loads once.
const PERIOD: f64 = 90.0;

const WEB: &str = "6c1d7a0b93f24e58a1b7c9d0e2f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5";
const CAMERA: &str = "0f9e8d7c6b5a49382716a5b4c3d2e1f00112233445566778899aabbccddeeff0";
const SIDECAR: &str = "a0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccddeeff";
const DETECTOR: &str = "1b2c3d4e5f60718293a4b5c6d7e8f90a6c1d7a0b93f24e58a1b7c9d0e2f3a4b5";

const PROMETHEUS: &str = "9f8e7d6c5b4a392817060f1e2d3c4b5a00112233445566778899aabbccddeeff";

/// The pods: uid, namespace, name, and the names and ids of the containers.
#[allow(clippy::type_complexity)]
const PODS: [(&str, &str, &str, &[(&str, &str)]); 3] = [
    (
        "5b1c3a52-8f0d-4c7e-9a61-d2e3f4051627",
        "default",
        "camera-0",
        &[("gstreamer", CAMERA), ("logs", SIDECAR)],
    ),
    (
        "c0ffee00-1234-4abc-8def-0123456789ab",
        "default",
        "detector-6c9f7d5b84-x2x7k",
        &[("detector", DETECTOR)],
    ),
    (
        "7a3d9b10-55aa-4e0b-b1c2-99887766554a",
        "monitoring",
        "prometheus-0",
        &[("prometheus", PROMETHEUS)],
    ),
];

/// A program that runs: one process in one cgroup.
struct Program {
    pid: u32,
    /// The program's path. Its last part is the name of the process.
    exe: &'static str,
    arguments: &'static str,
    /// Folder of the cgroup; `{}` is the id of a container.
    cgroup: &'static str,
    id: &'static str,
    /// Its part of the load, beside those of the others.
    weight: f64,
    /// Resident memory, in pages of 4 KiB.
    pages: u32,
}

const PROGRAMS: [Program; 10] = [
    Program {
        pid: 412,
        exe: "/usr/sbin/sshd",
        arguments: "-D",
        cgroup: "system.slice/ssh.service",
        id: "",
        weight: 0.1,
        pages: 1_500,
    },
    Program {
        pid: 655,
        exe: "/usr/bin/dockerd",
        arguments: "-H\0fd://",
        cgroup: "system.slice/docker.service",
        id: "",
        weight: 0.4,
        pages: 20_000,
    },
    Program {
        pid: 688,
        exe: "/usr/local/bin/kubelet",
        arguments: "--config=/etc/kubernetes/kubelet.yaml",
        cgroup: "system.slice/kubelet.service",
        id: "",
        weight: 0.7,
        pages: 25_000,
    },
    Program {
        pid: 901,
        exe: "/usr/bin/python3",
        arguments: "/opt/notebook.py",
        cgroup: "user.slice/user-1000.slice/session-2.scope",
        id: "",
        weight: 0.8,
        pages: 40_000,
    },
    Program {
        pid: 1_204,
        exe: "/usr/sbin/grafana-server",
        arguments: "--homepath=/usr/share/grafana",
        cgroup: "system.slice/docker-{}.scope",
        id: WEB,
        weight: 1.5,
        pages: 4_000,
    },
    Program {
        pid: 1_530,
        exe: "/usr/bin/gst-launch-1.0",
        arguments: "nvarguscamerasrc\0!\0nvv4l2h264enc",
        cgroup: "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod5b1c3a52_8f0d_4c7e_9a61_d2e3f4051627.slice/cri-containerd-{}.scope",
        id: CAMERA,
        weight: 3.0,
        pages: 60_000,
    },
    Program {
        pid: 1_561,
        exe: "/usr/bin/fluent-bit",
        arguments: "-c\0/etc/fluent-bit.conf",
        cgroup: "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod5b1c3a52_8f0d_4c7e_9a61_d2e3f4051627.slice/cri-containerd-{}.scope",
        id: SIDECAR,
        weight: 0.3,
        pages: 3_000,
    },
    Program {
        pid: 1_702,
        exe: "/usr/local/bin/detector",
        arguments: "--model=/models/people.engine",
        cgroup: "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podc0ffee00_1234_4abc_8def_0123456789ab.slice/cri-containerd-{}.scope",
        id: DETECTOR,
        weight: 4.0,
        pages: 200_000,
    },
    Program {
        pid: 1_844,
        exe: "/bin/prometheus",
        arguments: "--storage.tsdb.path=/prometheus",
        cgroup: "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod7a3d9b10_55aa_4e0b_b1c2_99887766554a.slice/cri-containerd-{}.scope",
        id: PROMETHEUS,
        weight: 0.9,
        pages: 50_000,
    },
    Program {
        pid: 2_011,
        exe: "/usr/bin/qemu-system-aarch64",
        arguments: "-name\0guest=legacy",
        cgroup: "machine.slice/machine-qemu\\x2d1\\x2dlegacy.scope",
        id: "",
        weight: 1.2,
        pages: 130_000,
    },
];

impl Program {
    fn comm(&self) -> &str {
        let name = self.exe.rsplit('/').next().unwrap_or(self.exe);
        // The kernel keeps 15 bytes.
        name.get(..15).unwrap_or(name)
    }

    fn cgroup(&self) -> String {
        self.cgroup.replace("{}", self.id)
    }

    /// Its weight at `t`: the programs take turns.
    fn load(&self, t: f64) -> f64 {
        let phase = f64::from(self.pid) * 0.7;
        self.weight * (1.0 + 0.8 * (t * TAU / PERIOD + phase).sin())
    }
}

/// The files with what runs.
pub(super) struct Workloads {
    processes: Vec<File>,
    cgroups: Vec<(File, Vec<usize>)>,
    stat: File,
    loads: File,
    /// CPU seconds of each program.
    used: [f64; PROGRAMS.len()],
    kernel: f64,
    idle: f64,
}

impl Workloads {
    /// Creates the files in the board's directory.
    pub(super) fn build(dir: &Path) -> io::Result<Workloads> {
        let procfs = dir.join("proc");
        let mut folders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut processes = Vec::new();
        for (index, program) in PROGRAMS.iter().enumerate() {
            let cgroup = program.cgroup();
            for (end, _) in cgroup.match_indices('/').chain([(cgroup.len(), "")]) {
                let folder = cgroup.get(..end).unwrap_or_default().to_string();
                folders.entry(folder).or_default().push(index);
            }
            let process = procfs.join(program.pid.to_string());
            fs::create_dir_all(&process)?;
            symlink(program.exe, process.join("exe"))?;
            let cmdline = format!("{}\0{}\0", program.exe, program.arguments);
            fs::write(process.join("cmdline"), cmdline)?;
            fs::write(process.join("cgroup"), format!("0::/{cgroup}\n"))?;
            processes.push(File::create(process.join("stat"))?);
        }
        let root = dir.join("sys/fs/cgroup");
        let mut cgroups = Vec::new();
        for (folder, programs) in folders {
            let folder = root.join(folder);
            fs::create_dir_all(&folder)?;
            cgroups.push((File::create(folder.join("cpu.stat"))?, programs));
        }
        // As kubelet names the logs of pods, by which their names are known.
        let logs = dir.join("var/log");
        for (uid, namespace, pod, containers) in PODS {
            fs::create_dir_all(logs.join(format!("pods/{namespace}_{pod}_{uid}")))?;
            fs::create_dir_all(logs.join("containers"))?;
            for (container, id) in containers {
                let log = format!("containers/{pod}_{namespace}_{container}-{id}.log");
                File::create(logs.join(log))?;
            }
        }
        let mut workloads = Workloads {
            processes,
            cgroups,
            stat: File::create(procfs.join("stat"))?,
            loads: File::create(procfs.join("loadavg"))?,
            used: [0.0; PROGRAMS.len()],
            kernel: 0.0,
            idle: 0.0,
        };
        workloads.step(0.0, 0.0)?;
        Ok(workloads)
    }

    /// `seconds` have passed until `t`, on the boot-time clock.
    pub(super) fn step(&mut self, t: f64, seconds: f64) -> io::Result<()> {
        let busy = load::busy(t).clamp(0.0, 1.0) * f64::from(PROCESSORS) * seconds;
        self.idle += f64::from(PROCESSORS) * seconds - busy;
        self.kernel += busy * KERNEL_SHARE;
        let loads = PROGRAMS.iter().map(|program| program.load(t));
        let all: f64 = loads.clone().sum();
        for (used, load) in self.used.iter_mut().zip(loads) {
            *used += busy * (1.0 - KERNEL_SHARE) * load / all;
        }
        // Each file is overwritten by a single write of constant length, so that a reader never sees a part of it.
        let ticks = |seconds: f64| (seconds * 100.0) as u64;
        for ((file, program), used) in self.processes.iter().zip(&PROGRAMS).zip(self.used) {
            let text = format!(
                "{} ({}) S 1 1 1 0 -1 4194560 0 0 0 0 {:012} 0 0 0 20 0 1 0 {} {} {} 0\n",
                program.pid,
                program.comm(),
                ticks(used),
                program.pid,
                u64::from(program.pages) * 4096 * 3,
                program.pages,
            );
            file.write_all_at(text.as_bytes(), 0)?;
        }
        for (file, programs) in &self.cgroups {
            let used: f64 = programs.iter().filter_map(|i| self.used.get(*i)).sum();
            let text = format!("usage_usec {:014}\n", (used * 1e6) as u64);
            file.write_all_at(text.as_bytes(), 0)?;
        }
        let used: f64 = self.used.iter().sum();
        let text = format!(
            "cpu  {:012} 0 {:012} {:012} 0 0 0 0 0 0\n",
            ticks(used),
            ticks(self.kernel),
            ticks(self.idle)
        );
        self.stat.write_all_at(text.as_bytes(), 0)?;
        let load = |t: f64| f64::from(PROCESSORS) * load::busy(t).clamp(0.0, 1.0);
        let text = format!(
            "{:5.2} {:5.2} {:5.2} 2/190 2011\n",
            load(t),
            load(t - 5.0),
            4.0
        );
        self.loads.write_all_at(text.as_bytes(), 0)
    }
}
