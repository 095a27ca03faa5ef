//! Where a request comes from, and whether it may change something: this machine or another, a program or a web page.
//!
//! A web page from another site can make its reader's browser send requests to any address that the browser can reach. On
//! every such request that changes something the browser names the page's site in `Origin` (Fetch Standard, 3.2). With DNS
//! rebinding the site's owner lets the site's name point to this machine: `Origin` and `Host` are then equal, but name a
//! host that is not this machine's.

use std::net::IpAddr;

use crate::http::{Login, Request};

/// Headers that proxies add. A proxied request may come from any machine.
const PROXY_HEADERS: [&str; 5] = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Real-IP",
    "Via",
];
/// Domains of local networks, which do not exist on the Internet (RFC 6762, 8375, 9476 and ICANN's `.internal`; `.lan`,
/// `.home`, `.localdomain` and `.fritz.box` of routers).
const LOCAL_DOMAINS: [&str; 7] = [
    "local",
    "lan",
    "home",
    "home.arpa",
    "internal",
    "localdomain",
    "fritz.box",
];

/// Whether the request was made on this machine, and not passed on by a proxy.
pub fn is_local(request: &Request) -> bool {
    request.peer.ip().to_canonical().is_loopback()
        && PROXY_HEADERS
            .iter()
            .all(|name| request.header(name).is_none())
}

/// Whether a request may change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAccess {
    /// It may.
    Allowed,
    /// It may not: logins are configured, and the request has none.
    LoginRequired,
    /// It may not: no logins are configured, and the request comes from another machine.
    LocalOnly,
}

impl WriteAccess {
    /// Where users, tokens or verified client certificates are configured, a request needs one of them, from whichever
    /// machine it comes. Where none are, requests of this machine are allowed, and with `allow_remote` all others too.
    pub fn of(request: &Request, allow_remote: bool) -> WriteAccess {
        match request.login {
            Login::Authenticated | Login::Certified => WriteAccess::Allowed,
            Login::Missing => WriteAccess::LoginRequired,
            Login::NotConfigured if allow_remote || is_local(request) => WriteAccess::Allowed,
            Login::NotConfigured => WriteAccess::LocalOnly,
        }
    }
}

/// The header of a 401 that asks for a token (RFC 6750, 3), for routes that only need a login to change something.
pub const BEARER: (&str, &str) = ("WWW-Authenticate", "Bearer realm=\"edge-metrics-exporter\"");

/// Why this request is taken to come from a web page of another site; `None`: it comes from a page of this machine or from
/// no page. `names` are the host names of this machine.
pub fn foreign_page(request: &Request, names: &[&str]) -> Option<String> {
    let mut origins = request.header_values("Origin").peekable();
    if origins.peek().is_none() {
        // Browsers send this header also on requests without `Origin`.
        let site = request.header("Sec-Fetch-Site")?;
        let is_own = ["same-origin", "none"].contains(&site);
        return (!is_own).then(|| format!("it was sent by a page from elsewhere ({site})"));
    }
    let host = request.header("Host").unwrap_or_default();
    for origin in origins {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let is_own = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
        if !is_own {
            return Some(format!("it was sent by a page from {}", shown(origin)));
        }
    }
    let name = without_port(host);
    (!is_own_name(name, names)).then(|| {
        format!(
            "it was sent by a page from {}, which is no name of this board: use its address, or add the name to \
             management.hosts",
            shown(name)
        )
    })
}

fn is_own_name(name: &str, names: &[&str]) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    bare.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || names.iter().any(|own| {
            let rest = name.strip_prefix(&own.to_ascii_lowercase());
            rest.is_some_and(|rest| {
                let domain = rest.strip_prefix('.');
                rest.is_empty() || domain.is_some_and(|domain| LOCAL_DOMAINS.contains(&domain))
            })
        })
}

/// `host:port` or `[address]:port` without the port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

