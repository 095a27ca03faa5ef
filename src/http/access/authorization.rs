//! The `Authorization` header of a request (RFC 9110, 11.6.2). Pure.

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, Engine as _};

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The login that a client sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password (RFC 7617).
    Basic {
        /// All before the first colon.
        user: Vec<u8>,
        /// All after the first colon, further colons included.
        password: Vec<u8>,
    },
    /// A token (RFC 6750).
    Bearer(String),
}

impl Credentials {
    /// Reads the header's value. `None`: it is malformed, or of another scheme.
    pub fn parse(value: &str) -> Option<Credentials> {
        let (scheme, rest) = value.trim_matches([' ', '\t']).split_once(' ')?;
        let rest = rest.trim_start_matches(' ');
        if scheme.eq_ignore_ascii_case("Basic") {
            let bytes = BASE64.decode(rest).ok()?;
            let colon = bytes.iter().position(|b| *b == b':')?;
            let (user, password) = bytes.split_at_checked(colon)?;
            return Some(Credentials::Basic {
                user: user.to_vec(),
                password: password.get(1..)?.to_vec(),
            });
        }
        if scheme.eq_ignore_ascii_case("Bearer") && is_token(rest) {
            return Some(Credentials::Bearer(rest.to_owned()));
        }
        None
    }
}

/// Whether this can be sent as a token: RFC 6750's `b64token`.
pub(super) fn is_token(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    !letters.is_empty() && letters.bytes().all(allowed)
}

/// Shows no secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::Basic { .. } => "Basic (not shown)",
            Credentials::Bearer(_) => "Bearer (not shown)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn basic_and_bearer_logins_are_parsed() {
        let aladdin = basic("Aladdin", "open sesame");
        for value in [
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "BASIC  QWxhZGRpbjpvcGVuIHNlc2FtZQ== ",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
        ] {
            assert_eq!(Credentials::parse(value), aladdin, "{value}");
        }
        // RFC 7617, 2.1, in UTF-8.
        assert_eq!(
            Credentials::parse("Basic dGVzdDoxMjPCow=="),
            basic("test", "123£")
        );
        assert_eq!(Credentials::parse("Basic YTpiOmM="), basic("a", "b:c"));
        assert_eq!(Credentials::parse("Basic Og=="), basic("", ""));
        for value in ["Bearer mF_9.B5f-4.1JqM", "bearer  abc+/~==", "BEARER a"] {
            let token = value.rsplit(' ').next().unwrap();
            let parsed = Credentials::parse(value);
            assert_eq!(parsed, Some(Credentials::Bearer(token.into())), "{value}");
        }
    }

    #[test]
    fn malformed_logins_and_other_schemes_are_refused() {
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic QQ==",
            "Basic Q",
            "Basic QTpC QTpC",
            "Basic QTpC=A",
            "Basic\tQTpC",
            "BasicQTpC",
            "Bearer",
            "Bearer =",
            "Bearer a b",
            "Bearer a=b",
            "Bearer \u{fc}",
            "Digest username=\"a\"",
            "Negotiate abc",
        ] {
            assert_eq!(Credentials::parse(value), None, "{value}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        for value in ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Bearer sesame"] {
            let shown = format!("{:?}", Credentials::parse(value));
            assert!(
                !shown.contains("sesame") && !shown.contains("111"),
                "{shown}"
            );
        }
    }
}
