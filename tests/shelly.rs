//! Shelly plugs over real sockets: the real binary polls stand-ins for every generation, working and misbehaving ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod device_support;
mod shelly_support;
mod support;

use device_support::Mood;
use shelly_support::{fixture, Auth, Plug};
use support::{exporter, request, wait_until, Exporter, TempDir};

const SECRET: &str = "s3cret-of-the-plug";
/// base64 of `admin:` and the secret.
const BASIC: &str = "Basic YWRtaW46czNjcmV0LW9mLXRoZS1wbHVn";

fn digest(uses: u32, says_stale: bool) -> Auth {
    Auth::Digest {
        password: SECRET,
        uses,
        says_stale,
    }
}

fn gen1(auth: Auth) -> Plug {
    Plug::start(
        &fixture("gen1_plug_s.shelly"),
        &fixture("gen1_plug_s.status"),
        auth,
    )
}

fn gen3(auth: Auth) -> Plug {
    Plug::start(
        &fixture("gen3_plug_s.shelly"),
        &fixture("gen3_1pm_mini.status"),
        auth,
    )
}

/// The exporter with this `shelly:` section, on a board without other meters.
fn start(dir: &TempDir, section: &str) -> Exporter {
    let config = dir.write("config.yaml", &format!("interval: 0.5\nshelly:\n{section}"));
    let mut command = exporter();
    for flag in ["sysfs", "procfs", "dev"] {
        command
            .arg(format!("--path.{flag}"))
            .arg(dir.path().join(flag));
    }
    // The log must not contain a password at any level.
    Exporter::start(command.env("RUST_LOG", "trace").arg("--config").arg(config))
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

fn wait_for(exporter: &Exporter, name: &str, labels: &[&str], wanted: f64) {
    wait_until(&format!("{name} {labels:?} is {wanted}"), || {
        value(exporter, name, labels).filter(|value| (value - wanted).abs() < 1e-6)
    });
}

/// Waits for this many more polls of the plug, until the last of them is exported.
fn polls(plug: &Plug, more: usize) {
    let before = plug.polls();
    wait_until("it is polled", || {
        (plug.polls() > before + more).then_some(())
    });
}

fn no_secret(exporter: &Exporter) {
    let mut log = exporter.log();
    // The message would also be in the last column of a dump.
    let dumped: Vec<String> = log
        .lines()
        .filter_map(|line| Some(line.rsplit_once(' ')?.1.to_string()))
        .collect();
    log.push_str(&dumped.concat());
    for secret in [SECRET, &BASIC["Basic ".len()..]] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log tells the password");
    }
    assert!(!exporter.scrape().contains(SECRET));
}

