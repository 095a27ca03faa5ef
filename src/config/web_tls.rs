//! `tls_server_config:` of the web configuration. Settings that rustls does not support are rejected instead of ignored.

use std::path::PathBuf;

use super::secret::Secret;
use super::section::{Problem, Section};
use super::tree::Node;
use super::values::{self, refuse, Outcome, Refusal, MAX_ITEMS};

/// The cipher suites that rustls supports, by Go's names. Those of TLS 1.3 are always enabled, as with Go.
pub(crate) const CIPHER_SUITES: [&str; 9] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];
/// The elliptic curves that rustls supports, by Go's names.
pub(crate) const CURVES: [&str; 3] = ["X25519", "CurveP256", "CurveP384"];

/// `tls_server_config:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The server's certificate with its chain.
    pub cert: Pem,
    /// The private key of the certificate.
    pub key: Pem,
    /// Whether clients must present a certificate.
    pub client_auth: ClientAuth,
    /// The authorities that must have signed the client certificate.
    pub client_ca: Option<Pem>,
    /// The client certificate must have one of these subject alternative names; empty allows any.
    pub client_allowed_sans: Vec<String>,
    /// The enabled versions of TLS.
    pub versions: Versions,
    /// Cipher suites by Go's names, in order of preference; `None` is all.
    pub cipher_suites: Option<Vec<&'static str>>,
    /// Whether the server's order of preference applies, or the client's.
    pub prefer_server_cipher_suites: bool,
    /// Elliptic curves by Go's names, in order of preference; `None` is all.
    pub curves: Option<Vec<&'static str>>,
}

/// A PEM file, or its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// The path of a file.
    File(PathBuf),
    /// The PEM text.
    Inline(Secret),
}

/// `client_auth_type:`, by Go's names (pkg.go.dev/crypto/tls, ClientAuthType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// `NoClientCert`.
    #[default]
    No,
    /// `RequestClientCert`: any certificate or none.
    Request,
    /// `RequireAnyClientCert`: any certificate, signed by any authority.
    RequireAny,
    /// `VerifyClientCertIfGiven`.
    VerifyIfGiven,
    /// `RequireAndVerifyClientCert`.
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether a client certificate is verified and thereby identifies the client.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// Enabled versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// 1.2.
    pub tls12: bool,
    /// 1.3.
    pub tls13: bool,
}

