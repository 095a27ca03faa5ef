//! Random numbers of the kernel.

use std::io;

use nix::libc;

/// As many random bytes, by getrandom(2). The error: the kernel is older than 3.17. At most 256 bytes are never cut short.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    loop {
        #[allow(unsafe_code)]
        // SAFETY: the kernel writes at most `N` bytes to the array, which outlives the call.
        let written = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
        if usize::try_from(written) == Ok(N) {
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_never_the_same() {
        let [one, other] = [(); 2].map(|()| super::bytes::<16>().unwrap());
        assert_ne!(one, other);
        assert_ne!(one, [0; 16]);
    }
}
