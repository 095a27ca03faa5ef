//! A mapping in block style, `name: value` one a line, as far as its lines show it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::text::{is_blank, is_bool, is_comment_or_nothing, key, Splice, Text};

/// `name:` at the beginning of a line.
#[derive(Debug)]
pub(super) struct Key<'t> {
    pub(super) name: &'t str,
    pub(super) quote: Option<char>,
    /// With its quotes.
    pub(super) token: Range<usize>,
    /// The first byte after the colon.
    pub(super) after: usize,
}

/// Reads the key that begins at `start`. Keys with escapes, or marked by `?`, are not understood.
pub(super) fn read_key<'t>(text: &Text<'t>, start: usize) -> Option<Key<'t>> {
    let line = text.line(text.line_of(start))?;
    let rest = text.at(start..line.end);
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (name, length) = match quote {
        Some(quote) => {
            let (name, _) = rest.get(1..)?.split_once(quote)?;
            (name, name.len() + 2)
        }
        None => {
            let colon = rest.match_indices(':').map(|(at, _)| at).find(|at| {
                let after = rest.get(at + 1..).unwrap_or_default();
                after.is_empty() || after.starts_with(is_blank)
            })?;
            let name = rest.get(..colon)?.trim_end_matches(is_blank);
            (name, name.len())
        }
    };
    let colon = rest.get(length..)?.trim_start_matches(is_blank);
    let after = colon.strip_prefix(':')?;
    let understood = !name.is_empty()
        && !name.contains(['\\', '\'', '"'])
        && (after.is_empty() || after.starts_with(is_blank));
    understood.then(|| Key {
        name,
        quote,
        token: start..start + length,
        after: line.end - after.len(),
    })
}

/// The one word between `after` and the line's end, or the comment before that; empty where there is none.
pub(super) fn word(text: &Text<'_>, after: usize) -> Range<usize> {
    let end = text.line(text.line_of(after)).map_or(after, |l| l.end);
    let rest = text.at(after..end);
    let comment = rest
        .char_indices()
        .zip(rest.chars().skip(1))
        .find(|((_, before), c)| *c == '#' && is_blank(*before))
        .map_or(rest.len(), |((at, _), _)| at + 1);
    let token = rest.get(..comment).unwrap_or_default();
    let start = after + token.len() - token.trim_start_matches(is_blank).len();
    start..start + token.trim_matches(is_blank).len()
}

struct Entry<'t> {
    key: Option<Key<'t>>,
    value: Range<usize>,
    /// Whether the value goes on below.
    goes_on: bool,
}

/// The mapping whose first key stands on line `first` after `indent` spaces.
pub(super) struct Map<'t> {
    indent: usize,
    entries: Vec<Entry<'t>>,
    /// The number of the first line after its entries and the comments that belong to the last.
    end: usize,
}

impl<'t> Map<'t> {
    pub(super) fn read(text: &Text<'t>, first: usize, indent: usize) -> Map<'t> {
        let mut map = Map {
            indent,
            entries: Vec::new(),
            end: first,
        };
        for number in first.. {
            let (Some(line), Some(content)) = (text.line(number), text.content(number)) else {
                break;
            };
            let rest = content.trim_start_matches(' ');
            let depth = content.len() - rest.len();
            if rest.trim_start_matches(is_blank).is_empty() {
                continue;
            }
            if rest.starts_with('#') {
                if depth >= indent && map.end == number {
                    map.end = number + 1;
                }
                continue;
            }
            if depth < indent {
                break;
            }
            map.end = number + 1;
            if depth > indent {
                if let Some(last) = map.entries.last_mut() {
                    last.goes_on = true;
                }
                continue;
            }
            let key = read_key(text, line.start + depth);
            map.entries.push(Entry {
                value: key.as_ref().map_or(0..0, |key| word(text, key.after)),
                key,
                goes_on: false,
            });
        }
        map
    }

    /// The changes that give the names these values: in their places, new ones behind the last. `Err`: the number of the
    /// line, from 0, whose value is none that is written plainly, and the name.
    pub(super) fn set<'c>(
        &self,
        text: &Text<'_>,
        changes: &'c BTreeMap<String, bool>,
    ) -> Result<Vec<Splice>, (usize, &'c str)> {
        let mut splices = Vec::new();
        let mut new = Vec::new();
        let last = self.entries.iter().rev().find_map(|e| e.key.as_ref());
        let quote = last.and_then(|key| key.quote);
        for (name, on) in changes {
            let entry = self
                .entries
                .iter()
                .find(|e| e.key.as_ref().is_some_and(|key| key.name == name));
            let Some(entry) = entry else {
                let indent = " ".repeat(self.indent);
                new.push(format!("{indent}{}: {on}", key(name, quote)));
                continue;
            };
            let value = text.at(entry.value.clone());
            if entry.goes_on || !is_bool(value) {
                return Err((text.line_of(entry.value.start), name));
            }
            splices.extend(replace(text, &entry.value, *on));
        }
        if !new.is_empty() {
            splices.push(text.insert_lines(self.end, &new));
        }
        Ok(splices)
    }
}

/// Writes `on` where a plain true or false stands. A comment behind it stays in its column, if there is room.
pub(super) fn replace(text: &Text<'_>, value: &Range<usize>, on: bool) -> Option<Splice> {
    let old = text.at(value.clone());
    if old.eq_ignore_ascii_case(if on { "true" } else { "false" }) {
        return None;
    }
    let mut with = on.to_string();
    let mut at = value.clone();
    let line = text.line(text.line_of(value.start))?;
    let rest = text.at(value.end..line.end);
    let spaces = rest.len() - rest.trim_start_matches(' ').len();
    if is_comment_or_nothing(rest) && spaces > 0 && spaces < rest.len() {
        if with.len() < old.len() {
            with.push(' ');
        } else if spaces > 1 {
            at.end += 1;
        }
    }
    Some(Splice { at, with })
}
