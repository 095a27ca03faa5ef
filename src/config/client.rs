//! Settings of the HTTP client, as plain data. The names are those of Prometheus's own configuration
//! (prometheus.io/docs/prometheus/latest/configuration, `http_config` and `tls_config`).

use std::path::PathBuf;

use serde::ser::{SerializeMap, Serializer};
use serde::Serialize;

use super::show;
use super::Secret;

/// Login, headers, TLS, proxy and redirects of requests to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientSettings {
    /// `headers:`, sent with every request. A value may be a secret.
    #[serde(serialize_with = "show::mapping")]
    pub headers: Vec<(String, Secret)>,
    /// `basic_auth:`.
    pub basic_auth: Option<BasicAuth>,
    /// `authorization:`.
    pub authorization: Option<Authorization>,
    /// `tls_config:`.
    #[serde(rename = "tls_config")]
    pub tls: ClientTls,
    /// `proxy_url:`, which may contain a password.
    #[serde(serialize_with = "show::hidden_url")]
    pub proxy_url: Option<Secret>,
    /// `proxy_from_environment:`. If false, `http_proxy` and similar variables are ignored.
    pub proxy_from_environment: bool,
    /// `follow_redirects:`, for requests without a body. Requests with a body are never redirected.
    pub follow_redirects: bool,
}

impl Default for ClientSettings {
    fn default() -> Self {
        ClientSettings {
            basic_auth: None,
            authorization: None,
            headers: Vec::new(),
            tls: ClientTls::default(),
            proxy_url: None,
            proxy_from_environment: false,
            follow_redirects: true,
        }
    }
}

/// `basic_auth:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// The user name.
    pub username: String,
    /// The password, or its file.
    pub password: SecretSource,
}

/// `authorization:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The authentication scheme: `Bearer`.
    pub kind: String,
    /// The credentials, or their file.
    pub credentials: SecretSource,
}

/// A secret, or the file whose first line is the secret. The file is read for each request, so that it may be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The secret itself.
    Inline(Secret),
    /// The path of the file.
    File(PathBuf),
    /// No secret; the same as an empty one.
    None,
}

impl SecretSource {
    /// The path of the file, if the secret is in a file.
    pub(crate) fn file(&mut self) -> Option<&mut PathBuf> {
        match self {
            SecretSource::File(path) => Some(path),
            _ => None,
        }
    }

    /// Serializes the source under the key for a secret or the key for a file.
    fn show<M: SerializeMap>(&self, map: &mut M, keys: [&str; 2]) -> Result<(), M::Error> {
        match self {
            SecretSource::Inline(secret) => map.serialize_entry(keys[0], secret),
            SecretSource::File(path) => map.serialize_entry(keys[1], path),
            SecretSource::None => Ok(()),
        }
    }

    /// Returns the secret, reading the file if necessary. The error is a message for the user.
    pub(crate) fn get(&self) -> Result<Secret, String> {
        match self {
            SecretSource::Inline(secret) => Ok(secret.clone()),
            SecretSource::File(path) => Secret::read(path),
            SecretSource::None => Ok(Secret::new("")),
        }
    }
}

impl Serialize for BasicAuth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("username", &self.username)?;
        self.password
            .show(&mut map, ["password", "password_file"])?;
        map.end()
    }
}

impl Serialize for Authorization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.kind)?;
        self.credentials
            .show(&mut map, ["credentials", "credentials_file"])?;
        map.end()
    }
}

/// `tls_config:`. All files are PEM and are reloaded when they change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ClientTls {
    /// Trusted certificate authorities; `None` is those of the system.
    pub ca_file: Option<PathBuf>,
    /// The client certificate, with its chain.
    pub cert_file: Option<PathBuf>,
    /// The private key of the client certificate.
    pub key_file: Option<PathBuf>,
    /// The name to verify in the server's certificate; `None` is the host of the URL.
    pub server_name: Option<String>,
    /// Accepts any server certificate.
    pub insecure_skip_verify: bool,
}
