//! One client: read a head, read a body, have it answered, write the answer, again.

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiny_http::{HTTPVersion, Method};

use super::date::format_date;
use super::gate::{Admission, Caller, Gate, Policy, Refusal, Shown};
use super::head::{parse_head, Head, HeadError};
use super::limits::{Form, Limits, CHUNK};
use super::request::Request;
use super::response::{Response, TakeOver};
use super::seats::Guest;
use super::stream::{write_both, Stream};
use super::upgraded::Upgraded;
use super::Handler;
use crate::sys::clock::wall_seconds;

/// Serves one client until it leaves, errs, is too slow, or has to make room. What it is told then is all there is to
/// tell: a client's faults are not logged, or anybody could fill the log.
pub(super) fn serve<S: Stream>(
    stream: S,
    mut caller: Caller,
    guest: &Guest,
    gate: &Arc<Gate>,
    handler: &Handler,
    limits: &Limits,
) {
    let mut connection = Connection::new(stream, Arc::clone(&caller.policy), limits);
    match connection.requests(&mut caller, guest, gate, handler) {
        Ok(()) | Err(End::Gone) => {}
        Err(End::Refused(why)) => connection.refuse(why),
        Err(End::TakenOver(take_over, shown)) => {
            // Else the connection is lost, of which there is nobody to tell.
            if let Ok(stream) = connection.stream.into_duplex() {
                take_over(Upgraded {
                    stream,
                    received: connection.received,
                    admission: Admission::new(Arc::clone(gate), caller, shown),
                });
            }
        }
    }
}

/// Tells a client, in the clear, why there is no connection with it; `None`: it knows. The headers that are configured
/// are for those who come in.
#[cfg(feature = "tls")]
pub(super) fn turn_back<S: Stream>(stream: S, why: Option<HeadError>, limits: &Limits) {
    let mut connection = Connection::new(stream, Arc::new(Policy::open()), limits);
    match why {
        Some(why) => connection.refuse(why),
        None => connection.linger(),
    }
}

/// A connection outlives what let it in.
const NOT_ANY_MORE: HeadError = HeadError {
    status: 403,
    reason: "who connects like this is not let in any more: connect anew",
};

/// Writes head, body and what follows that.
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
    /// The client has gone or does not keep up, or we are to go: there is nobody to tell.
    Gone,
    /// The client is told why.
    Refused(HeadError),
    /// It is HTTP's no longer, and the last request showed this.
    TakenOver(TakeOver, Shown),
}

impl From<HeadError> for End {
    fn from(error: HeadError) -> Self {
        End::Refused(error)
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Gone
    }
}

