//! A text by its lines, and changes to it by place.

use std::ops::Range;

use crate::config::lines::Position;

/// One line: where it begins, where its break begins, and where the next line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) next: usize,
}

/// A text and its lines. There is at least one, and the last has no break.
#[derive(Debug)]
pub(super) struct Text<'t> {
    pub(super) text: &'t str,
    lines: Vec<Line>,
}

impl<'t> Text<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let length = break_length(rest);
            if length == 0 {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            }
            lines.push(Line {
                start,
                end: at,
                next: at + length,
            });
            at += length;
            start = at;
        }
        lines.push(Line {
            start,
            end: text.len(),
            next: text.len(),
        });
        Self { text, lines }
    }

    /// What stands in this range; nothing, where there is no such range.
    pub(super) fn at(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    /// The line of this number, from 0.
    pub(super) fn line(&self, number: usize) -> Option<Line> {
        self.lines.get(number).copied()
    }

    /// What stands on the line of this number, from 0, without its break.
    pub(super) fn content(&self, number: usize) -> Option<&'t str> {
        self.line(number).map(|line| self.at(line.start..line.end))
    }

    /// How many lines hold something or end in a break: an empty one at the end is none.
    pub(super) fn count(&self) -> usize {
        match self.lines.last() {
            Some(last) if last.start == last.end => self.lines.len() - 1,
            _ => self.lines.len(),
        }
    }

    /// The number, from 0, of the line on which this place is.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.lines
            .partition_point(|line| line.start <= offset)
            .saturating_sub(1)
    }

    /// The place, in bytes.
    pub(super) fn offset(&self, position: Position) -> Option<usize> {
        let line = self.line(position.line.checked_sub(1)?)?;
        let column = position.column.checked_sub(1)?;
        let content = self.at(line.start..line.end);
        let mut places = content.char_indices().map(|(at, _)| at);
        places
            .by_ref()
            .chain([content.len()])
            .nth(column)
            .map(|at| line.start + at)
    }

    /// How this text breaks its lines.
    pub(super) fn line_break(&self) -> &'t str {
        let mut breaks = self.lines.iter().map(|line| self.at(line.end..line.next));
        breaks.find(|found| !found.is_empty()).unwrap_or("\n")
    }

    /// Puts lines between the first `number` lines and the rest. A text without a break at its end gets none.
    pub(super) fn insert_lines(&self, number: usize, new: &[String]) -> Splice {
        let line_break = self.line_break();
        let before = number.checked_sub(1).and_then(|last| self.line(last));
        let at = before.map_or(0, |line| line.next);
        let unfinished = before.is_some_and(|line| line.end == line.next && line.start < line.end);
        let mut with = String::new();
        if unfinished {
            with.push_str(line_break);
            with.push_str(&new.join(line_break));
        } else {
            for line in new {
                with.push_str(line);
                with.push_str(line_break);
            }
        }
        Splice { at: at..at, with }
    }
}

/// How long the line break is that begins here; 0: none does (YAML 1.1, 5.4, as libyaml counts lines).
fn break_length(rest: &str) -> usize {
    if rest.starts_with("\r\n") {
        return 2;
    }
    match rest.chars().next() {
        Some(c @ ('\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')) => c.len_utf8(),
        _ => 0,
    }
}

/// A part of the text, and what stands in its place afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Splice {
    pub(super) at: Range<usize>,
    pub(super) with: String,
}

/// The text with all of these changes; of those at one place, in their order. `None` where two overlap.
pub(super) fn splice(text: &str, mut splices: Vec<Splice>) -> Option<String> {
    splices.sort_by_key(|splice| splice.at.start);
    let mut out = String::with_capacity(text.len() + 64);
    let mut at = 0;
    for splice in splices {
        out.push_str(text.get(at..splice.at.start)?);
        out.push_str(&splice.with);
        at = splice.at.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

/// Spaces and tabs, which separate without ending a line.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// Whether nothing but a comment follows, or nothing at all.
pub(super) fn is_comment_or_nothing(rest: &str) -> bool {
    let trimmed = rest.trim_start_matches(is_blank);
    trimmed.is_empty() || (trimmed.starts_with('#') && trimmed.len() < rest.len())
}

/// Whether YAML reads this text as true or false (1.2 core schema, as serde_yaml).
pub(super) fn is_bool(token: &str) -> bool {
    matches!(
        token,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE"
    )
}

/// A name as a key, in the quotes that its neighbours have. Names that YAML would read as something else are quoted.
pub(super) fn key(name: &str, quote: Option<char>) -> String {
    let looks_like_else = name.contains(':')
        || ["null", "true", "false"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(name));
    match quote.or(looks_like_else.then_some('"')) {
        Some(quote) => format!("{quote}{name}{quote}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_as_yaml_counts_them() {
        let text = Text::new("a\r\nb\rc\u{2028}d\n");
        let lines: Vec<_> = (0..).map_while(|n| text.content(n)).collect();
        assert_eq!(lines, ["a", "b", "c", "d", ""]);
        assert_eq!((text.count(), text.line_break()), (4, "\r\n"));
        assert_eq!(text.line_of(3), 1);
        let third = Position { line: 3, column: 2 };
        assert_eq!(text.offset(third), Some(6));
        assert_eq!(text.offset(Position { line: 9, column: 1 }), None);
        assert_eq!(
            (Text::new("").count(), Text::new("").line_break()),
            (0, "\n")
        );
    }

    #[test]
    fn lines_are_put_in_between() {
        let put = |text: &str, number| {
            let new = ["x".to_string(), "y".to_string()];
            splice(text, vec![Text::new(text).insert_lines(number, &new)]).unwrap()
        };
        assert_eq!(put("a\nb\n", 1), "a\nx\ny\nb\n");
        assert_eq!(put("a\nb\n", 2), "a\nb\nx\ny\n");
        assert_eq!(put("a\r\nb", 2), "a\r\nb\r\nx\r\ny");
        assert_eq!(put("", 0), "x\ny\n");
        assert_eq!(put("a\n", 0), "x\ny\na\n");
    }

    #[test]
    fn changes_that_overlap_are_none() {
        let change = |at: Range<usize>, with: &str| Splice {
            at,
            with: with.into(),
        };
        let both = vec![change(2..3, "C"), change(0..1, "A")];
        assert_eq!(splice("abc", both).as_deref(), Some("AbC"));
        let same = vec![change(1..1, "x"), change(1..1, "y")];
        assert_eq!(splice("ab", same).as_deref(), Some("axyb"));
        assert_eq!(
            splice("abc", vec![change(0..2, ""), change(1..3, "")]),
            None
        );
    }
}
