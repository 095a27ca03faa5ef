//! One device of the fleet: its configuration, and what is known of the board.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::fleet::State;
use super::store::Stored;
use crate::config::{Config, Document, Rejection, DEVICE_TYPES};
use crate::http::host_address;
use crate::sources::SCHEMA;
use crate::wire::DeviceId;

/// The key by which a device is registered with an address. It is the server's, and no part of the configuration.
pub(super) const ADDRESS: &str = "ip_address";

/// A board that polls is silent when it has missed so many polls, and after that for so long as it takes another server's
/// note of it to come, and the board to try again where it found nobody.
const MISSED: u32 = 3;
const SLACK: Duration = Duration::from_secs(120);

/// A configuration as it is kept, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// Without the server's own keys.
    pub(super) document: Document,
    pub(super) config: Config,
    /// The address that the device was registered with.
    pub(super) address: Option<IpAddr>,
}

impl Kept {
    /// The configuration as JSON, as it is sent; the error is for people.
    pub(super) fn json(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec_pretty(&self.document).map_err(|e| e.to_string())
    }
}

/// What is kept in memory of a configuration: that by which the fleet is listed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    /// The address that the device was registered with.
    address: Option<IpAddr>,
    /// The one address that others reach it at, if its configuration names one.
    listens_at: Option<IpAddr>,
    device_type: Cow<'static, str>,
    hostname: Option<Box<str>>,
    port: Option<u16>,
    reload_port: Option<u16>,
    config_poll: Option<Duration>,
}

impl Summary {
    pub(super) fn of(kept: &Kept) -> Summary {
        let config = &kept.config;
        // Behind a loopback address is a proxy of the board's own.
        let listens_at = config.listen_address.as_deref().and_then(host_address);
        let known = DEVICE_TYPES
            .iter()
            .find(|known| **known == config.device_type);
        Summary {
            address: kept.address,
            listens_at: listens_at.filter(|address| !address.is_loopback()),
            device_type: known.map_or_else(
                || config.device_type.clone().into(),
                |known| (*known).into(),
            ),
            hostname: config.hostname.as_deref().map(Into::into),
            port: config.port,
            reload_port: config.reload_port,
            config_poll: config.config_poll,
        }
    }
}

/// Takes it apart. An error is for people: somebody edited the file.
pub(super) fn take_apart(stored: &Stored) -> Result<Kept, String> {
    let mut document = Document::from_yaml(&stored.text).map_err(|e| e.to_string())?;
    let address = match document.text(ADDRESS).map(host_address) {
        Some(Some(address)) => Some(address),
        Some(None) => return Err(format!("`{ADDRESS}` is no IP address of a device")),
        None => None,
    };
    document.remove(ADDRESS);
    match document.read(&SCHEMA) {
        Ok((config, _)) => Ok(Kept {
            document,
            config,
            address,
        }),
        // Again from the text, for the place in it.
        Err(refused) => Err(Document::read_yaml(&SCHEMA, &stored.text)
            .err()
            .unwrap_or(refused))
        .map_err(
            |Rejection {
                 line,
                 column,
                 message,
                 ..
             }| match (line, column) {
                (Some(line), Some(column)) => format!("line {line}, column {column}: {message}"),
                _ => message,
            },
        ),
    }
}

/// A device of the fleet.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    /// What is kept of it; or why that is none.
    pub(super) kept: Arc<Result<Summary, String>>,
    pub(super) state: State,
    /// How long nothing has been heard of it.
    pub(super) quiet: Duration,
}

/// Where the host of a device is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostFrom {
    /// It was registered with this `ip_address`.
    Registered,
    /// Its configuration has it listen there and nowhere else (`listen_address`).
    Configured,
    /// It last asked from there.
    Seen,
    /// From nowhere: its id is the name of a host, as it is with edge-metrics-exporter.
    Name,
}

impl HostFrom {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            HostFrom::Registered => "registered",
            HostFrom::Configured => "configured",
            HostFrom::Seen => "seen",
            HostFrom::Name => "name",
        }
    }
}

impl Device {
    /// Where it is, and how that is known. What it was registered with goes before what was seen: behind a proxy or a NAT
    /// only somebody who knows the network can say it. One with several networks asks from one, and may listen in another.
    pub(super) fn host(&self) -> (String, HostFrom) {
        let summary = self.summary();
        let registered = summary.and_then(|summary| summary.address);
        let seen = self.state.seen.as_ref().map(|seen| seen.address);
        let known = registered
            .map(|address| (address, HostFrom::Registered))
            .or_else(|| Some((summary?.listens_at?, HostFrom::Configured)))
            .or_else(|| Some((seen?, HostFrom::Seen)));
        known.map_or_else(
            || (self.id.to_string(), HostFrom::Name),
            |(address, from)| (address.to_string(), from),
        )
    }

