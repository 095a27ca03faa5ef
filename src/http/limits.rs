//! Every bound and deadline of the server, each with its reason.

use std::time::Duration;

/// The bounds and deadlines of one server. All deadlines are *totals*: receiving a byte does not extend them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, each with a thread. A board has a scraper or two, and some browsers with six connections each.
    /// The server uses at most half the descriptors of the process, since the meters need some too.
    pub connections: usize,
    /// Connections of one address, so that one broken client leaves room for the others. A few browsers behind one proxy
    /// stay below the limit.
    pub per_peer: usize,
    /// Bytes of the request line. Long queries (remote read of many names) are a few hundred.
    pub request_line: usize,
    /// Bytes of request line and headers together. Browsers with cookies send two to four thousand.
    pub head: usize,
    /// Header lines. Browsers send some twenty.
    pub headers: usize,
    /// Bytes of a request's body. The largest legitimate one is a configuration file.
    pub body: usize,
    /// The one path whose body may be larger.
    pub large_body: Option<LargeBody>,
    /// For a request's head to arrive, from its first byte. On a new connection, from accepting it.
    pub head_time: Duration,
    /// For a request's body to arrive, from the end of its head.
    pub body_time: Duration,
    /// For a response to be received by the client: the default scrape timeout of Prometheus.
    pub answer_time: Duration,
    /// Between a response and the next request. More than a minute, the default scrape interval of Prometheus, so that its
    /// connection is never closed just as the next scrape arrives.
    pub idle_time: Duration,
    /// How long a client that was refused may go on sending before its connection is closed. Closing with unread bytes sends
    /// a reset, and the client would lose the response.
    pub linger_time: Duration,
    /// Bytes that are read and dropped in that time.
    pub linger_bytes: usize,
    /// Bytes of stack of a connection's thread. Only the pages that are touched take memory.
    pub stack: usize,
    /// The format of errors that the server itself responds with, without a handler.
    pub error_format: ErrorFormat,
}

/// The path whose body may be larger than others. The process receives one such body at a time, since all of it is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeBody {
    /// The path of the request.
    pub path: &'static str,
    /// The most bytes.
    pub bytes: usize,
    /// Whether it is taken from other machines where no logins are configured.
    pub allow_remote: bool,
    /// For the body to arrive.
    pub time: Duration,
}

/// The format of an error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// A line of text.
    Text,
    /// A JSON object with `error` and `message`.
    Json,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 64,
            per_peer: 32,
            request_line: 8 * 1024,
            head: 8 * 1024,
            headers: 64,
            body: 64 * 1024,
            large_body: None,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            linger_time: Duration::from_millis(500),
            linger_bytes: 256 * 1024,
            stack: 128 * 1024 * STACK_FACTOR,
            error_format: ErrorFormat::Text,
        }
    }
}

impl Limits {
    /// The most bytes of the body of a request for this path.
    pub(super) fn body_of(&self, path: &str) -> usize {
        let large = self.large_body.filter(|large| large.path == path);
        large.map_or(self.body, |large| large.bytes)
    }
}

/// Without optimisation stack frames are several times as large.
const STACK_FACTOR: usize = if cfg!(debug_assertions) { 8 } else { 1 };

/// Empty lines before a request line that are skipped (RFC 9112, 2.2: some old clients send one after a body).
pub(super) const MAX_EMPTY_LINES: usize = 4;
/// How long the accepting thread waits for the thread of a connection that it closed.
pub(super) const EVICT_TIMEOUT: Duration = Duration::from_millis(100);
/// Delay after a failed accept (no descriptors, no memory), so as not to spin.
pub(super) const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// How often a failed accept is logged at most: a client that can take all descriptors must not fill the disk too.
pub(super) const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// How long a stopping server waits for responses that are being made or written.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of one read.
pub(super) const CHUNK: usize = 4096;
