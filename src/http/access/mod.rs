//! Access control of a listener: TLS or plain HTTP, and which passwords, tokens and client certificates are accepted.
//!
//! The rules are in two files: the web configuration of `--web.config.file` ([`crate::config::Web`]) and a file of tokens.
//! When a request comes in and a file has changed, both are read again. A file that cannot be used is logged, and the last
//! good rules stay in force.
//!
//! * [`Policy`] is the rules in force; [`AccessControl`] applies them to requests;
//! * `passwords` verifies passwords: successful logins are cached, unknown passwords are verified one at a time in a
//!   `fair_queue`, and `failures` limits how often one peer may fail. Guessing passwords does not slow down valid logins;
//! * `tokens` and [`authorization`] read tokens and the `Authorization` header;
//! * `admission` is about connections that stay open while the rules change;
//! * `origin` tells requests of this machine and of foreign web pages from others.

mod admission;
pub mod authorization;
mod failures;
mod fair_queue;
mod origin;
mod passwords;
mod policy;
mod tokens;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, TryLockError};
use std::time::{Duration, Instant};

pub use admission::Admission;
pub(super) use admission::{Identity, Peer};
pub use origin::{foreign_page, is_local, WriteAccess, BEARER};
pub(super) use policy::Policy;

use self::authorization::Credentials;
use self::failures::Failures;
use self::passwords::{Passwords, Verdict};
use super::address::peer_key;
use super::head::{Head, RequestError};
use super::request::Login;
use crate::sys::constant_time::same_bytes;
use crate::sys::file_stamp::FileStamp;
use crate::sys::lock;

/// How often the files are checked for changes at most.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The `WWW-Authenticate` header of a 401 (RFC 7617, 2).
const CHALLENGE: &str = "Basic realm=\"edge-metrics-exporter\", charset=\"UTF-8\"";

/// A digest in the place of a password or a token.
type Fingerprint = [u8; 32];

/// Decides which requests are let in. All listeners share one, and so its cache of logins.
#[derive(Debug)]
pub struct AccessControl {
    web: Option<PathBuf>,
    policy: RwLock<Arc<Policy>>,
    files: Mutex<WatchedFiles>,
    passwords: Passwords,
    failures: Failures,
}

/// The files that the command line names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessFiles {
    /// `--web.config.file`.
    pub web_config: Option<PathBuf>,
    /// `--management.token-file`.
    pub tokens: Option<PathBuf>,
}

/// The files that the policy was read from, as they were then.
#[derive(Debug)]
struct WatchedFiles {
    tokens: Option<PathBuf>,
    stamps: Vec<(PathBuf, FileStamp)>,
    checked_at: Instant,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: RequestError,
    pub(super) challenge: Option<&'static str>,
    pub(super) retry_after: Option<u64>,
}

const LOGIN_REQUIRED: Refusal = Refusal {
    why: RequestError {
        status: 401,
        reason: "a user name and a password, or a token, is needed here",
    },
    challenge: Some(CHALLENGE),
    retry_after: None,
};

impl AccessControl {
    /// Lets everybody in, by plain HTTP.
    pub fn open() -> Arc<AccessControl> {
        Arc::new(AccessControl::with(None, Policy::open()))
    }

    /// Applies the rules of these files. The error is for people.
    pub fn new(files: &AccessFiles) -> Result<Arc<AccessControl>, String> {
        let web = files.web_config.as_deref();
        let loaded = Policy::load(web, files.tokens.as_deref());
        loaded.warnings.iter().for_each(|w| log::warn!("{w}"));
        let access = AccessControl {
            files: Mutex::new(WatchedFiles {
                tokens: files.tokens.clone(),
                stamps: loaded.stamps,
                checked_at: Instant::now(),
            }),
            ..AccessControl::with(web, loaded.policy?)
        };
        Ok(Arc::new(access))
    }

    fn with(web: Option<&Path>, policy: Policy) -> AccessControl {
        AccessControl {
            web: web.map(Path::to_owned),
            policy: RwLock::new(Arc::new(policy)),
            files: Mutex::new(WatchedFiles {
                tokens: None,
                stamps: Vec::new(),
                checked_at: Instant::now(),
            }),
            passwords: Passwords::default(),
            failures: Failures::default(),
        }
    }

    /// Replaces the file of tokens. The error is for people, and then nothing has changed.
    pub fn set_tokens(&self, tokens: Option<&Path>) -> Result<(), String> {
        let mut files = lock::lock(&self.files);
        if files.tokens.as_deref() == tokens {
            return Ok(());
        }
        let loaded = Policy::load(self.web.as_deref(), tokens);
        let policy = self.refuse_weaker(loaded.policy?)?;
        files.tokens = tokens.map(Path::to_owned);
        files.stamps = loaded.stamps;
        *lock::write(&self.policy) = Arc::new(policy);
        Ok(())
    }

    /// Checks that both files can be used, and returns warnings about them. The error is for people.
    pub fn check(files: &AccessFiles) -> Result<Vec<String>, String> {
        let loaded = Policy::load(files.web_config.as_deref(), files.tokens.as_deref());
        loaded.policy.map(|_| loaded.warnings)
    }

