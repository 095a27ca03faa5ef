//! What `doctor --network` has found by mDNS: plugs and meters of the network, as text, as JSON, and for a configuration. The devices
//! are asked for nothing but that.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use serde_json::{json, Value};

use crate::config::values::MAX_ITEMS;
use crate::config::Config;
use crate::http::authority;
use crate::mdns::{browse, Network, Service};
use crate::sys::printable;
use crate::sys::wrap::{wrap, wrap_with};

/// The services that are looked for. What is said of an earlier one counts more.
const SERVICES: [&str; 5] = [
    "_shelly._tcp",
    "_esphomelib._tcp",
    "_opendtu._tcp",
    "_home-assistant._tcp",
    "_http._tcp",
];
/// Characters of what a device says about itself.
const MAX_TEXT: usize = 48;

/// Words in an item that stand for what the user has to write.
const PLACEHOLDERS: [&str; 3] = [
    "NAME_OF_ITS_SENSOR",
    "credentials_file: FILE",
    "sensor.NAME",
];

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The interfaces that were asked on.
    interfaces: String,
    devices: Vec<Device>,
    /// Number of other web servers.
    others: usize,
    /// Number of services whose host cannot be written into a configuration.
    without_host: usize,
    /// Whether there are more than are looked at.
    has_more: bool,
}

/// A device that the exporter can read.
#[derive(Debug, Clone, PartialEq)]
struct Device {
    /// Its host name, or its address if it has none that can be written.
    host: String,
    address: Option<SocketAddr>,
    /// What it is, for people.
    what: String,
    /// The section of the configuration: `shelly` or `json`.
    section: &'static str,
    /// The item of its list `devices`, as YAML in one line.
    item: String,
    /// What has to be added, if anything.
    note: &'static str,
}

/// Asks the network. The error is for people.
pub(super) fn search() -> Result<Found, String> {
    let network = Network::detect()?;
    let (services, has_more) = browse(&SERVICES, &network)?;
    Ok(sort(services, network.names(), has_more))
}

fn sort(mut services: Vec<Service>, interfaces: String, has_more: bool) -> Found {
    services.sort_by_key(|service| SERVICES.iter().position(|kind| *kind == service.kind));
    let mut devices: Vec<Device> = Vec::new();
    let mut others: Vec<String> = Vec::new();
    let mut without_host = 0;
    for service in services {
        let Some((host, port)) = host(&service) else {
            without_host += 1;
            continue;
        };
        if devices.iter().any(|device| device.host == host) {
            continue;
        }
        match device(&service, &host, port) {
            Some(device) => devices.push(device),
            None if others.contains(&host) => {}
            None => others.push(host),
        }
    }
    // A host that was only a web server at first.
    others.retain(|host| devices.iter().all(|device| device.host != *host));
    Found {
        interfaces,
        devices,
        others: others.len(),
        without_host,
        has_more,
    }
}

/// The host as the configuration can have it, and the port: its name, which stays when its address changes, or else its
/// address. An address of one link alone (fe80::/10) says nothing without the interface, which a URL cannot have.
fn host(service: &Service) -> Option<(String, u16)> {
    let is_plain = |name: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        crate::mdns::is_local(name) && name.bytes().all(legal)
    };
    let is_of_one_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let (name, port) = service.host.as_ref()?;
    if is_plain(name) {
        return Some((name.to_ascii_lowercase(), *port));
    }
    let mut addresses = service.addresses.iter().map(SocketAddr::ip);
    let address = addresses.find(|ip| !is_of_one_link(ip))?;
    Some((address.to_string(), *port))
}

