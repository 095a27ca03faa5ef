//! The meter `tapo` over real sockets: the real binary polls stand-ins of plugs and strips, working and misbehaving ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
mod tapo_support;

use serde_json::{json, Value};
use support::{exporter, get, wait_until, Exporter, TempDir};
use tapo_support::{Mood, Plug};

const LOGIN: (&str, &str) = ("me@example.com", "s3cret-of-the-plug");

fn info(model: &str) -> Value {
    json!({"model": model, "mac": "9C-53-22-00-00-01", "device_on": true, "nickname": "S8O8Y2hl", "type": "SMART.TAPOPLUG"})
}

fn usage(milliwatts: u32, month: u32) -> Value {
    json!({"today_energy": 3, "month_energy": month, "local_time": "2024-11-22 21:03:25", "current_power": milliwatts})
}

fn emeter(milliwatts: u32) -> Value {
    json!({"current_ma": 33, "energy_wh": 971, "power_mw": milliwatts, "voltage_mv": 121215})
}

fn p110() -> Plug {
    let answers = [
        ("get_device_info", info("P110")),
        ("get_energy_usage", usage(74_116, 6110)),
    ];
    Plug::start(LOGIN, &answers)
}

fn start(dir: &TempDir, login: &str, devices: &str) -> Exporter {
    let config = dir.write(
        "config.yaml",
        &format!("interval: 1\ntapo:\n{login}  devices:\n{devices}"),
    );
    let mut command = exporter();
    for flag in ["sysfs", "procfs", "dev"] {
        command
            .arg(format!("--path.{flag}"))
            .arg(dir.path().join(flag));
    }
    // The log must not contain a password at any level.
    Exporter::start(command.env("RUST_LOG", "trace").arg("--config").arg(config))
}

fn start_one(dir: &TempDir, plug: &Plug, more: &str) -> Exporter {
    let login = format!("  username: {}\n  password: {}\n", LOGIN.0, LOGIN.1);
    let item = format!("  - {{host: \"{}\", name: desk{more}}}\n", plug.address);
    start(dir, &login, &item)
}

fn value(exporter: &Exporter, name: &str, rail: &str) -> Option<f64> {
    let text = exporter.scrape();
    let mut lines = text.lines().filter(|line| {
        let is_of = rail.is_empty() || line.contains(&format!("rail=\"{rail}\""));
        line.split(['{', ' ']).next() == Some(name) && is_of
    });
    lines.next()?.rsplit_once(' ')?.1.parse().ok()
}

fn wait_for(exporter: &Exporter, name: &str, rail: &str, wanted: f64) {
    wait_until(&format!("{name} of {rail} is {wanted}"), || {
        value(exporter, name, rail).filter(|value| (value - wanted).abs() < 1e-6)
    });
}

fn wait_for_error(exporter: &Exporter, why: &str) {
    wait_until(why, || {
        let health = get(exporter.management, "/health").text();
        health.contains(why).then_some(())
    });
}

fn no_violation(plug: &Plug, exporter: &Exporter) {
    assert_eq!(plug.with(|state| state.violations.clone()), [""; 0]);
    assert!(!exporter.log().contains(LOGIN.1), "{}", exporter.log());
}

#[test]
fn plug_is_read_in_one_session() {
    let plug = p110();
    plug.set("get_emeter_data", emeter(1_003));
    let dir = TempDir::new();
    let exporter = start_one(&dir, &plug, ", power_total: true");
    wait_for(&exporter, "power_watts", "desk", 1.003);
    wait_for(&exporter, "voltage_volts", "desk", 121.215);
    wait_for(&exporter, "current_amperes", "desk", 0.033);
    wait_for(&exporter, "power_total_watts", "", 1.003);
    // The month's counter goes on by two watt-hours.
    plug.set("get_energy_usage", usage(0, 6112));
    wait_for(&exporter, "energy_joules_total", "desk", 7200.0);
    wait_for(&exporter, "board_energy_joules_total", "", 7200.0);
    plug.with(|state| {
        assert_eq!((state.handshakes, state.connections), (1, 1));
        let asked = state.requests.iter();
        let current = asked.filter(|request| request.contains("get_current_power"));
        assert_eq!(current.count(), 0, "the others say it better");
    });
    no_violation(&plug, &exporter);
}

