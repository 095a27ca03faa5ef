//! How a server is asked, as plain data. The names are those of Prometheus's own configuration
//! (prometheus.io/docs/prometheus/latest/configuration, `http_config` and `tls_config`).

use std::path::PathBuf;

use serde::ser::{SerializeMap, Serializer};
use serde::Serialize;

use super::show;
use super::Secret;

/// How to log in, what to send along, whom to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientSettings {
    /// `headers:`, which go with every request. A value may be a secret.
    #[serde(serialize_with = "show::mapping")]
    pub headers: Vec<(String, Secret)>,
    /// `basic_auth:`.
    pub basic_auth: Option<BasicAuth>,
    /// `authorization:`.
    pub authorization: Option<Authorization>,
    /// `tls_config:`.
    #[serde(rename = "tls_config")]
    pub tls: ClientTls,
    /// `proxy_url:`, which may hold a password.
    #[serde(serialize_with = "show::hidden_url")]
    pub proxy_url: Option<Secret>,
    /// `proxy_from_environment:`. Otherwise the variables `http_proxy` and the like count for nothing.
    pub proxy_from_environment: bool,
    /// `follow_redirects:`, of requests without a body. One with a body is never sent elsewhere.
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
    /// Who.
    pub username: String,
    /// The password, or where it is.
    pub password: SecretSource,
}

/// `authorization:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The word before the credentials: `Bearer`.
    pub kind: String,
    /// The credentials, or where they are.
    pub credentials: SecretSource,
}

/// A secret, or the file whose first line it is. A file is read for each request, so that it may be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Here.
    Here(Secret),
    /// There.
    File(PathBuf),
    /// Nowhere: an empty one.
    None,
}

impl SecretSource {
    /// The file, if it is in one.
    pub(crate) fn file(&mut self) -> Option<&mut PathBuf> {
        match self {
            SecretSource::File(path) => Some(path),
            _ => None,
        }
    }

    /// Shows it under the key of a secret, or of a file.
    fn show<M: SerializeMap>(&self, map: &mut M, keys: [&str; 2]) -> Result<(), M::Error> {
        match self {
            SecretSource::Here(secret) => map.serialize_entry(keys[0], secret),
            SecretSource::File(path) => map.serialize_entry(keys[1], path),
            SecretSource::None => Ok(()),
        }
    }

    /// The secret. The error is for people.
    pub(crate) fn get(&self) -> Result<Secret, String> {
        match self {
            SecretSource::Here(secret) => Ok(secret.clone()),
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

/// `tls_config:`. All files are PEM; they are read again when they have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ClientTls {
    /// The certificates that a server's has to be signed by; `None` is those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, with what it was signed by.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate has to have; `None` is the URL's.
    pub server_name: Option<String>,
    /// Takes any certificate whatever.
    pub insecure_skip_verify: bool,
}
