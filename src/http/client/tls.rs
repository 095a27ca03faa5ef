//! TLS to a server, by rustls and ring. The connector is our own: it knows `server_name`, takes a changed certificate
//! without a restart, reads the clock in a way that a wild one does not end the process (`sys/clock`), and says what
//! would help.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_name, WebPkiServerVerifier};
use rustls::client::{ClientConfig, ClientConnection};
use rustls::crypto;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::unversioned::transport::time::Instant;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use crate::config::ClientTls as Tls;
use crate::http::tls::pinned::{is_of_a_ca, Pinned, SERVER};
use crate::http::tls::signatures::Signatures;
use crate::http::tls::{pem, BoardClock};
use crate::sys::file_stamp::FileStamp;
use crate::sys::lock;

/// Where distributions keep the certificates that they trust, as Go's crypto/x509 looks for them.
const SYSTEM: [&str; 6] = [
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
    settings: Tls,
    made: Mutex<Option<Made>>,
}

/// What was made of the files, and how they were then.
#[derive(Debug)]
struct Made {
    files: Vec<FileStamp>,
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    pub(super) fn new(settings: Tls) -> TlsConnector {
        TlsConnector {
            settings,
            made: Mutex::default(),
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let files = files(&self.settings);
        let mut made = lock::lock(&self.made);
        if let Some(made) = made.as_ref().filter(|made| made.files == files) {
            return Ok(Arc::clone(&made.config));
        }
        let config = Arc::new(configure(&self.settings)?);
        *made = Some(Made {
            files,
            config: Arc::clone(&config),
        });
        Ok(config)
    }

    /// The name that the certificate has to have.
    fn name(&self, details: &ConnectionDetails<'_>) -> Result<ServerName<'static>, String> {
        let host = details.uri.host().unwrap_or_default();
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(bare.to_string())
            .map_err(|_| format!("{name} is no name that a certificate can have"))
    }
}

/// Whether all that the settings name can be read and used.
pub(super) fn check(settings: &Tls) -> Result<(), String> {
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
        let (config, name) = (
            self.config().map_err(other)?,
            self.name(details).map_err(other)?,
        );
        let mut connection = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
        let clock = Arc::clone(&details.current_time);
        let mut socket = TransportAdapter::new(inner.boxed(), clock);
        socket.set_timeout(left(details));
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

/// What is left of the time for connecting: some of it has gone since `details` were made.
fn left(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Instant::Exact(began), Instant::Exact(now)) = (details.now, (details.current_time)()) {
        if !timeout.after.is_not_happening() {
            let left = timeout
                .after
                .saturating_sub(now.saturating_duration_since(began));
            timeout.after = left.into();
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

/// How the files are that count.
fn files(settings: &Tls) -> Vec<FileStamp> {
    let Tls {
        ca_file,
        cert_file,
        key_file,
        ..
    } = settings;
    let named = [ca_file, cert_file, key_file].into_iter().flatten();
    named.map(|path| FileStamp::of(path)).collect()
}

fn configure(settings: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(BoardClock))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = match settings.insecure_skip_verify {
        true => Arc::new(TrustAnybody(Signatures(provider))),
        false => Arc::new(Trusted::new(settings.ca_file.as_deref(), provider)?),
    };
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

/// The authorities that are trusted.
fn roots(ca_file: Option<&Path>) -> Result<(RootCertStore, Pinned), String> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let path = match (ca_file, named) {
        (Some(path), _) => path.to_owned(),
        (None, Some(path)) => path,
        (None, None) => SYSTEM
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or("this system has no certificates to trust (install ca-certificates, or set tls_config.ca_file)")?,
    };
    let mut roots = RootCertStore::empty();
    // A system's file may hold some that are too old to be understood.
    let certificates = certificates(&path)?;
    let pinned = Pinned::new(&certificates);
    let (added, _) = roots.add_parsable_certificates(certificates);
    match added {
        0 => Err(format!(
            "{} holds no certificate that can be used",
            path.display()
        )),
        _ => Ok((roots, pinned)),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    pem::certificates(&pem::read(path)?, &path.display().to_string())
}

/// Servers whose certificate is signed by an authority, or pinned.
#[derive(Debug)]
struct Trusted {
    inner: Arc<WebPkiServerVerifier>,
    pinned: Pinned,
}

impl Trusted {
    fn new(
        ca_file: Option<&Path>,
        provider: Arc<crypto::CryptoProvider>,
    ) -> Result<Trusted, String> {
        let (roots, pinned) = roots(ca_file)?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let inner = inner.build().map_err(|error| error.to_string())?;
        Ok(Trusted { inner, pinned })
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
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
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// `insecure_skip_verify`: whoever it is, but the one who has the key.
#[derive(Debug)]
struct TrustAnybody(Signatures);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.schemes()
    }
}

/// What went wrong, and what would help.
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
        _ if is_of_a_ca(error) => (
            "the server's certificate is a CA's, as plain `openssl req -x509` makes them, and not one that is trusted here".into(),
            hint("set tls_config.ca_file to that very certificate"),
        ),
        other => (format!("the server's certificate is refused: {other}"), None),
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
