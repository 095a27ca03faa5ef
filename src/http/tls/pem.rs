//! Certificates and keys in PEM (RFC 7468). Errors are for people, and name the place.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::sys::file;
use crate::sys::reason;

/// Debian's file of all certificates that it trusts has 220 KiB.
const MAX_FILE: u64 = 4 << 20;

/// The content of a file.
pub(in crate::http) fn read(path: &Path) -> Result<Vec<u8>, String> {
    file::read(path, MAX_FILE)
        .map_err(|error| format!("cannot read {}: {}", path.display(), reason(&error)))
}

/// All certificates of a text, of which there is at least one.
pub(in crate::http) fn certificates(
    text: &[u8],
    place: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|_| format!("{place} is no PEM file"))?;
    match all.is_empty() {
        true => Err(format!("{place} holds no certificate in PEM")),
        false => Ok(all),
    }
}

/// The private key of a text.
pub(in crate::http) fn private_key(
    text: &[u8],
    place: &str,
) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| format!("{place} holds no private key in PEM"))
}
