//! The report that a board sends about itself in the headers of every request to the central server: where it listens, and
//! whether it uses the configuration that it got.

/// The version of the board's exporter. Requests without this header do not come from a board.
const VERSION: &str = "Exporter-Version";
/// `9100 9101`: the ports of metrics and management, `-` for none. Absent while the board does not listen yet.
const PORTS: &str = "Exporter-Ports";
/// `https` if the ports use TLS, else absent.
const SCHEME: &str = "Exporter-Scheme";
/// The kind of board, as in the label `device_type` of its metrics.
const DEVICE_TYPE: &str = "Exporter-Device-Type";
/// Why the board refused the server's configuration. Absent if it did not.
const REFUSED: &str = "Exporter-Refused";
/// Why the `/health` of the board says `degraded`. Absent while it does not.
const DEGRADED: &str = "Exporter-Degraded";
/// Bytes of the longest version, kind and reason.
const MAX_VERSION: usize = 32;
const MAX_KIND: usize = 32;
const MAX_REASON: usize = 300;

/// The report of a board.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The version of its exporter.
    pub version: String,
    /// Where the board listens; `None`: not reported.
    pub ports: Option<Ports>,
    /// Whether the ports use TLS.
    pub tls: bool,
    /// The kind of board; `None`: not reported.
    pub device_type: Option<String>,
    /// Why the board refused the server's configuration; `None`: it did not.
    pub refused: Option<String>,
    /// Why the board is degraded; `None`: it is not, or it is not reported.
    pub degraded: Option<String>,
}

/// Where a board listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The port of the metrics; `None`: not served.
    pub metrics: Option<u16>,
    /// The port of the management API; `None`: not served.
    pub management: Option<u16>,
}

impl Report {
    /// The headers of a request with this report.
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

    /// Reads the headers of a request. `None`: it does not come from a board.
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

/// Makes a header value: printable ASCII, cut to `max` bytes.
fn plain(text: &str, max: usize) -> String {
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    text.chars().map(plain).take(max).collect()
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
    fn report_survives_headers() {
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
    fn malformed_headers_are_ignored() {
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
