//! A request, as a handler gets it.

use std::borrow::Cow;
use std::net::SocketAddr;

use tiny_http::{HTTPVersion, Header, Method};

use super::access::Identity;
use super::head::Head;

/// A whole request. All fields are public, so that a test can make one.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method; any token is one.
    pub method: Method,
    /// The path as it was sent, percent escapes and all, without the query. `*` of `OPTIONS *`, `host:port` of CONNECT.
    pub path: String,
    /// What follows the first `?`, as it was sent.
    pub query: Option<String>,
    /// 1.0 or 1.1.
    pub version: HTTPVersion,
    /// In their order.
    pub headers: Vec<Header>,
    /// All of it; empty when there is none.
    pub body: Vec<u8>,
    /// The address of the client.
    pub peer: SocketAddr,
    /// Whether the client has logged in.
    pub login: Login,
}

/// Whether a request has a valid login: a password, a token or a verified client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Login {
    /// No logins are configured: no users, no tokens, and client certificates are not verified.
    #[default]
    NotConfigured,
    /// Logins are configured, and the request has none. Where users are configured, no such request reaches a handler.
    Missing,
    /// The request has a valid password or token, that of its `Authorization` header.
    Authenticated,
    /// The client has shown a verified certificate; no header of the request is verified.
    Certified,
}

impl Request {
    pub(super) fn new(head: Head, body: Vec<u8>, peer: SocketAddr, login: Login) -> Self {
        Request {
            method: head.method,
            path: head.path,
            query: head.query,
            version: head.version,
            headers: head.headers,
            body,
            peer,
            login,
        }
    }

    /// Whether the request has a valid login.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.login, Login::Authenticated | Login::Certified)
    }

    /// Who sent the request, as far as the access rules know it: the name of a user, the first digits of a token's SHA-256, or
    /// that it was the owner of a certificate; `None`: it has no valid login.
    pub fn login_name(&self) -> Option<String> {
        match self.login {
            Login::NotConfigured | Login::Missing => None,
            Login::Certified => Some("a client certificate".into()),
            Login::Authenticated => match Identity::of(self.header("Authorization")) {
                Identity::User(name) => Some(format!("user {name}")),
                Identity::Token([a, b, c, d, ..]) => {
                    Some(format!("token {a:02x}{b:02x}{c:02x}{d:02x}"))
                }
                Identity::Anonymous => None,
            },
        }
    }

    /// The value of the first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|h| h.field.as_str().as_str().eq_ignore_ascii_case(name));
        found.map(|h| h.value.as_str())
    }

    /// The values of all headers of this name, in their order.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |h| h.field.as_str().as_str().eq_ignore_ascii_case(name))
            .map(|h| h.value.as_str())
    }

    /// The values of all headers of this name, joined to one list by commas; `None`: there is no such header.
    pub fn header_list<'a>(&'a self, name: &'a str) -> Option<Cow<'a, str>> {
        let mut values = self.header_values(name);
        let mut list = Cow::Borrowed(values.next()?);
        for more in values {
            list = format!("{list}, {more}").into();
        }
        Some(list)
    }

    /// The values that the query gives `key`, decoded: `?name=a&name=b%20c` has `a` and `b c`. A key without `=` has the
    /// empty value; what is not UTF-8 becomes U+FFFD.
    pub fn query_values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = String> + 'a {
        self.query_bytes(key).map(|value| {
            String::from_utf8(value)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
        })
    }

    /// The first key of the query that is none of these, decoded. What is not UTF-8 becomes U+FFFD.
    pub fn query_key_beside(&self, known: &[&str]) -> Option<String> {
        let pairs = self.query.as_deref().unwrap_or_default().split('&');
        let names = pairs
            .filter(|pair| !pair.is_empty())
            .map(|pair| form_decode(pair.split_once('=').map_or(pair, |(name, _)| name)));
        let mut names = names.map(|name| String::from_utf8_lossy(&name).into_owned());
        names.find(|name| !known.contains(&name.as_str()))
    }

    /// The same as bytes, UTF-8 or not.
    pub fn query_bytes<'a>(&'a self, key: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
        let pairs = self.query.as_deref().unwrap_or_default().split('&');
        pairs
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(move |(name, _)| form_decode(name) == key.as_bytes())
            .map(|(_, value)| form_decode(value))
    }
}

/// `+` is a space, `%41` is `A`, and a `%` that begins no escape is itself.
fn form_decode(text: &str) -> Vec<u8> {
    let digit = |b: Option<&u8>| b.and_then(|&b| char::from(b).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(bytes.get(at)), digit(bytes.get(at + 1))) {
                (Some(high), Some(low)) => {
                    at += 2;
                    (high << 4 | low) as u8
                }
                _ => b'%',
            },
            other => other,
        });
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str) -> Request {
        Request {
            method: Method::Get,
            path: "/".into(),
            query: Some(query.into()),
            version: HTTPVersion(1, 1),
            headers: vec![
                Header::from_bytes("Accept", "a").unwrap(),
                Header::from_bytes("accept", "b").unwrap(),
            ],
            body: Vec::new(),
            peer: ([127, 0, 0, 1], 1).into(),
            login: Login::default(),
        }
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let request = request("");
        assert_eq!(request.header("ACCEPT"), Some("a"));
        assert_eq!(
            request.header_values("accept").collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(request.header("Accept-"), None);
        assert_eq!(request.header_list("accept").as_deref(), Some("a, b"));
        assert_eq!(request.header_list("Accept-"), None);
    }

    #[test]
    fn query_values_are_decoded() {
        let all = |query: &str, key: &str| request(query).query_values(key).collect::<Vec<_>>();
        assert_eq!(all("a=1&b=2&a=3", "a"), ["1", "3"]);
        assert_eq!(all("name%5B%5d=x+y%20z%2B", "name[]"), ["x y z+"]);
        assert_eq!(all("a&&=&a==b", "a"), ["", "=b"]);
        assert_eq!(
            all("a=100%&a=%4&a=%zz&a=%", "a"),
            ["100%", "%4", "%zz", "%"]
        );
        assert_eq!(all("a=%ff%c3%bc", "a"), ["\u{fffd}\u{fc}"]);
        assert!(all("", "").is_empty());
        let named = |login, header: &str| {
            let mut request = request("");
            request.login = login;
            request
                .headers
                .push(Header::from_bytes("Authorization", header).unwrap());
            request.login_name()
        };
        let (user, token) = ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Bearer abc");
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(named(Login::Authenticated, user), name("user Aladdin"));
        assert_eq!(named(Login::Authenticated, token), name("token ba7816bf"));
        assert_eq!(named(Login::Certified, user), name("a client certificate"));
        assert_eq!(named(Login::Missing, user), None);
        let beside = |query: &str| request(query).query_key_beside(&["a", "b"]);
        assert_eq!(beside("a&b=1&&a=%"), None);
        assert_eq!(beside("a&c%2Fd=1&e").as_deref(), Some("c/d"));
    }
}
