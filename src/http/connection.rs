//! One connection: read a head, read a body, call the handler, write its response, and again.

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiny_http::{HTTPVersion, Method};

use super::access::{AccessControl, Admission, Identity, Peer, Policy, Refusal, WriteAccess};
use super::connection_slots::ConnectionSlot;
use super::date::format_date;
use super::head::{parse_head, Head, RequestError};
use super::limits::{ErrorFormat, LargeBody, Limits, CHUNK};
use super::request::Request;
use super::response::{Response, UpgradeHandler};
use super::stream::{write_both, Stream};
use super::upgraded::Upgraded;
use super::Handler;
use crate::sys::clock::wall_seconds;

/// Serves one client until it disconnects, sends something malformed, is too slow, or is evicted. The client's faults are
/// not logged, or a client could fill the log.
pub(super) fn serve<S: Stream>(
    stream: S,
    mut peer: Peer,
    slot: &ConnectionSlot,
    access: &Arc<AccessControl>,
    handler: &Handler,
    limits: &Limits,
) {
    let mut connection = Connection::new(stream, Arc::clone(&peer.policy), limits);
    match connection.serve_requests(&mut peer, slot, access, handler) {
        Ok(()) | Err(End::Disconnected) => {}
        Err(End::Refused(why)) => connection.refuse(why),
        Err(End::Upgraded(handler, identity)) => {
            // `Err`: the connection is lost.
            if let Ok(stream) = connection.stream.into_duplex() {
                handler(Upgraded {
                    stream,
                    received: connection.received,
                    admission: Admission::new(Arc::clone(access), peer, identity),
                });
            }
        }
    }
}

/// Tells a client, without TLS, why its TLS handshake failed; `None`: it has been told. The configured headers are not sent.
#[cfg(feature = "tls")]
pub(super) fn reject<S: Stream>(stream: S, why: Option<RequestError>, limits: &Limits) {
    let mut connection = Connection::new(stream, Arc::new(Policy::open()), limits);
    match why {
        Some(why) => connection.refuse(why),
        None => connection.linger(),
    }
}

/// The policy has changed since the connection was accepted.
const NOT_ADMITTED_ANY_MORE: RequestError = RequestError {
    status: 403,
    reason: "who connects like this is not let in any more: connect anew",
};

const LOGIN_FOR_LARGE_BODY: RequestError = RequestError {
    status: 403,
    reason: "so large a body is taken only with a login or a token",
};

const LARGE_BODY_FROM_ELSEWHERE: RequestError = RequestError {
    status: 403,
    reason: "without users and tokens, so large a body is taken from the server's own machine alone, unless --management.allow-remote is given",
};

const BUSY_RECEIVING: RequestError = RequestError {
    status: 503,
    reason: "another large body is being received: try again later",
};

/// Whether a large body is being received, or handled.
static HAS_LARGE_BODY: AtomicBool = AtomicBool::new(false);

/// The permission to receive a large body.
struct LargeBodyPermit(());

impl LargeBodyPermit {
    fn take() -> Option<LargeBodyPermit> {
        let is_free = !HAS_LARGE_BODY.swap(true, Ordering::SeqCst);
        is_free.then_some(LargeBodyPermit(()))
    }
}

impl Drop for LargeBodyPermit {
    fn drop(&mut self) {
        HAS_LARGE_BODY.store(false, Ordering::SeqCst);
    }
}

/// Writes head, body and shared pieces.
fn write_all(
    stream: &mut impl Stream,
    head: &[u8],
    body: &[u8],
    pieces: &[Arc<[u8]>],
) -> io::Result<()> {
    let (first, rest) = match (body, pieces) {
        ([], [first, rest @ ..]) => (first.as_ref(), rest),
        _ => (body, pieces),
    };
    write_both(stream, head, first)?;
    for piece in rest {
        stream.write_all(piece)?;
    }
    match rest {
        [] => Ok(()),
        _ => stream.flush(),
    }
}

/// Why a connection ends.
enum End {
    /// The client has disconnected or does not read, or the server stops: no response can be sent.
    Disconnected,
    /// The client is told why, and the connection is closed.
    Refused(RequestError),
    /// The connection leaves HTTP; with the login of its last request.
    Upgraded(UpgradeHandler, Identity),
}

impl From<RequestError> for End {
    fn from(error: RequestError) -> Self {
        End::Refused(error)
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Disconnected
    }
}

struct Connection<'a, S> {
    stream: S,
    limits: &'a Limits,
    /// Bytes that were received and belong to no request yet. At most one head and one chunk.
    received: Vec<u8>,
    /// The head of the response that is being written. Kept to use its memory again.
    written: Vec<u8>,
    /// The second since 1970, and the `Date` header of that second.
    date: (i64, String),
    /// The policy in force at the last request.
    policy: Arc<Policy>,
}