    /// Its host and a port of it, as in a URL.
    pub(super) fn authority(&self, port: u16) -> String {
        let (host, _) = self.host();
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// `https` if it says that it is reached so, else `http`.
    pub(super) fn scheme(&self) -> &'static str {
        match self.state.seen.as_ref().is_some_and(|seen| seen.report.tls) {
            true => "https",
            false => "http",
        }
    }

    /// The port of its metrics: the one that it says, else the one of its configuration.
    pub(super) fn port(&self) -> Option<u16> {
        let said = self.state.seen.as_ref().and_then(|seen| seen.report.ports);
        said.map_or_else(|| self.summary()?.port, |ports| ports.metrics)
            .filter(|port| *port != 0)
    }

    /// The port of its management.
    pub(super) fn reload_port(&self) -> Option<u16> {
        let said = self.state.seen.as_ref().and_then(|seen| seen.report.ports);
        said.map_or_else(|| self.summary()?.reload_port, |ports| ports.management)
            .filter(|port| *port != 0)
    }

    fn summary(&self) -> Option<&Summary> {
        self.kept.as_ref().as_ref().ok()
    }

    /// What board it is: as the configuration says, or where that leaves it to the board, as the board found.
    pub(super) fn device_type(&self) -> &str {
        let configured = self
            .summary()
            .map_or("unknown", |summary| summary.device_type.as_ref());
        let seen = self.state.seen.as_ref();
        let found = seen.and_then(|seen| seen.report.device_type.as_deref());
        match (configured, found) {
            ("auto", Some(found)) => found,
            _ => configured,
        }
    }

    /// The `hostname` label of its metrics.
    pub(super) fn hostname(&self) -> &str {
        let own = self
            .summary()
            .and_then(|summary| summary.hostname.as_deref());
        own.unwrap_or(self.id.as_str())
    }

    /// How long nothing may be heard of it before it is silent; `None`: for ever.
    fn may_be_quiet(&self) -> Option<Duration> {
        let every = self.summary()?.config_poll?;
        let most = every.saturating_mul(MISSED).saturating_add(SLACK);
        self.state.seen.as_ref().map(|_| most)
    }

    /// In how long it is silent, if it is not and nothing is heard of it.
    pub(super) fn silent_in(&self) -> Option<Duration> {
        let left = self.may_be_quiet()?.checked_sub(self.quiet)?;
        Some(left.saturating_add(Duration::from_nanos(1)))
    }

    /// Why it counts as silent though nobody has called it in vain: it is to ask every so often, and has not.
    fn overdue(&self) -> Option<String> {
        let every = self.summary()?.config_poll?;
        let late = self.quiet > self.may_be_quiet()?;
        let seconds = (self.quiet.as_secs(), every.as_secs_f64());
        late.then(|| {
            format!(
                "it has not asked for {} s, though it is to every {} s (`config_poll`)",
                seconds.0, seconds.1
            )
        })
    }

