//! Who may change something: by default whoever is on this machine, as with a board's management API.

use crate::http::Request;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

/// Whether this request may change something.
pub(super) fn may_change(request: &Request, allow_remote: bool) -> Result<(), Refusal> {
    same_origin(request)?;
    if allow_remote || is_local(request) {
        return Ok(());
    }
    Err(Refusal {
        status: 403,
        message: format!(
            "changes are taken from this machine alone, and {} is another: start config-server with \
             --management.allow-remote if everybody who reaches it may change the boards' configurations",
            request.peer.ip().to_canonical()
        ),
    })
}

/// Whether it comes from this machine, and not merely through a proxy on it.
fn is_local(request: &Request) -> bool {
    let forwarded = ["Forwarded", "X-Forwarded-For"];
    request.peer.ip().to_canonical().is_loopback()
        && forwarded.iter().all(|name| request.header(name).is_none())
}

/// A browser says which page a request is from. Only pages of ours may make it do something here, or any page that
/// somebody on this network looks at could.
pub(super) fn same_origin(request: &Request) -> Result<(), Refusal> {
    let Some(origin) = request.header("Origin") else {
        return Ok(());
    };
    let host = request.header("Host").unwrap_or_default();
    let from = origin
        .strip_prefix("http://")
        .or(origin.strip_prefix("https://"));
    if from == Some(host) && is_plain_host(host) {
        return Ok(());
    }
    let shown: String = origin.chars().take(100).collect();
    Err(Refusal {
        status: 403,
        message: format!("a page of {shown} may not change anything here"),
    })
}

/// Whether a name cannot be one that somebody else's DNS points here: an address, or this machine itself.
fn is_plain_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || nix::unistd::gethostname().is_ok_and(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HTTPVersion, Header, Method};

    fn request(peer: &str, headers: &[(&str, &str)]) -> Request {
        Request {
            method: Method::Put,
            path: "/config/edge-01".into(),
            query: None,
            version: HTTPVersion(1, 1),
            headers: headers
                .iter()
                .map(|(name, value)| Header::from_bytes(*name, *value).unwrap())
                .collect(),
            body: Vec::new(),
            peer: peer.parse().unwrap(),
        }
    }

    #[test]
    fn changes_come_from_this_machine_unless_allowed() {
        for (peer, local) in [
            ("127.0.0.1:5", true),
            ("[::1]:5", true),
            ("[::ffff:127.0.0.1]:5", true),
            ("10.0.0.1:5", false),
            ("[fd00::1]:5", false),
        ] {
            assert_eq!(
                may_change(&request(peer, &[]), false).is_ok(),
                local,
                "{peer}"
            );
            assert!(may_change(&request(peer, &[]), true).is_ok());
        }
        let refusal = may_change(&request("10.0.0.1:5", &[]), false).unwrap_err();
        assert_eq!(refusal.status, 403);
        assert!(
            refusal.message.contains("--management.allow-remote"),
            "{refusal:?}"
        );
        let proxied = request("127.0.0.1:5", &[("X-Forwarded-For", "10.0.0.1")]);
        assert!(may_change(&proxied, false).is_err());
    }

    #[test]
    fn pages_from_elsewhere_change_nothing() {
        for (origin, host, good) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://localhost:8080", "localhost:8080", true),
            ("https://[::1]:8080", "[::1]:8080", true),
            ("http://evil.example", "127.0.0.1:8080", false),
            // A name that was pointed here.
            ("http://evil.example:8080", "evil.example:8080", false),
            ("null", "127.0.0.1:8080", false),
            ("http://127.0.0.1:8081", "127.0.0.1:8080", false),
        ] {
            let headers = [("Origin", origin), ("Host", host)];
            let request = request("127.0.0.1:5", &headers);
            assert_eq!(
                may_change(&request, true).is_ok(),
                good,
                "{origin} at {host}"
            );
        }
    }
}
