//! Tokens: secrets that programs show in the place of a user's name and password (RFC 6750).

use sha2::{Digest, Sha256};

use super::authorization::is_token;
use super::{has, Fingerprint};

/// The shortest that is taken. Tokens are not slow to look at as passwords are, so they must be long to be safe.
const SHORTEST: usize = 16;
/// As many as a file may hold.
const MOST: usize = 64;

/// The tokens of a file. What is kept of them is their fingerprints.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens(Vec<Fingerprint>);

impl Tokens {
    /// Reads a file's text: a token a line; empty lines and those that begin with `#` are none. The error shows nothing of
    /// them.
    pub(super) fn parse(text: &str) -> Result<Tokens, String> {
        let mut tokens = Vec::new();
        for (line, text) in text.lines().enumerate() {
            let (line, text) = (line + 1, text.trim());
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if !is_token(text) {
                return Err(format!(
                    "line {line}: this is no token: letters, digits and -._~+/ alone"
                ));
            }
            if text.len() < SHORTEST {
                return Err(format!(
                    "line {line}: this token is too short, {SHORTEST} letters is the least: `openssl rand -hex 32` makes one"
                ));
            }
            tokens.push(Sha256::digest(text).into());
        }
        match tokens.len() {
            0 => {
                Err("there is no token in it, one a line (`openssl rand -hex 32` makes one)".into())
            }
            1..=MOST => Ok(Tokens(tokens)),
            more => Err(format!("it has {more} tokens: at most {MOST} are allowed")),
        }
    }

    pub(super) fn has(&self, token: &str) -> bool {
        self.has_fingerprint(&Sha256::digest(token).into())
    }

    pub(super) fn has_fingerprint(&self, token: &Fingerprint) -> bool {
        has(self.0.iter(), token)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_a_line() {
        let text = "# the board's own\n0123456789abcdef\r\n\n  abcdefghijklmnop==  \n";
        let tokens = Tokens::parse(text).unwrap();
        assert_eq!(tokens.0.len(), 2);
        assert!(tokens.has("0123456789abcdef") && tokens.has("abcdefghijklmnop=="));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdef ",
            "# the board's own",
        ] {
            assert!(!tokens.has(other), "{other}");
        }
        assert!(!Tokens::default().has(""));
    }

    #[test]
    fn errors_say_where_and_show_nothing() {
        let many = "0123456789abcdef\n".repeat(MOST + 1);
        for (text, part) in [
            ("", "no token"),
            ("# only this\n", "no token"),
            (
                "0123456789abcdef\nsecret123\n",
                "line 2: this token is too short",
            ),
            ("\nsecret secret secret\n", "line 2: this is no token"),
            ("sécrétsécrétsécrét", "line 1: this is no token"),
            (many.as_str(), "at most 64"),
        ] {
            let error = Tokens::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(
                !error.contains("secret") && !error.contains("0123"),
                "{error}"
            );
        }
    }
}
