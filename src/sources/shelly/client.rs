//! Asks one device by HTTP, with a login where it asks for one. One connection, kept; every answer bounded in time and
//! size; no redirects, no proxy.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ureq::unversioned::transport::DefaultConnector;

use super::basic;
use super::digest::{Challenge, Login};
use super::identity::Generation;
use super::resolve::{Found, PATIENCE};
use crate::sources::Error;
use crate::sys::reason;

/// The longest answer that is read. The status of a device with four meters has 4 KiB.
const MAX_BODY: u64 = 64 * 1024;
const MAX_HEADERS: usize = 8 * 1024;
/// A device is kept from its work, and its log filled, by more than this with a password that it refuses.
const REST: Duration = Duration::from_secs(60);
/// With what is known, with the challenge that follows, and once more if that was too old.
const MAX_ATTEMPTS: usize = 3;
/// The only name that Gen2 and later know.
const ADMIN: &str = "admin";

/// A device that answers at an address.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    username: String,
    password: Option<String>,
    /// Whether it asked for Basic.
    basic: bool,
    /// What it asked for last, and how often that has been used.
    digest: Option<(Challenge, u32)>,
}

/// What came back.
struct Answer {
    status: u16,
    asks_for: Vec<String>,
    body: Vec<u8>,
}

impl Client {
    pub(super) fn new(
        authority: &str,
        addresses: Vec<SocketAddr>,
        username: &str,
        password: Option<String>,
    ) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_response_header_size(MAX_HEADERS)
            .input_buffer_size(MAX_HEADERS)
            .user_agent(concat!("edge-metrics-exporter/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .timeout_global(Some(PATIENCE))
            .build();
        Client {
            agent: ureq::Agent::with_parts(config, DefaultConnector::new(), Found(addresses)),
            base: format!("http://{authority}"),
            username: username.to_string(),
            password,
            basic: false,
            digest: None,
        }
    }

    /// Gets what nobody needs to log in for.
    pub(super) fn get_open(&self, path: &str, deadline: Instant) -> Result<Vec<u8>, Error> {
        let answer = self.ask(path, None, deadline)?;
        self.accept(path, answer)
    }

    /// Gets `path`, logging in as this generation asks for it.
    pub(super) fn get(
        &mut self,
        path: &str,
        generation: Generation,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        // Whether the answer to a challenge of just now was refused.
        let mut answered = false;
        for _ in 0..MAX_ATTEMPTS {
            let authorization = self.authorization(path, generation);
            let answer = self.ask(path, authorization.as_deref(), deadline)?;
            if answer.status != 401 {
                return self.accept(path, answer);
            }
            if self.password.is_none() {
                return Err(self
                    .error(path, "the device asks for a password")
                    .hint("set shelly.password_file, or shelly.password")
                    .retry_after(REST));
            }
            match generation {
                Generation::First => {
                    if authorization.is_some() {
                        self.basic = false;
                        return Err(self.refused(path));
                    }
                    if !answer
                        .asks_for
                        .iter()
                        .any(|header| basic::is_asked_for(header))
                    {
                        return Err(self
                            .error(path, "the device asks for a login, but not for a Basic one"));
                    }
                    self.basic = true;
                }
                Generation::Rpc => {
                    let challenge = self.challenge(path, &answer)?;
                    if answered && !challenge.stale {
                        self.digest = None;
                        return Err(self.refused(path));
                    }
                    self.digest = Some((challenge, 0));
                    answered = true;
                }
            }
        }
        self.digest = None;
        Err(self.error(path, "the device calls its own challenges too old"))
    }

    fn refused(&self, path: &str) -> Error {
        self.error(path, "the device refuses the password")
            .hint("is shelly.password_file or shelly.password the one of the device's web page?")
            .retry_after(REST)
    }

    /// The `Authorization` header with what is known, if the device asked for one.
    fn authorization(&mut self, path: &str, generation: Generation) -> Option<String> {
        let password = self.password.as_deref()?;
        match (generation, &mut self.digest) {
            (Generation::First, _) => self.basic.then(|| {
                basic::answer(Login {
                    username: &self.username,
                    password,
                })
            }),
            (Generation::Rpc, Some((challenge, count))) => {
                *count = count.wrapping_add(1);
                let login = Login {
                    username: ADMIN,
                    password,
                };
                Some(challenge.answer(login, path, *count, &cnonce()))
            }
            (Generation::Rpc, None) => None,
        }
    }

    fn challenge(&self, path: &str, answer: &Answer) -> Result<Challenge, Error> {
        let mut why = "it does not say how".to_string();
        for header in &answer.asks_for {
            match Challenge::parse(header) {
                Ok(challenge) => return Ok(challenge),
                Err(refusal) => why = refusal,
            }
        }
        Err(self.error(path, &format!("the device wants a login, but {why}")))
    }

    fn accept(&self, path: &str, answer: Answer) -> Result<Vec<u8>, Error> {
        match answer.status {
            200 => Ok(answer.body),
            300..=399 => Err(self
                .error(path, "the answer is a redirect, which is not followed")
                .hint("is shelly.host the device's own address?")),
            status => Err(self.error(path, &format!("the answer has the status {status}"))),
        }
    }

    /// One request and its whole answer.
    fn ask(
        &self,
        path: &str,
        authorization: Option<&str>,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.error(path, TOO_LATE));
        }
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        let request = request.config().timeout_global(Some(left)).build();
        let mut response = request.call().map_err(|error| self.failure(path, &error))?;
        let asks_for = response
            .headers()
            .get_all("WWW-Authenticate")
            .iter()
            .filter_map(|header| header.to_str().ok().map(str::to_string))
            .collect();
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_BODY)
            .read_to_vec();
        Ok(Answer {
            status: response.status().as_u16(),
            asks_for,
            body: body.map_err(|error| self.failure(path, &error))?,
        })
    }

    fn failure(&self, path: &str, error: &ureq::Error) -> Error {
        match error {
            ureq::Error::Timeout(_) => self.error(path, TOO_LATE),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                self.error(path, TOO_LATE)
            }
            ureq::Error::Io(error) => self.error(path, &reason(error)),
            ureq::Error::BodyExceedsLimit(_) => {
                self.error(path, "the answer is longer than any device's")
            }
            other => self.error(path, &other.to_string()),
        }
    }

    /// An error about this path: `http://192.168.1.100/status: …`.
    pub(super) fn error(&self, path: &str, what: &str) -> Error {
        Error::new(format!("{}{path}: {what}", self.base))
    }
}

const TOO_LATE: &str = "no whole answer within 2 s";

/// A number that no one else uses: the standard library's hash keys are the system's random numbers.
fn cnonce() -> String {
    let random = || RandomState::new().hash_one(0u8);
    format!("{:016x}{:016x}", random(), random())
}
