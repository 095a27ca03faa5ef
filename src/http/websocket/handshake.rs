//! The opening handshake of a WebSocket, the server's side (RFC 6455, 4.2). Pure.

use base64::prelude::{Engine, BASE64_STANDARD};
use sha1::{Digest, Sha1};

use crate::http::{Method, Request, Response};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request opens no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is no handshake.
    NotRequested,
    /// It is for another version than 13, the only one in use.
    Version,
    /// It is malformed, for this reason.
    Malformed(&'static str),
    /// It comes from a web page of another host.
    ForeignOrigin,
}

/// The value of `Sec-WebSocket-Accept` for a request that opens a WebSocket.
///
/// Requests of web pages of other hosts are refused here, because browsers do not protect WebSockets from foreign pages as
/// they protect other responses (RFC 6455, 10.2).
pub fn accept(request: &Request) -> Result<String, Refusal> {
    let lists = |name, member: &str| {
        let members = request.header_values(name).flat_map(|v| v.split(','));
        members
            .map(str::trim)
            .any(|m| m.eq_ignore_ascii_case(member))
    };
    if !lists("Upgrade", "websocket") {
        return Err(Refusal::NotRequested);
    }
    if request.method != Method::Get || request.version < (1, 1) {
        return Err(Refusal::Malformed(
            "a WebSocket begins with GET and HTTP/1.1",
        ));
    }
    if !lists("Connection", "upgrade") {
        return Err(Refusal::Malformed("Connection does not name Upgrade"));
    }
    if !request.body.is_empty() {
        return Err(Refusal::Malformed("there is a body"));
    }
    if request.header("Sec-WebSocket-Version") != Some("13") {
        return Err(Refusal::Version);
    }
    let mut keys = request.header_values("Sec-WebSocket-Key");
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => key,
        _ => {
            return Err(Refusal::Malformed(
                "Sec-WebSocket-Key is not 16 bytes in base64",
            ))
        }
    };
    if let Some(origin) = request.header("Origin") {
        let host = origin.split_once("://").map(|(_, host)| host);
        let own = request.header("Host").unwrap_or_default();
        if !host.is_some_and(|host| host.eq_ignore_ascii_case(own)) {
            return Err(Refusal::ForeignOrigin);
        }
    }
    Ok(BASE64_STANDARD.encode(Sha1::digest(format!("{key}{GUID}"))))
}

/// 16 bytes in base64 are 22 letters and the padding.
fn is_key(key: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    key.len() == 24
        && key
            .strip_suffix("==")
            .is_some_and(|k| k.bytes().all(letter))
}

impl Refusal {
    /// The response to the refused request; `how` tells people how to connect.
    pub fn response(self, how: &str) -> Response {
        match self {
            Refusal::NotRequested => Response::text(426, how).offering("websocket"),
            Refusal::Version => Response::text(426, "the WebSocket's version is 13\n")
                .with_header("Sec-WebSocket-Version", "13")
                .offering("websocket"),
            Refusal::Malformed(what) => {
                Response::text(400, format!("this is no WebSocket's beginning: {what}\n"))
            }
            Refusal::ForeignOrigin => Response::text(
                403,
                "pages of another host (the Origin header) may not open WebSockets here\n",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HTTPVersion, Header};

    const GOOD: [(&str, &str); 5] = [
        ("Host", "server.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];

    fn request(headers: &[(&str, &str)]) -> Request {
        let headers = headers
            .iter()
            .map(|(n, v)| Header::from_bytes(*n, *v).unwrap())
            .collect();
        Request {
            method: Method::Get,
            path: "/metrics".into(),
            query: None,
            version: HTTPVersion(1, 1),
            headers,
            body: Vec::new(),
            peer: ([127, 0, 0, 1], 1).into(),
            login: Default::default(),
        }
    }

    /// The good request, with one header in place of another, or without it.
    fn with(name: &str, value: Option<&str>) -> Request {
        let mut headers: Vec<_> = GOOD.into_iter().filter(|(n, _)| *n != name).collect();
        headers.extend(value.map(|value| (name, value)));
        request(&headers)
    }

    /// RFC 6455, 1.3.
    #[test]
    fn the_example_of_rfc_6455() {
        let accepted = accept(&request(&GOOD));
        assert_eq!(accepted.as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn incomplete_handshakes_are_refused() {
        assert_eq!(accept(&request(&[])), Err(Refusal::NotRequested));
        assert_eq!(
            accept(&with("Upgrade", Some("h2c"))),
            Err(Refusal::NotRequested)
        );
        assert_eq!(
            accept(&with("Sec-WebSocket-Version", Some("8"))),
            Err(Refusal::Version)
        );
        for bad in [
            with("Connection", None),
            with("Sec-WebSocket-Key", None),
            with("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ=")),
            with("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZ?==")),
            Request {
                method: Method::Post,
                ..request(&GOOD)
            },
            Request {
                version: HTTPVersion(1, 0),
                ..request(&GOOD)
            },
        ] {
            assert!(
                matches!(accept(&bad), Err(Refusal::Malformed(_))),
                "{bad:?}"
            );
        }
        let answer = Refusal::Version.response("");
        assert_eq!(answer.status(), 426);
        assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
    }

    #[test]
    fn web_pages_of_other_hosts_are_refused() {
        let same = with("Origin", Some("http://server.example.com"));
        assert!(accept(&same).is_ok());
        for origin in [
            "http://evil.example",
            "null",
            "http://server.example.com.evil.example",
        ] {
            let foreign = with("Origin", Some(origin));
            assert_eq!(accept(&foreign), Err(Refusal::ForeignOrigin), "{origin}");
        }
    }
}
