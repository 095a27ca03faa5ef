//! Which boards a request selects: `group=rack-3,device_type=jetson_*,name=edge-0*,label.site=berlin`, or `*` for all.
//!
//! The boards are selected before anything is changed, by what they are then. So a change that moves a board to another group
//! selects no further boards.

use super::device::Device;
use super::groups::{Entry, GroupSet};
use crate::config::Pattern;

/// The most terms.
const MAX_TERMS: usize = 100;
/// Bytes of the longest pattern: that of a label's value.
const MAX_PATTERN: usize = 256;

/// Terms that all have to match.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector(Vec<Term>);

#[derive(Debug, PartialEq, Eq)]
struct Term {
    key: Key,
    pattern: Pattern,
}

/// What a term is about.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// The name of any group that the board is a member of.
    Group,
    /// The type that groups see.
    DeviceType,
    /// The device id.
    Name,
    /// The value of this label of the board's target.
    Label(String),
}

impl Selector {
    /// The error is a message for the user.
    pub(super) fn parse(text: &str) -> Result<Selector, String> {
        let text = text.trim();
        if text == "*" {
            return Ok(Selector(Vec::new()));
        }
        if text.is_empty() {
            return Err(
                "a selector is wanted, such as `group=rack-3,name=edge-0*`; `*` selects all boards"
                    .into(),
            );
        }
        let count = text.split(',').count();
        if count > MAX_TERMS {
            return Err(format!(
                "the selector has {count} terms: at most {MAX_TERMS} are allowed (put the boards into a group)"
            ));
        }
        let terms: Result<_, String> = text
            .split(',')
            .map(|term| Term::parse(term.trim()))
            .collect();
        Ok(Selector(terms?))
    }

    /// Tells of a board whether it is selected.
    pub(super) fn matcher<'a>(&'a self, groups: &'a GroupSet) -> impl Fn(&Device) -> bool + 'a {
        // The groups that each term may mean are looked for once.
        let terms = self.0.iter().map(|term| {
            let is_meant = |entry: &&Entry| {
                term.key == Key::Group && term.pattern.matches(entry.name.as_str())
            };
            let entries = groups.entries.iter().map(AsRef::as_ref);
            (term, entries.filter(is_meant).collect::<Vec<_>>())
        });
        let terms: Vec<_> = terms.collect();
        move |device| {
            let board = device.membership();
            terms.iter().all(|(term, meant)| match &term.key {
                Key::Group => meant.iter().any(|group| group.members.has(board)),
                Key::DeviceType => term.pattern.matches(board.device_type),
                Key::Name => term.pattern.matches(device.id.as_str()),
                Key::Label(name) => device
                    .labels()
                    .iter()
                    .any(|(label, value)| label == name && term.pattern.matches(value)),
            })
        }
    }
}

impl Term {
    fn parse(term: &str) -> Result<Term, String> {
        let (key, pattern) = term
            .split_once('=')
            .ok_or_else(|| format!("the term `{}` is not of the form key=pattern", shown(term)))?;
        let key = match (key, key.strip_prefix("label.")) {
            ("group", _) => Key::Group,
            ("device_type", _) => Key::DeviceType,
            ("name", _) => Key::Name,
            (_, Some(label)) if !label.is_empty() => Key::Label(label.to_owned()),
            _ => {
                return Err(format!(
                    "a selector has no key `{}`: there are group, device_type, name and label.NAME",
                    shown(key)
                ))
            }
        };
        match pattern.len() {
            1..=MAX_PATTERN => Ok(Term {
                key,
                pattern: Pattern::new(pattern),
            }),
            _ => Err(format!(
                "the pattern of `{}` has {} bytes: 1 to {MAX_PATTERN} are allowed",
                shown(term),
                pattern.len()
            )),
        }
    }
}

/// The beginning of what a client sent.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selector_is_parsed_or_refused_with_what_is_wrong() {
        let selector =
            Selector::parse("group=rack-3, device_type=jetson_*,label.site=b=c").unwrap();
        let keys: Vec<_> = selector.0.iter().map(|term| &term.key).collect();
        assert_eq!(
            keys,
            [&Key::Group, &Key::DeviceType, &Key::Label("site".into())]
        );
        assert!(selector.0[2].pattern.matches("b=c"));
        assert_eq!(Selector::parse(" * "), Ok(Selector(Vec::new())));
        let many = |count| vec!["name=a"; count].join(",");
        assert!(Selector::parse(&many(100)).is_ok());
        for (text, words) in [
            ("", "`*` selects all"),
            ("name", "key=pattern"),
            ("*,name=a", "key=pattern"),
            ("name=a,", "key=pattern"),
            ("nmae=a", "there are group"),
            ("label.=a", "there are group"),
            ("name=", "0 bytes"),
            (&format!("name={}", "*a".repeat(129)), "258 bytes"),
            (&many(1000), "1000 terms"),
        ] {
            let why = Selector::parse(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
