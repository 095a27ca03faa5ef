//! What a source could not do, to what, and what would help.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::sys::reason;

/// Why a source or one of its values cannot be read.
#[derive(Debug)]
pub struct Error {
    what: String,
    hint: Option<String>,
    /// The operating system's error number, where it was one.
    errno: Option<i32>,
    rest: Option<Duration>,
}

impl Error {
    /// An error in its own words.
    pub fn new(what: impl Into<String>) -> Error {
        Error {
            what: what.into(),
            hint: None,
            errno: None,
            rest: None,
        }
    }

    /// `cannot read /sys/…: permission denied`: what was done (a verb) to which path, and how it ended.
    pub fn cannot(verb: &str, path: &Path, error: &io::Error) -> Error {
        Error {
            what: format!("cannot {verb} {}: {}", path.display(), reason(error)),
            hint: None,
            errno: error.raw_os_error(),
            rest: None,
        }
    }

    /// Says what would help.
    pub fn hint(self, hint: impl Into<String>) -> Error {
        Error {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Says that to try again sooner than after this does no good, and may do harm: a wrong password.
    pub fn rest(self, rest: Duration) -> Error {
        Error {
            rest: Some(rest),
            ..self
        }
    }

    /// The operating system's error number, where it was one.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// See [`Error::rest`].
    pub fn resting(&self) -> Option<Duration> {
        self.rest
    }

    /// Says what would help if the reason is missing rights.
    pub fn hint_if_denied(self, hint: &str) -> Error {
        if self.is_denied() {
            self.hint(hint)
        } else {
            self
        }
    }

    /// Whether the reason is missing rights.
    pub fn is_denied(&self) -> bool {
        self.errno
            .is_some_and(|n| n == nix::libc::EACCES || n == nix::libc::EPERM)
    }

    /// Whether the reason is that the file is not there.
    pub fn is_missing(&self) -> bool {
        self.errno == Some(nix::libc::ENOENT)
    }

    /// Whether the device behind an open file is gone.
    pub fn is_gone(&self) -> bool {
        self.errno == Some(nix::libc::ENODEV)
    }

    /// Whether it is the way a driver says "no value just now": a sensor that is powered off, a battery that is not
    /// there (sysfs-class-power, hwmon ABI).
    pub fn is_passing(&self) -> bool {
        use nix::libc::{EAGAIN, EBUSY, EINTR, EINVAL, ENODATA, ENODEV, ENXIO};
        self.errno
            .is_some_and(|n| [EAGAIN, EBUSY, EINTR, EINVAL, ENODATA, ENODEV, ENXIO].contains(&n))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_tried_on_what_and_what_would_help() {
        let denied = io::Error::from_raw_os_error(nix::libc::EACCES);
        let error = Error::cannot("read", Path::new("/sys/x/energy_uj"), &denied)
            .hint_if_denied("run as root");
        assert_eq!(
            error.to_string(),
            "cannot read /sys/x/energy_uj: permission denied (run as root)"
        );
        let missing = io::Error::from_raw_os_error(nix::libc::ENOENT);
        let error = Error::cannot("open", Path::new("/x"), &missing).hint_if_denied("run as root");
        assert_eq!(
            error.to_string(),
            "cannot open /x: no such file or directory"
        );
        assert!(error.is_missing());
    }
}
