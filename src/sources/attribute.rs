//! A file of one value, as sysfs has them: opened once, read with `pread` at every poll.

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
use super::io_log::{files, Answer, Failure};
use super::number::parse_number;

const LEFT_ALONE: &str = "hangs and is left alone";
/// Longer than any number sysfs prints, shorter than any of its longer files (a page).
const NUMBER_BYTES: usize = 64;
/// The longest text of a sysfs attribute is a page.
const TEXT_BYTES: usize = 4096;
/// How long a file that could not be opened is left alone.
const REOPEN: Duration = Duration::from_secs(5);

/// A file that holds one number, with its descriptor kept.
///
/// A read that fails costs this value alone: it is logged when the state changes, counted, and the file is opened
/// anew later, since a driver that was unbound leaves a dead descriptor behind.
#[derive(Debug)]
pub struct Attribute {
    path: PathBuf,
    health: Arc<Health>,
    /// Its place in the health's list of what is being read.
    item: u32,
    file: Option<Held>,
    /// The same where there is an I/O log: so that without one there is nothing more to look at on the way to a value.
    by_io_log: Option<File>,
    reopen_at: Option<Instant>,
    failing: bool,
    hint: &'static str,
}

/// An open file. Attributes keep no more than half of the descriptors that the process may have: a machine with more is
/// read by opening the others at every poll, and has descriptors left for its clients.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) file: File,
    pub(super) is_kept: bool,
}

/// How many files are kept open.
static KEPT: AtomicU64 = AtomicU64::new(0);

