//! The Kubernetes API as a pod sees it: its URL in the environment, and the service account's files.

use std::path::Path;

use serde_json::Value;

use crate::config::{Authorization, ClientSettings, ClientTls, SecretSource};

/// The URL in KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
pub fn url(environment: impl Fn(&str) -> Option<String>) -> Option<String> {
    let host = environment("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty())?;
    let port = environment("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".into());
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host,
    };
    Some(format!("https://{host}:{port}"))
}

/// The settings of the client: the service account's token, which Kubernetes replaces from time to time, and the cluster's
/// own CA.
pub fn settings(service_account: &Path) -> ClientSettings {
    ClientSettings {
        authorization: Some(Authorization {
            kind: "Bearer".into(),
            credentials: SecretSource::File(service_account.join("token")),
        }),
        tls: ClientTls {
            ca_file: Some(service_account.join("ca.crt")).filter(|path| path.exists()),
            ..ClientTls::default()
        },
        follow_redirects: false,
        ..ClientSettings::default()
    }
}

/// The reason that the API gives for refusing a request.
pub fn refusal(body: &[u8]) -> Option<String> {
    let said = serde_json::from_slice::<Value>(body).ok()?;
    Some(said.get("message")?.as_str()?.to_owned())
}
