//! Tests of `web`: the settings in exporter-toolkit's files, and the errors about invalid files.

use super::*;
use crate::config::{ClientAuth, Versions};

const HASH: &str = "$2y$04$VImZYFTlUDU2TXNWm22QY.f.toxyFiLqSW2ZQebdx80pPspviZfJG";

fn parse(text: &str) -> Web {
    let (web, warnings) = Web::parse(text).unwrap();
    assert_eq!(warnings, []);
    web
}

/// The TLS settings of a file whose section has these additional lines.
fn tls(lines: &str) -> Result<ServerTls, Diagnostic> {
    let text = format!("tls_server_config:\n  cert_file: a.pem\n  key_file: a.key\n{lines}");
    Web::parse(&text).map(|(web, _)| web.tls.unwrap())
}

#[test]
fn empty_configuration_has_no_restrictions() {
    for text in [
        "",
        "# nothing\n",
        "{}",
        "tls_server_config:\nbasic_auth_users:\n",
        "\u{feff}{}",
    ] {
        assert_eq!(Web::parse_bytes(text.as_bytes()).unwrap().0, Web::default());
    }
}

#[test]
fn every_key_is_read() {
    let web = parse(&format!(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: /etc/key.pem\n  client_auth_type: RequireAndVerifyClientCert\n  \
         client_ca_file: ca.pem\n  client_allowed_sans: [a.example, 192.0.2.1]\n  min_version: TLS13\n  max_version: TLS13\n  \
         cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  prefer_server_cipher_suites: false\n  \
         curve_preferences: [X25519]\nhttp_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n    \
         X-XSS-Protection: 1\n    X-Content-Type-Options:\n    Content-Security-Policy: \"default-src 'self'\"\n\
         basic_auth_users:\n  alice: {HASH}\n  bob: {HASH}\n"
    ));
    let expected = ServerTls {
        cert: Pem::File("server.pem".into()),
        key: Pem::File("/etc/key.pem".into()),
        client_auth: ClientAuth::RequireAndVerify,
        client_ca: Some(Pem::File("ca.pem".into())),
        client_allowed_sans: vec!["a.example".into(), "192.0.2.1".into()],
        versions: Versions {
            tls12: false,
            tls13: true,
        },
        cipher_suites: Some(vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]),
        prefer_server_cipher_suites: false,
        curves: Some(vec!["X25519"]),
    };
    assert_eq!(web.tls, Some(expected));
    assert_eq!(web.users.keys().collect::<Vec<_>>(), ["alice", "bob"]);
    let headers = web.headers.clone();
    assert_eq!(
        headers,
        [
            ("X-Frame-Options", "deny".to_string()),
            ("X-XSS-Protection", "1".to_string()),
            ("Content-Security-Policy", "default-src 'self'".to_string()),
        ]
    );
    let web = web.in_directory(Path::new("/etc/x"));
    let files: Vec<_> = web
        .files()
        .iter()
        .map(|f| f.to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        files,
        ["/etc/x/server.pem", "/etc/key.pem", "/etc/x/ca.pem"]
    );
}

#[test]
fn missing_keys_have_the_defaults_of_go() {
    let found = tls("").unwrap();
    assert_eq!(found.client_auth, ClientAuth::No);
    assert_eq!((found.versions.tls12, found.versions.tls13), (true, true));
    assert!(found.prefer_server_cipher_suites);
    assert_eq!((found.cipher_suites, found.curves), (None, None));
    let only_12 = tls("  max_version: TLS12\n  cipher_suites: []\n").unwrap();
    assert!(only_12.versions.tls12 && !only_12.versions.tls13);
    assert_eq!(only_12.cipher_suites, None);
}

#[test]
fn certificates_can_be_inline() {
    let text = "tls_server_config:\n  cert: |\n    -----BEGIN CERTIFICATE-----\n    AAAA\n    -----END CERTIFICATE-----\n  \
                key: |\n    -----BEGIN PRIVATE KEY-----\n    sesame\n    -----END PRIVATE KEY-----\n";
    let found = parse(text);
    assert!(matches!(
        &found.tls,
        Some(ServerTls {
            cert: Pem::Inline(_),
            key: Pem::Inline(_),
            ..
        })
    ));
    assert!(!format!("{found:?}").contains("sesame"));
    assert!(found.files().is_empty());
}