#[test]
fn counter_goes_on_after_the_end_of_a_month_and_a_reset() {
    let plug = p110();
    let dir = TempDir::new();
    let exporter = start_one(&dir, &plug, "");
    wait_for(&exporter, "power_watts", "desk", 74.116);
    for (month, joules) in [
        (6111, 3600.0),
        // A new month.
        (0, 3600.0),
        (1, 7200.0),
        (2, 10_800.0),
        // Without power: what was not saved is lost.
        (1, 10_800.0),
        (3, 14_400.0),
    ] {
        // A power of its own shows that the poll has been.
        plug.set("get_energy_usage", usage(1000 + month, month));
        let watts = f64::from(1000 + month) / 1000.0;
        wait_for(&exporter, "power_watts", "desk", watts);
        wait_for(&exporter, "energy_joules_total", "desk", joules);
    }
    no_violation(&plug, &exporter);
}

#[test]
fn strip_has_a_rail_for_each_socket() {
    for (socket, total) in [("", 12.0), (", socket: 2", 7.0)] {
        let list = json!({"start_index": 0, "sum": 2, "child_device_list": [
            {"device_id": "8006AF02", "position": 2, "model": "P304M"},
            {"device_id": "8006AF01", "position": 1, "model": "P304M"}]});
        let energy = json!({"month_energy": 0, "today_energy": 0});
        let answers = [
            (
                "get_device_info",
                json!({"model": "P304M", "mac": "A8-6E-84-00-00-01"}),
            ),
            ("get_child_device_list", list),
            ("8006AF01 get_energy_usage", energy.clone()),
            ("8006AF02 get_energy_usage", energy),
            ("8006AF01 get_current_power", json!({"current_power": 5})),
            ("8006AF02 get_current_power", json!({"current_power": 7})),
        ];
        let strip = Plug::start(LOGIN, &answers);
        let dir = TempDir::new();
        let exporter = start_one(&dir, &strip, &format!(", power_total: true{socket}"));
        wait_for(&exporter, "power_watts", "desk/1", 5.0);
        wait_for(&exporter, "power_watts", "desk/2", 7.0);
        wait_for(&exporter, "power_total_watts", "", total);
        assert_eq!(
            value(&exporter, "voltage_volts", "desk/1"),
            None,
            "it says none"
        );
        no_violation(&strip, &exporter);
    }
}

/// Kasa's plugs after an update: the first version, and the second one with Kasa's commands.
#[test]
fn kasa_plugs_with_the_newer_protocol_are_read() {
    for version in [1, 2] {
        let sysinfo = json!({"get_sysinfo": {"err_code": 0, "model": "HS110(UK)", "mac": "50:C7:BF:00:00:01", "feature": "TIM:ENE"}});
        let realtime = json!({"get_realtime": {"current_ma": 500, "voltage_mv": 230000, "power_mw": 100250, "total_wh": 133082, "err_code": 0}});
        let plug = Plug::start(LOGIN, &[("system", sysinfo), ("emeter", realtime)]);
        plug.with(|state| state.version = version);
        let dir = TempDir::new();
        let exporter = start_one(&dir, &plug, "");
        wait_for(&exporter, "power_watts", "desk", 100.25);
        wait_for(&exporter, "voltage_volts", "desk", 230.0);
        assert_eq!(plug.with(|state| state.handshakes), 1);
        no_violation(&plug, &exporter);
    }
}

#[test]
fn plug_without_an_account_and_small_letters_are_logged_in() {
    for login in [
        ("", ""),
        ("test@tp-link.net", "test"),
        ("kasa@tp-link.net", "kasaSetup"),
    ] {
        let plug = p110();
        plug.with(|state| state.login = login);
        let dir = TempDir::new();
        let item = format!("  - {{host: \"{}\", name: desk}}\n", plug.address);
        let exporter = start(&dir, "", &item);
        wait_for(&exporter, "power_watts", "desk", 74.116);
    }
    let plug = p110();
    let dir = TempDir::new();
    let secret = dir.write("secret", &format!("{}\n", LOGIN.1));
    let login = format!(
        "  username: Me@Example.com\n  password_file: {}\n",
        secret.display()
    );
    let item = format!("  - {{host: \"{}\", name: desk}}\n", plug.address);
    let exporter = start(&dir, &login, &item);
    wait_for(&exporter, "power_watts", "desk", 74.116);
    no_violation(&plug, &exporter);
}

