//! A mapping in flow style, `{name: value, …}`, on one line or several: JSON is one, too.

use std::collections::BTreeMap;
use std::ops::Range;

use super::block::replace;
use super::text::{is_bool, is_comment_or_nothing, key, Splice, Text};

/// What stands between two commas.
pub(super) struct Entry {
    /// With its quotes.
    pub(super) key: Range<usize>,
    /// Empty, where there is none.
    pub(super) value: Range<usize>,
}

/// Between a bracket and its counterpart: a mapping's entries, or a list's items, which have keys alone.
pub(super) struct Flow {
    pub(super) open: usize,
    pub(super) entries: Vec<Entry>,
    /// A comma behind the last entry.
    comma: Option<usize>,
    pub(super) close: usize,
}

/// Reads what opens at `open` with `[` or `{`. `None` is what is not understood: `?`, or a text on several lines.
pub(super) fn read(text: &str, open: usize) -> Option<Flow> {
    let close = match text.as_bytes().get(open)? {
        b'{' => b'}',
        b'[' => b']',
        _ => return None,
    };
    let byte = |at: usize| text.as_bytes().get(at).copied();
    let mut flow = Flow {
        open,
        entries: Vec::new(),
        comma: None,
        close: open,
    };
    let mut at = skip(text, open + 1);
    loop {
        let next = byte(at)?;
        if next == close {
            flow.close = at;
            return Some(flow);
        }
        if next == b',' {
            flow.comma = Some(at);
            at = skip(text, at + 1);
            continue;
        }
        let key = token(text, at)?;
        let mut value = key.end..key.end;
        at = skip(text, key.end);
        if byte(at) == Some(b':') {
            value = at + 1..at + 1;
            at = skip(text, at + 1);
            if !matches!(byte(at)?, b',' | b'}') {
                value = token(text, at)?;
                at = skip(text, value.end);
            }
        }
        flow.entries.push(Entry { key, value });
        flow.comma = None;
    }
}

impl Flow {
    /// The entry of this name, and the quotes around that.
    pub(super) fn find(&self, text: &Text<'_>, name: &str) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| unquoted(text.at(entry.key.clone())).0 == name)
    }

    /// As for a block: the changes, or the line of a value that is not written plainly, and its name.
    pub(super) fn set<'c>(
        &self,
        text: &Text<'_>,
        changes: &'c BTreeMap<String, bool>,
    ) -> Result<Vec<Splice>, (usize, &'c str)> {
        let mut splices = Vec::new();
        let mut new = Vec::new();
        let last = self.entries.last();
        let quote = last.and_then(|entry| unquoted(text.at(entry.key.clone())).1);
        for (name, on) in changes {
            match self.find(text, name) {
                None => new.push(format!("{}: {on}", key(name, quote))),
                Some(entry) if is_bool(text.at(entry.value.clone())) => {
                    splices.extend(replace(text, &entry.value, *on));
                }
                Some(entry) => return Err((text.line_of(entry.key.start), name)),
            }
        }
        splices.extend(self.add(text, &new));
        Ok(splices)
    }

    /// Puts entries behind the last: on lines of their own, if that has one.
    pub(super) fn add(&self, text: &Text<'_>, new: &[String]) -> Vec<Splice> {
        let insert = |at: usize, with: String| Splice { at: at..at, with };
        if new.is_empty() {
            return Vec::new();
        }
        let Some(last) = self.entries.last() else {
            return vec![insert(self.open + 1, new.join(", "))];
        };
        let end = self.comma.map_or(last.value.end, |comma| comma + 1);
        let line = text.line(text.line_of(last.key.start));
        let indent = line.map_or("", |line| text.at(line.start..last.key.start));
        let line_end = text.line(text.line_of(end)).map_or(end, |line| line.end);
        let alone = indent.chars().all(char::is_whitespace)
            && is_comment_or_nothing(text.at(end..line_end))
            && line_end < self.close;
        if !alone {
            let separator = if self.comma.is_some() { " " } else { ", " };
            return vec![insert(end, format!("{separator}{}", new.join(", ")))];
        }
        let line_break = text.line_break();
        let mut lines = String::new();
        for (i, entry) in new.iter().enumerate() {
            let comma = if i + 1 < new.len() || self.comma.is_some() {
                ","
            } else {
                ""
            };
            lines.push_str(&format!("{line_break}{indent}{entry}{comma}"));
        }
        let mut splices = Vec::new();
        if self.comma.is_none() {
            splices.push(insert(end, ",".into()));
        }
        splices.push(insert(line_end, lines));
        splices
    }
}

/// A key without its quotes, and those. One with escapes stays as it is.
pub(super) fn unquoted(token: &str) -> (&str, Option<char>) {
    let quote = token.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = quote.and_then(|quote| token.strip_prefix(quote)?.strip_suffix(quote));
    match inner {
        Some(inner) if !inner.contains(['\\', '\'', '"']) => (inner, quote),
        _ => (token, quote),
    }
}

/// Past white space, line breaks and comments.
fn skip(text: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let begins = trimmed.len() < rest.len() || at == from;
        at += rest.len() - trimmed.len();
        if !(begins && trimmed.starts_with('#')) {
            return at;
        }
        at += trimmed.find(['\n', '\r']).unwrap_or(trimmed.len());
    }
}

/// A quoted or plain text, or a whole mapping or list.
fn token(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = text.get(start..)?;
    let length = match rest.as_bytes().first()? {
        b'"' | b'\'' => quoted(rest)?,
        b'{' | b'[' => nested(rest)?,
        b'?' => return None,
        _ => plain(rest)?,
    };
    Some(start..start + length)
}

/// How long the quoted text is that begins here, with its quotes.
fn quoted(rest: &str) -> Option<usize> {
    let quote = *rest.as_bytes().first()?;
    let mut bytes = rest.bytes().enumerate().skip(1).peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if quote == b'"' => {
                bytes.next();
            }
            b'\'' if quote == b'\'' && bytes.next_if(|(_, next)| *next == b'\'').is_some() => {}
            _ if byte == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// How long what opens here is, to its counterpart.
fn nested(rest: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    // A quote begins a text where one may begin, and is a character elsewhere.
    let mut fresh = true;
    loop {
        at = if fresh { skip(rest, at) } else { at };
        let byte = *rest.as_bytes().get(at)?;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' | b'\'' if fresh => {
                at += quoted(rest.get(at..)?)?;
                fresh = false;
                continue;
            }
            b'#' if rest
                .as_bytes()
                .get(at.wrapping_sub(1))
                .is_some_and(u8::is_ascii_whitespace) =>
            {
                at = skip(rest, at);
                continue;
            }
            _ => {}
        }
        fresh = matches!(byte, b'{' | b'[' | b',' | b':');
        at += 1;
    }
}

/// How long the plain text is that begins here.
fn plain(rest: &str) -> Option<usize> {
    let mut end = rest.len();
    let mut before = ' ';
    for (at, c) in rest.char_indices() {
        let after = rest.get(at + c.len_utf8()..).unwrap_or_default();
        let ends = match c {
            ',' | '[' | ']' | '{' | '}' | '\n' | '\r' => true,
            ':' => {
                after.is_empty()
                    || after.starts_with([' ', '\t', '\n', '\r', ',', '[', ']', '{', '}'])
            }
            '#' => before == ' ' || before == '\t',
            _ => false,
        };
        if ends {
            end = at;
            break;
        }
        before = c;
    }
    let length = rest.get(..end)?.trim_end_matches([' ', '\t']).len();
    (length > 0).then_some(length)
}
