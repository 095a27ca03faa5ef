//! Why a server could not be asked, in words that help.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use crate::sys::reason;

/// No answer.
#[derive(Debug)]
pub struct Error {
    what: String,
    hint: Option<String>,
    /// There was a connection, with all that belongs to it.
    connected: bool,
}

impl Error {
    pub(super) fn new(what: impl Into<String>) -> Error {
        Error {
            what: what.into(),
            hint: None,
            connected: false,
        }
    }

    pub(super) fn connected(self, connected: bool) -> Error {
        Error { connected, ..self }
    }

    /// Whether there was a connection over which no answer came: only [`super::Client::head`] looks.
    pub fn was_connected(&self) -> bool {
        self.connected
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Error {
        Error {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// From what the HTTP client says of a request to `url` that might take `timeout`.
    pub(super) fn of(url: &str, error: &ureq::Error, timeout: Duration) -> Error {
        let about = |what: &str| Error::new(format!("{url}: {what}"));
        let late = || {
            about(&format!(
                "no whole answer within {} s",
                timeout.as_secs_f64()
            ))
        };
        match error {
            ureq::Error::Timeout(_) => late(),
            ureq::Error::Io(error) => {
                if let Some(inner) = error.get_ref() {
                    if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
                        return Error::of(url, inner, timeout);
                    }
                    #[cfg(feature = "tls")]
                    if let Some(refusal) = inner.downcast_ref::<rustls::Error>() {
                        let (what, hint) = super::tls::explain(refusal);
                        let error = about(&what);
                        return match hint {
                            Some(hint) => error.hint(hint),
                            None => error,
                        };
                    }
                    return about(&inner.to_string());
                }
                match error.kind() {
                    std::io::ErrorKind::TimedOut => late(),
                    _ => about(&reason(error)),
                }
            }
            ureq::Error::TlsRequired => about("this build has no TLS")
                .hint("build with the feature `tls`, or use http through a tunnel"),
            ureq::Error::LargeResponseHeader(..) => about("the answer's head is too long"),
            other => match other.source() {
                Some(source) => about(&format!("{other}: {source}")),
                None => about(&other.to_string()),
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
