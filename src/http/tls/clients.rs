//! Whose certificates are taken.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::names::alternative_names;
use super::pem;
use super::pinned::{Pinned, CLIENT};
use super::signatures::Signatures;
use crate::config::{ClientAuth, ServerTls};

/// What looks at clients' certificates; `None`: nobody is asked for one. The error is for people.
pub(super) fn verifier(
    tls: &ServerTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let anybody = |mandatory| {
        Arc::new(Anybody {
            mandatory,
            signatures: Signatures(Arc::clone(provider)),
        })
    };
    match tls.client_auth {
        ClientAuth::No => return Ok(None),
        ClientAuth::Request => return Ok(Some(anybody(false))),
        ClientAuth::RequireAny => return Ok(Some(anybody(true))),
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {}
    }
    let mut roots = RootCertStore::empty();
    let mut pinned = Pinned::default();
    if let Some(ca) = &tls.client_ca {
        let (text, place) = super::server::text(ca, "client_ca")?;
        let certificates = pem::certificates(&text, &place)?;
        pinned = Pinned::new(&certificates);
        for certificate in certificates {
            roots.add(certificate).map_err(|error| {
                format!("{place} holds a certificate that cannot be used: {error}")
            })?;
        }
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match tls.client_auth {
        ClientAuth::VerifyIfGiven => builder.allow_unauthenticated(),
        _ => builder,
    };
    let inner = builder.build().map_err(|error| error.to_string())?;
    Ok(Some(Arc::new(Verified {
        inner,
        pinned,
        names: tls.client_allowed_sans.clone(),
    })))
}

/// Those whose certificate is signed by an authority, or pinned, and has one of these names, if there are any.
#[derive(Debug)]
struct Verified {
    inner: Arc<dyn ClientCertVerifier>,
    pinned: Pinned,
    names: Vec<String>,
}

impl ClientCertVerifier for Verified {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(certificate, intermediates, now);
        let pinned = || Ok(ClientCertVerified::assertion());
        let verified = self
            .pinned
            .or_pinned(verified, certificate, &CLIENT, pinned)?;
        if self.names.is_empty() {
            return Ok(verified);
        }
        let names = alternative_names(certificate);
        match names.iter().any(|name| self.names.contains(name)) {
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
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Whoever has the key of the certificate that is shown, whatever that is.
#[derive(Debug)]
struct Anybody {
    mandatory: bool,
    signatures: Signatures,
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}
