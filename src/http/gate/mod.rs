//! The gate of a listener: who may come in, by TLS or not, with which password, token or certificate.
//!
//! What it goes by stands in two files: the web configuration of `--web.config.file`
//! ([`crate::config::Web`]) and a file of tokens. Both are read again when they have changed, which is looked at when
//! somebody comes. A file that cannot be used changes nothing: what was good last stays in force, and the log says so.
//!
//! A right password is looked at once and remembered; wrong ones are looked at by one at a time, and from one peer not
//! often. So whoever guesses takes no time from those who know.

mod admission;
pub mod authorization;
mod failures;
mod passwords;
mod policy;
mod tokens;
mod turns;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, TryLockError};
use std::time::{Duration, Instant};

pub use admission::Admission;
pub(super) use admission::{Caller, Shown};
pub(super) use policy::Policy;

use self::authorization::Credentials;
use self::failures::Failures;
use self::passwords::{Passwords, Verdict};
use super::address::peer_key;
use super::head::{Head, HeadError};
use super::request::Login;
use crate::sys::constant_time::same_bytes;
use crate::sys::file_stamp::FileStamp;
use crate::sys::lock;

/// The files are looked at no more often than this.
const PAUSE: Duration = Duration::from_millis(100);
/// How to log in (RFC 7617, 2).
const CHALLENGE: &str = "Basic realm=\"edge-metrics-exporter\", charset=\"UTF-8\"";

/// What stands for a password or a token.
type Fingerprint = [u8; 32];

/// Decides who may come in. Listeners share one, and with it what it remembers.
#[derive(Debug)]
pub struct Gate {
    web: Option<PathBuf>,
    policy: RwLock<Arc<Policy>>,
    watch: Mutex<Watch>,
    passwords: Passwords,
    failures: Failures,
}

/// The files that the command line names.
#[derive(Debug, Clone, Default)]
pub struct AccessFiles {
    /// `--web.config.file`.
    pub web_config: Option<PathBuf>,
    /// `--management.token-file`.
    pub tokens: Option<PathBuf>,
}

/// The files, and how they were when they were read.
#[derive(Debug)]
struct Watch {
    tokens: Option<PathBuf>,
    marks: Vec<(PathBuf, FileStamp)>,
    looked_at: Instant,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: HeadError,
    pub(super) challenge: Option<&'static str>,
    pub(super) retry_after: Option<u64>,
}

const UNKNOWN: Refusal = Refusal {
    why: HeadError {
        status: 401,
        reason: "a user name and a password, or a token, is needed here",
    },
    challenge: Some(CHALLENGE),
    retry_after: None,
};

impl Gate {
    /// One that is open to everybody.
    pub fn open() -> Arc<Gate> {
        Arc::new(Gate::with(None, Policy::open()))
    }

    /// One that goes by these files. The error is for people.
    pub fn new(files: &AccessFiles) -> Result<Arc<Gate>, String> {
        let web = files.web_config.as_deref();
        let loaded = Policy::load(web, files.tokens.as_deref());
        loaded.warnings.iter().for_each(|w| log::warn!("{w}"));
        let gate = Gate {
            watch: Mutex::new(Watch {
                tokens: files.tokens.clone(),
                marks: loaded.marks,
                looked_at: Instant::now(),
            }),
            ..Gate::with(web, loaded.policy?)
        };
        Ok(Arc::new(gate))
    }

    fn with(web: Option<&Path>, policy: Policy) -> Gate {
        Gate {
            web: web.map(Path::to_owned),
            policy: RwLock::new(Arc::new(policy)),
            watch: Mutex::new(Watch {
                tokens: None,
                marks: Vec::new(),
                looked_at: Instant::now(),
            }),
            passwords: Passwords::default(),
            failures: Failures::default(),
        }
    }

    /// Goes by this file of tokens too, or by none. The error is for people; then all is as it was.
    pub fn set_tokens(&self, tokens: Option<&Path>) -> Result<(), String> {
        let mut watch = lock::lock(&self.watch);
        if watch.tokens.as_deref() == tokens {
            return Ok(());
        }
        let loaded = Policy::load(self.web.as_deref(), tokens);
        let policy = self.not_opening(loaded.policy?)?;
        watch.tokens = tokens.map(Path::to_owned);
        watch.marks = loaded.marks;
        *lock::write(&self.policy) = Arc::new(policy);
        Ok(())
    }

    /// Whether both files can be used, with what there is to warn of. The error is for people.
    pub fn check(files: &AccessFiles) -> Result<Vec<String>, String> {
        let loaded = Policy::load(files.web_config.as_deref(), files.tokens.as_deref());
        loaded.policy.map(|_| loaded.warnings)
    }

