//! Tests of `tls`: a real TLS server on loopback, with certificates of `tests/tls`.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};

use super::super::{Client, Limits, Settings};
use super::*;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls")
        .join(name)
}

/// A server with this certificate, which asks for one of the client's or not.
fn server(certificate: &str, asks: bool) -> SocketAddr {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match asks {
        true => {
            let roots = Arc::new(roots(Some(&file("ca.pem"))).unwrap().0);
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

/// Asks it; the error is as it is shown.
fn ask(url: String, tls: Tls) -> Result<u16, String> {
    let settings = Settings {
        tls,
        ..Settings::default()
    };
    let limits = Limits {
        timeout: Duration::from_secs(20),
        body: 100,
    };
    let client = Client::new(settings, limits).unwrap();
    let answer = client.get(&url, &[]).map_err(|error| error.to_string())?;
    Ok(answer.status)
}

fn trusting() -> Tls {
    Tls {
        ca_file: Some(file("ca.pem")),
        ..Tls::default()
    }
}

#[test]
fn a_server_that_our_ca_signed_is_trusted_under_its_names() {
    let address = server("server", false);
    assert_eq!(ask(format!("https://{address}/"), trusting()), Ok(204));
    let port = address.port();
    assert_eq!(
        ask(format!("https://localhost:{port}/"), trusting()),
        Ok(204)
    );
    let named = Tls {
        server_name: Some("elsewhere.example".into()),
        ..trusting()
    };
    let refused = ask(format!("https://{address}/"), named).unwrap_err();
    assert!(
        refused.contains("for another name") && refused.contains("server_name"),
        "{refused}"
    );
}

#[test]
fn others_are_refused_with_what_would_help() {
    let address = server("server", false);
    let other = Tls {
        ca_file: Some(file("self.pem")),
        ..Tls::default()
    };
    let refused = ask(format!("https://{address}/"), other).unwrap_err();
    assert!(refused.contains("set tls_config.ca_file"), "{refused}");
    let anybody = Tls {
        insecure_skip_verify: true,
        ..Tls::default()
    };
    assert_eq!(ask(format!("https://{address}/"), anybody), Ok(204));

    let address = server("self", false);
    let refused = ask(format!("https://{address}/"), trusting()).unwrap_err();
    assert!(refused.contains("to that very certificate"), "{refused}");
}

/// What `openssl req -x509` makes is a CA's certificate. Here it is a server's, pinned as Go and curl take it.
#[test]
fn a_certificate_that_is_trusted_itself_needs_no_signature() {
    let pinned = |name: &str| Tls {
        ca_file: Some(file(&format!("{name}.pem"))),
        ..Tls::default()
    };
    for name in ["self", "leaf", "server"] {
        let address = server(name, false);
        let asked = ask(format!("https://{address}/"), pinned(name));
        assert_eq!(asked, Ok(204), "{name}");
        let named = Tls {
            server_name: Some("elsewhere.example".into()),
            ..pinned(name)
        };
        let refused = ask(format!("https://{address}/"), named).unwrap_err();
        assert!(refused.contains("for another name"), "{name}: {refused}");
    }
    let address = server("self-expired", false);
    let refused = ask(format!("https://{address}/"), pinned("self-expired")).unwrap_err();
    assert!(refused.contains("not valid at this time"), "{refused}");
    let address = server("self-client", false);
    let refused = ask(format!("https://{address}/"), pinned("self-client"));
    assert!(refused.is_err(), "it is for clients: {refused:?}");
    // The same name and key, and another certificate.
    let address = server("self-again", false);
    assert!(ask(format!("https://{address}/"), pinned("self")).is_err());
}

#[test]
fn a_client_shows_its_certificate_where_it_is_asked_for() {
    let address = server("server", true);
    let ours = Tls {
        cert_file: Some(file("client.pem")),
        key_file: Some(file("client.key")),
        ..trusting()
    };
    assert_eq!(ask(format!("https://{address}/"), ours), Ok(204));
    let refused = ask(format!("https://{address}/"), trusting()).unwrap_err();
    assert!(refused.contains("set tls_config.cert_file"), "{refused}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let check = |tls: Tls| super::check(&tls).unwrap_err();
    let tls = |ca: Option<&str>, cert: Option<&str>, key: Option<&str>| Tls {
        ca_file: ca.map(file),
        cert_file: cert.map(file),
        key_file: key.map(file),
        ..Tls::default()
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
fn a_certificate_that_was_replaced_counts_at_the_next_connection() {
    let address = server("server", false);
    let path = std::env::temp_dir().join(format!("eme-ca-{}.pem", std::process::id()));
    std::fs::copy(file("self.pem"), &path).unwrap();
    let settings = Settings {
        tls: Tls {
            ca_file: Some(path.clone()),
            ..Tls::default()
        },
        ..Settings::default()
    };
    let limits = Limits {
        timeout: Duration::from_secs(20),
        body: 100,
    };
    let client = Client::new(settings, limits).unwrap();
    let url = format!("https://{address}/");
    assert!(client.get(&url, &[]).is_err());
    // One that looks as old, as `cp -p` and unpacked archives do.
    let new = path.with_extension("new");
    std::fs::copy(file("ca.pem"), &new).unwrap();
    let age = path.metadata().unwrap().modified().unwrap();
    let opened = std::fs::File::options().write(true).open(&new);
    opened.unwrap().set_modified(age).unwrap();
    std::fs::rename(&new, &path).unwrap();
    assert_eq!(client.get(&url, &[]).unwrap().status, 204);
    std::fs::remove_file(&path).unwrap();
}
