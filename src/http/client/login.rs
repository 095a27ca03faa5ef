//! The `Authorization` header that the client sends.

use base64::prelude::{Engine, BASE64_STANDARD};

use crate::config::{ClientSettings, Secret};

/// The header's value, with a password or token that is read from its file now; `None` without a login. The error is for
/// people.
pub(super) fn authorization(settings: &ClientSettings) -> Result<Option<Secret>, String> {
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
    format!("Basic {}", BASE64_STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Authorization, BasicAuth, SecretSource};

    #[test]
    fn passwords_and_tokens_become_the_header() {
        let header = |settings: ClientSettings| {
            let value = authorization(&settings).unwrap();
            value.map(|value| value.reveal().to_string())
        };
        assert_eq!(header(ClientSettings::default()), None);
        let basic = ClientSettings {
            basic_auth: Some(BasicAuth {
                username: "Aladdin".into(),
                password: SecretSource::Inline(Secret::new("open sesame")),
            }),
            ..ClientSettings::default()
        };
        let expected = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(header(basic).as_deref(), Some(expected));
        let path = std::env::temp_dir().join(format!("eme-token-{}", std::process::id()));
        std::fs::write(&path, "t0ken\n").unwrap();
        let bearer = ClientSettings {
            authorization: Some(Authorization {
                kind: "Bearer".into(),
                credentials: SecretSource::File(path.clone()),
            }),
            ..ClientSettings::default()
        };
        assert_eq!(header(bearer.clone()).as_deref(), Some("Bearer t0ken"));
        std::fs::remove_file(&path).unwrap();
        let missing = authorization(&bearer).unwrap_err();
        assert!(missing.contains(&*path.to_string_lossy()), "{missing}");
    }
}
