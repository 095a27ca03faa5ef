//! A series: a family and labels, and the text before its value.

use std::borrow::Cow;
use std::sync::Arc;

use super::family::Family;
use super::plausible::{Range, ANY};
use crate::sys::sort::sort;

/// A series' place in its group, and its plausible values.
#[derive(Debug, Clone, Copy)]
pub struct SeriesId {
    pub(super) place: u32,
    pub(super) range: &'static Range,
}

impl SeriesId {
    /// A series that was not registered because of the limit: setting it has no effect.
    pub(super) const NONE: SeriesId = SeriesId {
        place: u32::MAX,
        range: &ANY,
    };

    pub(super) fn is_none(self) -> bool {
        self == SeriesId::NONE
    }

    /// The index of its value in a row of its group.
    pub fn place(self) -> u32 {
        self.place
    }

    /// Its plausible values.
    pub fn range(self) -> &'static Range {
        self.range
    }
}

impl PartialEq for SeriesId {
    fn eq(&self, other: &SeriesId) -> bool {
        self.place == other.place
    }
}

impl Eq for SeriesId {}

/// A family and a set of labels.
#[derive(Debug)]
pub struct Series {
    /// Its source, as in the label `source`.
    pub source: Box<str>,
    /// The family.
    pub family: Arc<Family>,
    /// `name{label="value",…} `: the part of a sample's line before the value. Labels are sorted by name.
    pub prefix: Box<str>,
}

impl Series {
    pub(super) fn new(source: &str, family: Arc<Family>, mut labels: Vec<(&str, &str)>) -> Series {
        sort(&mut labels);
        let mut prefix = family.name.clone();
        for (i, (name, value)) in labels.iter().enumerate() {
            prefix.push(if i == 0 { '{' } else { ',' });
            prefix.push_str(name);
            prefix.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => prefix.push_str("\\\\"),
                    '"' => prefix.push_str("\\\""),
                    '\n' => prefix.push_str("\\n"),
                    c => prefix.push(c),
                }
            }
            prefix.push('"');
        }
        if !labels.is_empty() {
            prefix.push('}');
        }
        prefix.push(' ');
        Series {
            source: source.into(),
            family,
            prefix: prefix.into(),
        }
    }

    /// Name and value of each label, sorted by name. They are read out of the prefix: a copy of them would take more memory than
    /// all else that a series has.
    pub fn labels(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let mut rest = &self.prefix[self.family.name.len()..];
        std::iter::from_fn(move || {
            let (name, value) = rest.strip_prefix(['{', ','])?.split_once("=\"")?;
            let (value, after) = quoted(value)?;
            rest = after;
            Some((name, value))
        })
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut labels = self.labels();
        labels.find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// A label's value as the text formats write it, after its opening quote: the value, and what follows its closing quote.
pub fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    let (value, rest) = text.split_at(end);
    let rest = rest.strip_prefix('"')?;
    if !value.contains('\\') {
        return Some((Cow::Borrowed(value), rest));
    }
    let mut unescaped = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => unescaped.push('\n'),
                Some(c @ ('\\' | '"')) => unescaped.push(c),
                // Other escapes do not exist: the text is taken as it is.
                Some(c) => unescaped.extend(['\\', c]),
                None => unescaped.push('\\'),
            },
            c => unescaped.push(c),
        }
    }
    Some((Cow::Owned(unescaped), rest))
}

#[cfg(test)]
mod tests {
    use super::super::{Desc, Policy, Registry};
    use super::*;

    #[test]
    fn labels_are_read_back_from_the_prefix() {
        let registry = Registry::new(Policy::All);
        let own = vec![("host".to_string(), "a,b=\"c\"}{".to_string())];
        let group = registry.add_group(0, "rapl", own);
        let desc = Desc::gauge("power_watts", "Power.");
        let values = [("b", "\\n\n\\\"\\"), ("a", ""), ("z", "é")];
        group.series(&desc, &values);
        registry.add_group(1, "x", Vec::new()).series(&desc, &[]);
        let of = |group: usize| -> Vec<(String, String)> {
            let series = &registry.groups()[group].all_series()[0];
            let owned =
                |(name, value): (&str, Cow<'_, str>)| (name.to_string(), value.into_owned());
            series.labels().map(owned).collect()
        };
        let expected = [
            ("a", ""),
            ("b", "\\n\n\\\"\\"),
            ("host", "a,b=\"c\"}{"),
            ("z", "é"),
        ];
        assert_eq!(of(0), expected.map(|(n, v)| (n.to_string(), v.to_string())));
        assert_eq!(of(1), []);
        let series = &registry.groups()[0].all_series()[0];
        assert_eq!(series.label("z").as_deref(), Some("é"));
        assert_eq!(series.label("x"), None);
    }
}
