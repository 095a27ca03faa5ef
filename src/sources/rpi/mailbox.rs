//! Messages to the Raspberry Pi's firmware, through its mailbox's property interface
//! (raspberrypi/firmware wiki, "Mailbox property interface"; raspberrypi/utils, vcgencmd).
//!
//! A message is a row of 32-bit words: its size in bytes, 0 (the firmware puts its verdict there), and then, per tag, the
//! tag, the size of its value in bytes, 0 (the answer's size, with the highest bit set), the value; a 0 ends the tags.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::sources::{Error, Health};
use crate::sys::vcio;

/// A command as text, answered as text: an error number, then the text with a NUL.
pub(super) const GET_GENCMD_RESULT: u32 = 0x0003_0080;
/// The flags. The value is which of those since boot to clear.
pub(super) const GET_THROTTLED: u32 = 0x0003_0046;
/// The firmware understood the message.
pub(super) const SUCCESS: u32 = 0x8000_0000;
/// The firmware answered this tag.
pub(super) const ANSWERED: u32 = 0x8000_0000;
/// The length of a text, as vcgencmd has it: the firmware's longest answer by the old interface.
pub(super) const TEXT_BYTES: usize = 1024;
/// What comes before the text, in words.
pub(super) const HEAD: usize = 6;

/// Where the messages go: the ioctl, or a test.
pub(super) trait Mailbox: Send {
    /// Sends a message and gets the answer, in the same words.
    fn property(&mut self, message: &mut [u32]) -> Result<(), Error>;
}

/// `/dev/vcio`, or another device of the kind.
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

/// What the firmware says to a command of vcgencmd's, as `vcgencmd COMMAND` prints it. `None`: this firmware takes no
/// commands.
pub(super) fn gencmd(mailbox: &mut dyn Mailbox, command: &str) -> Result<Option<String>, Error> {
    let mut message = vec![0; HEAD + TEXT_BYTES / 4 + 1];
    message[0] = size_of_val(&message[..]) as u32;
    message[2] = GET_GENCMD_RESULT;
    message[3] = TEXT_BYTES as u32;
    let text = &mut message[HEAD..HEAD + TEXT_BYTES / 4];
    for (word, bytes) in text.iter_mut().zip(command.as_bytes().chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(four);
    }
    mailbox.property(&mut message)?;
    if message[1] != SUCCESS {
        return Ok(None);
    }
    let text = message[HEAD..HEAD + TEXT_BYTES / 4].iter();
    let bytes: Vec<u8> = text
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    // A message that nobody answered comes back as it was.
    let said = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(said).filter(|said| said != command))
}

/// The flags, by a tag of their own. `None`: this firmware has no such tag.
pub(super) fn throttled(mailbox: &mut dyn Mailbox) -> Result<Option<u32>, Error> {
    // Nothing is cleared: other programs want to see it too.
    let mut message = [0, 0, GET_THROTTLED, 4, 0, 0, 0];
    message[0] = size_of_val(&message) as u32;
    mailbox.property(&mut message)?;
    let [_, verdict, _, _, answer, flags, _] = message;
    Ok((verdict == SUCCESS && answer & ANSWERED != 0).then_some(flags))
}
