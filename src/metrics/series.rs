//! A series: a family, its labels, and the text before its value.

use std::sync::Arc;

use super::family::Family;

/// A series' place in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesId(pub(super) u32);

impl SeriesId {
    /// A series that did not fit: setting it does nothing.
    pub(super) const NONE: SeriesId = SeriesId(u32::MAX);
}

/// A family and a set of labels.
#[derive(Debug)]
pub struct Series {
    /// The source whose it is, as in the label `source`.
    pub source: Box<str>,
    /// The family.
    pub family: Arc<Family>,
    /// Name and value of each label, sorted by name.
    pub labels: Vec<(String, String)>,
    /// `name{label="value",…} `: all of the sample's line that comes before its value.
    pub prefix: Box<str>,
}

impl Series {
    pub(super) fn new(
        source: &str,
        family: Arc<Family>,
        mut labels: Vec<(String, String)>,
    ) -> Series {
        labels.sort();
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
