//! Seed 001's old `enabled_metrics`, a list of names, made the mapping `metrics` of the same names, in its place.

use super::block::{read_key, word};
use super::flow::{self, unquoted};
use super::text::{is_blank, splice, Splice, Text};
use crate::config::lines;

const OLD: &str = "enabled_metrics";

/// The text with the list as a mapping. `None` where it is not laid out as a list usually is.
pub(super) fn convert(source: &str) -> Option<String> {
    let text = Text::new(source);
    let start = text.offset(lines::key(source, &[OLD])?)?;
    let line = text.line(text.line_of(start))?;
    let indent = text.at(line.start..start);
    if !indent.chars().all(|c| c == ' ') {
        return None;
    }
    let key = read_key(&text, start)?;
    let quote = key.quote.map(String::from).unwrap_or_default();
    let mut splices = vec![Splice {
        at: key.token,
        with: format!("{quote}metrics{quote}"),
    }];
    let here = word(&text, key.after);
    let value = text.offset(lines::value(source, &[OLD])?)?;
    if source.as_bytes().get(value) == Some(&b'[') {
        let list = flow::read(source, value)?;
        let mut put = |at, with: &str| {
            splices.push(Splice {
                at,
                with: with.into(),
            })
        };
        put(list.open..list.open + 1, "{");
        for item in &list.entries {
            put(item.key.end..item.key.end, ": true");
        }
        put(list.close..list.close + 1, "}");
    } else if value >= line.next && here.is_empty() {
        let first = text.line_of(value);
        splices.extend(items(&text, first, indent.len())?);
    } else if !here.is_empty() && !matches!(text.at(here), "~" | "null") {
        return None;
    }
    splice(source, splices)
}

/// The lines `- name` of a list, each as `name: true`, further in than the key if they were not.
fn items(text: &Text<'_>, first: usize, key_indent: usize) -> Option<Vec<Splice>> {
    let depth = |content: &str| content.len() - content.trim_start_matches(' ').len();
    let indent = depth(text.content(first)?);
    let deeper = " ".repeat((key_indent + 2).saturating_sub(indent));
    let mut splices = Vec::new();
    let mut seen = Vec::new();
    for number in first.. {
        let (Some(line), Some(content)) = (text.line(number), text.content(number)) else {
            break;
        };
        let rest = content.trim_start_matches(' ');
        if rest.trim_start_matches(is_blank).is_empty() || rest.starts_with('#') {
            continue;
        }
        let is_item = rest.starts_with("- ") || rest.starts_with("-\t");
        if depth(content) < indent || (depth(content) == indent && !is_item) {
            break;
        }
        if depth(content) > indent {
            return None;
        }
        let name = word(text, line.start + indent + 1);
        let (bare, _) = unquoted(text.at(name.clone()));
        if seen.contains(&bare) {
            splices.push(Splice {
                at: line.start..line.next,
                with: String::new(),
            });
            continue;
        }
        seen.push(bare);
        splices.push(Splice {
            at: line.start + indent..name.start,
            with: deeper.clone(),
        });
        splices.push(Splice {
            at: name.end..name.end,
            with: ": true".into(),
        });
    }
    Some(splices)
}
