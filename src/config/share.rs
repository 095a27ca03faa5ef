//! The part of a configuration that says what is read and how: to be handed on with a recording, so without passwords,
//! and to be taken from a stranger, so without anything that opens, sends or starts something.

use std::fmt::Write;
use std::path::Path;

use super::diagnose::Diagnostic;
use super::load;
use super::model::Config;
use super::tree::{self, Node};

/// The keys of it.
const KEYS: &[&str] = &[
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

/// The sources' part of a configuration file (`None`: the defaults), as text, for a board of this type.
pub fn shared(file: Option<&Path>, device_type: &str) -> Result<String, String> {
    let content = file
        .map(load::read)
        .transpose()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(content.as_deref().unwrap_or_default());
    share(&text, device_type).map_err(|e| e.to_string())
}

fn share(text: &str, device_type: &str) -> Result<String, Diagnostic> {
    let mut out = String::from("# The settings of the sources, without passwords.\n");
    let mut entries = match tree::build(text.strip_prefix('\u{feff}').unwrap_or(text))? {
        Node::Map(entries) => entries,
        _ => Vec::new(),
    };
    entries.retain(|(key, _)| KEYS.contains(&key.as_str()) && key != "device_type");
    let known = Node::Text(device_type.to_string());
    entries.insert(0, ("device_type".to_string(), known));
    write_map(&mut out, &entries, 0);
    Ok(out)
}

fn write_map(out: &mut String, entries: &[(String, Node)], depth: usize) {
    let is_secret = |key: &str| SECRET.iter().any(|part| key.contains(part));
    for (key, node) in entries.iter().filter(|(key, _)| !is_secret(key)) {
        let _ = write!(out, "{:depth$}{}:", "", text(key), depth = 2 * depth);
        write_node(out, node, depth);
    }
}

/// The node, after its key or its dash.
fn write_node(out: &mut String, node: &Node, depth: usize) {
    let _ = match node {
        Node::Null => writeln!(out),
        Node::Bool(value) => writeln!(out, " {value}"),
        Node::Int(value) => writeln!(out, " {value}"),
        Node::Float(value) if value.is_nan() => writeln!(out, " .nan"),
        Node::Float(value) if value.is_infinite() => {
            writeln!(out, " {}", if *value > 0.0 { ".inf" } else { "-.inf" })
        }
        Node::Float(value) => writeln!(out, " {value:?}"),
        Node::Text(value) => writeln!(out, " {}", text(value)),
        Node::List(items) if items.is_empty() => writeln!(out, " []"),
        Node::Map(entries) if entries.is_empty() => writeln!(out, " {{}}"),
        Node::List(items) => {
            out.push('\n');
            for item in items {
                let _ = write!(out, "{:depth$}-", "", depth = 2 * depth + 2);
                write_node(out, item, depth + 1);
            }
            Ok(())
        }
        Node::Map(entries) => {
            out.push('\n');
            write_map(out, entries, depth + 1);
            Ok(())
        }
    };
}

/// Text that YAML takes for this text and nothing else.
fn text(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphabetic() || c == '_';
    // Words that YAML takes for something else have none of these.
    if text.contains('_') && text.chars().all(is_plain) {
        return text.to_string();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
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
    use crate::sources::METERS;

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
        let shared = share(text, "generic").unwrap();
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
        let shared = share(text, "shelly").unwrap();
        for hidden in ["s3cret", "somebody", "9999", "hidden", "udp_agent"] {
            assert!(!shared.contains(hidden), "{hidden}: {shared}");
        }
        let (config, _) = parse(&shared).unwrap();
        assert_eq!(config.device_type, "shelly");
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
    fn every_meter_has_its_settings_in_it() {
        for meter in METERS {
            let section = match meter.name {
                "tegrastats" | "ina3221" => "jetson",
                name => name,
            };
            assert!(KEYS.contains(&section), "{section}");
        }
    }
}
