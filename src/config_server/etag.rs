//! Entity tags, and preconditions of requests (RFC 9110, 8.8.3 and 13.1).

use std::fmt;

use sha2::{Digest, Sha256};

/// The entity tag of a content. The same bytes have the same tag on every server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Etag([u8; 12]);

impl Etag {
    /// The tag of these bytes.
    pub fn of(bytes: &[u8]) -> Etag {
        let mut tag = [0; 12];
        tag.iter_mut()
            .zip(Sha256::digest(bytes))
            .for_each(|(tag, byte)| *tag = byte);
        Etag(tag)
    }

    /// The tag of what is made of contents of these tags, this one first. Without others it is this one.
    pub(super) fn chain(self, others: impl Iterator<Item = Etag>) -> Etag {
        let mut bytes = self.0.to_vec();
        others.for_each(|other| bytes.extend(other.0));
        match bytes.len() > self.0.len() {
            true => Etag::of(&bytes),
            false => self,
        }
    }
}

/// The tag in quotes, as in the header.
impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("\"")
    }
}

/// The value of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`.
    Any,
    /// A list of tags, with their quotes, and whether they are weak.
    List(Vec<(bool, String)>),
}

impl Tags {
    /// Parses the value of the header; `None`: it is not a list of tags.
    pub fn parse(value: &str) -> Option<Tags> {
        const BLANK: [char; 2] = [' ', '\t'];
        let mut rest = value.trim_matches(BLANK);
        if rest == "*" {
            return Some(Tags::Any);
        }
        let mut tags = Vec::new();
        loop {
            // Empty list elements are skipped (RFC 9110, 5.6.1.2).
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (weak, tag) = match rest.strip_prefix("W/") {
                Some(tag) => (true, tag),
                None => (false, rest),
            };
            let end = tag.strip_prefix('"')?.find('"')? + 2;
            let (tag, after) = tag.split_at_checked(end)?;
            let within = tag.bytes().all(|b| b > b' ' && b != 0x7f);
            rest = after.trim_start_matches(BLANK);
            if !within || !(rest.is_empty() || rest.starts_with(',')) {
                return None;
            }
            tags.push((weak, tag.to_owned()));
        }
        (!tags.is_empty()).then_some(Tags::List(tags))
    }

    /// Whether one of the current tags is in the list. With `weakly`, weak tags match too (RFC 9110, 8.8.3.2).
    fn has(&self, current: &[Etag], weakly: bool) -> bool {
        current.iter().any(|current| match self {
            Tags::Any => true,
            Tags::List(tags) => {
                let current = current.to_string();
                tags.iter()
                    .any(|(weak, tag)| *tag == current && (weakly || !weak))
            }
        })
    }
}

/// The preconditions of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<Tags>,
    /// `If-None-Match`.
    pub if_none_match: Option<Tags>,
}

/// The result of evaluating preconditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evaluation {
    /// The preconditions hold.
    Proceed,
    /// `If-Match` does not hold.
    Failed,
    /// `If-None-Match` does not hold.
    NotModified,
}

impl Conditions {
    /// Evaluates the preconditions for the current tags, those of all forms in which the content is sent; none: there is no
    /// content.
    pub fn evaluate(&self, current: &[Etag]) -> Evaluation {
        if self
            .if_match
            .as_ref()
            .is_some_and(|t| !t.has(current, false))
        {
            Evaluation::Failed
        } else if self
            .if_none_match
            .as_ref()
            .is_some_and(|t| t.has(current, true))
        {
            Evaluation::NotModified
        } else {
            Evaluation::Proceed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_depends_on_content_only() {
        let (a, b) = (Etag::of(b"a"), Etag::of(b"b"));
        assert_ne!(a, b);
        assert_eq!(a.to_string(), "\"ca978112ca1bbdcafac231b3\"");
    }

    #[test]
    fn lists_of_tags_are_parsed() {
        let these = |tags: &[(bool, &str)]| {
            Some(Tags::List(
                tags.iter().map(|(w, t)| (*w, t.to_string())).collect(),
            ))
        };
        for (text, tags) in [
            ("*", Some(Tags::Any)),
            (" * ", Some(Tags::Any)),
            ("\"a\"", these(&[(false, "\"a\"")])),
            (
                "W/\"a\", \"b,c\" ,,\"\"",
                these(&[(true, "\"a\""), (false, "\"b,c\""), (false, "\"\"")]),
            ),
            ("", None),
            (",", None),
            ("a", None),
            ("\"a", None),
            ("\"a\"b", None),
            ("\"a\" \"b\"", None),
            ("w/\"a\"", None),
            ("\"a b\"", None),
            ("*, \"a\"", None),
        ] {
            assert_eq!(Tags::parse(text), tags, "{text}");
        }
    }

    #[test]
    fn preconditions_are_evaluated() {
        let here = Etag::of(b"here");
        let evaluate = |if_match: Option<&str>, if_none_match: Option<&str>, current: &[Etag]| {
            let conditions = Conditions {
                if_match: if_match.map(|t| Tags::parse(t).unwrap()),
                if_none_match: if_none_match.map(|t| Tags::parse(t).unwrap()),
            };
            conditions.evaluate(current)
        };
        let (tag, weak) = (here.to_string(), format!("W/{here}"));
        assert_eq!(evaluate(None, None, &[]), Evaluation::Proceed);
        assert_eq!(evaluate(Some("*"), None, &[]), Evaluation::Failed);
        assert_eq!(evaluate(Some("*"), None, &[here]), Evaluation::Proceed);
        assert_eq!(evaluate(Some(&tag), None, &[here]), Evaluation::Proceed);
        assert_eq!(evaluate(Some(&weak), None, &[here]), Evaluation::Failed);
        assert_eq!(evaluate(Some("\"x\""), None, &[here]), Evaluation::Failed);
        assert_eq!(evaluate(None, Some("*"), &[here]), Evaluation::NotModified);
        assert_eq!(evaluate(None, Some("*"), &[]), Evaluation::Proceed);
        assert_eq!(
            evaluate(None, Some(&weak), &[here]),
            Evaluation::NotModified
        );
        assert_eq!(
            evaluate(Some("\"x\""), Some(&tag), &[here]),
            Evaluation::Failed
        );
        // Any of several forms.
        let both = [Etag::of(b"there"), here];
        assert_eq!(evaluate(Some(&tag), None, &both), Evaluation::Proceed);
        assert_eq!(evaluate(None, Some(&tag), &both), Evaluation::NotModified);
    }
}
