//! HTTP Basic authentication (RFC 7617), as used by the first generation.

use super::digest::Login;
use crate::http::client::basic;

/// The value of the `Authorization` header.
pub(super) fn authorization(login: Login<'_>) -> String {
    basic(login.username, login.password)
}

/// Whether a `WWW-Authenticate` header requires Basic authentication.
pub(super) fn is_challenge(header: &str) -> bool {
    let scheme = header.trim().split([' ', ',']).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("Basic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_matches_the_example_of_rfc_7617() {
        let login = Login {
            username: "Aladdin",
            password: "open sesame",
        };
        assert_eq!(authorization(login), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(is_challenge(r#"Basic realm="shellyplug-s-DDEEFF""#) && is_challenge("basic"));
        assert!(!is_challenge(r#"Digest realm="x""#) && !is_challenge(""));
    }
}
