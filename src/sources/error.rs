//! Errors of sources: the action, the path, the reason and a hint.

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
    /// The operating system's error number, if there was one.
    errno: Option<i32>,
    min_retry_delay: Option<Duration>,
}

impl Error {
    /// An error with this message.
    pub fn new(what: impl Into<String>) -> Error {
        Error {
            what: what.into(),
            hint: None,
            errno: None,
            min_retry_delay: None,
        }
    }

    /// `cannot read /sys/…: permission denied`: the verb, the path and the system's reason.
    pub fn cannot(verb: &str, path: &Path, error: &io::Error) -> Error {
        Error {
            what: format!("cannot {verb} {}: {}", path.display(), reason(error)),
            hint: None,
            errno: error.raw_os_error(),
            min_retry_delay: None,
        }
    }

    /// Adds a hint at the remedy, shown in parentheses.
    pub fn hint(self, hint: impl Into<String>) -> Error {
        Error {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Sets the shortest delay before the source may be opened again. For errors such as a wrong password, where trying
    /// again sooner is useless and may lock the account.
    pub fn retry_after(self, delay: Duration) -> Error {
        Error {
            min_retry_delay: Some(delay),
            ..self
        }
    }

    /// The operating system's error number, if there was one.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// The delay set by [`Error::retry_after`].
    pub fn min_retry_delay(&self) -> Option<Duration> {
        self.min_retry_delay
    }

    /// Adds a hint if permissions are missing.
    pub fn hint_if_denied(self, hint: &str) -> Error {
        if self.is_denied() {
            self.hint(hint)
        } else {
            self
        }
    }

    /// Whether permissions are missing.
    pub fn is_denied(&self) -> bool {
        self.errno
            .is_some_and(|n| n == nix::libc::EACCES || n == nix::libc::EPERM)
    }

    /// Whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        self.errno == Some(nix::libc::ENOENT)
    }

    /// Whether the device behind an open file was removed.
    pub fn is_gone(&self) -> bool {
        self.errno == Some(nix::libc::ENODEV)
    }

    /// Whether this is how a driver reports that it has no value just now, as for a sensor that is powered off or a battery
    /// that was removed (sysfs-class-power and hwmon ABI).
    pub fn is_transient(&self) -> bool {
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
    fn message_names_action_path_reason_and_hint() {
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