    /// Whether connections begin with TLS.
    pub fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.policy().tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// What to type into a browser on this machine to reach a listener behind this gate.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.is_tls() { "https" } else { "http" };
        if address.ip().to_canonical().is_unspecified() {
            format!("{scheme}://localhost:{}/", address.port())
        } else {
            format!("{scheme}://{address}/")
        }
    }

    /// What is in force now.
    pub(super) fn policy(&self) -> Arc<Policy> {
        // Whoever finds it locked goes by what was in force until now.
        match self.watch.try_lock() {
            Ok(mut watch) => self.look(&mut watch),
            Err(TryLockError::Poisoned(watch)) => self.look(&mut watch.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        Arc::clone(&lock::read(&self.policy))
    }

    /// Reads the files again if they have changed.
    fn look(&self, watch: &mut Watch) {
        if watch.marks.is_empty() || watch.looked_at.elapsed() < PAUSE {
            return;
        }
        watch.looked_at = Instant::now();
        let changed = watch
            .marks
            .iter()
            .find(|(path, mark)| FileStamp::of(path) != *mark);
        let Some((changed, _)) = changed else {
            return;
        };
        let changed = changed.display().to_string();
        let loaded = Policy::load(self.web.as_deref(), watch.tokens.as_deref());
        let policy = loaded.policy.and_then(|policy| self.not_opening(policy));
        // Those that were not come to are still to be seen, when they change back.
        let unread = watch.marks.drain(..).filter(|(path, _)| {
            policy.is_err() && loaded.marks.iter().all(|(read, _)| read != path)
        });
        let unread: Vec<_> = unread
            .map(|(path, _)| (FileStamp::of(&path), path))
            .collect();
        watch.marks = loaded.marks;
        watch
            .marks
            .extend(unread.into_iter().map(|(mark, path)| (path, mark)));
        match policy {
            Ok(policy) => {
                loaded.warnings.iter().for_each(|w| log::warn!("{w}"));
                log::info!("{changed} has changed: in force from now on");
                *lock::write(&self.policy) = Arc::new(policy);
            }
            Err(why) => {
                log::error!("{changed} has changed, and access stays as it was: {why}");
            }
        }
    }

    /// The same policy, unless it opens what the one in force keeps closed.
    fn not_opening(&self, policy: Policy) -> Result<Policy, String> {
        match policy.opens(&lock::read(&self.policy)) {
            None => Ok(policy),
            Some(what) => Err(format!("{what}: restart to have it so")),
        }
    }

    /// Whether a request may come in, of a client that has shown a verified certificate or not. This may take as long as
    /// it takes to look at a password.
    pub(super) fn admit(
        &self,
        policy: &Policy,
        head: &Head,
        peer: SocketAddr,
        certified: bool,
    ) -> Result<Login, Refusal> {
        let mut shown = head
            .headers
            .iter()
            .filter(|h| h.field.equiv("Authorization"))
            .map(|h| h.value.as_str());
        // Of two, nobody knows which is meant.
        let credentials = match (shown.next(), shown.next()) {
            (Some(value), None) => Credentials::parse(value),
            _ => None,
        };
        if let Some(Credentials::Bearer(token)) = &credentials {
            if policy.tokens.has(token) {
                return Ok(Login::Known);
            }
        }
        if policy.users.is_empty() {
            return Ok(match (certified, policy.tokens.is_empty()) {
                (true, _) => Login::Known,
                (false, true) if !policy.verifies_clients() => Login::Nobody,
                (false, _) => Login::Missing,
            });
        }
        let peer = peer_key(peer);
        let verdict = match credentials {
            None => return Err(UNKNOWN),
            Some(Credentials::Bearer(_)) => match self.failures.begin(peer, Instant::now()) {
                Ok(()) => Verdict::Wrong,
                Err(wait) => Verdict::TooOften(wait),
            },
            Some(Credentials::Basic { user, password }) => {
                let login = (user.as_slice(), password.as_slice());
                self.passwords
                    .look(&policy.users, &self.failures, peer, login)
            }
        };
        match verdict {
            Verdict::Right => Ok(Login::Known),
            Verdict::Wrong => Err(UNKNOWN),
            Verdict::TooOften(wait) => Err(Refusal {
                why: HeadError {
                    status: 429,
                    reason: "too many wrong passwords came from there: try again later",
                },
                challenge: None,
                retry_after: Some(wait.as_secs() + 1),
            }),
            Verdict::Busy => Err(Refusal {
                why: HeadError {
                    status: 429,
                    reason: "other passwords are being looked at: try again",
                },
                challenge: None,
                retry_after: Some(1),
            }),
        }
    }
}

/// Whether one of them is this one. It takes as long whichever it is, and whether or not it is there.
fn has<'f>(all: impl Iterator<Item = &'f Fingerprint>, one: &Fingerprint) -> bool {
    all.fold(false, |found, other| found | same_bytes(other, one))
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
