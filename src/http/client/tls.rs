//! TLS to a server, by rustls and ring, in the place of ureq's own connector: this one knows `server_name`, uses a changed
//! certificate without a restart, survives a clock beyond 2038 on 32-bit boards (`sys/clock`), and its errors say what would
//! help.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::client::{ClientConfig, ClientConnection};
use rustls::crypto;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, RootCertStore, StreamOwned};
use ureq::unversioned::transport::time::Instant;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use crate::config::ClientTls;
use crate::http::tls::pinned::{is_ca_certificate, Pinned};
use crate::http::tls::verify::{Authorities, ServerVerifier};
use crate::http::tls::{pem, BoardClock};
use crate::sys::file_stamp::FileStamp;
use crate::sys::lock;

/// Where distributions keep the certificates of the authorities that they trust (the list of Go's crypto/x509).
const SYSTEM_CA_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Puts TLS over a connection where the URL asks for it.
#[derive(Debug)]
pub(super) struct TlsConnector {
    settings: ClientTls,
    cache: Mutex<Option<CachedConfig>>,
}

/// The configuration, and the stamps that its files had when they were read.
#[derive(Debug)]
struct CachedConfig {
    stamps: Vec<FileStamp>,
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    pub(super) fn new(settings: ClientTls) -> TlsConnector {
        TlsConnector {
            settings,
            cache: Mutex::default(),
        }
    }

    /// The configuration, read again when one of its files has changed.
    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let stamps = stamps(&self.settings);
        let mut cache = lock::lock(&self.cache);
        if let Some(cached) = cache.as_ref().filter(|cached| cached.stamps == stamps) {
            return Ok(Arc::clone(&cached.config));
        }
        let config = Arc::new(configure(&self.settings)?);
        *cache = Some(CachedConfig {
            stamps,
            config: Arc::clone(&config),
        });
        Ok(config)
    }

    /// The name that the server's certificate must have.
    fn server_name(&self, details: &ConnectionDetails<'_>) -> Result<ServerName<'static>, String> {
        let host = details.uri.host().unwrap_or_default();
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(bare.to_string())
            .map_err(|_| format!("{name} is no name that a certificate can have"))
    }
}

/// Checks that all files that the settings name can be read and used.
pub(super) fn check(settings: &ClientTls) -> Result<(), String> {
    configure(settings).map(|_| ())
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(inner) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || inner.is_tls() {
            return Ok(Some(Either::A(inner)));
        }
        let other = |why: String| ureq::Error::Io(std::io::Error::other(why));
        let config = self.config().map_err(other)?;
        let name = self.server_name(details).map_err(other)?;
        let mut connection = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
        let clock = Arc::clone(&details.current_time);
        let mut socket = TransportAdapter::new(inner.boxed(), clock);
        socket.set_timeout(remaining_timeout(details));
        connection.complete_io(&mut socket)?;
        Ok(Some(Either::B(TlsTransport {
            stream: StreamOwned::new(connection, socket),
            buffers: LazyBuffers::new(
                details.config.input_buffer_size(),
                details.config.output_buffer_size(),
            ),
        })))
    }
}

/// The rest of the timeout for connecting, of which some has passed since `details` were made.
fn remaining_timeout(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Instant::Exact(began), Instant::Exact(now)) = (details.now, (details.current_time)()) {
        if !timeout.after.is_not_happening() {
            let elapsed = now.saturating_duration_since(began);
            timeout.after = timeout.after.saturating_sub(elapsed).into();
        }
    }
    timeout
}

/// A connection with TLS over it.
pub(super) struct TlsTransport {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output();
        let output = output.get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// The stamps of all files that the settings name.
fn stamps(settings: &ClientTls) -> Vec<FileStamp> {
    let ClientTls {
        ca_file,
        cert_file,
        key_file,
        ..
    } = settings;
    let named = [ca_file, cert_file, key_file].into_iter().flatten();
    named.map(|path| FileStamp::of(path)).collect()
}

fn configure(settings: &ClientTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(BoardClock))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let authorities = match settings.insecure_skip_verify {
        true => None,
        false => Some(authorities(settings.ca_file.as_deref())?),
    };
    let verifier = Arc::new(ServerVerifier::new(authorities, provider)?);
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let private = pem::private_key(&pem::read(key)?, &key.display().to_string())?;
            builder.with_client_auth_cert(chain, private).map_err(|e| {
                let (cert, key) = (cert.display(), key.display());
                format!("{cert} and {key} are no certificate and its key: {e}")
            })
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err("`tls_config` needs both `cert_file` and `key_file`, or neither".into()),
    }
}

/// The authorities of `ca_file`, else of the file that the environment names, else of the system.
fn authorities(ca_file: Option<&Path>) -> Result<Authorities, String> {
    let from_environment = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let path = match (ca_file, from_environment) {
        (Some(path), _) => path.to_owned(),
        (None, Some(path)) => path,
        (None, None) => SYSTEM_CA_FILES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or("this system has no certificates to trust (install ca-certificates, or set tls_config.ca_file)")?,
    };
    let mut roots = RootCertStore::empty();
    // A system's file may hold certificates that are too old to be understood.
    let certificates = certificates(&path)?;
    let pinned = Pinned::new(&certificates);
    let (added, _) = roots.add_parsable_certificates(certificates);
    match added {
        0 => Err(format!(
            "{} holds no certificate that can be used",
            path.display()
        )),
        _ => Ok(Authorities { roots, pinned }),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    pem::certificates(&pem::read(path)?, &path.display().to_string())
}

/// The error in words, and what would help.
pub(super) fn explain(error: &rustls::Error) -> (String, Option<String>) {
    let hint = |hint: &str| Some(hint.to_string());
    let rustls::Error::InvalidCertificate(refusal) = error else {
        let asks = format!("{error:?}").contains("CertificateRequired");
        let help = "it wants a certificate of ours: set tls_config.cert_file and key_file";
        return (error.to_string(), asks.then(|| help.to_string()));
    };
    use CertificateError as Refusal;
    match refusal {
        Refusal::UnknownIssuer => (
            "the server's certificate was signed by nobody who is trusted here".into(),
            hint("set tls_config.ca_file to the certificate that it was signed by"),
        ),
        Refusal::NotValidForName | Refusal::NotValidForNameContext { .. } => (
            format!("the server's certificate is for another name: {refusal}"),
            hint("use that name in the URL, or as tls_config.server_name"),
        ),
        Refusal::Expired
        | Refusal::ExpiredContext { .. }
        | Refusal::NotValidYet
        | Refusal::NotValidYetContext { .. } => (
            format!("the server's certificate is not valid at this time: {refusal}"),
            hint("is this board's clock right?"),
        ),
        _ if is_ca_certificate(error) => (
            "the server's certificate is a CA's, as plain `openssl req -x509` makes them, and not one that is trusted here".into(),
            hint("set tls_config.ca_file to that very certificate"),
        ),
        other => (format!("the server's certificate is refused: {other}"), None),
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