/// Text of the client, shortened for the response to it.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HTTPVersion, Header, Method};

    fn request(peer: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter();
        Request {
            method: Method::Post,
            path: "/".into(),
            query: None,
            version: HTTPVersion(1, 1),
            headers: headers
                .map(|(name, value)| Header::from_bytes(*name, *value).unwrap())
                .collect(),
            body: Vec::new(),
            peer: format!("{peer}:1").parse().unwrap(),
            login: Default::default(),
        }
    }

    #[test]
    fn loopback_without_proxy_headers_is_local() {
        for local in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(is_local(&request(local, &[])), "{local}");
        }
        for other in ["192.0.2.1", "[::ffff:192.0.2.1]", "[fe80::1]", "0.0.0.0"] {
            assert!(!is_local(&request(other, &[])), "{other}");
        }
        for name in PROXY_HEADERS {
            assert!(!is_local(&request("127.0.0.1", &[(name, "x")])), "{name}");
        }
    }

    #[test]
    fn writing_needs_a_login_or_else_this_machine() {
        for (peer, login, alone, with_others) in [
            (
                "127.0.0.1",
                Login::NotConfigured,
                WriteAccess::Allowed,
                WriteAccess::Allowed,
            ),
            (
                "192.0.2.1",
                Login::NotConfigured,
                WriteAccess::LocalOnly,
                WriteAccess::Allowed,
            ),
            (
                "127.0.0.1",
                Login::Missing,
                WriteAccess::LoginRequired,
                WriteAccess::LoginRequired,
            ),
            (
                "192.0.2.1",
                Login::Missing,
                WriteAccess::LoginRequired,
                WriteAccess::LoginRequired,
            ),
            (
                "127.0.0.1",
                Login::Authenticated,
                WriteAccess::Allowed,
                WriteAccess::Allowed,
            ),
            (
                "192.0.2.1",
                Login::Authenticated,
                WriteAccess::Allowed,
                WriteAccess::Allowed,
            ),
        ] {
            let request = Request {
                login,
                ..request(peer, &[])
            };
            assert_eq!(WriteAccess::of(&request, false), alone, "{request:?}");
            assert_eq!(WriteAccess::of(&request, true), with_others, "{request:?}");
        }
    }

    fn is_foreign(headers: &[(&str, &str)]) -> bool {
        let names = ["Edge-01", "power.example.com"];
        foreign_page(&request("127.0.0.1", headers), &names).is_some()
    }

    #[test]
    fn pages_of_other_sites_are_recognised() {
        // Programs send no `Origin`, and their `Host` does not matter.
        assert!(!is_foreign(&[("Host", "whatever.example.com")]));
        for own in [
            "localhost:9101",
            "192.168.1.7:9101",
            "[::1]:9101",
            "[fe80::1]",
            "127.0.0.1",
            "edge-01:9101",
            "EDGE-01.local:9101",
            "edge-01.home.arpa",
            "power.example.com:9101",
        ] {
            let origin = format!("http://{own}");
            assert!(!is_foreign(&[("Host", own), ("Origin", &origin)]), "{own}");
        }
        for (host, origin) in [
            ("localhost:9101", "http://evil.example"),
            ("localhost:9101", "http://localhost:8000"),
            ("localhost:9101", "http://localhost:9101.evil.example"),
            ("localhost:9101", "null"),
            ("localhost:9101", ""),
            ("localhost:9101", "file://localhost:9101"),
            ("evil.example:9101", "http://evil.example:9101"),
            ("edge-01.evil.example", "http://edge-01.evil.example"),
            ("edge-01evil:9101", "http://edge-01evil:9101"),
            ("localhost.evil.example", "http://localhost.evil.example"),
            ("", "http://"),
        ] {
            let headers = [("Host", host), ("Origin", origin)];
            assert!(is_foreign(&headers), "{host} {origin}");
        }
        let two = [
            ("Host", "localhost"),
            ("Origin", "http://localhost"),
            ("Origin", "http://evil.example"),
        ];
        assert!(is_foreign(&two));
        assert!(is_foreign(&[("Sec-Fetch-Site", "cross-site")]));
        assert!(is_foreign(&[("Sec-Fetch-Site", "same-site")]));
        assert!(!is_foreign(&[("Sec-Fetch-Site", "same-origin")]));
        assert!(!is_foreign(&[("Sec-Fetch-Site", "none")]));
    }
}