    /// Whether connections have to use TLS.
    pub fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.policy().tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// The URL by which a browser on this machine reaches a listener at `address`.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.is_tls() { "https" } else { "http" };
        if address.ip().to_canonical().is_unspecified() {
            format!("{scheme}://localhost:{}/", address.port())
        } else {
            format!("{scheme}://{address}/")
        }
    }

    /// The policy that is in force now.
    pub(super) fn policy(&self) -> Arc<Policy> {
        // While another thread reads the files, the policy of until now applies.
        match self.files.try_lock() {
            Ok(mut files) => self.reload_if_changed(&mut files),
            Err(TryLockError::Poisoned(files)) => self.reload_if_changed(&mut files.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        Arc::clone(&lock::read(&self.policy))
    }

    /// Reads the files again if they have changed.
    fn reload_if_changed(&self, files: &mut WatchedFiles) {
        if files.stamps.is_empty() || files.checked_at.elapsed() < CHECK_INTERVAL {
            return;
        }
        files.checked_at = Instant::now();
        let changed = files
            .stamps
            .iter()
            .find(|(path, stamp)| FileStamp::of(path) != *stamp);
        let Some((changed, _)) = changed else {
            return;
        };
        let changed = changed.display().to_string();
        let loaded = Policy::load(self.web.as_deref(), files.tokens.as_deref());
        let policy = loaded.policy.and_then(|policy| self.refuse_weaker(policy));
        // After an error, files that were not read are still watched, so that a change of them is noticed.
        let unread = files.stamps.drain(..).filter(|(path, _)| {
            policy.is_err() && loaded.stamps.iter().all(|(read, _)| read != path)
        });
        let unread: Vec<_> = unread
            .map(|(path, _)| (FileStamp::of(&path), path))
            .collect();
        files.stamps = loaded.stamps;
        files
            .stamps
            .extend(unread.into_iter().map(|(stamp, path)| (path, stamp)));
        match policy {
            Ok(policy) => {
                loaded.warnings.iter().for_each(|w| log::warn!("{w}"));
                log::info!("{changed} has changed and is in force now");
                *lock::write(&self.policy) = Arc::new(policy);
            }
            Err(why) => {
                log::error!("{changed} has changed, but cannot be used; access rules remain unchanged: {why}");
            }
        }
    }

    /// Refuses a policy that would let in what the one in force keeps out.
    fn refuse_weaker(&self, policy: Policy) -> Result<Policy, String> {
        match policy.weakens(&lock::read(&self.policy)) {
            None => Ok(policy),
            Some(what) => Err(format!("{what}: restart to have it so")),
        }
    }

    /// Decides on a request of a client that has (`certified`) or has not shown a verified certificate. This takes as long
    /// as verifying a password may take, waiting included.
    pub(super) fn admit(
        &self,
        policy: &Policy,
        head: &Head,
        peer: SocketAddr,
        certified: bool,
    ) -> Result<Login, Refusal> {
        let mut values = head
            .headers
            .iter()
            .filter(|h| h.field.equiv("Authorization"))
            .map(|h| h.value.as_str());
        // With two headers it is unclear which one counts.
        let credentials = match (values.next(), values.next()) {
            (Some(value), None) => Credentials::parse(value),
            _ => None,
        };
        if let Some(Credentials::Bearer(token)) = &credentials {
            if policy.tokens.has(token) {
                return Ok(Login::Authenticated);
            }
        }
        if policy.users.is_empty() {
            return Ok(match (certified, policy.tokens.is_empty()) {
                (true, _) => Login::Certified,
                (false, true) if !policy.verifies_clients() => Login::NotConfigured,
                (false, _) => Login::Missing,
            });
        }
        let peer = peer_key(peer);
        let verdict = match credentials {
            None => return Err(LOGIN_REQUIRED),
            Some(Credentials::Bearer(_)) => match self.failures.count(peer, Instant::now()) {
                Ok(()) => Verdict::Wrong,
                Err(wait) => Verdict::RateLimited(wait),
            },
            Some(Credentials::Basic { user, password }) => {
                let login = (user.as_slice(), password.as_slice());
                self.passwords
                    .verify(&policy.users, &self.failures, peer, login)
            }
        };
        match verdict {
            Verdict::Correct => Ok(Login::Authenticated),
            Verdict::Wrong => Err(LOGIN_REQUIRED),
            Verdict::RateLimited(wait) => Err(Refusal {
                why: RequestError {
                    status: 429,
                    reason: "too many wrong passwords came from there: try again later",
                },
                challenge: None,
                retry_after: Some(wait.as_secs() + 1),
            }),
            Verdict::Busy => Err(Refusal {
                why: RequestError {
                    status: 429,
                    reason: "other passwords are being checked: try again",
                },
                challenge: None,
                retry_after: Some(1),
            }),
        }
    }
}

/// Whether `one` is among `all`, in a time that does not depend on the result.
fn contains<'f>(all: impl Iterator<Item = &'f Fingerprint>, one: &Fingerprint) -> bool {
    all.fold(false, |found, other| found | same_bytes(other, one))
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
