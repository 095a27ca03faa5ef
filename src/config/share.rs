//! The part of a configuration that says what is read and how: to be handed on with a recording, so without passwords,
//! and to be taken from a stranger, so without anything that opens, sends or starts something.

use serde_json::Value;

use super::document::Document;
use super::model::Config;
use super::show::{to_json, HIDDEN};

/// The keys that say what is read and how.
pub const KEYS: &[&str] = &[
    "device_type",
    "hostname",
    "interval",
    "labels",
    "sources",
    "metrics",
    "jetson",
    "rpi",
    "nvidia",
    "rapl",
    "hwmon",
    "power_supply",
    "thermal",
    "shelly",
    "ina260",
    "udp",
];

/// Parts of keys, at any depth, whose values are nobody else's business.
const SECRET: &[&str] = &["password", "username", "token", "secret"];

/// The sources' part of a configuration, as text that reads as it.
pub fn shared(config: &Config) -> String {
    let mut all = to_json(config);
    if let Value::Object(entries) = &mut all {
        entries.retain(|key, _| KEYS.contains(&key.as_str()));
    }
    leave_out_secrets(&mut all);
    format!("# The settings of the sources, without passwords.\n{all:#}\n")
}

/// The sources' settings that are not what they are by default, as the lines of a configuration, for whoever goes on from
/// it. A password is left out, as it would lie open where nobody put it; a comment says so. Not among them are
/// `device_type`, `interval` and `metrics`. An error: they take more room than a configuration has.
pub fn departures(config: &Config) -> Result<String, String> {
    let (mut all, usual) = (to_json(config), to_json(&Config::default()));
    if let Value::Object(entries) = &mut all {
        let said = ["device_type", "interval", "metrics"];
        entries.retain(|key, _| KEYS.contains(&&**key) && !said.contains(&&**key));
    }
    leave_out_usual(&mut all, &usual);
    let hidden = leave_out_hidden(&mut all);
    if all.as_object().is_none_or(|entries| entries.is_empty()) {
        return Ok(String::new());
    }
    let document = Document::from_json(all.to_string().as_bytes());
    let mut text = document
        .and_then(|document| document.to_yaml())
        .map_err(|e| e.message)?;
    if hidden {
        text.push_str("# A password is not copied: add `password`, or better `password_file`.\n");
    }
    Ok(text)
}

/// Leaves out what is as usual, and sections that have nothing else.
fn leave_out_usual(value: &mut Value, usual: &Value) {
    if let Value::Object(entries) = value {
        entries.retain(|key, value| {
            let usual = &usual[key.as_str()];
            let departs = value != usual;
            leave_out_usual(value, usual);
            departs
        });
    }
}

/// Leaves out what is not shown. Says whether there was any.
fn leave_out_hidden(value: &mut Value) -> bool {
    match value {
        Value::Object(entries) => {
            let all = entries.len();
            entries.retain(|_, value| value != HIDDEN);
            let gone = entries.len() < all;
            entries
                .values_mut()
                .fold(gone, |gone, value| leave_out_hidden(value) | gone)
        }
        Value::Array(items) => items
            .iter_mut()
            .fold(false, |gone, item| leave_out_hidden(item) | gone),
        _ => false,
    }
}

fn leave_out_secrets(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|key, _| !SECRET.iter().any(|part| key.contains(part)));
            entries.values_mut().for_each(leave_out_secrets);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_secrets),
        _ => {}
    }
}

impl Config {
    /// These settings of the sources; all others as the defaults say.
    pub fn of_sources(self) -> Config {
        Config {
            device_type: self.device_type,
            hostname: self.hostname,
            interval: self.interval,
            labels: self.labels,
            sources: self.sources,
            metrics: self.metrics,
            jetson: self.jetson,
            rpi: self.rpi,
            nvidia: self.nvidia,
            rapl: self.rapl,
            hwmon: self.hwmon,
            power_supply: self.power_supply,
            thermal: self.thermal,
            shelly: self.shelly,
            ina260: self.ina260,
            udp: self.udp,
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn what_is_shared_reads_as_what_it_was() {
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
        let (config, warnings) = parse(text).unwrap();
        assert_eq!(warnings.len(), 0);
        let shared = shared(&config);
        let (again, warnings) = parse(&shared).unwrap();
        assert_eq!(warnings.len(), 0, "{shared}");
        assert_eq!(again, config, "{shared}");
        assert_eq!(again.of_sources(), config);
    }

    #[test]
    fn passwords_and_what_is_no_source_stay_behind() {
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
        let shared = shared(&parse(text).unwrap().0);
        for hidden in ["s3cret", "somebody", "9999", "hidden", "udp_agent"] {
            assert!(!shared.contains(hidden), "{hidden}: {shared}");
        }
        let (config, _) = parse(&shared).unwrap();
        let plugs: Vec<_> = config.shelly.plugs.iter().map(|p| p.name()).collect();
        assert_eq!(plugs, ["plug", "other"]);
    }

    #[test]
    fn a_stranger_sets_nothing_but_sources() {
        let (config, _) = parse(
            "port: 80\nreload_port: 81\nlisten_address: 0.0.0.0\nudp_agent: {enabled: true}\nlanding: hello\n\
             history: {bytes: 1073741824}\ninterval: 7\nshelly: {host: plug}\n",
        )
        .unwrap();
        let expected = Config {
            interval: config.interval,
            shelly: config.shelly.clone(),
            ..Config::default()
        };
        assert_eq!(config.of_sources(), expected);
    }

    #[test]
    fn departures_read_as_the_settings_without_passwords() {
        let text = "\
hostname: edge-07
labels: false
sources: [shelly, udp, ina260, rapl, jetson]
ina260: {i2c_bus: 2, i2c_address: 0x41, averaging: 64}
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
        let (config, _) = parse(text).unwrap();
        let written = departures(&config).unwrap();
        let (again, warnings) = parse(&written).unwrap();
        assert_eq!(warnings.len(), 0, "{written}");
        assert_eq!(again, config, "{written}");
        assert!(!written.contains("not copied"), "{written}");
        // Nothing that is so anyhow, and nothing that is no source's.
        assert!(!written.contains("tegrastats"), "{written}");
        let text = "port: 1\ninterval: 3\nmetrics: {a: true}\nlanding: x\n";
        assert_eq!(departures(&parse(text).unwrap().0).unwrap(), "");
        let text = "shelly: {host: plug, password: s3cret}\n";
        let written = departures(&parse(text).unwrap().0).unwrap();
        assert!(
            !written.contains("s3cret") && !written.contains(HIDDEN),
            "{written}"
        );
        assert!(written.contains("# A password is not copied"), "{written}");
        assert_eq!(parse(&written).unwrap().0.shelly.plugs[0].host, "plug");
    }
}
