//! Who was let in, and whether that still holds: of a connection that is kept, and of one that has left HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::authorization::Credentials;
use super::policy::Policy;
use super::{Fingerprint, Gate};

/// A certificate expires while a connection is kept: it is looked at so often.
const RECHECK: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection.
pub(in crate::http) struct Caller {
    pub(in crate::http) peer: SocketAddr,
    /// What was in force when the connection was accepted.
    pub(in crate::http) policy: Arc<Policy>,
    /// The certificates that were shown; `None`: it is no TLS.
    #[cfg(feature = "tls")]
    shown: Option<Vec<CertificateDer<'static>>>,
    /// Whether one that says who it is was shown.
    certified: bool,
    looked_at: Instant,
}

impl Caller {
    /// One that was accepted just now, without TLS.
    pub(in crate::http) fn plain(peer: SocketAddr, policy: Arc<Policy>) -> Caller {
        Caller {
            peer,
            policy,
            #[cfg(feature = "tls")]
            shown: None,
            certified: false,
            looked_at: Instant::now(),
        }
    }

    /// One that was accepted just now, with the certificates that it showed.
    #[cfg(feature = "tls")]
    pub(in crate::http) fn by_tls(
        peer: SocketAddr,
        policy: Arc<Policy>,
        shown: Vec<CertificateDer<'static>>,
    ) -> Caller {
        Caller {
            certified: policy.verifies_clients() && !shown.is_empty(),
            shown: Some(shown),
            ..Caller::plain(peer, policy)
        }
    }

    /// Whether a verified certificate was shown.
    pub(in crate::http) fn is_certified(&self) -> bool {
        self.certified
    }

    /// Whether it would be accepted by what is in force now.
    pub(in crate::http) fn is_accepted_by(&mut self, policy: &Policy) -> bool {
        if policy.connects_as(&self.policy) && self.looked_at.elapsed() < RECHECK {
            return true;
        }
        self.looked_at = Instant::now();
        #[cfg(feature = "tls")]
        if let Some(tls) = &policy.tls {
            let taken = self.shown.as_ref().filter(|shown| tls.accepts(shown));
            self.certified = policy.verifies_clients() && taken.is_some_and(|s| !s.is_empty());
            return taken.is_some();
        }
        self.certified = false;
        true
    }
}

/// What a request showed of who sent it, for later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Shown {
    Nothing,
    Token(Fingerprint),
    User(String),
}

impl Shown {
    /// What this header shows of somebody who was let in.
    pub(in crate::http) fn by(authorization: Option<&str>) -> Shown {
        match authorization.and_then(Credentials::parse) {
            Some(Credentials::Bearer(token)) => Shown::Token(Sha256::digest(token).into()),
            Some(Credentials::Basic { user, .. }) => {
                Shown::User(String::from_utf8_lossy(&user).into_owned())
            }
            None => Shown::Nothing,
        }
    }
}

/// The admission of a connection that has left HTTP: it holds until what it was given for is in force no longer.
pub struct Admission(Option<Admitted>);

struct Admitted {
    gate: Arc<Gate>,
    caller: Caller,
    shown: Shown,
}

impl Admission {
    pub(in crate::http) fn new(gate: Arc<Gate>, caller: Caller, shown: Shown) -> Admission {
        Admission(Some(Admitted {
            gate,
            caller,
            shown,
        }))
    }

    /// One that always holds.
    #[cfg(test)]
    pub(crate) fn open() -> Admission {
        Admission(None)
    }

    /// Whether it does.
    pub fn holds(&mut self) -> bool {
        let Some(admitted) = &mut self.0 else {
            return true;
        };
        let policy = admitted.gate.policy();
        let Admitted { caller, shown, .. } = admitted;
        let holds = caller.is_accepted_by(&policy)
            && (Arc::ptr_eq(&policy, &caller.policy) || policy.still_knows(shown, &caller.policy));
        if holds {
            caller.policy = policy;
        }
        holds
    }
}
