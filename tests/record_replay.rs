//! `record` and `--replay` by the real binary: for everything that sources read, a recording of a real device replays
//! without the device.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod device_support;
mod record_support;
mod shelly_support;
mod support;
mod udp_support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use record_support::{of_board, replay, Studio};
use shelly_support::{fixture, Auth, Plug};
use support::free_port::FreePort;
use support::registers::with_registers;
use support::{request, value, wait_until};
use udp_support::{after, Device, CHARGE};

const CHIP: &str = "sys/devices/platform/i2c/i2c-1/1-0040/hwmon/hwmon0";

/// A board with a chip behind links, a package, a supply and a thermometer.
fn board() -> Studio {
    let studio = Studio::new();
    for (path, content) in [
        ("proc/device-tree/model", "A board of the test's own\0"),
        ("proc/sys/kernel/hostname", "studio\n"),
        ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
        ("sys/class/powercap/intel-rapl:0/energy_uj", "1000000\n"),
        (
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
            "262143328850\n",
        ),
        ("sys/class/power_supply/usb/type", "USB\n"),
        ("sys/class/power_supply/usb/online", "1\n"),
        ("sys/class/power_supply/usb/voltage_now", "5100000\n"),
        ("sys/class/power_supply/usb/current_now", "700000\n"),
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("sys/class/thermal/thermal_zone0/temp", "41000\n"),
        (&format!("{CHIP}/name"), "ina226\n"),
        (&format!("{CHIP}/in1_input"), "12000\n"),
        (&format!("{CHIP}/curr1_input"), "500\n"),
        (&format!("{CHIP}/power1_input"), "6000000\n"),
    ] {
        studio.write(path, content);
    }
    studio.link(&format!("{CHIP}/device"), "../../../1-0040");
    studio.link("sys/class/hwmon/hwmon0", &CHIP.replacen("sys", "../..", 1));
    studio
}

const QUICK: &str = "interval: 0.05\n";

