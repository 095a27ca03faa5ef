//! The one ioctl of the Raspberry Pi's firmware mailbox, `/dev/vcio` (raspberrypi/linux, drivers/char/broadcom/vcio.c).

use std::ffi::c_char;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `_IOWR(100, 0, char *)`: read and write, a pointer's size, type 100, number 0 (asm-generic/ioctl.h; the same on ARM and
/// x86).
const PROPERTY: u32 = 3 << 30 | (size_of::<*mut c_char>() as u32) << 16 | 100 << 8;

/// Sends a property message to the firmware and waits for the response, which replaces the message in the buffer. The first
/// word of the message must be the size of the buffer in bytes.
pub fn property(device: &File, message: &mut [u32]) -> io::Result<()> {
    // The kernel reads and writes as many bytes as the first word says.
    if message.first().copied() != u32::try_from(size_of_val(message)).ok() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the descriptor is open while `device` is. The pointer is to memory that is ours alone for the length of the
    // call; what the driver reads and writes there is the size in the first word, which was just compared. Another
    // driver's device, which knows no such request, answers ENOTTY.
    #[allow(unsafe_code)]
    let result =
        unsafe { nix::libc::ioctl(device.as_raw_fd(), PROPERTY as _, message.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_with_a_wrong_size_is_not_sent() {
        let device = File::open("/dev/null").unwrap();
        for message in [&mut [16, 0, 0][..], &mut [8, 0, 0], &mut []] {
            let error = property(&device, message).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn other_devices_refuse_the_request() {
        let device = File::open("/dev/null").unwrap();
        let error = property(&device, &mut [12, 0, 0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENOTTY));
    }

    #[test]
    fn request_number_equals_the_kernel_headers() {
        let by_pointer = if cfg!(target_pointer_width = "64") {
            0xc008_6400
        } else {
            0xc004_6400
        };
        assert_eq!(PROPERTY, by_pointer);
    }
}