impl Held {
    pub(super) fn new(file: File) -> Held {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let is_kept = KEPT.fetch_add(1, Ordering::Relaxed) < soft / 2;
        if !is_kept {
            KEPT.fetch_sub(1, Ordering::Relaxed);
        }
        Held { file, is_kept }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_kept {
            KEPT.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Why there is no value, in few bytes.
enum Trouble {
    NotOpen,
    NoRead(io::Error),
    /// The file's first so many bytes are none.
    NoValue(usize),
}

impl Attribute {
    /// The attribute at `path`. It need not be there yet.
    pub fn new(health: &Arc<Health>, path: impl Into<PathBuf>) -> Attribute {
        let path = path.into();
        Attribute {
            item: health.item(&path),
            path,
            health: Arc::clone(health),
            file: None,
            by_io_log: None,
            reopen_at: None,
            failing: false,
            hint: "",
        }
    }

    /// What would help where rights are missing.
    pub fn with_hint(self, hint: &'static str) -> Attribute {
        Attribute { hint, ..self }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the number; `None` where there is none just now.
    #[inline]
    pub fn read(&mut self) -> Option<i64> {
        self.read_as("a number", parse_number)
    }

    /// Reads what `parse` makes of the file's first bytes (a word, a number of another form); `what` names that for
    /// the log.
    #[inline]
    pub fn read_as<T>(&mut self, what: &str, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let mut buffer = [0; NUMBER_BYTES];
        if self.file.is_none() && !self.is_open_now() {
            return self.read_by_io_log(what, parse);
        }
        let taken = self.take(&mut buffer, parse);
        self.let_go_if_many();
        match taken {
            Ok(value) => {
                if self.failing {
                    self.recovered();
                }
                Some(value)
            }
            Err(trouble) => {
                let error = self.explain(trouble, what, &buffer);
                self.failed(&error);
                None
            }
        }
    }

    /// Reads the number, or says why it cannot. `Ok(None)`: it is being left alone for a while.
    #[inline]
    pub fn try_read(&mut self) -> Result<Option<i64>, Error> {
        let mut buffer = [0; NUMBER_BYTES];
        if !self.health.io_log().is_off() {
            return self.try_read_by_io_log("a number", parse_number);
        }
        if self.file.is_none() {
            self.file = self.open()?;
        }
        let taken = self.take(&mut buffer, parse_number);
        self.let_go_if_many();
        match taken {
            Ok(value) => Ok(Some(value)),
            Err(Trouble::NotOpen) => Ok(None),
            Err(trouble) => Err(self.explain(trouble, "a number", &buffer)),
        }
    }

    /// The way that is taken for every value: as short as it can be, with what goes wrong left to others.
    #[inline]
    fn take<T>(
        &self,
        buffer: &mut [u8; NUMBER_BYTES],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, Trouble> {
        let Some(Held { file, .. }) = &self.file else {
            return Err(Trouble::NotOpen);
        };
        self.health.reading(self.item);
        match file.read_at(buffer, 0) {
            Ok(n) => parse(&buffer[..n]).ok_or(Trouble::NoValue(n)),
            Err(error) => Err(Trouble::NoRead(error)),
        }
    }

    /// As [`Attribute::read_as`], by way of an I/O log, if there is one.
    #[cold]
    fn read_by_io_log<T>(&mut self, what: &str, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        if self.health.io_log().is_off() {
            return None;
        }
        match self.try_read_by_io_log(what, parse) {
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
    fn try_read_by_io_log<T>(
        &mut self,
        what: &str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let health = Arc::clone(&self.health);
        let path = self.path.clone();
        let answer = files::content(health.io_log(), &path, || self.read_for_io_log());
        let mut buffer = [0; NUMBER_BYTES];
        let trouble = match answer {
            Ok(content) => {
                let n = content.len().min(NUMBER_BYTES);
                buffer[..n].copy_from_slice(&content[..n]);
                match parse(&buffer[..n]) {
                    Some(value) => return Ok(Some(value)),
                    None => Trouble::NoValue(n),
                }
            }
            Err(failure) if failure.words == LEFT_ALONE => return Ok(None),
            Err(failure) => Trouble::NoRead(failure.io()),
        };
        Err(self.explain(trouble, what, &buffer))
    }

    /// Reads the file's first bytes, and keeps it open.
    fn read_for_io_log(&mut self) -> Answer {
        if self.health.is_excluded(&self.path) {
            return Err(Failure::new(LEFT_ALONE));
        }
        self.health.reading(self.item);
        let file = match self.by_io_log.take() {
            Some(file) => file,
            None => open_regular(&self.path).map_err(|error| Failure::from(&error))?,
        };
        let mut buffer = [0; NUMBER_BYTES];
        let n = file.read_at(&mut buffer, 0);
        let n = n.map_err(|error| Failure::from(&error))?;
        self.by_io_log = Some(file);
        Ok(buffer[..n].to_vec())
    }

    /// Closes a file that there is no descriptor to keep for.
    #[inline]
    fn let_go_if_many(&mut self) {
        if self.file.as_ref().is_some_and(|held| !held.is_kept) {
            self.file = None;
        }
    }

    #[cold]
    fn explain(&mut self, trouble: Trouble, what: &str, buffer: &[u8; NUMBER_BYTES]) -> Error {
        match trouble {
            Trouble::NoRead(error) => {
                let error = Error::cannot("read", &self.path, &error);
                if !error.is_passing() || error.is_gone() {
                    self.file = None;
                }
                error.hint_if_denied(self.hint)
            }
            Trouble::NoValue(n) => Error::new(format!(
                "{} does not hold {what} but {:?}",
                self.path.display(),
                String::from_utf8_lossy(buffer[..n].trim_ascii_end())
            )),
            Trouble::NotOpen => Error::new(format!("{} is not open", self.path.display())),
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
    fn open(&mut self) -> Result<Option<Held>, Error> {
        let left_alone = self.reopen_at.is_some_and(|at| Instant::now() < at);
        if left_alone || self.health.is_excluded(&self.path) {
            return Ok(None);
        }
        self.health.reading(self.item);
        match open_regular(&self.path) {
            Ok(file) => {
                self.reopen_at = None;
                Ok(Some(Held::new(file)))
            }
            Err(error) => {
                self.reopen_at = Some(Instant::now() + REOPEN);
                Err(error.hint_if_denied(self.hint))
            }
        }
    }

    #[cold]
    fn failed(&mut self, error: &Error) {
        self.health.count_error();
        if !self.failing {
            self.failing = true;
            self.health.complain(&self.path, Some(error.to_string()));
            if error.is_passing() {
                log::debug!("{error}");
            } else {
                log::warn!("{error}");
            }
        }
    }

    #[cold]
    fn recovered(&mut self) {
        self.failing = false;
        self.health.complain(&self.path, None);
        log::info!("{} can be read again", self.path.display());
    }
}

/// Opens a file that a read cannot wait on for ever: a FIFO or a terminal is refused.
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

/// Reads a short text attribute (a name, a label) without the white space around it. Non-UTF-8 becomes U+FFFD.
pub fn read_text(health: &Arc<Health>, path: &Path) -> Result<String, Error> {
    let io_log = health.io_log();
    if io_log.is_off() {
        let text = read_page(health, path)?;
        return Ok(String::from_utf8_lossy(text.trim_ascii()).into_owned());
    }
    let read = || read_page(health, path).map_err(|error| Failure::from(&error));
    match files::content(io_log, path, read) {
        Ok(text) => Ok(String::from_utf8_lossy(text.trim_ascii()).into_owned()),
        Err(failure) => Err(Error::cannot("read", path, &failure.io())),
    }
}

fn read_page(health: &Arc<Health>, path: &Path) -> Result<Vec<u8>, Error> {
    if health.is_excluded(path) {
        return Err(Error::new(format!("{} {LEFT_ALONE}", path.display())));
    }
    health.reading(health.item(path));
    let file = open_regular(path)?;
    let mut buffer = vec![0; TEXT_BYTES];
    let mut filled = 0;
    // procfs and sysfs may hand out less than asked for.
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::cannot("read", path, &e)),
        }
    }
    health.was_read();
    buffer.truncate(filled);
    Ok(buffer)
}

#[cfg(test)]
#[path = "attribute_tests.rs"]
mod tests;
