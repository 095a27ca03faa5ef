//! A file of the kernel's that counts CPU time, with its descriptor kept.
//!
//! Unlike an [`Attribute`](crate::sources::Attribute), one that is gone is no failure: workloads end.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::sources::attribute::{open_regular, OpenFile};
use crate::sources::io_log::{files, Failure};
use crate::sources::Health;

/// Longer than what is looked at of a cgroup's counter, which is its first line.
pub(super) const LINE: usize = 64;
/// Longer than the first line of `/proc/stat` (ten numbers), and than a whole `/proc/PID/stat`.
pub(super) const STAT: usize = 512;

/// The file.
#[derive(Debug, Default)]
pub(super) struct Counter(Option<OpenFile>);

impl Counter {
    /// What `parse` makes of the file's first `BYTES` bytes. `path` is asked for only to open the file. An error: it is not there any
    /// more, cannot be read, or has something else in it.
    #[inline]
    pub(super) fn read<const BYTES: usize, T>(
        &mut self,
        health: &Health,
        path: impl FnOnce() -> std::path::PathBuf,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> io::Result<T> {
        health.continue_read();
        let mut buffer = [0; BYTES];
        let held = match &self.0 {
            Some(held) => held,
            None if !health.io_log().is_off() => {
                let content = through_io_log(health, &path(), &mut buffer)?;
                return parse(&content).ok_or_else(unknown);
            }
            None => self.0.insert(open(&path())?),
        };
        let read = held.file.read_at(&mut buffer, 0)?;
        if !held.stays_open {
            self.0 = None;
        }
        parse(&buffer[..read]).ok_or_else(unknown)
    }
}

/// A text that is read once, and may be longer than a page. `None`: it cannot be read.
pub(super) fn read_long(health: &Health, path: &Path, max: u64) -> Option<String> {
    let live = || {
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(|error| Failure::from(&error))?;
        let read = file.take(max).read_to_end(&mut text);
        read.map_err(|error| Failure::from(&error))?;
        Ok(text)
    };
    let text = files::content(health.io_log(), path, live).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cold]
fn through_io_log(health: &Health, path: &Path, buffer: &mut [u8]) -> io::Result<Vec<u8>> {
    let live = || {
        let read = read_once(path, buffer).map_err(|error| Failure::from(&error))?;
        Ok(buffer[..read].to_vec())
    };
    files::content(health.io_log(), path, live).map_err(|failure| failure.to_io_error())
}

#[cold]
fn unknown() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cold]
fn open(path: &Path) -> io::Result<OpenFile> {
    let file = open_regular(path).map_err(|error| match error.errno() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error.to_string()),
    })?;
    Ok(OpenFile::new(file))
}

fn read_once(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    open(path)?.file.read_at(buffer, 0)
}

/// Whether an error says that the file is gone, or what it is of: a cgroup, or a process. Any other error, such as a lack of descriptors,
/// says nothing of that.
pub(super) fn is_gone(error: &io::Error) -> bool {
    use nix::libc::{ENODEV, ENOENT, ENOTDIR, ESRCH};
    matches!(
        error.raw_os_error(),
        Some(ENODEV | ENOENT | ENOTDIR | ESRCH)
    )
}
