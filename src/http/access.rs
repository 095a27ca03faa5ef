//! Who asks: this machine or another, a program or a page in somebody's browser.
//!
//! A page that was loaded from elsewhere can have its reader's browser send requests to whatever that browser can reach.
//! What a browser lets such a page do without asking us first, it marks: `Origin` says where the page came from (Fetch
//! Standard, 3.2), on every request that changes something. A page can also come from a name that its owner has since let
//! point to us (DNS rebinding): then `Origin` and `Host` agree, but on a name that is not ours.

use std::net::IpAddr;

use super::{Login, Request};

/// Headers that proxies add. What comes through one comes from who knows where.
const PROXIED: [&str; 5] = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Real-IP",
    "Via",
];
/// Endings that name machines in the same house or none at all, never on the Internet (RFC 6762, 8375, 9476 and ICANN's
/// `.internal`; routers' `.lan`, `.home`, `.localdomain` and `.fritz.box`).
const PRIVATE: [&str; 7] = [
    "local",
    "lan",
    "home",
    "home.arpa",
    "internal",
    "localdomain",
    "fritz.box",
];

/// Whether the request was made on this machine, and not for another.
pub fn is_local(request: &Request) -> bool {
    request.peer.ip().to_canonical().is_loopback()
        && PROXIED.iter().all(|name| request.header(name).is_none())
}

/// Whether a request may change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Allowed,
    /// It may not: there are those who may, and it has not shown that it comes from one of them.
    Unknown,
    /// It may not: nobody is known here, and it comes from another machine.
    Elsewhere,
}

impl Standing {
    /// Of this request. Where users, tokens or clients' certificates are known, whoever shows one may change something, from
    /// anywhere, and nobody else; where none are, this machine's own may, and others if that is allowed.
    pub fn of(request: &Request, allow_remote: bool) -> Standing {
        match request.login {
            Login::Known => Standing::Allowed,
            Login::Missing => Standing::Unknown,
            Login::Nobody if allow_remote || is_local(request) => Standing::Allowed,
            Login::Nobody => Standing::Elsewhere,
        }
    }
}

/// How to become known (RFC 6750, 3), where reading is for everybody.
pub const BEARER: (&str, &str) = ("WWW-Authenticate", "Bearer realm=\"edge-metrics-exporter\"");

/// Why this request comes from a page that is not ours; `None`: from one of ours, or from no page at all. `names` are what
/// this machine is called.
pub fn foreign_page(request: &Request, names: &[&str]) -> Option<String> {
    let mut origins = request.header_values("Origin").peekable();
    if origins.peek().is_none() {
        // Where a browser marks the kind of request, it does so even without an origin.
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
    (!is_ours(name, names)).then(|| {
        format!(
            "it was sent by a page from {}, which is no name of this board: use its address, or add the name to \
             management.hosts",
            shown(name)
        )
    })
}

fn is_ours(name: &str, names: &[&str]) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    bare.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || names.iter().any(|own| {
            let rest = name.strip_prefix(&own.to_ascii_lowercase());
            rest.is_some_and(|rest| {
                let ending = rest.strip_prefix('.');
                rest.is_empty() || ending.is_some_and(|ending| PRIVATE.contains(&ending))
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

/// What a client sent, in an answer to it.
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
    fn this_machine_is_told_from_others() {
        for local in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(is_local(&request(local, &[])), "{local}");
        }
        for other in ["192.0.2.1", "[::ffff:192.0.2.1]", "[fe80::1]", "0.0.0.0"] {
            assert!(!is_local(&request(other, &[])), "{other}");
        }
        for name in PROXIED {
            assert!(!is_local(&request("127.0.0.1", &[(name, "x")])), "{name}");
        }
    }

    #[test]
    fn who_is_known_may_change_things_else_this_machine() {
        for (peer, login, alone, with_others) in [
            (
                "127.0.0.1",
                Login::Nobody,
                Standing::Allowed,
                Standing::Allowed,
            ),
            (
                "192.0.2.1",
                Login::Nobody,
                Standing::Elsewhere,
                Standing::Allowed,
            ),
            (
                "127.0.0.1",
                Login::Missing,
                Standing::Unknown,
                Standing::Unknown,
            ),
            (
                "192.0.2.1",
                Login::Missing,
                Standing::Unknown,
                Standing::Unknown,
            ),
            (
                "127.0.0.1",
                Login::Known,
                Standing::Allowed,
                Standing::Allowed,
            ),
            (
                "192.0.2.1",
                Login::Known,
                Standing::Allowed,
                Standing::Allowed,
            ),
        ] {
            let request = Request {
                login,
                ..request(peer, &[])
            };
            assert_eq!(Standing::of(&request, false), alone, "{request:?}");
            assert_eq!(Standing::of(&request, true), with_others, "{request:?}");
        }
    }

    fn is_foreign(headers: &[(&str, &str)]) -> bool {
        let names = ["Edge-01", "power.example.com"];
        foreign_page(&request("127.0.0.1", headers), &names).is_some()
    }

    #[test]
    fn pages_of_ours_are_told_from_others() {
        // Programs send no origin, and may call us what they like.
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
