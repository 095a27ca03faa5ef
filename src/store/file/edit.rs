//! Changing entries of `metrics:` in a configuration's text.
//!
//! The editor understands one layout, the one that configuration files have: a block mapping at the margin, one
//! `name: true` a line, with comments and quotes. `metrics: {…}` on a single line is rewritten in that layout. Every other
//! layout is refused with the line to edit by hand.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::document::{entry, Document, METRICS, OLD_METRICS};
use crate::config::diagnose::Diagnostic;
use crate::config::{lines, valid_metric_name, MAX_METRICS, MAX_SIZE};

/// Returns the text with these metrics set to true or false below `metrics:`, and everything else unchanged. Values are
/// replaced in place, new names are added after the last one, and a missing key is added at the end. The old list
/// `enabled_metrics` becomes `metrics` if it is in effect.
///
/// Pure and total: for any text, the result parses to the same configuration apart from these metrics. Otherwise the error
/// says what to write by hand, and on which line.
pub fn set_metrics(source: &str, changes: &BTreeMap<String, bool>) -> Result<String, Diagnostic> {
    let (byte_order_mark, body) = match source.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", source),
    };
    let before = Document::read(body)?;
    let mut target = before.metrics.clone();
    target.extend(changes.iter().map(|(name, on)| (name.clone(), *on)));
    if target == before.metrics {
        return Ok(source.to_owned());
    }
    if target.len() > MAX_METRICS {
        return Err(Diagnostic::new(format!(
            "`metrics` would have {} names: at most {MAX_METRICS} are allowed",
            target.len(),
        )));
    }
    let edit = Edit {
        body,
        before: &before,
        target: &target,
    };
    let edited = edit.apply().map_err(|layout| edit.refuse(layout))?;
    let edited = edit.verify(edited)?;
    Ok(format!("{byte_order_mark}{edited}"))
}

/// A layout that is not edited.
enum Unsupported {
    /// The value of this metric on this line (from 0) is not a plain true or false.
    Value(usize, String),
    /// Anything else.
    Layout,
}

struct Edit<'a> {
    body: &'a str,
    before: &'a Document,
    /// The entries that `metrics` must have afterwards.
    target: &'a BTreeMap<String, bool>,
}

/// Lines, each with its line break.
type Lines<'t> = Vec<Cow<'t, str>>;

impl Edit<'_> {
    fn apply(&self) -> Result<String, Unsupported> {
        let mut lines: Lines<'_> = self.body.split_inclusive('\n').map(Cow::from).collect();
        let mut key = find_key(&lines, METRICS);
        if key.is_none() && self.before.is_old {
            key = convert_old_list(&mut lines);
        }
        match key {
            Some(key) => self.set_below(&mut lines, key)?,
            None => {
                let mut new = vec![format!("{METRICS}:")];
                new.extend(written(self.target, 2, ""));
                insert(&mut lines, usize::MAX, new);
            }
        }
        Ok(lines.concat())
    }

    /// Brings the mapping whose key is on line `key` to the target.
    fn set_below(&self, lines: &mut Lines<'_>, key: usize) -> Result<(), Unsupported> {
        let block = block(lines, key);
        let entry = lines.get(key).and_then(|line| Entry::parse(line));
        let entry = entry.ok_or(Unsupported::Layout)?;
        let Some(first) = first_content(lines, &block) else {
            if !is_empty_or_one_line(entry.value, '{', '}') {
                return Err(Unsupported::Layout);
            }
            let emptied = format!("{}{}", entry.head.trim_end(), entry.tail);
            replace(lines, key, emptied);
            insert(lines, key + 1, written(self.target, 2, ""));
            return Ok(());
        };
        if !entry.value.is_empty() {
            return Err(Unsupported::Layout);
        }
        let indent = lines.get(first).map_or(0, |line| indentation(line));
        let mut new = self.target.clone();
        let mut quote = "";
        let mut end = first;
        for (number, line) in lines.iter_mut().enumerate().take(block.end).skip(first) {
            if is_blank_or_comment(line) {
                // Comments directly below an entry belong to that entry.
                if end == number && indentation(line) >= indent && line.contains('#') {
                    end = number + 1;
                }
                continue;
            }
            end = number + 1;
            let entry = Entry::parse(line).filter(|_| indentation(line) == indent);
            let Some(entry) = entry else {
                continue;
            };
            quote = entry.quote();
            let Some(on) = new.remove(entry.name) else {
                continue;
            };
            match parse_bool(entry.value) {
                Some(found) if found == on => {}
                Some(_) => *line = entry.with_value(on).into(),
                None if self.is_set(entry.name, on) => {}
                None => return Err(Unsupported::Value(number, entry.name.to_owned())),
            }
        }
        // Entries in a form that is not understood stay as they are.
        new.retain(|name, on| !self.is_set(name, *on));
        insert(lines, end, written(&new, indent, quote));
        Ok(())
    }

    fn is_set(&self, name: &str, on: bool) -> bool {
        self.before.metrics.get(name) == Some(&on)
    }

    /// Returns the edited text if it has exactly the intended values.
    fn verify(&self, edited: String) -> Result<String, Diagnostic> {
        if edited.len() > MAX_SIZE {
            return Err(Diagnostic::new(format!(
                "the configuration would be larger than {MAX_SIZE} bytes"
            )));
        }
        let unsupported = || self.refuse(Unsupported::Layout);
        let after = Document::read(&edited).map_err(|_| unsupported())?;
        let old_list = entry(&after.root, OLD_METRICS);
        let old_list_is_right = old_list == entry(&self.before.root, OLD_METRICS)
            || (old_list.is_none() && self.before.is_old);
        let is_right = after.metrics == *self.target
            && !after.is_old
            && old_list_is_right
            && after.equals_apart_from_metrics(self.before);
        match is_right {
            true => Ok(edited),
            false => Err(unsupported()),
        }
    }

    /// The error that explains what to write by hand, and where.
    fn refuse(&self, layout: Unsupported) -> Diagnostic {
        if let Unsupported::Value(line, name) = layout {
            let on = self.target.get(&name).copied().unwrap_or_default();
            let message = format!(
                "the value of {name} is not written as a plain true or false, so that it is not changed here: \
                 write `{name}: {on}` by hand"
            );
            return Diagnostic::at(line + 1, 1, message);
        }
        let is_change = |(name, on): &(&String, &bool)| self.before.metrics.get(*name) != Some(*on);
        let change = self.target.iter().find(is_change);
        let what = change.map_or_else(String::new, |(name, on)| format!("`{name}: {on}` "));
        let message = format!(
            "this is laid out in a way that is not changed here, lest more be changed than `metrics`: \
             write {what}below `metrics:` by hand"
        );
        let name = change.map_or("", |(name, _)| name.as_str());
        let key = lines::key(self.body, &[METRICS]);
        // The mapping behind an alias (`metrics: *m`) stands further up and is not what has to be edited.
        let entry = lines::key(self.body, &[METRICS, name]).filter(|place| Some(*place) > key);
        match entry
            .or(key)
            .or_else(|| lines::key(self.body, &[OLD_METRICS]))
        {
            Some(place) => Diagnostic::at(place.line, place.column, message),
            None => Diagnostic::new(message),
        }
    }
}