/// What a service is of, if the exporter can read that.
fn device(service: &Service, host: &str, port: u16) -> Option<Device> {
    let text = |key: &str| service.text(key).map(shown).filter(|t| !t.is_empty());
    let name = || shown(&service.instance);
    let url_host = authority(host, (port != 80).then_some(port));
    let is_shelly_name = service.instance.to_ascii_lowercase().starts_with("shelly");
    let is_tasmota = text("devicetype").as_deref() == Some("tasmota");
    let (section, what, item, note) = match service.kind.as_str() {
        "_shelly._tcp" | "_http._tcp" if is_shelly_name || service.kind == "_shelly._tcp" => {
            let model = text("app").unwrap_or_else(name);
            // The first generation does not say which it is.
            let generation = text("gen").map(|generation| format!(", generation {generation}"));
            (
                "shelly",
                format!("Shelly {model}{}", generation.unwrap_or_default()),
                format!("{{host: \"{url_host}\"}}"),
                "if it measures power, and with its password if it has one",
            )
        }
        "_http._tcp" if is_tasmota => (
            "json",
            "Tasmota".to_string(),
            format!("{{profile: tasmota, host: \"{url_host}\"}}"),
            "if it measures power, and with its login if it has one",
        ),
        "_esphomelib._tcp" => {
            // The announced port is that of ESPHome's own protocol.
            let host = authority(host, None);
            (
                "json",
                format!("ESPHome {}", text("friendly_name").unwrap_or_else(name)),
                format!("{{profile: esphome, host: \"{host}\", values: [{{power: NAME_OF_ITS_SENSOR}}]}}"),
                "with `web_server:` in its own configuration",
            )
        }
        "_opendtu._tcp" => (
            "json",
            "OpenDTU".to_string(),
            format!("{{profile: opendtu, host: \"{url_host}\"}}"),
            "",
        ),
        "_home-assistant._tcp" => (
            "json",
            "Home Assistant".to_string(),
            format!(
                "{{profile: homeassistant, url: \"http://{url_host}\", authorization: {{credentials_file: FILE}}, \
                 values: [{{power: sensor.NAME}}]}}"
            ),
            "any sensor of it, with a token",
        ),
        _ => return None,
    };
    Some(Device {
        host: host.to_string(),
        address: service.addresses.first().copied(),
        what,
        section,
        item,
        note,
    })
}

impl Device {
    /// The address, unless the host is that already.
    fn address(&self) -> Option<String> {
        let ip = self.address.map(|address| address.ip().to_string());
        ip.filter(|ip| *ip != self.host)
    }

    /// Whether the item can be used as it is.
    fn is_ready(&self) -> bool {
        !PLACEHOLDERS.iter().any(|word| self.item.contains(word))
    }
}

/// What a device says about itself, for people.
fn shown(text: &str) -> String {
    printable(text, MAX_TEXT)
}

/// Writes what was found, and what would have it read.
pub(super) fn write(out: &mut String, found: &Result<Found, String>) {
    out.push_str("\nPlugs and meters on the network, by mDNS (--network):\n");
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            wrap(out, "    ! ", why);
            return;
        }
    };
    for device in &found.devices {
        let address = device.address();
        let address = address.map_or_else(String::new, |address| format!(" ({address})"));
        let (host, what) = (&device.host, &device.what);
        wrap_with(out, "", "    ", &format!("{host}{address}: {what}"));
        if !device.note.is_empty() {
            wrap_with(out, "    # ", "    # ", &format!("{}:", device.note));
        }
        let (section, item) = (device.section, &device.item);
        wrap_with(
            out,
            "    ",
            "      ",
            &format!("{section}: {{devices: [{item}]}}"),
        );
    }
    let hint = match found.devices.is_empty() {
        true => {
            "mDNS does not pass routers; Tasmota has it off unless `SetOption55 1` has been given"
        }
        false => "other web servers may be meters, too",
    };
    let devices = found.devices.len();
    let (others, interfaces) = (found.others, &found.interfaces);
    wrap(
        out,
        "    ",
        &format!("{devices} devices that can be read and {others} other web servers were found on {interfaces} ({hint})"),
    );
    if found.without_host > 0 {
        let count = found.without_host;
        wrap(
            out,
            "    ! ",
            &format!("services left out: {count}, which announce no host name in .local and no address that a setting can have"),
        );
    }
    if found.has_more {
        out.push_str("    ! more have answered than are looked at; the rest is left out\n");
    }
}

/// The same as JSON.
pub(super) fn json(found: &Result<Found, String>) -> Value {
    let device = |device: &Device| {
        json!({
            "host": device.host,
            "address": device.address.map(|address| address.ip().to_string()),
            "detail": device.what,
            "section": device.section,
            "device": device.item,
            "note": device.note,
        })
    };
    match found {
        Err(why) => json!({"error": why}),
        Ok(found) => json!({
            "error": null,
            "interfaces": found.interfaces,
            "devices": found.devices.iter().map(device).collect::<Vec<_>>(),
            "others": found.others,
            "without_host": found.without_host,
            "left_out": found.has_more,
        }),
    }
}

