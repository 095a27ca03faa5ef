//! The section `json:`.

use std::time::Duration;

use serde::Serialize;

use super::profile::{self, Profile, GENERIC};
use super::values::{show, RailValues};
use crate::config::diagnose::quoted;
use crate::config::section::{Problem, Section};
use crate::config::show::{seconds, url_without_query};
use crate::config::tree::Node;
use crate::config::values::{self, Outcome, Refusal};
use crate::config::{
    client_url, read_client, url_without_secrets, ClientSettings, Config, MeterSettings, Switch,
};

/// The time limit of a response. A BMC takes some seconds.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The section `json:`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Whether the devices are read.
    pub enabled: Switch,
    /// The devices, with unique names.
    pub devices: Vec<Device>,
}

/// One device: an item of `json.devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The name in labels. By default the host.
    pub name: String,
    /// The profile's name.
    pub profile: &'static str,
    /// Where the device is, and without a profile what is got from it.
    #[serde(serialize_with = "url_without_query")]
    pub url: String,
    /// The time limit of each response.
    #[serde(serialize_with = "seconds")]
    pub timeout: Duration,
    /// The device feeds the board, so that its power is the board's total.
    pub power_total: bool,
    /// Login, TLS and headers.
    #[serde(flatten)]
    pub client: ClientSettings,
    /// The values beside those of the profile, or in their place.
    #[serde(serialize_with = "show")]
    pub values: Vec<RailValues>,
}

impl MeterSettings for Settings {
    const SECTION: &'static str = "json";

    fn read(section: &mut Section<'_, '_>) -> Result<Settings, Problem> {
        let mut settings = Settings::default();
        section.set("enabled", values::switch, &mut settings.enabled)?;
        settings.devices = section.sections("devices", device)?;
        let names = settings.devices.iter().map(|device| device.name.as_str());
        section.refuse_same_names("devices", "devices of `json`", names)?;
        Ok(settings)
    }

    fn warnings(&self, _: &Config) -> Vec<(&'static str, String)> {
        let mut totals = self.devices.iter().filter(|device| device.power_total);
        let (first, more) = (totals.next(), totals.next());
        let both = first.zip(more).map(|(first, more)| {
            let (first, more) = (quoted(&first.name), quoted(&more.name));
            format!(
                "{first} and {more} have `power_total`: the board's total is that of the first one alone"
            )
        });
        let unverified = self
            .devices
            .iter()
            .filter(|device| device.client.tls.insecure_skip_verify);
        let unverified = unverified.map(|device| {
            let name = quoted(&device.name);
            format!(
                "{name} has `insecure_skip_verify`: whoever is in between can read its login and answer in its place; \
                 `ca_file` with the device's own certificate prevents that"
            )
        });
        let all = both.into_iter().chain(unverified);
        all.map(|message| (Self::SECTION, message)).collect()
    }
}

fn device(section: &mut Section<'_, '_>) -> Result<Device, Problem> {
    let (mut host, mut url, mut name, mut timeout) = (None, None, None, None);
    let mut device = Device {
        name: String::new(),
        profile: GENERIC,
        url: String::new(),
        timeout: TIMEOUT,
        power_total: false,
        client: ClientSettings {
            follow_redirects: false,
            ..ClientSettings::default()
        },
        values: Vec::new(),
    };
    section.option("name", values::label, &mut name)?;
    section.set("profile", profile::name_of, &mut device.profile)?;
    section.option("host", values::host, &mut host)?;
    section.option("url", client_url, &mut url)?;
    section.option("timeout", limit, &mut timeout)?;
    section.set("power_total", values::flag, &mut device.power_total)?;
    read_client(section, &mut device.client)?;
    device.values = RailValues::read_list(section)?;
    let profile = Profile::get(device.profile)
        .map_err(|error| section.refuse(Some("profile"), error.message))?;
    let place = match (url, host) {
        (Some(url), None) => url,
        (None, Some(host)) => {
            let scheme = if profile.is_https { "https" } else { "http" };
            match host.parse::<std::net::Ipv6Addr>() {
                Ok(address) => format!("{scheme}://[{address}]"),
                Err(_) => format!("{scheme}://{host}"),
            }
        }
        (Some(_), Some(_)) => {
            let message = "an item of `json.devices` has both `url` and `host`: remove one";
            return Err(section.refuse(Some("host"), message.into()));
        }
        (None, None) => {
            let message = "an item of `json.devices` has no `url`: write it, or the `host`";
            return Err(section.refuse(None, message.into()));
        }
    };
    // A host of a profile with https needs TLS, too.
    client_url(&Node::Text(place.clone())).map_err(|refusal| {
        section.refuse(
            Some("host"),
            format!("`json.devices.host` {}", refusal.message),
        )
    })?;
    device.name = name.unwrap_or_else(|| host_of(&place).to_string());
    device.url = place;
    device.timeout = timeout.or(profile.timeout).unwrap_or(TIMEOUT);
    let rails = profile.rails(&device.values);
    if rails.iter().all(RailValues::is_empty) {
        let message = match device.profile {
            GENERIC => "has no `values`: write where in its answer they are, or the `profile` of such devices",
            _ => "has no `values`: write the names of its entities, such as `- power: sensor.plug_power`",
        };
        let name = quoted(&device.name);
        return Err(section.refuse(None, format!("the device {name} of `json` {message}")));
    }
    if let Some((quantity, why)) = profile.refuses(&device.values) {
        let name = quoted(&device.name);
        let message = format!("`{}` of the device {name} of `json` {why}", quantity.key());
        return Err(section.refuse(Some("values"), message));
    }
    Ok(device)
}

/// A time limit.
fn limit(node: &Node) -> Outcome<Duration> {
    let limit = values::seconds(node)?;
    match limit <= MAX_TIMEOUT && limit >= Duration::from_millis(100) {
        true => Ok(limit),
        false => Err(Refusal::new(format!(
            "is {} s: write seconds from 0.1 to {}",
            limit.as_secs_f64(),
            MAX_TIMEOUT.as_secs()
        ))),
    }
}

/// The host and port of a URL.
fn host_of(url: &str) -> &str {
    let bare = url_without_secrets(url);
    let (_, rest) = bare.split_once("://").unwrap_or(("", bare));
    rest.split('/').next().unwrap_or(rest)
}
