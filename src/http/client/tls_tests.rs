//! Tests of `tls`: a real TLS server on loopback, with certificates of `tests/tls`.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};

use super::super::{Client, ClientSettings, Limits};
use super::*;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls")
        .join(name)
}

/// Starts a server with this certificate, which requires one of the client or not.
fn server(certificate: &str, requires_certificate: bool) -> SocketAddr {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match requires_certificate {
        true => {
            let roots = Arc::new(authorities(Some(&file("ca.pem"))).unwrap().roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        false => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(file(&format!("{certificate}.key"))).unwrap();
    let chain = certificates(&file(&format!("{certificate}.pem"))).unwrap();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.push(byte[0]);
            }
            if !request.is_empty() {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            }
        }
    });
    address
}

/// The status of a GET; the error is as it is shown.
fn get(url: String, tls: ClientTls) -> Result<u16, String> {
    let settings = ClientSettings {
        tls,
        ..ClientSettings::default()
    };
    let limits = Limits {
        timeout: Duration::from_secs(20),
        body: 100,
    };
    let client = Client::new(settings, limits).unwrap();
    let answer = client.get(&url, &[]).map_err(|error| error.to_string())?;
    Ok(answer.status)
}

fn trusting_ca() -> ClientTls {
    ClientTls {
        ca_file: Some(file("ca.pem")),
        ..ClientTls::default()
    }
}

#[test]
fn server_signed_by_the_ca_is_trusted_under_its_names() {
    let address = server("server", false);
    assert_eq!(get(format!("https://{address}/"), trusting_ca()), Ok(204));
    let port = address.port();
    assert_eq!(
        get(format!("https://localhost:{port}/"), trusting_ca()),
        Ok(204)
    );
    let named = ClientTls {
        server_name: Some("elsewhere.example".into()),
        ..trusting_ca()
    };
    let refused = get(format!("https://{address}/"), named).unwrap_err();
    assert!(
        refused.contains("for another name") && refused.contains("server_name"),
        "{refused}"
    );
}

#[test]
fn untrusted_certificates_are_refused_with_a_hint() {
    let address = server("server", false);
    let other = ClientTls {
        ca_file: Some(file("self.pem")),
        ..ClientTls::default()
    };
    let refused = get(format!("https://{address}/"), other).unwrap_err();
    assert!(refused.contains("set tls_config.ca_file"), "{refused}");
    let anybody = ClientTls {
        insecure_skip_verify: true,
        ..ClientTls::default()
    };
    assert_eq!(get(format!("https://{address}/"), anybody), Ok(204));

    let address = server("self", false);
    let refused = get(format!("https://{address}/"), trusting_ca()).unwrap_err();
    assert!(refused.contains("to that very certificate"), "{refused}");
}

/// `openssl req -x509` makes a CA's certificate. Here a server shows it, and it is pinned, as Go and curl accept it.
#[test]
fn certificate_among_the_authorities_needs_no_signature() {
    let pinned = |name: &str| ClientTls {
        ca_file: Some(file(&format!("{name}.pem"))),
        ..ClientTls::default()
    };
    for name in ["self", "leaf", "server"] {
        let address = server(name, false);
        let asked = get(format!("https://{address}/"), pinned(name));
        assert_eq!(asked, Ok(204), "{name}");
        let named = ClientTls {
            server_name: Some("elsewhere.example".into()),
            ..pinned(name)
        };
        let refused = get(format!("https://{address}/"), named).unwrap_err();
        assert!(refused.contains("for another name"), "{name}: {refused}");
    }
    let address = server("self-expired", false);
    let refused = get(format!("https://{address}/"), pinned("self-expired")).unwrap_err();
    assert!(refused.contains("not valid at this time"), "{refused}");
    let address = server("self-client", false);
    let refused = get(format!("https://{address}/"), pinned("self-client"));
    assert!(refused.is_err(), "it is for clients: {refused:?}");
    // The same name and key, and another certificate.
    let address = server("self-again", false);
    assert!(get(format!("https://{address}/"), pinned("self")).is_err());
}

#[test]
fn client_certificate_is_sent_when_the_server_requests_it() {
    let address = server("server", true);
    let ours = ClientTls {
        cert_file: Some(file("client.pem")),
        key_file: Some(file("client.key")),
        ..trusting_ca()
    };
    assert_eq!(get(format!("https://{address}/"), ours), Ok(204));
    let refused = get(format!("https://{address}/"), trusting_ca()).unwrap_err();
    assert!(refused.contains("set tls_config.cert_file"), "{refused}");
}

#[test]
fn unusable_files_are_named_in_the_error() {
    let check = |tls: ClientTls| super::check(&tls).unwrap_err();
    let tls = |ca: Option<&str>, cert: Option<&str>, key: Option<&str>| ClientTls {
        ca_file: ca.map(file),
        cert_file: cert.map(file),
        key_file: key.map(file),
        ..ClientTls::default()
    };
    for (settings, part) in [
        (tls(Some("missing.pem"), None, None), "cannot read"),
        (tls(Some("make"), None, None), "holds no certificate in PEM"),
        (
            tls(Some("ca.pem"), Some("client.pem"), None),
            "both `cert_file` and `key_file`",
        ),
        (
            tls(Some("ca.pem"), Some("client.pem"), Some("make")),
            "holds no private key",
        ),
        (
            tls(Some("ca.pem"), Some("client.pem"), Some("server.key")),
            "are no certificate and its key",
        ),
    ] {
        let error = check(settings);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn replaced_ca_file_is_used_by_the_next_connection() {
    let address = server("server", false);
    let path = std::env::temp_dir().join(format!("eme-ca-{}.pem", std::process::id()));
    std::fs::copy(file("self.pem"), &path).unwrap();
    let settings = ClientSettings {
        tls: ClientTls {
            ca_file: Some(path.clone()),
            ..ClientTls::default()
        },
        ..ClientSettings::default()
    };
    let limits = Limits {
        timeout: Duration::from_secs(20),
        body: 100,
    };
    let client = Client::new(settings, limits).unwrap();
    let url = format!("https://{address}/");
    assert!(client.get(&url, &[]).is_err());
    // A file with the same time of modification, as `cp -p` and unpacked archives make.
    let new = path.with_extension("new");
    std::fs::copy(file("ca.pem"), &new).unwrap();
    let age = path.metadata().unwrap().modified().unwrap();
    let opened = std::fs::File::options().write(true).open(&new);
    opened.unwrap().set_modified(age).unwrap();
    std::fs::rename(&new, &path).unwrap();
    assert_eq!(client.get(&url, &[]).unwrap().status, 204);
    std::fs::remove_file(&path).unwrap();
}
