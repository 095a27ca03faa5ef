//! A request's head, parsed: request line, headers, and what they say about the body (RFC 9112). Pure.
//!
//! The parser is strict where two readers could disagree on where a request ends, which is how requests are smuggled.

use tiny_http::{HTTPVersion, Header, Method};

use super::limits::{Limits, MAX_EMPTY_LINES};

/// A parsed head.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method; any token is one.
    pub method: Method,
    /// The target up to the query, as it was sent: `/a%20b`. `*` for a request about the server as a whole.
    pub path: String,
    /// What follows the first `?`, as it was sent.
    pub query: Option<String>,
    /// 1.0 or 1.1.
    pub version: HTTPVersion,
    /// In their order. Bytes outside ASCII in a value have become `?`.
    pub headers: Vec<Header>,
    /// Bytes of body that follow, at most [`Limits::body`].
    pub body_length: usize,
    /// Whether the client wants to use the connection again.
    pub keep_alive: bool,
    /// Whether the client waits for a `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Why a request is refused. The bytes that follow it in the stream cannot be trusted to be a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestError {
    /// The status of the response. [`parse_head`] gives 400, 413, 414, 417, 431, 501 or 505.
    pub status: u16,
    /// The reason, for the client.
    pub reason: &'static str,
}

impl RequestError {
    /// The status in words.
    pub(super) fn title(&self) -> &'static str {
        match self.status {
            413 => "Request too large",
            status => tiny_http::StatusCode(status).default_reason_phrase(),
        }
    }
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.reason)
    }
}

impl std::error::Error for RequestError {}

const fn bad(reason: &'static str) -> RequestError {
    refused(400, reason)
}

const fn refused(status: u16, reason: &'static str) -> RequestError {
    RequestError { status, reason }
}

/// Parses the head at the beginning of `bytes`. Returns the head and its length in bytes, which includes the empty line at
/// its end and any empty lines before it. `None`: nothing is wrong so far, but the end of the head has not arrived.
pub fn parse_head(bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, RequestError> {
    const TOO_LONG_LINE: RequestError = refused(414, "the request line is too long");
    const TOO_LONG_HEAD: RequestError = refused(431, "the headers are too long");
    let mut start = 0;
    let max_line = limits.request_line.min(limits.head);
    let mut request_line = line(bytes, start, max_line, TOO_LONG_LINE)?;
    for _ in 0..MAX_EMPTY_LINES {
        match request_line {
            Some((b"", next)) => start = next,
            _ => break,
        }
        request_line = line(bytes, start, max_line, TOO_LONG_LINE)?;
    }
    let Some((request_line, first_header)) = request_line else {
        return Ok(None);
    };
    // The end is searched first, so that a head that arrives in pieces is parsed only once.
    let mut end = first_header;
    let mut count = 0;
    loop {
        let max_length = start.saturating_add(limits.head).saturating_sub(end);
        let Some((text, next)) = line(bytes, end, max_length, TOO_LONG_HEAD)? else {
            return Ok(None);
        };
        end = next;
        if text.is_empty() {
            break;
        }
        count += 1;
        if count > limits.headers {
            return Err(refused(431, "too many headers"));
        }
    }
    let (method, target, version) = parse_request_line(request_line)?;
    let (path, query) = parse_target(&method, target)?;
    let mut headers = Vec::with_capacity(count);
    let mut at = first_header;
    for _ in 0..count {
        if let Some((text, next)) = line(bytes, at, limits.head, TOO_LONG_HEAD)? {
            headers.push(parse_header(text)?);
            at = next;
        }
    }
    check_host(&headers, &version)?;
    let head = Head {
        body_length: body_length(&headers, limits.body_of(path))?,
        keep_alive: keep_alive(&headers, &version),
        expects_continue: expects_continue(&headers, &version)?,
        path: path.to_owned(),
        query: query.map(str::to_owned),
        method,
        version,
        headers,
    };
    Ok(Some((head, end)))
}

/// The line that begins at `from`, without its CR LF, and where the next one begins. `None`: its end has not arrived.
fn line(
    bytes: &[u8],
    from: usize,
    max_length: usize,
    too_long: RequestError,
) -> Result<Option<(&[u8], usize)>, RequestError> {
    let rest = bytes.get(from..).unwrap_or_default();
    let end = rest.iter().position(|&b| b == b'\n');
    let text = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
    if text.len() > max_length {
        return Err(too_long);
    }
    let text = match text.split_last() {
        Some((b'\r', text)) => text,
        _ if end.is_some() => return Err(bad("a line ends in LF without CR")),
        _ => text,
    };
    if text.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err(bad("control character in the head"));
    }
    Ok(end.map(|end| (text, from + end + 1)))
}