#[test]
fn first_generation_plug_is_read_without_a_login() {
    let plug = gen1(Auth::None);
    let dir = TempDir::new();
    let exporter = start(
        &dir,
        &format!(
            "  host: {}\n  name: desk\n  power_total: true\n",
            plug.address
        ),
    );
    wait_for(
        &exporter,
        "shelly_energy_total_wh",
        &[r#"device="desk""#, r#"channel="meter:0""#],
        2632.0 / 60.0,
    );
    for (name, labels, wanted) in [
        ("power_total_watts", "", 0.0),
        ("shelly_power_total_watts", r#"channel="meter:0""#, 0.0),
        ("shelly_power_switch_output", r#"channel="meter:0""#, 0.0),
        ("shelly_energy_minute_2_mwh", r#"channel="meter:0""#, 0.0),
        ("shelly_temperature_celsius", r#"device="desk""#, 24.14),
        ("shelly_temperature_fahrenheit", r#"device="desk""#, 75.45),
        ("power_watts", r#"rail="desk/meter:0""#, 0.0),
        ("energy_joules_total", r#"rail="desk/meter:0""#, 0.0),
        ("exporter_source_up", r#"device="desk""#, 1.0),
    ] {
        assert_eq!(value(&exporter, name, &[labels]), Some(wanted), "{name}");
    }
    for name in [
        "shelly_power_voltage_volts",
        "power_voltage_volts",
        "shelly_energy_minute_timestamp",
    ] {
        assert_eq!(value(&exporter, name, &[]), None, "{name} is not measured");
    }
    let state = plug.with(|state| (state.connections, state.violations.clone()));
    assert_eq!(
        state,
        (1, vec![]),
        "one connection, and no login where none is asked for"
    );
}

#[test]
fn first_generation_plug_is_read_with_basic_login() {
    let plug = gen1(Auth::Basic(BASIC));
    let dir = TempDir::new();
    let password = dir.write("password", &format!("{SECRET}\n"));
    let section = format!(
        "  host: {}\n  password_file: {}\n",
        plug.address,
        password.display()
    );
    let exporter = start(&dir, &section);
    wait_for(&exporter, "shelly_power_total_watts", &[], 0.0);
    polls(&plug, 3);
    plug.with(|state| {
        assert_eq!(state.violations, Vec::<String>::new());
        assert_eq!(
            state.refusals, 1,
            "the password goes along unasked after that"
        );
        assert_eq!(state.connections, 1);
    });
    no_secret(&exporter);
}

#[test]
fn digest_login_is_reused_with_an_increasing_count() {
    let plug = gen3(digest(1000, true));
    let dir = TempDir::new();
    let section = format!(
        "  host: {}\n  name: rack\n  password: {SECRET}\n  username: nobody\n",
        plug.address
    );
    let exporter = start(&dir, &section);
    wait_for(
        &exporter,
        "shelly_power_total_watts",
        &[r#"channel="switch:0""#],
        25.7,
    );
    polls(&plug, 4);
    plug.with(|state| {
        assert_eq!(state.violations, Vec::<String>::new());
        assert_eq!(state.refusals, 1, "one nonce for all");
        assert_eq!(state.connections, 1);
        let counts: Vec<_> = state
            .requests
            .iter()
            .filter_map(|(_, auth)| auth.clone())
            .collect();
        assert!(counts[2].contains("nc=00000003"), "{counts:?}");
    });
    for (name, wanted) in [
        ("shelly_power_frequency_hz", 50.2),
        ("shelly_energy_total_wh", 913.252),
        ("shelly_energy_minute_0_mwh", 404.631),
        ("shelly_energy_minute_timestamp", 1_782_936_360.0),
        ("shelly_energy_returned_total_wh", 0.0),
        ("shelly_energy_returned_minute_1_mwh", 0.0),
        ("shelly_energy_returned_minute_timestamp", 1_782_936_360.0),
        ("shelly_power_switch_output", 1.0),
        ("shelly_errors_count", 0.0),
        ("shelly_error_overtemp", 0.0),
        ("shelly_error_undervoltage", 0.0),
        ("voltage_volts", 239.7),
        ("current_amperes", 0.188),
        ("temperature_celsius", 68.1),
    ] {
        assert_eq!(value(&exporter, name, &["rack"]), Some(wanted), "{name}");
    }
    no_secret(&exporter);
}

#[test]
fn stale_nonce_causes_no_missed_reading() {
    // With and without `stale=true`: newer and older firmware.
    let plugs = [gen3(digest(2, true)), gen3(digest(1, false))];
    let dir = TempDir::new();
    let items = plugs
        .each_ref()
        .map(|plug| format!("    - host: {}\n      password: {SECRET}\n", plug.address));
    let exporter = start(&dir, &format!("  devices:\n{}", items.concat()));
    for plug in &plugs {
        let device = format!(r#"device="{}""#, plug.address);
        wait_for(&exporter, "shelly_power_total_watts", &[&device], 25.7);
        polls(plug, 8);
        plug.with(|state| {
            assert_eq!(state.violations, Vec::<String>::new());
            assert!(state.refusals >= 2, "{}", state.refusals);
            assert_eq!(state.connections, 1);
        });
        assert_eq!(
            value(&exporter, "exporter_source_errors_total", &[&device]),
            Some(0.0)
        );
    }
}

#[test]
fn wrong_password_is_logged_and_not_retried_at_every_poll() {
    let plugs = [
        gen1(Auth::Basic("Basic of another")),
        gen3(digest(1000, true)),
    ];
    plugs[1].with(|state| {
        state.auth = Auth::Digest {
            password: "another",
            uses: 1000,
            says_stale: true,
        }
    });
    let well = gen3(Auth::None);
    let dir = TempDir::new();
    let items = plugs
        .each_ref()
        .map(|plug| format!("    - host: {}\n      password: {SECRET}\n", plug.address));
    let mut exporter = start(
        &dir,
        &format!("  host: {}\n  devices:\n{}", well.address, items.concat()),
    );
    for plug in &plugs {
        let line = exporter.wait_for_log(&format!("{}: http", plug.address));
        assert!(
            line.contains("refuses the password") && line.contains("shelly.password_file"),
            "{line}"
        );
    }
    polls(&well, 8);
    for plug in &plugs {
        assert_eq!(plug.logins(), 1, "it is not tried again at once");
        let said = exporter
            .log()
            .matches(&format!("shelly {}: http", plug.address))
            .count();
        assert_eq!(said, 1);
    }
    let [_, digest] = &plugs;
    assert_eq!(
        digest.with(|state| state.violations.clone()),
        Vec::<String>::new()
    );
    no_secret(&exporter);
}

#[test]
fn login_host_and_file_errors_are_reported() {
    let closed = gen3(digest(1, true));
    let never = gen3(digest(0, true));
    let dir = TempDir::new();
    let section = format!(
        "  host: {}\n  devices:\n    - {{host: {}, password: {SECRET}}}\n    - {{host: 127.0.0.1:1, name: off}}\n    \
         - {{host: 127.0.0.1:1, name: file, password_file: /nonexistent}}\n    - {{host: no-such-plug.invalid, name: lost}}\n",
        closed.address, never.address
    );
    let mut exporter = start(&dir, &section);
    for said in [
        "the device asks for a password (set shelly.password_file",
        "the device calls its own challenges too old",
        "http://127.0.0.1:1/shelly: connection refused",
        "cannot read /nonexistent: no such file or directory",
        "shelly lost: the ",
    ] {
        exporter.wait_for_log(said);
    }
    assert_eq!(
        value(&exporter, "exporter_source_up", &[r#"device="off""#]),
        Some(0.0)
    );
    no_secret(&exporter);
}

#[test]
fn missing_plug_configuration_is_reported() {
    let dir = TempDir::new();
    let config = dir.write("config.yaml", "device_type: shelly\n");
    let mut exporter = Exporter::start(exporter().arg("--config").arg(config));
    exporter.wait_for_log("no plug is configured (set shelly.host)");
    assert_eq!(
        value(&exporter, "exporter_source_up", &[r#"source="shelly""#]),
        Some(0.0)
    );
}

#[test]
fn misbehaving_plug_does_not_affect_others() {
    let moods = [
        (Mood::Hangs, "no whole answer within 2 s"),
        (Mood::Drips, "no whole answer within 2 s"),
        (Mood::Status(503), "the answer has the status 503"),
        (
            Mood::Says("<!DOCTYPE html><title>router</title>"),
            "no JSON",
        ),
        (Mood::Truncated, "the answer breaks off"),
        (Mood::BreaksOff, "http"),
        (
            Mood::Status(302),
            "the answer is a redirect, which is not followed",
        ),
        (Mood::Endless, "the answer is longer than any device's"),
        (Mood::LongHead, "http"),
        (Mood::Resets, "connection reset by peer"),
        (Mood::Garbage, "http"),
        (Mood::Deep, "the answer nests deeper than 32 levels"),
    ];
    let well = gen3(Auth::None);
    let plugs = moods.map(|(mood, said)| (mood, said, gen3(Auth::None)));
    let name = |mood: &Mood| format!("{mood:?}").replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let dir = TempDir::new();
    let items: String = plugs
        .iter()
        .map(|(mood, _, plug)| format!("    - {{host: {}, name: {}}}\n", plug.address, name(mood)))
        .collect();
    let mut exporter = start(
        &dir,
        &format!(
            "  host: {}\n  name: well\n  devices:\n{items}",
            well.address
        ),
    );
    let power = |exporter: &Exporter, name: &str| {
        wait_for(
            exporter,
            "shelly_power_total_watts",
            &[&format!("device=\"{name}\"")],
            25.7,
        );
    };
    for (mood, _, _) in &plugs {
        power(&exporter, &name(mood));
    }

    let before = well.polls();
    for (mood, _, plug) in &plugs {
        plug.with(|state| state.mood = *mood);
    }
    for (mood, said, _) in &plugs {
        let mark = format!("shelly {}: http", name(mood));
        let line = exporter.wait_for_log(&mark);
        assert!(line.contains(said), "{line}");
    }
    // Two polls of the hanging plug take 4 s, enough for 8 polls of the others.
    let hangs = &plugs[0].2;
    let asked = hangs.with(|state| state.requests.len());
    wait_until("it is tried again", || {
        hangs
            .with(|state| state.requests.len() > asked)
            .then_some(())
    });
    assert!(
        well.polls() >= before + 4,
        "{} polls, then {}",
        before,
        well.polls()
    );
    assert_eq!(
        value(&exporter, "exporter_source_up", &[r#"device="well""#]),
        Some(1.0)
    );
    assert_eq!(
        value(
            &exporter,
            "exporter_source_errors_total",
            &[r#"device="well""#]
        ),
        Some(0.0)
    );
    power(&exporter, "well");

    for (_, _, plug) in &plugs {
        plug.with(|state| state.mood = Mood::Well);
    }
    for (mood, _, _) in &plugs {
        power(&exporter, &name(mood));
    }
}

#[test]
fn energy_counter_survives_a_plug_restart() {
    let status = |watt_hours: f64| {
        fixture("gen3_1pm_mini.status").replace("913.252", &watt_hours.to_string())
    };
    let plug = gen3(Auth::None);
    let dir = TempDir::new();
    let mut exporter = start(&dir, &format!("  host: {}\n  name: desk\n", plug.address));
    let joules = |exporter: &Exporter, wanted| {
        wait_for(exporter, "energy_joules_total", &["desk/switch:0"], wanted)
    };
    joules(&exporter, 0.0);
    plug.with(|state| state.status = status(914.252));
    joules(&exporter, 3600.0);

    // The network fails until the source is given up, while the plug keeps counting.
    plug.with(|state| state.mood = Mood::Resets);
    exporter.wait_for_log("connection reset by peer");
    let asked = plug.with(|state| state.requests.len());
    wait_until("it was tried thrice", || {
        plug.with(|state| state.requests.len() > asked + 3)
            .then_some(())
    });
    plug.with(|state| {
        state.mood = Mood::Well;
        state.status = status(916.252);
    });
    joules(&exporter, 3.0 * 3600.0);

    // The plug restarts, and counts from 0.
    plug.with(|state| state.status = status(0.001));
    polls(&plug, 1);
    plug.with(|state| state.status = status(0.501));
    joules(&exporter, 3.5 * 3600.0);

    // The plug is replaced by another one with its own counter.
    plug.with(|state| {
        state.shelly = state.shelly.replace("AABBCCDDEE33", "AABBCCDDEE44");
        state.status = status(9000.0);
        state.mood = Mood::Resets;
    });
    exporter.wait_for_log("connection reset by peer");
    polls(&plug, 0);
    plug.with(|state| state.mood = Mood::Well);
    exporter.wait_for_log("AABBCCDDEE44");
    polls(&plug, 1);
    joules(&exporter, 3.5 * 3600.0);
}

#[test]
fn reload_does_not_restart_unchanged_plugs() {
    let (first, second) = (gen3(digest(1000, true)), gen1(Auth::None));
    let dir = TempDir::new();
    let one = format!(
        "  host: {}\n  name: first\n  password: {SECRET}\n",
        first.address
    );
    let two = format!(
        "{one}  devices:\n    - {{host: {}, name: second}}\n",
        second.address
    );
    let mut exporter = start(&dir, &one);
    wait_for(
        &exporter,
        "shelly_power_total_watts",
        &[r#"device="first""#],
        25.7,
    );
    let reload = |exporter: &mut Exporter, section: &str, said: &str| {
        dir.write("config.yaml", &format!("interval: 0.5\nshelly:\n{section}"));
        request(exporter.management, "POST", "/reload", &[]);
        exporter.wait_for_log(said);
    };
    reload(&mut exporter, &two, "shelly second: ");
    wait_for(
        &exporter,
        "shelly_power_total_watts",
        &[r#"device="second""#],
        0.0,
    );
    reload(&mut exporter, &one, "shelly second: ended");
    polls(&first, 2);
    assert_eq!(
        value(
            &exporter,
            "shelly_power_total_watts",
            &[r#"device="second""#]
        ),
        None
    );
    first.with(|state| {
        assert_eq!(
            (state.connections, state.refusals),
            (1, 1),
            "it was left alone"
        )
    });

    // A new password is noticed, though it is not shown.
    let other = one.replace(SECRET, "another one");
    reload(&mut exporter, &other, "refuses the password");
    assert_eq!(value(&exporter, "shelly_power_total_watts", &[]), None);
    reload(&mut exporter, &one, "configuration reloaded");
    wait_for(
        &exporter,
        "shelly_power_total_watts",
        &[r#"device="first""#],
        25.7,
    );
}

#[test]
fn switch_without_a_meter_exports_no_power() {
    let status = r#"{"switch:0": {"id": 0, "source": "init", "output": true, "temperature": {"tC": 50.1, "tF": 122.2}}, "sys": {}}"#;
    let plug = Plug::start(&fixture("gen2_plus_plug_s.shelly"), status, Auth::None);
    let dir = TempDir::new();
    let mut exporter = start(
        &dir,
        &format!("  host: {}\n  power_total: true\n", plug.address),
    );
    wait_for(&exporter, "shelly_power_switch_output", &[], 1.0);
    for name in [
        "power_watts",
        "power_total_watts",
        "shelly_power_total_watts",
        "energy_joules_total",
    ] {
        assert_eq!(value(&exporter, name, &[]), None, "{name}");
    }
    exporter.wait_for_log("no meter for its switch 0 (meters: switch:0)");
}

#[test]
fn meter_without_real_values_is_absent_and_logged() {
    let shelly = fixture("gen1_plug_s.shelly").replace("SHPLG-S", "SHSW-1");
    for status in [
        r#"{"relays": [{"ison": true}], "meters": [{"power": 0.00, "is_valid": true}]}"#,
        r#"{"relays": [{"ison": true}], "meters": [{"power": 60.00, "is_valid": "true", "total": 9, "counters": [60.0, 60.0, 60.0]}]}"#,
    ] {
        let plug = Plug::start(&shelly, status, Auth::None);
        for (total, said) in [
            (true, "no meter for its switch 0"),
            (false, "the device (SHSW-1) does not measure power"),
        ] {
            let dir = TempDir::new();
            let section = format!("  host: {}\n  power_total: {total}\n", plug.address);
            let mut exporter = start(&dir, &section);
            wait_for(&exporter, "shelly_power_switch_output", &[], 1.0);
            for name in [
                "power_watts",
                "power_total_watts",
                "shelly_power_total_watts",
                "energy_joules_total",
            ] {
                assert_eq!(value(&exporter, name, &[]), None, "{name}");
            }
            exporter.wait_for_log(said);
        }
    }
}

#[test]
fn implausible_value_is_absent_counted_and_logged_once() {
    let hot = fixture("gen3_1pm_mini.status").replace("68.1", "999.0");
    let plug = Plug::start(&fixture("gen3_plug_s.shelly"), &hot, Auth::None);
    let dir = TempDir::new();
    let mut exporter = start(&dir, &format!("  host: {}\n  name: desk\n", plug.address));
    wait_for(&exporter, "power_watts", &[], 25.7);
    polls(&plug, 3);
    assert_eq!(value(&exporter, "temperature_celsius", &[]), None);
    assert_eq!(value(&exporter, "shelly_temperature_celsius", &[]), None);
    let count = value(&exporter, "exporter_source_implausible_values_total", &[]);
    assert!(count >= Some(4.0), "{count:?}");
    exporter.wait_for_log("999 °C is not plausible (from -100 to 200 °C");
    let once = exporter.log();
    let said = once
        .lines()
        .filter(|line| line.starts_with("warn") && line.contains(" temperature_celsius{"));
    assert_eq!(said.count(), 1, "{once}");
    let health = request(exporter.management, "GET", "/health", &[]).text();
    assert!(health.contains("999 °C is not plausible"), "{health}");
}
