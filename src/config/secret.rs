//! Passwords and tokens that are never printed.

use std::fmt;
use std::path::Path;

use crate::sys::file;
use crate::sys::reason;

/// The largest file with a secret. Tokens have some hundred bytes, signed tokens some thousand.
const MAX_FILE: u64 = 64 * 1024;

/// A password or a token. `Debug` and `Serialize` do not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// A secret with this text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Reads the first line of a file. The error is a message for the user and does not show the content.
    pub fn read(path: &Path) -> Result<Secret, String> {
        let bytes = file::read(path, MAX_FILE)
            .map_err(|error| format!("cannot read {}: {}", path.display(), reason(&error)))?;
        let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        match std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)) {
            Ok(line) if !line.is_empty() => Ok(Secret::new(line)),
            _ => Err(format!(
                "{} does not hold a password or a token in its first line",
                path.display()
            )),
        }
    }

    /// The secret text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_the_first_line_and_is_not_shown() {
        let path = std::env::temp_dir().join(format!("eme-secret-{}", std::process::id()));
        for (content, secret) in [
            (&b"open sesame\r\nmore\n"[..], Some("open sesame")),
            (b"x", Some("x")),
            (b"\nx", None),
            (b"", None),
            (b"caf\xe9", None),
        ] {
            std::fs::write(&path, content).unwrap();
            let read = Secret::read(&path);
            assert_eq!(read.as_ref().ok().map(Secret::reveal), secret);
            let shown = format!("{read:?}");
            assert!(
                !shown.contains("sesame") && !shown.contains("caf"),
                "{shown}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Secret::read(&path).unwrap_err().contains("eme-secret"));
    }
}
