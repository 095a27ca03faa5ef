//! Tests of the configuration's schema with the sections of all meters.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{ina260, jetson, json, shelly, METERS, SCHEMA};
use crate::config::show::HIDDEN;
use crate::config::{ClientSettings, Config, Secret, SecretSource};

fn parse(text: &str) -> Config {
    SCHEMA.parse(text).unwrap().0
}

/// Every valid configuration of the golden cases, and the template, with their paths.
fn every_configuration() -> Vec<(String, Config)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = std::fs::read_dir(root.join("tests/config")).unwrap();
    let files = cases.map(|case| case.unwrap().path().join("config.yaml"));
    let readable = files
        .chain([root.join("config.yaml.template")])
        .filter_map(|file| {
            let text = std::fs::read_to_string(&file).ok()?;
            let (config, _) = SCHEMA.parse(&text).ok()?;
            Some((file.display().to_string(), config))
        });
    readable.collect()
}

/// The configuration with its secrets replaced as they are when it is shown.
fn without_secrets(mut config: Config) -> Config {
    let mut plugs: shelly::settings::Settings = config.meter();
    for plug in &mut plugs.plugs {
        plug.password = plug.password.take().map(|_| Secret::new(HIDDEN));
    }
    config.meters.set(plugs);
    let mut devices: json::settings::Settings = config.meter();
    let devices_clients = devices.devices.iter_mut().map(|device| &mut device.client);
    devices_clients.for_each(hide);
    config.meters.set(devices);
    let receivers = config.remote_write.iter_mut();
    let clients = receivers.map(|receiver| {
        receiver.url = match receiver.url.split_once('?') {
            Some((bare, _)) => format!("{bare}?secret"),
            None => receiver.url.clone(),
        };
        // JSON has them in the order of their names.
        receiver.external_labels.sort();
        &mut receiver.client
    });
    clients
        .chain([&mut config.config_server.client])
        .for_each(hide);
    config
}

/// Replaces the secrets of an HTTP client.
fn hide(client: &mut ClientSettings) {
    client.headers.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, value) in &mut client.headers {
        *value = Secret::new(HIDDEN);
    }
    let basic = client.basic_auth.as_mut().map(|login| &mut login.password);
    let token = client.authorization.as_mut();
    let token = token.map(|login| &mut login.credentials);
    for source in basic.into_iter().chain(token) {
        if let SecretSource::Inline(secret) = source {
            *secret = Secret::new(HIDDEN);
        }
    }
    if let Some(url) = &mut client.proxy_url {
        *url = Secret::new("http://secret.invalid");
    }
}

/// JSON is YAML, so the shown configuration can be parsed.
#[test]
fn shown_configuration_parses_as_the_same_configuration() {
    let all = every_configuration();
    assert!(all.len() > 50, "{}", all.len());
    for (file, config) in all {
        let config = without_secrets(config);
        let (again, warnings) = SCHEMA.parse(&SCHEMA.to_json(&config).to_string()).unwrap();
        assert_eq!(again, config, "{file}");
        let unknown = warnings.iter().find(|w| w.message.contains("unknown"));
        assert_eq!(unknown, None, "{file}");
    }
}

/// The dotted keys of a value, without the indices of lists.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                keys(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, path, found)),
        _ => {}
    }
}

