//! Setting entries of `metrics:` in a configuration's text.

use std::collections::BTreeMap;

use super::document::{entry, Document, METRICS, OLD};
use super::flow;
use super::old_list;
use super::text::{key as written_key, splice, Splice, Text};
use super::{block, text};
use crate::config::diagnose::Diagnostic;
use crate::config::tree::Node;
use crate::config::{lines, values, MAX_SIZE};

/// The text with these names below `metrics:`, true or false, and all else as it was: values are changed where they
/// stand, new names are added behind the others, and the key is added where there is none. The old `enabled_metrics`
/// becomes `metrics` with it, where it counts.
///
/// Pure, and total: whatever the text, an edit that is given parses to the same configuration but for these names. `Err`
/// says why there is none, and on which line to write it by hand.
pub fn set_metrics(source: &str, changes: &BTreeMap<String, bool>) -> Result<String, Diagnostic> {
    let (mark, body) = match source.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", source),
    };
    let before = Document::read(body)?;
    let mut wanted = before.metrics.clone();
    wanted.extend(changes.iter().map(|(name, on)| (name.clone(), *on)));
    if wanted == before.metrics {
        return Ok(source.to_owned());
    }
    if wanted.len() > values::MAX_METRICS {
        return Err(Diagnostic::new(format!(
            "`metrics` would have {} names: at most {} are allowed",
            wanted.len(),
            values::MAX_METRICS
        )));
    }
    let has_metrics = entry(&before.root, METRICS).is_some();
    let ways: &[Way] = match before.is_old {
        _ if has_metrics => &[Way::Set],
        true => &[Way::Convert, Way::Append, Way::Prepend],
        false => &[Way::Append, Way::Prepend],
    };
    let job = Job {
        text: Text::new(body),
        before: &before,
        changes,
        wanted: &wanted,
    };
    let mut refusal = None;
    for way in ways {
        let edited = match way {
            Way::Set => job.set(),
            Way::Convert => job.convert(),
            Way::Append => job.append(),
            Way::Prepend => job.prepend(),
        };
        match edited.and_then(|edited| job.verified(edited)) {
            Ok(edited) => return Ok(format!("{mark}{edited}")),
            // The first reason is the nearest.
            Err(why) => refusal = refusal.or(Some(why)),
        }
    }
    Err(refusal.unwrap_or_else(|| job.by_hand(None)))
}

/// How an edit can go about it.
enum Way {
    Set,
    Convert,
    Append,
    Prepend,
}

struct Job<'a> {
    text: Text<'a>,
    before: &'a Document,
    changes: &'a BTreeMap<String, bool>,
    wanted: &'a BTreeMap<String, bool>,
}