/// The number of the line that has this key at the margin.
fn find_key(lines: &[Cow<'_, str>], name: &str) -> Option<usize> {
    lines.iter().position(|line| {
        indentation(line) == 0 && Entry::parse(line).is_some_and(|entry| entry.name == name)
    })
}

/// The lines below a key at the margin that belong to its value. The items of a list may stand at the margin, too.
fn block(lines: &[Cow<'_, str>], key: usize) -> Range<usize> {
    let below = lines.iter().skip(key + 1);
    let is_inside = |line: &&Cow<'_, str>| {
        is_blank_or_comment(line)
            || line.starts_with([' ', '\t'])
            || line.starts_with('-') && !line.starts_with("---")
    };
    let count = below.take_while(is_inside).count();
    key + 1..key + 1 + count
}

/// The first line of the block that is neither blank nor a comment.
fn first_content(lines: &[Cow<'_, str>], block: &Range<usize>) -> Option<usize> {
    let is_content = |number: &usize| {
        lines
            .get(*number)
            .is_some_and(|line| !is_blank_or_comment(line))
    };
    block.clone().find(is_content)
}

/// Makes the list `enabled_metrics` a mapping `metrics` of the same names, and returns the line of its key. `None` if the
/// list is laid out in a way that is not edited, or has a name twice: nothing is changed then.
fn convert_old_list(lines: &mut Lines<'_>) -> Option<usize> {
    let key = find_key(lines, OLD_METRICS)?;
    let block = block(lines, key);
    let entry = Entry::parse(lines.get(key)?)?;
    match first_content(lines, &block) {
        Some(_) if entry.value.is_empty() => {}
        None if is_empty_or_one_line(entry.value, '[', ']') => {}
        _ => return None,
    }
    let head = entry.head.trim_end().replacen(OLD_METRICS, METRICS, 1);
    let mut converted = vec![(key, format!("{head}{}", entry.tail))];
    let mut names = BTreeSet::new();
    for (number, line) in lines.iter().enumerate().take(block.end).skip(block.start) {
        if is_blank_or_comment(line) {
            continue;
        }
        let item = line.trim_start_matches(' ').strip_prefix("- ")?;
        let (_, name, tail) = split_value(item);
        if !valid_metric_name(unquoted(name)) || !names.insert(unquoted(name)) {
            return None;
        }
        let indent = indentation(line).max(2);
        converted.push((number, format!("{:indent$}{name}: true{tail}", "")));
    }
    for (number, line) in converted {
        replace(lines, number, line);
    }
    Some(key)
}

fn replace(lines: &mut Lines<'_>, number: usize, new: String) {
    if let Some(line) = lines.get_mut(number) {
        *line = new.into();
    }
}

/// Inserts lines before the line of this number, or at the end. A text without a line break at its end gets none.
fn insert(lines: &mut Lines<'_>, number: usize, new: Vec<String>) {
    let number = number.min(lines.len());
    let has_crlf = lines.first().is_some_and(|line| line.ends_with("\r\n"));
    let line_break = if has_crlf { "\r\n" } else { "\n" };
    let mut new: Lines<'_> = new
        .into_iter()
        .map(|line| Cow::from(line + line_break))
        .collect();
    let before = number.checked_sub(1).and_then(|last| lines.get_mut(last));
    if let (Some(before), Some(last)) = (before, new.last_mut()) {
        if !before.ends_with('\n') {
            *before += line_break;
            *last = last.trim_end().to_owned().into();
        }
    }
    lines.splice(number..number, new);
}

/// A line `name: value` of a block mapping, if the name may be that of a metric. `head`, `value` and `tail` together are
/// the line.
struct Entry<'t> {
    name: &'t str,
    /// From the indentation to the value.
    head: &'t str,
    /// Empty if there is none on this line.
    value: &'t str,
    /// Blanks, the comment, and the line break.
    tail: &'t str,
}

impl<'t> Entry<'t> {
    fn parse(line: &'t str) -> Option<Entry<'t>> {
        let is_end_of_key = |(at, _): &(usize, &str)| {
            let rest = line.get(at + 1..).unwrap_or_default();
            rest.is_empty() || rest.starts_with(char::is_whitespace)
        };
        let (colon, _) = line.match_indices(':').find(is_end_of_key)?;
        let (key, rest) = line.split_at_checked(colon + 1)?;
        let name = unquoted(key.strip_suffix(':')?.trim());
        let (blanks, value, tail) = split_value(rest);
        valid_metric_name(name).then_some(Entry {
            name,
            head: line.get(..key.len() + blanks.len())?,
            value,
            tail,
        })
    }

    /// The quotes around the name.
    fn quote(&self) -> &'static str {
        match self.head.trim_start().chars().next() {
            Some('"') => "\"",
            Some('\'') => "'",
            _ => "",
        }
    }

    /// The line with another value. The comment stays in its column if there is room.
    fn with_value(&self, on: bool) -> String {
        let Entry { head, tail, .. } = self;
        let has_comment = tail.contains('#');
        match tail.strip_prefix(' ') {
            Some(_) if has_comment && on => format!("{head}true {tail}"),
            Some(rest) if has_comment && rest.starts_with(' ') => format!("{head}false{rest}"),
            _ => format!("{head}{on}{tail}"),
        }
    }
}

/// The blanks before a value, the value, and what follows: blanks, a comment, and the line break. Without a value, all is
/// in the last part.
fn split_value(text: &str) -> (&str, &str, &str) {
    let mut hashes = text.match_indices('#').map(|(at, _)| at);
    let is_comment = |at: &usize| {
        text.get(..*at)
            .is_some_and(|before| before.ends_with(char::is_whitespace))
    };
    let comment = hashes.find(is_comment).unwrap_or(text.len());
    let content = text.get(..comment).unwrap_or(text);
    let start = match content.trim().is_empty() {
        true => 0,
        false => content.len() - content.trim_start().len(),
    };
    let (blanks, rest) = text.split_at_checked(start).unwrap_or((text, ""));
    let (value, tail) = rest
        .split_at_checked(content.trim().len())
        .unwrap_or((rest, ""));
    (blanks, value, tail)
}

/// A scalar without its quotes.
fn unquoted(scalar: &str) -> &str {
    let inner = |quote| scalar.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(scalar)
}

/// The values that YAML reads as true or false (1.2 core schema, as serde_yaml).
fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Whether a value is empty, or a collection that opens and closes on its line and has no comment in it.
fn is_empty_or_one_line(value: &str, open: char, close: char) -> bool {
    let is_one_line = value.starts_with(open) && value.ends_with(close);
    matches!(value, "" | "~" | "null") || is_one_line && !value.contains('#')
}

fn is_blank_or_comment(line: &str) -> bool {
    let content = line.trim_start();
    content.is_empty() || content.starts_with('#')
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The lines of these entries. Names that YAML would read as something else are quoted in any case.
fn written(metrics: &BTreeMap<String, bool>, indent: usize, quote: &str) -> Vec<String> {
    let line = |(name, on): (&String, &bool)| {
        let words = ["null", "true", "false"];
        let is_ambiguous =
            name.contains(':') || words.iter().any(|word| word.eq_ignore_ascii_case(name));
        let quote = if quote.is_empty() && is_ambiguous {
            "\""
        } else {
            quote
        };
        format!("{:indent$}{quote}{name}{quote}: {on}", "")
    };
    metrics.iter().map(line).collect()
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
