//! What a client may ask of us: every bound and deadline of the server, each with its reason.

use std::time::Duration;

/// The bounds and deadlines of one server. All deadlines are *totals*: a byte now and then does not extend them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, and with them threads. A board has a scraper or two, and some browsers with six each. Never
    /// more than half the descriptors of the process: the meters need some too.
    pub connections: usize,
    /// Connections of one address, so that one broken client leaves room for the others. A browser, or a few of them
    /// behind one proxy, stay below.
    pub per_peer: usize,
    /// Bytes of the request line. Long queries (remote read of many names) are a few hundred.
    pub request_line: usize,
    /// Bytes of request line and headers together. Browsers with cookies send two to four thousand.
    pub head: usize,
    /// Header lines. Browsers send some twenty.
    pub headers: usize,
    /// Bytes of a request's body. The largest honest one is a configuration file.
    pub body: usize,
    /// For a request's head to arrive, from its first byte (the connection's first request: from the accepting).
    pub head_time: Duration,
    /// For a request's body to arrive, from the end of its head.
    pub body_time: Duration,
    /// For an answer to be taken by the client. As long as Prometheus waits for a scrape.
    pub answer_time: Duration,
    /// Between an answer and the next request. More than a minute, Prometheus's default scrape interval: its connection
    /// is kept, and is never closed just as the next scrape goes out.
    pub idle_time: Duration,
    /// How long a client that was refused may go on sending before the connection is closed under it: a close with
    /// unread bytes is a reset, and would take the answer away with it.
    pub linger_time: Duration,
    /// Bytes read and thrown away in that time.
    pub linger_bytes: usize,
    /// Bytes of stack of a connection's thread. Only what is touched is memory.
    pub stack: usize,
    /// How a request that no handler sees is told why.
    pub refusals: Form,
}

/// What an error is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
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
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            linger_time: Duration::from_millis(500),
            linger_bytes: 256 * 1024,
            stack: 128 * 1024 * STACK_FACTOR,
            refusals: Form::Text,
        }
    }
}

/// Without optimisation frames are several times as large.
const STACK_FACTOR: usize = if cfg!(debug_assertions) { 8 } else { 1 };

/// Empty lines before a request line that are passed over (RFC 9112, 2.2: some old clients end a body with one).
pub(super) const EMPTY_LINES: usize = 4;
/// How long the accept thread waits for a connection that it closed to be gone.
pub(super) const ROOM_TIME: Duration = Duration::from_millis(100);
/// Pause after a failed accept (no descriptors, no memory), so as not to spin.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At most so often the log hears of it: whoever can take all descriptors must not fill the disk too.
pub(super) const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
/// How long a stopping server waits for answers that are being made or written.
pub(super) const STOP_TIME: Duration = Duration::from_millis(500);
/// What one read takes in.
pub(super) const CHUNK: usize = 4096;
