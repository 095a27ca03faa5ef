//! Certificates that are trusted as they are: whoever shows one that is itself among the authorities' needs nobody who signed
//! it. So Go and OpenSSL have it; webpki refuses a CA's own certificate, which is what `openssl req -x509` makes, and one
//! whose issuer is not among the authorities.

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use sha2::{Digest, Sha256};

use super::names::may_be_used_for;

/// `id-kp-serverAuth` and `id-kp-clientAuth`, 1.3.6.1.5.5.7.3.1 and .2 (RFC 5280, 4.2.1.12).
pub(in crate::http) const SERVER: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
pub(in crate::http) const CLIENT: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// The certificates of the authorities, by their fingerprints: of a whole system's they are much smaller.
#[derive(Debug, Default)]
pub(in crate::http) struct Pinned(Vec<[u8; 32]>);

impl Pinned {
    pub(in crate::http) fn new(certificates: &[CertificateDer<'_>]) -> Pinned {
        Pinned(certificates.iter().map(fingerprint).collect())
    }

    /// What `verified` says of this certificate, unless that is only that nobody signed it, or that it is a CA's, and it is
    /// one of these. Whether it is valid at this time has been verified by then.
    pub(in crate::http) fn or_pinned<T>(
        &self,
        verified: Result<T, Error>,
        certificate: &CertificateDer<'_>,
        purpose: &[u8],
        accept: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        match verified {
            Err(error) if is_about_the_issuer(&error) => {
                let known = self.0.contains(&fingerprint(certificate));
                match known && may_be_used_for(certificate, purpose) {
                    true => accept(),
                    false => Err(error),
                }
            }
            verified => verified,
        }
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

fn is_about_the_issuer(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer)
    ) || is_of_a_ca(error)
}

/// Whether a certificate was refused since it is a CA's. webpki has that word for it, and rustls none.
pub(in crate::http) fn is_of_a_ca(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(why)) => {
            format!("{why:?}").contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}
