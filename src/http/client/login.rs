//! The `Authorization` header.

use crate::config::ClientSettings as Settings;
use crate::config::Secret;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The header's value, if there is to be one. The error is for people.
pub(super) fn authorization(settings: &Settings) -> Result<Option<Secret>, String> {
    if let Some(login) = &settings.basic_auth {
        let password = login.password.get()?;
        return Ok(Some(Secret::new(basic(&login.username, password.reveal()))));
    }
    let Some(login) = &settings.authorization else {
        return Ok(None);
    };
    let credentials = login.credentials.get()?;
    let value = format!("{} {}", login.kind, credentials.reveal());
    Ok(Some(Secret::new(value)))
}

/// The value of a Basic login (RFC 7617).
pub(crate) fn basic(username: &str, password: &str) -> String {
    let text = format!("{username}:{password}");
    format!("Basic {}", base64(text.as_bytes()))
}

/// RFC 4648, 4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for sextet in 0..4 {
            let index = (bits >> (18 - 6 * sextet)) & 63;
            text.push(match ALPHABET.get(index as usize) {
                Some(letter) if sextet <= three.len() => char::from(*letter),
                _ => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Authorization, BasicAuth, SecretSource};

    #[test]
    fn the_test_vectors_of_rfc_4648() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn each_way_to_log_in() {
        let header = |settings: Settings| {
            let value = authorization(&settings).unwrap();
            value.map(|value| value.reveal().to_string())
        };
        assert_eq!(header(Settings::default()), None);
        let basic = Settings {
            basic_auth: Some(BasicAuth {
                username: "Aladdin".into(),
                password: SecretSource::Inline(Secret::new("open sesame")),
            }),
            ..Settings::default()
        };
        let expected = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(header(basic).as_deref(), Some(expected));
        let path = std::env::temp_dir().join(format!("eme-token-{}", std::process::id()));
        std::fs::write(&path, "t0ken\n").unwrap();
        let bearer = Settings {
            authorization: Some(Authorization {
                kind: "Bearer".into(),
                credentials: SecretSource::File(path.clone()),
            }),
            ..Settings::default()
        };
        assert_eq!(header(bearer.clone()).as_deref(), Some("Bearer t0ken"));
        std::fs::remove_file(&path).unwrap();
        let missing = authorization(&bearer).unwrap_err();
        assert!(missing.contains(&*path.to_string_lossy()), "{missing}");
    }
}
