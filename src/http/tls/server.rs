//! Makes rustls' server configuration out of the web configuration's `tls_server_config`.

use std::sync::Arc;

use rustls::crypto::{self, CryptoProvider, SupportedKxGroup};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{
    NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::pinned::Pinned;
use super::verify::{Authorities, ClientVerifier};
use super::{pem, BoardClock};
use crate::config::{ClientAuth, Pem, ServerTls};

/// The configuration that connections are accepted with.
#[derive(Debug)]
pub(in crate::http) struct TlsAcceptor {
    pub(in crate::http) config: Arc<ServerConfig>,
    /// `None`: clients are not asked for a certificate.
    client_verifier: Option<Arc<ClientVerifier>>,
}

impl TlsAcceptor {
    /// Whether a client that has shown these certificates, its own first, would be accepted now.
    pub(in crate::http) fn accepts(&self, shown: &[CertificateDer<'_>]) -> bool {
        match (&self.client_verifier, shown) {
            (None, _) => true,
            (Some(verifier), []) => !verifier.client_auth_mandatory(),
            (Some(verifier), [own, intermediates @ ..]) => BoardClock
                .current_time()
                .is_some_and(|now| verifier.verify_client_cert(own, intermediates, now).is_ok()),
        }
    }
}

/// Reads all files that the settings name. The error is for people.
pub(in crate::http) fn configure(tls: &ServerTls) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(provider(tls));
    let client_verifier = client_verifier(tls, &provider)?.map(Arc::new);
    let versions: [(bool, &'static SupportedProtocolVersion); 2] = [
        (tls.versions.tls13, &rustls::version::TLS13),
        (tls.versions.tls12, &rustls::version::TLS12),
    ];
    let versions: Vec<_> = versions
        .into_iter()
        .filter_map(|(enabled, version)| enabled.then_some(version))
        .collect();
    let builder = ServerConfig::builder_with_details(provider, Arc::new(BoardClock))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?;
    let builder = match client_verifier.clone() {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (cert, cert_place) = text(&tls.cert, "cert")?;
    let (key, key_place) = text(&tls.key, "key")?;
    let chain = pem::certificates(&cert, &cert_place)?;
    let key = pem::private_key(&key, &key_place)?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        format!("{cert_place} and {key_place} are no certificate and its key: {error}")
    })?;
    config.ignore_client_order = tls.prefer_server_cipher_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Scrapers keep their connections, so resuming a session saves little. Without sessions no memory is needed for them,
    // and a client that is refused now cannot come back by resuming an earlier session.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor {
        config: Arc::new(config),
        client_verifier,
    })
}

/// `None`: clients are not asked for a certificate. The error is for people.
fn client_verifier(
    tls: &ServerTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<ClientVerifier>, String> {
    let mandatory = match tls.client_auth {
        ClientAuth::No => return Ok(None),
        ClientAuth::Request => return Ok(Some(ClientVerifier::any(false, provider))),
        ClientAuth::RequireAny => return Ok(Some(ClientVerifier::any(true, provider))),
        ClientAuth::VerifyIfGiven => false,
        ClientAuth::RequireAndVerify => true,
    };
    let mut authorities = Authorities {
        roots: RootCertStore::empty(),
        pinned: Pinned::default(),
    };
    if let Some(ca) = &tls.client_ca {
        let (text, place) = text(ca, "client_ca")?;
        let certificates = pem::certificates(&text, &place)?;
        authorities.pinned = Pinned::new(&certificates);
        for certificate in certificates {
            authorities.roots.add(certificate).map_err(|error| {
                format!("{place} holds a certificate that cannot be used: {error}")
            })?;
        }
    }
    let names = tls.client_allowed_sans.clone();
    ClientVerifier::signed_by(authorities, names, mandatory, provider).map(Some)
}

/// The text of a PEM file, and the file's name or the key that holds the text.
fn text(pem: &Pem, key: &str) -> Result<(Vec<u8>, String), String> {
    match pem {
        Pem::File(path) => Ok((pem::read(path)?, path.display().to_string())),
        Pem::Inline(text) => Ok((
            text.reveal().as_bytes().to_vec(),
            format!("`tls_server_config.{key}`"),
        )),
    }
}

/// ring, restricted to the configured cipher suites and curves, in their order.
fn provider(tls: &ServerTls) -> CryptoProvider {
    let mut provider = crypto::ring::default_provider();
    if let Some(names) = &tls.cipher_suites {
        let all = std::mem::take(&mut provider.cipher_suites);
        let (tls13, tls12): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|suite| suite.tls13().is_some());
        let chosen = names
            .iter()
            .filter_map(|name| tls12.iter().find(|suite| suite_name(suite) == *name));
        provider.cipher_suites = tls13.into_iter().chain(chosen.copied()).collect();
    }
    if let Some(names) = &tls.curves {
        let all = std::mem::take(&mut provider.kx_groups);
        let chosen = names
            .iter()
            .filter_map(|name| all.iter().find(|group| curve_name(**group) == *name));
        provider.kx_groups = chosen.copied().collect();
    }
    provider
}

/// The name of a cipher suite in Go, which is that of the registry (iana.org/assignments/tls-parameters).
fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

/// The name of an elliptic curve in Go.
fn curve_name(group: &dyn SupportedKxGroup) -> &'static str {
    match group.name() {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "CurveP256",
        NamedGroup::secp384r1 => "CurveP384",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Web, CIPHER_SUITES, CURVES};

    #[test]
    fn every_configurable_name_is_known_to_ring() {
        let provider = crypto::ring::default_provider();
        let suites: Vec<_> = provider.cipher_suites.iter().map(suite_name).collect();
        for name in CIPHER_SUITES {
            assert!(
                suites.iter().any(|suite| suite == name),
                "{name}: {suites:?}"
            );
        }
        assert_eq!(suites.len(), CIPHER_SUITES.len());
        let curves: Vec<_> = provider.kx_groups.iter().map(|g| curve_name(*g)).collect();
        for name in CURVES {
            assert!(curves.contains(&name), "{name}: {curves:?}");
        }
        assert_eq!(curves.len(), CURVES.len());
    }

    #[test]
    fn cipher_suites_and_curves_keep_the_configured_order() {
        let text = "tls_server_config:\n  cert_file: a\n  key_file: b\n  curve_preferences: [CurveP384, X25519]\n  \
                    cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n";
        let (web, _) = Web::parse(text).unwrap();
        let provider = provider(&web.tls.unwrap());
        let suites: Vec<_> = provider.cipher_suites.iter().map(suite_name).collect();
        assert_eq!(suites.len(), 5);
        assert_eq!(
            suites[3..],
            [
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
            ]
        );
        let curves: Vec<_> = provider.kx_groups.iter().map(|g| curve_name(*g)).collect();
        assert_eq!(curves, ["CurveP384", "X25519"]);
    }
}
