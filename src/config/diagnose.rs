//! Errors and warnings about a configuration, with their position.

use std::fmt;
use std::path::PathBuf;

use super::lines;

/// An error or a warning about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line, from 1; `None` if the diagnostic is about no line, or the line is unknown.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong and what to write instead, on one line.
    pub message: String,
    /// Whether the diagnostic is a warning about a name that nothing has: a key, a metric or a source. Such a name is ignored.
    pub is_unknown_name: bool,
}

/// The source of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The preset with this name.
    Preset(&'static str),
    /// No file: the defaults.
    Defaults,
    /// The central server, at this URL.
    Server(String),
}

impl Diagnostic {
    /// A diagnostic without a position.
    pub(crate) fn new(message: String) -> Self {
        Self {
            line: None,
            column: None,
            message,
            is_unknown_name: false,
        }
    }

    /// A diagnostic at this line and column, both from 1.
    pub(crate) fn at(line: usize, column: usize, message: String) -> Self {
        Self {
            line: Some(line),
            column: Some(column),
            message,
            is_unknown_name: false,
        }
    }

    /// A diagnostic at the key of `path`, if `text` has that key.
    pub(crate) fn at_key(text: &str, path: &[&str], message: String) -> Self {
        Self::placed(lines::key(text, path), message)
    }

    /// A diagnostic at the value of `path`, if `text` has that value.
    pub(crate) fn at_value(text: &str, path: &[&str], message: String) -> Self {
        Self::placed(lines::value(text, path), message)
    }

    /// The same, about a name that nothing has.
    pub(crate) fn unknown_name(self) -> Self {
        Self {
            is_unknown_name: true,
            ..self
        }
    }

    fn placed(place: Option<lines::Position>, message: String) -> Self {
        match place {
            Some(place) => Self::at(place.line, place.column, message),
            None => Self::new(message),
        }
    }

    /// Formats the diagnostic as compilers do, `config.yaml:4:11: …`, which editors and CI turn into links.
    pub fn with<'a>(&'a self, origin: &'a Origin) -> impl fmt::Display + 'a {
        WithOrigin(self, origin)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

struct WithOrigin<'a>(&'a Diagnostic, &'a Origin);

impl fmt::Display for WithOrigin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(diagnostic, origin) = self;
        write!(f, "{origin}:")?;
        for number in [diagnostic.line, diagnostic.column].into_iter().flatten() {
            write!(f, "{number}:")?;
        }
        write!(f, " {}", diagnostic.message)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Preset(name) => f.write_str(name),
            Self::Defaults => f.write_str("defaults"),
            Self::Server(url) => f.write_str(url),
        }
    }
}

/// Quotes a user's text for a message: escaped, and shortened to one line.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// Like [`quoted`], without the quotes.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("{}{more}", start.escape_debug())
}

/// The error for bytes that are invalid UTF-8 from offset `valid` on.
pub(crate) fn not_utf8(bytes: &[u8], valid: usize) -> Diagnostic {
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Diagnostic::new("the file is UTF-16: save it as UTF-8".into());
    }
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let byte = bytes.get(valid).copied().unwrap_or_default();
    after(
        &before,
        format!("the byte 0x{byte:02x} is not UTF-8: save the file as UTF-8"),
    )
}

/// A diagnostic at the character that follows `before`.
fn after(before: &str, message: String) -> Diagnostic {
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    Diagnostic::at(line, last.chars().count() + 1, message)
}

/// The error for the first character that YAML does not allow (YAML 1.1, 5.1), if any. libyaml finds most of them, but
/// without their line.
pub(crate) fn not_yaml(text: &str) -> Option<Diagnostic> {
    let allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..)
            && !matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let (at, c) = text.char_indices().find(|(_, c)| !allowed(*c))?;
    let message = format!(
        "the invisible character U+{:04X} is not allowed in YAML",
        u32::from(c)
    );
    Some(after(text.get(..at).unwrap_or_default(), message))
}

/// The candidate most similar to `word`, if one is similar enough to suggest.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    const MAX_LENGTH: usize = 64;
    if word.len() > MAX_LENGTH {
        return None;
    }
    let word = word.trim().to_lowercase().replace(['-', ' ', '.'], "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnostics_are_formatted_like_compiler_messages() {
        let diagnostic = Diagnostic::at(4, 11, "wrong".into());
        let file = Origin::File("etc/config.yaml".into());
        assert_eq!(diagnostic.to_string(), "line 4, column 11: wrong");
        assert_eq!(
            diagnostic.with(&file).to_string(),
            "etc/config.yaml:4:11: wrong"
        );
        let nowhere = Diagnostic::new("wrong".into());
        assert_eq!(nowhere.with(&file).to_string(), "etc/config.yaml: wrong");
    }

    #[test]
    fn only_similar_candidates_are_suggested() {
        let keys = ["interval", "port", "reload_port"];
        assert_eq!(nearest("intervall", keys), Some("interval"));
        assert_eq!(nearest("Reload-Port", keys), Some("reload_port"));
        assert_eq!(nearest("prot", keys), Some("port"));
        assert_eq!(nearest("remote_write", keys), None);
        assert_eq!(nearest("x", keys), None);
        assert_eq!(nearest(&"port".repeat(1000), keys), None);
    }

    #[test]
    fn quoted_text_is_escaped_and_short() {
        assert_eq!(quoted("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
        assert!(quoted(&"x".repeat(1000)).len() < 80);
    }
}
