//! The names of devices.

use std::fmt;

/// Bytes of the longest name. A Linux host name has at most 64.
const MAX_LENGTH: usize = 128;

/// The name of a device: letters, digits, `.`, `_` and `-`, a letter or digit first. Such a name needs no escaping as a file
/// name, a key of etcd, a segment of a URL's path or the value of a label, and as a file name it stays in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(String);

impl DeviceId {
    /// Checks a name. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<DeviceId, &'static str> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.is_empty() {
            Err("a device id is wanted here: the host name of the device")
        } else if text.len() > MAX_LENGTH {
            Err("a device id has at most 128 characters")
        } else if !text.bytes().all(allowed) {
            Err("a device id has letters, digits, `.`, `_` and `-`, none of them escaped")
        } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            Err("a device id begins with a letter or a digit")
        } else {
            Ok(DeviceId(text.to_owned()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_device_ids() {
        for good in [
            "edge-01",
            "a",
            "0",
            "Orin.local",
            "edge_01",
            "a..b",
            "x--",
            &"x".repeat(128),
        ] {
            assert_eq!(
                DeviceId::parse(good).map(|id| id.to_string()),
                Ok(good.to_string())
            );
        }
    }

    #[test]
    fn names_that_need_escaping_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "../etc/passwd",
            "/etc/passwd",
            "..%2f..",
            "%2e%2e",
            ".hidden",
            "-rf",
            "_x",
            "a/b",
            "a\\b",
            "a b",
            "a\0",
            "a\n",
            "ä",
            "a:b",
            "a?b",
            "a#b",
            "a*",
            "~root",
            "$HOME",
            &"x".repeat(129),
        ] {
            assert!(DeviceId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
