//! Chooses the format and encoding of a response by the request's `Accept` and `Accept-Encoding` (RFC 9110, sections 12.4 and
//! 12.5).

/// An exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics1,
    /// The text of OpenMetrics 1.0.0 under the version number 0.0.1, for clients that accept only the earlier one.
    OpenMetrics0,
}

impl Format {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics1 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::OpenMetrics0 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
        }
    }

    /// How specifically a media range with a `version` parameter names this format; `None`: it excludes the format.
    fn specificity(self, range: &str, version: Option<&str>) -> Option<u8> {
        let (media_type, versions) = match self {
            Format::Text => ("text/plain", &["0.0.4"]),
            Format::OpenMetrics1 => ("application/openmetrics-text", &["1.0.0"]),
            Format::OpenMetrics0 => ("application/openmetrics-text", &["0.0.1"]),
        };
        let (kind, _) = media_type.split_once('/')?;
        if range.eq_ignore_ascii_case(media_type) {
            match version {
                Some(version) => versions.contains(&version).then_some(3),
                None => Some(2),
            }
        } else if range
            .strip_suffix("/*")
            .is_some_and(|r| r.eq_ignore_ascii_case(kind))
        {
            Some(1)
        } else {
            (range == "*/*").then_some(0)
        }
    }
}

/// The format with the highest weight in `Accept`. Plain text if the header names no format of ours, as other Prometheus
/// exporters do, so that browsers and `curl` always get a page.
pub fn negotiate(accept: Option<&str>) -> Format {
    let Some(accept) = accept else {
        return Format::Text;
    };
    // In our order of preference, which decides between equal weights.
    let candidates = [Format::OpenMetrics1, Format::OpenMetrics0, Format::Text];
    let mut best = (Format::Text, 0.0, false);
    for format in candidates {
        // The most specific range that includes the format gives its weight.
        let rated = elements(accept)
            .filter_map(|(range, parameters, q)| {
                let version = parameters
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case("version"));
                let specific = format.specificity(range, version.map(|(_, value)| *value))?;
                Some((specific, q))
            })
            .max_by_key(|(specific, _)| *specific);
        let Some((specific, q)) = rated else {
            continue;
        };
        // A wildcard does not select OpenMetrics: plain text is the format that every client can read.
        let named = specific >= 2 || format == Format::Text;
        if named && q > 0.0 && (q > best.1 || q == best.1 && !best.2 && specific >= 2) {
            best = (format, q, specific >= 2);
        }
    }
    best.0
}

/// Whether `Accept-Encoding` allows a response compressed with gzip.
pub fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let rate = |name: &str| {
        elements(accept_encoding.unwrap_or(""))
            .find(|(coding, _, _)| coding.eq_ignore_ascii_case(name))
            .map(|(_, _, q)| q)
    };
    rate("gzip").or_else(|| rate("*")).is_some_and(|q| q > 0.0)
}

type Element<'a> = (&'a str, Vec<(&'a str, &'a str)>, f64);

/// The first 32 elements of a list header: value, parameters, and weight (1 if there is none, 0 if it is not a number). No
/// client sends more.
fn elements(header: &str) -> impl Iterator<Item = Element<'_>> {
    header.split(',').take(32).map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let value = parts.next().unwrap_or("");
        let parameters: Vec<_> = parts
            .filter_map(|p| p.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
            .collect();
        let q = parameters
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("q"))
            .map_or(1.0, |(_, q)| q.parse().unwrap_or(0.0));
        (value, parameters, q)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_with_the_highest_weight_wins() {
        const PROMETHEUS: &str =
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
             version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        const BROWSER: &str =
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (accept, format) in [
            (PROMETHEUS, Format::OpenMetrics1),
            (PROMETHEUS_3, Format::OpenMetrics1),
            (BROWSER, Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
            ("application/json", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics1),
            (
                "application/openmetrics-text;version=0.0.1",
                Format::OpenMetrics0,
            ),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            (
                "text/plain;version=0.0.4,application/openmetrics-text;q=0.9",
                Format::Text,
            ),
            (
                "text/plain;q=0.1,application/openmetrics-text;q=0.2",
                Format::OpenMetrics1,
            ),
            (
                "application/openmetrics-text;q=0, text/plain;q=0.1",
                Format::Text,
            ),
            (
                "APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"; Q=1",
                Format::OpenMetrics1,
            ),
            (
                "application/openmetrics-text;q=x,text/plain;q=0.1",
                Format::Text,
            ),
            (
                "text/*;q=0.9, application/openmetrics-text;q=0.8",
                Format::Text,
            ),
        ] {
            assert_eq!(negotiate(Some(accept)), format, "{accept}");
        }
        assert_eq!(negotiate(None), Format::Text);
    }

    #[test]
    fn gzip_is_used_only_if_accepted() {
        for (header, accepted) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("GZIP", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("*", true),
            ("*;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(Some(header)), accepted, "{header}");
        }
        assert!(!accepts_gzip(None));
    }
}