/// Asserts that the text is refused with an error at this line and column that contains these parts.
#[track_caller]
fn refused(text: &str, place: (usize, usize), parts: &[&str]) {
    let error = Web::parse(text).unwrap_err();
    assert_eq!(
        (error.line, error.column),
        (Some(place.0), Some(place.1)),
        "{error}"
    );
    for part in parts {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    assert!(!error.message.contains("hunter2"), "{error}");
}

#[test]
fn unknown_keys_are_errors() {
    refused(
        "tls_server_conf:\n",
        (1, 1),
        &["did you mean `tls_server_config`?"],
    );
    refused(
        "tls_server_config:\n  cert_filse: a\n  key_file: b\n",
        (2, 3),
        &["did you mean `cert_file`?"],
    );
    refused(
        "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_ca_fille: c\n",
        (4, 3),
        &["did you mean `client_ca_file`?"],
    );
    refused(
        "basic_auth:\n  a: b\n",
        (1, 1),
        &["unknown key `basic_auth`"],
    );
    refused(
        "rate_limit:\n  burst: 1\n",
        (1, 1),
        &["`rate_limit` is not supported"],
    );
    refused("just text", (1, 1), &["write settings"]);
    refused(
        "http_server_config:\n  headers:\n    Content-Type: foo\n",
        (3, 5),
        &["Content-Type", "cannot be set", "X-Frame-Options"],
    );
    refused(
        "http_server_config:\n  headers:\n    X-Frame-Options: foo\n",
        (3, 22),
        &["deny or sameorigin"],
    );
    refused(
        "http_server_config:\n  headers:\n    Content-Security-Policy: \"a\\r\\nSet-Cookie: b\"\n",
        (3, 30),
        &["in one line of ASCII"],
    );
}

#[test]
fn invalid_hashes_are_rejected_without_being_shown() {
    for hash in ["hunter2", "12", "[hunter2]", "", "$2y$04$hunter2"] {
        let text = format!("basic_auth_users:\n  john: {hash}\n");
        let column = if hash.is_empty() { 8 } else { 9 };
        refused(
            &text,
            (2, column),
            &["`basic_auth_users.john` is no bcrypt hash", "htpasswd"],
        );
    }
    refused(
        &format!("basic_auth_users:\n  a:b: {HASH}\n"),
        (2, 3),
        &["nobody can log in"],
    );
    refused("basic_auth_users: hunter2\n", (1, 19), &["`name: hash`"]);
    let slow = HASH.replace("$04$", "$18$");
    let (_, warnings) = Web::parse(&format!("basic_auth_users:\n  bob: {slow}\n")).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].message.contains("cost of 18"),
        "{}",
        warnings[0]
    );
}

#[test]
fn unsupported_tls_settings_are_rejected() {
    for (lines, part) in [
        ("  min_version: TLS10\n", "not safe any more"),
        ("  max_version: TLS11\n", "write TLS12 or TLS13"),
        ("  min_version: TLS111\n", "write TLS12 or TLS13"),
        ("  min_version: TLS13\n  max_version: TLS12\n", "less than `min_version`"),
        (
            "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]\n",
            "no cipher suite that is spoken here",
        ),
        ("  curve_preferences: [CurveP521]\n", "no curve that is spoken here"),
        ("  curve_preferences: X25519\n", "a list of names"),
        ("  client_auth_type: x\n", "RequireAndVerifyClientCert"),
        (
            "  client_auth_type: RequireAndVerifyClientCert\n",
            "needs a `client_ca_file`",
        ),
        ("  client_ca_file: c\n", "no `client_auth_type`"),
        ("  client_allowed_sans: [a]\n", "needs a `client_auth_type`"),
        (
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: c\n  client_allowed_sans: []\n",
            "is empty",
        ),
        ("  key: |\n    -----BEGIN X\n", "both `key` and `key_file`"),
        ("  cert: hunter2\n", "no PEM text"),
    ] {
        let error = tls(lines).unwrap_err();
        assert!(error.message.contains(part), "{lines}: {error}");
        assert!(error.line.is_some(), "{lines}: {error}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
    refused(
        "tls_server_config:\n  min_version: TLS12\n",
        (2, 3),
        &["no `cert_file`"],
    );
    refused(
        "tls_server_config:\n  cert_file: a\n",
        (2, 3),
        &["no `key_file`"],
    );
    refused(
        "tls_server_config:\n  cert_file: ''\n  key_file: b\n",
        (2, 14),
        &["path of a file"],
    );
}