impl<'a, S: Stream> Connection<'a, S> {
    fn new(stream: S, policy: Arc<Policy>, limits: &'a Limits) -> Self {
        Connection {
            stream,
            limits,
            received: Vec::new(),
            written: Vec::new(),
            date: (i64::MIN, String::new()),
            policy,
        }
    }

    fn serve_requests(
        &mut self,
        peer: &mut Peer,
        slot: &ConnectionSlot,
        access: &AccessControl,
        handler: &Handler,
    ) -> Result<(), End> {
        let mut first_byte_timeout = self.limits.head_time;
        loop {
            let head = self.receive_head(first_byte_timeout)?;
            // Verifying a password may take a while, and cannot be aborted.
            if !slot.set_busy() {
                return Ok(());
            }
            self.policy = access.policy();
            if !peer.is_accepted_by(&self.policy) {
                return Err(NOT_ADMITTED_ANY_MORE.into());
            }
            // A connection that was accepted with other TLS settings is not kept.
            let keep_alive = head.keep_alive && self.policy.connects_as(&peer.policy);
            let login = match access.admit(&self.policy, &head, peer.address, peer.is_certified()) {
                Ok(login) => login,
                Err(refusal) => {
                    // The body of a refused request is not read.
                    let keep_alive = keep_alive && head.body_length == 0 && !slot.is_closing();
                    let response = self.refusal_response(refusal);
                    self.respond(response, &head.method, &head.version, keep_alive)?;
                    if !keep_alive {
                        if slot.set_idle() {
                            self.linger();
                        }
                        return Ok(());
                    }
                    if !slot.set_idle() {
                        return Ok(());
                    }
                    first_byte_timeout = self.limits.idle_time;
                    continue;
                }
            };
            // A client that sends a body may be evicted, but it counts as idle only from now on, so others are evicted before it.
            if head.body_length > 0 && !slot.set_idle() {
                return Ok(());
            }
            let (body_length, expects_continue) = (head.body_length, head.expects_continue);
            let mut request = Request::new(head, Vec::new(), peer.address, login);
            let large = self.admit_large_body(&request, body_length)?;
            request.body = self.receive_body(body_length, expects_continue)?;
            if !slot.set_busy() {
                return Ok(());
            }
            let response = catch_unwind(AssertUnwindSafe(|| handler(&request)));
            request.body = Vec::new();
            drop(large);
            // The panic's own message has been written to stderr.
            let panicked = response.is_err();
            let mut response =
                response.unwrap_or_else(|_| Response::text(500, "this request met a bug\n"));
            let keep_alive = keep_alive && !panicked && !slot.is_closing();
            let upgrade = response.take_upgrade_handler();
            self.respond(response, &request.method, &request.version, keep_alive)?;
            if let Some(handler) = upgrade {
                let identity = Identity::of(request.header("Authorization"));
                return Err(End::Upgraded(handler, identity));
            }
            if !keep_alive {
                self.close_after_response(slot);
                return Ok(());
            }
            if !slot.set_idle() {
                return Ok(());
            }
            first_byte_timeout = self.limits.idle_time;
        }
    }

    /// Receives the next head. Its first byte has this timeout; the rest has a deadline of its own.
    fn receive_head(&mut self, first_byte_timeout: Duration) -> Result<Head, End> {
        if self.received.is_empty() {
            self.set_deadline_in(first_byte_timeout);
            if self.receive()? == 0 {
                return Err(End::Disconnected);
            }
        }
        let started = Instant::now();
        loop {
            if let Some((head, length)) = parse_head(&self.received, self.limits)? {
                self.received.drain(..length);
                return Ok(head);
            }
            self.stream.set_deadline(started + self.limits.head_time);
            self.receive_more("the request's head took too long")?;
        }
    }

    /// The limits of a body that is larger than those of other requests; `None`: it is not.
    fn large_body(&self, length: usize) -> Option<LargeBody> {
        self.limits.large_body.filter(|_| length > self.limits.body)
    }

    /// Lets one body at a time be larger than those of other requests, of a client that may change something: others must not
    /// keep it waiting.
    fn admit_large_body(
        &self,
        request: &Request,
        length: usize,
    ) -> Result<Option<LargeBodyPermit>, End> {
        let Some(large) = self.large_body(length) else {
            return Ok(None);
        };
        match WriteAccess::of(request, large.allow_remote) {
            WriteAccess::LoginRequired => Err(LOGIN_FOR_LARGE_BODY.into()),
            WriteAccess::LocalOnly => Err(LARGE_BODY_FROM_ELSEWHERE.into()),
            WriteAccess::Allowed => match LargeBodyPermit::take() {
                Some(permit) => Ok(Some(permit)),
                None => Err(BUSY_RECEIVING.into()),
            },
        }
    }

