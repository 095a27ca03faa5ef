//! A series: a family and labels, and the text before its value.

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
    /// Name and value of each label, sorted by name.
    pub labels: Vec<(String, String)>,
    /// `name{label="value",…} `: the part of a sample's line before the value.
    pub prefix: Box<str>,
}

impl Series {
    pub(super) fn new(
        source: &str,
        family: Arc<Family>,
        mut labels: Vec<(String, String)>,
    ) -> Series {
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
            labels,
            prefix: prefix.into(),
        }
    }
}