    /// How it is, in the words of edge-metrics-server, and why.
    pub(super) fn status(&self) -> (&'static str, Option<Cow<'_, str>>) {
        let State {
            seen, unreachable, ..
        } = &self.state;
        let report = seen.as_ref().map(|seen| &seen.report);
        let refused = report.and_then(|report| report.refused.as_deref());
        let degraded = report.and_then(|report| report.degraded.as_deref());
        match (self.kept.as_ref(), unreachable, refused, degraded) {
            (Err(why), ..) => ("unhealthy", Some(why.into())),
            (_, Some(why), ..) => ("unreachable", Some(why.as_ref().into())),
            (_, _, refused, degraded) => match (self.overdue(), refused, degraded, seen) {
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
    use super::super::fleet::Seen;
    use super::*;
    use crate::wire::{Ports, Report};

    fn device(text: &str, seen: Option<Seen>) -> Device {
        let stored = Stored {
            text: text.into(),
            revision: 0,
        };
        Device {
            id: DeviceId::parse("edge-01").unwrap(),
            kept: Arc::new(take_apart(&stored).map(|kept| Summary::of(&kept))),
            state: State {
                seen: seen.map(Arc::new),
                ..State::default()
            },
            quiet: Duration::ZERO,
        }
    }

    fn seen(ports: Option<Ports>) -> Option<Seen> {
        let report = Report {
            version: "1".into(),
            ports,
            tls: false,
            device_type: Some("jetson_orin".into()),
            ..Report::default()
        };
        Some(Seen {
            address: "fd00::7".parse().unwrap(),
            report,
            at: 1,
        })
    }

    #[test]
    fn where_a_device_is() {
        let known = device("ip_address: 10.0.0.7\nport: 9200\n", seen(None));
        assert_eq!(known.host(), ("10.0.0.7".into(), HostFrom::Registered));
        assert_eq!(known.authority(1), "10.0.0.7:1");
        assert_eq!(
            (known.port(), known.reload_port()),
            (Some(9200), Some(9101))
        );
        let ports = Ports {
            metrics: Some(31000),
            management: None,
        };
        let heard = device("port: 0\n", seen(Some(ports)));
        assert_eq!(heard.host(), ("fd00::7".into(), HostFrom::Seen));
        assert_eq!(heard.authority(1), "[fd00::7]:1");
        assert_eq!((heard.port(), heard.reload_port()), (Some(31000), None));
        // What it is itself, unless somebody says otherwise.
        assert_eq!(heard.device_type(), "jetson_orin");
        assert_eq!(
            device("device_type: shelly\n", seen(None)).device_type(),
            "shelly"
        );
        assert_eq!(device("", None).device_type(), "auto");
        // Asked from one network, listening in another.
        let elsewhere = |text: &str| device(text, seen(None)).host();
        assert_eq!(
            elsewhere("listen_address: 10.0.0.8\n"),
            ("10.0.0.8".into(), HostFrom::Configured)
        );
        assert_eq!(
            elsewhere("listen_address: 10.0.0.8\nip_address: 10.0.0.7\n").1,
            HostFrom::Registered
        );
        for nowhere in ["0.0.0.0", "\"::\"", "127.0.0.1", "\"::1\""] {
            let (_, from) = elsewhere(&format!("listen_address: {nowhere}\n"));
            assert_eq!(from, HostFrom::Seen, "{nowhere}");
        }
        let unheard = device("port: 0\nreload_port: off\n", None);
        assert_eq!(unheard.host(), ("edge-01".into(), HostFrom::Name));
        assert_eq!((unheard.port(), unheard.reload_port()), (None, None));
    }

    #[test]
    fn how_a_device_is() {
        assert_eq!(device("", None).status(), ("unknown", None));
        assert_eq!(device("", seen(None)).status(), ("healthy", None));
        let broken = device("ip_address: 10.0.0.7\ninterval: fast\n", seen(None));
        let (status, why) = broken.status();
        assert_eq!(status, "unhealthy");
        let why = why.unwrap();
        assert!(why.starts_with("line 2, column 11: "), "{why}");
        let mut gone = device("", seen(None));
        gone.state.unreachable = Some("connection refused".into());
        assert_eq!(
            gone.status(),
            ("unreachable", Some("connection refused".into()))
        );
        assert!(device("ip_address: x\n", None).kept.is_err());
    }

    #[test]
    fn a_board_that_says_that_it_is_degraded_is() {
        let mut hurt = seen(None).unwrap();
        hurt.report.degraded = Some("hwmon: no such device".into());
        let mut board = device("", Some(hurt.clone()));
        assert_eq!(
            board.status(),
            ("degraded", Some("hwmon: no such device".into()))
        );
        // What keeps it from its configuration goes before that.
        hurt.report.refused = Some("no".into());
        assert_eq!(device("", Some(hurt)).status().0, "unhealthy");
        board.state.unreachable = Some("connection refused".into());
        assert_eq!(board.status().0, "unreachable");
    }

    #[test]
    fn one_that_is_to_ask_and_does_not_is_silent() {
        let after = |text: &str, quiet: u64| Device {
            quiet: Duration::from_secs(quiet),
            ..device(text, seen(None))
        };
        let about_to_be = after("config_poll: 60\n", 300);
        assert_eq!(about_to_be.status().0, "healthy");
        assert_eq!(about_to_be.silent_in(), Some(Duration::from_nanos(1)));
        assert_eq!(after("config_poll: 60\n", 301).silent_in(), None);
        assert_eq!(after("", 1).silent_in(), None);
        let silent = after("config_poll: 60\n", 301);
        let (status, why) = silent.status();
        assert_eq!(status, "unreachable");
        assert_eq!(
            why.unwrap(),
            "it has not asked for 301 s, though it is to every 60 s (`config_poll`)"
        );
        // One that asks at its start alone may be well.
        assert_eq!(after("", 1_000_000).status().0, "healthy");
        let unheard = Device {
            state: State::default(),
            ..after("config_poll: 1\n", 1_000_000)
        };
        assert_eq!(unheard.status().0, "unknown");
    }
}
