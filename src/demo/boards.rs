//! The kinds of simulated boards: which files they have, and what the hardware shows in them.

use super::load;
use super::workloads::PROCESSORS;

/// A value as a function of time, in seconds.
pub(super) type Curve = fn(f64) -> f64;

/// A kind of board.
pub struct Kind {
    /// Its name on the command line.
    pub name: &'static str,
    /// Files with constant content.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Links: path and target.
    pub(super) links: &'static [(&'static str, &'static str)],
    /// Files with a number that follows the load.
    pub(super) gauges: &'static [(&'static str, Curve)],
    /// Files with a counter of microjoules: the power in watts, and the highest value.
    pub(super) counters: &'static [(&'static str, Curve, u64)],
    /// Whether there is a `tegrastats`.
    pub(super) has_tegrastats: bool,
    /// Whether programs run on it.
    pub(super) has_workloads: bool,
}

/// The `max_energy_range_uj` of many processors: about 2^32 times 61 µJ, and 2^32 times 15.3 µJ for memory.
const ENERGY_RANGE: u64 = 262_143_328_850;
const MEMORY_RANGE: u64 = 65_712_999_613;

/// An INA226 at the board's input, and where it is seen.
const CHIP_LINKS: [(&str, &str); 2] = [
    (
        "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/device",
        "../..",
    ),
    (
        "sys/class/hwmon/hwmon0",
        "../../devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0",
    ),
];

/// A Jetson with everything that this program reads, and with workloads.
const JETSON: Kind = Kind {
    name: "jetson",
    files: &[
        (
            "proc/device-tree/model",
            "NVIDIA Jetson Orin NX (simulated)\0",
        ),
        ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
        (
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
            "262143328850\n",
        ),
        ("sys/class/powercap/intel-rapl:0:0/name", "core\n"),
        (
            "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj",
            "262143328850\n",
        ),
        ("sys/class/powercap/intel-rapl:0:1/name", "dram\n"),
        (
            "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj",
            "65712999613\n",
        ),
        (
            "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/name",
            "ina226\n",
        ),
        ("sys/class/power_supply/usb-c/type", "USB\n"),
        ("sys/class/power_supply/usb-c/online", "1\n"),
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("sys/class/thermal/thermal_zone1/type", "board-thermal\n"),
        ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
        ("sys/devices/system/cpu/online", "0-7\n"),
        (
            "proc/meminfo",
            "MemTotal: 15895552 kB\nMemFree: 8912345 kB\nMemAvailable: 12345678 kB\nSwapTotal: 7947776 kB\nSwapFree: 7947776 kB\n",
        ),
        ("proc/self/mounts", "/dev/nvme0n1p1 / ext4 rw 0 0\n"),
    ],
    links: &CHIP_LINKS,
    gauges: &[
        (
            "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/in1_input",
            |t| load::input_volts(t) * 1e3,
        ),
        (
            "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/curr1_input",
            |t| load::input_watts(t) / load::input_volts(t) * 1e3,
        ),
        (
            "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/power1_input",
            |t| load::input_watts(t) * 1e6,
        ),
        ("sys/class/power_supply/usb-c/voltage_now", |_| 5.1e6),
        ("sys/class/power_supply/usb-c/current_now", |t| {
            load::input_watts(t) / 5.1 * 1e6
        }),
        ("sys/class/thermal/thermal_zone0/temp", |t| {
            load::celsius(t) * 1e3
        }),
        ("sys/class/thermal/thermal_zone1/temp", |t| {
            (30.0 + load::celsius(t) / 10.0) * 1e3
        }),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
            |t| 729e3 + 1_200e3 * load::busy(t),
        ),
    ],
    counters: &[
        (
            "sys/class/powercap/intel-rapl:0/energy_uj",
            load::package_watts,
            ENERGY_RANGE,
        ),
        (
            "sys/class/powercap/intel-rapl:0:0/energy_uj",
            |t| load::package_watts(t) * 0.6,
            ENERGY_RANGE,
        ),
        (
            "sys/class/powercap/intel-rapl:0:1/energy_uj",
            load::memory_watts,
            MEMORY_RANGE,
        ),
    ],
    has_tegrastats: true,
    has_workloads: true,
};