struct Connection<'a, S> {
    stream: S,
    limits: &'a Limits,
    /// What came in and belongs to no request yet. At most one head and one chunk.
    received: Vec<u8>,
    /// The head of the answer being written; kept for its memory.
    written: Vec<u8>,
    /// The Date header, and the second it is for.
    date: (i64, String),
    /// What is in force.
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

    fn requests(
        &mut self,
        caller: &mut Caller,
        guest: &Guest,
        gate: &Gate,
        handler: &Handler,
    ) -> Result<(), End> {
        let mut first_byte_by = self.limits.head_time;
        loop {
            let head = self.head(first_byte_by)?;
            // Looking at a password may take a while, and cannot be broken off.
            if !guest.begin() {
                return Ok(());
            }
            self.policy = gate.policy();
            if !caller.is_accepted_by(&self.policy) {
                return Err(NOT_ANY_MORE.into());
            }
            // Who connected by other rules connects anew.
            let kept = head.keep_alive && self.policy.connects_as(&caller.policy);
            let login = match gate.admit(&self.policy, &head, caller.peer, caller.is_certified()) {
                Ok(login) => login,
                Err(refusal) => {
                    // A body that belongs to it is not read.
                    let kept = kept && head.body_length == 0 && !guest.is_closing();
                    let answer = self.told(refusal);
                    self.answer(answer, &head.method, &head.version, kept)?;
                    if !kept {
                        if guest.rest() {
                            self.linger();
                        }
                        return Ok(());
                    }
                    if !guest.rest() {
                        return Ok(());
                    }
                    first_byte_by = self.limits.idle_time;
                    continue;
                }
            };
            // Whoever is in the middle of a body is not the first to make room for others.
            if head.body_length > 0 && !guest.rest() {
                return Ok(());
            }
            let body = self.body(&head)?;
            if !guest.begin() {
                return Ok(());
            }
            let request = Request::new(head, body, caller.peer, login);
            let answer = catch_unwind(AssertUnwindSafe(|| handler(&request)));
            // The panic's own message is on stderr by now.
            let broken = answer.is_err();
            let mut answer =
                answer.unwrap_or_else(|_| Response::text(500, "this request met a bug\n"));
            let kept = kept && !broken && !guest.is_closing();
            let take_over = answer.take_over();
            self.answer(answer, &request.method, &request.version, kept)?;
            if let Some(take_over) = take_over {
                let shown = Shown::by(request.header("Authorization"));
                return Err(End::TakenOver(take_over, shown));
            }
            if !kept {
                self.end_politely(guest);
                return Ok(());
            }
            if !guest.rest() {
                return Ok(());
            }
            first_byte_by = self.limits.idle_time;
        }
    }

    /// The next head. Its first byte may take so long; the rest has a deadline of its own.
    fn head(&mut self, first_byte_by: Duration) -> Result<Head, End> {
        if self.received.is_empty() {
            self.deadline(first_byte_by);
            if self.receive()? == 0 {
                return Err(End::Gone);
            }
        }
        let begun = Instant::now();
        loop {
            if let Some((head, length)) = parse_head(&self.received, self.limits)? {
                self.received.drain(..length);
                return Ok(head);
            }
            self.stream.set_deadline(begun + self.limits.head_time);
            self.receive_some("the request's head took too long")?;
        }
    }

    fn body(&mut self, head: &Head) -> Result<Vec<u8>, End> {
        if head.body_length == 0 {
            return Ok(Vec::new());
        }
        self.deadline(self.limits.body_time);
        if head.expects_continue && self.received.is_empty() {
            write_both(&mut self.stream, b"HTTP/1.1 100 Continue\r\n\r\n", b"")?;
        }
        // It grows as it comes: an announced length alone costs nothing.
        let mut body = Vec::new();
        loop {
            let ours = (head.body_length - body.len()).min(self.received.len());
            body.extend(self.received.drain(..ours));
            if body.len() == head.body_length {
                return Ok(body);
            }
            self.receive_some("the request's body took too long")?;
        }
    }

    fn answer(
        &mut self,
        mut answer: Response,
        method: &Method,
        version: &HTTPVersion,
        kept: bool,
    ) -> Result<(), End> {
        let now = wall_seconds();
        if self.date.0 != now {
            self.date = (now, format_date(now));
        }
        for (name, value) in &self.policy.headers {
            if answer.header(name).is_none() {
                answer = answer.with_header(name, value);
            }
        }
        self.written.clear();
        answer.print_head(&mut self.written, version, kept, &self.date.1);
        let with_body = *method != Method::Head && answer.has_body();
        let (body, pieces) = match with_body {
            true => (answer.body(), answer.pieces()),
            false => (&[][..], &[][..]),
        };
        self.deadline(self.limits.answer_time);
        let result = write_all(&mut self.stream, &self.written, body, pieces);
        if result.is_err() {
            self.stream.abandon();
        }
        answer.finish(result.is_ok() && *method != Method::Head);
        Ok(result?)
    }

    /// Says why and hangs up.
    fn refuse(&mut self, why: HeadError) {
        let answer = self.words(why);
        // What was refused may have been anything, so it is answered as if it was a GET.
        let answered = self.answer(answer, &Method::Get, &HTTPVersion(1, 1), false);
        if answered.is_ok() {
            self.linger();
        }
    }

    /// A refusal as an answer.
    fn told(&self, refusal: Refusal) -> Response {
        let mut answer = self.words(refusal.why);
        if let Some(challenge) = refusal.challenge {
            answer = answer.with_header("WWW-Authenticate", challenge);
        }
        if let Some(seconds) = refusal.retry_after {
            answer = answer.with_header("Retry-After", &seconds.to_string());
        }
        answer
    }

    fn words(&self, why: HeadError) -> Response {
        let reason = match why.status {
            413 => format!(
                "{}: at most {} bytes are taken",
                why.reason, self.limits.body
            ),
            _ => why.reason.to_owned(),
        };
        match self.limits.refusals {
            Form::Text => Response::text(why.status, format!("{reason}\n")),
            Form::Json => Response::error(why.status, why.title(), &reason),
        }
    }

    /// The client is told that this was the last answer. One that sent more nevertheless must not lose it over that.
    fn end_politely(&mut self, guest: &Guest) {
        if !self.received.is_empty() && guest.rest() {
            self.linger();
        }
    }

    /// Lets the client read the answer before the connection is closed under it.
    fn linger(&mut self) {
        self.stream.finish();
        self.deadline(self.limits.linger_time);
        let mut thrown_away = 0;
        while thrown_away < self.limits.linger_bytes {
            self.received.clear();
            match self.receive() {
                Ok(0) | Err(_) => return,
                Ok(n) => thrown_away += n,
            }
        }
    }

    fn deadline(&mut self, time: Duration) {
        self.stream.set_deadline(Instant::now() + time);
    }

    /// Adds what is there to `received`, or waits for something to be. 0 at the end of the stream.
    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; CHUNK];
        let n = self.stream.read(&mut chunk)?;
        self.received
            .extend_from_slice(chunk.get(..n).unwrap_or_default());
        Ok(n)
    }

    /// The same, in the middle of a request.
    fn receive_some(&mut self, too_slow: &'static str) -> Result<(), End> {
        match self.receive() {
            Ok(0) => Err(End::Gone),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(End::Refused(HeadError {
                status: 408,
                reason: too_slow,
            })),
            Err(_) => Err(End::Gone),
        }
    }
}
