//! Parses answers of Prometheus's query API (<https://prometheus.io/docs/prometheus/latest/querying/api/>).
//!
//! An answer is parsed as it is read. Only each series' value and wanted labels are kept, and at most [`MAX_SERIES`] series.
//! Pure; the caller's reader limits the bytes.

mod visitors;

use std::fmt;
use std::io::Read;

/// The most series of one answer. An answer has a series for each node, pod or container.
pub const MAX_SERIES: usize = 20_000;
/// The longest label value, in bytes: Kubernetes names have at most 253. A label with a longer value counts as missing.
pub const MAX_LABEL: usize = 256;
/// The most characters of an excerpt.
const MAX_EXCERPT: usize = 200;

/// A series at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The wanted labels that the series has and that are not empty.
    pub labels: Vec<(&'static str, Box<str>)>,
    /// Seconds since 1970, as Prometheus has them.
    pub at: f64,
    /// The value, which may be NaN or infinite.
    pub value: f64,
}

impl Series {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| &**value)
    }
}

/// Why an answer has no series.
#[derive(Debug)]
pub enum Error {
    /// The answer is not JSON, or ends too early.
    Json(serde_json::Error),
    /// The answer is JSON, but not an answer to an instant query. The text says what was found.
    Shape(&'static str),
    /// More series than [`MAX_SERIES`].
    TooMany,
    /// Prometheus answered with an error, this one.
    Refused(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Json(error) if error.is_io() => write!(f, "{error}"),
            Error::Json(error) if error.is_eof() => f.write_str("the answer ends too early"),
            Error::Json(_) => f.write_str("the answer is not JSON"),
            Error::Shape(what) => write!(f, "the answer is not one to an instant query: {what}"),
            Error::TooMany => write!(
                f,
                "the answer has more than {MAX_SERIES} series: sum by node or pod in the query"
            ),
            Error::Refused(why) => write!(f, "Prometheus says {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Parses the answer to an instant query: a vector, or a scalar, which becomes one series without labels. Series of native
/// histograms are skipped.
pub fn parse(from: impl Read, wanted: &'static [&'static str]) -> Result<Vec<Series>, Error> {
    let answer = visitors::read(from, wanted)?;
    match (answer.status.as_str(), answer.series) {
        ("success", Some(series)) => Ok(series),
        ("success", None) => Err(Error::Shape("there is no result")),
        ("error", _) => {
            let kind = Some(answer.kind).filter(|kind| !kind.is_empty());
            let kind = kind.unwrap_or_else(|| "error".to_owned());
            Err(Error::Refused(format!("{kind}: {}", answer.error)))
        }
        _ => Err(Error::Shape("its status is neither success nor error")),
    }
}

/// The error message in an answer, if it is an error answer of Prometheus.
pub fn error_message(body: &[u8]) -> Option<String> {
    match parse(body, &[]) {
        Err(Error::Refused(why)) => Some(why),
        _ => None,
    }
}

/// The beginning of a text from another program, without control characters.
pub fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let start = chars.by_ref().take(MAX_EXCERPT);
    let mut excerpt: String = start
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if chars.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests;
