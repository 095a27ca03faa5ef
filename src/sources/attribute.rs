//! A file with one value, as sysfs has them: opened once, and read with `pread` at every poll.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{getrlimit, Resource};

use super::error::Error;
use super::health::Health;
use super::io_log::{files, Failure, Response};
use super::number::parse_number;

/// The message of a failure to read a path that is excluded because a read of it hung.
const EXCLUDED: &str = "hangs and is left alone";
/// The size of the buffer for a number: longer than any number that sysfs prints, and much shorter than a page.
const NUMBER_BYTES: usize = 64;
/// The longest text of a sysfs attribute is a page.
const TEXT_BYTES: usize = 4096;
/// The pause before a file that could not be opened is opened again.
const REOPEN_DELAY: Duration = Duration::from_secs(5);

/// A file that holds one number, and its open descriptor.
///
/// A failed read affects only this value. The failure is counted, and logged when the state changes. The file is opened
/// again later, since a driver that was unbound leaves a dead descriptor behind.
#[derive(Debug)]
pub struct Attribute {
    path: PathBuf,
    health: Arc<Health>,
    /// The path's id in the health's table of paths.
    path_id: u32,
    file: Option<OpenFile>,
    /// The open file if there is an I/O log. It is kept apart from `file`, so that the fast path of a source without an
    /// I/O log needs no check.
    io_log_file: Option<File>,
    reopen_at: Option<Instant>,
    failing: bool,
    hint: &'static str,
}

/// An open file. Attributes keep at most half of the process's file descriptors open. On a machine with more attributes,
/// the others are opened at every poll, and clients still find descriptors.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) stays_open: bool,
}

/// The number of files that stay open.
static STAYING_OPEN: AtomicU64 = AtomicU64::new(0);

