//! Bearer tokens: secrets that programs send in the place of a user name and password (RFC 6750).

use sha2::{Digest, Sha256};

use super::authorization::is_token;
use super::{contains, Fingerprint};

/// Characters of the shortest token. Verifying a token takes no time, unlike a password, so it must be long to be safe.
const MIN_LENGTH: usize = 16;
/// Tokens of one file.
const MAX_TOKENS: usize = 64;

/// The digests of the tokens of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens(Vec<Fingerprint>);

impl Tokens {
    /// Reads a file's text: one token a line. Empty lines and lines that begin with `#` are skipped. The error contains no
    /// part of a token.
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
            if text.len() < MIN_LENGTH {
                return Err(format!(
                    "line {line}: this token is too short, {MIN_LENGTH} letters is the least: `openssl rand -hex 32` makes one"
                ));
            }
            tokens.push(Sha256::digest(text).into());
        }
        match tokens.len() {
            0 => {
                Err("there is no token in it, one a line (`openssl rand -hex 32` makes one)".into())
            }
            1..=MAX_TOKENS => Ok(Tokens(tokens)),
            more => Err(format!(
                "it has {more} tokens: at most {MAX_TOKENS} are allowed"
            )),
        }
    }

    pub(super) fn has(&self, token: &str) -> bool {
        self.has_fingerprint(&Sha256::digest(token).into())
    }

    pub(super) fn has_fingerprint(&self, token: &Fingerprint) -> bool {
        contains(self.0.iter(), token)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_one_a_line() {
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
    fn errors_name_the_line_and_show_no_token() {
        let many = "0123456789abcdef\n".repeat(MAX_TOKENS + 1);
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
