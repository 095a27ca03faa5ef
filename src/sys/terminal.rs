//! The size of a terminal.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Columns and rows of the terminal; `None` if this is no terminal, or one that does not know.
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and TIOCGWINSZ (ioctl_tty(2)) writes a `winsize` to the pointer, which is valid.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) };
    (result == 0 && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_no_terminal_has_no_size() {
        assert_eq!(super::size(std::fs::File::open("/dev/null").unwrap()), None);
    }
}