const CLIENT_AUTH: [(&str, ClientAuth); 6] = [
    ("NoClientCert", ClientAuth::No),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    // An older name in exporter-toolkit.
    ("RequireClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

/// Reads the section; `None` if it is empty.
pub(super) fn read(tls: &mut Section<'_, '_>) -> Result<Option<ServerTls>, Problem> {
    let cert = pem(tls, "cert", "cert_file")?;
    let key = pem(tls, "key", "key_file")?;
    let client_ca = pem(tls, "client_ca", "client_ca_file")?;
    let mut client_auth = None;
    tls.option("client_auth_type", client_auth_type, &mut client_auth)?;
    let mut sans = None;
    tls.option("client_allowed_sans", allowed_sans, &mut sans)?;
    let (mut min_version, mut max_version) = (None, None);
    tls.option("min_version", version, &mut min_version)?;
    tls.option("max_version", version, &mut max_version)?;
    let mut cipher_suites = None;
    let suites = |node: &Node| known_names(node, "cipher suite", &CIPHER_SUITES);
    tls.set("cipher_suites", suites, &mut cipher_suites)?;
    let mut prefer = None;
    tls.option("prefer_server_cipher_suites", values::flag, &mut prefer)?;
    let mut curves = None;
    let names = |node: &Node| known_names(node, "curve", &CURVES);
    tls.set("curve_preferences", names, &mut curves)?;

    tls.refuse_others()?;
    if tls.is_empty() {
        return Ok(None);
    }
    let missing = |name: &str| {
        let message =
            format!("`tls_server_config` has no `{name}`: TLS needs a certificate and its key");
        tls.refuse(None, message)
    };
    let cert = cert.ok_or_else(|| missing("cert_file"))?;
    let key = key.ok_or_else(|| missing("key_file"))?;
    let refused = |key: &str, message: &str| {
        let message = format!("`tls_server_config.{key}` {message}");
        Err(tls.refuse(Some(key), message))
    };
    let client_auth = client_auth.unwrap_or_default();
    if client_auth.verifies() && client_ca.is_none() {
        return refused(
            "client_auth_type",
            "needs a `client_ca_file`: whoever has a certificate that this signed is let in",
        );
    }
    if client_auth == ClientAuth::No && client_ca.is_some() {
        return Err(tls.refuse(None, "`tls_server_config` has a `client_ca_file`, but no `client_auth_type`, so no client certificate is requested: write RequireAndVerifyClientCert".into()));
    }
    if !client_auth.verifies() && sans.is_some() {
        return refused(
            "client_allowed_sans",
            "needs a `client_auth_type` that verifies certificates: write RequireAndVerifyClientCert",
        );
    }
    let versions = Versions {
        tls12: min_version.unwrap_or(2) <= 2,
        tls13: max_version.unwrap_or(3) >= 3,
    };
    if !versions.tls12 && !versions.tls13 {
        return refused("max_version", "is less than `min_version`");
    }
    Ok(Some(ServerTls {
        cert,
        key,
        client_auth,
        client_ca,
        client_allowed_sans: sans.unwrap_or_default(),
        versions,
        cipher_suites,
        prefer_server_cipher_suites: prefer.unwrap_or(true),
        curves,
    }))
}

/// Reads PEM text from one key or the path of a PEM file from another.
fn pem(
    tls: &mut Section<'_, '_>,
    here: &'static str,
    file: &'static str,
) -> Result<Option<Pem>, Problem> {
    let (mut text, mut path) = (None, None);
    tls.option(here, pem_text, &mut text)?;
    tls.option(file, values::path, &mut path)?;
    match (text, path) {
        (Some(_), Some(_)) => {
            let message = format!("`tls_server_config` has both `{here}` and `{file}`: remove one");
            Err(tls.refuse(Some(file), message))
        }
        (Some(text), None) => Ok(Some(Pem::Inline(text))),
        (None, path) => Ok(path.map(Pem::File)),
    }
}

fn pem_text(node: &Node) -> Outcome<Secret> {
    match node {
        Node::Text(text) if text.contains("-----BEGIN ") => Ok(Secret::new(text.as_str())),
        // The value is not shown, because it may be a private key.
        _ => Err(Refusal::new(
            "is no PEM text: write it below, indented, after `|`".into(),
        )),
    }
}

fn client_auth_type(node: &Node) -> Outcome<ClientAuth> {
    let found = match node {
        Node::Text(text) if text.is_empty() => Some(ClientAuth::No),
        Node::Text(text) => CLIENT_AUTH
            .iter()
            .find(|(name, _)| name == text)
            .map(|(_, auth)| *auth),
        _ => None,
    };
    let names = CLIENT_AUTH.map(|(name, _)| name).join(", ");
    found.map_or_else(|| refuse(node, &format!("one of {names}")), Ok)
}

fn allowed_sans(node: &Node) -> Outcome<Vec<String>> {
    let wanted = "a list of names, such as [prometheus.example.org]";
    let names = values::list(node, wanted, MAX_ITEMS, |item| {
        values::text(item, "a name").map(str::to_owned)
    })?;
    match names.is_empty() {
        true => Err(Refusal::new(
            "is empty: leave it out, or name somebody".into(),
        )),
        false => Ok(names),
    }
}

/// 2 is TLS 1.2, 3 is TLS 1.3.
fn version(node: &Node) -> Outcome<u8> {
    match node {
        Node::Text(text) if text == "TLS12" => Ok(2),
        Node::Text(text) if text == "TLS13" => Ok(3),
        Node::Text(text) if ["TLS10", "TLS11"].contains(&text.as_str()) => {
            Err(Refusal::new(format!(
                "is {text}, which is not safe any more and not spoken here: write TLS12 or TLS13"
            )))
        }
        _ => refuse(node, "TLS12 or TLS13"),
    }
}

/// A list of known names.
fn known_names(
    node: &Node,
    what: &str,
    known: &[&'static str],
) -> Outcome<Option<Vec<&'static str>>> {
    let wanted = format!("a list of names of {what}s");
    let names = values::list(node, &wanted, MAX_ITEMS, |item| {
        let name = values::text(item, &format!("the name of a {what}"))?;
        if let Some(found) = known.iter().find(|known| **known == name) {
            return Ok(*found);
        }
        let message = format!(
            "is {}, which is no {what} that is spoken here: there are {}",
            item.found(),
            known.join(", ")
        );
        Err(Refusal::new(message))
    })?;
    // An empty list is all, as with Go.
    Ok(Some(names).filter(|names| !names.is_empty()))
}