    fn receive_body(&mut self, length: usize, expects_continue: bool) -> Result<Vec<u8>, End> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let large = self.large_body(length);
        self.set_deadline_in(large.map_or(self.limits.body_time, |large| large.time));
        if expects_continue && self.received.is_empty() {
            write_both(&mut self.stream, b"HTTP/1.1 100 Continue\r\n\r\n", b"")?;
        }
        // The buffer grows as bytes arrive: an announced length alone takes no memory.
        let mut body = Vec::new();
        loop {
            let available = (length - body.len()).min(self.received.len());
            body.extend(self.received.drain(..available));
            if body.len() == length {
                return Ok(body);
            }
            self.receive_more("the request's body took too long")?;
        }
    }

    fn respond(
        &mut self,
        mut response: Response,
        method: &Method,
        version: &HTTPVersion,
        keep_alive: bool,
    ) -> Result<(), End> {
        let now = wall_seconds();
        if self.date.0 != now {
            self.date = (now, format_date(now));
        }
        for (name, value) in &self.policy.headers {
            if response.header(name).is_none() {
                response = response.with_header(name, value);
            }
        }
        self.written.clear();
        response.print_head(&mut self.written, version, keep_alive, &self.date.1);
        let with_body = *method != Method::Head && response.has_body();
        let (body, pieces) = match with_body {
            true => (response.body(), response.pieces()),
            false => (&[][..], &[][..]),
        };
        self.set_deadline_in(response.time().unwrap_or(self.limits.answer_time));
        let result = write_all(&mut self.stream, &self.written, body, pieces);
        if result.is_err() {
            self.stream.abandon();
        }
        response.finish(result.is_ok() && *method != Method::Head);
        Ok(result?)
    }

    /// Responds with the error and closes the connection.
    fn refuse(&mut self, why: RequestError) {
        let response = self.error_response(why);
        // The method is not known, so the response has a body, as for a GET.
        let sent = self.respond(response, &Method::Get, &HTTPVersion(1, 1), false);
        if sent.is_ok() {
            self.linger();
        }
    }

    /// The response to a request that is not let in.
    fn refusal_response(&self, refusal: Refusal) -> Response {
        let mut response = self.error_response(refusal.why);
        if let Some(challenge) = refusal.challenge {
            response = response.with_header("WWW-Authenticate", challenge);
        }
        if let Some(seconds) = refusal.retry_after {
            response = response.with_header("Retry-After", &seconds.to_string());
        }
        response
    }

    fn error_response(&self, why: RequestError) -> Response {
        let reason = match why.status {
            413 => {
                let large = self.limits.large_body.map(|large| {
                    let LargeBody { path, bytes, .. } = large;
                    format!(", {bytes} by {path}")
                });
                format!(
                    "{}: at most {} bytes are taken{}",
                    why.reason,
                    self.limits.body,
                    large.unwrap_or_default()
                )
            }
            _ => why.reason.to_owned(),
        };
        match self.limits.error_format {
            ErrorFormat::Text => Response::text(why.status, format!("{reason}\n")),
            ErrorFormat::Json => Response::error(why.status, why.title(), &reason),
        }
    }

    /// Closes the connection after a response with `Connection: close`. A client that has sent more nevertheless must not
    /// lose that response.
    fn close_after_response(&mut self, slot: &ConnectionSlot) {
        if !self.received.is_empty() && slot.set_idle() {
            self.linger();
        }
    }

    /// Lets the client read the response before the connection is closed.
    fn linger(&mut self) {
        self.stream.finish();
        self.set_deadline_in(self.limits.linger_time);
        let mut dropped = 0;
        while dropped < self.limits.linger_bytes {
            self.received.clear();
            match self.receive() {
                Ok(0) | Err(_) => return,
                Ok(n) => dropped += n,
            }
        }
    }

    fn set_deadline_in(&mut self, time: Duration) {
        self.stream.set_deadline(Instant::now() + time);
    }

    /// Adds available bytes to `received`, or waits for some. 0 at the end of the stream.
    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; CHUNK];
        let n = self.stream.read(&mut chunk)?;
        self.received
            .extend_from_slice(chunk.get(..n).unwrap_or_default());
        Ok(n)
    }

    /// Receives in the middle of a request, where the end of the stream and a timeout are errors.
    fn receive_more(&mut self, too_slow: &'static str) -> Result<(), End> {
        match self.receive() {
            Ok(0) => Err(End::Disconnected),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(End::Refused(RequestError {
                status: 408,
                reason: too_slow,
            })),
            Err(_) => Err(End::Disconnected),
        }
    }
}
