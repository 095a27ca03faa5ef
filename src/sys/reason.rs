//! Error messages of the operating system.

use std::io;

/// The message of an error, in lower case and without "(os error 13)".
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let words = nix::errno::Errno::from_raw(number).desc();
            let mut chars = words.chars();
            match chars.next() {
                Some(first) => first.to_lowercase().chain(chars).collect(),
                None => error.to_string(),
            }
        }
        None => error.to_string(),
    }
}
