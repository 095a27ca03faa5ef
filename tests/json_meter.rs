//! The meter `json` over real sockets: the real binary polls stand-ins for each profile, working and misbehaving ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod device_support;
mod json_support;
mod record_support;
mod support;

#[cfg(feature = "tls")]
use std::path::Path;
use std::process::Command;

use device_support::Mood;
use json_support::{fixture, Device};
use record_support::Studio;
use support::{exporter, request, wait_until, Exporter, TempDir};

const SECRET: &str = "s3cret-of-the-device";
/// base64 of `admin:` and the secret.
const BASIC: &str = "YWRtaW46czNjcmV0LW9mLXRoZS1kZXZpY2U=";
const STATUS: &str = "/cm?cmnd=Status%208";

/// Arguments for a board without other meters, with these devices.
fn with_devices(mut command: Command, dir: &TempDir, devices: &str) -> Command {
    let config = dir.write(
        "config.yaml",
        &format!("interval: 1\njson:\n  devices:\n{devices}"),
    );
    for flag in ["sysfs", "procfs", "dev"] {
        command
            .arg(format!("--path.{flag}"))
            .arg(dir.path().join(flag));
    }
    // The log must not contain a password at any level.
    command.env("RUST_LOG", "trace").arg("--config").arg(config);
    command
}

fn start(dir: &TempDir, devices: &str) -> Exporter {
    Exporter::start(&mut with_devices(exporter(), dir, devices))
}

/// The value of the only series with this name and all these labels.
fn value(exporter: &Exporter, name: &str, labels: &[&str]) -> Option<f64> {
    let text = exporter.scrape();
    let mut found = text.lines().filter(|line| {
        line.split(['{', ' ']).next() == Some(name)
            && labels.iter().all(|label| line.contains(label))
    });
    let value = found.next()?.rsplit_once(' ')?.1.parse().ok();
    assert!(
        found.next().is_none(),
        "{name} {labels:?} is more than one series"
    );
    value
}

fn rail(exporter: &Exporter, name: &str, rail: &str) -> Option<f64> {
    let label = match name {
        "temperature_celsius" => format!("sensor=\"{rail}\""),
        _ => format!("rail=\"{rail}\""),
    };
    value(exporter, name, &[&label])
}

fn wait_for(exporter: &Exporter, name: &str, of: &str, wanted: f64) {
    wait_until(&format!("{name} of {of} is {wanted}"), || {
        rail(exporter, name, of).filter(|value| (value - wanted).abs() < 1e-6)
    });
}

/// Waits for this many more requests, until the one before the last is exported.
fn polls(device: &Device, more: usize) {
    let before = device.requests();
    wait_until("it is polled", || {
        (device.requests() > before + more).then_some(())
    });
}

fn no_secret(exporter: &Exporter, secrets: &[&str]) {
    let mut log = exporter.log();
    // The message would also be in the last column of a dump.
    let dumped: Vec<String> = log
        .lines()
        .filter_map(|line| Some(line.rsplit_once(' ')?.1.to_string()))
        .collect();
    log.push_str(&dumped.concat());
    let shown =
        ["/health", "/config"].map(|path| request(exporter.management, "GET", path, &[]).text());
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log tells the password");
        assert!(!exporter.scrape().contains(secret));
        assert!(shown.iter().all(|text| !text.contains(secret)), "{shown:?}");
    }
}

fn tasmota(name: &str) -> Device {
    Device::start(&[(STATUS, &fixture(name))])
}

fn bmc() -> Device {
    Device::start(&[
        ("/redfish/v1/Chassis", &fixture("redfish-chassis")),
        ("/redfish/v1/Chassis/1/Power", &fixture("redfish-power")),
        (
            "/redfish/v1/Chassis/Backplane/EnvironmentMetrics",
            &fixture("redfish-environment"),
        ),
    ])
}