#[test]
fn refused_login_and_handshake_are_said_and_not_tried_again_at_once() {
    let well = p110();
    let (wrong, forbidden, old) = (p110(), p110(), p110());
    wrong.with(|state| state.login.1 = "another");
    forbidden.with(|state| state.handshake_status = 403);
    old.with(|state| state.handshake_status = 404);
    let dir = TempDir::new();
    let login = format!("  username: {}\n  password: {}\n", LOGIN.0, LOGIN.1);
    let items: Vec<String> = [
        ("well", &well),
        ("wrong", &wrong),
        ("forbidden", &forbidden),
        ("old", &old),
    ]
    .iter()
    .map(|(name, plug)| format!("  - {{host: \"{}\", name: {name}}}\n", plug.address))
    .collect();
    let mut exporter = start(&dir, &login, &items.concat());
    for (name, said) in [
        ("wrong", "it refuses the login (tapo.username and tapo.password_file"),
        ("forbidden", "(handshake1, status 403) (in the app of Tapo or Kasa, switch Third-Party Compatibility on"),
        ("old", "(handshake1, status 404) (is it a Tapo plug? Firmware before KLAP is not read"),
    ] {
        let line = exporter.wait_for_log(&format!("tapo {name}: http"));
        assert!(line.contains(said), "{line}");
    }
    wait_until("the plug that works is read again and again", || {
        well.with(|state| state.requests.len() > 8).then_some(())
    });
    for plug in [&wrong, &forbidden, &old] {
        assert_eq!(plug.with(|state| state.handshakes), 1);
        no_violation(plug, &exporter);
    }
}

#[test]
fn ended_session_is_begun_anew_without_a_missed_reading() {
    let plug = p110();
    let dir = TempDir::new();
    let exporter = start_one(&dir, &plug, "");
    wait_for(&exporter, "power_watts", "desk", 74.116);
    // A handshake less than 10 s ago is followed by no other one.
    plug.end_session();
    wait_for_error(
        &exporter,
        "a new session waits until the last one is 10 s old",
    );
    plug.set("get_energy_usage", usage(50_500, 6110));
    wait_for(&exporter, "power_watts", "desk", 50.5);
    assert_eq!(plug.with(|state| state.handshakes), 2);
    no_violation(&plug, &exporter);
}

#[test]
fn session_ends_when_the_plug_says() {
    let plug = p110();
    plug.with(|state| state.timeout = 12);
    let dir = TempDir::new();
    let exporter = start_one(&dir, &plug, "");
    wait_until("a second session begins", || {
        plug.with(|state| state.handshakes == 2).then_some(())
    });
    plug.set("get_energy_usage", usage(50_500, 6110));
    wait_for(&exporter, "power_watts", "desk", 50.5);
    assert!(!exporter.log().contains("WARN"), "{}", exporter.log());
    no_violation(&plug, &exporter);
}