#[test]
fn changing_files_replay_with_the_same_energy() {
    let studio = board();
    studio.record(studio.command(QUICK), || {
        for n in 1..=10 {
            studio.write(
                &format!("{CHIP}/power1_input"),
                &format!("{}\n", 6_000_000 + n * 250_000),
            );
            let energy = format!("{}\n", 1_000_000 + n * 123_456);
            studio.write("sys/class/powercap/intel-rapl:0/energy_uj", &energy);
            studio.write(
                "sys/class/thermal/thermal_zone0/temp",
                &format!("{}\n", 41_000 + n),
            );
            std::thread::sleep(Duration::from_millis(120));
        }
        // A value that can no longer be read is not exported.
        studio.write("sys/class/power_supply/usb/current_now", "no number\n");
        studio.wait_for_log("power_supply", "no number", 1);
        studio.wait_for_log("hwmon", "/power1_input = 8500000", 1);
        studio.wait_for_log("rapl", "/energy_uj = 2234560", 1);
        studio.wait_for_log("thermal", "/temp = 41010", 1);
    });
    let log = studio.log("hwmon");
    assert!(
        log.starts_with("edge-metrics-exporter log 1 of hwmon\n"),
        "{log}"
    );
    let powers = log.matches("/power1_input = ").count();
    assert!((2..=11).contains(&powers), "only what is new: {log}");
    let exported = studio.replays_as_it_was();
    let get = |series: &str| value(&exported, series).unwrap();
    let labels = "device_type=\"";
    assert!(exported.contains(labels) && exported.contains("hostname=\"studio\""));
    let joules: Vec<f64> = exported
        .lines()
        .filter(|line| line.starts_with("energy_joules_total{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert!(
        joules.len() == 2 && joules.iter().all(|joules| *joules > 0.0),
        "{exported}"
    );
    let line = exported
        .lines()
        .find(|l| l.starts_with("temperature_celsius{"))
        .unwrap();
    assert_eq!(get(line.rsplit_once(' ').unwrap().0), 41.01);
    assert!(!exported
        .lines()
        .any(|l| l.starts_with("current_amperes{") && l.contains("usb")));
}

#[test]
fn replay_keeps_the_recorded_pace_and_stops_at_its_end() {
    let studio = board();
    let temp = |celsius: i64| {
        let content = format!("{}\n", celsius * 1000);
        studio.write("sys/class/thermal/thermal_zone0/temp", &content);
    };
    let config = format!("{QUICK}sources: [thermal]\nlabels: false\n");
    studio.record(studio.command(&config), || {
        for celsius in 41..=45 {
            temp(celsius);
            studio.wait_for_log("thermal", &format!("temp = {celsius}000"), 1);
            std::thread::sleep(Duration::from_millis(400));
        }
    });
    let series = "temperature_celsius{sensor=\"cpu-thermal\",source=\"thermal\"}";
    let began = Instant::now();
    let mut exporter = replay(&studio.recording, &[]);
    exporter.wait_for_log("the recording has ended");
    let took = began.elapsed();
    // Each value was read in turn, for as long as it lasted.
    let minute = [("X-Prometheus-Scrape-Timeout-Seconds", "60")];
    let read = request(exporter.metrics, "GET", "/multirate", &minute).text();
    let samples = read.lines().filter_map(|line| line.strip_prefix(series));
    let samples: Vec<(f64, u64)> = samples
        .map(|sample| sample.trim().split_once(' ').unwrap())
        .map(|(celsius, stamp)| (celsius.parse().unwrap(), stamp.parse().unwrap()))
        .collect();
    let begins: Vec<_> = samples.chunk_by(|a, b| a.0 == b.0).map(|c| c[0]).collect();
    let values: Vec<_> = begins.iter().map(|(celsius, _)| *celsius).collect();
    assert_eq!(values, [41.0, 42.0, 43.0, 44.0, 45.0], "{read}");
    // A value is in the log once it was read, and a pause follows it.
    let pauses = begins.windows(2).map(|pair| pair[1].1 - pair[0].1);
    assert!(pauses.min().unwrap() >= 400, "{begins:?}");
    assert!(took >= Duration::from_millis(1600), "{took:?}");
    // The values remain long after the last poll; those of a silent source would disappear after five seconds.
    let age = "exporter_source_last_success_age_seconds{source=\"thermal\"}";
    wait_until("the last poll is long past", || {
        (exporter.value(age)? > 6.0).then_some(())
    });
    assert_eq!(exporter.value(series), Some(45.0));
}

#[test]
fn registers_replay_unchanged() {
    let studio = Studio::new();
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/amd_msr");
    std::fs::remove_dir_all(&studio.board).unwrap();
    let tree = with_registers(&board, &studio.temp);
    assert_eq!(tree, studio.board);
    let count = |value: u64| {
        use std::os::unix::fs::FileExt;
        let path = studio.board.join("dev/cpu/0/msr");
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let register = 0xc001_029b;
        file.write_all_at(&u64::to_le_bytes(value), register * 8)
            .unwrap();
    };
    studio.record(studio.command(QUICK), || {
        for n in 1..=5 {
            count(0x8ce0_1a77 + n * 0x1000);
            studio.wait_for_log("rapl", "dev/cpu/0/msr 0xc001029b = ", n as usize);
        }
    });
    let exported = studio.replays_as_it_was();
    let package = exported
        .lines()
        .find(|l| l.starts_with("energy_joules_total{") && l.contains("rail=\"package-0\""));
    let joules: f64 = package
        .unwrap()
        .rsplit_once(' ')
        .unwrap()
        .1
        .parse()
        .unwrap();
    assert!(joules > 0.0, "{exported}");
}

#[test]
fn tegrastats_replays_with_its_exit_and_restart() {
    let studio = Studio::new();
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/jetson_agx_orin_jp6");
    let lines = std::fs::read_to_string(board.join("tegrastats.txt")).unwrap();
    studio.write("tegrastats.txt", &lines);
    let mut command = studio.command("interval: 0.1\n");
    command.env("TEGRASTATS_MODE", "dead");
    studio.record(command, || {
        studio.wait_for_log("tegrastats", " tegrastats < ", 2);
        studio.wait_for_log("tegrastats", " tegrastats <! ", 2);
    });
    let log = studio.log("tegrastats");
    assert!(
        log.contains("ended with exit status 3; it says: nvml: device lost"),
        "{log}"
    );
    let exported = studio.replays_as_it_was();
    assert!(
        exported.contains("jetson_power_vdd_gpu_soc_watts"),
        "{exported}"
    );
}

#[test]
fn nvidia_smi_output_replays_unchanged() {
    let studio = Studio::new();
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/pc_two_nvidia_gpus");
    let table = std::fs::read_to_string(board.join("nvidia-smi.txt")).unwrap();
    studio.write("nvidia-smi.txt", &table);
    studio.write("proc/driver/nvidia/version", "NVRM\n");
    studio.record(studio.command("interval: 0.1\n"), || {
        studio.wait_for_log("nvidia", " nvidia-smi < ", 6);
    });
    let exported = studio.replays_as_it_was();
    for gpu in ["nvidia_gpu_0", "nvidia_gpu_1"] {
        assert!(exported.contains(&format!("rail=\"{gpu}\"")), "{exported}");
    }
}

#[test]
fn requested_datagrams_replay_unchanged() {
    let studio = Studio::new();
    let device = Device::new();
    let config = format!(
        "interval: 0.05\nsources: [udp]\nlabels: false\nudp: {{host: 127.0.0.1, port: {}, timeout: 5, voltage: 5}}\n",
        device.port()
    );
    studio.record(studio.command(&config), || {
        for n in 1..=5u64 {
            let from = device.is_asked();
            device.says(from, b"garbage");
            device.says(from, &after(n, n as f64 * 1000.0));
        }
        // One lost reply, and one late one.
        device.is_asked();
        let late = device.is_asked();
        device.says(late, &after(6, 6000.0));
        let on_time = device.is_asked();
        device.says(on_time, &after(7, 7500.0));
        device.is_asked();
    });
    let log = studio.log("udp");
    assert!(log.contains(" udp > DATA_REQUEST\n"), "{log}");
    assert!(
        log.contains(&format!(" udp < 127.0.0.1:{} garbage\n", device.port())),
        "{log}"
    );
    let exported = studio.replays_as_it_was();
    assert_eq!(value(&exported, CHARGE), Some(7.5));
    drop(device);
    let exporter = replay(&studio.recording, &["--replay.at-once"]);
    for (kind, count) in [
        ("accepted", 7.0),
        ("malformed", 5.0),
        ("lost", 1.0),
        ("foreign", 0.0),
    ] {
        let series = format!("exporter_udp_datagrams_total{{kind=\"{kind}\",source=\"udp\"}}");
        let is = || (exporter.value(&series)? == count).then_some(());
        wait_until(&format!("{count} are {kind}"), is);
    }
}

#[test]
fn pushed_datagrams_replay_without_opening_a_port() {
    let studio = Studio::new();
    let free = FreePort::new();
    let port = free.number();
    let config = format!(
        "sources: [udp]\nlabels: false\nudp: {{enabled: true, mode: listen, port: {port}}}\n"
    );
    let said = studio.record(studio.command(&config), || {
        let device = Device::new();
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1.. {
                    // Until the port is open.
                    device.says(to, &after(n, n as f64 * 10.0));
                    std::thread::sleep(Duration::from_millis(20));
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            studio.wait_for_log("udp", " udp < ", 5);
            done.store(true, Ordering::Relaxed);
        });
    });
    assert!(said.contains("udp: listening on"), "{said}");
    // The port is in use.
    let other = Device::at(std::net::SocketAddr::from(([0, 0, 0, 0], port)));
    let exported = studio.replays_as_it_was();
    assert!(value(&exported, CHARGE).unwrap() >= 0.05);
    drop(other);
}

