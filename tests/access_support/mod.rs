//! Web configurations, logins, and TLS clients.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::prelude::{Engine as _, BASE64_STANDARD};

/// The bcrypt hash of "open sesame". Its cost is 8, so that a debug build does not take seconds.
pub const HASH: &str = "$2y$08$On26A3fTF77Yv0zsTaE0EOlO7ODypd1zgElymTiRtWUIVPgL3MIl6";
pub const PASSWORD: &str = "open sesame";

/// A file of `tests/tls`.
pub fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls")
        .join(name)
}

/// Users with that password.
pub fn users(names: &[&str]) -> String {
    let lines = names.iter().map(|name| format!("  {name}: {HASH}\n"));
    format!("basic_auth_users:\n{}", lines.collect::<String>())
}

/// A `tls_server_config` with this certificate and more lines.
pub fn tls(certificate: &str, more: &[&str]) -> String {
    let (cert, key) = (format!("{certificate}.pem"), format!("{certificate}.key"));
    let mut text = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\n",
        pem(&cert).display(),
        pem(&key).display()
    );
    for line in more {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// The lines that require client certificates.
pub fn clients(kind: &str) -> [String; 2] {
    [
        format!("client_auth_type: {kind}"),
        format!("client_ca_file: {}", pem("ca.pem").display()),
    ]
}

/// The value of `Authorization` for basic authentication.
pub fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// Adds a web configuration and an empty board to the command.
pub fn with_web_config<'c>(command: &'c mut Command, file: &Path) -> &'c mut Command {
    command
        .args(["--path.sysfs", "/nonexistent"])
        .arg("--web.config.file")
        .arg(file)
}

#[cfg(feature = "tls")]
pub mod tls_client {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    };

    use super::super::support::WAIT_TIMEOUT;
    use super::pem;

    pub type Tls = StreamOwned<ClientConnection, TcpStream>;
    pub const BOTH: &[&SupportedProtocolVersion] =
        &[&rustls::version::TLS12, &rustls::version::TLS13];

    /// A client that trusts `ca`, with a client certificate of `tests/tls`.
    pub fn client(
        ca: &str,
        certificate: Option<&str>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(pem(&format!("{ca}.pem"))).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::from_pem_file(pem(&format!("{name}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(pem(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        })
    }

    /// A connection whose handshake has not begun.
    pub fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> Tls {
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(WAIT_TIMEOUT)).unwrap();
        StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket)
    }

    /// Sends this and reads until the server closes the TLS session; or the error.
    pub fn exchange(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        request: &str,
    ) -> std::io::Result<String> {
        let mut stream = connect(address, config);
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
