//! A device of the fleet: its configuration, and what is known of the board.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::fleet::BoardState;
use super::groups::{message_of, Layers};
use super::store::Stored;
use crate::config::{
    target_labels, Config, Diagnostic, Document, Membership, TargetLabels, DEVICE_TYPES,
};
use crate::http::{authority, host_address};
use crate::sources::SCHEMA;
use crate::wire::{DeviceId, Report};

/// The key that registers a device's address. The server owns this key; it is not part of the board's configuration.
pub(super) const ADDRESS_KEY: &str = "ip_address";
/// The key of the labels that the device's target has. The server owns this key too.
pub(super) const LABELS_KEY: &str = "target_labels";

/// A board that polls is unreachable after this many polls were missed and [`POLL_GRACE`] has passed. The grace is the time
/// in which the note of another server arrives, or the board tries again after it found no server.
const MISSED_POLLS: u32 = 3;
/// See [`MISSED_POLLS`].
const POLL_GRACE: Duration = Duration::from_secs(120);

/// How long a reading of the power of a board that does not poll counts as that of now.
const MAX_POWER_AGE: Duration = Duration::from_secs(300);

/// A board's own document, parsed. It need not be a whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Own {
    /// The document without the server's own keys.
    pub(super) document: Document,
    /// The address that the device was registered with.
    pub(super) address: Option<IpAddr>,
    /// The labels of its target.
    pub(super) labels: TargetLabels,
}

/// A board's configuration: its own document, and its groups.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParsedConfig {
    /// The configuration without the server's own keys.
    pub(super) document: Document,
    pub(super) config: Config,
    pub(super) warnings: Vec<Diagnostic>,
    /// The address that the device was registered with.
    pub(super) address: Option<IpAddr>,
    /// The labels of its target.
    pub(super) labels: Vec<(String, String)>,
}

impl Own {
    /// Parses a stored document. The error is a message for the user, who may have edited the file.
    pub(super) fn parse(stored: &Stored) -> Result<Own, String> {
        Own::of(Document::from_yaml(&stored.text).map_err(|e| e.to_string())?)
    }

    /// Takes the server's own keys out of a document.
    pub(super) fn of(mut document: Document) -> Result<Own, String> {
        let address = match document.text(ADDRESS_KEY).map(host_address) {
            Some(Some(address)) => Some(address),
            Some(None) => return Err(format!("`{ADDRESS_KEY}` is no IP address of a device")),
            None => None,
        };
        document.remove(ADDRESS_KEY);
        let labels = target_labels(&mut document, LABELS_KEY)?;
        Ok(Own {
            document,
            address,
            labels,
        })
    }

    /// The type of board that the document names.
    pub(super) fn device_type(&self) -> Cow<'static, str> {
        interned(self.document.text("device_type").unwrap_or("auto"))
    }
}

/// A type of board, without memory of its own if it is a known one.
fn interned(device_type: &str) -> Cow<'static, str> {
    let known = DEVICE_TYPES.iter().find(|known| **known == device_type);
    known.map_or_else(|| device_type.to_owned().into(), |known| (*known).into())
}

impl ParsedConfig {
    /// The configuration as the JSON that boards receive. The error is a message for the user.
    pub(super) fn json(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec_pretty(&self.document).map_err(|e| e.to_string())
    }
}

/// The part of a configuration that is kept in memory: what lists of the fleet show.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    /// The address that the device was registered with.
    address: Option<IpAddr>,
    /// The configuration's `listen_address`, if other machines can reach it.
    listens_at: Option<IpAddr>,
    device_type: Cow<'static, str>,
    hostname: Option<Box<str>>,
    port: Option<u16>,
    reload_port: Option<u16>,
    config_poll: Option<Duration>,
    labels: Box<[(String, String)]>,
}

impl Summary {
    pub(super) fn of(parsed: &ParsedConfig) -> Summary {
        let config = &parsed.config;
        // A board that listens on loopback has a proxy on the same board.
        let listens_at = config.listen_address.as_deref().and_then(host_address);
        Summary {
            address: parsed.address,
            listens_at: listens_at.filter(|address| !address.is_loopback()),
            device_type: interned(&config.device_type),
            hostname: config.hostname.as_deref().map(Into::into),
            port: config.port,
            reload_port: config.reload_port,
            config_poll: config.config_poll,
            labels: parsed.labels.as_slice().into(),
        }
    }
}