const SECRET: &str = "s3cret-of-the-plug";
/// base64 of `admin:` and the secret.
const BASIC: &str = "Basic YWRtaW46czNjcmV0LW9mLXRoZS1wbHVn";

#[test]
fn plug_responses_replay_without_passwords() {
    let studio = Studio::new();
    let digest = Auth::Digest {
        password: SECRET,
        uses: 3,
        says_stale: true,
    };
    let gen3 = Plug::start(
        &fixture("gen3_plug_s.shelly"),
        &fixture("gen3_1pm_mini.status"),
        digest,
    );
    let gen1 = Plug::start(
        &fixture("gen1_plug_s.shelly"),
        &fixture("gen1_plug_s.status"),
        Auth::Basic(BASIC),
    );
    let wrong = Plug::start(
        &fixture("gen3_plug_s.shelly"),
        &fixture("gen3_1pm_mini.status"),
        Auth::Digest {
            password: "another",
            uses: 1,
            says_stale: false,
        },
    );
    let file = studio.temp.write("password", &format!("{SECRET}\n"));
    let config = format!(
        "interval: 0.5\nsources: [shelly]\nshelly:\n  devices:\n  - {{host: '{}', name: new one, password: {SECRET}}}\n  \
         - {{host: '{}', name: old, password_file: {}, username: admin}}\n  - {{host: '{}', name: closed, password: {SECRET}}}\n",
        gen3.address, gen1.address, file.display(), wrong.address
    );
    let mut command = studio.command(&config);
    command.env("RUST_LOG", "debug");
    studio.record(command, || {
        let polled = |plug: &Plug, times| {
            wait_until("the plug was polled", || {
                (plug.polls() >= times).then_some(())
            });
        };
        polled(&gen3, 4);
        gen3.with(|state| state.status = state.status.replace("\"apower\":", "\"apower\":1"));
        polled(&gen3, gen3.polls() + 6);
        polled(&gen1, 3);
        polled(&wrong, 1);
    });
    assert!(
        gen3.with(|state| state.refusals) >= 2,
        "there were challenges"
    );
    for (path, content) in everything(&studio.recording) {
        for secret in [
            SECRET,
            &BASIC[6..],
            "nonce",
            "cnonce",
            "Authorization",
            "Basic ",
        ] {
            assert!(
                !content.contains(secret),
                "{secret} is in {path}: {content}"
            );
        }
    }
    let log = studio.log("shelly-new-one");
    assert!(
        log.starts_with("edge-metrics-exporter log 1 of shelly new one\n"),
        "{log}"
    );
    assert!(log.contains(" GET /rpc/Shelly.GetStatus = {"), "{log}");
    assert!(studio
        .log("shelly-closed")
        .contains("the device refuses the password"));
    drop((gen3, gen1, wrong, std::fs::remove_file(file)));
    let exported = studio.replays_as_it_was();
    for name in ["new one", "old"] {
        assert!(
            exported.contains(&format!("device=\"{name}\"")),
            "{exported}"
        );
    }
    assert!(!exported.contains("closed"));
}

/// All files of a recording.
fn everything(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut to_do = vec![dir.to_path_buf()];
    while let Some(dir) = to_do.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => to_do.push(path),
                false => {
                    let content = std::fs::read(&path).unwrap();
                    let content = String::from_utf8_lossy(&content).into_owned();
                    found.push((path.display().to_string(), content));
                }
            }
        }
    }
    found
}

#[test]
fn board_without_meters_can_be_recorded() {
    let studio = Studio::new();
    studio.write("proc/sys/kernel/hostname", "empty\n");
    let output = studio
        .command(QUICK)
        .args(["--for", "0.2"])
        .output()
        .unwrap();
    assert!(output.status.success());
    std::fs::remove_dir_all(&studio.board).unwrap();
    let exporter = replay(&studio.recording, &[]);
    assert_eq!(of_board(&exporter.scrape()), "");
    assert!(studio
        .log("board")
        .contains("list sys/class/powercap ! 2 no such file or directory"));
}
