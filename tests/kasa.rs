//! The meter `kasa` over real sockets: the real binary polls stand-ins of plugs and strips, working and misbehaving ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kasa_support;
mod support;

use kasa_support::{Device, Mood};
use support::{exporter, get, wait_until, Exporter, TempDir};

/// As public reports have them: the first hardware of an HS110, and a later one.
const HS110: &str = r#"{"err_code":0,"model":"HS110(EU)","mac":"50:C7:BF:00:00:01","deviceId":"8006","feature":"TIM:ENE","relay_state":1}"#;
const FIRST: &str =
    r#"{"current":0.5,"voltage":230.0,"power":100.25,"total":133.082,"err_code":0}"#;
const LATER: &str =
    r#"{"current_ma":500,"voltage_mv":230000,"power_mw":100250,"total_wh":133082,"err_code":0}"#;
const STRIP: &str = r#"{"err_code":0,"model":"HS300(US)","mac":"C0:06:C3:00:00:02","deviceId":"8006AF","feature":"TIM:ENE",
    "children":[{"id":"8006AF00","state":1,"alias":"Plug 1"},{"id":"01","state":1,"alias":"Plug 2"}]}"#;

fn start(dir: &TempDir, devices: &str) -> Exporter {
    let config = dir.write(
        "config.yaml",
        &format!("interval: 1\nkasa:\n  devices:\n{devices}"),
    );
    let mut command = exporter();
    for flag in ["sysfs", "procfs", "dev"] {
        command
            .arg(format!("--path.{flag}"))
            .arg(dir.path().join(flag));
    }
    Exporter::start(command.arg("--config").arg(config))
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

fn health(exporter: &Exporter) -> String {
    get(exporter.management, "/health").text()
}

#[test]
fn plugs_of_both_kinds_are_exported_alike() {
    for realtime in [FIRST, LATER] {
        let plug = Device::start(HS110, &[("", realtime)]);
        let dir = TempDir::new();
        let item = format!(
            "  - {{host: \"{}\", name: desk, power_total: true}}\n",
            plug.address
        );
        let exporter = start(&dir, &item);
        wait_for(&exporter, "power_watts", "desk", 100.25);
        wait_for(&exporter, "voltage_volts", "desk", 230.0);
        wait_for(&exporter, "current_amperes", "desk", 0.5);
        wait_for(&exporter, "power_total_watts", "", 100.25);
        // The counter goes on by two watt-hours.
        let more = realtime
            .replace("133.082", "133.084")
            .replace("133082", "133084");
        plug.set("", &more);
        wait_for(&exporter, "energy_joules_total", "desk", 7200.0);
        wait_for(&exporter, "board_energy_joules_total", "", 7200.0);
        let identified = plug.with(|state| {
            let asked = state.requests.iter();
            asked.filter(|request| request.contains("sysinfo")).count()
        });
        assert_eq!((identified, plug.with(|state| state.connections)), (1, 1));
    }
}

#[test]
fn strip_has_a_rail_for_each_socket() {
    let realtime =
        |watts: u32| format!(r#"{{"slot_id":0,"power_mw":{watts},"total_wh":0,"err_code":0}}"#);
    let sockets = [
        ("8006AF00", &*realtime(5000)),
        ("8006AF01", &*realtime(7000)),
    ];
    for (socket, total) in [("", 12.0), (", socket: 1", 7.0)] {
        let strip = Device::start(STRIP, &sockets);
        let dir = TempDir::new();
        let item = format!(
            "  - {{host: \"{}\", name: rack, power_total: true{socket}}}\n",
            strip.address
        );
        let exporter = start(&dir, &item);
        wait_for(&exporter, "power_watts", "rack/0", 5.0);
        wait_for(&exporter, "power_watts", "rack/1", 7.0);
        wait_for(&exporter, "power_total_watts", "", total);
        assert_eq!(
            value(&exporter, "voltage_volts", "rack/0"),
            None,
            "it says none"
        );
    }
}

#[test]
fn misbehaving_device_is_an_error_and_is_read_again_afterwards() {
    for (mood, why) in [
        (Mood::BreaksOff, "the answer breaks off"),
        (Mood::TooLong, "longer than any device's"),
        (Mood::IsHttp, "or of another protocol"),
        (Mood::Says("{}"), "the answer has no "),
        (Mood::Says("{\"emeter\": x}"), "the answer is not JSON"),
        (Mood::Hangs, "no whole answer within 5 s"),
        (Mood::Drips, "no whole answer within 5 s"),
    ] {
        let plug = Device::start(HS110, &[("", LATER)]);
        let dir = TempDir::new();
        let exporter = start(
            &dir,
            &format!("  - {{host: \"{}\", name: desk}}\n", plug.address),
        );
        wait_for(&exporter, "power_watts", "desk", 100.25);
        plug.with(|state| state.mood = mood);
        wait_until(&format!("{mood:?} is an error"), || {
            health(&exporter).contains(why).then_some(())
        });
        plug.with(|state| state.mood = Mood::Well);
        plug.set("", &LATER.replace("100250", "50500"));
        wait_for(&exporter, "power_watts", "desk", 50.5);
    }
}

#[test]
fn counter_of_another_device_at_the_same_address_is_no_consumption() {
    let plug = Device::start(HS110, &[("", LATER)]);
    let dir = TempDir::new();
    let exporter = start(
        &dir,
        &format!("  - {{host: \"{}\", name: desk}}\n", plug.address),
    );
    wait_for(&exporter, "power_watts", "desk", 100.25);
    plug.with(|state| state.mood = Mood::BreaksOff);
    wait_until("it is gone", || {
        health(&exporter)
            .contains("the answer breaks off")
            .then_some(())
    });
    plug.with(|state| state.sysinfo = HS110.replace("00:00:01", "00:00:09"));
    // A step that the first device could have counted.
    let other = LATER.replace("100250", "50500");
    plug.set("", &other.replace("133082", "133084"));
    plug.with(|state| state.mood = Mood::Well);
    wait_for(&exporter, "power_watts", "desk", 50.5);
    assert_eq!(value(&exporter, "energy_joules_total", "desk"), Some(0.0));
    plug.set("", &other.replace("133082", "133085"));
    wait_for(&exporter, "energy_joules_total", "desk", 3600.0);
}

#[test]
fn device_that_closes_each_connection_is_read() {
    let plug = Device::start(HS110, &[("", LATER)]);
    plug.with(|state| state.mood = Mood::ClosesAfterEach);
    let dir = TempDir::new();
    let exporter = start(
        &dir,
        &format!("  - {{host: \"{}\", name: desk}}\n", plug.address),
    );
    wait_for(&exporter, "power_watts", "desk", 100.25);
    wait_until("it is polled again", || {
        (plug.with(|state| state.requests.len()) > 4).then_some(())
    });
    assert_eq!(value(&exporter, "power_watts", "desk"), Some(100.25));
    assert!(!exporter.log().contains("WARN"), "{}", exporter.log());
}

#[test]
fn device_without_a_meter_is_said() {
    let sysinfo = HS110.replace("TIM:ENE", "TIM").replace("HS110", "HS100");
    let plug = Device::start(&sysinfo, &[]);
    let dir = TempDir::new();
    let exporter = start(
        &dir,
        &format!("  - {{host: \"{}\", name: desk}}\n", plug.address),
    );
    let why = "nothing on it measures energy (a HS100(EU))";
    wait_until("it is said", || {
        health(&exporter).contains(why).then_some(())
    });
    assert_eq!(value(&exporter, "power_watts", "desk"), None);
}
