//! How each kind of meter shows a power that is known as a function of time: what its registers, files or answers say.

use super::waves::Wave;

/// Where the recording of a meter comes from, into which the waveform is written.
pub enum Base {
    /// A fixture board that the binary records.
    Board(&'static str),
    /// A fixture board that is a recording.
    Recording(&'static str),
    /// A device on the network: the configuration of its source, and the name of the source's log.
    Network(&'static str, &'static str),
}

/// What the energy is made of.
#[derive(Clone, Copy, PartialEq)]
pub enum Method {
    /// The device counts energy.
    Counter,
    /// The device says the power at the moment when it is asked.
    Moment,
    /// The device says the mean power of a part of the interval.
    Part,
    /// The device says the mean power of all of the interval.
    Whole,
}

/// Power, at one poll.
pub struct Now {
    pub wave: Wave,
    pub at: f64,
    /// The interval of the polls.
    pub interval: f64,
    /// When the counter wraps, if it does.
    pub wraps_at: Option<f64>,
}

impl Now {
    fn watts(&self) -> f64 {
        (self.wave.watts)(self.at)
    }

    /// Energy since the time 0, as a counter that moves at this pace (in seconds) has it.
    fn counted(&self, pace: f64) -> f64 {
        // A hair more: 0.07 / 0.001 is less than 70.
        (self.wave.joules)((self.at / pace + 1e-6).floor() * pace)
    }

    /// The mean power of the last window of this length that has ended.
    fn mean(&self, window: f64) -> f64 {
        let end = (self.at / window + 1e-6).floor() * window;
        ((self.wave.joules)(end) - (self.wave.joules)(end - window)) / window
    }

    /// A counter in units of this many joules that wraps at `range` units.
    fn units(&self, joules: f64, unit: f64, range: u64) -> u64 {
        let start = match self.wraps_at {
            Some(at) => range - ((self.wave.joules)(at) / unit) as u64,
            None => 1_000_000,
        };
        (start + (joules / unit) as u64) % range
    }
}

/// To the nearest multiple of `step`.
fn in_steps(value: f64, step: f64) -> f64 {
    (value / step).round() * step
}

pub struct Meter {
    /// What it is called in `docs/accuracy.md`.
    pub name: &'static str,
    pub source: &'static str,
    pub rail: &'static str,
    pub base: Base,
    pub method: Method,
    /// Whether it has a counter that wraps.
    pub wraps: bool,
    /// Interval and duration of its runs, in seconds.
    pub runs: &'static [(f64, f64)],
    /// The energy that the resolution of its counter, or the pace at which it moves, can keep back: in joules.
    pub step: f64,
    /// What it takes when it is set up for one of these intervals, beside what the recording has: settings of the chip.
    pub takes: &'static [&'static str],
    /// What it answers, by request; or, for a source that waits for its device, what it sends, by channel.
    pub says: fn(&Now) -> Vec<(&'static str, String)>,
}

impl Meter {
    /// Whether its source waits for its device.
    pub fn is_received(&self) -> bool {
        matches!(self.source, "nvidia" | "tegrastats" | "udp")
    }
}

const USUAL: &[(f64, f64)] = &[(1.0, 60.0), (0.01, 10.0)];
const ONCE_A_SECOND: &[(f64, f64)] = &[(1.0, 60.0)];

/// The number of conversions that INA260 averages at this interval, of 2.2 ms each: `docs/devices/ina260.md`.
fn window_of_ina260(interval: f64) -> f64 {
    match interval >= 1.0 {
        true => 256.0 * 2.2e-3,
        false => 4.0 * 2.2e-3,
    }
}

pub const METERS: &[Meter] = &[
    Meter {
        name: "RAPL (powercap)",
        source: "rapl",
        rail: "package-0",
        base: Base::Board("intel_laptop_psys"),
        method: Method::Counter,
        wraps: true,
        runs: USUAL,
        // It moves once a millisecond.
        step: 5e-3,
        takes: &[],
        says: |now| {
            // 61 µJ, in microjoules of 32 bits of those.
            let counted = (now.counted(1e-3) / 61.035e-6).floor() * 61.035e-6;
            let microjoules = now.units(counted, 1e-6, 262_143_328_850);
            vec![(
                "sys/class/powercap/intel-rapl:0/energy_uj",
                format!("{microjoules}\\n"),
            )]
        },
    },
    Meter {
        name: "NVIDIA GPU with a counter",
        source: "nvidia",
        rail: "nvidia_gpu_0",
        base: Base::Board("pc_nvidia_energy"),
        method: Method::Counter,
        wraps: false,
        runs: ONCE_A_SECOND,
        // It moves once in 20 ms.
        step: 0.1,
        takes: &[],
        says: |now| {
            let millijoules = now.units(now.counted(0.02), 1e-3, u64::MAX);
            let line = format!(
                "0, 1, GPU-c4aa2f6d-7713-4be3-8a52-0f5c9d0d1f21, {:.2} W, {millijoules} mJ, 41, 3 %, 1 %, NVIDIA RTX 2000 Ada Generation",
                now.watts()
            );
            vec![("nvidia-smi", line)]
        },
    },
    Meter {
        name: "INA228",
        source: "ina2xx",
        rail: "input",
        base: Base::Recording("raspberry_pi_4_ina2xx"),
        method: Method::Counter,
        wraps: true,
        runs: USUAL,
        step: 0.02,
        takes: &[
            "dev/i2c-1 0x40 w003ddf",
            "dev/i2c-1 0x41 w004327",
            "dev/i2c-1 0x44 w01bb69",
            "dev/i2c-1 0x43 w007127",
        ],
        says: |now| {
            // 16 times the unit of power (3.2 times that of current, 10 A in 2^19), at every conversion.
            let unit = ina228_unit();
            let counted = now.units(now.counted(2.2e-3), 16.0 * 3.2 * unit, 1 << 40);
            let amperes = (now.watts() / 12.0 / unit).round() as u64;
            vec![
                ("dev/i2c-1 0x44 w05 r3", format!("{:06x}", 61_440 << 4)),
                ("dev/i2c-1 0x44 w04 r3", format!("{:06x}", amperes << 4)),
                ("dev/i2c-1 0x44 w09 r5", format!("{counted:010x}")),
            ]
        },
    },
    Meter {
        name: "UDP (ESP32)",
        source: "udp",
        rail: "device",
        base: Base::Network("udp: {mode: listen, port: 0, voltage: 5}\n", "udp"),
        method: Method::Counter,
        wraps: false,
        runs: ONCE_A_SECOND,
        step: 5e-3,
        takes: &[],
        says: |now| {
            let milliamperes = (now.watts() / 5.0 * 1e3) as f32;
            let charge = now.counted(1e-3) / 5.0 * 1e3;
            let mut content = String::from("192.168.1.7:5000 \\x08");
            let mut rest = (now.at * 1e6) as u64;
            while rest > 0x7f {
                content += &format!("\\x{:02x}", rest as u8 | 0x80);
                rest >>= 7;
            }
            content += &format!("\\x{rest:02x}\\x11");
            for byte in charge.to_le_bytes() {
                content += &format!("\\x{byte:02x}");
            }
            content += "\\x1d";
            for byte in milliamperes.to_le_bytes() {
                content += &format!("\\x{byte:02x}");
            }
            vec![("udp", content)]
        },
    },
    Meter {
        name: "Shelly, whose counter moves once a minute",
        source: "shelly",
        rail: "plug/switch:0",
        base: Base::Network("shelly: {host: 192.168.1.9, name: plug}\n", "shelly-plug"),
        method: Method::Counter,
        wraps: false,
        runs: &[(1.0, 630.0)],
        step: 5.0 * 60.0,
        takes: &[],
        says: |now| {
            let status = format!(
                r#"{{"switch:0":{{"id":0,"output":true,"apower":{:.1},"voltage":230.0,"current":0.1,"aenergy":{{"total":{:.3}}}}}}}"#,
                now.watts(),
                7.0 + now.counted(60.0) / 3600.0
            );
            vec![
                ("address", "".to_string()),
                (
                    "GET /shelly",
                    r#"{"name":null,"mac":"AA","model":"SNPL-00112EU","gen":2,"app":"PlusPlugS","auth_en":false}"#.to_string(),
                ),
                ("GET /rpc/Shelly.GetStatus", status),
            ]
        },
    },
    Meter {
        name: "Tasmota (`json`), which counts in steps of 1 Wh",
        source: "json",
        rail: "plug",
        base: Base::Network(
            "json: {devices: [{profile: tasmota, host: 192.168.1.9, name: plug}]}\n",
            "json-plug",
        ),
        method: Method::Counter,
        wraps: false,
        runs: &[(10.0, 36_360.0)],
        step: 3600.0,
        takes: &[],
        says: |now| {
            let total = 1.234 + (now.counted(1.0) / 3600.0).floor() / 1e3;
            let answer = format!(
                r#"200 \n{{"StatusSNS":{{"ENERGY":{{"Total":{total:.3},"Power":{:.0},"Voltage":230,"Current":0.1}}}}}}"#,
                now.watts()
            );
            vec![("GET /cm 0", answer)]
        },
    },
    Meter {
        name: "INA260",
        source: "ina260",
        rail: "input",
        base: Base::Recording("raspberry_pi_4_ina260"),
        method: Method::Part,
        wraps: false,
        runs: USUAL,
        step: 0.0,
        takes: &["dev/i2c-1 0x40 w000327"],
        says: |now| {
            let watts = now.mean(window_of_ina260(now.interval));
            vec![
                ("dev/i2c-1 0x40 w06 r2", "0008".to_string()),
                ("dev/i2c-1 0x40 w02 r2", "0fa0".to_string()),
                (
                    "dev/i2c-1 0x40 w01 r2",
                    format!("{:04x}", (watts / 5.0 / 1.25e-3).round() as u16),
                ),
                (
                    "dev/i2c-1 0x40 w03 r2",
                    format!("{:04x}", (watts / 10e-3).round() as u16),
                ),
            ]
        },
    },
    Meter {
        name: "Battery gauge (power_supply)",
        source: "power_supply",
        rail: "BAT0",
        base: Base::Board("laptop_battery"),
        method: Method::Whole,
        wraps: false,
        runs: ONCE_A_SECOND,
        step: 0.0,
        takes: &[],
        says: |now| {
            let microwatts = in_steps(now.mean(1.0), 1e-3) * 1e6;
            vec![(
                "sys/class/power_supply/BAT0/power_now",
                format!("{microwatts:.0}\\n"),
            )]
        },
    },
    Meter {
        name: "hwmon (INA226)",
        source: "hwmon",
        rail: "ina226-1-0040:power1",
        base: Base::Board("ina226_hwmon"),
        method: Method::Moment,
        wraps: false,
        runs: USUAL,
        step: 0.0,
        takes: &[],
        says: |now| {
            vec![(
                "sys/devices/platform/ff110000.i2c/i2c-1/1-0040/hwmon/hwmon2/power1_input",
                format!("{:.0}\\n", in_steps(now.watts(), 25e-3) * 1e6),
            )]
        },
    },
    Meter {
        name: "IIO (INA226)",
        source: "iio",
        rail: "ina226-2-0040:power2",
        base: Base::Board("ina226_iio"),
        method: Method::Moment,
        wraps: false,
        runs: USUAL,
        step: 0.0,
        takes: &[],
        says: |now| {
            vec![(
                "sys/devices/platform/ocp/4819c000.i2c/i2c-2/2-0040/iio:device1/in_power2_raw",
                format!("{:.0}\\n", now.watts() / 25e-3),
            )]
        },
    },
    Meter {
        name: "tegrastats",
        source: "tegrastats",
        rail: "POM_5V_IN",
        base: Base::Board("jetson_nano_jp4"),
        method: Method::Moment,
        wraps: false,
        runs: USUAL,
        step: 0.0,
        takes: &[],
        says: |now| {
            let milliwatts = (now.watts() * 1e3).round();
            vec![(
                "tegrastats",
                format!("RAM 534/3964MB (lfb 98x4MB) CPU [16%@204,9%@204,0%@204,0%@204] POM_5V_IN {milliwatts}/1022 POM_5V_GPU 0/0 POM_5V_CPU 204/204"),
            )]
        },
    },
];

/// The unit of current of the board's INA228 (Adafruit's, 15 mΩ): the full scale of 163.84 mV in 2^19 steps.
fn ina228_unit() -> f64 {
    0.163_84 / 0.015 / 524_288.0
}
