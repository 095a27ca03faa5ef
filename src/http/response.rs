//! A response, as a handler makes it, and the writing of its head.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};
use tiny_http::{HTTPVersion, Header, StatusCode};

use super::head::is_token;
use super::upgraded::Upgraded;

/// Set in every response: tiny_http would otherwise name itself.
const SERVER: (&str, &str) = ("Server", "edge-metrics-exporter");
/// Headers that the connection sets. A handler cannot set them.
const CONNECTION_HEADERS: [&str; 8] = [
    "Connection",
    "Content-Length",
    "Date",
    "Keep-Alive",
    "Server",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

/// A response.
pub struct Response {
    status: u16,
    headers: Vec<Header>,
    body: Vec<u8>,
    /// Pieces that follow the body, and are shared with other responses.
    shared: Box<[Arc<[u8]>]>,
    /// The `Upgrade` header: the protocol that is switched to, or that is offered.
    upgrade: Option<&'static str>,
    upgrade_handler: Option<UpgradeHandler>,
    done: DoneCallback,
    /// How many seconds the client may take to receive it; 0: as long as for any response.
    seconds: u16,
}

impl Response {
    /// A response with this status (200 to 599; anything else becomes 500) and body.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let status = if (200..600).contains(&status) {
            status
        } else {
            log::error!("a handler returned {status}, which is not an HTTP status");
            500
        };
        let response = Response {
            status,
            headers: Vec::with_capacity(4),
            body: body.into(),
            shared: Box::default(),
            upgrade: None,
            upgrade_handler: None,
            done: DoneCallback(None),
            seconds: 0,
        };
        response.with_header("Content-Type", content_type)
    }

    /// A response whose body is these pieces, one after the other. The pieces are not copied: any number of responses can
    /// share them.
    pub fn shared(status: u16, content_type: &str, pieces: Vec<Arc<[u8]>>) -> Self {
        let mut response = Response::new(status, content_type, Vec::new());
        response.shared = pieces.into();
        response
    }

    /// The same for a large response, which the client may take so many seconds to receive.
    #[must_use]
    pub fn within(mut self, seconds: u16) -> Self {
        self.seconds = seconds;
        self
    }

    /// How long the client may take to receive it, if longer than any response.
    pub(super) fn time(&self) -> Option<Duration> {
        (self.seconds > 0).then(|| Duration::from_secs(self.seconds.into()))
    }

    /// 101: the connection switches to another protocol. `handler` is called with the connection on its thread once the
    /// response has been written. After that the connection does not count among the server's connections, and is not ended
    /// with the server.
    pub fn switching(
        protocol: &'static str,
        handler: impl FnOnce(Upgraded) + Send + 'static,
    ) -> Self {
        Response {
            status: 101,
            headers: Vec::with_capacity(4),
            body: Vec::new(),
            shared: Box::default(),
            upgrade: Some(protocol),
            upgrade_handler: Some(Box::new(handler)),
            done: DoneCallback(None),
            seconds: 0,
        }
    }

    /// Offers to switch to this protocol, as a 426 has to (RFC 9110, 15.5.22).
    #[must_use]
    pub fn offering(mut self, protocol: &'static str) -> Self {
        self.upgrade = Some(protocol);
        self
    }

    /// A response of plain text in UTF-8.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Response::new(status, "text/plain; charset=utf-8", body)
    }

    /// A response of JSON, indented by two, like those of the programs that this one replaces.
    pub fn json(status: u16, value: &Value) -> Self {
        Response::new(status, "application/json", format!("{value:#}"))
    }

    /// An error as a JSON object with `error` and `message`.
    pub fn error(status: u16, error: &str, message: &str) -> Self {
        Response::json(status, &json!({"error": error, "message": message}))
    }

    /// Adds a header. Control characters in the value are left out and non-ASCII ones become `?`, so that no value can
    /// end the header (CVE-2026-66753: tiny_http sends them as they are); a name that is no token, or one that the
    /// connection sets itself (`Connection`, `Content-Length`, `Date`, …), adds nothing.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if !is_token(name.as_bytes())
            || CONNECTION_HEADERS
                .iter()
                .any(|o| o.eq_ignore_ascii_case(name))
        {
            log::error!("a handler set the header {name:?}, which only the server may set");
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

    /// Sets a callback that is called exactly once, on the connection's thread: with `true` when the whole response, body
    /// included, was handed to the kernel in time; with `false` when it was not, for a HEAD, or when it was never sent.
    #[must_use]
    pub fn on_done(mut self, done: impl FnOnce(bool) + Send + 'static) -> Self {
        self.done.call(false);
        self.done = DoneCallback(Some(Box::new(done)));
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body without the shared pieces.
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

    /// Takes out what is called with the connection once the response is written.
    pub(super) fn take_upgrade_handler(&mut self) -> Option<UpgradeHandler> {
        self.upgrade_handler.take()
    }

    /// Writes the head to `out`. This takes the headers out of the response; the body stays.
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
        let head = tiny_http::Response::new(
            StatusCode(self.status),
            headers,
            nothing,
            Some(length),
            None,
        )
        // The length is known, so never chunked.
        .with_chunked_threshold(usize::MAX);
        // Writing to a Vec cannot fail.
        let _ = head.raw_print(&mut *out, version.clone(), &[], true, None);
        // tiny_http cannot write `Connection` and `Upgrade`, so they are inserted before the empty line. It also writes a length
        // for statuses that must not have one (RFC 9110, 8.6).
        let no_length = b"Content-Length: 0\r\n\r\n";
        let cut = match self.status {
            101 | 204 | 304 if out.ends_with(no_length) => no_length.len(),
            _ => 2,
        };
        out.truncate(out.len().saturating_sub(cut));
        if let Some(protocol) = self.upgrade {
            out.extend_from_slice(format!("Upgrade: {protocol}\r\n").as_bytes());
        }
        let persistence = match (keep_alive, *version >= (1, 1)) {
            _ if self.status == 101 => None,
            (false, _) => Some("close"),
            (true, false) => Some("keep-alive"),
            (true, true) => None,
        };
        let upgrade = self.upgrade.map(|_| "Upgrade");
        let options: Vec<_> = persistence.into_iter().chain(upgrade).collect();
        if !options.is_empty() {
            out.extend_from_slice(format!("Connection: {}\r\n", options.join(", ")).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Calls the callback of [`Self::on_done`].
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
/// Takes over a connection that has left HTTP.
pub(super) type UpgradeHandler = Box<dyn FnOnce(Upgraded) + Send>;

/// Is called once: by `call`, or with `false` when it is dropped.
struct DoneCallback(Option<Callback>);

impl DoneCallback {
    fn call(&mut self, written: bool) {
        if let Some(callback) = self.0.take() {
            callback(written);
        }
    }
}

impl Drop for DoneCallback {
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
    fn head_has_length_date_and_connection_options() {
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
    fn header_values_cannot_end_the_header() {
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
    fn invalid_statuses_become_500() {
        for status in [0, 100, 199, 600, u16::MAX] {
            assert_eq!(Response::text(status, "").status(), 500);
        }
    }

    #[test]
    fn upgrade_header_switches_or_offers_a_protocol() {
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
    fn done_callback_is_called_exactly_once() {
        let (sender, results) = mpsc::channel();
        let response = || {
            let sender = sender.clone();
            Response::text(200, "").on_done(move |written| sender.send(written).unwrap())
        };
        response().finish(true);
        response().finish(false);
        drop(response());
        assert_eq!(results.try_iter().collect::<Vec<_>>(), [true, false, false]);
    }
}
