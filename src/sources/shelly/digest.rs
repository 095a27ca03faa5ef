//! HTTP Digest authentication with SHA-256 (RFC 7616), as used by Gen2 and later. Without clock, randomness and network.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The longest accepted value. Real realms and nonces are shorter.
const MAX_VALUE: usize = 512;
/// The most accepted parameters. RFC 7616 defines fewer.
const MAX_PARAMETERS: usize = 32;

/// The challenge in a `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The protection space to which the password belongs.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// A value that the client returns unchanged.
    pub opaque: Option<String>,
    /// Whether the last answer failed only because its nonce was too old.
    pub stale: bool,
}

/// A user name and password.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user name.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
}

impl Challenge {
    /// Parses the header's value.
    ///
    /// # Errors
    /// A message, if the header is not a Digest challenge with SHA-256 and `qop=auth`.
    pub fn parse(header: &str) -> Result<Challenge, String> {
        let parameters = parameters(header)?;
        let get = |name: &str| {
            let mut found = parameters.iter().filter(|(key, _)| key == name);
            found.next().map(|(_, value)| value.as_str())
        };
        match get("algorithm") {
            Some(algorithm) if algorithm.eq_ignore_ascii_case("SHA-256") => {}
            other => {
                return Err(format!(
                    "it asks for a Digest login with {}, not SHA-256",
                    other.unwrap_or("MD5")
                ))
            }
        }
        let qop = get("qop").unwrap_or_default();
        if !qop
            .split(',')
            .any(|offered| offered.trim().eq_ignore_ascii_case("auth"))
        {
            return Err("it asks for a Digest login without qop=auth".to_string());
        }
        let needed = |name: &str| {
            let value = get(name).map(str::to_string);
            value.ok_or_else(|| format!("it asks for a Digest login without a {name}"))
        };
        Ok(Challenge {
            realm: needed("realm")?,
            nonce: needed("nonce")?,
            opaque: get("opaque").map(str::to_string),
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The value of the `Authorization` header that answers this challenge for a GET of `uri`. `count` is how often the nonce
    /// has been used, including this time. `cnonce` is the client's nonce, of letters and digits.
    pub fn answer(&self, login: Login<'_>, uri: &str, count: u32, cnonce: &str) -> String {
        let Challenge { realm, nonce, .. } = self;
        let Login { username, password } = login;
        let secret = hash(&format!("{username}:{realm}:{password}"));
        let request = hash(&format!("GET:{uri}"));
        let response = hash(&format!(
            "{secret}:{nonce}:{count:08x}:{cnonce}:auth:{request}"
        ));
        let mut header = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, algorithm=SHA-256, qop=auth, nc={count:08x}, \
             cnonce={}, response=\"{response}\"",
            quoted(username),
            quoted(realm),
            quoted(nonce),
            quoted(uri),
            quoted(cnonce),
        );
        if let Some(opaque) = &self.opaque {
            header.push_str(", opaque=");
            header.push_str(&quoted(opaque));
        }
        header
    }
}

/// The parameters of the header's first challenge, with names in lower case.
fn parameters(header: &str) -> Result<Vec<(String, String)>, String> {
    let malformed = || "it asks for a login in a way that cannot be understood".to_string();
    let (scheme, mut rest) = header.trim().split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("Digest") {
        return Err("it does not ask for a Digest login".to_string());
    }
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(parameters);
        }
        let (name, value) = rest.split_once('=').ok_or_else(malformed)?;
        let name = name.trim_end();
        if name.contains([' ', '\t']) {
            // The next word is the scheme of another challenge.
            return Ok(parameters);
        }
        let (value, after) = match value.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or_else(malformed)?,
            None => {
                let value = value.trim_start();
                let (token, _) = value.split_once(',').unwrap_or((value, ""));
                let after = value.strip_prefix(token).unwrap_or_default();
                (token.trim_end().to_string(), after)
            }
        };
        // Values are copied into the authorization header, so they must not contain what would end it.
        let allowed = |c: char| c == ' ' || c.is_ascii_graphic();
        if value.len() > MAX_VALUE
            || !value.chars().all(allowed)
            || parameters.len() >= MAX_PARAMETERS
        {
            return Err(malformed());
        }
        parameters.push((name.to_ascii_lowercase(), value));
        rest = after;
    }
}