#[test]
fn devices_of_every_profile_are_read() {
    let (plug, meter, server) = (
        tasmota("tasmota-plug"),
        tasmota("tasmota-three-phases"),
        bmc(),
    );
    let roof = Device::start(&[("/api/livedata/status", &fixture("opendtu"))]);
    let esp = Device::start(&[
        (
            "/sensor/plug_power",
            r#"{"id":"sensor-plug_power","value":12.34,"state":"12.3 W"}"#,
        ),
        (
            "/sensor/plug_energy",
            r#"{"id":"sensor-plug_energy","value":1.5,"state":"1.50 kWh"}"#,
        ),
        (
            "/sensor/plug_voltage",
            r#"{"id":"sensor-plug_voltage","value":null,"state":"NA"}"#,
        ),
    ]);
    let home = Device::start(&[
        (
            "/api/states/sensor.desk_power",
            r#"{"entity_id":"sensor.desk_power","state":"0.25","attributes":{"unit_of_measurement":"kW","device_class":"power"}}"#,
        ),
        (
            "/api/states/sensor.desk_energy",
            r#"{"entity_id":"sensor.desk_energy","state":"unavailable","attributes":{"unit_of_measurement":"kWh"}}"#,
        ),
    ]);
    home.with(|state| state.login = Some(format!("Bearer {SECRET}")));
    let own = Device::start(&[
        (
            "/status",
            r#"{"meters":[{"w":5.5,"wh":20,"t":"24.5 C"}],"volts":"231.5"}"#,
        ),
        ("/more?x=1", r#"{"milliamperes":250}"#),
    ]);
    let dir = TempDir::new();
    let token = dir.write("token", &format!("{SECRET}\n"));
    let exporter = start(
        &dir,
        &format!(
            "
  - {{profile: tasmota, host: '{plug}', name: plug}}
  - {{profile: tasmota, url: 'http://{meter}/', name: meter, power_total: true}}
  - {{profile: redfish, url: 'http://{server}', name: server}}
  - {{profile: opendtu, host: '{roof}', name: roof}}
  - profile: esphome
    host: '{esp}'
    name: esp
    values: [{{power: plug_power, energy: plug_energy, voltage: plug_voltage}}]
  - profile: homeassistant
    host: '{home}'
    name: home
    authorization: {{credentials_file: {token}}}
    values:
    - {{name: desk, power: sensor.desk_power, energy: sensor.desk_energy}}
  - url: http://{own}/status
    name: own
    values:
    - power: /meters/0/w
      energy: {{pointer: /meters/0/wh, unit: Wh}}
      temperature: /meters/0/t
      voltage: /volts
      current: {{path: /more?x=1, pointer: /milliamperes, unit: mA}}
",
            plug = plug.address,
            meter = meter.address,
            server = server.address,
            roof = roof.address,
            esp = esp.address,
            home = home.address,
            own = own.address,
            token = token.display(),
        ),
    );
    for (name, of, wanted) in [
        ("power_watts", "plug", 11.0),
        ("energy_joules_total", "plug", 0.0),
        ("voltage_volts", "plug", 198.0),
        ("current_amperes", "plug", 0.101),
        ("power_watts", "meter", 305.0),
        ("power_watts", "meter/0", 298.0),
        ("voltage_volts", "meter/2", 235.0),
        ("energy_returned_joules_total", "meter", 0.0),
        ("power_watts", "server/1", 150.0),
        ("power_watts", "server/Backplane", 340.0),
        ("energy_joules_total", "server/Backplane", 0.0),
        ("power_watts", "roof", -123.4),
        ("energy_returned_joules_total", "roof", 0.0),
        ("power_watts", "esp", 12.34),
        ("energy_joules_total", "esp", 0.0),
        ("power_watts", "home/desk", 250.0),
        ("power_watts", "own", 5.5),
        ("temperature_celsius", "own", 24.5),
        ("voltage_volts", "own", 231.5),
        ("current_amperes", "own", 0.25),
    ] {
        wait_for(&exporter, name, of, wanted);
    }
    assert_eq!(value(&exporter, "power_total_watts", &[]), Some(305.0));
    for (name, of) in [
        ("voltage_volts", "esp"),
        ("voltage_volts", "meter"),
        ("power_watts", "server"),
    ] {
        assert_eq!(rail(&exporter, name, of), None, "{name} {of}");
    }
    polls(&server, 4);
    for device in [&plug, &meter, &server, &roof, &esp, &home, &own] {
        assert_eq!(device.with(|state| state.connections), 1);
    }
    // Once it is known where the values are, only those answers are got.
    let paths = server.paths();
    let count = |path: &str| paths.iter().filter(|got| got.ends_with(path)).count();
    assert_eq!(
        (
            count("Chassis/1/EnvironmentMetrics"),
            count("Backplane/Power"),
            count("v1/Chassis")
        ),
        (1, 1, 1)
    );
    assert!(count("Chassis/1/Power") >= 2, "{paths:?}");
    let health = request(exporter.management, "GET", "/health", &[]).text();
    for said in [
        r#"home/desk: energy: /state is \"unavailable\", which is no number"#,
        "esp: voltage: /value is null",
    ] {
        assert!(health.contains(said), "{health}");
    }
    no_secret(&exporter, &[SECRET]);
}

#[test]
fn login_is_sent_and_a_wrong_one_is_not_tried_again() {
    let (open, basic, wrong, none, web) = (
        tasmota("tasmota-plug"),
        tasmota("tasmota-plug"),
        tasmota("tasmota-plug"),
        tasmota("tasmota-plug"),
        Device::start(&[(
            STATUS,
            r#"{"WARNING":"Need user=<username>&password=<password>"}"#,
        )]),
    );
    for device in [&basic, &wrong, &none] {
        device.with(|state| state.login = Some(format!("Basic {BASIC}")));
    }
    let dir = TempDir::new();
    let password = dir.write("password", &format!("{SECRET}\n"));
    let mut exporter = start(
        &dir,
        &format!(
            "
  - {{profile: tasmota, host: '{}', name: open}}
  - {{profile: tasmota, host: '{}', name: basic, basic_auth: {{username: admin, password_file: {}}}}}
  - {{profile: tasmota, host: '{}', name: wrong, basic_auth: {{username: admin, password: not-the-s3cret}}}}
  - {{profile: tasmota, host: '{}', name: none}}
  - {{profile: tasmota, host: '{}', name: web, basic_auth: {{username: admin, password: not-the-s3cret}}}}
  - {{profile: tasmota, host: '127.0.0.1:1', name: file, basic_auth: {{username: admin, password_file: /nonexistent}}}}
",
            open.address,
            basic.address,
            password.display(),
            wrong.address,
            none.address,
            web.address
        ),
    );
    wait_for(&exporter, "power_watts", "basic", 11.0);
    for (name, said) in [
        ("wrong", "It asks for a Digest login"),
        ("none", "asks for a login (set `basic_auth`"),
        ("web", "refuses the login"),
        ("file", "cannot read /nonexistent"),
    ] {
        let line = exporter.wait_for_log(&format!("json {name}: http://127.0.0.1"));
        assert!(line.contains(said), "{line}");
    }
    polls(&open, 4);
    for device in [&wrong, &none, &web] {
        assert_eq!(device.requests(), 1, "it is not tried again at once");
    }
    no_secret(&exporter, &[SECRET, BASIC, "not-the-s3cret"]);
}

#[test]
fn misbehaving_device_does_not_affect_others() {
    let moods = [
        (Mood::Hangs, "no whole answer within 1 s"),
        (Mood::Drips, "no whole answer within 1 s"),
        (Mood::Endless, "the answer is longer than 256 KiB"),
        (Mood::BreaksOff, "http"),
        (Mood::IsGone, "http"),
        (Mood::Says("<!DOCTYPE html><title>router</title>"), "HTML"),
        (
            Mood::Says("{\"StatusSNS\": {\"ENERGY\""),
            "the answer breaks off",
        ),
        (Mood::Says("SSH-2.0-dropbear"), "the answer is not JSON"),
        (Mood::Says("{\"Command\":\"Unknown\"}"), "http"),
        (
            Mood::Status(302),
            "a redirect to http://127.0.0.1:1/login, which is not followed",
        ),
        (Mood::Status(503), "the answer has the status 503"),
        (Mood::Deep, "the answer nests deeper than 32 levels"),
    ];
    let well = tasmota("tasmota-plug");
    let devices = moods.map(|(mood, said)| (mood, said, tasmota("tasmota-plug")));
    let dir = TempDir::new();
    let items: String = devices
        .iter()
        .enumerate()
        .map(|(n, (_, _, device))| {
            format!(
                "  - {{profile: tasmota, host: '{}', name: n{n}, timeout: 1}}\n",
                device.address
            )
        })
        .collect();
    let well_item = format!(
        "  - {{profile: tasmota, host: '{}', name: well}}\n",
        well.address
    );
    let mut exporter = start(&dir, &format!("{well_item}{items}"));
    let all_are_read = |exporter: &Exporter| {
        for n in 0..devices.len() {
            wait_for(exporter, "power_watts", &format!("n{n}"), 11.0);
        }
    };
    all_are_read(&exporter);
    for (mood, _, device) in &devices {
        device.with(|state| state.mood = *mood);
    }
    for (n, (mood, said, _)) in devices.iter().enumerate() {
        // A device that was read before and answers without values is no error of the device's.
        if *mood == Mood::Says("{\"Command\":\"Unknown\"}") {
            exporter.wait_for_log(&format!(
                "json n{n}: power: the answer has no /StatusSNS/ENERGY/Power"
            ));
            continue;
        }
        let line = exporter.wait_for_log(&format!("json n{n}: http"));
        assert!(line.contains(said), "{mood:?}: {line}");
    }
    polls(&well, 2);
    assert_eq!(
        value(
            &exporter,
            "exporter_source_errors_total",
            &[r#"device="well""#]
        ),
        Some(0.0)
    );
    wait_for(&exporter, "power_watts", "well", 11.0);
    for (_, _, device) in &devices {
        device.with(|state| state.mood = Mood::Well);
    }
    all_are_read(&exporter);
    no_secret(&exporter, &["s3cret-token"]);
}

#[test]
fn device_that_is_no_such_device_is_said_so() {
    let other = Device::start(&[
        (STATUS, r#"{"StatusSNS":{"Time":"2026-11-28T12:00:00"}}"#),
        ("/", "[]"),
    ]);
    let dir = TempDir::new();
    let mut exporter = start(
        &dir,
        &format!(
            "  - {{profile: tasmota, host: '{0}', name: lamp}}\n  - {{profile: redfish, url: 'http://{0}', name: bmc}}\n  \
             - {{url: 'http://{0}', name: own, values: [{{power: /watts}}]}}\n",
            other.address
        ),
    );
    for said in [
        "json lamp: http",
        "has no /StatusSNS/ENERGY/Power/* (is the profile that of such a device?",
        "/redfish/v1/Chassis: it is not there (status 404)",
        "json own: power: the answer has no /watts",
    ] {
        exporter.wait_for_log(said);
    }
}

#[test]
fn energy_is_not_lost_when_a_device_restarts_or_vanishes() {
    let total = |kilowatt_hours: &str| fixture("tasmota-plug").replace("0.052", kilowatt_hours);
    let plug = Device::start(&[(STATUS, &total("10.000"))]);
    let dir = TempDir::new();
    let section = format!(
        "  - {{profile: tasmota, host: '{}', name: plug, power_total: true}}\n",
        plug.address
    );
    let mut exporter = start(&dir, &section);
    let joules =
        |exporter: &Exporter, wanted| wait_for(exporter, "energy_joules_total", "plug", wanted);
    joules(&exporter, 0.0);
    plug.set(STATUS, &total("10.001"));
    joules(&exporter, 3600.0);
    // The network fails, while the plug keeps counting.
    plug.with(|state| state.mood = Mood::IsGone);
    exporter.wait_for_log("json plug: http");
    polls(&plug, 2);
    plug.set(STATUS, &total("10.003"));
    plug.with(|state| state.mood = Mood::Well);
    joules(&exporter, 3.0 * 3600.0);
    // The plug is reset, and counts from 0.
    plug.set(STATUS, &total("0.000"));
    polls(&plug, 1);
    plug.set(STATUS, &total("0.001"));
    joules(&exporter, 4.0 * 3600.0);
    wait_until("the board's energy is the same", || {
        value(&exporter, "board_energy_joules_total", &[])
            .filter(|joules| (joules - 14_400.0).abs() < 1e-6)
    });
}

/// A device of the configuration's own with two values at paths of their own.
fn of_two_paths(device: &Device) -> String {
    format!(
        "  - url: http://{}\n    name: own\n    timeout: 1\n    values: [{{power: {{path: /a, pointer: /v}}}}, \
         {{name: b, power: {{path: /b, pointer: /v}}}}]\n",
        device.address
    )
}

#[test]
fn path_that_hangs_or_is_refused_does_not_take_the_others_with_it() {
    let own = Device::start(&[("/a", r#"{"v": 1}"#), ("/b", r#"{"v": 2}"#)]);
    own.with(|state| state.moods.insert("/a", Mood::Hangs));
    let dir = TempDir::new();
    let mut exporter = start(&dir, &of_two_paths(&own));
    wait_for(&exporter, "power_watts", "own/b", 2.0);
    exporter.wait_for_log("json own: power: http://");
    let count = |path: &str| own.paths().iter().filter(|got| *got == path).count();
    own.with(|state| {
        state.moods.insert("/a", Mood::Status(403));
    });
    let line = wait_until("the refusal is shown", || {
        let health = request(exporter.management, "GET", "/health", &[]).text();
        health.contains("status 403").then_some(health)
    });
    assert!(line.contains("may this login read it?"), "{line}");
    // It is not asked again while the other is.
    let (a, b) = (count("/a"), count("/b"));
    wait_until("the other is read on", || {
        (count("/b") >= b + 4).then_some(())
    });
    assert_eq!(count("/a"), a);
    wait_for(&exporter, "power_watts", "own/b", 2.0);
    assert_eq!(rail(&exporter, "power_watts", "own"), None);
}

#[test]
fn value_that_is_missing_stays_missing_in_a_new_plan() {
    let plug = tasmota("tasmota-plug");
    let dir = TempDir::new();
    let section = format!(
        "  - {{profile: tasmota, host: '{}', name: plug}}\n",
        plug.address
    );
    let mut exporter = start(&dir, &section);
    wait_for(&exporter, "voltage_volts", "plug", 198.0);
    let without = fixture("tasmota-plug").replace("\"Voltage\"", "\"Other\"");
    plug.set(STATUS, &without);
    exporter.wait_for_log("json plug: voltage: the answer has no");
    // A failed poll has a new plan made.
    plug.with(|state| state.mood = Mood::IsGone);
    exporter.wait_for_log("json plug: http");
    plug.with(|state| state.mood = Mood::Well);
    polls(&plug, 4);
    let health = request(exporter.management, "GET", "/health", &[]).text();
    assert!(
        health.contains("plug: voltage: the answer has no"),
        "{health}"
    );
    assert!(!exporter.log().contains("voltage can be read"));
    plug.set(STATUS, &fixture("tasmota-plug"));
    // The next plan looks for it again.
    plug.with(|state| state.mood = Mood::IsGone);
    let asked = plug.requests();
    wait_until("it has failed", || (plug.requests() > asked).then_some(()));
    plug.with(|state| state.mood = Mood::Well);
    exporter.wait_for_log("json plug: voltage can be read");
}

#[test]
fn list_may_grow_and_shrink() {
    let power = |list: &str| format!("{{\"StatusSNS\":{{\"ENERGY\":{{\"Power\":{list}}}}}}}");
    let meter = Device::start(&[(STATUS, &power("5"))]);
    let dir = TempDir::new();
    let mut exporter = start(
        &dir,
        &format!(
            "  - {{profile: tasmota, host: '{}', name: m}}\n",
            meter.address
        ),
    );
    wait_for(&exporter, "power_watts", "m", 5.0);
    meter.set(STATUS, &power("[1, 2, 3]"));
    wait_for(&exporter, "power_watts", "m/2", 3.0);
    wait_for(&exporter, "power_watts", "m", 6.0);
    meter.set(STATUS, &power("[1, null]"));
    wait_until("the sum is absent", || {
        rail(&exporter, "power_watts", "m").is_none().then_some(())
    });
    assert_eq!(rail(&exporter, "power_watts", "m/0"), Some(1.0));
    assert_eq!(rail(&exporter, "power_watts", "m/2"), None);
    let many = format!("[{}0]", "1,".repeat(100));
    meter.set(STATUS, &power(&many));
    exporter.wait_for_log("json m has more than 16 items in a list; the rest is dropped");
    wait_for(&exporter, "power_watts", "m/15", 1.0);
    meter.set(STATUS, &power("[]"));
    wait_until("nothing is there", || {
        rail(&exporter, "power_watts", "m/0")
            .is_none()
            .then_some(())
    });
    assert_eq!(
        value(&exporter, "exporter_source_up", &[r#"device="m""#]),
        Some(1.0)
    );
    meter.set(STATUS, &power("[7]"));
    wait_for(&exporter, "power_watts", "m", 7.0);
}

#[test]
fn doctor_shows_the_devices_and_what_would_help() {
    let (plug, closed) = (tasmota("tasmota-plug"), tasmota("tasmota-plug"));
    closed.with(|state| state.login = Some("Basic x".into()));
    let dir = TempDir::new();
    let mut command = with_devices(
        Command::new(support::binary()),
        &dir,
        &format!(
            "  - {{profile: tasmota, url: 'http://{}/?password={SECRET}', name: plug, values: [{{name: x, voltage: /x}}]}}\n  \
             - {{profile: tasmota, host: '{}', name: closed}}\n",
            plug.address, closed.address
        ),
    );
    let output = command.arg("doctor").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace("\n      ", " ");
    for said in [
        "\nWorks:\n  json          plug [",
        r#" 11 W    power_watts{rail="plug",source="json"}"#,
        "! plug/x: voltage: the answer has no /x",
        "\nCould work:\n  json          closed",
        "asks for a login (set `basic_auth`",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
    let all = text + &String::from_utf8_lossy(&output.stderr);
    assert!(!all.contains(SECRET), "{all}");
}

#[test]
fn recording_replays_without_the_devices() {
    let studio = Studio::new();
    let (plug, server) = (tasmota("tasmota-plug"), bmc());
    plug.with(|state| state.login = Some(format!("Basic {BASIC}")));
    let own = Device::start(&[
        ("/a?s=hunter2", r#"{"v": 1}"#),
        ("/a?s=hunter3", r#"{"v": 2}"#),
    ]);
    let config = format!(
        "interval: 1\nsources: [json]\njson:\n  devices:\n  - {{profile: tasmota, host: '{}', name: plug, power_total: true, \
         basic_auth: {{username: admin, password: {SECRET}}}}}\n  - {{profile: redfish, url: 'http://{}', name: server}}\n  \
         - url: http://{}\n    name: own\n    values: [{{power: {{path: '/a?s=hunter2', pointer: /v}}}}, \
         {{name: b, power: {{path: '/a?s=hunter3', pointer: /v}}}}]\n",
        plug.address, server.address, own.address
    );
    studio.record(studio.command(&config), || {
        wait_until("all are read", || {
            (plug.requests() > 2 && server.requests() > 6 && own.requests() > 4).then_some(())
        });
        plug.set(STATUS, &fixture("tasmota-plug").replace("0.052", "0.053"));
        polls(&plug, 2);
    });
    for source in ["json-plug", "json-server", "json-own"] {
        let log = studio.log(source);
        for secret in [SECRET, BASIC, "hunter"] {
            assert!(!log.contains(secret), "{log}");
        }
    }
    let settings = studio.read("config.yaml");
    assert!(
        !settings.contains("hunter") && !settings.contains(SECRET),
        "{settings}"
    );
    let end = studio.replays_as_it_was();
    for line in [
        r#"power_watts{rail="server/1",source="json""#,
        r#"power_watts{rail="own/b",source="json""#,
        r#"energy_joules_total{rail="plug",source="json""#,
    ] {
        let own = line.split_once('{').unwrap().1.split_once(',').unwrap().0;
        assert!(end.lines().any(|l| l.contains(own)), "{line}: {end}");
    }
    assert!(end.contains("} 3600\n"), "{end}");
}

/// A device with TLS and the certificate of tests/tls.
#[cfg(feature = "tls")]
fn tls_device() -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{Read, Write};
    use std::sync::Arc;
    let file = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/tls")
            .join(name)
    };
    let chain = CertificateDer::pem_file_iter(file("server.pem")).unwrap();
    let chain: Vec<_> = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, socket.unwrap());
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.push(byte[0]);
            }
            let body = r#"{"watts": 42}"#;
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    port
}

#[cfg(feature = "tls")]
#[test]
fn https_device_needs_its_ca_or_no_verification() {
    let port = tls_device();
    let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/ca.pem");
    let dir = TempDir::new();
    let item = |name: &str, tls: &str| {
        format!("  - {{url: 'https://localhost:{port}/', name: {name}, values: [{{power: /watts}}], tls_config: {{{tls}}}}}\n")
    };
    let items = item("trusted", &format!("ca_file: {}", ca.display()))
        + &item("unverified", "insecure_skip_verify: true")
        + &item("unknown", "");
    let mut exporter = start(&dir, &items);
    wait_for(&exporter, "power_watts", "trusted", 42.0);
    wait_for(&exporter, "power_watts", "unverified", 42.0);
    let line = exporter.wait_for_log("json unknown: https://");
    assert!(line.contains("tls_config.ca_file"), "{line}");
}

#[cfg(not(feature = "tls"))]
#[test]
fn https_needs_the_feature_tls() {
    let dir = TempDir::new();
    for device in [
        "  - {url: 'https://localhost/', values: [{power: /watts}]}\n",
        "  - {host: localhost, profile: redfish}\n",
    ] {
        let output = with_devices(exporter(), &dir, device).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("this build has no TLS"), "{said}");
    }
}