/// Fails for a key that is not shown, and for a secret that is.
#[test]
fn every_key_is_shown_and_no_secret_is() {
    let text = "\
hostname: a
listen_address: 127.0.0.1
landing: hello
sources: [udp]
metrics: {a: true}
constant_labels: {site: b}
config_poll: 5
management: {hosts: [b], token_file: /t}
history: {rows: 5}
jetson: {tegrastats: /x}
nvidia: {nvidia_smi: /x}
rapl: {metric: m, metric_help: h, duration_metric: d, duration_help: h}
ina260: {chips: [{i2c_address: 0x40, name: n}]}
ina2xx: {chips: [{board: adafruit-ina3221, channels: [{channel: 1, name: n, shunt_ohms: 1}]}, {model: ina219, address: 0x41, name: m, shunt_ohms: 1, max_amperes: 0.3}]}
udp: {host: h, interval: 1, voltage: 5}
udp_agent: {voltage: 5}
workloads: {idle_watts: {board: 2}, names: {sockets: [/x], pod_logs: /x, nerdctl: /x, node: n, kubernetes: {url: http://k}}}
shelly: {devices: [{host: a, name: n, password: hunter2, password_file: /x}]}
kasa: {devices: [{host: a, name: n, power_total: true, socket: 1}]}
tapo: {username: u, password: hunter2, password_file: /x, devices: [{host: a, name: n, power_total: true, socket: 1}]}
json:
  devices:
  - url: http://a/b?password=hunter2
    name: n
    headers: {X-Key: hunter2}
    basic_auth: {username: u, password: hunter2}
    values:
    - {name: r, power: {pointer: /a, path: /b?p=hunter2}, energy: {pointer: /a, unit: J}, voltage: /a, current: /a,
       temperature: /a, energy_returned: {pointer: /a, unit: /b}}
config_server:
  url: http://h
  authorization: {type: T, credentials: hunter2}
remote_write:
- url: http://h/w?token=hunter2
  name: n
  instance: i
  external_labels: {a: b}
  headers: {X-Key: hunter2}
  proxy_url: http://me:hunter2@proxy:1
  basic_auth: {username: u, password: hunter2}
  tls_config: {ca_file: /a, cert_file: /b, key_file: /c, server_name: d}
  queue_directory: /q
  queue_config: {readings_per_send: 5}
- url: http://i/w
  authorization: {credentials_file: /x}
- url: http://k/w
  authorization: {credentials: hunter2}
- url: http://j/w
  basic_auth: {username: u, password_file: /x}
";
    let shown = SCHEMA.to_json(&parse(text));
    let text = shown.to_string();
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(text.matches(HIDDEN).count(), 8, "{text}");
    let mut found = BTreeSet::new();
    keys(&shown, "", &mut found);
    // A plug or chip in the section itself is shown in the list.
    let in_list = |key: &str| match key.split_once('.') {
        Some(("ina260", key)) => found.contains(&format!("ina260.chips.{key}")),
        Some(("shelly", key)) => found.contains(&format!("shelly.devices.{key}")),
        _ => false,
    };
    // An older form of `metrics`, shown as `metrics`, and what is shown as a `url`.
    let known = SCHEMA.known_keys().into_iter();
    let known =
        known.filter(|key| !["enabled_metrics", "json.devices.host"].contains(&key.as_str()));
    // The settings of an HTTP client are the same in several sections; the test sets each in one of them.
    let elsewhere = |key: &str| {
        let key = ["config_server.", "json.devices."]
            .iter()
            .find_map(|section| key.strip_prefix(section));
        key.is_some_and(|key| found.contains(&format!("remote_write.{key}")))
    };
    let missing: Vec<String> = known
        .filter(|key| !found.contains(key) && !in_list(key) && !elsewhere(key))
        .collect();
    assert_eq!(missing, [] as [String; 0], "{shown:#}");
}

#[test]
fn known_keys_are_those_of_the_schema() {
    let keys = SCHEMA.known_keys();
    assert_eq!(keys.first().map(String::as_str), Some("device_type"));
    for key in [
        "metrics",
        "jetson",
        "jetson.sudo",
        "power_supply.power_total",
    ] {
        assert!(keys.iter().any(|known| known == key), "{key} of {keys:?}");
    }
    let once: BTreeSet<_> = keys.iter().collect();
    assert_eq!(once.len(), keys.len());
    for meter in METERS {
        assert!(
            keys.iter().any(|key| key == meter.section.name),
            "{}",
            meter.name
        );
    }
}

/// A key that a message suggests must not be unknown itself.
#[test]
fn known_key_is_never_reported_as_unknown() {
    for key in SCHEMA.known_keys() {
        let steps = key.rsplit('.');
        let json = steps.fold(
            Value::Null,
            |inner, name| serde_json::json!({ name: inner }),
        );
        // A plug also needs a host, a chip a model, and a receiver a URL.
        let Ok((_, warnings)) = SCHEMA.parse(&json.to_string()) else {
            let lists = [
                "shelly.devices.",
                "json.devices.",
                "kasa.devices.",
                "tapo.devices.",
                "ina2xx.chips.",
                "remote_write.",
            ];
            assert!(lists.iter().any(|list| key.starts_with(list)), "{key}");
            continue;
        };
        let unknown = warnings.iter().find(|w| w.message.contains("unknown key"));
        assert_eq!(unknown, None, "{key}");
    }
}

#[test]
fn settings_of_a_meter_are_compared_by_value() {
    let (one, other) = (parse(""), parse("jetson: {sudo: false}\nhwmon:\n"));
    assert_eq!(one, other);
    assert_eq!(one, Config::default());
    let other = parse("jetson: {sudo: true}\n");
    assert!(!one.meters.same_section(&other.meters, "jetson"));
    assert!(one.meters.same_section(&other.meters, "hwmon"));
    assert!(other.meter::<jetson::Settings>().sudo);
    let mut changed = Config::default();
    changed.meters.set(jetson::Settings {
        sudo: true,
        ..Default::default()
    });
    assert_eq!(changed, other);
    // Secrets are compared, too.
    let with = |password: &str| parse(&format!("shelly: {{host: a, password: {password}}}\n"));
    assert!(!with("x").meters.same_section(&with("y").meters, "shelly"));
    let chips = parse("ina260: {i2c_address: 0x41}\n").meter::<ina260::settings::Settings>();
    assert_eq!(chips.chips[0].address, 0x41);
}

#[test]
fn shared_settings_parse_as_the_same_settings() {
    let text = "\
device_type: generic
interval: 0.25
hostname: \"caf\\u00e9 #1\"
labels: false
sources: [udp, hwmon]
metrics: {power_total_watts: true, power_watts: false}
ina260:
  chips:
  - {i2c_bus: 1, i2c_address: 0x40, name: \"5 V: in\"}
  - i2c_bus: 2
    i2c_address: 0x41
  power_total: [\"5 V: in\"]
udp: {host: 'fd00::7', voltage: 12.5}
hwmon: {power_total: []}
thermal: {enabled: auto}
rapl:
";
    let (config, warnings) = SCHEMA.parse(text).unwrap();
    assert_eq!(warnings.len(), 0);
    let shared = SCHEMA.shared(&config);
    let (again, warnings) = SCHEMA.parse(&shared).unwrap();
    assert_eq!(warnings.len(), 0, "{shared}");
    assert_eq!(again, config, "{shared}");
    assert_eq!(again.only_source_settings(), config);
}

#[test]
fn only_settings_of_sources_without_passwords_are_shared() {
    let text = "\
port: 9999
landing: hidden
udp_agent: {enabled: true}
shelly:
  host: plug
  password: s3cret
  username: somebody
  devices: [{host: other, password: s3cret, password_file: /etc/s3cret}]
";
    let shared = SCHEMA.shared(&parse(text));
    for hidden in ["s3cret", "somebody", "9999", "hidden", "udp_agent"] {
        assert!(!shared.contains(hidden), "{hidden}: {shared}");
    }
    let (config, _) = SCHEMA.parse(&shared).unwrap();
    let shelly: shelly::settings::Settings = config.meter();
    let plugs: Vec<_> = shelly.plugs.iter().map(|p| p.name()).collect();
    assert_eq!(plugs, ["plug", "other"]);
}

#[test]
fn foreign_configuration_sets_only_sources() {
    let (config, _) = SCHEMA.parse(
        "port: 80\nreload_port: 81\nlisten_address: 0.0.0.0\nudp_agent: {enabled: true}\nlanding: hello\n\
         history: {bytes: 1073741824}\ninterval: 7\nshelly: {host: plug}\n",
    )
    .unwrap();
    let expected = Config {
        interval: config.interval,
        meters: config.meters.clone(),
        ..Config::default()
    };
    assert_eq!(config.only_source_settings(), expected);
}

#[test]
fn departures_parse_as_the_settings_without_passwords() {
    let text = "\
hostname: edge-07
labels: false
sources: [shelly, udp, ina260, rapl, jetson]
ina260: {i2c_bus: 2, i2c_address: 0x41, averaging: 64}
ina2xx: {chips: [{board: waveshare-ups-hat, max_amperes: 1.5}, {board: adafruit-ina3221, address: 0x43}]}
udp: {host: 'fd00::7', mode: subscribe, channel: 3}
jetson: {sudo: true}
rapl: {interface: msr}
nvidia: {nvidia_smi: /opt/bin/nvidia-smi}
hwmon: {power_total: [in, out]}
power_supply: {enabled: true}
thermal: {enabled: false}
rpi: {enabled: false}
shelly:
  power_total: true
  devices: [{host: plug, username: me, password_file: /etc/s3cret}, {host: other}]
";
    let config = parse(text);
    let written = SCHEMA.non_default_settings(&config).unwrap();
    let (again, warnings) = SCHEMA.parse(&written).unwrap();
    assert_eq!(warnings.len(), 0, "{written}");
    assert_eq!(again, config, "{written}");
    assert!(!written.contains("not copied"), "{written}");
    // Neither defaults nor settings of anything but sources.
    assert!(!written.contains("tegrastats"), "{written}");
    let text = "port: 1\ninterval: 3\nmetrics: {a: true}\nlanding: x\n";
    assert_eq!(SCHEMA.non_default_settings(&parse(text)).unwrap(), "");
    let text = "shelly: {host: plug, password: s3cret}\n";
    let written = SCHEMA.non_default_settings(&parse(text)).unwrap();
    assert!(
        !written.contains("s3cret") && !written.contains(HIDDEN),
        "{written}"
    );
    assert!(written.contains("# A password is not copied"), "{written}");
    assert_eq!(
        parse(&written).meter::<shelly::settings::Settings>().plugs[0].host,
        "plug"
    );
}
