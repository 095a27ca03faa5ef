//! The server's side of TLS, as the web configuration has it.

use std::sync::Arc;

use rustls::crypto::{self, CryptoProvider, SupportedKxGroup};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{NamedGroup, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::{clients, pem, BoardClock};
use crate::config::{Pem, ServerTls};

/// What connections are accepted with.
#[derive(Debug)]
pub(in crate::http) struct Accepting {
    pub(in crate::http) config: Arc<ServerConfig>,
    /// What looks at clients' certificates; `None`: nobody is asked for one.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Accepting {
    /// Whether a client that has shown these certificates, its own first, would be accepted now.
    pub(in crate::http) fn takes(&self, shown: &[CertificateDer<'_>]) -> bool {
        match (&self.clients, shown) {
            (None, _) => true,
            (Some(verifier), []) => !verifier.client_auth_mandatory(),
            (Some(verifier), [own, others @ ..]) => BoardClock
                .current_time()
                .is_some_and(|now| verifier.verify_client_cert(own, others, now).is_ok()),
        }
    }
}

/// Makes of the settings what connections are accepted with. Reads all files that they name. The error is for people.
pub(in crate::http) fn configure(tls: &ServerTls) -> Result<Accepting, String> {
    let provider = Arc::new(provider(tls));
    let clients = clients::verifier(tls, &provider)?;
    let versions: [(bool, &'static SupportedProtocolVersion); 2] = [
        (tls.versions.tls13, &rustls::version::TLS13),
        (tls.versions.tls12, &rustls::version::TLS12),
    ];
    let versions: Vec<_> = versions
        .into_iter()
        .filter_map(|(spoken, version)| spoken.then_some(version))
        .collect();
    let builder = ServerConfig::builder_with_details(provider, Arc::new(BoardClock))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?;
    let builder = match clients.clone() {
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
    // Scrapers keep their connections. What is not remembered takes no memory, and who is refused now is not let in again
    // by what was agreed upon before.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Accepting {
        config: Arc::new(config),
        clients,
    })
}

/// The text of a PEM file, and its name.
pub(super) fn text(pem: &Pem, key: &str) -> Result<(Vec<u8>, String), String> {
    match pem {
        Pem::File(path) => Ok((pem::read(path)?, path.display().to_string())),
        Pem::Inline(text) => Ok((
            text.reveal().as_bytes().to_vec(),
            format!("`tls_server_config.{key}`"),
        )),
    }
}

/// ring, with the cipher suites and curves that are wanted.
fn provider(tls: &ServerTls) -> CryptoProvider {
    let mut provider = crypto::ring::default_provider();
    if let Some(wanted) = &tls.cipher_suites {
        let all = std::mem::take(&mut provider.cipher_suites);
        let (of_13, of_12): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|suite| suite.tls13().is_some());
        let chosen = wanted
            .iter()
            .filter_map(|name| of_12.iter().find(|suite| suite_name(suite) == *name));
        provider.cipher_suites = of_13.into_iter().chain(chosen.copied()).collect();
    }
    if let Some(wanted) = &tls.curves {
        let all = std::mem::take(&mut provider.kx_groups);
        let chosen = wanted
            .iter()
            .filter_map(|name| all.iter().find(|group| curve_name(**group) == *name));
        provider.kx_groups = chosen.copied().collect();
    }
    provider
}

/// Go's name of a cipher suite, which is the registry's (iana.org/assignments/tls-parameters).
fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

/// Go's name of an elliptic curve.
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
    fn every_name_that_may_be_written_is_known() {
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
    fn what_is_chosen_is_chosen_in_its_order() {
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