/// Parses a stored document, and makes a configuration of it and of the board's groups. The error is a message for the user,
/// who may have edited the file.
pub(super) fn parse_stored(stored: &Stored, groups: &Layers<'_>) -> Result<ParsedConfig, String> {
    let own = Own::parse(stored)?;
    groups.configuration(&own).map_err(|refused| {
        // Read once more from the text, for line and column, if the text is what is wrong.
        match own.document.read(&SCHEMA) {
            Err(own) if own.message == refused.message => {
                let placed = Document::read_yaml(&SCHEMA, &stored.text).err();
                message_of(&placed.unwrap_or(refused))
            }
            _ => message_of(&refused),
        }
    })
}

/// A device of the fleet.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    /// The `device_type` of the board's own document.
    pub(super) own_type: Cow<'static, str>,
    /// The summary of the configuration; or why it is not valid.
    pub(super) parsed: Arc<Result<Summary, String>>,
    pub(super) state: BoardState,
    /// The time since the last contact, as `Fleet::silence` has it.
    pub(super) silence: Duration,
}

/// How the address of a device is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressSource {
    /// The device was registered with this `ip_address`.
    Registered,
    /// The configuration has this `listen_address`.
    Configured,
    /// The last contact came from this address.
    Contact,
    /// The address is not known. The device id serves as the host name, as it is with edge-metrics-exporter.
    Name,
}

impl AddressSource {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            AddressSource::Registered => "registered",
            AddressSource::Configured => "configured",
            AddressSource::Contact => "seen",
            AddressSource::Name => "name",
        }
    }
}

impl Device {
    /// The device's host, and how that is known. A registered address takes precedence over the address of the last contact:
    /// behind a proxy or NAT only the user can know the address. A board in several networks may contact the server from one
    /// and listen in another.
    pub(super) fn host(&self) -> (String, AddressSource) {
        let summary = self.summary();
        let registered = summary.and_then(|summary| summary.address);
        let contacted = self.state.last_contact.as_ref();
        let contacted = contacted.map(|contact| contact.address);
        let known = registered
            .map(|address| (address, AddressSource::Registered))
            .or_else(|| Some((summary?.listens_at?, AddressSource::Configured)))
            .or_else(|| Some((contacted?, AddressSource::Contact)));
        known.map_or_else(
            || (self.id.to_string(), AddressSource::Name),
            |(address, from)| (address.to_string(), from),
        )
    }

    /// Host and port, as in a URL.
    pub(super) fn authority(&self, port: u16) -> String {
        authority(&self.host().0, Some(port))
    }