impl Job<'_> {
    fn body(&self) -> &str {
        self.text.text
    }

    /// Makes the old list a mapping, and sets what is to be set in that.
    fn convert(&self) -> Result<String, Diagnostic> {
        let converted = old_list::convert(self.body()).ok_or_else(|| self.by_hand(None))?;
        let document = Document::read(&converted).map_err(|_| self.by_hand(None))?;
        if document.metrics != self.before.metrics {
            return Err(self.by_hand(None));
        }
        if document.metrics == *self.wanted {
            return Ok(converted);
        }
        let job = Job {
            text: Text::new(&converted),
            before: &document,
            ..*self
        };
        job.set()
    }

    /// Sets what is to be set in the mapping that is there.
    fn set(&self) -> Result<String, Diagnostic> {
        let Some(node) = entry(&self.before.root, METRICS) else {
            return Err(self.by_hand(None));
        };
        let is_empty = matches!(node, Node::Null) || matches!(node, Node::Map(e) if e.is_empty());
        // An empty mapping beside the old list is to have that's names, too.
        let changes = if is_empty { self.wanted } else { self.changes };
        let top = self.place(lines::value(self.body(), &[]))?;
        let splices = if self.opens_flow(top) {
            self.set_in_flow_root(top, changes)
        } else {
            self.set_in_block_root(is_empty, changes)
        };
        let splices = splices.map_err(|place| self.by_hand(place))?;
        splice(self.body(), splices).ok_or_else(|| self.by_hand(None))
    }

    fn set_in_flow_root<'c>(
        &self,
        top: usize,
        changes: &'c BTreeMap<String, bool>,
    ) -> Result<Vec<Splice>, Option<(usize, &'c str)>> {
        let text = &self.text;
        let root = flow::read(self.body(), top).ok_or(None)?;
        let metrics = root.find(text, METRICS).ok_or(None)?;
        if self.opens_flow(metrics.value.start) {
            let map = flow::read(self.body(), metrics.value.start).ok_or(None)?;
            return map.set(text, changes).map_err(Some);
        }
        if !matches!(text.at(metrics.value.clone()), "" | "~" | "null") {
            return Err(None);
        }
        let quote = flow::unquoted(text.at(metrics.key.clone())).1;
        let space = if metrics.value.is_empty() { " " } else { "" };
        Ok(vec![Splice {
            at: metrics.value.clone(),
            with: format!("{space}{{{}}}", entries(changes, quote).join(", ")),
        }])
    }

    fn set_in_block_root<'c>(
        &self,
        is_empty: bool,
        changes: &'c BTreeMap<String, bool>,
    ) -> Result<Vec<Splice>, Option<(usize, &'c str)>> {
        let text = &self.text;
        let place = |position| text.offset(position).ok_or(None);
        let key = place(lines::key(self.body(), &[METRICS]).ok_or(None)?)?;
        let value = lines::value(self.body(), &[METRICS]).ok_or(None)?;
        let start = place(value)?;
        if !is_empty && !self.opens_flow(start) {
            let (first, column) = (text.line_of(start), value.column - 1);
            let is_there = start > key && block::read_key(text, start).is_some();
            if !is_there {
                return Err(None);
            }
            let map = block::Map::read(text, first, column);
            return map.set(text, changes).map_err(Some);
        }
        let written = block::read_key(text, key).ok_or(None)?;
        let word = block::word(text, written.after);
        if !is_empty || !matches!(text.at(word.clone()), "" | "~" | "null" | "{}") {
            let map = flow::read(self.body(), start).ok_or(None)?;
            return map.set(text, changes).map_err(Some);
        }
        let line = text.line_of(key);
        let indent = text.line(line).map_or(0, |line| key - line.start);
        let mut splices = vec![text.insert_lines(line + 1, &below(indent, changes))];
        if !word.is_empty() {
            splices.push(Splice {
                at: written.after..word.end,
                with: String::new(),
            });
        }
        Ok(splices)
    }

    /// Adds the key at the end.
    fn append(&self) -> Result<String, Diagnostic> {
        let text = &self.text;
        let top = self.new_key()?;
        if let Some(flow) = top.flow {
            let last = flow.entries.last();
            let quote = last.and_then(|last| flow::unquoted(text.at(last.key.clone())).1);
            let inner = entries(self.wanted, quote).join(", ");
            let new = format!("{}: {{{inner}}}", written_key(METRICS, quote));
            return splice(self.body(), flow.add(text, &[new])).ok_or_else(|| self.by_hand(None));
        }
        // The mark of a document's end, which no text in block style can hold at the margin.
        let is_mark = |content: &str| {
            let rest = content.strip_prefix("...");
            rest.is_some_and(text::is_comment_or_nothing)
        };
        let mut ends = (0..text.count()).filter(|n| text.content(*n).is_some_and(is_mark));
        let end = ends.next().unwrap_or(text.count());
        let lines = text.insert_lines(end, &self.key_and_entries(top.indent));
        splice(self.body(), vec![lines]).ok_or_else(|| self.by_hand(None))
    }

    /// Adds the key before all others: the end of the file may belong to a text of several lines.
    fn prepend(&self) -> Result<String, Diagnostic> {
        let top = self.new_key()?;
        let lines = self
            .text
            .insert_lines(top.first, &self.key_and_entries(top.indent));
        splice(self.body(), vec![lines]).ok_or_else(|| self.by_hand(None))
    }

    /// Where a key may be added, if there is none.
    fn new_key(&self) -> Result<Top, Diagnostic> {
        let found = lines::value(self.body(), &[]);
        let Some(position) = found.filter(|_| self.before.root != Node::Null) else {
            return Ok(Top {
                flow: None,
                indent: 0,
                first: 0,
            });
        };
        let top = self.place(Some(position))?;
        Ok(Top {
            flow: flow::read(self.body(), top),
            indent: position.column - 1,
            first: position.line - 1,
        })
    }

    fn key_and_entries(&self, indent: usize) -> Vec<String> {
        let mut lines = vec![format!("{}{METRICS}:", " ".repeat(indent))];
        lines.extend(below(indent, self.wanted));
        lines
    }

    fn opens_flow(&self, offset: usize) -> bool {
        self.body().as_bytes().get(offset) == Some(&b'{')
    }

    fn place(&self, position: Option<lines::Position>) -> Result<usize, Diagnostic> {
        position
            .and_then(|position| self.text.offset(position))
            .ok_or_else(|| self.by_hand(None))
    }

    /// The edited text, if it says what it is to say and nothing else.
    fn verified(&self, edited: String) -> Result<String, Diagnostic> {
        if edited.len() > MAX_SIZE {
            return Err(Diagnostic::new(format!(
                "the configuration would be larger than {MAX_SIZE} bytes"
            )));
        }
        let after = Document::read(&edited).map_err(|_| self.by_hand(None))?;
        let has_old = entry(&after.root, OLD);
        let is_right = after.metrics == *self.wanted
            && !after.is_old
            && after.says_the_same_otherwise(self.before)
            && (has_old.is_none() && self.before.is_old
                || has_old == entry(&self.before.root, OLD));
        match is_right {
            true => Ok(edited),
            false => Err(self.by_hand(None)),
        }
    }

    /// The refusal: what to write by hand, and where.
    fn by_hand(&self, place: Option<(usize, &str)>) -> Diagnostic {
        if let Some((line, name)) = place {
            let on = self.wanted.get(name).copied().unwrap_or_default();
            let message = format!(
                "the value of {name} is not written as a plain true or false, so that it is not changed here: \
                 write `{name}: {on}` by hand"
            );
            return Diagnostic::at(line + 1, 1, message);
        }
        let changed = self
            .changes
            .iter()
            .find(|(name, on)| self.before.metrics.get(*name) != Some(*on));
        let what = changed.map_or_else(String::new, |(name, on)| format!("`{name}: {on}` "));
        let message = format!(
            "this is laid out in a way that is not changed here, lest more be changed than `metrics`: \
             write {what}below `metrics:` by hand"
        );
        let name = changed.map_or("", |(name, _)| name.as_str());
        let body = self.body();
        let top = lines::key(body, &[METRICS]);
        // What an alias stands for was written before it, and is not to be changed for it.
        let entry = lines::key(body, &[METRICS, name]).filter(|place| Some(*place) > top);
        match entry.or(top).or_else(|| lines::key(body, &[OLD])) {
            Some(place) => Diagnostic::at(place.line, place.column, message),
            None => Diagnostic::new(message),
        }
    }
}

/// Where a key of the outermost mapping goes.
struct Top {
    flow: Option<flow::Flow>,
    indent: usize,
    /// The number, from 0, of the line of the first key.
    first: usize,
}

fn entries(changes: &BTreeMap<String, bool>, quote: Option<char>) -> Vec<String> {
    let entry = |(name, on): (&String, &bool)| format!("{}: {on}", written_key(name, quote));
    changes.iter().map(entry).collect()
}

/// Lines of entries below a key.
fn below(indent: usize, changes: &BTreeMap<String, bool>) -> Vec<String> {
    let indent = " ".repeat(indent + 2);
    let lines = entries(changes, None).into_iter();
    lines.map(|entry| format!("{indent}{entry}")).collect()
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