/// A Raspberry Pi with an INA226 at its input.
const RASPBERRY_PI: Kind = Kind {
    name: "raspberry-pi",
    files: &[
        (
            "proc/device-tree/model",
            "Raspberry Pi 4 Model B Rev 1.5 (simulated)\0",
        ),
        (
            "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/name",
            "ina226\n",
        ),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n"),
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
    ],
    links: &CHIP_LINKS,
    gauges: &[
        (
            "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/in1_input",
            |t| load::input_volts(t) * 1e3,
        ),
        (
            "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/curr1_input",
            |t| pi_watts(t) / load::input_volts(t) * 1e3,
        ),
        (
            "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0/power1_input",
            |t| pi_watts(t) * 1e6,
        ),
        ("sys/class/thermal/thermal_zone0/temp", |t| {
            load::celsius(t) * 1e3
        }),
    ],
    counters: &[],
    has_tegrastats: false,
    has_workloads: false,
};

/// An Orange Pi, which knows the current of its USB-C supply.
const ORANGE_PI: Kind = Kind {
    name: "orange-pi",
    files: &[
        ("proc/device-tree/model", "Orange Pi (simulated)\0"),
        ("sys/class/power_supply/axp20x-usb/type", "USB\n"),
        ("sys/class/power_supply/axp20x-usb/online", "1\n"),
        ("sys/class/thermal/thermal_zone0/type", "gpu-thermal\n"),
        ("sys/class/thermal/thermal_zone1/type", "cpu-thermal\n"),
    ],
    links: &[],
    gauges: &[
        ("sys/class/power_supply/axp20x-usb/voltage_now", |_| 5.0e6),
        ("sys/class/power_supply/axp20x-usb/current_now", |t| {
            pi_watts(t) * 1.4 / 5.0 * 1e6
        }),
        ("sys/class/thermal/thermal_zone0/temp", |t| {
            (load::celsius(t) - 4.0) * 1e3
        }),
        ("sys/class/thermal/thermal_zone1/temp", |t| {
            load::celsius(t) * 1e3
        }),
    ],
    counters: &[],
    has_tegrastats: false,
    has_workloads: false,
};

/// A PC with an Intel processor whose `psys` counts the whole platform.
const PC: Kind = Kind {
    name: "pc",
    files: &[
        ("sys/class/dmi/id/product_name", "NUC11 (simulated)\n"),
        ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
        (
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
            "262143328850\n",
        ),
        ("sys/class/powercap/intel-rapl:1/name", "psys\n"),
        (
            "sys/class/powercap/intel-rapl:1/max_energy_range_uj",
            "262143328850\n",
        ),
        ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
    ],
    links: &[],
    gauges: &[("sys/class/thermal/thermal_zone0/temp", |t| {
        (load::celsius(t) + 8.0) * 1e3
    })],
    counters: &[
        (
            "sys/class/powercap/intel-rapl:0/energy_uj",
            |t| load::package_watts(t) * 2.5,
            ENERGY_RANGE,
        ),
        (
            "sys/class/powercap/intel-rapl:1/energy_uj",
            |t| 6.0 + load::package_watts(t) * 3.0,
            ENERGY_RANGE,
        ),
    ],
    has_tegrastats: false,
    has_workloads: false,
};

impl Kind {
    /// Its configuration, where none is given.
    pub fn configuration(&self) -> &'static str {
        match self.has_workloads {
            true => "workloads: {enabled: true}\n",
            false => "",
        }
    }
}

/// All kinds. The first one is simulated where none is named.
pub const KINDS: [Kind; 4] = [JETSON, RASPBERRY_PI, ORANGE_PI, PC];

/// Power of a small board.
fn pi_watts(t: f64) -> f64 {
    2.1 + 4.2 * load::busy(t)
}

/// `/proc/cpuinfo` of a board with workloads.
pub(super) fn cpuinfo() -> String {
    let processor = |number: u32| {
        format!(
            "processor\t: {number}\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nCPU part\t: 0xd42\nphysical id\t: 0\ncore id\t: {number}\n\n"
        )
    };
    (0..PROCESSORS).map(processor).collect()
}
