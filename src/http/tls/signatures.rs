//! Whether the other side has the key of the certificate that it shows, whoever it is.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::CertificateDer;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// Verifies signatures: that part of rustls' verifiers of servers and of clients, which is the same in both.
#[derive(Debug)]
pub(in crate::http) struct Signatures(pub(in crate::http) Arc<CryptoProvider>);

impl Signatures {
    /// `verify_tls12_signature`.
    pub(in crate::http) fn verify_tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    /// `verify_tls13_signature`.
    pub(in crate::http) fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    /// `supported_verify_schemes`.
    pub(in crate::http) fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
