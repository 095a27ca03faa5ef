//! Messages to the Raspberry Pi's firmware, through its mailbox's property interface
//! (raspberrypi/firmware wiki, "Mailbox property interface"; raspberrypi/utils, vcgencmd).
//!
//! A message is a sequence of 32-bit words: its size in bytes, 0 (replaced by the firmware's status), and then, per tag, the
//! tag, the size of its value in bytes, 0 (the answer's size, with the highest bit set), the value; a 0 ends the tags.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::sources::{Error, Health};
use crate::sys::vcio;

/// Tag of a command as text. The answer is an error number and a NUL-terminated text.
pub(super) const GET_GENCMD_RESULT: u32 = 0x0003_0080;
/// Tag of the flags. Its value selects the since-boot flags to clear.
pub(super) const GET_THROTTLED: u32 = 0x0003_0046;
/// The firmware understood the message.
pub(super) const SUCCESS: u32 = 0x8000_0000;
/// The firmware answered this tag.
pub(super) const ANSWERED: u32 = 0x8000_0000;
/// The length of a text, as in vcgencmd: the longest answer of the firmware's old interface.
pub(super) const TEXT_BYTES: usize = 1024;
/// Words before the text.
pub(super) const HEADER_WORDS: usize = 6;

/// A mailbox: the ioctl, or a test.
pub(super) trait Mailbox: Send {
    /// Sends a message, which the answer overwrites.
    fn property(&mut self, message: &mut [u32]) -> Result<(), Error>;
}

/// `/dev/vcio` or `/dev/vcio_gencmd`.
pub(super) struct Vcio {
    device: File,
    health: Arc<Health>,
    item: u32,
    path: Box<Path>,
}

impl Vcio {
    pub(super) fn open(health: &Arc<Health>, path: &Path) -> Result<Vcio, Error> {
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
            .open(path)
            .map_err(|e| Error::cannot("open", path, &e))?;
        let is_device = |file: &File| Ok(file.metadata()?.file_type().is_char_device());
        match is_device(&device).map_err(|e: io::Error| Error::cannot("look at", path, &e))? {
            true => Ok(Vcio {
                device,
                health: Arc::clone(health),
                item: health.path_id(path),
                path: path.into(),
            }),
            false => Err(Error::new(format!("{} is not a device", path.display()))),
        }
    }
}

impl Mailbox for Vcio {
    fn property(&mut self, message: &mut [u32]) -> Result<(), Error> {
        if self.health.is_excluded(&self.path) {
            let path = self.path.display();
            return Err(Error::new(format!("{path} hangs and is left alone")));
        }
        // The kernel waits a second for the firmware.
        self.health.begin_read(self.item);
        vcio::property(&self.device, message).map_err(|e| Error::cannot("ask", &self.path, &e))
    }
}

/// The firmware's answer to a command, as `vcgencmd COMMAND` prints it. `None` if this firmware accepts no commands.
pub(super) fn gencmd(mailbox: &mut dyn Mailbox, command: &str) -> Result<Option<String>, Error> {
    let mut message = vec![0; HEADER_WORDS + TEXT_BYTES / 4 + 1];
    message[0] = size_of_val(&message[..]) as u32;
    message[2] = GET_GENCMD_RESULT;
    message[3] = TEXT_BYTES as u32;
    let text = &mut message[HEADER_WORDS..HEADER_WORDS + TEXT_BYTES / 4];
    for (word, bytes) in text.iter_mut().zip(command.as_bytes().chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(four);
    }
    mailbox.property(&mut message)?;
    if message[1] != SUCCESS {
        return Ok(None);
    }
    let text = message[HEADER_WORDS..HEADER_WORDS + TEXT_BYTES / 4].iter();
    let bytes: Vec<u8> = text
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    // An unanswered message is returned unchanged.
    let answer = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(answer).filter(|answer| answer != command))
}

/// The flags by their own tag. `None` if this firmware does not have the tag.
pub(super) fn throttled(mailbox: &mut dyn Mailbox) -> Result<Option<u32>, Error> {
    // No flags are cleared, for the sake of other programs.
    let mut message = [0, 0, GET_THROTTLED, 4, 0, 0, 0];
    message[0] = size_of_val(&message) as u32;
    mailbox.property(&mut message)?;
    let [_, status, _, _, answer, flags, _] = message;
    Ok((status == SUCCESS && answer & ANSWERED != 0).then_some(flags))
}
