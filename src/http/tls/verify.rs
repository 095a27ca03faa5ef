//! Verifies the certificate of the other side of a connection: webpki's verification of its chain and dates, widened by
//! [`Pinned`] certificates and narrowed by allowed names, or no verification at all. Either way the other side has to prove
//! that it has the certificate's key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_name, WebPkiServerVerifier};
use rustls::crypto::{
    verify_tls12_signature, verify_tls13_signature, CryptoProvider, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::names::alternative_names;
use super::pinned::{Pinned, CLIENT, SERVER};

/// The authorities that may have signed a certificate.
pub(in crate::http) struct Authorities {
    pub(in crate::http) roots: RootCertStore,
    /// The same certificates: a peer may also show one of them itself.
    pub(in crate::http) pinned: Pinned,
}

/// Verifies the certificates of servers.
#[derive(Debug)]
pub(in crate::http) struct ServerVerifier {
    /// `None`: any certificate is accepted (`insecure_skip_verify`).
    chain: Option<Arc<WebPkiServerVerifier>>,
    pinned: Pinned,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    /// `None`: any certificate is accepted. The error is for people.
    pub(in crate::http) fn new(
        authorities: Option<Authorities>,
        provider: Arc<CryptoProvider>,
    ) -> Result<ServerVerifier, String> {
        let algorithms = provider.signature_verification_algorithms;
        let Some(Authorities { roots, pinned }) = authorities else {
            return Ok(ServerVerifier {
                chain: None,
                pinned: Pinned::default(),
                algorithms,
            });
        };
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(ServerVerifier {
            chain: Some(chain.map_err(|error| error.to_string())?),
            pinned,
            algorithms,
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = chain.verify_server_cert(certificate, intermediates, name, ocsp, now);
        self.pinned.or_pinned(verified, certificate, &SERVER, || {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            Ok(ServerCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies the certificates of clients.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// Whether a client without a certificate is refused.
    mandatory: bool,
    /// `None`: any certificate is accepted.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    pinned: Pinned,
    /// The subject alternative names of which a certificate needs one. Empty: it needs none.
    allowed_names: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    /// Accepts any certificate.
    pub(super) fn any(mandatory: bool, provider: &CryptoProvider) -> ClientVerifier {
        ClientVerifier {
            mandatory,
            chain: None,
            pinned: Pinned::default(),
            allowed_names: Vec::new(),
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Accepts the certificates of these authorities that have one of these names, if there are any names. The error is for
    /// people.
    pub(super) fn signed_by(
        Authorities { roots, pinned }: Authorities,
        allowed_names: Vec<String>,
        mandatory: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ClientVerifier, String> {
        let roots = Arc::new(roots);
        let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
        Ok(ClientVerifier {
            chain: Some(chain.build().map_err(|error| error.to_string())?),
            pinned,
            allowed_names,
            ..ClientVerifier::any(mandatory, provider)
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain
            .as_ref()
            .map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ClientCertVerified::assertion());
        };
        let verified = chain.verify_client_cert(certificate, intermediates, now);
        let pinned = || Ok(ClientCertVerified::assertion());
        let verified = self
            .pinned
            .or_pinned(verified, certificate, &CLIENT, pinned)?;
        let names = || alternative_names(certificate);
        match self.allowed_names.is_empty()
            || names().iter().any(|name| self.allowed_names.contains(name))
        {
            true => Ok(verified),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
