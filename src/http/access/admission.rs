//! Whether a connection that was let in may stay: a connection that is kept alive, and one that has left HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::authorization::Credentials;
use super::policy::Policy;
use super::{AccessControl, Fingerprint};

/// How often the client's certificate is verified again, since it can expire while the connection is kept.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The client of a connection.
pub(in crate::http) struct Peer {
    pub(in crate::http) address: SocketAddr,
    /// The policy that the connection was accepted by.
    pub(in crate::http) policy: Arc<Policy>,
    /// The client's certificates; `None`: the connection is not TLS.
    #[cfg(feature = "tls")]
    certificates: Option<Vec<CertificateDer<'static>>>,
    /// Whether the client has shown a verified certificate.
    certified: bool,
    verified_at: Instant,
}

impl Peer {
    /// A client that was accepted just now, without TLS.
    pub(in crate::http) fn plain(address: SocketAddr, policy: Arc<Policy>) -> Peer {
        Peer {
            address,
            policy,
            #[cfg(feature = "tls")]
            certificates: None,
            certified: false,
            verified_at: Instant::now(),
        }
    }

    /// A client that was accepted just now, with the certificates that it has shown, its own first.
    #[cfg(feature = "tls")]
    pub(in crate::http) fn by_tls(
        address: SocketAddr,
        policy: Arc<Policy>,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Peer {
        Peer {
            certified: policy.verifies_clients() && !certificates.is_empty(),
            certificates: Some(certificates),
            ..Peer::plain(address, policy)
        }
    }

    /// Whether the client has shown a verified certificate.
    pub(in crate::http) fn is_certified(&self) -> bool {
        self.certified
    }

    /// Whether the connection would also be accepted by `policy`, the one that is in force now.
    pub(in crate::http) fn is_accepted_by(&mut self, policy: &Policy) -> bool {
        if policy.connects_as(&self.policy) && self.verified_at.elapsed() < RECHECK_INTERVAL {
            return true;
        }
        self.verified_at = Instant::now();
        #[cfg(feature = "tls")]
        if let Some(tls) = &policy.tls {
            let shown = self.certificates.as_ref();
            let accepted = shown.filter(|shown| tls.accepts(shown));
            self.certified = policy.verifies_clients() && accepted.is_some_and(|s| !s.is_empty());
            return accepted.is_some();
        }
        self.certified = false;
        true
    }
}

/// The login that a request was let in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Identity {
    Anonymous,
    Token(Fingerprint),
    User(String),
}

impl Identity {
    /// The identity in the `Authorization` header of a request that was let in.
    pub(in crate::http) fn of(authorization: Option<&str>) -> Identity {
        match authorization.and_then(Credentials::parse) {
            Some(Credentials::Bearer(token)) => Identity::Token(Sha256::digest(token).into()),
            Some(Credentials::Basic { user, .. }) => {
                Identity::User(String::from_utf8_lossy(&user).into_owned())
            }
            None => Identity::Anonymous,
        }
    }
}

/// The permission of a connection that has left HTTP. It ends when a change of the policy would no longer let its client in.
pub struct Admission(Option<Admitted>);

struct Admitted {
    access: Arc<AccessControl>,
    peer: Peer,
    identity: Identity,
}

impl Admission {
    pub(in crate::http) fn new(
        access: Arc<AccessControl>,
        peer: Peer,
        identity: Identity,
    ) -> Admission {
        Admission(Some(Admitted {
            access,
            peer,
            identity,
        }))
    }

    /// A permission that never ends.
    #[cfg(test)]
    pub(crate) fn open() -> Admission {
        Admission(None)
    }

    /// Whether the client would still be let in.
    pub fn is_valid(&mut self) -> bool {
        let Some(admitted) = &mut self.0 else {
            return true;
        };
        let policy = admitted.access.policy();
        let Admitted { peer, identity, .. } = admitted;
        let is_valid = peer.is_accepted_by(&policy)
            && (Arc::ptr_eq(&policy, &peer.policy) || policy.still_admits(identity, &peer.policy));
        if is_valid {
            peer.policy = policy;
        }
        is_valid
    }
}
