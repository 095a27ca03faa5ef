//! HTTP Basic login (RFC 7617), as the first generation asks for it.

use super::digest::Login;
use crate::http::client::basic;

/// The value of the `Authorization` header.
pub(super) fn answer(login: Login<'_>) -> String {
    basic(login.username, login.password)
}

/// Whether a `WWW-Authenticate` header asks for it.
pub(super) fn is_asked_for(header: &str) -> bool {
    let scheme = header.trim().split([' ', ',']).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("Basic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7617() {
        let login = Login {
            username: "Aladdin",
            password: "open sesame",
        };
        assert_eq!(answer(login), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(is_asked_for(r#"Basic realm="shellyplug-s-DDEEFF""#) && is_asked_for("basic"));
        assert!(!is_asked_for(r#"Digest realm="x""#) && !is_asked_for(""));
    }
}
