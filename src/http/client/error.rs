//! Why a request failed, and what would help.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use crate::sys::reason;

/// A request that got no response. `Display` has the URL, without secrets, and a hint where there is one.
#[derive(Debug)]
pub struct Error {
    what: String,
    hint: Option<String>,
    /// Whether there was a connection, with TLS where the URL asks for that.
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

    /// Whether there was a connection. Only [`super::Client::head`] records it; after other requests this is `false`.
    pub fn was_connected(&self) -> bool {
        self.connected
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Error {
        Error {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// From ureq's error for a request to `url` with this timeout.
    pub(super) fn from_ureq(url: &str, error: &ureq::Error, timeout: Duration) -> Error {
        let error_about = |what: &str| Error::new(format!("{url}: {what}"));
        let timed_out = || {
            error_about(&format!(
                "no whole answer within {} s",
                timeout.as_secs_f64()
            ))
        };
        match error {
            ureq::Error::Timeout(_) => timed_out(),
            ureq::Error::Io(error) => {
                if let Some(inner) = error.get_ref() {
                    if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
                        return Error::from_ureq(url, inner, timeout);
                    }
                    #[cfg(feature = "tls")]
                    if let Some(refusal) = inner.downcast_ref::<rustls::Error>() {
                        let (what, hint) = super::tls::explain(refusal);
                        let error = error_about(&what);
                        return match hint {
                            Some(hint) => error.hint(hint),
                            None => error,
                        };
                    }
                    return error_about(&inner.to_string());
                }
                match error.kind() {
                    std::io::ErrorKind::TimedOut => timed_out(),
                    _ => error_about(&reason(error)),
                }
            }
            ureq::Error::TlsRequired => error_about("this build has no TLS")
                .hint("build with the feature `tls`, or use http through a tunnel"),
            ureq::Error::LargeResponseHeader(..) => error_about("the answer's head is too long"),
            other => match other.source() {
                Some(source) => error_about(&format!("{other}: {source}")),
                None => error_about(&other.to_string()),
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
