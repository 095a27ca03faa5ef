//! What a board says of itself with every request to the server, in headers: where it listens, and whether it took the
//! configuration that it was given. Written by the board ([`crate::config`]) and read by the server.

/// The board's version; its presence says that it is a board that asks.
const VERSION: &str = "Exporter-Version";
/// `9100 9101`: the ports of metrics and management, `-` for none. Left out while it does not listen yet.
const PORTS: &str = "Exporter-Ports";
/// `https`, where its ports are reached by TLS; left out where they are not.
const SCHEME: &str = "Exporter-Scheme";
/// What kind of board it is, as it labels its metrics.
const DEVICE_TYPE: &str = "Exporter-Device-Type";
/// Why the configuration that the server has was refused, if it was.
const REFUSED: &str = "Exporter-Refused";
/// Why the board is not whole though it runs, as its `/health` says `degraded`; left out while it is well.
const DEGRADED: &str = "Exporter-Degraded";
/// The longest version, kind and reason, in bytes.
const MAX_VERSION: usize = 32;
const MAX_KIND: usize = 32;
const MAX_REASON: usize = 300;

/// What a board says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The version of its exporter.
    pub version: String,
    /// Where it listens; `None`: it does not say.
    pub ports: Option<Ports>,
    /// Whether they are reached by TLS.
    pub tls: bool,
    /// What it found itself to be; `None`: it does not say.
    pub device_type: Option<String>,
    /// Why it refused the server's configuration; `None`: it did not.
    pub refused: Option<String>,
    /// Why it is degraded; `None`: it is not, or does not say.
    pub degraded: Option<String>,
}

/// Where a board listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Its metrics; `None`: nowhere.
    pub metrics: Option<u16>,
    /// Its management.
    pub management: Option<u16>,
}

impl Report {
    /// As headers.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let port = |port: Option<u16>| port.map_or("-".to_string(), |port| port.to_string());
        let ports = |at: Ports| {
            (
                PORTS,
                format!("{} {}", port(at.metrics), port(at.management)),
            )
        };
        let refused = |why: &str| (REFUSED, plain(why, MAX_REASON));
        let version = (VERSION, self.version.clone());
        let mut headers = vec![version];
        headers.extend(self.ports.map(ports));
        headers.extend(self.tls.then(|| (SCHEME, "https".to_string())));
        let kind = |kind: &String| (DEVICE_TYPE, kind.clone());
        headers.extend(self.device_type.as_ref().map(kind));
        headers.extend(self.refused.as_deref().map(refused));
        let degraded = |why: &str| (DEGRADED, plain(why, MAX_REASON));
        headers.extend(self.degraded.as_deref().map(degraded));
        headers
    }

    /// From the headers of a request. `None`: it is no board's.
    pub fn read<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Option<Report> {
        let version = header(VERSION)?;
        let number = |text: &str| match text {
            "-" => Some(None),
            text if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().map(Some),
            _ => None,
        };
        let ports = |text: &str| {
            let (metrics, management) = text.trim().split_once(' ')?;
            Some(Ports {
                metrics: number(metrics)?,
                management: number(management)?,
            })
        };
        let kind = |text: &str| {
            let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            let is_kind = (1..=MAX_KIND).contains(&text.len()) && text.bytes().all(word);
            is_kind.then(|| text.to_owned())
        };
        Some(Report {
            version: plain(version, MAX_VERSION),
            ports: header(PORTS).and_then(ports),
            tls: header(SCHEME).is_some_and(|scheme| scheme.trim() == "https"),
            device_type: header(DEVICE_TYPE).and_then(|text| kind(text.trim())),
            refused: header(REFUSED).map(|why| plain(why, MAX_REASON)),
            degraded: header(DEGRADED).map(|why| plain(why, MAX_REASON)),
        })
    }
}

/// What can be a header's value: printable ASCII, of so many bytes at most.
fn plain(text: &str, most: usize) -> String {
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    text.chars().map(plain).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Option<Report> {
        Report::read(|name| {
            headers
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| *value)
        })
    }

    #[test]
    fn what_is_said_is_heard() {
        let report = Report {
            version: "0.1.0".into(),
            ports: Some(Ports {
                metrics: Some(9100),
                management: None,
            }),
            tls: true,
            device_type: Some("jetson_orin".into()),
            refused: Some("`interval` is\n\"fünf\"".into()),
            degraded: Some("hwmon: gone".into()),
        };
        let headers = report.headers();
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let refused = Some("`interval` is?\"f?nf\"".into());
        assert_eq!(read(&headers), Some(Report { refused, ..report }));
        let little = read(&[(VERSION, "1")]).unwrap();
        assert_eq!((little.ports, little.tls), (None, false));
        for scheme in ["http", "", "HTTPS!"] {
            assert!(!read(&[(VERSION, "1"), (SCHEME, scheme)]).unwrap().tls);
        }
        for kind in ["", "a\"b", "Orin", "a b", &"x".repeat(33)] {
            let report = read(&[(VERSION, "1"), (DEVICE_TYPE, kind)]).unwrap();
            assert_eq!(report.device_type, None, "{kind}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_heard() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[(PORTS, "1 2")]), None);
        for ports in ["", "1", "a b", "1 2 3", "65536 1", "+1 2", "-1 2", "1  2"] {
            assert_eq!(
                read(&[(VERSION, "1"), (PORTS, ports)]).unwrap().ports,
                None,
                "{ports}"
            );
        }
        let long = "x".repeat(5000);
        let report = read(&[(VERSION, &long), (REFUSED, &long)]).unwrap();
        assert_eq!(
            (report.version.len(), report.refused.unwrap().len()),
            (32, 300)
        );
    }
}