/// Splits text after an opening quote into the unescaped value and what follows the closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

fn hash(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The challenge of a Plus Plug S with firmware 1.7.
    const SHELLY: &str = r#"Digest qop="auth", realm="shellyplusplugs-fcb4672696f8", nonce="1763746991", algorithm=SHA-256"#;

    #[test]
    fn answer_matches_the_example_of_rfc_7616() {
        let challenge = Challenge::parse(concat!(
            r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, "#,
            r#"nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "#,
            r#"opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
        ))
        .unwrap();
        let login = Login {
            username: "Mufasa",
            password: "Circle of Life",
        };
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let answer = challenge.answer(login, "/dir/index.html", 1, cnonce);
        for part in [
            r#"response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1""#,
            r#"username="Mufasa""#,
            r#"uri="/dir/index.html""#,
            "nc=00000001,",
            "qop=auth,",
            "algorithm=SHA-256,",
            r#"opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
        ] {
            assert!(answer.contains(part), "{part} in {answer}");
        }
    }

    #[test]
    fn challenge_of_a_shelly_is_parsed() {
        let challenge = Challenge::parse(SHELLY).unwrap();
        assert_eq!(challenge.realm, "shellyplusplugs-fcb4672696f8");
        assert_eq!(challenge.nonce, "1763746991");
        assert!(!challenge.stale && challenge.opaque.is_none());
        let stale = Challenge::parse(&format!("{SHELLY}, stale=TRUE")).unwrap();
        assert!(stale.stale);
    }

    #[test]
    fn answer_depends_on_the_nonce_count() {
        let challenge = Challenge::parse(SHELLY).unwrap();
        let login = Login {
            username: "admin",
            password: "secret",
        };
        let first = challenge.answer(login, "/rpc/Shelly.GetStatus", 1, "x");
        let second = challenge.answer(login, "/rpc/Shelly.GetStatus", 2, "x");
        assert!(second.contains("nc=00000002"));
        let response = |answer: &str| answer.split_once("response=").unwrap().1.to_string();
        assert_ne!(response(&first), response(&second));
    }

    #[test]
    fn quotes_and_spaces_are_parsed_and_other_challenges_ignored() {
        let header = r#"dIgEsT  algorithm = "sha-256" ,, realm="a \"b\" \\c",nonce=1, qop="auth-int , auth" , Basic realm="x""#;
        let challenge = Challenge::parse(header).unwrap();
        assert_eq!(challenge.realm, r#"a "b" \c"#);
        assert_eq!(challenge.nonce, "1");
        let login = Login {
            username: "admin",
            password: "",
        };
        let answer = challenge.answer(login, "/", 1, "x");
        assert!(answer.contains(r#"realm="a \"b\" \\c""#), "{answer}");
    }

    #[test]
    fn unsupported_challenge_is_refused() {
        for (header, why) in [
            ("", "understood"),
            ("Digest", "understood"),
            (r#"Basic realm="x""#, "Digest"),
            (r#"Digest realm="x", nonce="1", qop="auth""#, "MD5"),
            (
                r#"Digest realm="x", nonce="1", qop="auth", algorithm=MD5"#,
                "MD5",
            ),
            (
                r#"Digest realm="x", nonce="1", qop="auth", algorithm=SHA-256-sess"#,
                "SHA-256-sess",
            ),
            (r#"Digest realm="x", nonce="1", algorithm=SHA-256"#, "qop"),
            (
                r#"Digest realm="x", qop="auth", algorithm=SHA-256"#,
                "nonce",
            ),
            (
                r#"Digest nonce="x", qop="auth", algorithm=SHA-256"#,
                "realm",
            ),
            (r#"Digest realm="x"#, "understood"),
            (r#"Digest realm="x\"#, "understood"),
            ("Digest realm=\"x\r\nX: y\", nonce=1", "understood"),
            ("Digest realm=\"é\", nonce=1", "understood"),
        ] {
            let error = Challenge::parse(header).unwrap_err();
            assert!(error.contains(why), "{header}: {error}");
        }
        let long = format!("Digest realm=\"{}\"", "x".repeat(MAX_VALUE + 1));
        assert!(Challenge::parse(&long).is_err());
    }
}