    /// `https` if the board reported that it serves TLS, else `http`.
    pub(super) fn scheme(&self) -> &'static str {
        match self.report().is_some_and(|report| report.tls) {
            true => "https",
            false => "http",
        }
    }

    /// The metrics port: the reported one, else the configured one.
    pub(super) fn port(&self) -> Option<u16> {
        let reported = self.report().and_then(|report| report.ports);
        reported
            .map_or_else(|| self.summary()?.port, |ports| ports.metrics)
            .filter(|port| *port != 0)
    }

    /// The management port: the reported one, else the configured one.
    pub(super) fn reload_port(&self) -> Option<u16> {
        let reported = self.report().and_then(|report| report.ports);
        reported
            .map_or_else(|| self.summary()?.reload_port, |ports| ports.management)
            .filter(|port| *port != 0)
    }

    /// The report of the last contact.
    fn report(&self) -> Option<&Report> {
        let contact = self.state.last_contact.as_ref();
        contact.map(|contact| &contact.report)
    }

    /// The summary, if the configuration is valid.
    fn summary(&self) -> Option<&Summary> {
        self.parsed.as_ref().as_ref().ok()
    }

    /// The configured type of board; for `auto`, the type that the board reported.
    pub(super) fn device_type(&self) -> &str {
        let configured = self
            .summary()
            .map_or("unknown", |summary| summary.device_type.as_ref());
        let found = self.report();
        let found = found.and_then(|report| report.device_type.as_deref());
        match (configured, found) {
            ("auto", Some(found)) => found,
            _ => configured,
        }
    }

    /// The `hostname` label of the device's metrics.
    pub(super) fn hostname(&self) -> &str {
        let own = self
            .summary()
            .and_then(|summary| summary.hostname.as_deref());
        own.unwrap_or(self.id.as_str())
    }

    /// The labels of the device's target, besides those that every target has.
    pub(super) fn labels(&self) -> &[(String, String)] {
        self.summary().map_or(&[], |summary| &summary.labels)
    }

    /// What decides of which groups the device is a member.
    pub(super) fn membership(&self) -> Membership<'_> {
        let found = self.report();
        let found = found.and_then(|report| report.device_type.as_deref());
        Membership {
            id: &self.id,
            device_type: match (self.own_type.as_ref(), found) {
                ("auto", Some(found)) => found,
                (own, _) => own,
            },
        }
    }

    /// The silence after which the device is unreachable; `None`: it does not poll, or was never seen.
    fn silence_limit(&self) -> Option<Duration> {
        let every = self.summary()?.config_poll?;
        let limit = every
            .saturating_mul(MISSED_POLLS)
            .saturating_add(POLL_GRACE);
        self.state.last_contact.as_ref().map(|_| limit)
    }

    /// How long a reading of the device's power counts as that of now.
    pub(super) fn max_power_age(&self) -> Duration {
        self.silence_limit().unwrap_or(MAX_POWER_AGE)
    }

    /// The time until the device becomes unreachable without another contact; `None`: never, or it is unreachable already.
    pub(super) fn unreachable_in(&self) -> Option<Duration> {
        let left = self.silence_limit()?.checked_sub(self.silence)?;
        Some(left.saturating_add(Duration::from_nanos(1)))
    }

    /// Why the device is unreachable because it has missed its polls; `None`: it has not.
    fn overdue(&self) -> Option<String> {
        let every = self.summary()?.config_poll?;
        let late = self.silence > self.silence_limit()?;
        let seconds = (self.silence.as_secs(), every.as_secs_f64());
        late.then(|| {
            format!(
                "the board has not requested its configuration for {} s, although it polls every {} s (`config_poll`)",
                seconds.0, seconds.1
            )
        })
    }

    /// The status, in the words of edge-metrics-server, and the reason for a bad one.
    pub(super) fn status(&self) -> (&'static str, Option<Cow<'_, str>>) {
        let BoardState {
            last_contact,
            unreachable,
            ..
        } = &self.state;
        let report = self.report();
        let refused = report.and_then(|report| report.refused.as_deref());
        let degraded = report.and_then(|report| report.degraded.as_deref());
        match (self.parsed.as_ref(), unreachable, refused, degraded) {
            (Err(why), ..) => ("unhealthy", Some(why.into())),
            (_, Some(why), ..) => ("unreachable", Some(why.as_ref().into())),
            (_, _, refused, degraded) => match (self.overdue(), refused, degraded, last_contact) {
                (Some(why), ..) => ("unreachable", Some(why.into())),
                (_, Some(why), ..) => ("unhealthy", Some(why.into())),
                (_, _, Some(why), _) => ("degraded", Some(why.into())),
                (_, _, _, Some(_)) => ("healthy", None),
                _ => ("unknown", None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fleet::Contact;
    use super::super::groups::GroupSet;
    use super::*;
    use crate::wire::Ports;

    fn device(text: &str, contact: Option<Contact>) -> Device {
        let stored = Stored {
            text: text.into(),
            revision: 0,
        };
        let id = DeviceId::parse("edge-01").unwrap();
        let groups = GroupSet::default();
        let layers = groups.layers(Membership {
            id: &id,
            device_type: "auto",
        });
        let parsed = parse_stored(&stored, &layers);
        Device {
            own_type: Own::parse(&stored).map_or("unknown".into(), |own| own.device_type()),
            parsed: Arc::new(parsed.map(|parsed| Summary::of(&parsed))),
            id,
            state: BoardState {
                last_contact: contact.map(Arc::new),
                ..BoardState::default()
            },
            silence: Duration::ZERO,
        }
    }

    fn contact(ports: Option<Ports>) -> Option<Contact> {
        let report = Report {
            version: "1".into(),
            ports,
            tls: false,
            device_type: Some("jetson_orin".into()),
            ..Report::default()
        };
        Some(Contact {
            address: "fd00::7".parse().unwrap(),
            report,
            power: None,
            at: 1,
        })
    }

    #[test]
    fn address_is_registered_configured_seen_or_the_name() {
        let known = device("ip_address: 10.0.0.7\nport: 9200\n", contact(None));
        assert_eq!(known.host(), ("10.0.0.7".into(), AddressSource::Registered));
        assert_eq!(known.authority(1), "10.0.0.7:1");
        assert_eq!(
            (known.port(), known.reload_port()),
            (Some(9200), Some(9101))
        );
        let ports = Ports {
            metrics: Some(31000),
            management: None,
        };
        let reporting = device("port: 0\n", contact(Some(ports)));
        assert_eq!(reporting.host(), ("fd00::7".into(), AddressSource::Contact));
        assert_eq!(reporting.authority(1), "[fd00::7]:1");
        assert_eq!(
            (reporting.port(), reporting.reload_port()),
            (Some(31000), None)
        );
        // The reported type, unless the configuration names one.
        assert_eq!(reporting.device_type(), "jetson_orin");
        assert_eq!(
            device("device_type: shelly\n", contact(None)).device_type(),
            "shelly"
        );
        assert_eq!(device("", None).device_type(), "auto");
        // Contacts from one network, listens in another.
        let elsewhere = |text: &str| device(text, contact(None)).host();
        assert_eq!(
            elsewhere("listen_address: 10.0.0.8\n"),
            ("10.0.0.8".into(), AddressSource::Configured)
        );
        assert_eq!(
            elsewhere("listen_address: 10.0.0.8\nip_address: 10.0.0.7\n").1,
            AddressSource::Registered
        );
        for nowhere in ["0.0.0.0", "\"::\"", "127.0.0.1", "\"::1\""] {
            let (_, from) = elsewhere(&format!("listen_address: {nowhere}\n"));
            assert_eq!(from, AddressSource::Contact, "{nowhere}");
        }
        let never_seen = device("port: 0\nreload_port: off\n", None);
        assert_eq!(never_seen.host(), ("edge-01".into(), AddressSource::Name));
        assert_eq!((never_seen.port(), never_seen.reload_port()), (None, None));
    }

    #[test]
    fn status_follows_configuration_contact_and_calls() {
        assert_eq!(device("", None).status(), ("unknown", None));
        assert_eq!(device("", contact(None)).status(), ("healthy", None));
        let broken = device("ip_address: 10.0.0.7\ninterval: fast\n", contact(None));
        let (status, why) = broken.status();
        assert_eq!(status, "unhealthy");
        let why = why.unwrap();
        assert!(why.starts_with("line 2, column 11: "), "{why}");
        let mut gone = device("", contact(None));
        gone.state.unreachable = Some("connection refused".into());
        assert_eq!(
            gone.status(),
            ("unreachable", Some("connection refused".into()))
        );
        assert!(device("ip_address: x\n", None).parsed.is_err());
    }

    #[test]
    fn reported_degradation_is_the_status_unless_worse() {
        let mut hurt = contact(None).unwrap();
        hurt.report.degraded = Some("hwmon: no such device".into());
        let mut board = device("", Some(hurt.clone()));
        assert_eq!(
            board.status(),
            ("degraded", Some("hwmon: no such device".into()))
        );
        // A refused configuration takes precedence.
        hurt.report.refused = Some("no".into());
        assert_eq!(device("", Some(hurt)).status().0, "unhealthy");
        board.state.unreachable = Some("connection refused".into());
        assert_eq!(board.status().0, "unreachable");
    }

    #[test]
    fn board_that_missed_its_polls_is_unreachable() {
        let after = |text: &str, silence: u64| Device {
            silence: Duration::from_secs(silence),
            ..device(text, contact(None))
        };
        let about_to_be = after("config_poll: 60\n", 300);
        assert_eq!(about_to_be.status().0, "healthy");
        assert_eq!(about_to_be.unreachable_in(), Some(Duration::from_nanos(1)));
        assert_eq!(after("config_poll: 60\n", 301).unreachable_in(), None);
        assert_eq!(after("", 1).unreachable_in(), None);
        let silent = after("config_poll: 60\n", 301);
        let (status, why) = silent.status();
        assert_eq!(status, "unreachable");
        assert_eq!(
            why.unwrap(),
            "the board has not requested its configuration for 301 s, although it polls every 60 s (`config_poll`)"
        );
        // A board that only asks at its start may be healthy.
        assert_eq!(after("", 1_000_000).status().0, "healthy");
        let never_seen = Device {
            state: BoardState::default(),
            ..after("config_poll: 1\n", 1_000_000)
        };
        assert_eq!(never_seen.status().0, "unknown");
    }
}
