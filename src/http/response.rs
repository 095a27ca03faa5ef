//! What a handler gives back, and how its head is written.

use std::fmt;
use std::sync::Arc;

use serde_json::{json, Value};
use tiny_http::{HTTPVersion, Header, StatusCode};

use super::head::is_token;
use super::upgraded::Upgraded;

/// Who we are, in every answer: tiny_http would otherwise name itself.
const SERVER: (&str, &str) = ("Server", "edge-metrics-exporter");
/// Headers that are the connection's affair. A handler that sets them sets nothing.
const OURS: [&str; 8] = [
    "Connection",
    "Content-Length",
    "Date",
    "Keep-Alive",
    "Server",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

/// An answer.
pub struct Response {
    status: u16,
    headers: Vec<Header>,
    body: Vec<u8>,
    /// What follows the body, and is other answers' too.
    shared: Box<[Arc<[u8]>]>,
    /// The protocol that is switched to, or could be.
    upgrade: Option<&'static str>,
    take_over: Option<TakeOver>,
    done: Done,
}

impl Response {
    /// An answer with this status (200 to 599; anything else becomes 500) and body.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let status = if (200..600).contains(&status) {
            status
        } else {
            log::error!("a handler answered with status {status}, which is none");
            500
        };
        let response = Response {
            status,
            headers: Vec::with_capacity(4),
            body: body.into(),
            shared: Box::default(),
            upgrade: None,
            take_over: None,
            done: Done(None),
        };
        response.with_header("Content-Type", content_type)
    }

    /// An answer whose body is these pieces, one after the other. They are not copied: any number of answers that are on
    /// their way have the same bytes.
    pub fn shared(status: u16, content_type: &str, pieces: Vec<Arc<[u8]>>) -> Self {
        let mut response = Response::new(status, content_type, Vec::new());
        response.shared = pieces.into();
        response
    }

    /// 101: from here on the connection speaks another protocol, and is `take_over`'s. That is called on the connection's
    /// thread once the answer has been written; what was connected counts no longer among the server's connections, and
    /// is not ended with it.
    pub fn switching(
        protocol: &'static str,
        take_over: impl FnOnce(Upgraded) + Send + 'static,
    ) -> Self {
        Response {
            status: 101,
            headers: Vec::with_capacity(4),
            body: Vec::new(),
            shared: Box::default(),
            upgrade: Some(protocol),
            take_over: Some(Box::new(take_over)),
            done: Done(None),
        }
    }

    /// Says that this protocol could be switched to: a 426 has to (RFC 9110, 15.5.22).
    #[must_use]
    pub fn offering(mut self, protocol: &'static str) -> Self {
        self.upgrade = Some(protocol);
        self
    }

    /// An answer of plain text in UTF-8.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Response::new(status, "text/plain; charset=utf-8", body)
    }

    /// An answer of JSON, indented by two, as the programs that this one replaces wrote it.
    pub fn json(status: u16, value: &Value) -> Self {
        Response::new(status, "application/json", format!("{value:#}"))
    }

    /// An error for programs and people: what it is, and what about it.
    pub fn error(status: u16, error: &str, message: &str) -> Self {
        Response::json(status, &json!({"error": error, "message": message}))
    }

    /// Adds a header. Control characters in the value are left out and non-ASCII ones become `?`, so that no value can
    /// end the header (CVE-2026-66753: tiny_http sends them as they are); a name that is no token, or one that the
    /// connection sets itself (`Connection`, `Content-Length`, `Date`, …), adds nothing.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if !is_token(name.as_bytes()) || OURS.iter().any(|o| o.eq_ignore_ascii_case(name)) {
            log::error!("a handler set the header {name:?}, which is not for it to set");
            return self;
        }
        let value: Vec<u8> = value
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .map(|c| if c.is_ascii() { c as u8 } else { b'?' })
            .collect();
        if let Ok(header) = Header::from_bytes(name, value) {
            self.headers.push(header);
        }
        self
    }

    /// Has `done` called exactly once, on the connection's thread: with `true` when all of the answer, body included, has
    /// been handed to the kernel in time; with `false` when it was not, or is a HEAD's, or was never sent.
    #[must_use]
    pub fn on_done(mut self, done: impl FnOnce(bool) + Send + 'static) -> Self {
        self.done.call(false);
        self.done = Done(Some(Box::new(done)));
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body, but for its shared pieces.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The shared pieces, which follow the body.
    pub(super) fn pieces(&self) -> &[Arc<[u8]>] {
        &self.shared
    }

    /// The value of the first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|h| h.field.as_str().as_str().eq_ignore_ascii_case(name))
            .map(|h| h.value.as_str())
    }

    /// Whether this status comes with a body (RFC 9110, 6.4.1).
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.status, 101 | 204 | 304)
    }

    /// What is to have the connection once this is written.
    pub(super) fn take_over(&mut self) -> Option<TakeOver> {
        self.take_over.take()
    }

    /// Writes the head to `out`. The headers are gone afterwards; what is left is the body.
    pub(super) fn print_head(
        &mut self,
        out: &mut Vec<u8>,
        version: &HTTPVersion,
        keep_alive: bool,
        date: &str,
    ) {
        let mut headers = std::mem::take(&mut self.headers);
        for (name, value) in [SERVER, ("Date", date)] {
            headers.extend(Header::from_bytes(name, value));
        }
        let shared: usize = self.shared.iter().map(|piece| piece.len()).sum();
        let length = self.body.len() + shared;
        let nothing = std::io::empty();
        let answer = tiny_http::Response::new(
            StatusCode(self.status),
            headers,
            nothing,
            Some(length),
            None,
        )
        // Never chunked: the length is known.
        .with_chunked_threshold(usize::MAX);
        // A Vec takes everything.
        let _ = answer.raw_print(&mut *out, version.clone(), &[], true, None);
        // tiny_http lets nobody say what becomes of the connection, nor what it could, so that is put in before the empty line; and it gives
        // a length also to what must not have one (RFC 9110, 8.6).
        let no_length = b"Content-Length: 0\r\n\r\n";
        let cut = match self.status {
            101 | 204 | 304 if out.ends_with(no_length) => no_length.len(),
            _ => 2,
        };
        out.truncate(out.len().saturating_sub(cut));
        if let Some(protocol) = self.upgrade {
            out.extend_from_slice(format!("Upgrade: {protocol}\r\n").as_bytes());
        }
        let kept = match (keep_alive, *version >= (1, 1)) {
            _ if self.status == 101 => None,
            (false, _) => Some("close"),
            (true, false) => Some("keep-alive"),
            (true, true) => None,
        };
        let upgrade = self.upgrade.map(|_| "Upgrade");
        let options: Vec<_> = kept.into_iter().chain(upgrade).collect();
        if !options.is_empty() {
            out.extend_from_slice(format!("Connection: {}\r\n", options.join(", ")).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Tells whoever waits for it how it went.
    pub(super) fn finish(mut self, written: bool) {
        self.done.call(written);
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &String::from_utf8_lossy(&self.body))
            .finish_non_exhaustive()
    }
}

type Callback = Box<dyn FnOnce(bool) + Send>;
/// What a connection is given to when it is HTTP's no longer.
pub(super) type TakeOver = Box<dyn FnOnce(Upgraded) + Send>;

/// Calls back once: as told, or with `false` when it is dropped.
struct Done(Option<Callback>);

impl Done {
    fn call(&mut self, written: bool) {
        if let Some(callback) = self.0.take() {
            callback(written);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.call(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn head(mut response: Response, version: HTTPVersion, keep_alive: bool) -> String {
        let mut out = Vec::new();
        response.print_head(&mut out, &version, keep_alive, "now");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_has_what_it_needs() {
        let response = Response::new(404, "text/plain", "gone").with_header("Vary", "Accept");
        assert_eq!(
            head(response, HTTPVersion(1, 1), true),
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nVary: Accept\r\n\
             Server: edge-metrics-exporter\r\nDate: now\r\nContent-Length: 4\r\n\r\n"
        );
        let closing = head(Response::text(200, ""), HTTPVersion(1, 1), false);
        assert!(
            closing.ends_with("Content-Length: 0\r\nConnection: close\r\n\r\n"),
            "{closing}"
        );
        let old = head(Response::text(200, "x"), HTTPVersion(1, 0), true);
        assert!(old.starts_with("HTTP/1.0 200 OK\r\n"), "{old}");
        assert!(
            old.ends_with("Content-Length: 1\r\nConnection: keep-alive\r\n\r\n"),
            "{old}"
        );
        let empty = head(Response::text(204, ""), HTTPVersion(1, 1), true);
        assert!(
            !empty.contains("Content-Length") && empty.ends_with("\r\n\r\n"),
            "{empty}"
        );
        let large = head(
            Response::text(200, vec![b'x'; 1 << 20]),
            HTTPVersion(1, 1),
            true,
        );
        assert!(large.contains("Content-Length: 1048576\r\n"), "{large}");
    }

    #[test]
    fn shared_pieces_count_in_the_length() {
        let pieces: Vec<Arc<[u8]>> = vec![b"ab".as_slice().into(), b"cde".as_slice().into()];
        let response = Response::shared(200, "text/plain", pieces);
        let head = head(response, HTTPVersion(1, 1), true);
        assert!(head.contains("Content-Length: 5\r\n"), "{head}");
    }

    #[test]
    fn no_value_ends_its_header() {
        let response = Response::text(200, "")
            .with_header("Location", "/a\r\nSet-Cookie: b\n\0\u{fc}\t.")
            .with_header("Bad Name", "x")
            .with_header("X\r\nY", "x")
            .with_header("content-length", "1000")
            .with_header("Connection", "keep-alive");
        assert_eq!(response.header("location"), Some("/aSet-Cookie: b?\t."));
        assert_eq!(response.headers.len(), 2);
    }

    #[test]
    fn statuses_that_are_none_become_500() {
        for status in [0, 100, 199, 600, u16::MAX] {
            assert_eq!(Response::text(status, "").status(), 500);
        }
    }

    #[test]
    fn a_protocol_is_switched_to_or_offered() {
        let switching = Response::switching("websocket", drop).with_header("X", "y");
        assert_eq!(
            head(switching, HTTPVersion(1, 1), true),
            "HTTP/1.1 101 Switching Protocols\r\nX: y\r\nServer: edge-metrics-exporter\r\nDate: now\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        );
        let offering = || Response::text(426, "").offering("websocket");
        let offered = head(offering(), HTTPVersion(1, 1), true);
        assert!(offered.contains("\r\nUpgrade: websocket\r\n"), "{offered}");
        assert!(
            offered.ends_with("\r\nConnection: Upgrade\r\n\r\n"),
            "{offered}"
        );
        let last = head(offering(), HTTPVersion(1, 1), false);
        assert!(
            last.ends_with("\r\nConnection: close, Upgrade\r\n\r\n"),
            "{last}"
        );
    }

    #[test]
    fn done_is_called_exactly_once() {
        let (told, heard) = mpsc::channel();
        let response = || {
            let told = told.clone();
            Response::text(200, "").on_done(move |written| told.send(written).unwrap())
        };
        response().finish(true);
        response().finish(false);
        drop(response());
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [true, false, false]);
    }
}
