//! All sources that need no bus at once, of which one after the other misbehaves: the other ones are read as before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod device_support;
mod shelly_support;
mod support;
mod udp_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use device_support::Mood;
use shelly_support::{fixture, Auth, Plug};
use support::{exporter, on_board, wait_until, Exporter, TempDir, WAIT_TIMEOUT};
use udp_support::{after, Device};

const SOURCES: [&str; 9] = [
    "hwmon",
    "nvidia",
    "power_supply",
    "rapl",
    "rpi",
    "shelly",
    "tegrastats",
    "thermal",
    "udp",
];
/// The largest permitted age of a source that is read every fifth of a second, on a busy machine. A source that had to
/// wait for another one's timeout would be older.
const OLDEST: f64 = 1.5;
/// How long each source misbehaves.
const WATCHED: Duration = Duration::from_secs(3);

/// The source that misbehaves, and how.
#[derive(Debug, Clone, Copy)]
enum Culprit {
    /// The stand-in's `TEGRASTATS_MODE`.
    Tegrastats(&'static str),
    /// The stand-in's `NVIDIA_SMI_MODE`.
    Nvidia(&'static str),
    Plug(Mood),
    /// The device is silent, sends invalid messages, or floods with them.
    UdpSilent,
    UdpLies,
    UdpFloods,
    /// The file's new content; `None`: its directory is removed.
    File(&'static str, &'static str, Option<&'static str>),
    Fifo(&'static str, &'static str),
}

impl Culprit {
    fn source(self) -> &'static str {
        match self {
            Culprit::Tegrastats(_) => "tegrastats",
            Culprit::Nvidia(_) => "nvidia",
            Culprit::Plug(_) => "shelly",
            Culprit::UdpSilent | Culprit::UdpLies | Culprit::UdpFloods => "udp",
            Culprit::File(source, ..) | Culprit::Fifo(source, _) => source,
        }
    }
}

const ZONE: &str = "sys/class/thermal/thermal_zone0/temp";
const ENERGY: &str = "sys/class/powercap/intel-rapl:0/energy_uj";
const VOLTAGE: &str = "sys/class/power_supply/usb/voltage_now";
const FLAGS: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";
const CHIP: &str = "sys/class/hwmon/hwmon0/power1_input";

#[test]
fn misbehaving_sources_do_not_disturb_others() {
    let long = Box::leak("9".repeat(100_000).into_boxed_str());
    let culprits = [
        Culprit::Tegrastats("silent"),
        Culprit::Tegrastats("dead"),
        Culprit::Tegrastats("flood"),
        Culprit::Tegrastats("endless"),
        Culprit::Tegrastats("garbage"),
        Culprit::Tegrastats("stubborn"),
        Culprit::Nvidia("silent"),
        Culprit::Nvidia("dead"),
        Culprit::Nvidia("flood"),
        Culprit::Nvidia("endless"),
        Culprit::Nvidia("garbage"),
        Culprit::Nvidia("stubborn"),
        Culprit::Plug(Mood::Hangs),
        Culprit::Plug(Mood::Drips),
        Culprit::Plug(Mood::Endless),
        Culprit::Plug(Mood::Garbage),
        Culprit::Plug(Mood::Resets),
        Culprit::UdpSilent,
        Culprit::UdpLies,
        Culprit::UdpFloods,
        Culprit::File("thermal", ZONE, Some("hot\n")),
        Culprit::File("rapl", ENERGY, Some("")),
        Culprit::File("power_supply", VOLTAGE, Some(long)),
        Culprit::File("hwmon", CHIP, None),
        Culprit::File("rpi", FLAGS, Some("low\n")),
        Culprit::Fifo("thermal", ZONE),
    ];
    let queue = Mutex::new(culprits.iter());
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| loop {
                let next = queue.lock().unwrap().next();
                let Some(culprit) = next else { return };
                // A stalled machine recovers, whereas a source that disturbs others does so each time.
                let deadline = Instant::now() + WAIT_TIMEOUT;
                while let Err(told) = try_one(*culprit) {
                    if Instant::now() > deadline {
                        faults.lock().unwrap().push(format!("{culprit:?}: {told}"));
                        break;
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn try_one(culprit: Culprit) -> Result<(), String> {
    let plug = Plug::start(
        &fixture("gen3_plug_s.shelly"),
        &fixture("gen3_1pm_mini.status"),
        Auth::None,
    );
    let (device, stop) = (Device::new(), AtomicBool::new(false));
    let misbehaves = AtomicBool::new(false);
    let board = board();
    let config = board.write(
        "config.yaml",
        &format!(
            "device_type: generic\ninterval: 0.2\njetson: {{enabled: true}}\nshelly: {{host: {}}}\nudp: {{host: 127.0.0.1, port: {}, timeout: 1}}\n",
            plug.address,
            device.port()
        ),
    );
    let mut command = exporter();
    on_board(&mut command, board.path());
    match culprit {
        Culprit::Tegrastats(mode) => command.env("TEGRASTATS_MODE", mode),
        Culprit::Nvidia(mode) => command.env("NVIDIA_SMI_MODE", mode),
        _ => &mut command,
    };
    command.arg("--config").arg(config);
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&device, culprit, &misbehaves, &stop));
        let _at_the_end = Set(&stop);
        let exporter = Exporter::start(&mut command);
        wait_until("all sources are read", || {
            let text = exporter.scrape();
            SOURCES.iter().all(|s| is_up(&text, s)).then_some(())
        });
        misbehaves.store(true, Ordering::Relaxed);
        begin(culprit, &plug, &board);
        watch(&exporter, culprit.source())
    })
}

/// Sets the flag when dropped, also after a panic.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Checks for a while that every source but the culprit is read.
fn watch(exporter: &Exporter, culprit: &str) -> Result<(), String> {
    let until = Instant::now() + WATCHED;
    while Instant::now() < until {
        let text = exporter.scrape();
        for source in SOURCES.iter().filter(|source| **source != culprit) {
            let age = of_source(&text, "exporter_source_last_success_age_seconds", source);
            if !is_up(&text, source) || age.is_none_or(|age| age > OLDEST) {
                return Err(format!(
                    "{source} is disturbed: read {age:?} s ago\n{}",
                    exporter.log()
                ));
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn begin(culprit: Culprit, plug: &Plug, board: &TempDir) {
    let place = |file: &str| board.path().join(file);
    match culprit {
        Culprit::Plug(mood) => plug.with(|state| state.mood = mood),
        Culprit::File(_, file, Some(content)) => std::fs::write(place(file), content).unwrap(),
        Culprit::File(_, file, None) => {
            std::fs::remove_dir_all(place(file).parent().unwrap()).unwrap();
        }
        Culprit::Fifo(_, file) => {
            std::fs::remove_file(place(file)).unwrap();
            nix::unistd::mkfifo(&place(file), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        _ => {}
    }
}

/// The UDP device, which works until it is told to misbehave.
fn answer(device: &Device, culprit: Culprit, misbehaves: &AtomicBool, stop: &AtomicBool) {
    device
        .0
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut buffer = [0; 64];
    let mut seconds = 1;
    while !stop.load(Ordering::Relaxed) {
        let Ok((_, from)) = device.0.recv_from(&mut buffer) else {
            continue;
        };
        seconds += 1;
        let well = after(seconds, seconds as f64 * 1000.0);
        if !misbehaves.load(Ordering::Relaxed) {
            let _ = device.0.send_to(&well, from);
            continue;
        }
        match culprit {
            Culprit::UdpSilent => {}
            Culprit::UdpLies => drop(device.0.send_to(&[0xff; 700], from)),
            Culprit::UdpFloods => {
                while !stop.load(Ordering::Relaxed) {
                    let _ = device.0.send_to(&[0xff; 700], from);
                }
            }
            _ => drop(device.0.send_to(&well, from)),
        }
    }
}

/// A board with everything that is read from files, a tegrastats and an nvidia-smi.
fn board() -> TempDir {
    let board = TempDir::new();
    for (path, content) in [
        ("tegrastats.txt", "RAM 1/2MB VDD_IN 5000mW/5000mW\n"),
        (
            "nvidia-smi.txt",
            "index, count, power.draw, name\n0, 1, 72.34 W, NVIDIA RTX A4000\n",
        ),
        ("proc/driver/nvidia/version", "\n"),
        ("proc/sys/kernel/hostname", "edge-01\n"),
        ("sys/class/thermal/thermal_zone0/type", "cpu\n"),
        (ZONE, "40000\n"),
        ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
        (
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
            "262143328850\n",
        ),
        (ENERGY, "1000\n"),
        ("sys/class/power_supply/usb/type", "USB\n"),
        ("sys/class/power_supply/usb/online", "1\n"),
        (VOLTAGE, "5000000\n"),
        ("sys/class/power_supply/usb/current_now", "1000000\n"),
        ("sys/class/hwmon/hwmon0/name", "ina226\n"),
        (CHIP, "5000000\n"),
        (FLAGS, "50005\n"),
    ] {
        board.write(path, content);
    }
    board
}

fn is_up(text: &str, source: &str) -> bool {
    of_source(text, "exporter_source_up", source) == Some(1.0)
}

/// The value of a self-metric of this source (which may have a device label too).
fn of_source(text: &str, name: &str, source: &str) -> Option<f64> {
    let label = format!("source=\"{source}\"");
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label))?;
    line.rsplit_once(' ')?.1.parse().ok()
}