/// `METHOD SP target SP HTTP/d.d`, with exactly those two spaces.
fn parse_request_line(line: &[u8]) -> Result<(Method, &str, HTTPVersion), RequestError> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let mut parts = text.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("the request line is not \"METHOD target HTTP/1.1\""));
    };
    if !is_token(method.as_bytes()) {
        return Err(bad("the method is not a token"));
    }
    let version = match version.as_bytes() {
        b"HTTP/1.1" => HTTPVersion(1, 1),
        b"HTTP/1.0" => HTTPVersion(1, 0),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(refused(505, "this server speaks HTTP/1.1 and HTTP/1.0"));
        }
        _ => return Err(bad("the request line does not end in HTTP/1.1 or HTTP/1.0")),
    };
    let method = method
        .parse()
        .map_err(|()| bad("the method is not a token"))?;
    Ok((method, target, version))
}

/// Path and query of the target: `/path?query`, `http://host/path?query`, `*` (of OPTIONS), `host:port` (of CONNECT).
fn parse_target<'a>(
    method: &Method,
    target: &'a str,
) -> Result<(&'a str, Option<&'a str>), RequestError> {
    const MALFORMED: RequestError = bad("the target is neither a path nor an http URL");
    if target.bytes().any(|b| !b.is_ascii_graphic() || b == b'#') {
        return Err(bad(
            "the target has a character that must be percent-encoded",
        ));
    }
    if (*method == Method::Options && target == "*") || *method == Method::Connect {
        return Ok((target, None));
    }
    let local = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(MALFORMED)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(MALFORMED);
        }
        let (authority, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err(MALFORMED);
        }
        local
    };
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    };
    let mut escapes = path.split('%').skip(1).map(str::as_bytes);
    if !escapes.all(|e| matches!(e, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())) {
        return Err(bad("a % in the path is not followed by two hex digits"));
    }
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// `name: value`.
fn parse_header(line: &[u8]) -> Result<Header, RequestError> {
    const MALFORMED: RequestError = bad("a header is not \"name: value\"");
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(bad("a header is folded over two lines"));
    }
    let colon = line.iter().position(|&b| b == b':').ok_or(MALFORMED)?;
    let (name, value) = (line.get(..colon), line.get(colon + 1..));
    // Whitespace before the colon is no token either (RFC 9112, 5.1).
    let name = name.filter(|name| is_token(name)).ok_or(MALFORMED)?;
    let value: Vec<u8> = value
        .unwrap_or_default()
        .trim_ascii()
        .iter()
        .map(|&b| if b.is_ascii() { b } else { b'?' })
        .collect();
    Header::from_bytes(name, value).map_err(|()| MALFORMED)
}

/// A token (RFC 9110, 5.6.2): what methods and header names are.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

fn values<'a>(headers: &'a [Header], name: &'static str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |h| h.field.equiv(name))
        .map(|h| h.value.as_str())
}

/// The members of a comma-separated list, over all headers of the name.
fn members<'a>(headers: &'a [Header], name: &'static str) -> impl Iterator<Item = &'a str> {
    values(headers, name).flat_map(|v| v.split(',').map(|m| m.trim_matches([' ', '\t'])))
}

/// RFC 9112, 3.2: exactly one in HTTP/1.1, never two. It may be empty.
fn check_host(headers: &[Header], version: &HTTPVersion) -> Result<(), RequestError> {
    let mut hosts = values(headers, "Host");
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("more than one Host header"));
    }
    match host {
        None if *version >= (1, 1) => Err(bad("no Host header")),
        Some(host)
            if !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(&b)) =>
        {
            Err(bad("the Host header is not a host"))
        }
        _ => Ok(()),
    }
}

/// Where the body ends: by one Content-Length of digits alone, else there is none (RFC 9112, 6).
fn body_length(headers: &[Header], most: usize) -> Result<usize, RequestError> {
    let mut lengths = values(headers, "Content-Length");
    let length = lengths.next();
    if values(headers, "Transfer-Encoding").next().is_some() {
        return Err(match length {
            Some(_) => bad("both Content-Length and Transfer-Encoding"),
            None => refused(501, "Transfer-Encoding is not taken: send a Content-Length"),
        });
    }
    if lengths.next().is_some() {
        return Err(bad("more than one Content-Length"));
    }
    let Some(length) = length else { return Ok(0) };
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("the Content-Length is not a number"));
    }
    // Only digits: a number that does not parse is too large for a machine word.
    match length.parse() {
        Ok(length) if length <= most => Ok(length),
        _ => Err(refused(413, "the body is too large")),
    }
}

fn keep_alive(headers: &[Header], version: &HTTPVersion) -> bool {
    let has = |option| members(headers, "Connection").any(|m| m.eq_ignore_ascii_case(option));
    !has("close") && (*version >= (1, 1) || has("keep-alive"))
}

/// RFC 9110, 10.1.1: an HTTP/1.0 client can't expect anything.
fn expects_continue(headers: &[Header], version: &HTTPVersion) -> Result<bool, RequestError> {
    if *version < (1, 1) {
        return Ok(false);
    }
    let mut expects = false;
    for member in members(headers, "Expect").filter(|m| !m.is_empty()) {
        if !member.eq_ignore_ascii_case("100-continue") {
            return Err(refused(
                417,
                "the one expectation that can be met is 100-continue",
            ));
        }
        expects = true;
    }
    Ok(expects)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
