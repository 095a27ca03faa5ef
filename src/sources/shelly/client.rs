//! The HTTP client of one device. Logs in if the device requires it. Uses one persistent connection, limits the time and size
//! of every response, and follows no redirects and no proxy.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ureq::unversioned::transport::DefaultConnector;

use super::basic;
use super::digest::{Challenge, Login};
use super::identity::Generation;
use crate::http::client::FixedAddresses;
use crate::sources::Error;
use crate::sys::reason;

/// The time limit for a whole response, including the look-up and the connection.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest response body. The status of a device with four meters takes 4 KiB.
const MAX_BODY: u64 = 64 * 1024;
const MAX_HEADERS: usize = 8 * 1024;
/// The delay after a refused password. More requests would keep the device busy and fill its log.
const LOGIN_RETRY_DELAY: Duration = Duration::from_secs(60);
/// One attempt with the known challenge, one with a new challenge, and one more if that was stale.
const MAX_ATTEMPTS: usize = 3;
/// The only user name of Gen2 and later.
const ADMIN: &str = "admin";

/// A client of a device at known addresses.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    username: String,
    password: Option<String>,
    /// Whether the device requires Basic authentication.
    basic: bool,
    /// The device's last Digest challenge, and how often its nonce was used.
    digest: Option<(Challenge, u32)>,
}

/// A response.
struct Response {
    status: u16,
    /// The `WWW-Authenticate` headers.
    challenges: Vec<String>,
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
            .timeout_global(Some(RESPONSE_TIMEOUT))
            .build();
        Client {
            agent: ureq::Agent::with_parts(
                config,
                DefaultConnector::new(),
                FixedAddresses(addresses),
            ),
            base: format!("http://{authority}"),
            username: username.to_string(),
            password,
            basic: false,
            digest: None,
        }
    }

    /// Gets a path that needs no login.
    pub(super) fn get_open(&self, path: &str, deadline: Instant) -> Result<Vec<u8>, Error> {
        let response = self.request(path, None, deadline)?;
        self.accept(path, response)
    }

    /// Gets a path, with a login as this generation requires it.
    pub(super) fn get(
        &mut self,
        path: &str,
        generation: Generation,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        // Whether a challenge that was received in this call has been answered.
        let mut answered = false;
        for _ in 0..MAX_ATTEMPTS {
            let authorization = self.authorization(path, generation);
            let response = self.request(path, authorization.as_deref(), deadline)?;
            if response.status != 401 {
                return self.accept(path, response);
            }
            if self.password.is_none() {
                return Err(self
                    .error(path, "the device asks for a password")
                    .hint("set shelly.password_file, or shelly.password")
                    .retry_after(LOGIN_RETRY_DELAY));
            }
            match generation {
                Generation::First => {
                    if authorization.is_some() {
                        self.basic = false;
                        return Err(self.password_refused(path));
                    }
                    if !response
                        .challenges
                        .iter()
                        .any(|header| basic::is_challenge(header))
                    {
                        return Err(self
                            .error(path, "the device asks for a login, but not for a Basic one"));
                    }
                    self.basic = true;
                }
                Generation::Rpc => {
                    let challenge = self.challenge(path, &response)?;
                    if answered && !challenge.stale {
                        self.digest = None;
                        return Err(self.password_refused(path));
                    }
                    self.digest = Some((challenge, 0));
                    answered = true;
                }
            }
        }
        self.digest = None;
        Err(self.error(path, "the device calls its own challenges too old"))
    }

    fn password_refused(&self, path: &str) -> Error {
        self.error(path, "the device refuses the password")
            .hint("is shelly.password_file or shelly.password the one of the device's web page?")
            .retry_after(LOGIN_RETRY_DELAY)
    }

    /// The `Authorization` header, if the device required one before.
    fn authorization(&mut self, path: &str, generation: Generation) -> Option<String> {
        let password = self.password.as_deref()?;
        match (generation, &mut self.digest) {
            (Generation::First, _) => self.basic.then(|| {
                basic::authorization(Login {
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

    fn challenge(&self, path: &str, response: &Response) -> Result<Challenge, Error> {
        let mut why = "it does not say how".to_string();
        for header in &response.challenges {
            match Challenge::parse(header) {
                Ok(challenge) => return Ok(challenge),
                Err(message) => why = message,
            }
        }
        Err(self.error(path, &format!("the device wants a login, but {why}")))
    }

    fn accept(&self, path: &str, response: Response) -> Result<Vec<u8>, Error> {
        match response.status {
            200 => Ok(response.body),
            300..=399 => Err(self
                .error(path, "the answer is a redirect, which is not followed")
                .hint("is shelly.host the device's own address?")),
            status => Err(self.error(path, &format!("the answer has the status {status}"))),
        }
    }

    /// Sends one request and reads the whole response.
    fn request(
        &self,
        path: &str,
        authorization: Option<&str>,
        deadline: Instant,
    ) -> Result<Response, Error> {
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
        let challenges = response
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
        Ok(Response {
            status: response.status().as_u16(),
            challenges,
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

/// A client nonce. The standard library takes its hash keys from the system's random numbers.
fn cnonce() -> String {
    let random = || RandomState::new().hash_one(0u8);
    format!("{:016x}{:016x}", random(), random())
}