impl OpenFile {
    pub(super) fn new(file: File) -> OpenFile {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let stays_open = STAYING_OPEN.fetch_add(1, Ordering::Relaxed) < soft / 2;
        if !stays_open {
            STAYING_OPEN.fetch_sub(1, Ordering::Relaxed);
        }
        OpenFile { file, stays_open }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.stays_open {
            STAYING_OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Why there is no value. It is made into an `Error` only where it is reported.
enum ReadFailure {
    NotOpen,
    Io(io::Error),
    /// The file's content does not parse; the number of bytes read.
    Invalid(usize),
}

impl Attribute {
    /// The attribute at `path`, which need not exist yet.
    pub fn new(health: &Arc<Health>, path: impl Into<PathBuf>) -> Attribute {
        let path = path.into();
        Attribute {
            path_id: health.path_id(&path),
            path,
            health: Arc::clone(health),
            file: None,
            io_log_file: None,
            reopen_at: None,
            failing: false,
            hint: "",
        }
    }

    /// Sets the hint that errors for missing permissions carry.
    pub fn with_hint(self, hint: &'static str) -> Attribute {
        Attribute { hint, ..self }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the number. `None` if it cannot be read now.
    #[inline]
    pub fn read(&mut self) -> Option<i64> {
        self.read_as("a number", parse_number)
    }

    /// Reads a value of another form (a word, a decimal fraction): `parse` parses the file's first bytes. `what` names the
    /// form in error messages.
    #[inline]
    pub fn read_as<T>(&mut self, what: &str, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let mut buffer = [0; NUMBER_BYTES];
        if self.file.is_none() && !self.is_open_now() {
            return self.read_through_io_log(what, parse);
        }
        let result = self.read_open_file(&mut buffer, parse);
        self.close_unless_kept();
        match result {
            Ok(value) => {
                if self.failing {
                    self.recovered();
                }
                Some(value)
            }
            Err(failure) => {
                let error = self.handle_failure(failure, what, &buffer);
                self.failed(&error);
                None
            }
        }
    }

    /// Reads the number, or returns why it cannot be read. `Ok(None)`: the file is not tried again yet.
    #[inline]
    pub fn try_read(&mut self) -> Result<Option<i64>, Error> {
        let mut buffer = [0; NUMBER_BYTES];
        if !self.health.io_log().is_off() {
            return self.try_read_through_io_log("a number", parse_number);
        }
        if self.file.is_none() {
            self.file = self.open()?;
        }
        let result = self.read_open_file(&mut buffer, parse_number);
        self.close_unless_kept();
        match result {
            Ok(value) => Ok(Some(value)),
            Err(ReadFailure::NotOpen) => Ok(None),
            Err(failure) => Err(self.handle_failure(failure, "a number", &buffer)),
        }
    }

    /// Reads and parses the open file. This runs for every value of every poll, so error handling is kept out of it.
    #[inline]
    fn read_open_file<T>(
        &self,
        buffer: &mut [u8; NUMBER_BYTES],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, ReadFailure> {
        let Some(OpenFile { file, .. }) = &self.file else {
            return Err(ReadFailure::NotOpen);
        };
        self.health.begin_read(self.path_id);
        match file.read_at(buffer, 0) {
            Ok(n) => parse(&buffer[..n]).ok_or(ReadFailure::Invalid(n)),
            Err(error) => Err(ReadFailure::Io(error)),
        }
    }

    /// As [`Attribute::read_as`], recorded or replayed. `None` if there is no I/O log.
    #[cold]
    fn read_through_io_log<T>(
        &mut self,
        what: &str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<T> {
        if self.health.io_log().is_off() {
            return None;
        }
        match self.try_read_through_io_log(what, parse) {
            Ok(value) => {
                if self.failing && value.is_some() {
                    self.recovered();
                }
                value
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    #[cold]
    fn try_read_through_io_log<T>(
        &mut self,
        what: &str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let health = Arc::clone(&self.health);
        let path = self.path.clone();
        let response = files::content(health.io_log(), &path, || self.read_for_io_log());
        let mut buffer = [0; NUMBER_BYTES];
        let failure = match response {
            Ok(content) => {
                let n = content.len().min(NUMBER_BYTES);
                buffer[..n].copy_from_slice(&content[..n]);
                match parse(&buffer[..n]) {
                    Some(value) => return Ok(Some(value)),
                    None => ReadFailure::Invalid(n),
                }
            }
            Err(failure) if failure.message == EXCLUDED => return Ok(None),
            Err(failure) => ReadFailure::Io(failure.to_io_error()),
        };
        Err(self.handle_failure(failure, what, &buffer))
    }

    /// Reads the file's first bytes, and keeps the file open.
    fn read_for_io_log(&mut self) -> Response {
        if self.health.is_excluded(&self.path) {
            return Err(Failure::new(EXCLUDED));
        }
        self.health.begin_read(self.path_id);
        let file = match self.io_log_file.take() {
            Some(file) => file,
            None => open_regular(&self.path).map_err(|error| Failure::from(&error))?,
        };
        let mut buffer = [0; NUMBER_BYTES];
        let n = file.read_at(&mut buffer, 0);
        let n = n.map_err(|error| Failure::from(&error))?;
        self.io_log_file = Some(file);
        Ok(buffer[..n].to_vec())
    }

    /// Closes the file if the limit on open descriptors is reached.
    #[inline]
    fn close_unless_kept(&mut self) {
        if self.file.as_ref().is_some_and(|file| !file.stays_open) {
            self.file = None;
        }
    }

    #[cold]
    fn handle_failure(
        &mut self,
        failure: ReadFailure,
        what: &str,
        buffer: &[u8; NUMBER_BYTES],
    ) -> Error {
        match failure {
            ReadFailure::Io(error) => {
                let error = Error::cannot("read", &self.path, &error);
                if !error.is_transient() || error.is_gone() {
                    self.file = None;
                }
                error.hint_if_denied(self.hint)
            }
            ReadFailure::Invalid(n) => Error::new(format!(
                "{} does not hold {what} but {:?}",
                self.path.display(),
                String::from_utf8_lossy(buffer[..n].trim_ascii_end())
            )),
            ReadFailure::NotOpen => Error::new(format!("{} is not open", self.path.display())),
        }
    }

    #[cold]
    fn is_open_now(&mut self) -> bool {
        if !self.health.io_log().is_off() {
            return false;
        }
        match self.open() {
            Ok(file) => self.file = file,
            Err(error) => self.failed(&error),
        }
        self.file.is_some()
    }

    #[cold]
    fn open(&mut self) -> Result<Option<OpenFile>, Error> {
        let too_early = self.reopen_at.is_some_and(|at| Instant::now() < at);
        if too_early || self.health.is_excluded(&self.path) {
            return Ok(None);
        }
        self.health.begin_read(self.path_id);
        match open_regular(&self.path) {
            Ok(file) => {
                self.reopen_at = None;
                Ok(Some(OpenFile::new(file)))
            }
            Err(error) => {
                self.reopen_at = Some(Instant::now() + REOPEN_DELAY);
                Err(error.hint_if_denied(self.hint))
            }
        }
    }

    #[cold]
    fn failed(&mut self, error: &Error) {
        self.health.count_error();
        if !self.failing {
            self.failing = true;
            self.health
                .set_value_error(&self.path, Some(error.to_string()));
            if error.is_transient() {
                log::debug!("{error}");
            } else {
                log::warn!("{error}");
            }
        }
    }

    #[cold]
    fn recovered(&mut self) {
        self.failing = false;
        self.health.set_value_error(&self.path, None);
        log::info!("{} can be read again", self.path.display());
    }
}

/// Opens a regular file. Anything else (a FIFO, a terminal) is refused, since a read could block forever.
pub(super) fn open_regular(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(|e| Error::cannot("open", path, &e))?;
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err(Error::new(format!("{} is not a file", path.display()))),
        Err(e) => Err(Error::cannot("look at", path, &e)),
    }
}

/// Reads a short text attribute (a name, a label) and trims white space. Invalid UTF-8 becomes U+FFFD.
pub fn read_text(health: &Arc<Health>, path: &Path) -> Result<String, Error> {
    let io_log = health.io_log();
    if io_log.is_off() {
        let text = read_page(health, path)?;
        return Ok(String::from_utf8_lossy(text.trim_ascii()).into_owned());
    }
    let read = || read_page(health, path).map_err(|error| Failure::from(&error));
    match files::content(io_log, path, read) {
        Ok(text) => Ok(String::from_utf8_lossy(text.trim_ascii()).into_owned()),
        Err(failure) => Err(Error::cannot("read", path, &failure.to_io_error())),
    }
}

fn read_page(health: &Arc<Health>, path: &Path) -> Result<Vec<u8>, Error> {
    if health.is_excluded(path) {
        return Err(Error::new(format!("{} {EXCLUDED}", path.display())));
    }
    health.begin_read(health.path_id(path));
    let file = open_regular(path)?;
    let mut buffer = vec![0; TEXT_BYTES];
    let mut filled = 0;
    // procfs and sysfs may return fewer bytes than were requested.
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::cannot("read", path, &e)),
        }
    }
    health.end_read();
    buffer.truncate(filled);
    Ok(buffer)
}

#[cfg(test)]
#[path = "attribute_tests.rs"]
mod tests;