#[test]
fn misbehaving_plug_is_an_error_and_is_read_again_afterwards() {
    let moods = [
        (Mood::Hangs, "no whole answer within 5 s"),
        (Mood::Endless, "longer than any plug's"),
        (Mood::Status(500), "the answer has the status 500"),
        (Mood::Plain(b""), "not encrypted by KLAP (0 bytes)"),
        (
            Mood::Plain(b"{\"error_code\":9999}"),
            "not encrypted by KLAP (19 bytes)",
        ),
        (Mood::BreaksOff, "not encrypted by KLAP"),
        (Mood::OtherKeys, "encrypted with other keys"),
        (
            Mood::Says("{\"error_code\":9999}"),
            "the plug refuses it (code 9999)",
        ),
        (Mood::Says("{}"), "the answer has no error_code"),
        (Mood::Says("{\"error_code\":0}"), "the answer has no result"),
        (Mood::Says("<html>"), "HTML"),
    ];
    let plugs: Vec<Plug> = moods.iter().map(|_| p110()).collect();
    let names = || (0..).map(|n| format!("plug-{n}")).zip(&plugs);
    let items: Vec<String> = names()
        .map(|(name, plug)| format!("  - {{host: \"{}\", name: {name}}}\n", plug.address))
        .collect();
    let dir = TempDir::new();
    let login = format!("  username: {}\n  password: {}\n", LOGIN.0, LOGIN.1);
    let exporter = start(&dir, &login, &items.concat());
    for (name, _) in names() {
        wait_for(&exporter, "power_watts", &name, 74.116);
    }
    for (plug, (mood, _)) in plugs.iter().zip(moods) {
        plug.with(|state| state.mood = mood);
    }
    for (_, why) in moods {
        wait_until(why, || exporter.log().contains(why).then_some(()));
    }
    for plug in &plugs {
        plug.with(|state| state.mood = Mood::Well);
        plug.set("get_energy_usage", usage(50_500, 6110));
    }
    for (name, plug) in names() {
        wait_for(&exporter, "power_watts", &name, 50.5);
        assert!(plug.with(|state| state.handshakes) <= 4, "{name}");
        no_violation(plug, &exporter);
    }
}

#[test]
fn plug_that_closes_each_connection_is_read() {
    let plug = p110();
    plug.with(|state| state.mood = Mood::ClosesAfterEach);
    let dir = TempDir::new();
    let exporter = start_one(&dir, &plug, "");
    wait_for(&exporter, "power_watts", "desk", 74.116);
    wait_until("it is polled again", || {
        (plug.with(|state| state.requests.len()) > 6).then_some(())
    });
    assert_eq!(value(&exporter, "power_watts", "desk"), Some(74.116));
    assert!(!exporter.log().contains("WARN"), "{}", exporter.log());
    assert_eq!(plug.with(|state| state.handshakes), 1);
}

#[test]
fn counter_of_another_plug_at_the_same_address_is_no_consumption() {
    let plug = p110();
    let dir = TempDir::new();
    let exporter = start_one(&dir, &plug, "");
    wait_for(&exporter, "power_watts", "desk", 74.116);
    plug.with(|state| state.mood = Mood::Status(500));
    wait_for_error(&exporter, "the answer has the status 500");
    let mut other = info("P115");
    other["mac"] = json!("9C-53-22-00-00-09");
    plug.set("get_device_info", other);
    // A step that the first plug could have counted.
    plug.set("get_energy_usage", usage(50_500, 6112));
    plug.with(|state| state.mood = Mood::Well);
    wait_for(&exporter, "power_watts", "desk", 50.5);
    assert_eq!(value(&exporter, "energy_joules_total", "desk"), Some(0.0));
    plug.set("get_energy_usage", usage(50_500, 6113));
    wait_for(&exporter, "energy_joules_total", "desk", 3600.0);
}

/// A plug whose clock is not set refuses its statistics, but not what it measures now.
#[test]
fn plug_without_a_meter_or_a_clock_is_said() {
    let plug = Plug::start(LOGIN, &[("get_device_info", info("P100"))]);
    let clockless = Plug::start(
        LOGIN,
        &[
            ("get_device_info", info("P110M")),
            ("get_emeter_data", emeter(7_000)),
        ],
    );
    let dir = TempDir::new();
    let login = format!("  username: {}\n  password: {}\n", LOGIN.0, LOGIN.1);
    let items = format!(
        "  - {{host: \"{}\", name: desk}}\n  - {{host: \"{}\", name: rack}}\n",
        plug.address, clockless.address
    );
    let exporter = start(&dir, &login, &items);
    wait_for_error(&exporter, "nothing on it measures energy (a P100; get_current_power: the plug refuses it (code -1002))");
    wait_for(&exporter, "power_watts", "rack", 7.0);
    assert_eq!(value(&exporter, "power_watts", "desk"), None);
}