/// The devices as settings of a configuration. Those that need more, and all of a section that `config` has settings of, are
/// comments.
pub(super) fn configure(config: &Config, found: &Result<Found, String>) -> String {
    let mut out = String::new();
    let devices = found.as_ref().map_or(&[][..], |found| &found.devices);
    let unset = Config::default();
    for section in ["shelly", "json"] {
        let is_free = config.meters.same_section(&unset.meters, section);
        let of_section = devices.iter().filter(|device| device.section == section);
        let (mut ready, mut others): (Vec<_>, Vec<_>) =
            of_section.partition(|device| is_free && device.is_ready());
        // A configuration takes no more.
        others.extend(ready.split_off(ready.len().min(MAX_ITEMS)));
        if !ready.is_empty() {
            let _ = write!(
                out,
                "\n# Found on the network. Remove what is not to be read.\n{section}:\n  devices:\n"
            );
        } else if !others.is_empty() {
            let _ = write!(
                out,
                "\n# Found on the network. To read them, complete the settings and take the # away:\n#{section}:\n#  devices:\n"
            );
        }
        for (mark, device) in ready
            .iter()
            .map(|device| ("", device))
            .chain(others.iter().map(|device| ("#", device)))
        {
            let what = &device.what;
            let _ = match device.note {
                "" => writeln!(out, "{mark}    - {}   # {what}", device.item),
                note => writeln!(out, "{mark}    - {}   # {what}; {note}", device.item),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SCHEMA;

    fn service(
        kind: &str,
        instance: &str,
        host: &str,
        port: u16,
        text: &[(&str, &str)],
    ) -> Service {
        let pair = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        Service {
            kind: kind.to_string(),
            instance: instance.to_string(),
            host: Some((host.to_string(), port)),
            addresses: vec!["192.168.1.20:0".parse().unwrap()],
            text: text.iter().map(pair).collect(),
        }
    }

    fn found(services: Vec<Service>) -> Found {
        sort(services, "eth0".to_string(), false)
    }

    /// The texts are those of public reports and sources of the firmware.
    #[test]
    fn devices_are_recognised_and_their_settings_are_valid() {
        let gen2 = "ShellyPlugSG3-80B54E355BF8";
        let found = found(vec![
            service(
                "_http._tcp",
                gen2,
                "ShellyPlugSG3-80B54E355BF8.local",
                80,
                &[("gen", "3")],
            ),
            service(
                "_http._tcp",
                "shellyplug-s-6A6375",
                "shellyplug-s-6A6375.local",
                80,
                &[("id", "shellyplug-s-6A6375"), ("arch", "esp8266")],
            ),
            service(
                "_http._tcp",
                "tasmota_ABCDEF-1234",
                "tasmota-ABCDEF-1234.local",
                80,
                &[("devicetype", "tasmota")],
            ),
            service("_http._tcp", "NAS", "nas.local", 5000, &[]),
            service(
                "_shelly._tcp",
                &gen2.to_lowercase(),
                "ShellyPlugSG3-80B54E355BF8.local",
                80,
                &[("gen", "3"), ("app", "PlugSG3"), ("ver", "1.4.4")],
            ),
            service(
                "_esphomelib._tcp",
                "plug5120",
                "plug5120.local",
                6053,
                &[
                    ("version", "2022.7.0-dev"),
                    ("platform", "ESP8266"),
                    ("board", "esp01_1m"),
                ],
            ),
            service("_http._tcp", "plug5120", "plug5120.local", 80, &[]),
            service(
                "_opendtu._tcp",
                "OpenDTU",
                "OpenDTU-1.local",
                8080,
                &[("git_hash", "v24")],
            ),
        ]);
        let lines: Vec<_> = found
            .devices
            .iter()
            .map(|device| {
                format!(
                    "{} {} {} {}",
                    device.host, device.what, device.section, device.item
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "shellyplugsg3-80b54e355bf8.local Shelly PlugSG3, generation 3 shelly {host: \"shellyplugsg3-80b54e355bf8.local\"}",
                "plug5120.local ESPHome plug5120 json {profile: esphome, host: \"plug5120.local\", values: [{power: NAME_OF_ITS_SENSOR}]}",
                "opendtu-1.local OpenDTU json {profile: opendtu, host: \"opendtu-1.local:8080\"}",
                "shellyplug-s-6a6375.local Shelly shellyplug-s-6A6375 shelly {host: \"shellyplug-s-6a6375.local\"}",
                "tasmota-abcdef-1234.local Tasmota json {profile: tasmota, host: \"tasmota-abcdef-1234.local\"}",
            ]
        );
        assert_eq!(found.others, 1);
        let found = Ok(found);
        let written = configure(&Config::default(), &found);
        let devices = |text: &str| {
            let (config, warnings) = SCHEMA.parse(text).unwrap();
            assert_eq!(warnings, [], "{text}");
            let shelly: crate::sources::shelly::settings::Settings = config.meter();
            let json: crate::sources::json::settings::Settings = config.meter();
            (shelly.plugs.len(), json.devices.len())
        };
        // ESPHome needs the name of a sensor.
        assert_eq!(devices(&written), (2, 2), "{written}");
        let completed: Vec<_> = written
            .lines()
            .map(|line| line.strip_prefix("#  ").map_or(line, |_| &line[1..]))
            .collect();
        assert_eq!(devices(&completed.join("\n")), (2, 3), "{written}");
        // A configuration takes only so many.
        let plug = |n| {
            service(
                "_shelly._tcp",
                "x",
                &format!("shelly-{n}.local"),
                80,
                &[("gen", "2")],
            )
        };
        let many = configure(
            &Config::default(),
            &Ok(sort((0..70).map(plug).collect(), "eth0".to_string(), false)),
        );
        assert_eq!(devices(&many), (64, 0), "{many}");
        // A section that is configured is not written twice.
        let given = "json: {devices: [{profile: tasmota, host: a}]}\n";
        let (given, _) = SCHEMA.parse(given).unwrap();
        let written = configure(&given, &found);
        assert_eq!(devices(&written), (2, 0), "{written}");
        assert!(written.contains("\n#json:\n#  devices:\n"), "{written}");
    }

    #[test]
    fn ipv6_addresses_are_bracketed_and_those_of_one_link_left_out() {
        let by_addresses = |addresses: &[&str]| Service {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..service(
                "_home-assistant._tcp",
                "Home",
                "no host name.local",
                8123,
                &[],
            )
        };
        let found = found(vec![
            by_addresses(&["[fe80::7%2]:0", "[fd00::7]:0"]),
            by_addresses(&["[fe80::8%2]:0"]),
        ]);
        let [device] = &found.devices[..] else {
            panic!("{found:?}");
        };
        assert!(
            device.item.contains("url: \"http://[fd00::7]:8123\""),
            "{device:?}"
        );
        assert_eq!(found.without_host, 1);
        let mut text = String::new();
        write(&mut text, &Ok(found));
        assert!(text.contains("! services left out: 1, "), "{text}");
    }

    #[test]
    fn what_a_device_says_cannot_become_settings() {
        let evil = service(
            "_shelly._tcp",
            "x\u{2028}# y: \u{1b}[31m",
            "a\", power_total: true}, {host: \"b.local",
            80,
            &[("app", "Plus\u{2028}  - host: evil"), ("gen", "2\u{7}")],
        );
        let nowhere = Service {
            addresses: Vec::new(),
            ..evil.clone()
        };
        let found = found(vec![evil, nowhere]);
        assert_eq!(found.without_host, 1);
        let [device] = &found.devices[..] else {
            panic!("{found:?}");
        };
        assert_eq!(device.item, "{host: \"192.168.1.20\"}");
        assert_eq!(device.what, "Shelly Plus  - host: evil, generation 2");
        let written = configure(&Config::default(), &Ok(found));
        let (config, warnings) = SCHEMA.parse(&written).unwrap();
        assert_eq!(warnings, [], "{written}");
        let shelly: crate::sources::shelly::settings::Settings = config.meter();
        assert_eq!(shelly.plugs.len(), 1, "{written}");
        assert!(
            written.contains("- {host: \"192.168.1.20\"}   # Shelly"),
            "{written}"
        );
    }
}
