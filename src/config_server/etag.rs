//! Entity tags, and the conditions that a request puts on them (RFC 9110, 8.8.3 and 13.1).

use std::fmt;

use sha2::{Digest, Sha256};

/// The tag of one content: the same for the same bytes, on whichever server.
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
}

/// As in the header, in quotes.
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
    /// Tags as they stand there, with their quotes, and whether they are weak.
    These(Vec<(bool, String)>),
}

impl Tags {
    /// Reads the header's value. `None`: it is no list of tags.
    pub fn parse(value: &str) -> Option<Tags> {
        const BLANK: [char; 2] = [' ', '\t'];
        let mut rest = value.trim_matches(BLANK);
        if rest == "*" {
            return Some(Tags::Any);
        }
        let mut tags = Vec::new();
        loop {
            // Empty items of a list are passed over (RFC 9110, 5.6.1.2).
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
        (!tags.is_empty()).then_some(Tags::These(tags))
    }

    /// Whether one of them is the tag of what is there. Ours are strong; `weakly` takes weak ones for as good.
    fn has(&self, current: Option<&Etag>, weakly: bool) -> bool {
        match (self, current) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::These(tags), Some(current)) => {
                let current = current.to_string();
                tags.iter()
                    .any(|(weak, tag)| *tag == current && (weakly || !weak))
            }
        }
    }
}

/// What a request says of the state it is meant for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<Tags>,
    /// `If-None-Match`.
    pub if_none_match: Option<Tags>,
}

/// What follows from the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They hold.
    Go,
    /// `If-Match` does not hold.
    Changed,
    /// `If-None-Match` does not hold.
    Same,
}

impl Conditions {
    /// Whether they hold for what is there now; `None`: nothing is.
    pub fn judge(&self, current: Option<&Etag>) -> Verdict {
        if self
            .if_match
            .as_ref()
            .is_some_and(|t| !t.has(current, false))
        {
            Verdict::Changed
        } else if self
            .if_none_match
            .as_ref()
            .is_some_and(|t| t.has(current, true))
        {
            Verdict::Same
        } else {
            Verdict::Go
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_of_its_content() {
        let (a, b) = (Etag::of(b"a"), Etag::of(b"b"));
        assert_ne!(a, b);
        assert_eq!(a.to_string(), "\"ca978112ca1bbdcafac231b3\"");
    }

    #[test]
    fn lists_of_tags_are_read() {
        let these = |tags: &[(bool, &str)]| {
            Some(Tags::These(
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
    fn conditions_are_judged() {
        let here = Etag::of(b"here");
        let judge =
            |if_match: Option<&str>, if_none_match: Option<&str>, current: Option<&Etag>| {
                let conditions = Conditions {
                    if_match: if_match.map(|t| Tags::parse(t).unwrap()),
                    if_none_match: if_none_match.map(|t| Tags::parse(t).unwrap()),
                };
                conditions.judge(current)
            };
        let (tag, weak) = (here.to_string(), format!("W/{here}"));
        assert_eq!(judge(None, None, None), Verdict::Go);
        assert_eq!(judge(Some("*"), None, None), Verdict::Changed);
        assert_eq!(judge(Some("*"), None, Some(&here)), Verdict::Go);
        assert_eq!(judge(Some(&tag), None, Some(&here)), Verdict::Go);
        assert_eq!(judge(Some(&weak), None, Some(&here)), Verdict::Changed);
        assert_eq!(judge(Some("\"x\""), None, Some(&here)), Verdict::Changed);
        assert_eq!(judge(None, Some("*"), Some(&here)), Verdict::Same);
        assert_eq!(judge(None, Some("*"), None), Verdict::Go);
        assert_eq!(judge(None, Some(&weak), Some(&here)), Verdict::Same);
        assert_eq!(
            judge(Some("\"x\""), Some(&tag), Some(&here)),
            Verdict::Changed
        );
    }
}
