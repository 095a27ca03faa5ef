//! The answers of Prometheus's query API (<https://prometheus.io/docs/prometheus/latest/querying/api/>), read as they
//! come: of each series its value and those labels that are asked for are kept, and no more series than [`MAX_SERIES`].
//! Pure; what limits the bytes is the reader that is given.

mod visitors;

use std::fmt;
use std::io::Read;

/// The most series that an answer may have. One has a series for each node, pod or container.
pub const MAX_SERIES: usize = 20_000;
/// The longest value of a label that is kept, in bytes: Kubernetes's names have at most 253. A label with a longer one
/// counts as not there.
pub const MAX_LABEL: usize = 256;
/// The most characters of somebody else's error message that are shown.
const SHOWN: usize = 200;

/// A series at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Those of the labels asked for that it has, and that are not empty.
    pub labels: Vec<(&'static str, Box<str>)>,
    /// Seconds since 1970, as Prometheus has them.
    pub at: f64,
    /// The value; NaN and the infinities too.
    pub value: f64,
}

impl Series {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| &**value)
    }
}

/// Why an answer gives no series.
#[derive(Debug)]
pub enum Error {
    /// It is no JSON, or ends too early.
    Json(serde_json::Error),
    /// It is JSON, but not what Prometheus answers to an instant query; this is what was found.
    Shape(&'static str),
    /// More series than [`MAX_SERIES`].
    TooMany,
    /// Prometheus says that it could not answer, and why.
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

/// Reads the answer to an instant query: a vector, or a scalar, which is one series without labels. Series of native
/// histograms are passed over.
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

/// What an error answer says, if it is Prometheus's.
pub fn refusal(body: &[u8]) -> Option<String> {
    match parse(body, &[]) {
        Err(Error::Refused(why)) => Some(why),
        _ => None,
    }
}

/// Somebody else's text, in one line and not too long.
pub fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let start = chars.by_ref().take(SHOWN);
    let mut shown: String = start
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
