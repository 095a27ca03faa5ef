//! Certificates that are trusted as they are: a peer that shows one of the authorities' certificates needs no other
//! signature. Go and OpenSSL do the same. webpki refuses a CA's own certificate, which is what `openssl req -x509` makes, and
//! a certificate whose issuer is not among the authorities.

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use sha2::{Digest, Sha256};

use super::names::may_be_used_for;

/// `id-kp-serverAuth` and `id-kp-clientAuth`, 1.3.6.1.5.5.7.3.1 and .2 (RFC 5280, 4.2.1.12).
pub(super) const SERVER: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
pub(super) const CLIENT: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// The SHA-256 fingerprints of the authorities' certificates, which take much less memory than the certificates.
#[derive(Debug, Default)]
pub(in crate::http) struct Pinned(Vec<[u8; 32]>);

impl Pinned {
    pub(in crate::http) fn new(certificates: &[CertificateDer<'_>]) -> Pinned {
        Pinned(certificates.iter().map(fingerprint).collect())
    }

    /// Accepts a pinned certificate that webpki has refused for its issuer alone: nobody trusted signed it, or it is a CA's.
    /// webpki has checked by then that the certificate is valid at this time. Any other verdict of webpki stays.
    pub(super) fn or_pinned<T>(
        &self,
        verified: Result<T, Error>,
        certificate: &CertificateDer<'_>,
        purpose: &[u8],
        accept: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        match verified {
            Err(error) if is_about_issuer(&error) => {
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

fn is_about_issuer(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer)
    ) || is_ca_certificate(error)
}

/// Whether a certificate was refused because it is a CA's. webpki has an error for that, which rustls passes on as `Other`.
pub(in crate::http) fn is_ca_certificate(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(why)) => {
            format!("{why:?}").contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}
